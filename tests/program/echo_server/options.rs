//! The echo server's options, environment variables and defaults, and its messages if it cannot start.

use std::net::UdpSocket;
use std::process::Output;
use test_support::server;

use server::client::Client;
use server::packet::audio;
use server::process::{self, Server, run};

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
    one_line(&process::run(&[&["echo-server"], options].concat(), |_| {}), code)
}

#[test]
fn help_lists_every_option_with_its_default_and_variable() {
    let output = process::run(&["echo-server", "--help"], |_| {});
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let help = String::from_utf8(output.stdout).unwrap();
    // Each option, in the notation of the help, with texts that its description must contain.
    let options: &[(&str, &[&str])] = &[
        ("-p, --port <PORT>", &["[default: 5000]"]),
        ("    --host <HOST>", &["[default: 0.0.0.0]"]),
        ("-d, --delay <MS>", &["[env: ECHO_DELAY_MS=]", "[default: 3000]"]),
        ("    --address-file <FILE>", &[]),
        ("    --metrics <[ADDR:]PORT>", &[]),
        ("    --memory-budget <SIZE>", &["[default: 320MiB]", "[env: MEMORY_BUDGET=]"]),
        ("    --max-buffer <SIZE>", &["[default: 160MiB]"]),
        ("    --socket-buffer <SIZE>", &["[default: 8MiB]"]),
        ("    --spin <PERCENT>", &["[default: 25]"]),
        ("    --link <MODE>", &["[default: auto]", "require"]),
        ("    --max-bitrate-per-source <BITRATE>", &["[default: 64mbit]"]),
        ("    --allow <CIDR>", &[]),
        ("    --limit-loopback", &[]),
        ("    --loss <PERCENT[,PERCENT]>", &["such as 1%", "such as 1%,30%"]),
        ("    --drop-packets <LIST>", &["such as 10,20-25"]),
        ("    --jitter <DURATION>", &["keeping their order"]),
        ("    --reorder <PERCENT[,DURATION]>", &["Hold back replies"]),
        ("    --duplicate <PERCENT>", &[]),
        ("    --bandwidth <BITRATE[,DURATION]>", &["such as 2Mbit"]),
        ("    --seed <N>", &["[default: random, printed]"]),
        ("    --outcome-log <FILE>", &["CSV"]),
        ("    --outcome-log-max <SIZE>", &["[default: 1GiB]"]),
        ("-v, --verbose", &["level debug"]),
        ("    --stats-interval <DURATION>", &["[default: 60s]"]),
        ("    --signaling-url <URL>", &["[env: SIGNALING_URL]"]),
        ("    --with-signaling [<PORT>]", &["signaling server"]),
        ("    --room-name <NAME>", &["[default: \"Echo Server\"]"]),
        ("    --public-addr <ADDR>", &[]),
        ("    --stun <HOST[:PORT]>", &["STUN server"]),
        ("    --no-link-key", &["no key"]),
        ("    --ca <FILE>", &["PEM"]),
        ("    --cert-sha256 <HASH>", &["SHA-256"]),
        ("    --insecure", &["testing only"]),
        ("    --moqt [<ADDR:PORT>]", &["raw QUIC"]),
        ("    --moqt-only", &[]),
        ("    --cert <FILE>", &["PEM"]),
        ("    --key <FILE>", &["PEM"]),
        ("-h, --help", &[]),
    ];
    for (option, expected_texts) in options {
        let after = help.split_once(&format!("\n  {option}")).unwrap_or_else(|| panic!("{option}: {help}")).1;
        assert!(after.starts_with([' ', '\n']), "{option}: {help}");
        // The help text of an option ends at the next option or heading. Options and headings are indented by at most six spaces.
        let is_next = |line: &&str| !line.is_empty() && !line.starts_with("          ");
        let (first, rest) = after.split_once('\n').unwrap();
        let about: Vec<&str> = std::iter::once(first).chain(rest.lines().take_while(|line| !is_next(line))).collect();
        let words: Vec<&str> = about.iter().flat_map(|line| line.split_whitespace()).collect();
        for text in *expected_texts {
            assert!(words.join(" ").contains(text), "{option} without {text}: {about:?}");
        }
    }
    assert!(!help.contains("--driver"), "a hidden option is shown");
    assert_eq!(help.matches("\n  -").count() + help.matches("\n      --").count(), options.len() + 1, "{help}");
}

#[test]
fn short_help_is_available() {
    let output = process::run(&["echo-server", "-h"], |_| {});
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("-d, --delay <MS>"), "{help}");
}

#[test]
fn help_of_each_subcommand_has_a_maximum_length() {
    for subcommand in ["echo-server", "signaling-server", "send", "probe"] {
        for (option, maximum) in [("-h", 45), ("--help", 200)] {
            let output = process::run(&[subcommand, option], |command| _ = command.env("COLUMNS", "80"));
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(help.lines().count() <= maximum, "{subcommand}: {} lines\n{help}", help.lines().count());
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }
}

#[test]
fn port_0_takes_a_free_port_and_writes_it_to_the_address_file() {
    let mut server = Server::start(&["--host", "127.0.0.1"]);
    assert_ne!(server.address.port(), 0);
    assert_eq!(server.line().message, format!("Echo server listening on {}", server.address));
}

#[test]
fn configured_port_is_used() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = Server::start_as(&["--host", "127.0.0.1", "-p", &address.port().to_string()], |_| {});
    assert_eq!(server.address, address);
}

