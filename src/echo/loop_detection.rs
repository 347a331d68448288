//! Limits how often the same datagram is answered. Without this limit, two echo servers could exchange echoes forever.
//!
//! One datagram with a forged source can start such a loop. Each pass of the loop brings the same datagram from the same address and port.
//! Clients rarely repeat a datagram. AUDIO has a new sequence number each time. A client sends identical KEEPALIVEs only once per second.
//! Therefore, the same datagram is answered only a limited number of times. A KEEPALIVE loop with a round-trip time of one second looks
//! like a client. The loop check in `admission.rs` detects such a loop.

use std::time::Duration;

use crate::time::Time;

/// Number of sets in the cache. Each set has [`CACHE_WAYS`] entries of 8 bytes. The 16,384 sets therefore have an address range of 1 MiB. A
/// page of this range takes physical memory only after it has been written. The cache has room for the 16,000 datagrams that one address
/// may send in 2 s. With four entries per set, some sets would overflow. Dozens of the 16,000 datagrams would then evict the
/// entries of other datagrams from the cache.
const CACHE_SETS: usize = 16_384;
const CACHE_WAYS: usize = 8;

/// Limits how often the same datagram is answered. If several copies arrive at the same time, only the first `burst` copies are answered.
/// After that, at most one copy is answered per interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RepetitionLimit {
    /// Interval in milliseconds.
    interval_ms: u32,
    /// Maximum burst.
    burst: u32,
}

impl RepetitionLimit {
    /// Limit for identical KEEPALIVEs. A client may send the same KEEPALIVE once per second forever. In addition, a network may deliver ten
    /// copies at the same time.
    pub(super) const KEEPALIVE: Self = Self { interval_ms: 800, burst: 10 };

    /// All repeated KEEPALIVEs of one source: at most 20 replies in any second.
    pub(super) const REPEATED_KEEPALIVES: Self = Self { interval_ms: 100, burst: 10 };

    /// Loop checks sent to one source. Two checks may follow each other without a pause, because one check may be lost.
    pub(super) const LOOP_CHECK: Self = Self { interval_ms: 30_000, burst: 2 };

    /// How long a source that returned a loop check is treated as an echo server.
    pub(super) const ECHO_SERVER: Self = Self { interval_ms: 60_000, burst: 1 };

    /// The limit on copies of one AUDIO packet at a server that delays AUDIO by `delay`. In a loop between two servers, one pass takes both
    /// delays plus the round-trip time. At the server with the longer delay, the interval between answered copies is also longer. If the
    /// round-trip time is below 3.3 s, three passes take less time than this interval. The server with the longer delay then receives more
    /// copies than its limit permits. This server drops a copy, which ends the loop. The burst is three, because copies also occur without
    /// a loop. Networks duplicate packets. A client that is restarted on a fixed port may repeat packets.
    pub(super) fn audio(delay: Duration) -> Self {
        // The milliseconds wrap after 49 days. The interval multiplied by three (the burst) must be much shorter than 49 days. Therefore,
        // the maximum interval is one day.
        let interval = Duration::from_secs(10).saturating_add(delay.saturating_mul(6)).min(Duration::from_secs(86_400));
        Self { interval_ms: interval.as_millis() as u32, burst: 3 }
    }

    /// Tolerance of the generic cell rate algorithm (GCRA) in milliseconds. The theoretical arrival time may exceed the current time by at
    /// most this tolerance.
    const fn tolerance_ms(self) -> u32 {
        self.interval_ms * self.burst
    }
}

/// Entry for one datagram, packed into 64 bits. The upper 31 bits are part of the datagram's digest. The next bit is set if the datagram
/// was answered more than once. The lower 32 bits are the theoretical arrival time of the generic cell rate algorithm, in milliseconds.
/// The entry expires at that time.
#[derive(Clone, Copy)]
struct CacheEntry(u64);

impl CacheEntry {
    fn new(tag: u32, repeated: bool, until: u32) -> Self {
        Self(u64::from(tag) << 33 | u64::from(repeated) << 32 | u64::from(until))
    }

    fn tag(self) -> u32 {
        (self.0 >> 33) as u32
    }

    fn is_repeated(self) -> bool {
        self.0 >> 32 & 1 == 1
    }

    /// Milliseconds until the entry expires. After the expiry, the subtraction wraps around to a value above `max_remaining`. The result is
    /// then 0.
    fn remaining_ms(self, now: u32, max_remaining: u32) -> u32 {
        let remaining = (self.0 as u32).wrapping_sub(now);
        if remaining <= max_remaining { remaining } else { 0 }
    }

