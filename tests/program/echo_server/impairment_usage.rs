//! The program rejects invalid impairment options with a helpful message. The check precedes the first socket and the first packet.

use test_support::client::{self, program};
use test_support::server::process;

#[test]
fn invalid_impairment_options_are_rejected_with_a_reason() {
    let servers = [
        ("--loss 200%", 2, "the maximum is 100%"),
        ("--loss 1x", 2, "expected %"),
        ("--loss 1%,", 2, "1%"),
        ("--loss 0%,30%", 2, "P and R must be greater than 0"),
        ("--loss 0.01%,0.01%", 2, "at least 0.1%"),
        ("--loss 100%,100%", 2, "at most 199.9%"),
        ("--drop-packets 25-20", 2, "use 20-25"),
        ("--drop-packets ten", 2, "is neither a sequence number"),
        ("--jitter 5mss", 2, "unknown unit"),
        ("--reorder 1%,0", 2, "a duration of 0 reorders nothing"),
        ("--reorder 10ms", 2, "expected %"),
        ("--bandwidth 0", 2, "0 would block all replies"),
        ("--bandwidth 2MB", 2, "expected bit, kbit, mbit or gbit"),
        ("--seed 7", 2, "add --loss or another impairment option"),
        ("--seed -1 --loss 1%", 2, "invalid value '-1' for '--seed <N>'"),
        ("--outcome-log /nowhere/x", 3, "cannot write the outcome log to /nowhere/x"),
    ];
    client::at_once(servers, |(options, code, expected)| {
        let words: Vec<&str> = ["echo-server", "--port", "0"].into_iter().chain(options.split(' ')).collect();
        let output = process::run(&words, |_| {});
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options}: {stderr}");
        assert!(stderr.contains(expected), "{options}: {stderr}");
    });
    let clients =
        ["probe --loss 1%", "probe --to 127.0.0.1:9 --outcome-log x", "send --tone 440 --to 127.0.0.1:9 --seed 1"];
    client::at_once(clients, |line| {
        let finished = program::run(line);
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{line}");
        assert!(
            finished.stderr.ends_with(" has no effect over UDP; it applies to the echo server of --embedded\n"),
            "{finished:?}"
        );
    });
    let report = program::run("probe --embedded --count 1 --outcome-log /nowhere/x");
    assert_eq!((report.code, report.stdout.as_str()), (3, ""), "{report:?}");
}
