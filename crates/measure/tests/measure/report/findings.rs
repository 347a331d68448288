//! The sentences that name what is wrong with a path, on simulated paths.

use std::fmt::Write;

use jamjam_core::stats::{AddressChange, FinalOutcome, HostTiming, Reordering, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, CountSample, LinkResults, LossReport, PauseResults, RunKind, RunResults, ServerResults, SharedRecord,
};
use jamjam_measure::document::wrap;
use jamjam_measure::report::Report;
use jamjam_measure::report::clients::merge_clients;
use jamjam_measure::report::limits::Limits;

use super::runs::{self, MS, report, send};
use test_support::rng::{Rng, simulations};
use test_support::snapshot;

/// A probe of another host.
fn probe(ping: StreamStats) -> RunResults {
    RunResults { target: "192.0.2.1:5000".to_owned(), ..runs::probe(ping) }
}

/// Interval between packets in nanoseconds.
const INTERVAL: i64 = 10 * MS;

/// A stream in which each packet returns after its round trip; `None` is a lost packet.
fn stream(round_trips: &[Option<i64>]) -> StreamStats {
    let mut stats = StreamStats::new();
    let sent_at = |n: usize| Time::from_nanos((5_000 * MS + n as i64 * INTERVAL).cast_unsigned());
    let mut arrivals: Vec<(i64, usize, i64)> = Vec::new();
    for (n, rtt) in round_trips.iter().enumerate() {
        stats.on_sent(sent_at(n));
        arrivals.extend(rtt.map(|rtt| (n as i64 * INTERVAL + rtt, n, rtt)));
    }
    arrivals.sort_unstable();
    let mut reordering = Reordering::default();
    for (at, n, rtt) in arrivals {
        stats.on_return(sent_at(n), rtt);
        if let Some(packet) = reordering.on_arrival(n as u64, Time::from_nanos(at.cast_unsigned())) {
            stats.on_reordered(packet);
        }
    }
    for (n, rtt) in round_trips.iter().enumerate() {
        stats.on_settled(sent_at(n), rtt.map_or(FinalOutcome::Lost, |rtt| FinalOutcome::Returned { rtt }));
    }
    stats
}

fn messages(run: &RunResults) -> Vec<String> {
    report(run).head.findings.into_iter().map(|finding| finding.message).collect()
}

fn codes(round_trips: &[Option<i64>]) -> Vec<&'static str> {
    let findings = report(&probe(stream(round_trips))).head.findings;
    findings.into_iter().map(|finding| finding.code).collect()
}

/// A delay with an exponential distribution, in nanoseconds.
fn exponential(rng: &mut Rng, mean: i64) -> i64 {
    let uniform = (rng.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
    (-uniform.ln() * mean as f64) as i64
}

/// Round trips of a path that delivers in order and stalls at the given times (start, duration) in nanoseconds.
fn stalled(packets: usize, base: i64, stalls: &[(i64, i64)]) -> Vec<Option<i64>> {
    (0..packets as i64)
        .map(|n| {
            let sent = n * INTERVAL;
            let stall = stalls.iter().find(|(start, duration)| (*start..start + duration).contains(&sent));
            Some(base + stall.map_or(0, |(start, duration)| start + duration - sent))
        })
        .collect()
}

/// Round trips that rise and fall slowly, so that no packet overtakes another.
fn varying(packets: i64) -> impl Iterator<Item = i64> {
    (0..packets).map(|n| 20 * MS + (n % 100 - 50).abs() * MS)
}

/// Two packets of each 100 take 25 ms longer than the others.
fn reordered() -> Vec<Option<i64>> {
    (0..1_000).map(|n| Some(if n % 50 == 3 { 45 * MS } else { 20 * MS })).collect()
}

#[test]
fn regular_stalls_are_found_with_duration_and_period_between_others() {
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let duration = (100 + rng.below(300)) as i64 * MS;
        let period = (2_500 + rng.below(5_000)) as i64 * MS;
        let count = 4 + rng.below(20) as i64;
        let mut jitter = || rng.below(1 + period.cast_unsigned() / 20).cast_signed();
        let regular: Vec<(i64, i64)> = (0..count).map(|n| (600 * MS + n * period + jitter(), duration)).collect();
        // At most half as many short stalls as regular ones, between them.
        let short =
            (0..rng.below(1 + count.cast_unsigned() / 2)).map(|n| (n.cast_signed() * period + 2_000 * MS, 40 * MS));
        let stalls: Vec<(i64, i64)> = regular.into_iter().chain(short).collect();
        let stream = stream(&stalled(((count + 1) * period / INTERVAL) as usize, 20 * MS, &stalls));
        assert_eq!(stream.stalls.count, stalls.len() as u64, "seed {seed}");
        let median = stream.stalls.median_ns().expect("a stall");
        assert!((duration - INTERVAL..=duration).contains(&median), "seed {seed}: {median} {duration}");
        let (regular, found) = stream.stalls.regular().expect("a period");
        assert_eq!(regular, count.cast_unsigned(), "seed {seed}");
        assert!((found - period).abs() <= period / 10 + INTERVAL, "seed {seed}: {found} {period}");
    }
}

