//! What may have distorted times, on this host and on the server's.

use super::found::{Found, diagnose};
use crate::report::figures::{PacingFigures, StreamFigures};
use crate::report::model::Report;
use crate::report::quantities::{format_count, format_decimals, format_length, format_time};

/// A pacing error above this, in microseconds, is visible in the jitter that a receiver measures.
const PACING_WARNING_US: f64 = 1_000.0;
/// Maximum change of the median pacing error during a run, in microseconds.
const PACING_DRIFT_WARNING_US: f64 = 100.0;
/// Send calls above this (p99), in microseconds, are noticeable in round-trip times on a local network. On an idle host, they take 3 to 30 µs.
pub(crate) const SEND_CALL_WARNING_US: f64 = 100.0;
/// A timer error above this (p99), in microseconds, is reported: packets with 64 samples at 48 kHz have an interval of 1,333 µs, and leave in
/// bursts if the timer error approaches it.
pub(crate) const TIMER_ERROR_WARNING_US: f64 = 1_000.0;

pub(super) fn pauses(found: &mut Found, report: &Report) {
    let paused = |host, pauses, ms| {
        let count = if pauses > 1 { format!(" in {pauses} pauses") } else { String::new() };
        let why =
            "it was stopped, suspended, too busy or without a network. Packets that were in flight then are excluded";
        format!("{host} did not run for {}{count}: {why}", format_length(ms))
    };
    diagnose! { found:
        Warning "paused" if (let Some(host) = &report.host_timing && host.pauses > 0) =>
            "{}", paused("this host", host.pauses, host.paused_ms);
        Warning "server_paused" if (let Some(server) = &report.server && server.pauses > 0) =>
            "{}", paused("the server", server.pauses, server.paused_ms);
    }
}

pub(super) fn this_host(found: &mut Found, report: &Report) {
    let schedule = report.planned_duration_ms.zip(report.actual_duration_ms);
    let slow = schedule.filter(|(planned, _)| report.schedule_shift_total_ms > planned / 2.0);
    diagnose! { found:
        Warning "server_dropped" if (let Some(server) = &report.server && server.dropped > 0) =>
            "the receive buffer of the server's host was full and dropped {}, perhaps of other clients. Close other programs there, or raise its \
             net.core.rmem_max (Linux)", format_count(server.dropped, "datagram");
        Warning "slow_schedule" if (let Some((planned, actual)) = slow) =>
            "this host sent {} times slower than planned", format_decimals(actual / planned, 1);
    }
    let Some(host) = &report.host_timing else { return };
    let addresses: Vec<String> = host.address_changes.iter().map(|change| change.to.to_string()).collect();
    let jump = |largest: f64| {
        let largest = format!("{}{}", if largest > 0.0 { "+" } else { "" }, format_time(largest * 1e3));
        match host.clock_jumps {
            1 => format!("jumped by {largest}"),
            jumps => format!("jumped {}, by up to {largest}", format_count(jumps, "time")),
        }
    };
    diagnose! { found:
        Warning "address_changed" if (let Some(first) = host.address_changes.first()) =>
            "this host's address changed from {} to {}, and the run continued from the new address. Packets that were in flight then are excluded",
            first.from, addresses.join(" to ");
        Warning "kernel_dropped" if (let Some(dropped @ 1..) = host.kernel_dropped) =>
            "the receive buffer of this host was full and dropped {}. Close other programs, or raise net.core.rmem_max (Linux)",
            format_count(dropped, "datagram");
        Warning "clock_jumped" if (let Some(largest) = host.clock_jump_max_ms) =>
            "the clock of this host {}. A round-trip time at the moment of a jump may be wrong by up to 50 ms. The start time (started_unix_ms) is \
             calculated from the clock at the end of the run. Therefore, the start time may differ from the clock at the start",
            jump(largest);
    }
}

pub(super) fn precision(found: &mut Found, report: &Report) {
    // Without a round trip, its precision does not matter.
    if report.replies_expected && !report.evaluated().is_some_and(StreamFigures::has_replies) {
        return;
    }
    let host = report.host_timing.as_ref();
    let pacing = report.pacing.as_ref();
    let late = |pacing: &PacingFigures| match pacing.pacing_p99_us {
        Some(p99) => Some(("p99", p99)),
        None => Some(("maximum", pacing.pacing_max_us?)),
    };
    let medians = |pacing: &PacingFigures| pacing.pacing_first_5s_p50_us.zip(pacing.pacing_last_5s_p50_us);
    diagnose! { found:
        Note "slow_send_calls" if (let Some(p99) = host.and_then(|host| host.send_call_p99_us) && p99 > SEND_CALL_WARNING_US) =>
            "send calls on this host took {} (p99). Round-trip times and jitter include this time. A packet capture, a local firewall or another \
             program may slow down send calls", format_time(p99);
        Note "timer_error" if (let Some(p99) = host.and_then(|host| host.timer_error_p99_us) && p99 > TIMER_ERROR_WARNING_US) =>
            "timers on this host fired {} late (p99), so packets leave late and in bursts. If the kernel does not timestamp received packets, \
             round-trip times are also longer by this amount. Close other programs or measure from a less busy host", format_time(p99);
        Note "pacing_error" if (let Some((name, error)) = pacing.and_then(late) && error > PACING_WARNING_US) =>
            "packets were sent late (pacing error: {name} {}). Round trips and jitter exclude this; a receiver sees it as jitter",
            format_time(error);
        Note "pacing_drift" if (let Some((first, last)) = pacing.and_then(medians) && (last - first).abs() > PACING_DRIFT_WARNING_US) =>
            "the pacing on this host drifted. Median error: {} in the first 5 s, {} in the last 5 s", format_time(first), format_time(last);
    }
}
