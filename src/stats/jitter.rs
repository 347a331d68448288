//! Interarrival jitter as RTP defines it (RFC 3550, section 6.4.1).

/// The running estimate `J += (|D| − J) / 16`, fed in arrival order.
///
/// `D` is the difference of two successive transit times, so a constant offset between clocks, and a constant hold
/// at the server, cancel out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jitter {
    previous: Option<i64>,
    estimate: f64,
    sum: f64,
    max: f64,
    count: u64,
}

impl Jitter {
    /// Takes the transit time of the packet that arrived next, in nanoseconds.
    pub fn on_transit(&mut self, transit_ns: i64) {
        if let Some(previous) = self.previous.replace(transit_ns) {
            let difference = transit_ns.abs_diff(previous) as f64;
            self.estimate += (difference - self.estimate) / 16.0;
            self.sum += self.estimate;
            self.max = self.max.max(self.estimate);
            self.count += 1;
        }
    }

    /// How often the estimate was updated: the packets from the second on.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the estimate after each update, in nanoseconds.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The largest the estimate ever was, in nanoseconds.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    /// The estimate after the last update, in nanoseconds.
    pub fn last(&self) -> Option<f64> {
        (self.count > 0).then_some(self.estimate)
    }
}