#[test]
fn option_of_the_same_command_is_named_and_needs_no_advice() {
    let bad: Vec<Option<i64>> = varying(3_000).zip(0..).map(|(rtt, n)| (n % 10 > 0).then_some(rtt)).collect();
    let mut run = probe(stream(&bad));
    run.target = "embedded echo server (100 ms, --loss 10% --jitter 20ms --seed 7)".to_owned();
    // This host is busy, too.
    run.pauses.total_ns = 100_000_000;
    let found = |run: &RunResults| {
        report(run)
            .head
            .findings
            .into_iter()
            .map(|found| (found.code, found.remedy.is_some(), found.message))
            .collect::<Vec<_>>()
    };
    assert!(found(&run).iter().all(|(_, has_remedy, _)| *has_remedy) && found(&run).len() > 1, "{:?}", found(&run));
    for (line, option) in
        [("probe --embedded --network wifi-bad", "--network"), ("probe --embedded --like=x.json", "--like")]
    {
        run.origin.command_line = format!("jamjam-dev {line}");
        let cause = format!("The cause is {option} of this command.");
        let all = found(&run);
        assert!(
            all.len() > 1 && all.iter().all(|(_, has_remedy, text)| !has_remedy && text.ends_with(&cause)),
            "{all:?}"
        );
    }
    run.origin.command_line = "jamjam-dev probe --embedded --duplicate 1%".to_owned();
    assert!(found(&run).iter().all(|(_, has_remedy, _)| *has_remedy), "another option explains nothing");
}

#[test]
fn rare_stalls_do_not_explain_a_varying_delay() {
    for (stalls, expected) in [(1, &["delay_variation", "stalls"][..]), (6, &["stalls"])] {
        let stalls: Vec<(i64, i64)> = (1..=stalls).map(|n| (n * 4_000 * MS, 300 * MS)).collect();
        let mut round_trips = stalled(6_000, 20 * MS, &stalls);
        for (n, rtt) in round_trips.iter_mut().enumerate() {
            *rtt = rtt.map(|rtt| rtt + if rtt == 20 * MS { [0, 16, 8][n % 3] * MS } else { 0 });
        }
        let run = RunResults { duration_ns: 60_000_000_000, ..probe(stream(&round_trips)) };
        let codes: Vec<_> = report(&run).head.findings.into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, expected, "{} stalls", stalls.len());
    }
}

#[test]
fn irregular_stalls_have_no_period() {
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let mut start = 0;
        // Intervals differ by a factor of up to 8.
        let mut next = || {
            start += 1_000 * MS * [1, 2, 4, 8][rng.below(4) as usize];
            (start, 200 * MS)
        };
        let stalls: Vec<(i64, i64)> = (0..20).map(|_| next()).collect();
        let stream = stream(&stalled((start / INTERVAL) as usize + 100, 20 * MS, &stalls));
        assert_eq!(stream.stalls.count, 20, "seed {seed}");
        assert!(stream.stalls.regular().is_none(), "seed {seed}");
    }
}

