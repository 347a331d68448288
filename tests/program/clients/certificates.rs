//! `wss://` in the program's own clients: the certificates that they trust, and the errors for other certificates.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use test_support::certificate::Authority;
use test_support::client::{ProgramOutput, program, run_to_success};
use test_support::server::Server;

/// Requests the room list, without the certificate authorities of the system.
fn list(host: &str, port: u16, options: &str) -> ProgramOutput {
    let line = format!("rooms wss://{host}:{port} {options}");
    let mut command = program::command(line.split_whitespace());
    program::start(command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR")).end()
}

fn assert_lists(output: &ProgramOutput) {
    assert_eq!((output.code, output.stdout.as_str()), (0, "no rooms\n"), "{output:?}");
}

fn assert_untrusted(output: &ProgramOutput, why: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    assert!(output.stderr.contains(why), "{}", output.stderr);
}

fn trusting(authority: &Authority) -> String {
    format!("--ca {}", authority.own().display())
}

/// A server with a certificate that our client rejects, and a key that need not match it.
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

/// The SHA-256 of the certificate in this file, with two digits per byte.
fn sha256(certificate: &Path) -> Vec<String> {
    let digest = Sha256::digest(CertificateDer::from_pem_file(certificate).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn certificate_of_each_key_type_is_trusted_only_with_its_authority() {
    let (authority, untrusted, other) = (Authority::new(), Authority::new(), Authority::named("another"));
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = authority.certify_key("key", (2000, 1, 1), (2200, 1, 1), &key);
        let mut signaling = Server::start_signaling(&pair.options());
        let port = signaling.address.port();
        for host in ["localhost", "127.0.0.1"] {
            assert_lists(&list(host, port, &trusting(&authority)));
            assert_lists(&list(host, port, "--insecure"));
        }
        for (options, why) in [
            (String::new(), "this host has no CA certificates; install them (ca-certificates), or"),
            // The untrusted authority has the same name but another key.
            (trusting(&untrusted), "self-signed or unknown CA;"),
            (
                trusting(&other),
                "its issuer is unknown, and the server sends no intermediate certificate; give the server the whole chain (fullchain.pem), or",
            ),
        ] {
            let why = format!("certificate not trusted: {why} trust its CA with --ca FILE. ");
            let output = list("localhost", port, &options);
            assert_untrusted(&output, &why);
            assert_untrusted(&output, &format!(", then give --cert-sha256 {}\n", sha256(&pair.cert).concat()));
        }
        let line = signaling.line_starting_with("tls: handshake failed source=127.0.0.1:");
        assert!(line.message.contains(" reason=\"the client rejected the certificate ("), "{}", line.message);
    }
}

#[test]
fn certificate_for_another_host_time_or_purpose_is_rejected() {
    let authority = Authority::new();
    let ca = trusting(&authority);
    let signaling = Server::start_signaling(&[&["--host", "0.0.0.0"][..], &authority.certify().options()].concat());
    let port = signaling.address.port();
    let output = list("127.0.0.2", port, &ca);
    assert_untrusted(&output, "TLS with `127.0.0.2` failed: certificate not valid for name");
    assert_untrusted(&output, "; connect to a name for which the certificate is valid. ");
    assert_lists(&list("127.0.0.2", port, "--insecure"));
    for (name, from, until, why) in [
        ("old", (2000, 1, 1), (2001, 1, 1), "certificate has expired; "),
        ("new", (2199, 1, 1), (2200, 1, 1), "certificate is not valid yet; "),
        (
            "client",
            (2000, 1, 1),
            (2200, 1, 1),
            "certificate is not for servers; reissue it with -addext extendedKeyUsage=",
        ),
    ] {
        let pair = authority.certify_for(name, from, until);
        assert_untrusted(&list("localhost", showing(&pair.cert, &pair.key).port(), &ca), why);
    }
    let pair = authority.own_as_server();
    let mut signaling = Server::start_signaling(&pair.options());
    signaling.line_starting_with("tls: the server certificate is a CA certificate, ");
    let output = list("localhost", signaling.address.port(), &format!("--ca {}", pair.cert.display()));
    assert_untrusted(&output, "CA certificate (CA:TRUE)");
}

#[test]
fn pinned_fingerprint_accepts_only_its_own_certificate() {
    let authority = Authority::new();
    let pair = authority.certify();
    let signaling = Server::start_signaling(&[&["--host", "0.0.0.0"][..], &pair.options()].concat());
    let port = signaling.address.port();
    let pinning = |hash: &dyn Display| format!("--cert-sha256 {hash}");
    let digits = sha256(&pair.cert);
    for text in [digits.concat(), digits.join(":").to_uppercase()] {
        // The certificate is not valid for 127.0.0.2, but a pinned certificate is accepted for every host name.
        for host in ["localhost", "127.0.0.2"] {
            assert_lists(&list(host, port, &pinning(&text)));
        }
    }
    let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
    let another = sha256(&other.cert).concat();
    let got = digits.concat();
    let expected = format!("certificate fingerprint mismatch: expected {another}, got {got}. Use the fingerprint that");
    assert_untrusted(&list("localhost", port, &pinning(&another)), &expected);
    // A server must have the key of its certificate, even if no authority signed the certificate.
    let thief = showing(&other.cert, &pair.key);
    for trust in [&pinning(&another), "--insecure"] {
        assert_untrusted(&list("localhost", thief.port(), trust), "TLS with `localhost` failed: ");
    }
}

#[test]
fn echo_server_registers_and_is_found_over_tls() {
    let authority = Authority::new();
    let signaling = Server::start_signaling(&authority.certify().options());
    let url = format!("wss://127.0.0.1:{}", signaling.address.port());
    let ca = authority.own();
    let start = |options: &[&str]| {
        Server::start_with(&[&["--host", "127.0.0.1", "--signaling-url", &url], options].concat(), |command| {
            command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
        })
    };
    let mut echo = start(&["--delay", "0", "--ca", ca.to_str().unwrap()]);
    echo.line_starting_with("registration: room created room=\"[BOT] Echo Server (0ms delay)\" invite_code=");
    let mut insecure = start(&["--insecure"]);
    let warning = insecure.line_starting_with("tls: certificate verification disabled url=");
    assert_eq!(warning.level, "WARN");
    insecure.line_starting_with("registration: room created ");
    let mut doubting = start(&[]);
    let line = doubting
        .line_starting_with(&format!("registration: failed, retrying url={url} error=\"TLS with `127.0.0.1` failed: "));
    assert!(line.message.contains("--ca"), "{line:?}");

    let title = format!("probe of [BOT] Echo Server (0ms delay) ({}), ", echo.address);
    let warning = format!("jamjam-dev: --insecure: the certificate of {url} is not verified\n");
    for (trust, stderr) in [(trusting(&authority), ""), ("--insecure".to_owned(), &warning)] {
        let line = format!("probe --count 3 --interval 1ms --room (0ms --signaling-url {url} {trust}");
        let output = run_to_success(&line);
        assert_eq!(output.stderr, stderr, "{output:?}");
        assert!(output.stdout.starts_with(&title), "{}", output.stdout);
    }
}
