//! Impairment that cannot be meant is refused before anything is bound or sent, in words that help.

mod client;
mod server;

use client::program;
use server::process;

#[test]
fn what_cannot_be_meant_is_refused_in_words() {
    let servers = [
        ("--loss 200%", 2, "at most 100%"),
        ("--loss 1", 2, "write 1%"),
        ("--burst-loss 1%", 2, "give two percentages"),
        ("--burst-loss 0%,30%", 2, "P and R must be above 0"),
        ("--burst-loss 0.01%,0.01%", 2, "at least 0.1%"),
        ("--burst-loss 100%,100%", 2, "at most 199.9%"),
        ("--drop-packets 25-20", 2, "write 20-25"),
        ("--drop-packets ten", 2, "is neither a sequence number"),
        ("--jitter 5mss", 2, "is not a unit here"),
        ("--reorder 1%,0", 2, "nothing is passed"),
        ("--reorder 10ms", 2, "use %"),
        ("--bandwidth 0", 2, "nothing ever leaves"),
        ("--bandwidth 2MB", 2, "use bit, kbit, mbit or gbit"),
        ("--seed 7", 2, "give --loss or another option beside it"),
        ("--seed -1 --loss 1%", 2, "invalid value '-1' for '--seed <N>'"),
        ("--fate-log /nowhere/x", 3, "cannot write the fate log to /nowhere/x"),
    ];
    client::at_once(servers, |(options, code, expected)| {
        let words: Vec<&str> = ["echo-server", "--port", "0"].into_iter().chain(options.split(' ')).collect();
        let output = process::run(&words, |_| {});
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options}: {stderr}");
        assert!(stderr.contains(expected), "{options}: {stderr}");
    });
    let clients =
        ["probe --loss 1%", "probe --to 127.0.0.1:9 --fate-log x", "send --tone 440 --to 127.0.0.1:9 --seed 1"];
    client::at_once(clients, |line| {
        let ended = program::run(line);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line}");
        assert!(ended.stderr.ends_with("only an embedded echo server is told so; give --embedded\n"), "{ended:?}");
    });
    let report = program::run("probe --embedded --count 1 --fate-log /nowhere/x");
    assert_eq!((report.code, report.stdout.as_str()), (3, ""), "{report:?}");
}
