//! What was sent and what came back as the two channels of one WAV file: the sent sound left, and right beside it what came
//! back for it, so that no delay shows, with silence where nothing came.

use std::io;
use std::path::Path;

use super::wave::{Kept, Unfinished, Wave};
use crate::audio::pcm_out::SampleFormat;
use crate::flow::Form;

/// The channels of the file.
const CHANNELS: u16 = 2;
const SENT: usize = 0;
const RETURNED: usize = 1;

/// A recording of both sides.
pub struct Both {
    wave: Wave,
    channels: usize,
    mixed: Vec<f32>,
}

impl Both {
    /// Creates the file. Where AUDIO has two channels each side is their mean.
    pub fn create(path: &Path, format: SampleFormat, form: Form) -> io::Result<Self> {
        let wave = Wave::create(path, format, CHANNELS, form)?;
        Ok(Self { wave, channels: usize::from(form.channels.max(1)), mixed: Vec::new() })
    }

    pub(super) fn on_sent(&mut self, index: u64, samples: &[f32]) {
        self.put(index, SENT, samples);
    }

    pub(super) fn on_returned(&mut self, index: u64, samples: &[f32]) {
        self.put(index, RETURNED, samples);
    }

    fn put(&mut self, index: u64, channel: usize, samples: &[f32]) {
        if self.channels == 1 {
            return self.wave.put_channel(index, channel, samples);
        }
        self.mixed.clear();
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / frame.len() as f32;
        self.mixed.extend(samples.chunks_exact(self.channels).map(mean));
        self.wave.put_channel(index, channel, &self.mixed);
    }

    /// Completes the file for `sent` samples.
    pub fn finish(self, sent: u64) -> Result<Kept, Unfinished> {
        self.wave.finish(sent)
    }
}
