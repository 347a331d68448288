//! The log of the echo server, character by character.

use std::io::Write as _;
use std::process::Command;
use std::time::SystemTime;

use test_support::server::client::Client;
use test_support::server::line::{Line, Stats};
use test_support::server::packet::{audio, packet};
use test_support::server::process::{self, Server};
use test_support::server::{TEST_TIMEOUT, poll_until};

const QUIET: &[&str] = &["--host", "127.0.0.1", "-d", "0"];

fn verbose() -> Server {
    Server::start(&["--host", "127.0.0.1", "-d", "0", "-v"])
}

#[test]
fn log_lines_are_exactly_the_documented_ones() {
    let mut server = verbose();
    let client = Client::connect(server.address);
    let (client_address, server_address) = (client.address(), server.address);
    assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
    assert_eq!(client.exchange(&audio(4_294_967_295, 64)), audio(4_294_967_295, 64));
    // The servers in these tests run with TZ=Asia/Tokyo, nine hours ahead of UTC.
    let logged_at: jiff::Timestamp = server.line().time.parse().unwrap();
    let age = SystemTime::now().duration_since(logged_at.into()).expect("a time that has passed");
    assert!(age < TEST_TIMEOUT, "{logged_at} was {age:?} ago");
    let lines: Vec<Line> = (0..6).map(|_| server.line()).collect();
    let messages: Vec<String> = lines.iter().map(|line| format!("{} {}", line.level, line.message)).collect();
    let expected = [
        format!(
            "INFO echo: run this to test the server addresses={server_address} command=\"jamjam-dev probe --to {server_address}\""
        ),
        format!("INFO echo: source first seen source={client_address} type=AUDIO"),
        format!("DEBUG Received audio packet seq=1 from {client_address}"),
        format!("DEBUG Echoed packet seq=1 to {client_address}"),
        format!("DEBUG Received audio packet seq=4294967295 from {client_address}"),
        format!("DEBUG Echoed packet seq=4294967295 to {client_address}"),
    ];
    assert_eq!(messages, expected);
    assert!(server.lines[0].ends_with(&format!(" INFO Echo server listening on {server_address}")));
    let stopped = server.stop("TERM");
    let last = Line::parse(stopped.lines.last().unwrap());
    assert_eq!(last.level, "INFO");
    assert!(last.message.starts_with("Stats: received=2, sent=2, buffered=0, "), "{}", last.message);
}

#[test]
fn dropped_datagram_is_logged_with_its_fault_and_first_bytes() {
    let mut server = verbose();
    let client = Client::connect(server.address);
    let client_address = client.address();
    let stun =
        |kind, len| [&[0, kind, 0, len, 0x21, 0x12, 0xa4, 0x42][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]].concat();
    for (datagram, reason) in [
        (vec![1, 1, 0, 0], "4 bytes, shorter than the 12-byte header"),
        (vec![2, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 8, 7, 6, 5, 4], "version 2, expected 1"),
        (packet(0x2a, 1, &[]), "unknown type 0x2a"),
        (packet(0x05, 1, &[0; 11]), "LATENCY_PING payload of 11 bytes, expected at least 12"),
        (stun(1, 4), "STUN length field is 4, but 0 bytes follow the header"),
        (stun(3, 0), "unsupported STUN type 0x0003; only Binding requests are supported"),
        (stun(1, 0)[..12].to_vec(), "STUN message of 12 bytes is shorter than the 20-byte header"),
    ] {
        client.send(&datagram);
        let line = server.line_starting_with("echo: datagram dropped ");
        let first_bytes: Vec<String> = datagram.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let (len, first_bytes) = (datagram.len(), first_bytes.join(" "));
        let fields = format!("source={client_address} len={len} reason=\"{reason}\" first_bytes=\"{first_bytes}\"");
        assert_eq!(line.level_and_message(), ("DEBUG", &*format!("echo: datagram dropped {fields}")));
    }
    client.exchange(&stun(1, 0));
    let sent = format!("echo: STUN response sent destination={client_address} class=success");
    assert_eq!(server.line_starting_with("echo: STUN ").message, sent);
    let stats = server.stop("TERM").stats();
    assert_eq!((stats.count("stun_requests"), stats.count("dropped_stun")), (1, 3), "{stats}");
}

