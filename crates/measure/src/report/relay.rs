//! The report of a relay: what became of the datagrams in each direction. It says what was forwarded, not what arrived elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::quantities::{duration_millis, format_length};
use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::figures;
use crate::document::{Document, Head, Judgment};
use crate::verdict::Judged;
use jamjam_core::direction::Direction;
use jamjam_core::relay::{Client, Flow, HostDelays, RelayResults, Unassigned};
use jamjam_core::stats::Arrivals;

/// The section of the documentation about relays.
const SECTION: &str = "docs/tasks/bad-line.md#what-the-report-says";

figures! {
    /// AUDIO before or after the impairment.
    ForwardedAudioFigures from audio: &Arrivals {
        /// Number of packets, duplicates included.
        packets: u64 = audio.sequences.received;
        /// Packets per second; null with fewer than two packets.
        @short packets_per_s: Option<f64> = audio.rate();
        /// Sequence numbers that are missing.
        lost: u64 = audio.sequences.gaps;
        /// `lost` divided by all sequence numbers; null without packets.
        @short loss_ratio: Option<f64> = audio.loss_ratio();
        /// Packets whose sequence number came before.
        duplicates: u64 = audio.sequences.duplicates;
        /// Packets that came after one with a higher sequence number.
        reordered: u64 = audio.sequences.reordered;
        /// Longest time between two consecutive packets.
        @short longest_silence_ms: f64 = duration_millis(audio.longest_silence);
    }

    /// What a client has sent, or what was sent to it.
    ForwardedFigures from (client, direction): (&Client, Direction) [
        let flow = &client.flows[direction as usize];
    ] {
        /// Number of the client.
        @subject client: u32 = client.number;
        /// Its address.
        @subject address: SocketAddr = client.address;
        /// `up` from the client to the target, or `down`.
        @subject direction: &'static str = direction.name();
        /// Datagrams that arrived.
        @short datagrams: u64 = flow.datagrams;
        /// These datagrams by outcome, with the names of the outcome log.
        @short outcomes: BTreeMap<&'static str, u64> = flow.outcomes.clone();
        /// AUDIO as it arrived, before the impairment.
        audio_before: ForwardedAudioFigures = (&flow.arrived).into();
        /// AUDIO as it was forwarded, duplicates included. What arrived and was dropped is lost, also at the end.
        audio_after: ForwardedAudioFigures = (&flow.forwarded()).into();
    }

    /// The report of a relay.
    RelayFigures from results: &RelayResults {
        /// Both directions of each client.
        directions: Vec<ForwardedFigures> = results
            .clients
            .iter()
            .flat_map(|client| Direction::ALL.map(|direction| ForwardedFigures::from((client, direction))))
            .collect();
    }
}

/// What a relay has counted besides the flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayCounts {
    /// ICMP errors of the target.
    pub unreachable: u64,
    /// Datagrams that the system dropped, if it says so.
    pub kernel_dropped: Option<u64>,
    /// Datagrams from other addresses than that of the target, and the first of these.
    pub strays: (u64, Option<SocketAddr>),
}

/// The report of a relay to `target`. What it had to drop is a failure only if it is judged, with `--junit`.
pub fn document(target: String, seed: u64, results: &RelayResults, counts: RelayCounts, is_judged: bool) -> Document {
    let RelayCounts { unreachable, kernel_dropped, strays } = counts;
    let figures = RelayFigures::from(results);
    let sum = |outcome: &str| figures.directions.iter().filter_map(|one| one.outcomes.get(outcome)).sum::<u64>();
    let unassigned = |reason: Unassigned| results.unassigned[reason as usize];
    let first = strays.1.map_or_else(String::new, |first| format!(", first from {first}"));
    let findings = [
        (unreachable, "ICMP errors, since nothing listens at the target".to_owned()),
        (strays.0, format!("datagrams from other addresses than that of the target{first}")),
        (sum("limit"), "datagrams above the limits of a client's address (--max-bitrate-per-source)".to_owned()),
        (unassigned(Unassigned::NoSocket), "datagrams of further clients, while all sockets were in use".to_owned()),
        (unassigned(Unassigned::Forged), "datagrams with forged addresses".to_owned()),
    ];
    let dropped = [
        (sum("buffer_full"), "datagrams for which the relay had no memory left".to_owned()),
        (sum("failed"), "datagrams refused by this host".to_owned()),
        (kernel_dropped.unwrap_or(0), "datagrams dropped by the system before the relay read them".to_owned()),
    ];
    let (of_host, host) = of_host(&dropped, &results.delays);
    let judgments = vec![judgment("datagrams forwarded as asked", &findings, Judged::Exceeded), of_host];
    let former = "clients that were idle, gave up their sockets to others, and are not listed";
    let early = "datagrams of the target before the first client";
    let warnings = [(unassigned(Unassigned::Early), early.to_owned()), (results.former.into(), former.to_owned())];
    let rates = results.clients.iter().flat_map(|client| &client.flows).filter_map(Flow::rate_warning);
    let mut head = Head::new("relay", target, if is_judged { judgments } else { Vec::new() });
    let note = |severity| move |text| Diagnosis::new(severity, "relay", SECTION, text);
    head.findings = texts(&findings).map(note(Severity::Warning)).collect();
    head.warnings = texts(&host).chain(texts(&warnings)).chain(rates).map(note(Severity::Note)).collect();
    head.seed = Some(seed);
    Document::new(head, &figures)
}

/// Numbers with what was counted.
pub(super) type Counts = [(u64, String)];

/// What was counted at all.
pub(super) fn texts(counts: &Counts) -> impl Iterator<Item = String> {
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}"))
}

/// What was expected, which is met if nothing was counted.
pub(super) fn judgment(rule: &str, counts: &Counts, otherwise: Judged) -> Judgment {
    let reasons = texts(counts).collect::<Vec<_>>().join("; ");
    let result = if reasons.is_empty() { Judged::Met } else { otherwise };
    Judgment::expectation(rule, result, Some(reasons).filter(|reasons| !reasons.is_empty()))
}

/// Whether this host neither dropped nor delayed anything, and what it did.
pub(super) fn of_host(dropped: &Counts, delays: &HostDelays) -> (Judgment, Vec<(u64, String)>) {
    let HostDelays { pauses, paused, late, .. } = delays;
    let paused = format!("pauses, in which the relay did not run for {}", format_length(duration_millis(*paused)));
    let delayed = [(*pauses, paused), (*late, "datagrams sent over 50 ms late".to_owned())];
    let all = [dropped, &delayed].concat();
    (judgment("this host kept up", &all, Judged::NotJudged), all)
}
