//! Connections that come to nothing, or end: what is reported, in which words, and with which exit code.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::document;
use crate::client::program::{run_args, start_line};
use crate::fake::{Deed, Fake, Greeting};
use crate::{codes, moqt, probe, report};

fn reasons(report: &Value) -> String {
    report["verdict"]["reasons"].to_string()
}

/// A port that is open and says nothing: that is what a port where nobody listens is to QUIC too.
fn mute() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[test]
fn nobody_is_named_with_the_time_that_was_waited() {
    let (_socket, port) = mute();
    let folder = tempfile::tempdir().unwrap();
    let [junit, markdown] = ["junit.xml", "report.md"].map(|name| folder.path().join(name).display().to_string());
    let url = format!("moqt://127.0.0.1:{port}/echo");
    let report = report(1, &url, &["--wait-for", "300ms", "--junit", &junit, "--markdown", &markdown]);
    let words = format!("{url} does not answer within 300.000 ms");
    assert_eq!(report["moqt"]["connection_lost"], json!({"kind": "unreachable", "close_code": null, "text": words}));
    assert_eq!((&report["wait"]["answered"], codes(&report)), (&json!(false), vec!["connection_lost"]));
    assert_eq!((&report["target"], &report["streams"]["ping"]), (&json!(url), &Value::Null));
    let [junit, markdown] = [junit, markdown].map(|file| std::fs::read_to_string(file).unwrap());
    assert!(junit.contains(&format!("message=\"{words}\"")), "{junit}");
    assert!(markdown.starts_with("## FAILED: probe moqt://"), "{markdown}");
}

