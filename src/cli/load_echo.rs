//! `jamjam-dev load-echo`: several clients of one echo server, each with a socket of its own, on one driver.

use std::iter;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Context;
use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, ArgMatches};

use super::audio_source::{ExtentArgs, PacketLayout, SOURCE_GROUP, SourceArgs, packet_form};
use super::client::FinishedRun;
use super::client::monitor::{LiveView, POLL_INTERVAL, run_all};
use super::client::udp::{ConnectedTarget, NOT_WITH_A_HOST, PeerArgs, UdpArgs, UdpClient, stop_embedded};
use super::options::credentials::HEADING_TLS;
use super::options::impairment::ImpairmentArgs;
use super::options::measurement::{DEFAULT_COUNT, LimitArgs, NetworkArgs, PacketArgs};
use super::options::report::ReportArgs;
use super::output::{Failure, HEADING_TARGET, ensure_usage};
use super::target::{Endpoint, parse_udp_target};
use crate::client::{
    AudioWorkload, ClientNode, LiveSnapshot, ProbeConfig, ProbeWorkload, RunConfig, SharedRecord, StopSignal,
    StreamKind, Workload,
};
use crate::io::os;
use crate::io::stop::StopToken;
use crate::node_group::{GroupContext, NodeGroup};
use crate::report::clients::merge_clients;
use crate::report::ramp::Ramp;
use crate::time::{Time, saturating_nanos};

/// Put many clients on an echo server: one number of them, or ever more
#[derive(clap::Args)]
#[command(group(ArgGroup::new(SOURCE_GROUP).args(["wav", "tone"])))]
#[command(mut_args(|arg| if arg.get_help_heading() == Some(HEADING_TLS) { arg.requires("room") } else { arg }))]
#[command(mut_args(|arg| match arg.get_id().as_str() {
    "repeat" | "resample" | "frame_size" => arg.requires(SOURCE_GROUP),
    "packet" | "interval" | "size" => arg.conflicts_with(SOURCE_GROUP),
    "count" | "duration" => arg.conflicts_with("ramp"),
    "signaling_url" | "room" => arg.hide_short_help(true),
    _ => arg,
}))]
pub(crate) struct Args {
    /// Echo server [default: 127.0.0.1:5000]
    #[arg(value_name = "HOST[:PORT]", value_parser = parse_udp_target, conflicts_with_all = NOT_WITH_A_HOST)]
    target: Option<Endpoint>,

    /// Number of clients, each with a socket of its own
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=20_000), help_heading = HEADING_TARGET)]
    clients: usize,

    /// Find out how many clients the server carries
    ///
    /// Starts with one client, and every 5 s with a tenth more, up to --clients. Each step is judged by the packets of its last 4 s. Ends
    /// when two steps in a row exceed a limit, or when this host is at its limit.
    #[arg(long, conflicts_with = "wait_for", help_heading = HEADING_TARGET)]
    ramp: bool,

    #[command(flatten)]
    packets: PacketArgs,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    udp: UdpArgs,

    #[command(flatten)]
    peer: PeerArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    report: ReportArgs,

    #[command(flatten)]
    network: NetworkArgs,
}

/// What the clients record, and the ramp that judges it between their calls.
#[derive(Default)]
struct JudgedRecord {
    record: SharedRecord,
    ramp: Option<Ramp>,
    has_ramp_ended: bool,
    /// When the ramp looks at the record again.
    next_look: Time,
    stop: StopToken,
}

impl<S: Workload> GroupContext<ClientNode<S>> for JudgedRecord {
    fn call(&mut self, client: &mut ClientNode<S>, now: Time, call: impl FnOnce(&mut ClientNode<S>)) {
        self.record.call(client, now, call);
        // Until the first client has begun, there may be no other call for a whole step.
        let is_due = now >= self.next_look || self.record.started == 0;
        if let Some(ramp) = self.ramp.as_mut().filter(|_| is_due && !self.has_ramp_ended) {
            self.next_look = now + POLL_INTERVAL;
            self.has_ramp_ended = ramp.poll(now, &self.record);
            if self.has_ramp_ended && self.stop.signal().is_none() {
                self.stop.request(StopSignal::ClosedPipe);
            }
        }
    }
}

