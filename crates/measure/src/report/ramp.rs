//! `--ramp`: how many clients a server carries within limits.
//!
//! One client starts, and every five seconds a tenth more. A step with its number of clients is judged by the packets that were sent in its
//! last four seconds, as soon as all of them have returned or are lost.

use std::mem;
use std::time::Duration;

use serde::Serialize;

use super::diagnoses::MAX_LATENESS_US;
use super::figures::{StreamFigures, figures};
use super::limits::{LimitResult, Limits, Verdict};
use super::model::Report;
use super::quantities::{format_count, format_time, micros};
use crate::client::{RunResults, SharedRecord, StreamKind};
use jamjam_core::stats::Interval;
use jamjam_core::time::{Time, saturating_nanos};

/// Length of a step in seconds.
const STEP_SECONDS: usize = 5;

/// How long after the time-out of its packets a step is judged: until then, the server has reported whether it paused.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// Why a ramp ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RampEnd {
    /// The limits were met with all clients.
    LimitNotReached,
    /// Two steps in a row exceeded a limit.
    LimitExceeded,
    /// This host sent its packets too late.
    HostLimitReached,
    /// The run was interrupted.
    Interrupted,
}

figures! {
    /// One step.
    RampStepFigures from (clients, passed, reason, stream, lateness): (usize, bool, String, StreamFigures, Option<i64>) {
        clients: usize = clients;
        passed: bool = passed;
        loss_ratio: Option<f64> = stream.loss_ratio;
        rtt_p50_us: Option<f64> = stream.rtt_p50_us;
        rtt_p99_us: Option<f64> = stream.rtt_p99_us;
        jitter_mean_us: Option<f64> = stream.jitter_mean_us;
        lateness_p99_us: Option<f64> = lateness.map(micros);
        #[serde(skip)]
        reason: String = reason;
    }

    /// The result of a ramp.
    RampFigures from (end, steps): (RampEnd, Vec<RampStepFigures>) [
        let met = steps.iter().filter(|step| step.passed && !step.is_late()).map(|step| step.clients);
    ] {
        clients: usize = met.max().unwrap_or(0);
        end: RampEnd = end;
        steps: Vec<RampStepFigures> = steps;
    }
}

impl RampStepFigures {
    /// Whether this host was at its limit.
    fn is_late(&self) -> bool {
        self.lateness_p99_us.is_some_and(|p99| p99 > MAX_LATENESS_US)
    }
}

/// A ramp during the run.
pub struct Ramp {
    limits: Limits,
    /// Number of clients in each step until all run.
    clients: Vec<usize>,
    /// The results before the first packet.
    plan: RunResults,
    /// The 99th percentile of the lateness in each step that has ended.
    lateness: Vec<Option<i64>>,
    steps: Vec<RampStepFigures>,
    end: Option<RampEnd>,
}

impl Ramp {
    /// A ramp up to so many clients. `plan` are the results of any of them before the first packet.
    pub fn new(limits: Limits, max_clients: usize, plan: RunResults) -> Self {
        let more =
            |clients: &usize| (*clients < max_clients).then(|| (clients + clients.div_ceil(10)).min(max_clients));
        let clients = std::iter::successors(Some(1), more).collect();
        Self { limits, clients, plan, lateness: Vec::new(), steps: Vec::new(), end: None }
    }

    /// When the client with this number begins, from 0.
    pub fn start_of(&self, client: usize) -> Duration {
        let step = self.clients.partition_point(|clients| *clients <= client);
        Duration::from_secs((step * STEP_SECONDS) as u64)
    }

    /// Judges the steps that are settled at `now`. Returns whether the ramp has ended. Must be called at least once per second.
    pub fn poll(&mut self, now: Time, shared: &SharedRecord) -> bool {
        let history = &shared.histories[self.plan.evaluated_stream as usize];
        let Some(started) = history.started_at else { return false };
        let step_end = |step: usize| started + Duration::from_secs(((step + 1) * STEP_SECONDS) as u64);
        while now >= step_end(self.lateness.len()) {
            self.lateness.push(shared.pacing.last().percentile_if_enough(0.99));
        }
        while let (None, Some(lateness)) = (self.end, self.lateness.get(self.steps.len()).copied()) {
            let step = self.steps.len();
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
                let delay = shared.server_delay.map(saturating_nanos);
                audio.configured_server_delay_ns = audio.configured_server_delay_ns.or(delay);
            }
            run.evaluated_mut().into_iter().for_each(|mine| *mine = stream.clone());
            let results = self.limits.evaluate(&run);
            let figures = StreamFigures::from((&run, run.evaluated_stream, &stream));
            let verdict = Verdict::from((&run, &*results));
            let exceeded = results.iter().find(|result| !result.passed).map(LimitResult::sentence);
            let reason = exceeded.or(verdict.reasons.first().cloned()).unwrap_or_default();
            self.judge((clients, verdict.passed, reason, figures, lateness).into());
        }
        self.end.is_some()
    }

    fn judge(&mut self, step: RampStepFigures) {
        let has_failed_before = self.steps.last().is_some_and(|last| !last.passed);
        self.end = match step.passed {
            _ if step.is_late() => Some(RampEnd::HostLimitReached),
            true if self.clients.last() == Some(&step.clients) => Some(RampEnd::LimitNotReached),
            false if has_failed_before => Some(RampEnd::LimitExceeded),
            _ => None,
        };
        self.steps.push(step);
    }

    fn is_audio(&self) -> bool {
        self.plan.evaluated_stream == StreamKind::Audio
    }

    /// Completes the report of the run with the result, which alone decides the verdict.
    pub fn complete(&mut self, report: &mut Report) {
        let ramp = RampFigures::from((self.end.unwrap_or(RampEnd::Interrupted), mem::take(&mut self.steps)));
        let unit = if self.is_audio() { "musician" } else { "client" };
        report.headline = ramp.sentence(unit, self.limits.profile.map_or("the limits", |profile| profile.name()));
        let is_met = ramp.clients > 0;
        let reasons = if is_met { Vec::new() } else { vec![report.headline.clone()] };
        report.verdict = Verdict { passed: is_met, limits_set: true, reasons, ..report.verdict.clone() };
        report.limits.clear();
        report.ramp = Some(ramp);
    }
}

impl RampFigures {
    /// `37 musicians within internet-music; at 41, p99 was 61.000 ms`.
    fn sentence(&self, unit: &str, limits: &str) -> String {
        let met = format!("{} within {limits}", format_count(self.clients as u64, unit));
        let failed = self.steps.iter().position(|step| step.clients > self.clients && !step.passed);
        let last = self.steps.last();
        match (self.end, failed.map(|step| &self.steps[step]), last) {
            (RampEnd::LimitNotReached, ..) => format!("{met}, limit not reached"),
            (RampEnd::LimitExceeded, Some(step), _) => format!("{met}; at {}, {}", step.clients, step.reason),
            (RampEnd::HostLimitReached, _, Some(step)) => {
                let p99 = format_time(step.lateness_p99_us.unwrap_or(0.0));
                format!("{met}; at {}, this host was at its limit: packets left {p99} late (p99)", step.clients)
            }
            _ => format!("{met}, but the run was interrupted"),
        }
    }
}
