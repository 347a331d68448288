//! What the machine that measured has to do with the numbers.

use super::{Caveat, Code, say};
use crate::report::Report;
use crate::report::machine::MachineNumbers;
use crate::report::wording::{count, time};

/// A send call that takes longer can be mistaken for a part of a local network's path, in microseconds. On an idle
/// machine it takes 3 to 30.
const CALL_MATTERS_US: f64 = 100.0;
/// Sleeps that end later than this bunch packets, in microseconds: the shortest packets of jamjam are 1,333 µs apart.
const WAKE_MATTERS_US: f64 = 1_000.0;

/// The gravest first: what makes numbers wrong, then what blurs them.
pub(super) fn caveats(report: &Report) -> Vec<Caveat> {
    let Some(machine) = &report.machine else { return Vec::new() };
    let found = [dropped(machine), suspended(machine), jumped(machine), slow_calls(machine), late_wakes(machine)];
    found.into_iter().flatten().collect()
}

fn dropped(machine: &MachineNumbers) -> Option<Caveat> {
    let dropped = machine.kernel_dropped.filter(|dropped| *dropped > 0)?;
    let text = format!(
        "this machine's receive buffer was full {}: what it had no room for counts as lost, though the path is not to \
         blame; give a larger --socket-buffer",
        if dropped == 1 { "once".to_owned() } else { format!("{dropped} times") }
    );
    Some(say(Code::KernelDropped, text))
}

fn suspended(machine: &MachineNumbers) -> Option<Caveat> {
    let text = format!(
        "this machine slept for {} during the run: what was on its way then is lost, or came later than is told",
        time(machine.suspended_ms * 1e3)
    );
    (machine.suspended_ms > 0.0).then(|| say(Code::Suspended, text))
}

fn jumped(machine: &MachineNumbers) -> Option<Caveat> {
    let largest = machine.clock_jump_max_ms?;
    let sign = if largest > 0.0 { "+" } else { "" };
    let jumps = if machine.clock_jumps == 1 {
        format!("jumped by {sign}{}", time(largest * 1e3))
    } else {
        format!("jumped {}, by up to {sign}{}", count(machine.clock_jumps, "time"), time(largest * 1e3))
    };
    let text = format!(
        "this machine's clock {jumps}: round trips of what was being received just then may be off by up to 50 ms, and \
         started_unix_ms is by the clock as it was at the end"
    );
    Some(say(Code::ClockJumped, text))
}

fn slow_calls(machine: &MachineNumbers) -> Option<Caveat> {
    let p99 = machine.send_call_p99_us.filter(|p99| *p99 > CALL_MATTERS_US)?;
    let text = format!(
        "handing a packet to the system took {} (p99), which is part of its round trip: read p99 and jitter with care; a \
         capture, a local firewall or other programs may slow it",
        time(p99)
    );
    Some(say(Code::SlowSendCalls, text))
}

fn late_wakes(machine: &MachineNumbers) -> Option<Caveat> {
    let p99 = machine.wake_p99_us.filter(|p99| *p99 > WAKE_MATTERS_US)?;
    let text = format!(
        "this machine woke up {} late (p99): packets leave late and in bunches, and where the system stamps no arrivals \
         round trips are longer by it; close other programs, or measure from a machine with less to do",
        time(p99)
    );
    Some(say(Code::LateWakeUps, text))
}
