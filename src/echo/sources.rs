//! Who is being heard: what came from each source, a line in the log when one is first heard, and one when it has fallen
//! silent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::log;
use crate::time::Time;
use crate::wire::stun::Heard;
use crate::wire::{Header, Kind, Malformed};

/// Sources that are followed at a time. More are served all the same, and counted.
const MOST: usize = 1_024;

/// A source is silent after this long: ten of a client's signs of life.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// How often silence is looked for.
const EVERY: Duration = Duration::from_secs(1);

/// Lines a second: a flood of forged sources must not flood the log.
const LINES: u32 = 10;

/// How often a source is told in a second what was heard from it.
const TELLS: u32 = 10;

/// What came from one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    first: Time,
    last: Time,
    /// Whether the log has been told of it.
    said: bool,
    /// Packets of all types, and STUN messages.
    pub(super) packets: u64,
    pub(super) audio: Arrivals,
    ping: Arrivals,
    keepalive: Arrivals,
    pub(super) malformed: Misread,
    /// When the second began in which it is told at most [`TELLS`] times, and how often it was.
    told: (Time, u32),
}

impl Source {
    /// How long it was heard.
    pub(super) fn heard_for(&self) -> Duration {
        self.last.since(self.first)
    }

    /// What was heard from it, for itself; `None` when it asks too often. A run that begins after it is told must not pass for
    /// copies of the run before, so the sequence numbers begin anew.
    pub(super) fn tell(&mut self, now: Time) -> Option<Heard> {
        if now.since(self.told.0) >= Duration::from_secs(1) {
            self.told = (now, 0);
        }
        if self.told.1 == TELLS {
            return None;
        }
        self.told.1 += 1;
        let streams = [&mut self.audio, &mut self.ping, &mut self.keepalive];
        let [audio, ping, keepalive] = streams.map(|stream| {
            stream.begin_anew();
            stream.distinct
        });
        Some(Heard { since: self.first.as_micros() as u32, audio, ping, keepalive })
    }

    fn on_packet(&mut self, packet: Header) {
        self.packets += 1;
        match packet.kind {
            Kind::Audio => self.audio.on(packet.sequence),
            Kind::LatencyPing => self.ping.on(packet.sequence),
            Kind::Keepalive => self.keepalive.on(packet.sequence),
            Kind::Fec | Kind::Control | Kind::LatencyPong | Kind::LatencyInfo => {}
        }
    }
}

/// Datagrams that were no packets, by what was wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Misread([u64; 5]);

impl Misread {
    fn on(&mut self, reason: Malformed) {
        self.0[match reason {
            Malformed::Short(_) => 0,
            Malformed::Version(_) => 1,
            Malformed::Kind(_) => 2,
            Malformed::Payload { .. } => 3,
            Malformed::Stun(_) => 4,
        }] += 1;
    }

    /// Each reason with its count, under the names of the server's own counts.
    pub(super) fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        ["short", "version", "type", "payload", "stun"].into_iter().zip(self.0)
    }
}

/// The lines that may be said in one second.
struct Lines {
    wanted: bool,
    left: u32,
    held_back: u64,
}

impl Lines {
    fn say(&mut self, line: impl FnOnce()) {
        match (self.wanted, self.left) {
            (false, _) => {}
            (true, 0) => self.held_back += 1,
            (true, _) => {
                self.left -= 1;
                line();
            }
        }
    }
}

/// The sources being heard.
pub(super) struct Sources {
    followed: HashMap<SocketAddr, Source>,
    sweep: Time,
    lines: Lines,
}

impl Sources {
    /// Nobody has been heard. `lines`: say in the log who comes and goes, which takes a look a second.
    pub(super) fn new(lines: bool) -> Self {
        Self { followed: HashMap::new(), sweep: Time::ZERO, lines: Lines { wanted: lines, left: LINES, held_back: 0 } }
    }

