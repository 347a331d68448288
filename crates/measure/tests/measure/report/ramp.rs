//! `--ramp`: which steps there are, and how they are judged.

use std::fmt::Write;
use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunResults, SharedRecord, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::{Limits, Profile};
use jamjam_measure::report::ramp::{Ramp, RampFigures};
use jamjam_measure::verdict::{Judged, Verdict};

use super::runs::{MS, all_lost, probe, send, stream};
use test_support::snapshot;

const START: u64 = 7_000;

/// What happens to a packet that is sent while so many clients run.
#[derive(Clone, Copy)]
struct Fate {
    /// The round trip in milliseconds; `None` for a lost packet.
    rtt_ms: Option<i64>,
    late: Duration,
    /// Number of clients that have no link.
    without_link: usize,
}

/// The fate of a packet by the number of clients, and the time in the step in milliseconds.
type Fates<'a> = &'a dyn Fn(usize, u64) -> Fate;

fn on_time(ms: i64) -> Fate {
    Fate { rtt_ms: Some(ms), late: Duration::from_micros(50), without_link: 0 }
}

/// The result and the headline of a ramp to `max` clients, of which each sends 50 packets per second. Also returns the
/// time of the end in seconds.
fn ramp(max: usize, fate: Fates<'_>) -> (RampFigures, String, u64) {
    let plan = RunResults { duration_ns: 1_000_000_000, ..probe(StreamStats::new()) };
    let mut ramp = Ramp::new(Profile::InternetMusic.limits(), max, plan);
    let mut shared = SharedRecord::default();
    let mut stats = StreamStats::new();
    let starts: Vec<u64> = (0..max).map(|client| ramp.start_of(client).as_millis() as u64).collect();
    let mut returns: Vec<(u64, u64, i64)> = Vec::new();
    for ms in (0..).step_by(20) {
        let clients = starts.iter().filter(|start| **start <= ms).count();
        let Fate { rtt_ms, late, without_link } = fate(clients, ms % 5_000);
        shared.started = shared.started.max(clients - without_link);
        let due = Time::from_millis(START + ms);
        for _ in 0..clients {
            stats.on_sent(due);
            shared.pacing.on_sent(due, due + late);
            returns.extend(rtt_ms.map(|rtt| (ms + rtt as u64, ms, rtt)));
        }
        returns.retain(|(at, sent, rtt)| {
            if *at <= ms {
                stats.on_return(Time::from_millis(START + sent), rtt * MS);
            }
            *at > ms
        });
        std::mem::swap(&mut shared.histories[StreamKind::Ping as usize], &mut stats.history);
        let has_ended = ramp.poll(due, &shared);
        std::mem::swap(&mut shared.histories[StreamKind::Ping as usize], &mut stats.history);
        if has_ended {
            let mut report = Report::new(&probe(stream(StreamStats::new(), [MS; 100])), &Limits::default());
            ramp.complete(&mut report);
            let judged = report.ramp.as_ref().map(|ramp| ramp.steps[0].result);
            let outcome = match judged {
                Some(Judged::NotJudged) => 4,
                _ => u8::from(report.ramp.as_ref().is_some_and(|ramp| ramp.clients == 0)),
            };
            assert_eq!(report.exit_code(), outcome);
            return (report.ramp.expect("a ramp"), report.head.headline, ms / 1_000);
        }
        assert!(ms < 600_000, "no end");
    }
    unreachable!("the last loop ends");
}

