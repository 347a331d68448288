//! The relay of media of `signaling-server`: its sockets, its addresses, its limits and its impairment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::ArgMatches;
use tracing::info;

use crate::address::ipv4;
use crate::check::SignalingCheck;
use crate::cli::echo_server::BitRateArgs;
use crate::cli::options::impairment::{self, OutcomeLogFile, PathArgs};
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::parse_seconds;
use crate::impairment::Impairment;
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, BindError, DEFAULT_SPIN_PERCENT, DriverOptions, NodeThread};
use crate::io::{reachable, resolve};
use crate::media_relay::{MAX_SOCKETS, MediaObserver, MediaRelay, MediaRelayConfig, MediaRooms};
use crate::report::media::MediaReport;

const HEADING: &str = "Media over a bad network (jamjam)";

/// Receive buffer of each socket, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

#[derive(clap::Args)]
#[command(mut_args(|arg| if arg.get_help_heading() == Some(impairment::HEADING) { arg.hide_short_help(true) } else { arg }))]
pub(crate) struct MediaRelayArgs {
    /// Relay the media of jamjam members, to impair it
    ///
    /// Members receive addresses of this server in place of those of other members.
    #[arg(long, hide_short_help = true, help_heading = HEADING)]
    relay_media: bool,

    /// Address for the media of all members [default: where each one connects]
    #[arg(long, hide_short_help = true, value_name = "HOST", requires = "relay_media", help_heading = HEADING)]
    relay_addr: Option<String>,

    /// UDP ports for media, such as 40000-40999 [default: 1024 free ports]
    #[arg(long, hide_short_help = true, value_name = "FIRST-LAST", value_parser = parse_ports, requires = "relay_media", help_heading = HEADING)]
    relay_ports: Option<RangeInclusive<u16>>,

    /// Fail if AUDIO between two members is not back within this time after an outage
    ///
    /// It is back when each direction that carried AUDIO in the second before the outage carries some in each of ten times 100 ms.
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, requires_all = ["relay_media", "check"], help_heading = HEADING)]
    pub(crate) max_recovery: Option<Duration>,

    #[command(flatten)]
    bit_rate: BitRateArgs,

    #[command(flatten)]
    path: PathArgs,
}

/// A relay on its thread.
pub(crate) struct RunningMediaRelay {
    pub(crate) rooms: MediaRooms,
    /// The lowest and the highest port.
    pub(crate) port_range: String,
    seed: u64,
    thread: NodeThread<MediaRelay>,
    outcome_log: Option<OutcomeLogFile>,
}

impl MediaRelayArgs {
    /// Returns an error if there are options of a relay without a relay, or if a relay lacks its address.
    pub(crate) fn check(&self, matches: &ArgMatches, trusts_proxy: bool) -> Result<(), Failure> {
        let is_given = ["ImpairmentArgs", "delay", "BitRateArgs"].iter().any(|id| matches.contains_id(id));
        ensure_usage!(self.relay_media || !is_given, "impairment and its limits need relayed media; add --relay-media");
        let has_address = self.relay_addr.is_some() || !self.relay_media || !trusts_proxy;
        ensure_usage!(has_address, "behind --trust-proxy, give --relay-addr HOST");
        Ok(())
    }

    /// Binds the sockets of a signaling server that listens on `server`, and relays until `stop` is requested.
    pub(crate) fn start(
        &self,
        server: IpAddr,
        check: Option<Arc<Mutex<SignalingCheck>>>,
        stop: &StopToken,
    ) -> Result<Option<RunningMediaRelay>, Failure> {
        if !self.relay_media {
            return Ok(None);
        }
        let (impairment, Impairment { seed, recorded, .. }) = (self.path.patch()?, self.path.impairment()?);
        let Some(ip) = ipv4(server).or(server.is_loopback().then_some(Ipv4Addr::LOCALHOST)) else {
            return Err(Failure::usage("--relay-media relays over IPv4 only; give an IPv4 address as --host"));
        };
        let limits = self.bit_rate.limits()?;
        let announced_ip = self.relay_addr.as_deref().map(resolve_ipv4).transpose()?;
        let ports = self.relay_ports.clone().map_or_else(|| vec![0; MAX_SOCKETS], Iterator::collect);
        let bind = |port| udp::bind(SocketAddr::from((ip, port)), RECEIVE_BUFFER);
        let bound = ports.into_iter().map(bind).collect::<Result<Vec<_>, BindError>>()?;
        let (ports, sockets): (Vec<_>, _) = bound.into_iter().map(|one| (one.address.port(), one.socket)).unzip();
        let (observer, outcome_log) = self.path.impairment.open_outcome_log("from,to,direction")?;
        let (first, last) = ports.iter().fold((u16::MAX, 0), |(first, last), port| (first.min(*port), last.max(*port)));
        let port_range = format!("{first}-{last}");
        info!(target: "relay", host = %ip, ports = port_range, seed, "relaying media");
        let own_ips = reachable::own_ips();
        let config = MediaRelayConfig { impairment, seed, recorded, ports, announced_ip, own_ips, limits };
        let rooms = MediaRooms::new(config, Some(observer));
        let options = DriverOptions::server(DEFAULT_SPIN_PERCENT, Backend::Native);
        let mut node = MediaRelay::new(rooms.clone());
        node.observer = check.map(|check| -> MediaObserver {
            Box::new(move |at, way, route, datagram| {
                check.lock().unwrap_or_else(PoisonError::into_inner).senders.on_datagram(at, way, route, datagram);
            })
        });
        let thread = udp::spawn_node("media-relay", sockets, node, stop.clone(), options);
        let thread = thread.context("cannot start a thread")?;
        Ok(Some(RunningMediaRelay { rooms, port_range, seed, thread, outcome_log }))
    }
}

impl RunningMediaRelay {
    /// Waits for the end of the relay and of the outcome log. Returns the report, which judges recoveries and the relay if that `is_judged`.
    pub(crate) fn join(self, is_judged: bool, max_recovery: Option<Duration>) -> anyhow::Result<MediaReport> {
        let (node, tally) = self.thread.join();
        let delays = node.into_delays();
        let outcome_log = self.outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        tally.result.context("cannot read from the sockets of --relay-media").and(outcome_log)?;
        let of_host = (tally.host_timing.kernel_dropped, &delays);
        Ok(MediaReport::new(&self.rooms, of_host, self.seed, (is_judged, max_recovery)))
    }
}

fn resolve_ipv4(host: &str) -> Result<Ipv4Addr, Failure> {
    let first = resolve::resolve(host, 0).context("--relay-addr")?.into_iter().find_map(|address| ipv4(address.ip()));
    first.ok_or_else(|| Failure::usage(format!("--relay-addr: {host} has no IPv4 address")))
}

/// Parses `FIRST-LAST`.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse().ok();
    let ports = text.split_once('-').and_then(|(first, last)| Some(port(first)?..=port(last)?));
    let is_usable = |ports: &RangeInclusive<u16>| *ports.start() > 0 && (2..=MAX_SOCKETS).contains(&ports.len());
    ports
        .filter(is_usable)
        .ok_or_else(|| format!("give the first and the last of 2 to {MAX_SOCKETS} ports, such as 40000-40999"))
}