#[test]
fn a_host_without_an_address_and_anybody_far_away_are_refused_before_anything_is_reported() {
    let ended = probe("moqt://no.such.host.invalid/echo", &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{ended:?}");
    let words =
        "cannot use moqt://no.such.host.invalid:4443/echo: cannot find an address for host `no.such.host.invalid`: ";
    assert!(ended.stderr.starts_with(&format!("jamjam-dev: {words}")), "{}", ended.stderr);
    let ended = probe("https://192.0.2.1/echo", &["--insecure"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("--insecure is for servers on this machine, and 192.0.2.1 is not"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_certificate_that_is_not_believed_is_told_by_its_sha_256() {
    let server = Fake::start([]);
    let zeros = "0".repeat(64);
    let way_out = format!("give --cert-sha256 {}\n", server.sha256);
    let another =
        format!("its certificate is another one: it has SHA-256 {}, and {zeros} is believed; ", server.sha256);
    for (options, words, times) in [(&[][..], way_out, 2), (&["--cert-sha256", &zeros], another, 1)] {
        let ended = probe(&server.url, options);
        assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("jamjam-dev: cannot use {}: ", server.url)), "{}", ended.stderr);
        assert!(ended.stderr.contains(&words), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches(&server.sha256).count(), times, "{}", ended.stderr);
    }
    report(0, &server.url, &["--insecure", "--count", "2"]);
    report(0, &server.url, &server.with(&["--count", "2"]));
}

#[test]
fn a_server_that_closes_is_told_with_its_code_and_what_was_on_its_way_is_lost() {
    let server = Fake::start([(3, Deed::Drop), (6, Deed::Close(0x2a))]);
    let report = report(1, &server.url, &server.with(&["--count", "0", "--interval", "30", "--max-loss", "100%"]));
    let words = "the server closed the connection with 0x2a (whim)";
    assert_eq!(report["moqt"]["connection_lost"], json!({"kind": "closed", "close_code": 42, "text": words}));
    let [sent, returned, lost, in_flight] =
        document::counts(&report, "ping", ["sent", "returned", "lost", "in_flight"]);
    // Groups 1, 2, 4 and 5 came back. Whatever left by then is lost: no more than a few groups.
    assert_eq!((returned, in_flight, sent), (4, 0, 4 + lost));
    assert!(reasons(&report).contains(&format!("{words} after {sent} frames")), "{report:#}");
    assert_eq!(moqt(&report, ["groups_sent", "groups_lost"]), [sent, lost]);
}

#[test]
fn another_version_is_refused_in_words() {
    let server = Fake::greeting(&[Greeting::Other], []);
    let report = report(1, &server.url, &server.with(&[]));
    let lost = &report["moqt"]["connection_lost"];
    let words = "no version in common: 0xff000001 offered, 0xffffff00 and 0xfeedbabe spoken";
    assert_eq!(lost, &json!({"kind": "refused", "close_code": null, "text": words}));
    assert!(report["moqt"]["quic_ms"].as_f64().unwrap() > 0.0, "{report:#}");
    assert_eq!(report["moqt"]["session_ms"], Value::Null);
}

#[test]
fn of_a_first_ask_that_was_met_with_silence_nothing_is_reported_but_that_there_was_one() {
    // The first call agrees on the head's flavour, the second on nothing at all.
    let server = Fake::greeting(&[Greeting::Mute, Greeting::Other], []);
    let refused = report(1, &server.url, &server.with(&[]));
    let told = &refused["moqt"];
    assert_eq!((&told["asked_again"], &told["connection_lost"]["kind"]), (&json!("echo"), &json!("refused")));
    assert_eq!((&told["flavour"], &told["track"]), (&Value::Null, &json!("japan, kyoto, text")), "{told}");
    assert_eq!((&told["session_ms"], &told["subscribe_ms"]), (&Value::Null, &Value::Null), "{told}");
    assert!(codes(&refused).contains(&"asked_again"), "{refused:#}");

    let server = Fake::greeting(&[Greeting::Mute, Greeting::Seed], []);
    let answered = report(0, &server.url, &server.with(&["--count", "3", "--interval", "5"]));
    let told = &answered["moqt"];
    assert_eq!((&told["asked_again"], &told["connection_lost"]), (&json!("echo"), &Value::Null));
    assert_eq!((&told["flavour"], &told["track"]), (&json!("seed"), &json!("japan, kyoto, text")), "{told}");
    assert_eq!(document::counts(&answered, "ping", ["sent", "returned"]), [3, 3]);
    assert!(codes(&answered).contains(&"asked_again"), "{answered:#}");
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_run_that_nobody_listens_to_any_more_ends_and_is_not_called_a_loss() {
    let server = Fake::start([(3, Deed::Leave)]);
    let report = report(1, &server.url, &server.with(&["--count", "6", "--interval", "1s", "--max-loss", "100%"]));
    let words = "the server has ended its subscription to our track";
    assert_eq!(report["moqt"]["connection_lost"], json!({"kind": "unready", "close_code": null, "text": words}));
    assert!(reasons(&report).contains(words), "{report:#}");
    let [sent, returned] = document::counts(&report, "ping", ["sent", "returned"]);
    // Those that it took came back; a machine that stands still for a second may have sent one more.
    assert!(returned == 3 && sent <= 4, "{report:#}");
}

#[test]
fn a_request_to_stop_prints_the_report_so_far() {
    let server = Fake::start([(2, Deed::Drop)]);
    for (signal, code, name) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let program = start_line(&format!(
            "probe --to {} --cert-sha256 {} --count 0 --interval 20 --timeout 60s --json",
            server.url, server.sha256
        ));
        while server.groups.recv_timeout(Duration::from_secs(30)).unwrap() < 5 {}
        program.signal(signal);
        let ended = program.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
        let report = document::report(&ended);
        assert_eq!(report["interrupted"], json!(name));
        assert_eq!(report["moqt"]["connection_lost"], Value::Null);
        let [returned, lost, in_flight] = document::counts(&report, "ping", ["returned", "lost", "in_flight"]);
        // Group 2 may still come within the minute.
        assert!(returned >= 3 && lost == 0 && in_flight >= 1, "{report:#}");
        server.groups.try_iter().count();
    }
}

#[test]
fn a_request_to_stop_while_it_connects_ends_it_at_once() {
    let (socket, port) = mute();
    let program = start_line(&format!("probe --to moqt://127.0.0.1:{port}/echo"));
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.recv(&mut [0; 2_048]).unwrap();
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (143, ""), "{ended:?}");
    let words = format!("interrupted while connecting to moqt://127.0.0.1:{port}/echo; nothing was sent\n");
    assert_eq!(ended.stderr, format!("jamjam-dev: {words}"));
}

#[test]
fn what_belongs_to_others_is_refused_with_moqt_and_moqts_with_others() {
    let nothing = "it means nothing over MOQT; leave it out, or give a UDP target as HOST[:PORT] in place of a URL";
    for option in [
        "--audio",
        "--keepalive",
        "--hold 5",
        "--ask-server",
        "--socket-buffer 1MiB",
        "--spin 0",
        "--loss 1%",
        "--dialect bbx",
        "--room r",
    ] {
        for target in ["--to moqt://127.0.0.1:9/echo", "--embedded --moqt"] {
            if option == "--room r" && target != "--to moqt://127.0.0.1:9/echo" {
                continue;
            }
            let ended = run_args(format!("probe {target} {option}").split(' '));
            let named = option.split(' ').next().unwrap();
            assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{option}");
            assert!(ended.stderr.contains(&format!("{named}: {nothing}")), "{}", ended.stderr);
        }
    }
    for option in ["--frames-per-group 2", "--frame-interval 5", "--moqt-flavour head", "--moqt-track a"] {
        for target in ["--to 127.0.0.1:9", "--embedded", "--to ws://127.0.0.1:9"] {
            let ended = run_args(format!("probe {target} {option}").split(' '));
            let named = option.split(' ').next().unwrap();
            assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{option}");
            assert!(
                ended.stderr.contains(&format!("{named}: it is for MOQT; give a server by --to moqt://")),
                "{}",
                ended.stderr
            );
        }
    }
    for (line, words) in [
        ("probe --moqt", "--embedded"),
        ("probe --embedded --moqt --delay 5", "cannot be used with"),
        ("probe --embedded --moqt-delay 5", "--moqt"),
        ("probe --embedded --moqt=udp", "[possible values: quic, webtransport]"),
        ("probe --to moqt://127.0.0.1:9/ --frames-per-group 0", "0 is not in 1..=10000"),
        ("probe --to moqt://127.0.0.1:9/ --size 1048577", "--size 1048577: a MOQT frame has at most 1048576 bytes"),
        ("probe --to moqt://127.0.0.1:9/ --size -1", "`-1` is not a number; write a size such as 64MiB or 4096"),
        ("probe --to moqt://127.0.0.1:9/ --size 99999999999999999999999999", "is too large; at most"),
        ("probe --to moqt://127.0.0.1:9/ --moqt-track ,", "give 1 to 64 parts"),
        ("probe --to moqt://127.0.0.1:9/ --moqt-track a --moqt-flavour head", "--moqt-track: in the head's flavour"),
        ("probe --to moqt://127.0.0.1:99999/", "`99999` is not a port; it is a number from 1 to 65535"),
        ("probe --to moqt:///echo", "it is no URL: write moqt://HOST:PORT/PATH"),
        ("probe --to moqt://127.0.0.1:9/ --interval 0", "--interval: too short"),
        ("send --to moqt://127.0.0.1:9/", "nothing to send: give --text TEXT"),
        ("send --embedded --moqt", "nothing to send: give --text TEXT"),
        ("send --to 127.0.0.1:9 --text x", "--text: it is for MOQT"),
        ("send --to moqt://127.0.0.1:9/ --text x --tone 440", "cannot be used with"),
        ("send --to moqt://127.0.0.1:9/ --text x --no-echo", "cannot be used with"),
        ("send --to moqt://127.0.0.1:9/ --text - --text -", "standard input can be read only once"),
        ("send --to ws://127.0.0.1:9/ --text x", "a signaling server (ws://, wss://) is asked by probe"),
    ] {
        let ended = run_args(line.split(' '));
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{line}: {}", ended.stderr);
    }
}
