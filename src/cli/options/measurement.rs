//! Options that measuring commands have in common: packets, waiting, limits, and the local sockets, which echo servers have too.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::{
    driver_parser, duration_in, packet_parser, parse_count, parse_local_address, parse_millis, parse_percent,
    parse_seconds, profile_parser,
};
use crate::client::{ProbeConfig, StreamKind};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::udp::{Backend, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT};
use crate::link::OVERHEAD;
use crate::report::limits::{Limits, Profile};
use crate::units::{parse_ratio, parse_size};
use crate::wire::{HEADER_LEN, MAX_UDP_PAYLOAD};

pub(crate) const HEADING_PACKETS: &str = "Packets";

/// Default payload size of AUDIO packets and MOQT frames, in bytes.
const DEFAULT_PAYLOAD_SIZE: usize = 512;

/// Default number of packets. A 99th percentile needs 100 round trips, which remain even if 20 % of the packets are lost.
pub(crate) const DEFAULT_COUNT: u64 = 150;

/// Minimum interval between packets or groups. Shorter intervals are not feasible.
const MIN_INTERVAL: Duration = Duration::from_micros(1);

/// How many packets are sent, and how fast.
#[derive(clap::Args)]
pub(crate) struct PaceArgs {
    /// Packets to send; 0: until stopped [default: 150]
    ///
    /// Over MOQT, the number of groups. The default yields a 99th percentile of the round-trip time even if 20 % of the packets are lost.
    #[arg(short, long, value_name = "N", value_parser = parse_count, help_heading = HEADING_PACKETS)]
    pub count: Option<u64>,

    /// Stop sending after this time
    ///
    /// The run sends as many packets as fit into this time at --interval. If --count is also given, the lower limit applies.
    #[arg(long, value_name = "DURATION", value_parser = duration_in("s", Duration::from_nanos(1).., "give a duration such as 10s"), help_heading = HEADING_PACKETS)]
    pub duration: Option<Duration>,

    /// Interval between packets or groups
    #[arg(short, long, value_name = "DURATION", value_parser = duration_in("ms", MIN_INTERVAL.., "too short; the minimum is 1us"), default_value = "10ms", help_heading = HEADING_PACKETS)]
    pub interval: Duration,
}

#[derive(clap::Args)]
pub(crate) struct PacketArgs {
    #[command(flatten)]
    pub pace: PaceArgs,

    /// Type of the packets over UDP [default: ping]
    #[arg(long, value_name = "TYPE", value_parser = packet_parser(), help_heading = HEADING_PACKETS)]
    packet: Option<StreamKind>,

    /// Payload bytes (AUDIO, MOQT) [default: 512]
    ///
    /// For AUDIO, give a multiple of 4.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING_PACKETS)]
    pub size: Option<u64>,
}

impl PaceArgs {
    /// Number of packets to send at this interval; `None` for no limit. Without --count, --duration alone is the limit, or `default`.
    pub(crate) fn count_or(&self, interval: Duration, default: u64) -> Option<u64> {
        let count = self.count.unwrap_or(if self.duration.is_some() { 0 } else { default });
        let fitting = self.duration.map(|duration| duration.as_nanos().div_ceil(interval.as_nanos().max(1)));
        let fitting = fitting.map(|fitting| u64::try_from(fitting).unwrap_or(u64::MAX));
        Some(count).filter(|count| *count > 0).into_iter().chain(fitting).min()
    }
}

impl PacketArgs {
    /// Payload size, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.map_or(DEFAULT_PAYLOAD_SIZE, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Number of packets to send; `None` for no limit. `default` applies without --count and --duration.
    pub(crate) fn count_or(&self, default: u64) -> Option<u64> {
        self.pace.count_or(self.pace.interval, default)
    }

    /// The packets of a run over UDP.
    pub(crate) fn probe_config(&self, has_link: bool, default_count: u64) -> Result<ProbeConfig, Failure> {
        let (stream_kind, payload_len) = (self.packet.unwrap_or(StreamKind::Ping), self.size());
        let is_sized = stream_kind == StreamKind::Audio || self.size.is_none();
        ensure_usage!(is_sized, "--size applies to AUDIO; add --packet audio");
        // With a link, AUDIO is stereo.
        let (unit, max) =
            if has_link { (8, MAX_UDP_PAYLOAD - HEADER_LEN - OVERHEAD) } else { (4, MAX_UDP_PAYLOAD - HEADER_LEN) };
        let (fits, max) = (payload_len.is_multiple_of(unit) && payload_len <= max, max / unit * unit);
        ensure_usage!(fits, "--size {payload_len}: give a multiple of {unit}, up to {max}: AUDIO has 4-byte samples");
        let (count, interval) = (self.count_or(default_count), self.pace.interval);
        Ok(ProbeConfig { stream_kind, count, interval, payload_len })
    }
}

const HEADING_TIMING: &str = "Timing";

/// Default maximum wait for missing replies.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum of `--timeout` as the maximum time to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct TimingArgs {
    /// Wait up to this long for the first reply
    ///
    /// Nothing is counted before the first reply.
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING_TIMING)]
    pub wait_for: Option<Duration>,

    #[command(flatten)]
    pub reply: TimeoutArgs,
}

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct TimeoutArgs {
    /// Wait this long for missing replies [default: 2s]
    ///
    /// The time begins when the reply is expected: one smallest round-trip time after sending. Without --wait-for, this option also limits
    /// the time to connect over WebSocket and MOQT, or with --link (at least 1 s; default: 5 s).
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING_TIMING)]
    timeout: Option<Duration>,
}

