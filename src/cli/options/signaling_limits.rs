//! Limits of `signaling-server` (connections, messages, queues and heartbeats), and its options for newer jamjam clients and for the rooms of
//! control surfaces.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use crate::cli::output::{self, Failure};
use crate::cli::values::{
    OrOff, duration_in, format_request_rate, or_off, parse_message_rate, parse_millis, parse_origin,
    parse_positive_or_off, parse_request_rate,
};
use crate::io::clock;
use crate::io::connection_permit::ConnectionLimits;
use crate::io::http::forwarded::TrustedProxies;
use crate::io::signaling::SignalingServerConfig;
use crate::io::websocket::handshake::{UrlError, WebSocketUrl};
use crate::rate_limit::RequestRate;
use crate::signaling::{
    ControlSurfaceLimits, CreateRoomOptions, DEFAULT_TEST_ROOM_PREFIX, Heartbeat, Hub, NEWER_PATH, ROOM_CODE_DIGITS,
    SignalingLimits,
};
use crate::time::Time;
use crate::units::{InvalidValue, parse_or_off};

pub(crate) const HEADING_LIMITS: &str = "Limits";

pub(crate) const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
pub(crate) const DEFAULT_MAX_CONNECTIONS_PER_ADDRESS: usize = 256;

/// Maximum rate of new connections per source address. All permitted connections of an address can be opened again at once.
pub(crate) const DEFAULT_CONNECTION_RATE: RequestRate = RequestRate { count: 300, period: Duration::from_secs(10) };

#[derive(clap::Args)]
pub(crate) struct ConnectionLimitArgs {
    /// Maximum number of connections, or off
    ///
    /// Further connections wait until one closes.
    #[arg(long, hide_short_help = true, env = "MAX_CONNECTIONS", value_name = "N", value_parser = parse_positive_or_off, default_value = DEFAULT_MAX_CONNECTIONS.to_string(), help_heading = HEADING_LIMITS)]
    max_connections: OrOff<usize>,

    /// Maximum connections per source address, or off
    ///
    /// For IPv6, a /64 counts as one address. Further connections are closed. Loopback is exempt.
    #[arg(long, hide_short_help = true, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = parse_positive_or_off, default_value = DEFAULT_MAX_CONNECTIONS_PER_ADDRESS.to_string(), help_heading = HEADING_LIMITS)]
    max_connections_per_address: OrOff<usize>,

    /// Maximum new connections per source address, as N/TIME, or off
    ///
    /// For IPv6, a /64 counts as one address. Further connections are closed. Loopback is exempt.
    #[arg(long, hide = true, env = "RATE_LIMIT_CONNECTIONS", value_name = "RATE", value_parser = or_off(parse_request_rate), default_value = format_request_rate(DEFAULT_CONNECTION_RATE), help_heading = HEADING_LIMITS)]
    rate_limit_connections: OrOff<RequestRate>,

    /// Use X-Forwarded-For [default: off]
    ///
    /// Takes the client address from this header. With a number N (1 without a value), the Nth entry from the right is used, if the peer is loopback. With networks, separated by
    /// commas, the header is also accepted from peers in these networks. The last entry outside of these networks is used. X-Forwarded-Host
    /// and X-Forwarded-Proto then determine the URL for newer jamjam clients.
    #[arg(long, env = "TRUST_PROXY", value_name = "HOPS|NETWORKS", value_parser = parse_trusted_proxies, num_args = 0..=1, default_missing_value = "1", help_heading = HEADING_LIMITS)]
    trust_proxy: Option<OrOff<TrustedProxies>>,

    /// Origins that may connect [default: all]
    ///
    /// Give the scheme and host without a path. Separate values with commas or repeat the option. Clients that send no Origin header
    /// are always accepted. Applies to WebSocket connections and to all HTTP requests that need no login, such as /auth/token and posts.
    #[arg(long, hide_short_help = true, env = "ORIGIN_ALLOWLIST", value_name = "ORIGIN", value_parser = parse_origin, value_delimiter = ',', help_heading = HEADING_LIMITS)]
    origin: Vec<String>,

    /// Maximum messages per second per connection, as N/s, or off
    ///
    /// A separate limit with the same rate applies to pings and fragments. A burst may contain twice the number of messages permitted per
    /// second. A larger burst closes the connection.
    #[arg(long, hide_short_help = true, env = "RATE_LIMIT_MESSAGES", value_name = "RATE", value_parser = or_off(parse_message_rate), default_value = SignalingLimits::default().message_rate.map_or_else(String::new, |rate| format!("{rate}/s")), help_heading = HEADING_LIMITS)]
    rate_limit_messages: OrOff<u32>,

