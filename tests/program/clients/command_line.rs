//! The command line of `send` and `probe`: positional arguments, short options, units, and options of the local socket.

use std::net::UdpSocket;

use test_support::client::{Server, command as program, counts, document, run, run_args, start, together};

use crate::clients::report;

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

/// A short help fits on a terminal of 80 columns. The limits for `--help` include the exit codes, and are for 100 columns.
#[test]
fn short_help_has_at_most_40_lines_and_long_help_few_more_than_options() {
    let commands = "echo-server signaling-server relay send probe compare load-echo load-rooms musicians publish replay rooms devices doctor \
                    token generate";
    for command in commands.split(' ') {
        let limit = match command {
            "signaling-server" => 130,
            "send" | "probe" => 105,
            "echo-server" => 100,
            _ => 90,
        };
        for (option, limit, columns) in [("-h", 40, "80"), ("--help", limit, "100")] {
            let help = start(program([command, option]).env("COLUMNS", columns)).end();
            assert!(help.code == 0 && help.stdout.contains(&format!("\nUsage: jamjam-dev {command} ")), "{help:?}");
            assert!(help.stdout.lines().count() <= limit, "{command} {option}: {}", help.stdout);
            assert!(help.stdout.contains(&format!("Examples: jamjam-dev {command}")), "{}", help.stdout);
        }
    }
    let groups = run("-h").stdout;
    assert!(["Servers:\n", "Measurements:\n", "Tools:\n"].iter().all(|group| groups.contains(group)), "{groups}");
}

#[test]
fn bare_number_has_the_unit_of_its_option() {
    let line = "probe --embedded --jitter 3 --loss 0.5 --reorder 1,4 --duplicate 2 --seed 1 -i 2 --duration 0.1 --timeout 5 --wait-for 3 \
                --max-p50 20 --max-p99 30 --max-jitter 40 --max-loss 50 --json";
    let output = run_args(line.split_whitespace());
    let report = document::report(&output);
    let target = "embedded echo server (100 ms, --loss 0.5 --jitter 3 --reorder 1,4 --duplicate 2 --seed 1)";
    let judgments = report["judgments"].as_array().unwrap().iter();
    let allowed: Vec<_> = judgments.map(|judgment| &judgment["allowed"]).filter(|allowed| !allowed.is_null()).collect();
    // Limits are in microseconds, and a ratio.
    assert_eq!(
        (report["target"].as_str(), allowed),
        (Some(target), vec![&0.5.into(), &2e4.into(), &3e4.into(), &4e4.into()])
    );
    let times = ["interval_ms", "timeout_ms"].map(|name| report[name].as_f64());
    // 50 packets fit into 0.1 s.
    assert_eq!((times, &report["streams"]["ping"]["sent"]), ([Some(2.0), Some(5e3)], &50.into()));
}

#[test]
fn huge_quantities_cause_no_panic_or_overflow() {
    // Even with the longest times, a run ends when all packets have returned. The system reduces the --socket-buffer to its maximum.
    let long = "18446744073709551615ns";
    let lines = [
        format!("probe --embedded --count 3 --interval 1ms --timeout {long} --wait-for {long}"),
        format!("probe --embedded --count 3 --interval 1ms --max-p50 {long} --max-p99 {long} --max-jitter {long}"),
        format!("probe --embedded --packet audio --delay 0 --count 3 --interval 1ms --timeout {long}"),
        format!("send --embedded --delay 0 --wav fixtures/audio/24bit-mono-48k.wav --duration {long}"),
        "probe --embedded --count 3 --interval 1ms --socket-buffer 16777215TiB".to_owned(),
        "probe --embedded --count 3 --interval 1ms --socket-buffer 0".to_owned(),
        "send --embedded --delay 0 fixtures/audio/8ch-16bit-48k.wav --duration 20ms --frame-size 8186".to_owned(),
    ];
    together(lines, |line| {
        let output = run_args(line.split(' '));
        // A limit is not judged if this host paused.
        assert!([0, 4].contains(&output.code), "{line}: {output:?}");
    });
}
