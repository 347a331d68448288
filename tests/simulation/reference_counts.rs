//! The numbers of `docs/measuring.md` once more, from its text alone: after the fact, over the complete log, with
//! plain vectors and sorts, and without a line of the code under test.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::log::Event;
use test_support::stun;

/// "A packet can be matched until 262,144 later packets of its stream have been sent."
const WINDOW: usize = 262_144;

/// The three streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stream {
    Audio,
    Ping,
    Keepalive,
}

/// Every stream, in the order of `Numbers`.
pub(crate) const STREAMS: [Stream; 3] = [Stream::Audio, Stream::Ping, Stream::Keepalive];

/// What became of a packet, or of a datagram that came for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Returned,
    Late,
    Duplicate,
    Damaged,
    Lost,
    InFlight,
}

/// One line of `--json-lines`, times in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) stream: Stream,
    pub(crate) sequence: u32,
    pub(crate) sent: i64,
    pub(crate) came: Option<i64>,
    pub(crate) packet_outcome: Outcome,
}

/// The configuration of the run, and when it ended. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) peer: SocketAddr,
    pub(crate) echo_delay: Option<i64>,
    /// The server delay that is expected before the first AUDIO packet returned.
    pub(crate) expected_server_delay: i64,
    pub(crate) timeout: i64,
    pub(crate) late_after: Option<i64>,
    pub(crate) answers_expected: bool,
    pub(crate) wait_for: bool,
    /// The transactions of `--loss-direction`, none without it, and the place from which on events count with it.
    pub(crate) requested: Vec<[u8; 12]>,
    pub(crate) begin: Option<usize>,
    /// When a signal ended the run, if one did.
    pub(crate) interrupted: Option<i64>,
}

/// One packet and all that came for it.
#[derive(Debug)]
struct Packet {
    number: u32,
    bytes: Vec<u8>,
    left: i64,
    refused: bool,
    whole: Option<i64>,
    damaged_copies: u64,
}

/// A stream's counts, and the times from which the rest is computed.
#[derive(Debug, Default)]
pub(crate) struct DialectCounters {
    pub(crate) sent: u64,
    pub(crate) returned: u64,
    pub(crate) lost: u64,
    pub(crate) damaged: u64,
    pub(crate) in_flight: u64,
    pub(crate) duplicated: u64,
    pub(crate) damaged_copies: u64,
    pub(crate) reordered: u64,
    pub(crate) late: u64,
    pub(crate) unmatched: u64,
    pub(crate) send_failed: u64,
    /// (left, arrived) of every first whole copy, in the order of arrival.
    pub(crate) returns: Vec<(i64, i64)>,
    /// The places in sending order of those packets.
    pub(crate) order: Vec<usize>,
    /// When each packet left, in sending order.
    pub(crate) left: Vec<i64>,
    /// Which packets were lost, in sending order.
    pub(crate) losses: Vec<bool>,
    /// The latest deadline as the run's end knows it: that of the stream's last packet.
    pub(crate) last_deadline: Option<i64>,
}

/// All numbers of one run.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// In the order of [`STREAMS`].
    pub(crate) counts: [DialectCounters; 3],
    pub(crate) stray: u64,
    /// When the first answer came, if that was waited for.
    pub(crate) answered: Option<i64>,
    /// Events before this one count nowhere.
    pub(crate) begin: usize,
    pub(crate) lines: Vec<Line>,
}

impl Numbers {
    pub(crate) fn of(&self, stream: Stream) -> &DialectCounters {
        &self.counts[stream as usize]
    }

    /// "Smallest AUDIO echo time − smallest LATENCY_PING round trip of the run; `null` while either is missing."
    pub(crate) fn estimated_server_delay(&self) -> Option<i64> {
        Some(self.of(Stream::Audio).smallest_round_trip()? - self.of(Stream::Ping).smallest_round_trip()?)
    }
}

impl DialectCounters {
    pub(crate) fn round_trips(&self) -> Vec<i64> {
        self.returns.iter().map(|(left, arrived)| arrived - left).collect()
    }

    pub(crate) fn smallest_round_trip(&self) -> Option<i64> {
        self.round_trips().into_iter().min()
    }
}

