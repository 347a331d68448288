//! The counts of `send` and `probe`, with servers that lose, repeat, reorder and damage specific packets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::client::{
    AUDIO, KEEPALIVE, PING, Server, ServerAction, closed_udp_port, document, run, start_line, together,
};

use crate::clients::report;

/// The action for each packet by its index in the stream. Of 40 packets, 8 are lost, and packet 12 returns only as a damaged copy.
fn decide(index: u32) -> ServerAction {
    match index {
        3 | 7 | 30..=33 | 39 => ServerAction::Silence,
        5 => ServerAction::Times(3),
        10 | 20 => ServerAction::AfterNext,
        12 => ServerAction::Damage,
        13 => ServerAction::DamageThenReply,
        15 => ServerAction::UnknownSequence,
        _ => ServerAction::Reply,
    }
}

/// The outcomes of the lines for the packet at `index`.
fn outcomes(index: u32) -> &'static [&'static str] {
    match decide(index) {
        ServerAction::Silence | ServerAction::UnknownSequence => &["lost"],
        ServerAction::Times(3) => &["returned", "duplicate", "duplicate"],
        ServerAction::Damage => &["damaged"],
        ServerAction::DamageThenReply => &["damaged", "returned"],
        _ => &["returned"],
    }
}

#[test]
fn counts_and_packet_lines_match_what_the_server_did() {
    let lines = [
        ("probe --count 40 --interval 2ms", "ping", PING, 24),
        ("probe --count 40 --interval 2ms --packet keepalive", "keepalive", KEEPALIVE, 12),
        ("probe --count 40 --interval 2ms --packet audio", "audio", AUDIO, 524),
        ("probe --count 40 --interval 2ms --packet audio --size 8", "audio", AUDIO, 20),
        // 40 packets of 128 samples. One ping and one KEEPALIVE are sent, too.
        ("send --tone 440 --duration 106.67ms --delay 0 --spin 0", "audio", AUDIO, 524),
    ];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (*line, driver)));
    together(cases, |((line, name, kind, length), driver)| {
        let server = Server::with_actions(|packet| decide(packet.index()));
        let output = run(&format!("{line} --timeout 2s --to {} --driver {driver} --json-lines", server.to()));
        assert_eq!(output.code, 1, "{output:?}");
        let (packets, report) = document::lines(&output);
        let names = ["sent", "damaged", "damaged_copies", "duplicated", "unmatched", "in_flight"];
        assert_eq!(document::counts(&report, name, names), [40, 1, 2, 2, 1, 0], "{line} {driver}");
        let [returned, lost, excluded] = document::counts(&report, name, ["returned", "lost", "excluded"]);
        assert!(returned <= 31 && lost <= 8 && returned + lost + excluded == 39, "{report:#}");
        assert_eq!(report["evaluated_stream"], name);
        let reason = report["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("1 of 40 ") && reason.ends_with(" packets returned damaged"), "{reason}");
        if line.starts_with("send") {
            for other in ["ping", "keepalive"] {
                assert_eq!(document::counts(&report, other, ["sent", "lost"]), [1, 0]);
            }
        }
        let received = server.received_of(kind);
        assert!(received.len() == 40 && received.iter().all(|packet| packet.bytes().len() == length), "{line}");
        // There is one send call for each datagram, including LATENCY_INFO.
        let calls = report["host_timing"]["send_call_count"].as_u64().unwrap();
        assert_eq!(calls, (server.received().len() + server.queries()) as u64, "{report:#}");

        let first = u64::from(kind == AUDIO);
        for index in 0..40 {
            let of_packet = |line: &&Value| line["stream"] == name && line["sequence"] == first + u64::from(index);
            let found: Vec<&Value> = packets.iter().filter(of_packet).map(|line| &line["outcome"]).collect();
            // A lost packet that was in flight during a pause of this host is excluded.
            assert!(
                found == outcomes(index) || found == ["excluded"] && outcomes(index) == ["lost"],
                "{index}: {found:?}"
            );
        }
        for line in &packets {
            match ["sent_us", "returned_us", "echo_time_us"].map(|name| line[name].as_f64()) {
                [Some(sent), Some(returned), Some(trip)] => {
                    assert!(sent >= 0.0 && (returned - sent - trip).abs() < 0.01, "{line}");
                }
                [Some(_), None, None] => assert!(["lost", "excluded"].map(Value::from).contains(&line["outcome"])),
                _ => panic!("{line}"),
            }
        }
    });
}