#[test]
fn independent_delays_are_no_stalls_and_small_ones_no_finding() {
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let (base, noise) = ((1 + rng.below(100)).cast_signed() * MS, rng.below(2_000_000));
        let small: Vec<Option<i64>> = (0..2_000).map(|_| Some(base + rng.below(noise + 1).cast_signed())).collect();
        assert!(codes(&small).is_empty(), "seed {seed}");
        let mean = (1 + rng.below(40)).cast_signed() * MS;
        let large: Vec<Option<i64>> = (0..3_000).map(|_| Some(base + exponential(&mut rng, mean))).collect();
        assert!(!codes(&large).contains(&"stalls"), "seed {seed}, mean {mean}");
    }
}

#[test]
fn random_and_bursty_loss_are_told_apart() {
    let mut classified = [0; 2];
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let bursty = seed % 2 == 1;
        let permille = 10 + rng.below(100);
        let mut in_burst = false;
        let round_trips: Vec<Option<i64>> = (0..10_000)
            .map(|_| {
                // A burst has four packets on average.
                in_burst = if in_burst { rng.below(4) > 0 } else { bursty && rng.below(4_000) < permille };
                let is_lost = if bursty { in_burst } else { rng.below(1_000) < permille };
                (!is_lost).then_some(20 * MS)
            })
            .collect();
        let found = messages(&probe(stream(&round_trips)));
        let expected = if bursty { "in bursts of " } else { "at random, not in bursts" };
        classified[usize::from(bursty)] += u64::from(found[0].contains(expected));
    }
    // A classification with a threshold of three standard deviations errs in about 1 of 700 runs.
    assert!(classified.iter().all(|count| count * 50 >= simulations() / 2 * 49), "{classified:?}");
}

/// The middle packet of each `interval` and the packets of the outage `down` are lost.
fn losses(packets: i64, interval: i64, down: std::ops::Range<i64>) -> Vec<Option<i64>> {
    (0..packets).map(|n| (n % interval != interval / 2 && !down.contains(&n)).then_some(20 * MS)).collect()
}

