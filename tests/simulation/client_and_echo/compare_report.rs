//! Ends a client and compares its report with the reference count.

use std::time::Duration;

use jamjam_dev::client::{RunResults, StreamKind, WaitResult};
use jamjam_dev::time::Time;

use super::differences::Differences;
use super::expected_end;
use super::log::Event;
use super::loss_direction::{self, View};
use super::net::Host;
use super::participants::{Participant, stream};
use super::reference_counts::{self, Numbers, Stream, Terms};
use super::scenario::Part;
use super::times;

/// A source that was not ready is polled again after a millisecond.
const SOURCE_POLL_INTERVAL: i64 = 1_000_000;

/// What the checks know of how one run went.
struct Course {
    ended: u64,
    /// When a signal ended it.
    interrupted: Option<u64>,
    /// How late the machine may have learned of something or acted on it.
    slack: u64,
    /// How much earlier than its first question left the end may have begun to wait for it: the system had no room.
    early: i64,
    numbers: Numbers,
    run: RunResults,
}

/// Ends the client. Its report and all that is wrong with it.
pub(crate) fn client(
    host: Host<Participant>,
    part: &Part,
    delay: u64,
    server: &[Event],
) -> (RunResults, Vec<String>, bool) {
    let Host { node, log, ended, machine, address, .. } = host;
    let ended = ended.expect("the simulation ran until every client had ended");
    let mut closing = part.recorder.clone();
    let (interrupted, run) = match node {
        Participant::Echo(_) => panic!("an echo server is no client"),
        Participant::Sender(node) => {
            let at = Some(ended).filter(|_| !node.is_finished());
            (at, node.into_results("the server", at.map(Time::from_nanos), &mut closing))
        }
        Participant::Prober(node) => {
            let at = Some(ended).filter(|_| !node.is_finished());
            (at, node.into_results("the server", at.map(Time::from_nanos), &mut closing))
        }
    };
    let began = part.terms.loss_report_nonce.map(|_| ended as i64 - run.duration_ns as i64);
    let terms = Terms { requested: loss_direction::transactions(&log), ..reference_terms(part, interrupted) };
    let first = reference_counts::after_first_answer(&terms, &log);
    let place = began.map(|began| loss_direction::counts_from(&log, first, terms.peer, began));
    let terms = Terms { begin: place, ..terms };
    let numbers = reference_counts::count(&terms, &log);
    let slack = if machine.stalls > 0.0 { 30_000_000 } else { machine.lateness };
    let mut over = expected_end::over(&terms, &log[numbers.begin..], slack as i64, None);
    if let Some((requested, answered)) = loss_direction::end_question(&log, terms.peer) {
        // "The run goes on for it past its end if it must", but not if all has returned by then.
        let closed = answered.unwrap_or(requested + 1_000_000_000);
        over.extend(expected_end::over(&terms, &log[numbers.begin..], slack as i64, Some(closed)));
    }
    let counted = numbers.begin;
    let early = if terms.requested.len() == 2 && machine.system.busy > 0.0 { 5_000_000 } else { 0 };
    let course = Course { ended, interrupted, slack, early, numbers, run };

    let mut differences = Differences::default();
    course.check_begin_and_end(part, &over, &mut differences);
    course.check_streams(part, delay, &mut differences);
    course.check_lines(part, &mut differences);
    course.check_sending(part, &mut differences);
    let interrupted = course.interrupted.is_some();
    let view = View { client: address, peer: terms.peer, log: &log, server, clean: part.clean, counted, interrupted };
    let compared = loss_direction::check(&view, &course.run, &mut differences);
    (course.run, differences.0, compared)
}

fn ns(duration: Duration) -> i64 {
    duration.as_nanos() as i64
}

/// The input of the reference count.
fn reference_terms(part: &Part, interrupted: Option<u64>) -> Terms {
    let terms = &part.terms;
    Terms {
        peer: terms.peer,
        echo_delay: terms.server_delay.map(ns),
        expected_server_delay: ns(terms.first_echo_timeout),
        timeout: ns(terms.timeout),
        late_after: terms.late_after.map(ns),
        answers_expected: terms.replies_expected,
        wait_for: terms.wait_for.is_some(),
        requested: Vec::new(),
        begin: None,
        interrupted: interrupted.map(|at| at as i64),
    }
}

impl Course {
    /// The due time of the first counted packet.
    fn began(&self) -> i64 {
        self.ended as i64 - self.run.duration_ns as i64
    }

    /// How long counting may wait for the first question of `--loss-direction`.
    fn requester(&self, part: &Part) -> i64 {
        part.terms.loss_report_nonce.map_or(0, |_| 1_000_000_000 + 2 * self.slack as i64)
    }

