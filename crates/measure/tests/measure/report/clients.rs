//! Several clients: which is the worst, limits on it, and what limited the run.

use std::fmt::Write;
use std::time::Duration;

use jamjam_core::stats::{FinalOutcome, HostTiming, PacingStats, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, LinkFailure, LinkResults, LossReport, RunResults, ServerResults, SharedRecord,
};
use jamjam_measure::document::Judgment;
use jamjam_measure::report::Report;
use jamjam_measure::report::clients::merge_clients;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::verdict::Judged;

use super::runs::{MS, all_lost, probe, send, stream};
use test_support::snapshot;

/// A client of 200 packets, of which `lost` are lost and the others return after `ms`.
fn client(lost: u64, ms: i64) -> RunResults {
    let returned = stream(StreamStats::new(), vec![ms * MS; 200 - lost as usize]);
    RunResults { duration_ns: 2_000_000_000, ..probe(StreamStats { sent: 200, lost, ..returned }) }
}

fn merged(limits: &Limits, clients: impl IntoIterator<Item = RunResults>, late: Duration) -> RunResults {
    let mut pacing = PacingStats::default();
    (0..200).map(Time::from_millis).for_each(|due| pacing.on_sent(due, due + late));
    let mut run = merge_clients(clients.into_iter().map(|client| (client, 84_000)), limits).expect("clients");
    SharedRecord { pacing: Box::new(pacing), ..SharedRecord::default() }.add_to(&mut run);
    run
}

fn report(limits: &Limits, clients: impl IntoIterator<Item = RunResults>) -> Report {
    Report::new(&merged(limits, clients, Duration::from_micros(80)), limits)
}

fn max_p99(ms: u64) -> Limits {
    Limits { max_p99: Some(Duration::from_millis(ms)), ..Limits::default() }
}

/// The numbers of the client and of its lost packets.
fn worst(limits: &Limits, clients: impl IntoIterator<Item = RunResults>) -> (usize, u64) {
    let worst = report(limits, clients).clients.and_then(|clients| clients.worst).expect("a client");
    (worst.number, worst.lost)
}

#[test]
fn worst_client_fails_or_else_has_the_highest_loss_and_then_p99() {
    let no_limits = Limits::default();
    assert_eq!(worst(&no_limits, vec![client(1, 9), client(3, 5), client(2, 8)]), (2, 3));
    assert_eq!(worst(&no_limits, vec![client(2, 5), client(2, 9), client(2, 8)]), (2, 2));
    assert_eq!(worst(&max_p99(8), vec![client(5, 7), client(1, 9), client(2, 8)]), (2, 1));
    assert_eq!(worst(&no_limits, vec![client(5, 7), probe(all_lost())]), (2, 100));
}

#[test]
fn limits_apply_to_all_clients_together_and_to_the_worst() {
    let limits = Limits { max_loss: Some(0.01), ..Limits::default() };
    let results = |clients: Vec<RunResults>| {
        let report = report(&limits, clients);
        let result = |one: &&Judgment| (one.subject.clone(), one.measured, one.result);
        (report.head.limits().iter().map(result).collect::<Vec<_>>(), report.exit_code(), report.head.verdict.reasons)
    };
    let (compared, code, reasons) = results(vec![client(0, 5), client(2, 5)]);
    assert_eq!(
        (compared, code),
        (vec![(String::new(), Some(0.005), Judged::Met), ("client 2".to_owned(), Some(0.01), Judged::Met)], 0)
    );
    assert!(reasons.is_empty(), "{reasons:?}");
    let (compared, code, reasons) = results(vec![client(0, 5), client(3, 5)]);
    assert_eq!(
        (compared, code),
        (vec![(String::new(), Some(0.007_5), Judged::Met), ("client 2".to_owned(), Some(0.015), Judged::Exceeded)], 1)
    );
    assert_eq!(reasons, ["client 2: --max-loss 1 % exceeded: 1.5 %"]);
}

#[test]
fn client_without_replies_fails_the_run() {
    let report = report(&Limits::default(), vec![client(0, 5), probe(all_lost()), client(0, 5)]);
    assert_eq!(
        (report.exit_code(), report.head.verdict.reasons),
        (1, vec!["client 2: no replies received".to_owned()])
    );
}

#[test]
fn counts_are_added_and_the_report_names_clients_and_their_pacing_error() {
    let run = merged(&Limits::default(), vec![client(1, 20), client(3, 60)], Duration::from_micros(80));
    let report = Report::new(&run, &Limits::default());
    let ping = report.streams.ping.as_ref().expect("pings");
    assert_eq!((ping.sent, ping.returned, ping.lost, ping.rtt_min_us), (400, 396, 4, Some(20_000.0)));
    let clients = report.clients.as_ref().expect("clients");
    assert_eq!((clients.count, clients.bytes_per_flow), (2, 84_000));
    let worst = clients.worst.as_ref().expect("a client");
    assert_eq!((worst.number, worst.lost, worst.rtt_p50_us), (2, 3, Some(60_000.0)));
    let text = report.document().text(false, false, None);
    assert!(text.contains("\nworst\nnumber                2\nloss                  1.5 %\n"), "{text}");
    assert!(text.contains("\nlateness\np99                   80.0 µs\n"), "{text}");
}

