//! `jamjam-dev compare`: measures several echo servers at the same time, on one driver, and ranks them.

use std::iter;
use std::time::Duration;

use anyhow::Context;
use clap::builder::Resettable;

use super::client::FinishedRun;
use super::client::monitor::{LiveView, run_all};
use super::client::udp::{ConnectedTarget, DelayArgs, UdpArgs, UdpClient, UdpPeer};
use super::options::measurement::{LimitArgs, NetworkArgs, PacketArgs, SpinArgs, TimeoutArgs};
use super::options::report::ReportArgs;
use super::output::{Failure, ensure_usage};
use super::target::{Endpoint, TargetArgument, parse_udp_target};
use crate::client::{ClientNode, ProbeConfig, ProbeWorkload, RunConfig, RunKind, RunResults};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::stop::StopToken;
use crate::io::udp::DriverOptions;
use crate::io::{clock, files};
use crate::node_group::NodeGroup;
use crate::report::targets::TargetsReport;

/// Maximum number of targets of one run. Each has a socket and a row on the terminal.
const MAX_TARGETS: usize = 64;

/// Default number of packets to each target, so that each of the ten blocks by which targets are compared has 150 packets.
const DEFAULT_COUNT: u64 = 1_500;

/// Measure several echo servers at the same time, and rank them
#[derive(clap::Args)]
#[command(mut_arg("count", |arg| arg.help("Packets to send to each target [default: 1500]").long_help(Resettable::Reset)))]
pub(crate) struct Args {
    /// Up to 64 echo servers, or @FILE with one in each line
    ///
    /// Blank lines of the file and lines that begin with # are ignored.
    #[arg(value_name = "HOST[:PORT]|@FILE", required = true)]
    target: Vec<TargetArgument>,

    #[command(flatten)]
    packets: PacketArgs,

    #[command(flatten)]
    udp: UdpArgs,

    #[command(flatten)]
    delay: DelayArgs,

    #[command(flatten)]
    timing: TimeoutArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    report: ReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    spin: SpinArgs,
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(&self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.run(|| "several targets".to_owned(), || self.compare(stop))
    }

    fn compare(&self, stop: &StopToken) -> Result<u8, Failure> {
        let (targets, packets) = (self.targets()?, self.packets()?);
        self.udp.check_link(false)?;
        let local = self.network.options_without_port("with several targets")?;
        self.report.files.prepare(stop)?;
        let (clients, unreachable) = self.connect(&targets, packets, local, stop)?;
        let code = clients.is_empty().then_some(3);
        let options = self.udp.driver_options(self.spin.spin, local);
        let (mut runs, error) = measure(clients, packets.count, options, stop)?;
        runs.extend(unreachable);
        let runs = runs.into_iter().map(|finished| {
            let FinishedRun { run, error, .. } = finished.with_interval(packets.interval);
            (run, error.map(|error| format!("{error:#}")))
        });
        let mut document = TargetsReport::new(runs.collect(), &self.limits.limits()).document();
        let delivered = self.report.deliver(&mut document);
        error.map_or(delivered, Err)?;
        Ok(code.unwrap_or(document.head.exit_code()))
    }

