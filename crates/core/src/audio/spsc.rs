//! Lock-free rings with one producer and one consumer, between an audio device's callback and the other threads.
//!
//! The callback must never block, so pushing and popping take no lock, allocate no memory and make no system call. A [`capture_ring`] carries
//! blocks from the microphone to the sender, and a [`packet_ring`] carries received packets to the speaker. If a ring is full, the newest
//! data is dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use super::sample_format::DeviceSampleFormat;
use crate::stats::Counter;
use crate::time::Time;

/// Expected minimum frames per callback, each of which adds one block: a ring has room for as many blocks as its frames divided by this. If
/// callbacks deliver fewer frames, the ring has no room for blocks while it still has room for frames.
const MIN_BLOCK_FRAMES: usize = 16;

/// The frames of one callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedBlock {
    /// Number of frames.
    pub frames: u32,
    /// Time of the callback.
    pub captured_at: Time,
    /// Frames dropped between the previous block and this one because the ring was full.
    pub dropped_before: u64,
    /// Whether the device lost an unknown number of frames since the previous block.
    pub after_xrun: bool,
}

/// Counters of a capture ring, readable from any thread. Only the callback's thread changes them.
#[derive(Debug, Default)]
pub struct CaptureCounters {
    /// Number of times that the ring was full. Consecutive dropped blocks are one overrun.
    pub overruns: Counter,
    /// Frames dropped because the ring was full.
    pub overrun_frames: Counter,
    /// Overruns that the device reports. The first block added to the ring after an xrun has [`CapturedBlock::after_xrun`] set.
    pub xruns: Counter,
}

/// The producer side of a capture ring, used by the device callback.
pub struct CaptureProducer {
    format: DeviceSampleFormat,
    channels: usize,
    samples: Producer<f32>,
    blocks: Producer<(CapturedBlock, usize)>,
    /// Frames dropped since a block was last added to the ring.
    dropped_since_block: u64,
    /// Number of xruns when a block was last added to the ring.
    xruns_seen: u64,
    /// See [`CaptureCounters`].
    pub counters: Arc<CaptureCounters>,
}

/// The consumer side of a capture ring, used by the sender.
pub type CaptureConsumer = RingConsumer<CapturedBlock, CaptureCounters>;

/// The consumer side of a ring of items that have samples. `S` is what both sides share.
pub struct RingConsumer<T, S> {
    /// Each item with the number of its samples, all channels.
    items: Consumer<(T, usize)>,
    samples: Consumer<f32>,
    /// See [`CaptureCounters`] and [`PacketRingState`].
    pub state: Arc<S>,
}

impl<T, S> RingConsumer<T, S> {
    /// Removes the oldest item and replaces the contents of `samples` with its samples.
    pub fn pop(&mut self, samples: &mut Vec<f32>) -> Option<T> {
        let (item, count) = self.items.pop().ok()?;
        samples.resize(count, 0.0);
        // Cannot fail: the producer adds the samples before the item.
        let _ = self.samples.pop_entire_slice(samples);
        Some(item)
    }

    /// Whether the producer was dropped. The ring may still contain items.
    pub fn is_closed(&self) -> bool {
        self.items.is_abandoned()
    }
}

/// Creates a ring of `frames` frames for a device that delivers `format` with `channels` channels.
pub fn capture_ring(format: DeviceSampleFormat, channels: u16, frames: usize) -> (CaptureProducer, CaptureConsumer) {
    let channels = usize::from(channels.max(1));
    let (sample_producer, sample_consumer) = RingBuffer::new(frames * channels);
    let (block_producer, block_consumer) = RingBuffer::new(frames.div_ceil(MIN_BLOCK_FRAMES));
    let counters = Arc::<CaptureCounters>::default();
    let producer = CaptureProducer {
        format,
        channels,
        samples: sample_producer,
        blocks: block_producer,
        dropped_since_block: 0,
        xruns_seen: 0,
        counters: Arc::clone(&counters),
    };
    (producer, RingConsumer { items: block_consumer, samples: sample_consumer, state: counters })
}

