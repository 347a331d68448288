//! Decides which datagrams get a reply. Limits packets and bits per second for each source address (IPv6: /64). Restricts sources with
//! `--allow`, and stops reply loops between two echo servers. Rejected datagrams are counted and never answered.
//!
//! Source addresses can be forged, and a reply goes to the forged address. These limits restrict how much an attacker can make the server
//! send to a forged address.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::log_events;
use super::loop_detection::{Repetition, RepetitionLimit, RepetitionLimiter};
use crate::address::{Cidr, is_loopback_to_loopback, source_network};
use crate::log_throttle::LogThrottle;
use crate::node::{Receive, Transmit};
use crate::rate_limit::{RateExceeded, RateLimiter};
use crate::time::Time;
use crate::wire::{self, HEADER_LEN};

/// Maximum round-trip time of a KEEPALIVE loop that can be detected.
const MAX_LOOP_ROUND_TRIP: Duration = Duration::from_secs(10);

/// Time is divided into periods of this length, in seconds. Each period has a different token for loop checks. A token is valid in the
/// period in which the token was created and in the next period.
const LOOP_CHECK_TOKEN_PERIOD_SECONDS: u64 = 64;

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

/// The reply to a KEEPALIVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepaliveDecision {
    /// No reply.
    Drop,
    /// The echo.
    Echo,
    /// This loop check instead of the echo, so that the server never sends more than it receives.
    LoopCheck([u8; HEADER_LEN]),
}

/// Decides which datagrams are handled and which replies are sent.
pub(super) struct Admission {
    remote_sources: RemoteSourceCache,
    rate_limiter: RateLimiter,
    /// When the current batch was read.
    read_at: Time,
    /// The larger burst of immediate replies after a pause, in traffic of this time, and its end.
    catch_up: (Duration, Time),
    audio_repetitions: RepetitionLimiter,
    audio_limit: RepetitionLimit,
    /// Separate from `audio_repetitions`, because AUDIO packets would displace all KEEPALIVEs from a common table.
    keepalive_repetitions: RepetitionLimiter,
    /// State of sources that repeat KEEPALIVEs.
    keepalive_sources: RepetitionLimiter,
    counters: Arc<Counters>,
    unknown_source_drops: ThrottledDrops,
    rate_limit_drops: ThrottledDrops,
    repetition_drops: ThrottledDrops,
}

impl Admission {
    /// Creates the admission control for a server that delays AUDIO by at most `delay`. Drops are counted in `counters`.
    pub(super) fn new(config: AdmissionConfig, delay: Duration, counters: Arc<Counters>) -> Self {
        let AdmissionConfig { max_packet_rate, max_bit_rate, allowed_networks, limit_loopback, hash_key } = config;
        let audio_limit = RepetitionLimit::audio(delay);
        let source_limits =
            [RepetitionLimit::REPEATED_KEEPALIVES, RepetitionLimit::LOOP_CHECK, RepetitionLimit::ECHO_SERVER];
        Self {
            remote_sources: RemoteSourceCache::new(allowed_networks, limit_loopback, hash_key),
            rate_limiter: RateLimiter::new(max_packet_rate, max_bit_rate),
            read_at: Time::ZERO,
            catch_up: (Duration::ZERO, Time::ZERO),
            audio_repetitions: RepetitionLimiter::new(&[audio_limit], Duration::ZERO),
            audio_limit,
            keepalive_repetitions: RepetitionLimiter::new(&[RepetitionLimit::KEEPALIVE], MAX_LOOP_ROUND_TRIP),
            keepalive_sources: RepetitionLimiter::new(&source_limits, Duration::ZERO),
            counters,
            unknown_source_drops: ThrottledDrops::default(),
            rate_limit_drops: ThrottledDrops::default(),
            repetition_drops: ThrottledDrops::default(),
        }
    }

    /// The following datagrams were read at `now`. If a pause has just ended, `pause` is its length. What waited meanwhile is sent now, within
    /// the burst of a time as long as the pause. A source with up to ten elevenths of its rate has caught up after ten times the pause.
    pub(super) fn on_read(&mut self, now: Time, pause: Option<Duration>) {
        self.read_at = now;
        let (extra, end) = self.catch_up;
        if let Some(pause) = pause {
            let extra = if now < end { extra + pause } else { pause };
            self.catch_up = (extra, now + 10 * extra);
        } else if now >= end {
            self.catch_up.0 = Duration::ZERO;
        }
    }

