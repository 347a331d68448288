//! How often the same datagram is answered: two echo servers that receive each other's echoes would exchange them forever.
//!
//! One datagram with a forged source is enough to start such an exchange. Nothing in the datagram shows it, but it is the same
//! datagram each time, from the same address and port. A client repeats itself rarely: AUDIO has a new sequence number each time,
//! and a KEEPALIVE without one is sent once per second. So the same datagram is answered again, but only so often. A KEEPALIVE
//! exchange with a round trip of one second looks exactly like a client; `guard.rs` sends a loop check to its source.

use std::time::Duration;

use crate::time::Time;

/// Sets of [`WAYS`] places, 8 bytes each: 1 MiB, of which the system gives what is used. All that one address may send in 2 s, which
/// is 16,000 datagrams, finds a place: with four ways, dozens of them would displace each other.
const SETS: usize = 16_384;
const WAYS: usize = 8;

/// How often the same datagram is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// One more each so many milliseconds.
    every: u32,
    /// This many in a row.
    at_once: u32,
}

impl Rule {
    /// The same KEEPALIVE: a client may send it once per second without end, and a network may hold up ten of them.
    pub(super) const KEEPALIVE: Self = Self { every: 800, at_once: 10 };

    /// All KEEPALIVEs of one source that have come before: at most 20 replies in any second.
    pub(super) const REPEATED_KEEPALIVES: Self = Self { every: 100, at_once: 10 };

    /// Loop checks of one source. Two in a row, because one may be lost.
    pub(super) const LOOP_CHECK: Self = Self { every: 30_000, at_once: 2 };

    /// How long a source that has returned a loop check counts as an echo server.
    pub(super) const ECHO_SERVER: Self = Self { every: 60_000, at_once: 1 };

    /// For AUDIO that waits for `delay`. A turn of an exchange takes the delays of both servers and a round trip, so six times the
    /// longer delay and 10 s are more than three turns if the round trip is below 3.3 s. Three in a row, because networks repeat
    /// packets and people restart a client on a fixed port.
    pub(super) fn audio(delay: Duration) -> Self {
        // A day at most, so that three of them are far from where milliseconds wrap (49 days).
        let every = Duration::from_secs(10).saturating_add(delay.saturating_mul(6)).min(Duration::from_secs(86_400));
        Self { every: every.as_millis() as u32, at_once: 3 }
    }

    /// How far ahead of the present the virtual time of a datagram may be, in milliseconds.
    const fn tolerance(self) -> u32 {
        self.every * self.at_once
    }
}

/// A place holds 31 bits of a datagram's digest, whether it has been answered more than once, and the virtual time in milliseconds
/// (the generic cell rate algorithm) until which it counts.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn new(mark: u32, repeated: bool, until: u32) -> Self {
        Self(u64::from(mark) << 33 | u64::from(repeated) << 32 | u64::from(until))
    }

    fn mark(self) -> u32 {
        (self.0 >> 33) as u32
    }

    fn is_repeated(self) -> bool {
        self.0 >> 32 & 1 == 1
    }

    /// How many milliseconds after `now` it is forgotten; 0 if it is already, and for one of another age of the wrapping clock.
    fn left(self, now: u32, most: u32) -> u32 {
        let left = (self.0 as u32).wrapping_sub(now);
        if left <= most { left } else { 0 }
    }

    /// Whether it counts at `now`, or did so at most `memory` milliseconds ago.
    fn is_remembered(self, now: u32, most: u32, memory: u32) -> bool {
        self.0 != 0 && (self.left(now, most) > 0 || now.wrapping_sub(self.0 as u32) < memory)
    }
}

/// Whether a datagram may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has come too often.
    TooOften,
    /// It has not come before, as far as is remembered.
    First,
    /// It has come once.
    Second,
    /// It has come twice or more.
    Later,
}

/// The datagrams that came lately.
pub(super) struct Repeats {
    /// Zeros from the system: memory is used where something is noted.
    sets: Vec<[u64; WAYS]>,
    /// The longest that a rule remembers anything, with room for receive stamps that cross.
    most: u32,
    /// For this many milliseconds after its rule forgets a datagram, the same datagram still counts as a repetition.
    memory: u32,
    turn: usize,
    /// A number that depends on all that came: which of several has to go cannot be foreseen.
    stirred: u64,
}

impl Repeats {
    /// A memory for datagrams under `rules`. They count as repetitions for `memory` longer than the rules remember them.
    pub(super) fn new(rules: &[Rule], memory: Duration) -> Self {
        let most = rules.iter().map(|rule| rule.tolerance()).max().unwrap_or(0) + 1_000;
        Self { sets: vec![[0; WAYS]; SETS], most, memory: memory.as_millis() as u32, turn: 0, stirred: 0 }
    }