    /// These packets came from `peer` at `now`. Gives how many of them were not noted, because too many sources are followed.
    pub(super) fn hear(&mut self, now: Time, peer: SocketAddr, packets: impl Iterator<Item = Header>) -> usize {
        let mut packets = packets.peekable();
        if packets.peek().is_none() {
            return 0;
        }
        let Some(source) = self.source(now, peer) else { return packets.count() };
        // A health check asks with LATENCY_PING from this machine, each time from another port: two lines for each would
        // bury the others.
        let mut is_check = peer.ip().to_canonical().is_loopback();
        for packet in packets {
            is_check &= packet.kind == Kind::LatencyPing;
            source.on_packet(packet);
        }
        // Looked up again only where there is something to say.
        if !is_check && !source.said {
            self.say_heard(peer);
        }
        0
    }

    /// A datagram that is no packet came from `peer`. Gives 1 if that was not noted.
    pub(super) fn misread(&mut self, now: Time, peer: SocketAddr, reason: Malformed) -> usize {
        let known = self.source(now, peer).map(|source| source.malformed.on(reason)).is_some();
        self.say_heard(peer);
        usize::from(!known)
    }

    /// A STUN message came from `peer`. `None` if that was not noted.
    pub(super) fn hear_stun(&mut self, now: Time, peer: SocketAddr) -> Option<&mut Source> {
        self.source(now, peer)?.packets += 1;
        self.say_heard(peer);
        self.followed.get_mut(&peer)
    }

    /// The source at `peer`, heard at `now`: an old one, or a new one if there is room.
    fn source(&mut self, now: Time, peer: SocketAddr) -> Option<&mut Source> {
        if self.followed.is_empty() {
            self.sweep = now + EVERY;
            self.lines.left = LINES;
        }
        let is_full = self.followed.len() == MOST;
        let source = match self.followed.entry(peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => return None,
            Entry::Vacant(room) => room.insert(Source { first: now, ..Source::default() }),
        };
        source.last = now;
        Some(source)
    }

    /// Says that `peer` is heard, if it is followed and that has not been said.
    fn say_heard(&mut self, peer: SocketAddr) {
        if let Some(source) = self.followed.get_mut(&peer).filter(|source| !source.said) {
            source.said = true;
            self.lines.say(|| log::source_heard(peer));
        }
    }

    /// Looks for those that have fallen silent, once a second.
    pub(super) fn look(&mut self, now: Time) {
        if !self.has_something_to_look_at() || now < self.sweep {
            return;
        }
        self.sweep = now + EVERY;
        self.lines.left = LINES;
        let lines = &mut self.lines;
        self.followed.retain(|peer, source| {
            let heard = now.since(source.last) < SILENT_AFTER;
            if !heard && source.said {
                lines.say(|| log::source_silent(*peer, source));
            }
            heard
        });
        if lines.held_back > 0 && lines.left > 0 {
            log::sources_held_back(std::mem::take(&mut lines.held_back));
        }
    }

    /// How many are followed now.
    pub(super) fn len(&self) -> u64 {
        self.followed.len() as u64
    }

    /// When to look next; `None` while nobody is heard, or where nobody wants to read of it: then the next datagram will do.
    pub(super) fn next_look(&self) -> Option<Time> {
        (self.lines.wanted && self.has_something_to_look_at()).then_some(self.sweep)
    }

