//! How much a source address may be sent: packets and bits a second, in a fixed number of buckets.
//!
//! Each bucket has virtual clocks (the generic cell rate algorithm): a packet moves a clock on by what it takes at the permitted
//! rate, and one that would move it further ahead of the present than the tolerance is refused. AUDIO is asked when it comes and
//! leaves later, so there are two sorts of clocks: that of what came to be held, and that of what leaves. What leaves after a
//! delay moves the second whatever it shows, and an answer that leaves at once only has what room it finds there. So in any
//! stretch of time no more leaves than the rate times its length, and twice the tolerance's worth.

use std::time::Duration;

use crate::time::{Time, nanos};

/// Sources fall into this many buckets, 32 bytes each; those in one bucket share its limits.
const BUCKETS: usize = 8_192;

/// How much may come at once to be held, and how much be answered at once, as time at the permitted rate: together a quarter of
/// a second's worth. One packet of any length always may.
const TOLERANCE: Duration = Duration::from_millis(125);

/// The largest IP packet, in bits.
const LARGEST: u64 = 65_535 * 8;

const SECOND: u64 = 1_000_000_000;

/// Which limit would be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Packets a second.
    Rate,
    /// Bits a second.
    Bits,
}

/// One limit.
#[derive(Clone, Copy)]
struct Pace {
    /// Units (packets or bits) a second.
    rate: u64,
    /// How far ahead of the present a bucket's clock may be, in nanoseconds.
    tolerance: u64,
}

impl Pace {
    /// `rate` units a second, of which `least` may always go at once.
    fn new(rate: u64, least: u64) -> Self {
        let rate = rate.max(1);
        Self { rate, tolerance: nanos(TOLERANCE).max(time_for(least, rate)) }
    }

    /// Where the clock stands after `amount` units more at `now`.
    fn moved(self, clock: u64, now: u64, amount: u64) -> u64 {
        clock.max(now).saturating_add(time_for(amount, self.rate))
    }

    /// The same, unless that is too far ahead.
    fn admitted(self, clock: u64, now: u64, amount: u64) -> Option<u64> {
        Some(self.moved(clock, now, amount)).filter(|clock| *clock <= now.saturating_add(self.tolerance))
    }
}

/// Nanoseconds that `amount` units take, rounded up: the rate is a limit, not an aim. No packet has so many bits that this overflows.
fn time_for(amount: u64, rate: u64) -> u64 {
    (amount * SECOND).div_ceil(rate)
}

/// Clocks for packets and for bits.
type Clocks = [u64; 2];

/// The buckets.
pub(super) struct Rates {
    packets: Option<Pace>,
    bits: Option<Pace>,
    /// Of what came to be held, and of what leaves. Zeros from the system: memory is used where somebody is heard.
    buckets: Vec<[Clocks; 2]>,
}

impl Rates {
    /// Limits in packets and bits a second; `None` is none.
    pub(super) fn new(packets: Option<u64>, bits: Option<u64>) -> Self {
        Self {
            packets: packets.map(|rate| Pace::new(rate, 1)),
            bits: bits.map(|rate| Pace::new(rate, LARGEST)),
            buckets: vec![[[0; 2]; 2]; BUCKETS],
        }
    }

    /// Whether an IP packet of `len` bytes may be held, to leave later towards the source that `home` is a digest of.
    pub(super) fn hold(&mut self, home: u64, now: Time, len: usize) -> Result<(), Over> {
        let [held, _] = &mut self.buckets[home as usize % BUCKETS];
        admit(held, self.packets, self.bits, now, len)
    }

    /// Whether one may leave at once.
    pub(super) fn answer(&mut self, home: u64, now: Time, len: usize) -> Result<(), Over> {
        let [_, left] = &mut self.buckets[home as usize % BUCKETS];
        admit(left, self.packets, self.bits, now, len)
    }

    /// `packets` that were held have left, `len` bytes of IP packets in all.
    pub(super) fn left(&mut self, home: u64, now: Time, packets: usize, len: usize) {
        let [_, [packet_clock, bit_clock]] = &mut self.buckets[home as usize % BUCKETS];
        if let Some(pace) = self.packets {
            *packet_clock = pace.moved(*packet_clock, now.as_nanos(), packets as u64);
        }
        if let Some(pace) = self.bits {
            *bit_clock = pace.moved(*bit_clock, now.as_nanos(), len as u64 * 8);
        }
    }
}

