//! Waveform of a run for the HTML report. Up to [`MAX_COLUMNS`] columns contain the range of the sent and the returned samples. The
//! waveform also contains the gaps and, for short runs, the audio itself.
//!
//! Memory is bounded. The result depends only on the packets, not on the order in which they were added.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::wav_writer::{WavSampleFormat, to_s16, wav_header};

/// Maximum number of columns. If the run needs more columns, pairs of columns are merged.
pub const MAX_COLUMNS: usize = 1_600;

/// Smallest and largest sample; `None` if there are no samples.
pub type PeakRange = Option<(f32, f32)>;

fn merge_peaks(one: PeakRange, other: PeakRange) -> PeakRange {
    one.into_iter().chain(other).reduce(|(min, max), (other_min, other_max)| (min.min(other_min), max.max(other_max)))
}

/// One column of the waveform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaveformColumn {
    /// Minimum and maximum of the sent samples of all channels.
    pub sent: PeakRange,
    /// Minimum and maximum of the returned samples of all channels.
    pub returned: PeakRange,
    /// Samples per channel that did not return in time.
    pub lost_samples: u64,
}

impl WaveformColumn {
    fn merge(self, other: Self) -> Self {
        Self {
            sent: merge_peaks(self.sent, other.sent),
            returned: merge_peaks(self.returned, other.returned),
            lost_samples: self.lost_samples + other.lost_samples,
        }
    }
}

/// The sent or the returned audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaveformSide {
    /// Sent audio.
    Sent,
    /// Returned audio.
    Returned,
}

/// Collects the waveform of a run. A serialized waveform does not contain the audio.
#[derive(Clone, Serialize, Deserialize)]
pub struct Waveform {
    /// Sample rate in Hz.
    pub rate: u32,
    /// Number of channels.
    pub channels: u16,
    frame_samples: u32,
    /// Number of sent samples per channel.
    pub sent_samples: u64,
    /// Samples per channel in each column; the last column may have fewer.
    pub samples_per_column: u64,
    /// The columns so far.
    pub columns: Vec<WaveformColumn>,
    #[serde(skip)]
    sent: AudioExcerpt,
    #[serde(skip)]
    returned: AudioExcerpt,
}

impl Waveform {
    /// Creates an empty waveform for packets of `frame_samples` samples per channel. Also keeps the sent audio and the returned audio as
    /// 16-bit samples. Discards the sent or the returned audio if it exceeds `max_bytes`.
    pub fn new(rate: u32, channels: u16, frame_samples: u32, max_bytes: usize) -> Self {
        Self {
            rate,
            channels: channels.max(1),
            frame_samples,
            sent_samples: 0,
            samples_per_column: 1,
            columns: Vec::with_capacity(MAX_COLUMNS),
            sent: AudioExcerpt::new(max_bytes),
            returned: AudioExcerpt::new(max_bytes),
        }
    }

    /// Adds a sent packet.
    pub fn on_sent(&mut self, index: u64, samples: &[f32]) {
        let start = self.packet_offset(index);
        let end = start + (samples.len() / usize::from(self.channels)) as u64;
        self.sent_samples = self.sent_samples.max(end);
        self.add_samples(start, samples, |column| &mut column.sent);
        self.sent.write(start * u64::from(self.channels), samples);
    }

    /// Adds a returned packet.
    pub fn on_returned(&mut self, index: u64, samples: &[f32]) {
        let start = self.packet_offset(index);
        self.add_samples(start, samples, |column| &mut column.returned);
        self.returned.write(start * u64::from(self.channels), samples);
    }

    /// Adds a packet that did not return in time. Call this method at most once per packet.
    pub fn on_lost(&mut self, index: u64) {
        let start = self.packet_offset(index);
        // The last packet may be short.
        let end = (start + u64::from(self.frame_samples)).min(self.sent_samples).max(start);
        self.for_each_column(start..end, |column, range| column.lost_samples += range.end - range.start);
    }

