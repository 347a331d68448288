//! Computes the expected numbers of a run from its complete log, with vectors and sorts. The computation follows only the text of
//! `docs/measuring.md` and uses nothing of the code under test but the names of streams and outcomes.

use std::net::SocketAddr;

use jamjam_measure::client::{PacketOutcome, StreamKind};

use super::log::Event;

/// One line of `--json-lines`. Times are in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) stream: StreamKind,
    pub(crate) sequence: u32,
    /// 0 for a packet that was not sent.
    pub(crate) sent: i64,
    pub(crate) received_at: Option<i64>,
    pub(crate) packet_outcome: PacketOutcome,
}

/// The configuration of the run, and the time of its end. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceConfig {
    pub(crate) peer: SocketAddr,
    /// Echo time, which includes the server delay, that AUDIO deadlines assume until the first AUDIO packet returns.
    pub(crate) expected_server_delay: i64,
    pub(crate) timeout: i64,
    pub(crate) answers_expected: bool,
    pub(crate) wait_for: bool,
    /// The time of a stop signal, if one ended the run.
    pub(crate) interrupted: Option<i64>,
}

/// One packet and the replies to it.
#[derive(Debug)]
struct Packet<'a> {
    number: u32,
    bytes: &'a [u8],
    left: i64,
    refused: bool,
    intact_at: Option<i64>,
    damaged_copies: u64,
}

/// The counts of a stream, and the times from which the other figures are computed.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    pub(crate) sent: u64,
    pub(crate) returned: u64,
    pub(crate) lost: u64,
    pub(crate) damaged: u64,
    pub(crate) in_flight: u64,
    pub(crate) duplicated: u64,
    pub(crate) damaged_copies: u64,
    pub(crate) reordered: u64,
    pub(crate) unmatched: u64,
    pub(crate) send_failed: u64,
    /// (departure, arrival) times of the first intact copy of each packet, in order of arrival.
    pub(crate) returns: Vec<(i64, i64)>,
    /// For each entry of `returns`, the packet's position in the order of sending.
    pub(crate) order: Vec<usize>,
    /// The largest element of `order`.
    newest_returned: Option<usize>,
    /// The smallest round-trip time in `returns`.
    smallest_round_trip: Option<i64>,
    /// The departure time of each packet, in order of sending.
    pub(crate) left: Vec<i64>,
    /// Whether each packet was lost, in order of sending.
    pub(crate) losses: Vec<bool>,
    /// Whether the system refused each packet, in order of sending.
    pub(crate) refused: Vec<bool>,
    /// The position of the first packet in flight in the order of sending.
    pub(crate) first_in_flight: Option<usize>,
    /// The deadline of the last packet of the stream.
    pub(crate) last_deadline: Option<i64>,
}

/// All numbers of one run.
#[derive(Debug)]
pub(crate) struct ReferenceCounts {
    /// In the order of [`StreamKind::ALL`].
    pub(crate) counts: [StreamCounts; 3],
    pub(crate) stray: u64,
    /// The time of the first reply, if `--wait-for` is given.
    pub(crate) answered: Option<i64>,
    /// Events before this index are not counted.
    pub(crate) begin: usize,
    pub(crate) lines: Vec<Line>,
}

impl ReferenceCounts {
    pub(crate) fn of(&self, stream: StreamKind) -> &StreamCounts {
        &self.counts[stream as usize]
    }

    /// The smallest AUDIO echo time minus the smallest LATENCY_PING round trip in the run, at least 0. `None` if either is missing.
    pub(crate) fn estimated_server_delay(&self) -> Option<i64> {
        let difference =
            self.of(StreamKind::Audio).smallest_round_trip? - self.of(StreamKind::Ping).smallest_round_trip?;
        Some(difference.max(0))
    }
}

impl StreamCounts {
    pub(crate) fn round_trips(&self) -> Vec<i64> {
        self.returns.iter().map(|(left, arrived)| arrived - left).collect()
    }
}

