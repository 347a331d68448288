//! Usage errors: each is rejected with its exit code and a helpful message,
//! before a packet leaves.

use client::at_once;
use client::program::run_args;
use client::server::Server;
use jamjam_dev::signaling::Dialect;
use test_support::client;

/// Runs each line and compares its exit code and a part of its output. `TO` is a server that must not receive anything.
fn refuse(cases: &[(&str, i32, &str)]) {
    let server = Server::correct();
    let to = server.to();
    at_once(cases, |(line, code, expected)| {
        // In a line, `''` is an empty argument, and `_` is a space within an argument.
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let output = run_args(words.map(|word| word.replace('_', " ").replace("TO", &to)));
        assert_eq!((output.code, output.stdout.as_str()), (*code, ""), "{line}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{line}: {}", output.stderr);
        if *code == 3 {
            assert_eq!(output.stderr.lines().count(), 1, "{line}: {}", output.stderr);
        }
        assert!(output.stderr.starts_with("jamjam-dev: ") || output.stderr.starts_with("error: "), "{}", output.stderr);
    });
    assert_eq!(server.received(), []);
}

#[test]
fn misspelled_options_are_answered_with_suggestions() {
    refuse(&[
        ("porbe", 2, "a similar subcommand exists: 'probe'"),
        ("probe --embeded", 2, "a similar argument exists: '--embedded'"),
        ("probe --too TO", 2, "a similar argument exists: '--to'"),
        ("probe --tls-cert TO", 2, "a similar argument exists: '--cert-sha256'"),
        ("echo-server --tls-cert c.pem", 2, "a similar argument exists: '--cert'"),
        ("probe --max-median 5", 2, "a similar argument exists: '--max-p50'"),
        ("probe --max-latency 5", 2, "exist: '--max-loss', '--max-p50', '--max-p99', '--max-jitter'"),
        ("probe --jsonlines", 2, "a similar argument exists: '--json-lines'"),
        ("probe --output x", 2, "unexpected argument '--output' found\n\nUsage: jamjam-dev probe [OPTIONS] "),
        ("probe TO TO", 2, "unexpected argument '127.0.0.1:"),
        ("send --wav", 2, "a value is required for '--wav <FILE>'"),
        ("send --wav '' --to TO", 2, "a value is required for '--wav <FILE>'"),
        ("send '' --to TO", 2, "a value is required for '[FILE]'"),
        ("send --tone 440 --to TO --resample 44100", 2, "[possible values: 48k, native]"),
        ("probe --to TO --color red", 2, "[possible values: auto, always, never]"),
    ]);
}

#[test]
fn positional_arguments_conflict_with_their_options() {
    let both = "cannot be used with";
    refuse(&[
        ("probe TO --to TO", 2, both),
        ("probe TO --embedded", 2, both),
        ("send a.wav b.wav --to TO", 2, "unexpected argument 'b.wav'"),
        ("send a.wav --wav b.wav --to TO", 2, both),
        ("send a.wav --tone 440 --to TO", 2, both),
        ("send a.wav --mic --to TO", 2, both),
        ("send --wav a.wav --tone 440 --to TO", 2, both),
        (
            "send a.wav --text hello --to moqt://TO/echo",
            2,
            "FILE has no effect over MOQT; it applies to audio over UDP",
        ),
        ("send /no/such/file.wav --to TO", 3, "/no/such/file.wav"),
    ]);
}

#[test]
fn bare_number_has_the_unit_of_its_option() {
    let line = "probe --embedded --jitter 3 --loss 0.5 --reorder 1,4 --duplicate 2 --seed 1 -i 2 --duration 0.1 --timeout 5 --wait-for 3 \
                --max-p50 20 --max-p99 30 --max-jitter 40 --max-loss 50 --json";
    let output = run_args(line.split_whitespace());
    let report = client::document::report(&output);
    let target = "embedded echo server (100 ms, --loss 0.5% --jitter 3ms --reorder 1%,4ms --duplicate 2% --seed 1)";
    let allowed: Vec<_> = (0..4).map(|index| &report["limits"][index]["allowed"]).collect();
    // Limits are in microseconds, and a ratio.
    assert_eq!(
        (report["target"].as_str(), allowed),
        (Some(target), vec![&0.5.into(), &2e4.into(), &3e4.into(), &4e4.into()])
    );
    let times = ["interval_ms", "timeout_ms"].map(|name| report[name].as_f64());
    // 50 packets fit into 0.1 s, of which a busy host may skip some.
    let planned =
        ["sent", "not_sent"].map(|name| report["streams"]["ping"][name].as_u64().unwrap()).iter().sum::<u64>();
    assert_eq!((times, planned), ([Some(2.0), Some(5e3)], 50));
}

