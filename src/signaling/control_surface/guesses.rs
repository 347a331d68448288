//! Limits guessing of room codes: wrong codes per source, and wrong codes of all sources together.
//!
//! The limit per source alone would not stop an attacker with many addresses. When the budget of all sources is used up, only addresses
//! that joined a room before can join until the period ends. Each used-up period doubles the length of the next one.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::address::source_network;
use crate::rate_limit::{WindowLimit, WindowLimiter};
use crate::time::Time;

/// Length of a period. It starts with the first wrong code after the previous period.
const PERIOD: Duration = Duration::from_secs(15 * 60);

/// Maximum number of wrong codes per source and period.
const MAX_WRONG_CODES_PER_SOURCE: u32 = 100;

/// Maximum number of wrong codes of all sources in one period.
const MAX_WRONG_CODES: u32 = 200;

/// Maximum factor by which a period is longer than [`PERIOD`].
const MAX_BACKOFF: u32 = 16;

/// Maximum number of sources whose wrong codes are counted, and of sources that are known.
const MAX_SOURCES: usize = 4_096;

/// Counts wrong room codes.
pub(super) struct CodeGuesses {
    per_source: WindowLimiter,
    period_end: Time,
    wrong_codes: u32,
    /// The factor by which the current period is longer than [`PERIOD`].
    backoff: u32,
    known_sources: HashSet<IpAddr>,
    /// The known sources in the order of their first join.
    known_order: VecDeque<IpAddr>,
}

impl Default for CodeGuesses {
    fn default() -> Self {
        let limit = WindowLimit { count: MAX_WRONG_CODES_PER_SOURCE, period: PERIOD };
        Self {
            per_source: WindowLimiter::new(limit, MAX_SOURCES),
            period_end: Time::ZERO,
            wrong_codes: 0,
            backoff: 1,
            known_sources: HashSet::new(),
            known_order: VecDeque::new(),
        }
    }
}

impl CodeGuesses {
    /// Whether a code of `source` may be checked. `Err` is the reason why it is rejected without a check.
    pub(super) fn may_check(&mut self, now: Time, source: IpAddr) -> Result<(), &'static str> {
        if self.per_source.retry_after(now, source).is_some() {
            return Err("too many wrong codes from this address");
        }
        let is_used_up = now < self.period_end && self.wrong_codes >= MAX_WRONG_CODES;
        if is_used_up && !self.known_sources.contains(&source_network(source)) {
            return Err("too many wrong codes from all addresses");
        }
        Ok(())
    }

    /// Counts a wrong code of `source`. Returns true if it used up the budget of all sources.
    pub(super) fn on_wrong_code(&mut self, now: Time, source: IpAddr) -> bool {
        // If the limit of the source is reached, a further wrong code is not counted.
        let _ = self.per_source.check(now, source);
        if now >= self.period_end {
            let was_used_up = self.wrong_codes >= MAX_WRONG_CODES;
            // A pause as long as the previous period ends the back-off.
            let is_soon = now < self.period_end + PERIOD * self.backoff;
            self.backoff = if was_used_up && is_soon { (2 * self.backoff).min(MAX_BACKOFF) } else { 1 };
            self.period_end = now + PERIOD * self.backoff;
            self.wrong_codes = 0;
        }
        self.wrong_codes = self.wrong_codes.saturating_add(1);
        self.wrong_codes == MAX_WRONG_CODES
    }

    /// Records a source that knows the code of a room.
    pub(super) fn on_join(&mut self, source: IpAddr) {
        let source = source_network(source);
        if !self.known_sources.insert(source) {
            return;
        }
        self.known_order.push_back(source);
        if self.known_order.len() > MAX_SOURCES
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known_sources.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn source(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// Number of codes that `sources` can check until `minutes` have passed. Each source tries ten codes per minute.
    fn checked_codes(sources: u32, minutes: u64) -> u32 {
        let (mut guesses, mut checked) = (CodeGuesses::default(), 0);
        for minute in 0..minutes {
            let now = Time::from_millis(minute * MINUTE);
            for number in 0..sources * 10 {
                let source = source(number % sources);
                if guesses.may_check(now, source).is_ok() {
                    checked += 1;
                    guesses.on_wrong_code(now, source);
                }
            }
        }
        checked
    }

    #[test]
    fn many_addresses_cannot_check_more_codes_than_the_budget() {
        // Periods of 15, 30, 60, 120, 240, 240 and 240 minutes begin within 720 minutes.
        assert_eq!((checked_codes(1, 720), checked_codes(1_000, 720)), (4_800, 1_400));
        // Two addresses use up the budget, too.
        assert_eq!(checked_codes(2, 720), 1_400);
    }

    #[test]
    fn known_addresses_can_join_while_the_budget_is_used_up() {
        let (mut guesses, now) = (CodeGuesses::default(), Time::from_millis(1));
        guesses.on_join(source(7));
        let used_up: Vec<u32> = (0..250).filter(|number| guesses.on_wrong_code(now, source(1_000 + number))).collect();
        assert_eq!(used_up, [199]);
        assert_eq!(guesses.may_check(now, source(8)), Err("too many wrong codes from all addresses"));
        assert_eq!(guesses.may_check(now, source(7)), Ok(()));
        (0..100).for_each(|_| assert!(!guesses.on_wrong_code(now, source(7))));
        assert_eq!(guesses.may_check(now, source(7)), Err("too many wrong codes from this address"));
        assert_eq!(guesses.may_check(now + PERIOD, source(8)), Ok(()));
    }

    #[test]
    fn backoff_ends_after_a_quiet_period() {
        let mut guesses = CodeGuesses::default();
        let mut use_up = |now: Time| {
            assert_eq!((0..200).filter(|number| guesses.on_wrong_code(now, source(*number))).count(), 1);
            let until = (1..=240).find(|minute| guesses.may_check(now + PERIOD / 15 * *minute, source(9_999)).is_ok());
            until.expect("the period ends")
        };
        let at = |minute: u64| Time::from_millis(minute * MINUTE);
        assert_eq!((use_up(at(0)), use_up(at(15)), use_up(at(45))), (15, 30, 60));
        // The third period ended at minute 105, and the pause until minute 165 is as long.
        assert_eq!(use_up(at(165)), 15);
    }

    #[test]
    fn known_sources_are_bounded() {
        let mut guesses = CodeGuesses::default();
        (0..5_000).for_each(|number| guesses.on_join(source(number)));
        (0..5_000).for_each(|number| guesses.on_join(source(number % 10)));
        assert!(guesses.known_sources.len() <= MAX_SOURCES && guesses.known_order.len() <= MAX_SOURCES);
    }
}