    fn packet_offset(&self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.frame_samples))
    }

    /// Ignores NaN and infinite samples.
    fn add_samples(&mut self, start: u64, samples: &[f32], side: impl Fn(&mut WaveformColumn) -> &mut PeakRange) {
        let channels = usize::from(self.channels);
        let end = start + (samples.len() / channels) as u64;
        self.for_each_column(start..end, |column, range| {
            let [from, to] = [range.start, range.end].map(|at| (at - start) as usize * channels);
            for sample in samples[from..to].iter().copied().filter(|sample| sample.is_finite()) {
                let (min, max) = side(column).get_or_insert((sample, sample));
                (*min, *max) = (min.min(sample), max.max(sample));
            }
        });
    }

    /// Calls `update` for each column that overlaps the range `samples`. The second argument of `update` is the overlap of `samples` with
    /// the column.
    fn for_each_column(&mut self, samples: Range<u64>, mut update: impl FnMut(&mut WaveformColumn, Range<u64>)) {
        self.extend_to(samples.end);
        let mut at = samples.start;
        while at < samples.end {
            let next = ((at / self.samples_per_column + 1) * self.samples_per_column).min(samples.end);
            update(&mut self.columns[(at / self.samples_per_column) as usize], at..next);
            at = next;
        }
    }

    /// Adds columns until they cover `samples` samples. If there would be too many columns, merges pairs of columns.
    fn extend_to(&mut self, samples: u64) {
        while samples.div_ceil(self.samples_per_column) > MAX_COLUMNS as u64 {
            let half = self.columns.len().div_ceil(2);
            for at in 0..half {
                let second = self.columns.get(2 * at + 1).copied().unwrap_or_default();
                self.columns[at] = self.columns[2 * at].merge(second);
            }
            self.columns.truncate(half);
            self.samples_per_column *= 2;
        }
        let columns = samples.div_ceil(self.samples_per_column) as usize;
        self.columns.resize(columns.max(self.columns.len()), WaveformColumn::default());
    }

    /// Encodes the sent or the returned audio as a 16-bit WAV file. The file has the length of the sent audio. Missing samples are silent.
    /// `None` if the audio is too long.
    pub fn to_wav(&self, side: WaveformSide) -> Option<Vec<u8>> {
        let excerpt = match side {
            WaveformSide::Sent => &self.sent,
            WaveformSide::Returned => &self.returned,
        };
        excerpt.to_wav(self.rate, self.channels, self.sent_samples)
    }
}

const EXCERPT_FORMAT: WavSampleFormat = WavSampleFormat::S16;

/// The sent or the returned audio as 16-bit samples. By default, no audio is stored.
#[derive(Clone, Default)]
struct AudioExcerpt {
    max_bytes: usize,
    /// `None` after the audio exceeded `max_bytes`.
    bytes: Option<Vec<u8>>,
}

impl AudioExcerpt {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: Some(Vec::new()) }
    }

    /// Writes samples at `start`, which counts samples of all channels.
    fn write(&mut self, start: u64, samples: &[f32]) {
        let Some(bytes) = &mut self.bytes else { return };
        let size = EXCERPT_FORMAT.bytes_per_sample() as u64;
        let end = start.saturating_add(samples.len() as u64).saturating_mul(size);
        if end > self.max_bytes as u64 {
            self.bytes = None;
            return;
        }
        let (start, end) = ((start * size) as usize, end as usize);
        if bytes.capacity() == 0 {
            // Allocates the maximum at once, so that growth never copies the buffer.
            bytes.reserve_exact(self.max_bytes);
        }
        if end > bytes.len() {
            bytes.resize(end, 0);
        }
        for (bytes, sample) in bytes[start..end].as_chunks_mut().0.iter_mut().zip(samples) {
            *bytes = to_s16(*sample).to_le_bytes();
        }
    }

    /// Encodes a file of `samples` samples per channel. Returns `None` if the samples would exceed `max_bytes`.
    fn to_wav(&self, rate: u32, channels: u16, samples: u64) -> Option<Vec<u8>> {
        let length = samples.checked_mul(u64::from(channels) * EXCERPT_FORMAT.bytes_per_sample() as u64)?;
        let length = u32::try_from(length).ok().filter(|length| *length as usize <= self.max_bytes)?;
        let mut file = wav_header(EXCERPT_FORMAT, rate, channels, length);
        file.extend_from_slice(self.bytes.as_deref()?);
        file.resize(EXCERPT_FORMAT.header_len() + length as usize, 0);
        Some(file)
    }
}
