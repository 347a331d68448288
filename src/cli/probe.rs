//! `jamjam-dev probe`: measures an echo server over UDP or MOQT, or a signaling server over WebSocket.

use clap::builder::RangedU64ValueParser;
use clap::{ArgMatches, ColorChoice};
use std::time::Duration;

use super::client::ClientArgs;
use super::client::moqt::HEADING_MOQT;
use super::client::websocket::WebSocketProbeArgs;
use super::output::{Failure, HEADING_TARGET, ensure_usage, print_notice};
use super::plan::{Plan, UdpPeer};
use super::target::{Endpoint, MoqtTarget, Target, TargetArgument, endpoints};
use super::this_machine;
use super::values::{packet_parser, parse_count, parse_millis, parse_seconds};
use crate::client::{ClientNode, MAX_ROOM_MESSAGES, ProbeConfig, ProbeWorkload, RunKind, StreamKind};
use crate::io::stop::StopToken;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::link::OVERHEAD;
use crate::moqt::client::{FramePayload, MoqtClientConfig};
use crate::moqt::codec::MAX_BODY_BYTES;
use crate::units::parse_size;
use crate::wire::{HEADER_LEN, MAX_UDP_PAYLOAD};

const HEADING_PACKETS: &str = "Packets";

/// Default payload size of AUDIO packets and MOQT frames, in bytes.
const DEFAULT_PAYLOAD_SIZE: usize = 512;

/// Default number of packets. A 99th percentile needs 100 round trips, which remain even if 20 % of the packets are lost.
const DEFAULT_COUNT: u64 = 150;

/// The same for each of several targets, so that each of the ten blocks by which targets are compared has 150 packets.
const DEFAULT_COUNT_OF_TARGETS: u64 = 1_500;

/// Default time for which messages are sent in rooms.
const LOAD_DURATION: Duration = Duration::from_secs(10);

/// Minimum interval between packets or groups. Shorter intervals are not feasible.
const MIN_INTERVAL: Duration = Duration::from_micros(1);

/// Maximum number of frames in a group: less than the maximum number of tracked frames, so that a reply to any frame of a group is counted.
const MAX_FRAMES_PER_GROUP: u64 = 10_000;

/// Shorter intervals cause a notice. Many public signaling servers close connections that send messages at a higher rate.
const MIN_PUBLIC_SERVER_INTERVAL: Duration = Duration::from_millis(1);

/// Measure RTT, loss and jitter: UDP, media over QUIC (MOQT), or signaling server
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target, or several hosts to compare [default: 127.0.0.1:5000]
    ///
    /// HOST[:PORT] selects a UDP echo server. URLs with moqt:// (raw QUIC) and https:// (WebTransport) select MOQT echo servers. URLs with
    /// ws:// and wss:// select signaling servers. Up to 64 UDP echo servers are measured at the same time and ranked; @FILE stands for the
    /// lines of a file, one HOST[:PORT] each. Blank lines and lines that begin with # are ignored.
    #[arg(value_name = "HOST[:PORT]|URL", conflicts_with_all = ["to", "embedded"])]
    target: Vec<TargetArgument>,

    /// Target, the same as the argument
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<Target>,

    #[command(flatten)]
    dialect: WebSocketProbeArgs,

    /// Frames in each MOQT group
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_FRAMES_PER_GROUP), default_value_t = 1, help_heading = HEADING_MOQT)]
    frames_per_group: usize,

    /// Packets to send; 0: until stopped [default: 150]
    ///
    /// Over MOQT, the number of groups. The default yields a 99th percentile of the round-trip time even if 20 % of the packets are lost. With
    /// several targets, the number per target, 1500 by default; with rooms, the number of messages per room, by default those of 10 s.
    #[arg(short, long, value_name = "N", value_parser = parse_count, conflicts_with = "ramp", help_heading = HEADING_PACKETS)]
    count: Option<u64>,

    /// Stop sending after this time
    ///
    /// The run sends as many packets as fit into this time at --interval. If --count is also given, the lower limit applies.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, conflicts_with = "ramp", help_heading = HEADING_PACKETS)]
    duration: Option<Duration>,

    /// Interval between packets or groups
    #[arg(short, long, value_name = "DURATION", value_parser = parse_millis, default_value = "10ms", help_heading = HEADING_PACKETS)]
    interval: Duration,

    /// Type of the packets over UDP
    #[arg(long, value_name = "TYPE", value_parser = packet_parser(), default_value = "ping", help_heading = HEADING_PACKETS)]
    packet: StreamKind,

    /// Payload bytes (AUDIO, MOQT) [default: 512]
    ///
    /// For AUDIO, give a multiple of 4.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING_PACKETS)]
    size: Option<u64>,

    #[command(flatten)]
    client: ClientArgs,

    /// Check timers, buffers, ports and devices of this machine
    ///
    /// Takes about 2 seconds. The exit code is 1 if measurements on this machine would not be valid.
    #[arg(long, help_heading = HEADING_TARGET)]
    this_machine: bool,
}

