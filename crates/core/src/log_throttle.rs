//! Limits the number of log lines per second about events that a peer can trigger. Events beyond the limit are counted, and the next log
//! line can report their number. The throttle takes no lock: callers with several threads put it behind a mutex.

use std::time::Duration;

use crate::time::Time;

/// The interval to which the maximum number of lines applies.
const INTERVAL: Duration = Duration::from_secs(1);

/// Allows a maximum number of log lines per second. The default is one line per second.
#[derive(Clone, Copy, Debug)]
pub struct LogThrottle {
    max_lines: u16,
    /// Number of lines that may still be logged in the current interval.
    remaining: u16,
    /// End of the current interval. The next interval begins with the first line at or after this time.
    interval_end: Time,
    /// Number of suppressed events that have not been reported yet, at most `u32::MAX`, so that the throttle of each signaling connection takes
    /// only 16 bytes.
    suppressed: u32,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new(1)
    }
}

impl LogThrottle {
    /// Allows `max_lines` lines per second.
    pub const fn new(max_lines: u16) -> Self {
        Self { max_lines, remaining: max_lines, interval_end: Time::ZERO, suppressed: 0 }
    }

    /// Whether the throttle permits a log line about one event at `now`. If it does not, the event is counted as suppressed.
    pub fn allow(&mut self, now: Time) -> bool {
        let allowed = self.take_line(now);
        self.record(u64::from(!allowed));
        allowed
    }

    /// Counts `events` as suppressed.
    pub fn record(&mut self, events: u64) {
        self.suppressed = self.suppressed.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
    }

    /// Returns the number of suppressed events and resets this number to 0. Returns `None` if no event was suppressed or the throttle
    /// permits no line at `now`.
    pub fn take_due(&mut self, now: Time) -> Option<u64> {
        (self.suppressed > 0 && self.take_line(now)).then(|| self.take_suppressed())
    }

    /// Returns the number of suppressed events and resets this number to 0. Call this method after [`LogThrottle::allow`] has permitted a
    /// log line.
    pub fn take_suppressed(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.suppressed))
    }

    /// Number of suppressed events that have not been reported yet.
    pub(crate) fn suppressed(&self) -> u64 {
        u64::from(self.suppressed)
    }

    fn take_line(&mut self, now: Time) -> bool {
        if now >= self.interval_end {
            self.interval_end = now + INTERVAL;
            self.remaining = self.max_lines;
        }
        let allowed = self.remaining > 0;
        self.remaining -= u16::from(allowed);
        allowed
    }

    /// Number of lines that may still be logged in the interval that contains `now`.
    #[cfg(test)]
    pub(crate) fn remaining(&self, now: Time) -> u16 {
        if now >= self.interval_end { self.max_lines } else { self.remaining }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_second_is_allowed_and_the_rest_is_counted() {
        let mut throttle = LogThrottle::default();
        let allowed = [0, 0, 999, 1_000, 1_500, 5_000].map(|millis| throttle.allow(Time::from_millis(millis)));
        assert_eq!(allowed, [true, false, false, true, false, true]);
        assert_eq!(throttle.suppressed(), 3);
        assert_eq!(throttle.take_due(Time::from_millis(5_999)), None);
        assert_eq!(throttle.take_due(Time::from_millis(6_000)), Some(3));
        assert_eq!(throttle.take_due(Time::from_millis(9_000)), None);
    }
}
