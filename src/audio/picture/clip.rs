//! Sound that is kept while it is short.

use crate::audio::pcm_out::{SampleFormat, header};

const FORMAT: SampleFormat = SampleFormat::S16;

/// Sound in the bytes of 16-bit samples.
pub(super) struct Clip {
    most_bytes: usize,
    /// `None`: there was more than that.
    bytes: Option<Vec<u8>>,
    /// The packet that is put in.
    packet: Vec<u8>,
}

impl Clip {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, bytes: Some(Vec::new()), packet: Vec::new() }
    }

    /// Puts samples in their place, counted in samples of all channels.
    pub(super) fn put(&mut self, start: u64, samples: &[f32]) {
        let Some(bytes) = &mut self.bytes else { return };
        let size = FORMAT.bytes_per_sample() as u64;
        let end = start.saturating_add(samples.len() as u64).saturating_mul(size);
        if end > self.most_bytes as u64 {
            self.bytes = None;
            return;
        }
        let (start, end) = ((start * size) as usize, end as usize);
        if bytes.capacity() == 0 {
            // Once, so that it never has to move.
            bytes.reserve_exact(self.most_bytes);
        }
        if end > bytes.len() {
            bytes.resize(end, 0);
        }
        self.packet.clear();
        FORMAT.encode(samples, &mut self.packet);
        bytes[start..end].copy_from_slice(&self.packet);
    }

    /// The whole file, of so many samples a channel, unless they are too many.
    pub(super) fn wav(&self, rate: u32, channels: u16, samples: u64) -> Option<Vec<u8>> {
        let length = samples.checked_mul(u64::from(channels) * FORMAT.bytes_per_sample() as u64)?;
        let length = u32::try_from(length).ok().filter(|length| *length as usize <= self.most_bytes)?;
        let mut file = header(FORMAT, rate, channels, length);
        file.extend_from_slice(self.bytes.as_deref()?);
        file.resize(FORMAT.header_len() + length as usize, 0);
        Some(file)
    }
}
