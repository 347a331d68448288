//! `--room` and `--list-rooms` over `wss://`: the certificates that are trusted.

#![cfg(unix)]

use std::time::{Duration, Instant};

use crate::send_and_probe::certificates::sha256;
use certificate::Authority;
use client::program::{ProgramOutput, run_args};
use server::process::Server;
use test_support::certificate;
use test_support::client;
use test_support::server;

fn program(words: &[&str], url: &str, more: &[&str]) -> ProgramOutput {
    run_args(words.iter().chain(&["--signaling-url", url]).chain(more))
}

#[test]
fn room_is_joined_over_tls_with_a_trusted_certificate() {
    let authority = Authority::new();
    let ca = authority.own();
    let ca = ca.to_str().unwrap();
    let signaling = Server::start_signaling(&authority.certify().options());
    let url = format!("wss://localhost:{}", signaling.address.port());
    let options = ["--host", "127.0.0.1", "--delay", "0", "--signaling-url", &url, "--ca", ca];
    let mut echo = Server::start(&options);
    echo.line_starting_with("registration: room created ");

    let probe = ["probe", "--count", "3", "--interval", "1ms", "--room", "Echo Server"];
    let title = format!("probe of [BOT] Echo Server (0ms delay) ({}), ", echo.address);
    let trusted = program(&probe, &url, &["--ca", ca]);
    assert_eq!((trusted.code, trusted.stderr.as_str()), (0, ""), "{trusted:?}");
    assert!(trusted.stdout.starts_with(&title), "{}", trusted.stdout);

    let insecure = program(&probe, &url, &["--insecure"]);
    let warning = format!("jamjam-dev: --insecure: the certificate of {url} is not verified\n");
    assert_eq!((insecure.code, insecure.stderr), (0, warning));
    assert!(insecure.stdout.starts_with(&title), "{}", insecure.stdout);
}

#[test]
fn untrusted_certificate_ends_the_run_before_joining() {
    let (authority, untrusted) = (Authority::new(), Authority::new());
    let untrusted = untrusted.own();
    let untrusted = untrusted.to_str().unwrap();
    let pair = authority.certify();
    let mut signaling = Server::start_signaling(&pair.options());
    let url = format!("wss://127.0.0.1:{}", signaling.address.port());
    let sha256 = sha256(&pair.cert).concat();
    let began = Instant::now();
    for (words, failed) in [
        (&["probe", "--room=jam", "--wait-for=60s"][..], "cannot join a room on"),
        (&["send", "--list-rooms"], "cannot list the rooms of"),
    ] {
        // The untrusted authority has the same name but another key.
        for more in [&[][..], &["--ca", untrusted]] {
            let output = program(words, &url, more);
            let way_out = "trust its CA with --ca FILE, or use --insecure for a test";
            let why = "certificate not trusted: self-signed or unknown CA";
            let failure = format!("TLS with `127.0.0.1` failed: {why}; {way_out}. ");
            let error = format!("jamjam-dev: {failed} {url}: {failure}");
            assert_eq!((output.code, output.stdout.as_str()), (3, ""));
            let rest = output.stderr.strip_prefix(&error).unwrap_or_else(|| panic!("{}", output.stderr));
            let fingerprint = rest.trim_end().rsplit(' ').next().unwrap();
            let expected = format!(
                "The certificate has the SHA-256 fingerprint {fingerprint}. Verify the fingerprint with the operator of the server, then \
                 give --cert-sha256 {fingerprint}\n"
            );
            assert_eq!((rest, fingerprint), (expected.as_str(), sha256.as_str()));
        }
    }
    assert!(began.elapsed() < Duration::from_secs(30), "--wait-for repeated the attempt");
    let line = signaling.line_starting_with("tls: handshake failed source=127.0.0.1:");
    assert!(line.message.contains(" reason=\"the client rejected the certificate ("), "{}", line.message);
}

#[test]
fn unusable_authority_file_is_reported() {
    let authority = Authority::new();
    let key = authority.certify().key;
    let key = key.to_str().unwrap();
    for (file, error) in [
        (key.to_owned(), format!("cannot use {key}: it contains no certificate in PEM format")),
        (format!("{key}.none"), format!("cannot use {key}.none: ")),
    ] {
        let output = program(&["probe", "--list-rooms"], "wss://127.0.0.1:9", &["--ca", &file]);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""));
        assert!(output.stderr.starts_with(&format!("jamjam-dev: {error}")), "{}", output.stderr);
    }
}

/// A failed `probe --list-rooms` prints one line. Returns the part of this line after the URL.
fn failed(url: &str, more: &[&str]) -> String {
    let output = program(&["probe", "--list-rooms"], url, more);
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let prefix = format!("jamjam-dev: cannot list the rooms of {url}: ");
    output.stderr.strip_prefix(&prefix).unwrap_or_else(|| panic!("{output:?}")).trim_end().to_owned()
}

#[test]
fn wrong_scheme_of_ws_and_wss_is_reported() {
    let authority = Authority::new();
    let pair = authority.certify();
    let (secure, plain) = (Server::start_signaling(&pair.options()), Server::start_signaling(&[]));
    let error = failed(&format!("wss://{}", plain.address), &[]);
    assert_eq!(error, "TLS with `127.0.0.1` failed: the server does not use TLS; use ws:// instead of wss://");
    let error = failed(&format!("ws://{}", secure.address), &[]);
    let upgrade = format!("the WebSocket upgrade with {} failed: ", secure.address);
    assert_eq!(error, format!("{upgrade}the server uses TLS; use wss:// instead of ws://"));
    let error = failed(&format!("ws://{}/v1/other", plain.address), &[]);
    let upgrade = format!("the WebSocket upgrade with {} failed: ", plain.address);
    assert_eq!(
        error,
        format!(
            "{upgrade}HTTP 404 Not Found; there is no signaling server at this path; signaling servers usually use / or /ws without a query"
        )
    );
}

#[test]
fn certificate_unusable_for_a_server_is_reported_at_both_ends() {
    let authority = Authority::new();
    let pair = authority.own_as_server();
    let mut signaling = Server::start_signaling(&pair.options());
    signaling.line_starting_with("tls: the server certificate is a CA certificate, ");
    let url = format!("wss://localhost:{}", signaling.address.port());
    let error = failed(&url, &["--ca", pair.cert.to_str().unwrap()]);
    assert!(error.contains("CA certificate (CA:TRUE)") && error.contains("CA:FALSE"), "{error}");
}

#[test]
fn trusted_certificate_for_another_name_is_reported() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [cert, cert_file, key, key_file] = pair.options();
    let signaling = Server::start_signaling(&["--host", "127.0.0.2", cert, cert_file, key, key_file]);
    let url = format!("wss://{}", signaling.address);
    let error = failed(&url, &["--ca", authority.own().to_str().unwrap()]);
    assert!(error.starts_with("TLS with `127.0.0.2` failed: certificate not valid for name"), "{error}");
    assert!(
        error.contains("; connect to a name for which the certificate is valid, or use --insecure for a test. "),
        "{error}"
    );
}
