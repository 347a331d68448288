//! The rate at which the timestamps of AUDIO advance, and the drift of the sample clock.

use std::time::Duration;

use jamjam_core::audio::placement::STANDARD_RATES;

use super::rules::{RuleId as Id, Severity};
use super::source::SourceCheck;
use super::stream::{MAX_RATE_ERROR_PPM, is_right_rate};
use super::totals::Totals;

/// Over this time, the smaller drift is a warning, in parts per million.
const LONG: Duration = Duration::from_secs(60);
const MAX_DRIFT_PPM: f64 = 500.0;
const MAX_LONG_DRIFT_PPM: f64 = 100.0;

/// Seconds by which the delay of a path may grow.
const MAX_QUEUE_S: f64 = 1.0;

const RATE: (&str, &[Id]) = ("packet rate", &[Id::PacketRate]);
const DRIFT: (&str, &[Id]) = ("clock drift", &[Id::ClockDrift]);

impl Totals {
    pub(super) fn judge_rate(&mut self, source: &SourceCheck, is_over: bool) {
        let (audio, format) = (&source.audio, source.audio.format.as_ref());
        // By how many parts per million the path slows down all that the client sends.
        let path = source.pings.interval_ppm().or(source.pings.ppm().map(|ppm| [ppm; 2]));
        let seconds = audio.duration.as_secs_f64();
        // The least error of a wrong rate in parts per million, what was expected, and what was received.
        let mut wrong = None;
        if let Some((rate, [low, high])) = source.drift() {
            // What the clock of the client shows as well is the path.
            let [slow, fast] = path.unwrap_or_default();
            let [low, high] = [low.min(low - fast), high.max(high - slow)];
            let (ppm, nearest, farthest) = (low.midpoint(high), low.max(-high), high.max(-low));
            let uncertain = format!("uncertain, {low:.0} to {high:.0} ppm");
            if nearest > MAX_RATE_ERROR_PPM {
                let factor = 1.0 + ppm / 1e6;
                let channels = format.and_then(|format| format.channel_count).map_or(1.0, f64::from);
                let is_interleaved = channels > 1.0 && (factor / channels - 1.0).abs() * 1e6 < MAX_RATE_ERROR_PPM;
                let reason = if is_interleaved { ", so the timestamps count the samples of all channels" } else { "" };
                wrong = Some((nearest, rate.to_string(), format!("{:.0}{reason}", f64::from(rate) * factor)));
            } else if farthest > MAX_RATE_ERROR_PPM {
                self.skip(RATE.0, RATE.1, &*uncertain);
            }
            let is_long = audio.pace().is_some_and(|pace| pace.drift.span() >= LONG);
            let limit = if is_long { MAX_LONG_DRIFT_PPM } else { MAX_DRIFT_PPM };
            if nearest > limit && is_over {
                let source = if format.is_none() { ", the nearest standard rate, without LATENCY_INFO" } else { "" };
                let received = format_args!("{ppm:.0} ppm (99.9 % interval {low:.0} to {high:.0})");
                self.found(Id::ClockDrift, 1, format_args!("at most ±{limit:.0} ppm of {rate} Hz{source}"), received);
            } else if farthest > limit {
                self.skip(DRIFT.0, DRIFT.1, uncertain);
            } else if !is_long {
                self.skip(DRIFT.0, DRIFT.1, "below 500 ppm, needs 60 s");
            }
        } else {
            let has_no_rate = format.is_none() && seconds >= 15.0;
            let reason = if has_no_rate { "no standard rate is certain" } else { "needs 12 s without pauses" };
            if let Some((rate, measured)) = audio.wrong_rate().filter(|_| is_over && !source.is_sealed_for_another()) {
                let rates = if format.is_some() { vec![rate] } else { STANDARD_RATES.to_vec() };
                let rates = rates.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                // It is that of a part of the run, to which nothing corresponds if the path has changed.
                let is_steady = path.is_none_or(is_right_rate);
                let error = if is_steady { (measured / f64::from(rate) - 1.0).abs() * 1e6 } else { 0.0 };
                wrong = Some((error, rates, format!("about {measured:.0}")));
            } else {
                self.skip(RATE.0, RATE.1, reason);
            }
            self.skip(DRIFT.0, DRIFT.1, reason);
        }
        let Some((error, expected, received)) = wrong else { return };
        if error <= MAX_RATE_ERROR_PPM {
            return self.skip(RATE.0, RATE.1, "the delay of the path changes");
        }
        // Without the clock of the client, a queue of the path may fill, but not for long.
        let is_doubtful = path.is_none() && error / 1e6 * seconds < MAX_QUEUE_S;
        let other = if is_doubtful { ", or the delay of its path grows" } else { "" };
        self.found(Id::PacketRate, 1, format_args!("{expected} samples per second"), received + other);
        if let Some((_, finding)) = self.violations.all.last_mut().filter(|_| is_doubtful) {
            finding.severity = Severity::Warning;
        }
    }
}