    /// Maximum cost of the messages of one address, in units per second, as N/s, or off
    ///
    /// A message costs one unit, and more if it is long or has many values or receivers. For IPv6, a /64 counts as one address; on loopback,
    /// each connection does. Above it, messages are read later.
    #[arg(long, hide = true, env = "RATE_LIMIT_COST", value_name = "RATE", value_parser = or_off(parse_message_rate), default_value = SignalingLimits::default().cost_rate.map_or_else(String::new, |rate| format!("{rate}/s")), help_heading = HEADING_LIMITS)]
    rate_limit_cost: OrOff<u32>,

    /// Answer each wrong message with the reason
    ///
    /// For developers of clients. The names of wrong types and members are logged, and clients learn why their tokens are rejected.
    #[arg(long, env = "STRICT", help_heading = HEADING_LIMITS)]
    strict: bool,
}

/// The default limits, for a signaling server that runs inside another command.
pub(crate) fn default_connection_limits() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: Some(DEFAULT_MAX_CONNECTIONS),
        max_connections_per_address: Some(DEFAULT_MAX_CONNECTIONS_PER_ADDRESS),
        max_new_connections: Some(DEFAULT_CONNECTION_RATE),
        ..ConnectionLimits::default()
    }
}

impl ConnectionLimitArgs {
    pub(crate) fn apply_to(&self, limits: &mut SignalingLimits, connections: &mut ConnectionLimits) {
        (limits.message_rate, limits.cost_rate) = (self.rate_limit_messages, self.rate_limit_cost);
        limits.allowed_origins = self.origin.iter().filter(|origin| !origin.is_empty()).cloned().collect();
        limits.is_strict = self.strict;
        connections.max_connections = self.max_connections;
        connections.max_connections_per_address = self.max_connections_per_address;
        connections.max_new_connections = self.rate_limit_connections;
        connections.trusted_proxies = self.trust_proxy.clone().flatten();
    }
}

/// Parses a number of proxies or a list of networks. The words for yes stand for one proxy.
fn parse_trusted_proxies(text: &str) -> Result<OrOff<TrustedProxies>, String> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "off" | "false" | "no" | "n" | "f" => return Ok(None),
        "on" | "true" | "yes" | "y" | "t" => return Ok(Some(TrustedProxies::Hops(NonZeroUsize::MIN))),
        _ => {}
    }
    if let Ok(hops) = text.parse() {
        return Ok(Some(TrustedProxies::Hops(hops)));
    }
    let networks: Result<_, InvalidValue> = text.split(',').map(|network| network.trim().parse()).collect();
    let networks = networks.map_err(|error| format!("{error}, or a number of proxies"))?;
    Ok(Some(TrustedProxies::Networks(networks)))
}

#[derive(clap::Args)]
pub(crate) struct HeartbeatArgs {
    /// Ping interval, in ms or with a unit, or off [default: 30000; bbx: 5000]
    ///
    /// With 0 or off, inactive clients are not disconnected. jamjam clients never are; pings keep their connections open in proxies. HEARTBEAT_INTERVAL_MS is used if HEARTBEAT_INTERVAL is not set.
    #[arg(long, hide_short_help = true, env = "HEARTBEAT_INTERVAL", value_name = "DURATION", value_parser = parse_interval_or_off, help_heading = HEADING_LIMITS)]
    heartbeat_interval: Option<OrOff<Duration>>,

    /// Disconnect a client after this time without traffic [default: 60000; bbx: 30000]
    ///
    /// In milliseconds or with a unit. CLIENT_TIMEOUT_MS is used if CLIENT_TIMEOUT is not set.
    #[arg(long, hide_short_help = true, env = "CLIENT_TIMEOUT", value_name = "DURATION", value_parser = duration_in("ms", Duration::from_nanos(1).., TIMEOUT_REMEDY), help_heading = HEADING_LIMITS)]
    client_timeout: Option<Duration>,

    /// Maximum number of members in a WebRTC room
    #[arg(long, hide = true, env = "WEBRTC_MAX_MEMBERS", value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = SignalingLimits::default().max_webrtc_members, help_heading = HEADING_LIMITS)]
    webrtc_max_members: usize,
}

impl HeartbeatArgs {
    pub(crate) fn apply_to(&self, limits: &mut SignalingLimits) {
        let given = |default: Heartbeat| Heartbeat {
            interval: self.heartbeat_interval.unwrap_or(default.interval),
            timeout: self.client_timeout.unwrap_or(default.timeout),
        };
        limits.heartbeat = given(limits.heartbeat);
        limits.control_surface.heartbeat = given(limits.control_surface.heartbeat);
        limits.max_webrtc_members = self.webrtc_max_members;
    }
}