impl CaptureProducer {
    /// Adds one block of interleaved samples in the format of the device. An incomplete frame at the end is ignored.
    pub fn push(&mut self, bytes: &[u8], captured_at: Time) {
        let frames = bytes.len() / (self.format.bytes_per_sample * self.channels);
        if frames == 0 {
            return;
        }
        let chunk = if self.blocks.is_full() { None } else { self.samples.write_chunk(frames * self.channels).ok() };
        let Some(mut chunk) = chunk else {
            if self.dropped_since_block == 0 {
                self.counters.overruns.add(1);
            }
            self.dropped_since_block += frames as u64;
            self.counters.overrun_frames.add(frames);
            return;
        };
        let (first, second) = chunk.as_mut_slices();
        self.format.decode(bytes, first.iter_mut().chain(second));
        chunk.commit_all();
        let dropped_before = std::mem::take(&mut self.dropped_since_block);
        let xruns = self.counters.xruns.get();
        let after_xrun = std::mem::replace(&mut self.xruns_seen, xruns) != xruns;
        // Cannot fail: the ring is not full and there is one producer.
        let block = CapturedBlock { frames: frames as u32, captured_at, dropped_before, after_xrun };
        let _ = self.blocks.push((block, frames * self.channels));
    }
}

/// A packet in a packet ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedAudio {
    /// Index among the sent packets, from 0.
    pub index: u64,
    /// Time of arrival.
    pub received_at: Time,
}

/// State of a packet ring, readable from any thread. Only the producer changes it.
#[derive(Debug, Default)]
pub struct PacketRingState {
    /// Number of AUDIO packets that the client has sent over the network so far.
    pub sent_packets: Counter,
    /// Packets pushed, including dropped ones.
    pub pushed: Counter,
    /// Packets dropped because the ring was full.
    pub dropped: Counter,
}

/// The producer side of a packet ring, used by the receiving thread. Dropping the producer closes the ring.
pub struct PacketProducer {
    /// Maximum samples per packet, all channels.
    max_samples: usize,
    packets: Producer<(QueuedAudio, usize)>,
    samples: Producer<f32>,
    /// See [`PacketRingState`].
    pub state: Arc<PacketRingState>,
}

/// The consumer side of a packet ring, used by the device callback.
pub type PacketConsumer = RingConsumer<QueuedAudio, PacketRingState>;

/// Creates a ring for packets of `frame_samples` frames each. The packets in a full ring contain audio of at least the duration `capacity`.
pub fn packet_ring(
    rate: u32,
    channels: u16,
    frame_samples: u32,
    capacity: Duration,
) -> (PacketProducer, PacketConsumer) {
    let frames = capacity.as_secs_f64() * f64::from(rate);
    let packets = (frames / f64::from(frame_samples.max(1))).ceil().max(8.0) as usize;
    let max_samples = frame_samples.max(1) as usize * usize::from(channels);
    let (packet_producer, packet_consumer) = RingBuffer::new(packets);
    let (sample_producer, sample_consumer) = RingBuffer::new(packets * max_samples);
    let state = Arc::<PacketRingState>::default();
    (
        PacketProducer { max_samples, packets: packet_producer, samples: sample_producer, state: Arc::clone(&state) },
        RingConsumer { items: packet_consumer, samples: sample_consumer, state },
    )
}

