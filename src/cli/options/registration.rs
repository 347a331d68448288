//! Registration of an echo server, which creates a room on a signaling server. The signaling server may run in the same process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::parser::ValueSource;
use clap::{ArgGroup, ArgMatches};
use rustls::ClientConfig;
use tokio::sync::watch;
use tracing::{info, warn};

use super::credentials::{Operator, TrustArgs};
use super::signaling_limits;
use crate::address::{HostPort, ParseHostError, url_authority, without_zone};
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::server::{bind_tcp, log_signaling_urls};
use crate::cli::values::parse_port;
use crate::echo::{EchoServer, StunConfig};
use crate::io::connection_permit::ConnectionLimits;
use crate::io::moqt::MoqtUrl;
use crate::io::os;
use crate::io::reachable::default_route_address;
use crate::io::signaling::discovery::parse_signaling_url;
use crate::io::signaling::registration::{AdvertisedAddress, Registration, StunResolver, usable_stun_server};
use crate::io::signaling::{self, ServerThread, SignalingServerConfig};
use crate::io::stop::StopToken;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::memory_budget::MemoryBudget;
use crate::signaling::client::{EchoParticipant, RegisteredRoom};
use crate::signaling::device::DeviceKey;
use crate::signaling::{Dialect, Hub, SignalingLimits};

const HEADING_SIGNALING: &str = "Signaling";

/// Default STUN port (RFC 8489, section 18.6).
const STUN_PORT: u16 = 3_478;

/// Maximum time to wait until the signaling server in this process has closed its connections.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Group of the options that enable the registration.
const REGISTRATION_GROUP: &str = "registration";

/// Options that have no effect without a registration.
const DEPENDENT_OPTIONS: [&str; 7] =
    ["room_name", "public_addr", "stun", "no_link_key", "ca", "cert_sha256", "insecure"];

#[derive(clap::Args)]
#[command(group(ArgGroup::new(REGISTRATION_GROUP).args(["signaling_url", "with_signaling"]).multiple(true)))]
#[command(mut_args(|arg| if DEPENDENT_OPTIONS.contains(&arg.get_id().as_str()) { arg.requires(REGISTRATION_GROUP) } else { arg }))]
pub(crate) struct RegistrationArgs {
    /// Register as a room on this signaling server
    ///
    /// The URL begins with ws, wss, http or https. Clients find the echo server in the room.
    #[arg(long, env = "SIGNALING_URL", hide_env_values = true, value_name = "URL", value_parser = parse_signaling_url, help_heading = HEADING_SIGNALING)]
    signaling_url: Option<WebSocketUrl>,

    /// Run a signaling server here, and register there
    ///
    /// The signaling server listens on --host and TCP port 8080. For another port, give --with-signaling PORT. The signaling server
    /// supports the jamjam dialect only, with default limits. For other settings, run the subcommand signaling-server instead.
    #[arg(long, value_name = "PORT", value_parser = parse_port, num_args = 0..=1, help_heading = HEADING_SIGNALING)]
    #[expect(clippy::option_option, reason = "the value of the option is optional")]
    with_signaling: Option<Option<u16>>,

    /// Room name; clients see "[BOT] NAME (3000ms delay)"
    #[arg(long, hide_short_help = true, value_name = "NAME", default_value = "Echo Server", help_heading = HEADING_SIGNALING)]
    room_name: String,

    /// Address or host name at which clients reach this echo server
    ///
    /// Add the port (HOST:PORT) if it differs from the listen port.
    #[arg(long, hide_short_help = true, value_name = "ADDR", value_parser = parse_public_address, help_heading = HEADING_SIGNALING)]
    public_addr: Option<HostPort>,

    /// STUN server that reports the public address of this echo server
    ///
    /// The echo server sends a Binding request to the STUN server every 25 s. The request is sent from the UDP port of the echo server.
    #[arg(long, hide_short_help = true, value_name = "HOST[:PORT]", value_parser = parse_public_address, conflicts_with = "public_addr", help_heading = HEADING_SIGNALING)]
    stun: Option<HostPort>,

    /// Announce no key for encrypted links
    ///
    /// Clients then encrypt without checking which server answers. Some early versions of the newer client cannot check it.
    #[arg(long, hide_short_help = true, help_heading = HEADING_SIGNALING)]
    no_link_key: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

impl RegistrationArgs {
    /// Rejects two signaling servers. That of the environment gives way to one in this process.
    pub(crate) fn check_usage(&self, matches: &ArgMatches) -> Result<(), Failure> {
        let has_url = matches.value_source("signaling_url") == Some(ValueSource::CommandLine);
        ensure_usage!(!has_url || self.with_signaling.is_none(), "give --with-signaling or --signaling-url, not both");
        Ok(())
    }

    /// Resolves addresses, binds sockets and loads certificates for an echo server that listens on `listen_address`. `default_port` is that of
    /// `--with-signaling` without a port.
    pub(crate) fn prepare(
        &self,
        host: &str,
        default_port: u16,
        listen_address: SocketAddr,
    ) -> Result<Option<PreparedRegistration<'_>>, Failure> {
        let (url, server) = match self.with_signaling {
            None => match &self.signaling_url {
                Some(url) => (url.clone(), None),
                None => return Ok(None),
            },
            Some(port) => {
                let (listener, address) = bind_tcp(host, port.unwrap_or(default_port))
                    .map_err(|failure| Failure { error: failure.error.context("--with-signaling"), ..failure })?;
                (local_signaling_url(address)?, Some((listener, address)))
            }
        };
        if let Some(ip) = self.stun.as_ref().and_then(|server| server.host.parse().ok()) {
            usable_stun_server([SocketAddr::new(ip, 0)], listen_address)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("cannot use --stun {ip}"))?;
        }
        let public_address = self.public_addr.clone().map(|HostPort { host, port }| (host, port));
        let own = AdvertisedAddress { listen_address, public_address };
        let tls = self.trust.trust_policy().client_config()?;
        if self.trust.insecure && url.may_use_tls() {
            warn!(target: "tls", %url, "certificate verification disabled");
        }
        if url.sends_plain_login() {
            warn!(target: "registration", %url, "the password is sent without TLS");
        }
        let own_server = server.as_ref().map(|(_, address)| *address);
        Ok(Some(PreparedRegistration { options: self, url, tls, own, own_server, server }))
    }
}

