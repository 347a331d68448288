//! The relay of media of `signaling-server`: its sockets, its addresses, its limits and its impairment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use anyhow::Context;
use tracing::info;

use crate::cli::echo_server::BitRateArgs;
use crate::cli::options::impairment::{OutcomeLogFile, PathArgs};
use crate::cli::output::{Failure, ensure_usage};
use crate::impairment::Impairment;
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, BindError, DEFAULT_SPIN_PERCENT, DriverOptions, IdlePolicy, NodeThread};
use crate::io::{machine, reachable, resolve};
use crate::media_relay::{MAX_SOCKETS, MediaRelay, MediaRelayConfig, MediaRooms};

const HEADING: &str = "Media over a bad network (jamjam)";

/// Receive buffer of each socket, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct MediaRelayArgs {
    /// Relay the media of jamjam members, to impair it
    ///
    /// Members receive addresses of this server in place of those of other members.
    #[arg(long, help_heading = HEADING)]
    relay_media: bool,

    /// Address for the media of all members [default: where each one connects]
    #[arg(long, value_name = "HOST", requires = "relay_media", help_heading = HEADING)]
    relay_addr: Option<String>,

    /// UDP ports for media, such as 40000-40999 [default: 1024 free ports]
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_ports, requires = "relay_media", help_heading = HEADING)]
    relay_ports: Option<RangeInclusive<u16>>,

    #[command(flatten)]
    bit_rate: BitRateArgs,

    #[command(flatten)]
    path: PathArgs,
}

/// A relay whose sockets are bound.
pub(crate) struct PreparedMediaRelay {
    pub(crate) rooms: MediaRooms,
    sockets: Vec<UdpSocket>,
    outcome_log: Option<OutcomeLogFile>,
}

impl MediaRelayArgs {
    /// Binds the sockets of a signaling server that listens on `server`.
    pub(crate) fn prepare(&self, server: IpAddr, trusts_proxy: bool) -> Result<Option<PreparedMediaRelay>, Failure> {
        let impairment = self.path.impairment()?;
        if !self.relay_media {
            let unimpaired = Impairment { seed: impairment.seed, ..Impairment::default() };
            ensure_usage!(impairment == unimpaired, "impairment needs the media of the members; add --relay-media");
            return Ok(None);
        }
        let ip = match server.to_canonical() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) => {
                ensure_usage!(ip.is_loopback(), "--relay-media relays over IPv4 only; give an IPv4 address as --host");
                Ipv4Addr::LOCALHOST
            }
        };
        ensure_usage!(
            self.relay_addr.is_some() || !trusts_proxy,
            "members behind --trust-proxy do not connect to this server; give --relay-addr HOST, where media reaches it"
        );
        let limits = self.bit_rate.limits()?;
        let announced_ip = self.relay_addr.as_deref().map(resolve_ipv4).transpose()?;
        let ports = self.relay_ports.clone().map_or_else(|| vec![0; MAX_SOCKETS], Iterator::collect);
        let bind = |port| udp::bind(SocketAddr::from((ip, port)), RECEIVE_BUFFER);
        let bound = ports.into_iter().map(bind).collect::<Result<Vec<_>, BindError>>()?;
        let (ports, sockets): (Vec<u16>, _) = bound.into_iter().map(|one| (one.address.port(), one.socket)).unzip();
        let interfaces = machine::interface_addresses().unwrap_or_default().into_iter().map(|one| one.address);
        let own_ips = interfaces.chain(reachable::default_route_address()).collect();
        let (observer, outcome_log) = self.path.open_outcome_log()?;
        let seed = impairment.seed;
        info!(target: "relay", host = %ip, ports = ports_text(&ports), seed, "relaying media");
        let config = MediaRelayConfig { impairment, ports, announced_ip, own_ips, limits };
        Ok(Some(PreparedMediaRelay { rooms: MediaRooms::new(config, observer), sockets, outcome_log }))
    }
}

impl PreparedMediaRelay {
    /// Relays until `stop` is requested.
    pub(crate) fn spawn(self, stop: &StopToken) -> anyhow::Result<RunningMediaRelay> {
        let Self { rooms, sockets, outcome_log } = self;
        let options = DriverOptions {
            idle: IdlePolicy::Wait,
            spin_percent: DEFAULT_SPIN_PERCENT,
            backend: Backend::Native,
            follow_address: false,
        };
        let thread = udp::spawn_node("media-relay", sockets, MediaRelay::new(rooms), stop.clone(), options);
        Ok(RunningMediaRelay { thread: thread.context("cannot start a thread")?, outcome_log })
    }
}

/// A relay on its thread.
pub(crate) struct RunningMediaRelay {
    thread: NodeThread<MediaRelay>,
    outcome_log: Option<OutcomeLogFile>,
}

impl RunningMediaRelay {
    /// Waits for the end of the relay and of the outcome log.
    pub(crate) fn join(self) -> anyhow::Result<()> {
        let (_, tally) = self.thread.join();
        let outcome_log = self.outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        tally.result.context("cannot read from the sockets of --relay-media").and(outcome_log)
    }
}

fn resolve_ipv4(host: &str) -> Result<Ipv4Addr, Failure> {
    let found = resolve::resolve(host, 0).context("--relay-addr")?;
    let first = found.into_iter().find_map(|address| match address.ip().to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    first.ok_or_else(|| Failure::usage(format!("--relay-addr: {host} has no IPv4 address; media is relayed over IPv4 only")))
}

/// The lowest and the highest port.
fn ports_text(ports: &[u16]) -> String {
    let limits = ports.iter().min().zip(ports.iter().max());
    limits.map_or_else(String::new, |(first, last)| format!("{first}-{last}"))
}

/// Parses `FIRST-LAST`.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports = text.split_once('-').and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?));
    let ports = ports.filter(|ports: &RangeInclusive<u16>| *ports.start() > 0 && (2..=MAX_SOCKETS).contains(&ports.len()));
    ports.ok_or_else(|| format!("give the first and the last of 2 to {MAX_SOCKETS} ports, such as 40000-40999"))
}
