//! The log of the echo server, character by character.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use test_support::server::{Client, Line, Server, Stats, audio, packet};
use test_support::snapshot;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::signaling_server::http::login::run_on_terminal;

const QUIET: &[&str] = &["--host", "127.0.0.1", "-d", "0"];

/// The lines of a verbose server, with names instead of ports. Sources that become inactive together are logged in any order, so these
/// lines are sorted.
#[test]
fn packets_faults_and_sources_are_logged_as_documented() {
    let mut server = Server::start(&["--host", "127.0.0.1", "-d", "0", "-v"]);
    let names = ["GAPS", "FAULTS", "CHECK", "SECOND-CHECK", "PROBE", "SHORT"];
    let clients = names.map(|_| Client::connect(server.address));
    let [gaps, faults, check, second_check, probe, short] = &clients;
    // Packets 4, 7 and 8 never arrive, 5 arrives late, and 6 arrives twice.
    for sequence in [1, 2, 3, 6, 6, 5, 9] {
        assert_eq!(gaps.exchange(&audio(sequence, 16)), audio(sequence, 16));
    }
    let stun =
        |kind, len| [&[0, kind, 0, len, 0x21, 0x12, 0xa4, 0x42][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]].concat();
    for datagram in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        packet(0x2a, 1, &[]),
        packet(0x05, 1, &[0; 11]),
        stun(1, 4),
        stun(3, 0),
        stun(1, 0)[..12].to_vec(),
    ] {
        faults.send(&datagram);
        server.line_starting_with("echo: datagram dropped ");
    }
    faults.exchange(&stun(1, 0));
    // The first health check from the own machine is logged, later ones are not. A probe sends more pings than a health check.
    for (client, pings) in [(check, 3), (second_check, 3), (probe, 9)] {
        (1..=pings).for_each(|number| drop(client.exchange(&packet(0x05, number, &[0; 12]))));
    }
    short.send(&[1, 1]);
    (0..5).for_each(|_| drop(server.line_starting_with("echo: source inactive source=")));
    let server_address = server.address.to_string();
    let stats = server.stop("TERM");
    let mut lines: Vec<String> = Vec::new();
    for line in stats.lines.iter().map(|line| Line::parse(line)) {
        let mut message = line.message.replace(&server_address, "SERVER");
        for (name, client) in names.iter().zip(&clients) {
            message = message.replace(&client.address().to_string(), name);
        }
        let is_measured = |word: &str| ["active_s", "audio_per_s"].into_iter().find(|name| word.starts_with(*name));
        let words =
            message.split(' ').map(|word| is_measured(word).map_or(word.to_owned(), |name| format!("{name}=…")));
        lines.push(format!("{} {}\n", line.level, words.collect::<Vec<_>>().join(" ")));
    }
    lines.retain(|line| !line.contains(" clock: ") && !line.contains(" Stats: "));
    let first_inactive = lines.iter().position(|line| line.contains("source inactive")).unwrap();
    lines[first_inactive..].sort();
    snapshot::assert_matches("servers/echo_log", &lines.concat());
    let counted = stats.stats();
    assert!(counted.to_string().starts_with("received=7, sent=7, buffered=0, "), "{counted}");
    let counts =
        ["short", "version", "type", "payload", "stun"].map(|fault| counted.count(&format!("dropped_{fault}")));
    assert_eq!((counts, counted.count("pings"), counted.count("stun_requests")), ([1, 1, 1, 1, 3], 15, 1), "{counted}");
    // The servers in these tests run with TZ=Asia/Tokyo, nine hours ahead of UTC.
    let logged_at = OffsetDateTime::parse(&Line::parse(&stats.lines[0]).time, &Rfc3339).unwrap();
    let age = SystemTime::now().duration_since(logged_at.into()).expect("a time that has passed");
    assert!(age < Duration::from_secs(3_600), "{logged_at} was {age:?} ago");
}

#[test]
fn level_defaults_to_info_and_verbose_overrides_rust_log() {
    for (options, rust_log, expected) in [
        (&[][..], "", &["INFO"][..]),
        (&[], "info", &["INFO"]),
        (&[], "debug", &["DEBUG", "INFO"]),
        (&[], "warn,echo=debug", &["DEBUG", "INFO"]),
        (&[], "error", &[]),
        (&["-v", "--color", "always"], "", &["DEBUG", "INFO"]),
        (&["--verbose"], "error", &["DEBUG", "INFO"]),
    ] {
        let server = Server::start_with(&[QUIET, options].concat(), |command| _ = command.env("RUST_LOG", rust_log));
        let client = Client::connect(server.address);
        assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
        let lines = server.stop("TERM").lines;
        // Not even with `--color always`, the log in a pipe has colors.
        assert!(lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
        let levels: BTreeSet<String> = lines.iter().map(|line| Line::parse(line).level).collect();
        assert!(levels.iter().eq(expected), "{options:?} {rust_log:?}: {levels:?}");
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
    let [first, second] = [first, second].map(|line| OffsetDateTime::parse(&line.time, &Rfc3339).unwrap());
    // Timestamps are truncated to milliseconds.
    assert!(second - first >= Duration::from_millis(199), "{first} {second}");
}

#[test]
fn log_to_a_terminal_has_colors_unless_no_color_is_set() {
    for (variables, is_colored) in [("", true), ("NO_COLOR=1", false)] {
        let (_running, _, mut lines) = run_on_terminal("127.0.0.1", "", variables);
        let line = lines.find(|line| line.contains("signaling: server listening on ")).unwrap();
        let level = if is_colored { "Z \x1b[32mINFO\x1b[0m signaling: " } else { "Z INFO signaling: " };
        assert!(line.contains(level) && line.contains('\x1b') == is_colored, "{line:?}");
    }
}
