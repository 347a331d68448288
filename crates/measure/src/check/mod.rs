//! Check of clients: judges what each source sends to an echo server against `docs/protocol.md`, or to a signaling server against the generated
//! documentation of its messages.
//!
//! [`RULES`] is the table of all rules for packets. The packets decide; LATENCY_INFO describes the device. The network is not the client: loss,
//! reordering and jitter are notes, and no other rule may find something in a correct client on a bad path. What is no client is not judged, and
//! what was not judged is reported. Each source needs constant memory, and a packet without a fault needs none.

mod command;
mod documents;
mod findings;
mod history;
mod pace;
mod pacing;
mod rate;
mod rules;
mod samples;
mod senders;
mod signaling;
mod source;
mod stream;
mod totals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::address::canonical_socket_addr;
use jamjam_core::echo::ObservedDatagram;
use jamjam_core::time::Time;

use crate::document::column::figures;
use crate::report::media::MediaReport;
pub use command::{CommandResult, EndedBy};
pub use documents::CheckFigures;
pub use history::SourceHistory;
pub use rules::{Finding, FirstPacket, RULES, Rule, RuleId, Severity, rule_table};
pub use senders::SenderCheck;
pub use signaling::SignalingCheck;
use source::{SourceCheck, audio_header};
pub use totals::NotJudged;

/// Maximum number of sources that are judged, as in the source table of the server.
const MAX_SOURCES: usize = 1_024;

/// A source that has sent nothing for this time is inactive.
const INACTIVE: Duration = Duration::from_secs(10);

/// Packets overtake each other for less than this time. A source that is still active so long after its AUDIO continued elsewhere has not moved.
const MAX_OVERTAKING: Duration = Duration::from_millis(200);

/// Judges all sources.
#[derive(Debug, Default)]
pub struct ClientCheck {
    sources: HashMap<SocketAddr, SourceCheck>,
    untracked: u64,
    /// When a source that has sent AUDIO last sent anything.
    pub last_activity: Option<Time>,
    /// Strangers that are no longer in the table.
    strangers: u64,
}

/// What was found about all clients of a server.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// In the order of their first datagrams, or of connecting.
    pub sources: Vec<CheckedSource>,
    /// Datagrams of sources without a place, or further connections, which were not judged.
    pub untracked: u64,
    /// Addresses that sent only datagrams that are no jamjam packets, such as scanners and STUN clients.
    pub strangers: u64,
    /// What the members of rooms have sent to each other, if the server relays it.
    pub media: Option<MediaReport>,
    /// The seed of the impairment, if there is any.
    pub seed: Option<u64>,
    /// The subcommand of the server.
    pub server: &'static str,
    /// What is expected of the clients, after their number.
    pub expectation: &'static str,
    /// What [`CheckReport::untracked`] counts.
    pub untracked_name: &'static str,
}

figures! {
    /// What a check found about a source.
    #[derive(Default)]
    CheckedSource {
        /// Name of the source, different from all others.
        @subject name: String;
        /// What is known about it, in a line.
        @short facts: String;
        /// Whether it has done what is expected.
        took_part: bool;
        /// The same facts about a source of an echo server.
        #[serde(flatten)]
        @flat details: Option<SourceReport>;
        /// The worst first.
        @json findings: Vec<Finding>;
        /// What could not be judged.
        @json not_judged: Vec<NotJudged>;
        /// The names of the rules by which it is judged.
        #[serde(skip)]
        @skip rules: &'static [&'static str];
        /// For the charts of the page.
        #[serde(skip)]
        @skip history: SourceHistory;
    }

    /// What is known about a source of an echo server.
    SourceReport {
        /// Its address, after a change of the port the last one.
        source: SocketAddr;
        /// Datagrams of all kinds.
        packets: u64;
        /// AUDIO packets that the server could read.
        audio: u64;
        /// Seconds from the first to the last datagram.
        duration_s: f64;
        /// Samples per channel of the longest AUDIO packet, otherwise according to the last LATENCY_INFO.
        frame_size: Option<u32>;
        /// In Hz, according to the last LATENCY_INFO, otherwise the standard rate that is measured.
        sample_rate: Option<u32>;
        /// According to length and timestamps of AUDIO, otherwise to the last LATENCY_INFO.
        channels: Option<usize>;
        /// `encrypted` if a sealed packet was opened, otherwise `plain`.
        link: &'static str;
        /// Sequences of AUDIO that are missing.
        lost: u64;
        /// How much faster the sample clock is than stated, after ten seconds with a known sample rate, if it is certain within ±1 %.
        drift: Option<DriftReport>;
    }

    /// Drift of a sample clock.
    #[derive(Copy)]
    DriftReport {
        /// Parts per million; positive if the client is faster than its nominal rate on the server's clock.
        ppm: f64;
        /// The 99.9 % confidence interval.
        interval_ppm: [f64; 2];
    }
}

