//! Several targets that were measured at the same time: their order, and which of two is better.
//!
//! The whole run decides the order. Its blocks decide whether a target is better than another, because a difference that comes and goes
//! is no reason to choose a server. `docs/which-server.md` explains the rules.

use std::cmp::Ordering;
use std::{iter, mem};

use serde::Serialize;

use super::buffer_table::{JitterBufferTable, MIN_PACKETS};
use super::limits::{Limits, Profile, has_no_replies, judgments};
use super::model::Report;
use crate::client::RunResults;
use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::{figures, json_types};
use crate::document::{Document, Head, Judgment, Outcome};
use crate::verdict::{Judged, Verdict};
use jamjam_core::stats::StreamStats;

/// One-way times with a smaller difference are equal, in milliseconds.
const MIN_DIFFERENCE_MS: f64 = 0.5;

/// Number of blocks in which the better target ranks better.
const MIN_BLOCKS_WON: u64 = 9;

/// The reports of several targets, the best first.
pub struct TargetsReport {
    /// The targets in their order.
    pub targets: Vec<ComparedTarget>,
    /// Each target compared with each one after it.
    pub pairs: Vec<PairFigures>,
    /// The profile whose verdict comes first in the order.
    pub profile: Profile,
}

/// A target among several.
pub struct ComparedTarget {
    /// Its report, with the limits that were given.
    pub report: Report,
    pub(super) whole: Standing,
    blocks: Vec<Standing>,
}

figures! {
    /// Several targets that were measured at the same time. `targets` contains their reports.
    ComparisonFigures from report: &TargetsReport {
        /// The targets, the best first.
        ranking: Vec<RankedFigures> = report.targets.iter().map(RankedFigures::from).collect();
        /// Each target compared with each one after it.
        @page pairs: Vec<PairFigures> = report.pairs.clone();
    }

    /// A target among several.
    RankedFigures from target: &ComparedTarget [
        let ComparedTarget { report, whole, .. } = target;
        let stream = report.evaluated().filter(|_| !whole.level.0);
        let depth = report.jitter_buffer.as_ref().and_then(JitterBufferTable::recommended);
    ] {
        /// The target.
        @subject target: String = report.head.target.clone();
        /// Whether it met the limits of the profile, or those that were given.
        @short profile: Judged = whole.level.1.judged();
        /// Half the smallest round trip, plus the recommended jitter buffer, plus one packet.
        @short one_way_ms: Option<f64> = depth.and_then(|row| row.one_way_ms);
        /// The recommended jitter buffer.
        @short jitter_buffer_ms: Option<f64> = depth.map(|row| row.depth_ms);
        /// Lost packets divided by settled packets.
        @short loss_ratio: Option<f64> = report.evaluated().and_then(|stream| stream.loss_ratio);
        /// Median of the round trips.
        @short rtt_p50_us: Option<f64> = stream.and_then(|stream| stream.rtt_p50_us);
        /// 99th percentile of the round trips.
        @short rtt_p99_us: Option<f64> = stream.and_then(|stream| stream.rtt_p99_us);
    }

    /// Two targets; the first one ranks before the second.
    PairFigures {
        /// Both targets, as in their reports.
        @subject targets: [String; 2];
        /// Whether the first target is better, or their order may be chance.
        result: PairResult;
        /// Number of the ten blocks of the run in which each of the two ranks better.
        blocks_won: [u64; 2];
        /// Whether a block has too few returned packets to decide anything.
        #[serde(skip)]
        @skip is_short: bool;
    }
}

json_types! {
    PairResult => {"enum": [PairResult::Better, PairResult::Undecided]};
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PairResult {
    /// The first target is better.
    Better,
    /// The order may be chance.
    Undecided,
}

/// What the order depends on: figures of the whole run or of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Whether there was no reply, and the verdict of the profile.
    pub(super) level: (bool, Verdict),
    /// With the recommended jitter buffer, in milliseconds; infinite without a recommendation.
    one_way_ms: f64,
    loss_ratio: f64,
    returned: u64,
}

