//! The participants of a simulation: echo servers, senders, probers and musicians, with their audio sources and outcome recorders.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use jamjam_core::echo::EchoServer;
use jamjam_core::node::{Node, Receive, TransmitSink};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioSender, Musician, PacketEvent, PacketObserver, PayloadSource, Prober, RecordedPacket, RunResults, SourcePoll,
};

/// One node of a simulation.
pub(crate) enum Participant {
    Echo(Box<EchoServer>),
    Sender(Box<AudioSender<Sound>>),
    Prober(Box<Prober>),
    Musician(Box<Musician<dyn PayloadSource>>),
}

impl Participant {
    /// The results of a client that has finished.
    pub(crate) fn into_results(self) -> RunResults {
        match self {
            Self::Sender(node) => node.into_results("", None, &mut ()),
            Self::Prober(node) => node.into_results("", None, &mut ()),
            Self::Echo(_) | Self::Musician(_) => panic!("not a client of an echo server"),
        }
    }

    fn node(&mut self) -> &mut dyn Node {
        match self {
            Self::Echo(node) => &mut **node,
            Self::Sender(node) => &mut **node,
            Self::Prober(node) => &mut **node,
            Self::Musician(node) => &mut **node,
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
            Self::Musician(node) => node.next_deadline(),
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

impl Sound {
    /// Packets of one length that are ready at any time.
    pub(crate) fn ready(packets: usize, payload_len: usize) -> Self {
        Self { packets: vec![(payload_len, 0); packets], silent: false, clock: Rc::default(), next: 0 }
    }
}

impl PayloadSource for Sound {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        let Some((len, ready)) = self.packets.get(self.next).copied() else { return SourcePoll::End };
        if self.clock.get() < ready {
            return SourcePoll::Pending;
        }
        // Two senders of different lengths send different payloads under the same number.
        let index = (self.packets.len() - self.next) as u32;
        let sample = |i: usize| if self.silent { 0 } else { index.wrapping_mul(2_654_435_761) ^ i as u32 };
        payload.extend((0..len / 4).flat_map(|i| sample(i).to_le_bytes()));
        self.next += 1;
        SourcePoll::Ready
    }
}

/// Records every packet event.
#[derive(Clone, Default)]
pub(crate) struct OutcomeRecorder(pub(crate) Arc<Mutex<Vec<RecordedPacket>>>);

impl PacketObserver for OutcomeRecorder {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        self.0.lock().expect("no thread panics with the lock").push(event.packet);
    }
}
