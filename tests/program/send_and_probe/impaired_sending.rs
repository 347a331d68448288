//! `send --no-echo` with impairment, as a receiver sees it: the report and the outcome log contain what was done. What the seed decides is
//! tested in `crates/measure/tests/measure/client/impaired_path.rs`.

use std::fs;

use test_support::client::{AUDIO, KEEPALIVE, Server, document, run, run_to_success};

#[test]
fn receiver_gets_what_the_outcome_log_and_the_report_say() {
    let (server, folder) = (Server::silent(), tempfile::tempdir().unwrap());
    let log = folder.path().join("outcomes.csv");
    let options = "--loss 10% --jitter 20ms --reorder 5%,10ms --duplicate 2% --seed 7";
    let line = format!("send --tone 440 --duration 1s --to {} --no-echo --spin 0 --json", server.to());
    let report = document::report(&run(&format!("{line} {options} --outcome-log {}", log.display())));
    let count = |stream: &str, name: &str| report["streams"][stream][name].as_u64().unwrap() as usize;

    let rows = fs::read_to_string(&log).unwrap();
    let rows: Vec<Vec<&str>> = rows.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let (mut expected, mut done) = (Vec::new(), [0; 4]);
    for cells in &rows {
        let [sequence, reordered, copies] = [3, 5, 7].map(|column| cells[column].parse::<u32>().unwrap());
        assert_eq!([cells[1], cells[2], cells[4]], [&*server.to(), "AUDIO", if copies == 0 { "lost" } else { "sent" }]);
        done[0] += u32::from(copies == 0);
        done[1] += copies.saturating_sub(1);
        done[2] += reordered;
        expected.extend(vec![sequence; copies as usize]);
    }
    assert!(done[0] > 5 && done[1] > 0 && done[2] > 2, "{done:?}");
    let names = ["lost", "duplicated", "reordered", "refused"];
    assert_eq!(names.map(|name| report["audio"]["impairment"][name].as_u64().unwrap() as u32), done);
    assert_eq!((rows.len(), count("audio", "sent"), count("audio", "lost")), (375, 375, 0));
    assert_eq!(report["target"], format!("{} ({options})", server.to()));

    // LATENCY_INFO is sent once.
    server.wait_for(expected.len() + count("keepalive", "sent") + count("ping", "sent") + 1);
    let mut received: Vec<u32> = server.received_of(AUDIO).iter().map(|packet| packet.sequence).collect();
    assert!(!received.is_sorted(), "{received:?}");
    received.sort_unstable();
    expected.sort_unstable();
    assert_eq!(received, expected);
    assert_eq!(server.received_of(KEEPALIVE).len(), count("keepalive", "sent"));
}

#[test]
fn network_is_printed_as_the_options_for_which_it_stands() {
    let server = Server::silent();
    let line = format!("send --tone 440 --duration 100ms --to {} --no-echo --spin 0 --json", server.to());
    let target = |options: &str| document::report(&run(&format!("{line}{options}")))["target"].clone();
    let wifi = format!("{} (--loss 0.5%,50% --jitter 2ms --bandwidth 100mbit,16ms --seed 7)", server.to());
    assert_eq!(target(" --network wifi --jitter 2ms --seed 7"), wifi);
    assert_eq!(target(""), server.to());
}

#[test]
fn recorded_run_becomes_the_impairment() {
    let (server, folder) = (Server::silent(), tempfile::tempdir().unwrap());
    let (record, log) = (folder.path().join("run.jsonl"), folder.path().join("outcomes.csv"));
    let probe = "probe --embedded --spin 0 --loss 20% --seed 7 --interval 5ms --count";
    run_to_success(&format!("{probe} 400 --record-run {}", record.display()));
    let line = format!("send --tone 440 --duration 1s --to {} --no-echo --spin 0 --json --like", server.to());
    let output = run(&format!("{line} {} --seed 7 --outcome-log {}", record.display(), log.display()));
    let rows = fs::read_to_string(&log).unwrap();
    let outcomes: Vec<&str> = rows.lines().skip(1).map(|row| row.split(',').nth(4).unwrap()).collect();
    let count = |outcome: &str| outcomes.iter().filter(|other| **other == outcome).count();
    assert!(count("recorded") > 0 && count("sent") + count("recorded") == 375, "{outcomes:?}");
    let report = document::report(&output);
    assert_eq!(report["audio"]["impairment"]["lost"], count("recorded"));
    assert_eq!(report["target"], format!("{} (--like run.jsonl --seed 7)", server.to()));
    let notices = ["--like: the record has ", " s and repeats; it has ", "/s, this flow has 375/s: the record passes "];
    assert!(notices.iter().all(|notice| output.stderr.contains(notice)), "{}", output.stderr);

    run(&format!("{probe} 10 --record-run {}", record.display()));
    let output = run(&format!("{line} {}", record.display()));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("settled packets, but needs 100; record a longer run"), "{output:?}");
}
