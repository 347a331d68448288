//! Decides which datagrams get a reply: those of allowed sources (`--allow`), within the limits on packets and bits per second of each source
//! address (IPv6: /64), and not those of a reply loop between two echo servers. Rejected datagrams are never answered.
//!
//! Source addresses can be forged, and a reply goes to the forged address. The limits bound how much an attacker can make the server send
//! there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::loop_detection::{Repetition, RepetitionLimit, RepetitionLimiter};
use super::observer::DropReason;
use super::rate_limiter::RateLimiter;
use super::reply_store::{ReplyClass, ReplyPath};
use crate::address::{Cidr, is_loopback_to_loopback, source_network};
use crate::node::{Receive, Transmit};
use crate::time::Time;
use crate::wire::HEADER_LEN;

/// Maximum round-trip time of a KEEPALIVE loop that can be detected.
const MAX_LOOP_ROUND_TRIP: Duration = Duration::from_secs(10);

/// Number of leading bytes that identify a datagram: the header and up to 64 bytes of payload.
const DIGESTED_LEN: usize = HEADER_LEN + 64;

/// Limits on replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Maximum packets per second sent to one source address, on all ports. An IPv6 /64 is one source. `None` means unlimited.
    pub max_packet_rate: Option<u64>,
    /// Maximum bits per second sent to one source address, IP headers included. `None` means unlimited.
    pub max_bit_rate: Option<u64>,
    /// Networks whose datagrams get replies. If the list is empty, all networks are allowed.
    pub allowed_networks: Vec<Cidr>,
    /// Whether limits also apply to loopback sources. If false, datagrams between two loopback addresses are exempt from the limits. All
    /// other datagrams are limited.
    pub limit_loopback: bool,
    /// Secret key of the digests, so that an attacker cannot choose sources or datagrams whose digests collide.
    pub hash_key: [u64; 2],
}

impl Default for AdmissionConfig {
    /// The limits are 8,000 packets and 64 Mbit per second. All networks are allowed, loopback is exempt, and `hash_key` is 0.
    fn default() -> Self {
        Self {
            max_packet_rate: Some(8_000),
            max_bit_rate: Some(64_000_000),
            allowed_networks: Vec::new(),
            limit_loopback: false,
            hash_key: [0; 2],
        }
    }
}

/// Decides which datagrams are handled and which replies are sent.
pub(crate) struct Admission {
    config: AdmissionConfig,
    /// Contains the secret key of all digests.
    keyed_hasher: DefaultHasher,
    /// The last allowed source.
    last_source: Option<Source>,
    pub(super) rate_limiter: RateLimiter,
    /// When the current batch was read.
    read_at: Time,
    /// Until `catch_up_end`, the burst of immediate replies is larger by the traffic of this time.
    catch_up: Duration,
    catch_up_end: Time,
    /// Until when the echoes of each network wait that exceeded its rate after the last pause.
    postponed_until: HashMap<u32, Time>,
    audio_repetitions: RepetitionLimiter,
    pub(super) audio_limit: RepetitionLimit,
    /// Separate from `audio_repetitions`, because AUDIO packets would displace all KEEPALIVEs from a common table.
    pub(super) keepalive_repetitions: RepetitionLimiter,
    /// State of sources that repeat KEEPALIVEs.
    pub(super) keepalive_sources: RepetitionLimiter,
}

impl Admission {
    /// Creates the admission control for a server that delays AUDIO by at most `max_delay`.
    pub(crate) fn new(config: AdmissionConfig, max_delay: Duration) -> Self {
        let mut keyed_hasher = DefaultHasher::new();
        config.hash_key.hash(&mut keyed_hasher);
        Self {
            rate_limiter: RateLimiter::new(config.max_packet_rate, config.max_bit_rate),
            config,
            keyed_hasher,
            last_source: None,
            read_at: Time::ZERO,
            catch_up: Duration::ZERO,
            catch_up_end: Time::ZERO,
            postponed_until: HashMap::new(),
            audio_repetitions: RepetitionLimiter::new(Duration::ZERO),
            audio_limit: RepetitionLimit::audio(max_delay),
            keepalive_repetitions: RepetitionLimiter::new(MAX_LOOP_ROUND_TRIP),
            keepalive_sources: RepetitionLimiter::new(Duration::ZERO),
        }
    }

    /// The following datagrams were read at `now`. If a pause has just ended, `pause` is its length. What waited meanwhile is sent now, within
    /// the burst of a time as long as the pause. A source with up to ten elevenths of its rate has caught up after ten times the pause.
    pub(super) fn on_read(&mut self, now: Time, pause: Option<Duration>) {
        self.read_at = now;
        if now >= self.catch_up_end {
            self.catch_up = Duration::ZERO;
        }
        if let Some(pause) = pause {
            if self.catch_up.is_zero() {
                self.postponed_until = HashMap::new();
            }
            self.catch_up += pause;
            self.catch_up_end = now + 10 * self.catch_up;
        }
    }

