//! From a device's callback to the thread that sends: samples and the times of their delivery, in a lock-free ring.
//!
//! The callback runs on a thread of the sound system that must never wait: [`Capture::deliver`] takes no lock, asks for no
//! memory and makes no system call. Where the ring is full the newest block is dropped whole, and the next one that has room
//! says how much is missing before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::device_format::DeviceFormat;
use crate::time::Time;

/// The fewest frames that a device is expected to deliver at a time; there may be fewer, only the ring is full sooner.
const SMALLEST_BLOCK: usize = 16;

/// What was delivered at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Frames in it.
    pub frames: u32,
    /// When it was delivered.
    pub at: Time,
    /// Frames between the block before and this one for which the ring had no room.
    pub missing: u64,
    /// The device lost sound by itself since the block before, nobody knows how much.
    pub after_xrun: bool,
}

/// What the ring had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overruns {
    /// How often it was full, each row of dropped blocks counted once.
    pub count: u64,
    /// Frames that were dropped.
    pub frames: u64,
}

#[derive(Default)]
struct Shared {
    overruns: AtomicU64,
    overrun_frames: AtomicU64,
    xruns: AtomicU64,
}

/// Where it is told that the device lost sound by itself.
#[derive(Clone)]
pub struct Xruns(Arc<Shared>);

impl Xruns {
    /// It has, just now.
    pub fn add(&self) {
        self.0.xruns.fetch_add(1, Ordering::Relaxed);
    }
}

/// The callback's end.
pub struct Capture {
    format: DeviceFormat,
    channels: usize,
    samples: Producer<f32>,
    blocks: Producer<Block>,
    /// Frames dropped since the last block that had room.
    missing: u64,
    /// Xruns before the last block that had room.
    xruns: u64,
    shared: Arc<Shared>,
}

/// The other end.
pub struct Captured {
    channels: usize,
    samples: Consumer<f32>,
    blocks: Consumer<Block>,
    shared: Arc<Shared>,
}

/// A ring of `frames` frames, for a device that delivers `format` on `channels` channels.
pub fn ring(format: DeviceFormat, channels: u16, frames: usize) -> (Capture, Captured) {
    let channels = usize::from(channels.max(1));
    let (samples, taken) = RingBuffer::new(frames * channels);
    let (blocks, told) = RingBuffer::new(frames.div_ceil(SMALLEST_BLOCK));
    let shared = Arc::<Shared>::default();
    let capture = Capture { format, channels, samples, blocks, missing: 0, xruns: 0, shared: Arc::clone(&shared) };
    (capture, Captured { channels, samples: taken, blocks: told, shared })
}

impl Capture {
    /// Where xruns are told. Those told on the callback's own thread stand between the right blocks.
    pub fn xruns(&self) -> Xruns {
        Xruns(Arc::clone(&self.shared))
    }

    /// Takes what the device delivers at `at`: interleaved samples in its format. An incomplete frame at the end is ignored.
    pub fn deliver(&mut self, bytes: &[u8], at: Time) {
        let frames = bytes.len() / (self.format.bytes_per_sample() * self.channels);
        if frames == 0 {
            return;
        }
        let room = if self.blocks.is_full() { None } else { self.samples.write_chunk(frames * self.channels).ok() };
        let Some(mut room) = room else {
            if self.missing == 0 {
                self.shared.overruns.fetch_add(1, Ordering::Relaxed);
            }
            self.missing += frames as u64;
            self.shared.overrun_frames.fetch_add(frames as u64, Ordering::Relaxed);
            return;
        };
        let (first, second) = room.as_mut_slices();
        self.format.decode(bytes, first.iter_mut().chain(second));
        room.commit_all();
        let missing = std::mem::take(&mut self.missing);
        let xruns = self.shared.xruns.load(Ordering::Relaxed);
        let after_xrun = std::mem::replace(&mut self.xruns, xruns) != xruns;
        // There was room, and nobody else writes.
        let _ = self.blocks.push(Block { frames: frames as u32, at, missing, after_xrun });
    }
}

impl Captured {
    /// Takes the oldest block, and puts its samples in place of what is in `samples`.
    pub fn next(&mut self, samples: &mut Vec<f32>) -> Option<Block> {
        let block = self.blocks.pop().ok()?;
        samples.resize(block.frames as usize * self.channels, 0.0);
        // A block is told of after its samples are there.
        let _ = self.samples.pop_entire_slice(samples);
        Some(block)
    }