#[test]
fn network_options_are_checked() {
    refuse(&[
        ("probe TO -4", 2, "unexpected argument '-4'"),
        ("probe TO --bind ::", 3, "IPv6"),
        ("probe TO --bind ::1", 3, "IPv6"),
        ("probe TO --bind eth0", 2, "give an address of this machine"),
        ("probe TO --bind 224.0.0.1", 2, "a multicast address cannot be a local address"),
        ("probe TO --bind 192.0.2.1", 3, "192.0.2.1"),
        ("probe ws://127.0.0.1:9 --bind 127.0.0.1:5000", 2, "--bind"),
    ]);
}

#[test]
fn secrets_in_a_target_are_not_repeated_in_errors() {
    let server = Server::correct();
    for line in [
        "probe ftp://me:hunter2@h/x?token=hunter2",
        "probe ws://h/r?token=hunter2 extra",
        "probe --to ftp://h?token=hunter2",
        "send ws://h/r?token=hunter2 --to ws://h/r?token=hunter2",
        "probe h:1?token=hunter2",
        "probe me:hunter2@h",
        "probe udp://me:hunter2@h:5000",
        "probe --to hunter2@h.invalid",
        "send --tone 440 --to h:1#hunter2",
        "send --text x --to moqt://h.invalid/echo?jwt=hunter2",
    ] {
        let output = run_args(line.split(' '));
        assert!(output.code == 2 || output.code == 3, "{output:?}");
        assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
    }
    assert_eq!(server.received(), []);
}

#[test]
fn missing_arguments_are_named() {
    refuse(&[
        ("send", 2, "nothing to send: give a WAV FILE, --tone HZ or --mic"),
        ("send --to TO", 2, "nothing to send: give a WAV FILE, --tone HZ or --mic"),
        ("send --embedded", 2, "nothing to send: give a WAV FILE, --tone HZ or --mic"),
        ("send --text hello", 2, "--text has no effect over UDP; it applies to MOQT"),
        ("probe TO --list-rooms", 2, "--list-rooms needs a signaling server: ws:// or wss://"),
        (
            "probe --delay 5",
            2,
            "--delay has no effect over UDP; it applies to servers of --embedded and AUDIO over UDP",
        ),
        (
            "probe --to TO --size 8",
            2,
            "--size has no effect over UDP; it applies to AUDIO and MOQT frames; for AUDIO, add --packet audio",
        ),
    ]);
}

#[test]
fn conflicting_options_are_reported() {
    let both = "cannot be used with";
    refuse(&[
        ("probe --embedded --to TO", 2, both),
        ("send --tone 440 --embedded --to TO", 2, both),
        ("send --tone 440 --repeat 3 --to TO", 2, both),
        ("send --tone 440 --resample native --to TO", 2, both),
        ("probe --to TO --packet keepalive --packet audio", 2, "cannot be used multiple times"),
        ("probe --to TO --packet keepalive --size 8", 2, "--size has no effect over UDP"),
        ("probe --to TO --json --json-lines", 2, both),
        (
            "send --tone 440 --to TO --junit target/x --markdown ./target/x",
            2,
            "--junit target/x and --markdown ./target/x are the same file; give different files",
        ),
        (
            "send --tone 440 --embedded --record target/x --outcome-log target/x",
            2,
            "--record target/x and --outcome-log target/x are the same file",
        ),
        (
            "probe --embedded --junit target/x --outcome-log target/x",
            2,
            "--outcome-log target/x and --junit target/x are the same file",
        ),
        ("send --tone 440 --to TO --no-echo --max-loss 1%", 2, both),
        ("probe --embedded --drop-packets 5", 2, "--drop-packets has no effect with --embedded; it applies to AUDIO"),
        ("send --wav - --repeat 2 --to TO", 2, "--repeat needs a file, because standard input can be read only once"),
    ]);
}

