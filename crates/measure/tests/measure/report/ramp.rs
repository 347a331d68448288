//! `--ramp`: which steps there are, and how they are judged.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunResults, SharedRecord, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::{Limits, Profile};
use jamjam_measure::report::ramp::{Ramp, RampFigures};
use jamjam_measure::verdict::{Judged, Verdict};

use super::runs::{MS, all_lost, probe, send, stream};

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

fn on_time(ms: i64) -> Fate {
    Fate { rtt_ms: Some(ms), late: Duration::from_micros(50), without_link: 0 }
}

fn plan() -> RunResults {
    RunResults { duration_ns: 1_000_000_000, ..probe(StreamStats::new()) }
}

/// The result and the headline of a ramp to `max` clients, of which each sends 50 packets per second. `fate` is called with the number of
/// clients, and the time in the step in milliseconds. Also returns the time of the end in seconds.
fn ramp(max: usize, fate: impl Fn(usize, u64) -> Fate) -> (RampFigures, String, u64) {
    let mut ramp = Ramp::new(Profile::InternetMusic.limits(), max, plan());
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

fn clients(figures: &RampFigures) -> Vec<usize> {
    figures.steps.iter().map(|step| step.clients).collect()
}

#[test]
fn steps_grow_by_a_tenth_rounded_up_until_all_clients_run() {
    let (figures, headline, seconds) = ramp(30, |_, _| on_time(20));
    assert_eq!(clients(&figures), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 21, 24, 27, 30]);
    assert_eq!(figures.clients, 30);
    assert_eq!(headline, "30 clients within internet-music, limit not reached");
    // No packet is lost, so the last step is judged at its end.
    assert_eq!(seconds, 19 * 5);
}

#[test]
fn ramp_ends_after_two_exceeded_steps_in_a_row() {
    // With 13 clients, a single step is slow.
    let (figures, headline, _) = ramp(30, |clients, _| on_time(if clients == 13 || clients >= 19 { 61 } else { 20 }));
    assert_eq!(clients(&figures).last(), Some(&21));
    assert_eq!(figures.clients, 17);
    assert_eq!(headline, "17 clients within internet-music; at 19, p50 was 61.000 ms");
}

#[test]
fn first_second_of_a_step_does_not_count() {
    let (figures, ..) = ramp(3, |_, ms| on_time(if ms < 1_000 { 500 } else { 20 }));
    assert_eq!(figures.result, "3 clients within internet-music, limit not reached");
    let (figures, ..) = ramp(3, |_, ms| on_time(if ms < 1_100 { 500 } else { 20 }));
    assert_eq!(figures.clients, 0);
}

#[test]
fn lost_packets_are_judged_after_their_timeout_while_later_steps_run() {
    let lost = Fate { rtt_ms: None, ..on_time(20) };
    let (figures, headline, seconds) =
        ramp(8, |clients, ms| if clients > 2 && ms % 400 == 0 { lost } else { on_time(20) });
    assert_eq!(figures.clients, 2);
    assert_eq!(headline, "2 clients within internet-music; at 3, loss was 5 %");
    // The fourth step ends after 20 s. Its time-out is 2 s, and the server's next report takes as long.
    assert_eq!(seconds, 24);
}

#[test]
fn last_step_is_repeated_if_it_alone_exceeds() {
    let (figures, ..) = ramp(3, |clients, _| on_time(if clients == 3 { 61 } else { 20 }));
    assert_eq!((clients(&figures), figures.clients), (vec![1, 2, 3, 3], 2));
}

#[test]
fn host_at_its_limit_ends_the_ramp() {
    let late = |clients| if clients >= 3 { Duration::from_micros(1_500) } else { Duration::from_micros(50) };
    let (figures, headline, _) = ramp(30, |clients, _| Fate { late: late(clients), ..on_time(20) });
    assert_eq!(figures.clients, 2);
    let expected = "at least 2 clients within internet-music; at 3, this host was at its limit: packets left 1.5";
    assert!(headline.starts_with(expected), "{headline}");
}

#[test]
fn host_that_cannot_send_the_first_step_has_measured_nothing() {
    let (figures, headline, _) = ramp(30, |_, _| Fate { late: Duration::from_micros(1_500), ..on_time(61) });
    assert_eq!((figures.clients, figures.steps.len(), figures.steps[0].result), (0, 1, Judged::NotJudged));
    assert!(headline.starts_with("at least 0 clients within internet-music; at 1, this host was at its limit: "));
}

#[test]
fn clients_without_a_link_exceed_the_limits() {
    // Those after the second, or only the third.
    let missing: [fn(usize) -> usize; 2] = [|clients| clients.saturating_sub(2), |clients| usize::from(clients > 2)];
    for missing in missing {
        let (figures, headline, _) = ramp(30, |clients, _| Fate { without_link: missing(clients), ..on_time(20) });
        assert_eq!((figures.clients, clients(&figures)), (2, vec![1, 2, 3, 4]));
        assert_eq!(headline, "2 clients within internet-music; at 3, 1 client had no link");
    }
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
        Ramp::new(Profile::Voice.limits(), 5, plan()).complete(&mut report);
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

#[test]
fn ramp_fails_if_one_client_already_exceeds() {
    let (figures, headline, _) = ramp(30, |_, _| on_time(61));
    assert_eq!((figures.clients, clients(&figures)), (0, vec![1, 2]));
    assert_eq!(headline, "0 clients within internet-music; at 1, p50 was 61.000 ms");
}
