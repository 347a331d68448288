//! What a run knows of the device that its sound went to.

use std::time::Duration;

use crate::playout::Played;
use crate::stats::DriftEstimate;

/// A device, and how it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaybackRun {
    /// The device's name.
    pub device: String,
    /// How it stores a sample.
    pub sample_format: &'static str,
    /// Samples a second and channel, as the device says.
    pub sample_rate: u32,
    /// Interleaved channels of the device.
    pub channels: u16,
    /// Frames that it was asked to take at a time.
    pub buffer_asked: u32,
    /// Frames that it said it would; `None` where it does not say.
    pub buffer_told: Option<u32>,
    /// `--jitter-buffer`; `None` for `auto`.
    pub allowance: Option<Duration>,
    /// How long the device held back what it was given, at most, as it says.
    pub latency: Duration,
    /// Packets that found no room on their way to the device's thread.
    pub dropped: u64,
    /// Packets that were still to be played in the end.
    pub unplayed: u64,
    /// How often the device or its driver ran dry.
    pub xruns: u64,
    /// How far its clock runs from ours, once there is enough to tell.
    pub drift: Option<DriftEstimate>,
    /// How much sound that rests on.
    pub drift_span: Duration,
    /// Why it took no more, if it stopped before it was told to.
    pub lost: Option<String>,
    /// What was played, and how.
    pub played: Played,
}
