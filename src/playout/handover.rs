//! From the thread that hears packets to the device's own, which must never wait: a lock-free ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::time::Time;

/// A packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its place among the packets that were sent, from 0.
    pub index: u64,
    /// When it came.
    pub at: Time,
    /// Its samples, all channels.
    pub samples: u32,
}

#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    given: AtomicU64,
    dropped: AtomicU64,
    is_over: AtomicBool,
}

/// The end of whoever hears packets.
pub struct Giver {
    /// Samples of a packet, at most.
    most: usize,
    packets: Producer<Packet>,
    samples: Producer<f32>,
    shared: Arc<Shared>,
}

/// The device's end.
pub struct Taker {
    packets: Consumer<Packet>,
    samples: Consumer<f32>,
    shared: Arc<Shared>,
}

/// How many packets were handed over, to be asked by anybody.
#[derive(Clone)]
pub struct Tally(Arc<Shared>);

/// A ring for packets of `frame_samples` frames of `channels` channels at `rate`, with room for so much of them.
pub fn handover(rate: u32, channels: u16, frame_samples: u32, room: Duration) -> (Giver, Taker) {
    let frames = room.as_secs_f64() * f64::from(rate);
    let packets = (frames / f64::from(frame_samples.max(1))).ceil().max(8.0) as usize;
    let most = frame_samples.max(1) as usize * usize::from(channels);
    let (give_packet, take_packet) = RingBuffer::new(packets);
    let (give_sample, take_sample) = RingBuffer::new(packets * most);
    let shared = Arc::<Shared>::default();
    (
        Giver { most, packets: give_packet, samples: give_sample, shared: Arc::clone(&shared) },
        Taker { packets: take_packet, samples: take_sample, shared },
    )
}

impl Giver {
    /// What is counted.
    pub fn tally(&self) -> Tally {
        Tally(Arc::clone(&self.shared))
    }

    /// So many packets have been sent.
    pub fn sent(&self, packets: u64) {
        self.shared.sent.store(packets, Ordering::Relaxed);
    }

    /// Hands a packet over; what is too long of it is left. Where there is no room it is dropped, and counted.
    pub fn give(&mut self, index: u64, at: Time, samples: impl ExactSizeIterator<Item = f32>) {
        self.shared.given.fetch_add(1, Ordering::Relaxed);
        let len = samples.len().min(self.most);
        let room: Result<_, ChunkError> =
            if self.packets.is_full() { Err(ChunkError::TooFewSlots(0)) } else { self.samples.write_chunk_uninit(len) };
        let Ok(room) = room else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        room.fill_from_iter(samples.take(len));
        // There is room, and nobody else writes. A packet is told of after its samples are there.
        let _ = self.packets.push(Packet { index, at, samples: len as u32 });
    }
}

impl Tally {
    /// Packets that were given, whether there was room or not.
    pub fn given(&self) -> u64 {
        self.0.given.load(Ordering::Relaxed)
    }

    /// Those for which there was none.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
    }
}

impl Taker {
    /// Takes the oldest packet, and puts its samples in place of what is in `samples`.
    pub fn next(&mut self, samples: &mut Vec<f32>) -> Option<Packet> {
        let packet = self.packets.pop().ok()?;
        samples.resize(packet.samples as usize, 0.0);
        // They are there.
        let _ = self.samples.pop_entire_slice(samples);
        Some(packet)
    }

    /// Packets that have been sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Whether no more packets come. What is in the ring is still to be taken.
    pub fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }
}
