//! `send --no-echo` with impairment, as a receiver sees it: exactly the packets that the seed decides arrive, and the report and the outcome
//! log contain what was done.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use jamjam_dev::impairment::{DEFAULT_REORDER_DELAY, Impairer, Impairment};
use jamjam_dev::wire::PacketType;
use test_support::client::{AUDIO, KEEPALIVE, Server, document, run, run_to_success};

#[test]
fn receiver_gets_exactly_the_packets_that_the_seed_decides() {
    let (server, folder) = (Server::silent(), tempfile::tempdir().unwrap());
    let log = folder.path().join("outcomes.csv");
    let options = "--loss 10% --jitter 20ms --reorder 5%,10ms --duplicate 2% --seed 7";
    let line = format!("send --tone 440 --duration 1s --to {} --no-echo --spin 0 --json", server.to());
    let report = document::report(&run(&format!("{line} {options} --outcome-log {}", log.display())));
    let count = |stream: &str, name: &str| report["streams"][stream][name].as_u64().unwrap() as usize;

    let jitter = Duration::from_millis(20);
    let impairment = Impairment {
        loss: 0.1,
        jitter,
        reorder: Some((0.05, DEFAULT_REORDER_DELAY)),
        duplicate: 0.02,
        seed: 7,
        ..Impairment::default()
    };
    let mut impairer = Impairer::new(impairment);
    let rows = fs::read_to_string(&log).unwrap();
    let rows: Vec<Vec<&str>> = rows.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let (mut expected, mut held_back, mut done) = (Vec::new(), BTreeMap::new(), [0; 4]);
    for cells in &rows {
        let sequence: u32 = cells[3].parse().unwrap();
        let decision = impairer.decide(Some(PacketType::Audio), sequence, None);
        assert_eq!(held_back.insert(sequence, decision.reorder_delay.is_some()), None, "two rows for {sequence}");
        assert_eq!([cells[1], cells[2]], [&server.to(), "AUDIO"]);
        if decision.loss.is_some() {
            done[0] += 1;
            assert_eq!(cells[4..], ["lost", "0", "", "0"]);
            continue;
        }
        let (copies, reordered) = (decision.copies.to_string(), u8::from(decision.reorder_delay.is_some()).to_string());
        assert_eq!([cells[4], cells[5], cells[7]], ["sent", &reordered, &copies]);
        // At most the jitter. A packet that is held back leaves after 10 ms and a later packet, or after 1 s.
        let added = if decision.reorder_delay.is_some() { 10_000.0..=1_020_000.0 } else { 0.0..=20_000.0 };
        assert!(added.contains(&cells[6].parse::<f64>().unwrap()), "{cells:?}");
        done[1] += usize::from(decision.copies - 1);
        done[2] += usize::from(decision.reorder_delay.is_some());
        expected.extend(vec![sequence; decision.copies.into()]);
    }
    assert!(done[0] > 5 && done[1] > 0 && done[2] > 2, "{done:?}");
    let names = ["lost", "duplicated", "reordered", "refused"];
    assert_eq!(names.map(|name| report["audio"]["impairment"][name].as_u64().unwrap() as usize), done);
    assert_eq!((rows.len(), count("audio", "sent")), (375, 375));
    assert_eq!(count("audio", "lost"), 0);
    assert_eq!(report["target"], format!("{} ({options})", server.to()));

    // LATENCY_INFO is sent once.
    server.wait_for(expected.len() + count("keepalive", "sent") + count("ping", "sent") + 1);
    let received: Vec<u32> = server.received_of(AUDIO).iter().map(|packet| packet.sequence).collect();
    let sorted = |mut sequences: Vec<u32>| {
        sequences.sort_unstable();
        sequences
    };
    assert_eq!(sorted(received.clone()), sorted(expected));
    // Only packets that are held back change their place.
    let others: Vec<u32> = received.iter().copied().filter(|sequence| !held_back[sequence]).collect();
    assert!(others.is_sorted() && !received.is_sorted(), "{received:?}");
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
    let notices =
        ["--like: the record has ", " s and repeats; it has ", "/s, this flow has 375/s: one recorded loss is "];
    assert!(notices.iter().all(|notice| output.stderr.contains(notice)), "{}", output.stderr);

    run(&format!("{probe} 10 --record-run {}", record.display()));
    let output = run(&format!("{line} {}", record.display()));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("settled packets, but needs 100; record a longer run"), "{output:?}");
}
