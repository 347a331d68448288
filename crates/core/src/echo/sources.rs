//! Source table: counters and log lines of up to 1,024 sources. A client can request its counts over STUN.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::info;

use crate::address::canonical_socket_addr;
use crate::log_throttle::LogThrottle;
use crate::time::Time;
use crate::wire::stun::{CountsRequestTime, ReceivedCounts};
use crate::wire::{Header, PacketError, PacketType};

/// Maximum number of sources in the table. Packets of further sources are handled as usual and counted as `untracked`.
const MAX_SOURCES: usize = 1_024;

/// A source that sends no packets for this long, ten KEEPALIVE intervals of a client, is inactive and is removed.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// If a source has sent CONTROL, but no AUDIO for this long, the reason is logged.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between searches for inactive sources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of log lines per second about sources. Without this limit, a flood of forged sources could fill the log.
const MAX_LOG_LINES_PER_SECOND: u16 = 10;

/// Maximum number of reports that one source receives per second. A report contains counts of the packets received from the source.
const MAX_COUNT_REPORTS_PER_SECOND: u32 = 10;

/// A local source that has sent at most this many packets, all of them LATENCY_PING or STUN, may be a health check, and health checks would
/// fill the log, because each has a new port. That of the container image sends three pings and up to five STUN requests.
const MAX_HEALTH_CHECK_PACKETS: u64 = 8;

/// Length of the window of sequence numbers up to the newest, in which late packets are distinguished from duplicates.
const SEQUENCE_WINDOW: u32 = u128::BITS;

/// A larger distance from the newest sequence number restarts the window: the client has restarted, or has sent `--wait-for` packets before
/// the run.
const MAX_SEQUENCE_JUMP: u32 = 1 << 16;

/// Counters of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceStats {
    first_seen: Time,
    last_seen: Time,
    /// Whether the log line for the first packet of this source was written, or suppressed by the throttle or the configuration.
    logged: bool,
    /// Packets of all types, and STUN messages.
    packets: u64,
    audio: SequenceTracker,
    ping: SequenceTracker,
    keepalive: SequenceTracker,
    /// Malformed datagrams by reason ([`malformed_index`]).
    malformed: [u64; 5],
    /// Whether the source sends CONTROL to exchange keys.
    control: ControlState,
    /// Whether it was logged that plain AUDIO of this source is dropped.
    plain_logged: bool,
    /// Start time of the current second, and how often the server has reported packet counts to the source in this second.
    count_reports: (Time, u32),
}

impl SourceStats {
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
        let streams = [&mut self.audio, &mut self.ping, &mut self.keepalive];
        let [audio, ping, keepalive] = streams.map(|stream| {
            if time == CountsRequestTime::RunBoundary {
                stream.window = None;
            }
            stream.distinct
        });
        Some(ReceivedCounts { epoch: self.first_seen.as_micros() as u32, audio, ping, keepalive })
    }

    fn on_packet(&mut self, header: Header) {
        self.packets += 1;
        match header.packet_type {
            PacketType::Audio => {
                self.audio.record(header.sequence);
                self.control = ControlState::default();
            }
            PacketType::LatencyPing => self.ping.record(header.sequence),
            PacketType::Keepalive => self.keepalive.record(header.sequence),
            PacketType::Fec | PacketType::Control | PacketType::LatencyPong | PacketType::LatencyInfo => {}
        }
    }
}

/// Detects clients that exchange keys, but send no AUDIO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ControlState {
    /// When the first CONTROL without AUDIO after it arrived.
    since: Option<Time>,
    /// Why there may be no AUDIO.
    reason: &'static str,
    is_logged: bool,
}

/// The position of a reason in the counts of malformed datagrams: short, version, type, payload, STUN.
pub(super) fn malformed_index(error: PacketError) -> usize {
    match error {
        PacketError::TooShort(_) => 0,
        PacketError::Version(_) => 1,
        PacketError::Type(_) => 2,
        PacketError::Payload { .. } => 3,
        PacketError::Stun(_) => 4,
    }
}

/// Detects gaps and duplicates in the sequence numbers of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SequenceTracker {
    /// The newest sequence number, and a bitmap of received numbers. Bit 0 is the newest number, and higher bits are earlier numbers. `None`
    /// until a packet arrives that cannot be a duplicate.
    window: Option<(u32, u128)>,
    /// Number of packets, duplicates not counted. The number wraps around at 2^32.
    distinct: u32,
    /// Number of skipped sequence numbers. A skipped packet that arrives later, but within the window, reduces this number by one.
    gaps: u64,
    /// Packets whose sequence number was received before, within the window.
    duplicates: u64,
}