impl ClientCheck {
    /// The state of all sources.
    pub fn report(&self) -> CheckReport {
        let mut sources: Vec<_> = self.sources.iter().filter(|(_, source)| source.is_client).collect();
        sources.sort_by_key(|(address, source)| (source.first_seen, **address));
        // CI systems compare the cases of runs by their names, and ports differ from run to run.
        let numbered = |(number, (address, source)): (usize, (&SocketAddr, &SourceCheck))| {
            source.report(format!("source {number}"), Some(*address))
        };
        CheckReport {
            strangers: self.strangers + (self.sources.len() - sources.len()) as u64,
            sources: (1..).zip(sources).map(numbered).collect(),
            untracked: self.untracked,
            server: "echo-server",
            expectation: "sources sent 30 AUDIO packets",
            untracked_name: "packets of further clients",
            ..CheckReport::default()
        }
    }

    /// The findings that were not returned before, each once per source and rule.
    pub fn take_new_findings(&mut self, now: Time) -> Vec<(SocketAddr, Finding)> {
        let of_source = |(address, source): (&SocketAddr, &mut SourceCheck)| {
            source.take_new_findings(now).into_iter().map(|finding| (*address, finding)).collect::<Vec<_>>()
        };
        self.sources.iter_mut().filter(|(_, source)| source.is_client).flat_map(of_source).collect()
    }

    /// Makes a place for a new source. Sources that have sent AUDIO or CONTROL stay, and others as long as they are active. If all places are
    /// taken, the source with the least AUDIO goes, so that invented addresses displace no client.
    fn make_place(&mut self, at: Time) {
        let is_left = |one: &SourceCheck| !one.has_taken_part() && at.duration_since(one.last_seen) >= INACTIVE;
        let rank = |source: &SourceCheck| (!is_left(source), source.audio.packets, source.last_seen);
        if let Some((&address, source)) = self.sources.iter().min_by_key(|(_, source)| rank(source)) {
            self.untracked += if is_left(source) || !source.is_client { 0 } else { source.packets };
            self.strangers += u64::from(!source.is_client);
            self.sources.remove(&address);
        }
    }

    /// Follows a client whose port changes, and takes the change back if the old port is still used: then the new one belongs to another process.
    /// Returns the address under which the datagram is judged.
    fn follow_port(&mut self, address: SocketAddr, datagram: &ObservedDatagram<'_>) -> SocketAddr {
        if self.sources.get(&address).is_some_and(|source| source.audio.packets > 0) {
            return address;
        }
        let (at, Some(header)) = (datagram.at, audio_header(datagram.bytes)) else { return address };
        let since_move = |(current, source): (&SocketAddr, &SourceCheck)| {
            let (_, moved_at) = source.moved_from.filter(|(old, _)| *old == address)?;
            Some((*current, at.duration_since(moved_at)))
        };
        match self.sources.iter().find_map(since_move) {
            Some((current, since_move)) if since_move < MAX_OVERTAKING => return current,
            Some((current, since_move)) if since_move < INACTIVE => {
                if let Some(mut source) = self.sources.remove(&current) {
                    source.on_port_returned(current);
                    self.sources.insert(address, source);
                }
                return address;
            }
            _ => {}
        }
        let is_moved = |(other, source): &(&SocketAddr, &SourceCheck)| {
            other.ip() == address.ip() && **other != address && source.is_continued_by(header, address, at)
        };
        if let Some(old) = self.sources.iter().find(is_moved).map(|(other, _)| *other)
            && let Some(mut source) = self.sources.remove(&old)
        {
            source.on_port_change(at, old, address);
            self.sources.insert(address, source);
        }
        address
    }

    /// A datagram was received.
    pub fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let address = self.follow_port(canonical_socket_addr(datagram.source), &datagram);
        let at = datagram.at;
        if self.sources.len() == MAX_SOURCES && !self.sources.contains_key(&address) {
            self.make_place(at);
        }
        let source = self.sources.entry(address).or_insert_with(|| SourceCheck::new(at));
        source.on_datagram(datagram);
        if source.last_audio.is_some() {
            self.last_activity = self.last_activity.max(Some(at));
        }
    }
}