/// Whether this is a packet: at least 12 bytes, version 1, a known type. If so, its type.
fn packet_type(bytes: &[u8]) -> Option<u8> {
    (bytes.len() >= 12 && bytes[0] == 1 && (1..=7).contains(&bytes[1])).then(|| bytes[1])
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The stream that a packet sent is part of, and its number there.
pub(crate) fn question(bytes: &[u8]) -> Option<(Stream, u32)> {
    match packet_type(bytes)? {
        1 => Some((Stream::Audio, big_endian(&bytes[2..6]))),
        4 => Some((Stream::Keepalive, big_endian(&bytes[2..6]))),
        5 => Some((Stream::Ping, big_endian(&bytes[20..24]))),
        _ => None,
    }
}

/// The stream that a packet is part of to a server, and the number in its header.
pub(crate) fn header(bytes: &[u8]) -> Option<(Stream, u32)> {
    let stream = match packet_type(bytes)? {
        1 => Stream::Audio,
        4 => Stream::Keepalive,
        5 => Stream::Ping,
        _ => return None,
    };
    Some((stream, big_endian(&bytes[2..6])))
}

/// The stream for which a packet's type is an answer, and the number it answers; a pong may be too short for one.
fn answer(bytes: &[u8]) -> Option<(Stream, Option<u32>)> {
    match packet_type(bytes)? {
        1 => Some((Stream::Audio, Some(big_endian(&bytes[2..6])))),
        4 => Some((Stream::Keepalive, Some(big_endian(&bytes[2..6])))),
        6 => Some((Stream::Ping, (bytes.len() >= 24).then(|| big_endian(&bytes[20..24])))),
        _ => None,
    }
}

/// The table's last column.
fn is_whole(stream: Stream, sent: &[u8], came: &[u8]) -> bool {
    match stream {
        Stream::Audio | Stream::Keepalive => sent == came,
        Stream::Ping => sent[12..24] == came[12..24],
    }
}

/// The place of the first answer: whatever comes from the target first.
fn first_answer(peer: SocketAddr, log: &[Event]) -> Option<usize> {
    log.iter().position(|event| matches!(event, Event::Received { from, .. } if *from == peer))
}

/// The place after the first answer, where one is waited for.
pub(crate) fn after_first_answer(terms: &Terms, log: &[Event]) -> usize {
    let first = terms.wait_for.then(|| first_answer(terms.peer, log));
    first.map_or(0, |first| first.map_or(log.len(), |i| i + 1))
}

/// Whether this answers a question of `--loss-direction`.
fn is_reported(requested: &[[u8; 12]], bytes: &[u8]) -> bool {
    requested.iter().any(|id| stun::is_response(bytes, id))
}

/// Counts everything.
pub(crate) fn count(terms: &Terms, log: &[Event]) -> Numbers {
    let first = terms.wait_for.then(|| first_answer(terms.peer, log));
    let begin = terms.begin.unwrap_or_else(|| after_first_answer(terms, log));
    let (before, counted) = log.split_at(begin);
    let keepalives: HashSet<_> = before
        .iter()
        .filter_map(|event| match event {
            Event::Sent { bytes, .. } => question(bytes),
            Event::Received { .. } => None,
        })
        .collect();
    let answered = first.flatten().map(|i| log[i].at());

    let mut packets: [Vec<Packet>; 3] = Default::default();
    let mut counts: [DialectCounters; 3] = Default::default();
    let mut numbers = Numbers { counts: Default::default(), stray: 0, answered, begin, lines: Vec::new() };
    for event in counted {
        match event {
            Event::Sent { at, bytes, refused } => {
                let Some((stream, number)) = question(bytes) else { continue };
                packets[stream as usize].push(Packet {
                    number,
                    bytes: bytes.clone(),
                    left: *at,
                    refused: *refused,
                    whole: None,
                    damaged_copies: 0,
                });
            }
            // "The questions and what answers them are in no other number."
            Event::Received { from, bytes, .. } if *from == terms.peer && is_reported(&terms.requested, bytes) => {}
            Event::Received { at, from, bytes } => {
                let Some((stream, number)) = answer(bytes).filter(|_| *from == terms.peer) else {
                    numbers.stray += 1;
                    continue;
                };
                let sent = &mut packets[stream as usize];
                let known = sent.iter().rposition(|packet| Some(packet.number) == number);
                let known = known.filter(|index| sent.len() - 1 - index < WINDOW);
                match known {
                    None if number.is_some_and(|number| keepalives.contains(&(stream, number))) => {}
                    None if sent.is_empty() => numbers.stray += 1,
                    None => counts[stream as usize].unmatched += 1,
                    Some(index) => {
                        let packet_outcome = arrive(terms, stream, &mut sent[index], index, *at, bytes, &mut counts);
                        let (sequence, sent) = (sent[index].number, sent[index].left);
                        numbers.lines.push(Line { stream, sequence, sent, came: Some(*at), packet_outcome });
                    }
                }
            }
        }
    }
    for stream in STREAMS {
        let counts = &mut counts[stream as usize];
        close(terms, stream, &packets[stream as usize], counts, &mut numbers.lines);
    }
    numbers.counts = counts;
    numbers
}

/// One datagram for a packet that is known.
fn arrive(
    terms: &Terms,
    stream: Stream,
    packet: &mut Packet,
    index: usize,
    at: i64,
    bytes: &[u8],
    counts: &mut [DialectCounters; 3],
) -> Outcome {
    let own = &mut counts[stream as usize];
    if packet.whole.is_some() {
        own.duplicated += 1;
        return Outcome::Duplicate;
    }
    if !is_whole(stream, &packet.bytes, bytes) {
        own.damaged_copies += 1;
        packet.damaged_copies += 1;
        return Outcome::Damaged;
    }
    packet.whole = Some(at);
    own.returned += 1;
    own.returns.push((packet.left, at));
    if own.order.iter().any(|overtaker| *overtaker > index) {
        own.reordered += 1;
    }
    own.order.push(index);
    let smallest = |stream: Stream| counts[stream as usize].smallest_round_trip();
    let echo_delay = match stream {
        Stream::Audio => terms.echo_delay.or_else(|| Some(smallest(Stream::Audio)? - smallest(Stream::Ping)?)),
        Stream::Ping | Stream::Keepalive => Some(0),
    };
    let late =
        terms.late_after.zip(echo_delay).is_some_and(|(limit, echo_delay)| at - packet.left - echo_delay > limit);
    if late {
        counts[stream as usize].late += 1;
        return Outcome::Late;
    }
    Outcome::Returned
}

/// The outcomes that only the end of the run decides.
fn close(terms: &Terms, stream: Stream, packets: &[Packet], counts: &mut DialectCounters, lines: &mut Vec<Line>) {
    let expected = counts.smallest_round_trip().unwrap_or(match stream {
        Stream::Audio if terms.answers_expected => terms.expected_server_delay,
        Stream::Audio | Stream::Ping | Stream::Keepalive => 0,
    });
    counts.left = packets.iter().map(|packet| packet.left).collect();
    counts.losses = vec![false; packets.len()];
    counts.sent = packets.len() as u64;
    counts.send_failed = packets.iter().filter(|packet| packet.refused).count() as u64;
    counts.last_deadline = packets.last().map(|packet| packet.left + expected + terms.timeout);
    for (index, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.whole.is_none()) {
        if packet.damaged_copies > 0 {
            counts.damaged += 1;
            continue;
        }
        let left_the_window = packets.len() - 1 - index >= WINDOW;
        let deadline = packet.left + expected + terms.timeout;
        let undecided = !left_the_window && terms.interrupted.is_some_and(|at| at < deadline);
        let packet_outcome = if !terms.answers_expected || undecided { Outcome::InFlight } else { Outcome::Lost };
        counts.losses[index] = packet_outcome == Outcome::Lost;
        counts.lost += u64::from(packet_outcome == Outcome::Lost);
        counts.in_flight += u64::from(packet_outcome == Outcome::InFlight);
        lines.push(Line { stream, sequence: packet.number, sent: packet.left, came: None, packet_outcome });
    }
}