impl SequenceTracker {
    fn record(&mut self, sequence: u32) {
        let ahead = |newest: u32| sequence.wrapping_sub(newest).cast_signed();
        let window = self.window.filter(|(newest, _)| ahead(*newest).unsigned_abs() <= MAX_SEQUENCE_JUMP);
        let Some((newest, received)) = window else {
            self.window = Some((sequence, 1));
            self.distinct = self.distinct.wrapping_add(1);
            return;
        };
        let distance = ahead(newest).unsigned_abs();
        if ahead(newest) > 0 {
            self.gaps += u64::from(distance - 1);
            self.window = Some((sequence, received.checked_shl(distance).unwrap_or(0) | 1));
        } else if distance < SEQUENCE_WINDOW {
            let bit = 1 << distance;
            if received & bit != 0 {
                self.duplicates += 1;
                return;
            }
            self.gaps = self.gaps.saturating_sub(1);
            self.window = Some((newest, received | bit));
        }
        self.distinct = self.distinct.wrapping_add(1);
    }
}

/// The sources that sent something in the last [`SOURCE_TIMEOUT`].
pub(super) struct SourceTable {
    sources: HashMap<SocketAddr, SourceStats>,
    next_sweep: Time,
    log_enabled: bool,
    throttle: LogThrottle,
    /// Whether a loopback source that sends only pings was logged.
    local_ping_logged: bool,
}

impl SourceTable {
    /// An empty table. `log_enabled`: log when a source appears and when it becomes inactive, which needs one deadline per second.
    pub(super) fn new(log_enabled: bool) -> Self {
        Self {
            sources: HashMap::new(),
            next_sweep: Time::ZERO,
            log_enabled,
            throttle: LogThrottle::new(MAX_LOG_LINES_PER_SECOND),
            local_ping_logged: false,
        }
    }

    /// Records packets of `source`. Returns the number of packets that were not recorded because the table was full.
    pub(super) fn on_packets(&mut self, now: Time, source: SocketAddr, packets: impl Iterator<Item = Header>) -> usize {
        let mut packets = packets.peekable();
        if packets.peek().is_none() {
            return 0;
        }
        let Some(stats) = self.get_or_insert(now, source) else { return packets.count() };
        let mut is_local_ping = source.ip().to_canonical().is_loopback();
        let mut first_kind = None;
        for header in packets {
            is_local_ping &= header.packet_type == PacketType::LatencyPing;
            first_kind.get_or_insert(header.packet_type.name());
            stats.on_packet(header);
        }
        let (may_be_health_check, is_logged) =
            (is_local_ping && stats.packets <= MAX_HEALTH_CHECK_PACKETS, stats.logged);
        // Of the sources that may be health checks, only the first is logged. A probe sends more packets.
        if !(is_logged || may_be_health_check && self.local_ping_logged) {
            self.local_ping_logged |= is_local_ping;
            self.log_first_packet(now, source, first_kind.unwrap_or("none"));
        }
        0
    }

    /// Records a datagram that is not a packet. Returns 1 if the datagram is not recorded because the table is full.
    pub(super) fn on_malformed(&mut self, now: Time, source: SocketAddr, error: PacketError) -> usize {
        let is_tracked =
            self.get_or_insert(now, source).map(|stats| stats.malformed[malformed_index(error)] += 1).is_some();
        self.log_first_packet(now, source, "malformed");
        usize::from(!is_tracked)
    }

    /// Records a STUN message. `None` if it is not recorded because the table is full.
    pub(super) fn on_stun(&mut self, now: Time, source: SocketAddr) -> Option<&mut SourceStats> {
        let stats = self.get_or_insert(now, source)?;
        stats.packets += 1;
        let may_be_health_check = source.ip().to_canonical().is_loopback() && stats.packets <= MAX_HEALTH_CHECK_PACKETS;
        if !(may_be_health_check && self.local_ping_logged) {
            self.log_first_packet(now, source, "STUN");
        }
        self.sources.get_mut(&source)
    }

    /// Records what prevents AUDIO from a source that sends CONTROL.
    pub(super) fn on_control(&mut self, source: SocketAddr, reason: &'static str) {
        if let Some(stats) = self.sources.get_mut(&source) {
            stats.control.since.get_or_insert(stats.last_seen);
            stats.control.reason = reason;
        }
    }

