//! Rate limits: [`Gcra`] for one stream of events, [`WindowLimiter`] for the events of each source in a fixed period, and [`DebtLimiter`] for
//! what is known only afterwards, such as the length of a reply.
//!
//! The generic cell rate algorithm (ITU-T I.371) keeps one theoretical arrival time per stream. At a permitted rate of r units per second, an
//! event of n units moves it forward by n/r seconds, and is rejected if that would be ahead of the clock by more than the tolerance.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::source_network;
use crate::time::{NANOS_PER_SECOND, Time, saturating_nanos};

/// A rate limit by the generic cell rate algorithm. The caller stores one theoretical arrival time per stream, initially
/// [`Time::ZERO`].
#[derive(Clone, Copy, Debug)]
pub struct Gcra {
    /// Units (packets, bits or messages) per second.
    rate: u64,
    /// How far the theoretical arrival time may be ahead of the clock, in nanoseconds.
    pub(crate) tolerance: u64,
}

impl Gcra {
    /// Creates a limit of `rate` units per second, with a burst of `tolerance` times the rate. A `rate` of 0 counts as 1.
    pub fn new(rate: u64, tolerance: Duration) -> Self {
        Self { rate: rate.max(1), tolerance: saturating_nanos(tolerance) }
    }

    /// Creates a limit of `rate` units per second, with a burst of exactly `rate` times `seconds` units. A `rate` of 0 counts as 1.
    pub fn with_burst_seconds(rate: u64, seconds: u64) -> Self {
        let gcra = Self::new(rate, Duration::ZERO);
        // The tolerance is a multiple of the duration of one unit, which is rounded up to whole nanoseconds: exactly `seconds` seconds could
        // reject the last unit of the burst.
        Self { tolerance: gcra.duration_of(1).saturating_mul(gcra.rate).saturating_mul(seconds), ..gcra }
    }

    /// Like [`Gcra::new`], but even at low rates, with a burst of at least `min_burst` units.
    pub(crate) fn with_min_burst(rate: u64, tolerance: Duration, min_burst: u64) -> Self {
        let gcra = Self::new(rate, tolerance);
        Self { tolerance: gcra.tolerance.max(gcra.duration_of(min_burst)), ..gcra }
    }

    /// With a burst that is larger by `time` times the rate.
    pub(crate) fn with_larger_burst(self, time: Duration) -> Self {
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

    /// Nanoseconds that `amount` units take, rounded up so that the rate is never exceeded. The multiplication does not overflow if
    /// `amount` is at most the bits of an IP packet.
    fn duration_of(self, amount: u64) -> u64 {
        (amount * NANOS_PER_SECOND).div_ceil(self.rate)
    }
}

/// A maximum number of events in a period. The period begins with its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// Maximum number of events in one period, at least 1.
    pub count: u32,
    /// Length of the period.
    pub period: Duration,
}

/// Limits the events of each source ([`source_network`]) in fixed periods, so that it can report exactly how long a source has to wait (for
/// `Retry-After`). The table is bounded: if it is full, the source whose period ends first is removed.
#[derive(Clone, Debug)]
pub struct WindowLimiter {
    limit: WindowLimit,
    max_sources: usize,
    /// End of the current period of each source, and the number of events in it.
    windows: HashMap<IpAddr, (Time, u32)>,
    /// The sources of `windows`, in the order in which their periods end.
    expiry: VecDeque<(Time, IpAddr)>,
}

impl WindowLimiter {
    /// Tracks at most `max_sources` sources.
    pub fn new(limit: WindowLimit, max_sources: usize) -> Self {
        Self { limit, max_sources: max_sources.max(1), windows: HashMap::new(), expiry: VecDeque::new() }
    }

    /// How long `source` has to wait for its next event. `None` if the next event is admitted now. The call itself is no event.
    pub fn retry_after(&mut self, now: Time, source: IpAddr) -> Option<Duration> {
        self.remove_expired(now);
        let (end, events) = *self.windows.get(&source_network(source))?;
        (events >= self.limit.count).then(|| end.duration_since(now))
    }

    /// Counts one event of `source`. An event above the limit is not counted, and the `Err` value is the time that the source has to wait.
    pub fn check(&mut self, now: Time, source: IpAddr) -> Result<(), Duration> {
        if let Some(wait) = self.retry_after(now, source) {
            return Err(wait);
        }
        let source = source_network(source);
        if let Some((_, events)) = self.windows.get_mut(&source) {
            *events += 1;
            return Ok(());
        }
        if self.windows.len() >= self.max_sources
            && let Some((_, first)) = self.expiry.pop_front()
        {
            self.windows.remove(&first);
        }
        let end = now + self.limit.period;
        self.windows.insert(source, (end, 1));
        self.expiry.push_back((end, source));
        Ok(())
    }