#[test]
fn invalid_targets_are_explained() {
    refuse(&[
        ("probe --to ''", 2, "host missing; give HOST[:PORT], such as localhost:5000"),
        ("probe --to :5000", 2, "host missing"),
        ("probe --to localhost:", 2, "invalid port ``: give a number from 1 to 65535"),
        ("probe --to localhost:0", 2, "invalid port `0`"),
        ("probe --to localhost:99999", 2, "invalid port `99999`"),
        ("probe --to localhost:http", 2, "invalid port `http`"),
        ("probe --to [::1", 2, "give an IPv6 address with a port as [ADDRESS]:PORT"),
        (
            "send --tone 440 --to ws://localhost",
            2,
            "send needs a UDP target, not a signaling server (ws://, wss://). Give --to HOST[:PORT]",
        ),
        ("probe --embedded --to moqt://127.0.0.1:4443/echo", 2, "cannot be used with"),
        ("probe --to moqt://127.0.0.1:4443/echo --moqt", 2, "--embedded"),
        ("probe --to 127.0.0.1:4443/echo", 2, "a MOQT echo server as moqt://127.0.0.1:4443/echo"),
        ("probe --to moqt://", 2, "invalid URL; expected moqt://HOST:PORT/PATH. Write IPv6 addresses in brackets"),
        ("probe --to ws://", 2, "--to: invalid URL; expected ws://HOST:PORT, with IPv6 addresses in brackets"),
        ("probe --to ws://me:sec/ret@localhost", 2, "--to: invalid URL; expected ws://HOST:PORT"),
        ("probe --to ws://[fe80::1]", 2, "--to: `fe80::1` is a link-local address, which needs the network interface"),
        ("probe --to moqt://[fe80::1]", 2, "`fe80::1` is a link-local address, which needs the network interface"),
        ("probe --to [fe80::1]:5000", 2, "`fe80::1` is a link-local address, which needs the network interface"),
        ("probe --to [fe80::1%25nowhere]", 3, "the zone `nowhere` must be a network interface of this machine"),
        ("probe --to http://localhost", 2, "unknown scheme `http://`"),
        ("probe --to no.such.host.invalid", 3, "cannot find an address for host `no.such.host.invalid`: "),
        ("send --tone 440 --to not_a_host", 3, "cannot find an address for host `not a host`: "),
    ]);
}

#[test]
fn unusable_file_is_rejected_before_sending() {
    // The file name `-` is probably a mistake, so no file is created.
    at_once(["--junit", "--markdown", "--html", "--record", "--record-both", "--outcome-log"], |option| {
        refuse(&[(&format!("send --tone 440 --embedded {option} -"), 2, "for a file named `-`, give ./-")]);
    });
    assert!(!std::path::Path::new("-").exists());
    at_once(["--record", "--record-both"], |option| {
        for file in ["/dev/null", "/dev/full"] {
            let line = format!("send --tone 440 --to TO {option} {file}");
            refuse(&[(&line, 3, &format!("cannot write the recording to {file}: not a regular file"))]);
        }
    });
    let options = ["--junit", "--markdown", "--html", "--record-run", "--record", "--record-both", "--outcome-log"];
    at_once(options, |option| {
        for file in ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"] {
            let line = format!("send --tone 440 --embedded {option} {file}");
            refuse(&[(&line, 2, "this path stands for a standard stream; give the name of a file")]);
        }
    });
    for command in ["echo-server", "signaling-server"] {
        refuse(&[(
            &format!("{command} --port 0 --address-file /dev/stdout"),
            2,
            "this path stands for a standard stream",
        )]);
    }
}

#[test]
fn file_that_another_option_reads_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let [read, written] = ["read.toml", "link"].map(|name| folder.path().join(name));
    std::fs::write(&read, "a secret").unwrap();
    std::fs::hard_link(&read, &written).unwrap();
    let (folder, read_name, written) = (folder.path().display(), read.display(), written.display());
    at_once(
        [
            ("probe", "--baseline", "--junit"),
            ("probe", "--replay", "--html"),
            ("probe", "--ca", "--record-run"),
            ("probe --room r", "--password-file", "--markdown"),
            ("probe", "--hmac-secret", "--html"),
            ("send", "--ca", "--record"),
            ("echo-server --signaling-url ws://127.0.0.1:9", "--ca", "--address-file"),
            ("echo-server --moqt 127.0.0.1:0 --key K", "--cert", "--outcome-log"),
            ("signaling-server", "--docs-password", "--address-file"),
            ("signaling-server", "--hmac-secret", "--address-file"),
            ("signaling-server", "--token-issuer-key", "--address-file"),
            ("signaling-server", "--token-issuer-key-file", "--address-file"),
            ("signaling-server", "--cert", "--address-file"),
            ("signaling-server", "--rooms", "--address-file"),
        ],
        |(command, input, output)| {
            let is_secret = ["--docs-password", "--hmac-secret", "--token-issuer-key"].contains(&input);
            let given = match input {
                "--rooms" => folder.to_string(),
                _ if is_secret => format!("@{read_name}"),
                _ => read_name.to_string(),
            };
            let line = format!("{command} {output} {written} {input} {given}");
            let run = run_args(line.split(' '));
            assert!(
                run.code == 2 && run.stderr.contains("are the same file; give different files\n"),
                "{line}: {run:?}"
            );
        },
    );
    assert_eq!(std::fs::read_to_string(&read).unwrap(), "a secret");
}

