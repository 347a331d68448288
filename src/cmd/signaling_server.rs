//! `jamjam-dev signaling-server`: rooms in which clients find each other.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::{info, warn};

use super::Failure;
use super::args::{Colour, LogFormat, Spaced, written_file};
use super::bbx_options::BbxOptions;
use super::broadcast_rooms::BroadcastRooms;
use super::dialect::Dialect;
use super::docs_login::DocsLogin;
use super::environment::Origin;
use super::heartbeats::Heartbeats;
use super::listening::{self, AddressFile};
use super::room_limits::RoomLimits;
use super::tls::TlsArgs;
use crate::io::rooms::{self, Options, STOP_PATIENCE};
use crate::io::stop::Stop;
use crate::io::tls::identity::AUTHORITY;
use crate::io::tls::server::Handshakes;
use crate::io::udp::BindError;
use crate::io::{entropy, http, process};
use crate::rooms::{Dialects, Hub, Limits};

const DEFAULT_PORT: u16 = 8_080;
const DEFAULT_HOST: &str = "0.0.0.0";

const HEADING_LOG: &str = "Log";

/// Keep rooms in which jamjam and WebRTC clients find each other and control surfaces a program, over WebSocket
#[derive(Debug, clap::Args)]
pub struct Args {
    // The first: reading an option takes it out of what this looks at.
    #[command(flatten)]
    origin: Origin,

    /// TCP port to listen on; 0 takes any free one. PORT_ENV counts where PORT is not set
    #[arg(short, long, env = "PORT", value_parser = port, default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Address or host name to listen on; :: takes IPv4 clients too
    #[arg(long, env = "HOST", value_parser = host, default_value = DEFAULT_HOST)]
    host: String,

    /// Speak these alone; without it, all. One alone is spoken on every path. Comma-separated or repeated
    #[arg(long, env = "DIALECTS", value_name = "NAME", value_parser = Spaced::<Dialect>::default(), value_delimiter = ',')]
    dialect: Vec<Dialect>,

    /// Write the address listened on to this file, once it is
    #[arg(long, value_name = "FILE", value_parser = written_file())]
    address_file: Option<PathBuf>,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    limits: RoomLimits,

    // Before the heartbeats, of which it looks whether they were given.
    #[command(flatten)]
    bbx: BbxOptions,

    #[command(flatten)]
    heartbeats: Heartbeats,

    #[command(flatten)]
    broadcast: BroadcastRooms,

    #[command(flatten)]
    login: DocsLogin,

    /// Log every message and why others are ignored (level debug; wins over RUST_LOG)
    #[arg(short, long, help_heading = HEADING_LOG)]
    verbose: bool,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, help_heading = HEADING_LOG)]
    log_format: LogFormat,
}

impl Args {
    /// Serves until `stop` is requested.
    pub fn run(self, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        if let Some(token) = self.broadcast.token()? {
            println!("{token}");
            return Ok(0);
        }
        // Kept to the end: it writes the last lines when it is dropped.
        let _log = listening::start_log(self.verbose, self.log_format, colour)?;
        process::name("signaling-server");
        process::raise_descriptor_limit();
        let address_file = AddressFile::clear(self.address_file.as_deref())?;
        let handlers = self.broadcast.handlers()?;
        let identity = self.tls.identity()?;
        let (limits, broadcast) =
            (self.broadcast.within(&self.heartbeats.within(&self.limits.limits()))?, self.broadcast.http()?);
        let password = self.login.password()?;
        let (listener, address) = bind(&self.host, self.port)?;
        let tls = identity.as_ref().map(|identity| Arc::new(Handshakes::new(identity)));
        let dialects = self.dialects();
        let options = Options { tls, broadcast, ..self.limits.options() };
        let options = Options { queue: self.bbx.bounds(options.queue), ..options };
        let limits = self.bbx.within(&limits);
        let mut hub = Hub::new(Limits { dialects, ..limits }, entropy::words()).with_handlers(handlers);
        self.bbx.open_rooms(&mut hub, dialects.bbx)?;
        // From here on the server ends by itself, and well.
        stop.on_request(|| ());
        stop.allow(STOP_PATIENCE + Duration::from_secs(1));
        address_file.write(address)?;
        let scheme = if identity.is_some() { "wss" } else { "ws" };
        info!("Signaling server listening on {scheme}://{address}{}", self.origin.bracket());
        if let Some(identity) = identity {
            info!("The certificate is valid until {}", identity.valid_until());
            if identity.is_authority() {
                warn!("{}", AUTHORITY);
            }
        }
        if dialects.broadcast {
            self.broadcast.warn()?;
        }
        let options = Options { login: Arc::new(self.login.at(address, password)), ..options };
        rooms::serve(listener, hub, options, stop).context("cannot start threads").map_err(Failure::unusable)?;
        info!("Signaling server has ended");
        Ok(0)
    }

    /// What is spoken.
    fn dialects(&self) -> Dialects {
        if self.dialect.is_empty() {
            return Dialects::default();
        }
        let speaks = |dialect| self.dialect.contains(&dialect);
        Dialects {
            broadcast: speaks(Dialect::Broadcast),
            jamjam: speaks(Dialect::Jamjam),
            bbx: speaks(Dialect::Bbx),
            webrtc: speaks(Dialect::Webrtc),
        }
    }
}

/// Listens on the first of the host's addresses that can be listened on.
pub(super) fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), Failure> {
    let mut first = None;
    for address in listening::addresses(host, port)? {
        match http::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => return Ok((listener, address)),
            Err(error) => {
                first.get_or_insert_with(|| why_not(address, error));
            }
        }
    }
    // A host that was resolved has at least one address, so there is a first error.
    Err(Failure::unusable(first.unwrap_or_else(|| anyhow::anyhow!("no address"))))
}

/// The sentence for an address that cannot be listened on.
fn why_not(address: SocketAddr, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address).into(),
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal(address).into(),
        io::ErrorKind::PermissionDenied => BindError::NotPermitted(address).into(),
        _ => anyhow::Error::from(error).context(format!("cannot listen on {address}")),
    }
}

/// A port. Nothing at all, as a compose file makes of a variable it does not know, is the default.
pub(super) fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse().map_err(|_| "give a port from 0 to 65535".to_owned())
}

/// A host; nothing at all is the default.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
fn host(text: &str) -> Result<String, String> {
    Ok(if text.is_empty() { DEFAULT_HOST } else { text }.to_owned())
}