    /// Admits immediate replies to the datagrams that were just read.
    fn immediate(&self) -> impl Fn(&mut RateLimiter, u64, Time, usize) -> Result<(), RateExceeded> + use<> {
        let (read_at, extra) = (self.read_at, self.catch_up.0);
        move |limiter, key, _, len| limiter.admit_immediate(key, read_at, extra, len)
    }

    /// Whether datagrams from this source are handled at all. Datagrams from a source that is not allowed are counted as dropped.
    pub(super) fn allows_source(&mut self, received: &Receive<'_>) -> bool {
        let allowed = self.remote_sources.lookup(received.source, received.dst_ip).is_allowed;
        if !allowed {
            let datagrams = received.segments().count();
            self.counters.dropped_not_allowed.add(datagrams);
            self.unknown_source_drops.record(received.source, datagrams as u64);
            log_events::log_not_allowed(received.source);
        }
        allowed
    }

    /// Whether an immediate reply of `len` bytes to `received` may be sent. If not, the reply is counted as dropped.
    pub(super) fn admit_immediate(&mut self, received: &Receive<'_>, len: usize) -> bool {
        self.check_rate(self.immediate(), received, len)
    }

    /// Decides whether the server echoes a KEEPALIVE, replies with a loop check, or does not reply. Call this method only for a KEEPALIVE
    /// whose normal reply is an unchanged echo. An address and port that returns a loop check is an echo server. KEEPALIVEs from this echo
    /// server are not answered for a minute. A loop between two echo servers can have a round-trip time of one second. Without this check,
    /// such a loop looks like a client that repeats a KEEPALIVE every second.
    pub(super) fn admit_keepalive(&mut self, received: &Receive<'_>, bytes: &[u8]) -> KeepaliveDecision {
        let now = received.received_at;
        let source = self.remote_sources.lookup(received.source, received.dst_ip);
        if !source.is_rate_limited {
            return KeepaliveDecision::Echo;
        }
        let digests = source.digests.clone();
        let (echo_server, loop_check) =
            (digests.for_purpose(DigestPurpose::EchoServer), digests.for_purpose(DigestPurpose::LoopCheck));
        let period = now.as_nanos() / 1_000_000_000 / LOOP_CHECK_TOKEN_PERIOD_SECONDS;
        let has_token_of =
            |period| wire::is_loop_check(bytes, digests.for_purpose(DigestPurpose::LoopCheckToken(period)));
        let is_returned_check = self.keepalive_sources.contains(now, loop_check)
            && (has_token_of(period) || has_token_of(period.wrapping_sub(1)));
        if is_returned_check {
            self.keepalive_sources.check(now, echo_server, RepetitionLimit::ECHO_SERVER);
        }
        if is_returned_check || self.keepalive_sources.contains(now, echo_server) {
            self.count_repetition(received);
            return KeepaliveDecision::Drop;
        }
        // A repeated datagram without a reply is not charged to the rate limit. A datagram above the rate limit is not counted as received.
        let (datagram, repeats) = (digests.for_datagram(bytes), digests.for_purpose(DigestPurpose::RepeatedKeepalives));
        let repetition = self.keepalive_repetitions.peek(now, datagram, RepetitionLimit::KEEPALIVE);
        let is_exceeded = match repetition {
            Repetition::Exceeded => true,
            Repetition::First => false,
            Repetition::Second | Repetition::Later => {
                self.keepalive_sources.peek(now, repeats, RepetitionLimit::REPEATED_KEEPALIVES) == Repetition::Exceeded
            }
        };
        if is_exceeded {
            self.count_repetition(received);
            return KeepaliveDecision::Drop;
        }
        if !self.check_rate(self.immediate(), received, bytes.len()) {
            return KeepaliveDecision::Drop;
        }
        self.keepalive_repetitions.check(now, datagram, RepetitionLimit::KEEPALIVE);
        if repetition != Repetition::First {
            self.keepalive_sources.check(now, repeats, RepetitionLimit::REPEATED_KEEPALIVES);
        }
        if repetition == Repetition::Later && self.keepalive_sources.admit(now, loop_check, RepetitionLimit::LOOP_CHECK)
        {
            let token = digests.for_purpose(DigestPurpose::LoopCheckToken(period));
            return KeepaliveDecision::LoopCheck(wire::loop_check(token));
        }
        KeepaliveDecision::Echo
    }