    /// Whether the entry has not expired at `now`, or expired less than `retention` milliseconds ago.
    fn is_live(self, now: u32, max_remaining: u32, retention: u32) -> bool {
        self.0 != 0 && (self.remaining_ms(now, max_remaining) > 0 || now.wrapping_sub(self.0 as u32) < retention)
    }
}

/// Whether a datagram may be answered, and how often it was received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The limit is exceeded.
    Exceeded,
    /// The datagram is not in the cache.
    First,
    /// The datagram was received once before.
    Second,
    /// Received at least twice before.
    Later,
}

/// A set-associative cache of recently received datagrams.
pub(super) struct RepetitionLimiter {
    /// The memory is requested as pages filled with zeros. The system provides such a page only when the page is first written. Therefore,
    /// pages of unused sets take no memory.
    sets: Vec<[u64; CACHE_WAYS]>,
    /// Maximum lifetime of an entry, with a margin for unordered timestamps.
    max_remaining_ms: u32,
    /// An expired entry is kept for this many milliseconds. During this time, the same datagram still counts as a repetition.
    retention_ms: u32,
    next_way: usize,
    /// This state depends on all earlier datagrams. Therefore, a sender cannot predict which entry is evicted.
    eviction_state: u64,
}

impl RepetitionLimiter {
    /// Creates a cache for datagrams that are subject to `limits`. An expired entry is kept for `retention`. During this time, the same
    /// datagram still counts as a repetition.
    pub(super) fn new(limits: &[RepetitionLimit], retention: Duration) -> Self {
        let max_remaining_ms = limits.iter().map(|limit| limit.tolerance_ms()).max().unwrap_or(0) + 1_000;
        Self {
            sets: vec![[0; CACHE_WAYS]; CACHE_SETS],
            max_remaining_ms,
            retention_ms: retention.as_millis() as u32,
            next_way: 0,
            eviction_state: 0,
        }
    }

    /// Counts the datagram with this digest towards `limit`. Returns how often the datagram was received before, or that no reply is
    /// allowed at `now`.
    ///
    /// An entry may be replaced if its datagram was received only once. Such entries are replaced in turn (round robin). Otherwise, a
    /// sender could evict the same entry every time. The entry of a repeated datagram stays until the entry expires. Therefore, other
    /// datagrams cannot displace a detected loop. If all entries of a set belong to repeated datagrams, a random entry is replaced.
    /// Otherwise, a sender could fill a set permanently.
    pub(super) fn check(&mut self, now: Time, digest: u64, limit: RepetitionLimit) -> Repetition {
        let repetition = self.peek(now, digest, limit);
        if repetition == Repetition::Exceeded {
            return repetition;
        }
        let (now_ms, tag) = (wrapping_millis(now), tag(digest));
        let (max_remaining, retention) = (self.max_remaining_ms, self.retention_ms);
        let set = &mut self.sets[digest as usize % CACHE_SETS];
        let is_live = |entry: &u64| CacheEntry(*entry).is_live(now_ms, max_remaining, retention);
        if let Some(entry) = set.iter_mut().find(|entry| CacheEntry(**entry).tag() == tag && is_live(entry)) {
            let remaining = CacheEntry(*entry).remaining_ms(now_ms, max_remaining) + limit.interval_ms;
            *entry = CacheEntry::new(tag, true, now_ms.wrapping_add(remaining)).0;
            return repetition;
        }
        self.next_way = (self.next_way + 1) % CACHE_WAYS;
        // Knuth's multiplier; the upper bits are well mixed.
        self.eviction_state = self.eviction_state.wrapping_add(digest).wrapping_mul(6_364_136_223_846_793_005);
        let is_repeated = |entry: &u64| CacheEntry(*entry).is_repeated();
        let way = set.iter().position(|entry| !is_live(entry));
        let way = way.or_else(|| (!is_repeated(&set[self.next_way])).then_some(self.next_way));
        let way =
            way.or_else(|| set.iter().all(is_repeated).then_some((self.eviction_state >> 61) as usize % CACHE_WAYS));
        if let Some(way) = way {
            set[way] = CacheEntry::new(tag, false, now_ms.wrapping_add(limit.interval_ms)).0;
        }
        Repetition::First
    }

    /// The result of [`RepetitionLimiter::check`], without counting the datagram.
    pub(super) fn peek(&self, now: Time, digest: u64, limit: RepetitionLimit) -> Repetition {
        let (now, tag) = (wrapping_millis(now), tag(digest));
        let set = &self.sets[digest as usize % CACHE_SETS];
        let mut entries = set.iter().map(|entry| CacheEntry(*entry)).filter(|entry| entry.tag() == tag);
        match entries.find(|entry| entry.is_live(now, self.max_remaining_ms, self.retention_ms)) {
            None => Repetition::First,
            Some(entry)
                if entry.remaining_ms(now, self.max_remaining_ms) + limit.interval_ms > limit.tolerance_ms() =>
            {
                Repetition::Exceeded
            }
            Some(entry) if entry.is_repeated() => Repetition::Later,
            Some(_) => Repetition::Second,
        }
    }

