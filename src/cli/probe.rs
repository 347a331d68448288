//! `jamjam-dev probe`: measures an echo server over UDP or MOQT, or a signaling server over WebSocket.

use clap::ColorChoice;
use std::time::Duration;

use super::client::moqt::{EmbeddedMoqtServer, HEADING_MOQT, MoqtClientArgs, MoqtRunPlan};
use super::client::websocket::WebSocketProbeArgs;
use super::client::{ClientArgs, transaction_seed, udp_only_error};
use super::output::{Failure, print_notice};
use super::target::{MoqtTarget, ProbeTarget, UdpTarget};
use super::this_machine::ThisMachineArgs;
use super::values::{ByteSize, TimeSpan, parse_count};
use crate::client::LiveConfig;
use crate::client::{ClientNode, ProbeConfig, ProbeWorkload, RunConfig};
use crate::client::{RunKind, StreamKind};
use crate::io::stop::StopToken;
use crate::moqt::client::{FramePayload, MoqtClientConfig};
use crate::moqt::codec::MAX_BODY_BYTES;
use crate::report::quantities::RunProtocol;
use crate::wire::{DEFAULT_PORT, HEADER_LEN, MAX_UDP_PAYLOAD};

const HEADING_TARGET: &str = "Target";
const HEADING_PACKETS: &str = "Packets";

/// Default payload size of AUDIO packets and MOQT frames, in bytes.
const DEFAULT_PAYLOAD_SIZE: usize = 512;

/// Default number of packets. A 99th percentile needs 100 round trips, which remain even if 20 % of the packets are lost.
const DEFAULT_COUNT: u64 = 150;

/// Minimum interval between packets or groups. Shorter intervals are not feasible.
const MIN_INTERVAL: Duration = Duration::from_micros(1);

/// Shorter intervals cause a notice. Many public signaling servers close connections that send messages at a higher rate.
const MIN_PUBLIC_SERVER_INTERVAL: Duration = Duration::from_millis(1);

/// Measure RTT, loss, jitter and reordering of a UDP, MOQT or signaling server
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Target: HOST[:PORT] or a URL [default: 127.0.0.1:5000]
    ///
    /// HOST[:PORT] selects a UDP echo server. URLs with moqt:// (raw QUIC) and https:// (WebTransport) select MOQT echo servers. URLs with
    /// ws:// and wss:// select signaling servers.
    #[arg(value_name = "HOST[:PORT]|URL", conflicts_with_all = ["to", "embedded", "delay", "moqt"])]
    target: Option<ProbeTarget>,

    /// Target, the same as the argument
    #[arg(long, hide_short_help = true, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<ProbeTarget>,

    #[command(flatten)]
    dialect: WebSocketProbeArgs,

    #[command(flatten)]
    moqt: MoqtClientArgs,

    #[command(flatten)]
    groups: MoqtGroupArgs,

    /// Packets to send; 0 sends until stopped [default: 150]
    ///
    /// Over MOQT, the number of groups. The default yields a 99th percentile of the round-trip time even if 20 % of the packets are lost.
    #[arg(short, long, value_name = "N", value_parser = parse_count, help_heading = HEADING_PACKETS)]
    count: Option<u64>,

    /// Stop sending after this time
    ///
    /// The run sends as many packets as fit into this time at --interval. If --count is also given, the lower limit applies.
    #[arg(long, value_name = "DURATION", help_heading = HEADING_PACKETS)]
    duration: Option<TimeSpan>,

    /// Interval between packets or groups
    #[arg(short, long, value_name = "DURATION", default_value_t = TimeSpan(Duration::from_millis(10)), help_heading = HEADING_PACKETS)]
    interval: TimeSpan,

    /// Probe with KEEPALIVE instead of LATENCY_PING
    #[arg(long, hide_short_help = true, conflicts_with = "audio", help_heading = HEADING_PACKETS)]
    keepalive: bool,

    /// Probe with AUDIO instead of LATENCY_PING
    #[arg(long, help_heading = HEADING_PACKETS)]
    audio: bool,

    /// Payload bytes of AUDIO or MOQT frames [default: 512]
    ///
    /// For AUDIO, give a multiple of 4.
    #[arg(long, value_name = "SIZE", conflicts_with = "keepalive", help_heading = HEADING_PACKETS)]
    size: Option<ByteSize>,

    #[command(flatten)]
    client: ClientArgs,

    #[command(flatten)]
    this_machine: ThisMachineArgs,
}

