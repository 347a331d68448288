//! Limits guessing of room codes: wrong codes per source, and of all sources together.
//!
//! The limit per source alone would not stop an attacker with many addresses. When the budget of all sources is used up, only addresses
//! that joined a room before can join until the period ends, and each used-up period doubles the next one. So the attacker can keep new
//! addresses out, but cannot find a code.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::control_surface_events::ROOM_CODE_DIGITS;
use jamjam_core::address::source_network;
use jamjam_core::rate_limit::{WindowLimit, WindowLimiter};
use jamjam_core::time::Time;

/// Length of a period. It starts with the first wrong code after the previous period.
const PERIOD: Duration = Duration::from_secs(15 * 60);

/// Maximum number of wrong codes per source and period.
const MAX_WRONG_CODES_PER_SOURCE: u32 = 100;

/// Maximum number of wrong codes per known source and period, if its codes are to be checked after the budget is used up.
const MAX_WRONG_CODES_PER_KNOWN_SOURCE: u32 = 5;

/// Maximum number of wrong codes of all sources in one period.
const MAX_WRONG_CODES: usize = 200;

/// Maximum factor by which a period is longer than [`PERIOD`].
const MAX_BACKOFF: u32 = 16;

/// Maximum number of sources whose wrong codes are counted, of sources that are known, and of wrong codes that are remembered.
const MAX_SOURCES: usize = 4_096;

/// Counts wrong room codes.
pub(super) struct CodeGuesses {
    per_source: WindowLimiter,
    per_known_source: WindowLimiter,
    period_end: Time,
    /// The factor by which the current period is longer than [`PERIOD`].
    backoff: u32,
    /// The wrong codes of the current period. A code that a client sends again and again is counted once.
    counted: HashSet<(IpAddr, String)>,
    /// When each known source joined last.
    known_sources: HashMap<IpAddr, Time>,
}

impl Default for CodeGuesses {
    fn default() -> Self {
        let limiter = |count| WindowLimiter::new(WindowLimit { count, period: PERIOD }, MAX_SOURCES);
        Self {
            per_source: limiter(MAX_WRONG_CODES_PER_SOURCE),
            per_known_source: limiter(MAX_WRONG_CODES_PER_KNOWN_SOURCE),
            period_end: Time::ZERO,
            backoff: 1,
            counted: HashSet::new(),
            known_sources: HashMap::new(),
        }
    }
}

