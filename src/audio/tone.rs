//! A sine tone for when there is no file at hand.

use std::f64::consts::TAU;

/// A sine, the same on every channel, that goes on for as long as it is asked.
///
/// The phase is a 64-bit fraction of a turn and is computed from the number of the frame, never summed up: frame
/// 10,000,000,000 is as exact as the first, so a tone of hours neither drifts nor clicks.
#[derive(Clone, Debug)]
pub struct Tone {
    /// Turns per frame, as a fraction of 2^64.
    step: u64,
    channels: u16,
    amplitude: f64,
    frame: u64,
}

impl Tone {
    /// A tone of `hz` (at most half of `rate`) at `rate` frames a second. `amplitude` 1.0 is full scale.
    pub fn new(hz: f64, rate: u32, channels: u16, amplitude: f32) -> Self {
        let turns_per_frame = hz / f64::from(rate);
        Self { step: (turns_per_frame * TWO_POW_64) as u64, channels, amplitude: f64::from(amplitude), frame: 0 }
    }

    /// Continues as if `frame` frames had been made already.
    pub fn seek(&mut self, frame: u64) {
        self.frame = frame;
    }

    /// Appends the next `frames` frames to `out`, interleaved.
    pub fn fill(&mut self, frames: usize, out: &mut Vec<f32>) {
        for _ in 0..frames {
            let turn = self.step.wrapping_mul(self.frame) as f64 / TWO_POW_64;
            let sample = (self.amplitude * (TAU * turn).sin()) as f32;
            out.extend(std::iter::repeat_n(sample, usize::from(self.channels)));
            self.frame += 1;
        }
    }
}

const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
