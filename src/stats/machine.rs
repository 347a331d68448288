//! What the machine that measures has cost and done itself.

use super::{ClockJumps, Histogram};

/// The machine beside a run's results: what to think of them.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Time spent in each call that hands a packet to the system, in nanoseconds.
    pub send_call: Histogram,
    /// How much after the point it was to end at each sleep ended, in nanoseconds; of those that nothing ended sooner.
    pub wake: Histogram,
    /// Jumps of the wall clock.
    pub clock: ClockJumps,
    /// What the kernel threw away for want of room in our receive buffer; `None` where it does not tell.
    pub kernel_dropped: Option<u64>,
}
