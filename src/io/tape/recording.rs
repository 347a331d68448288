//! What came back as a WAV file, with silence where nothing came.

use std::io;
use std::path::Path;

use super::wave::{Kept, Unfinished, Wave};
use crate::audio::pcm_out::SampleFormat;
use crate::flow::Form;

/// A recording of what comes back.
pub struct Recording(Wave);

impl Recording {
    /// Creates the file.
    pub fn create(path: &Path, format: SampleFormat, form: Form) -> io::Result<Self> {
        Wave::create(path, format, form.channels, form).map(Self)
    }

    pub(super) fn on_returned(&mut self, index: u64, samples: &[f32]) {
        self.0.put(index, samples);
    }

    /// Completes the file for `sent` samples a channel: what has not come back is silence, at the end too.
    pub fn finish(self, sent: u64) -> Result<Kept, Unfinished> {
        self.0.finish(sent)
    }
}