    /// What the ring had no room for so far.
    pub fn overruns(&self) -> Overruns {
        let [count, frames] =
            [&self.shared.overruns, &self.shared.overrun_frames].map(|count| count.load(Ordering::Relaxed));
        Overruns { count, frames }
    }

    /// How often the device lost sound by itself so far.
    pub fn xruns(&self) -> u64 {
        self.shared.xruns.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * MS)
    }

    /// 16-bit numbers as a device delivers them.
    fn bytes(numbers: impl IntoIterator<Item = i16>) -> Vec<u8> {
        numbers.into_iter().flat_map(i16::to_ne_bytes).collect()
    }

    #[test]
    fn blocks_come_out_as_they_went_in_with_their_times() {
        let (mut capture, mut captured) = ring(DeviceFormat::I16, 2, 48);
        let mut samples = vec![0.0; 99];
        assert_eq!(captured.next(&mut samples), None);
        capture.deliver(&bytes([16_384, -16_384, 8_192, 0]), at(3));
        // The fifth number is no frame.
        capture.deliver(&bytes([-32_768, 0, 1, 2, 3]), at(5));
        assert_eq!(captured.next(&mut samples), Some(Block { frames: 2, at: at(3), missing: 0, after_xrun: false }));
        assert_eq!(samples, [0.5, -0.5, 0.25, 0.0]);
        assert_eq!(captured.next(&mut samples), Some(Block { frames: 2, at: at(5), missing: 0, after_xrun: false }));
        assert_eq!(samples, [-1.0, 0.0, 1.0 / 32_768.0, 2.0 / 32_768.0]);
        assert_eq!(captured.next(&mut samples), None);
        assert_eq!(captured.overruns(), Overruns::default());
    }

    #[test]
    fn a_full_ring_drops_the_newest_block_and_the_next_says_what_is_missing() {
        let (mut capture, mut captured) = ring(DeviceFormat::I16, 1, 160);
        let mut samples = Vec::new();
        let block = bytes(1..=50);
        // Three of 50 frames fit 160; the fourth and the fifth do not, and are one gap.
        (0..5).for_each(|ms| capture.deliver(&block, at(ms)));
        assert_eq!(captured.overruns(), Overruns { count: 1, frames: 100 });
        assert_eq!(captured.next(&mut samples), Some(Block { frames: 50, at: at(0), missing: 0, after_xrun: false }));
        capture.deliver(&block, at(5));
        // Full again: another gap.
        capture.deliver(&block, at(6));
        assert_eq!(captured.overruns(), Overruns { count: 2, frames: 150 });
        let rest: Vec<_> = std::iter::from_fn(|| captured.next(&mut samples)).collect();
        assert_eq!(
            rest.iter().map(|block| (block.at, block.missing)).collect::<Vec<_>>(),
            [(at(1), 0), (at(2), 0), (at(5), 100)]
        );
        capture.deliver(&block, at(7));
        assert_eq!(captured.next(&mut samples).map(|block| block.missing), Some(50));
        assert_eq!(samples.len(), 50);
    }

    #[test]
    fn a_block_says_that_the_device_lost_sound_before_it() {
        let (mut capture, mut captured) = ring(DeviceFormat::U8, 1, 32);
        let (xruns, mut samples) = (capture.xruns(), Vec::new());
        capture.deliver(&[128; 16], at(0));
        xruns.add();
        xruns.add();
        capture.deliver(&[128; 16], at(1));
        xruns.add();
        // Dropped, so it cannot say so; the next one does.
        capture.deliver(&[128; 16], at(2));
        let mut next = || captured.next(&mut samples).map(|block| (block.missing, block.after_xrun));
        assert_eq!([next(), next(), next()], [Some((0, false)), Some((0, true)), None]);
        capture.deliver(&[128; 16], at(3));
        capture.deliver(&[128; 16], at(4));
        assert_eq!([next(), next()], [Some((16, true)), Some((0, false))]);
        assert_eq!(captured.xruns(), 3);
    }

    #[test]
    fn a_ring_that_goes_round_keeps_every_sample_in_its_place() {
        let (mut capture, mut captured) = ring(DeviceFormat::I16, 1, 32);
        let (mut samples, mut heard) = (Vec::new(), Vec::new());
        for block in 0..100 {
            capture.deliver(&bytes(block * 7..block * 7 + 7), at(0));
            while captured.next(&mut samples).is_some() {
                heard.extend(samples.iter().map(|sample| (sample * 32_768.0) as i16));
            }
        }
        assert_eq!(heard, (0..700).collect::<Vec<i16>>());
    }
}
