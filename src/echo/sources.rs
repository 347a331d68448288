//! Who is being heard: a line in the log when a source is first heard, and one when it has fallen silent, with what came
//! from it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::log;
use crate::time::Time;
use crate::wire::{Header, Kind};

/// Sources that are followed at a time. More are served all the same, and counted.
const MOST: usize = 1_024;

/// A source is silent after this long: ten of a client's signs of life.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// How often silence is looked for.
const EVERY: Duration = Duration::from_secs(1);

/// Lines a second: a flood of forged sources must not flood the log.
const LINES: u32 = 10;

/// AUDIO sequence numbers behind the newest one that are remembered, to tell a late packet from a second copy.
const REMEMBERED: u32 = 64;

/// What came from one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    first: Time,
    last: Time,
    /// Packets of all types.
    pub(super) packets: u64,
    /// AUDIO sequence numbers that were skipped and have not come since.
    pub(super) gaps: u64,
    /// AUDIO packets whose sequence number had come before, as far as is remembered.
    pub(super) duplicates: u64,
    /// The newest AUDIO sequence number, and which of those before it have come (bit 0: itself).
    newest: Option<(u32, u64)>,
}

impl Source {
    /// How long it was heard.
    pub(super) fn heard_for(&self) -> Duration {
        self.last.since(self.first)
    }

    fn on_audio(&mut self, sequence: u32) {
        let Some((newest, seen)) = self.newest else {
            self.newest = Some((sequence, 1));
            return;
        };
        let ahead = sequence.wrapping_sub(newest).cast_signed();
        if ahead > 0 {
            let ahead = ahead.cast_unsigned();
            self.gaps += u64::from(ahead - 1);
            self.newest = Some((sequence, seen.checked_shl(ahead).unwrap_or(0) | 1));
        } else if ahead.unsigned_abs() < REMEMBERED {
            let bit = 1 << ahead.unsigned_abs();
            if seen & bit == 0 {
                self.gaps = self.gaps.saturating_sub(1);
                self.newest = Some((newest, seen | bit));
            } else {
                self.duplicates += 1;
            }
        }
    }
}

/// The sources being heard.
#[derive(Default)]
pub(super) struct Sources {
    followed: HashMap<SocketAddr, Source>,
    sweep: Time,
    /// Lines left in this second, and how many were held back.
    lines: u32,
    held_back: u64,
}

impl Sources {
    /// These packets came from `peer` at `now`. Gives how many of them were not noted, because too many sources are followed.
    pub(super) fn hear(&mut self, now: Time, peer: SocketAddr, packets: impl Iterator<Item = Header>) -> usize {
        let mut packets = packets.peekable();
        // A health check asks with LATENCY_PING from this machine, each time from another port: two lines for each would
        // bury the others. Whoever sends anything else is followed from there on.
        if peer.ip().to_canonical().is_loopback() && !self.followed.contains_key(&peer) {
            while packets.next_if(|packet| packet.kind == Kind::LatencyPing).is_some() {}
        }
        if packets.peek().is_none() {
            return 0;
        }
        if self.followed.is_empty() {
            self.sweep = now + EVERY;
            self.lines = LINES;
        }
        if self.followed.len() == MOST && !self.followed.contains_key(&peer) {
            return packets.count();
        }
        let mut is_new = false;
        let source = self.followed.entry(peer).or_insert_with(|| {
            is_new = true;
            Source { first: now, ..Source::default() }
        });
        source.last = now;
        for packet in packets {
            source.packets += 1;
            if packet.kind == Kind::Audio {
                source.on_audio(packet.sequence);
            }
        }
        if is_new {
            self.say(|| log::source_heard(peer));
        }
        0
    }

    /// Looks for those that have fallen silent, once a second.
    pub(super) fn look(&mut self, now: Time) {
        if self.followed.is_empty() || now < self.sweep {
            return;
        }
        self.sweep = now + EVERY;
        self.lines = LINES;
        let mut silent = Vec::new();
        self.followed.retain(|peer, source| {
            let heard = now.since(source.last) < SILENT_AFTER;
            if !heard {
                silent.push((*peer, *source));
            }
            heard
        });
        for (peer, source) in silent {
            self.say(|| log::source_silent(peer, &source));
        }
        if self.held_back > 0 && self.lines > 0 {
            log::sources_held_back(std::mem::take(&mut self.held_back));
        }
    }

