//! Clients over UDP of a host, of a room member, or of the embedded echo server: the options, the connection and the run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ArgMatches;
use rustls::ClientConfig;

use super::FinishedRun;
use super::monitor::RunMonitor;
use crate::cli::options::credentials::TrustArgs;
use crate::cli::options::impairment::{CheckedImpairment, OutcomeLogFile};
use crate::cli::options::measurement::{SocketArgs, TimingArgs};
use crate::cli::options::room_target::{DeviceKeyArgs, Room, RoomArgs, tls_config};
use crate::cli::output::{Failure, HEADING_TARGET, ensure_usage, print_notice};
use crate::cli::run_origin;
use crate::cli::target::{Endpoint, LOCAL_ECHO_SERVER};
use crate::cli::values::{ClientLinkMode, parse_millis};
use crate::client::{ClientNode, LinkConfig, LinkSigning, PacketObserver, RunConfig, StopSignal, StreamKind, Workload};
use crate::echo::{self, DEFAULT_DELAY, EchoConfig};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::os;
use crate::io::resolve::{self, ResolveError};
use crate::io::signaling::client::{RoomSession, RoomSessionError};
use crate::io::stop::StopToken;
use crate::io::udp::{self, BindError, BoundSocket, DriverOptions, StraySocket};
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::link::{LinkKey, parse_link_key};
use crate::signaling::client::RoomError;
use crate::testing::EchoServer;
use crate::time::saturating_nanos;

/// Options that apply to UDP only.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct UdpArgs {
    /// Encrypt the packets, as jamjam does since autumn 2026
    ///
    /// Only KEEPALIVE is sent before both ends have agreed on keys. AUDIO is stereo. With `signed`, the server
    /// must sign with the link key that its room announces. This needs --room, and --signaling-url http:// or the path /v1/signaling. With
    /// `unsigned`, nothing is verified, and a server without encryption makes the link plain.
    #[arg(long, value_enum, value_name = "MODE", help_heading = HEADING_TARGET)]
    pub link: Option<ClientLinkMode>,

    /// Report loss upstream and downstream, from server counts
    ///
    /// An echo-server reports how many packets arrived and their source address. Any other STUN server reports only the address.
    #[arg(long, help_heading = HEADING_TARGET)]
    pub loss_direction: bool,

    #[command(flatten)]
    pub socket: SocketArgs,
}

impl UdpArgs {
    /// The options of the driver of sockets with this local address.
    pub(crate) fn driver_options(self, spin_percent: u8, local: LocalSocketOptions) -> DriverOptions {
        let follow_address = local.local_address.is_none_or(|address| address.ip().is_unspecified());
        DriverOptions::client(spin_percent, self.socket.driver(), follow_address)
    }

    /// Returns an error if --link needs a room.
    pub(crate) fn check_link(self, has_room: bool) -> Result<(), Failure> {
        let has_key = has_room || self.link != Some(ClientLinkMode::Signed);
        ensure_usage!(
            has_key,
            "--link signed needs the link key that a room announces; give --room NAME, or --link unsigned"
        );
        Ok(())
    }
}

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct DelayArgs {
    /// The server's AUDIO delay, in ms or with a unit [default of --embedded: 100]
    ///
    /// Sets the delay of the echo server of --embedded. With --moqt, this is the delay of MOQT frames, 0 by default. For any other server,
    /// gives its delay, which is subtracted from the round-trip time of AUDIO. An echo server of this program reports its delay.
    #[arg(long, hide_short_help = true, value_name = "MS", value_parser = parse_millis, help_heading = HEADING_TARGET)]
    pub delay: Option<Duration>,
}

impl DelayArgs {
    /// Returns an error if the server does not delay these packets.
    pub(crate) fn check(self, stream_kind: StreamKind) -> Result<(), Failure> {
        let is_used = self.delay.is_none() || stream_kind == StreamKind::Audio;
        ensure_usage!(is_used, "--delay applies to AUDIO; add --packet audio");
        Ok(())
    }
}

