//! Rate limits: [`Gcra`] for one stream of events, [`RateLimiter`] for the packets and bits sent to each source, [`WindowLimiter`] for the
//! events of each source in a fixed period, and [`DebtLimiter`] for what is known only afterwards, such as the length of a reply.
//!
//! The generic cell rate algorithm (ITU-T I.371) keeps one theoretical arrival time per stream. At a permitted rate of r units per second, an
//! event of n units moves it forward by n/r seconds, and is rejected if that would be ahead of the clock by more than the tolerance.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::source_network;
use crate::time::{NANOS_PER_SECOND, Time, saturating_nanos};

/// Buckets of a [`RateLimiter`], 32 bytes each. Sources in the same bucket share its limits.
const RATE_BUCKETS: usize = 8_192;

/// The maximum burst is the traffic that the permitted rate allows in this time, separately for delayed and for immediate packets. At rates
/// so low that this is less than one packet, a packet of any length fits.
const BURST_TOLERANCE: Duration = Duration::from_millis(125);

/// The largest IP packet, in bits.
const MAX_IP_PACKET_BITS: u64 = 65_535 * 8;

/// A rate limit by the generic cell rate algorithm. The caller stores one theoretical arrival time per stream, initially
/// [`Time::ZERO`].
#[derive(Clone, Copy, Debug)]
pub struct Gcra {
    /// Units (packets, bits or messages) per second.
    rate: u64,
    /// How far the theoretical arrival time may be ahead of the clock, in nanoseconds.
    tolerance: u64,
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
    fn with_min_burst(rate: u64, tolerance: Duration, min_burst: u64) -> Self {
        let gcra = Self::new(rate, tolerance);
        Self { tolerance: gcra.tolerance.max(gcra.duration_of(min_burst)), ..gcra }
    }

    /// The theoretical arrival time after `amount` more units arrive at `now`, even if they exceed the limit.
    pub fn advance(self, arrival: Time, now: Time, amount: u64) -> Time {
        Time::from_nanos(self.advance_nanos(arrival.as_nanos(), now, amount))
    }

    /// The theoretical arrival time after `amount` more units arrive at `now`. `None` if they exceed the limit.
    pub fn try_advance(self, arrival: Time, now: Time, amount: u64) -> Option<Time> {
        self.try_advance_nanos(arrival.as_nanos(), now, amount).map(Time::from_nanos)
    }

    fn advance_nanos(self, arrival: u64, now: Time, amount: u64) -> u64 {
        arrival.max(now.as_nanos()).saturating_add(self.duration_of(amount))
    }

    fn try_advance_nanos(self, arrival: u64, now: Time, amount: u64) -> Option<u64> {
        Some(self.advance_nanos(arrival, now, amount))
            .filter(|arrival| *arrival <= now.as_nanos().saturating_add(self.tolerance))
    }

    /// Nanoseconds that `amount` units take, rounded up so that the rate is never exceeded. The multiplication does not overflow if
    /// `amount` is at most `MAX_IP_PACKET_BITS`.
    fn duration_of(self, amount: u64) -> u64 {
        (amount * NANOS_PER_SECOND).div_ceil(self.rate)
    }
}

/// The limit that a packet exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateExceeded {
    /// Packets per second.
    Packets,
    /// Bits per second.
    Bits,
}

/// Theoretical arrival times of packets and of bits, in nanoseconds.
type ArrivalTimes = [u64; 2];

/// Limits packets and bits per second sent to each source, in a fixed number of buckets.
///
/// A delayed packet is admitted on arrival, but sent later, so that each bucket has two limits. The admission limit counts the packets that
/// wait for the server delay. The send limit counts delayed packets and immediate replies when they are sent: it admits or rejects an immediate
/// reply, and postpones a delayed packet that exceeds it by more than both maximum bursts. The traffic in any interval is therefore at most the
/// rate multiplied by the length of the interval, plus two maximum bursts.
pub struct RateLimiter {
    /// Limits of packets and of bits.
    limits: [Option<Gcra>; 2],
    /// For each bucket, the theoretical arrival times for admission and for sending. The memory is requested as pages filled with zeros,
    /// which take no memory before a bucket in them is used.
    buckets: Vec<[ArrivalTimes; 2]>,
}

impl RateLimiter {
    /// Limits in packets and bits per second; `None` is no limit.
    pub fn new(packets: Option<u64>, bits: Option<u64>) -> Self {
        let packets = packets.map(|rate| Gcra::with_min_burst(rate, BURST_TOLERANCE, 1));
        let bits = bits.map(|rate| Gcra::with_min_burst(rate, BURST_TOLERANCE, MAX_IP_PACKET_BITS));
        Self { limits: [packets, bits], buckets: vec![[[0; 2]; 2]; RATE_BUCKETS] }
    }

