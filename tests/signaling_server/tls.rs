//! `jamjam-dev signaling-server --cert --key`: what is wrong with the two is said before anybody listens, and who speaks no TLS,
//! or speaks it slowly, keeps nobody else away.

#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use test_support::certificate;
use test_support::server;

use jamjam_dev::io::connection_permit::ConnectionLimits;
use jamjam_dev::io::http;
use jamjam_dev::io::signaling::{SignalingServerConfig, serve_async as run_rooms};
use jamjam_dev::io::tls::server::HandshakeAcceptor;
use jamjam_dev::io::tls::server::{IdentityError, ServerIdentity};
use jamjam_dev::signaling::{Hub, SignalingLimits};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use tungstenite::Message;

use certificate::{Authority, Pair, trusting};
use server::PATIENCE;
use server::process::{Server, run};

type Line = StreamOwned<ClientConnection, TcpStream>;

/// A TLS client's stream, before its handshake.
fn open(address: std::net::SocketAddr, authority: &Authority) -> Line {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(trusting(&authority.own()), name).unwrap(), tcp)
}

fn get(address: std::net::SocketAddr, authority: &Authority, path: &str) -> String {
    let mut line = open(address, authority);
    write!(line, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    answer
}

fn connect(server: &Server, authority: &Authority) -> tungstenite::WebSocket<Line> {
    tungstenite::client("wss://localhost/", open(server.address, authority)).unwrap().0
}

/// The one line that the server ends with, given these files.
fn refused(code: i32, options: &[&str]) -> String {
    let output = run(&[&["signaling-server", "--host", "127.0.0.1", "--port", "0"], options].concat(), |_| {});
    assert_eq!(output.status.code(), Some(code), "{options:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // So it did not listen before.
    stderr.strip_prefix("jamjam-dev: ").unwrap_or_else(|| panic!("{stderr}")).trim_end().to_owned()
}

#[test]
fn what_is_wrong_with_the_files_is_said_with_the_way_out() {
    let authority = Authority::new();
    let pair = authority.certify();
    let write = |name: &str, text: &str| {
        let path = authority.file(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [_, cert, _, key] = pair.options();
    let pem = fs::read_to_string(cert).unwrap();
    let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
    let expired = authority.certify_for("expired", (2000, 1, 1), (2020, 2, 3));
    let early = authority.certify_for("early", (2190, 4, 5), (2200, 1, 1));
    let empty = write("empty", "");
    let gone = authority.file("gone").to_str().unwrap().to_owned();
    let pkcs8 = write("pkcs8", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let rsa = write(
        "rsa",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    let strange = write("strange", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let cut = write("cut", &pem[..pem.len() / 2]);
    let spoiled = write("spoiled", &pem.replacen("MII", "!!!", 1));
    let nonsense = write("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let of = |pair: &Pair| pair.options().map(str::to_owned);
    let [_, expired, _, expired_key] = of(&expired);
    let [_, early, _, early_key] = of(&early);
    let [_, _, _, other_key] = of(&other);
    for (cert, key, named, says) in [
        (gone.as_str(), key, gone.as_str(), "cannot read "),
        (cert, &gone, &gone, "cannot read "),
        (&empty, key, &empty, "contains no certificate: "),
        (key, key, key, "contains no certificate: "),
        (cert, &empty, &empty, "contains no private key: "),
        (cert, cert, cert, "contains no private key: "),
        (cert, &pkcs8, &pkcs8, "is encrypted, "),
        (cert, &rsa, &rsa, "is encrypted, "),
        (cert, &strange, &strange, "cannot be used: it must be ECDSA"),
        (&cut, key, &cut, "is damaged: a -----BEGIN line has no -----END line"),
        (&spoiled, key, &spoiled, "is damaged: the text between -----BEGIN and -----END is not base64"),
        (&nonsense, key, &nonsense, "cannot be used: "),
        (cert, &other_key, &other_key, "does not belong to the first certificate in "),
        (&expired, &expired_key, &expired, "expired at 2020-02-03T00:00:00Z: renew it"),
        (&early, &early_key, &early, "is not valid before 2190-04-05T00:00:00Z: wait, or correct the clock"),
    ] {
        let line = refused(3, &["--cert", cert, "--key", key]);
        assert!(line.contains(named) && line.contains(says), "{says}\n{line}");
    }
}

#[test]
fn one_of_the_two_alone_is_wrong_usage() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [_, cert, _, key] = pair.options();
    assert!(refused(2, &["--cert", cert]).contains("add --key FILE"));
    assert!(refused(2, &["--key", key]).contains("add --cert FILE"));
    assert!(refused(2, &["--cert", cert, "--key", ""]).contains("add --key FILE"));
}

#[test]
fn the_two_can_come_from_the_environment_and_nothing_at_all_is_none() {
    let authority = Authority::new();
    let pair = authority.certify();
    let missing = authority.file("gone");
    let start = |cert: &std::path::Path, key: &std::path::Path| {
        run(&["signaling-server", "--host", "127.0.0.1", "--port", "0"], |command| {
            command.env("TLS_CERT", cert).env("TLS_KEY", key);
        })
    };
    let output = start(&pair.cert, &missing);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read "));
    assert_eq!(start(&pair.cert, "".as_ref()).status.code(), Some(2));
    let mut server = Server::start_signaling(&["--cert", "", "--key", ""]);
    assert!(server.line_that_begins("Signaling server listening on ").message.contains(" ws://"));
}

#[test]
fn a_certificate_is_valid_from_its_first_second_to_its_last() {
    let authority = Authority::new();
    let pair = authority.certify_for("day", (2030, 1, 1), (2030, 1, 2));
    // 2030-01-01T00:00:00Z.
    let first = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    let last = first + Duration::from_secs(86_400);
    let at = |now: SystemTime| ServerIdentity::from_pem_files(&pair.cert, &pair.key, now);
    assert!(matches!(at(first - Duration::from_nanos(1)), Err(IdentityError::NotYetValid { .. })));
    assert_eq!(at(first).unwrap().valid_until(), "2030-01-02T00:00:00Z");
    assert!(at(last + Duration::from_millis(999)).is_ok());
    assert!(matches!(at(last + Duration::from_secs(1)), Err(IdentityError::Expired { .. })));
    assert!(matches!(at(UNIX_EPOCH - Duration::from_secs(1)), Err(IdentityError::NotYetValid { .. })));
}

#[test]
fn it_says_wss_and_until_when() {
    let authority = Authority::new();
    let pair = authority.certify();
    let mut server = Server::start_signaling(&pair.options());
    let line = server.line_that_begins("Signaling server listening on ");
    assert_eq!(line.message, format!("Signaling server listening on wss://{}", server.address));
    let sha256 = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap().fingerprint();
    let loaded = format!("tls: certificate loaded valid_until=2200-01-01T00:00:00Z sha256={sha256}");
    assert_eq!(server.line().message, loaded);
}

#[test]
fn who_speaks_no_tls_is_told_of_and_counted_and_the_next_one_is_served() {
    let authority = Authority::new();
    let mut server = Server::start_signaling(&authority.certify().options());
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let line = server.line_that_begins("tls: handshake failed source=");
    assert_eq!(line.level, "WARN");
    let from = plain.local_addr().unwrap();
    let why = "not TLS; clients of this port must use wss:// or https://";
    assert_eq!(line.message, format!("tls: handshake failed source={from} reason=\"{why}\""));
    let metrics = get(server.address, &authority, "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 1\n"), "{metrics}");
}

/// A hundred who say nothing are before it in the system's queue: were they waited for, it would be long.
#[test]
fn a_slow_handshake_holds_nobody_else_up() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // The beginning of a handshake, and no more.
    (&silent[0]).write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    let mut client = connect(&server, &authority);
    client.send(Message::text(r#"{"type":"ListRooms"}"#)).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
    // None of them has been given up yet.
    let metrics = get(server.address, &authority, "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 0\n"), "{metrics}");
}

/// The library's server with one place and little patience.
#[test]
fn who_does_not_come_to_the_point_loses_the_place() {
    let authority = Authority::new();
    let pair = authority.certify();
    let identity = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap();
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let connection_limits = ConnectionLimits {
        max_connections: Some(1),
        handshake_timeout: Duration::from_millis(300),
        ..ConnectionLimits::default()
    };
    let tls = Arc::new(HandshakeAcceptor::new(&identity));
    let options =
        SignalingServerConfig { connection_limits, tls: Some(Arc::clone(&tls)), ..SignalingServerConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(run_rooms(
        listener,
        Hub::new(SignalingLimits::default(), [1, 2, 3, 4]),
        options,
        std::future::pending(),
    ));
    // It holds the only place, and says nothing.
    let silent = TcpStream::connect(address).unwrap();
    assert!(get(address, &authority, "/healthz").ends_with("ok\n"));
    assert_eq!(tls.failed(), 1);
    drop(silent);
    // Hands are shaken, and then nothing is asked.
    let mut dumb = open(address, &authority);
    dumb.conn.complete_io(&mut dumb.sock).unwrap();
    assert!(get(address, &authority, "/healthz").ends_with("ok\n"));
    assert_eq!(tls.failed(), 1);
}

#[test]
fn being_asked_to_stop_it_says_good_bye_under_tls_too() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let mut client = connect(&server, &authority);
    let closed = std::thread::spawn(move || {
        let first = client.read();
        while client.read().is_ok() {}
        first.unwrap()
    });
    let ended = server.stop("TERM");
    assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
    assert!(ended.took < Duration::from_secs(4), "{:?}", ended.took);
    let Message::Close(Some(frame)) = closed.join().unwrap() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1001);
}

/// What a tool that others wrote says; `None` where there is none, which in CI must not be.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    let ran = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    if ran.is_err() {
        let missing = format!("{name} is not there; sh scripts/setup --tests installs it on Debian");
        assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
        // Past the test runner's capture, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
    }
    ran.ok()
}

#[test]
fn curl_believes_the_authority_and_reads_every_page() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let own = authority.own();
    let curl = |more: &[&str], path: &str| {
        let url = format!("https://localhost:{}{path}", server.address.port());
        let resolve = format!("localhost:{}:127.0.0.1", server.address.port());
        let fixed = ["--silent", "--max-time", "20", "--cacert", own.to_str().unwrap(), "--resolve", &resolve];
        let status = ["--write-out", "\n%{http_code}", &url];
        tool("curl", &[&fixed, more, &status].concat())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(health) = curl(&[], "/health") else { return };
    let (body, status) = health.rsplit_once('\n').unwrap();
    assert_eq!(status, "200");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["status"], "ok");
    for (more, path, expected) in [
        (&[][..], "/rooms", "{\"rooms\":[]}\n200"),
        (&[], "/v1/nowhere", "{\"error\":\"Not found\"}\n404"),
        (&["--request", "POST"], "/health", "{\"error\":\"Method not allowed\"}\n405"),
        (&["--http1.0"], "/healthz", "ok\n\n200"),
        (&["--tls-max", "1.2"], "/healthz", "ok\n\n200"),
    ] {
        assert_eq!(curl(more, path).unwrap(), expected, "{more:?} {path}");
    }
    let head = curl(&["--head"], "/health").unwrap().to_lowercase();
    assert!(head.contains("\r\naccess-control-allow-origin: *\r\n") && head.ends_with("\r\n\r\n\n200"), "{head}");
}

#[test]
fn openssl_shakes_hands_by_today_s_versions_and_no_others() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let (own, address) = (authority.own(), server.address.to_string());
    for (version, named, welcome) in
        [("-tls1_2", "TLSv1.2", true), ("-tls1_3", "TLSv1.3", true), ("-tls1_1", "", false)]
    {
        let fixed = ["s_client", "-connect", &address, "-CAfile", own.to_str().unwrap(), "-verify_return_error"];
        let host = ["-verify_hostname", "localhost", "-alpn", "h2,http/1.1", version];
        let Some(output) = tool("openssl", &[fixed.as_slice(), &host].concat()) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = [format!("New, {named}, Cipher is "), "Verify return code: 0 (ok)".to_owned()];
        let all = expected.iter().all(|text| said.contains(text.as_str())) && said.contains("ALPN protocol: http/1.1");
        assert_eq!(all, welcome, "{version}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
