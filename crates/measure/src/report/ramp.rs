//! `--ramp`: how many clients a server carries within limits.
//!
//! One client starts, and every five seconds a tenth more. A step with its number of clients is judged by the packets that were sent in its
//! last four seconds, as soon as all of them have returned or are lost.

use std::time::Duration;

use super::diagnoses::MAX_LATENESS_US;
use super::figures::StreamFigures;
use super::limits::{Limits, Profile, is_silence, judgments};
use super::model::Report;
use super::quantities::{format_count, format_time, micros};
use crate::client::{RunResults, SharedRecord, StreamKind};
use crate::document::column::figures;
use crate::document::{Judgment, Outcome};
use crate::verdict::Judged;
use jamjam_core::stats::Interval;
use jamjam_core::time::{Time, saturating_nanos};

/// Length of a step in seconds.
const STEP_SECONDS: usize = 5;

/// How long after the time-out of its packets a step is judged: until then, the server has reported whether it paused.
const REPORT_WAIT: Duration = Duration::from_secs(2);

figures! {
    /// The result of a ramp.
    #[derive(Default)]
    RampFigures {
        /// The largest number of clients of a step that met the limits.
        @short clients: usize;
        /// The result in words, such as `37 musicians within internet-music; at 41, p99 was 61.000 ms`.
        @json result: String;
        /// The judged steps in order.
        steps: Vec<RampStepFigures>;
    }

    /// One step.
    RampStepFigures from (clients, result, reason, stream, lateness): (usize, Judged, String, StreamFigures, Option<i64>) {
        /// Number of clients.
        @subject clients: usize = clients;
        /// Whether the step met the limits; `not_judged` if this host was at its limit.
        @short result: Judged = result;
        /// As for streams; a damaged packet may count as lost.
        @short loss_ratio: Option<f64> = stream.loss_ratio;
        /// As for streams, up to 0.4 % too high.
        @short rtt_p50_us: Option<f64> = stream.rtt_p50_us;
        /// As for streams, up to 0.4 % too high.
        @short rtt_p99_us: Option<f64> = stream.rtt_p99_us;
        /// As for streams.
        @short jitter_mean_us: Option<f64> = stream.jitter_mean_us;
        /// 99th percentile of send time minus due time.
        @short lateness_p99_us: Option<f64> = lateness.map(micros);
        /// Why a step was not met.
        #[serde(skip)]
        @skip reason: String = reason;
    }
}

/// A ramp during the run.
pub struct Ramp {
    limits: Limits,
    /// Number of clients in each step until all run.
    clients: Vec<usize>,
    /// The results before the first packet.
    plan: RunResults,
    /// The 99th percentile of the lateness in each step that has ended, and the number of clients that had begun to send.
    ended: Vec<(Option<i64>, usize)>,
    /// The number of clients that had begun to send at the last poll.
    begun: usize,
    figures: RampFigures,
    /// Why the ramp has ended, as the end of the result.
    end: Option<String>,
}

impl Ramp {
    /// A ramp up to so many clients. `plan` are the results of any of them before the first packet.
    pub fn new(limits: Limits, max_clients: usize, plan: RunResults) -> Self {
        let more =
            |clients: &usize| (*clients < max_clients).then(|| (clients + clients.div_ceil(10)).min(max_clients));
        let clients = std::iter::successors(Some(1), more).collect();
        Self { limits, clients, plan, ended: Vec::new(), begun: 0, figures: RampFigures::default(), end: None }
    }

    /// When the client with this number begins, from 0.
    pub fn start_of(&self, client: usize) -> Duration {
        let step = self.clients.partition_point(|clients| *clients <= client);
        Duration::from_secs((step * STEP_SECONDS) as u64)
    }