/// The clients, the sockets of all but the first one, and the ramp.
type Clients<S> = (Vec<UdpSocket>, Vec<ClientNode<S>>, Option<Ramp>);

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(mut self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.source.extent =
            ExtentArgs { count: self.packets.pace.count.unwrap_or(0), duration: self.packets.pace.duration };
        self.source.is_stereo = self.udp.link.is_some();
        let is_audio = matches.contains_id(SOURCE_GROUP);
        self.report.run(
            || self.peer.name(self.target.as_ref().map(Endpoint::to_string)),
            || if is_audio { self.load_audio(matches, stop) } else { self.load_packets(matches, stop) },
        )
    }

    /// Sends the same audio from all clients.
    fn load_audio(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let client = self.client(matches)?;
        let (source, PacketLayout { form, .. }) = self.source.open_shared(self.ramp)?;
        let form = packet_form(form, self.udp.link.is_some())?;
        let interval = Duration::from_secs_f64(f64::from(form.frame_samples) / f64::from(form.sample_rate));
        let payload_len = form.frame_samples as usize * usize::from(form.channels) * 4;
        let packets = ProbeConfig { stream_kind: StreamKind::Audio, count: source.count, interval, payload_len };
        let workload = |_| AudioWorkload::new(form, Box::new(source.clone()));
        let finished = self.load(&client, packets, workload, stop)?;
        self.report.finish(finished, self.limits.limits())
    }

    /// Sends packets as `probe` does.
    fn load_packets(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let packets = self.packets.probe_config(self.udp.link.is_some(), DEFAULT_COUNT)?;
        self.peer.check_delay(packets.stream_kind)?;
        let client = self.client(matches)?;
        let packets = ProbeConfig { count: packets.count.filter(|_| !self.ramp), ..packets };
        let workload = |has_link| ProbeWorkload::new(packets).with_link(has_link);
        let finished = self.load(&client, packets, workload, stop)?;
        self.report.finish(finished.with_interval(packets.interval), self.limits.limits())
    }

    fn client(&self, matches: &ArgMatches) -> Result<UdpClient<'_>, Failure> {
        let local = self.network.options_without_port("with several clients")?;
        let may_end = !self.ramp || self.limits.limits().any();
        ensure_usage!(may_end, "--ramp needs a limit that ends it; give --profile internet-music or --max-p99 50ms");
        self.peer.client(self.target.as_ref(), ImpairmentArgs::default().checked()?, self.udp, (local, 0), matches)
    }

    /// Runs all clients, which send `packets` with the workloads that `workload` returns; its argument is whether the client has a link.
    fn load<S: Workload + Send + 'static>(
        &self,
        client: &UdpClient<'_>,
        packets: ProbeConfig,
        workload: impl FnMut(bool) -> S,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        self.report.files.prepare(stop)?;
        os::raise_descriptor_limit();
        let mut first = client.connect(stop)?;
        let (others, clients, ramp) = self.clients(client, &mut first, packets, workload)?;
        let sockets = iter::once(first.bound.socket).chain(others).collect();
        let total = packets.count.map(|packets| packets.saturating_mul(self.clients as u64));
        let mut view = LiveView::new(false, total);
        let figures: Vec<_> = clients.iter().map(ClientNode::live_figures).collect();
        let group = NodeGroup::new(clients, JudgedRecord { ramp, stop: stop.clone(), ..JudgedRecord::default() });
        let (finished, JudgedRecord { mut record, ramp, has_ramp_ended, .. }, error) =
            run_all(sockets, group, client.driver_options(), stop, &mut || {
                if let Some(view) = &mut view {
                    view.update(&LiveSnapshot::sum(figures.iter().map(|figures| figures.snapshot())));
                }
            })?;
        drop(view);
        let begun = finished.enumerate().filter_map(|(number, mut client)| {
            let bytes = client.client.bytes();
            client.client.settle(&mut record, stop.signal().map(|_| client.tally.ended_at));
            let run = client.into_run(&first.name, None, stop, &mut ()).run;
            let has_begun = run.duration_ns > 0 || run.link.is_some_and(|link| link.failure.is_some());
            // A ramp ends before all clients have begun.
            (number == 0 || has_begun || !self.ramp).then_some((run, bytes))
        });
        let mut run = merge_clients(begun, &self.limits.limits()).context("no client has run")?;
        record.add_to(&mut run);
        if has_ramp_ended {
            run.interrupted = None;
        }
        if let Some(wait) = &mut run.readiness_wait {
            wait.waited_ns += saturating_nanos(first.waited);
        }
        let finished = FinishedRun::new(run, error.or(stop_embedded(first.embedded)), None);
        Ok(FinishedRun { ramp, close: Box::new(|| drop(first.rooms)), ..finished })
    }

    /// All clients of what the first one is connected to, with the sockets of the others. Their starts are spread over the interval of `packets`,
    /// or over the steps of a ramp.
    fn clients<S: Workload>(
        &self,
        client: &UdpClient<'_>,
        first: &mut ConnectedTarget,
        packets: ProbeConfig,
        mut workload: impl FnMut(bool) -> S,
    ) -> Result<Clients<S>, Failure> {
        let signing = first.link.as_ref().and_then(|link| link.signing.clone());
        let connect = |_| client.connect_socket(first.address, String::new(), signing.clone());
        let others = (1..self.clients).map(connect).collect::<Result<Vec<_>, _>>()?;
        let (sockets, links): (Vec<_>, Vec<_>) =
            others.into_iter().map(|other| (other.bound.socket, other.link)).unzip();
        let spread = packets.interval / self.clients as u32;
        let (mut clients, mut ramp) = (Vec::new(), None);
        for (number, link) in iter::once(first.link.take()).chain(links).enumerate() {
            let start = ramp.as_ref().map_or(Duration::ZERO, |ramp: &Ramp| ramp.start_of(number));
            let run = client.run_config((first.address, first.waited), packets.stream_kind, true);
            let run = RunConfig { start_delay: start + spread * number as u32, shares_record: true, ..run };
            let node = ClientNode::new(run, workload(link.is_some()), Box::new(())).with_link(link);
            if number == 0 && self.ramp {
                ramp = Some(Ramp::new(self.limits.limits(), self.clients, node.plan(&first.name)));
            }
            clients.push(node);
        }
        Ok((sockets, clients, ramp))
    }
}
