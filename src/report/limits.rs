//! What a run must keep to, and whether it did.

use std::time::Duration;

use serde::Serialize;

use super::numbers::rounded_micros;
use super::round_trip::RoundTrip;
use crate::flow::run::{Run, StreamKind};
use crate::heard::Taken;
use crate::stats::Stream;
use crate::time::nanos;

/// The limits a person sets. All of them judge the judged stream; none is on unless asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// `--max-loss`: lost packets as a part of those whose fate is known, 0 to 1.
    pub max_loss: Option<f64>,
    /// `--max-burst`: packets lost one after the other.
    pub max_burst: Option<u64>,
    /// `--max-p50`: the round trip's median.
    pub max_p50: Option<Duration>,
    /// `--max-p99`: the round trip's 99th percentile.
    pub max_p99: Option<Duration>,
    /// `--max-jitter`: the mean of the running jitter estimate.
    pub max_jitter: Option<Duration>,
    /// What a listener would notice.
    pub heard: HeardLimits,
}

/// Limits on what a listener would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeardLimits {
    /// `--max-gaps`: stretches of AUDIO of which nothing came back in time.
    pub max_gaps: Option<u64>,
    /// `--max-clips`: clipped stretches in what was sent.
    pub max_clips: Option<u64>,
    /// `--max-silence`: the longest stretch of digital silence in what was sent.
    pub max_silence: Option<Duration>,
}

impl HeardLimits {
    /// Those that judge what comes back, not what was sent.
    #[must_use]
    pub fn of_answers(self) -> Self {
        Self { max_gaps: self.max_gaps, ..Self::default() }
    }
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `--max-loss`
    MaxLoss,
    /// `--max-burst`
    MaxBurst,
    /// `--max-p50`
    MaxP50,
    /// `--max-p99`
    MaxP99,
    /// `--max-jitter`
    MaxJitter,
    /// `--max-gaps`
    MaxGaps,
    /// `--max-clips`
    MaxClips,
    /// `--max-silence`
    MaxSilence,
}

impl Limit {
    /// The option that sets it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::MaxLoss => "--max-loss",
            Self::MaxBurst => "--max-burst",
            Self::MaxP50 => "--max-p50",
            Self::MaxP99 => "--max-p99",
            Self::MaxJitter => "--max-jitter",
            Self::MaxGaps => "--max-gaps",
            Self::MaxClips => "--max-clips",
            Self::MaxSilence => "--max-silence",
        }
    }
}

/// The number that was held against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// `loss_ratio`
    LossRatio,
    /// `burst_max`
    BurstMax,
    /// `rtt_p50_us`
    RttP50,
    /// `rtt_p99_us`
    RttP99,
    /// `rtt_max_us`, in place of a percentile that too few samples hide
    RttMax,
    /// `jitter_mean_us`
    JitterMean,
    /// `gaps`
    Gaps,
    /// `source_clips`
    SourceClips,
    /// `source_silence_ms`, in microseconds
    SourceSilence,
}

/// What `asked` and `measured` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitUnit {
    /// A part of one.
    Ratio,
    /// Packets.
    Packets,
    /// Microseconds.
    Us,
    /// Gaps.
    Gaps,
    /// Clipped stretches.
    Clips,
}

/// One limit held against a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Which limit.
    pub limit: Limit,
    /// What it was held against.
    pub measure: Measure,
    /// The unit of the next two.
    pub unit: LimitUnit,
    /// The most that was allowed.
    pub asked: f64,
    /// What it was; `None` without data, and then the limit is broken.
    pub measured: Option<f64>,
    /// Whether it was kept.
    pub passed: bool,
    /// What a reader must know about it.
    pub note: Option<String>,
}

impl Limits {
    /// Whether any limit was set.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Holds each limit against the judged stream.
    pub fn judge(&self, run: &Run) -> Vec<Judgement> {
        let rtt = RoundTrip::of(run, run.judged);
        let loss = self.max_loss.map(|asked| judge_loss(run, asked));
        let burst = self.max_burst.map(|asked| judge_burst(run, asked));
        let p50 = self.max_p50.map(|asked| judge_percentile(run, rtt, Limit::MaxP50, asked));
        let p99 = self.max_p99.map(|asked| judge_percentile(run, rtt, Limit::MaxP99, asked));
        let jitter = self.max_jitter.map(|asked| judge_jitter(run, asked));
        let gaps = self.heard.max_gaps.map(|asked| judge_gaps(run, asked));
        let clips = self.heard.max_clips.map(|asked| judge_clips(run, asked));
        let silence = self.heard.max_silence.map(|asked| judge_silence(run, asked));
        [loss, burst, p50, p99, jitter, gaps, clips, silence].into_iter().flatten().collect()
    }
}

fn judge_loss(run: &Run, asked: f64) -> Judgement {
    let measured = if run.answers_expected { run.stream(run.judged).and_then(Stream::loss_ratio) } else { None };
    Judgement {
        limit: Limit::MaxLoss,
        measure: Measure::LossRatio,
        unit: LimitUnit::Ratio,
        asked,
        measured,
        passed: measured.is_some_and(|measured| measured <= asked),
        note: measured.is_none().then(|| no_data(run, "no packet's fate is known")),
    }
}

