//! How an echo server makes itself known: a room on a signaling server, perhaps one of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{io, thread};

use anyhow::Context;
use rustls::ClientConfig;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Failure;
use super::room_limits;
use super::target::{HostPort, TargetError};
use super::trust::TrustArgs;
use crate::echo::{Asking, Echo};
use crate::io::rooms::{self, Options};
use crate::io::signaling::{Own, Registration, SignalingUrl, outward_address};
use crate::io::stop::Stop;
use crate::io::{entropy, process, resolve};
use crate::rooms::client::bot::{Bot, Reach};
use crate::rooms::{Dialects, Hub, Limits};

const HEADING_SIGNALING: &str = "Signaling";

/// The port of STUN unless told otherwise (RFC 8489, section 18.6).
const STUN_PORT: u16 = 3_478;

/// How long a signaling server of our own has to say goodbye to its clients.
const FAREWELL: Duration = Duration::from_millis(500);

/// Options that make an echo server known.
#[derive(Debug, clap::Args)]
pub struct AnnounceArgs {
    /// Make a room on this signaling server, in which clients find this server: ws:// or wss://
    #[arg(long, env = "SIGNALING_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING_SIGNALING)]
    signaling_url: Option<String>,

    /// Run a signaling server in this process too, and make a room there; it listens on --host and this TCP port, 8080 if none
    /// is given. Write --with-signaling=PORT. Its own options are those of the subcommand signaling-server
    #[arg(long, value_name = "PORT", value_parser = super::signaling_server::port, num_args = 0..=1, require_equals = true, default_missing_value = "8080", help_heading = HEADING_SIGNALING)]
    with_signaling: Option<u16>,

    /// What the room is called, between "[BOT]" and the delay
    #[arg(long, value_name = "NAME", default_value = "Echo Server", help_heading = HEADING_SIGNALING)]
    room_name: String,

    /// Address or host name at which clients reach this server, and a port if it is another there (HOST:PORT)
    #[arg(long, value_name = "ADDR", value_parser = reachable, help_heading = HEADING_SIGNALING)]
    public_addr: Option<HostPort>,

    /// Ask this STUN server how the world sees this server, every 25 s from the same UDP port
    #[arg(long, value_name = "HOST[:PORT]", value_parser = reachable, conflicts_with = "public_addr", help_heading = HEADING_SIGNALING)]
    stun: Option<HostPort>,

    #[command(flatten)]
    trust: TrustArgs,
}

impl AnnounceArgs {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), Failure> {
        let url = self.url()?;
        if url.is_some() && self.with_signaling.is_some() {
            return Err(Failure::usage(
                "--with-signaling runs a signaling server here, --signaling-url (or SIGNALING_URL) names another: leave out \
                 one of them",
            ));
        }
        if url.is_none() && self.with_signaling.is_none() {
            if let Some(option) = self.trust.given() {
                return Err(Failure::usage(format!(
                    "{option}: nobody asks a signaling server here; give --signaling-url URL too, or leave it out"
                )));
            }
            let given = [("--public-addr", self.public_addr.is_some()), ("--stun", self.stun.is_some())];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
                return Err(Failure::usage(format!(
                    "{option} is told to clients by a signaling server: give --signaling-url URL or --with-signaling too"
                )));
            }
        }
        Ok(())
    }

    /// What makes it known, if anything does.
    pub fn given(&self) -> Option<&'static str> {
        let url = self.signaling_url.as_deref().is_some_and(|text| !text.is_empty());
        let own = self.with_signaling.map(|_| "--with-signaling");
        own.or(url.then_some("--signaling-url (or SIGNALING_URL)"))
    }

    /// The signaling server, if there is one: nothing at all is what a compose file makes of a variable it does not know. Not by
    /// clap, which would repeat a password in it.
    fn url(&self) -> Result<Option<SignalingUrl>, Failure> {
        let text = self.signaling_url.as_deref().filter(|text| !text.is_empty());
        let url = text.map(str::parse).transpose();
        url.map_err(|error| Failure::usage(format!("--signaling-url (or SIGNALING_URL): {error}")))
    }

    /// Makes ready all that can fail, for an echo server that listens on `listening`, its `--host`.
    pub fn prepare(&self, host: &str, listening: SocketAddr) -> Result<Option<Announcement>, Failure> {
        let (url, server) = match (self.url()?, self.with_signaling) {
            (Some(url), _) => (url, None),
            (None, Some(port)) => {
                process::raise_descriptor_limit();
                let (listener, address) = super::signaling_server::bind(host, port)?;
                (own_url(address)?, Some(listener))
            }
            (None, None) => return Ok(None),
        };
        let stun = self.stun.as_ref().map(|server| stun_server(server, listening)).transpose()?;
        let public = self.public_addr.clone().map(|HostPort { host, port }| (host, port));
        let own = Own { listening, public };
        let tls = self.trust.config()?;
        if self.trust.is_insecure() && url.is_secure() {
            warn!("--insecure: whoever is on the way to {url} can read and change what is said");
        }
        Ok(Some(Announcement { url, tls, own, stun, server, room_name: self.room_name.clone() }))
    }
}

