//! Limits the processor time for messages, so that clients with costly messages do not delay the others.

use std::net::IpAddr;
use std::time::Duration;

use super::event_sink::ConnId;
use jamjam_core::address::source_network;
use jamjam_core::rate_limit::DebtLimiter;
use jamjam_core::time::{NANOS_PER_SECOND, Time, saturating_nanos};

/// Each source has a hundredth of a core for itself. Short messages at the maximum message rate take less.
const OWN_SHARE_DIVISOR: u32 = 100;

/// A source may use its processor time of one second at once. A message that takes longer counts as shared time.
const OWN_BURST: Duration = Duration::from_secs(1);

/// A source that has used more than its own time has none for at most this time.
const MAX_OWN_DEBT: Duration = Duration::from_secs(10);

/// All sources share a quarter of a core for messages above their own time.
const SHARED_DIVISOR: u64 = 4;

/// Debts up to this time do not delay a message, because a timer cannot wait for the short debts of short messages.
const MAX_SHARED_DEBT: Duration = Duration::from_millis(10);

/// Upper bound of the time for one byte of a message: nested lists take 0.2 µs.
const MAX_TIME_PER_BYTE: Duration = Duration::from_nanos(200);

/// A message counts at most this time. On systems where waiting counts too, a pause of this host then has a limited effect.
const MAX_WORK: Duration = Duration::from_secs(1);

/// A source that has used less than half of its own burst is measured with a clock that also counts waiting, because reading the processor
/// time costs as much as a short message. Each of its messages counts at most this time: the other half of the burst.
const MAX_ESTIMATED_WORK: Duration = Duration::from_millis(5);

/// Maximum number of sources whose processor time is counted.
const MAX_SOURCES: usize = 16_384;

/// What uses processor time: an address (IPv6: a /64). On loopback, it is a connection, because a proxy connects from loopback for all its
/// clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkSource {
    /// All connections from this network.
    Network(IpAddr),
    /// One connection.
    Connection(ConnId),
}

impl WorkSource {
    /// The source of the messages of this connection.
    pub fn new(address: IpAddr, conn: ConnId) -> Self {
        if address.is_loopback() { Self::Connection(conn) } else { Self::Network(source_network(address)) }
    }
}

/// A message that is being handled.
#[derive(Debug)]
pub struct MessageWork {
    source: WorkSource,
    /// Whether it may exceed the own time of its source.
    is_costly: bool,
    /// Whether the time that it takes must not contain waiting.
    pub is_exact: bool,
}

/// Charges processor time to the sources of messages.
#[derive(Clone, Debug)]
pub struct WorkLimiter {
    own: DebtLimiter<WorkSource>,
    /// The debt of all sources above their own time. They pay it off in the order of their messages.
    shared: DebtLimiter<()>,
    /// Until when no other message is handled that may exceed the own time of its source. It passes even if handling a message panics.
    costly_until: Time,
}

impl Default for WorkLimiter {
    fn default() -> Self {
        Self {
            own: DebtLimiter::new(NANOS_PER_SECOND / u64::from(OWN_SHARE_DIVISOR), MAX_SOURCES),
            shared: DebtLimiter::new(NANOS_PER_SECOND / SHARED_DIVISOR, 1),
            costly_until: Time::ZERO,
        }
    }
}

impl WorkLimiter {
    /// Whether a message of `len` bytes may be handled now; `Err`: after this time, ask again. A message may exceed the own time of its source
    /// only if the shared debt is paid and no other such message is handled.
    pub fn begin(&mut self, now: Time, source: WorkSource, len: usize) -> Result<MessageWork, Duration> {
        let most = MAX_TIME_PER_BYTE.saturating_mul(u32::try_from(len).unwrap_or(u32::MAX));
        let own = self.own.debt(now, source);
        let is_exact = own > OWN_BURST / 2;
        if own + OWN_SHARE_DIVISOR * most <= OWN_BURST {
            return Ok(MessageWork { source, is_costly: false, is_exact });
        }
        let debt = self.shared.debt(now, ());
        if debt > MAX_SHARED_DEBT {
            return Err(debt);
        }
        if now < self.costly_until {
            return Err(MAX_SHARED_DEBT);
        }
        self.costly_until = now + MAX_WORK;
        Ok(MessageWork { source, is_costly: true, is_exact: true })
    }

