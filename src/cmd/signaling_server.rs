//! `jamjam-dev signaling-server`: rooms in which jamjam clients find each other.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tracing::info;

use super::Failure;
use super::args::{Colour, LogFormat, OrOff};
use super::listening::{self, AddressFile};
use super::tls::TlsArgs;
use crate::io::rooms::{self, Options, STOP_PATIENCE};
use crate::io::stop::Stop;
use crate::io::tls::server::Handshakes;
use crate::io::udp::BindError;
use crate::io::{entropy, http, process};
use crate::rooms::{Hub, Limits};

const DEFAULT_PORT: u16 = 8_080;
const DEFAULT_HOST: &str = "0.0.0.0";

/// Connections unless told otherwise: of all, and of one address.
const MOST: usize = 10_000;
const MOST_PER_ADDRESS: usize = 256;

const HEADING_LIMITS: &str = "Limits";
const HEADING_LOG: &str = "Log";

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dialect {
    /// The jamjam app's own, on any path
    Jamjam,
}

/// Keep rooms in which jamjam clients find each other, over WebSocket
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TCP port to listen on; 0 takes any free one
    #[arg(short, long, env = "PORT", value_parser = port, default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Address or host name to listen on; :: takes IPv4 clients too
    #[arg(long, env = "HOST", value_parser = host, default_value = DEFAULT_HOST)]
    host: String,

    /// Speak this alone, on every path; without it, jamjam on / and /ws
    #[arg(long, value_name = "NAME", value_enum)]
    dialect: Option<Dialect>,

    /// Write the address listened on to this file, once it is
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Most connections at a time, or off; more wait until one ends
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N", value_parser = most, default_value_t = OrOff(Some(MOST)), help_heading = HEADING_LIMITS)]
    max_connections: OrOff<usize>,

    /// Most connections of one address, or off; more are closed. This machine's own are not counted
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = most, default_value_t = OrOff(Some(MOST_PER_ADDRESS)), help_heading = HEADING_LIMITS)]
    max_connections_per_address: OrOff<usize>,

    /// Most messages a second of one connection, as N/s, or off; twice as many at once. Who says more is closed
    #[arg(long, env = "RATE_LIMIT_MESSAGES", value_name = "RATE", value_parser = rate, default_value_t = OrOff(Limits::default().rate.map(PerSecond)), help_heading = HEADING_LIMITS)]
    rate_limit_messages: OrOff<PerSecond>,

    /// Log every message and why others are ignored (level debug; wins over RUST_LOG)
    #[arg(short, long, help_heading = HEADING_LOG)]
    verbose: bool,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, help_heading = HEADING_LOG)]
    log_format: LogFormat,
}

/// So many a second.
#[derive(Clone, Copy, Debug)]
struct PerSecond(u32);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl Args {
    /// Serves until `stop` is requested.
    pub fn run(self, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        // Kept to the end: it writes the last lines when it is dropped.
        let _log = listening::start_log(self.verbose, self.log_format, colour)?;
        process::name("signaling-server");
        process::raise_descriptor_limit();
        let address_file = AddressFile::clear(self.address_file.as_deref())?;
        let identity = self.tls.identity()?;
        let (listener, address) = bind(&self.host, self.port)?;
        let bounds = http::Bounds {
            connections: self.max_connections.0,
            per_address: self.max_connections_per_address.0,
            ..http::Bounds::default()
        };
        let limits = Limits { rate: self.rate_limit_messages.0.map(|PerSecond(rate)| rate), ..Limits::default() };
        let tls = identity.as_ref().map(|identity| Arc::new(Handshakes::new(identity)));
        let options = Options { bounds, any_path: self.dialect.is_some(), tls };
        // From here on the server ends by itself, and well.
        stop.on_request(|| ());
        stop.allow(STOP_PATIENCE + Duration::from_secs(1));
        address_file.write(address)?;
        let scheme = if identity.is_some() { "wss" } else { "ws" };
        info!("Signaling server listening on {scheme}://{address}");
        if let Some(identity) = identity {
            info!("The certificate is valid until {}", identity.valid_until());
        }
        rooms::serve(listener, Hub::new(limits, entropy::words()), options, stop)
            .context("cannot start threads")
            .map_err(Failure::unusable)?;
        info!("Signaling server has ended");
        Ok(0)
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
fn port(text: &str) -> Result<u16, String> {
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

/// A whole number that is not 0, or `off`.
fn most(text: &str) -> Result<OrOff<usize>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(|number| OrOff(Some(number))).ok_or_else(|| "give a whole number above 0, or off".to_owned())
}

/// Messages a second, or `off`.
fn rate(text: &str) -> Result<OrOff<PerSecond>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let number = text.strip_suffix("/s").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.map(|number| OrOff(Some(PerSecond(number)))).ok_or_else(|| "give a rate such as 1000/s, or off".to_owned())
}
