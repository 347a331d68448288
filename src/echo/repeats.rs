//! How often the very same datagram is answered: an echo that is echoed comes back for ever.
//!
//! Two echo servers that hear of each other by one forged datagram send it to and fro. Nothing in the datagram tells that, but
//! each time it comes it is the same, from the same address and port. A client's packets are never the same for long: AUDIO counts
//! up, and a KEEPALIVE that does not count comes once a second. So a datagram that has come before is answered again, but only
//! so often.

use std::time::Duration;

use crate::time::Time;

/// Sets of [`WAYS`] places, 8 bytes each: 512 KiB, of which the system gives what is used.
const SETS: usize = 16_384;
const WAYS: usize = 4;

/// How often the same datagram is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// One more each so many milliseconds.
    every: u32,
    /// This many in a row.
    at_once: u32,
}

impl Rule {
    /// For what is answered at once: a sign of life that never changes may come once a second for ever. Round trips below
    /// 800 ms end a loop.
    pub(super) const AT_ONCE: Self = Self { every: 800, at_once: 4 };

    /// For AUDIO that waits for `delay`. A turn of a loop takes the delays of both servers and a round trip; one of the two has the
    /// longer delay, and four of its delays and 10 s are at least twice a turn, whatever the other's is. Three in a row, because
    /// networks repeat packets and people start a client on a fixed port over again.
    pub(super) fn audio(delay: Duration) -> Self {
        // A day at most, so that three of them are far from where milliseconds wrap (49 days).
        let every = Duration::from_secs(10).saturating_add(delay.saturating_mul(4)).min(Duration::from_secs(86_400));
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
}

/// The datagrams that came lately.
pub(super) struct Repeats {
    /// Zeros from the system: memory is used where something is noted.
    sets: Vec<[u64; WAYS]>,
    /// The longest that anything is remembered, with room for receive stamps that cross.
    most: u32,
    turn: usize,
    /// A number that depends on all that came: which of several has to go cannot be foreseen.
    stirred: u64,
}

impl Repeats {
    /// A memory for datagrams under `rules`.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let most = rules.iter().map(|rule| rule.tolerance()).max().unwrap_or(0) + 1_000;
        Self { sets: vec![[0; WAYS]; SETS], most, turn: 0, stirred: 0 }
    }

    /// Whether the datagram of this digest may be answered at `now`, once more if it has been.
    ///
    /// What has come once gives way to others by turns, so that no order of arrival throws out the same one each time. What has
    /// been repeated stays until it is forgotten, so that a loop that was noticed once cannot hide in a crowd; only where all
    /// have been repeated any one goes, so that nobody can fill the memory with what must stay.
    pub(super) fn admit(&mut self, now: Time, digest: u64, rule: Rule) -> bool {
        let now = (now.as_nanos() / 1_000_000) as u32;
        let set = &mut self.sets[digest as usize % SETS];
        let mark = (digest >> 33) as u32;
        let left = |place: u64| Place(place).left(now, self.most);
        if let Some(place) = set.iter_mut().find(|place| Place(**place).mark() == mark && left(**place) > 0) {
            let after = left(*place) + rule.every;
            if after > rule.tolerance() {
                return false;
            }
            *place = Place::new(mark, true, now.wrapping_add(after)).0;
            return true;
        }
        self.turn = (self.turn + 1) % WAYS;
        // Knuth's multiplier; the upper bits are well stirred.
        self.stirred = self.stirred.wrapping_add(digest).wrapping_mul(6_364_136_223_846_793_005);
        let is_repeated = |place: &u64| Place(*place).is_repeated();
        let place = set.iter().position(|place| left(*place) == 0);
        let place = place.or_else(|| (!is_repeated(&set[self.turn])).then_some(self.turn));
        let place = place.or_else(|| set.iter().all(is_repeated).then_some((self.stirred >> 62) as usize % WAYS));
        if let Some(place) = place {
            set[place] = Place::new(mark, false, now.wrapping_add(rule.every)).0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = 0xAAAA_AAAA_0000_0007;

    fn times(repeats: &mut Repeats, digest: u64, rule: Rule, times: &[u64]) -> Vec<bool> {
        times.iter().map(|millis| repeats.admit(Time::from_millis(*millis), digest, rule)).collect()
    }

    fn memory() -> (Repeats, Rule) {
        let audio = Rule::audio(Duration::from_secs(3));
        (Repeats::new(&[audio, Rule::AT_ONCE]), audio)
    }

    #[test]
    fn a_sign_of_life_once_a_second_is_answered_for_ever() {
        let (mut repeats, _) = memory();
        // Ninety days, in which the milliseconds wrap: each second, and now and then twice or late.
        for second in 0..90 * 86_400 {
            let late = if second % 1_000 == 0 { 700 } else { 0 };
            assert!(repeats.admit(Time::from_millis(second * 1_000 + late), A, Rule::AT_ONCE), "second {second}");
        }
    }

    #[test]
    fn four_at_once_are_answered_and_then_one_each_800_ms() {
        let (mut repeats, _) = memory();
        assert_eq!(times(&mut repeats, A, Rule::AT_ONCE, &[5, 5, 5, 5, 5]), [true, true, true, true, false]);
        // What was refused was not charged: the first place is free at 805.
        assert_eq!(times(&mut repeats, A, Rule::AT_ONCE, &[804, 805, 805, 1_605]), [false, true, false, true]);
    }

    #[test]
    fn audio_is_answered_three_times_and_then_once_each_ten_seconds_and_four_delays() {
        let (mut repeats, audio) = memory();
        // 10 s and 4 x 3 s.
        assert_eq!(audio, Rule { every: 22_000, at_once: 3 });
        let at = [0, 1, 6_000, 21_999, 22_000, 22_001, 44_000];
        assert_eq!(times(&mut repeats, A, audio, &at), [true, true, true, false, true, false, true]);
        // Forgotten three times 22 s after the last.
        assert_eq!(times(&mut repeats, A, audio, &[200_000; 4]), [true, true, true, false]);
    }

    #[test]
    fn however_long_the_delay_the_arithmetic_stays_within_its_bits() {
        let audio = Rule::audio(Duration::from_secs(1 << 40));
        assert_eq!((audio.every, audio.tolerance()), (86_400_000, 259_200_000));
        let mut repeats = Repeats::new(&[audio]);
        assert_eq!(times(&mut repeats, A, audio, &[0, 0, 0, 0, 86_400_000]), [true, true, true, false, true]);
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
    fn five_loops_of_one_set_all_end() {
        let (mut repeats, audio) = memory();
        let mut alive: Vec<u64> = (1..=5).map(|number| number << 33 | 7).collect();
        for millis in 0..200 {
            alive.retain(|digest| repeats.admit(Time::from_millis(millis), *digest, audio));
        }
        assert_eq!(alive, [0; 0]);
    }

    #[test]
    fn a_set_that_somebody_keeps_full_of_what_was_repeated_hides_no_loop() {
        let (mut repeats, audio) = memory();
        let full = |repeats: &mut Repeats, now| {
            for number in 1..=4_u64 {
                repeats.admit(now, number << 33 | 7, audio);
            }
        };
        (0..10).for_each(|millis| full(&mut repeats, Time::from_millis(millis)));
        // It has to stay in its place three times in a row, of which each has three chances in four.
        let turns = turns(&mut repeats, 5 << 33 | 7, audio, full);
        assert!((3..100).contains(&turns), "{turns}");
    }
}