    /// Counts a datagram with this digest towards `limit`, and returns whether it may be answered at `now`.
    pub(super) fn admit(&mut self, now: Time, digest: u64, limit: RepetitionLimit) -> bool {
        self.check(now, digest, limit) != Repetition::Exceeded
    }

    /// Whether `digest` was admitted and has not expired.
    pub(super) fn contains(&self, now: Time, digest: u64) -> bool {
        let (now, tag) = (wrapping_millis(now), tag(digest));
        let set = &self.sets[digest as usize % CACHE_SETS];
        set.iter().any(|entry| {
            CacheEntry(*entry).tag() == tag && CacheEntry(*entry).remaining_ms(now, self.max_remaining_ms) > 0
        })
    }
}

fn wrapping_millis(time: Time) -> u32 {
    (time.as_nanos() / 1_000_000) as u32
}

fn tag(digest: u64) -> u32 {
    (digest >> 33) as u32
}

#[cfg(test)]
mod tests {
    use super::Repetition::{Exceeded, First, Later, Second};
    use super::*;

    const DIGEST: u64 = 0xAAAA_AAAA_0000_0007;

    fn admissions(limiter: &mut RepetitionLimiter, digest: u64, limit: RepetitionLimit, times: &[u64]) -> Vec<bool> {
        times.iter().map(|millis| limiter.admit(Time::from_millis(*millis), digest, limit)).collect()
    }

    fn limiter_and_audio_limit() -> (RepetitionLimiter, RepetitionLimit) {
        let audio = RepetitionLimit::audio(Duration::from_secs(3));
        (
            RepetitionLimiter::new(
                &[audio, RepetitionLimit::KEEPALIVE, RepetitionLimit::ECHO_SERVER],
                Duration::from_secs(10),
            ),
            audio,
        )
    }

    #[test]
    fn keepalive_once_per_second_is_always_answered() {
        let (mut limiter, _) = limiter_and_audio_limit();
        // One KEEPALIVE per second, sometimes late, for 90 days. The 32-bit counter of milliseconds wraps after 49 days.
        for second in 0..90 * 86_400 {
            let late = if second % 1_000 == 0 { 700 } else { 0 };
            assert!(
                limiter.admit(Time::from_millis(second * 1_000 + late), DIGEST, RepetitionLimit::KEEPALIVE),
                "second {second}"
            );
        }
    }

    #[test]
    fn ten_equal_keepalives_are_answered_then_one_every_800_ms() {
        let (mut limiter, _) = limiter_and_audio_limit();
        assert_eq!(
            admissions(&mut limiter, DIGEST, RepetitionLimit::KEEPALIVE, &[5; 11]),
            [&[true; 10][..], &[false]].concat()
        );
        // A rejected datagram does not use up the limit: the next datagram is admitted at 805 ms.
        assert_eq!(
            admissions(&mut limiter, DIGEST, RepetitionLimit::KEEPALIVE, &[804, 805, 805, 1_605]),
            [false, true, false, true]
        );
    }

