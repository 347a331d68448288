//! Limits how often the same datagram is answered. Without this limit, two echo servers could exchange echoes forever.
//!
//! One datagram with a forged source can start such a loop, in which each pass brings the same datagram from the same address and port.
//! Clients rarely repeat a datagram: AUDIO has a new sequence number each time, and identical KEEPALIVEs come once per second. The same
//! datagram is therefore answered only a limited number of times. A KEEPALIVE loop with a round-trip time of one second looks like a client,
//! and is left to the loop check in `keepalive.rs`.

use std::collections::HashMap;
use std::time::Duration;

use crate::time::Time;

/// Number of datagrams in a table before the older half of all datagrams is forgotten. Each of both tables is a hash table of this capacity.
/// One address may send 96,000 datagrams in 12 s, the longest round trip of a loop at the default limits.
const TABLE_LEN: usize = 100_000;

/// Limits how often the same datagram is answered. If several copies arrive at the same time, only the first `burst` copies are answered.
/// After that, at most one copy is answered per interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RepetitionLimit {
    interval: Duration,
    /// Maximum burst.
    burst: u32,
}

impl RepetitionLimit {
    /// Limit for identical KEEPALIVEs. A client may send the same KEEPALIVE once per second forever. In addition, a network may deliver ten
    /// copies at the same time.
    pub(super) const KEEPALIVE: Self = Self { interval: Duration::from_millis(800), burst: 10 };

    /// All repeated KEEPALIVEs of one source: at most 20 replies in any second.
    pub(super) const REPEATED_KEEPALIVES: Self = Self { interval: Duration::from_millis(100), burst: 10 };

    /// Loop checks sent to one source. Two checks may follow each other without a pause, because one check may be lost.
    pub(super) const LOOP_CHECK: Self = Self { interval: Duration::from_secs(30), burst: 2 };

    /// How long a source that returned a loop check is treated as an echo server.
    pub(super) const ECHO_SERVER: Self = Self { interval: Duration::from_secs(60), burst: 1 };

    /// The limit on copies of one AUDIO packet at a server that delays AUDIO by `delay`. In a loop between two servers, one pass takes both
    /// delays plus the round-trip time. Below a round-trip time of 3.3 s, three passes take less time than the interval of the server with the
    /// longer delay, which then receives more copies than its limit permits and drops one, and this ends the loop. The burst is three, because
    /// copies also occur without a loop: networks duplicate packets, and a client that is restarted on a fixed port may repeat them.
    pub(super) fn audio(delay: Duration) -> Self {
        // The maximum of one day keeps multiples of an interval from overflowing.
        let interval = Duration::from_secs(10).saturating_add(delay.saturating_mul(6)).min(Duration::from_secs(86_400));
        Self { interval, burst: 3 }
    }
}

/// A datagram that was answered.
#[derive(Clone, Copy)]
struct Answered {
    /// Theoretical arrival time of the generic cell rate algorithm (GCRA). The entry expires at this time.
    until: Time,
    /// Whether the datagram was answered more than once.
    is_repeated: bool,
}

/// Whether a datagram may be answered, and how often it was received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The limit is exceeded.
    Exceeded,
    /// The datagram was not received before, or long ago.
    First,
    /// The datagram was received once before.
    Second,
    /// Received at least twice before.
    Later,
}

/// The datagrams that were answered last.
pub(super) struct RepetitionLimiter {
    /// The datagrams by their digest. When this table is full, it replaces `older`.
    newer: HashMap<u64, Answered>,
    older: HashMap<u64, Answered>,
    /// An expired entry is kept for this long. During this time, the same datagram still counts as a repetition.
    retention: Duration,
}

impl RepetitionLimiter {
    /// Knows no datagrams. After the expiry of an entry, the same datagram still counts as a repetition for `retention`.
    pub(super) fn new(retention: Duration) -> Self {
        // Growing a large table would delay the echoes.
        Self { newer: HashMap::with_capacity(TABLE_LEN), older: HashMap::with_capacity(TABLE_LEN), retention }
    }

    /// Whether the datagram with this digest may be answered at `now`. Does not count the datagram.
    pub(super) fn repetition(&self, now: Time, digest: u64, limit: RepetitionLimit) -> Repetition {
        match self.find(digest).filter(|answered| now < answered.until + self.retention) {
            None => Repetition::First,
            Some(answered) if answered.until.duration_since(now) + limit.interval > limit.interval * limit.burst => {
                Repetition::Exceeded
            }
            Some(answered) if answered.is_repeated => Repetition::Later,
            Some(_) => Repetition::Second,
        }
    }

    /// Counts an answered datagram towards `limit`.
    pub(super) fn count(&mut self, now: Time, digest: u64, limit: RepetitionLimit) {
        let before = self.find(digest).filter(|answered| now < answered.until + self.retention);
        let until = before.map_or(now, |answered| answered.until.max(now)) + limit.interval;
        if self.newer.len() >= TABLE_LEN && !self.newer.contains_key(&digest) {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
            self.newer.reserve(TABLE_LEN);
        }
        self.newer.insert(digest, Answered { until, is_repeated: before.is_some() });
    }