/// Options that name something else than a host as the other end, or that its room needs. clap does not require what another option excludes:
/// what requires --room is excluded with it.
pub(crate) const NOT_WITH_A_HOST: [&str; 7] =
    ["embedded", "room", "password_file", "device_key", "ca", "cert_sha256", "insecure"];

/// What else than a host the other end may be, a room member or the echo server in this process, and how long the client waits for it.
#[derive(clap::Args)]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    pub delay: DelayArgs,

    /// Use an echo server inside this process
    #[arg(long, conflicts_with_all = &NOT_WITH_A_HOST[1..], help_heading = HEADING_TARGET)]
    embedded: bool,

    #[command(flatten)]
    pub room: RoomArgs,

    #[command(flatten)]
    device: DeviceKeyArgs,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub timing: TimingArgs,
}

impl PeerArgs {
    /// The client of `host` if it is given, or else of what these options name. `impairment` is that of the embedded server.
    pub(crate) fn client<'a>(
        &'a self,
        host: Option<&'a Endpoint>,
        impairment: CheckedImpairment,
        udp: UdpArgs,
        (local, spin): (LocalSocketOptions, u8),
        matches: &ArgMatches,
    ) -> Result<UdpClient<'a>, Failure> {
        let peer = match (host, self.room.url(matches)?) {
            _ if self.embedded => UdpPeer::Embedded(Box::new(impairment)),
            (Some(host), _) => UdpPeer::Host(host),
            (None, Some(url)) => UdpPeer::Room(self.room.on(url, &self.trust, self.device.device_key.as_deref())),
            (None, None) => UdpPeer::Host(&LOCAL_ECHO_SERVER),
        };
        udp.check_link(matches!(peer, UdpPeer::Room(_)))?;
        Ok(UdpClient { peer, udp, timing: self.timing, delay: self.delay.delay, local, spin })
    }

    /// Returns an error if the server does not delay these packets.
    pub(crate) fn check_delay(&self, stream_kind: StreamKind) -> Result<(), Failure> {
        if self.embedded { Ok(()) } else { self.delay.check(stream_kind) }
    }

    /// Whether there are options that only a member of a room needs.
    pub(crate) fn has_member_options(&self, matches: &ArgMatches) -> bool {
        let (room, device) = (&self.room, &self.device);
        room.is_url_given(matches) || room.password_file.is_some() || device.device_key.is_some()
    }

    /// The name of the other end, for the report of a failure before it is known.
    pub(crate) fn name(&self, host: Option<String>) -> String {
        host.unwrap_or_else(|| match &self.room.room {
            Some(room) => run_origin::room_name(room).to_owned(),
            None if self.embedded => "embedded echo server".to_owned(),
            None => LOCAL_ECHO_SERVER.to_string(),
        })
    }
}

/// Default delay of the embedded echo server.
const EMBEDDED_DELAY: Duration = Duration::from_millis(100);

/// Pause between two attempts with `--wait-for`.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct ConnectedTarget {
    pub address: SocketAddr,
    /// Name in the report.
    pub name: String,
    /// The link to set up (`--link`).
    pub link: Option<LinkConfig>,
    /// How long the connection took, with the retries of `--wait-for`.
    pub waited: Duration,
    pub bound: BoundSocket,
    pub strays: Option<StraySocket>,
    pub embedded: Embedded,
    pub rooms: Rooms,
}

/// The echo server in this process, and its outcome log.
type Embedded = Option<(EchoServer, Option<OutcomeLogFile>)>;

/// The rooms of the client. If this is dropped, it leaves them all at the same time.
#[derive(Default)]
pub(crate) struct Rooms(pub(crate) Vec<RoomSession>);

/// A client over UDP: the other end, and how packets are sent to it.
pub(crate) struct UdpClient<'a> {
    pub peer: UdpPeer<'a>,
    pub udp: UdpArgs,
    pub timing: TimingArgs,
    /// The delay of the server, as the user gives it.
    pub delay: Option<Duration>,
    pub local: LocalSocketOptions,
    /// Maximum share of one core spent busy-waiting. A thread with the deadlines of several clients needs its processor for their packets.
    pub spin: u8,
}