    fn remove_expired(&mut self, now: Time) {
        while let Some((_, source)) = self.expiry.front().filter(|(end, _)| *end <= now) {
            self.windows.remove(source);
            self.expiry.pop_front();
        }
    }
}

/// Charges each source with units, such as bytes, and pays them off at a fixed rate. The caller decides how much debt it accepts.
#[derive(Clone, Debug)]
pub struct DebtLimiter<K> {
    rate: Gcra,
    max_sources: usize,
    /// When the debt of each source is paid.
    paid_at: HashMap<K, Time>,
}

impl<K: Copy + Eq + Hash> DebtLimiter<K> {
    /// Pays off `rate` units per second. Remembers the debts of at most `max_sources` sources.
    pub fn new(rate: u64, max_sources: usize) -> Self {
        Self { rate: Gcra::new(rate, Duration::ZERO), max_sources, paid_at: HashMap::new() }
    }

    /// How long it takes to pay the debt of `source`.
    pub fn debt(&self, now: Time, source: K) -> Duration {
        self.paid_at.get(&source).map_or(Duration::ZERO, |paid_at| paid_at.duration_since(now))
    }

    /// Adds `amount` units to the debt of `source`. If too many sources have debts, the smallest debt is forgotten.
    pub fn charge(&mut self, now: Time, source: K, amount: u64) {
        if self.paid_at.len() >= self.max_sources && !self.paid_at.contains_key(&source) {
            self.paid_at.retain(|_, paid_at| *paid_at > now);
            if self.paid_at.len() >= self.max_sources
                && let Some(smallest) = self.paid_at.iter().min_by_key(|(_, paid_at)| **paid_at).map(|(one, _)| *one)
            {
                self.paid_at.remove(&smallest);
            }
        }
        let paid_at = self.paid_at.entry(source).or_insert(now);
        *paid_at = self.rate.advance(*paid_at, now, amount);
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
    fn window_is_restored_when_the_period_ends() {
        let mut limiter = WindowLimiter::new(WindowLimit { count: 2, period: Duration::from_secs(10) }, 100);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        assert_eq!((limiter.check(at(0), one), limiter.check(at(4), one)), (Ok(()), Ok(())));
        assert_eq!(limiter.check(at(4), one), Err(Duration::from_secs(6)));
        assert_eq!(limiter.retry_after(at(5), one), Some(Duration::from_secs(5)));
        assert_eq!(limiter.retry_after(at(5), other), None);
        assert_eq!(limiter.retry_after(at(10), one), None);
        assert_eq!((limiter.check(at(10), one), limiter.check(at(11), one)), (Ok(()), Ok(())));
        assert_eq!(limiter.check(at(11), one), Err(Duration::from_secs(9)));
        // An expired window is removed from both collections.
        assert_eq!(limiter.retry_after(at(20), one), None);
        assert!(limiter.windows.is_empty() && limiter.expiry.is_empty());
    }

    #[test]
    fn debt_of_a_source_is_paid_at_the_rate_and_the_table_is_bounded() {
        let mut limiter = DebtLimiter::new(1_000, 2);
        limiter.charge(Time::ZERO, 'a', 3_000);
        limiter.charge(Time::from_millis(1_000), 'a', 500);
        let debts = [1_000, 3_000, 9_000].map(|at| limiter.debt(Time::from_millis(at), 'a').as_millis());
        assert_eq!((debts, limiter.debt(Time::ZERO, 'b')), ([2_500, 500, 0], Duration::ZERO));
        // The third source displaces the one with the smallest debt.
        limiter.charge(Time::from_millis(1_000), 'b', 100);
        limiter.charge(Time::from_millis(1_000), 'c', 200);
        let debts = ['a', 'b', 'c'].map(|source| limiter.debt(Time::from_millis(1_000), source).as_millis());
        assert_eq!((debts, limiter.paid_at.len()), ([2_500, 0, 200], 2));
    }

    #[test]
    fn window_of_an_ipv6_64_is_shared_and_the_table_is_bounded() {
        let mut limiter = WindowLimiter::new(WindowLimit { count: 100, period: Duration::from_secs(900) }, 4_096);
        let host = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        (0..100).for_each(|number| limiter.check(Time::ZERO, host(number)).expect("below the limit"));
        assert_eq!(limiter.retry_after(Time::ZERO, host(500)), Some(Duration::from_secs(900)));
        assert_eq!(limiter.retry_after(Time::ZERO, IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])), None);
        (0..4_095_u32).for_each(|number| limiter.check(Time::ZERO, IpAddr::V4(number.into())).expect("first event"));
        assert!(limiter.retry_after(Time::ZERO, host(500)).is_some());
        limiter.check(Time::ZERO, IpAddr::from([192, 0, 2, 1])).expect("first event");
        assert_eq!(limiter.retry_after(Time::ZERO, host(500)), None);
        assert_eq!((limiter.windows.len(), limiter.expiry.len()), (4_096, 4_096));
    }
}