/// A client of which the server received so many pings.
fn with_received(lost: u64, pings: Option<u32>) -> RunResults {
    let received = pings.map(|pings| [0, pings, 0]);
    let loss_report = Some(LossReport { response_received: true, received, ..LossReport::default() });
    RunResults { loss_report, ..client(lost, 5) }
}

#[test]
fn direction_of_loss_is_that_of_all_clients() {
    let directions = |clients: Vec<RunResults>| {
        let report = report(&Limits::default(), clients);
        let ping = report.streams.ping.as_ref().expect("pings");
        let warnings = report.head.warnings.iter().map(|warning| warning.message.clone());
        ((ping.lost_upstream, ping.lost_downstream), warnings.collect::<Vec<_>>().join("\n"))
    };
    // A client without a loss, before or after the others, does not ask for the final counts.
    let lossy = || [with_received(3, Some(199)), with_received(2, Some(198))];
    for clients in [
        [vec![with_received(0, None)], lossy().into()].concat(),
        [lossy().into(), vec![with_received(0, None); 2]].concat(),
    ] {
        let (known, warnings) = directions(clients);
        assert_eq!(known, (Some(3), Some(2)));
        assert!(!warnings.contains("direction"), "{warnings}");
    }
    let (unknown, warnings) = directions([lossy().into(), vec![with_received(1, None)]].concat());
    assert_eq!(unknown, (None, None));
    let reason = "the direction of 6 lost LATENCY_PING packets is unknown: not every client received the server's final packet counts";
    assert!(warnings.contains(reason), "{warnings}");
    let mut excluded = with_received(2, Some(198));
    excluded.ping.as_mut().expect("pings").excluded = 1;
    let (unknown, warnings) = directions([lossy().into(), vec![excluded]].concat());
    assert_eq!(unknown, (None, None));
    assert!(warnings.contains("is unknown: some packets were excluded because of a pause"), "{warnings}");
}

#[test]
fn streams_that_are_not_evaluated_have_no_course_over_time() {
    let mut client = client(0, 5);
    let mut audio = stream(StreamStats::new(), vec![5 * MS; 20]);
    audio.on_settled(Time::from_millis(7), FinalOutcome::Lost);
    client.audio = Some(AudioResults { stats: audio, ..AudioResults::default() });
    assert_eq!(client.audio.as_ref().map(|audio| audio.stats.history.intervals.len()), Some(1));
    let run = merged(&Limits::default(), [client.clone(), client], Duration::ZERO);
    assert_eq!(run.audio.map(|audio| audio.stats.history.intervals.len()), Some(0));
}

#[test]
fn finding_names_host_limit_of_server_or_server() {
    let remote = |run| RunResults { target: "192.0.2.1:5000".to_owned(), ..run };
    let host_timing = Some(HostTiming { kernel_dropped: Some(2), ..HostTiming::default() });
    let overflown = RunResults { host_timing, ..client(1, 5) };
    let failure = Some((LinkFailure::NoReply, 5_000_000_000));
    let link = Some(LinkResults { failure, ..LinkResults::default() });
    let no_link = RunResults { link, ..probe(StreamStats::new()) };
    // In two seconds, 100 clients of 200 packets send 10,000 packets per second.
    let flood = |run: RunResults| [vec![client(1, 5)], vec![run; 99]].concat();
    // 20 clients of 200 packets with 4 kB in 0.1 s.
    let stats = StreamStats { lost: 1, sent: 201, ..stream(StreamStats::new(), vec![MS; 200]) };
    let audio = AudioResults { stats, ip_bytes: 4_000, ..AudioResults::default() };
    let large = RunResults { duration_ns: 2_000_000_000, ..remote(send(audio)) };
    let known = RunResults { server: Some(ServerResults::default()), ..client(0, 5) };
    let mut text = String::new();
    for (name, clients, late_us) in [
        ("nothing lost", vec![client(0, 5); 2], 80),
        ("loss", vec![client(0, 5), client(1, 5)], 80),
        ("no replies", vec![probe(all_lost()); 2], 80),
        ("loss, and a late host", vec![client(0, 5), client(1, 5)], 1_100),
        ("loss, and a full receive buffer", vec![client(0, 5), overflown], 80),
        ("no client has a link", vec![no_link.clone(); 2], 80),
        ("one client has no link", vec![client(0, 5), no_link], 80),
        ("many packets to another host", flood(client(0, 5)).into_iter().map(remote).collect(), 80),
        ("many packets to this host", flood(client(0, 5)), 80),
        ("many bits to another host", vec![large; 21], 80),
        ("one client does not know the delay", [vec![known; 1_024], vec![client(0, 5)]].concat(), 80),
    ] {
        let run = merged(&Limits::default(), clients, Duration::from_micros(late_us));
        let findings = Report::new(&run, &Limits::default()).head.findings;
        let found = findings.first().map(|finding| (finding.code, &finding.message, &finding.remedy));
        writeln!(text, "# {name}\n{found:?}").expect("memory");
    }
    snapshot::assert_matches("measure/clients", &text);
}
