//! Compares the report of a client with the expected numbers. `reference_counts` computes the expected numbers from the client's log.

use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_measure::client::{ClientNode, PacketOutcome, RecordedPacket, RunResults, StreamKind, WaitResult, Workload};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::run_record;

use super::differences::Differences;
use super::net::Host;
use super::participants::{OutcomeRecorder, Participant};
use super::reference_counts::{self, Line, ReferenceConfig, ReferenceCounts};
use super::scenario::ClientFacts;
use super::times;

/// A source that was not ready is polled again after a millisecond.
const SOURCE_POLL_INTERVAL: i64 = 1_000_000;

/// The facts about a run that the checks need.
struct RunFacts {
    ended: u64,
    /// The time of a stop signal, if one ended the run.
    interrupted: Option<u64>,
    /// The maximum time by which the simulated machine can delay the client.
    slack: u64,
    numbers: ReferenceCounts,
    run: RunResults,
}

/// Ends the client's run, and compares the client's report with the expected numbers. Returns the report and all differences.
pub(crate) fn client(host: Host, facts: &ClientFacts, delay: u64) -> (RunResults, Vec<String>) {
    let Host { node, log, ended, machine, .. } = host;
    let ended = ended.expect("the simulation ran until every client had ended");
    let mut closing = facts.recorder.clone();
    let (started, interrupted, run) = match node {
        Participant::Echo(_) | Participant::Musician(_) => panic!("not a client of an echo server"),
        Participant::Sender(node) => results(*node, ended, &mut closing),
        Participant::Prober(node) => results(*node, ended, &mut closing),
    };
    let config = reference_config(facts, interrupted);
    let numbers = reference_counts::count(&config, &log);
    let slack = if machine.stalls > 0.0 { 30_000_000 } else { machine.lateness };
    let possible_ends = times::possible_ends(&config, &log[numbers.begin..], slack as i64);
    let run_facts = RunFacts { ended, interrupted, slack, numbers, run };
    let mut differences = Differences::default();
    run_facts.check_begin_and_end(facts, &possible_ends, &mut differences);
    run_facts.check_streams(facts, delay, &mut differences);
    run_facts.check_lines(facts, &mut differences);
    run_facts.check_sending(facts, &mut differences);
    check_replay(&run_facts.run, facts, started.unwrap_or_default(), &mut differences);
    (run_facts.run, differences.0)
}

/// The start of counting, the time of a stop signal, and the results of a client.
fn results<W: Workload>(
    node: ClientNode<W>,
    ended: u64,
    closing: &mut OutcomeRecorder,
) -> (Option<Time>, Option<u64>, RunResults) {
    let started = node.live_figures().snapshot().started_at;
    let interrupted = Some(ended).filter(|_| !node.is_finished());
    (started, interrupted, node.into_results("the server", interrupted.map(Time::from_nanos), closing))
}

fn ns(duration: Duration) -> i64 {
    duration.as_nanos() as i64
}

/// The configuration with which `reference_counts` computes the expected numbers of this run.
fn reference_config(facts: &ClientFacts, interrupted: Option<u64>) -> ReferenceConfig {
    let config = &facts.config;
    ReferenceConfig {
        peer: config.peer,
        expected_server_delay: ns(config.first_echo_timeout),
        timeout: ns(config.timeout),
        answers_expected: config.replies_expected,
        wait_for: config.wait_for.is_some(),
        interrupted: interrupted.map(|at| at as i64),
    }
}

impl RunFacts {
    /// The due time of the first counted packet.
    fn began(&self) -> i64 {
        self.ended as i64 - self.run.duration_ns as i64
    }

    fn check_begin_and_end(&self, facts: &ClientFacts, possible_ends: &[i64], differences: &mut Differences) {
        let (slack, start) = (self.slack as i64, facts.start as i64);
        match (facts.config.wait_for, self.run.readiness_wait) {
            (None, wait) => {
                differences.same("wait", None, wait);
                differences.within("counting began", start, start, self.began());
            }
            (Some(_), None) => differences.0.push("wait: nothing is reported".to_owned()),
            (Some(wait_limit), Some(WaitResult { waited_ns, reply_received })) => {
                let waited = waited_ns as i64;
                differences.same("answered", self.numbers.answered.is_some(), reply_received);
                match (self.numbers.answered, self.interrupted) {
                    (Some(at), _) => {
                        differences.same("waited", at - start, waited);
                        differences.within("counting began", at, at + slack, self.began());
                    }
                    (None, Some(at)) => differences.same("wait timed out", at as i64 - start, waited),
                    (None, None) => {
                        differences.within("gave up after", ns(wait_limit), ns(wait_limit) + slack, waited);
                    }
                }
            }
        }
        let ended = self.ended as i64;
        let is_right = |end: &i64| (*end..=end + 2 * slack).contains(&ended);
        if self.interrupted.is_none() && !possible_ends.is_empty() && !possible_ends.iter().any(is_right) {
            let right = format!("up to {slack} after one of {possible_ends:?} is right");
            differences.0.push(format!("the run ended at {ended}, {right}"));
        }
    }

