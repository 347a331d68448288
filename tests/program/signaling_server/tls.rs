//! Tests `jamjam-dev signaling-server --cert --key`. The server checks the certificate file and the key file before it listens. If a
//! file has an error, the server reports the error and exits. Clients without TLS or with a slow handshake do not block other clients.

#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use test_support::certificate;
use test_support::server;

use jamjam_dev::io::connection_permit::ConnectionLimits;
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::io::tls::identity::ServerIdentity;
use jamjam_dev::io::tls::server::HandshakeAcceptor;
use jamjam_dev::signaling::{Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use tungstenite::Message;

use certificate::{Authority, Pair, trusting};
use server::TEST_TIMEOUT;
use server::process::{Server, run};

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The stream of a TLS client, before its handshake.
fn open(address: std::net::SocketAddr, authority: &Authority) -> TlsStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(trusting(&authority.own()), name).unwrap(), tcp)
}

fn get(address: std::net::SocketAddr, authority: &Authority, path: &str) -> String {
    let mut line = open(address, authority);
    write!(line, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    line.read_to_string(&mut response).unwrap();
    response
}

fn connect(server: &Server, authority: &Authority) -> tungstenite::WebSocket<TlsStream> {
    tungstenite::client("wss://localhost/", open(server.address, authority)).unwrap().0
}

/// The error line of a server that is started with these options.
fn start_error(code: i32, options: &[&str]) -> String {
    let output = run(&[&["signaling-server", "--host", "127.0.0.1", "--port", "0"], options].concat(), |_| {});
    assert_eq!(output.status.code(), Some(code), "{options:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // As soon as a server listens, it writes its address to the log. Here, the error is the only line, so this server never listened.
    stderr.strip_prefix("jamjam-dev: ").unwrap_or_else(|| panic!("{stderr}")).trim_end().to_owned()
}

#[test]
fn certificate_file_error_is_reported_with_its_remedy() {
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
    let missing_file = authority.file("gone").to_str().unwrap().to_owned();
    let pkcs8 = write("pkcs8", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let rsa = write(
        "rsa",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    let unsupported = write("strange", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let cut = write("cut", &pem[..pem.len() / 2]);
    let invalid_base64 = write("spoiled", &pem.replacen("MII", "!!!", 1));
    let invalid_der = write("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let of = |pair: &Pair| pair.options().map(str::to_owned);
    let [_, expired, _, expired_key] = of(&expired);
    let [_, early, _, early_key] = of(&early);
    let [_, _, _, other_key] = of(&other);
    for (cert, key, named, expected) in [
        (missing_file.as_str(), key, missing_file.as_str(), "cannot use "),
        (cert, &missing_file, &missing_file, "cannot use "),
        (&empty, key, &empty, "contains no certificate in PEM format"),
        (key, key, key, "contains no certificate in PEM format"),
        (cert, &empty, &empty, "contains no unencrypted private key in PEM format"),
        (cert, cert, cert, "contains no unencrypted private key in PEM format"),
        (cert, &pkcs8, &pkcs8, "contains no unencrypted private key in PEM format"),
        (cert, &rsa, &rsa, "contains no unencrypted private key in PEM format"),
        (cert, &unsupported, &unsupported, "failed to parse private key"),
        (&cut, key, &cut, "PEM text is damaged"),
        (&invalid_base64, key, &invalid_base64, "PEM text is damaged"),
        (&invalid_der, key, &invalid_der, "cannot use "),
        (cert, &other_key, &other_key, "does not belong to the first certificate in "),
        (&expired, &expired_key, &expired, "only from 2000-01-01T00:00:00Z to 2020-02-03T00:00:00Z; renew it"),
        (
            &early,
            &early_key,
            &early,
            "only from 2190-04-05T00:00:00Z to 2200-01-01T00:00:00Z; renew it, or correct the clock",
        ),
    ] {
        let line = start_error(3, &["--cert", cert, "--key", key]);
        assert!(line.contains(named) && line.contains(expected), "{expected}\n{line}");
    }
}

#[test]
fn certificate_without_key_or_key_without_certificate_is_an_error() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [_, cert, _, key] = pair.options();
    assert!(start_error(2, &["--cert", cert]).contains("add --key FILE"));
    assert!(start_error(2, &["--key", key]).contains("add --cert FILE"));
    assert!(start_error(2, &["--cert", cert, "--key", ""]).contains("add --key FILE"));
}

#[test]
fn files_can_come_from_the_environment_and_empty_means_none() {
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
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot use "));
    assert_eq!(start(&pair.cert, "".as_ref()).status.code(), Some(2));
    let mut server = Server::start_signaling(&["--cert", "", "--key", ""]);
    assert!(server.line_starting_with("signaling: server listening on ").message.contains(" ws://"));
}

#[test]
fn certificate_is_valid_from_its_first_to_its_last_second() {
    let authority = Authority::new();
    let pair = authority.certify_for("day", (2030, 1, 1), (2030, 1, 2));
    // 2030-01-01T00:00:00Z.
    let first = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    let last = first + Duration::from_secs(86_400);
    let at = |now: SystemTime| ServerIdentity::from_pem_files(&pair.cert, &pair.key, now);
    assert!(at(first - Duration::from_nanos(1)).is_err());
    assert_eq!(at(first).unwrap().valid_until(), "2030-01-02T00:00:00Z");
    assert!(at(last + Duration::from_millis(999)).is_ok());
    let error = at(last + Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.ends_with(
        "from 2030-01-01T00:00:00Z to 2030-01-02T00:00:00Z; renew it, or correct the clock of this machine"
    ));
    assert!(at(UNIX_EPOCH - Duration::from_secs(1)).is_err());
}

#[test]
fn start_line_has_wss_and_the_certificate_its_expiry() {
    let authority = Authority::new();
    let pair = authority.certify();
    let mut server = Server::start_signaling(&pair.options());
    let line = server.line_starting_with("signaling: server listening on ");
    assert_eq!(line.message, format!("signaling: server listening on wss://{}", server.address));
    let sha256 = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap().fingerprint();
    let loaded = format!("tls: certificate in use valid_until=2200-01-01T00:00:00Z sha256={sha256}");
    assert_eq!(server.line().message, loaded);
}

#[test]
fn plain_text_client_is_logged_and_counted_and_the_next_is_served() {
    let authority = Authority::new();
    let mut server = Server::start_signaling(&authority.certify().options());
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = String::new();
    plain.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n") && response.contains("https://"), "{response}");
    let line = server.line_starting_with("tls: handshake failed source=");
    assert_eq!(line.level, "WARN");
    let from = plain.local_addr().unwrap();
    let reason = "not TLS; clients must use wss:// or https:// on this port";
    assert_eq!(line.message, format!("tls: handshake failed source={from} reason=\"{reason}\""));
    let metrics = get(server.address, &authority, "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 1\n"), "{metrics}");
    let probe = run(&["probe", &format!("ws://{}", server.address)], |_| {});
    assert_eq!(probe.status.code(), Some(3));
    assert!(String::from_utf8(probe.stderr).unwrap().contains("use wss:// instead of ws://"));
}

/// A hundred silent connections precede the client in the system's accept queue.
#[test]
fn slow_handshake_blocks_no_other_client() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // One of the silent connections sends the first bytes of a handshake.
    (&silent[0]).write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    let mut client = connect(&server, &authority);
    client.send(Message::text(r#"{"type":"ListRooms"}"#)).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
    // None of the silent connections has timed out yet.
    let metrics = get(server.address, &authority, "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 0\n"), "{metrics}");
}

/// A server with one connection slot and a short handshake timeout.
#[test]
fn stalled_handshake_or_request_loses_its_connection_slot() {
    let authority = Authority::new();
    let pair = authority.certify();
    let identity = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap();
    let connection_limits = ConnectionLimits {
        max_connections: Some(1),
        handshake_timeout: Duration::from_millis(300),
        ..ConnectionLimits::default()
    };
    let tls = Arc::new(HandshakeAcceptor::new(identity).unwrap());
    let options =
        SignalingServerConfig { connection_limits, tls: Some(Arc::clone(&tls)), ..SignalingServerConfig::default() };
    let server = SignalingServer::start_hub(Hub::new(SignalingLimits::default(), [1, 2, 3, 4]), options).unwrap();
    let address = server.addr();
    // This connection uses the only slot and sends nothing.
    let silent = TcpStream::connect(address).unwrap();
    assert!(get(address, &authority, "/healthz").ends_with("ok\n"));
    assert_eq!(tls.failed.load(Ordering::Relaxed), 1);
    drop(silent);
    // The handshake completes, but no request follows.
    let mut idle = open(address, &authority);
    idle.conn.complete_io(&mut idle.sock).unwrap();
    assert!(get(address, &authority, "/healthz").ends_with("ok\n"));
    assert_eq!(tls.failed.load(Ordering::Relaxed), 1);
}

#[test]
fn shutdown_sends_close_frames_under_tls() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let mut client = connect(&server, &authority);
    let closed = std::thread::spawn(move || {
        let first = client.read();
        while client.read().is_ok() {}
        first.unwrap()
    });
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
    assert!(stopped.took < Duration::from_secs(4), "{:?}", stopped.took);
    let Message::Close(Some(frame)) = closed.join().unwrap() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1001);
}

/// The output of an external tool, or `None` if it is not installed. In CI, the test fails if the tool is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    let result = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    if result.is_err() {
        let missing = format!("{name} is not installed; sh scripts/setup --tests installs it on Debian");
        assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
        // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
    }
    result.ok()
}

#[test]
fn curl_trusts_the_authority_and_reads_every_page() {
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
fn openssl_connects_with_tls_1_2_and_1_3_only() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let (own, address) = (authority.own(), server.address.to_string());
    for (version, named, welcome) in
        [("-tls1_2", "TLSv1.2", true), ("-tls1_3", "TLSv1.3", true), ("-tls1_1", "", false)]
    {
        let fixed = ["s_client", "-connect", &address, "-CAfile", own.to_str().unwrap(), "-verify_return_error"];
        let host = ["-verify_hostname", "localhost", "-alpn", "h2,http/1.1", version];
        let Some(output) = tool("openssl", &[fixed.as_slice(), &host].concat()) else { return };
        let stdout = String::from_utf8_lossy(&output.stdout);
        let expected = [format!("New, {named}, Cipher is "), "Verify return code: 0 (ok)".to_owned()];
        let all =
            expected.iter().all(|text| stdout.contains(text.as_str())) && stdout.contains("ALPN protocol: http/1.1");
        assert_eq!(all, welcome, "{version}: {stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