impl Standing {
    fn new(run: &RunResults, limits: &Limits) -> Self {
        let judgments = judgments(run, limits);
        let one_way_ms = JitterBufferTable::new(run).and_then(|table| table.recommended()?.one_way_ms);
        Self {
            level: (has_no_replies(&judgments), Outcome::of(&judgments).result),
            one_way_ms: one_way_ms.unwrap_or(f64::INFINITY),
            loss_ratio: run.evaluated().and_then(StreamStats::loss_ratio).unwrap_or(1.0),
            returned: run.evaluated().map_or(0, |stream| stream.returned),
        }
    }

    /// The order of two targets; `Less` if this one is better. As small differences are equal, it is not transitive.
    fn cmp(&self, other: &Self) -> Ordering {
        let is_equal = (self.one_way_ms - other.one_way_ms).abs() < MIN_DIFFERENCE_MS;
        let by_delay = if is_equal { Ordering::Equal } else { self.one_way_ms.total_cmp(&other.one_way_ms) };
        self.level.cmp(&other.level).then(by_delay).then(self.loss_ratio.total_cmp(&other.loss_ratio))
    }
}

impl TargetsReport {
    /// Compares the results of several targets. Each has the reason if nothing could be sent to it. `limits` are those that were given.
    pub fn new(runs: Vec<(RunResults, Option<String>)>, limits: &Limits) -> Self {
        let profile = limits.profile.unwrap_or(Profile::InternetMusic);
        let compared = runs.into_iter().map(|(run, error)| ComparedTarget::new(run, error, limits, profile));
        let targets = ranked(compared.collect());
        let pairs = pairs_of(targets.len()).map(|(one, other)| targets[one].compare(&targets[other])).collect();
        Self { targets, pairs, profile }
    }

    /// What a target contributes to the verdict. It fails if it exceeded a limit that was given, or returned damaged data. Without limits,
    /// targets without replies are failures only if no target replied, and otherwise in the group of the best one.
    fn judgment(&self, Head { target, verdict, judgments, .. }: &Head) -> Judgment {
        // It is silent only if all are.
        let best = &self.targets[0];
        let has_no_effect = !verdict.limits_set && has_no_replies(judgments) && !best.whole.level.0;
        let group = if has_no_effect { best.report.head.target.clone() } else { String::new() };
        let judged = if has_no_effect { Judged::NotJudged } else { verdict.result.judged() };
        let reason = (!verdict.reasons.is_empty()).then(|| verdict.reasons.join("; "));
        let is_limit = verdict.limits_set;
        Judgment { group, is_limit, ..Judgment::of(target.clone(), "target".to_owned(), judged, reason) }
    }

    /// The report of the comparison.
    pub fn document(&self) -> Document {
        let heads = || self.targets.iter().map(|target| &target.report.head);
        let judgments: Vec<Judgment> = heads().map(|head| self.judgment(head)).collect();
        let names: Vec<&str> = heads().map(|head| &*head.target).collect();
        let mut head = Head::new("compare", names.join(", "), judgments);
        for Head { target, warnings, .. } in heads() {
            let subject = || Some(target.clone());
            let warnings = warnings.iter().filter(|one| one.severity > Severity::Note).cloned();
            head.warnings.extend(warnings.map(|one| Diagnosis { subject: subject(), ..one }));
        }
        // The targets were measured at the same time.
        head.duration_ms = heads().map(|head| head.duration_ms).fold(0.0, f64::max);
        head.started_unix_ms = heads().map(|head| head.started_unix_ms).max().unwrap_or(0);
        head.interrupted = heads().find_map(|head| head.interrupted);
        head.facts = vec![format!("profile {}", self.profile.name())];
        head.headline = self.headline();
        let parts = self.targets.iter().map(|target| target.report.document()).collect();
        Document { parts, ..Document::new(head, &ComparisonFigures::from(self)) }
    }