/// Minimum heartbeat interval. Shorter intervals would overload the server with pings.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(10);

/// Parses an interval. 0 and `off` disable pings.
fn parse_interval_or_off(text: &str) -> Result<OrOff<Duration>, String> {
    match parse_or_off(text, parse_millis).map_err(|error| error.to_string())? {
        Some(Duration::ZERO) => Ok(None),
        Some(interval) if interval < MIN_HEARTBEAT_INTERVAL => Err("give 10ms or more, or off".to_owned()),
        interval => Ok(interval),
    }
}

/// What to give as a time-out.
const TIMEOUT_REMEDY: &str =
    "give a duration such as 60s. To disable the time-out, disable the pings (--heartbeat-interval off)";

const HEADING_JAMJAM: &str = "Newer jamjam clients";

#[derive(clap::Args)]
pub(crate) struct JamjamArgs {
    /// URL of this server for newer jamjam clients [default: the host that they request]
    ///
    /// Give it if a reverse proxy does not forward the host and the scheme. /v1/signaling is added unless it ends so.
    #[arg(long, hide_short_help = true, env = "PUBLIC_URL", value_name = "URL", value_parser = parse_public_url, help_heading = HEADING_JAMJAM)]
    public_url: Option<WebSocketUrl>,

    /// Reject newer jamjam clients that do not prove their device
    ///
    /// Wrong proofs are always rejected. Applies to connections on /v1/signaling.
    #[arg(long, hide_short_help = true, env = "REQUIRE_DEVICE", help_heading = HEADING_JAMJAM)]
    require_device: bool,

    /// Beginning of the names of test rooms, or off
    ///
    /// Newer jamjam clients show a button for the first test room.
    #[arg(long, hide_short_help = true, env = "TEST_ROOM", value_name = "PREFIX", value_parser = or_off(String::from_str), default_value = DEFAULT_TEST_ROOM_PREFIX, help_heading = HEADING_JAMJAM)]
    test_room: OrOff<String>,
}

impl JamjamArgs {
    pub(crate) fn apply_to(&self, limits: &mut SignalingLimits, config: &mut SignalingServerConfig) {
        limits.test_room_prefix.clone_from(&self.test_room);
        config.public_url.clone_from(&self.public_url);
        config.is_device_required = self.require_device;
    }
}

/// Parses the URL of this server. `http` stands for `ws`, and `https` for `wss`.
fn parse_public_url(text: &str) -> Result<WebSocketUrl, UrlError> {
    let url: WebSocketUrl = match text.strip_prefix("http") {
        Some(rest) => format!("ws{rest}").parse()?,
        None => text.parse()?,
    };
    if url.has_login() {
        return Err(UrlError::Userinfo);
    }
    let path = url.path().trim_end_matches('/');
    url.with_path_and_query(&format!("{}{NEWER_PATH}", path.strip_suffix(NEWER_PATH).unwrap_or(path)), &[])
}

const HEADING_CONTROL_SURFACES: &str = "Control surfaces (bbx)";

/// The value that requests a random code.
const RANDOM_CODE: &str = "any";

#[derive(clap::Args)]
#[expect(clippy::struct_field_names, reason = "each field is an option of the command line")]
pub(crate) struct ControlSurfaceArgs {
    /// Create a room with a code: 4 to 6 digits, or `any`
    ///
    /// With `any`, the code is random. The code is printed at startup. Separate values with commas or repeat the option.
    #[arg(long, env = "BBX_ROOM", value_name = "CODE", value_parser = parse_room_code, num_args = 0..=1, default_missing_value = RANDOM_CODE, value_delimiter = ',', help_heading = HEADING_CONTROL_SURFACES)]
    bbx_room: Vec<String>,

    /// Number of digits of generated room codes, 4 to 6
    #[arg(long, hide = true, env = "BBX_CODE_LENGTH", value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(4..=6), default_value_t = ControlSurfaceLimits::default().code_digits, help_heading = HEADING_CONTROL_SURFACES)]
    bbx_code_length: usize,

    /// Lifetime of a room, in seconds or with a unit
    #[arg(long, hide = true, env = "BBX_ROOM_EXPIRATION", value_name = "DURATION", value_parser = duration_in("s", Duration::from_secs(1).., "give 1s or more"), default_value = format!("{:?}", ControlSurfaceLimits::default().room_lifetime), help_heading = HEADING_CONTROL_SURFACES)]
    bbx_room_expiration: Duration,

