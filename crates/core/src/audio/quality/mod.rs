//! Audio quality of a run: gaps, level, clipping, silence, and the alignment of the returned audio with the sent audio.
//!
//! A [`SourceMeter`] measures the input before it is converted. An [`Analyzer`] receives packets by index: sent packets in order, returned
//! packets in any order. Both store only sums, bounded lists and a bounded comparison window, so that memory does not grow with the run.

mod alignment;
mod level;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use alignment::{Alignment, CORRELATION_WINDOW, CorrelationPeak, MAX_SHIFT};
pub use level::{ChannelLevel, FULL_SCALE, MIN_CLIP_SAMPLES, SourceMeter, SourceQuality};

use alignment::Correlator;
use level::LevelMeter;

/// Format of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketFormat {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples per channel in each packet except the last.
    pub frame_samples: u32,
}

/// Measures the sent and the returned audio of one run.
#[derive(Debug)]
pub struct Analyzer {
    format: PacketFormat,
    sent_meter: LevelMeter,
    returned_meter: LevelMeter,
    gaps: Gaps,
    correlator: Correlator,
    /// Number of sent samples per channel.
    sent_samples: u64,
    /// Packets that returned with different bytes.
    damaged_packets: u64,
}

/// Audio quality of a run. Offsets are in samples per channel from the first sent sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioQuality {
    /// Format of the packets.
    pub format: PacketFormat,
    /// Levels of the sent audio per channel.
    pub sent_levels: Vec<ChannelLevel>,
    /// Levels of the audio that returned in time, intact or damaged, per channel. `None` if no audio returned in time.
    pub returned_levels: Option<Vec<ChannelLevel>>,
    /// Packets that did not return in time.
    pub gaps: Gaps,
    /// Number of sent samples per channel.
    pub sent_samples: u64,
    /// Packets that returned with different bytes.
    pub damaged_packets: u64,
    /// Alignment of the returned audio with the sent audio.
    pub alignment: Alignment,
}

impl AudioQuality {
    /// Whether the sent audio is digital silence.
    pub fn is_sent_silent(&self) -> bool {
        is_silent(&self.sent_levels)
    }

    /// Whether the returned audio is digital silence.
    pub fn is_returned_silent(&self) -> bool {
        self.returned_levels.as_deref().is_some_and(is_silent)
    }
}

fn is_silent(levels: &[ChannelLevel]) -> bool {
    levels.iter().all(|level| level.finite_samples > 0 && level.sample_peak == 0.0 && level.non_finite_samples == 0)
}

impl Analyzer {
    /// Creates an analyzer for one run.
    pub fn new(format: PacketFormat) -> Self {
        Self {
            format,
            sent_meter: LevelMeter::new(format.channels),
            returned_meter: LevelMeter::new(format.channels),
            gaps: Gaps::new(),
            correlator: Correlator::new(format.channels),
            sent_samples: 0,
            damaged_packets: 0,
        }
    }

    /// Adds the interleaved samples of the next sent packet. `index` counts from 0.
    pub fn on_sent(&mut self, index: u64, samples: &[f32]) {
        let offset = self.packet_offset(index);
        self.sent_meter.add_packet(offset, samples);
        self.correlator.on_sent(offset, samples);
        let frames = samples.len() as u64 / u64::from(self.format.channels.max(1));
        self.sent_samples = self.sent_samples.max(offset + frames);
    }

    /// Adds a packet that returned unchanged in time. Call this method at most once per packet.
    pub fn on_returned(&mut self, index: u64, samples: &[f32]) {
        self.returned_meter.add_packet(self.packet_offset(index), samples);
    }

    /// Adds a packet that returned with different bytes in time. Call this method at most once per packet.
    pub fn on_damaged(&mut self, index: u64, samples: &[f32]) {
        self.damaged_packets += 1;
        self.correlator.on_damaged(self.packet_offset(index), samples);
        self.on_returned(index, samples);
    }

    /// Adds a packet that did not return in time.
    pub fn on_lost(&mut self, index: u64) {
        self.gaps.add_lost_packet(index);
    }