    /// Charges the time that a message took. To be called for each message that has begun.
    pub fn end(&mut self, now: Time, MessageWork { source, is_costly, is_exact }: MessageWork, work: Duration) {
        if is_costly {
            self.costly_until = now;
        }
        let work = work.min(if is_exact { MAX_WORK } else { MAX_ESTIMATED_WORK });
        let debt = self.own.debt(now, source);
        if debt + OWN_SHARE_DIVISOR * work > OWN_BURST {
            self.shared.charge(now, (), saturating_nanos(work));
        }
        let own = work.min(MAX_OWN_DEBT.saturating_sub(debt) / OWN_SHARE_DIVISOR);
        self.own.charge(now, source, saturating_nanos(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 100;

    /// Share of a core that `sources` use together, each as soon as it may, with messages of `len` bytes that take `work_us`.
    fn used_share(sources: u8, len: usize, work_us: u64) -> f64 {
        let mut limiter = WorkLimiter::default();
        let mut next = vec![Time::ZERO; usize::from(sources)];
        let (mut now, mut used) = (Time::ZERO, Duration::ZERO);
        let work = Duration::from_micros(work_us);
        while now < Time::from_millis(100_000) {
            let first = (0..next.len()).min_by_key(|source| next[*source]).expect("a source");
            now = now.max(next[first]);
            match limiter.begin(now, WorkSource::Network(IpAddr::from([192, 0, 2, first as u8])), len) {
                Err(wait) => next[first] = now + wait,
                Ok(begun) => {
                    (now, used) = (now + work, used + work);
                    limiter.end(now, begun, work);
                    next[first] = now;
                }
            }
        }
        used.as_secs_f64() / 100.0
    }

    #[test]
    fn costly_messages_share_a_quarter_of_a_core() {
        // Short messages also use the hundredth of each source.
        for (sources, len, work_us, expected) in
            [(1, 100_000, 20_000, 0.20), (20, 100_000, 20_000, 0.20), (1, LEN, 100, 0.25), (20, LEN, 100, 0.27)]
        {
            let share = used_share(sources, len, work_us);
            assert!((share - expected).abs() < 0.03, "{sources} sources with {work_us} µs: {share}");
        }
    }

    #[test]
    fn source_within_its_own_time_never_waits_for_others() {
        let mut limiter = WorkLimiter::default();
        let [costly, light] = [1, 2].map(|host| WorkSource::new(IpAddr::from([192, 0, 2, host]), ConnId(1)));
        let mut waits = Duration::ZERO;
        for millis in 0..10_000 {
            let now = Time::from_millis(millis);
            match limiter.begin(now, costly, LEN) {
                Ok(begun) => limiter.end(now, begun, Duration::from_millis(1)),
                Err(wait) => waits += wait,
            }
            // 9 µs per millisecond are 9 ms per second.
            let begun = limiter.begin(now, light, 10).expect("own time");
            limiter.end(now, begun, Duration::from_micros(9));
        }
        assert!(waits > Duration::from_secs(10), "{waits:?}");
    }

    #[test]
    fn waiting_of_a_source_that_used_little_counts_little() {
        let (mut limiter, source) = (WorkLimiter::default(), WorkSource::Connection(ConnId(1)));
        let mut handle = |work| {
            let begun = limiter.begin(Time::ZERO, source, LEN).expect("own time");
            let is_exact = begun.is_exact;
            limiter.end(Time::ZERO, begun, work);
            is_exact
        };
        // 5 ms of a hundredth of a core are half of the burst.
        assert!(!handle(Duration::from_secs(1)));
        assert!(!handle(Duration::from_millis(1)));
        assert!(handle(Duration::from_millis(1)));
    }

    #[test]
    fn long_message_waits_for_debts_of_others_and_for_another_long_one() {
        let mut limiter = WorkLimiter::default();
        let [one, other] = [1, 2].map(|host| WorkSource::new(IpAddr::from([192, 0, 2, host]), ConnId(1)));
        let at = Time::from_millis;
        let begun = limiter.begin(at(0), one, 100_000).expect("nothing is handled");
        assert_eq!(limiter.begin(at(0), other, 100_000).err(), Some(MAX_SHARED_DEBT));
        // A short message of the other source is handled meanwhile.
        let short = limiter.begin(at(0), other, LEN).expect("own time");
        limiter.end(at(0), short, Duration::ZERO);
        assert_eq!(limiter.begin(at(0), other, 100_000).err(), Some(MAX_SHARED_DEBT));
        // A quarter of a core pays off 25 ms in 100 ms.
        limiter.end(at(25), begun, Duration::from_millis(25));
        assert_eq!(limiter.begin(at(25), other, 100_000).err(), Some(Duration::from_millis(100)));
        assert!(limiter.begin(at(125), other, 100_000).is_ok());
    }

    #[test]
    fn connections_of_one_address_share_its_time_except_on_loopback() {
        let of = |address: &str, conn| WorkSource::new(address.parse().expect("an address"), ConnId(conn));
        assert_eq!(of("192.0.2.1", 1), of("192.0.2.1", 2));
        assert_eq!(of("2001:db8::1", 1), of("2001:db8::2", 2));
        assert_ne!(of("127.0.0.1", 1), of("127.0.0.1", 2));
    }
}