// The closures return messages and not runs, because many runs do not fit on the stack of a test.
#[test]
fn findings_match_their_snapshot() {
    let messages = |run: &RunResults| {
        let findings = report(run).head.findings.into_iter();
        findings
            .map(|finding| format!("{} [{}]", finding.message, finding.remedy.expect("a remedy")))
            .collect::<Vec<_>>()
    };
    let of = |stats: StreamStats| messages(&probe(stats));
    let lossy = |received: Option<u32>| {
        let received = received.map(|received| [0, received, 0]);
        let loss_report = received.map(|received| LossReport { received: Some(received), ..LossReport::default() });
        messages(&RunResults { loss_report, ..probe(stream(&losses(1_000, 20, 0..0))) })
    };
    let stalls = |stalls: &[(i64, i64)], server: Option<ServerResults>| {
        let stalls: Vec<(i64, i64)> = stalls.iter().map(|(start, duration)| (start * MS, duration * MS)).collect();
        messages(&RunResults { server, ..probe(stream(&stalled(3_000, 20 * MS, &stalls))) })
    };
    let outage = |down: std::ops::Range<i64>, moved: bool, unreachable: Option<[i64; 2]>| {
        let change = AddressChange { from: [192, 0, 2, 1].into(), to: [192, 0, 2, 2].into() };
        let host_timing = moved.then(|| HostTiming { address_changes: vec![change], ..HostTiming::default() });
        let port_unreachable_ns = unreachable.map(|times| times.map(|ms| ms * MS));
        let run = probe(stream(&losses(2_000, i64::MAX, down)));
        messages(&RunResults { host_timing, port_unreachable_ns, ..run })
    };
    let keys = |down: std::ops::Range<i64>, is_encrypted: bool, last_datagram_ms: i64| {
        let link = Some(LinkResults { is_encrypted, ..LinkResults::default() });
        // The port was closed until 12.9 s while the server restarted.
        let port_unreachable_ns = Some([12_101 * MS, 12_900 * MS]);
        let last_datagram_ns = Some(last_datagram_ms * MS);
        let run = probe(stream(&losses(2_000, i64::MAX, down)));
        messages(&RunResults { link, port_unreachable_ns, last_datagram_ns, ..run })
    };
    // The pause in milliseconds and the dropped datagrams of this host and of the server.
    let disturbed = |round_trips: &[Option<i64>], paused_ms: [u64; 2], dropped: [u64; 2]| {
        let [here, there] =
            paused_ms.map(|ms| PauseResults { count: 1, total_ns: ms * 1_000_000, ..PauseResults::default() });
        let host_timing = Some(HostTiming { kernel_dropped: Some(dropped[0]), ..HostTiming::default() });
        let server = Some(ServerResults { pauses: there, dropped: dropped[1], ..ServerResults::default() });
        messages(&RunResults { pauses: here, host_timing, server, ..probe(stream(round_trips)) })
    };
    let lossy_path = losses(1_000, 20, 0..0);
    let stalling = stalled(3_000, 20 * MS, &[(1_000 * MS, 300 * MS)]);
    let of_two = |clients: [&[Option<i64>]; 2]| {
        let of_a_minute = RunResults { duration_ns: 60_000_000_000, ..probe(StreamStats::new()) };
        let clients = clients.map(|rtts| (RunResults { ping: Some(stream(rtts)), ..of_a_minute.clone() }, 1));
        let mut run = merge_clients(clients.into_iter(), &Limits::default()).expect("clients");
        SharedRecord::default().add_to(&mut run);
        messages(&run)
    };
    let [steady, down] = [0..0, 1_000..1_300].map(|down| losses(6_000, i64::MAX, down));
    let stalls_of_one = stalled(6_000, 20 * MS, &[1, 2, 3, 4, 5, 6].map(|n| (n * 9_000 * MS, 300 * MS)));
    let reordered = reordered();
    let irregular = [(1_000, 60), (2_000, 100), (5_000, 80), (7_000, 90), (8_000, 90)];
    // The server reports that it did not pause.
    let server = || Some(ServerResults::default());
    let mut text = String::new();
    for (name, messages) in [
        ("6 regular stalls", stalls(&[1, 6, 11, 16, 21, 26].map(|start| (1_000 * start, 200)), server())),
        ("two stalls", stalls(&[(1_000, 60), (3_000, 100)], server())),
        ("irregular stalls", stalls(&irregular, server())),
        ("one stall", stalls(&irregular[..1], server())),
        // Hosts detect pauses from 50 ms.
        ("stall of 50 ms", stalls(&[(1_000, 50)], server())),
        ("stall of 49 ms", stalls(&[(1_000, 49)], server())),
        ("stall, and the server reports no pauses", stalls(&[(1_000, 400)], None)),
        ("loss in an unknown direction", lossy(None)),
        ("loss upstream", lossy(Some(950))),
        ("loss downstream", lossy(Some(998))),
        ("loss in both directions", lossy(Some(970))),
        ("twelve of many packets lost", of(stream(&losses(250_000, 20_833, 0..0)))),
        ("two packets lost, too few for a pattern", of(stream(&losses(1_000, 500, 0..0)))),
        ("outage", outage(1_210..1_531, false, None)),
        ("outage until the end", outage(1_800..2_000, false, None)),
        ("outage and change of address", outage(1_210..1_531, true, None)),
        ("outage and closed port", outage(1_210..1_531, false, Some([12_101, 12_101]))),
        ("port closed before the outage", outage(1_210..1_531, false, Some([1_000, 12_000]))),
        ("port closed after the outage", outage(1_210..1_531, false, Some([15_400, 16_000]))),
        ("outage and other losses", of(stream(&losses(3_000, 100, 1_050..1_350)))),
        ("100 packets lost within 0.99 s", outage(500..600, false, None)),
        ("all lost", outage(0..2_000, false, None)),
        ("reordering", of(stream(&reordered))),
        ("duplicates", of(StreamStats { duplicated: 20, ..stream(&[Some(20 * MS); 1_000]) })),
        ("varying delay", of(stream(&varying(1_000).map(Some).collect::<Vec<_>>()))),
        ("outage, and sealed replies do not open", keys(1_210..2_000, true, 19_800)),
        ("the same without encryption", keys(1_210..2_000, false, 19_800)),
        ("the same, and nothing arrives", keys(1_210..2_000, true, 12_150)),
        ("the same, and replies arrive again", keys(1_210..1_531, true, 19_800)),
        ("loss, and a full receive buffer here", disturbed(&lossy_path, [0, 0], [30, 0])),
        ("loss, and a full receive buffer of the server", disturbed(&lossy_path, [0, 0], [0, 70])),
        ("stall, and a pause of this host", disturbed(&stalling, [290, 0], [0, 0])),
        ("stall, and a pause of the server", disturbed(&stalling, [0, 290], [0, 0])),
        ("large packets lost upstream", messages(&large_packets(0, Some(2)))),
        // Some short packets return, for example the last one of a file.
        ("all large packets lost downstream but one", messages(&large_packets(1, Some(500)))),
        ("large packets lost, counts unknown", messages(&large_packets(0, None))),
        // The worst client is named. The stalls of one client do not explain the delays of all.
        ("two clients, outage of the second", of_two([&steady, &down])),
        ("two clients, stalls of the first", of_two([&stalls_of_one, &steady])),
        ("two clients", of_two([&steady, &steady])),
        ("two clients, the second without a reply", of_two([&steady, &vec![None; 6_000]])),
    ] {
        writeln!(text, "# {name}\n{}", messages.join("\n")).expect("memory");
    }
    snapshot::assert_matches("measure/findings", &text);
}

