//! `jamjam-dev probe`: measures an echo server over UDP or MOQT, or a signaling server over WebSocket.

use clap::ArgMatches;
use clap::builder::RangedU64ValueParser;

use super::client::FinishedRun;
use super::client::moqt::{HEADING_MOQT, MoqtClientArgs, MoqtSession};
use super::client::udp::{PeerArgs, UdpArgs};
use super::client::websocket::WebSocketSession;
use super::options::impairment::{self, ImpairmentArgs};
use super::options::measurement::{DEFAULT_COUNT, NetworkArgs, PacketArgs, SpinArgs};
use super::options::report::PacketReportArgs;
use super::options::signaling_client::SignalingClientArgs;
use super::output::{Failure, HEADING_TARGET, ensure_usage};
use super::target::{Endpoint, Target};
use crate::client::{ClientNode, ProbeWorkload, RunKind, StreamKind};
use crate::io::moqt::MoqtUrl;
use crate::io::stop::StopToken;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::moqt::client::{FramePayload, MoqtClientConfig};
use crate::moqt::codec::MAX_BODY_BYTES;

/// Maximum number of frames in a group: less than the maximum number of tracked frames, so that a reply to any frame of a group is counted.
const MAX_FRAMES_PER_GROUP: u64 = 10_000;

/// Measure RTT, loss and jitter: UDP, media over QUIC (MOQT), or signaling server
#[derive(clap::Args)]
#[command(mut_group("UdpArgs", |group| group.args(["link", "loss_direction", "socket_buffer", "driver", "packet"])))]
#[command(mut_group("MoqtClientArgs", |group| group.arg("frames_per_group")))]
#[command(mut_args(|arg| match arg.get_help_heading() {
    Some(impairment::HEADING) => impairment::of_embedded_server(arg).conflicts_with_all(["moqt", "target", "to"]),
    _ => arg,
}))]
pub(crate) struct Args {
    /// Target [default: 127.0.0.1:5000]
    ///
    /// HOST[:PORT] selects a UDP echo server. URLs with moqt:// (raw QUIC) and https:// (WebTransport) select MOQT echo servers. URLs with
    /// ws:// and wss:// select signaling servers.
    #[arg(value_name = "HOST[:PORT]|URL", conflicts_with_all = ["to", "embedded", "moqt"])]
    target: Option<Target>,

    /// Target, the same as the argument
    #[arg(long, hide_short_help = true, value_name = "HOST[:PORT]|URL", conflicts_with_all = ["embedded", "moqt"], help_heading = HEADING_TARGET)]
    to: Option<Target>,

    #[command(flatten)]
    packets: PacketArgs,

    #[command(flatten)]
    udp: Option<UdpArgs>,

    #[command(flatten)]
    signaling: Option<SignalingClientArgs>,

    #[command(flatten)]
    moqt: Option<MoqtClientArgs>,

    /// Frames in each MOQT group
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_FRAMES_PER_GROUP), default_value_t = 1, help_heading = HEADING_MOQT)]
    frames_per_group: usize,

    #[command(flatten)]
    peer: PeerArgs,

    #[command(flatten)]
    impairment: ImpairmentArgs,

    #[command(flatten)]
    report: PacketReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    spin: SpinArgs,
}

impl Args {
    /// Probes until finished or `stop` is requested.
    pub(crate) fn run(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let name = || self.peer.name(self.target().map(Target::to_string));
        self.report.run(name, || Ok(self.probe(matches, stop)?.with_interval(self.packets.pace.interval)))
    }

    fn target(&self) -> Option<&Target> {
        self.target.as_ref().or(self.to.as_ref())
    }

    /// Measures the target, or says which options do not apply to its kind.
    fn probe(&self, matches: &ArgMatches, stop: &StopToken) -> Result<FinishedRun, Failure> {
        let target = self.target();
        let is_moqt_embedded = self.moqt.is_some_and(|moqt| moqt.moqt.is_some());
        let is_udp = target.map_or(!is_moqt_embedded, |target| matches!(target, Target::Udp(_)));
        let reason = match (target, &self.udp, &self.signaling, &self.moqt) {
            (_, Some(_), ..) if !is_udp => {
                "--packet, --link and --loss-direction apply to UDP: HOST[:PORT], --room NAME or --embedded"
            }
            _ if !is_udp && self.peer.has_member_options(matches) => {
                "--signaling-url, --password-file and --device-key apply to a member of a room over UDP: --room NAME without a target"
            }
            (Some(Target::WebSocket(url)), _, signaling, None) => {
                return self.probe_websocket(url, signaling.as_ref(), stop);
            }
            (Some(Target::Moqt(to)), _, None, moqt) => return self.probe_moqt(Some(to), moqt.as_ref(), stop),
            (None, _, None, moqt) if is_moqt_embedded => return self.probe_moqt(None, moqt.as_ref(), stop),
            (Some(Target::Udp(host)), udp, None, None) => return self.probe_udp(Some(host), *udp, matches, stop),
            (None, udp, None, None) => return self.probe_udp(None, *udp, matches, stop),
            (Some(Target::WebSocket(_)), ..) | (_, _, None, _) => {
                "--moqt-version and --frames-per-group apply to MOQT: moqt://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or --embedded --moqt"
            }
            _ => "--dialect and --hmac-secret apply to signaling servers: ws:// or wss://",
        };
        Err(Failure::usage(reason))
    }

