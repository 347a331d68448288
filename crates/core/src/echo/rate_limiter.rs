//! The limits on packets and bits per second sent to each source, in a fixed number of buckets.
//!
//! A delayed packet is admitted on arrival, but sent later, so that each bucket has two limits. The admission limit counts the packets that
//! wait for the server delay. The send limit counts delayed packets and immediate replies when they are sent: it admits or rejects an immediate
//! reply, and postpones a delayed packet that exceeds it by more than both maximum bursts. The traffic in any interval is therefore at most the
//! rate multiplied by the length of the interval, plus two maximum bursts.

use std::time::Duration;

use super::observer::DropReason;
use super::reply_store::{ReplyClass, ReplyPath};
use crate::node::Transmit;
use crate::rate_limit::Gcra;
use crate::time::Time;
use crate::wire;

/// Number of buckets, 32 bytes each. Sources in the same bucket share its limits.
const BUCKETS: usize = 8_192;

/// The maximum burst is the traffic that the permitted rate allows in this time, separately for delayed and for immediate packets. At rates
/// so low that this is less than one packet, a packet of any length fits.
const BURST_TOLERANCE: Duration = Duration::from_millis(125);

/// The largest IP packet, in bits.
const MAX_IP_PACKET_BITS: u64 = 65_535 * 8;

/// Theoretical arrival times of packets and of bits, in nanoseconds.
type ArrivalTimes = [u64; 2];

pub(super) struct RateLimiter {
    /// Limits of packets and of bits.
    limits: [Option<Gcra>; 2],
    /// For each bucket, the theoretical arrival times for admission and for sending. The memory is requested as pages filled with zeros,
    /// which take no memory before a bucket in them is used.
    buckets: Vec<[ArrivalTimes; 2]>,
}

impl RateLimiter {
    /// Limits in packets and bits per second; `None` is no limit.
    pub(super) fn new(packets: Option<u64>, bits: Option<u64>) -> Self {
        let packets = packets.map(|rate| Gcra::with_min_burst(rate, BURST_TOLERANCE, 1));
        let bits = bits.map(|rate| Gcra::with_min_burst(rate, BURST_TOLERANCE, MAX_IP_PACKET_BITS));
        Self { limits: [packets, bits], buckets: vec![[[0; 2]; 2]; BUCKETS] }
    }

    /// Charges a packet of `len` bytes, unless it exceeds a limit: AUDIO that is to be delayed to the limits for admission, an immediate reply
    /// to those for sending. The maximum burst is larger by the permitted traffic of the time `extra`.
    pub(super) fn admit(
        &mut self,
        path: ReplyPath,
        class: ReplyClass,
        now: Time,
        extra: Duration,
        len: usize,
    ) -> Result<(), DropReason> {
        if !path.is_limited {
            return Ok(());
        }
        let bits = (len + wire::ip_udp_header_len(path.peer.ip())) as u64 * 8;
        let advanced = |limit: Option<Gcra>, arrival, amount| {
            let Some(limit) = limit else { return Some(arrival) };
            let advanced = limit.with_larger_burst(extra).try_advance(Time::from_nanos(arrival), now, amount);
            advanced.map(Time::as_nanos)
        };
        let arrivals = &mut self.buckets[path.network as usize % BUCKETS][class as usize];
        *arrivals = [
            advanced(self.limits[0], arrivals[0], 1).ok_or(DropReason::PacketRate)?,
            advanced(self.limits[1], arrivals[1], bits).ok_or(DropReason::BitRate)?,
        ];
        Ok(())
    }

    /// The earliest time at which echoes may be sent, as for [`RateLimiter::charge_sent`]. Immediate replies and delayed packets have separate
    /// maximum bursts. If delayed packets are sent when they are due, they never exceed both bursts. After a pause, they can.
    pub(super) fn send_time(&self, now: Time, path: ReplyPath, echoes: &Transmit<'_>) -> Time {
        if !path.is_limited {
            return now;
        }
        let [_, arrivals] = self.buckets[path.network as usize % BUCKETS];
        let limits = self.limits.iter().zip(arrivals).zip(amounts(path, echoes));
        let times = limits.filter_map(|((limit, arrival), amount)| {
            let limit = (*limit)?;
            let advanced = limit.advance(Time::from_nanos(arrival), now, amount);
            Some(advanced.saturating_sub(Duration::from_nanos(2 * limit.tolerance)))
        });
        times.fold(now, Time::max)
    }

    /// Charges the limits for sending with echoes that have been sent.
    pub(super) fn charge_sent(&mut self, now: Time, path: ReplyPath, echoes: &Transmit<'_>) {
        if !path.is_limited {
            return;
        }
        let [_, arrivals] = &mut self.buckets[path.network as usize % BUCKETS];
        for ((limit, arrival), amount) in self.limits.iter().zip(arrivals).zip(amounts(path, echoes)) {
            if let Some(limit) = limit {
                *arrival = limit.advance(Time::from_nanos(*arrival), now, amount).as_nanos();
            }
        }
    }
}

