//! Usage errors: each is rejected with its exit code and a helpful message, before a packet leaves.

use std::fs;
use std::path::Path;

use test_support::client::{Server, document, run_args, together};
use test_support::snapshot;

/// Runs each line and returns the messages with the exit codes, in one line each. `TO` stands for a server that must receive nothing, `FILE`
/// and `LINK` for two names of a file that must stay as it is, `FOLDER` for its folder, `''` for an empty argument, and `_` for a space
/// within an argument.
fn refused(lines: &[&str]) -> Vec<String> {
    let (server, folder) = (Server::correct(), tempfile::tempdir().unwrap());
    let [file, link] = ["file.toml", "link"].map(|name| folder.path().join(name));
    fs::write(&file, "a secret").unwrap();
    fs::hard_link(&file, &link).unwrap();
    let at = folder.path().display().to_string();
    let names =
        [("TO", server.to()), ("FILE", format!("{at}/file.toml")), ("LINK", format!("{at}/link")), ("FOLDER", at)];
    let messages = together(lines, |line| {
        let name = |word: &str| names.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value));
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let output = run_args(words.map(|word| name(&word.replace('_', " "))));
        assert_eq!(output.stdout, "", "{line}");
        // Clap repeats the usage of the command after each message.
        let message = output.stderr.split("\n\nUsage: ").next().unwrap().split("\n\nFor more").next().unwrap();
        let message: Vec<&str> = message.split_whitespace().collect();
        let message = format!("{} (exit code {})", message.join(" "), output.code);
        names.iter().fold(message, |message, (name, value)| message.replace(value, name))
    });
    assert_eq!(server.received(), []);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a secret");
    messages
}

/// The transcript contains command lines, each with its message and exit code after an arrow.
#[test]
fn usage_errors_have_the_messages_and_codes_of_the_transcript() {
    let name = "send_and_probe/usage_errors";
    let transcript = snapshot::committed(name);
    let lines: Vec<&str> = transcript.lines().map(|line| line.split(" → ").next().unwrap()).collect();
    let entries = lines.iter().zip(refused(&lines)).map(|(line, message)| {
        assert!(!message.contains("hunter2"), "{line}: the message contains a password");
        format!("{line} → {}\n", without_resolver_error(&message))
    });
    snapshot::assert_matches(name, &entries.collect::<String>());
    for file in ["-", "target/x", "target/none.wav"] {
        assert!(!Path::new(file).exists(), "{file}");
    }
}

/// The message without the reason for which a name has no address. It depends on the system.
fn without_resolver_error(message: &str) -> String {
    match message.split_once("cannot find an address for host `").and_then(|(_, rest)| rest.split_once("`: ")) {
        Some((_, reason)) => message.replace(reason.rsplit_once(" (exit code").unwrap().0, "…"),
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
