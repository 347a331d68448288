//! What `echo-server --moqt` refuses, and with which words.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use crate::options::refused;
use test_support::certificate::Authority;

/// The refusal, of which clap's has more lines.
fn wrong_usage(options: &[&str]) -> String {
    crate::options::refusal(&test_support::server::process::run(&[&["echo-server"], options].concat(), |_| {}), 2)
}

#[test]
fn options_that_cannot_be_meant_are_wrong_usage() {
    let udp_only = "applies to the UDP echo, which --moqt-only disables";
    for (options, says) in [
        (&["--moqt", "https://localhost:4443/echo"][..], "give ADDR:PORT, such as localhost:4443"),
        (&["--moqt", "localhost:70000"], "give ADDR:PORT"),
        (&["--moqt", "--moqt-path", "/a b"], "give the path of a URL, such as /echo"),
        (&["--moqt", "--moqt-path", "/a/../echo"], "without a query and without . or .. segments"),
        (&["--moqt", "--moqt-delay", "-1"], "--moqt-delay"),
        (&["--moqt", "--cert", "x"], "--key <FILE>"),
        (&["--moqt", "--key", "x"], "--cert <FILE>"),
        (&["--moqt", "--cert", "x", "--key", "y", "--cert-dir", "z"], "cannot be used with"),
        (&["--cert", "x", "--key", "y"], "--moqt [<ADDR:PORT>]|--moqt-only"),
        (&["--cert-dir", "x"], "--moqt [<ADDR:PORT>]|--moqt-only"),
        (&["--moqt-path", "/x"], "--moqt [<ADDR:PORT>]|--moqt-only"),
        (&["--moqt-only", "--port", "5000"], "cannot be used with"),
        (&["--moqt-only", "--max-buffer", "1MiB"], "cannot be used with"),
        (&["--moqt-only", "--spin", "0"], "cannot be used with"),
        (&["--moqt-only", "--max-rate-per-source", "5"], "cannot be used with"),
        (&["--moqt-only", "--max-bitrate-per-source", "5mbit"], "cannot be used with"),
        (&["--moqt-only", "--limit-loopback"], "cannot be used with"),
        (&["--moqt-only", "--room-name", "x"], "cannot be used with"),
        (&["--moqt-only", "--delay", "5"], "for MOQT, use --moqt-delay) applies to the UDP echo"),
        (&["--moqt-only", "--loss", "1%"], udp_only),
        (&["--moqt-only", "--with-signaling"], udp_only),
    ] {
        let said = wrong_usage(options);
        assert!(said.contains(says), "{options:?}: {said}");
    }
}

#[test]
fn a_prefix_that_leaves_no_room_for_a_track_is_wrong_usage() {
    let parts = vec!["a"; 64].join(",");
    let said = wrong_usage(&["--moqt", "--moqt-prefix", &parts]);
    assert!(said.contains("at most 64 parts and 4096 bytes"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line_for_each_family() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(taken) = UdpSocket::bind((host, 0)) else {
            assert_eq!(host, "::1", "no loopback");
            continue;
        };
        let address = taken.local_addr().unwrap();
        let place = format!("localhost:{}", address.port());
        let line = refused(&["--port", "0", "--socket-buffer", "204800", "--moqt", &place], 3);
        let says =
            "for MOQT: the UDP port is in use by another program; choose another with --moqt, or 0 for any free port";
        assert_eq!(line, format!("jamjam-dev: cannot listen on {address} {says}"));
    }
}

#[test]
fn one_port_for_both_echoes_is_wrong_usage() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let place = format!("127.0.0.1:{port}");
    let line = refused(&["--host", "127.0.0.1", "--port", &port, "--socket-buffer", "204800", "--moqt", &place], 2);
    assert_eq!(line, format!("jamjam-dev: --port and --moqt both use UDP port {port}; give one of them another port"));
}

#[test]
fn a_host_or_an_address_that_is_not_here_is_said_in_one_line() {
    let line = refused(&["--moqt-only", "--moqt", "studio.invalid"], 3);
    assert!(line.starts_with("jamjam-dev: --moqt studio.invalid:4443: cannot find an address for host"), "{line}");
    let line = refused(&["--moqt-only", "--moqt", "203.0.113.7:0"], 3);
    assert!(
        line.starts_with("jamjam-dev: cannot listen on 203.0.113.7:0 for MOQT: not an address of this machine"),
        "{line}"
    );
}

#[test]
fn what_is_wrong_with_the_certificate_is_said_before_anybody_listens() {
    let authority = Authority::new();
    let pair = authority.certify();
    let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
    let expired = authority.certify_for("expired", (2000, 1, 1), (2020, 2, 3));
    let gone = authority.file("gone");
    for (cert, key, says) in [
        (&gone, &pair.key, "cannot read "),
        (&pair.cert, &gone, "cannot read "),
        (&pair.cert, &pair.cert, "contains no private key: "),
        (&pair.cert, &other.key, "does not belong to the first certificate in "),
        (&expired.cert, &expired.key, "expired at 2020-02-03T00:00:00Z: renew it"),
    ] {
        let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        let line = refused(&[&["--moqt-only", "--moqt", "127.0.0.1:0"], &files[..]].concat(), 3);
        assert!(line.contains(says), "{says}: {line}");
    }
}

#[test]
fn a_folder_that_cannot_hold_the_certificate_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let start = |folder: &str| refused(&["--moqt-only", "--moqt", "127.0.0.1:0", "--cert-dir", folder], 3);
    fs::write(at("file"), "").unwrap();
    let line = start(&at("file"));
    assert!(
        line.starts_with(&format!("jamjam-dev: --cert-dir: cannot create the directory {}: ", at("file"))),
        "{line}"
    );
    fs::write(at("moqt-key.pem"), "a diary").unwrap();
    fs::set_permissions(at("moqt-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let line = start(folder.path().to_str().unwrap());
    assert!(line.contains("moqt-key.pem (its mode is 644)") && line.contains("chmod 600"), "{line}");
    fs::set_permissions(at("moqt-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let line = start(folder.path().to_str().unwrap());
    assert!(
        line.contains("moqt-key.pem contains no valid ECDSA P-256 key") && line.contains("remove the file"),
        "{line}"
    );
    assert_eq!(fs::read_to_string(at("moqt-key.pem")).unwrap(), "a diary");
}

#[test]
fn what_is_written_is_not_what_is_read() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [cert, key] = [&pair.cert, &pair.key].map(|file| file.to_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("moqt-key.pem");
    let (folder, kept) = (folder.path().to_str().unwrap(), kept.to_str().unwrap());
    for (options, names) in [
        (&["--cert", cert, "--key", key, "--address-file", cert][..], "--address-file and --cert: "),
        (&["--cert", cert, "--key", key, "--address-file", key], "--address-file and --key: "),
        (&["--cert-dir", folder, "--address-file", kept], "--address-file and --cert-dir: "),
        (&["--cert-dir", folder, "--outcome-log", kept, "--port", "0"], "--outcome-log and --cert-dir: "),
    ] {
        let line = refused(&[&["--moqt", "127.0.0.1:0"], options].concat(), 2);
        assert!(line.contains(names) && line.contains("both name"), "{line}");
    }
    assert!(fs::read_to_string(key).unwrap().starts_with("-----BEGIN"));
}