impl Args {
    /// Payload size, in bytes.
    fn size(&self) -> usize {
        self.size.map_or(DEFAULT_PAYLOAD_SIZE, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Probes until finished or `stop` is requested.
    pub(crate) fn run(mut self, matches: &ArgMatches, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.client.prepare_output(color);
        let to = if let [TargetArgument::Target(only)] = &self.target[..] { Some(only) } else { self.to.as_ref() };
        self.run_plan(to, matches, color, stop).map_err(|failure| {
            let name = to.map(Target::to_string).or((!self.target.is_empty()).then(|| "several targets".to_owned()));
            self.client.report_failure(RunKind::Probe, name, failure)
        })
    }

    fn run_plan(
        &self,
        to: Option<&Target>,
        matches: &ArgMatches,
        color: ColorChoice,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let plan = if self.this_machine {
            Plan::Local("--this-machine")
        } else if to.is_none() && !self.target.is_empty() {
            Plan::Targets(endpoints(&self.target)?, self.packet)
        } else {
            self.client.plan(RunKind::Probe, to, self.packet)?
        };
        plan.check_options(RunKind::Probe, matches)?;
        ensure_usage!(self.interval >= MIN_INTERVAL, "--interval: too short; the minimum is 1us");
        match plan {
            Plan::Udp { peer, stream, .. } => self.run_udp(&peer, stream, stop),
            Plan::Targets(targets, stream) => self.run_targets(&targets, stream, stop),
            Plan::Moqt(to) => self.run_moqt(to, stop),
            Plan::WebSocket(url) => self.run_websocket(url, stop),
            Plan::RoomLoad(url, members) => self.run_room_load(&url, members, stop),
            Plan::Replay(record) => self.client.replay(record, RunKind::Probe),
            Plan::ListRooms(url) => self.client.room.print_rooms(&url, self.client.json, self.client.json_lines),
            Plan::Local(_) => this_machine::run(self.client.prints_json(), color, stop),
        }
    }

    /// The packets of a run over UDP.
    fn probe_config(&self, stream_kind: StreamKind, default_count: u64) -> Result<ProbeConfig, Failure> {
        let payload_len = self.size();
        // With a link, AUDIO is stereo.
        let (unit, max) = match self.client.link {
            None => (4, MAX_UDP_PAYLOAD - HEADER_LEN),
            Some(_) => (8, MAX_UDP_PAYLOAD - HEADER_LEN - OVERHEAD),
        };
        ensure_usage!(
            payload_len.is_multiple_of(unit) && payload_len <= max,
            "--size {payload_len}: give a multiple of {unit} (AUDIO has 4-byte samples). The maximum that fits in a datagram is {}",
            max / unit * unit
        );
        let count = self.packet_count(self.interval, default_count)?;
        Ok(ProbeConfig { stream_kind, count, interval: self.interval, payload_len })
    }

    /// Sends packets to all `targets` at the same time, and compares the targets.
    fn run_targets(&self, targets: &[Endpoint], stream_kind: StreamKind, stop: &StopToken) -> Result<u8, Failure> {
        self.client.check_link(false)?;
        self.client.network.options_without_port("with several targets")?;
        let config = self.probe_config(stream_kind, DEFAULT_COUNT_OF_TARGETS)?;
        let is_limited = config.count.is_some();
        ensure_usage!(
            is_limited,
            "--count 0: several targets are compared by tenths of the run; give a number of packets"
        );
        self.client.probe_targets(targets, config, stop)
    }

    /// Sends packets to `peer`.
    fn run_udp(&self, peer: &UdpPeer<'_>, stream_kind: StreamKind, stop: &StopToken) -> Result<u8, Failure> {
        let probe_config = self.probe_config(stream_kind, DEFAULT_COUNT)?;
        if let Some(clients) = self.client.several_clients() {
            let count = probe_config.count.filter(|_| !self.client.ramp);
            let config = ProbeConfig { count, ..probe_config };
            let workload = |has_link| ProbeWorkload::new(config).with_link(has_link);
            let finished = self.client.run_clients(peer, clients, (config, true), workload, stop)?;
            return self.client.report(finished.with_interval(self.interval));
        }
        let mut target = self.client.connect(peer, "probe", stop)?;
        let config = self.client.run_config((target.address, target.waited), stream_kind, true);
        let workload = ProbeWorkload::new(probe_config).with_link(target.link.is_some());
        let client = ClientNode::new(config, workload, Box::new(())).with_link(target.link.take());
        let (observer, monitor) =
            self.client.monitor_run(probe_config.count, client.plan(&target.name), client.live_figures())?;
        let client = client.with_observer(Box::new(observer));
        let finished = self.client.run_client(client, target, monitor, &mut (), stop)?;
        self.client.report(finished.with_interval(self.interval))
    }

    /// Number of packets to send from --count and --duration; `None` for no limit. Without --count, --duration alone is the limit, or `default`.
    fn packet_count(&self, interval: Duration, default: u64) -> Result<Option<u64>, Failure> {
        let Some(duration) = self.duration else {
            return Ok(Some(self.count.unwrap_or(default)).filter(|count| *count > 0));
        };
        ensure_usage!(!duration.is_zero(), "--duration 0: there is nothing to send; give a duration such as 10s");
        let fitting = duration.as_nanos().div_ceil(interval.as_nanos().max(1));
        let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
        Ok(self.count.filter(|count| *count > 0).into_iter().chain([fitting]).min())
    }

    /// Sends groups to the MOQT echo server `to`, or to the embedded server if it is `None`.
    fn run_moqt(&self, to: Option<&MoqtTarget>, stop: &StopToken) -> Result<u8, Failure> {
        let size = self.size();
        ensure_usage!(size <= MAX_BODY_BYTES, "--size {size}: a MOQT frame has at most {MAX_BODY_BYTES} bytes");
        let config = MoqtClientConfig {
            group_count: self.packet_count(self.interval, DEFAULT_COUNT)?,
            group_interval: self.interval,
            frames_per_group: self.frames_per_group,
            payload: FramePayload::Random(size),
            ..MoqtClientConfig::default()
        };
        let finished = self.client.run_moqt(RunKind::Probe, to, config, None, stop)?;
        self.client.report(finished.with_interval(self.interval))
    }

    /// Sends messages in rooms of a signaling server, as `members` members.
    fn run_room_load(&self, url: &WebSocketUrl, members: usize, stop: &StopToken) -> Result<u8, Failure> {
        let interval = self.dialect.rate.unwrap_or(self.interval);
        let default = LOAD_DURATION.as_nanos().div_ceil(interval.as_nanos());
        let count = self.packet_count(interval, u64::try_from(default).unwrap_or(u64::MAX))?;
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(MAX_ROOM_MESSAGES);
        let sending = (members, interval, count.min(MAX_ROOM_MESSAGES));
        self.client.load_rooms(url, &self.dialect, sending, stop)
    }

    /// Probes a signaling server.
    fn run_websocket(&self, url: WebSocketUrl, stop: &StopToken) -> Result<u8, Failure> {
        let socket_options = self.client.network.options_without_port("over WebSocket")?;
        let target = self.dialect.probe_plan(url, self.client.room.room.as_deref(), socket_options)?;
        if self.interval < MIN_PUBLIC_SERVER_INTERVAL {
            print_notice(
                "--interval: many signaling servers close connections that send more than 1000 messages per second",
            );
        }
        let count = self.packet_count(self.interval, DEFAULT_COUNT)?;
        let finished = self.client.probe_websocket(&target, count, self.interval, stop)?;
        self.client.report(finished.with_interval(self.interval))
    }
}
