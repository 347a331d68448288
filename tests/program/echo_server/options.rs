//! The echo server's options, environment variables and defaults, and its messages if it cannot start.

use std::net::UdpSocket;
use std::process::Output;

use test_support::server::client::Client;
use test_support::server::packet::audio;
use test_support::server::process::{Server, as_unprivileged_user, run};
use test_support::snapshot;

/// Checks the exit code and that stdout is empty. Returns stderr.
pub(crate) fn usage_error(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

fn one_line(output: &Output, code: i32) -> String {
    let stderr = usage_error(output, code);
    let (line, rest) = stderr.split_once('\n').expect("a complete line");
    assert_eq!(rest, "", "more than one line");
    line.to_owned()
}

pub(crate) fn start_error(options: &[&str], code: i32) -> String {
    one_line(&run(&[&["echo-server"], options].concat(), |_| {}), code)
}

/// The help of both servers, in full and in short, in 80 columns.
#[test]
fn help_of_the_servers_is_the_documented_one() {
    for subcommand in ["echo-server", "signaling-server"] {
        for (option, name) in [("--help", "help"), ("-h", "short_help")] {
            let output = run(&[subcommand, option], |command| _ = command.env("COLUMNS", "80"));
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            let help = String::from_utf8(output.stdout).unwrap();
            snapshot::assert_matches(&format!("servers/{subcommand}_{name}"), &help);
        }
    }
}

#[test]
fn help_of_each_subcommand_has_a_maximum_length() {
    for subcommand in ["echo-server", "signaling-server", "send", "probe"] {
        for (option, maximum) in [("-h", 45), ("--help", 200)] {
            let output = run(&[subcommand, option], |command| _ = command.env("COLUMNS", "80"));
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(help.lines().count() <= maximum, "{subcommand}: {} lines\n{help}", help.lines().count());
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }
}

#[test]
fn configured_port_is_used() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = Server::start_as(&["--host", "127.0.0.1", "-p", &address.port().to_string()], |_| {});
    assert_eq!(server.address, address);
}

/// A packet that the server still holds when it is stopped is counted in `dropped_at_stop`. An empty variable counts as unset.
#[test]
fn delay_is_taken_from_the_option_else_from_the_variable() {
    for (options, delay_ms, is_delayed) in [
        (&[][..], "0", false),
        (&[], "3600000", true),
        (&[], "", true),
        (&["--delay", "0"], "3600000", false),
        (&["-d", "1h"], "0", true),
    ] {
        let server = Server::start_with(&[&["--host", "127.0.0.1"], options].concat(), |command| {
            command.env("ECHO_DELAY_MS", delay_ms).env("SIGNALING_URL", "");
        });
        let mut client = Client::connect(server.address);
        client.send(&audio(1, 100));
        client.sync();
        let stats = server.stop("TERM").stats();
        let counts = ["received", "sent", "dropped_at_stop"].map(|name| stats.count(name));
        assert_eq!(counts, [1, u64::from(!is_delayed), u64::from(is_delayed)], "{options:?} {delay_ms}");
    }
}

#[test]
fn help_hides_secrets_in_the_signaling_url() {
    for subcommand in ["echo-server", "send", "probe"] {
        let help = run(&[subcommand, "--help"], |command| {
            command.env("SIGNALING_URL", "wss://h/?token=hunter2");
        });
        assert!(!String::from_utf8(help.stdout).unwrap().contains("hunter2"), "{subcommand}");
    }
}

#[test]
fn invalid_options_are_usage_errors() {
    for options in [
        &["--nonsense"][..],
        &["--port", "65536"],
        &["--port", "-1"],
        &["--port", "five"],
        &["--delay", "-1"],
        &["--delay", "soon"],
        &["--delay", "5 parsecs"],
        &["--delay", "99999999999999999999"],
        &["--spin", "101"],
        &["--max-buffer", "much"],
        &["--stats-interval", "never"],
        &["--stats-interval", "0"],
        &["5000"],
    ] {
        let stderr = usage_error(&run(&[&["echo-server"], options].concat(), |_| {}), 2);
        assert!(!stderr.is_empty(), "{options:?} is rejected without a message");
    }
    let by_variable = run(&["echo-server", "--port", "0"], |command| _ = command.env("ECHO_DELAY_MS", "soon"));
    assert!(usage_error(&by_variable, 2).contains("soon"));
}

#[test]
fn invalid_or_misspelt_log_level_is_a_usage_error() {
    for level in ["info,=", "echo=", "=info", "echo=loud", "[span]=info", "warning", "loud,info"] {
        let output = run(&["echo-server", "--port", "0"], |command| _ = command.env("RUST_LOG", level));
        let expected = format!("jamjam-dev: RUST_LOG: cannot read the log level `{level}`");
        assert!(one_line(&output, 2).starts_with(&expected), "{level}");
    }
}

/// 203.0.113.0/24 and 2001:db8::/32 are reserved for documentation. A name that ends with `.invalid` never exists (RFC 6761).
#[test]
fn start_errors_are_reported_in_one_line() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("missing/address");
    let file = file.to_str().unwrap();
    let in_use = format!(
        "cannot listen on {address}: the port is in use by another program. Choose another port, or 0 for any free port"
    );
    for (options, code, expected) in [
        (&["--host", "127.0.0.1:5000"][..], 2, "--host takes no port; give --host 127.0.0.1 --port 5000"),
        (&["--host", "[::1]:7"], 2, "--host takes no port; give --host ::1 --port 7"),
        (&["--host", "127.0.0.1", "--port", &port], 3, &in_use),
        (
            &["--host", "203.0.113.7", "--port", "0"],
            3,
            "cannot listen on 203.0.113.7:0: this machine has no such address.",
        ),
        (
            &["--host", "2001:db8:dead::7", "--port", "0"],
            3,
            "cannot listen on [2001:db8:dead::7]:0: this machine has no such address.",
        ),
        (&["--host", "studio.invalid"], 3, "--host: cannot find an address for host `studio.invalid`: "),
        (
            &["--port", "0", "--socket-buffer", "204800", "--address-file", file],
            3,
            &format!("cannot write the address to {file}: "),
        ),
    ] {
        let line = start_error(options, code);
        assert!(line.starts_with(&format!("jamjam-dev: {expected}")), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn privileged_port_without_permission_is_reported_in_one_line() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
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
