//! The findings about a source, and its part of the report.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::time::Time;

use super::rules::{Finding, NAMES, RuleId};
use super::senders::ADDRESS;
use super::source::SourceCheck;
use super::stream::{MAX_RATE_ERROR_PPM, WRONG_STEPS};
use super::totals::{AUDIO, NotJudged, Totals};
use super::{CheckedSource, DriftReport, SourceReport};

/// Time before the first findings.
const FIRST_FINDINGS: Duration = Duration::from_secs(3);

impl SourceCheck {
    /// The findings, the worst first, and what could not be judged. What depends on the length of the run follows only when it `is_over`.
    fn findings(&self, is_over: bool) -> (Vec<Finding>, Vec<NotJudged>) {
        let Totals { violations, mut not_judged } = Totals::of(self, is_over);
        let is_judged = |rule: &RuleId| !self.unjudged().iter().any(|(.., rules)| rules.contains(rule));
        let is_enough =
            |(rule, finding): &&(RuleId, Finding)| finding.count >= rule.rule().min_count && is_judged(rule);
        let all: Vec<_> = self.evidence.all.iter().chain(&violations.all).filter(is_enough).collect();
        let is_found = |rule: &RuleId| all.iter().any(|(found, _)| found == rule);
        let is_suppressed = |rule: RuleId| rule.rule().suppressed_by.iter().any(is_found);
        let mut findings: Vec<_> = all.iter().filter(|(rule, _)| !is_suppressed(*rule)).collect();
        findings.sort_by_key(|(rule, finding)| (std::cmp::Reverse(finding.severity), *rule as u8));
        // What has a finding is judged, and what has none because of a more precise one is explained by that.
        let is_explained = |rule: &RuleId| is_found(rule) || is_suppressed(*rule);
        let is_open = |rules: &[RuleId]| rules.iter().any(is_judged) && !rules.iter().any(is_explained);
        not_judged.retain(|part| part.what == AUDIO || is_open(part.rules));
        let unjudged = |&(what, reason, rules): &(_, &str, _)| NotJudged { what, reason: reason.to_owned(), rules };
        not_judged.extend(self.unjudged().iter().map(unjudged));
        (findings.into_iter().map(|(_, finding)| finding.clone()).collect(), not_judged)
    }

    /// Findings that were not announced before, without those that the rest of the run may refute. The first ones wait, because a more precise rule
    /// may need more packets.
    pub(super) fn take_new_findings(&mut self, now: Time) -> Vec<Finding> {
        if now.duration_since(self.first_seen) < FIRST_FINDINGS {
            return Vec::new();
        }
        let (mut findings, _) = self.findings(false);
        findings.retain(|finding| !self.announced.contains(&finding.rule));
        self.announced.extend(findings.iter().map(|finding| finding.rule));
        findings
    }

    /// Its part of the report. It has no address if it sends to another member of a room.
    pub(super) fn report(&self, name: String, address: Option<SocketAddr>) -> CheckedSource {
        let SourceCheck { audio, packets, history, .. } = self;
        let (frame_sizes, announced) = (audio.frame_sizes(), audio.format.as_ref().map(|format| format.frame_size));
        let drift = self.drift().filter(|(_, [low, high])| high - low < 2.0 * MAX_RATE_ERROR_PPM);
        let details = SourceReport {
            source: address.unwrap_or(ADDRESS),
            packets: *packets,
            audio: audio.packets,
            duration_s: self.last_seen.duration_since(self.first_seen).as_secs_f64(),
            frame_size: frame_sizes.map(|(_, most)| most).or(announced),
            sample_rate: audio.pace().map(|pace| pace.rate),
            channels: audio.channels(),
            link: if self.opened > 0 { "encrypted" } else { "plain" },
            lost: audio.arrivals.sequences.gaps,
            drift: drift.map(|(_, ends)| DriftReport { ppm: ends[0].midpoint(ends[1]), interval_ppm: ends }),
        };
        let (findings, not_judged) = self.findings(true);
        let facts = match &not_judged[..] {
            [NotJudged { what: AUDIO, reason, .. }, ..] => format!("no AUDIO: {reason}"),
            _ => facts(&details, frame_sizes),
        };
        CheckedSource {
            name,
            facts: address.map_or_else(String::new, |address| format!("{address}, ")) + &facts,
            took_part: address.is_some() && audio.packets >= u64::from(WRONG_STEPS),
            details: address.map(|_| details),
            rules: &NAMES,
            history: history.clone(),
            findings,
            not_judged,
        }
    }
}

fn facts(source: &SourceReport, frame_sizes: Option<(u32, u32)>) -> String {
    let plural = |count| if count == 1 { "" } else { "s" };
    let SourceReport { audio, duration_s, link, lost, .. } = source;
    let mut facts =
        vec![format!("{audio} AUDIO packet{} in {duration_s:.1} s", plural(*audio)), format!("{link} link")];
    if let (Some(frame_size), Some(sample_rate)) = (source.frame_size, source.sample_rate) {
        let fewest = frame_sizes.filter(|(fewest, most)| fewest < most).map(|(fewest, _)| format!("{fewest} to "));
        facts.push(format!("{}{frame_size} samples at {sample_rate} Hz", fewest.unwrap_or_default()));
    }
    facts.extend(source.channels.map(|channels| format!("{channels} channel{}", plural(channels as u64))));
    facts.extend(source.drift.map(|DriftReport { ppm, interval_ppm: [low, high] }| {
        format!("sample clock {ppm:+.1} ppm ({low:+.1} to {high:+.1})")
    }));
    facts.push(format!("{lost} sequences missing"));
    facts.join(", ")
}