/// The other end of a run over UDP.
pub(crate) enum UdpPeer<'a> {
    Host(&'a Endpoint),
    /// A member of a room.
    Room(Room<'a>),
    /// The echo server in this process.
    Embedded(Box<CheckedImpairment>),
}

impl UdpClient<'_> {
    /// The configuration of a run. `waited` is the part of --wait-for that passed while connecting to `peer`. If the delay of the server is
    /// unknown, the first echo is expected after the default delay.
    pub(crate) fn run_config(
        &self,
        (peer, waited): (SocketAddr, Duration),
        evaluated_stream: StreamKind,
        replies_expected: bool,
    ) -> RunConfig {
        let server_delay = self.delay.or(matches!(self.peer, UdpPeer::Embedded(_)).then_some(EMBEDDED_DELAY));
        let [high, low] = os::random_u64s().map(u128::from);
        RunConfig {
            server_delay: server_delay.filter(|_| evaluated_stream == StreamKind::Audio),
            first_echo_timeout: server_delay.unwrap_or(DEFAULT_DELAY),
            replies_expected,
            wait_for: self.timing.wait_for.map(|wait| wait.saturating_sub(waited)),
            loss_report_nonce: replies_expected.then_some(high << 64 | low),
            loss_direction: self.udp.loss_direction,
            ..RunConfig::new(peer, evaluated_stream, self.timing.timeout())
        }
    }

    /// Connects a socket to the other end.
    pub(crate) fn connect(&self, stop: &StopToken) -> Result<ConnectedTarget, Failure> {
        let (started, this_thread) = (Instant::now(), thread::current());
        stop.on_stop(move || this_thread.unpark());
        let attempt: Box<dyn Fn() -> Result<ConnectedTarget, Failure>> = match &self.peer {
            UdpPeer::Embedded(impairment) => Box::new(|| self.start_embedded_server(impairment)),
            UdpPeer::Room(room) => {
                let tls = tls_config(&room.url, room.trust)?;
                Box::new(move || self.connect_to_member(room, &tls, stop))
            }
            UdpPeer::Host(target) => Box::new(move || self.connect_to_host(target, started, stop)),
        };
        loop {
            let failure = match attempt() {
                Ok(target) => return Ok(ConnectedTarget { waited: started.elapsed(), ..target }),
                Err(failure) => failure,
            };
            let retries = self.may_retry(started) && is_transient(&failure);
            if retries && stop.signal().is_none() {
                thread::park_timeout(RETRY_INTERVAL);
            }
            let code = stop.signal().map_or(failure.code, StopSignal::exit_code);
            if code != failure.code {
                return Err(Failure { code, error: failure.error.context("interrupted while connecting") });
            }
            if !retries {
                return Err(failure);
            }
        }
    }

    /// Whether `--wait-for` permits another attempt to connect.
    fn may_retry(&self, started: Instant) -> bool {
        self.timing.wait_for.is_some_and(|wait| started.elapsed() + RETRY_INTERVAL < wait)
    }

    /// Connects a socket to `target`. It is an error if none of several addresses replies and --wait-for permits another attempt.
    fn connect_to_host(
        &self,
        target: &Endpoint,
        started: Instant,
        stop: &StopToken,
    ) -> Result<ConnectedTarget, Failure> {
        let found = resolve::resolve_until_stopped(&target.host, target.port, stop)?;
        let candidates = self.local.select(&target.host, found)?;
        let address = match candidates.as_slice() {
            [only] => *only,
            several => match resolve::first_reachable(several, &self.local, stop) {
                Ok(address) => address,
                Err(_) if self.may_retry(started) => {
                    return Err(ResolveError::NoReply(format!("no address of {target} replies")).into());
                }
                Err(_) => several[0],
            },
        };
        self.connect_socket(address, target.to_string(), None)
    }

    /// Connects a socket to `address`. `name` is the name in the report, `signing` the keys of a signed link.
    pub(crate) fn connect_socket(
        &self,
        address: SocketAddr,
        name: String,
        signing: Option<LinkSigning>,
    ) -> Result<ConnectedTarget, Failure> {
        let timeout = self.timing.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        let link = self.udp.link.map(|_| LinkConfig { entropy: os::random_secret(), signing, timeout });
        let bound = udp::connect(address, self.udp.socket.receive_buffer(), &self.local)?;
        // The system may connect to an address other than the requested one: it replaces 0.0.0.0 with 127.0.0.1.
        let address =
            bound.socket.peer_addr().context("cannot determine the address that the socket is connected to")?;
        let strays = StraySocket::beside(&bound.socket);
        let (waited, embedded, rooms) = (Duration::ZERO, None, Rooms::default());
        Ok(ConnectedTarget { address, name, link, waited, bound, strays, embedded, rooms })
    }

    /// Runs `client` until it finishes or `stop` is requested. `final_observer` receives the packets whose outcome is known only at the end
    /// of the run.
    pub(crate) fn run<S: Workload + Send + 'static>(
        &self,
        client: ClientNode<S>,
        target: ConnectedTarget,
        monitor: RunMonitor<'_>,
        final_observer: &mut dyn PacketObserver,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let running = udp::spawn_node("client", vec![target.bound.socket], client, stop.clone(), self.driver_options())
            .context("cannot start a thread")?;
        let mut finished = monitor.wait(running, stop);
        let embedded_error = stop_embedded(target.embedded);
        let result = std::mem::replace(&mut finished.tally.result, Ok(()));
        let error = result.context("cannot read from the socket").err().or(embedded_error);
        let mut finished = finished.into_run(&target.name, error, stop, final_observer);
        finished.add_strays(target.strays);
        if let Some(wait) = &mut finished.run.readiness_wait {
            wait.waited_ns += saturating_nanos(target.waited);
        }
        if let UdpPeer::Embedded(impairment) = &self.peer {
            finished.run.origin.seed = impairment.seed();
        }
        finished.close = Box::new(|| drop(target.rooms));
        Ok(finished)
    }

    pub(crate) fn driver_options(&self) -> DriverOptions {
        self.udp.driver_options(self.spin, self.local)
    }

    fn connect_to_member(
        &self,
        room: &Room<'_>,
        tls: &Arc<ClientConfig>,
        stop: &StopToken,
    ) -> Result<ConnectedTarget, Failure> {
        let own = LinkKey::from_seed(&os::random_secret());
        let link_key = self.udp.link.map(|_| own.public());
        let (session, address) =
            room.join(tls, &format!("jamjam-dev {}", run_origin::command()), link_key, &self.local, stop)?;
        let signing = match self.udp.link {
            Some(ClientLinkMode::Signed) => {
                let announced = session.link_keys.get(&address).and_then(|key| parse_link_key(key.as_deref()?));
                let server = announced.with_context(|| {
                    format!(
                        "the member of room `{}` announces no link key: start echo-server without --no-link-key and --link plain, and \
                         give --signaling-url http://HOST or ws://HOST/v1/signaling. Or give --link unsigned",
                        session.room_name
                    )
                })?;
                Some(LinkSigning { own, server })
            }
            _ => None,
        };
        let mut target = self.connect_socket(address, format!("{} ({address})", session.room_name), signing)?;
        // Advertise the local address of this socket to the other members of the room.
        if let Ok(local) = target.bound.socket.local_addr() {
            session.advertise(local);
        }
        // Other members may send to this port, too.
        target.strays = None;
        target.rooms.0.push(session);
        Ok(target)
    }

    fn start_embedded_server(&self, impairment: &CheckedImpairment) -> Result<ConnectedTarget, Failure> {
        let delay = self.delay.unwrap_or(EMBEDDED_DELAY);
        let config = EchoConfig { delay, ..EchoConfig::default() };
        let (used, reproduce_options, outcome_log) = impairment.open()?;
        let echo = echo::EchoServer::new(config).with_impairment(used);
        let loopback = match self.local.local_address {
            Some(SocketAddr::V6(_)) => IpAddr::from(Ipv6Addr::LOCALHOST),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        let server = EchoServer::start_on(loopback, echo, self.spin, self.udp.socket.driver())
            .context("cannot start the embedded echo server")?;
        let suffix = reproduce_options.map_or_else(String::new, |options| format!(", {options}"));
        let name = format!("embedded echo server ({} ms{suffix})", delay.as_secs_f64() * 1e3);
        let mut target = self.connect_socket(server.addr(), name, None)?;
        target.embedded = Some((server, outcome_log));
        Ok(target)
    }
}

