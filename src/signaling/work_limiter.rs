//! Limits the processor time for messages, so that clients with costly messages do not delay the others.

use std::net::IpAddr;
use std::time::Duration;

use super::event_sink::ConnId;
use crate::address::source_network;
use crate::rate_limit::DebtLimiter;
use crate::time::{NANOS_PER_SECOND, Time, saturating_nanos};

/// Each source has a hundredth of a core for itself. Short messages at the maximum message rate take less.
const OWN_SHARE_DIVISOR: u32 = 100;

/// A source may use its processor time of one second at once. A message that takes longer counts as shared time.
const OWN_BURST: Duration = Duration::from_secs(1);

/// All sources share a quarter of a core for messages above their own time.
const SHARED_DIVISOR: u64 = 4;

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

/// Charges processor time to the sources of messages.
#[derive(Clone, Debug)]
pub struct WorkLimiter {
    own: DebtLimiter<WorkSource>,
    /// The debt of all sources above their own time. They pay it off in the order of their messages.
    shared: DebtLimiter<()>,
}

impl Default for WorkLimiter {
    fn default() -> Self {
        Self {
            own: DebtLimiter::new(NANOS_PER_SECOND / u64::from(OWN_SHARE_DIVISOR), MAX_SOURCES),
            shared: DebtLimiter::new(NANOS_PER_SECOND / SHARED_DIVISOR, 1),
        }
    }
}

impl WorkLimiter {
    /// Charges the time that a message took. Returns how long the connection must not be read.
    pub fn charge(&mut self, now: Time, source: WorkSource, work: Duration) -> Option<Duration> {
        // If this host pauses while it handles a message, the pause has a limited effect.
        let work = work.min(Duration::from_secs(1));
        if self.own.debt(now, source) + OWN_SHARE_DIVISOR * work <= OWN_BURST {
            self.own.charge(now, source, saturating_nanos(work));
            return None;
        }
        self.shared.charge(now, (), saturating_nanos(work));
        Some(self.shared.debt(now, ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of a core that `sources` use together, each as soon as it may, with messages that take `work_us`.
    fn used_share(sources: u8, work_us: u64) -> f64 {
        let mut limiter = WorkLimiter::default();
        let mut next = vec![Time::ZERO; usize::from(sources)];
        let (mut now, mut used) = (Time::ZERO, Duration::ZERO);
        let work = Duration::from_micros(work_us);
        while now < Time::from_millis(100_000) {
            let first = (0..next.len()).min_by_key(|source| next[*source]).expect("a source");
            now = now.max(next[first]) + work;
            used += work;
            let source = WorkSource::Network(IpAddr::from([192, 0, 2, first as u8]));
            next[first] = now + limiter.charge(now, source, work).unwrap_or_default();
        }
        used.as_secs_f64() / 100.0
    }

    #[test]
    fn costly_messages_share_a_quarter_of_a_core() {
        // Short messages also use the hundredth of each source.
        for (sources, work_us, expected) in [(1, 20_000, 0.20), (20, 20_000, 0.25), (1, 100, 0.21), (20, 100, 0.45)] {
            let share = used_share(sources, work_us);
            assert!((share - expected).abs() < 0.02, "{sources} sources with {work_us} µs: {share}");
        }
    }

    #[test]
    fn source_within_its_own_time_never_waits_for_others() {
        let mut limiter = WorkLimiter::default();
        let [costly, light] = [1, 2].map(|host| WorkSource::new(IpAddr::from([192, 0, 2, host]), ConnId(1)));
        let mut waits = Duration::ZERO;
        for millis in 0..10_000 {
            let now = Time::from_millis(millis);
            waits += limiter.charge(now, costly, Duration::from_millis(1)).unwrap_or_default();
            // 9 µs per millisecond are 9 ms per second.
            assert_eq!(limiter.charge(now, light, Duration::from_micros(9)), None, "{millis}");
        }
        assert!(waits > Duration::from_secs(10), "{waits:?}");
    }

    #[test]
    fn source_over_its_share_pauses_until_its_debt_is_paid_then_resumes() {
        let mut limiter = WorkLimiter::default();
        let source = WorkSource::new(IpAddr::from([192, 0, 2, 1]), ConnId(1));
        let mut charge =
            |at_ms, work_ms| limiter.charge(Time::from_millis(at_ms), source, Duration::from_millis(work_ms));
        assert_eq!(charge(0, 10), None);
        // A quarter of a core pays off 100 ms in 400 ms.
        assert_eq!(charge(0, 100), Some(Duration::from_millis(400)));
        assert_eq!(charge(300, 25), Some(Duration::from_millis(200)));
        // After the pause, messages within the own share of 10 ms per second cause no new one.
        assert_eq!([charge(500, 5), charge(500, 1), charge(600, 1)], [None, Some(Duration::from_millis(4)), None]);
    }

    #[test]
    fn connections_of_one_address_share_its_time_except_on_loopback() {
        let of = |address: &str, conn| WorkSource::new(address.parse().expect("an address"), ConnId(conn));
        assert_eq!(of("192.0.2.1", 1), of("192.0.2.1", 2));
        assert_eq!(of("2001:db8::1", 1), of("2001:db8::2", 2));
        assert_ne!(of("127.0.0.1", 1), of("127.0.0.1", 2));
    }
}
