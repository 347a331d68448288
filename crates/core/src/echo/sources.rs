//! Source table: counts and log lines of up to 1,024 sources. A client can request its counts over STUN.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing::info;

use super::observer::DropReason;
use super::source_stats::SourceStats;
use crate::address::canonical_socket_addr;
use crate::lock::lock;
use crate::log_throttle::LogThrottle;
use crate::time::Time;
use crate::wire::{self, Header, PacketType};

/// Maximum number of sources in the table. Packets of further sources are handled as usual and counted as `untracked`.
const MAX_SOURCES: usize = 1_024;

/// A source that sends no packets for this long, ten KEEPALIVE intervals of a client, is inactive and is removed. With a longer delay, it is
/// removed after its last echo.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// If a source has sent CONTROL, but no AUDIO for this long, the reason is logged.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between searches for inactive sources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of log lines per second about sources. Without this limit, a flood of forged sources could fill the log.
const MAX_LOG_LINES_PER_SECOND: u16 = 10;

/// A local source that has sent at most this many packets, all of them LATENCY_PING or STUN, may be a health check, and health checks would
/// fill the log, because each has a new port. That of the container image sends three pings and up to five STUN requests.
const MAX_HEALTH_CHECK_PACKETS: u64 = 8;

/// A copy of the source table for other threads, at most one second old.
#[derive(Clone, Debug, Default)]
pub struct SharedSources(Arc<Mutex<CopiedSources>>);

/// When the copy was made, and the sources.
pub(super) type CopiedSources = (Time, Vec<(SocketAddr, SourceStats)>);

impl SharedSources {
    /// When the copy was made, and the sources, those with the most packets first.
    pub(super) fn most_active(&self) -> CopiedSources {
        let (copied_at, mut sources) = lock(&self.0).clone();
        sources.sort_by_key(|(_, stats)| Reverse(stats.packets));
        (copied_at, sources)
    }

    /// The sources as a JSON array, those with the most packets first. Ages are those at the time of the copy.
    pub fn to_json(&self) -> Value {
        let (copied_at, sources) = self.most_active();
        sources.into_iter().map(|(source, stats)| stats.to_json(source, copied_at)).collect()
    }
}

/// The sources that sent something in the last [`SOURCE_TIMEOUT`], or whose echoes may be delayed.
#[derive(Default)]
pub(super) struct SourceTable {
    sources: HashMap<SocketAddr, SourceStats>,
    /// Maximum delay of an echo.
    pub(super) max_delay: Duration,
    shared: Option<SharedSources>,
    next_sweep: Time,
    log_enabled: bool,
    throttle: LogThrottle,
    /// Whether a loopback source that sends only pings was logged.
    local_ping_logged: bool,
}