/// The causes listed by the warning for a run without replies.
fn causes(report: &Value) -> Vec<&str> {
    let warnings = report["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["code"] == "no_replies").unwrap();
    warning["details"].as_array().unwrap().iter().map(|cause| cause.as_str().unwrap()).collect()
}

#[test]
fn run_without_replies_fails_and_lists_the_likely_causes() {
    let (silent, (_reserved, closed)) = (Server::silent(), closed_udp_port());
    // Most packets time out before or after a pause of this host.
    let probe = "probe --count 20 --interval 50ms";
    let cases = [
        (format!("{probe} --to {}", silent.to()), ": likely, because a program on this host has the port open"),
        (format!("send --tone 440 --duration 1200ms --delay 0 --to {}", silent.to()), ": likely, because a program"),
        (format!("{probe} --driver native --to {closed}"), ": likely, because ICMP port unreachable was received"),
        (format!("{probe} --driver portable --to {closed}"), ": likely, because ICMP port unreachable was received"),
    ];
    together(cases, |(line, likely)| {
        let report = report(1, &format!("{line} --timeout 200ms"));
        let is_closed = likely.contains("ICMP");
        assert_eq!(report["port_unreachable"].as_u64() >= Some(1), is_closed, "{line}: {report:#}");
        assert!(causes(&report)[0].contains(likely), "{line}: {report:#}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn replies_from_another_address_are_stray_and_named_as_the_cause() {
    for (asked, other, driver) in [("127.0.0.1", "127.0.0.2", "native"), ("127.0.0.1", "127.0.0.2", "portable")] {
        let [server, replier] = [asked, other].map(|host| UdpSocket::bind((host, 0)).unwrap());
        server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let [target, source] = [&server, &replier].map(|socket| socket.local_addr().unwrap());
        let line = format!("probe {target} --packet keepalive -c 1000 -i 1ms --timeout 200ms --driver {driver} --json");
        let mut probe = start_line(&line);
        let (mut replies, mut datagram) = (0, [0; 100]);
        while probe.is_running() {
            if let Ok((length, client)) = server.recv_from(&mut datagram) {
                replier.send_to(&datagram[..length], client).unwrap();
                replies += 1;
            }
        }
        let report = document::report(&probe.end());
        // Also those that the receive buffer of the second socket did not hold. The last one may be too late.
        let stray = report["stray"].as_u64().unwrap();
        assert!((replies - 1..=replies).contains(&stray) && stray >= 1_000, "{replies}: {report:#}");
        assert_eq!(report["stray_source"], source.to_string());
        let first = causes(&report)[0];
        assert!(first.starts_with(&format!("the server replies from another address, {source}: likely")), "{first}");
    }
}

#[test]
fn wait_for_counts_nothing_before_the_first_reply() {
    let lines = ["probe --count 10 --interval 1ms", "send --tone 440 --duration 26.67ms --delay 0"];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    together(cases, |(line, driver)| {
        // The server ignores the first packets, as if it had started late.
        let mut ignored = 3;
        let server = Server::with_actions(move |_| {
            ignored -= i32::from(ignored >= 0);
            if ignored >= 0 { ServerAction::Silence } else { ServerAction::Reply }
        });
        let line = format!("{line} --wait-for 30s --to {} --driver {driver}", server.to());
        let report = report(0, &line);
        let stream = report["evaluated_stream"].as_str().unwrap();
        assert_eq!(document::counts(&report, stream, ["sent", "lost", "unmatched"]), [10, 0, 0], "{line}");
        let wait = &report["readiness_wait"];
        assert_eq!((&wait["reply_received"], &report["stray"]), (&json!(true), &json!(0)));
        assert!(wait["waited_ms"].as_f64().unwrap() >= 300.0, "three keepalives 100 ms apart were ignored");
        let received = server.received();
        assert!(received[..4].iter().all(|packet| packet.kind == KEEPALIVE && packet.payload.is_empty()));
    });
}

/// An embedded server loses its replies. Loss in both directions is tested in crates/measure.
#[test]
fn lost_replies_of_the_server_are_losses_downstream() {
    let runs = [
        ("probe --count 100 --interval 2ms", "ping"),
        ("probe --packet keepalive --count 100 --interval 2ms", "keepalive"),
        ("probe --packet audio --count 100 --interval 2ms", "audio"),
        ("send --tone 440 --duration 270ms", "audio"),
    ];
    together(runs, |(line, stream)| {
        let line = format!("{line} --embedded --delay 20 --loss 20% --seed 1 --timeout 700ms --loss-direction");
        let report = document::report(&run(&format!("{line} --json")));
        let [lost, upstream, downstream] =
            ["lost", "lost_upstream", "lost_downstream"].map(|name| &report["streams"][stream][name]);
        if stream == "audio" {
            let delays = ["server_delay_configured_ms", "server_delay_ms"].map(|name| &report["audio"][name]);
            assert_eq!(delays, [20.0, 20.0]);
        }
        // The direction of losses is unknown if packets are excluded.
        let is_paused = report["streams"][stream]["excluded"] != 0;
        assert!(is_paused || lost.as_u64() > Some(5) && *upstream == 0 && downstream == lost, "{report:#}");
        assert_eq!((&report["loss_report"]["response_received"], &report["stray"]), (&json!(true), &json!(0)));
        let mapped: SocketAddr = report["loss_report"]["mapped_address"].as_str().unwrap().parse().unwrap();
        assert!(mapped.ip().is_loopback(), "{mapped}");
    });
}