    /// Sources, or lines that were held back when the last of them fell silent.
    fn has_something_to_look_at(&self) -> bool {
        !self.followed.is_empty() || self.lines.held_back > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_this_machine_pings_alone_are_a_health_check_and_leave_no_lines() {
        let kinds = |kinds: &'static [Kind]| kinds.iter().map(|kind| Header::new(*kind, 0, 0));
        let lines = |peers: &[(&str, &'static [Kind])]| {
            let mut sources = Sources::new(true);
            for (peer, packets) in peers {
                sources.hear(Time::ZERO, peer.parse().expect("an address"), kinds(packets));
            }
            let heard = LINES - sources.lines.left;
            sources.look(Time::from_millis(20_000));
            (heard, LINES - sources.lines.left, sources.len())
        };
        let pings: &[Kind] = &[Kind::LatencyPing; 2];
        for here in ["127.0.0.1:9", "127.8.9.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(lines(&[(here, pings)]), (0, 0, 0), "{here}");
            assert_eq!(lines(&[(here, pings), (here, &[Kind::Keepalive]), (here, pings)]), (1, 1, 0), "{here}");
            assert_eq!(lines(&[(here, &[Kind::LatencyPing, Kind::Audio, Kind::LatencyPing])]), (1, 1, 0), "{here}");
        }
        assert_eq!(lines(&[("192.0.2.1:9", pings), ("[2001:db8::1]:9", pings)]), (2, 2, 0));
        // It is followed all the same, for it may ask what was heard.
        let mut sources = Sources::new(true);
        let here = "127.0.0.1:9".parse().expect("an address");
        sources.hear(Time::ZERO, here, kinds(pings));
        assert_eq!(
            sources.hear_stun(Time::ZERO, here).and_then(|source| source.tell(Time::ZERO)).map(|heard| heard.ping),
            Some(1)
        );
    }

    #[test]
    fn a_source_is_forgotten_ten_seconds_after_its_last_packet_and_the_table_is_bounded() {
        let mut sources = Sources::new(true);
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
        assert_eq!((sources.lines.left, sources.lines.held_back), (0, MOST as u64 - 10));
    }

    #[test]
    fn what_was_held_back_is_said_though_nobody_is_left() {
        let mut sources = Sources::new(true);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for port in 1..=30 {
            sources.hear(Time::from_millis(100), peer(port), std::iter::once(Header::new(Kind::Keepalive, 0, 0)));
        }
        sources.look(Time::from_millis(1_100));
        // All fall silent together: ten have a line, twenty are held back for the next second.
        sources.look(Time::from_millis(11_100));
        assert_eq!((sources.len(), sources.lines.left, sources.lines.held_back), (0, 0, 20));
        assert_eq!(sources.next_look(), Some(Time::from_millis(12_100)));
        sources.look(Time::from_millis(12_100));
        assert_eq!((sources.lines.held_back, sources.next_look()), (0, None));
    }

    #[test]
    fn what_is_no_packet_makes_a_source_heard_within_the_same_bounds() {
        let mut sources = Sources::new(true);
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let at = Time::from_millis(100);
        for reason in [Malformed::Version(2), Malformed::Short(0), Malformed::Version(0)] {
            assert_eq!(sources.misread(at, peer(1), reason), 0);
        }
        assert!(sources.hear_stun(at, peer(1)).is_some());
        let counts: Vec<_> = sources.followed[&peer(1)].malformed.by_reason().collect();
        assert_eq!(counts, [("short", 1), ("version", 2), ("type", 0), ("payload", 0), ("stun", 0)]);
        assert_eq!(sources.followed[&peer(1)].packets, 1);
        for port in 2..=MOST as u16 {
            assert_eq!(sources.misread(at, peer(port), Malformed::Kind(9)), 0);
        }
        assert_eq!(sources.misread(at, peer(65_000), Malformed::Kind(9)), 1);
        assert!(sources.hear_stun(at, peer(65_000)).is_none());
        assert_eq!((sources.followed.len(), sources.lines.held_back), (MOST, MOST as u64 - 10));
    }

    #[test]
    fn where_nobody_reads_the_log_nothing_wakes_the_server_and_sources_are_forgotten_all_the_same() {
        let mut sources = Sources::new(false);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        sources.misread(Time::from_millis(100), peer, Malformed::Short(0));
        assert_eq!(sources.next_look(), None);
        sources.look(Time::from_millis(11_000));
        assert!(sources.followed.is_empty());
    }
}