/// All that it takes, ready.
pub struct Announcement {
    url: SignalingUrl,
    tls: Arc<ClientConfig>,
    own: Own,
    stun: Option<SocketAddr>,
    server: Option<TcpListener>,
    room_name: String,
}

/// What goes on beside the echo server.
pub struct Announced {
    server_ended: Option<Receiver<()>>,
}

impl Announcement {
    /// Starts the signaling server if it is one of our own, and registers the echo server for as long as the process lasts.
    pub fn start(self, echo: &mut Echo, delay: Duration, stop: &Stop) -> io::Result<Announced> {
        // A laptop gets another address in another network.
        let own = self.server.as_ref().and_then(|server| server.local_addr().ok());
        let server_ended = self.server.map(|listener| serve(listener, stop.clone())).transpose()?;
        let reflexive = self.stun.map(|server| {
            let (seen, reflexive) = watch::channel(None);
            let asking = Asking { server, key: entropy::words() };
            echo.ask_stun(
                asking,
                Box::new(move |address| {
                    seen.send_replace(Some(address));
                }),
            );
            reflexive
        });
        let bot = Bot::new(&self.room_name, delay, Reach::default());
        let url =
            Box::new(move || own.and_then(|listening| own_url(listening).ok()).unwrap_or_else(|| self.url.clone()));
        Registration { url, tls: self.tls, bot, own: self.own, reflexive }.spawn(stop)?;
        Ok(Announced { server_ended })
    }
}

impl Announced {
    /// Gives a signaling server of our own a moment to say goodbye.
    pub fn end(self) {
        if let Some(ended) = self.server_ended {
            let _ = ended.recv_timeout(FAREWELL);
        }
    }
}

/// Runs a signaling server on a thread of its own. The receiver ends with it.
fn serve(listener: TcpListener, stop: Stop) -> io::Result<Receiver<()>> {
    info!("Signaling server listening on ws://{}", listener.local_addr()?);
    let (ending, ended) = channel::<()>();
    thread::Builder::new().name("signaling".to_owned()).spawn(move || {
        let limits = Limits { dialects: Dialects::JAMJAM, ..Limits::default() };
        let hub = Hub::new(limits, entropy::words());
        let options = Options { bounds: room_limits::default_bounds(), ..Options::default() };
        if let Err(error) = rooms::serve(listener, hub, options, &stop) {
            warn!("The signaling server cannot start its threads: {error}");
        }
        drop(ending);
    })?;
    Ok(ended)
}

/// How the echo server gets to a signaling server in its own process: as others do, so that it learns the address that they use.
fn own_url(listening: SocketAddr) -> Result<SignalingUrl, Failure> {
    let ip = if listening.ip().is_unspecified() {
        outward_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else {
        listening.ip()
    };
    let url = format!("ws://{}", SocketAddr::new(ip, listening.port()));
    url.parse().with_context(|| format!("cannot connect to {url}")).map_err(Failure::unusable)
}

/// The STUN server's address, as the socket that listens on `listening` can send to it.
fn stun_server(HostPort { host, port }: &HostPort, listening: SocketAddr) -> Result<SocketAddr, Failure> {
    let found = resolve::resolve(host, port.unwrap_or(STUN_PORT)).context("--stun").map_err(Failure::unusable)?;
    let for_socket = found.iter().find_map(|address| match (listening.ip(), address.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(*address),
        // A socket of IPv6 that takes IPv4 too.
        (IpAddr::V6(ip), IpAddr::V4(v4)) if ip.is_unspecified() => {
            Some(SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()))
        }
        _ => None,
    });
    for_socket.ok_or_else(|| {
        Failure::unusable(anyhow::anyhow!("--stun {host}: it has no address that can be asked from {listening}"))
    })
}

/// An address that somebody can reach, as far as one can tell by looking at it.
fn reachable(text: &str) -> Result<HostPort, String> {
    let place: HostPort = text.parse().map_err(|error: TargetError| error.to_string())?;
    let ip = place.host.parse::<IpAddr>().ok();
    match ip.filter(|ip| ip.is_unspecified() || ip.is_multicast()) {
        Some(ip) => Err(format!("nobody can be reached at {ip}; give the address that others use")),
        None => Ok(place),
    }
}