    fn check_streams(&self, facts: &ClientFacts, delay: u64, differences: &mut Differences) {
        differences.same("stray", self.numbers.stray, self.run.stray);
        let estimated = self.run.server_delay().estimate.map(|estimate| estimate.ns);
        differences.same("estimated hold", self.numbers.estimated_server_delay(), estimated);
        for kind in StreamKind::ALL {
            let reference = self.numbers.of(kind);
            let Some(reported) = self.run.stream(kind) else {
                differences.same(&format!("{kind:?} sent"), reference.sent, 0);
                differences.same(&format!("{kind:?} evaluated"), false, kind == facts.config.evaluated_stream);
                continue;
            };
            differences.stream(kind, reference, reported);
        }
        // Without a payload, damage to a packet number can make two packets identical, so their return times are not checked.
        let telling = self.run.audio.as_ref().is_some_and(|audio| audio.payload_bytes > 0);
        let audio = self.numbers.of(StreamKind::Audio).returns.iter().filter(|_| telling);
        if let Some((left, arrived)) = { audio }.find(|(left, arrived)| arrived - left < delay as i64) {
            differences.0.push(format!("an AUDIO packet that left at {left} was back too early, at {arrived}"));
        }
    }

    fn check_lines(&self, facts: &ClientFacts, differences: &mut Differences) {
        let packets = facts.recorder.0.lock().expect("no thread panics with the lock");
        let ns = |time: Time| time.as_nanos() as i64;
        let line = |packet: &RecordedPacket| Line {
            stream: packet.stream,
            sequence: packet.sequence,
            sent: if packet.outcome == PacketOutcome::NotSent { 0 } else { ns(packet.sent_at) },
            received_at: packet.received_at.map(ns),
            packet_outcome: packet.outcome,
        };
        let mut reported: Vec<Line> = packets.iter().map(line).collect();
        let mut reference = self.numbers.lines.clone();
        for lines in [&mut reported, &mut reference] {
            lines.sort_by_key(|line| {
                (line.stream as u8, line.sequence, line.sent, line.received_at, line.packet_outcome as u8)
            });
        }
        let first = reference.iter().zip(&reported).position(|(reference, reported)| reference != reported);
        if let Some(first) = first {
            differences.same("line", &reference[first], &reported[first]);
        }
        differences.same("lines", reference.len(), reported.len());
    }

    /// Checks pacing, underruns and samples.
    fn check_sending(&self, facts: &ClientFacts, differences: &mut Differences) {
        let reference = self.numbers.of(facts.config.evaluated_stream);
        let pacing = times::pacing(&reference.left, &reference.refused, self.began(), facts.interval);
        let reported = self.run.pacing.clone().unwrap_or_default();
        differences.spread("pacing", &pacing, &reported.all, 0);
        if let Some(early) = pacing.iter().find(|error| **error < 0) {
            differences.0.push(format!("a packet left {} ns early", -early));
        }

        let Some(audio) = self.run.audio.as_ref().filter(|_| !facts.ready.is_empty()) else { return };
        if self.interrupted.is_none() && facts.config.wait_for.is_none() {
            differences.same("packets in all", facts.total, Some(reference.sent + reference.send_failed));
            differences.same("samples", facts.samples, Some(audio.sent_samples));
        }
        let due = |n: usize| self.began() + times::offset(n, facts.interval);
        let ready = |n: usize| facts.ready[n] as i64;
        let packets = 0..reference.left.len();
        let max_underruns = packets.clone().filter(|n| ready(*n) > due(*n)).count();
        // The sender polls the source after it has sent the previous packet, and detects no ready packet between two polls.
        let wait_limit = SOURCE_POLL_INTERVAL + self.slack as i64 + 200_000;
        let refused_after = |n: usize, k: usize| {
            let requested = if k == 0 { self.began() } else { reference.left[k - 1] };
            ready(k) - wait_limit > requested.max(due(n))
        };
        let min_underruns = packets.filter(|n| (0..=*n).any(|k| refused_after(*n, k))).count();
        differences.within("underruns", min_underruns as u64, max_underruns as u64, audio.underruns);
    }
}

/// Records the run and replays the record, which must result in the same report. `started` is the start of counting.
fn check_replay(run: &RunResults, facts: &ClientFacts, started: Time, differences: &mut Differences) {
    let packets = facts.recorder.0.lock().expect("no thread panics with the lock");
    let mut record = run_record::first_line(Limits::default(), run);
    for packet in packets.iter() {
        record += &run_record::packet_line((*packet, started).into());
    }
    record += &run_record::end_line(run, 0, None);

    let replayed = run_record::read(record.as_bytes()).unwrap_or_else(|error| panic!("{error}")).run;
    let [expected, actual] = [run, &replayed].map(|run| {
        let report = Report::new(run, &Limits::default());
        let document = serde_json::to_string_pretty(&report.document().to_json()).expect("numbers and texts");
        format!("{document}\n{}", report.document().text(true, false, None))
    });
    for (expected, actual) in expected.lines().zip(actual.lines()).filter(|(expected, actual)| expected != actual) {
        differences.0.push(format!("the replay reports `{}` instead of `{}`", actual.trim(), expected.trim()));
    }
    if expected.lines().count() != actual.lines().count() {
        differences.0.push("the report of the replay has another number of lines".to_owned());
    }
}