    /// Whether a datagram with this digest may be answered at `now`. If so, counts it.
    pub(super) fn admit(&mut self, now: Time, digest: u64, limit: RepetitionLimit) -> bool {
        let is_admitted = self.repetition(now, digest, limit) != Repetition::Exceeded;
        if is_admitted {
            self.count(now, digest, limit);
        }
        is_admitted
    }

    /// Whether `digest` was counted and has not expired.
    pub(super) fn contains(&self, now: Time, digest: u64) -> bool {
        self.find(digest).is_some_and(|answered| now < answered.until)
    }

    fn find(&self, digest: u64) -> Option<Answered> {
        self.newer.get(&digest).or_else(|| self.older.get(&digest)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Repetition::{Exceeded, First, Later, Second};
    use super::*;

    const DIGEST: u64 = 0xAAAA_AAAA_0000_0007;

    fn admissions(limiter: &mut RepetitionLimiter, limit: RepetitionLimit, times: &[u64]) -> Vec<bool> {
        times.iter().map(|millis| limiter.admit(Time::from_millis(*millis), DIGEST, limit)).collect()
    }

    /// Receives and counts a KEEPALIVE.
    fn received(limiter: &mut RepetitionLimiter, millis: u64) -> Repetition {
        let now = Time::from_millis(millis);
        let repetition = limiter.repetition(now, DIGEST, RepetitionLimit::KEEPALIVE);
        limiter.admit(now, DIGEST, RepetitionLimit::KEEPALIVE);
        repetition
    }

    fn limiter_and_audio_limit() -> (RepetitionLimiter, RepetitionLimit) {
        let audio = RepetitionLimit::audio(Duration::from_secs(3));
        (RepetitionLimiter::new(Duration::from_secs(10)), audio)
    }

    #[test]
    fn ten_equal_keepalives_are_answered_then_one_every_800_ms() {
        let (mut limiter, _) = limiter_and_audio_limit();
        let mut admitted = |times: &[u64]| admissions(&mut limiter, RepetitionLimit::KEEPALIVE, times);
        assert_eq!(admitted(&[5; 11]), [&[true; 10][..], &[false]].concat());
        // A rejected datagram does not use up the limit: the next datagram is admitted at 805 ms.
        assert_eq!(admitted(&[804, 805, 805, 1_605]), [false, true, false, true]);
    }

    #[test]
    fn maximum_delay_does_not_overflow() {
        let audio = RepetitionLimit::audio(Duration::from_secs(1 << 40));
        assert_eq!(audio.interval, Duration::from_secs(86_400));
        let mut limiter = RepetitionLimiter::new(Duration::ZERO);
        assert_eq!(admissions(&mut limiter, audio, &[0, 0, 0, 0, 86_400_000]), [true, true, true, false, true]);
    }

    #[test]
    fn keepalive_counts_as_repeated_for_10_s_after_its_interval() {
        let check = |times: &[u64]| {
            let (mut limiter, _) = limiter_and_audio_limit();
            times.iter().map(|millis| received(&mut limiter, 1 + *millis)).collect::<Vec<_>>()
        };
        assert_eq!(check(&[0, 0, 0, 0]), [First, Second, Later, Later]);
        assert_eq!(check(&[0; 11])[9..], [Later, Exceeded]);
        assert_eq!(check(&[0, 2_000, 4_000, 6_000]), [First, Second, Later, Later]);
        // The entry expires after 800 ms (`interval_ms` of KEEPALIVE). The expired entry is kept for another 10 s.
        assert_eq!(check(&[0, 10_799, 21_598]), [First, Second, Later]);
        assert_eq!(check(&[0, 10_800, 21_600]), [First, First, First]);
    }

    #[test]
    fn unordered_timestamps_expire_no_entry() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let times = [100_000, 100_000, 100_000, 99_950];
        assert_eq!(admissions(&mut limiter, audio, &times), [true, true, true, false]);
    }

    #[test]
    fn last_100_000_datagrams_are_remembered() {
        let (mut limiter, audio) = limiter_and_audio_limit();
        let after = |limiter: &mut RepetitionLimiter, others: std::ops::Range<u64>| {
            others.for_each(|digest| limiter.count(Time::from_millis(1), digest, audio));
            limiter.repetition(Time::from_millis(1), DIGEST, audio)
        };
        limiter.count(Time::ZERO, DIGEST, audio);
        assert_eq!(after(&mut limiter, 0..100_000), Second);
        limiter.count(Time::from_millis(1), DIGEST, audio);
        assert_eq!(after(&mut limiter, 100_000..200_000), Later);
        assert_eq!(after(&mut limiter, 200_000..300_001), First);
        assert!(limiter.newer.capacity() < 2 * TABLE_LEN && limiter.older.capacity() < 2 * TABLE_LEN);
    }
}
