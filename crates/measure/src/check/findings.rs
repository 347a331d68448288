//! The findings about a source, and its part of the report.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::time::Time;

use super::rules::{Finding, NAMES, RuleId};
use super::source::SourceCheck;
use super::stream::{MAX_RATE_ERROR_PPM, WRONG_STEPS};
use super::totals::{AUDIO, NotJudged, totals};
use super::{CheckedSource, DriftReport, SourceReport};

/// Time before the first findings.
const FIRST_FINDINGS: Duration = Duration::from_secs(3);

impl SourceCheck {
    /// The findings with their rules, except of the rules `taken`, the worst first, and what could not be judged.
    fn findings(&self, taken: u64, is_over: bool) -> (Vec<(RuleId, Finding)>, Vec<NotJudged>) {
        let (totals, mut not_judged) = totals(self, is_over);
        let is_judged = |rule: &RuleId| !self.unjudged().iter().any(|(.., rules)| rules.contains(rule));
        let is_enough =
            |(rule, finding): &&(RuleId, Finding)| finding.count >= rule.rule().min_count && is_judged(rule);
        let all: Vec<_> = self.evidence.all.iter().chain(&totals.all).filter(is_enough).collect();
        let is_found = |rule: &RuleId| all.iter().any(|(found, _)| found == rule);
        let is_suppressed = |rule: RuleId| rule.rule().suppressed_by.iter().any(is_found);
        let is_kept = |(rule, _): &&(RuleId, Finding)| taken & 1 << *rule as u8 == 0 && !is_suppressed(*rule);
        let mut findings: Vec<_> = all.iter().copied().filter(is_kept).cloned().collect();
        findings.sort_by_key(|(rule, finding)| (std::cmp::Reverse(finding.severity), *rule as u8));
        // What has a finding is judged, and what has none because of a more precise one is explained by that.
        let is_explained = |rule: &RuleId| is_found(rule) || is_suppressed(*rule);
        let is_open = |rules: &[RuleId]| rules.iter().any(is_judged) && !rules.iter().any(is_explained);
        not_judged.retain(|part| part.what == AUDIO || is_open(part.rules));
        let unjudged = |&(what, reason, rules): &(_, &str, _)| NotJudged { what, reason: reason.to_owned(), rules };
        not_judged.extend(self.unjudged().iter().map(unjudged));
        (findings, not_judged)
    }

    /// Findings that were not taken before, without those that the rest of the run may refute. The first ones wait, because a more precise rule
    /// may need more packets.
    pub(super) fn take_new_findings(&mut self, now: Time) -> Vec<Finding> {
        if now.duration_since(self.first_seen) < FIRST_FINDINGS {
            return Vec::new();
        }
        let (findings, _) = self.findings(self.taken, false);
        for (rule, _) in &findings {
            self.taken |= 1 << *rule as u8;
        }
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    pub(super) fn report(&self, source: SocketAddr) -> CheckedSource {
        let drift = self
            .drift()
            .filter(|(_, [low, high])| high - low < 2.0 * MAX_RATE_ERROR_PPM)
            .map(|(_, interval_ppm)| DriftReport { ppm: interval_ppm[0].midpoint(interval_ppm[1]), interval_ppm });
        let report = SourceReport {
            source,
            packets: self.packets,
            audio: self.audio.packets,
            duration_s: self.last_seen.duration_since(self.first_seen).as_secs_f64(),
            frame_size: self.audio.frame_sizes().map(|(_, most)| most).or(self.format.map(|format| format.frame_size)),
            sample_rate: self.audio.pace(self.format).map(|pace| pace.rate),
            channels: self.audio.channels(self.format),
            link: if self.opened > 0 { "encrypted" } else { "plain" },
            lost: self.audio.arrivals.sequences.gaps,
            drift,
        };
        let (findings, not_judged) = self.findings(0, true);
        let facts = match &not_judged[..] {
            [NotJudged { what: AUDIO, reason, .. }, ..] => format!("no AUDIO: {reason}"),
            _ => facts(&report, self.audio.frame_sizes()),
        };
        CheckedSource {
            name: String::new(),
            facts,
            took_part: report.audio >= u64::from(WRONG_STEPS),
            details: Some(report),
            rules: &NAMES,
            history: self.history.clone(),
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            not_judged,
        }
    }
}

fn facts(source: &SourceReport, frame_sizes: Option<(u32, u32)>) -> String {
    let plural = if source.audio == 1 { "" } else { "s" };
    let mut facts =
        format!("{} AUDIO packet{plural} in {:.1} s, {} link", source.audio, source.duration_s, source.link);
    if let (Some(frame_size), Some(sample_rate)) = (source.frame_size, source.sample_rate) {
        // Writing to a string cannot fail.
        let fewest = frame_sizes.filter(|(fewest, most)| fewest < most).map(|(fewest, _)| format!("{fewest} to "));
        _ = write!(facts, ", {}{frame_size} samples at {sample_rate} Hz", fewest.unwrap_or_default());
    }
    if let Some(channels) = source.channels {
        _ = write!(facts, ", {channels} channel{}", if channels == 1 { "" } else { "s" });
    }
    if let Some(drift) = source.drift {
        let [low, high] = drift.interval_ppm;
        _ = write!(facts, ", sample clock {:+.1} ppm ({low:+.1} to {high:+.1})", drift.ppm);
    }
    _ = write!(facts, ", {} sequences missing", source.lost);
    facts
}
