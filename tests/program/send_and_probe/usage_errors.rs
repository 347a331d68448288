//! Usage errors: each is rejected with its exit code and a helpful message, before a packet leaves.

use std::fs;
use std::path::Path;

use test_support::client::{Server, document, run_args, together};
use test_support::snapshot;

/// Runs each line and returns the messages with the exit codes. `TO` stands for a server that must receive nothing, `FILE` and `LINK` for
/// two names of a file that must stay as it is, `FOLDER` for its folder, `''` for an empty argument, and `_` for a space within an
/// argument.
fn refused(lines: &[impl AsRef<str> + Sync]) -> Vec<String> {
    let (server, folder) = (Server::correct(), tempfile::tempdir().unwrap());
    let [file, link] = ["file.toml", "link"].map(|name| folder.path().join(name));
    fs::write(&file, "a secret").unwrap();
    fs::hard_link(&file, &link).unwrap();
    let at = folder.path().display().to_string();
    let names =
        [("TO", server.to()), ("FILE", format!("{at}/file.toml")), ("LINK", format!("{at}/link")), ("FOLDER", at)];
    let messages = together(lines, |line| {
        let line = line.as_ref();
        let name = |word: &str| names.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value));
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let output = run_args(words.map(|word| name(&word.replace('_', " "))));
        assert_eq!(output.stdout, "", "{line}");
        // Clap repeats the usage of the subcommand after each message.
        let message = output.stderr.split("\n\nUsage: ").next().unwrap().split("\n\nFor more").next().unwrap();
        let message = message.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n"));
        let message = format!("{}exit code {}\n", message.collect::<String>(), output.code);
        names.iter().fold(message, |message, (name, value)| message.replace(value, name))
    });
    assert_eq!(server.received(), []);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a secret");
    messages
}

/// The transcript contains command lines after `$ `. Each has its message and exit code below it.
#[test]
fn usage_errors_have_the_messages_and_codes_of_the_transcript() {
    let name = "send_and_probe/usage_errors";
    let transcript = snapshot::committed(name);
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
    let target = "embedded echo server (100 ms, --loss 0.5 --jitter 3 --reorder 1,4 --duplicate 2 --seed 1)";
    let allowed: Vec<_> = (0..4).map(|index| &report["limits"][index]["allowed"]).collect();
    // Limits are in microseconds, and a ratio.
    assert_eq!(
        (report["target"].as_str(), allowed),
        (Some(target), vec![&0.5.into(), &2e4.into(), &3e4.into(), &4e4.into()])
    );
    let times = ["interval_ms", "timeout_ms"].map(|name| report[name].as_f64());
    // 50 packets fit into 0.1 s.
    assert_eq!((times, &report["streams"]["ping"]["sent"]), ([Some(2.0), Some(5e3)], &50.into()));
}

/// The table contains the ways to choose what `send` and `probe` do, and the options with these plans.
#[test]
fn option_without_effect_is_rejected_even_with_its_default() {
    let (plans, options) =
        include_str!("../../snapshots/send_and_probe/option_plans.txt").split_once("abcdefghijklmnopq").unwrap();
    let plans: Vec<&str> = plans.lines().skip(3).filter_map(|line| Some(line.trim().split_once(' ')?.1)).collect();
    let mut lines = Vec::new();
    for row in options.lines().skip(1) {
        let (option, marks) = row.rsplit_once(' ').unwrap();
        let rejecting = plans.iter().zip(marks.chars()).filter(|(_, mark)| *mark == '-');
        lines.extend(rejecting.map(|(plan, _)| format!("{plan} {}", option.trim_end())));
    }
    assert!(lines.len() > 150, "{}", lines.len());
    for (line, message) in lines.iter().zip(refused(&lines)) {
        let option = line.rsplit(" --").next().unwrap().split(' ').next().unwrap();
        let is_expected = message.contains(&format!("--{option} has no effect ")) && message.ends_with("exit code 2\n");
        assert!(is_expected, "{line}: {message}");
    }
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
