//! Options of `signaling-server` that keep one client from hurting the rest.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::args::{Millis, OrOff, Size};
use super::web_origin;
use crate::io::http::Bounds;
use crate::io::rooms::{Options, QueueBounds};
use crate::rooms::Limits;
use crate::units::{self, UnitError};

const HEADING: &str = "Limits";

/// Connections unless told otherwise: of all, and of one address.
const MOST: usize = 10_000;
const MOST_PER_ADDRESS: usize = 256;

/// From the beginning of a connection to the end of its first request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What connections may take.
#[derive(Debug, clap::Args)]
pub struct RoomLimits {
    /// Most connections at a time, or off; more wait until one ends
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N", value_parser = or_off, default_value_t = OrOff(Some(MOST)), help_heading = HEADING)]
    max_connections: OrOff<usize>,

    /// Most connections of one address, IPv6: of one /64, or off; more are closed. This machine's own are not counted
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = or_off, default_value_t = OrOff(Some(MOST_PER_ADDRESS)), help_heading = HEADING)]
    max_connections_per_address: OrOff<usize>,

    /// Take a client's address from the first entry of X-Forwarded-For, for limits, logins and the log. Only where every request comes
    /// from a proxy that overwrites the header: else everybody can write any address there
    #[arg(long, env = "TRUST_PROXY", value_parser = BoolishValueParser::new(), help_heading = HEADING)]
    trust_proxy: bool,

    /// Pages that may connect, each by scheme and host as browsers tell it; without it all may, and who is no page always may. Comma-separated
    /// or repeated
    #[arg(long, env = "ORIGIN_ALLOWLIST", value_name = "ORIGIN", value_parser = web_origin::parse, value_delimiter = ',', help_heading = HEADING)]
    origin: Vec<String>,

    /// Most connections that have not said anything that is understood; the oldest makes room
    #[arg(long, env = "MAX_UNDECIDED", value_name = "N", value_parser = number, default_value_t = Limits::default().undecided, help_heading = HEADING)]
    max_undecided: usize,

    /// How long a connection may take to ask for what it wants, in ms or with a unit; a slower one is closed
    #[arg(long, env = "HANDSHAKE_TIMEOUT_MS", value_name = "DURATION", value_parser = handshake, default_value_t = Millis(HANDSHAKE), help_heading = HEADING)]
    handshake_timeout: Millis,

    /// Most messages a second of one connection, and most pings and fragments, as N/s, or off; twice as many at once. Who sends
    /// more is closed
    #[arg(long, env = "RATE_LIMIT_MESSAGES", value_name = "RATE", value_parser = rate, default_value_t = OrOff(Limits::default().rate.map(PerSecond)), help_heading = HEADING)]
    rate_limit_messages: OrOff<PerSecond>,

    /// Most messages that wait for one connection; who lets more wait is closed
    #[arg(long, env = "SEND_QUEUE_MESSAGES", value_name = "N", value_parser = number, default_value_t = QueueBounds::default().messages, help_heading = HEADING)]
    send_queue_messages: usize,

    /// The same in bytes (64KiB, 16MiB)
    #[arg(long, env = "SEND_QUEUE_BYTES", value_name = "SIZE", value_parser = size, default_value_t = Size(QueueBounds::default().bytes as u64), help_heading = HEADING)]
    send_queue_bytes: Size,

    /// Most bytes that wait for all together; beyond it the one for whom the most wait is closed
    #[arg(long, env = "QUEUE_BUDGET_BYTES", value_name = "SIZE", value_parser = size, default_value_t = Size(QueueBounds::default().budget), help_heading = HEADING)]
    queue_budget_bytes: Size,
}

/// What connections may take where nobody says otherwise.
pub fn default_bounds() -> Bounds {
    Bounds { connections: Some(MOST), per_address: Some(MOST_PER_ADDRESS), patience: HANDSHAKE, ..Bounds::default() }
}

/// So many a second.
#[derive(Clone, Copy, Debug)]
struct PerSecond(u32);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl RoomLimits {
    /// For the hub.
    pub fn limits(&self) -> Limits {
        let rate = self.rate_limit_messages.0.map(|PerSecond(rate)| rate);
        let origins = self.origin.iter().filter(|origin| !origin.is_empty()).cloned().collect();
        Limits { undecided: self.max_undecided, rate, origins, ..Limits::default() }
    }

    /// For the sockets, without TLS.
    pub fn options(&self) -> Options {
        let bounds = Bounds {
            connections: self.max_connections.0,
            per_address: self.max_connections_per_address.0,
            patience: self.handshake_timeout.0,
            trust_proxy: self.trust_proxy,
            ..Bounds::default()
        };
        let bytes = usize::try_from(self.send_queue_bytes.0).unwrap_or(usize::MAX);
        let queue = QueueBounds {
            messages: self.send_queue_messages,
            bytes,
            budget: self.queue_budget_bytes.0,
            ..QueueBounds::default()
        };
        Options { bounds, queue, ..Options::default() }
    }
}

/// A whole number that is not 0.
fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give a whole number above 0".to_owned())
}

/// The same, or `off`.
fn or_off(text: &str) -> Result<OrOff<usize>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    number(text).map(|number| OrOff(Some(number))).map_err(|_| "give a whole number above 0, or off".to_owned())
}

/// A size that is not 0.
fn size(text: &str) -> Result<Size, String> {
    match Size::from_str(text) {
        Ok(Size(0)) => Err("nothing could be said to anybody; give a size such as 16MiB".to_owned()),
        other => other.map_err(|error: UnitError| error.to_string()),
    }
}

/// A duration that is not 0.
fn handshake(text: &str) -> Result<Millis, String> {
    let duration = units::parse_duration(text, units::Unit::Millis).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        Err("nobody could connect; give a duration such as 10s".to_owned())
    } else {
        Ok(Millis(duration))
    }
}

/// Messages a second, or `off`.
fn rate(text: &str) -> Result<OrOff<PerSecond>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let number = text.strip_suffix("/s").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.map(|number| OrOff(Some(PerSecond(number)))).ok_or_else(|| "give a rate such as 1000/s, or off".to_owned())
}