    #[test]
    fn equal_audio_is_answered_three_times_then_every_10_s_plus_6_delays() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        // Interval: 10 s plus six times the delay of 3 s.
        assert_eq!(audio, RepetitionLimit { interval_ms: 28_000, burst: 3 });
        let at = [0, 1, 6_000, 27_999, 28_000, 28_001, 56_000];
        assert_eq!(admissions(&mut limiter, DIGEST, audio, &at), [true, true, true, false, true, false, true]);
        // The last copy, at 56 s, moved the expiry of the cache entry to 140 s. The retention of 10 s also ends before 200 s.
        assert_eq!(admissions(&mut limiter, DIGEST, audio, &[200_000; 4]), [true, true, true, false]);
    }

    #[test]
    fn maximum_delay_does_not_overflow() {
        let audio = RepetitionLimit::audio(Duration::from_secs(1 << 40));
        assert_eq!((audio.interval_ms, audio.tolerance_ms()), (86_400_000, 259_200_000));
        let mut limiter = RepetitionLimiter::new(&[audio], Duration::ZERO);
        assert_eq!(admissions(&mut limiter, DIGEST, audio, &[0, 0, 0, 0, 86_400_000]), [true, true, true, false, true]);
    }

    #[test]
    fn keepalive_counts_as_repeated_for_10_s_after_its_interval() {
        let check = |times: &[u64]| {
            let (mut limiter, _) = limiter_and_audio_limit();
            times
                .iter()
                .map(|millis| limiter.check(Time::from_millis(1 + *millis), DIGEST, RepetitionLimit::KEEPALIVE))
                .collect::<Vec<_>>()
        };
        assert_eq!(check(&[0, 0, 0, 0]), [First, Second, Later, Later]);
        assert_eq!(check(&[0; 11])[9..], [Later, Exceeded]);
        assert_eq!(check(&[0, 2_000, 4_000, 6_000]), [First, Second, Later, Later]);
        // The cache entry expires after 800 ms (`interval_ms` of KEEPALIVE). The expired entry is kept for another 10 s.
        assert_eq!(check(&[0, 10_799, 21_598]), [First, Second, Later]);
        assert_eq!(check(&[0, 10_800, 21_600]), [First, First, First]);
    }

    #[test]
    fn repeated_keepalive_stays_cached_until_its_next_round_trip() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let mut repetitions = Vec::new();
        for pass in 0..4 {
            repetitions.push(limiter.check(Time::from_millis(1 + 2_000 * pass), DIGEST, RepetitionLimit::KEEPALIVE));
            // After each pass except the first, nine other datagrams use the same cache set. The set has only eight entries.
            for other in (0..=CACHE_WAYS as u64).filter(|_| pass > 0) {
                limiter.check(Time::from_millis(1_000 + 2_000 * pass), (pass * 100 + other + 1) << 33 | 7, audio);
            }
        }
        assert_eq!(repetitions, [First, Second, Later, Later]);
    }

    #[test]
    fn cache_entry_expires_after_its_interval() {
        let (mut limiter, _) = limiter_and_audio_limit();
        assert!(!limiter.contains(Time::from_millis(5), DIGEST));
        limiter.check(Time::from_millis(5), DIGEST, RepetitionLimit::ECHO_SERVER);
        assert!(limiter.contains(Time::from_millis(5), DIGEST) && limiter.contains(Time::from_millis(60_004), DIGEST));
        assert!(
            !limiter.contains(Time::from_millis(60_005), DIGEST)
                && !limiter.contains(Time::from_millis(6), DIGEST ^ 1 << 33)
        );
    }

    #[test]
    fn unordered_timestamps_expire_no_entry() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        assert_eq!(
            admissions(&mut limiter, DIGEST, audio, &[100_000, 100_000, 100_000, 99_950]),
            [true, true, true, false]
        );
    }

    /// Simulates a datagram with this digest in a loop between two servers. The round-trip time is 1 ms. Returns how many times the
    /// datagram is answered before the limiter blocks the datagram. `others` passes other datagrams to the limiter before each reply.
    fn replies_until_blocked(
        limiter: &mut RepetitionLimiter,
        digest: u64,
        limit: RepetitionLimit,
        mut others: impl FnMut(&mut RepetitionLimiter, Time),
    ) -> u64 {
        let blocked = |millis| {
            let now = Time::from_millis(millis);
            others(limiter, now);
            !limiter.admit(now, digest, limit)
        };
        (0..10_000).position(blocked).expect("an end") as u64
    }

    #[test]
    fn more_loops_than_cache_ways_all_end() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let mut alive: Vec<u64> = (1..=CACHE_WAYS as u64 + 1).map(|number| number << 33 | 7).collect();
        for millis in 0..200 {
            alive.retain(|digest| limiter.admit(Time::from_millis(millis), *digest, audio));
        }
        assert_eq!(alive, [0; 0]);
    }

    #[test]
    fn every_way_of_a_set_full_of_repetitions_can_be_evicted() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let mut is_evicted = [false; CACHE_WAYS];
        for number in 1..=200_u64 {
            let before = limiter.sets[7];
            for _ in 0..2 {
                limiter.check(Time::from_millis(1), number << 33 | 7, audio);
            }
            let way = (0..CACHE_WAYS).find(|way| before[*way] != limiter.sets[7][*way]).expect("an entry is replaced");
            is_evicted[way] |= number > CACHE_WAYS as u64;
        }
        assert_eq!(is_evicted, [true; CACHE_WAYS]);
    }

    #[test]
    fn cache_set_full_of_repetitions_hides_no_loop() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let full = |limiter: &mut RepetitionLimiter, now| {
            for number in 1..=CACHE_WAYS as u64 {
                limiter.admit(now, number << 33 | 7, audio);
            }
        };
        (0..10).for_each(|millis| full(&mut limiter, Time::from_millis(millis)));
        // The loop is blocked only if its entry stays in the cache for three consecutive passes.
        let replies = replies_until_blocked(&mut limiter, (CACHE_WAYS as u64 + 1) << 33 | 7, audio, full);
        assert!((3..100).contains(&replies), "{replies}");
    }
}
