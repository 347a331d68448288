//! Measures the depth of the jitter buffer and decides how to adjust it.
//!
//! A packet that arrives at `t` and starts at offset `x` has the delay `t - x`. A device callback at `t` that plays from offset `p` has the
//! delay `t - p`. Because scheduling can only add delay, the minima of each second count: the *depth* is the minimum callback delay minus the
//! minimum packet delay. If callbacks are on time, the fastest packets are buffered for the depth or less. The target depth is one device
//! block, plus the jitter allowance, plus a tolerance. Speed control starts when the depth first differs from it by more than the tolerance.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Length of a window for the minimum delays.
const WINDOW_DURATION: Duration = Duration::from_secs(1);

/// Interval at which observations are merged into the window. If all packets of an interval are late, its observations alone are evaluated at
/// once.
const EVALUATION_INTERVAL: Duration = Duration::from_millis(100);

/// Jitter allowance in seconds before the first measurement.
const INITIAL_JITTER_ALLOWANCE: f64 = 0.005;

/// Minimum and maximum of the measured jitter allowance in seconds.
const JITTER_ALLOWANCE_RANGE: (f64, f64) = (0.001, 0.2);

/// Number of windows over which the largest device block is determined. Some devices take large blocks, but only at long intervals.
const BLOCK_HISTORY_LEN: usize = 16;

/// Minimum tolerance in seconds, and tolerance as a fraction of the jitter allowance.
const TOLERANCE: (f64, f64) = (0.000_5, 0.125);

/// Maximum change of speed: 3.5 cents, which is inaudible.
const MAX_SPEED_CHANGE: f64 = 0.002;

/// Proportional and integral gain per second. With these values, the depth settles within half a minute without oscillation.
const CONTROL_GAINS: (f64, f64) = (0.25, 0.015);

/// After late packets, playback pauses if the depth is more than this value below the target. The value is in seconds.
const PAUSE_THRESHOLD: f64 = 0.001;

/// Playback skips frames if the depth exceeds target plus tolerance by more than this value. The value is in seconds.
const SKIP_THRESHOLD: f64 = 0.05;

/// Time that the fastest packet of each window (one second) waits in the jitter buffer. All values are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BufferDepth {
    /// Minimum waiting time over all windows.
    pub min: f64,
    /// Mean waiting time over all windows.
    pub mean: f64,
    /// Maximum waiting time over all windows.
    pub max: f64,
}

/// The adjustment after an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Adjustment {
    /// Play at this speed relative to the nominal rate.
    Speed(f64),
    /// Pause for this number of frames.
    Pause(u64),
    /// Skip this number of frames.
    Skip(u64),
}

/// Observations in one time window. The delays are in frames.
#[derive(Clone, Copy, Debug, Default)]
struct ObservationWindow {
    since: Option<Time>,
    min_packet_delay: Option<f64>,
    min_device_delay: Option<f64>,
    /// Maximum frames that the device took in one callback.
    max_block: usize,
    /// Whether at least one packet in the window was late.
    has_late: bool,
    /// Whether at least one packet in the window was on time.
    has_on_time: bool,
}

/// Returns the smaller of the values that are present.
fn min_option(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    [a, b].into_iter().flatten().reduce(f64::min)
}

impl ObservationWindow {
    /// Merges the next window into this one.
    fn merge(self, later: Self) -> Self {
        Self {
            since: self.since.or(later.since),
            min_packet_delay: min_option(self.min_packet_delay, later.min_packet_delay),
            min_device_delay: min_option(self.min_device_delay, later.min_device_delay),
            max_block: self.max_block.max(later.max_block),
            has_late: self.has_late || later.has_late,
            has_on_time: self.has_on_time || later.has_on_time,
        }
    }

    /// Depth in frames, if packets arrived and the device took frames.
    fn depth(&self) -> Option<f64> {
        Some(self.min_device_delay? - self.min_packet_delay?)
    }
}

