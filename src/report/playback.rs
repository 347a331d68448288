//! The device that played what came back, as it is printed.

use std::time::Duration;

use serde::Serialize;

use super::capture::thousandths;
use crate::flow::PlaybackRun;

/// The device, and how it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct PlaybackNumbers {
    pub device: String,
    pub device_format: &'static str,
    pub device_rate_hz: u32,
    pub device_channels: u16,
    pub buffer_asked_frames: u32,
    pub buffer_frames: Option<u32>,
    pub jitter_buffer_ms: Option<f64>,
    pub played: u64,
    pub concealed: u64,
    pub late: u64,
    pub late_max_ms: Option<f64>,
    pub early: u64,
    pub skipped: u64,
    pub not_taken: u64,
    pub unplayed: u64,
    pub non_finite_samples: u64,
    pub jumps: u64,
    pub depth_min_ms: Option<f64>,
    pub depth_mean_ms: Option<f64>,
    pub depth_max_ms: Option<f64>,
    pub allowed_ms: f64,
    pub device_latency_ms: f64,
    pub correction_ppm: f64,
    pub xruns: u64,
    pub drift_ppm: Option<f64>,
    pub drift_uncertainty_ppm: Option<f64>,
    pub drift_span_s: u64,
    pub device_lost: Option<String>,
}

impl From<&PlaybackRun> for PlaybackNumbers {
    fn from(run: &PlaybackRun) -> Self {
        let played = run.played;
        let ms = |duration: Duration| thousandths(duration.as_secs_f64() * 1e3);
        let depth = played.depth.map(|depth| [depth.min, depth.mean, depth.max].map(|depth| thousandths(depth * 1e3)));
        Self {
            device: run.device.clone(),
            device_format: run.sample_format,
            device_rate_hz: run.sample_rate,
            device_channels: run.channels,
            buffer_asked_frames: run.buffer_asked,
            buffer_frames: run.buffer_told,
            jitter_buffer_ms: run.allowance.map(ms),
            played: played.packets,
            concealed: played.concealed,
            late: played.late,
            late_max_ms: (played.late > 0).then(|| ms(played.latest)),
            early: played.early,
            skipped: played.skipped,
            not_taken: run.dropped,
            unplayed: run.unplayed,
            non_finite_samples: played.non_finite,
            jumps: played.jumps,
            depth_min_ms: depth.map(|[min, _, _]| min),
            depth_mean_ms: depth.map(|[_, mean, _]| mean),
            depth_max_ms: depth.map(|[_, _, max]| max),
            allowed_ms: ms(played.allowance),
            device_latency_ms: ms(run.latency),
            correction_ppm: thousandths(played.correction_ppm),
            xruns: run.xruns,
            drift_ppm: run.drift.map(|drift| thousandths(drift.ppm)),
            drift_uncertainty_ppm: run.drift.map(|drift| thousandths(drift.uncertainty_ppm)),
            drift_span_s: run.drift_span.as_secs(),
            device_lost: run.lost.clone(),
        }
    }
}
