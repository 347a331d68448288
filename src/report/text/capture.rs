//! The device that a live run listened to, for people.

use super::row;
use crate::report::capture::CaptureNumbers;
use crate::report::wording::count;
use crate::stats::DRIFT_TAKES;

/// `device: default (USB Audio), I16, 2 channels, 48000 Hz`.
pub(super) fn heading(capture: &CaptureNumbers) -> String {
    let CaptureNumbers { device, device_format, device_channels, device_rate_hz, .. } = capture;
    named("device", device, device_format, *device_channels, *device_rate_hz)
}

/// A device and its form.
pub(super) fn named(what: &str, device: &str, format: &str, channels: u16, rate_hz: u32) -> String {
    // A device calls itself what it likes.
    let name: String = device.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    format!("{what}: {name}, {format}, {}, {rate_hz} Hz\n", count(channels.into(), "channel"))
}

/// How fast a device's clock ran.
pub(super) fn clock(drift_ppm: Option<f64>, uncertainty_ppm: Option<f64>, span_s: u64) -> String {
    match (drift_ppm, uncertainty_ppm) {
        (Some(ppm), Some(uncertainty)) => format!("{ppm:+.1} ppm, ± {uncertainty:.1}, over {span_s} s"),
        _ => format!("- (it takes {DRIFT_TAKES} s)"),
    }
}

/// What it delivered, what was lost of that, and how fast its clock ran.
pub(super) fn rows(text: &mut String, capture: &CaptureNumbers) {
    let CaptureNumbers { delivery_min_frames: least, delivery_max_frames: most, .. } = *capture;
    let at_a_time = match (least, most) {
        (_, 0) => String::new(),
        (least, most) if least == most => format!(", {most} at a time"),
        (least, most) => format!(", {least} to {most} at a time"),
    };
    let (frames, asked) = (count(capture.captured_frames, "frame"), capture.buffer_asked_frames);
    row(text, "captured", &format!("{frames}{at_a_time} (asked for {asked})"));
    if capture.overruns > 0 {
        let lost = count(capture.overrun_frames, "frame");
        let first = capture.overrun_first_at_frame.map_or_else(String::new, |at| format!(", the first at frame {at}"));
        row(text, "overruns", &format!("{}; {lost} lost{first}", capture.overruns));
    }
    if capture.xruns > 0 {
        row(text, "device xruns", &capture.xruns.to_string());
    }
    row(text, "device clock", &clock(capture.drift_ppm, capture.drift_uncertainty_ppm, capture.drift_span_s));
}