/// Controls the depth of the jitter buffer.
#[derive(Debug, Default)]
pub(super) struct DelayController {
    rate: f64,
    /// Configured jitter allowance in seconds; `None` if it is measured.
    fixed_allowance: Option<f64>,
    lateness: DecayingHistogram,
    /// Minimum packet delay of the previous window, in frames.
    previous_min_delay: Option<f64>,
    window: ObservationWindow,
    /// Observations since the end of the last evaluation interval.
    pending_window: ObservationWindow,
    /// Whether the next interval is evaluated without waiting for a full window.
    evaluate_next: bool,
    /// Time of the last device callback. During one callback, `on_fill` may be called several times with the same time.
    last_fill_at: Option<Time>,
    /// Number of frames that the most recent callback has taken. One callback can take its frames in several parts, which are added.
    frames_this_fill: usize,
    /// Maximum frames per callback in each of the latest windows.
    block_history: [usize; BLOCK_HISTORY_LEN],
    /// Whether the speed is being adjusted. Adjustment starts when the depth first leaves the tolerance.
    is_steering: bool,
    /// Integral term of the PI controller that corrects the speed, in frames per second.
    learned_drift: f64,
    depth_sum: f64,
    window_count: u64,
    depth_range: Option<(f64, f64)>,
    jitter_allowance: f64,
}

impl DelayController {
    /// `rate` is the sample rate of the packets in Hz. `block_duration` is the expected duration of one device callback. Without a
    /// `jitter_allowance`, the jitter allowance is measured.
    pub(super) fn new(rate: u32, block_duration: Duration, jitter_allowance: Option<Duration>) -> Self {
        let fixed_allowance = jitter_allowance.map(|allowance| allowance.as_secs_f64());
        let block = (block_duration.as_secs_f64() * f64::from(rate)).ceil() as usize;
        Self {
            rate: f64::from(rate),
            fixed_allowance,
            block_history: [block; BLOCK_HISTORY_LEN],
            jitter_allowance: fixed_allowance.unwrap_or(INITIAL_JITTER_ALLOWANCE),
            ..Self::default()
        }
    }

    fn to_frames(&self, at: Time) -> f64 {
        at.as_nanos() as f64 * 1e-9 * self.rate
    }

    fn tolerance(&self) -> f64 {
        TOLERANCE.0.max(self.jitter_allowance * TOLERANCE.1)
    }

    /// Target depth in frames.
    fn target_depth(&self) -> f64 {
        let block = self.block_history.iter().max().copied().unwrap_or(0);
        block as f64 + (self.jitter_allowance + self.tolerance()) * self.rate
    }

    /// Records that a packet that starts at frame `start` arrived at `at`.
    pub(super) fn on_packet(&mut self, at: Time, start: i64, is_late: bool) {
        let delay = self.to_frames(at) - start as f64;
        self.pending_window.min_packet_delay = min_option(self.pending_window.min_packet_delay, Some(delay));
        self.pending_window.has_late |= is_late;
        self.pending_window.has_on_time |= !is_late;
        let minima = [self.previous_min_delay, self.window.min_packet_delay, self.pending_window.min_packet_delay];
        let fastest = minima.into_iter().flatten().fold(delay, f64::min);
        self.lateness.add((delay - fastest) / self.rate);
    }

    /// Play position if playback starts at `now`; `None` before the first packet.
    pub(super) fn start_position(&self, now: Time) -> Option<i64> {
        Some((self.to_frames(now) - self.pending_window.min_packet_delay? - self.target_depth()).round() as i64)
    }