/// The distinct log levels of a server with these options and this `RUST_LOG` that has answered one packet.
fn levels(options: &[&str], rust_log: Option<&str>) -> Vec<String> {
    let server = Server::start_with(&[QUIET, options].concat(), |command| {
        if let Some(level) = rust_log {
            command.env("RUST_LOG", level);
        }
    });
    let client = Client::connect(server.address);
    assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
    let mut levels: Vec<String> = server.stop("TERM").lines.iter().map(|line| Line::parse(line).level).collect();
    levels.sort();
    levels.dedup();
    levels
}

#[test]
fn level_defaults_to_info_and_verbose_overrides_rust_log() {
    for (options, rust_log, expected) in [
        (&[][..], None, &["INFO"][..]),
        (&[], Some(""), &["INFO"]),
        (&[], Some("info"), &["INFO"]),
        (&[], Some("debug"), &["DEBUG", "INFO"]),
        (&[], Some("warn,jamjam_dev=debug"), &["DEBUG", "INFO"]),
        (&[], Some("error"), &[]),
        (&["-v"], None, &["DEBUG", "INFO"]),
        (&["--verbose"], Some("error"), &["DEBUG", "INFO"]),
    ] {
        assert_eq!(levels(options, rust_log), expected, "{options:?} {rust_log:?}");
    }
}

#[test]
fn disabled_log_has_one_start_line() {
    for filter in ["off", "quinn=info"] {
        let server = Server::start_with(QUIET, |command| _ = command.env("RUST_LOG", filter));
        let line = format!(
            "jamjam-dev: the server starts, but RUST_LOG={filter} disables its log; for its addresses, use info"
        );
        assert_eq!(server.stop("TERM").lines, [line]);
    }
}

#[test]
fn statistics_are_logged_at_the_configured_interval() {
    let mut server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--stats-interval", "200ms"]);
    let mut client = Client::connect(server.address);
    client.send(&audio(1, 64));
    client.send(&packet(0x02, 1, &[]));
    client.send(&packet(0x03, 1, &[]));
    client.sync();
    server.line_starting_with("Stats: received=1, sent=0, buffered=1, ");
    let stats = Stats::parse(&server.line());
    assert_eq!((stats.count("ignored"), stats.count("dropped_key_exchange")), (1, 1), "{stats}");
    // The server counts 100 bytes of overhead for the datagram.
    assert_eq!(stats.count("buffered_bytes"), 12 + 64 + 100, "{stats}");
    assert_eq!(stats.count("keepalives"), stats.count("immediate_replies"), "{stats}");
    let (first, second) = (server.line(), server.line());
    let [first, second] = [first, second].map(|line| line.time.parse::<jiff::Timestamp>().unwrap());
    // Timestamps are truncated to milliseconds.
    assert!(first.duration_until(second) >= jiff::SignedDuration::from_millis(199), "{first} {second}");
}