fn judge_burst(run: &Run, asked: u64) -> Judgement {
    let settled = run.stream(run.judged).filter(|stream| run.answers_expected && stream.settled() > 0);
    let longest = settled.map(|stream| stream.bursts.longest());
    let longest = longest.ok_or_else(|| no_data(run, "no packet's fate is known"));
    counted(Limit::MaxBurst, Measure::BurstMax, LimitUnit::Packets, asked, longest)
}

fn judge_gaps(run: &Run, asked: u64) -> Judgement {
    let audio = run.audio.as_ref();
    let is_settled = audio.is_some_and(|audio| run.answers_expected && audio.stream.settled() > 0);
    let gaps = match audio.and_then(|audio| Some((audio.heard.as_ref()?.gaps.count(), audio.heard_dropped))) {
        _ if !is_settled => Err(no_data(run, "no packet's fate is known")),
        None => Err("nobody listened".to_owned()),
        // There may be more: then too many are too many, and few say nothing.
        Some((gaps, 1..)) if gaps <= asked => Err("the listener did not keep up on this machine".to_owned()),
        Some((gaps, _)) => Ok(gaps),
    };
    counted(Limit::MaxGaps, Measure::Gaps, LimitUnit::Gaps, asked, gaps)
}

fn judge_clips(run: &Run, asked: u64) -> Judgement {
    let clips = taken(run).map(|taken| taken.clips);
    counted(Limit::MaxClips, Measure::SourceClips, LimitUnit::Clips, asked, clips)
}

fn judge_silence(run: &Run, asked: Duration) -> Judgement {
    let ns = taken(run).map(|taken| taken.silence as f64 * 1e9 / f64::from(taken.rate.max(1)));
    let (longest, note) = ns.map_or_else(|why| (None, Some(why)), |ns| (Some(ns), None));
    over_time(Limit::MaxSilence, Measure::SourceSilence, asked, longest, note)
}

/// What was taken from the source, or why it is not known.
fn taken(run: &Run) -> Result<Taken, String> {
    match run.audio.as_ref().and_then(|audio| Some((audio.stream.sent, audio.taken?))) {
        None => Err("nobody listened".to_owned()),
        Some((0, _)) => Err("nothing was sent".to_owned()),
        Some((_, taken)) => Ok(taken),
    }
}

/// A limit on how many there are.
fn counted(limit: Limit, measure: Measure, unit: LimitUnit, asked: u64, measured: Result<u64, String>) -> Judgement {
    Judgement {
        limit,
        measure,
        unit,
        asked: asked as f64,
        measured: measured.as_ref().ok().map(|measured| *measured as f64),
        passed: measured.as_ref().is_ok_and(|measured| *measured <= asked),
        note: measured.err(),
    }
}

fn judge_percentile(run: &Run, rtt: Option<RoundTrip<'_>>, limit: Limit, asked: Duration) -> Judgement {
    let (p, name, measure) = match limit {
        Limit::MaxP50 => (0.5, "p50", Measure::RttP50),
        _ => (0.99, "p99", Measure::RttP99),
    };
    let shown = rtt.and_then(|rtt| rtt.percentile(p));
    let maximum = rtt.and_then(|rtt| rtt.max());
    let (measured, measure, note) = match (shown, maximum) {
        (Some(_), _) => (shown, measure, None),
        (None, Some(_)) => {
            let count = rtt.map_or(0, |rtt| rtt.count());
            (maximum, Measure::RttMax, Some(format!("too few samples for {name} ({count}): the maximum is judged")))
        }
        (None, None) => (None, measure, Some(no_data(run, "nothing came back"))),
    };
    if measured.is_some_and(|ns| ns < 0) {
        // No packet comes back before it left: such a time keeps every limit and says nothing.
        let note = "below zero: the server holds AUDIO for less than --hold says".to_owned();
        return over_time(limit, measure, asked, None, Some(note));
    }
    over_time(limit, measure, asked, measured.map(|ns| ns as f64), note)
}

fn judge_jitter(run: &Run, asked: Duration) -> Judgement {
    let measured = run.stream(run.judged).and_then(|stream| stream.jitter.mean());
    let note = measured.is_none().then(|| no_data(run, "jitter takes two packets that came back"));
    over_time(Limit::MaxJitter, Measure::JitterMean, asked, measured, note)
}

/// A limit in time. The comparison is in nanoseconds, before any rounding.
fn over_time(
    limit: Limit,
    measure: Measure,
    asked: Duration,
    measured_ns: Option<f64>,
    note: Option<String>,
) -> Judgement {
    let asked_ns = nanos(asked) as f64;
    Judgement {
        limit,
        measure,
        unit: LimitUnit::Us,
        asked: rounded_micros(asked_ns),
        measured: measured_ns.map(rounded_micros),
        passed: measured_ns.is_some_and(|measured| measured <= asked_ns),
        note,
    }
}

/// Why there is nothing to judge: `usually`, unless something more telling is known.
fn no_data(run: &Run, usually: &str) -> String {
    if !run.answers_expected {
        return "no answers were expected".to_owned();
    }
    match run.stream(run.judged) {
        None | Some(Stream { sent: 0, .. }) => "nothing was sent".to_owned(),
        Some(stream) if run.judged == StreamKind::Audio && stream.returned > 0 && run.hold().ns().is_none() => {
            "the server's hold is unknown, no LATENCY_PONG came: give --hold".to_owned()
        }
        Some(_) => usually.to_owned(),
    }
}
