//! `echo-server --moqt`: its log, its certificates and clients, its counters and its shutdown.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jamjam_dev::io::moqt::client;
use jamjam_dev::io::moqt::connect::MoqtConnectOptions;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::tls::client::TrustPolicy;
use jamjam_dev::moqt::client::{FramePayload, MoqtClient, MoqtClientConfig};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};

use super::metrics::{get, logged_address};
use test_support::client::{ProgramOutput, run_args, start_line};
use test_support::server::{Server, TEST_TIMEOUT, poll_until};
use test_support::snapshot;

/// The lines that the server logs before it serves MOQT.
#[derive(Debug)]
pub(crate) struct MoqtLog {
    pub(crate) listening: String,
    pub(crate) webtransport: String,
    pub(crate) quic: String,
    pub(crate) sha256: String,
}

impl MoqtLog {
    /// Parses the log lines that describe the MOQT server.
    pub(crate) fn of(server: &mut Server) -> Self {
        let rest = |message: &str, before: &str, after: &str| {
            let rest = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.unwrap_or_else(|| panic!("no {before}…{after} in {message:?}")).to_owned()
        };
        let listening = server.line_starting_with("moqt: listening addresses=").message;
        let [webtransport, quic, certificate] = [(); 3].map(|()| server.line().message);
        let (_, sha256) = certificate.split_once(" sha256=").expect("the certificate in use");
        Self {
            listening: rest(&listening, "moqt: listening addresses=", "").replace('"', ""),
            webtransport: rest(&webtransport, "moqt: serving url=", " transport=WebTransport"),
            quic: rest(&quic, "moqt: serving url=", " transport=QUIC"),
            sha256: sha256.to_owned(),
        }
    }

    pub(crate) fn port(&self) -> &str {
        self.listening.rsplit_once(':').unwrap().1
    }

    /// These options, and the one that makes the client trust the server's certificate.
    pub(crate) fn trusted(&self, options: &str) -> String {
        format!("--cert-sha256 {} {options}", self.sha256)
    }

    /// Both URLs.
    pub(crate) fn urls(&self) -> [&str; 2] {
        [&self.webtransport, &self.quic]
    }
}

/// Checks that three texts return.
fn assert_echoes(url: &str, trust: &[&str]) {
    let output = send_texts(url, trust);
    assert_eq!((output.code, &*output.stdout), (0, "one\ntwo\nthree\n"), "{url}: {output:?}");
}

fn send_texts(url: &str, options: &[&str]) -> ProgramOutput {
    let fixed = ["publish", url, "--text", "one", "--text", "two", "--text", "three"];
    run_args(fixed.iter().chain(options))
}

/// A server that answers at once.
pub(crate) fn start(options: &[&str]) -> (Server, MoqtLog) {
    let mut server = Server::start(&[&["--host", "127.0.0.1", "--moqt", "127.0.0.1:0"], options].concat());
    let log = MoqtLog::of(&mut server);
    (server, log)
}

#[test]
fn both_urls_are_logged_and_echo_on_both_loopback_families() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--moqt", "localhost:0"]);
    let log = MoqtLog::of(&mut server);
    let port = log.port();
    assert_eq!(log.webtransport, format!("https://localhost:{port}/echo"));
    assert_eq!(log.quic, format!("moqt://localhost:{port}/echo"));
    let mut hosts = vec!["localhost", "127.0.0.1"];
    if UdpSocket::bind("[::1]:0").is_ok() {
        assert_eq!(log.listening, format!("127.0.0.1:{port} [::1]:{port}"));
        hosts.push("[::1]");
    }
    for url in log.urls() {
        for host in &hosts {
            assert_echoes(&url.replace("localhost", host), &["--cert-sha256", &log.sha256]);
        }
        // No certificate authority has signed the certificate.
        let output = send_texts(url, &[]);
        assert!(output.code == 3 && output.stderr.contains("certificate"), "{output:?}");
    }
}

/// Connects to the server over raw QUIC and offers these ALPNs. Returns the selected one if it is supported, otherwise the error that ends the
/// handshake or the connection.
fn quic_answer(address: SocketAddr, log: &MoqtLog, alpns: &[&str]) -> String {
    let mut tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(pinned(log).verifier().unwrap())
        .with_no_client_auth();
    tls.alpn_protocols = alpns.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let connection = match endpoint.connect_with(config, address, "localhost").unwrap().await {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        let data = connection.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
        let selected = String::from_utf8(data.protocol.unwrap()).unwrap();
        if selected == "moq-lite-04" { selected } else { connection.closed().await.to_string() }
    })
}