/// Returns the packet type of a valid datagram, otherwise `None`. A valid datagram has at least 12 bytes, version 1 and a known type.
fn packet_type(bytes: &[u8]) -> Option<u8> {
    (bytes.len() >= 12 && bytes[0] == 1 && (1..=7).contains(&bytes[1])).then(|| bytes[1])
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The stream and number of a packet, of which those with the type `ping` belong to the stream of pings. A pong may be too short for a number.
fn numbered(bytes: &[u8], ping: u8) -> Option<(StreamKind, Option<u32>)> {
    let number = |from: usize| bytes.get(from..from + 4).map(big_endian);
    match packet_type(bytes)? {
        1 => Some((StreamKind::Audio, number(2))),
        4 => Some((StreamKind::Keepalive, number(2))),
        kind if kind == ping => Some((StreamKind::Ping, number(20))),
        _ => None,
    }
}

/// The stream of a sent packet, and its number in the stream.
fn sent_packet(bytes: &[u8]) -> Option<(StreamKind, u32)> {
    let (stream, number) = numbered(bytes, 5)?;
    Some((stream, number?))
}

/// Whether a reply is intact, as the last column of the first table in `docs/measuring.md` defines it.
fn is_intact(stream: StreamKind, sent: &[u8], received_at: &[u8]) -> bool {
    match stream {
        StreamKind::Audio | StreamKind::Keepalive => sent == received_at,
        StreamKind::Ping => sent[12..24] == received_at[12..24],
    }
}

/// Returns the index of the first datagram from the target.
fn first_answer(peer: SocketAddr, log: &[Event]) -> Option<usize> {
    log.iter().position(|event| matches!(event, Event::Received { from, .. } if *from == peer))
}

/// Computes all numbers of a run from its log.
pub(crate) fn count(config: &ReferenceConfig, log: &[Event]) -> ReferenceCounts {
    let first = config.wait_for.then(|| first_answer(config.peer, log));
    // With `--wait-for`, counting starts after the first reply.
    let begin = first.map_or(0, |first| first.map_or(log.len(), |i| i + 1));
    let (before, counted) = log.split_at(begin);
    let sent = |event: &Event| if let Event::Sent { bytes, .. } = event { sent_packet(bytes) } else { None };
    let keepalives: Vec<_> = before.iter().filter_map(sent).collect();
    let answered = first.flatten().map(|i| log[i].at());

    let mut packets: [Vec<Packet<'_>>; 3] = Default::default();
    let mut counts: [StreamCounts; 3] = Default::default();
    let mut numbers = ReferenceCounts { counts: Default::default(), stray: 0, answered, begin, lines: Vec::new() };
    for event in counted {
        match event {
            Event::Sent { at, bytes, refused } => {
                let Some((stream, number)) = sent_packet(bytes) else { continue };
                let sent = &mut packets[stream as usize];
                let previous = sent.last().map(|packet| packet.number);
                assert!(previous.is_none_or(|last| number == last.wrapping_add(1)), "{stream:?} skips a number");
                sent.push(Packet { number, bytes, left: *at, refused: *refused, intact_at: None, damaged_copies: 0 });
            }
            Event::Received { at, from, bytes } => {
                let Some((stream, number)) = numbered(bytes, 6).filter(|_| *from == config.peer) else {
                    numbers.stray += 1;
                    continue;
                };
                let sent = &mut packets[stream as usize];
                let index = number.zip(sent.first()).map(|(number, first)| number.wrapping_sub(first.number) as usize);
                let is_known = |at: &usize| *at < sent.len() && !sent[*at].refused;
                match index.filter(is_known) {
                    None if number.is_some_and(|number| keepalives.contains(&(stream, number))) => {}
                    None if sent.iter().all(|packet| packet.refused) => numbers.stray += 1,
                    None => counts[stream as usize].unmatched += 1,
                    Some(index) => {
                        let packet_outcome = arrive(stream, &mut sent[index], index, *at, bytes, &mut counts);
                        let (sequence, sent) = (sent[index].number, sent[index].left);
                        numbers.lines.push(Line { stream, sequence, sent, received_at: Some(*at), packet_outcome });
                    }
                }
            }
        }
    }
    for stream in StreamKind::ALL {
        let counts = &mut counts[stream as usize];
        close(config, stream, &packets[stream as usize], counts, &mut numbers.lines);
    }
    numbers.counts = counts;
    numbers
}

/// Counts a reply to a known packet.
fn arrive(
    stream: StreamKind,
    packet: &mut Packet<'_>,
    index: usize,
    at: i64,
    bytes: &[u8],
    counts: &mut [StreamCounts; 3],
) -> PacketOutcome {
    let own = &mut counts[stream as usize];
    if packet.intact_at.is_some() {
        own.duplicated += 1;
        return PacketOutcome::Duplicate;
    }
    if !is_intact(stream, packet.bytes, bytes) {
        own.damaged_copies += 1;
        packet.damaged_copies += 1;
        return PacketOutcome::Damaged;
    }
    packet.intact_at = Some(at);
    own.returned += 1;
    own.returns.push((packet.left, at));
    own.smallest_round_trip = own.smallest_round_trip.into_iter().chain([at - packet.left]).min();
    own.reordered += u64::from(own.newest_returned > Some(index));
    own.order.push(index);
    own.newest_returned = own.newest_returned.max(Some(index));
    PacketOutcome::Returned
}

/// Decides the outcomes that depend on the end of the run.
fn close(
    config: &ReferenceConfig,
    stream: StreamKind,
    packets: &[Packet<'_>],
    counts: &mut StreamCounts,
    lines: &mut Vec<Line>,
) {
    let expected = counts.smallest_round_trip.unwrap_or(match stream {
        StreamKind::Audio if config.answers_expected => config.expected_server_delay,
        StreamKind::Audio | StreamKind::Ping | StreamKind::Keepalive => 0,
    });
    counts.left = packets.iter().map(|packet| packet.left).collect();
    counts.losses = vec![false; packets.len()];
    counts.refused = packets.iter().map(|packet| packet.refused).collect();
    counts.send_failed = packets.iter().filter(|packet| packet.refused).count() as u64;
    counts.sent = packets.len() as u64 - counts.send_failed;
    let last = packets.iter().rfind(|packet| !packet.refused);
    counts.last_deadline = last.map(|packet| packet.left + expected + config.timeout);
    let refused = packets.iter().filter(|packet| packet.refused);
    let (received_at, packet_outcome) = (None, PacketOutcome::NotSent);
    lines.extend(refused.map(|packet| Line { stream, sequence: packet.number, sent: 0, received_at, packet_outcome }));
    for (index, packet) in
        packets.iter().enumerate().filter(|(_, packet)| packet.intact_at.is_none() && !packet.refused)
    {
        if packet.damaged_copies > 0 {
            counts.damaged += 1;
            continue;
        }
        let deadline = packet.left + expected + config.timeout;
        let undecided = config.interrupted.is_some_and(|at| at < deadline);
        let packet_outcome =
            if !config.answers_expected || undecided { PacketOutcome::InFlight } else { PacketOutcome::Lost };
        counts.losses[index] = packet_outcome == PacketOutcome::Lost;
        if packet_outcome == PacketOutcome::InFlight {
            counts.first_in_flight.get_or_insert(index);
        }
        counts.lost += u64::from(packet_outcome == PacketOutcome::Lost);
        counts.in_flight += u64::from(packet_outcome == PacketOutcome::InFlight);
        lines.push(Line { stream, sequence: packet.number, sent: packet.left, received_at: None, packet_outcome });
    }
}