    fn check_begin_and_end(&self, part: &Part, over: &[i64], differences: &mut Differences) {
        let (slack, start) = (self.slack as i64, part.start as i64);
        match (part.terms.wait_for, self.run.readiness_wait) {
            (None, wait) => {
                differences.same("wait", None, wait);
                differences.within("counting began", start, start + self.requester(part), self.began());
            }
            (Some(_), None) => differences.0.push("wait: nothing is reported".to_owned()),
            (Some(wait_limit), Some(WaitResult { waited_ns, reply_received })) => {
                let waited = waited_ns as i64;
                differences.same("answered", self.numbers.answered.is_some(), reply_received);
                match (self.numbers.answered, self.interrupted) {
                    (Some(at), _) => {
                        differences.same("waited", at - start, waited);
                        differences.within("counting began", at, at + slack + self.requester(part), self.began());
                    }
                    (None, Some(at)) => differences.same("wait timed out", at as i64 - start, waited),
                    (None, None) => {
                        differences.within("gave up after", ns(wait_limit), ns(wait_limit) + slack, waited);
                    }
                }
            }
        }
        let ended = self.ended as i64;
        let right = over.is_empty() || over.iter().any(|over| (over - self.early..=over + 2 * slack).contains(&ended));
        if self.interrupted.is_none() && !right {
            differences.0.push(format!("the run ended at {ended}, up to {slack} after one of {over:?} is right"));
        }
    }

    fn check_streams(&self, part: &Part, delay: u64, differences: &mut Differences) {
        differences.same("stray", self.numbers.stray, self.run.stray);
        differences.same("estimated hold", self.numbers.estimated_server_delay(), self.run.server_delay().estimated_ns);
        for kind in StreamKind::ALL {
            let reference = self.numbers.of(stream(kind));
            let Some(reported) = self.run.stream(kind) else {
                differences.same(&format!("{kind:?} sent"), reference.sent, 0);
                differences.same(&format!("{kind:?} evaluated"), false, kind == part.terms.evaluated_stream);
                continue;
            };
            differences.stream(stream(kind), reference, reported);
        }
        // Without a payload one packet whose number was damaged is another packet, bit for bit.
        let telling = self.run.audio.as_ref().is_some_and(|audio| audio.payload_bytes > 0);
        let audio = self.numbers.of(Stream::Audio).returns.iter().filter(|_| telling);
        if let Some((left, arrived)) = { audio }.find(|(left, arrived)| arrived - left < delay as i64) {
            differences.0.push(format!("an AUDIO packet that left at {left} was back too early, at {arrived}"));
        }
    }

    fn check_lines(&self, part: &Part, differences: &mut Differences) {
        let mut reported = part.recorder.0.lock().expect("no thread panics with the lock").clone();
        let mut reference = self.numbers.lines.clone();
        reported.sort_unstable();
        reference.sort_unstable();
        let first = reference.iter().zip(&reported).position(|(reference, reported)| reference != reported);
        if let Some(first) = first {
            differences.same("line", &reference[first], &reported[first]);
        }
        differences.same("lines", reference.len(), reported.len());
    }

    /// Pacing, starved sources, samples.
    fn check_sending(&self, part: &Part, differences: &mut Differences) {
        let reference = self.numbers.of(stream(part.terms.evaluated_stream));
        let pacing = times::pacing(&reference.left, self.began(), part.interval);
        let reported = self.run.pacing.clone().unwrap_or_default();
        differences.spread("pacing", &times::spread(&pacing.all, 0), reported.all(), 0);
        let edges = reported.first_and_last();
        differences.same("pacing has edges", pacing.edges.is_some(), edges.is_some());
        if let Some((reference, reported)) = pacing.edges.zip(edges) {
            differences.spread("pacing at first", &times::spread(&reference.0, 0), &reported.0, 0);
            differences.spread("pacing at last", &times::spread(&reference.1, 0), &reported.1, 0);
        }
        if let Some(early) = pacing.all.iter().find(|error| **error < 0) {
            differences.0.push(format!("a packet left {} ns early", -early));
        }

        let Some(audio) = self.run.audio.as_ref().filter(|_| !part.ready.is_empty()) else { return };
        if self.interrupted.is_none() && part.terms.wait_for.is_none() {
            differences.same("packets in all", part.total, Some(reference.sent));
            differences.same("samples", part.samples, Some(audio.sent_samples));
        }
        let due = |n: usize| self.began() + times::offset(n, part.interval);
        let ready = |n: usize| part.ready[n] as i64;
        let packets = 0..reference.left.len();
        let most = packets.clone().filter(|n| ready(*n) > due(*n)).count();
        // The source is polled for a packet after the previous one was sent, and is not observed between two polls.
        let wait_limit = SOURCE_POLL_INTERVAL + self.slack as i64 + 200_000;
        let refused_after = |n: usize, k: usize| {
            let requested = if k == 0 { self.began() } else { reference.left[k - 1] };
            ready(k) - wait_limit > requested.max(due(n))
        };
        let least = packets.filter(|n| (0..=*n).any(|k| refused_after(*n, k))).count();
        differences.within("underruns", least as u64, most as u64, audio.underruns);
    }
}