/// The ways to choose what `send` and `probe` do.
const PLANS: [&str; 16] = [
    "probe --to TO",
    "probe --room r --signaling-url ws://TO",
    "probe --embedded",
    "probe --to moqt://TO/echo",
    "probe --embedded --moqt",
    "probe --to ws://TO",
    "probe --replay x",
    "probe --list-rooms --signaling-url ws://TO",
    "probe --this-machine",
    "send --tone 1 --to TO",
    "send --tone 1 --room r --signaling-url ws://TO",
    "send --tone 1 --embedded",
    "send --to moqt://TO/echo --text x",
    "send --replay x",
    "send --list-rooms --signaling-url ws://TO",
    "send --list-devices",
];

/// Options with the plans to which they apply, by their position in [`PLANS`]. `send` has no options for probes, and vice versa.
const APPLICABLE: [(&str, &[usize]); 26] = [
    ("--packet ping", &[0, 1, 2]),
    ("--size 8", &[3, 4]),
    ("--loss-direction", &[0, 1, 2, 9, 10, 11]),
    ("--socket-buffer 8MiB", &[0, 1, 2, 9, 10, 11]),
    ("--spin 25", &[0, 1, 2, 5, 9, 10, 11]),
    ("--loss 1%", &[2, 11]),
    ("--seed 1", &[2, 11]),
    ("--outcome-log y", &[2, 11]),
    ("--delay 100", &[2, 4, 9, 10, 11]),
    ("--drop-packets 1", &[11]),
    ("--moqt-version gomoqt-0.9", &[3, 4, 12]),
    ("--frames-per-group 1", &[3, 4]),
    ("--dialect bbx", &[5]),
    ("--hmac-secret @x", &[5]),
    ("--password-file x", &[1, 10]),
    ("--signaling-url ws://TO", &[1, 7, 10, 14]),
    ("--insecure", &[1, 3, 5, 7, 10, 12, 14]),
    ("--count 1", &[0, 1, 2, 3, 4, 5, 9, 10, 11]),
    ("--duration 1s", &[0, 1, 2, 3, 4, 5, 9, 10, 11]),
    ("--interval 250ms", &[0, 1, 2, 3, 4, 5, 12]),
    ("--record y", &[9, 10, 11]),
    ("--no-echo", &[9, 10, 11]),
    ("--max-loss 1%", &[0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13]),
    ("--html /dev/null", &[0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13]),
    ("--wait-for 1s", &[0, 1, 2, 3, 4, 5, 9, 10, 11, 12]),
    ("--json-lines", &[0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 14, 15]),
];

#[test]
fn option_without_effect_is_rejected_even_with_its_default() {
    let subcommands = ["probe", "send"].map(|name| (name, run_args([name, "--help"]).stdout));
    let mut cases = Vec::new();
    for (option, applicable) in APPLICABLE {
        let name = option.split(' ').next().unwrap();
        for (index, plan) in PLANS.iter().enumerate().filter(|(index, _)| !applicable.contains(index)) {
            let has_option = subcommands.iter().any(|(subcommand, help)| {
                plan.starts_with(subcommand) && help.split_whitespace().any(|word| word == name)
            });
            if has_option && !plan.contains(&format!(" {name} ")) {
                cases.push((index, format!("{plan} {option}"), format!("{name} has no effect ")));
            }
        }
    }
    assert!(cases.len() > 150, "{}", cases.len());
    let cases: Vec<_> = cases.iter().map(|(_, line, expected)| (line.as_str(), 2, expected.as_str())).collect();
    refuse(&cases);
}