    /// Maximum number of members in a room
    #[arg(long, hide = true, env = "BBX_MAX_CLIENTS", value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = ControlSurfaceLimits::default().max_members, help_heading = HEADING_CONTROL_SURFACES)]
    bbx_max_clients: usize,

    /// Maximum number of rooms
    #[arg(long, hide = true, env = "BBX_MAX_ROOMS", value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value_t = ControlSurfaceLimits::default().max_rooms, help_heading = HEADING_CONTROL_SURFACES)]
    bbx_max_rooms: usize,

    /// Ping interval, in ms or with a unit, or off [default: 5000, or --heartbeat-interval if given]
    #[arg(long, hide = true, env = "BBX_PING_INTERVAL", value_name = "DURATION", value_parser = parse_interval_or_off, help_heading = HEADING_CONTROL_SURFACES)]
    bbx_ping_interval: Option<OrOff<Duration>>,

    /// Disconnect a control surface after this time without traffic [default: 30000, or --client-timeout if given]
    #[arg(long, hide = true, env = "BBX_CONNECTION_TIMEOUT", value_name = "DURATION", value_parser = duration_in("ms", Duration::from_nanos(1).., TIMEOUT_REMEDY), help_heading = HEADING_CONTROL_SURFACES)]
    bbx_connection_timeout: Option<Duration>,
}

impl ControlSurfaceArgs {
    pub(crate) fn apply_to(&self, limits: &mut SignalingLimits) {
        let Heartbeat { interval, timeout } = limits.control_surface.heartbeat;
        limits.control_surface = ControlSurfaceLimits {
            code_digits: self.bbx_code_length,
            room_lifetime: self.bbx_room_expiration,
            max_members: self.bbx_max_clients,
            max_rooms: self.bbx_max_rooms,
            heartbeat: Heartbeat {
                interval: self.bbx_ping_interval.unwrap_or(interval),
                timeout: self.bbx_connection_timeout.unwrap_or(timeout),
            },
        };
    }

    /// Creates the rooms of --bbx-room. Returns their codes.
    pub(crate) fn create_rooms(&self, hub: &mut Hub) -> Result<Vec<String>, Failure> {
        let now = clock::wall_clock(Time::ZERO);
        let mut created = Vec::new();
        for code in &self.bbx_room {
            let code = Some(code.clone()).filter(|code| code != RANDOM_CODE);
            let options = CreateRoomOptions { code: code.clone(), ..CreateRoomOptions::default() };
            let room = hub.create_room(now, options).map_err(|error| {
                let suffix = code.map_or_else(String::new, |code| format!(" {code}"));
                Failure::usage(format!("cannot create the room of --bbx-room{suffix}: {error}"))
            })?;
            created.push(room.code);
        }
        Ok(created)
    }
}

/// Prints the codes of rooms to standard output, or if this is to contain a report, to standard error.
pub(crate) fn print_codes(codes: &[String], has_report: bool) -> anyhow::Result<()> {
    for line in codes.iter().map(|code| format!("bbx room: {code}")) {
        if has_report { output::print_message(&line) } else { output::print(&line)? }
    }
    Ok(())
}

/// Parses a room code, or `any`.
fn parse_room_code(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let is_code = ROOM_CODE_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_code || text == RANDOM_CODE).then(|| text.to_owned()).ok_or("give a code of 4 to 6 digits, or `any`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        heartbeats: HeartbeatArgs,
    }

    /// Ping interval and time-out of all rooms and of control surfaces, in ms.
    fn heartbeat(options: &[&str]) -> [(Option<u128>, u128); 2] {
        let Options { heartbeats } = Options::parse_from([&["x"], options].concat());
        let mut limits = SignalingLimits::default();
        heartbeats.apply_to(&mut limits);
        [limits.heartbeat, limits.control_surface.heartbeat]
            .map(|Heartbeat { interval, timeout }| (interval.map(|interval| interval.as_millis()), timeout.as_millis()))
    }

    #[test]
    fn heartbeat_options_replace_the_defaults_of_all_dialects() {
        assert_eq!(heartbeat(&[]), [(Some(30_000), 60_000), (Some(5_000), 30_000)]);
        assert_eq!(heartbeat(&["--heartbeat-interval", "30000"]), [(Some(30_000), 60_000), (Some(30_000), 30_000)]);
        assert_eq!(heartbeat(&["--client-timeout", "1s"]), [(Some(30_000), 1_000), (Some(5_000), 1_000)]);
        assert_eq!(heartbeat(&["--heartbeat-interval", "0"]), [(None, 60_000), (None, 30_000)]);
    }
}
