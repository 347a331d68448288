//! Level and clipping of a channel, and the [`SourceMeter`] for the input.
//!
//! A clip is a run of at least [`MIN_CLIP_SAMPLES`] consecutive full-scale samples of one channel. Packets may be added in any order. A run
//! inside one packet is counted when the packet is added. A run that touches the edge of a packet stays *open*, so that it and its
//! continuation in the adjacent packet count as one clip. The input is measured before mixing and resampling, because a resampler changes
//! peaks and hides clipping.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Minimum magnitude of a full-scale sample: the largest value of a 16-bit converter.
pub const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

/// Whether a sample is at full scale.
fn is_full_scale(sample: f32) -> bool {
    sample.abs() >= FULL_SCALE && sample.is_finite()
}

/// Level of one channel. A full-scale sine has a peak of 1 and a mean square of 0.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelLevel {
    /// Finite samples.
    pub finite_samples: u64,
    /// NaN and infinite samples. All other fields ignore these samples.
    pub non_finite_samples: u64,
    /// Largest magnitude.
    pub sample_peak: f32,
    /// Mean of the squares; 0 without samples.
    pub mean_square: f64,
    /// Number of clips. A clip is a run of at least `MIN_CLIP_SAMPLES` consecutive samples at full scale.
    pub clips: u64,
    /// Samples in clips.
    pub clipped_samples: u64,
    /// Start of the first clip, in samples from the first sent sample.
    pub first_clip_offset: Option<u64>,
}

/// Measures one channel.
#[derive(Clone, Debug)]
struct ChannelMeter {
    level: ChannelLevel,
    sum_of_squares: f64,
    clips: ClipDetector,
}

impl ChannelMeter {
    fn add_samples(&mut self, offset: u64, samples: impl Iterator<Item = f32>) {
        let Self { level, sum_of_squares, clips } = self;
        clips.add_packet(
            offset,
            samples.map(|sample| {
                if !sample.is_finite() {
                    level.non_finite_samples += 1;
                    return false;
                }
                level.finite_samples += 1;
                level.sample_peak = level.sample_peak.max(sample.abs());
                *sum_of_squares += f64::from(sample) * f64::from(sample);
                is_full_scale(sample)
            }),
        );
    }

    fn finish(self) -> ChannelLevel {
        let Self { level, sum_of_squares, clips } = self;
        let ClipTotals { clips, samples: clipped_samples, first_offset: first_clip_offset } = clips.totals();
        let mean_square = if level.finite_samples > 0 { sum_of_squares / level.finite_samples as f64 } else { 0.0 };
        ChannelLevel { mean_square, clips, clipped_samples, first_clip_offset, ..level }
    }
}

/// Measures all channels of the sent or the returned audio.
#[derive(Debug)]
pub(super) struct LevelMeter {
    channels: Vec<ChannelMeter>,
}

impl LevelMeter {
    pub(super) fn new(channels: u16) -> Self {
        let channel =
            || ChannelMeter { level: ChannelLevel::default(), sum_of_squares: 0.0, clips: ClipDetector::new() };
        Self { channels: std::iter::repeat_with(channel).take(usize::from(channels.max(1))).collect() }
    }

    /// Adds interleaved samples at `offset`. Packets can be added in any order.
    pub(super) fn add_packet(&mut self, offset: u64, samples: &[f32]) {
        let frames = samples.chunks_exact(self.channels.len());
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.add_samples(offset, frames.clone().map(|frame| frame[at]));
        }
    }

    /// Samples per channel, finite or not.
    pub(super) fn sample_count(&self) -> u64 {
        self.channels.first().map_or(0, |channel| channel.level.finite_samples + channel.level.non_finite_samples)
    }

    /// Returns the level of each channel.
    pub(super) fn finish(self) -> Vec<ChannelLevel> {
        self.channels.into_iter().map(ChannelMeter::finish).collect()
    }
}

/// Minimum number of consecutive full-scale samples that count as a clip. A peak that just reaches full scale has only one or two
/// full-scale samples.
pub const MIN_CLIP_SAMPLES: u64 = 3;

/// Maximum number of open clips. If one more is opened, the one with the lowest offset is closed: it is counted with its current length, and
/// its continuation in a packet that is added later counts as another clip.
const MAX_OPEN_CLIPS: usize = 1_024;

/// The number of clips, the samples in them, and the start of the first.
#[derive(Clone, Copy, Debug, Default)]
struct ClipTotals {
    clips: u64,
    samples: u64,
    first_offset: Option<u64>,
}

impl ClipTotals {
    /// Counts a run of full-scale samples, if it is long enough for a clip.
    fn add(&mut self, run: &Range<u64>) {
        let length = run.end - run.start;
        if length >= MIN_CLIP_SAMPLES {
            self.clips += 1;
            self.samples += length;
            self.first_offset = Some(self.first_offset.map_or(run.start, |first| first.min(run.start)));
        }
    }
}

