//! Rows beside the table: what the judged stream's order and delay show, and the machine that measured it.

use super::{listed, row};
use crate::report::machine::MachineNumbers;
use crate::report::numbers::StreamNumbers;
use crate::report::wording::{count, ratio, time, time_or_dash};

/// Bursts, reordering and delay variation, each where there is some.
pub(super) fn stream_rows(text: &mut String, stream: &StreamNumbers) {
    let order = &stream.order;
    if order.burst_max > 0 {
        row(text, "bursts of loss", &bursts(&order.burst_lengths, order.burst_max));
    }
    if let (Some(part), Some(mean)) = (order.reordered_ratio, order.reorder_extent_mean) {
        let (max, late) = (order.reorder_extent_max, time_or_dash(order.reorder_late_max_us));
        row(text, "reordering", &format!("{}, extent mean {mean:.1}, max {max}, late by at most {late}", ratio(part)));
    }
    let variation = &stream.variation;
    if variation.pdv_p50_us.is_some() {
        let pdv = [
            ("p50", variation.pdv_p50_us),
            ("p99", variation.pdv_p99_us),
            ("p99.9", variation.pdv_p999_us),
            ("max", variation.pdv_max_us),
        ];
        row(text, "delay variation", &listed(&pdv));
    }
    if let (Some(min), Some(max)) = (variation.ipdv_min_us, variation.ipdv_max_us) {
        let magnitudes = [
            ("mean", variation.ipdv_abs_mean_us),
            ("p50", variation.ipdv_abs_p50_us),
            ("p99", variation.ipdv_abs_p99_us),
        ];
        let range = format!("{} to {}", time(min), time(max));
        row(text, "from one to the next", &format!("{}; {range}", listed(&magnitudes)));
    }
}

/// `12 × 1 packet, 3 × 2, 1 × 10 or more; longest 14`.
fn bursts(lengths: &[u64], longest: u64) -> String {
    let mut parts = Vec::new();
    for (place, bursts) in lengths.iter().enumerate().filter(|(_, bursts)| **bursts > 0) {
        let length = if parts.is_empty() { count(place as u64 + 1, "packet") } else { (place + 1).to_string() };
        let more = if place + 1 == lengths.len() { " or more" } else { "" };
        parts.push(format!("{bursts} × {length}{more}"));
    }
    format!("{}; longest {longest}", parts.join(", "))
}

/// What sending and waking cost.
pub(super) fn machine_rows(text: &mut String, machine: &MachineNumbers) {
    if machine.send_call_count > 0 {
        let calls =
            [("p50", machine.send_call_p50_us), ("p99", machine.send_call_p99_us), ("max", machine.send_call_max_us)];
        row(text, "send call", &listed(&calls));
    }
    if machine.wake_count > 0 {
        let wakes = [("p50", machine.wake_p50_us), ("p99", machine.wake_p99_us), ("max", machine.wake_max_us)];
        row(text, "wake-up", &listed(&wakes));
    }
}