/// Number of packets, and their bits with IP headers.
fn amounts(path: ReplyPath, echoes: &Transmit<'_>) -> [u64; 2] {
    [echoes.segment_count() as u64, path.ip_len(echoes) as u64 * 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: ReplyPath = ReplyPath {
        peer: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 1),
        src_ip: None,
        is_limited: true,
        network: 7,
        keys: None,
    };

    /// Admits an IP packet of `len` bytes at `now` milliseconds.
    fn admit(limiter: &mut RateLimiter, class: ReplyClass, now: u64, len: usize) -> Result<(), DropReason> {
        limiter.admit(PATH, class, Time::from_millis(now), Duration::ZERO, len - 28)
    }

    /// Number of admitted immediate replies of `len` bytes at `now` milliseconds. Also returns the limit that the next one exceeds.
    fn admitted_at(limiter: &mut RateLimiter, now: u64, len: usize) -> (usize, DropReason) {
        let mut results = (0..100_000).map(|count| (count, admit(limiter, ReplyClass::Immediate, now, len)));
        results.find_map(|(count, result)| Some((count, result.err()?))).expect("a limit")
    }

    /// Charges this number of sent IP packets of `len` bytes.
    fn charge_sent(limiter: &mut RateLimiter, now: u64, packets: usize, len: usize) {
        let (contents, segment_size) = (&vec![0; packets * (len - 28)], len - 28);
        let echoes = Transmit { socket: 0, destination: PATH.peer, src_ip: None, contents, segment_size };
        limiter.charge_sent(Time::from_millis(now), PATH, &echoes);
    }

    #[test]
    fn delayed_packets_are_charged_when_sent() {
        let mut limiter = RateLimiter::new(Some(8_000), None);
        for _ in 0..1_000 {
            assert_eq!(admit(&mut limiter, ReplyClass::Audio, 0, 500), Ok(()));
        }
        assert_eq!(admit(&mut limiter, ReplyClass::Audio, 0, 500), Err(DropReason::PacketRate));
        // The delayed packets wait for one second. While the delayed packets wait, immediate replies are admitted. After the delayed
        // packets are sent, immediate replies are admitted only at the permitted rate.
        assert_eq!(admitted_at(&mut limiter, 0, 500), (1_000, DropReason::PacketRate));
        charge_sent(&mut limiter, 1_000, 1_000, 500);
        assert_eq!(admitted_at(&mut limiter, 1_000, 500), (0, DropReason::PacketRate));
        assert_eq!(admitted_at(&mut limiter, 1_001, 500), (8, DropReason::PacketRate));
        // 1,000 immediate replies use up the send limit. Then 1,000 delayed packets are sent. Each delayed packet is charged to the send
        // limit, even if this limit is already used up. Therefore, the next immediate reply is admitted later.
        assert_eq!(admitted_at(&mut limiter, 5_000, 500), (1_000, DropReason::PacketRate));
        charge_sent(&mut limiter, 5_000, 1_000, 500);
        assert_eq!(admitted_at(&mut limiter, 5_125, 500), (0, DropReason::PacketRate));
        assert_eq!(admitted_at(&mut limiter, 5_126, 500), (8, DropReason::PacketRate));
    }

    #[test]
    fn sent_bits_are_charged() {
        let mut limiter = RateLimiter::new(None, Some(64_000_000));
        charge_sent(&mut limiter, 0, 10, 50_000);
        assert_eq!(admitted_at(&mut limiter, 0, 1_000), (500, DropReason::BitRate));
    }

    #[test]
    fn rejected_packet_is_charged_to_no_limit() {
        // At 1 Mbit/s, a packet of 65,535 bytes (524,280 bits) exceeds the burst tolerance of 125 ms. However, an unused limiter admits
        // one such packet.
        let mut limiter = RateLimiter::new(Some(16), Some(1_000_000));
        assert_eq!(admit(&mut limiter, ReplyClass::Immediate, 0, 65_535), Ok(()));
        for _ in 0..10 {
            assert_eq!(admit(&mut limiter, ReplyClass::Immediate, 0, 1_000), Err(DropReason::BitRate));
        }
        // After 8 ms, the bit limit has room for 1,000 bytes again. The packet limit permits a burst of two packets. One packet was sent,
        // and the rejected packets were not charged. Therefore, the packet limit still has room for one packet.
        assert_eq!(admitted_at(&mut limiter, 8, 1_000), (1, DropReason::PacketRate));
    }

    #[test]
    fn lowest_rate_admits_one_packet_of_any_length() {
        let mut limiter = RateLimiter::new(Some(1), Some(1));
        assert_eq!(admitted_at(&mut limiter, 5, 65_535), (1, DropReason::PacketRate));
        assert_eq!(admitted_at(&mut limiter, 1_004, 100), (0, DropReason::PacketRate));
        assert_eq!(admitted_at(&mut limiter, 1_005, 100), (0, DropReason::BitRate));
    }
}