    /// Records that the device took `taken` frames from `position` in a callback at `now`. Callbacks during a pause (`was_paused`)
    /// are not measured.
    pub(super) fn on_fill(&mut self, now: Time, position: i64, taken: usize, was_paused: bool) -> Option<Adjustment> {
        if was_paused {
            (self.window, self.pending_window) = Default::default();
            return None;
        }
        let delay = self.to_frames(now) - position as f64;
        let latest = &mut self.pending_window;
        if self.last_fill_at.replace(now) == Some(now) {
            self.frames_this_fill += taken;
        } else {
            self.frames_this_fill = taken;
            latest.min_device_delay = min_option(latest.min_device_delay, Some(delay));
        }
        latest.max_block = latest.max_block.max(self.frames_this_fill);
        if now.duration_since(*latest.since.get_or_insert(now)) < EVALUATION_INTERVAL {
            return None;
        }
        let latest = std::mem::take(latest);
        let all_late = latest.has_late && !latest.has_on_time;
        self.lateness.commit_pending(!all_late);
        if all_late || std::mem::take(&mut self.evaluate_next) {
            // The path or the device has changed: earlier observations no longer apply.
            (self.window, self.previous_min_delay) = Default::default();
            return self.evaluate(latest);
        }
        self.window = self.window.merge(latest);
        let is_complete = self.window.since.is_some_and(|since| now.duration_since(since) >= WINDOW_DURATION);
        is_complete.then(|| std::mem::take(&mut self.window)).and_then(|window| self.evaluate(window))
    }

    /// Records that the device lost frames, so that earlier observations no longer apply.
    pub(super) fn on_discontinuity(&mut self) {
        (self.window, self.pending_window) = Default::default();
        self.evaluate_next = true;
    }

    fn evaluate(&mut self, window: ObservationWindow) -> Option<Adjustment> {
        let depth = window.depth()?;
        self.previous_min_delay = window.min_packet_delay;
        self.block_history[self.window_count as usize % BLOCK_HISTORY_LEN] = window.max_block;
        let seconds = depth / self.rate;
        self.depth_sum += seconds;
        self.window_count += 1;
        let (min, max) = self.depth_range.unwrap_or((seconds, seconds));
        self.depth_range = Some((min.min(seconds), max.max(seconds)));
        if self.fixed_allowance.is_none() {
            self.jitter_allowance = self.lateness.p999().clamp(JITTER_ALLOWANCE_RANGE.0, JITTER_ALLOWANCE_RANGE.1);
            self.lateness.decay();
        }
        let error = depth - self.target_depth();
        if window.has_late && error < -PAUSE_THRESHOLD * self.rate {
            return Some(Adjustment::Pause(-error as u64));
        }
        if error > (SKIP_THRESHOLD + self.tolerance()) * self.rate {
            return Some(Adjustment::Skip(error as u64));
        }
        self.is_steering |= error.abs() > self.tolerance() * self.rate;
        if !self.is_steering {
            return None;
        }
        let max = MAX_SPEED_CHANGE * self.rate;
        let speed = self.learned_drift + error * CONTROL_GAINS.0;
        // No integration while the correction is limited (anti-windup).
        if speed.abs() < max {
            self.learned_drift = (self.learned_drift + error * CONTROL_GAINS.1).clamp(-max, max);
        }
        Some(Adjustment::Speed(1.0 + speed.clamp(-max, max) / self.rate))
    }

    pub(super) fn jitter_allowance(&self) -> Duration {
        Duration::from_secs_f64(self.jitter_allowance)
    }

    /// Minimum, mean and maximum depth so far. Before the first window ends, all three are the current depth.
    pub(super) fn depth(&self) -> Option<BufferDepth> {
        let Some((min, max)) = self.depth_range else {
            let depth = self.window.merge(self.pending_window).depth()? / self.rate;
            return Some(BufferDepth { min: depth, mean: depth, max: depth });
        };
        Some(BufferDepth { min, mean: self.depth_sum / self.window_count as f64, max })
    }
}

/// Number of buckets that cover one second of lateness.
const BUCKETS_PER_SECOND: f64 = 4_000.0;

/// Number of buckets, which cover up to 0.2 s. The buffer does not wait for packets with a higher lateness.
const BUCKETS: usize = 800;

/// Factor by which the counts decay each second. The half-life is about seven seconds.
const DECAY_PER_SECOND: f32 = 0.9;

/// Selects the percentile of the lateness: one packet in `TAIL_DIVISOR` packets may be later than the percentile. The value 1,000 selects
/// the 99.9th percentile.
const TAIL_DIVISOR: f32 = 1_000.0;

