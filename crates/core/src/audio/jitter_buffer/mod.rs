//! Jitter buffer: stores packets that arrive with varying delay, for a device with its own clock.
//!
//! Each packet waits in the slot for its index until the device takes it. A missing packet is concealed (`concealment`), and a packet that
//! arrives after its turn is late. The waiting time of the fastest packets is the *depth*. `delay_control` derives a target depth from the
//! configured or measured jitter allowance. To correct the depth, the buffer plays slightly faster or slower (`adaptive_resampler`), or pauses
//! or skips if that would take too long. Samples pass unchanged if no correction is needed and the device has the packets' sample rate.
//!
//! The methods may be called in device callbacks: after its creation, the buffer allocates no memory.

mod adaptive_resampler;
mod concealment;
mod delay_control;

use std::time::Duration;

use adaptive_resampler::AdaptiveResampler;
use concealment::{Concealment, FADE_OUT_DIVISOR};
use delay_control::{Adjustment, DelayController};
use serde::{Deserialize, Serialize};

pub use delay_control::BufferDepth;

use super::convert::ResamplerError;
use crate::time::Time;

/// Maximum of [`JitterBufferConfig::jitter_allowance`].
pub const MAX_JITTER_ALLOWANCE: Duration = Duration::from_secs(1);

/// Additional capacity for packets that arrive earlier than expected.
const EARLY_CAPACITY: Duration = Duration::from_secs(1);

/// Format of the packets and of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterBufferConfig {
    /// Sample rate of the packets in Hz.
    pub rate: u32,
    /// Interleaved channels of input and output.
    pub channels: u16,
    /// Samples per channel in each packet. The last packet and truncated packets have fewer samples.
    pub frame_samples: u32,
    /// Sample rate of the device in Hz.
    pub device_rate: u32,
    /// Expected frames per device callback.
    pub device_block_frames: u32,
    /// A packet is played if it is slower than the fastest packets by at most this time. Packets that are even slower can arrive too late.
    /// `None` if the jitter allowance is measured from recent packets.
    pub jitter_allowance: Option<Duration>,
}

impl JitterBufferConfig {
    /// Duration of one device callback.
    pub fn block_duration(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.device_block_frames) / f64::from(self.device_rate.max(1)))
    }

    /// Duration of the audio that fits in the buffer.
    pub fn capacity(&self) -> Duration {
        MAX_JITTER_ALLOWANCE + EARLY_CAPACITY + self.block_duration()
    }
}

/// Statistics of a jitter buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JitterBufferStats {
    /// Packets played.
    pub played: u64,
    /// Packets that had not arrived when they were due for playback.
    pub concealed: u64,
    /// Packets that arrived after their turn to be played.
    pub late: u64,
    /// Maximum lateness of a late packet.
    pub max_lateness: Duration,
    /// Packets dropped because their slot was still occupied.
    pub early: u64,
    /// Packets that were buffered but not played. Playback started at a later packet or skipped to a later position.
    pub skipped: u64,
    /// NaN and infinite samples in buffered packets, played as 0.
    pub non_finite_samples: u64,
    /// Number of times that playback paused or skipped to correct the depth of the buffer.
    pub resyncs: u64,
    /// Time that the fastest packet of each second waits in the jitter buffer; `None` before the first measurement.
    pub depth: Option<BufferDepth>,
    /// Jitter allowance when these statistics were read.
    pub jitter_allowance: Duration,
    /// Rate correction when these statistics were read, in ppm; positive values play faster.
    pub rate_correction_ppm: f64,
}

/// Plays packets on a device.
pub struct JitterBuffer {
    channels: usize,
    frame_samples: i64,
    rate: f64,
    slots: PacketSlots,
    concealment: Concealment,
    resampler: AdaptiveResampler,
    delay_controller: DelayController,
    /// Next frame to play, counted from the first sent frame; `None` before the first packet.
    play_position: Option<i64>,
    /// Remaining frames of a pause.
    pause_frames: u64,
    /// Number of packets that the client has sent so far. Packets from this index on have not been sent, so they do not count as missing.
    sent_packets: u64,
    /// Index of the last concealed packet.
    last_concealed: Option<u64>,
    stats: JitterBufferStats,
}