    /// How many are followed now.
    pub(super) fn len(&self) -> u64 {
        self.followed.len() as u64
    }

    /// When to look next; `None` while nobody is heard.
    pub(super) fn next_look(&self) -> Option<Time> {
        (!self.followed.is_empty()).then_some(self.sweep)
    }

    fn say(&mut self, line: impl FnOnce()) {
        if self.lines > 0 {
            self.lines -= 1;
            line();
        } else {
            self.held_back += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sequences: &[u32]) -> (u64, u64) {
        let mut source = Source::default();
        for sequence in sequences {
            source.on_audio(*sequence);
        }
        (source.gaps, source.duplicates)
    }

    #[test]
    fn gaps_and_duplicates_are_told_by_the_sequence() {
        assert_eq!(after(&[1, 2, 3]), (0, 0));
        assert_eq!(after(&[1, 4]), (2, 0));
        assert_eq!(after(&[1, 4, 2]), (1, 0));
        assert_eq!(after(&[1, 4, 2, 3]), (0, 0));
        assert_eq!(after(&[1, 2, 2, 1]), (0, 2));
        assert_eq!(after(&[u32::MAX, 0, 2]), (1, 0));
        // Beyond what is remembered neither is claimed.
        assert_eq!(after(&[100, 200, 100]), (99, 0));
    }

    #[test]
    fn on_this_machine_pings_alone_are_a_health_check_and_not_followed() {
        let kinds = |kinds: &'static [Kind]| kinds.iter().map(|kind| Header::new(*kind, 0, 0));
        let followed = |peers: &[(&str, &'static [Kind])]| {
            let mut sources = Sources::default();
            for (peer, packets) in peers {
                sources.hear(Time::from_millis(0), peer.parse().unwrap(), kinds(packets));
            }
            let mut followed: Vec<_> = sources.followed.values().map(|source| source.packets).collect();
            followed.sort_unstable();
            followed
        };
        let pings: &[Kind] = &[Kind::LatencyPing; 2];
        for here in ["127.0.0.1:9", "127.8.9.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(followed(&[(here, pings)]), [0; 0], "{here}");
            assert_eq!(followed(&[(here, pings), (here, &[Kind::Keepalive]), (here, pings)]), [3], "{here}");
            assert_eq!(followed(&[(here, &[Kind::LatencyPing, Kind::Audio, Kind::LatencyPing])]), [2], "{here}");
        }
        assert_eq!(followed(&[("192.0.2.1:9", pings), ("[2001:db8::1]:9", pings)]), [2, 2]);
    }

    #[test]
    fn a_source_is_forgotten_ten_seconds_after_its_last_packet_and_the_table_is_bounded() {
        let mut sources = Sources::default();
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let one = || std::iter::once(Header::new(Kind::Keepalive, 0, 0));
        assert_eq!(sources.hear(Time::from_millis(50), peer(1), std::iter::empty()), 0);
        assert_eq!(sources.next_look(), None);
        assert_eq!(sources.hear(Time::from_millis(100), peer(1), one()), 0);
        assert_eq!(sources.next_look(), Some(Time::from_millis(1_100)));
        sources.look(Time::from_millis(10_099));
        assert_eq!(sources.followed.len(), 1);
        sources.look(Time::from_millis(11_099));
        assert_eq!((sources.followed.len(), sources.next_look()), (0, None));
        for port in 1..=MOST as u16 {
            assert_eq!(sources.hear(Time::from_millis(20_000), peer(port), one()), 0);
        }
        assert_eq!(sources.hear(Time::from_millis(20_000), peer(65_000), one().chain(one())), 2);
        assert_eq!(sources.hear(Time::from_millis(20_000), peer(1), one()), 0);
        // Ten lines were written in that second, the rest is held back and told as a number.
        assert_eq!((sources.lines, sources.held_back), (0, MOST as u64 - 10));
    }
}
