//! The machine that measured, as it is printed.

use serde::Serialize;

use super::numbers::{micros, millis, unsigned_millis};
use crate::stats::Machine;

/// What the machine has cost and done itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct MachineNumbers {
    pub send_call_count: u64,
    pub send_call_p50_us: Option<f64>,
    pub send_call_p99_us: Option<f64>,
    pub send_call_max_us: Option<f64>,
    pub wake_count: u64,
    pub wake_p50_us: Option<f64>,
    pub wake_p99_us: Option<f64>,
    pub wake_max_us: Option<f64>,
    pub clock_jumps: u64,
    pub clock_jump_max_ms: Option<f64>,
    pub suspended_ms: f64,
    pub kernel_dropped: Option<u64>,
}

impl From<&Machine> for MachineNumbers {
    fn from(machine: &Machine) -> Self {
        let Machine { send_call, wake, clock, kernel_dropped } = machine;
        Self {
            send_call_count: send_call.count(),
            send_call_p50_us: send_call.shown_percentile(0.5).map(micros),
            send_call_p99_us: send_call.shown_percentile(0.99).map(micros),
            send_call_max_us: send_call.max().map(micros),
            wake_count: wake.count(),
            wake_p50_us: wake.shown_percentile(0.5).map(micros),
            wake_p99_us: wake.shown_percentile(0.99).map(micros),
            wake_max_us: wake.max().map(micros),
            clock_jumps: clock.count(),
            clock_jump_max_ms: clock.largest().map(millis),
            suspended_ms: unsigned_millis(clock.suspended()),
            kernel_dropped: *kernel_dropped,
        }
    }
}