#[test]
fn offered_alpns_that_are_not_supported_are_logged_with_the_supported_ones() {
    let (mut server, log) = start(&[]);
    let address = log.listening.parse().unwrap();
    let error = quic_answer(address, &log, &["moqt-16", "a\n\u{1b}b"]);
    assert!(error.contains("no application protocol") || error.contains("120"), "{error}");
    let line = server.line_starting_with("moqt: QUIC handshake failed source=127.0.0.1:");
    let reason = "no common ALPN: offered moqt-16, a\u{fffd}\u{fffd}b, supported h3, moq-lite-04, moq-lite-03, moq-00";
    assert!(line.message.ends_with(&format!(" reason=\"{reason}\"")), "{}", line.message);
    assert_echoes(&log.quic, &["--cert-sha256", &log.sha256]);
    // A first packet that was sent again while the server did not run is another handshake.
    assert!(count(moqt_stats(&server.stop("TERM").lines), "handshakes_failed") >= 1);
}

#[test]
fn client_of_only_a_newer_moq_lite_can_read_why_it_is_rejected() {
    let (mut server, log) = start(&[]);
    let address = log.listening.parse().unwrap();
    let reason = "no common version: offered moq-lite-05, supported moq-lite-04, moq-lite-03, moq-00";
    let answer = quic_answer(address, &log, &["moq-lite-05"]);
    assert!(answer.contains(reason) && answer.contains("18"), "{answer}");
    let line = server.line_starting_with("moqt: connection rejected source=127.0.0.1:");
    assert!(line.message.ends_with(&format!(" reason=\"{reason}\"")), "{}", line.message);
    assert_eq!(quic_answer(address, &log, &["moq-lite-06", "moq-lite-05", "moq-lite-04"]), "moq-lite-04");
    assert_eq!(count(moqt_stats(&server.stop("TERM").lines), "setups_failed"), 1);
}

#[test]
fn moqt_frames_are_delayed_only_without_the_udp_echo() {
    // The delay of the UDP echo does not apply to MOQT.
    let (_server, log) = start(&["--delay", "1h"]);
    assert_echoes(&log.quic, &["--cert-sha256", &log.sha256]);
    let options = ["--moqt-only", "--moqt", "127.0.0.1:0", "--delay", "1h", "--stats-interval", "20ms"];
    let mut server = Server::start_as(&options, |_| {});
    let log = MoqtLog::of(&mut server);
    let _client = start_line(&format!("publish {} --text x {}", log.quic, log.trusted("--timeout 1h")));
    let stats = std::iter::repeat_with(|| server.line_starting_with("moqt: stats ").message)
        .find(|stats| count(stats, "frames_received") == 1);
    assert_eq!(count(&stats.expect("an endless log"), "frames_sent"), 0);
}

#[test]
fn source_outside_the_allowed_networks_is_dropped_and_counted() {
    let (server, log) = start(&["--allow", "192.0.2.0/24"]);
    let output = send_texts(&log.quic, &["--cert-sha256", &log.sha256, "--timeout", "500ms"]);
    assert!(output.code != 0, "{output:?}");
    let stopped = server.stop("TERM");
    let stats = moqt_stats(&stopped.lines);
    assert!(count(stats, "connections_dropped_not_allowed") >= 1, "{stats}");
    assert_eq!(count(stats, "connections_quic"), 0, "{stats}");
}

/// A policy that trusts only the logged certificate.
fn pinned(log: &MoqtLog) -> TrustPolicy {
    TrustPolicy { pinned: Some(log.sha256.parse().expect("a fingerprint")), ..TrustPolicy::default() }
}

/// The last line of the MOQT statistics.
fn moqt_stats(lines: &[String]) -> &str {
    let stats = lines.iter().rev().find_map(|line| Some(line.split_once(" INFO moqt: stats ")?.1));
    stats.unwrap_or_else(|| panic!("no statistics in {lines:#?}"))
}