    /// Classifies the source of received datagrams. `None` if it is not allowed.
    pub(crate) fn classify(&mut self, received: &Receive<'_>) -> Option<Source> {
        // Consecutive batches usually have the same source.
        let is_last = |source: &&Source| (source.path.peer, source.path.src_ip) == (received.source, received.dst_ip);
        if let Some(source) = self.last_source.as_ref().filter(is_last) {
            return Some(source.clone());
        }
        let ip = received.source.ip().to_canonical();
        let allowed = &self.config.allowed_networks;
        if !allowed.is_empty() && !allowed.iter().any(|network| network.contains(ip)) {
            return None;
        }
        let mut hasher = self.keyed_hasher.clone();
        match source_network(ip) {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        let network = hasher.finish() as u32;
        (ip, received.source.port()).hash(&mut hasher);
        let is_limited = self.config.limit_loopback || !is_loopback_to_loopback(ip, received.dst_ip);
        let path = ReplyPath { peer: received.source, src_ip: received.dst_ip, is_limited, network, keys: None };
        self.last_source = Some(Source { path, digests: KeyedDigests(hasher) });
        self.last_source.clone()
    }

    /// Charges a datagram of `len` bytes that arrived at `at` and is forwarded to `destination`. False if it exceeds a limit.
    pub(crate) fn admits(&mut self, destination: &Source, at: Time, len: usize) -> bool {
        self.rate_limiter.admit(destination.path, ReplyClass::Immediate, at, Duration::ZERO, len).is_ok()
    }

    /// Charges an immediate reply of `len` bytes. An error is the reason to drop it.
    pub(super) fn admit_immediate(&mut self, source: &Source, len: usize) -> Result<(), DropReason> {
        self.rate_limiter.admit(source.path, ReplyClass::Immediate, self.read_at, self.catch_up, len)
    }

    /// Charges an AUDIO packet that is to be delayed and echoed. An error is the reason to drop it. Call [`RateLimiter::charge_sent`] when the
    /// echo is sent.
    pub(super) fn admit_audio(&mut self, source: &Source, now: Time, bytes: &[u8]) -> Result<(), DropReason> {
        if !source.path.is_limited {
            return Ok(());
        }
        let digest = source.digests.for_datagram(bytes);
        // A repeated packet without an echo is not charged to the rate limit. A packet above the rate limit is not counted as received.
        if self.audio_repetitions.repetition(now, digest, self.audio_limit) == Repetition::Exceeded {
            return Err(DropReason::Repeated);
        }
        self.rate_limiter.admit(source.path, ReplyClass::Audio, now, Duration::ZERO, bytes.len())?;
        self.audio_repetitions.count(now, digest, self.audio_limit);
        Ok(())
    }

    /// Whether a duplicate of a reply may be sent. A rejected duplicate is not counted.
    pub(super) fn admit_copy(&mut self, path: ReplyPath, class: ReplyClass, now: Time, len: usize) -> bool {
        let is_audio = class == ReplyClass::Audio;
        let (now, extra) = if is_audio { (now, Duration::ZERO) } else { (self.read_at, self.catch_up) };
        self.rate_limiter.admit(path, class, now, extra, len).is_ok()
    }

    /// Counts echoes that wait until `at`.
    pub(super) fn on_postponed(&mut self, now: Time, at: Time, path: ReplyPath, echoes: &Transmit<'_>) {
        self.rate_limiter.charge_sent(now, path, echoes);
        if now < self.catch_up_end {
            self.postponed_until.insert(path.network, at);
        }
    }

    /// Until when echoes of this source wait because of the last pause.
    pub(super) fn postponed_until(&self, source: &Source) -> Option<Time> {
        self.postponed_until.get(&source.path.network).copied()
    }
}

/// A source that sends datagrams to one local address.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) path: ReplyPath,
    /// Keyed digests of the source's address and port.
    pub(super) digests: KeyedDigests,
}

/// Computes keyed digests of a source and of its datagrams. The hasher already contains the key and the source's address and port.
#[derive(Clone)]
pub(super) struct KeyedDigests(pub(super) DefaultHasher);

impl KeyedDigests {
    /// Digest of a datagram of the source.
    pub(super) fn for_datagram(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.clone();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes[..bytes.len().min(DIGESTED_LEN)]);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn admission(limit_loopback: bool, hash_key: [u64; 2]) -> Admission {
        let config = AdmissionConfig { limit_loopback, hash_key, ..AdmissionConfig::default() };
        Admission::new(config, Duration::ZERO)
    }

    fn path(admission: &mut Admission, source: &str, dst_ip: Option<&str>) -> ReplyPath {
        let source = source.parse().expect("an address");
        let dst_ip = dst_ip.map(|ip| ip.parse().expect("an address"));
        let received = Receive { socket: 0, source, dst_ip, received_at: Time::ZERO, contents: &[], segment_size: 1 };
        admission.classify(&received).expect("an allowed source").path
    }

    #[test]
    fn network_covers_an_ipv4_address_or_an_ipv6_64_on_all_ports() {
        let mut one_key = admission(false, [1, 2]);
        let mut of = |address| path(&mut one_key, address, None).network;
        assert_eq!(of("192.0.2.1:5000"), of("[::ffff:192.0.2.1]:6000"));
        assert_ne!(of("192.0.2.1:5000"), of("192.0.2.2:5000"));
        assert_eq!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:2:ffff:ffff:ffff:ffff]:6000"));
        assert_ne!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:3::1]:5000"));
        let mut other_key = admission(false, [1, 3]);
        assert_ne!(path(&mut other_key, "192.0.2.1:5000", None).network, of("192.0.2.1:5000"));
    }

    #[test]
    fn only_loopback_to_loopback_is_exempt_from_limits() {
        let loopback = ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"];
        let others = ["192.0.2.1", "::2", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "255.255.255.255"];
        let mut admissions = [false, true].map(|limit_loopback| admission(limit_loopback, [0; 2]));
        for source in loopback.into_iter().chain(others) {
            let address = SocketAddr::new(source.parse().expect("an address"), 1).to_string();
            let mut limited =
                |local, limit_loopback| path(&mut admissions[usize::from(limit_loopback)], &address, local).is_limited;
            for local in loopback.into_iter().chain(others) {
                let exempt = loopback.contains(&source) && loopback.contains(&local);
                assert_eq!(limited(Some(local), false), !exempt, "{source} to {local}");
                assert!(limited(Some(local), true), "{source} to {local}");
            }
            assert!(limited(None, false), "{source} to an unknown address");
        }
    }
}