/// Histogram of the lateness of packets relative to the fastest packets. Older packets count less.
#[derive(Debug)]
struct DecayingHistogram {
    counts: Box<[f32; BUCKETS]>,
    /// Counts of the latest packets, which `commit_pending` adds to `counts` or discards.
    pending: Box<[f32; BUCKETS]>,
}

impl Default for DecayingHistogram {
    fn default() -> Self {
        let zeros = || Box::new([0.0; BUCKETS]);
        Self { counts: zeros(), pending: zeros() }
    }
}

impl DecayingHistogram {
    /// Adds a packet that arrived `seconds` later than the fastest one.
    fn add(&mut self, seconds: f64) {
        // The cast converts negative values to 0.
        let bucket = ((seconds * BUCKETS_PER_SECOND) as usize).min(BUCKETS - 1);
        self.pending[bucket] += 1.0;
    }

    /// Moves the pending packets to `counts` if `keep` is true; otherwise discards them.
    fn commit_pending(&mut self, keep: bool) {
        for (count, latest) in self.counts.iter_mut().zip(self.pending.iter_mut()) {
            let latest = std::mem::take(latest);
            *count += if keep { latest } else { 0.0 };
        }
    }

    /// Multiplies all counts by the decay factor of one second.
    fn decay(&mut self) {
        self.counts.iter_mut().for_each(|count| *count *= DECAY_PER_SECOND);
    }

    /// 99.9th percentile of the lateness in seconds, from the width of one bucket to that of all buckets.
    fn p999(&self) -> f64 {
        let beyond = self.counts.iter().sum::<f32>() / TAIL_DIVISOR;
        let mut later = 0.0;
        let last = self.counts.iter().rposition(|count| {
            later += count;
            later > beyond
        });
        (last.unwrap_or(0) + 1) as f64 / BUCKETS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_percentile_ignores_one_packet_in_a_thousand() {
        let mut histogram = DecayingHistogram::default();
        (0..2_000).for_each(|_| histogram.add(0.003_1));
        // Two late packets among 2,002 packets are less than one in a thousand. Therefore, these two packets do not change the 99.9th
        // percentile. A third late packet increases the percentile.
        (0..2).for_each(|_| histogram.add(0.050_1));
        histogram.commit_pending(true);
        assert_eq!(histogram.p999(), 0.003_25);
        histogram.add(0.050_1);
        histogram.commit_pending(false);
        assert_eq!(histogram.p999(), 0.003_25);
        histogram.add(0.050_1);
        histogram.commit_pending(true);
        assert_eq!(histogram.p999(), 0.050_25);
    }

    #[test]
    fn old_lateness_decays() {
        let mut histogram = DecayingHistogram::default();
        (0..100).for_each(|_| histogram.add(0.020_1));
        histogram.commit_pending(true);
        let seconds = (0..).take_while(|_| {
            histogram.decay();
            (0..100).for_each(|_| histogram.add(0.0));
            histogram.commit_pending(true);
            histogram.p999() > 0.001
        });
        // Late packets do not change the 99.9th percentile while at most one packet in a thousand is late. In each second, all counts are
        // multiplied by 0.9 and 100 packets are added. The sum of the counts therefore rises to almost 1,000. A thousandth of 1,000 is 1.
        // After n seconds, the count of the 100 late packets has decayed to 100 × 0.9^n. This count is less than 1 if n is above 43.7.
        assert_eq!(seconds.count(), 43);
    }

    #[test]
    fn lateness_is_clamped_to_the_first_and_last_bucket() {
        let mut histogram = DecayingHistogram::default();
        assert_eq!(histogram.p999(), 0.000_25);
        histogram.add(-1.0);
        histogram.commit_pending(true);
        assert_eq!(histogram.p999(), 0.000_25);
        histogram.add(f64::INFINITY);
        histogram.commit_pending(true);
        assert_eq!(histogram.p999(), 0.2);
    }
}
