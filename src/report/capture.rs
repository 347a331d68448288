//! The device that a live run listened to, as it is printed.

use serde::Serialize;

use crate::flow::CaptureRun;

/// The device, and how it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct CaptureNumbers {
    pub device: String,
    pub device_format: &'static str,
    pub device_rate_hz: u32,
    pub device_channels: u16,
    pub buffer_asked_frames: u32,
    pub buffer_frames: Option<u32>,
    pub delivery_min_frames: u32,
    pub delivery_max_frames: u32,
    pub captured_frames: u64,
    pub overruns: u64,
    pub overrun_frames: u64,
    pub overrun_first_at_frame: Option<u64>,
    pub xruns: u64,
    pub drift_ppm: Option<f64>,
    pub drift_uncertainty_ppm: Option<f64>,
    pub drift_span_s: u64,
    pub device_lost: Option<String>,
}

impl From<&CaptureRun> for CaptureNumbers {
    fn from(run: &CaptureRun) -> Self {
        Self {
            device: run.device.clone(),
            device_format: run.sample_format,
            device_rate_hz: run.sample_rate,
            device_channels: run.channels,
            buffer_asked_frames: run.buffer_asked,
            buffer_frames: run.buffer_told,
            delivery_min_frames: run.delivery_frames.0,
            delivery_max_frames: run.delivery_frames.1,
            captured_frames: run.frames,
            overruns: run.overruns,
            overrun_frames: run.overrun_frames,
            overrun_first_at_frame: run.first_overrun_at,
            xruns: run.xruns,
            drift_ppm: run.drift.map(|drift| thousandths(drift.ppm)),
            drift_uncertainty_ppm: run.drift.map(|drift| thousandths(drift.uncertainty_ppm)),
            drift_span_s: run.drift_span.as_secs(),
            device_lost: run.lost.clone(),
        }
    }
}

/// Rounded to three decimals; adding zero turns -0.0 into 0.0.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}
