//! What a run knows of the device that its sound came from.

use std::time::Duration;

use crate::stats::DriftEstimate;

/// A device, and how it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptureRun {
    /// The device's name.
    pub device: String,
    /// How it stores a sample.
    pub sample_format: &'static str,
    /// Samples a second and channel, as the device says.
    pub sample_rate: u32,
    /// Interleaved channels of the device.
    pub channels: u16,
    /// Frames that it was asked to deliver at a time.
    pub buffer_asked: u32,
    /// Frames that it said it would; `None` where it does not say.
    pub buffer_told: Option<u32>,
    /// Frames of the smallest and the largest delivery; 0 without any.
    pub delivery_frames: (u32, u32),
    /// Frames delivered, those that were dropped included.
    pub frames: u64,
    /// How often we did not take what was delivered in time.
    pub overruns: u64,
    /// Frames dropped for that.
    pub overrun_frames: u64,
    /// Frames delivered before the first of these.
    pub first_overrun_at: Option<u64>,
    /// How often the device or its driver lost sound by itself.
    pub xruns: u64,
    /// How far its clock runs from ours, once there is enough to tell.
    pub drift: Option<DriftEstimate>,
    /// How much sound that rests on.
    pub drift_span: Duration,
    /// Why it delivered no more, if it stopped before it was told to.
    pub lost: Option<String>,
}