/// Runs with each kind of finding, against `target`, whose timers fired up to `timer_error_ms` late.
fn faulty_runs(target: &str, timer_error_ms: i64) -> Vec<RunResults> {
    let stall = (1..=6).map(|n| (n * 4_000 * MS, 300 * MS)).collect::<Vec<_>>();
    let streams = vec![
        stream(&stalled(3_000, 20 * MS, &stall)),
        stream(&stalled(3_000, 20 * MS, &stall[..1])),
        stream(&varying(1_000).map(Some).collect::<Vec<_>>()),
        stream(&losses(2_000, i64::MAX, 1_210..1_531)),
        stream(&losses(1_000, 20, 0..0)),
        stream(&reordered()),
        StreamStats { duplicated: 20, ..stream(&[Some(20 * MS); 1_000]) },
    ];
    let mut host = HostTiming::default();
    (0..200).for_each(|_| host.timer_error.record(timer_error_ms * MS));
    let host = Some(host);
    let run = |stats| RunResults { target: target.to_owned(), host_timing: host.clone(), ..probe(stats) };
    streams.into_iter().map(run).collect()
}

#[test]
fn no_finding_on_loopback_speaks_of_the_network() {
    let words = ["Wi-Fi", "router", "The path", "parallel", "cable", "radio"];
    let speaks = |run: &RunResults| words.iter().any(|word| format!("{:?}", report(run).head.findings).contains(word));
    for target in [
        "127.0.0.1:5000",
        "[::1]:5000",
        "localhost:5000",
        "embedded echo server (100 ms)",
        "moqt://127.1.2.3:4443/echo",
        "room (127.0.0.1:5000)",
    ] {
        for run in faulty_runs(target, 0) {
            assert!(
                !report(&run).head.findings.is_empty() && !speaks(&run),
                "{target}: {:?}",
                report(&run).head.findings
            );
        }
    }
    for target in ["192.0.2.1:5000", "example.com:5000", "room (192.0.2.1:5000)"] {
        // Duplicates have no typical cause.
        assert!(faulty_runs(target, 0)[..6].iter().all(speaks), "{target}");
    }
}

#[test]
fn host_whose_timer_errors_have_the_size_of_the_effect_is_named_first() {
    // Two stalls of 300 ms, and round trips that differ by 50 ms.
    let named = |timer_error_ms: i64, first: &str| {
        let runs = faulty_runs("192.0.2.1:5000", timer_error_ms);
        runs[..3].iter().filter(|run| messages(run)[0].contains(first)).count()
    };
    let likely = "The likely cause is this host: its timers fired up to ";
    assert_eq!((named(200, likely), named(40, likely), named(10, likely)), (3, 1, 0));
}