impl Args {
    /// Payload size, in bytes.
    fn size(&self) -> usize {
        self.size.map_or(DEFAULT_PAYLOAD_SIZE, |ByteSize(size)| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Probes until finished or `stop` is requested.
    pub fn run(mut self, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.to = self.to.or(self.target.take());
        self.client.prepare_output(color);
        let (json, _) = self.client.json_format();
        if let Some(code) = self.this_machine.run(json, color, stop)? {
            return Ok(code);
        }
        self.client.baseline.load()?;
        if let Some(code) = self.client.replay(RunKind::Probe, color)? {
            return Ok(code);
        }
        match &self.to {
            Some(ProbeTarget::WebSocket(url)) => return self.run_websocket(url, color, stop),
            Some(ProbeTarget::Moqt(target)) => return self.run_moqt(Some(target), color, stop),
            None if self.moqt.embedded_transport().is_some() => return self.run_moqt(None, color, stop),
            _ => {}
        }
        self.reject_moqt_options()?;
        self.reject_websocket_options()?;
        if let Some(code) = self.client.list_and_exit()? {
            return Ok(code);
        }
        let stream_kind = match (self.keepalive, self.audio) {
            (true, _) => StreamKind::Keepalive,
            (_, true) => StreamKind::Audio,
            _ => StreamKind::Ping,
        };
        self.reject_short_interval()?;
        if self.size.is_some() && stream_kind != StreamKind::Audio {
            return Err(Failure::usage("--size applies to AUDIO and MOQT frames only; add --audio"));
        }
        let payload_len = self.size();
        if !payload_len.is_multiple_of(4) || payload_len > MAX_UDP_PAYLOAD - HEADER_LEN {
            return Err(Failure::usage(format!(
                "--size {payload_len}: give a multiple of 4 (AUDIO has 4-byte samples). The maximum that fits in a datagram is {}",
                (MAX_UDP_PAYLOAD - HEADER_LEN) / 4 * 4
            )));
        }
        if self.client.impairment.affects_only_audio() && stream_kind != StreamKind::Audio {
            return Err(Failure::usage("--drop-packets applies to AUDIO only; add --audio"));
        }
        if self.client.server_delay.is_some() && stream_kind != StreamKind::Audio {
            return Err(Failure::usage("--server-delay applies to AUDIO only; add --audio"));
        }
        let local = UdpTarget { host: "127.0.0.1".to_owned(), port: DEFAULT_PORT };
        let to = match &self.to {
            Some(ProbeTarget::Udp(target)) => Some(target),
            _ if self.client.room.is_enabled() => None,
            _ => Some(&local),
        };
        let count = self.packet_count()?;
        self.client.baseline.check_plan(RunKind::Probe, stream_kind, RunProtocol::Udp)?;
        let target = self.client.connect(to, "probe", stop)?;
        let config = RunConfig {
            peer: target.address,
            evaluated_stream: stream_kind,
            server_delay: self.client.known_server_delay().filter(|_| stream_kind == StreamKind::Audio),
            first_echo_timeout: self.client.expected_first_echo(),
            timeout: self.client.timeout(),
            late_after: self.client.late_after.map(|TimeSpan(late)| late),
            replies_expected: true,
            wait_for: self.client.wait_for.map(|wait| wait.0),
            loss_report_nonce: Some(transaction_seed()),
            loss_direction: self.client.loss_direction.is_enabled(),
        };
        let probe_config = ProbeConfig { stream_kind, count, interval: self.interval.0, payload_len };
        let title = format!("probe of {}", target.name);
        let (observer, mut outputs) = self.client.run_outputs(&title, count, LiveConfig::from(&config))?;
        let client = ClientNode::new(config, ProbeWorkload::new(probe_config), Box::new(observer));
        let mut finished = self.client.run_client(client, target, &mut outputs, &mut (), stop)?;
        finished.record = outputs.into_file();
        self.client.report(finished.with_interval(self.interval.0), color)
    }

    /// Number of packets to send from --count and --duration; `None` for no limit. Without --count, --duration alone is the limit.
    fn packet_count(&self) -> Result<Option<u64>, Failure> {
        let Some(TimeSpan(duration)) = self.duration else {
            return Ok(Some(self.count.unwrap_or(DEFAULT_COUNT)).filter(|count| *count > 0));
        };
        if duration.is_zero() {
            return Err(Failure::usage("--duration 0: there is nothing to send; give a duration such as 10s"));
        }
        let fitting = duration.as_nanos().div_ceil(self.interval.0.as_nanos().max(1));
        let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
        Ok(self.count.filter(|count| *count > 0).into_iter().chain([fitting]).min())
    }

    fn reject_short_interval(&self) -> Result<(), Failure> {
        if self.interval.0 < MIN_INTERVAL {
            return Err(Failure::usage("--interval: too short; the minimum is 1us"));
        }
        Ok(())
    }

    /// Rejects options that apply to MOQT targets only.
    fn reject_moqt_options(&self) -> Result<(), Failure> {
        match self.groups.first_given() {
            Some(option) => Err(MoqtClientArgs::moqt_only_error(option)),
            None => self.moqt.reject_unused_options(),
        }
    }

    /// Rejects options that apply to signaling servers only.
    fn reject_websocket_options(&self) -> Result<(), Failure> {
        match self.dialect.first_given() {
            Some(option) => {
                Err(Failure::usage(format!("{option} applies to signaling servers only; give --to ws://HOST[:PORT]")))
            }
            None => Ok(()),
        }
    }

    /// Sends groups to the MOQT echo server `to`, or to the embedded server if it is `None`.
    fn run_moqt(&self, to: Option<&MoqtTarget>, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.reject_short_interval()?;
        let given = [("--audio", self.audio), ("--keepalive", self.keepalive)];
        if let Some(option) = given.into_iter().find_map(|(option, given)| given.then_some(option)) {
            return Err(udp_only_error(option, "MOQT"));
        }
        self.reject_websocket_options()?;
        self.client.reject_options_for_moqt()?;
        let count = self.packet_count()?;
        let size = self.size();
        let config = self.groups.config(count, self.interval.0, size, self.moqt.config())?;
        let offered_versions = self.moqt.offered_versions()?;
        let embedded = EmbeddedMoqtServer::start(&self.moqt, &config.track_prefix)?;
        let plan = MoqtRunPlan { command: RunKind::Probe, to, embedded, offered_versions, config, print: None };
        let finished = self.client.run_moqt(plan, stop)?;
        self.client.report(finished.with_interval(self.interval.0), color)
    }

    /// Probes a signaling server.
    fn run_websocket(&self, url: &str, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.reject_short_interval()?;
        self.reject_moqt_options()?;
        for (option, given) in
            [("--audio", self.audio), ("--keepalive", self.keepalive), ("--size", self.size.is_some())]
        {
            if given {
                return Err(udp_only_error(option, "WebSocket"));
            }
        }
        self.client.reject_udp_options()?;
        let socket_options = self.client.network.options_without_port("WebSocket")?;
        let plan = self.dialect.probe_plan(url, self.client.room.room_name(), socket_options)?;
        if self.interval.0 < MIN_PUBLIC_SERVER_INTERVAL {
            print_notice(
                "--interval: many signaling servers close connections that send more than 1000 messages per second",
            );
        }
        let count = self.packet_count()?;
        let finished = self.client.probe_websocket(&plan, count, self.interval.0, stop)?;
        self.client.report(finished.with_interval(self.interval.0), color)
    }
}

/// Maximum number of frames in a group. The value is less than the maximum number of tracked frames. Therefore, a reply to any frame of a
/// group is counted.
const MAX_FRAMES_PER_GROUP: u64 = 10_000;

/// Layout of MOQT groups.
#[derive(Clone, Debug, clap::Args)]
pub struct MoqtGroupArgs {
    /// Frames in each MOQT group [default: 1]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_FRAMES_PER_GROUP), help_heading = HEADING_MOQT)]
    frames_per_group: Option<u64>,

    /// Interval between the frames of a group [default: 0]
    ///
    /// If the frames of a group take longer than --interval, the next group starts later.
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_MOQT)]
    frame_interval: Option<TimeSpan>,
}

impl MoqtGroupArgs {
    /// If the user gave options of this struct, returns the name of the first one, for an error message.
    pub fn first_given(&self) -> Option<&'static str> {
        let frames = self.frames_per_group.map(|_| "--frames-per-group");
        frames.or(self.frame_interval.map(|_| "--frame-interval"))
    }

    /// Adds the groups to `config`: one group every `group_interval`, with frames of `size` bytes. If `group_count` is `None`, the
    /// number of groups is unlimited.
    pub fn config(
        &self,
        group_count: Option<u64>,
        group_interval: Duration,
        size: usize,
        config: MoqtClientConfig,
    ) -> Result<MoqtClientConfig, Failure> {
        if size > MAX_BODY_BYTES {
            return Err(Failure::usage(format!("--size {size}: a MOQT frame has at most {MAX_BODY_BYTES} bytes")));
        }
        Ok(MoqtClientConfig {
            group_count,
            group_interval,
            frames_per_group: self.frames_per_group.map_or(1, |frames| frames as usize),
            frame_interval: self.frame_interval.map_or(Duration::ZERO, |TimeSpan(interval)| interval),
            payload: FramePayload::Random(size),
            ..config
        })
    }
}
