//! Per-packet events of a run, for recordings, audio analysis and JSON lines.

use serde::Serialize;

use super::results::StreamKind;
use crate::time::Time;

/// Outcome of a sent packet, or of a datagram received for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketOutcome {
    /// The first intact copy arrived.
    Returned,
    /// The first intact copy arrived, after more than `--late-after`.
    Late,
    /// Another datagram arrived for a packet that had already returned.
    Duplicate,
    /// A copy with different bytes arrived before any intact copy.
    Damaged,
    /// No copy arrived before the time-out.
    Lost,
    /// No copy arrived, but the packet does not count as lost: the run was interrupted before the time-out, or expects no replies.
    InFlight,
}

/// A change in the state of one packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketEvent<'a> {
    /// Stream of the packet.
    pub stream: StreamKind,
    /// Index of the packet in its stream, from 0.
    pub index: u64,
    /// Sequence number of the packet.
    pub sequence: u32,
    /// When the packet was sent.
    pub sent_at: Time,
    /// When the datagram arrived; `None` if the event has no datagram.
    pub received_at: Option<Time>,
    /// Outcome of the packet or datagram.
    pub outcome: PacketOutcome,
    /// Whether this is the first datagram received for the packet.
    pub is_first: bool,
    /// Payload of the datagram; empty if the event has no datagram.
    pub payload: &'a [u8],
}

/// An AUDIO packet that was sent, or that the system failed to send. A packet that could not be sent also counts as part of the sent audio.
#[derive(Clone, Copy, Debug)]
pub struct SentAudio<'a> {
    /// Index of the packet in the AUDIO stream, from 0.
    pub index: u64,
    /// Sequence number of the packet.
    pub sequence: u32,
    /// Samples in wire format.
    pub payload: &'a [u8],
}

/// Receives packet events on the thread that runs the node. Implementations must not block and, after a warm-up, must not allocate.
pub trait PacketObserver: Send {
    /// Called after each AUDIO packet is sent.
    fn on_audio_sent(&mut self, _: SentAudio<'_>) {}
    /// Called for each packet event.
    fn on_packet(&mut self, event: PacketEvent<'_>);
}

/// Discards all events.
impl PacketObserver for () {
    fn on_packet(&mut self, _: PacketEvent<'_>) {}
}

/// Discards all events if `None`.
impl<O: PacketObserver> PacketObserver for Option<O> {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        if let Some(observer) = self {
            observer.on_audio_sent(sent);
        }
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if let Some(observer) = self {
            observer.on_packet(event);
        }
    }
}

/// Passes each event to both observers in order.
impl<A: PacketObserver, B: PacketObserver> PacketObserver for (A, B) {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        self.0.on_audio_sent(sent);
        self.1.on_audio_sent(sent);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        self.0.on_packet(event);
        self.1.on_packet(event);
    }
}

impl<O: PacketObserver + ?Sized> PacketObserver for &mut O {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        (**self).on_audio_sent(sent);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        (**self).on_packet(event);
    }
}