impl CodeGuesses {
    /// Whether a code of `source` may be checked. `Err` is the reason why it is rejected without a check.
    pub(super) fn may_check(&mut self, now: Time, source: IpAddr) -> Result<(), &'static str> {
        if self.per_source.retry_after(now, source).is_some() {
            return Err("too many wrong codes from this address");
        }
        let is_used_up = now < self.period_end && self.counted.len() >= MAX_WRONG_CODES;
        let is_known = self.known_sources.contains_key(&source_network(source));
        if is_used_up && (!is_known || self.per_known_source.retry_after(now, source).is_some()) {
            return Err("too many wrong codes from all addresses");
        }
        Ok(())
    }

    /// Counts a wrong code of `source`, unless this reveals nothing about the codes of open rooms. Returns true if it used up the budget
    /// of all sources.
    pub(super) fn on_wrong_code(&mut self, now: Time, source: IpAddr, code: &str) -> bool {
        if !ROOM_CODE_DIGITS.contains(&code.len()) {
            return false;
        }
        if now >= self.period_end {
            let was_used_up = self.counted.len() >= MAX_WRONG_CODES;
            // A pause as long as the previous period ends the back-off.
            let is_soon = now < self.period_end + PERIOD * self.backoff;
            self.backoff = if was_used_up && is_soon { (2 * self.backoff).min(MAX_BACKOFF) } else { 1 };
            self.period_end = now + PERIOD * self.backoff;
            self.counted.clear();
        }
        let wrong_code = (source_network(source), code.to_owned());
        if self.counted.contains(&wrong_code) {
            return false;
        }
        if self.counted.len() < MAX_SOURCES {
            self.counted.insert(wrong_code);
        }
        // If the limit of the source is reached, a further wrong code is not counted.
        for limiter in [&mut self.per_source, &mut self.per_known_source] {
            let _ = limiter.check(now, source);
        }
        self.counted.len() == MAX_WRONG_CODES
    }

    /// Records a source that knows the code of a room.
    pub(super) fn on_join(&mut self, now: Time, source: IpAddr) {
        self.known_sources.insert(source_network(source), now);
        if self.known_sources.len() > MAX_SOURCES {
            let oldest = self.known_sources.iter().min_by_key(|(_, joined_at)| **joined_at);
            if let Some((&oldest, _)) = oldest {
                self.known_sources.remove(&oldest);
            }
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

    fn code(number: u32) -> String {
        format!("{:06}", number % 1_000_000)
    }

    /// Uses up the budget with codes of other sources. Returns how many wrong codes this took.
    fn use_up(guesses: &mut CodeGuesses, now: Time) -> usize {
        let used = (1..=300).find(|number| guesses.on_wrong_code(now, source(1_000 + number), &code(*number)));
        used.expect("the budget is used up") as usize
    }

    /// Number of codes that `sources` can check until `minutes` have passed. Each source tries ten codes per minute.
    fn checked_codes(sources: u32, minutes: u64) -> u32 {
        let (mut guesses, mut checked, mut tried) = (CodeGuesses::default(), 0, 0);
        for minute in 0..minutes {
            let now = Time::from_millis(minute * MINUTE);
            for number in 0..sources * 10 {
                let source = source(number % sources);
                tried += 1;
                if guesses.may_check(now, source).is_ok() {
                    checked += 1;
                    guesses.on_wrong_code(now, source, &code(tried));
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
        guesses.on_join(now, source(7));
        assert_eq!(use_up(&mut guesses, now), 200);
        let used_up = Err("too many wrong codes from all addresses");
        assert_eq!((guesses.may_check(now, source(8)), guesses.may_check(now, source(7))), (used_up, Ok(())));
        // A few mistakes are permitted, but not an attack from known addresses.
        (0..4).for_each(|number| assert!(!guesses.on_wrong_code(now, source(7), &code(number))));
        assert_eq!(guesses.may_check(now, source(7)), Ok(()));
        guesses.on_wrong_code(now, source(7), &code(4));
        assert_eq!(guesses.may_check(now, source(7)), used_up);
        assert_eq!(guesses.may_check(now + PERIOD, source(8)), Ok(()));
    }

    #[test]
    fn codes_that_reveal_nothing_are_not_counted() {
        let (mut guesses, now) = (CodeGuesses::default(), Time::from_millis(1));
        for _ in 0..1_000 {
            // One client repeats a wrong code. Some texts cannot be a code.
            guesses.on_wrong_code(now, source(1), "9999");
            guesses.on_wrong_code(now, source(2), "123");
            guesses.on_wrong_code(now, source(3), "1234567");
        }
        assert_eq!(guesses.counted.len(), 1);
        assert_eq!(use_up(&mut guesses, now), 199);
    }

    #[test]
    fn backoff_ends_after_a_quiet_period() {
        let mut guesses = CodeGuesses::default();
        let mut use_up_at = |minute: u64| {
            let now = Time::from_millis(minute * MINUTE);
            use_up(&mut guesses, now);
            let until = (1..=240).find(|minute| guesses.may_check(now + PERIOD / 15 * *minute, source(9_999)).is_ok());
            until.expect("the period ends")
        };
        assert_eq!((use_up_at(0), use_up_at(15), use_up_at(45)), (15, 30, 60));
        // The third period ended at minute 105, and the pause until minute 165 is as long.
        assert_eq!(use_up_at(165), 15);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut guesses, at) = (CodeGuesses::default(), |number: u32| Time::from_millis(number.into()));
        for number in 0..5_000 {
            guesses.on_join(at(number), source(number));
            // The first source joins again and again, so it stays known.
            guesses.on_join(at(number), source(0));
            guesses.on_wrong_code(at(number), source(number), &code(number));
        }
        assert_eq!((guesses.known_sources.len(), guesses.counted.len()), (4_096, 4_096));
        assert!(guesses.known_sources.contains_key(&source(0)) && !guesses.known_sources.contains_key(&source(1)));
    }
}