/// A counter in a line of statistics. A counter that is not printed is zero.
fn count(stats: &str, name: &str) -> u64 {
    let value = stats.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

#[test]
fn moqt_counters_are_in_the_log_and_in_the_metrics() {
    let (mut server, log) = start(&["--metrics", "0"]);
    let metrics = logged_address(&mut server);
    log.urls().iter().for_each(|url| assert_echoes(url, &["--cert-sha256", &log.sha256]));
    let page = poll_until("all connections are closed", || {
        let page = get(metrics, "/metrics");
        page.contains("\njamjam_moqt_connections_open 0\n").then_some(page)
    });
    let lines = page.lines().filter(|line| line.contains("jamjam_moqt_")).map(|line| format!("{line}\n"));
    snapshot::assert_matches("servers/moqt_metrics", &lines.collect::<String>());
    let stopped = server.stop("TERM");
    let stats = moqt_stats(&stopped.lines);
    assert!(stats.starts_with("connections_quic=1 connections_webtransport=1 "), "{stats}");
    assert!(stats.ends_with(" connections_open=0 sessions=2") && !stats.contains("groups_dropped"), "{stats}");
    assert_eq!((count(stats, "frames_received"), count(stats, "frames_sent")), (6, 6), "{stats}");
    assert!(stopped.stats().to_string().starts_with("received=0, sent=0, buffered=0"));
}

#[test]
fn groups_over_the_memory_limit_are_logged_and_counted() {
    let mut server = Server::start_as(&["--moqt-only", "--moqt", "127.0.0.1:0", "--delay", "1h"], |_| {});
    let log = MoqtLog::of(&mut server);
    // A group is charged 1,024 bytes, its frame 100,000 + 64 and its end 64, so 41 groups fit in 4 MiB.
    let config = MoqtClientConfig {
        payload: FramePayload::Texts(vec![vec![b'x'; 100_000].into()]),
        frames_per_group: 1,
        group_count: Some(43),
        group_interval: Duration::from_millis(4),
        reply_timeout: TEST_TIMEOUT,
        subscribe_timeout: TEST_TIMEOUT,
    };
    let mut options = MoqtConnectOptions::new(log.quic.parse().unwrap(), pinned(&log).verifier().unwrap());
    // The limit is high enough that the client drops no groups even if the server reads slowly.
    options.limits.max_unsent_group_bytes = 64 << 20;
    let stopped = thread::scope(|scope| {
        scope.spawn(|| {
            drop(client::run_session(&options, || MoqtClient::new(config.clone()), |_, _| (), &StopToken::default()));
        });
        let line = server.line_starting_with("moqt: groups dropped newly_dropped=");
        assert_eq!(line.level, "WARN");
        let dropped = line.message.split(['=', ' ']).nth(4).unwrap();
        let start = format!("moqt: groups dropped newly_dropped={dropped} last_source=127.0.0.1:");
        let end = format!("groups_dropped_buffer_full_total={dropped} groups_dropped_no_subscriber_total=0");
        assert!(line.message.starts_with(&start) && line.message.ends_with(&end), "{}", line.message);
        server.stop("TERM")
    });
    let stats = moqt_stats(&stopped.lines);
    assert_eq!(stopped.code, Some(0), "a session is open");
    // The last group may have arrived after the stop.
    assert!((1..=2).contains(&count(stats, "groups_dropped_buffer_full")), "{stats}");
    assert_eq!(count(stats, "frames_sent"), 0, "{stats}");
}

#[test]
fn moqt_only_disables_the_udp_echo_and_logs_its_statistics() {
    let options = ["--moqt-only", "--moqt", "127.0.0.1:0", "--metrics", "0", "--stats-interval", "20ms"];
    let mut server = Server::start_as(&options, |_| {});
    let log = MoqtLog::of(&mut server);
    let first = format!("INFO moqt: listening addresses={}", server.address);
    assert!(server.lines[0].ends_with(&first), "{:?}", server.lines);
    assert_eq!(log.quic, format!("moqt://{}/echo", server.address));
    assert_echoes(&log.quic, &["--cert-sha256", &log.sha256]);
    let page = get(logged_address(&mut server), "/metrics");
    assert!(page.contains("\njamjam_moqt_sessions_total 1\n") && !page.contains("jamjam_echo_"), "{page}");
    (0..2).for_each(|_| drop(server.line_starting_with("moqt: stats ")));
    // A compose file passes an unset variable as an empty variable. An empty ECHO_DELAY_MS sets no delay.
    let again = ["--moqt-only", "--moqt", "127.0.0.1:0"];
    let again = Server::start_as(&again, |command| _ = command.env("ECHO_DELAY_MS", ""));
    for (server, signal) in [(server, "TERM"), (again, "INT")] {
        let stopped = server.stop(signal);
        assert_eq!(stopped.code, Some(0));
        assert!(stopped.lines.last().unwrap().contains(" connections_open=0 "), "{:?}", stopped.lines);
    }
}

/// Of datagrams that are not QUIC, the kernel drops some because the receive buffer is full, and the QUIC library all others.
#[test]
fn packets_dropped_by_the_kernel_are_counted_for_both_sockets() {
    let mut server = Server::start_as(&["--moqt-only", "--moqt", "localhost:0", "--metrics", "0"], |_| {});
    let metrics = logged_address(&mut server);
    let name = "\njamjam_moqt_kernel_dropped_total ";
    let dropped = || -> u64 {
        let page = get(metrics, "/metrics");
        page.split_once(name).and_then(|(_, rest)| rest.lines().next()).unwrap().parse().unwrap()
    };
    assert_eq!(dropped(), 0);
    let mut last = 0;
    for host in ["127.0.0.1", "::1"] {
        let Ok(socket) = UdpSocket::bind((host, 0)) else { continue };
        last = poll_until("more drops", || {
            server.halt();
            // The kernel's buffer has at most 16 MiB. Each datagram takes at least 512 bytes of this buffer.
            for _ in 0..40_000 {
                socket.send_to(&[0], (host, server.address.port())).unwrap();
            }
            server.signal("CONT");
            Some(dropped()).filter(|now| *now > last)
        });
    }
    let stats = server.stop("TERM");
    assert_eq!(count(moqt_stats(&stats.lines), "kernel_dropped"), last);
}