    /// Which target is best, and which of its rivals and of the neighbors are undecided, without a period.
    pub(super) fn headline(&self) -> String {
        let replying = self.targets.iter().filter(|target| !target.whole.level.0).count();
        let name = |number: usize| &*self.targets[number].report.head.target;
        let pairs = iter::zip(pairs_of(self.targets.len()), &self.pairs);
        let pairs = pairs.filter(|((one, other), _)| *other < replying && (*one == 0 || one + 1 == *other));
        let undecided = pairs.map(|(_, pair)| pair).filter(|pair| pair.result == PairResult::Undecided);
        let undecided: Vec<&PairFigures> = undecided.collect();
        let mut text = match replying {
            0 => return "no target replied".to_owned(),
            1 => format!("only {} replied", name(0)),
            _ if undecided.iter().any(|pair| pair.targets[0] == name(0)) => {
                format!("{} ranks first, but others may be as good", name(0))
            }
            _ => format!("{} is best", name(0)),
        };
        if !undecided.is_empty() {
            let names: Vec<_> = undecided.iter().map(|pair| pair.targets.join(" and ")).collect();
            text += "; undecided: ";
            text += &names.join(", ");
        }
        if undecided.iter().any(|pair| pair.is_short) {
            text += "; too few replies to decide: give a higher --count or --duration";
        }
        text
    }
}

impl ComparedTarget {
    fn new(mut run: RunResults, error: Option<String>, limits: &Limits, profile: Profile) -> Self {
        let mut report = Report::new(&run, limits);
        if let Some(error) = error {
            report.head.warnings.clear();
            report.head.abort(error);
        }
        let limits = limits.or(profile.limits());
        let whole = Standing::new(&run, &limits);
        let blocks = run.evaluated_mut().map(|stream| mem::take(&mut stream.blocks)).unwrap_or_default();
        let standing = |block| {
            *run.evaluated_mut()? = block;
            Some(Standing::new(&run, &limits))
        };
        Self { report, whole, blocks: blocks.into_iter().filter_map(standing).collect() }
    }

    /// Compares this target with one that ranks after it. If that one wins the blocks, the whole run contradicts them. A verdict counts only
    /// with enough replies, or without any.
    pub fn compare(&self, next: &Self) -> PairFigures {
        let orders: Vec<Ordering> = iter::zip(&self.blocks, &next.blocks).map(|(one, other)| one.cmp(other)).collect();
        let blocks_won =
            [Ordering::Less, Ordering::Greater].map(|order| orders.iter().filter(|one| **one == order).count() as u64);
        let is_short = self.blocks.iter().chain(&next.blocks).any(|block| block.returned < MIN_PACKETS);
        let levels_differ = self.whole.level != next.whole.level;
        let has_enough = |target: &Self| target.whole.returned >= MIN_PACKETS;
        let by_blocks =
            blocks_won[0] >= MIN_BLOCKS_WON && (!is_short || levels_differ && has_enough(self) && has_enough(next));
        let by_silence = levels_differ && next.whole.level.0 && has_enough(self);
        let is_measured = [self, next].iter().all(|target| target.whole.level.1 != Verdict::NotMeasured);
        let is_better = is_measured && (by_blocks || by_silence);
        let result = if is_better { PairResult::Better } else { PairResult::Undecided };
        PairFigures {
            targets: [self, next].map(|target| target.report.head.target.clone()),
            result,
            blocks_won,
            is_short,
        }
    }
}

/// The numbers of each target and each one after it, in the order of [`TargetsReport::pairs`].
fn pairs_of(targets: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..targets).flat_map(move |one| (one + 1..targets).map(move |other| (one, other)))
}

/// The targets in the order of the whole run. No target ranks before one with a shorter one-way time, unless the two are equal in it.
fn ranked(mut targets: Vec<ComparedTarget>) -> Vec<ComparedTarget> {
    targets.sort_by(|ComparedTarget { whole: one, .. }, ComparedTarget { whole: other, .. }| {
        one.level.cmp(&other.level).then(one.one_way_ms.total_cmp(&other.one_way_ms))
    });
    let mut ranked: Vec<ComparedTarget> = Vec::new();
    for target in targets {
        let before = ranked.iter().rposition(|one| one.whole.cmp(&target.whole).is_le());
        ranked.insert(before.map_or(0, |last| last + 1), target);
    }
    ranked
}
