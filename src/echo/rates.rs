//! How much a source address may be sent: packets and bits a second, in a fixed number of buckets.
//!
//! Each bucket is a virtual clock for packets and one for bits (the generic cell rate algorithm): a reply moves them on by what it
//! takes at the permitted rate, and one that would move a clock more than the tolerance past the present is refused. So in any
//! stretch of time no more is admitted than the rate times its length, and the tolerance's worth.

use std::time::Duration;

use crate::time::{Time, nanos};

/// Sources fall into this many buckets, 16 bytes each; those in one bucket share its limits.
pub(super) const BUCKETS: usize = 8_192;

/// How much may be sent at once, as time at the permitted rate; at least one packet, and one of any length.
pub(super) const TOLERANCE: Duration = Duration::from_millis(250);

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

    /// Where the clock would stand after `amount` units more at `now`, unless that is too far ahead.
    fn after(self, clock: u64, now: u64, amount: u64) -> Option<u64> {
        let after = clock.max(now).saturating_add(time_for(amount, self.rate));
        (after <= now.saturating_add(self.tolerance)).then_some(after)
    }
}

/// Nanoseconds that `amount` units take, rounded up: the rate is a limit, not an aim. No packet has so many bits that this overflows.
fn time_for(amount: u64, rate: u64) -> u64 {
    (amount * SECOND).div_ceil(rate)
}

/// The buckets.
pub(super) struct Rates {
    packets: Option<Pace>,
    bits: Option<Pace>,
    /// The clocks for packets and bits. Zeros from the system: memory is used where somebody is heard.
    buckets: Vec<[u64; 2]>,
}

impl Rates {
    /// Limits in packets and bits a second; `None` is none.
    pub(super) fn new(packets: Option<u64>, bits: Option<u64>) -> Self {
        Self {
            packets: packets.map(|rate| Pace::new(rate, 1)),
            bits: bits.map(|rate| Pace::new(rate, LARGEST)),
            buckets: vec![[0; 2]; BUCKETS],
        }
    }

    /// Charges an IP packet of `len` bytes to the bucket that `digest` falls into.
    pub(super) fn admit(&mut self, digest: u64, now: Time, len: usize) -> Result<(), Over> {
        let now = now.as_nanos();
        let clocks = &mut self.buckets[digest as usize % BUCKETS];
        let [packets, bits] = *clocks;
        let after = |pace: Option<Pace>, clock, amount| pace.map_or(Some(clock), |pace| pace.after(clock, now, amount));
        let packets = after(self.packets, packets, 1).ok_or(Over::Rate)?;
        let bits = after(self.bits, bits, len as u64 * 8).ok_or(Over::Bits)?;
        // Only what is sent is charged.
        *clocks = [packets, bits];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of `len` bytes are admitted one after the other at `now` milliseconds, and what ended it.
    fn at_once(rates: &mut Rates, now: u64, len: usize) -> (usize, Over) {
        let mut admitted = 0;
        loop {
            match rates.admit(7, Time::from_millis(now), len) {
                Ok(()) => admitted += 1,
                Err(over) => return (admitted, over),
            }
            assert!(admitted < 100_000, "there is no limit");
        }
    }

    #[test]
    fn a_quarter_of_a_second_may_go_at_once_and_then_as_much_as_time_has_passed() {
        let mut rates = Rates::new(Some(8_000), None);
        assert_eq!(at_once(&mut rates, 0, 500), (2_000, Over::Rate));
        assert_eq!(at_once(&mut rates, 1, 500), (8, Over::Rate));
        assert_eq!(at_once(&mut rates, 101, 500), (800, Over::Rate));
        // However long nothing came, no more than that.
        assert_eq!(at_once(&mut rates, 3_600_000, 500), (2_000, Over::Rate));
    }

    #[test]
    fn bits_are_those_of_the_packet_and_whichever_limit_comes_first_holds() {
        // 64 Mbit/s for 250 ms are 16,000,000 bits: 2,000 packets of 1,000 bytes.
        let mut rates = Rates::new(None, Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 1_000), (2_000, Over::Bits));
        assert_eq!(at_once(&mut rates, 1, 1_000), (8, Over::Bits));
        let mut rates = Rates::new(Some(8_000), Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 999), (2_000, Over::Rate));
        let mut rates = Rates::new(Some(8_000), Some(64_000_000));
        assert_eq!(at_once(&mut rates, 0, 1_001), (1_998, Over::Bits));
    }

    #[test]
    fn what_is_refused_is_charged_to_neither_limit() {
        // 1 Mbit/s: 524,280 bits, one packet of 65,535 bytes, are more than 250 ms of it.
        let mut rates = Rates::new(Some(8), Some(1_000_000));
        assert_eq!(rates.admit(7, Time::ZERO, 65_535), Ok(()));
        for _ in 0..10 {
            assert_eq!(rates.admit(7, Time::ZERO, 1_000), Err(Over::Bits));
        }
        // A second later the bits are there again, and of the packets, one of the two at once is left and charged last.
        assert_eq!(rates.admit(7, Time::from_millis(1_000), 1_000), Ok(()));
        assert_eq!(rates.admit(7, Time::from_millis(1_000), 1_000), Ok(()));
        assert_eq!(rates.admit(7, Time::from_millis(1_000), 1_000), Err(Over::Rate));
    }

    #[test]
    fn a_rate_of_one_packet_a_second_still_lets_one_go() {
        let mut rates = Rates::new(Some(1), Some(1));
        assert_eq!(rates.admit(7, Time::from_millis(5), 65_535), Ok(()));
        assert_eq!(rates.admit(7, Time::from_millis(1_004), 100), Err(Over::Rate));
        assert_eq!(rates.admit(7, Time::from_millis(1_005), 100), Err(Over::Bits));
    }

    #[test]
    fn without_limits_everything_goes_although_stamps_cross() {
        let mut rates = Rates::new(None, None);
        for now in [9, 3, 5, 0] {
            assert_eq!(rates.admit(7, Time::from_millis(now), 65_535), Ok(()));
        }
    }

    #[test]
    fn buckets_are_apart() {
        let mut rates = Rates::new(Some(8), None);
        assert_eq!(at_once(&mut rates, 0, 500).0, 2);
        assert_eq!(rates.admit(8, Time::ZERO, 500), Ok(()));
        assert_eq!(rates.admit(7 + BUCKETS as u64, Time::ZERO, 500), Err(Over::Rate));
    }
}
