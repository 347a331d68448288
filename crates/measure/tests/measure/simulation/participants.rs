//! The participants of a simulation: echo servers, senders and probers, with their audio sources and outcome recorders.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use jamjam_core::echo::EchoServer;
use jamjam_core::node::{Node, Receive, TransmitSink};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioSender, PacketEvent, PacketObserver, PacketOutcome, PayloadSource, Prober, RecordedPacket, SourcePoll,
};

use super::reference_counts::Line;

/// One node of a simulation.
pub(crate) enum Participant {
    Echo(Box<EchoServer>),
    Sender(Box<AudioSender<Sound>>),
    Prober(Box<Prober>),
}

impl Participant {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Self::Echo(node) => &mut **node,
            Self::Sender(node) => &mut **node,
            Self::Prober(node) => &mut **node,
        }
    }
}

impl Node for Participant {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        self.node().on_datagram(now, batch);
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.node().poll_transmit(now, sink);
    }

    fn next_deadline(&self) -> Option<Time> {
        match self {
            Self::Echo(node) => node.next_deadline(),
            Self::Sender(node) => node.next_deadline(),
            Self::Prober(node) => node.next_deadline(),
        }
    }
}

/// The audio source of a sender: payloads that become ready at given times.
pub(crate) struct Sound {
    /// Payload length in bytes of each packet, and the time at which it is ready.
    pub(crate) packets: Vec<(usize, u64)>,
    /// If true, every payload is silence: all its bytes are zero.
    pub(crate) silent: bool,
    pub(crate) clock: Rc<Cell<u64>>,
    pub(crate) next: usize,
}

impl PayloadSource for Sound {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        let Some((len, ready)) = self.packets.get(self.next).copied() else { return SourcePoll::End };
        if self.clock.get() < ready {
            return SourcePoll::Pending;
        }
        let index = self.next as u32;
        let sample = |i: usize| if self.silent { 0 } else { index.wrapping_mul(2_654_435_761) ^ i as u32 };
        payload.extend((0..len / 4).flat_map(|i| sample(i).to_le_bytes()));
        self.next += 1;
        SourcePoll::Ready
    }
}

/// Records every packet event: as a line of the reference computation, and as an event of a run record.
#[derive(Clone, Default)]
pub(crate) struct OutcomeRecorder(pub(crate) Arc<Mutex<Vec<Line>>>, pub(crate) Arc<Mutex<Vec<RecordedPacket>>>);

impl PacketObserver for OutcomeRecorder {
    fn on_packet(&mut self, PacketEvent { packet: fact, .. }: PacketEvent<'_>) {
        let ns = |time: Time| time.as_nanos() as i64;
        let line = Line {
            stream: fact.stream,
            sequence: fact.sequence,
            sent: if fact.outcome == PacketOutcome::NotSent { 0 } else { ns(fact.sent_at) },
            received_at: fact.received_at.map(ns),
            packet_outcome: fact.outcome,
        };
        self.0.lock().expect("no thread panics with the lock").push(line);
        self.1.lock().expect("no thread panics with the lock").push(fact);
    }
}