    /// Whether the datagram of this digest may be answered at `now`, and how often it has been answered before.
    ///
    /// What has come once gives way to others by turns, so that no order of arrival throws out the same one each time. What has
    /// been repeated stays until it is forgotten, so that a loop that was noticed once cannot hide in a crowd; only where all
    /// have been repeated any one goes, so that nobody can fill the memory with what must stay.
    pub(super) fn judge(&mut self, now: Time, digest: u64, rule: Rule) -> Verdict {
        let now = millis(now);
        let set = &mut self.sets[digest as usize % SETS];
        let mark = mark(digest);
        let (most, memory) = (self.most, self.memory);
        let remembered = |place: &u64| Place(*place).is_remembered(now, most, memory);
        if let Some(place) = set.iter_mut().find(|place| Place(**place).mark() == mark && remembered(place)) {
            let after = Place(*place).left(now, most) + rule.every;
            if after > rule.tolerance() {
                return Verdict::TooOften;
            }
            let verdict = if Place(*place).is_repeated() { Verdict::Later } else { Verdict::Second };
            *place = Place::new(mark, true, now.wrapping_add(after)).0;
            return verdict;
        }
        self.turn = (self.turn + 1) % WAYS;
        // Knuth's multiplier; the upper bits are well stirred.
        self.stirred = self.stirred.wrapping_add(digest).wrapping_mul(6_364_136_223_846_793_005);
        let is_repeated = |place: &u64| Place(*place).is_repeated();
        let place = set.iter().position(|place| !remembered(place));
        let place = place.or_else(|| (!is_repeated(&set[self.turn])).then_some(self.turn));
        let place = place.or_else(|| set.iter().all(is_repeated).then_some((self.stirred >> 62) as usize % WAYS));
        if let Some(place) = place {
            set[place] = Place::new(mark, false, now.wrapping_add(rule.every)).0;
        }
        Verdict::First
    }

    /// Whether the datagram of this digest may be answered at `now`.
    pub(super) fn admit(&mut self, now: Time, digest: u64, rule: Rule) -> bool {
        self.judge(now, digest, rule) != Verdict::TooOften
    }

    /// Whether `digest` was admitted and is not forgotten yet.
    pub(super) fn knows(&self, now: Time, digest: u64) -> bool {
        let (now, mark) = (millis(now), mark(digest));
        let set = &self.sets[digest as usize % SETS];
        set.iter().any(|place| Place(*place).mark() == mark && Place(*place).left(now, self.most) > 0)
    }
}

fn millis(time: Time) -> u32 {
    (time.as_nanos() / 1_000_000) as u32
}

fn mark(digest: u64) -> u32 {
    (digest >> 33) as u32
}

#[cfg(test)]
mod tests {
    use super::Verdict::{First, Later, Second, TooOften};
    use super::*;

    const A: u64 = 0xAAAA_AAAA_0000_0007;

    fn times(repeats: &mut Repeats, digest: u64, rule: Rule, times: &[u64]) -> Vec<bool> {
        times.iter().map(|millis| repeats.admit(Time::from_millis(*millis), digest, rule)).collect()
    }

    fn memory() -> (Repeats, Rule) {
        let audio = Rule::audio(Duration::from_secs(3));
        (Repeats::new(&[audio, Rule::KEEPALIVE, Rule::ECHO_SERVER], Duration::from_secs(10)), audio)
    }

    #[test]
    fn a_sign_of_life_once_a_second_is_answered_for_ever() {
        let (mut repeats, _) = memory();
        // Ninety days, in which the milliseconds wrap: each second, and now and then twice or late.
        for second in 0..90 * 86_400 {
            let late = if second % 1_000 == 0 { 700 } else { 0 };
            assert!(repeats.admit(Time::from_millis(second * 1_000 + late), A, Rule::KEEPALIVE), "second {second}");
        }
    }

    #[test]
    fn ten_at_once_are_answered_and_then_one_each_800_ms() {
        let (mut repeats, _) = memory();
        assert_eq!(times(&mut repeats, A, Rule::KEEPALIVE, &[5; 11]), [&[true; 10][..], &[false]].concat());
        // What was refused was not charged: the first place is free at 805.
        assert_eq!(times(&mut repeats, A, Rule::KEEPALIVE, &[804, 805, 805, 1_605]), [false, true, false, true]);
    }

    #[test]
    fn audio_is_answered_three_times_and_then_once_each_ten_seconds_and_six_delays() {
        let (mut repeats, audio) = memory();
        // 10 s and 6 x 3 s.
        assert_eq!(audio, Rule { every: 28_000, at_once: 3 });
        let at = [0, 1, 6_000, 27_999, 28_000, 28_001, 56_000];
        assert_eq!(times(&mut repeats, A, audio, &at), [true, true, true, false, true, false, true]);
        // Forgotten three times 28 s after the last.
        assert_eq!(times(&mut repeats, A, audio, &[200_000; 4]), [true, true, true, false]);
    }

