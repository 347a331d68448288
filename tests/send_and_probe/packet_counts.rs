//! What `send` and `probe` count, against servers that lose, repeat, reorder and damage given packets.

use std::time::Duration;
use test_support::client;

use client::packet::{AUDIO, KEEPALIVE, Packet};
use client::program::run;
use client::server::{Deed, Server, closed_port};
use client::{at_once, document};
use serde_json::Value;

/// What is done to a packet by its place in the stream. Of 40 packets, 4 are lost and 1 is damaged for good.
fn mischief(index: u32) -> Deed {
    match index {
        3 | 7 | 39 => Deed::Silence,
        5 => Deed::Times(3),
        10 | 20 => Deed::AfterNext,
        12 => Deed::Damage,
        13 => Deed::DamageThenAnswer,
        15 => Deed::Unasked,
        _ => Deed::Answer,
    }
}

const COUNTED: [&str; 10] = [
    "sent",
    "returned",
    "lost",
    "damaged",
    "damaged_copies",
    "duplicated",
    "reordered",
    "unmatched",
    "in_flight",
    "late",
];
const COUNTS: [u64; 10] = [40, 35, 4, 1, 2, 2, 2, 1, 0, 0];

#[test]
fn a_probe_counts_exactly_what_was_done_to_its_packets() {
    let asks = [("", "ping"), ("--keepalive", "keepalive"), ("--audio", "audio")];
    let cases = asks.iter().flat_map(|ask| ["native", "portable"].map(|driver| (ask, driver)));
    at_once(cases, |((option, stream), driver)| {
        let server = Server::that(|packet| mischief(packet.index()));
        let ended = run(&format!(
            "probe {option} --count 40 --interval 2 --timeout 500ms --to {} --driver {driver} --json",
            server.to()
        ));
        assert_eq!(ended.code, 1, "{ended:?}");
        let report = document::report(&ended);
        assert_eq!(document::counts(&report, stream, COUNTED), COUNTS, "{stream} {driver}");
        assert_eq!(report["streams"][stream]["loss_ratio"], 0.1);
        let reason = report["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("1 of 40 ") && reason.ends_with(" packets returned damaged"), "{reason}");
    });
}

#[test]
fn a_send_counts_exactly_what_was_done_to_its_packets() {
    at_once(["native", "portable"], |driver| {
        let server = Server::with_audio(|sequence| mischief(sequence - 1));
        // 40 packets of 128 samples, and 1 ping and 1 KEEPALIVE beside them.
        let ended = run(&format!(
            "send --tone 440 --duration 106.67ms --server-delay 0 --timeout 500ms --to {} --driver {driver} --spin 0 --json",
            server.to()
        ));
        assert_eq!(ended.code, 1, "{ended:?}");
        let report = document::report(&ended);
        assert_eq!(document::counts(&report, "audio", COUNTED), COUNTS, "{driver}");
        for stream in ["ping", "keepalive"] {
            assert_eq!(document::counts(&report, stream, ["sent", "returned", "lost"]), [1, 1, 0]);
        }
    });
}

#[test]
fn a_shortened_answer_is_damaged_or_nobodys() {
    // AUDIO keeps its header and is damaged, a pong loses its number, a KEEPALIVE is a packet no more.
    let names = ["lost", "damaged", "damaged_copies", "unmatched"];
    let cases = [
        ("--audio", "audio", [0, 1, 1, 0], 0),
        ("", "ping", [1, 0, 0, 1], 0),
        ("--keepalive", "keepalive", [1, 0, 0, 0], 1),
    ];
    at_once(cases, |(option, stream, counts, stray)| {
        let server = Server::that(|packet| if packet.index() == 4 { Deed::Truncate } else { Deed::Answer });
        let ended = run(&format!("probe {option} --count 10 --interval 1 --timeout 300ms --to {} --json", server.to()));
        let report = document::report(&ended);
        assert_eq!(document::counts(&report, stream, names), counts, "{stream}");
        assert_eq!(report["stray"], stray, "{stream}");
        assert_eq!(ended.code, i32::from(stream == "audio"));
    });
}

#[test]
fn what_answers_nothing_is_stray_and_disturbs_nothing() {
    let server = Server::that(|packet| if packet.index() == 4 { Deed::Babble } else { Deed::Answer });
    let ended = run(&format!("probe --count 10 --interval 1 --to {} --json", server.to()));
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = document::report(&ended);
    assert_eq!(report["stray"], 3);
    assert_eq!(document::counts(&report, "ping", COUNTED), [10, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn late_is_returned_and_counted_apart() {
    let late = Duration::from_millis(1_500);
    at_once(["probe --count 20 --interval 1", "send --tone 440 --duration 50ms --server-delay 0"], move |line| {
        let server = Server::that(move |packet| match (packet.kind, packet.index()) {
            (KEEPALIVE, _) | (_, 0) => Deed::Answer,
            (_, 5 | 9 | 17) => Deed::Later(late),
            _ => Deed::Answer,
        });
        let ended = run(&format!("{line} --late-after 1s --to {} --json", server.to()));
        assert_eq!(ended.code, 0, "{ended:?}");
        let report = document::report(&ended);
        let stream = report["evaluated_stream"].as_str().unwrap();
        let [sent, returned, lost, late, reordered] =
            document::counts(&report, stream, ["sent", "returned", "lost", "late", "reordered"]);
        // Each of the three comes after the last packet.
        assert_eq!((returned, lost, late, reordered), (sent, 0, 3, 3), "{line}");
    });
}

/// The points of the caveat that says why nothing came back.
fn reasons(report: &Value) -> [&str; 3] {
    let caveats = report["warnings"].as_array().unwrap();
    let caveat = caveats.iter().find(|caveat| caveat["code"] == "no_replies").unwrap();
    let points = caveat["details"].as_array().unwrap();
    [0, 1, 2].map(|at| points[at].as_str().unwrap())
}

#[test]
fn silence_is_never_passed_and_its_usual_reasons_are_named() {
    let lines = [
        "probe --count 5 --interval 1",
        "probe --audio --count 5 --interval 1 --server-delay 0",
        "send --tone 440 --duration 20ms --server-delay 0",
    ];
    at_once(lines, |line| {
        let server = Server::silent();
        let ended = run(&format!("{line} --timeout 100ms --to {} --json", server.to()));
        assert_eq!(ended.code, 1, "{ended:?}");
        let report = document::report(&ended);
        assert_eq!(report["verdict"]["reasons"], serde_json::json!(["no replies received"]));
        let stream = &report["streams"][report["evaluated_stream"].as_str().unwrap()];
        assert_eq!((&stream["loss_ratio"], &stream["rtt_min_us"]), (&Value::from(1.0), &Value::Null));
        let [closed, path, _] = reasons(&report);
        assert!(closed.ends_with("not received"), "{closed}");
        assert!(path.contains("check this first"), "{path}");

        // The same for people.
        let ended = run(&format!("{line} --timeout 100ms --to {}", server.to()));
        assert_eq!(ended.code, 1);
        assert!(ended.stdout.contains("possible causes:\n  1. "), "{}", ended.stdout);
        assert!(ended.stdout.ends_with("\nFAILED: no replies received\n"), "{}", ended.stdout);
        assert!(!ended.stdout.contains("0.0 µs  "), "{}", ended.stdout);
    });
}

#[test]
fn a_server_that_answers_pings_only_is_told_from_silence() {
    let server = Server::with_audio(|_| Deed::Silence);
    let ended =
        run(&format!("send --tone 440 --duration 20ms --server-delay 0 --timeout 200ms --to {} --json", server.to()));
    assert_eq!(ended.code, 1, "{ended:?}");
    let report = document::report(&ended);
    assert_eq!(document::counts(&report, "ping", ["sent", "returned"]), [1, 1]);
    let [_, path, server] = reasons(&report);
    assert!(path.ends_with("ruled out, because other datagrams arrived"), "{path}");
    assert!(server.contains("likely, because 1 LATENCY_PONG arrived"), "{server}");
}

#[test]
fn a_closed_port_is_said_to_be_one() {
    let lines = ["probe --count 5 --interval 1", "send --tone 440 --duration 20ms --server-delay 0"];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    at_once(cases, |(line, driver)| {
        let (_reserved, address) = closed_port();
        let ended = run(&format!("{line} --timeout 100ms --to {address} --driver {driver} --json"));
        assert_eq!(ended.code, 1, "{ended:?}");
        let report = document::report(&ended);
        assert!(report["port_unreachable"].as_u64().unwrap() >= 1, "{report:#}");
        let [closed, _, server] = reasons(&report);
        assert!(closed.contains("port unreachable): received") && closed.ends_with("so check this first"), "{closed}");
        assert!(server.ends_with("check cause 1 first"), "{server}");
    });
}

#[test]
fn without_echo_nothing_is_expected_and_nothing_is_lost() {
    let server = Server::silent();
    let ended = run(&format!("send --tone 440 --duration 20ms --no-echo --to {} --json", server.to()));
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = document::report(&ended);
    assert_eq!(document::counts(&report, "audio", COUNTED), [8, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    assert_eq!((&report["replies_expected"], &report["verdict"]["passed"]), (&false.into(), &true.into()));
    assert_eq!(server.heard_of(AUDIO).len(), 8);
}

#[test]
fn until_the_first_answer_nothing_counts() {
    let lines = [
        "probe --count 10 --interval 1",
        "probe --audio --count 10 --interval 1",
        "send --tone 440 --duration 26.67ms --server-delay 0",
    ];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    at_once(cases, |(line, driver)| {
        // As if it had started late: what comes first is not heard.
        let mut deaf = 3;
        let server = Server::that(move |_| {
            deaf -= i32::from(deaf >= 0);
            if deaf >= 0 { Deed::Silence } else { Deed::Answer }
        });
        let ended = run(&format!("{line} --wait-for 30s --to {} --driver {driver} --max-loss 0% --json", server.to()));
        assert_eq!(ended.code, 0, "{ended:?}");
        let report = document::report(&ended);
        let stream = report["evaluated_stream"].as_str().unwrap();
        assert_eq!(document::counts(&report, stream, COUNTED), [10, 10, 0, 0, 0, 0, 0, 0, 0, 0], "{line} {driver}");
        assert_eq!((&report["readiness_wait"]["reply_received"], &report["stray"]), (&true.into(), &0.into()));
        assert!(
            report["readiness_wait"]["waited_ms"].as_f64().unwrap() >= 300.0,
            "three knocks 100 ms apart went unheard"
        );
        let knocks: Vec<Packet> = server.heard()[..4].to_vec();
        assert!(knocks.iter().all(|knock| knock.kind == KEEPALIVE && knock.payload.is_empty()), "{knocks:?}");
    });
}

#[test]
fn waiting_in_vain_fails_and_sends_nothing_but_knocks() {
    at_once(["probe --count 10", "send --tone 440 --duration 20ms"], |line| {
        let server = Server::silent();
        let ended = run(&format!("{line} --wait-for 250ms --to {} --json", server.to()));
        assert_eq!(ended.code, 1, "{ended:?}");
        let report = document::report(&ended);
        assert_eq!(report["readiness_wait"]["reply_received"], false);
        assert!(report["verdict"]["reasons"][0].as_str().unwrap().starts_with("no reply within 2"), "{report:#}");
        assert_eq!(document::counts(&report, report["evaluated_stream"].as_str().unwrap(), ["sent", "lost"]), [0, 0]);
        assert_eq!(reasons(&report).len(), 3);
        assert!(server.heard().iter().all(|packet| packet.kind == KEEPALIVE));
    });
}

#[test]
fn the_hold_is_estimated_from_the_pings_or_given() {
    let hold = Duration::from_millis(300);
    let cases = [("", 300.0), ("--server-delay 250ms", 250.0), ("--server-delay 10s", 10_000.0)];
    at_once(cases, move |(option, counted)| {
        let server = Server::with_audio(move |_| Deed::Later(hold));
        let ended = run(&format!("send --tone 440 --duration 50ms {option} --to {} --json", server.to()));
        assert_eq!(ended.code, 0, "{ended:?}");
        let audio = document::report(&ended)["audio"].clone();
        let number = |name: &str| audio[name].as_f64();
        assert!(number("echo_time_min_us").unwrap() >= 300_000.0, "{audio:#}");
        // The smallest AUDIO echo less the smallest ping, whose server holds nothing.
        assert!((200.0..1_000.0).contains(&number("server_delay_estimated_ms").unwrap()), "{audio:#}");
        let report = document::report(&ended);
        let least = report["streams"]["audio"]["rtt_min_us"].as_f64().unwrap();
        let echo = number("echo_time_min_us").unwrap();
        if option.is_empty() {
            assert_eq!(
                (number("server_delay_configured_ms"), number("server_delay_ms")),
                (None, number("server_delay_estimated_ms"))
            );
            let ping = report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap();
            assert!((least - ping).abs() < 0.01, "{least} {ping}");
        } else {
            assert_eq!(
                (number("server_delay_configured_ms"), number("server_delay_ms")),
                (Some(counted), Some(counted))
            );
            assert!((least - (echo - counted * 1e3)).abs() < 0.01, "{least} {echo}");
        }
    });
}

#[test]
fn the_hold_of_the_embedded_server_is_known_and_need_not_be_estimated() {
    let lines = ["probe --audio --count 5 --interval 1", "send --tone 440 --duration 20ms"];
    at_once(lines, |line| {
        for (more, hold) in [("", 50.0), ("--server-delay 40", 40.0)] {
            let report = document::report(&run(&format!("{line} --embedded --delay 50 {more} --json")));
            assert_eq!(report["audio"]["server_delay_configured_ms"], hold, "{line} {more}");
            assert_eq!(report["audio"]["server_delay_ms"], hold, "{line} {more}");
        }
    });
}
