//! Rate limits: [`Gcra`] for one stream of events, and [`KeyedGcra`] for one stream of each source.
//!
//! The generic cell rate algorithm (ITU-T I.371) keeps one theoretical arrival time per stream. At a permitted rate of r units per second, an
//! event of n units moves it forward by n/r seconds, and is rejected if that would be ahead of the clock by more than the tolerance. What is
//! known only afterwards, such as the length of a reply, is charged even if it exceeds the limit: the next event then waits longer.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::time::{NANOS_PER_SECOND, Time, saturating_nanos};

/// A rate limit by the generic cell rate algorithm. The caller stores one theoretical arrival time per stream, initially
/// [`Time::ZERO`].
#[derive(Clone, Copy, Debug)]
pub struct Gcra {
    /// Units (packets, bits or messages) per `period`.
    rate: u64,
    /// In nanoseconds.
    period: u64,
    /// How far the theoretical arrival time may be ahead of the clock, in nanoseconds.
    pub(crate) tolerance: u64,
}

impl Gcra {
    /// Creates a limit of `rate` units per second, with a burst of `tolerance` times the rate. A `rate` of 0 counts as 1.
    pub fn new(rate: u64, tolerance: Duration) -> Self {
        Self { rate: rate.max(1), period: NANOS_PER_SECOND, tolerance: saturating_nanos(tolerance) }
    }

    /// Creates a limit of `rate` units per second, with a burst of exactly `rate` times `seconds` units. A `rate` of 0 counts as 1.
    pub fn with_burst_seconds(rate: u64, seconds: u64) -> Self {
        Self::with_burst(Self::new(rate, Duration::ZERO), rate.max(1).saturating_mul(seconds))
    }

    /// Creates a limit with a burst of exactly `count` units, of which each is available again after its share of the period.
    pub fn with_request_rate(RequestRate { count, period }: RequestRate) -> Self {
        let gcra = Self { rate: u64::from(count.max(1)), period: saturating_nanos(period), tolerance: 0 };
        Self::with_burst(gcra, gcra.rate)
    }

    /// The tolerance is a multiple of the duration of one unit, which is rounded up to whole nanoseconds: otherwise, the limit could reject the
    /// last unit of the burst.
    fn with_burst(self, units: u64) -> Self {
        Self { tolerance: self.duration_of(1).saturating_mul(units), ..self }
    }

    /// Like [`Gcra::new`], but even at low rates, with a burst of at least `min_burst` units.
    pub(crate) fn with_min_burst(rate: u64, tolerance: Duration, min_burst: u64) -> Self {
        let gcra = Self::new(rate, tolerance);
        Self { tolerance: gcra.tolerance.max(gcra.duration_of(min_burst)), ..gcra }
    }

    /// With a burst that is larger by `time` times the rate.
    #[must_use]
    pub fn with_larger_burst(self, time: Duration) -> Self {
        Self { tolerance: self.tolerance.saturating_add(saturating_nanos(time)), ..self }
    }

    /// The theoretical arrival time after `amount` more units arrive at `now`, even if they exceed the limit.
    pub fn advance(self, arrival: Time, now: Time, amount: u64) -> Time {
        arrival.max(now) + Duration::from_nanos(self.duration_of(amount))
    }

    /// The theoretical arrival time after `amount` more units arrive at `now`. `None` if they exceed the limit.
    pub fn try_advance(self, arrival: Time, now: Time, amount: u64) -> Option<Time> {
        let latest = now + Duration::from_nanos(self.tolerance);
        Some(self.advance(arrival, now, amount)).filter(|arrival| *arrival <= latest)
    }

    /// Nanoseconds that `amount` units take, rounded up so that the rate is never exceeded.
    fn duration_of(self, amount: u64) -> u64 {
        amount.saturating_mul(self.period).div_ceil(self.rate)
    }
}

/// A number of requests that are permitted at once. Each is permitted again after its share of the period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// At least 1.
    pub count: u32,
    /// After this time, all are permitted again.
    pub period: Duration,
}

/// A rate limit for each of many sources. The table is bounded: if it is full, the half of the sources that has used least is forgotten, at once,
/// so that an attacker with many addresses does not cause a search for each of them.
#[derive(Clone, Debug)]
pub struct KeyedGcra<K> {
    limit: Gcra,
    max_sources: usize,
    /// Maximum debt of a source. What exceeds it is forgotten.
    max_debt: Option<Duration>,
    /// Theoretical arrival time of each source.
    arrivals: HashMap<K, Time>,
}

impl<K: Copy + Eq + Hash> KeyedGcra<K> {
    /// Applies `limit` to each of at most `max_sources` sources.
    pub fn new(limit: Gcra, max_sources: usize) -> Self {
        Self { limit, max_sources: max_sources.max(1), max_debt: None, arrivals: HashMap::new() }
    }

    /// Lets no source wait longer than `wait`.
    #[must_use]
    pub fn with_max_wait(self, wait: Duration) -> Self {
        Self { max_debt: Some(wait + Duration::from_nanos(self.limit.tolerance)), ..self }
    }

