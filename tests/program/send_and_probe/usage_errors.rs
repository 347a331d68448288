//! Usage errors: each is rejected with its exit code and a helpful message, before a packet leaves.

use std::fs;
use std::path::Path;

use test_support::client::program::run_args;
use test_support::client::server::Server;
use test_support::client::{at_once, document};
use test_support::snapshot;

/// Runs each line with a server that must receive nothing in place of `TO`. In a line, `''` is an empty argument, and `_` is a space within an
/// argument. Returns the messages with the exit codes.
fn refused(lines: &[&str]) -> Vec<String> {
    let server = Server::correct();
    let to = server.to();
    let messages = at_once(lines, |line| {
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let output = run_args(words.map(|word| word.replace('_', " ").replace("TO", &to)));
        assert_eq!(output.stdout, "", "{line}");
        // Clap repeats the usage of the subcommand after each message.
        let message = output.stderr.split("\n\nUsage: ").next().unwrap().split("\n\nFor more").next().unwrap();
        let message = message.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n"));
        format!("{}exit code {}\n", message.collect::<String>(), output.code).replace(&to, "TO")
    });
    assert_eq!(server.received(), []);
    messages
}

/// The transcript contains command lines after `$ `. Each has its message and exit code below it.
#[cfg(target_os = "linux")]
#[test]
fn usage_errors_have_the_messages_and_codes_of_the_transcript() {
    let name = "send_and_probe/usage_errors";
    let transcript = test_support::repository().join("tests/snapshots").join(name).with_extension("txt");
    let transcript = fs::read_to_string(transcript).unwrap();
    let (heads, lines): (Vec<_>, Vec<_>) = transcript
        .split("\n\n")
        .map(|entry| {
            let (head, rest) = entry.split_once("$ ").expect("a command line");
            (head, rest.lines().next().unwrap())
        })
        .unzip();
    let entries = heads.iter().zip(&lines).zip(refused(&lines)).map(|((head, line), message)| {
        assert!(!message.contains("hunter2"), "{line}: the message contains a password");
        format!("{head}$ {line}\n{}", without_resolver_error(&message))
    });
    snapshot::assert_matches(name, &entries.collect::<Vec<_>>().join("\n"));
    for file in ["-", "target/x", "target/none.wav"] {
        assert!(!Path::new(file).exists(), "{file}");
    }
}

/// The message without the reason for which a name has no address. It depends on the system.
fn without_resolver_error(message: &str) -> String {
    match message.split_once("cannot find an address for host `").and_then(|(_, rest)| rest.split_once("`: ")) {
        Some((_, reason)) => message.replace(reason.lines().next().unwrap(), "…"),
        None => message.to_owned(),
    }
}

#[test]
fn bare_number_has_the_unit_of_its_option() {
    let line = "probe --embedded --jitter 3 --loss 0.5 --reorder 1,4 --duplicate 2 --seed 1 -i 2 --duration 0.1 --timeout 5 --wait-for 3 \
                --max-p50 20 --max-p99 30 --max-jitter 40 --max-loss 50 --json";
    let output = run_args(line.split_whitespace());
    let report = document::report(&output);
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
fn file_that_another_option_reads_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let [read, written] = ["read.toml", "link"].map(|name| folder.path().join(name));
    fs::write(&read, "a secret").unwrap();
    fs::hard_link(&read, &written).unwrap();
    let (folder, read_name, written) = (folder.path().display(), read.display(), written.display());
    at_once(
        [
            ("probe", "--baseline", "--junit"),
            ("probe", "--replay", "--html"),
            ("probe", "--ca", "--record-run"),
            ("probe --room r", "--password-file", "--markdown"),
            ("probe", "--hmac-secret", "--html"),
            ("send", "--ca", "--record"),
            ("send --embedded", "--wav", "--record"),
            ("send --embedded", "--wav", "--record-both"),
            ("send --embedded", "--wav", "--html"),
            ("send --embedded", "--wav", "--junit"),
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
    assert_eq!(fs::read_to_string(&read).unwrap(), "a secret");
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
    let help = ["probe", "send"].map(|name| (name, run_args([name, "--help"]).stdout));
    let has_option = |plan: &str, name: &str| {
        let (_, help) = help.iter().find(|(subcommand, _)| plan.starts_with(subcommand)).unwrap();
        help.split_whitespace().any(|word| word == name) && !plan.contains(&format!(" {name} "))
    };
    let mut lines = Vec::new();
    for (option, applicable) in APPLICABLE {
        let name = option.split(' ').next().unwrap();
        let plans =
            PLANS.iter().enumerate().filter(|(index, plan)| !applicable.contains(index) && has_option(plan, name));
        lines.extend(plans.map(|(_, plan)| (format!("{plan} {option}"), name)));
    }
    assert!(lines.len() > 150, "{}", lines.len());
    let messages = refused(&lines.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>());
    for ((line, name), message) in lines.iter().zip(messages) {
        let is_expected = message.contains(&format!("{name} has no effect ")) && message.ends_with("exit code 2\n");
        assert!(is_expected, "{line}: {message}");
    }
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
