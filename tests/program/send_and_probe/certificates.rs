//! `wss://` in the program's own clients: the certificates that they trust, and the errors for other certificates.

#![cfg(unix)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::thread;
use test_support::certificate;
use test_support::server;

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

use certificate::Authority;
use server::process::{Server, run};

/// Requests the room list.
fn list(host: &str, port: u16, options: &[&str]) -> Output {
    let url = format!("wss://{host}:{port}");
    let line = ["probe", "--list-rooms", "--signaling-url", &url];
    run(&[&line, options].concat(), |command| {
        // Tests do not use the certificate authorities of the system.
        command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
    })
}

fn assert_lists(output: &Output) {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.code() == Some(0) && out == "no rooms\n", "{out}{err}");
}

fn assert_untrusted(output: &Output, why: &str) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && output.stdout.is_empty(), "{error}");
    assert!(error.contains(why), "{error}");
}

/// A server that presents a certificate that our client rejects. The server does not check that `key` matches `certificate`. The server
/// accepts any number of handshakes.
pub(crate) fn showing(certificate: &Path, key: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    let certified = CertifiedKey::new(vec![CertificateDer::from_pem_file(certificate).unwrap()], key);
    let config = ServerConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
    });
    address
}

#[test]
fn certificate_of_each_key_type_is_trusted_only_with_its_authority() {
    let (authority, untrusted) = (Authority::new(), Authority::new());
    let ca = authority.own();
    let (ca, other) = (ca.to_str().unwrap(), untrusted.own());
    for (name, key) in [
        ("p256", KeyPair::generate().unwrap()),
        ("p384", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()),
        ("ed25519", KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ] {
        let pair = authority.certify_key(name, (2000, 1, 1), (2200, 1, 1), &key);
        let signaling = Server::start_signaling(&pair.options());
        let port = signaling.address.port();
        for host in ["localhost", "127.0.0.1"] {
            assert_lists(&list(host, port, &["--ca", ca]));
            assert_lists(&list(host, port, &["--insecure"]));
        }
        assert_untrusted(
            &list("localhost", port, &[]),
            "certificate not trusted: self-signed or unknown CA; trust its CA with --ca FILE, or use --insecure for a test",
        );
        assert_untrusted(
            &list("localhost", port, &["--ca", other.to_str().unwrap()]),
            "trust its CA with --ca FILE, or use --insecure for a test",
        );
    }
}

#[test]
fn certificate_for_another_host_or_time_is_rejected() {
    let authority = Authority::new();
    let ca = authority.own();
    let ca = ["--ca", ca.to_str().unwrap()];
    let signaling = Server::start_signaling(&[&["--host", "0.0.0.0"][..], &authority.certify().options()].concat());
    let port = signaling.address.port();
    assert_untrusted(&list("127.0.0.2", port, &ca), "certificate not valid for name");
    assert_lists(&list("127.0.0.2", port, &["--insecure"]));
    for (name, from, until, why) in [
        ("old", (2000, 1, 1), (2001, 1, 1), "certificate has expired; "),
        ("new", (2199, 1, 1), (2200, 1, 1), "certificate is not valid yet; "),
    ] {
        let pair = authority.certify_for(name, from, until);
        let shown = showing(&pair.cert, &pair.key);
        assert_untrusted(&list("localhost", shown.port(), &ca), why);
    }
}

/// The SHA-256 of the certificate in this file, with two digits per byte.
pub(crate) fn sha256(certificate: &Path) -> Vec<String> {
    Sha256::digest(CertificateDer::from_pem_file(certificate).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn pinned_fingerprint_accepts_only_its_own_certificate() {
    let authority = Authority::new();
    let pair = authority.certify();
    let signaling = Server::start_signaling(&[&["--host", "0.0.0.0"][..], &pair.options()].concat());
    let port = signaling.address.port();
    let digits = sha256(&pair.cert);
    for text in [digits.concat(), digits.join(":"), digits.join(":").to_uppercase()] {
        // The certificate is not valid for 127.0.0.2, but a pinned certificate is accepted for every host name.
        for host in ["localhost", "127.0.0.2"] {
            assert_lists(&list(host, port, &["--cert-sha256", &text]));
        }
    }
    let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
    let another = sha256(&other.cert).concat();
    let expected = format!(
        "certificate fingerprint mismatch: expected {another}, got {}. Use the fingerprint that",
        digits.concat()
    );
    assert_untrusted(&list("localhost", port, &["--cert-sha256", &another]), &expected);
    // A server must have the key of its certificate, even if no authority signed the certificate.
    let thief = showing(&other.cert, &pair.key);
    for trust in [&["--cert-sha256", &another][..], &["--insecure"]] {
        assert_untrusted(&list("localhost", thief.port(), trust), "TLS with `localhost` failed: ");
    }
    for (wrong, expected) in [
        (&["--cert-sha256", "abc"][..], "invalid SHA-256: expected 64 hexadecimal digits"),
        (&["--cert-sha256", &another, "--insecure"], "cannot be used with"),
        (&["--cert-sha256", &another, "--ca", "x"], "cannot be used with"),
    ] {
        let output = list("localhost", port, wrong);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(expected), "{error}");
    }
}

#[test]
fn registration_works_over_tls_and_reports_untrusted_certificates() {
    let authority = Authority::new();
    let signaling = Server::start_signaling(&authority.certify().options());
    let url = format!("wss://127.0.0.1:{}", signaling.address.port());
    let ca = authority.own();
    let mut echo = Server::start(&["--signaling-url", &url, "--ca", ca.to_str().unwrap()]);
    echo.line_starting_with("registration: room created room=\"[BOT] Echo Server (3000ms delay)\" id=");
    let mut insecure = Server::start(&["--signaling-url", &url, "--insecure"]);
    let warning = insecure.line_starting_with("tls: certificate verification disabled url=");
    assert_eq!(warning.level, "WARN");
    insecure.line_starting_with("registration: room created ");
    let mut doubting = Server::start_with(&["--signaling-url", &url], |command| {
        command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
    });
    let line = doubting
        .line_starting_with(&format!("registration: failed, retrying url={url} error=\"TLS with `127.0.0.1` failed: "));
    assert!(line.message.contains("--ca"), "{line:?}");
}
