//! Waveform of a run for the HTML report: the range of the sent and the returned samples in up to [`MAX_COLUMNS`] columns, the gaps, and the
//! beginning of the audio itself.
//!
//! Memory is bounded, and the result does not depend on the order in which the packets were added.

use std::io::Cursor;
use std::ops::Range;

use hound::{SampleFormat, WavSpec, WavWriter};
use jamjam_core::audio::convert::Resampler;

/// Maximum number of columns. If the run needs more columns, pairs of columns are merged.
pub const MAX_COLUMNS: usize = 1_600;

/// Sample rate of [`Waveform::preview`] in Hz.
const PREVIEW_RATE: u32 = 12_000;

/// Smallest and largest sample; `None` if there are no samples.
pub type PeakRange = Option<(f32, f32)>;

fn merge_peaks(one: PeakRange, other: PeakRange) -> PeakRange {
    one.into_iter().chain(other).reduce(|(min, max), (other_min, other_max)| (min.min(other_min), max.max(other_max)))
}

/// One column of the waveform.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
#[derive(Clone)]
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
    sent: AudioExcerpt,
    returned: AudioExcerpt,
}

impl Waveform {
    /// Creates an empty waveform for packets of `frame_samples` samples per channel. It also keeps the beginning of the sent and the
    /// returned audio as 16-bit samples, up to `max_bytes` each.
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

    /// Calls `update` for each column that overlaps the range `samples`, with the overlap.
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

    /// Encodes the first `seconds` of the sent or the returned audio as a WAV file with 16 bits, 12 kHz and one channel, in which
    /// missing samples are silent. `None` if no audio was kept.
    pub fn preview(&self, side: WaveformSide, seconds: u64) -> Option<Vec<u8>> {
        let AudioExcerpt { samples, max_samples } = match side {
            WaveformSide::Sent => &self.sent,
            WaveformSide::Returned => &self.returned,
        };
        let channels = usize::from(self.channels);
        let frames =
            (seconds * u64::from(self.rate)).min(self.sent_samples).min((max_samples / channels) as u64) as usize;
        if samples.is_empty() {
            return None;
        }
        let mean =
            |frame: &[i16]| frame.iter().map(|sample| f32::from(*sample)).sum::<f32>() / channels as f32 / 32_768.0;
        let mut mono: Vec<f32> = samples.chunks(channels).map(mean).take(frames).collect();
        mono.resize(frames, 0.0);
        if self.rate != PREVIEW_RATE {
            let mut resampler = Resampler::new(self.rate, PREVIEW_RATE, 1).ok()?;
            let mut resampled = Vec::new();
            resampler.push(&mono, &mut resampled);
            resampler.finish(&mut resampled);
            mono = resampled;
        }
        let spec =
            WavSpec { channels: 1, sample_rate: PREVIEW_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec).ok()?;
        mono.into_iter().try_for_each(|sample| writer.write_sample(to_s16(sample))).ok()?;
        writer.finalize().ok()?;
        Some(file.into_inner())
    }
}

/// The beginning of the sent or the returned audio as 16-bit samples. By default, no audio is stored.
#[derive(Clone, Default)]
struct AudioExcerpt {
    max_samples: usize,
    samples: Vec<i16>,
}

impl AudioExcerpt {
    fn new(max_bytes: usize) -> Self {
        Self { max_samples: max_bytes / size_of::<i16>(), samples: Vec::new() }
    }

    /// Writes samples at `start`, which counts samples of all channels.
    fn write(&mut self, start: u64, samples: &[f32]) {
        let start = start.min(self.max_samples as u64) as usize;
        let end = (start + samples.len()).min(self.max_samples);
        if start < end && self.samples.capacity() == 0 {
            // Allocates the maximum at once, so that growth never copies the buffer.
            self.samples.reserve_exact(self.max_samples);
        }
        self.samples.resize(self.samples.len().max(end), 0);
        self.samples[start..].iter_mut().zip(samples).for_each(|(stored, sample)| *stored = to_s16(*sample));
    }
}

/// Rounds a sample to nearest. Saturates at full scale; NaN becomes 0.
fn to_s16(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_is_a_16_bit_mono_file_with_silence_for_missing_samples() {
        let mut waveform = Waveform::new(PREVIEW_RATE, 2, 2, 8 * 2);
        assert_eq!(waveform.preview(WaveformSide::Returned, 30), None, "nothing returned");
        // Four packets of two frames, of which the first is lost and the last does not fit.
        for index in 0..4 {
            waveform.on_sent(index, &[0.5, 0.25, -0.5, -1.0]);
        }
        waveform.on_returned(1, &[0.5, 0.25, -0.5, -1.0]);
        let header = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\xe0\x2e\0\0\xc0\x5d\0\0\x02\0\x10\0data\x08\0\0\0";
        let expected = [&header[..], &[0, 0, 0, 0, 0, 0x30, 0, 0xa0]].concat();
        assert_eq!(waveform.preview(WaveformSide::Returned, 30), Some(expected));
    }

    #[test]
    fn preview_of_48_khz_keeps_duration_and_low_tones_without_aliases() {
        let level = |hz: f32| {
            let mut waveform = Waveform::new(48_000, 1, 48_000, 1 << 20);
            let tone: Vec<f32> =
                (0..48_000).map(|n| (n as f32 * hz * std::f32::consts::TAU / 48_000.0).sin()).collect();
            waveform.on_sent(0, &tone);
            let file = waveform.preview(WaveformSide::Sent, 30).expect("a file");
            let samples: Vec<i16> = hound::WavReader::new(&*file).expect("WAV").samples().map(Result::unwrap).collect();
            assert_eq!(samples.len(), 12_000);
            samples[3_000..9_000].iter().copied().max().expect("samples")
        };
        // A tone of 10 kHz would be heard as one of 2 kHz.
        assert!(level(440.0) > 32_000 && level(10_000.0) < 328, "{} {}", level(440.0), level(10_000.0));
    }

    #[test]
    fn samples_are_rounded_to_nearest_and_clamped_to_full_scale() {
        let samples = [0.5, -1.0, 1.0, 7.0, f32::NEG_INFINITY, f32::NAN, 1.4 / 32_768.0, -1.6 / 32_768.0];
        assert_eq!(samples.map(to_s16), [0x4000, i16::MIN, i16::MAX, i16::MAX, i16::MIN, 0, 1, -2]);
        for value in i16::MIN..=i16::MAX {
            assert_eq!(to_s16(f32::from(value) / 32_768.0), value);
        }
    }
}