    #[test]
    fn however_long_the_delay_the_arithmetic_stays_within_its_bits() {
        let audio = Rule::audio(Duration::from_secs(1 << 40));
        assert_eq!((audio.every, audio.tolerance()), (86_400_000, 259_200_000));
        let mut repeats = Repeats::new(&[audio], Duration::ZERO);
        assert_eq!(times(&mut repeats, A, audio, &[0, 0, 0, 0, 86_400_000]), [true, true, true, false, true]);
    }

    #[test]
    fn a_keepalive_is_a_repetition_for_ten_seconds_after_its_rule_forgets_it() {
        let judge = |times: &[u64]| {
            let (mut repeats, _) = memory();
            times
                .iter()
                .map(|millis| repeats.judge(Time::from_millis(1 + *millis), A, Rule::KEEPALIVE))
                .collect::<Vec<_>>()
        };
        assert_eq!(judge(&[0, 0, 0, 0]), [First, Second, Later, Later]);
        assert_eq!(judge(&[0; 11])[9..], [Later, TooOften]);
        assert_eq!(judge(&[0, 2_000, 4_000, 6_000]), [First, Second, Later, Later]);
        // The rule forgets it after 800 ms.
        assert_eq!(judge(&[0, 10_799, 21_598]), [First, Second, Later]);
        assert_eq!(judge(&[0, 10_800, 21_600]), [First, First, First]);
    }

    #[test]
    fn a_repeated_keepalive_is_not_displaced_before_its_next_round_trip() {
        let (mut repeats, audio) = memory();
        let mut verdicts = Vec::new();
        for turn in 0..4 {
            verdicts.push(repeats.judge(Time::from_millis(1 + 2_000 * turn), A, Rule::KEEPALIVE));
            // Between two turns, more others come than belong into the same set, once the second turn has been noticed.
            for other in (0..=WAYS as u64).filter(|_| turn > 0) {
                repeats.judge(Time::from_millis(1_000 + 2_000 * turn), (turn * 100 + other + 1) << 33 | 7, audio);
            }
        }
        assert_eq!(verdicts, [First, Second, Later, Later]);
    }

    #[test]
    fn what_is_known_is_forgotten_after_its_rule() {
        let (mut repeats, _) = memory();
        assert!(!repeats.knows(Time::from_millis(5), A));
        repeats.judge(Time::from_millis(5), A, Rule::ECHO_SERVER);
        assert!(repeats.knows(Time::from_millis(5), A) && repeats.knows(Time::from_millis(60_004), A));
        assert!(!repeats.knows(Time::from_millis(60_005), A) && !repeats.knows(Time::from_millis(6), A ^ 1 << 33));
    }

    #[test]
    fn stamps_that_cross_forget_nothing() {
        let (mut repeats, audio) = memory();
        assert_eq!(times(&mut repeats, A, audio, &[100_000, 100_000, 100_000, 99_950]), [true, true, true, false]);
    }

    /// How often a loop of this digest is answered that comes each millisecond until it is not, beside what `others` do.
    fn turns(repeats: &mut Repeats, digest: u64, rule: Rule, mut others: impl FnMut(&mut Repeats, Time)) -> u64 {
        let lost = |millis| {
            let now = Time::from_millis(millis);
            others(repeats, now);
            !repeats.admit(now, digest, rule)
        };
        (0..10_000).position(lost).expect("an end") as u64
    }

    #[test]
    fn more_loops_than_a_set_has_places_all_end() {
        let (mut repeats, audio) = memory();
        let mut alive: Vec<u64> = (1..=WAYS as u64 + 1).map(|number| number << 33 | 7).collect();
        for millis in 0..200 {
            alive.retain(|digest| repeats.admit(Time::from_millis(millis), *digest, audio));
        }
        assert_eq!(alive, [0; 0]);
    }

    #[test]
    fn a_set_that_somebody_keeps_full_of_what_was_repeated_hides_no_loop() {
        let (mut repeats, audio) = memory();
        let full = |repeats: &mut Repeats, now| {
            for number in 1..=WAYS as u64 {
                repeats.admit(now, number << 33 | 7, audio);
            }
        };
        (0..10).for_each(|millis| full(&mut repeats, Time::from_millis(millis)));
        // It has to stay in its place three times in a row, of which each has seven chances in eight.
        let turns = turns(&mut repeats, (WAYS as u64 + 1) << 33 | 7, audio, full);
        assert!((3..100).contains(&turns), "{turns}");
    }
}