#[test]
fn statistics_can_be_disabled_except_for_the_last() {
    let server = Server::start(&["--host", "127.0.0.1", "-d", "600ms", "--stats-interval", "off"]);
    let client = Client::connect(server.address);
    // This test detects only intervals below 600 ms. The test cannot distinguish `off` from the default of 60 s.
    assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
    let lines = server.stop("TERM").lines;
    // The first two lines report the addresses. The third line reports a new source. The fourth line contains the final statistics.
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn log_to_a_pipe_contains_no_color() {
    for color in ["auto", "always", "never"] {
        let lines = Server::start(&["-v", "--host", "127.0.0.1", "--color", color]).stop("TERM").lines;
        assert!(lines.len() >= 3 && lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
    }
}

/// The output of a server to a terminal.
#[cfg(target_os = "linux")]
fn log_on_a_terminal(prepare: impl FnOnce(&mut Command)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (id, address) = (folder.path().join("id"), folder.path().join("address"));
    let server = process::program(&["echo-server", "--host", "127.0.0.1", "--port", "0", "--address-file"]);
    let mut words: Vec<&str> = vec![server.get_program().to_str().unwrap()];
    words.extend(server.get_args().map(|word| word.to_str().unwrap()));
    let line = format!("echo $$ > {}; exec {} {}", id.display(), words.join(" "), address.display());
    let mut terminal = Command::new("script");
    terminal.args(["-qefc", &line, "/dev/null"]).env_remove("NO_COLOR").env_remove("RUST_LOG");
    prepare(&mut terminal);
    let terminal = terminal.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn();
    let terminal = terminal.expect("script, which every Linux system has (bsdutils, util-linux)");
    poll_until("an address file", || std::fs::read_to_string(&address).ok()?.ends_with('\n').then_some(()));
    let id = std::fs::read_to_string(&id).unwrap();
    assert!(Command::new("sh").args(["-c", "kill -s TERM $0", id.trim()]).status().unwrap().success());
    String::from_utf8(terminal.wait_with_output().unwrap().stdout).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn log_to_a_terminal_has_colors_unless_no_color_is_set() {
    let result = Command::new("script").args(["-qefc", "true", "/dev/null"]).output();
    if !result.is_ok_and(|output| output.status.success()) {
        // The test runner does not capture `writeln!` to stderr, so this line is visible. A bare chroot has no /dev/pts.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no terminal can be created here (script, /dev/pts)");
        return;
    }
    let colored = log_on_a_terminal(|_| {});
    assert!(colored.contains("Z \x1b[32mINFO\x1b[0m Echo server listening on "), "{colored:?}");
    let plain = log_on_a_terminal(|command| _ = command.env("NO_COLOR", "1"));
    assert!(plain.contains("Z INFO Echo server listening on ") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn first_probe_from_the_own_machine_is_logged_with_its_kind() {
    let mut server = Server::start(QUIET);
    let ping = |number| packet(0x05, number, &[0; 12]);
    let first = Client::connect(server.address);
    first.exchange(&ping(1));
    let line = server.line_starting_with("echo: source first seen ");
    assert_eq!(line.level_and_message().0, "INFO");
    assert_eq!(line.message, format!("echo: source first seen source={} type=LATENCY_PING", first.address()));
    // Later health checks, which send three pings from a new port, are not logged.
    for _ in 0..3 {
        let health_check = Client::connect(server.address);
        (1..=3).for_each(|number| drop(health_check.exchange(&ping(number))));
    }
    let (probe, stun) = (Client::connect(server.address), Client::connect(server.address));
    (1..=9).for_each(|number| drop(probe.exchange(&ping(number))));
    stun.send(&[1, 1]);
    for (client, kind) in [(&probe, "LATENCY_PING"), (&stun, "malformed")] {
        let line = server.line_starting_with("echo: source first seen ");
        assert_eq!(line.message, format!("echo: source first seen source={} type={kind}", client.address()));
    }
}

#[test]
fn closed_log_does_not_end_the_server() {
    let mut server = Server::start(&["-v", "--host", "127.0.0.1", "-d", "0", "--stats-interval", "20ms"]);
    let client = Client::connect(server.address);
    server.close_log();
    for sequence in 0..200 {
        assert_eq!(client.exchange(&audio(sequence, 64)), audio(sequence, 64));
    }
    assert!(server.is_running());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn inactive_source_is_logged_with_its_packet_counts() {
    let mut server = Server::start(QUIET);
    let client = Client::connect(server.address);
    let client_address = client.address();
    // Packets 4, 7 and 8 never arrive, 5 arrives late, and 6 arrives twice.
    for sequence in [1, 2, 3, 6, 6, 5, 9] {
        client.send(&audio(sequence, 16));
    }
    let garbage = Client::connect(server.address);
    let garbage_address = garbage.address();
    garbage.send(b"GET / HTTP/1.1\r\n");
    garbage.send(&packet(0x2a, 1, &[]));
    garbage.send(&[1, 1]);
    garbage.send(&[0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    (0..2).for_each(|_| garbage.send(&packet(0x05, 1, &[])));
    let beginnings =
        [client_address, garbage_address].map(|address| format!("echo: source inactive source={address} active_s="));
    let lines: Vec<Line> = std::iter::repeat_with(|| server.line())
        .filter(|line| beginnings.iter().any(|beginning| line.message.starts_with(beginning)))
        .take(2)
        .collect();
    // Two sources that become inactive together are logged in any order.
    let counts = |beginning: &str| {
        lines.iter().find_map(|line| line.message.strip_prefix(beginning)?.split_once(' ')).expect("a line").1
    };
    assert_eq!(counts(&beginnings[0]), "packets=7 audio_gaps=3 audio_duplicates=1 malformed=0");
    let malformed =
        "malformed=6 malformed_short=1 malformed_version=1 malformed_type=1 malformed_payload=2 malformed_stun=1";
    assert_eq!(counts(&beginnings[1]), format!("packets=2 audio_gaps=0 audio_duplicates=0 {malformed}"));
}