/// Whether a later attempt to connect may succeed, because a name, a route, the server or its room is missing.
fn is_transient(failure: &Failure) -> bool {
    let error = &failure.error;
    let room = error.downcast_ref().is_some_and(|error| match error {
        RoomSessionError::Room(error) => matches!(error, RoomError::Missing(_)),
        error => matches!(error, RoomSessionError::Connect(error) if error.is_transient()),
    });
    let is_missing = error.downcast_ref().is_some_and(|error| !matches!(error, ResolveError::Zone(_)));
    room || is_missing || matches!(error.downcast_ref(), Some(BindError::Other(..)))
}

impl FinishedRun {
    /// Adds the datagrams that other addresses than the peer have sent.
    pub(crate) fn add_strays(&mut self, strays: Option<StraySocket>) {
        if let Some((count, source)) = strays.map(StraySocket::received) {
            self.run.stray += count;
            self.run.stray_source = source;
        }
    }
}

/// Ends the embedded echo server. Returns the first error.
pub(crate) fn stop_embedded(embedded: Embedded) -> Option<anyhow::Error> {
    let (server, outcome_log) = embedded?;
    let stopped = server.stop();
    let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
    stopped.context("the embedded echo server failed").and(outcome_log).err()
}

impl Drop for Rooms {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(RoomSession::start_leaving);
        if let Some(error) = self.0.iter_mut().filter_map(RoomSession::leave_room).last() {
            let text = "the connection to the signaling server was lost; the run continued without it";
            print_notice(&format!("{text}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::impairment::ImpairmentArgs;

    fn client(peer: UdpPeer<'_>, delay: Option<Duration>) -> UdpClient<'_> {
        let (udp, timing, local) = <_>::default();
        UdpClient { peer, udp, timing, delay, local, spin: 0 }
    }

    #[test]
    fn first_echo_is_expected_after_the_known_server_delay() {
        let (host, impairment) = (Endpoint { host: "127.0.0.1".to_owned(), port: 5_000 }, ImpairmentArgs::default());
        let first_echo = |peer, delay: Option<u64>| {
            let peer_address = (SocketAddr::from(([127, 0, 0, 1], 5_000)), Duration::ZERO);
            let config =
                client(peer, delay.map(Duration::from_millis)).run_config(peer_address, StreamKind::Audio, true);
            config.first_echo_timeout.as_millis()
        };
        let embedded = || UdpPeer::Embedded(Box::new(impairment.checked().expect("no impairment")));
        assert_eq!(first_echo(UdpPeer::Host(&host), None), 3_000);
        assert_eq!(first_echo(UdpPeer::Host(&host), Some(40)), 40);
        assert_eq!((first_echo(embedded(), None), first_echo(embedded(), Some(10_000))), (100, 10_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn target_0_0_0_0_is_connected_as_127_0_0_1() {
        let target = Endpoint { host: "0.0.0.0".to_owned(), port: 5_000 };
        let Ok(connected) = client(UdpPeer::Host(&target), None).connect(&StopToken::default()) else {
            panic!("a socket to this machine")
        };
        assert_eq!(connected.address, SocketAddr::from(([127, 0, 0, 1], 5_000)));
    }
}