    /// How far the theoretical arrival time of `source` is ahead of the clock.
    pub fn debt(&self, now: Time, source: K) -> Duration {
        self.arrivals.get(&source).map_or(Duration::ZERO, |arrival| arrival.duration_since(now))
    }

    /// How long `source` has to wait until one more unit conforms to the limit. Zero: it conforms now.
    pub fn wait(&self, now: Time, source: K) -> Duration {
        let after = self.debt(now, source) + Duration::from_nanos(self.limit.duration_of(1));
        after.saturating_sub(Duration::from_nanos(self.limit.tolerance))
    }

    /// Charges `amount` units to `source`, even if they exceed the limit. Returns how long they have to wait to conform to it, where one
    /// available unit is enough for many.
    pub fn charge(&mut self, now: Time, source: K, amount: u64) -> Duration {
        let wait = self.wait(now, source);
        if self.arrivals.len() >= self.max_sources && !self.arrivals.contains_key(&source) {
            let mut arrivals: Vec<Time> = self.arrivals.values().copied().collect();
            let middle = (arrivals.len() - 1) / 2;
            let (_, median, _) = arrivals.select_nth_unstable(middle);
            let least = now.max(*median);
            self.arrivals.retain(|_, arrival| *arrival > least);
        }
        let arrival = self.arrivals.entry(source).or_insert(now);
        let advanced = self.limit.advance(*arrival, now, amount);
        *arrival = self.max_debt.map_or(advanced, |max| advanced.min(now + max));
        wait
    }

    /// Charges one unit to `source`. `Err`: it exceeds the limit, is not charged, and conforms after this time.
    pub fn try_charge(&mut self, now: Time, source: K) -> Result<(), Duration> {
        match self.wait(now, source) {
            Duration::ZERO => {
                self.charge(now, source, 1);
                Ok(())
            }
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_in_seconds_is_exact_for_every_rate() {
        for rate in [1, 3, 7, 10, 300, 1_000, 9_999] {
            let (limit, mut arrival) = (Gcra::with_burst_seconds(rate, 2), Time::ZERO);
            let mut admit = |now| {
                let advanced = limit.try_advance(arrival, Time::from_millis(now), 1);
                arrival = advanced.unwrap_or(arrival);
                advanced.is_some()
            };
            let burst = (0..u32::MAX).take_while(|_| admit(1_000)).count() as u64;
            assert_eq!(burst, 2 * rate);
            let refilled = (0..u32::MAX).take_while(|_| admit(2_001)).count() as u64;
            assert!((rate..=rate + rate / 1_000 + 1).contains(&refilled), "{rate}: {refilled}");
        }
    }

    #[test]
    fn requests_of_a_burst_are_available_again_one_by_one() {
        let rate = RequestRate { count: 10, period: Duration::from_secs(900) };
        let mut limiter = KeyedGcra::new(Gcra::with_request_rate(rate), 100);
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        assert!((0..10).all(|_| limiter.try_charge(at(5), 'a').is_ok()));
        assert_eq!(limiter.try_charge(at(5), 'a'), Err(Duration::from_secs(90)));
        assert_eq!((limiter.wait(at(65), 'a'), limiter.wait(at(65), 'b')), (Duration::from_secs(30), Duration::ZERO));
        assert_eq!((limiter.try_charge(at(95), 'a'), limiter.wait(at(95), 'a')), (Ok(()), Duration::from_secs(90)));
    }

    #[test]
    fn source_waits_at_most_as_long_as_permitted() {
        let limit = Gcra::with_burst_seconds(1_000, 2);
        let mut limiter = KeyedGcra::new(limit, 1).with_max_wait(Duration::from_secs(8));
        assert_eq!(limiter.charge(Time::ZERO, 'a', 1_000_000), Duration::ZERO);
        assert_eq!(limiter.charge(Time::ZERO, 'a', 1), Duration::from_millis(8_001));
        assert_eq!(limiter.wait(Time::from_millis(8_001), 'a'), Duration::ZERO);
    }

    #[test]
    fn debt_of_a_source_is_paid_at_the_rate_and_the_table_is_bounded() {
        let mut limiter = KeyedGcra::new(Gcra::new(1_000, Duration::ZERO), 2);
        limiter.charge(Time::ZERO, 'a', 3_000);
        limiter.charge(Time::from_millis(1_000), 'a', 500);
        let debts = [1_000, 3_000, 9_000].map(|at| limiter.debt(Time::from_millis(at), 'a').as_millis());
        assert_eq!((debts, limiter.debt(Time::ZERO, 'b')), ([2_500, 500, 0], Duration::ZERO));
        // The third source displaces the half with the smallest debts.
        limiter.charge(Time::from_millis(1_000), 'b', 100);
        limiter.charge(Time::from_millis(1_000), 'c', 200);
        let debts = ['a', 'b', 'c'].map(|source| limiter.debt(Time::from_millis(1_000), source).as_millis());
        assert_eq!((debts, limiter.arrivals.len()), ([2_500, 0, 200], 2));
    }
}
