//! The due times and the end of a run by `docs/measuring.md` and `docs/rules.md`, independently of the client's code.

use super::log::Event;
use super::reference_counts::{self, ReferenceConfig};

/// n times the interval, which is given as numerator and denominator in seconds. The result is rounded down to nanoseconds. For example,
/// 128/48,000 s is not a whole number of nanoseconds.
pub(crate) fn offset(n: usize, (numerator, denominator): (u64, u64)) -> i64 {
    (n as u128 * u128::from(numerator) * 1_000_000_000 / u128::from(denominator)) as i64
}

/// The pacing errors of the packets that the system did not refuse. The first packet is due at `first`.
pub(crate) fn pacing(left: &[i64], refused: &[bool], first: i64, interval: (u64, u64)) -> Vec<i64> {
    (0..left.len()).filter(|n| !refused[*n]).map(|n| left[n] - first - offset(n, interval)).collect()
}

/// A run ends 100 ms after all its packets have been sent and have returned.
const GRACE: i64 = 100_000_000;

/// The times at which a run may end if no stop signal interrupts it. `counted` is the run's log from the start of counting. After the last packet
/// was sent, the end time is computed again with each packet that the client reads; if it is in the past, the run ends at once. The simulated
/// machine can wake the client up to `slack` nanoseconds late, so that it may or may not read a reply before it checks the deadline.
pub(crate) fn possible_ends(config: &ReferenceConfig, counted: &[Event], slack: i64) -> Vec<i64> {
    let config = ReferenceConfig { wait_for: false, interrupted: None, ..config.clone() };
    let sent = |event: &Event| matches!(event, Event::Sent { .. });
    let Some(last) = counted.iter().rposition(sent) else { return Vec::new() };
    let last_left = counted[last].at();
    let mut end = expected_end(&config, &counted[..=last], last_left).max(last_left);
    let mut ends = Vec::new();
    for known in last + 1..counted.len() {
        let at = counted[known].at();
        if at >= end {
            ends.push(end);
        }
        if at > end + slack {
            return ends;
        }
        end = expected_end(&config, &counted[..=known], last_left).max(at).max(last_left);
    }
    ends.push(end);
    ends
}

fn expected_end(config: &ReferenceConfig, known: &[Event], last_left: i64) -> i64 {
    let numbers = reference_counts::count(config, known);
    let deadline = numbers.counts.iter().filter_map(|counts| counts.last_deadline).max().unwrap_or(last_left);
    let all_returned = numbers.counts.iter().all(|counts| counts.sent == counts.returned);
    // With --no-echo, no replies are expected, so the run is complete when the last packet is sent.
    if !config.answers_expected {
        return deadline.min(last_left + GRACE);
    }
    let last_return = numbers.counts.iter().flat_map(|counts| &counts.returns).map(|(_, arrived)| *arrived).max();
    match last_return {
        Some(at) if all_returned => deadline.min(at.max(last_left) + GRACE),
        _ => deadline,
    }
}