    /// Logs that a link was agreed. The client starts its sequence numbers again. If no AUDIO follows, `reason` is the reason.
    pub(super) fn on_link(&mut self, now: Time, source: SocketAddr, link: &'static str, reason: &'static str) {
        if let Some(stats) = self.sources.get_mut(&source) {
            stats.control.reason = reason;
            for stream in [&mut stats.audio, &mut stats.ping, &mut stats.keepalive] {
                stream.window = None;
            }
        }
        if self.log_enabled && self.throttle.allow(now) {
            info!(target: "echo", source = %canonical_socket_addr(source), link, "link agreed");
        }
    }

    /// Logs once per source that plain AUDIO is dropped, because links are required.
    pub(super) fn on_plain_audio(&mut self, now: Time, source: SocketAddr) {
        let stats = self.get_or_insert(now, source);
        let is_first = stats.is_some_and(|stats| !mem::replace(&mut stats.plain_logged, true));
        if is_first && self.log_enabled && self.throttle.allow(now) {
            let reason = "--link require accepts encrypted AUDIO only";
            info!(target: "echo", source = %canonical_socket_addr(source), reason, "plain audio dropped");
        }
    }

    fn get_or_insert(&mut self, now: Time, source: SocketAddr) -> Option<&mut SourceStats> {
        if self.sources.is_empty() {
            self.next_sweep = now + SWEEP_INTERVAL;
        }
        let is_full = self.sources.len() == MAX_SOURCES;
        let stats = match self.sources.entry(source) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if is_full => return None,
            Entry::Vacant(entry) => entry.insert(SourceStats { first_seen: now, ..SourceStats::default() }),
        };
        stats.last_seen = now;
        Some(stats)
    }

    /// Logs a source with the kind of its first packet, unless it was logged before.
    fn log_first_packet(&mut self, now: Time, source: SocketAddr, kind: &'static str) {
        if let Some(stats) = self.sources.get_mut(&source).filter(|stats| !stats.logged) {
            stats.logged = true;
            if self.log_enabled && self.throttle.allow(now) {
                info!(target: "echo", source = %canonical_socket_addr(source), r#type = kind, "source first seen");
            }
        }
    }

    /// Removes and logs inactive sources, once per second.
    pub(super) fn sweep(&mut self, now: Time) {
        if !self.needs_sweep() || now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let (log_enabled, throttle) = (self.log_enabled, &mut self.throttle);
        self.sources.retain(|source, stats| {
            let is_active = now.duration_since(stats.last_seen) < SOURCE_TIMEOUT;
            if !is_active && stats.logged && log_enabled && throttle.allow(now) {
                log_inactive(*source, stats);
            }
            let control = &mut stats.control;
            let is_silent = control.since.is_some_and(|since| now.duration_since(since) >= CONTROL_TIMEOUT);
            if is_active && is_silent && !control.is_logged && log_enabled && throttle.allow(now) {
                control.is_logged = true;
                info!(target: "echo", source = %canonical_socket_addr(*source), reason = control.reason, "source sends no audio");
            }
            is_active
        });
        if let Some(count) = throttle.take_due(now) {
            info!(target: "echo", count, "suppressed log lines about sources");
        }
    }

    /// Number of sources.
    pub(super) fn len(&self) -> u64 {
        self.sources.len() as u64
    }

    /// When to call [`SourceTable::sweep`], so that inactive sources are logged in time. `None` if there is nothing to log. Inactive sources
    /// then stay in the table until the sweep after the next datagram.
    pub(super) fn sweep_deadline(&self) -> Option<Time> {
        (self.log_enabled && self.needs_sweep()).then_some(self.next_sweep)
    }

    /// Suppressed log lines are reported even after the last source was removed.
    fn needs_sweep(&self) -> bool {
        !self.sources.is_empty() || self.throttle.suppressed() > 0
    }
}

