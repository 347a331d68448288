//! Changed certificate files are read without dropping a connection. Unusable files leave the previous certificate in use.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use jamjam_dev::io::tls::Fingerprint;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use test_support::certificate::{Authority, Pair, trusting};
use test_support::server::{Server, run};
use tungstenite::{Message, WebSocket};

use super::{TlsStream, get_over_tls, tls_stream};

/// A TLS connection with a complete handshake.
fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    let mut stream = tls_stream(address, config);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> WebSocket<TlsStream> {
    tungstenite::client("wss://localhost/", open(address, config)).unwrap().0
}

/// Fingerprint of the certificate that the server presents.
fn presented(stream: &TlsStream) -> Fingerprint {
    Fingerprint::from_certificate(&stream.conn.peer_certificates().unwrap()[0])
}

fn fingerprint(file: &Path) -> Fingerprint {
    Fingerprint::from_certificate(&CertificateDer::from_pem_file(file).unwrap())
}

/// Whether the server replies on this connection.
fn replies(client: &mut WebSocket<TlsStream>) -> bool {
    client.send(Message::text(r#"{"type":"ListRooms"}"#)).is_ok()
        && client.read().is_ok_and(|message| message == Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#))
}

/// A number in `/metrics` over TLS.
fn metric(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> u64 {
    let page = get_over_tls(address, config, "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("jamjam_signaling_{name} ")));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// A server that reads its files meanwhile finds either the old ones or the new ones, since each pair is one file.
fn replace(pair: &Pair, renewed: &Pair) {
    let copy = pair.cert.with_extension("new");
    fs::copy(&renewed.cert, &copy).unwrap();
    fs::rename(copy, &pair.cert).unwrap();
}

fn in_one_file(Pair { cert, key }: Pair) -> Pair {
    let text = fs::read_to_string(&cert).unwrap() + &fs::read_to_string(key).unwrap();
    fs::write(&cert, text).unwrap();
    Pair { key: cert.clone(), cert }
}

/// Two pairs of one authority: the server starts with the first and gets the second, which is valid until another year.
fn two_pairs(authority: &Authority) -> (Pair, Pair) {
    (
        in_one_file(authority.certify_for("server", (2000, 1, 1), (2199, 1, 1))),
        in_one_file(authority.certify_for("renewed", (2000, 1, 1), (2200, 1, 1))),
    )
}

#[test]
fn missing_file_keeps_the_certificate_and_a_renewed_one_drops_no_connection() {
    let authority = Authority::new();
    let (pair, renewed) = two_pairs(&authority);
    let (old, new) = (fingerprint(&pair.cert), fingerprint(&renewed.cert));
    let mut server = Server::start_signaling(&pair.options());
    server.line_starting_with("tls: certificate in use");
    let config = trusting(&authority.own());
    let mut client = connect(server.address, &config);
    assert!(replies(&mut client) && presented(client.get_ref()) == old);
    let expiry = metric(server.address, &config, "tls_certificate_expiry_timestamp_seconds");

    fs::remove_file(&pair.cert).unwrap();
    let line = server.line_starting_with("tls: certificate");
    let expected = ["the previous one remains in use", "cannot use ", pair.cert.to_str().unwrap()];
    assert!(line.level == "ERROR" && expected.iter().all(|text| line.message.contains(text)), "{line:?}");
    assert_eq!(presented(&open(server.address, &config)), old);

    replace(&pair, &renewed);
    let line = server.line_starting_with("tls: certificate");
    let expected = format!("tls: certificate reloaded valid_until=2200-01-01T00:00:00Z sha256={new}");
    assert_eq!(line.level_and_message(), ("INFO", &*expected));

    // This client could resume the sessions of its earlier connections.
    assert_eq!(presented(&open(server.address, &config)), new);
    assert!(replies(&mut client) && presented(client.get_ref()) == old);
    assert!(replies(&mut connect(server.address, &config)));
    assert_eq!(
        metric(server.address, &config, "tls_certificate_expiry_timestamp_seconds"),
        expiry + 365 * 24 * 60 * 60
    );
    let counts = ["tls_certificate_reloads_total", "tls_certificate_reloads_failed_total"];
    assert_eq!(counts.map(|name| metric(server.address, &config, name)), [1, 1]);
}

#[test]
fn moqt_echo_presents_the_renewed_certificate() {
    let authority = Authority::new();
    let (pair, renewed) = two_pairs(&authority);
    let options = [&["--host", "127.0.0.1", "--moqt", "127.0.0.1:0"][..], &pair.options()].concat();
    let mut server = Server::start(&options);
    let line = server.line_starting_with("moqt: listening addresses=");
    let address = line.message.trim_start_matches("moqt: listening addresses=").trim_matches('"').to_owned();
    let probe = |sha256: Fingerprint| {
        let (url, sha256) = (format!("moqt://{address}/echo"), sha256.to_string());
        let output = run(&["probe", "--to", &url, "--cert-sha256", &sha256, "--count", "1"], |_| {});
        assert_eq!(output.code == 3, output.stderr.contains("fingerprint mismatch"), "{output:?}");
        output.code
    };
    let (old, new) = (fingerprint(&pair.cert), fingerprint(&renewed.cert));
    replace(&pair, &renewed);
    server.line_starting_with("tls: certificate reloaded");
    assert_eq!((probe(new) == 3, probe(old)), (false, 3));
}
