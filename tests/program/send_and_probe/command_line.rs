//! The command line of `send` and `probe`: positional arguments, short options and options of the local socket.

use std::net::UdpSocket;

use test_support::client::{Server, counts, run};

use crate::send_and_probe::report;

#[test]
fn positional_argument_equals_the_option_in_every_notation() {
    let server = Server::correct();
    let port = server.address.port();
    for target in [
        server.to(),
        format!("--to {}", server.to()),
        format!("udp://127.0.0.1:{port}/"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("localhost:{port}"),
        // Digits and full stops of East Asian keyboards (UTS 46, section 4).
        format!("\u{ff11}\u{ff12}\u{ff17}\u{3002}0\u{3002}0\u{3002}1:{port}"),
    ] {
        let report = report(0, &format!("probe {target} -c 3 -i 1ms"));
        assert_eq!(counts(&report, "ping", ["sent", "lost"]), [3, 0], "{target}");
    }

    let file = "fixtures/audio/speech-16bit-mono-48k.wav";
    for source in [file.to_owned(), format!("--wav {file}")] {
        let report = report(0, &format!("send {source} -c 20 --delay 0 --to {}", server.to()));
        assert_eq!(counts(&report, "audio", ["sent", "lost"]), [20, 0], "{source}");
    }
}

#[test]
fn count_and_duration_limit_the_packets_of_a_probe() {
    let server = Server::correct();
    let sent =
        |options: &str| report(0, &format!("probe {} {options}", server.to()))["streams"]["ping"]["sent"].clone();
    assert_eq!(sent("--duration 100ms -i 5ms"), 20);
    assert_eq!(sent("--duration 1s -i 5ms -c 4"), 4, "the first limit applies");
    // The default count gives a p99 even with 20 % loss.
    assert_eq!(sent("-i 1ms"), 150);
}

#[test]
fn bound_address_is_the_source_and_selects_the_ip_version() {
    let free = UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    for (bind, host, source) in [
        (&*free.to_string(), "127.0.0.1", &*free.to_string()),
        ("127.0.0.3", "127.0.0.1", "127.0.0.3:"),
        ("0.0.0.0", "localhost", "127.0.0.1:"),
        ("127.0.0.1", "localhost", "127.0.0.1:"),
        ("::", "[::1]", "[::1]:"),
        ("::1", "[::1]", "[::1]:"),
    ] {
        let socket = UdpSocket::bind(if host == "[::1]" { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        let port = socket.local_addr().unwrap().port();
        let output = run(&format!("probe {host}:{port} --bind {bind} -c 1 --timeout 10ms"));
        assert_eq!(output.code, 1, "{output:?}");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let from = socket.recv_from(&mut [0; 100]).unwrap().1.to_string();
        assert!(from.starts_with(source), "{bind}: {from}");
    }
}

#[test]
fn version_names_commit_date_target_and_features() {
    let long = run("--version");
    let lines: Vec<&str> = long.stdout.lines().collect();
    assert!(long.code == 0 && lines.len() == 5, "{long:?}");
    for (line, name) in lines.iter().zip(["jamjam-dev ", "commit: ", "date: ", "target: ", "features: "]) {
        assert!(line.strip_prefix(name).is_some_and(|value| !value.is_empty()), "{long:?}");
    }
    assert_eq!(run("-V").stdout.trim_end(), lines[0]);
}

/// The limits for `--help` include the exit codes.
#[test]
fn short_help_has_at_most_40_lines_and_long_help_few_more_than_options() {
    for (command, limit) in [
        ("echo-server", 100),
        ("signaling-server", 130),
        ("relay", 90),
        ("send", 105),
        ("probe", 105),
        ("compare", 90),
        ("load-echo", 90),
        ("load-rooms", 90),
        ("musicians", 90),
        ("publish", 90),
        ("replay", 90),
        ("rooms", 90),
        ("devices", 90),
        ("doctor", 90),
        ("token", 90),
        ("generate", 90),
    ] {
        for (option, limit) in [("-h", 40), ("--help", limit)] {
            let help = run(&format!("{command} {option}"));
            assert!(help.code == 0 && help.stdout.contains(&format!("\nUsage: jamjam-dev {command} ")), "{help:?}");
            assert!(help.stdout.lines().count() <= limit, "{command} {option}: {}", help.stdout);
            assert!(help.stdout.contains(&format!("Examples: jamjam-dev {command}")), "{}", help.stdout);
        }
    }
    let groups = run("-h").stdout;
    assert!(["Servers:\n", "Measurements:\n", "Tools:\n"].iter().all(|group| groups.contains(group)), "{groups}");
}