/// Finds the clips of one channel.
#[derive(Clone, Debug, Default)]
struct ClipDetector {
    /// Sorted by start.
    open_clips: VecDeque<Range<u64>>,
    /// All other clips.
    closed: ClipTotals,
}

impl ClipDetector {
    /// Creates an empty detector. Allocates `open_clips` at its maximum length, so that it is never reallocated.
    fn new() -> Self {
        Self { open_clips: VecDeque::with_capacity(MAX_OPEN_CLIPS + 1), ..Self::default() }
    }

    /// Adds a packet that starts at `offset`. `is_full` states for each sample whether it is at full scale.
    fn add_packet(&mut self, offset: u64, is_full: impl Iterator<Item = bool>) {
        let (mut at, mut clip_start) = (offset, None);
        for is_full in is_full {
            match clip_start {
                None if is_full => clip_start = Some(at),
                Some(start) if !is_full => {
                    self.add_clip(start..at, start == offset);
                    clip_start = None;
                }
                _ => {}
            }
            at += 1;
        }
        if let Some(start) = clip_start {
            self.add_clip(start..at, true);
        }
    }

    /// Records a run of consecutive full-scale samples. A run at the edge of a packet is merged with each open clip that directly precedes
    /// or follows it.
    fn add_clip(&mut self, mut samples: Range<u64>, is_at_edge: bool) {
        if !is_at_edge {
            return self.closed.add(&samples);
        }
        let mut at = self.open_clips.partition_point(|clip| clip.start < samples.start);
        if at > 0 && self.open_clips[at - 1].end == samples.start {
            at -= 1;
            samples.start = self.open_clips.remove(at).map_or(samples.start, |before| before.start);
        }
        if self.open_clips.get(at).is_some_and(|after| after.start == samples.end) {
            samples.end = self.open_clips.remove(at).map_or(samples.end, |after| after.end);
        }
        self.open_clips.insert(at, samples);
        if self.open_clips.len() > MAX_OPEN_CLIPS
            && let Some(first) = self.open_clips.pop_front()
        {
            self.closed.add(&first);
        }
    }

    /// The totals, in which each open clip counts with its length so far.
    fn totals(&self) -> ClipTotals {
        let mut totals = self.closed;
        self.open_clips.iter().for_each(|run| totals.add(run));
        totals
    }
}

/// Measures the input of a run.
#[derive(Debug)]
pub struct SourceMeter {
    replaces_non_finite: bool,
    channels: Vec<ClipDetector>,
    frames: u64,
    /// Length of the silence that ends at the last sample.
    current_silence: u64,
    /// The quality, except for clips and replaced samples.
    quality: SourceQuality,
}

/// Quality of the input. Offsets and lengths are in input samples per channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceQuality {
    /// Sample rate in Hz.
    pub rate: u32,
    /// Number of clips (runs of full-scale samples), summed over all channels.
    pub clips: u64,
    /// Samples in clips.
    pub clipped_samples: u64,
    /// Start of the first clip.
    pub first_clip_offset: Option<u64>,
    /// Longest silence, during which all samples of all channels are zero.
    pub longest_silence: u64,
    /// NaN and infinite samples of all channels.
    pub non_finite_samples: u64,
    /// NaN and infinite samples that are sent as 0.
    pub replaced_samples: u64,
}

impl SourceMeter {
    /// Creates a meter for an input with `rate` in Hz and `channels` interleaved channels. `replaces_non_finite` states whether NaN and
    /// infinite samples are sent as 0.
    pub fn new(rate: u32, channels: u16, replaces_non_finite: bool) -> Self {
        let channels = std::iter::repeat_with(ClipDetector::new).take(usize::from(channels.max(1))).collect();
        let quality = SourceQuality { rate, ..SourceQuality::default() };
        Self { replaces_non_finite, channels, frames: 0, current_silence: 0, quality }
    }

    /// Adds the next interleaved samples.
    pub fn add_samples(&mut self, samples: &[f32]) {
        let frames = samples.chunks_exact(self.channels.len());
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.add_packet(self.frames, frames.clone().map(|frame| is_full_scale(frame[at])));
        }
        self.frames += frames.len() as u64;
        for frame in frames {
            self.current_silence = if frame.iter().all(|sample| *sample == 0.0) { self.current_silence + 1 } else { 0 };
            self.quality.longest_silence = self.quality.longest_silence.max(self.current_silence);
            self.quality.non_finite_samples += frame.iter().filter(|sample| !sample.is_finite()).count() as u64;
        }
    }

    /// Quality of the input so far.
    pub fn source_quality(&self) -> SourceQuality {
        let mut quality = self.quality;
        quality.replaced_samples = if self.replaces_non_finite { quality.non_finite_samples } else { 0 };
        for channel in &self.channels {
            let ClipTotals { clips, samples, first_offset } = channel.totals();
            quality.clips += clips;
            quality.clipped_samples += samples;
            quality.first_clip_offset = [quality.first_clip_offset, first_offset].into_iter().flatten().min();
        }
        quality
    }
}
