//! Options for the packets, requests or groups of a measurement.

use std::time::Duration;

use super::udp::UdpArgs;
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::{packet_parser, parse_count, parse_millis, parse_seconds};
use crate::client::{ProbeConfig, StreamKind};
use crate::link::OVERHEAD;
use crate::units::parse_size;
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
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING_PACKETS)]
    pub duration: Option<Duration>,

    /// Interval between packets or groups
    #[arg(short, long, value_name = "DURATION", value_parser = parse_interval, default_value = "10ms", help_heading = HEADING_PACKETS)]
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
    pub(crate) fn count_or(&self, interval: Duration, default: u64) -> Result<Option<u64>, Failure> {
        let count = self.count.unwrap_or(if self.duration.is_some() { 0 } else { default });
        ensure_usage!(
            self.duration != Some(Duration::ZERO),
            "--duration 0: there is nothing to send; give a duration such as 10s"
        );
        let fitting = self.duration.map(|duration| duration.as_nanos().div_ceil(interval.as_nanos().max(1)));
        let fitting = fitting.map(|fitting| u64::try_from(fitting).unwrap_or(u64::MAX));
        Ok(Some(count).filter(|count| *count > 0).into_iter().chain(fitting).min())
    }
}

impl PacketArgs {
    /// Payload size, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.map_or(DEFAULT_PAYLOAD_SIZE, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Number of packets to send; `None` for no limit. `default` applies without --count and --duration.
    pub(crate) fn count_or(&self, default: u64) -> Result<Option<u64>, Failure> {
        self.pace.count_or(self.pace.interval, default)
    }

    /// The packets of a run over UDP.
    pub(crate) fn probe_config(&self, udp: UdpArgs, default_count: u64) -> Result<ProbeConfig, Failure> {
        let (stream_kind, payload_len) = (self.packet.unwrap_or(StreamKind::Ping), self.size());
        let is_sized = stream_kind == StreamKind::Audio || self.size.is_none();
        ensure_usage!(is_sized, "--size has no effect on these packets; it applies to AUDIO (add --packet audio)");
        // With a link, AUDIO is stereo.
        let (unit, max) = match udp.link {
            None => (4, MAX_UDP_PAYLOAD - HEADER_LEN),
            Some(_) => (8, MAX_UDP_PAYLOAD - HEADER_LEN - OVERHEAD),
        };
        ensure_usage!(
            payload_len.is_multiple_of(unit) && payload_len <= max,
            "--size {payload_len}: give a multiple of {unit} (AUDIO has 4-byte samples). The maximum that fits in a datagram is {}",
            max / unit * unit
        );
        let (count, interval) = (self.count_or(default_count)?, self.pace.interval);
        Ok(ProbeConfig { stream_kind, count, interval, payload_len })
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_millis(text).map_err(|error| error.to_string())?;
    if interval < MIN_INTERVAL { Err("too short; the minimum is 1us".to_owned()) } else { Ok(interval) }
}