#[test]
fn options_of_signaling_servers_are_checked() {
    let known = format!("[possible values: {}]", Dialect::ALL.map(Dialect::name).join(", "));
    refuse(&[
        ("probe --to ws://TO --dialect ws", 2, &known),
        ("probe --to ws://TO --interval 0", 2, "--interval: too short"),
        ("probe --to ws://TO --embedded", 2, "cannot be used with"),
        ("probe --to ws://TO/r --hmac-secret @target/none", 3, "--hmac-secret: cannot read target/none: "),
        ("probe --to wss://TO --ca target/none", 3, "cannot use target/none: "),
    ]);
}

#[test]
fn invalid_quantities_are_explained() {
    let duration = "is not a number; expected a duration such as 5ms or 2s";
    let units = "; expected ns, us, ms, s, m or h";
    let tone = "give a frequency above 0 and up to 24000 Hz, such as 440";
    let count = "give a number of packets such as 150, or 0 for no limit";
    refuse(&[
        ("probe --to TO --max-p99 5k", 2, units),
        ("probe --to TO --timeout 5sec", 2, units),
        ("probe --to TO --timeout -1", 2, duration),
        ("probe --to TO --interval fast", 2, duration),
        ("probe --to TO --interval ''", 2, duration),
        ("probe --to TO --interval 0", 2, "--interval: too short; the minimum is 1us"),
        ("probe --to TO --interval 999ns", 2, "--interval: too short; the minimum is 1us"),
        ("probe --to TO --wait-for 1000000000000000000000s", 2, "is too large; the maximum is 584 years"),
        ("probe --to TO --timeout 9999999999999999999999999999999999999999s", 2, duration),
        ("probe --to TO --max-loss 5s", 2, "unknown unit `s`; expected %"),
        ("probe --to TO --max-loss 101%", 2, "the maximum is 100%"),
        ("probe --to TO --max-loss -1%", 2, "-1"),
        ("probe --to TO --count -1", 2, count),
        ("probe --to TO --count many", 2, count),
        ("probe --to TO --count 99999999999999999999", 2, count),
        ("probe --to TO --packet audio --size 3", 2, "--size 3: give a multiple of 4 (AUDIO has 4-byte samples)"),
        ("probe --to TO --packet audio --size 65496", 2, "The maximum that fits in a datagram is 65492"),
        ("probe --to TO --spin 101", 2, "give a whole percentage from 0 to 100"),
        ("probe --to TO --socket-buffer 1XB", 2, "unknown unit `XB`; expected B, KiB, MiB"),
        ("send --to TO --tone 0", 2, tone),
        ("send --to TO --tone -440", 2, tone),
        ("send --to TO --tone NaN", 2, tone),
        ("send --to TO --tone inf", 2, tone),
        ("send --to TO --tone 48000", 2, tone),
        ("send --to TO --tone A4", 2, tone),
        (
            "send --to TO --tone 440 --frame-size 0",
            2,
            "--frame-size: 0 samples; with 1 channel, a datagram holds 1 to 16373",
        ),
        ("send --to TO --tone 440 --frame-size 16374", 2, "with 1 channel, a datagram holds 1 to 16373"),
        (
            "send --to TO fixtures/audio/8ch-16bit-48k.wav --frame-size 8187",
            2,
            "with 2 channels, a datagram holds 1 to 8186",
        ),
        ("send --to TO --tone 440 --frame-size 1h", 2, "a datagram holds 1 to"),
        (
            "send --to TO --tone 440 --frame-size -5",
            2,
            "give a number of samples such as 128, or a duration such as 2.5ms",
        ),
        (
            "send --to TO --tone 440 --frame-size big",
            2,
            "give a number of samples such as 128, or a duration such as 2.5ms",
        ),
        (
            "send --to TO --tone 440 --duration 0",
            2,
            "--duration is shorter than one sample, so there is nothing to send",
        ),
        (
            "send --to TO --tone 440 --duration 1us",
            2,
            "--duration is shorter than one sample, so there is nothing to send",
        ),
        ("send --to TO --wav fixtures/audio/24bit-mono-48k.wav --repeat 0", 2, "give a number above 0, or \"forever\""),
        (
            "send --to TO --wav fixtures/audio/24bit-mono-48k.wav --repeat forevr",
            2,
            "give a number above 0, or \"forever\"",
        ),
    ]);
}

#[test]
fn huge_quantities_cause_no_panic_or_overflow() {
    // Even if the time options have their maximum values, a run ends when all packets have returned. The operating system reduces the huge
    // --socket-buffer to its own maximum.
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
    at_once(lines, |line| {
        let output = run_args(line.split(' '));
        assert_eq!(output.code, 0, "{line}: {output:?}");
    });
}