fn log_inactive(source: SocketAddr, stats: &SourceStats) {
    let [short, version, packet_type, payload, stun] = stats.malformed.map(|count| (count > 0).then_some(count));
    info!(
        target: "echo",
        source = %canonical_socket_addr(source),
        active_s = ((stats.last_seen - stats.first_seen).as_secs_f64() * 10.0).round() / 10.0,
        packets = stats.packets,
        audio_gaps = stats.audio.gaps,
        audio_duplicates = stats.audio.duplicates,
        malformed = stats.malformed.iter().sum::<u64>(),
        malformed_short = short,
        malformed_version = version,
        malformed_type = packet_type,
        malformed_payload = payload,
        malformed_stun = stun,
        "source inactive"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_local_health_check_is_logged() {
        let headers = |types: &'static [PacketType]| types.iter().map(|packet_type| Header::new(*packet_type, 0, 0));
        let lines = |peers: &[(&str, &'static [PacketType])]| {
            let mut table = SourceTable::new(true);
            for (peer, packets) in peers {
                table.on_packets(Time::ZERO, peer.parse().expect("an address"), headers(packets));
            }
            let first_seen = MAX_LOG_LINES_PER_SECOND - table.throttle.remaining(Time::ZERO);
            table.sweep(Time::from_millis(20_000));
            let inactive = MAX_LOG_LINES_PER_SECOND - table.throttle.remaining(Time::from_millis(20_000));
            (first_seen, inactive, table.len())
        };
        let (ping, pings): (&[PacketType], &[PacketType]) =
            (&[PacketType::LatencyPing; 2], &[PacketType::LatencyPing; 9]);
        for source in ["127.0.0.1:9", "127.8.9.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(lines(&[(source, ping)]), (1, 1, 0), "{source}");
            // Further health checks are not logged, but a probe is logged after its ninth ping, and so is a source that sends other packets.
            let health_checks = [("127.0.0.1:1", ping), ("127.0.0.1:2", ping), ("[::1]:3", ping)];
            assert_eq!(lines(&health_checks), (1, 1, 0), "{source}");
            assert_eq!(lines(&[("127.0.0.1:1", ping), (source, pings)]), (2, 2, 0), "{source}");
            let five: &[PacketType] = &[PacketType::LatencyPing; 5];
            assert_eq!(lines(&[("127.0.0.1:1", ping), (source, five), (source, five)]), (2, 2, 0), "{source}");
            assert_eq!(
                lines(&[("127.0.0.1:1", ping), (source, ping), (source, &[PacketType::Keepalive])]),
                (2, 2, 0),
                "{source}"
            );
            assert_eq!(
                lines(&[(source, &[PacketType::LatencyPing, PacketType::Audio, PacketType::LatencyPing])]),
                (1, 1, 0),
                "{source}"
            );
        }
        assert_eq!(lines(&[("192.0.2.1:9", pings), ("[2001:db8::1]:9", pings)]), (2, 2, 0));
        // A loopback source can request its counts.
        let mut table = SourceTable::new(true);
        let source = "127.0.0.1:9".parse().expect("an address");
        table.on_packets(Time::ZERO, source, headers(pings));
        assert_eq!(
            table
                .on_stun(Time::ZERO, source)
                .and_then(|source| source.report_counts(Time::ZERO, CountsRequestTime::RunBoundary))
                .map(|counts| counts.ping),
            Some(1)
        );
    }

    #[test]
    fn source_expires_after_10_s_and_the_table_is_bounded() {
        let mut table = SourceTable::new(true);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let one = || std::iter::once(Header::new(PacketType::Keepalive, 0, 0));
        assert_eq!(table.on_packets(Time::from_millis(50), peer(1), std::iter::empty()), 0);
        assert_eq!(table.sweep_deadline(), None);
        assert_eq!(table.on_packets(Time::from_millis(100), peer(1), one()), 0);
        assert_eq!(table.sweep_deadline(), Some(Time::from_millis(1_100)));
        table.sweep(Time::from_millis(10_099));
        assert_eq!(table.sources.len(), 1);
        table.sweep(Time::from_millis(11_099));
        assert_eq!((table.sources.len(), table.sweep_deadline()), (0, None));
        for port in 1..=MAX_SOURCES as u16 {
            assert_eq!(table.on_packets(Time::from_millis(20_000), peer(port), one()), 0);
        }
        assert_eq!(table.on_packets(Time::from_millis(20_000), peer(65_000), one().chain(one())), 2);
        assert_eq!(table.on_packets(Time::from_millis(20_000), peer(1), one()), 0);
        // Ten sources were logged in that second; the others are suppressed and counted.
        assert_eq!(
            (table.throttle.remaining(Time::from_millis(20_000)), table.throttle.suppressed()),
            (0, MAX_SOURCES as u64 - 10)
        );
    }

    #[test]
    fn suppressed_log_lines_are_counted_after_the_last_source_expires() {
        let mut table = SourceTable::new(true);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for port in 1..=30 {
            table.on_packets(
                Time::from_millis(100),
                peer(port),
                std::iter::once(Header::new(PacketType::Keepalive, 0, 0)),
            );
        }
        table.sweep(Time::from_millis(1_100));
        // All 30 sources become inactive at the same time. Ten of the 30 sources are logged immediately. The number of the other sources is
        // logged in the next second.
        table.sweep(Time::from_millis(11_100));
        assert_eq!(
            (table.len(), table.throttle.remaining(Time::from_millis(11_100)), table.throttle.suppressed()),
            (0, 0, 20)
        );
        assert_eq!(table.sweep_deadline(), Some(Time::from_millis(12_100)));
        table.sweep(Time::from_millis(12_100));
        assert_eq!((table.throttle.suppressed(), table.sweep_deadline()), (0, None));
    }

    #[test]
    fn malformed_datagrams_create_sources_within_the_same_bound() {
        let mut table = SourceTable::new(true);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let at = Time::from_millis(100);
        for reason in [PacketError::Version(2), PacketError::TooShort(0), PacketError::Version(0)] {
            assert_eq!(table.on_malformed(at, peer(1), reason), 0);
        }
        assert!(table.on_stun(at, peer(1)).is_some());
        assert_eq!(table.sources[&peer(1)].malformed, [1, 2, 0, 0, 0]);
        assert_eq!(table.sources[&peer(1)].packets, 1);
        for port in 2..=MAX_SOURCES as u16 {
            assert_eq!(table.on_malformed(at, peer(port), PacketError::Type(9)), 0);
        }
        assert_eq!(table.on_malformed(at, peer(65_000), PacketError::Type(9)), 1);
        assert!(table.on_stun(at, peer(65_000)).is_none());
        assert_eq!((table.sources.len(), table.throttle.suppressed()), (MAX_SOURCES, MAX_SOURCES as u64 - 10));
    }

    #[test]
    fn disabled_log_sets_no_deadline_and_sources_still_expire() {
        let mut table = SourceTable::new(false);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        table.on_malformed(Time::from_millis(100), peer, PacketError::TooShort(0));
        assert_eq!(table.sweep_deadline(), None);
        table.sweep(Time::from_millis(11_000));
        assert!(table.sources.is_empty());
    }

    /// Records packets with these sequence numbers. Returns the number of distinct packets, of gaps and of duplicates.
    fn counts_after(sequences: &[u32]) -> (u32, u64, u64) {
        let mut tracker = SequenceTracker::default();
        for sequence in sequences {
            tracker.record(*sequence);
        }
        (tracker.distinct, tracker.gaps, tracker.duplicates)
    }

    #[test]
    fn sequence_numbers_reveal_gaps_and_duplicates() {
        assert_eq!(counts_after(&[1, 2, 3]), (3, 0, 0));
        assert_eq!(counts_after(&[1, 4]), (2, 2, 0));
        assert_eq!(counts_after(&[1, 4, 2]), (3, 1, 0));
        assert_eq!(counts_after(&[1, 4, 2, 3]), (4, 0, 0));
        assert_eq!(counts_after(&[1, 2, 2, 1]), (2, 0, 2));
        assert_eq!(counts_after(&[u32::MAX, 0, 2]), (3, 1, 0));
        // The window reaches back 127 sequence numbers from the newest. An older packet neither closes a gap nor counts as a duplicate.
        assert_eq!(counts_after(&[100, 227, 100, 101]), (3, 125, 1));
        assert_eq!(counts_after(&[100, 228, 100]), (3, 127, 0));
    }

    #[test]
    fn sequence_jump_above_the_maximum_restarts_the_window() {
        assert_eq!(counts_after(&[0, 65_536]), (2, 65_535, 0));
        assert_eq!(counts_after(&[0, 65_537]), (2, 0, 0));
        // First, a packet that a client sends while it waits (`--wait-for`). Then, packets 0 to 2 of its run. Two of these arrive twice.
        assert_eq!(counts_after(&[0x8000_0000, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(counts_after(&[0x8000_0001, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(counts_after(&[100_000, 1, 2, 4, 4]), (4, 1, 1));
    }

    #[test]
    fn sequence_numbers_may_repeat_after_a_window_reset() {
        let mut tracker = SequenceTracker::default();
        for run in 1..=3 {
            for sequence in [7, 8, 10, 8] {
                tracker.record(sequence);
            }
            assert_eq!((tracker.distinct, tracker.gaps, tracker.duplicates), (3 * run, run.into(), run.into()));
            tracker.window = None;
        }
    }
}
