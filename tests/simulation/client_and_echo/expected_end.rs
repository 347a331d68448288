//! When a run is over, from the text of `docs/measuring.md` alone.

use super::log::Event;
use super::reference_counts::{self, STREAMS, Terms};
use super::stun;

/// "A run ends 100 ms after every packet has returned and none is left to send".
const GRACE: i64 = 100_000_000;

/// When a run that no signal ended is over, `counted` being its log from when counting began, and its sending done with
/// the last packet in it. What has been read is known; a deadline that falls back behind what was just read is over then.
/// A machine that is up to `slack` late may receive a reply just after the deadline, before it checks: then either result is correct.
/// The question of `--loss-direction` at the end keeps the run going until `closed`, if it is given.
pub(crate) fn over(terms: &Terms, counted: &[Event], slack: i64, closed: Option<i64>) -> Vec<i64> {
    let terms = Terms { wait_for: false, begin: None, interrupted: None, ..terms.clone() };
    let sent = |event: &Event| matches!(event, Event::Sent { bytes, .. } if !stun::is_question(bytes));
    let Some(last) = counted.iter().rposition(sent) else { return Vec::new() };
    let last_left = counted[last].at();
    let closed = closed.unwrap_or(last_left);
    let mut over = over_as_known(&terms, &counted[..=last], last_left).max(closed);
    let mut right = Vec::new();
    for known in last + 1..counted.len() {
        let at = counted[known].at();
        if at >= over {
            right.push(over);
        }
        if at > over + slack {
            return right;
        }
        over = over_as_known(&terms, &counted[..=known], last_left).max(at).max(closed);
    }
    right.push(over);
    right
}

fn over_as_known(terms: &Terms, known: &[Event], last_left: i64) -> i64 {
    let numbers = reference_counts::count(terms, known);
    let deadline = numbers.counts.iter().filter_map(|counts| counts.last_deadline).max().unwrap_or(last_left);
    let all_returned = STREAMS.iter().all(|stream| numbers.of(*stream).sent == numbers.of(*stream).returned);
    // Nothing is expected back with --no-echo: then the last packet sent completes the run.
    if !terms.answers_expected {
        return deadline.min(last_left + GRACE);
    }
    let last_return = numbers.counts.iter().flat_map(|counts| &counts.returns).map(|(_, arrived)| *arrived).max();
    match last_return {
        Some(at) if all_returned => deadline.min(at.max(last_left) + GRACE),
        _ => deadline,
    }
}
