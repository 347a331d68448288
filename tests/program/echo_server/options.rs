//! Options, environment variables and defaults, and the messages of both servers if they cannot start.

use std::fs;
use std::net::UdpSocket;

use test_support::certificate::Authority;
use test_support::client::{ProgramOutput, free_port};
use test_support::server::{Server, as_unprivileged_user, run};

/// The only line of stderr.
fn one_line(output: &ProgramOutput, code: i32) -> String {
    assert_eq!((output.code, output.stderr.lines().count()), (code, 1), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.ends_with('\n'));
    output.stderr.trim_end().to_owned()
}

pub(crate) fn start_error(options: &[&str], code: i32) -> String {
    one_line(&run(&[&["echo-server"], options].concat(), |_| {}), code)
}

/// The name of the room contains the delay. An empty variable counts as unset.
#[test]
fn delay_is_taken_from_the_option_else_from_the_variable() {
    for (options, variable, delay) in [
        (&[][..], "0", "0ms"),
        (&[], "3600000", "3600000ms"),
        (&[], "", "3000ms"),
        (&["--delay", "0"], "3600000", "0ms"),
        (&["-d", "1h"], "0", "3600000ms"),
    ] {
        let fixed = ["--host", "127.0.0.1", "--with-signaling=0"];
        let mut server = Server::start_with(&[&fixed, options].concat(), |command| {
            command.env("ECHO_DELAY_MS", variable).env("SIGNALING_URL", "");
        });
        let line = server.line_starting_with("registration: room created ").message;
        assert!(line.contains(&format!("({delay} delay)")), "{options:?} {variable}: {line}");
    }
}

#[test]
fn help_hides_secrets_in_the_signaling_url() {
    for subcommand in ["echo-server", "send", "probe"] {
        let url = "wss://h/?token=hunter2";
        let help = run(&[subcommand, "--help"], |command| _ = command.env("SIGNALING_URL", url));
        assert!(!help.stdout.contains("hunter2"), "{subcommand}");
    }
}

/// A name that ends with `.invalid` never exists (RFC 6761).
#[test]
fn port_in_use_or_unknown_host_is_reported_in_one_line() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let line = start_error(&["--host", "127.0.0.1", "--port", &address.port().to_string()], 3);
    let reason = "the port is in use by another program. Choose another port, or 0 for any free port";
    assert_eq!(line, format!("jamjam-dev: cannot listen on {address}: {reason}"));
    let line = start_error(&["--host", "studio.invalid", "--port", "0"], 3);
    assert!(line.starts_with("jamjam-dev: --host: cannot find an address for host `studio.invalid`: "), "{line}");
}

#[test]
fn privileged_port_without_permission_is_reported_in_one_line() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() < 7 {
        // This system allows all users to bind to port 7.
        return;
    }
    let output = run(&["echo-server", "--host", "127.0.0.1", "--port", "7"], as_unprivileged_user);
    assert_eq!(
        one_line(&output, 3),
        "jamjam-dev: cannot listen on 127.0.0.1:7: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    );
}

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
    let port = free_port().to_string();
    let moqt_address = format!("127.0.0.1:{port}");
    let line =
        start_error(&["--host", "127.0.0.1", "--port", &port, "--socket-buffer", "204800", "--moqt", &moqt_address], 2);
    assert_eq!(line, format!("jamjam-dev: --port and --moqt both use UDP port {port}; give two ports"));
}

#[test]
fn output_file_must_differ_from_input_files() {
    let authority = Authority::new();
    let pair = authority.certify();
    let [cert, key] = [&pair.cert, &pair.key].map(|file| file.to_str().unwrap());
    for (options, output) in [
        (&["--cert", cert, "--key", key, "--ready-file", cert][..], "--ready-file"),
        (&["--cert", cert, "--key", key, "--ready-file", key], "--ready-file"),
        (&["--cert", cert, "--key", key, "--outcome-log", key, "--port", "0"], "--outcome-log"),
    ] {
        let line = start_error(&[&["--moqt", "127.0.0.1:0"], options].concat(), 2);
        assert!(line.contains("another option has the same file") && line.contains(output), "{line}");
    }
    assert!(fs::read_to_string(key).unwrap().starts_with("-----BEGIN"));
}
