//! Limits guessing of room codes: wrong codes per source, and of all sources together.
//!
//! The limit per source alone would not stop an attacker with many addresses. When the codes of all sources are used up, only addresses that
//! joined a room before can join until one is available again. So the attacker can keep new addresses out, but cannot find a code.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::control_surface_events::ROOM_CODE_DIGITS;
use jamjam_core::address::source_network;
use jamjam_core::rate_limit::{Gcra, KeyedGcra, RequestRate};
use jamjam_core::time::Time;

/// Maximum number of wrong codes per source: 100 at once, and then one per two minutes, so that one address does not use up those of all.
pub const WRONG_CODE_RATE: RequestRate = RequestRate { count: 100, period: Duration::from_secs(100 * 120) };

/// Maximum number of wrong codes per known source while those of all sources are used up.
const KNOWN_SOURCE_RATE: RequestRate = RequestRate { count: 5, period: Duration::from_secs(15 * 60) };

/// Maximum number of wrong codes of all sources: 200 at once, and then one per minute.
pub const ALL_WRONG_CODES_RATE: RequestRate = RequestRate { count: 200, period: Duration::from_secs(200 * 60) };

/// How long a wrong code is remembered, which a client that sends it again does not guess.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// Maximum number of sources whose wrong codes are counted, of sources that are known, and of wrong codes that are remembered.
const MAX_SOURCES: usize = 4_096;

/// Counts wrong room codes.
pub(super) struct CodeGuesses {
    per_source: KeyedGcra<IpAddr>,
    per_known_source: KeyedGcra<IpAddr>,
    of_all: KeyedGcra<()>,
    /// Wrong codes, until `forget_at`.
    counted: HashSet<(IpAddr, String)>,
    forget_at: Time,
    /// When each known source joined last.
    known_sources: HashMap<IpAddr, Time>,
}

impl Default for CodeGuesses {
    fn default() -> Self {
        let per_source = |rate| KeyedGcra::new(Gcra::with_request_rate(rate), MAX_SOURCES);
        Self {
            per_source: per_source(WRONG_CODE_RATE),
            per_known_source: per_source(KNOWN_SOURCE_RATE),
            of_all: KeyedGcra::new(Gcra::with_request_rate(ALL_WRONG_CODES_RATE), 1),
            counted: HashSet::new(),
            forget_at: Time::ZERO,
            known_sources: HashMap::new(),
        }
    }
}

impl CodeGuesses {
    /// Whether a code of `source` may be checked. `Err` is the reason why it is rejected without a check.
    pub(super) fn may_check(&self, now: Time, source: IpAddr) -> Result<(), &'static str> {
        let source = source_network(source);
        if !self.per_source.wait(now, source).is_zero() {
            return Err("too many wrong codes from this address");
        }
        let is_known = self.known_sources.contains_key(&source);
        let may_use_own = is_known && self.per_known_source.wait(now, source).is_zero();
        if !(self.of_all.wait(now, ()).is_zero() || may_use_own) {
            return Err("too many wrong codes from all addresses");
        }
        Ok(())
    }

    /// Counts a wrong code of `source`, unless this reveals nothing about the codes of open rooms. Returns true if it used up those of all
    /// sources.
    pub(super) fn on_wrong_code(&mut self, now: Time, source: IpAddr, code: &str) -> bool {
        if !ROOM_CODE_DIGITS.contains(&code.len()) {
            return false;
        }
        if now >= self.forget_at {
            self.counted.clear();
            self.forget_at = now + REMEMBERED;
        }
        let source = source_network(source);
        if self.counted.contains(&(source, code.to_owned())) {
            return false;
        }
        if self.counted.len() < MAX_SOURCES {
            self.counted.insert((source, code.to_owned()));
        }
        // A wrong code above a limit is not counted.
        for limiter in [&mut self.per_source, &mut self.per_known_source] {
            let _ = limiter.try_charge(now, source);
        }
        self.of_all.try_charge(now, ()).is_ok() && !self.of_all.wait(now, ()).is_zero()
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
    fn many_addresses_cannot_check_more_codes_than_the_budget_and_one_leaves_some_of_it() {
        // 200 codes, and one per minute of twelve hours; for one address half as many.
        assert_eq!([1, 2, 1_000].map(|sources| checked_codes(sources, 720)), [459, 918, 919]);
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
        assert_eq!(guesses.may_check(now + Duration::from_secs(60), source(8)), Ok(()));
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