    /// Admits an IP packet of `len` bytes that waits for the server delay before it is sent. `key` is the digest of the network to which the
    /// packet is sent.
    pub(crate) fn admit_delayed(&mut self, key: u64, now: Time, len: usize) -> Result<(), RateExceeded> {
        self.admit(key, 0, now, Duration::ZERO, len)
    }

    /// Admits an IP packet of `len` bytes that is sent immediately. The maximum burst is higher by the permitted traffic of the time `extra`.
    pub(crate) fn admit_immediate(
        &mut self,
        key: u64,
        now: Time,
        extra: Duration,
        len: usize,
    ) -> Result<(), RateExceeded> {
        self.admit(key, 1, now, extra, len)
    }

    /// Charges the limits of packets and bits, if both admit the packet: those for admission (half 0 of the bucket) or for sending (half 1).
    fn admit(&mut self, key: u64, half: usize, now: Time, extra: Duration, len: usize) -> Result<(), RateExceeded> {
        let advanced = |limit: Option<Gcra>, arrival, amount| {
            let Some(limit) = limit else { return Some(arrival) };
            let tolerance = limit.tolerance.saturating_add(saturating_nanos(extra));
            Gcra { tolerance, ..limit }.try_advance_nanos(arrival, now, amount)
        };
        let arrivals = &mut self.buckets[key as usize % RATE_BUCKETS][half];
        *arrivals = [
            advanced(self.limits[0], arrivals[0], 1).ok_or(RateExceeded::Packets)?,
            advanced(self.limits[1], arrivals[1], len as u64 * 8).ok_or(RateExceeded::Bits)?,
        ];
        Ok(())
    }

    /// The earliest time at which delayed packets may be sent, as for [`RateLimiter::charge_sent`]. Immediate replies and delayed packets
    /// have separate maximum bursts. If delayed packets are sent when they are due, they never exceed both bursts. After a pause, they can.
    pub(crate) fn send_time(&self, key: u64, now: Time, packets: usize, len: usize) -> Time {
        let [_, arrivals] = self.buckets[key as usize % RATE_BUCKETS];
        let amounts = [packets as u64, len as u64 * 8];
        let times = self.limits.iter().zip(arrivals).zip(amounts).filter_map(|((limit, arrival), amount)| {
            let limit = (*limit)?;
            Some(limit.advance_nanos(arrival, now, amount).saturating_sub(2 * limit.tolerance))
        });
        Time::from_nanos(times.max().unwrap_or(0)).max(now)
    }

    /// Charges the send limits with delayed packets that have been sent: their number, and their total length in bytes with IP headers.
    pub(crate) fn charge_sent(&mut self, key: u64, now: Time, packets: usize, len: usize) {
        let [_, arrivals] = &mut self.buckets[key as usize % RATE_BUCKETS];
        for ((limit, arrival), amount) in self.limits.iter().zip(arrivals).zip([packets as u64, len as u64 * 8]) {
            *arrival = limit.map_or(*arrival, |limit| limit.advance_nanos(*arrival, now, amount));
        }
    }
}

