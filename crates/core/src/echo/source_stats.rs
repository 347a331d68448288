//! The counts of one source, and their forms in the log, in `/sources` and in `/metrics`.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::observer::DropReason;
use crate::address::canonical_socket_addr;
use crate::stats::{Arrivals, SequenceTracker};
use crate::time::Time;
use crate::wire::stun::{CountsRequestTime, ReceivedCounts};
use crate::wire::{Header, PacketType};

/// Maximum number of reports that one source receives per second. A report contains counts of the packets received from the source.
const MAX_COUNT_REPORTS_PER_SECOND: u32 = 10;

/// Counts of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceStats {
    pub(super) first_seen: Time,
    pub(super) last_seen: Time,
    /// Whether the log line for the first packet of this source was written, or suppressed by the throttle or the configuration.
    pub(super) logged: bool,
    /// Packets of all types, and STUN messages.
    pub(super) packets: u64,
    audio: Arrivals,
    /// AUDIO packets that were sent back, copies by impairment included.
    pub(super) echoed: u64,
    ping: SequenceTracker,
    keepalive: SequenceTracker,
    /// Dropped datagrams by [`DropReason`].
    pub(super) dropped: [u64; DropReason::ALL.len()],
    /// Whether the source sends CONTROL to exchange keys.
    pub(super) control: ControlState,
    /// Whether it was logged that plain AUDIO of this source is dropped.
    pub(super) plain_logged: bool,
    /// Start time of the current second, and how often the server has reported packet counts to the source in this second.
    count_reports: (Time, u32),
}

impl SourceStats {
    pub(super) fn new(first_seen: Time) -> Self {
        Self { first_seen, ..Self::default() }
    }

    /// The counts to report to this source. `None` after [`MAX_COUNT_REPORTS_PER_SECOND`] reports in the current second. A request before or
    /// after a run resets the sequence windows, because packets of the client's next run could count as duplicates.
    pub(super) fn report_counts(&mut self, now: Time, time: CountsRequestTime) -> Option<ReceivedCounts> {
        if now.duration_since(self.count_reports.0) >= Duration::from_secs(1) {
            self.count_reports = (now, 0);
        }
        if self.count_reports.1 == MAX_COUNT_REPORTS_PER_SECOND {
            return None;
        }
        self.count_reports.1 += 1;
        if time == CountsRequestTime::RunBoundary {
            self.restart_sequences();
        }
        let [audio, ping, keepalive] = [self.audio.sequences, self.ping, self.keepalive].map(|stream| stream.distinct);
        Some(ReceivedCounts { epoch: self.first_seen.as_micros() as u32, audio, ping, keepalive })
    }

    /// The client may start its sequence numbers again.
    pub(super) fn restart_sequences(&mut self) {
        self.audio.restart();
        self.ping.restart();
        self.keepalive.restart();
    }

    pub(super) fn on_packet(&mut self, now: Time, header: Header) {
        self.packets += 1;
        match header.packet_type {
            PacketType::Audio => {
                self.audio.record(now, header.sequence);
                self.control = ControlState::default();
            }
            PacketType::LatencyPing => _ = self.ping.record(header.sequence),
            PacketType::Keepalive => _ = self.keepalive.record(header.sequence),
            PacketType::Fec | PacketType::Control | PacketType::LatencyPong | PacketType::LatencyInfo => {}
        }
    }

    /// The counts with their names in the log and in `/sources`.
    fn counts(&self) -> [(&'static str, u64); 8] {
        let audio = &self.audio.sequences;
        [
            ("packets", self.packets),
            ("audio", audio.received),
            ("echoed", self.echoed),
            ("audio_gaps", audio.gaps),
            ("audio_duplicates", audio.duplicates),
            ("audio_reordered", audio.reordered),
            ("keepalives", self.keepalive.received),
            ("pings", self.ping.received),
        ]
    }

    /// AUDIO packets per second, from the first to the last, rounded to a tenth.
    fn audio_rate(&self) -> Option<f64> {
        self.audio.rate().map(round)
    }

    /// The reasons for which datagrams were dropped, and their number.
    fn drops(&self) -> impl Iterator<Item = (DropReason, &'static str, u64)> + use<> {
        let counts = DropReason::ALL.into_iter().zip(self.dropped);
        counts.filter(|(_, count)| *count > 0).map(|((reason, ..), count)| (reason, reason.name(), count))
    }

    /// The counts of `source` as they are at `now`, for `/sources`.
    pub(super) fn to_json(self, source: SocketAddr, now: Time) -> Value {
        let ago = |time| round(now.duration_since(time).as_secs_f64());
        let mut object = json!({
            "source": canonical_socket_addr(source).to_string(),
            "first_seen_ago_s": ago(self.first_seen),
            "last_seen_ago_s": ago(self.last_seen),
            "audio_per_s": self.audio_rate(),
            "dropped": self.drops().map(|(_, name, count)| (name, count)).collect::<Value>(),
        });
        for (name, count) in self.counts() {
            object[name] = count.into();
        }
        object
    }

    /// The samples of the source with the names and help texts of their metrics.
    pub(super) fn metrics(&self) -> [(&'static str, &'static str, u64); 3] {
        [
            ("source_audio", "AUDIO packets received from a source.", self.audio.sequences.received),
            ("source_echoed", "AUDIO packets echoed to a source.", self.echoed),
            (
                "source_dropped",
                "Datagrams of a source dropped, for the reasons in /sources.",
                self.dropped.iter().sum(),
            ),
        ]
    }
}

/// The fields of the line `source inactive`: how long the source was active, and what is not zero.
impl Display for SourceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "active_s={:.1}", (self.last_seen - self.first_seen).as_secs_f64())?;
        for (name, count) in self.counts().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, " {name}={count}")?;
        }
        if let Some(rate) = self.audio_rate() {
            write!(f, " audio_per_s={rate:.1}")?;
        }
        let malformed: u64 = self.drops().filter(|(reason, ..)| reason.is_malformed()).map(|(.., count)| count).sum();
        if malformed > 0 {
            write!(f, " malformed={malformed}")?;
        }
        for (reason, name, count) in self.drops() {
            write!(f, " {}_{name}={count}", if reason.is_malformed() { "malformed" } else { "dropped" })?;
        }
        Ok(())
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Detects clients that exchange keys, but send no AUDIO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ControlState {
    /// When the first CONTROL without AUDIO after it arrived.
    pub(super) since: Option<Time>,
    /// Why there may be no AUDIO.
    pub(super) reason: &'static str,
    pub(super) is_logged: bool,
}
