//! The jitter buffer: packets in any order with arbitrary samples and times, and callbacks of any length. Every played sample is finite and
//! within full scale. No packet is counted twice.

use std::time::Duration;

use jamjam_dev::audio::jitter_buffer::{JitterBuffer, JitterBufferConfig, JitterBufferStats};
use jamjam_dev::time::Time;

use crate::input::Input;

/// Maximum number of steps. A step is a packet, a callback or a discontinuity.
const MAX_STEPS: usize = 48;

/// Maximum number of frames that the device takes. Resampling a frame takes much longer than copying it.
const MAX_COPIED_FRAMES: usize = 4_000;
const MAX_RESAMPLED_FRAMES: usize = 400;

/// Full scale, and the additional gain of the filter if the device has another rate than the packets.
const MAX_COPIED: f32 = 1.0;
const MAX_RESAMPLED: f32 = 4.0;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let is_slow_input = input.is_one_in(8);
    let config = config_of(&mut input, is_slow_input);
    let Ok(mut buffer) = JitterBuffer::new(config) else {
        assert!(config.rate == 0 || config.device_rate == 0 || config.channels == 0, "{config:?}");
        return;
    };
    assert!(buffer.is_empty() && buffer.drain_duration() < Duration::from_secs(2));
    let mut run = Run { config, now: Time::from_millis(1_000), sent: 0, added: 0, frames: 0, stats: buffer.stats() };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut buffer, &mut input);
    }
}

fn config_of(input: &mut Input<'_>, is_slow_input: bool) -> JitterBufferConfig {
    // The rates are low, so that the buffer of two seconds is small.
    let rate = input.pick(&[1_000, 4_000, 8_000, 1_000, 2_000, 0, 4_000, 1_003]);
    let device_rate = match input.byte() {
        // The filter for another rate takes a millisecond to create.
        128.. if is_slow_input => input.pick(&[2_000, 8_000, 1_001, 0]),
        _ => rate,
    };
    let allowance = input.byte();
    JitterBufferConfig {
        rate,
        channels: input.pick(&[1, 2, 1, 0, 3, 2, 1, 2]),
        frame_samples: u32::from(input.byte()),
        device_rate,
        device_block_frames: u32::from(input.byte()),
        jitter_allowance: (allowance > 0).then(|| Duration::from_millis(4 * u64::from(allowance))),
    }
}

struct Run {
    config: JitterBufferConfig,
    now: Time,
    sent: u64,
    /// Packets passed to the buffer.
    added: u64,
    /// Frames that the device has taken.
    frames: usize,
    stats: JitterBufferStats,
}

impl Run {
    fn step(&mut self, buffer: &mut JitterBuffer, input: &mut Input<'_>) {
        match input.below(8) {
            0 => {
                self.sent += u64::from(input.byte());
                buffer.set_sent_packets(self.sent);
            }
            1 => buffer.on_discontinuity(),
            2 => self.now += Duration::from_micros(u64::from(input.u16()) * 16),
            3 => {
                // Regular packets and callbacks.
                for _ in 0..=input.below(16) {
                    self.sent += 1;
                    buffer.set_sent_packets(self.sent);
                    self.packet(buffer, self.sent - 1, 0.5);
                    self.pass_one_packet(buffer);
                }
            }
            4 => {
                let index = self.sent.saturating_sub(u64::from(input.byte()));
                let sample = f32::from_le_bytes(input.u32().to_le_bytes());
                self.packet(buffer, index, sample);
            }
            5 => {
                let index = if input.flag() { u64::MAX - u64::from(input.byte()) } else { self.sent + 1 };
                self.packet(buffer, index, 1.0);
            }
            _ => {
                let frames = usize::from(input.byte());
                self.fill(buffer, frames);
            }
        }
    }

    fn packet(&mut self, buffer: &mut JitterBuffer, index: u64, sample: f32) {
        let samples = vec![sample; self.config.frame_samples as usize * usize::from(self.config.channels)];
        // A truncated packet ends within a frame.
        let len = if index.is_multiple_of(7) { samples.len() / 2 } else { samples.len() };
        let mut samples = samples[..len].to_vec();
        if index % 7 == 3 {
            // A packet of a client with longer packets.
            samples.resize(2 * len + 1, sample);
        }
        buffer.on_packet(index, self.now, &samples);
        self.added += u64::from(index < self.sent);
    }

    /// Advances the clock by the duration of a packet, and plays as much.
    fn pass_one_packet(&mut self, buffer: &mut JitterBuffer) {
        let duration = f64::from(self.config.frame_samples.max(1)) / f64::from(self.config.rate.max(1));
        self.now += Duration::from_secs_f64(duration);
        self.fill(buffer, (duration * f64::from(self.config.device_rate)) as usize);
    }

    fn fill(&mut self, buffer: &mut JitterBuffer, frames: usize) {
        self.frames += frames;
        let is_copied = self.config.rate == self.config.device_rate;
        if self.frames > if is_copied { MAX_COPIED_FRAMES } else { MAX_RESAMPLED_FRAMES } {
            return;
        }
        let mut out = vec![f32::NAN; frames * usize::from(self.config.channels)];
        buffer.fill(&mut out, self.now);
        let max = if is_copied { MAX_COPIED } else { MAX_RESAMPLED };
        assert!(out.iter().all(|sample| sample.abs() <= max), "a sample is not in range: {:?}", self.config);
        self.check_stats(buffer.stats());
    }

    fn check_stats(&mut self, stats: JitterBufferStats) {
        let before = std::mem::replace(&mut self.stats, stats);
        let counts = |stats: &JitterBufferStats| {
            let JitterBufferStats { played, concealed, late, early, skipped, non_finite_samples, resyncs, .. } = *stats;
            [played, concealed, late, early, skipped, non_finite_samples, resyncs]
        };
        assert!(counts(&before).iter().zip(counts(&stats)).all(|(before, after)| *before <= after));
        assert!(stats.played + stats.late + stats.early + stats.skipped <= self.added, "{stats:?}");
        assert!(stats.concealed <= self.sent && stats.max_lateness >= before.max_lateness);
        assert!(stats.rate_correction_ppm.abs() <= 2_001.0, "{}", stats.rate_correction_ppm);
        assert!(stats.depth.is_none_or(|depth| depth.min.is_finite() && depth.min <= depth.max));
        assert!(stats.jitter_allowance <= Duration::from_secs(2));
    }
}