#[test]
fn last_24_lines_show_verdict_loss_round_trip_and_reason() {
    let stalls: Vec<(i64, i64)> = (0..6).map(|n| (1_000 * MS + n * 5_000 * MS, 200 * MS)).collect();
    let mut round_trips = stalled(3_000, 20 * MS, &stalls);
    (0..3_000).filter(|n| n % 17 < 2).for_each(|n| round_trips[n] = None);
    let limits = Limits { max_loss: Some(0.01), ..Limits::default() };
    let report = Report::new(&probe(stream(&round_trips)), &limits);
    let screen = wrap::wrap(&report.document().text(false, true, None), 80, wrap::CONTINUATION);
    assert!(screen.lines().all(|line| line.replace("\x1b[31m", "").replace("\x1b[0m", "").chars().count() <= 88));
    let plain = wrap::wrap(&report.document().text(false, false, None), 80, wrap::CONTINUATION);
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    let end: Vec<&str> = plain.lines().rev().take(4).collect();
    assert_eq!(end[0], "FAILED: 3000 sent, 11.8 % lost, RTT p50/p99 20/170 ms, no buffer suffices");
    assert_eq!(end[1], "failed: --max-loss 1 % exceeded: 11.8 %");
    assert!(plain.lines().count() <= 44, "{plain}");
}

/// A run of `send` with 500 stereo packets of 256 samples (2,048 bytes), of which `returned` returned, and with ten pings that returned. The
/// server received `received` AUDIO packets.
fn large_packets(returned: u64, received: Option<u32>) -> RunResults {
    let stats = StreamStats { sent: 500, returned, lost: 500 - returned, ..StreamStats::with_rtt_baseline() };
    let format = AudioResults { channels: 2, frame_samples: 256, payload_bytes: 2_048, ..AudioResults::default() };
    let counts = received.map(|audio| CountSample { sent: [500, 10, 0], received: [audio, 10, 0] });
    let server = received.map(|_| ServerResults { counts, ..ServerResults::default() });
    let ping = Some(runs::stream(StreamStats::new(), [MS; 10]));
    RunResults { ping, server, ..send(AudioResults { stats, ip_bytes: 2_088, ..format }) }
}

#[test]
fn server_that_reports_its_counts_is_never_called_missing() {
    for received in [Some(2), Some(500), None] {
        let report = report(&large_packets(0, received));
        let details = &report.head.warnings[0].details;
        let likely = "the path drops packets of this length (see the finding): likely";
        assert!(details[0].starts_with(likely), "{details:?}");
        assert!(details.iter().all(|cause| !cause.contains("no echo server listens")), "{details:?}");
    }
    // The finding names the direction.
    let some = report(&large_packets(1, Some(2)));
    assert!(
        some.head.warnings.iter().all(|warning| !warning.message.contains("direction")),
        "{:?}",
        some.head.warnings
    );
}

#[test]
fn loss_that_length_does_not_explain_is_no_loss_of_large_packets() {
    let is_named = |run: &RunResults| messages(run).iter().any(|message| message.contains("Only large packets"));
    let lost = large_packets(0, Some(2));
    assert!(is_named(&lost));
    // Pings are lost, too.
    let ping = Some(StreamStats { sent: 10, returned: 8, lost: 2, ..StreamStats::new() });
    assert!(!is_named(&RunResults { ping, ..lost.clone() }));
    // Half of the AUDIO returns.
    assert!(!is_named(&large_packets(250, Some(250))));
    // Every path carries short packets, and the server may answer pings only.
    for counted in [None, Some(0), Some(500)] {
        let mut short = large_packets(0, counted);
        short.audio.as_mut().expect("audio").ip_bytes = 576;
        assert!(!is_named(&short));
    }
    // The server delays AUDIO by 5 s, but --delay is 1 s and the time-out 2 s.
    let mut late = large_packets(0, Some(500));
    late.audio.as_mut().expect("audio").configured_server_delay_ns = Some(1_000_000_000);
    late.server.as_mut().expect("a server").delay_ns = 5_000_000_000;
    assert!(!is_named(&late));
    assert!(is_named(&RunResults { server: lost.server.clone(), ..late }));
    // `probe --packet audio` sends no pings, but the server answers queries.
    assert!(is_named(&RunResults { ping: None, run_kind: RunKind::Probe, ..lost }));
}