impl TimeoutArgs {
    /// Maximum wait for missing replies.
    pub(crate) fn timeout(self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// These time-outs of a client that does not wait for its server.
    pub(crate) fn without_wait(self) -> TimingArgs {
        TimingArgs { wait_for: None, reply: self }
    }
}

impl TimingArgs {
    /// Maximum wait for missing replies.
    pub(crate) fn timeout(self) -> Duration {
        self.reply.timeout()
    }

    /// Maximum time to connect, if the user gave one. A time-out for replies may be shorter than the several round trips of a connection
    /// setup.
    pub(crate) fn connect_timeout(self) -> Option<Duration> {
        self.wait_for.or(self.reply.timeout.map(|timeout| timeout.max(MIN_CONNECT_TIMEOUT)))
    }
}

const HEADING_LIMITS: &str = "Limits (exit code 1 if one is exceeded)";

#[derive(clap::Args)]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    round_trip: RoundTripLimitArgs,

    /// Maximum mean jitter
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_jitter: Option<Duration>,
}

/// The limits on what also messages in rooms have.
#[derive(clap::Args)]
pub(crate) struct RoundTripLimitArgs {
    /// Limits of lan-music, internet-music or voice
    ///
    /// lan-music: loss 0.1%, p50 2ms, p99 4ms. internet-music: loss 1%, p50 23ms, p99 34ms. voice: loss 3%, p50 200ms, p99 250ms. The options
    /// --max-loss, --max-p50 and --max-p99 override the profile.
    #[arg(long, value_name = "PROFILE", value_parser = profile_parser(), help_heading = HEADING_LIMITS)]
    profile: Option<Profile>,

    /// Maximum packet loss, such as 0.5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_ratio, help_heading = HEADING_LIMITS)]
    max_loss: Option<f64>,

    /// Maximum median round-trip time
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_p50: Option<Duration>,

    /// Maximum 99th percentile of the round-trip time
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_p99: Option<Duration>,
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_jitter: self.max_jitter, ..Limits::default() }.or(self.round_trip.limits())
    }
}

impl RoundTripLimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        let Self { max_loss, max_p50, max_p99, profile } = *self;
        let given = Limits { max_loss, max_p50, max_p99, ..Limits::default() };
        given.or(profile.map_or_else(Limits::default, Profile::limits))
    }
}

pub(crate) const HEADING_LOCAL_SYSTEM: &str = "Local system";

#[derive(clap::Args)]
pub(crate) struct NetworkArgs {
    /// Local address to send from, with an optional UDP port
    ///
    /// Give ADDRESS, ADDRESS:PORT or [IPV6]:PORT. The address also selects the IP version: 0.0.0.0 is any
    /// IPv4 address, and :: any IPv6 address.
    #[arg(long, hide_short_help = true, value_name = "ADDRESS", value_parser = parse_bind_address, help_heading = HEADING_LOCAL_SYSTEM)]
    bind: Option<SocketAddr>,
}

#[derive(clap::Args)]
pub(crate) struct SpinArgs {
    /// Maximum share of one core spent busy-waiting
    ///
    /// Busy-waiting makes packets leave on time. Use 0 on battery power.
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = parse_percent, default_value_t = DEFAULT_SPIN_PERCENT, help_heading = HEADING_LOCAL_SYSTEM)]
    pub spin: u8,
}

impl NetworkArgs {
    pub(crate) fn socket_options(&self) -> LocalSocketOptions {
        LocalSocketOptions { local_address: self.bind }
    }

    /// The options of runs with several sockets, which cannot use a fixed local port. `runs` completes the error: `over MOQT`.
    pub(crate) fn options_without_port(&self, runs: &str) -> Result<LocalSocketOptions, Failure> {
        let has_port = self.bind.is_some_and(|address| address.port() != 0);
        ensure_usage!(!has_port, "--bind: a local port cannot be used {runs}; give only the address");
        Ok(self.socket_options())
    }
}

/// Parses a local address with a port; port 0 selects a free port.
fn parse_bind_address(text: &str) -> Result<SocketAddr, String> {
    let (address, _) = parse_local_address(text)?
        .ok_or("give an address of this machine, such as 192.0.2.7, 192.0.2.7:6000 or [::1]:6000")?;
    if address.ip().is_multicast() {
        return Err("a multicast address cannot be a local address".to_owned());
    }
    Ok(address)
}

/// How datagrams are received and sent.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct SocketArgs {
    /// Receive buffer size to request from the kernel [default: 1MiB]
    #[arg(long, hide = true, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING_LOCAL_SYSTEM)]
    socket_buffer: Option<u64>,

    /// UDP driver to use
    #[arg(long, value_parser = driver_parser(), hide = true)]
    driver: Option<Backend>,
}

impl SocketArgs {
    /// Receive buffer of each socket, in bytes.
    pub(crate) fn receive_buffer(self) -> usize {
        self.socket_buffer.map_or(DEFAULT_RECEIVE_BUFFER, |size| size.min(1 << 30) as usize)
    }

    pub(crate) fn driver(self) -> Backend {
        self.driver.unwrap_or(Backend::Native)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_address_may_have_a_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("127.0.0.1:6000", "127.0.0.1:6000"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:7", "[::1]:7"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("fe80::1%7", "[fe80::1%7]:0"),
            ("[fe80::1%257]:7", "[fe80::1%257]:7"),
        ] {
            assert_eq!(parse_bind_address(text).unwrap().to_string(), address, "{text}");
        }
        for text in
            ["", "eth0", "localhost", "127.0.0.1:", "127.0.0.1:70000", "224.0.0.1", "6000", "fe80::1", "[fe80::1]:7"]
        {
            assert!(parse_bind_address(text).is_err(), "{text}");
        }
    }
}