    /// Whether an AUDIO packet may be delayed and echoed. If not, the packet is counted as dropped. Call [`Admission::on_sent`] when the
    /// echo is sent.
    pub(super) fn admit_audio(&mut self, received: &Receive<'_>, bytes: &[u8]) -> bool {
        let source = self.remote_sources.lookup(received.source, received.dst_ip);
        if !source.is_rate_limited {
            return true;
        }
        let (now, digest) = (received.received_at, source.digests.for_datagram(bytes));
        // A repeated packet without an echo is not charged to the rate limit. A packet above the rate limit is not counted as received.
        if self.audio_repetitions.peek(now, digest, self.audio_limit) == Repetition::Exceeded {
            self.count_repetition(received);
            return false;
        }
        let is_admitted = self.check_rate(RateLimiter::admit_delayed, received, bytes.len());
        if is_admitted {
            self.audio_repetitions.check(now, digest, self.audio_limit);
        }
        is_admitted
    }

    /// Whether a duplicate of an immediate reply may be sent. A rejected duplicate is not counted.
    pub(super) fn admit_immediate_copy(&mut self, received: &Receive<'_>, len: usize) -> bool {
        self.admit_copy(self.immediate(), received, len)
    }

    /// Whether a duplicate of an echo may be sent later. A rejected duplicate is not counted.
    pub(super) fn admit_delayed_copy(&mut self, received: &Receive<'_>, len: usize) -> bool {
        self.admit_copy(RateLimiter::admit_delayed, received, len)
    }

    /// The earliest time at which these echoes may be sent. [`Admission::on_sent`] then counts them.
    pub(super) fn send_time(&mut self, now: Time, transmit: &Transmit<'_>) -> Time {
        let source = self.remote_sources.lookup(transmit.destination, transmit.src_ip);
        if !source.is_rate_limited {
            return now;
        }
        let packets = transmit.segment_count();
        let len = transmit.contents.len() + packets * source.header_len;
        self.rate_limiter.send_time(source.network_digest, now, packets, len)
    }

    /// Counts sent echoes towards the rate limit.
    pub(super) fn on_sent(&mut self, now: Time, transmit: &Transmit<'_>) {
        let source = self.remote_sources.lookup(transmit.destination, transmit.src_ip);
        if source.is_rate_limited {
            let packets = transmit.segment_count();
            let len = transmit.contents.len() + packets * source.header_len;
            self.rate_limiter.charge_sent(source.network_digest, now, packets, len);
        }
    }

    fn admit_copy(
        &mut self,
        admit: impl Fn(&mut RateLimiter, u64, Time, usize) -> Result<(), RateExceeded>,
        received: &Receive<'_>,
        len: usize,
    ) -> bool {
        let source = self.remote_sources.lookup(received.source, received.dst_ip);
        !source.is_rate_limited
            || admit(&mut self.rate_limiter, source.network_digest, received.received_at, len + source.header_len)
                .is_ok()
    }

    fn check_rate(
        &mut self,
        admit: impl Fn(&mut RateLimiter, u64, Time, usize) -> Result<(), RateExceeded>,
        received: &Receive<'_>,
        len: usize,
    ) -> bool {
        let source = self.remote_sources.lookup(received.source, received.dst_ip);
        if !source.is_rate_limited {
            return true;
        }
        let len = len + source.header_len;
        let dropped = match admit(&mut self.rate_limiter, source.network_digest, received.received_at, len) {
            Ok(()) => return true,
            Err(RateExceeded::Packets) => &self.counters.dropped_packet_rate,
            Err(RateExceeded::Bits) => &self.counters.dropped_bit_rate,
        };
        dropped.add(1);
        self.rate_limit_drops.record(received.source, 1);
        false
    }