/// A registration that is ready to start.
pub(crate) struct PreparedRegistration<'a> {
    options: &'a RegistrationArgs,
    pub url: WebSocketUrl,
    tls: Arc<ClientConfig>,
    own: AdvertisedAddress,
    /// The address of the signaling server in this process, if it is enabled, and its listener until it is started.
    own_server: Option<SocketAddr>,
    server: Option<(TcpListener, SocketAddr)>,
}

impl PreparedRegistration<'_> {
    /// Starts the signaling server in this process on its own thread, if it is enabled. Its start page shows `moqt_url`, the URL of the MOQT
    /// echo with its listen host. If it `is_strict`, it rejects what it would otherwise ignore.
    pub(crate) fn start_server(
        &mut self,
        memory_budget: Arc<MemoryBudget>,
        moqt_url: Option<MoqtUrl>,
        is_strict: bool,
        operator: &Operator,
        stop: &StopToken,
    ) -> anyhow::Result<Option<ServerThread>> {
        let Some((listener, address)) = self.server.take() else { return Ok(None) };
        let dialects = vec![Dialect::Jamjam];
        info!(target: "signaling", "server listening on ws://{}", url_authority(&address));
        let pages = log_signaling_urls(address, None, &dialects);
        let login = Arc::new(operator.login(&format!("{pages}/console")));
        let hub = Hub::new(SignalingLimits { dialects, is_strict, ..SignalingLimits::default() }, os::random_u64s());
        let connection_limits = ConnectionLimits { memory_budget, ..signaling_limits::default_connection_limits() };
        let options = SignalingServerConfig { connection_limits, login, moqt_url, ..SignalingServerConfig::default() };
        signaling::spawn(listener, hub, options, stop).map(Some).context("cannot start a thread")
    }

    /// Registers the echo server until the process ends. The room announces `link_key`, unless this is disabled. The receiver yields the room
    /// once it exists and the echo server's address has been published there.
    pub(crate) fn start(
        self,
        echo: &mut EchoServer,
        delay: Duration,
        link_key: Option<[u8; 32]>,
        stop: &StopToken,
    ) -> anyhow::Result<Receiver<RegisteredRoom>> {
        let (sender, mapped_address) = watch::channel(None);
        let mut stun = None;
        if let Some(HostPort { host, port }) = self.options.stun.clone() {
            let (address, current) = watch::channel(None);
            let listen_address = self.own.listen_address;
            stun = Some(StunResolver { server: (host, port.unwrap_or(STUN_PORT)), listen_address, address });
            let server = Box::new(move || *current.borrow());
            let config = StunConfig { server, hash_key: os::random_u64s() };
            echo.monitor_mapped_address(
                config,
                Box::new(move |address| {
                    sender.send_replace(Some(address));
                }),
            );
        } else {
            // Without a sender, the registration does not wait for an address.
            drop(sender);
        }
        let link_key = link_key.filter(|_| !self.options.no_link_key).map(|key| STANDARD.encode(key));
        let participant = EchoParticipant::new(&self.options.room_name, delay, link_key);
        // Determined again before each attempt to connect, because the URL of a signaling server in this process contains this machine's address,
        // which changes when the machine changes networks.
        let url = Box::new(move || {
            let own_server = self.own_server.and_then(|address| local_signaling_url(address).ok());
            own_server.unwrap_or_else(|| self.url.clone())
        });
        let device = DeviceKey::from_seed(&os::random_secret());
        let (tls, address) = (self.tls, self.own);
        let (first_room, room) = sync_channel(1);
        let first_room = Some(first_room);
        let registration = Registration { url, tls, device, participant, address, stun, mapped_address, first_room };
        registration.spawn(stop).context("cannot start a thread")?;
        Ok(room)
    }
}

/// URL at which the echo server connects to the signaling server in this process. An echo server that listens on all addresses advertises the
/// local address of this connection, and clients on other hosts cannot reach a loopback address. If the signaling server listens on all
/// addresses, the URL therefore contains the source address of the default route, if there is one.
fn local_signaling_url(address: SocketAddr) -> anyhow::Result<WebSocketUrl> {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(default_route_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    let url = format!("ws://{}", url_authority(&address));
    url.parse().with_context(|| format!("cannot use {url} as the signaling server"))
}

/// Parses an address that other hosts can reach. Rejects unspecified and multicast addresses.
fn parse_public_address(text: &str) -> Result<HostPort, String> {
    let address: HostPort = text.parse().map_err(|error: ParseHostError| match text.split_once("stun:") {
        Some(("", host)) => format!("give a host instead of a URL: {host}"),
        _ => error.to_string(),
    })?;
    // Another host does not know the zone of a link-local address.
    let ip = without_zone(&address.host).parse::<IpAddr>().ok();
    let is_link_local = address.host.contains('%');
    match ip.filter(|ip| is_link_local || ip.is_unspecified() || ip.is_multicast()) {
        Some(ip) => Err(format!("{ip} is not a reachable address; give the address of a single host")),
        None => Ok(address),
    }
}