/// A maximum number of events in a period. The period begins with its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// Maximum number of events in one period.
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
        if self.limit.count == 0 {
            return Err(self.limit.period);
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

    /// Number of admitted packets of `len` bytes at `now` milliseconds. Also returns the limit that the next packet exceeds.
    fn admitted_at(limiter: &mut RateLimiter, now: u64, len: usize) -> (usize, RateExceeded) {
        let mut admitted = 0;
        loop {
            match limiter.admit_immediate(7, Time::from_millis(now), Duration::ZERO, len) {
                Ok(()) => admitted += 1,
                Err(over) => return (admitted, over),
            }
            assert!(admitted < 100_000, "there is no limit");
        }
    }

    #[test]
    fn burst_of_125_ms_is_admitted_then_the_configured_rate() {
        let mut limiter = RateLimiter::new(Some(8_000), None);
        assert_eq!(admitted_at(&mut limiter, 0, 500), (1_000, RateExceeded::Packets));
        assert_eq!(admitted_at(&mut limiter, 1, 500), (8, RateExceeded::Packets));
        assert_eq!(admitted_at(&mut limiter, 51, 500), (400, RateExceeded::Packets));
        // After a longer pause, the maximum burst is the same.
        assert_eq!(admitted_at(&mut limiter, 3_600_000, 500), (1_000, RateExceeded::Packets));
    }

    #[test]
    fn packet_and_bit_limits_apply_independently() {
        // 64 Mbit/s for 125 ms are 8,000,000 bits: 1,000 packets of 1,000 bytes.
        let mut limiter = RateLimiter::new(None, Some(64_000_000));
        assert_eq!(admitted_at(&mut limiter, 0, 1_000), (1_000, RateExceeded::Bits));
        assert_eq!(admitted_at(&mut limiter, 1, 1_000), (8, RateExceeded::Bits));
        let mut limiter = RateLimiter::new(Some(8_000), Some(64_000_000));
        assert_eq!(admitted_at(&mut limiter, 0, 999), (1_000, RateExceeded::Packets));
        let mut limiter = RateLimiter::new(Some(8_000), Some(64_000_000));
        assert_eq!(admitted_at(&mut limiter, 0, 1_001), (999, RateExceeded::Bits));
    }

    #[test]
    fn delayed_packets_are_charged_when_sent() {
        let mut limiter = RateLimiter::new(Some(8_000), None);
        for _ in 0..1_000 {
            assert_eq!(limiter.admit_delayed(7, Time::ZERO, 500), Ok(()));
        }
        assert_eq!(limiter.admit_delayed(7, Time::ZERO, 500), Err(RateExceeded::Packets));
        // The delayed packets wait for one second. While the delayed packets wait, immediate replies are admitted. After the delayed
        // packets are sent, immediate replies are admitted only at the permitted rate.
        assert_eq!(admitted_at(&mut limiter, 0, 500), (1_000, RateExceeded::Packets));
        limiter.charge_sent(7, Time::from_millis(1_000), 1_000, 500_000);
        assert_eq!(admitted_at(&mut limiter, 1_000, 500), (0, RateExceeded::Packets));
        assert_eq!(admitted_at(&mut limiter, 1_001, 500), (8, RateExceeded::Packets));
        // 1,000 immediate replies use up the send limit. Then 1,000 delayed packets are sent. Each delayed packet is charged to the send
        // limit, even if this limit is already used up. Therefore, the next immediate reply is admitted later.
        assert_eq!(admitted_at(&mut limiter, 5_000, 500), (1_000, RateExceeded::Packets));
        limiter.charge_sent(7, Time::from_millis(5_000), 1_000, 500_000);
        assert_eq!(admitted_at(&mut limiter, 5_125, 500), (0, RateExceeded::Packets));
        assert_eq!(admitted_at(&mut limiter, 5_126, 500), (8, RateExceeded::Packets));
    }

    #[test]
    fn sent_bits_are_charged() {
        let mut limiter = RateLimiter::new(None, Some(64_000_000));
        limiter.charge_sent(7, Time::ZERO, 10, 500_000);
        assert_eq!(admitted_at(&mut limiter, 0, 1_000), (500, RateExceeded::Bits));
    }

    #[test]
    fn rejected_packet_is_charged_to_no_limit() {
        // At 1 Mbit/s, a packet of 65,535 bytes (524,280 bits) exceeds the burst tolerance of 125 ms. However, an unused limiter admits
        // one such packet.
        let mut limiter = RateLimiter::new(Some(16), Some(1_000_000));
        assert_eq!(limiter.admit_immediate(7, Time::ZERO, Duration::ZERO, 65_535), Ok(()));
        for _ in 0..10 {
            assert_eq!(limiter.admit_immediate(7, Time::ZERO, Duration::ZERO, 1_000), Err(RateExceeded::Bits));
        }
        // After 8 ms, the bit limit has room for 1,000 bytes again. The packet limit permits a burst of two packets. One packet was sent,
        // and the rejected packets were not charged. Therefore, the packet limit still has room for one packet.
        assert_eq!(limiter.admit_immediate(7, Time::from_millis(8), Duration::ZERO, 1_000), Ok(()));
        assert_eq!(limiter.admit_immediate(7, Time::from_millis(8), Duration::ZERO, 1_000), Err(RateExceeded::Packets));
    }

    #[test]
    fn lowest_rate_admits_one_packet_of_any_length() {
        let mut limiter = RateLimiter::new(Some(1), Some(1));
        assert_eq!(limiter.admit_immediate(7, Time::from_millis(5), Duration::ZERO, 65_535), Ok(()));
        assert_eq!(
            limiter.admit_immediate(7, Time::from_millis(1_004), Duration::ZERO, 100),
            Err(RateExceeded::Packets)
        );
        assert_eq!(limiter.admit_immediate(7, Time::from_millis(1_005), Duration::ZERO, 100), Err(RateExceeded::Bits));
    }

    #[test]
    fn no_limit_admits_packets_with_unordered_timestamps() {
        let mut limiter = RateLimiter::new(None, None);
        for now in [9, 3, 5, 0] {
            assert_eq!(limiter.admit_immediate(7, Time::from_millis(now), Duration::ZERO, 65_535), Ok(()));
            assert_eq!(limiter.admit_delayed(7, Time::from_millis(now), 65_535), Ok(()));
            limiter.charge_sent(7, Time::from_millis(now), 1, 65_535);
        }
    }

    #[test]
    fn buckets_are_independent() {
        let mut limiter = RateLimiter::new(Some(8), None);
        assert_eq!(admitted_at(&mut limiter, 0, 500).0, 1);
        assert_eq!(limiter.admit_immediate(8, Time::ZERO, Duration::ZERO, 500), Ok(()));
        assert_eq!(
            limiter.admit_immediate(7 + RATE_BUCKETS as u64, Time::ZERO, Duration::ZERO, 500),
            Err(RateExceeded::Packets)
        );
    }

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