    fn count_repetition(&mut self, received: &Receive<'_>) {
        self.counters.dropped_repeated.add(1);
        self.repetition_drops.record(received.source, 1);
    }

    /// Logs drops, at most once per second and kind.
    pub(super) fn log_drops(&mut self, now: Time) {
        if let Some((source, datagrams)) = self.unknown_source_drops.take_due(now) {
            log_events::log_unknown_sources(source, datagrams, self.counters.dropped_not_allowed.get());
        }
        if let Some((source, packets)) = self.rate_limit_drops.take_due(now) {
            let (packet_rate, bit_rate) = (&self.counters.dropped_packet_rate, &self.counters.dropped_bit_rate);
            log_events::log_rate_limited(source, packets, packet_rate.get(), bit_rate.get());
        }
        if let Some((source, packets)) = self.repetition_drops.take_due(now) {
            log_events::log_possible_loop(source, packets);
        }
    }
}

/// Drops of one kind, logged at most once per second with their number and the last source.
#[derive(Default)]
struct ThrottledDrops {
    throttle: LogThrottle,
    last_source: Option<SocketAddr>,
}

impl ThrottledDrops {
    fn record(&mut self, source: SocketAddr, packets: u64) {
        self.throttle.record(packets);
        self.last_source = Some(source);
    }

    /// The last source and the number of packets since the last log line. `None` if no new line is due.
    fn take_due(&mut self, now: Time) -> Option<(SocketAddr, u64)> {
        let source = self.last_source?;
        let packets = self.throttle.take_due(now)?;
        self.last_source = None;
        Some((source, packets))
    }
}

/// A source that sends datagrams to one local address.
struct RemoteSource {
    address: SocketAddr,
    dst_ip: Option<IpAddr>,
    /// Whether the network of the source is allowed.
    is_allowed: bool,
    /// Whether limits apply. Datagrams from loopback to loopback may be exempt, because other hosts cannot send them.
    is_rate_limited: bool,
    /// Length of the IP and UDP headers of the source's packets, in bytes.
    header_len: usize,
    /// Keyed digest of the source's network ([`source_network`]). This digest selects the rate-limit bucket.
    network_digest: u64,
    /// Keyed digests of the source's address and port.
    digests: KeyedDigests,
}

/// The purpose of a source digest.
#[derive(Clone, Copy, Hash)]
enum DigestPurpose {
    /// The token of a loop check. The value is the number of the token period.
    LoopCheckToken(u64),
    /// Loop checks sent to the source.
    LoopCheck,
    /// The source has returned a loop check.
    EchoServer,
    /// Limit on the replies to repeated KEEPALIVEs from the source.
    RepeatedKeepalives,
}

/// Computes keyed digests of a source and of its datagrams. The hasher already contains the key and the source's address and port.
#[derive(Clone)]
struct KeyedDigests(DefaultHasher);

impl KeyedDigests {
    /// Digest of the address and port, different for each purpose.
    fn for_purpose(&self, purpose: DigestPurpose) -> u64 {
        let mut hasher = self.0.clone();
        // `usize::MAX` keeps these digests distinct from datagram digests, which hash the datagram length at this position.
        hasher.write_usize(usize::MAX);
        purpose.hash(&mut hasher);
        hasher.finish()
    }

    /// Digest of a datagram of the source.
    fn for_datagram(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.clone();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes[..bytes.len().min(DIGESTED_LEN)]);
        hasher.finish()
    }
}

/// Classifies sources and caches the last source: consecutive batches usually have the same source.
struct RemoteSourceCache {
    allowed_networks: Vec<Cidr>,
    limit_loopback: bool,
    keyed_hasher: DefaultHasher,
    last: RemoteSource,
}

impl RemoteSourceCache {
    /// An empty `allowed_networks` allows all sources. Digests depend on `hash_key`.
    fn new(allowed_networks: Vec<Cidr>, limit_loopback: bool, hash_key: [u64; 2]) -> Self {
        let mut keyed_hasher = DefaultHasher::new();
        hash_key.hash(&mut keyed_hasher);
        let unspecified = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let last = classify(unspecified, None, &allowed_networks, limit_loopback, keyed_hasher.clone());
        Self { allowed_networks, limit_loopback, keyed_hasher, last }
    }