/// Whether AUDIO sent to this server is delayed. The delay may be hours, so the function does not wait for the echo. The function stops the
/// server instead. A packet that the server still holds is then dropped and counted in `dropped_at_stop`.
fn delays_audio(server: Server) -> bool {
    let mut client = Client::connect(server::client::at("127.0.0.1", server.address));
    client.send(&audio(1, 100));
    client.sync();
    let stats = server.stop("TERM").stats();
    assert_eq!(stats.count("received"), 1);
    stats.count("dropped_at_stop") == 1
}

fn returns_audio(server: &Server) -> bool {
    let client = Client::connect(server::client::at("127.0.0.1", server.address));
    client.exchange(&audio(1, 100)) == audio(1, 100)
}

#[test]
fn delay_is_taken_from_the_variable() {
    assert!(returns_audio(&Server::start_with(&[], |command| {
        command.env("ECHO_DELAY_MS", "0");
    })));
    assert!(delays_audio(Server::start_with(&[], |command| {
        command.env("ECHO_DELAY_MS", "3600000");
    })));
}

#[test]
fn option_overrides_the_variable() {
    assert!(returns_audio(&Server::start_with(&["--delay", "0"], |command| {
        command.env("ECHO_DELAY_MS", "3600000");
    })));
    assert!(delays_audio(Server::start_with(&["-d", "1h"], |command| {
        command.env("ECHO_DELAY_MS", "0");
    })));
}

#[test]
fn empty_signaling_variable_counts_as_unset() {
    assert!(returns_audio(&Server::start_with(&["-d", "0"], |command| {
        command.env("SIGNALING_URL", "");
    })));
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
        let stderr = usage_error(&process::run(&[&["echo-server"], options].concat(), |_| {}), 2);
        assert!(!stderr.is_empty(), "{options:?} is rejected without a message");
    }
    let by_variable = process::run(&["echo-server", "--port", "0"], |command| {
        command.env("ECHO_DELAY_MS", "soon");
    });
    assert!(usage_error(&by_variable, 2).contains("soon"));
}

#[test]
fn invalid_log_level_is_a_usage_error() {
    for level in ["info,=", "echo=", "=info", "echo=loud", "[span]=info"] {
        let output = process::run(&["echo-server", "--port", "0"], |command| {
            command.env("RUST_LOG", level);
        });
        assert!(
            one_line(&output, 2).starts_with(&format!("jamjam-dev: RUST_LOG: cannot read the log level `{level}`"))
        );
    }
}

#[test]
fn misspelt_log_level_is_a_usage_error() {
    for level in ["warning", "loud,info"] {
        let output = process::run(&["echo-server", "--port", "0"], |command| {
            command.env("RUST_LOG", level);
        });
        assert!(
            one_line(&output, 2).starts_with(&format!("jamjam-dev: RUST_LOG: cannot read the log level `{level}`"))
        );
    }
}

#[test]
fn host_with_a_port_is_rejected_with_the_correct_options() {
    for (host, correction) in [("127.0.0.1:5000", "--host 127.0.0.1 --port 5000"), ("[::1]:7", "--host ::1 --port 7")] {
        assert_eq!(start_error(&["--host", host], 2), format!("jamjam-dev: --host takes no port; give {correction}"));
    }
}

#[test]
fn port_in_use_is_reported_in_one_line() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let line = start_error(&["--host", "127.0.0.1", "--port", &address.port().to_string()], 3);
    assert_eq!(
        line,
        format!(
            "jamjam-dev: cannot listen on {address}: the port is in use by another program. Choose another port, or 0 for any \
             free port"
        )
    );
}

#[test]
fn foreign_address_is_reported_in_one_line() {
    // 203.0.113.0/24 and 2001:db8::/32 are reserved for documentation, so no machine should have such an address.
    for host in ["203.0.113.7", "2001:db8:dead::7"] {
        let line = start_error(&["--host", host, "--port", "0"], 3);
        let address = if host.contains(':') { format!("[{host}]:0") } else { format!("{host}:0") };
        assert!(
            line.starts_with(&format!("jamjam-dev: cannot listen on {address}: this machine has no such address.")),
            "{line}"
        );
    }
}

#[test]
fn unknown_host_is_reported_in_one_line() {
    // A name that ends with `.invalid` never exists (RFC 6761).
    let line = start_error(&["--host", "studio.invalid", "--port", "0"], 3);
    assert!(line.starts_with("jamjam-dev: --host: cannot find an address for host `studio.invalid`: "), "{line}");
}

#[test]
fn unwritable_address_file_is_reported_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("missing/address");
    let file_option = ["--address-file", file.to_str().unwrap()];
    let line = start_error(&[&["--port", "0", "--socket-buffer", "204800"], &file_option[..]].concat(), 3);
    assert!(line.starts_with(&format!("jamjam-dev: cannot write the address to {}: ", file.display())), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn privileged_port_without_permission_is_reported_in_one_line() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() < 7 {
        // This system allows all users to bind to port 7.
        return;
    }
    let output = process::run(&["echo-server", "--host", "127.0.0.1", "--port", "7"], process::as_unprivileged_user);
    assert_eq!(
        one_line(&output, 3),
        "jamjam-dev: cannot listen on 127.0.0.1:7: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    );
}

#[test]
fn empty_delay_variable_counts_as_unset() {
    let mut server = Server::start_with(&["--host", "127.0.0.1"], |command| {
        command.env("ECHO_DELAY_MS", "");
    });
    assert!(server.is_running());
}
