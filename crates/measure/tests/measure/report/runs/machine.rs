//! Machine statistics whose figures are all nonzero.

use jamjam_core::stats::{ClockReading, HostTiming};
use jamjam_core::time::Time;

const MS: i64 = 1_000_000;

/// Records 1,000 send calls and 1,000 timer errors. Send call n takes n ns, and timer error n is 2n ns. The clock is set forward by 3 s and
/// back by 4 s. The machine is suspended for 2 s, and the receive buffer overflows 12 times.
pub(crate) fn machine() -> HostTiming {
    let mut machine = HostTiming { kernel_dropped: Some(12), ..HostTiming::default() };
    for ns in 1..=1_000 {
        machine.send_call.record(ns);
        machine.timer_error.record(2 * ns);
    }
    for (mono, wall, boot) in [(0, 0, 0), (50, 3_050, 50), (100, -900, 100), (150, 1_150, 2_150)] {
        let at = Time::from_millis(mono);
        machine.clock_jumps.on_reading(ClockReading {
            before: at,
            wall_ns: wall * MS,
            boot_ns: Some(boot * MS),
            after: at,
        });
    }
    machine
}
