//! Usage errors of `echo-server --moqt`, and their messages.

use std::fs;
use std::net::UdpSocket;

use super::options::start_error;
use test_support::certificate::Authority;

#[test]
fn port_in_use_is_reported_in_one_line_for_each_family() {
    let reason = "the port is in use by another program. Choose another port, or 0 for any free port";
    for host in ["127.0.0.1", "::1"] {
        // A parallel test may use the same port number over the other IP version.
        let is_reported = (0..10).any(|_| {
            let Ok(taken) = UdpSocket::bind((host, 0)) else {
                assert_eq!(host, "::1", "no loopback");
                return true;
            };
            let address = taken.local_addr().unwrap();
            let moqt_address = format!("localhost:{}", address.port());
            let line = start_error(&["--port", "0", "--socket-buffer", "204800", "--moqt", &moqt_address], 3);
            assert!(line.ends_with(reason), "{line}");
            line == format!("jamjam-dev: --moqt: cannot listen on {address}: {reason}")
        });
        assert!(is_reported, "{host}");
    }
}

#[test]
fn one_port_for_udp_and_moqt_is_a_usage_error() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let moqt_address = format!("127.0.0.1:{port}");
    let line =
        start_error(&["--host", "127.0.0.1", "--port", &port, "--socket-buffer", "204800", "--moqt", &moqt_address], 2);
    assert_eq!(
        line,
        format!("jamjam-dev: --port and --moqt both use UDP port {port}; choose a different port for one of them")
    );
}

#[test]
fn output_file_must_differ_from_input_files() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [cert, key] = [&pair.cert, &pair.key].map(|file| file.to_str().unwrap());
    for (options, names) in [
        (&["--cert", cert, "--key", key, "--address-file", cert][..], [" --address-file ", " --cert "]),
        (&["--cert", cert, "--key", key, "--address-file", key], [" --address-file ", " --key "]),
        (&["--cert", cert, "--key", key, "--outcome-log", key, "--port", "0"], [" --outcome-log ", " --key "]),
    ] {
        let line = start_error(&[&["--moqt", "127.0.0.1:0"], options].concat(), 2);
        assert!(line.contains("are the same file") && names.iter().all(|name| line.contains(name)), "{line}");
    }
    assert!(fs::read_to_string(key).unwrap().starts_with("-----BEGIN"));
}
