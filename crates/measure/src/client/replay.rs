//! Recomputes the statistics of a recorded run from its packets, which pass through the same [`PacketTracker`] as in a live run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hosts::HostLog;
use super::reply::{INTACT_DIGEST, ReceivedReply};
use super::results::{PacketOutcome, RecordedPacket, RunResults};
use super::run_config::RunConfig;
use super::sent_packets::{PacketTracker, SentPackets};
use super::stream_kind::StreamKind;
use jamjam_core::stats::{FinalOutcome, StreamStats};
use jamjam_core::time::Time;

/// Counts of a stream that its packets do not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamCounts {
    /// The stream.
    pub stream: StreamKind,
    /// Datagrams of this type that match no packet.
    pub unmatched: u64,
}

/// Why a run cannot be replayed, with the position of the packet event, from 0, if it concerns a single one.
type ReplayError = (Option<usize>, String);

/// The sent packets of one stream, with the number of packets already passed to the tracker.
#[derive(Default)]
struct RecordedStream {
    /// One event of each packet.
    sent: Vec<RecordedPacket>,
    replayed: usize,
}

/// Fills the statistics of `run`, which started counting at `started`, from `events`, in which the replies are in the order of their arrival.
/// `streams` contains the streams of the run; if it is empty, the run has no pacing either.
pub fn replay(
    mut run: RunResults,
    started: Time,
    streams: &[StreamCounts],
    events: &[RecordedPacket],
) -> Result<RunResults, ReplayError> {
    let first_sequence = |kind| match (kind, &run.audio) {
        (StreamKind::Audio, Some(audio)) => audio.first_sequence,
        _ => 0,
    };
    let mut recorded = collect_sent(streams, events, first_sequence)?;
    let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut config = RunConfig::new(peer, run.evaluated_stream, Duration::from_nanos(run.timeout_ns));
    let server_delay_ns = run.audio.as_ref().and_then(|audio| audio.configured_server_delay_ns);
    config.server_delay = server_delay_ns.map(Duration::from_nanos);
    config.replies_expected = run.replies_expected;
    let mut tracker = PacketTracker::new(config, first_sequence(StreamKind::Audio), Box::new(()));
    tracker.hosts.this = HostLog::replayed(&run.pauses, started);
    if let Some(server) = &run.server {
        tracker.hosts.server = HostLog::replayed(&server.pauses, started);
        tracker.hosts.holding_time.get_or_insert(Duration::from_nanos(server.delay_ns));
    }
    for event in events {
        let Some(received_at) = event.received_at else { continue };
        let index = event.sequence.wrapping_sub(first_sequence(event.stream)) as usize;
        for kind in StreamKind::ALL {
            let minimum = if kind == event.stream { index + 1 } else { 0 };
            recorded[kind as usize].send_until(kind, received_at, minimum, &mut tracker);
        }
        let digest = if event.outcome == PacketOutcome::Damaged { !INTACT_DIGEST } else { INTACT_DIGEST };
        let reply = ReceivedReply { sequence: event.sequence, received_at, digest, payload: &[] };
        tracker.on_received(Some((event.stream, Some(reply))));
    }
    for kind in StreamKind::ALL {
        recorded[kind as usize].send_until(kind, Time::ZERO, usize::MAX, &mut tracker);
    }
    let PacketTracker { streams: [audio, ping, keepalive], pacing, hosts, .. } = tracker;
    let finish = |kind: StreamKind, sent_packets: SentPackets| {
        let counts = streams.iter().find(|counts| counts.stream == kind)?;
        let sent = &recorded[kind as usize].sent;
        let outcome = |stream: &SentPackets, _: &_| match sent.get(usize::try_from(stream.first_index).ok()?)?.outcome {
            PacketOutcome::Lost => Some(FinalOutcome::Lost),
            PacketOutcome::Excluded => Some(FinalOutcome::Excluded),
            _ => None,
        };
        let stats = sent_packets.finish(outcome, &hosts, &mut ());
        Some(StreamStats { unmatched: counts.unmatched, ..stats })
    };
    if let (Some(results), Some(stats)) = (&mut run.audio, finish(StreamKind::Audio, audio)) {
        results.stats = stats;
    }
    (run.ping, run.keepalive) = (finish(StreamKind::Ping, ping), finish(StreamKind::Keepalive, keepalive));
    run.pacing = (!streams.is_empty()).then_some(*pacing);
    Ok(run)
}

/// The sent packets of each stream, checked for contradictions. The array index is a [`StreamKind`].
fn collect_sent(
    streams: &[StreamCounts],
    events: &[RecordedPacket],
    first_sequence: impl Fn(StreamKind) -> u32,
) -> Result<[RecordedStream; 3], ReplayError> {
    let mut found: [Vec<Option<RecordedPacket>>; 3] = Default::default();
    for (position, event) in events.iter().enumerate() {
        let error = |reason: &str| {
            let name = event.stream.name();
            Err((Some(position), format!("{name} packet {}: {reason}", event.sequence)))
        };
        if !streams.iter().any(|counts| counts.stream == event.stream) {
            return error("the last line does not contain this stream");
        }
        let index = event.sequence.wrapping_sub(first_sequence(event.stream)) as usize;
        // Each packet has at least one event.
        if index >= events.len() {
            return error("the record does not contain all packets before this packet");
        }
        let has_reply =
            matches!(event.outcome, PacketOutcome::Returned | PacketOutcome::Duplicate | PacketOutcome::Damaged);
        if has_reply != event.received_at.is_some() {
            return error("the outcome and the time of the reply contradict each other");
        }
        let sent = &mut found[event.stream as usize];
        if index >= sent.len() {
            sent.resize(index + 1, None);
        }
        match &sent[index] {
            None => sent[index] = Some(*event),
            Some(other) if (other.due, other.sent_at) != (event.due, event.sent_at) => {
                return error("an earlier line contains another due time or send time of this packet");
            }
            Some(other) if other.received_at.is_none() || event.received_at.is_none() => {
                return error("this packet has an outcome without a reply, and a second line");
            }
            Some(_) => {}
        }
    }
    let mut recorded: [RecordedStream; 3] = Default::default();
    for (kind, sent) in StreamKind::ALL.into_iter().zip(found) {
        let missing = |index: usize| {
            let sequence = first_sequence(kind).wrapping_add(index as u32);
            (None, format!("{} packet {sequence} is missing", kind.name()))
        };
        let sent = sent.into_iter().enumerate().map(|(index, packet)| packet.ok_or_else(|| missing(index)));
        recorded[kind as usize].sent = sent.collect::<Result<_, _>>()?;
    }
    Ok(recorded)
}

impl RecordedStream {
    /// Passes all packets that were sent by `time`, and at least the first `minimum` packets, to the tracker.
    fn send_until(&mut self, kind: StreamKind, time: Time, minimum: usize, tracker: &mut PacketTracker) {
        while let Some(packet) =
            self.sent.get(self.replayed).filter(|packet| packet.sent_at <= time || self.replayed < minimum)
        {
            if packet.outcome == PacketOutcome::NotSent {
                tracker.on_not_sent(kind, packet.due);
            } else {
                tracker.on_sent(kind, (packet.due, packet.sent_at), INTACT_DIGEST);
            }
            self.replayed += 1;
        }
    }
}
