//! Options, environment variables and defaults, and the messages of both servers if they cannot start.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use test_support::client::ProgramOutput;
use test_support::server::{Server, as_unprivileged_user, run};

/// The only line of stderr.
fn one_line(output: &ProgramOutput, code: i32) -> String {
    assert_eq!((output.code, output.stderr.lines().count()), (code, 1), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.ends_with('\n'));
    output.stderr.trim_end().to_owned()
}

fn start_error(options: &[&str], code: i32) -> String {
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

#[test]
fn port_in_use_is_reported_in_one_line_for_each_option_and_family() {
    let reason = "the port is in use by another program. Choose another port, or 0 for any free port";
    let (taken, listener) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [udp, tcp] = [taken.local_addr(), listener.local_addr()].map(|address| address.unwrap().to_string());
    for (options, named) in [
        (["--port", &udp[10..], "--moqt", "0"], format!("cannot listen on {udp}")),
        (["--port", "0", "--moqt", &udp], format!("--moqt: cannot listen on {udp}")),
        (["--port", "0", "--metrics", &tcp], format!("--metrics: cannot listen on {tcp}")),
    ] {
        let line = start_error(&[&["--host", "127.0.0.1", "--socket-buffer", "204800"], &options[..]].concat(), 3);
        assert_eq!(line, format!("jamjam-dev: {named}: {reason}"));
    }
    // A parallel test may use the same port number over the other IP version.
    let is_reported = (0..10).any(|_| {
        let Ok(taken) = UdpSocket::bind(("::1", 0)) else { return true };
        let address = taken.local_addr().unwrap();
        let moqt_address = format!("localhost:{}", address.port());
        let line = start_error(&["--port", "0", "--socket-buffer", "204800", "--moqt", &moqt_address], 3);
        assert!(line.ends_with(reason), "{line}");
        line == format!("jamjam-dev: --moqt: cannot listen on {address}: {reason}")
    });
    assert!(is_reported);
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