    /// Completes the analysis.
    pub fn finish(self) -> AudioQuality {
        let Self { format, sent_meter, returned_meter, mut gaps, correlator, sent_samples, damaged_packets } = self;
        (gaps.frame_samples, gaps.sent_samples) = (format.frame_samples.into(), sent_samples);
        let has_returned = returned_meter.sample_count() > 0;
        let alignment = match (has_returned, damaged_packets) {
            (false, _) => Alignment::NoAudio,
            (true, 0) => Alignment::Exact,
            (true, _) => correlator.alignment(),
        };
        AudioQuality {
            format,
            sent_levels: sent_meter.finish(),
            returned_levels: has_returned.then(|| returned_meter.finish()),
            gaps,
            sent_samples,
            damaged_packets,
            alignment,
        }
    }

    fn packet_offset(&self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.format.frame_samples))
    }
}

/// Maximum number of gaps that are stored. For further gaps, only the number of packets in gaps is counted.
pub const MAX_GAPS: usize = 65_536;

/// Consecutive packets that did not return in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Index of the first packet.
    pub first_packet: u64,
    /// Number of packets.
    pub packets: u64,
    /// Position of the start of the gap, counted in samples per channel from the first sent sample.
    pub start_sample: u64,
    /// Length in samples per channel.
    pub samples: u64,
}

/// All gaps of a run. Packets can be added in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// Packet indexes of each gap, in order.
    spans: Vec<Range<u64>>,
    /// Number of lost packets, including `overflow_packets`.
    pub packets: u64,
    /// Lost packets that are in no stored gap. When these packets were added, [`MAX_GAPS`] gaps were already stored.
    pub overflow_packets: u64,
    /// Samples per channel in a packet.
    frame_samples: u64,
    /// Number of sent samples per channel in the run.
    sent_samples: u64,
}

impl Gaps {
    /// Creates an empty list. Allocates `spans` at its maximum length, so that it is never reallocated.
    fn new() -> Self {
        Self { spans: Vec::with_capacity(MAX_GAPS), ..Self::default() }
    }

    /// Adds a lost packet. Ignores a packet that was already added.
    fn add_lost_packet(&mut self, index: u64) {
        // Position in `spans` of the first gap that starts after the packet.
        let at = self.spans.partition_point(|span| span.start <= index);
        let is_full = self.spans.len() >= MAX_GAPS;
        let (before, after) = self.spans.split_at_mut(at);
        let before = before.last_mut();
        if before.as_ref().is_some_and(|span| index < span.end) {
            return;
        }
        self.packets += 1;
        let next = index.saturating_add(1);
        let before = before.filter(|span| span.end == index);
        let after = after.first_mut().filter(|span| span.start == next);
        match (before, after) {
            (Some(before), Some(after)) => {
                before.end = after.end;
                self.spans.remove(at);
            }
            (Some(before), None) => before.end = next,
            (None, Some(after)) => after.start = index,
            (None, None) if is_full => self.overflow_packets += 1,
            (None, None) => self.spans.insert(at, index..next),
        }
    }

    /// Number of gaps, at most [`MAX_GAPS`].
    pub fn count(&self) -> u64 {
        self.spans.len() as u64
    }

    /// All gaps in order.
    pub fn iter(&self) -> impl Iterator<Item = Gap> {
        // The last packet of a run may be shorter.
        let offset = |packet: u64| packet.saturating_mul(self.frame_samples).min(self.sent_samples);
        self.spans.iter().map(move |packets| {
            let (start_sample, end_sample) = (offset(packets.start), offset(packets.end));
            Gap {
                first_packet: packets.start,
                packets: packets.end - packets.start,
                start_sample,
                samples: end_sample - start_sample,
            }
        })
    }

    /// Samples per channel in all gaps.
    pub fn samples(&self) -> u64 {
        self.iter().map(|gap| gap.samples).sum::<u64>() + self.overflow_packets.saturating_mul(self.frame_samples)
    }

    /// The longest gap, or the first of several that have the same length.
    pub fn longest(&self) -> Option<Gap> {
        self.iter().reduce(|longest, gap| if gap.samples > longest.samples { gap } else { longest })
    }
}
