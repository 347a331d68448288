//! `signaling-server --cert --key`: errors of the files are reported before the server listens, and clients without TLS or with a slow
//! handshake do not block others.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jamjam_dev::io::connection_permit::ConnectionLimits;
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::io::tls::identity::ServerIdentity;
use jamjam_dev::io::tls::server::HandshakeAcceptor;
use jamjam_dev::signaling::{Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use tungstenite::Message;

use super::get_over_tls;

use test_support::certificate::{Authority, trusting};
use test_support::server::{Server, run, tcp};
use test_support::snapshot;

/// Each line has the names of the certificate file and of the key file. The error follows.
#[test]
fn certificate_file_error_is_reported_with_its_remedy() {
    let authority = Authority::new();
    let pair = authority.certify();
    authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
    authority.certify_for("expired", (2000, 1, 1), (2020, 2, 3));
    authority.certify_for("early", (2190, 4, 5), (2200, 1, 1));
    let pem = fs::read_to_string(&pair.cert).unwrap();
    let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    let rsa = block("RSA PRIVATE KEY").replace("AAAA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA");
    for (name, text) in [
        ("empty", String::new()),
        ("encrypted-key", block("ENCRYPTED PRIVATE KEY")),
        ("encrypted-rsa-key", rsa),
        ("unsupported-key", block("PRIVATE KEY")),
        ("cut", pem[..pem.len() / 2].to_owned()),
        ("invalid-base64", pem.replacen("MII", "!!!", 1)),
        ("invalid-der", block("CERTIFICATE")),
    ] {
        fs::write(authority.file(name), text).unwrap();
    }
    let folder = format!("{}/", authority.file("x").parent().unwrap().display());
    let mut errors = String::new();
    for (cert, key) in [
        ("missing", "server.key"),
        ("server.pem", "missing"),
        ("empty", "server.key"),
        ("server.key", "server.key"),
        ("server.pem", "empty"),
        ("server.pem", "server.pem"),
        ("server.pem", "encrypted-key"),
        ("server.pem", "encrypted-rsa-key"),
        ("server.pem", "unsupported-key"),
        ("cut", "server.key"),
        ("invalid-base64", "server.key"),
        ("invalid-der", "server.key"),
        ("server.pem", "other.key"),
        ("expired.pem", "expired.key"),
        ("early.pem", "early.key"),
    ] {
        let files = [cert, key].map(|name| authority.file(name).to_str().unwrap().to_owned());
        let options = ["--host", "127.0.0.1", "--port", "0", "--cert", &files[0], "--key", &files[1]];
        let output = run(&[&["signaling-server"], &options[..]].concat(), |_| {});
        assert_eq!(output.code, 3, "{cert} {key}: {output:?}");
        writeln!(errors, "{cert} {key}\n{}", output.stderr.replace(&folder, "")).unwrap();
    }
    snapshot::assert_matches("servers/certificate_errors", &errors);
}

#[test]
fn files_of_the_environment_are_named_and_the_suggested_command_pins_them() {
    let authority = Authority::new();
    let pair = authority.certify();
    let mut server = Server::start_signaling_with(&[], |command| {
        command.env("TLS_CERT", &pair.cert).env("TLS_KEY", &pair.key);
    });
    let line = server.line_starting_with("signaling: server listening on ").message;
    assert_eq!(line, format!("signaling: server listening on wss://{}", server.address));
    let sha256 = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap().fingerprint();
    let loaded = format!("tls: certificate in use valid_until=2200-01-01T00:00:00Z sha256={sha256}");
    assert_eq!(server.line().message, loaded);
    let line = server.line_starting_with("signaling: run this to test the server command=").message;
    let command = line.split('"').nth(1).unwrap();
    let port = server.address.port();
    assert_eq!(command, format!("jamjam-dev probe --to wss://localhost:{port} --cert-sha256 {sha256}"));
    let output = run(&command.split(' ').skip(1).collect::<Vec<_>>(), |_| {});
    assert_eq!(output.code, 0, "{output:?}");
    // The discovery of newer clients names the scheme.
    let discovered = get_over_tls(server.address, &trusting(&authority.own()), "/api/v1/signaling");
    assert!(discovered.starts_with(r#"{"url":"wss://"#), "{discovered}");
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
fn plain_text_client_is_logged_and_counted_and_the_next_is_served() {
    let authority = Authority::new();
    let mut server = Server::start_signaling(&authority.certify().options());
    let mut plain = tcp(server.address);
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = String::new();
    plain.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n") && response.contains("https://"), "{response}");
    let line = server.line_starting_with("tls: handshake failed source=");
    assert_eq!(line.level, "WARN");
    let from = plain.local_addr().unwrap();
    let reason = "not TLS; clients must use wss:// or https:// on this port";
    assert_eq!(line.message, format!("tls: handshake failed source={from} reason=\"{reason}\""));
    let metrics = get_over_tls(server.address, &trusting(&authority.own()), "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 1\n"), "{metrics}");
}

/// A hundred silent connections precede the client in the system's accept queue.
#[test]
fn slow_handshake_blocks_no_other_client() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    // One of the silent connections sends the first bytes of a handshake.
    (&silent[0]).write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    let mut client =
        tungstenite::client("wss://localhost/", super::tls_stream(server.address, &trusting(&authority.own())))
            .unwrap()
            .0;
    client.send(Message::text(r#"{"type":"ListRooms"}"#)).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
    // None of the silent connections has timed out yet.
    let metrics = get_over_tls(server.address, &trusting(&authority.own()), "/metrics");
    assert!(metrics.contains("\njamjam_signaling_tls_handshakes_failed_total 0\n"), "{metrics}");
}

/// A server with one connection slot and a short handshake timeout.
#[test]
fn stalled_handshake_loses_its_connection_slot() {
    let authority = Authority::new();
    let pair = authority.certify();
    let identity = ServerIdentity::from_pem_files(&pair.cert, &pair.key, SystemTime::now()).unwrap();
    let connection_limits = ConnectionLimits {
        max_connections: Some(1),
        handshake_timeout: Duration::from_secs(3),
        ..ConnectionLimits::default()
    };
    let tls = Arc::new(HandshakeAcceptor::new(identity).unwrap());
    let options =
        SignalingServerConfig { connection_limits, tls: Some(Arc::clone(&tls)), ..SignalingServerConfig::default() };
    let server = SignalingServer::start_hub(Hub::new(SignalingLimits::default(), [1, 2, 3, 4]), options).unwrap();
    let (address, config) = (server.addr(), trusting(&authority.own()));
    // This connection uses the only slot and sends nothing.
    let _silent = TcpStream::connect(address).unwrap();
    assert!(get_over_tls(address, &config, "/healthz").ends_with("ok\n"));
    assert_eq!(tls.failed.load(Ordering::Relaxed), 1);
}