    /// Returns the source with this `address`, whose datagrams arrive at `dst_ip`.
    fn lookup(&mut self, address: SocketAddr, dst_ip: Option<IpAddr>) -> &RemoteSource {
        if self.last.address != address || self.last.dst_ip != dst_ip {
            let hasher = self.keyed_hasher.clone();
            self.last = classify(address, dst_ip, &self.allowed_networks, self.limit_loopback, hasher);
        }
        &self.last
    }
}

fn classify(
    address: SocketAddr,
    dst_ip: Option<IpAddr>,
    allowed_networks: &[Cidr],
    limit_loopback: bool,
    mut hasher: DefaultHasher,
) -> RemoteSource {
    let ip = address.ip().to_canonical();
    match source_network(ip) {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
    }
    let network_digest = hasher.finish();
    (ip, address.port()).hash(&mut hasher);
    RemoteSource {
        address,
        dst_ip,
        is_allowed: allowed_networks.is_empty() || allowed_networks.iter().any(|network| network.contains(ip)),
        is_rate_limited: limit_loopback || !is_loopback_to_loopback(ip, dst_ip),
        header_len: wire::ip_udp_header_len(ip),
        network_digest,
        digests: KeyedDigests(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_digest(cache: &mut RemoteSourceCache, address: &str) -> u64 {
        cache.lookup(address.parse().expect("an address"), None).network_digest
    }

    #[test]
    fn network_digest_covers_an_ipv4_address_or_an_ipv6_64_on_all_ports() {
        let mut cache = RemoteSourceCache::new(Vec::new(), false, [1, 2]);
        let mut of = |address| network_digest(&mut cache, address);
        assert_eq!(of("192.0.2.1:5000"), of("192.0.2.1:6000"));
        assert_eq!(of("192.0.2.1:5000"), of("[::ffff:192.0.2.1]:5000"));
        assert_ne!(of("192.0.2.1:5000"), of("192.0.2.2:5000"));
        assert_eq!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:2:ffff:ffff:ffff:ffff]:6000"));
        assert_ne!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:3::1]:5000"));
        assert_ne!(
            network_digest(&mut RemoteSourceCache::new(Vec::new(), false, [1, 3]), "192.0.2.1:5000"),
            of("192.0.2.1:5000")
        );
    }

    #[test]
    fn only_loopback_to_loopback_is_exempt_from_limits() {
        let loopback = ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"];
        let others = ["192.0.2.1", "::2", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "255.255.255.255"];
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for source in loopback.into_iter().chain(others) {
            let address = SocketAddr::new(ip(source), 1);
            let limited = |local, limit_loopback| {
                RemoteSourceCache::new(Vec::new(), limit_loopback, [0; 2]).lookup(address, local).is_rate_limited
            };
            for local in loopback.into_iter().chain(others) {
                let exempt = loopback.contains(&source) && loopback.contains(&local);
                assert_eq!(limited(Some(ip(local)), false), !exempt, "{source} to {local}");
                assert!(limited(Some(ip(local)), true), "{source} to {local}");
            }
            assert!(limited(None, false), "{source} to an unknown address");
        }
    }

    #[test]
    fn exempt_source_is_limited_at_another_local_address() {
        let mut cache = RemoteSourceCache::new(Vec::new(), false, [0; 2]);
        let address = "[::ffff:127.0.0.1]:5000".parse().expect("an address");
        let limited = ["127.0.0.1", "2001:db8::1", "::1"]
            .map(|local| cache.lookup(address, Some(local.parse().expect("an address"))).is_rate_limited);
        assert_eq!(limited, [false, true, false]);
    }

    #[test]
    fn ipv4_mapped_source_has_ipv4_header_length() {
        let mut cache = RemoteSourceCache::new(Vec::new(), false, [0; 2]);
        for (address, bytes) in [("192.0.2.1:1", 28), ("[::ffff:192.0.2.1]:1", 28), ("[2001:db8::1]:1", 48)] {
            assert_eq!(cache.lookup(address.parse().expect("an address"), None).header_len, bytes, "{address}");
        }
    }
}
