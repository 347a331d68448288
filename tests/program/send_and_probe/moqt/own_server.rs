//! `probe` with the program's own MOQT echo server, over both transports and in all versions.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jamjam_dev::client::StopSignal;
use jamjam_dev::io::moqt::server::{self, MoqtServerConfig, ServerThread};
use jamjam_dev::io::moqt::{ServerCounters, bind_all};
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::tls::identity::ServerIdentity;
use jamjam_dev::moqt::echo;
use serde_json::json;

use crate::send_and_probe::moqt::{moqt, report};
use test_support::certificate::Authority;
use test_support::client::at_once;
use test_support::client::document::{self, counts};
use test_support::client::program::{run_args, start_line};

/// A MOQT echo server in this process, with a certificate signed by an authority.
pub(crate) struct Server {
    authority: Authority,
    pub(crate) port: u16,
    stop: StopToken,
    running: Option<ServerThread>,
}

impl Server {
    pub(crate) fn start(delay: Duration) -> Self {
        Self::start_in_place_of(None, delay)
    }

    /// Starts a server on the port of `socket`, or on any free port. The socket stays open until the server binds, because otherwise
    /// another test could take the port.
    fn start_in_place_of(socket: Option<UdpSocket>, delay: Duration) -> Self {
        let authority = Authority::new();
        let pair = authority.certify();
        let certificate = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = socket.map_or(address, |socket| socket.local_addr().unwrap());
        // Another test may use the port for a moment.
        let deadline = Instant::now() + Duration::from_secs(30);
        let bound = loop {
            match bind_all(&[address]) {
                Ok(bound) => break bound,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let port = bound.addresses().next().unwrap().port();
        let config = MoqtServerConfig {
            echo: echo::MoqtEchoConfig { delay, ..echo::MoqtEchoConfig::default() },
            ..MoqtServerConfig::default()
        };
        let stop = StopToken::default();
        let running = server::spawn(bound, certificate, config, Arc::new(ServerCounters::default()), &stop).unwrap();
        Self { authority, port, stop, running: Some(running) }
    }

    pub(crate) fn ca(&self) -> [String; 2] {
        ["--ca".to_owned(), self.authority.own().display().to_string()]
    }

    fn with<'a>(ca: &'a [String; 2], more: &[&'a str]) -> Vec<&'a str> {
        ca.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.request(StopSignal::Terminate);
        if let Some(running) = self.running.take() {
            running.join();
        }
    }
}

/// Scheme and transport; option, version and track.
type Case = ((&'static str, &'static str), (&'static str, (&'static str, &'static str)));

#[test]
fn fifty_groups_of_two_return_over_both_transports_and_versions() {
    let server = Server::start(Duration::ZERO);
    let ca = server.ca();
    let names = [
        "--moqt-version gomoqt-2025-02",
        "--moqt-version gomoqt-0.9",
        "--moqt-version moq-lite-03",
        "--moqt-version moq-lite-04",
    ];
    let broadcast = "/client.echo, index";
    let negotiated = [
        ("gomoqt-2025-02", "japan, kyoto, text"),
        ("gomoqt-0.9", broadcast),
        ("moq-lite-03", broadcast),
        ("moq-lite-04", broadcast),
    ];
    let schemes = [("moqt", "quic"), ("https", "webtransport")];
    let cases =
        schemes.into_iter().flat_map(|scheme| names.into_iter().zip(negotiated).map(move |case| (scheme, case)));
    let check = |((scheme, transport), (option, (version, track))): Case| {
        let url = format!("{scheme}://localhost:{}/echo", server.port);
        let line = ["--count", "50", "--frames-per-group", "2", "--interval", "4ms", "--max-loss", "0%"];
        let options: Vec<&str> = option.split_terminator(' ').collect();
        let report = report(0, &url, &Server::with(&ca, &[&line[..], &options].concat()));
        let all = ["sent", "returned", "lost", "duplicated", "unmatched"];
        assert_eq!(counts(&report, "ping", all), [100, 100, 0, 0, 0], "{url} {option} {report:#}");
        assert_eq!(moqt(&report, ["groups_sent", "groups_returned", "frames_per_group"]), [50, 50, 2]);
        let reported = &report["moqt"];
        assert_eq!((&reported["transport"], &reported["version"]), (&json!(transport), &json!(version)));
        assert_eq!(reported["track"], json!(track));
        let parts = ["dns_ms", "quic_ms", "session_ms", "subscribe_ms"];
        assert!(parts.iter().all(|part| reported[part].as_f64().is_some_and(|ms| ms >= 0.0)), "{reported}");
        assert_eq!(reported["webtransport_ms"].is_f64(), scheme == "https", "{reported}");
    };
    // One at a time, and again after a pause of this machine.
    cases.for_each(|case| drop(at_once([case], check)));
}

#[test]
fn track_and_server_delay_are_in_the_report() {
    let server = Server::start(Duration::from_millis(120));
    let ca = server.ca();
    let url = format!("moqt://127.0.0.1:{}/echo", server.port);
    let line =
        ["--count", "20", "--interval", "20ms", "--size", "3", "--moqt-version", "gomoqt-2025-02", "--timeout", "60ms"];
    let report = report(0, &url, &Server::with(&ca, &line));
    // The timeout of 60 ms is shorter than the delay. No frame is lost, because the smallest round trip is added to the timeout.
    assert_eq!(counts(&report, "ping", ["sent", "returned"]), [20, 20], "{report:#}");
    assert!(report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap() >= 120_000.0);
    assert_eq!(report["moqt"]["track"], json!("japan, kyoto, text"));
}

#[test]
fn unknown_path_is_rejected_over_both_transports() {
    let server = Server::start(Duration::ZERO);
    let ca = server.ca();
    for (scheme, kind, words) in [
        (
            "moqt",
            "closed",
            "the server closed the connection with code 0x13 (unknown path /other; this server serves /echo)",
        ),
        ("https", "rejected", "rejected the WebTransport session: HTTP status 404; our server has the path /echo"),
    ] {
        let url = format!("{scheme}://localhost:{}/other", server.port);
        let report = report(1, &url, &Server::with(&ca, &["--moqt-version", "gomoqt-2025-02"]));
        let lost = &report["moqt"]["connection_failure"];
        assert_eq!(lost["kind"], json!(kind), "{report:#}");
        assert!(lost["message"].as_str().unwrap().ends_with(words), "{lost}");
    }
}

/// In moq-lite over raw QUIC, no message contains the path.
#[test]
fn path_of_moq_lite_is_checked_over_webtransport_only() {
    let server = Server::start(Duration::ZERO);
    let ca = server.ca();
    for (scheme, code) in [("moqt", 0), ("https", 1)] {
        let url = format!("{scheme}://localhost:{}/other", server.port);
        let options = Server::with(&ca, &["--moqt-version", "moq-lite-04", "--count", "1"]);
        let report = report(code, &url, &options);
        assert_eq!(report["moqt"]["retried_path"], json!(null));
    }
}

#[test]
fn path_is_matched_equally_over_both_transports() {
    let server = Server::start(Duration::ZERO);
    let ca = server.ca();
    for (path, is_served) in [
        ("echo?x=1", true),
        ("a/../echo", true),
        ("./echo#part", true),
        ("echo/", false),
        ("/echo", false),
        ("%65cho", false),
        ("écho", false),
        ("", false),
    ] {
        for scheme in ["moqt", "https"] {
            let url = format!("{scheme}://localhost:{}/{path}", server.port);
            let options = Server::with(&ca, &["--count", "1", "--moqt-version", "gomoqt-2025-02"]);
            let report = report(u8::from(!is_served).into(), &url, &options);
            assert_eq!(report["moqt"]["connection_failure"].is_null(), is_served, "{url}");
        }
    }
}

#[test]
fn wrong_fingerprint_is_reported_once_over_both_transports() {
    let server = Server::start(Duration::ZERO);
    let zeros = "0".repeat(64);
    for scheme in ["moqt", "https"] {
        let url = format!("{scheme}://localhost:{}/echo", server.port);
        let output = crate::send_and_probe::moqt::probe(&url, &["--cert-sha256", &zeros]);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let words = output.stderr.split(|c: char| !c.is_alphanumeric());
        assert_eq!(words.filter(is_hash).count(), 2, "its own and the trusted fingerprint: {}", output.stderr);
    }
}

#[test]
fn embedded_server_replies_over_both_transports() {
    for (option, transport) in [("--moqt", "quic"), ("--moqt=quic", "quic"), ("--moqt=webtransport", "webtransport")] {
        let line = ["probe", "--embedded", option, "--count", "5", "--interval", "5ms", "--delay", "30ms", "--json"];
        let output = run_args(line);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
        let report = document::report(&output);
        assert_eq!(counts(&report, "ping", ["sent", "returned"]), [5, 5]);
        assert_eq!(report["target"], json!("embedded MOQT echo server (30 ms)"));
        assert_eq!(report["moqt"]["transport"], json!(transport));
        assert!(report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap() >= 30_000.0);
    }
}

#[test]
fn run_waits_for_a_server_that_starts_later() {
    let unused_address = UdpSocket::bind("127.0.0.1:0").unwrap();
    unused_address.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let port = unused_address.local_addr().unwrap().port();
    let line = "--insecure --wait-for 30s --count 3 --interval 5ms --json";
    let program = start_line(&format!("probe --to moqt://127.0.0.1:{port}/echo {line}"));
    unused_address.recv(&mut [0; 2_048]).unwrap();
    let _server = Server::start_in_place_of(Some(unused_address), Duration::ZERO);
    let output = program.end();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let report = document::report(&output);
    assert_eq!(
        (&report["readiness_wait"]["reply_received"], counts(&report, "ping", ["sent", "returned"])),
        (&json!(true), [3, 3])
    );
    assert!(report["readiness_wait"]["waited_ms"].as_f64().unwrap() > 0.0);
}
