//! Watches whether the system's clock is set while something is measured by it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::stats::{ClockJumps, ClockReading};
use crate::time::{Time, nanos};

/// The clocks, compared at each look.
#[derive(Debug)]
pub struct ClockWatch {
    origin: Instant,
    jumps: ClockJumps,
}

impl ClockWatch {
    /// Takes the first look.
    pub fn start() -> Self {
        let mut watch = Self { origin: Instant::now(), jumps: ClockJumps::default() };
        watch.look();
        watch
    }

    /// Takes another look. `Some`: the wall clock has jumped by this many nanoseconds since the last one.
    pub fn look(&mut self) -> Option<i64> {
        let reading = self.read();
        self.jumps.on_reading(reading)
    }

    /// Takes another look on behalf of an echo server, and logs a jump.
    pub fn warn(&mut self) {
        if let Some(jump) = self.look() {
            warn!("{}", sentence(jump));
        }
    }

    /// Takes the last look. What all of them have shown.
    pub fn finish(mut self) -> ClockJumps {
        self.look();
        self.jumps
    }

    fn read(&self) -> ClockReading {
        let now = || Time::from_nanos(nanos(self.origin.elapsed()));
        let before = now();
        let wall_ns = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => nanos(since).cast_signed(),
            Err(until) => -nanos(until.duration()).cast_signed(),
        };
        let boot_ns = boot_ns();
        ClockReading { before, wall_ns, boot_ns, after: now() }
    }
}

/// The clock that goes on while the machine sleeps. Other systems have none here that tells sleep from a jump.
fn boot_ns() -> Option<i64> {
    #[cfg(target_os = "linux")]
    let now = {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Some(now.tv_sec * 1_000_000_000 + now.tv_nsec as i64)
    };
    #[cfg(not(target_os = "linux"))]
    let now = None;
    now
}

fn sentence(jump_ns: i64) -> String {
    format!(
        "The system's clock jumped by {:+.3} s: an echo of what was being received then may have left up to 50 ms early",
        jump_ns as f64 / 1e9
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_told_with_its_direction() {
        let begins = |jump, text: &str| assert!(sentence(jump).starts_with(text), "{}", sentence(jump));
        begins(1_500_000_000, "The system's clock jumped by +1.500 s: ");
        begins(-20_000_000, "The system's clock jumped by -0.020 s: ");
    }

    #[test]
    fn the_clocks_are_read_one_after_the_other() {
        let watch = ClockWatch::start();
        let (first, second) = (watch.read(), watch.read());
        assert!(first.before <= first.after && first.after <= second.before && second.before <= second.after);
        assert!(first.boot_ns <= second.boot_ns);
        assert_eq!(first.boot_ns.is_some(), cfg!(target_os = "linux"));
        // 2020-01-01: the wall clock is no other one.
        assert!(first.wall_ns > 1_577_836_800_000_000_000, "{first:?}");
    }
}