    /// The targets of the arguments and of the files that they name, without repetition.
    fn targets(&self) -> Result<Vec<Endpoint>, Failure> {
        let mut targets = Vec::new();
        let mut add = |place: &str, target: Endpoint| {
            ensure_usage!(!targets.contains(&target), "{place}the target {target} is repeated");
            ensure_usage!(targets.len() < MAX_TARGETS, "{place}more than {MAX_TARGETS} targets");
            targets.push(target);
            Ok(())
        };
        for argument in &self.target {
            let file = match argument {
                TargetArgument::Host(host) => {
                    add("", host.clone())?;
                    continue;
                }
                TargetArgument::File(file) => file,
            };
            let name = file.display();
            let text = files::read_text(file).with_context(|| format!("cannot read targets from {name}"))?;
            let lines = (1..).zip(text.lines().map(str::trim));
            for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
                let place = format!("{name}, line {number}: ");
                ensure_usage!(!line.contains(char::is_whitespace), "{place}write one HOST[:PORT] in each line");
                let target = parse_udp_target(line).map_err(|error| Failure::usage(format!("{place}{error}")))?;
                add(&place, target)?;
            }
        }
        ensure_usage!(!targets.is_empty(), "the file contains no target; write one HOST[:PORT] in each line");
        Ok(targets)
    }

    /// The packets to each target.
    fn packets(&self) -> Result<ProbeConfig, Failure> {
        let packets = self.packets.probe_config(self.udp.link.is_some(), DEFAULT_COUNT)?;
        self.delay.check(packets.stream_kind)?;
        ensure_usage!(packets.count.is_some(), "--count 0: tenths of the run are compared; give a number of packets");
        Ok(packets)
    }

    /// Connects a socket to each target. Their starts are spread over the interval. Also returns the targets whose name cannot be resolved, or to
    /// which no socket can be connected.
    fn connect(
        &self,
        targets: &[Endpoint],
        packets: ProbeConfig,
        local: LocalSocketOptions,
        stop: &StopToken,
    ) -> Result<(Vec<Client>, Vec<FinishedRun>), Failure> {
        let (mut clients, mut unreachable) = (Vec::new(), Vec::new());
        for (index, endpoint) in (0..).zip(targets) {
            let (peer, timing, delay) = (UdpPeer::Host(endpoint), self.timing.without_wait(), self.delay.delay);
            let client = UdpClient { peer, udp: self.udp, timing, delay, local, spin: self.spin.spin };
            match client.connect(stop) {
                Ok(mut target) => {
                    let start_delay = packets.interval * index / targets.len() as u32;
                    let run = client.run_config((target.address, Duration::ZERO), packets.stream_kind, true);
                    let run = RunConfig { blocks_of: packets.count, start_delay, ..run };
                    let workload = ProbeWorkload::new(packets).with_link(target.link.is_some());
                    let node = ClientNode::new(run, workload, Box::new(())).with_link(target.link.take());
                    clients.push((node, target));
                }
                Err(failure) if stop.signal().is_some() => return Err(failure),
                Err(failure) => {
                    let run = RunResults::new(RunKind::Probe, endpoint.to_string(), packets.stream_kind);
                    unreachable.push(FinishedRun::new(run, Some(failure.error), None));
                }
            }
        }
        Ok((clients, unreachable))
    }
}

/// A client that has not started, and its target.
type Client = (ClientNode<ProbeWorkload>, ConnectedTarget);

/// Runs all clients, each of which sends `count` packets. Also returns the error that ended them.
fn measure(
    clients: Vec<Client>,
    count: Option<u64>,
    options: DriverOptions,
    stop: &StopToken,
) -> Result<(Vec<FinishedRun>, Option<anyhow::Error>), Failure> {
    if clients.is_empty() {
        return Ok((Vec::new(), None));
    }
    let names: Vec<&str> = clients.iter().map(|(_, target)| &*target.name).collect();
    let views = LiveView::of_targets(&names, count).into_iter();
    let mut views: Vec<_> = views.zip(clients.iter().map(|(client, _)| client.live_figures())).collect();
    let started_unix_ms = clock::unix_ms();
    let (clients, targets): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
    let ends = targets.into_iter().map(|ConnectedTarget { name, bound, strays, .. }| (bound.socket, (name, strays)));
    let (sockets, peers): (Vec<_>, Vec<_>) = ends.unzip();
    let mut look = || views.iter_mut().for_each(|(view, live)| view.update(&live.snapshot()));
    let (finished, (), error) = run_all(sockets, NodeGroup::new(clients, ()), options, stop, &mut look)?;
    drop(views);
    let runs = iter::zip(finished, peers).map(|(client, (name, strays))| {
        let mut finished = client.into_run(&name, None, stop, &mut ());
        finished.add_strays(strays);
        finished.run.started_unix_ms = started_unix_ms;
        finished
    });
    Ok((runs.collect(), error))
}