#[test]
fn ramps_match_their_snapshot() {
    let (good, slow, lost) = (on_time(20), on_time(61), Fate { rtt_ms: None, ..on_time(20) });
    let late = Fate { late: Duration::from_micros(1_500), ..good };
    let rows: [(&str, usize, Fates<'_>); 11] = [
        ("steps grow by a tenth, rounded up, until all clients run", 30, &|_, _| good),
        ("a single step exceeds, then two in a row", 30, &|clients, _| {
            if clients == 13 || clients >= 19 { slow } else { good }
        }),
        ("the first second of a step is slow", 3, &|_, ms| on_time(if ms < 1_000 { 500 } else { 20 })),
        ("the first 1.1 s of a step are slow", 3, &|_, ms| on_time(if ms < 1_100 { 500 } else { 20 })),
        // The fourth step ends after 20 s. Its time-out is 2 s, and the server's next report takes as long.
        ("losses are judged after their time-out, while later steps run", 8, &|clients, ms| {
            if clients > 2 && ms % 400 == 0 { lost } else { good }
        }),
        ("the last step alone exceeds, and is repeated", 3, &|clients, _| if clients == 3 { slow } else { good }),
        ("this host is at its limit", 30, &|clients, _| if clients >= 3 { late } else { good }),
        ("this host cannot send the first step", 30, &|_, _| Fate { late: late.late, ..slow }),
        ("all clients after the second have no link", 30, &|clients, _| Fate {
            without_link: clients.saturating_sub(2),
            ..good
        }),
        ("only the third client has no link", 30, &|clients, _| Fate {
            without_link: usize::from(clients > 2),
            ..good
        }),
        ("one client already exceeds", 30, &|_, _| slow),
    ];
    let mut text = String::new();
    for (name, max, fate) in rows {
        let (figures, headline, seconds) = ramp(max, fate);
        let steps: Vec<_> = figures.steps.iter().map(|step| (step.clients, step.result)).collect();
        writeln!(text, "# {name}\n{} in {seconds} s: {headline}\n{steps:?}", figures.clients).expect("memory");
    }
    snapshot::assert_matches("measure/ramp", &text);
}

/// A server that does not report its delay of 100 ms, with pings of 20 ms, and AUDIO that takes `late_ms` longer in each step.
fn ramp_with_unknown_delay(late_ms: [i64; 3]) -> RampFigures {
    let mut ramp = Ramp::new(Profile::InternetMusic.limits(), 3, send(AudioResults::default()));
    let mut shared = SharedRecord { rtt_baseline_ns: Some(0), started: 3, ..SharedRecord::default() };
    let mut streams = [StreamStats::new(), StreamStats::new()];
    for ms in (0..15_000).step_by(20) {
        let at = Time::from_millis(START + ms);
        let rtt_ms = [120 + late_ms[ms as usize / 5_000], 20];
        for (stream, rtt_ms) in streams.iter_mut().zip(rtt_ms) {
            stream.on_sent(at);
            stream.on_return(at, rtt_ms * MS);
        }
    }
    let [audio, ping] = streams.map(|stream| stream.history);
    (shared.histories[StreamKind::Audio as usize], shared.histories[StreamKind::Ping as usize]) = (audio, ping);
    ramp.poll(Time::from_millis(START + 4_999), &shared);
    assert!(ramp.poll(Time::from_millis(START + 15_000), &shared));
    let mut report = Report::new(&send(AudioResults::default()), &Limits::default());
    ramp.complete(&mut report);
    report.ramp.expect("a ramp")
}

#[test]
fn unknown_delay_of_the_server_is_estimated_from_all_steps() {
    let figures = ramp_with_unknown_delay([0; 3]);
    assert_eq!(figures.result, "3 musicians within internet-music, limit not reached");
    assert!((19_900.0..20_100.0).contains(&figures.steps[0].rtt_p50_us.expect("a round trip")), "{figures:?}");
    let figures = ramp_with_unknown_delay([0, 100, 100]);
    assert_eq!(figures.clients, 1, "{figures:?}");
}

#[test]
fn ramp_without_a_step_is_judged_only_by_missing_replies() {
    let complete = |run: &RunResults| {
        let mut report = Report::new(run, &Limits::default());
        Ramp::new(Profile::Voice.limits(), 5, run.clone()).complete(&mut report);
        (report.head.verdict.result, report.head.headline)
    };
    let answered = probe(stream(StreamStats::new(), [MS; 100]));
    assert_eq!(
        complete(&answered),
        (Verdict::NotMeasured, "0 clients within voice, but the run ended early".to_owned())
    );
    let cause = "the port is closed or a firewall rejects packets (ICMP port unreachable)";
    let dead = RunResults { port_unreachable: 100, ..probe(all_lost()) };
    assert_eq!(complete(&dead), (Verdict::Failed, format!("no replies received: {cause}")));
}