impl JitterBuffer {
    /// Creates an empty jitter buffer. Fails if the rates cannot be converted.
    pub fn new(config: JitterBufferConfig) -> Result<Self, ResamplerError> {
        let JitterBufferConfig { rate, channels, frame_samples, device_rate, device_block_frames, .. } = config;
        let resampler = AdaptiveResampler::new(rate, device_rate, channels, device_block_frames)?;
        let slots = config.capacity().as_secs_f64() * f64::from(rate) / f64::from(frame_samples.max(1));
        Ok(Self {
            channels: usize::from(channels),
            frame_samples: i64::from(frame_samples.max(1)),
            rate: f64::from(rate),
            slots: PacketSlots::new(slots.ceil() as usize, frame_samples.max(1) as usize * usize::from(channels)),
            concealment: Concealment::new(rate, usize::from(channels), resampler.max_input_frames()),
            delay_controller: DelayController::new(rate, config.block_duration(), config.jitter_allowance),
            resampler,
            play_position: None,
            pause_frames: 0,
            sent_packets: 0,
            last_concealed: None,
            stats: JitterBufferStats::default(),
        })
    }

    /// Sets the number of AUDIO packets that the client has sent over the network so far.
    pub fn set_sent_packets(&mut self, packets: u64) {
        self.sent_packets = packets;
    }

    /// Adds a packet of interleaved samples that arrived at `at`. Ignores indexes that were never sent. NaN and infinite samples
    /// become 0; all other samples are clamped to full scale.
    pub fn on_packet(&mut self, index: u64, at: Time, samples: &[f32]) {
        if index >= self.sent_packets {
            return;
        }
        let start = index.cast_signed() * self.frame_samples;
        let late_by = self.play_position.map_or(0, |position| position - start).max(0);
        self.delay_controller.on_packet(at, start, late_by > 0);
        if late_by > 0 {
            self.stats.late += 1;
            self.stats.max_lateness = self.stats.max_lateness.max(Duration::from_secs_f64(late_by as f64 / self.rate));
        } else {
            self.stats.early += u64::from(!self.slots.insert(index, samples));
        }
    }

    /// Fills `out` with the next interleaved frames at the device rate. `now` is the time of the callback.
    pub fn fill(&mut self, out: &mut [f32], now: Time) {
        if self.play_position.is_none()
            && !self.slots.is_empty()
            && let Some(position) = self.delay_controller.start_position(now)
        {
            self.seek(position);
        }
        let Some(before) = self.play_position else { return out.fill(0.0) };
        let (left, was_paused) = (self.resampler.ready_input_frames(), self.pause_frames > 0);
        let mut taken = left;
        let mut rest = out;
        while !rest.is_empty() {
            let written = self.resampler.read(rest);
            rest = &mut rest[written..];
            if !rest.is_empty() {
                let frames = self.resampler.next_input_frames();
                self.fill_block(frames);
                self.resampler.process(self.concealment.block(frames));
                taken += frames;
            }
        }
        match self.delay_controller.on_fill(now, before - left as i64, taken, was_paused) {
            None => {}
            Some(Adjustment::Speed(ratio)) => self.resampler.set_speed(ratio),
            Some(Adjustment::Pause(frames)) => {
                self.pause_frames = frames;
                self.stats.resyncs += 1;
            }
            Some(Adjustment::Skip(frames)) => {
                self.seek(self.play_position.unwrap_or(before) + frames.cast_signed());
                self.stats.resyncs += 1;
            }
        }
    }

    /// Continues playback at `position`, which is never before the current position. Drops the packets before `position`.
    fn seek(&mut self, position: i64) {
        if position > 0 {
            self.stats.skipped += self.slots.remove_before((position / self.frame_samples).cast_unsigned());
            self.concealment.mark_discontinuity();
        }
        self.play_position = Some(position);
    }