    /// Judges the steps that are settled at `now`. Returns whether the ramp has ended. Must be called at least once per second.
    pub fn poll(&mut self, now: Time, shared: &SharedRecord) -> bool {
        let history = &shared.histories[self.plan.evaluated_stream as usize];
        let Some(started) = history.started_at else {
            self.end = shared.has_failed_link.then(|| format!("; at 1, {}", self.without_link(1)));
            return self.end.is_some();
        };
        let step_end = |step: usize| started + Duration::from_secs(((step + 1) * STEP_SECONDS) as u64);
        while now >= step_end(self.ended.len()) {
            // The clients of the next step may have begun since the last poll.
            self.ended.push((shared.pacing.last().percentile_if_enough(0.99), self.begun));
        }
        self.begun = shared.started;
        while let (None, Some((lateness, begun))) = (&self.end, self.ended.get(self.figures.steps.len()).copied()) {
            let step = self.figures.steps.len();
            // A ramp to the maximum number of clients is shorter than a history whose intervals are one second long.
            let [first, end] =
                [step * STEP_SECONDS + 1, (step + 1) * STEP_SECONDS].map(|at| at.min(history.intervals.len()));
            let baseline = shared.rtt_baseline_ns.filter(|_| self.is_audio());
            let stream = Interval::sum(&history.intervals[first..end]).to_stats(baseline);
            let min_rtt = Duration::from_nanos(stream.min_rtt().unwrap_or(0).max(0).cast_unsigned());
            let timeout = Duration::from_nanos(self.plan.timeout_ns);
            if stream.lost > 0 && now < step_end(step) + min_rtt + timeout + REPORT_WAIT {
                return false;
            }
            let clients = *self.clients.get(step).or(self.clients.last()).unwrap_or(&1);
            let mut run = self.plan.clone();
            if let Some(audio) = &mut run.audio {
                // The smallest echo time of the step alone would hide a queue that never empties.
                let min = |kind: StreamKind| {
                    shared.histories[kind as usize].intervals.iter().filter_map(Interval::rtt_min).min()
                };
                let estimate = || {
                    let delay = min(StreamKind::Audio)? + baseline? - min(StreamKind::Ping)?;
                    Some(delay.max(0).cast_unsigned())
                };
                let delay = shared.server_delay.map(saturating_nanos).or_else(estimate);
                audio.configured_server_delay_ns = audio.configured_server_delay_ns.or(delay);
            }
            run.evaluated_mut().into_iter().for_each(|mine| *mine = stream.clone());
            let judged = judgments(&run, &self.limits);
            let figures = StreamFigures::from((&run, run.evaluated_stream, &stream));
            let verdict = Outcome::of(&judged);
            let missing = clients.saturating_sub(begun);
            let no_link = (missing > 0).then(|| self.without_link(missing));
            let exceeded = judged.iter().find(|one| one.figure.is_some() && one.result == Judged::Exceeded);
            let exceeded =
                exceeded.map(|one| format!("{} was {}", one.rule.trim_start_matches("--max-"), one.measured()));
            let late = |us| format!("this host was at its limit: packets left {} late (p99)", format_time(us));
            let late = lateness.map(micros).filter(|us| *us > MAX_LATENESS_US).map(late);
            let result = match verdict.result.judged() {
                _ if late.is_some() => Judged::NotJudged,
                Judged::Met if no_link.is_some() => Judged::Exceeded,
                judged => judged,
            };
            let reason = late.or(no_link).or(exceeded).or(verdict.reasons.first().cloned()).unwrap_or_default();
            self.judge((clients, result, reason, figures, lateness).into());
        }
        self.end.is_some()
    }

    fn judge(&mut self, step: RampStepFigures) {
        let RampFigures { clients, steps, .. } = &mut self.figures;
        let end = |step: &RampStepFigures| format!("; at {}, {}", step.clients, step.reason);
        self.end = match step.result {
            Judged::Met => {
                *clients = step.clients;
                (self.clients.last() == Some(clients)).then(|| ", limit not reached".to_owned())
            }
            Judged::Exceeded => steps.last().filter(|last| last.result == Judged::Exceeded).map(end),
            Judged::NotJudged => Some(end(&step)),
        };
        steps.push(step);
    }

    fn is_audio(&self) -> bool {
        self.plan.evaluated_stream == StreamKind::Audio
    }

    /// `44 clients had no link`.
    fn without_link(&self, clients: usize) -> String {
        format!("{} had no link", format_count(clients as u64, self.unit()))
    }

    fn unit(&self) -> &'static str {
        if self.is_audio() { "musician" } else { "client" }
    }

    /// Completes the report of the run with the result, which decides the verdict unless no reply was received at all.
    pub fn complete(self, report: &mut Report) {
        let clients = format_count(self.figures.clients as u64, self.unit());
        let limits = self.limits.profile.map_or("the limits", Profile::name);
        let end = self.end.unwrap_or_else(|| ", but the run ended early".to_owned());
        let last = self.figures.steps.last().map(|last| last.result);
        let at_least = if last == Some(Judged::NotJudged) { "at least " } else { "" };
        let result = format!("{at_least}{clients} within {limits}{end}");
        // What a later step came to is no fault.
        let judged = if self.figures.clients > 0 { Judged::Met } else { last.unwrap_or(Judged::NotJudged) };
        let head = &mut report.head;
        head.judgments.retain(is_silence);
        if head.judgments.is_empty() {
            (head.headline, head.stated_rule) = (result.clone(), "ramp".to_owned());
        }
        head.judgments.push(Judgment::of(String::new(), "ramp".to_owned(), judged, Some(result.clone())));
        head.verdict = Outcome::of(&head.judgments);
        report.ramp = Some(RampFigures { result, ..self.figures });
    }
}