fn admit(clocks: &mut Clocks, packets: Option<Pace>, bits: Option<Pace>, now: Time, len: usize) -> Result<(), Over> {
    let [packet_clock, bit_clock] = *clocks;
    let admitted = |pace: Option<Pace>, clock, amount| {
        pace.map_or(Some(clock), |pace| pace.admitted(clock, now.as_nanos(), amount))
    };
    let packet_clock = admitted(packets, packet_clock, 1).ok_or(Over::Rate)?;
    let bit_clock = admitted(bits, bit_clock, len as u64 * 8).ok_or(Over::Bits)?;
    // Only what is admitted is charged.
    *clocks = [packet_clock, bit_clock];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of `len` bytes are answered one after the other at `now` milliseconds, and what ended it.
    fn at_once(rates: &mut Rates, now: u64, len: usize) -> (usize, Over) {
        let mut admitted = 0;
        loop {
            match rates.answer(7, Time::from_millis(now), len) {
                Ok(()) => admitted += 1,
                Err(over) => return (admitted, over),
            }
            assert!(admitted < 100_000, "there is no limit");
        }
    }

    #[test]
    fn an_eighth_of_a_second_may_go_at_once_and_then_as_much_as_time_has_passed() {
        let mut rates = Rates::new(Some(8_000), None);
        assert_eq!(at_once(&mut rates, 0, 500), (1_000, Over::Rate));
        assert_eq!(at_once(&mut rates, 1, 500), (8, Over::Rate));
        assert_eq!(at_once(&mut rates, 51, 500), (400, Over::Rate));
        // However long nothing came, no more than that.
        assert_eq!(at_once(&mut rates, 3_600_000, 500), (1_000, Over::Rate));
    }

    #[test]
    fn bits_are_those_of_the_packet_and_whichever_limit_comes_first_holds() {
        // 64 Mbit/s for 125 ms are 8,000,000 bits: 1,000 packets of 1,000 bytes.
        let mut rates = Rates::new(None, Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 1_000), (1_000, Over::Bits));
        assert_eq!(at_once(&mut rates, 1, 1_000), (8, Over::Bits));
        let mut rates = Rates::new(Some(8_000), Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 999), (1_000, Over::Rate));
        let mut rates = Rates::new(Some(8_000), Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 1_001), (999, Over::Bits));
    }

    #[test]
    fn what_was_held_takes_its_room_when_it_leaves_and_not_before() {
        let mut rates = Rates::new(Some(8_000), None);
        for _ in 0..1_000 {
            assert_eq!(rates.hold(7, Time::ZERO, 500), Ok(()));
        }
        assert_eq!(rates.hold(7, Time::ZERO, 500), Err(Over::Rate));
        // It waits for a second. Meanwhile there is room for answers; when it has left there is none for an eighth of a second.
        assert_eq!(at_once(&mut rates, 0, 500), (1_000, Over::Rate));
        rates.left(7, Time::from_millis(1_000), 1_000, 500_000);
        assert_eq!(at_once(&mut rates, 1_000, 500), (0, Over::Rate));
        assert_eq!(at_once(&mut rates, 1_001, 500), (8, Over::Rate));
        // What waits is let out whatever was answered just before, and then more time must pass.
        assert_eq!(at_once(&mut rates, 5_000, 500), (1_000, Over::Rate));
        rates.left(7, Time::from_millis(5_000), 1_000, 500_000);
        assert_eq!(at_once(&mut rates, 5_125, 500), (0, Over::Rate));
        assert_eq!(at_once(&mut rates, 5_126, 500), (8, Over::Rate));
    }

    #[test]
    fn the_bits_that_leave_are_charged_too() {
        let mut rates = Rates::new(None, Some(64_000_000));
        rates.left(7, Time::ZERO, 10, 500_000);
        assert_eq!(at_once(&mut rates, 0, 1_000), (500, Over::Bits));
    }

    #[test]
    fn what_is_refused_is_charged_to_neither_limit() {
        // 1 Mbit/s: 524,280 bits, one packet of 65,535 bytes, are more than 125 ms of it.
        let mut rates = Rates::new(Some(16), Some(1_000_000));
        assert_eq!(rates.answer(7, Time::ZERO, 65_535), Ok(()));
        for _ in 0..10 {
            assert_eq!(rates.answer(7, Time::ZERO, 1_000), Err(Over::Bits));
        }
        // The first took 62.5 ms of the packets' clock; at 0 there is room for a second one, and it was not taken by those refused.
        assert_eq!(rates.answer(7, Time::from_millis(8), 1_000), Ok(()));
        assert_eq!(rates.answer(7, Time::from_millis(8), 1_000), Err(Over::Rate));
    }

    #[test]
    fn a_rate_of_one_a_second_still_lets_one_packet_of_any_length_go() {
        let mut rates = Rates::new(Some(1), Some(1));
        assert_eq!(rates.answer(7, Time::from_millis(5), 65_535), Ok(()));
        assert_eq!(rates.answer(7, Time::from_millis(1_004), 100), Err(Over::Rate));
        assert_eq!(rates.answer(7, Time::from_millis(1_005), 100), Err(Over::Bits));
    }

    #[test]
    fn without_limits_everything_goes_although_stamps_cross() {
        let mut rates = Rates::new(None, None);
        for now in [9, 3, 5, 0] {
            assert_eq!(rates.answer(7, Time::from_millis(now), 65_535), Ok(()));
            assert_eq!(rates.hold(7, Time::from_millis(now), 65_535), Ok(()));
            rates.left(7, Time::from_millis(now), 1, 65_535);
        }
    }

    #[test]
    fn buckets_are_apart() {
        let mut rates = Rates::new(Some(8), None);
        assert_eq!(at_once(&mut rates, 0, 500).0, 1);
        assert_eq!(rates.answer(8, Time::ZERO, 500), Ok(()));
        assert_eq!(rates.answer(7 + BUCKETS as u64, Time::ZERO, 500), Err(Over::Rate));
    }
}