    fn probe_udp(
        &self,
        host: Option<&Endpoint>,
        udp: Option<UdpArgs>,
        matches: &ArgMatches,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let (udp, has_room) = (udp.unwrap_or_default(), self.peer.room.room.is_some());
        let packets = self.packets.probe_config(udp.link.is_some(), DEFAULT_COUNT)?;
        ensure_usage!(host.is_none() || !has_room, "--room names a member instead of a host; omit one of them");
        ensure_usage!(has_room || !self.peer.trust.is_given(), "--ca, --cert-sha256 and --insecure apply to TLS only");
        self.peer.check_delay(packets.stream_kind)?;
        let is_audio = packets.stream_kind == StreamKind::Audio;
        ensure_usage!(
            is_audio || !self.impairment.needs_audio(),
            "--drop-packets applies to AUDIO; add --packet audio"
        );
        let (impairment, local) = (self.impairment.checked()?, (self.network.socket_options(), self.spin.spin));
        let client = self.peer.client(host, impairment, udp, local, matches)?;

        self.report.report.files.prepare(stop)?;
        let mut target = client.connect(stop)?;
        let config = client.run_config((target.address, target.waited), packets.stream_kind, true);
        let workload = ProbeWorkload::new(packets).with_link(target.link.is_some());
        let node = ClientNode::new(config, workload, Box::new(())).with_link(target.link.take());
        let (observer, monitor) =
            self.report.monitor_run(packets.count, node.plan(&target.name), node.live_figures())?;
        let node = node.with_observer(Box::new(observer));
        client.run(node, target, monitor, &mut (), stop)
    }

    /// Sends groups to the MOQT echo server `to`, or to the embedded server if it is `None`.
    fn probe_moqt(
        &self,
        to: Option<&MoqtUrl>,
        options: Option<&MoqtClientArgs>,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        ensure_usage!(self.peer.room.room.is_none(), "--room has no effect over MOQT");
        let (size, delay) = (self.packets.size(), self.peer.delay.delay);
        ensure_usage!(size <= MAX_BODY_BYTES, "--size {size}: a MOQT frame has at most {MAX_BODY_BYTES} bytes");
        ensure_usage!(to.is_none() || delay.is_none(), "--delay has no effect over MOQT but with --embedded --moqt");
        let config = MoqtClientConfig {
            group_count: self.packets.count_or(DEFAULT_COUNT),
            group_interval: self.packets.pace.interval,
            frames_per_group: self.frames_per_group,
            payload: FramePayload::Random(size),
            ..MoqtClientConfig::default()
        };
        let session = MoqtSession {
            to,
            options: options.copied().unwrap_or_default(),
            trust: &self.peer.trust,
            delay: delay.unwrap_or_default(),
            timing: self.peer.timing,
            local: self.network.options_without_port("over MOQT")?,
            report: &self.report,
        };
        session.run(RunKind::Probe, config, None, stop)
    }

    fn probe_websocket(
        &self,
        url: &WebSocketUrl,
        options: Option<&SignalingClientArgs>,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let is_sized = self.packets.size.is_some() || self.peer.delay.delay.is_some();
        ensure_usage!(!is_sized, "--size and --delay have no effect over WebSocket");
        let local = self.network.options_without_port("over WebSocket")?;
        let room = self.peer.room.room.as_deref();
        let session = WebSocketSession {
            target: options.unwrap_or(&SignalingClientArgs::default()).probe_target(url.clone(), room, local)?,
            trust: &self.peer.trust,
            timing: self.peer.timing,
            spin: self.spin.spin,
            report: &self.report,
        };
        session.run(self.packets.count_or(DEFAULT_COUNT), self.packets.pace.interval, stop)
    }
}