impl SourceTable {
    /// An empty table. `log_enabled`: log when a source appears and when it becomes inactive, which needs one deadline per second.
    pub(super) fn new(log_enabled: bool, max_delay: Duration) -> Self {
        let throttle = LogThrottle::new(MAX_LOG_LINES_PER_SECOND);
        Self { max_delay, log_enabled, throttle, ..Self::default() }
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
            stats.on_packet(now, header);
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

    /// Records a dropped datagram. Returns whether to log it because it is the first malformed one of this kind, or `None` if it is not
    /// recorded because the table is full.
    pub(super) fn on_drop(&mut self, now: Time, source: SocketAddr, reason: DropReason, bytes: &[u8]) -> Option<bool> {
        let stats = self.get_or_insert(now, source)?;
        stats.dropped[reason as usize] += 1;
        let is_first = reason.is_malformed() && stats.dropped[reason as usize] == 1;
        if !stats.logged {
            let header = wire::parse_packet(bytes).map(|packet| packet.header);
            self.log_first_packet(now, source, header.map_or("malformed", |header| header.packet_type.name()));
        }
        Some(is_first && self.log_enabled && self.throttle.allow(now))
    }

    /// Records AUDIO that was sent back.
    pub(super) fn on_echoed(&mut self, source: SocketAddr, packets: usize) {
        if let Some(stats) = self.sources.get_mut(&source) {
            stats.echoed += packets as u64;
        }
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
            stats.restart_sequences();
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
            Entry::Vacant(entry) => entry.insert(SourceStats::new(now)),
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

    /// Starts to copy the table for other threads.
    pub(super) fn share(&mut self) -> SharedSources {
        self.shared.get_or_insert_default().clone()
    }

    /// Removes and logs inactive sources, and copies the table for other threads, once per second.
    pub(super) fn sweep(&mut self, now: Time) {
        if !self.needs_sweep() || now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let (log_enabled, throttle) = (self.log_enabled, &mut self.throttle);
        let timeout = SOURCE_TIMEOUT.max(self.max_delay + SWEEP_INTERVAL);
        self.sources.retain(|source, stats| {
            let is_active = now.duration_since(stats.last_seen) < timeout;
            if !is_active && stats.logged && log_enabled && throttle.allow(now) {
                info!(target: "echo", "source inactive source={} {stats}", canonical_socket_addr(*source));
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
        // A reader delays the copy to the next second, but not the echoes.
        if let Some(mut shared) = self.shared.as_ref().and_then(|shared| shared.0.try_lock().ok()) {
            let (copied_at, sources) = &mut *shared;
            *copied_at = now;
            sources.clear();
            sources.extend(self.sources.iter().map(|(source, stats)| (*source, *stats)));
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.sources.len() as u64
    }

    /// When to call [`SourceTable::sweep`], so that inactive sources are logged in time and the copy is not older. `None` if there is nothing
    /// to log or to copy. Inactive sources then stay in the table until the sweep after the next datagram.
    pub(super) fn sweep_deadline(&self) -> Option<Time> {
        ((self.log_enabled || self.shared.is_some()) && self.needs_sweep()).then_some(self.next_sweep)
    }

    /// Suppressed log lines are reported even after the last source was removed.
    fn needs_sweep(&self) -> bool {
        !self.sources.is_empty() || self.throttle.suppressed() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_local_health_check_is_logged() {
        let headers = |types: &'static [PacketType]| types.iter().map(|packet_type| Header::new(*packet_type, 0, 0));
        let lines = |peers: &[(&str, &'static [PacketType])]| {
            let mut table = SourceTable::new(true, Duration::ZERO);
            for (peer, packets) in peers {
                table.on_packets(Time::ZERO, peer.parse().expect("an address"), headers(packets));
            }
            let first_seen = MAX_LOG_LINES_PER_SECOND - table.throttle.remaining(Time::ZERO);
            table.sweep(Time::from_millis(20_000));
            let inactive = MAX_LOG_LINES_PER_SECOND - table.throttle.remaining(Time::from_millis(20_000));
            (first_seen, inactive, table.len())
        };
        let ping: &[PacketType] = &[PacketType::LatencyPing; 2];
        let first = ("127.0.0.1:1", ping);
        for source in ["127.0.0.1:9", "127.8.9.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(lines(&[(source, ping), ("127.0.0.1:2", ping), ("[::1]:3", ping)]), (1, 1, 0), "{source}");
            assert_eq!(lines(&[first, (source, &[PacketType::LatencyPing; 8])]), (1, 1, 0), "{source}");
            // A probe is logged after its ninth ping, and so is a source that sends other packets.
            let five: &[PacketType] = &[PacketType::LatencyPing; 5];
            assert_eq!(lines(&[first, (source, five), (source, five)]), (2, 2, 0), "{source}");
            assert_eq!(lines(&[first, (source, ping), (source, &[PacketType::Keepalive])]), (2, 2, 0), "{source}");
        }
        assert_eq!(lines(&[("192.0.2.1:9", ping), ("[2001:db8::1]:9", ping)]), (2, 2, 0));
    }

    #[test]
    fn suppressed_log_lines_are_counted_after_the_last_source_expires() {
        let mut table = SourceTable::new(true, Duration::ZERO);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for port in 1..=30 {
            let keepalive = Header::new(PacketType::Keepalive, 0, 0);
            table.on_packets(Time::from_millis(100), peer(port), std::iter::once(keepalive));
        }
        table.sweep(Time::from_millis(1_100));
        // All 30 sources become inactive at the same time. Ten of the 30 sources are logged immediately. The number of the other sources is
        // logged in the next second.
        table.sweep(Time::from_millis(11_100));
        assert_eq!((table.len(), table.throttle.suppressed()), (0, 20));
        assert_eq!(table.sweep_deadline(), Some(Time::from_millis(12_100)));
        table.sweep(Time::from_millis(12_100));
        assert_eq!((table.throttle.suppressed(), table.sweep_deadline()), (0, None));
    }

    #[test]
    fn malformed_datagrams_create_sources_within_the_same_bound() {
        let mut table = SourceTable::new(true, Duration::ZERO);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let at = Time::from_millis(100);
        for (reason, is_first) in [(DropReason::Version, true), (DropReason::Short, true), (DropReason::Version, false)]
        {
            assert_eq!(table.on_drop(at, peer(1), reason, &[]), Some(is_first));
        }
        assert!(table.on_stun(at, peer(1)).is_some());
        let stats = table.sources[&peer(1)];
        assert_eq!((stats.dropped[..5].to_vec(), stats.packets), (vec![1, 2, 0, 0, 0], 1));
        for port in 2..=MAX_SOURCES as u16 {
            assert!(table.on_drop(at, peer(port), DropReason::Type, &[]).is_some());
        }
        assert_eq!(table.on_drop(at, peer(65_000), DropReason::Type, &[]), None);
        assert!(table.on_stun(at, peer(65_000)).is_none());
        // Each source has a first datagram and a first malformed one, and the first source has two kinds of them.
        let suppressed = 2 * MAX_SOURCES as u64 + 1 - 10;
        assert_eq!((table.sources.len(), table.throttle.suppressed()), (MAX_SOURCES, suppressed));
    }
}
