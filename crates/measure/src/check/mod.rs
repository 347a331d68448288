//! Check of clients: judges what each source sends to an echo server against `docs/protocol.md`, or to a signaling server against the generated
//! documentation of its messages.
//!
//! [`RULES`] is the table of all rules for packets. The network is not the client: loss, reordering and jitter are notes, and no other rule may
//! find something in a correct client on a bad path. Each source needs constant memory, and a packet without a fault needs none.

mod command;
mod documents;
mod history;
mod pacing;
mod page;
mod rules;
mod samples;
mod signaling;
mod source;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Serialize;

use jamjam_core::address::canonical_socket_addr;
use jamjam_core::echo::{ObservedDatagram, SourceObserver};
use jamjam_core::time::Time;

pub use command::{CommandResult, EndedBy};
pub use documents::CheckResult;
pub use history::{HistoryInterval, SourceHistory};
pub use rules::{Finding, FirstPacket, RULES, Rule, RuleId, Severity};
pub use signaling::SignalingCheck;
use source::{SourceCheck, audio_header};

/// Maximum number of sources that are judged, as in the source table of the server.
const MAX_SOURCES: usize = 1_024;

/// Judges all sources.
#[derive(Debug, Default)]
pub struct ClientCheck {
    sources: HashMap<SocketAddr, SourceCheck>,
    untracked: u64,
    last_activity: Option<Time>,
}

/// What was found about all clients of a server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// In the order of their addresses, or of connecting.
    pub sources: Vec<CheckedSource>,
    /// Datagrams of further sources, or further connections, which were not judged.
    pub untracked: u64,
    /// The subcommand of the server.
    #[serde(skip)]
    pub server: String,
    /// What is expected of the clients, after their number.
    #[serde(skip)]
    pub expectation: &'static str,
    /// The names of all rules.
    #[serde(skip)]
    pub rules: Vec<&'static str>,
}

/// What was found about a source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckedSource {
    /// Differs from the names of all others.
    pub name: String,
    /// What is known about it, in a line.
    pub facts: String,
    /// Whether it has done what is expected.
    pub took_part: bool,
    /// The same facts about a source of an echo server.
    #[serde(flatten)]
    pub details: Option<SourceReport>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// For the charts of the page.
    #[serde(skip)]
    pub history: SourceHistory,
}

/// What is known about a source of an echo server.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// Its address, after a change of the port the last one.
    pub source: SocketAddr,
    /// Datagrams of all kinds.
    pub packets: u64,
    /// AUDIO packets that the server could read.
    pub audio: u64,
    /// Seconds from the first to the last datagram.
    pub duration_s: f64,
    /// According to the last LATENCY_INFO.
    pub frame_size: Option<u32>,
    /// According to the last LATENCY_INFO, in Hz.
    pub sample_rate: Option<u32>,
    /// According to the last LATENCY_INFO, otherwise to the length of AUDIO.
    pub channels: Option<usize>,
    /// `encrypted` if a sealed packet was opened, otherwise `plain`.
    pub link: &'static str,
    /// Sequences of AUDIO that are missing.
    pub lost: u64,
    /// How much faster the sample clock is than stated, after ten seconds with a known sample rate.
    pub drift: Option<DriftReport>,
}

/// Drift of a sample clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DriftReport {
    /// Parts per million; positive if the client is faster than its nominal rate on the server's clock.
    pub ppm: f64,
    /// The 95 % confidence interval.
    pub interval_ppm: [f64; 2],
}

impl ClientCheck {
    /// A check without sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state of all sources.
    pub fn report(&self) -> CheckReport {
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by_key(|(address, _)| **address);
        CheckReport {
            sources: sources.into_iter().map(|(address, source)| source.report(*address)).collect(),
            untracked: self.untracked,
            server: "echo-server".to_owned(),
            expectation: "sources sent AUDIO",
            rules: RULES.map(|rule| rule.id).to_vec(),
        }
    }

    /// When a source that has sent AUDIO last sent anything.
    pub fn last_activity(&self) -> Option<Time> {
        self.last_activity
    }

    /// The findings that were not returned before, each once per source and rule.
    pub fn take_new_findings(&mut self, now: Time) -> Vec<(SocketAddr, Finding)> {
        let of_source = |(address, source): (&SocketAddr, &mut SourceCheck)| {
            source.take_new_findings(now).into_iter().map(|finding| (*address, finding)).collect::<Vec<_>>()
        };
        self.sources.iter_mut().flat_map(of_source).collect()
    }

    /// The source whose AUDIO continues from `address`.
    fn moved_source(&self, address: SocketAddr, datagram: &ObservedDatagram<'_>) -> Option<SocketAddr> {
        let header = audio_header(datagram.bytes)?;
        let is_moved = |(other, source): &(&SocketAddr, &SourceCheck)| {
            other.ip() == address.ip() && **other != address && source.is_continued_by(header, datagram.at)
        };
        self.sources.iter().find(is_moved).map(|(other, _)| *other)
    }
}

impl SourceObserver for ClientCheck {
    fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let address = canonical_socket_addr(datagram.source);
        if self.sources.get(&address).is_none_or(|source| source.audio.packets == 0)
            && let Some(old) = self.moved_source(address, &datagram)
            && let Some(mut source) = self.sources.remove(&old)
        {
            source.on_port_change(old, address);
            self.sources.insert(address, source);
        }
        if self.sources.len() == MAX_SOURCES && !self.sources.contains_key(&address) {
            self.untracked += 1;
            return;
        }
        let at = datagram.at;
        let source = self.sources.entry(address).or_insert_with(|| SourceCheck::new(at));
        source.on_datagram(datagram);
        if source.last_audio.is_some() {
            self.last_activity = self.last_activity.max(Some(at));
        }
    }
}