    /// Takes `frames` frames from the play position and conceals missing frames.
    fn fill_block(&mut self, frames: usize) {
        let Some(mut position) = self.play_position else { return };
        self.concealment.start_block();
        let mut left = frames as i64;
        while left > 0 {
            if self.pause_frames > 0 {
                let taken = left.min(self.pause_frames.cast_signed());
                self.pause_frames -= taken.cast_unsigned();
                self.concealment.push_concealed(taken as usize);
                left -= taken;
                continue;
            }
            let taken;
            if position < 0 {
                taken = left.min(-position);
                self.concealment.push_silence(taken as usize);
            } else {
                let (index, within) = ((position / self.frame_samples).cast_unsigned(), position % self.frame_samples);
                taken = left.min(self.frame_samples - within);
                let samples = self.slots.get(index);
                if samples.is_none() && index < self.sent_packets && self.last_concealed.replace(index) != Some(index) {
                    self.stats.concealed += 1;
                }
                // The concealment fades out the audio both in a gap and after the last packet.
                let available = samples.unwrap_or(&[]);
                let available = &available[(within as usize * self.channels).min(available.len())..];
                let available = &available[..(taken as usize).min(available.len() / self.channels) * self.channels];
                self.concealment.push_samples(available);
                let missing = taken as usize - available.len() / self.channels;
                if missing > 0 {
                    self.concealment.push_concealed(missing);
                }
                if within + taken == self.frame_samples {
                    self.stats.played += u64::from(self.slots.remove(index));
                }
            }
            position += taken;
            left -= taken;
        }
        self.play_position = Some(position);
    }

    /// Whether no packet is buffered. After the last packet is removed, the jitter buffer continues to output audio for up to
    /// [`Self::drain_duration`].
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Maximum time from the removal of the last buffered packet to the end of the audio output.
    pub fn drain_duration(&self) -> Duration {
        Duration::from_secs(1) / FADE_OUT_DIVISOR
            + Duration::from_secs_f64(self.resampler.max_buffered_frames() as f64 / self.rate)
    }

    /// Records that the device lost frames, so that the depth is evaluated again soon.
    pub fn on_discontinuity(&mut self) {
        self.delay_controller.on_discontinuity();
    }

    /// Statistics so far.
    pub fn stats(&self) -> JitterBufferStats {
        JitterBufferStats {
            non_finite_samples: self.slots.non_finite_samples,
            depth: self.delay_controller.depth(),
            jitter_allowance: self.delay_controller.jitter_allowance(),
            rate_correction_ppm: (self.resampler.speed() - 1.0) * 1e6,
            ..self.stats
        }
    }
}

/// A buffered packet.
#[derive(Clone, Copy, Debug)]
struct Slot {
    index: u64,
    /// Number of samples, all channels.
    len: usize,
}

/// Buffered packets, each in the slot `index % slots`.
#[derive(Debug)]
struct PacketSlots {
    /// Maximum samples per packet, all channels.
    max_samples: usize,
    slots: Vec<Option<Slot>>,
    samples: Vec<f32>,
    /// NaN and infinite samples so far.
    non_finite_samples: u64,
}

impl PacketSlots {
    fn new(slots: usize, max_samples: usize) -> Self {
        let slots = slots.max(1);
        Self { max_samples, slots: vec![None; slots], samples: vec![0.0; slots * max_samples], non_finite_samples: 0 }
    }

    fn slot_index(&self, index: u64) -> usize {
        (index % self.slots.len() as u64) as usize
    }

    /// Buffers a packet, truncated to the maximum length. NaN and infinite samples become 0 and are counted. All other samples are clamped
    /// to full scale to protect the listener. Returns false if another packet occupies the slot.
    fn insert(&mut self, index: u64, samples: &[f32]) -> bool {
        let slot = self.slot_index(index);
        if let Some(packet) = self.slots[slot] {
            return packet.index == index;
        }
        let len = samples.len().min(self.max_samples);
        self.slots[slot] = Some(Slot { index, len });
        let limit = |sample: &f32| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        let kept = &mut self.samples[slot * self.max_samples..][..len];
        kept.iter_mut().zip(samples).for_each(|(kept, sample)| *kept = limit(sample));
        self.non_finite_samples += samples[..len].iter().filter(|sample| !sample.is_finite()).count() as u64;
        true
    }

    /// Returns the samples of a packet.
    fn get(&self, index: u64) -> Option<&[f32]> {
        let slot = self.slot_index(index);
        let packet = self.slots[slot].filter(|packet| packet.index == index)?;
        Some(&self.samples[slot * self.max_samples..][..packet.len])
    }

    /// Removes a packet. Returns whether it was buffered.
    fn remove(&mut self, index: u64) -> bool {
        let slot = self.slot_index(index);
        self.slots[slot].take_if(|packet| packet.index == index).is_some()
    }

    /// Removes all packets before `index` and returns their number.
    fn remove_before(&mut self, index: u64) -> u64 {
        self.slots.iter_mut().filter_map(|slot| slot.take_if(|packet| packet.index < index)).count() as u64
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}