impl PacketProducer {
    /// Adds a packet, truncated to the maximum length. If the ring is full, the packet is dropped and counted.
    pub fn push(&mut self, index: u64, received_at: Time, samples: impl ExactSizeIterator<Item = f32>) {
        self.state.pushed.add(1);
        let len = samples.len().min(self.max_samples);
        let chunk = if self.packets.is_full() { None } else { self.samples.write_chunk_uninit(len).ok() };
        let Some(chunk) = chunk else {
            self.state.dropped.add(1);
            return;
        };
        chunk.fill_from_iter(samples.take(len));
        // Cannot fail: the ring of packets is not full and there is one producer. The samples were added first, so that the consumer finds
        // them with the packet.
        let _ = self.packets.push((QueuedAudio { index, received_at }, len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str) -> DeviceSampleFormat {
        DeviceSampleFormat::by_name(name).expect("a format")
    }

    /// 16-bit samples as a device delivers them.
    fn bytes(numbers: impl IntoIterator<Item = i16>) -> Vec<u8> {
        numbers.into_iter().flat_map(i16::to_ne_bytes).collect()
    }

    /// Number of overruns and dropped frames.
    fn overruns(consumer: &CaptureConsumer) -> (u64, u64) {
        (consumer.state.overruns.get(), consumer.state.overrun_frames.get())
    }

    #[test]
    fn captured_blocks_keep_order_samples_and_times() {
        let (mut producer, mut consumer) = capture_ring(format("I16"), 2, 48);
        let mut samples = vec![0.0; 99];
        assert_eq!(consumer.pop(&mut samples), None);
        producer.push(&bytes([16_384, -16_384, 8_192, 0]), Time::from_millis(3));
        // The fifth sample is an incomplete frame.
        producer.push(&bytes([-32_768, 0, 1, 2, 3]), Time::from_millis(5));
        let block =
            |ms| CapturedBlock { frames: 2, captured_at: Time::from_millis(ms), dropped_before: 0, after_xrun: false };
        assert_eq!(consumer.pop(&mut samples), Some(block(3)));
        assert_eq!(samples, [0.5, -0.5, 0.25, 0.0]);
        assert_eq!(consumer.pop(&mut samples), Some(block(5)));
        assert_eq!(samples, [-1.0, 0.0, 1.0 / 32_768.0, 2.0 / 32_768.0]);
        assert_eq!(consumer.pop(&mut samples), None);
        assert_eq!(overruns(&consumer), (0, 0));
    }

    #[test]
    fn full_capture_ring_drops_the_newest_block_and_counts_it() {
        let (mut producer, mut consumer) = capture_ring(format("I16"), 1, 160);
        let mut samples = Vec::new();
        let block = bytes(1..=50);
        // Three blocks of 50 frames fit into a ring of 160 frames. The fourth and fifth blocks count as one overrun.
        (0..5).for_each(|ms| producer.push(&block, Time::from_millis(ms)));
        assert_eq!(overruns(&consumer), (1, 100));
        assert_eq!(consumer.pop(&mut samples).map(|block| (block.frames, block.dropped_before)), Some((50, 0)));
        producer.push(&block, Time::from_millis(5));
        // Full again: a second overrun.
        producer.push(&block, Time::from_millis(6));
        assert_eq!(overruns(&consumer), (2, 150));
        let rest = std::iter::from_fn(|| consumer.pop(&mut samples));
        let rest: Vec<_> = rest.map(|block| (block.captured_at, block.dropped_before)).collect();
        assert_eq!(rest, [(1, 0), (2, 0), (5, 100)].map(|(ms, dropped)| (Time::from_millis(ms), dropped)));
        producer.push(&block, Time::from_millis(7));
        assert_eq!(consumer.pop(&mut samples).map(|block| block.dropped_before), Some(50));
        assert_eq!(samples.len(), 50);
    }

    #[test]
    fn block_after_an_xrun_is_marked() {
        let (mut producer, mut consumer) = capture_ring(format("U8"), 1, 32);
        let (counters, mut samples) = (Arc::clone(&producer.counters), Vec::new());
        producer.push(&[128; 16], Time::from_millis(0));
        counters.xruns.add(2);
        producer.push(&[128; 16], Time::from_millis(1));
        counters.xruns.add(1);
        // The ring is full, so the next call drops its block. The xrun mark of the dropped block is set on the next block that fits.
        producer.push(&[128; 16], Time::from_millis(2));
        let mut next = || consumer.pop(&mut samples).map(|block| (block.dropped_before, block.after_xrun));
        assert_eq!([next(), next(), next()], [Some((0, false)), Some((0, true)), None]);
        producer.push(&[128; 16], Time::from_millis(3));
        producer.push(&[128; 16], Time::from_millis(4));
        assert_eq!([next(), next()], [Some((16, true)), Some((0, false))]);
        assert_eq!(consumer.state.xruns.get(), 3);
    }

    #[test]
    fn capture_ring_keeps_samples_across_wrap_around() {
        let (mut producer, mut consumer) = capture_ring(format("I16"), 1, 32);
        let (mut samples, mut received) = (Vec::new(), Vec::new());
        for block in 0..100 {
            producer.push(&bytes(block * 7..block * 7 + 7), Time::from_millis(0));
            while consumer.pop(&mut samples).is_some() {
                received.extend(samples.iter().map(|sample| (sample * 32_768.0) as i16));
            }
        }
        assert_eq!(received, (0..700).collect::<Vec<i16>>());
    }
}
