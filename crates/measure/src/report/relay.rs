//! The report of a relay: what became of the datagrams in each direction. It says what was forwarded, not what arrived elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use quick_junit::{SerializeError, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::figures::figures;
use super::junit::{case, failed, not_measured, of_suite};
use super::model::SCHEMA_VERSION;
use super::quantities::{duration_millis, format_decimals, format_length, format_share};
use crate::verdict::{Judged, Verdict, decide};
use jamjam_core::direction::Direction;
use jamjam_core::relay::{Client, Flow, HostDelays, RelayResults, Unassigned};
use jamjam_core::stats::Arrivals;

const NAME: &str = "jamjam-dev relay";

figures! {
    /// AUDIO before or after the impairment.
    ForwardedAudioFigures from audio: &Arrivals {
        packets: u64 = audio.sequences.received;
        packets_per_s: Option<f64> = audio.rate();
        lost: u64 = audio.sequences.gaps;
        loss_ratio: Option<f64> = audio.loss_ratio();
        duplicates: u64 = audio.sequences.duplicates;
        reordered: u64 = audio.sequences.reordered;
        longest_silence_ms: f64 = duration_millis(audio.longest_silence);
    }

    /// What a client has sent, or what was sent to it.
    ForwardedFigures from (client, direction): (&Client, Direction) [
        let flow = &client.flows[direction as usize];
    ] {
        client: u32 = client.number;
        address: SocketAddr = client.address;
        direction: &'static str = direction.name();
        datagrams: u64 = flow.datagrams;
        outcomes: BTreeMap<&'static str, u64> = flow.outcomes.clone();
        audio_before: ForwardedAudioFigures = (&flow.arrived).into();
        audio_after: ForwardedAudioFigures = (&flow.forwarded()).into();
    }

    /// The report of a relay.
    RelayReport from (target, seed, results, unreachable, kernel_dropped, strays): (String, u64, &RelayResults, u64, Option<u64>, (u64, Option<SocketAddr>)) [
        let of_client = |client: &Client| Direction::ALL.map(|direction| ForwardedFigures::from((client, direction)));
        let directions: Vec<ForwardedFigures> = results.clients.iter().flat_map(of_client).collect();
        let sum = |outcome: &str| directions.iter().filter_map(|one| one.outcomes.get(outcome)).sum::<u64>();
        let unassigned = |reason: Unassigned| results.unassigned[reason as usize];
        let first = strays.1.map_or_else(String::new, |first| format!(", first from {first}"));
        let findings = counted([
            (unreachable, "ICMP errors, since nothing listens at the target"),
            (strays.0, &format!("datagrams from other addresses than that of the target{first}")),
            (sum("limit"), "datagrams above the limits of a client's address (--max-bitrate-per-source)"),
            (unassigned(Unassigned::NoSocket), "datagrams of further clients, while all sockets were in use"),
            (unassigned(Unassigned::Forged), "datagrams with forged addresses"),
        ]);
        let dropped = counted([
            (sum("buffer_full"), "datagrams for which the relay had no memory left"),
            (sum("failed"), "datagrams refused by this host"),
            (kernel_dropped.unwrap_or(0), "datagrams dropped by the system before the relay read them"),
        ]);
        let not_judged = [dropped, delayed(&results.delays)].concat();
        let failed = findings.iter().map(|_| ((), Judged::Exceeded, ()));
        let verdict = decide(failed.chain(not_judged.iter().map(|_| ((), Judged::NotJudged, ())))).0;
        let warnings = counted([
            (unassigned(Unassigned::Early), "datagrams of the target before the first client"),
            (results.former.into(), "clients that were idle, gave up their sockets to others, and are not listed"),
        ]);
        let rates = results.clients.iter().flat_map(|client| &client.flows).filter_map(Flow::rate_warning);
    ] {
        #[serde(rename = "type")]
        kind: &'static str = "relay";
        schema_version: u32 = SCHEMA_VERSION;
        tool_version: &'static str = env!("CARGO_PKG_VERSION");
        target: String = target;
        seed: u64 = seed;
        verdict: Verdict = verdict;
        findings: Vec<String> = findings;
        not_judged: Vec<String> = not_judged;
        warnings: Vec<String> = warnings.into_iter().chain(rates).collect();
        directions: Vec<ForwardedFigures> = directions;
    }
}

/// The head of [`audio_columns`].
pub(super) const AUDIO_HEAD: &str = "   AUDIO/s  loss before   loss after   silence";

/// The columns of AUDIO before and after the impairment.
pub(super) fn audio_columns(before: &ForwardedAudioFigures, after: &ForwardedAudioFigures) -> String {
    let loss = |audio: &ForwardedAudioFigures| audio.loss_ratio.map_or_else(|| "-".to_owned(), format_share);
    let rate = before.packets_per_s.map_or_else(|| "-".to_owned(), |rate| format_decimals(rate, 1));
    let (before, silence, after) = (loss(before), format_length(after.longest_silence_ms), loss(after));
    format!("{rate:>10}{before:>13}{after:>13}{silence:>10}")
}

/// What was counted at all.
pub(super) fn counted<const N: usize>(counts: [(u64, &str); N]) -> Vec<String> {
    counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect()
}

/// What this host has delayed.
pub(super) fn delayed(HostDelays { pauses, paused, late, .. }: &HostDelays) -> Vec<String> {
    let paused = format!("pauses, in which the relay did not run for {}", format_length(duration_millis(*paused)));
    counted([(*pauses, &paused), (*late, "datagrams sent over 50 ms late")])
}

/// Adds a line for each finding, each reason not to judge, and each warning.
pub(super) fn add_findings(text: &mut String, findings: &[String], not_judged: &[String], warnings: &[String]) {
    for (kind, lines) in [("finding", findings), ("not measured", not_judged), ("warning", warnings)] {
        text.extend(lines.iter().map(|line| format!("{kind}: {line}\n")));
    }
}

/// The status of a test case with findings, and with what could not be judged at all.
pub(super) fn findings_status(findings: &[String], not_judged: &[String]) -> TestCaseStatus {
    match (findings, not_judged) {
        ([], []) => TestCaseStatus::success(),
        ([], reasons) => not_measured(&reasons.join("; ")),
        (findings, _) => failed("findings", &findings.join("; ")),
    }
}

impl RelayReport {
    /// The table of all directions, the findings, the warnings and the seed.
    pub fn text(&self) -> String {
        let mut text = format!("{:34}{:>10}{AUDIO_HEAD}  outcomes\n", "client", "datagrams");
        for one in &self.directions {
            let client = format!("{} {} {}", one.client, one.address, one.direction);
            let audio = audio_columns(&one.audio_before, &one.audio_after);
            let outcomes: Vec<_> = one.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let row = format!("{client:34}{:>10}{audio}  {}", one.datagrams, outcomes.join(", "));
            _ = writeln!(text, "{}", row.trim_end());
        }
        add_findings(&mut text, &self.findings, &self.not_judged, &self.warnings);
        _ = writeln!(text, "note: --seed {} repeats the impairment", self.seed);
        text
    }

    /// A test case that fails if there are findings, and is an error if they are only those of this host.
    pub fn junit(&self) -> Result<String, SerializeError> {
        let mut suite = TestSuite::new(NAME);
        let status = findings_status(&self.findings, &self.not_judged);
        suite.add_test_case(case(NAME, "findings", status, &self.text()));
        of_suite(suite)
    }
}
