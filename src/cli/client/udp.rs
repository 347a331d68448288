//! UDP targets of `send` and `probe`: a host, a member of a room on a signaling server, or the embedded echo server.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::builder::NonEmptyStringValueParser;
use rustls::ClientConfig;

use super::ClientArgs;
use crate::cli::Failure;
use crate::cli::options::credentials::TrustArgs;
use crate::cli::options::impairment::{OutcomeLogFile, PreparedEcho};
use crate::cli::output::{check_distinct_files, print, print_notice};
use crate::cli::target::UdpTarget;
use crate::echo::{EchoConfig, EchoServer};
use crate::io::resolve::{self, UnreachableAddress};
use crate::io::signaling::client::{self, RoomSession, RoomSessionError};
use crate::io::stop::StopToken;
use crate::io::tls::client::TrustPolicy;
use crate::io::udp::{self, BoundSocket, DEFAULT_RECEIVE_BUFFER, DriverOptions, IdlePolicy, NodeThread};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::client::{RoomClient, room_table, rooms_json};

const HEADING_ROOM: &str = "Room target (instead of --to)";

const SIGNALING_URL_VARIABLE: &str = "SIGNALING_URL";

/// Maximum number of addresses that are tried, for half a second each. If no address replies, the search takes up to 16 seconds.
const MAX_ADDRESSES_TRIED: usize = 32;

/// Maximum length of a password file, in bytes.
const MAX_PASSWORD_BYTES: u64 = 4 << 10;

/// A target in a room of a signaling server.
#[derive(Debug, clap::Args)]
pub struct RoomTargetArgs {
    /// Signaling server (ws:// or wss://)
    #[arg(long, env = SIGNALING_URL_VARIABLE, hide_env_values = true, value_name = "URL", help_heading = HEADING_ROOM)]
    signaling_url: Option<String>,

    /// Room to join; its first reachable member is the target
    ///
    /// Give a name or a unique part of it, an ID, or an invite code. With `probe --to ws://`, this is the broadcast or WebRTC room to join.
    #[arg(long, value_name = "NAME|ID|INVITE", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "embedded", help_heading = HEADING_ROOM)]
    room: Option<String>,

    /// Room password
    ///
    /// Other users of this machine can see the command line: prefer --password-file.
    #[arg(long, hide_short_help = true, requires = "room", help_heading = HEADING_ROOM)]
    password: Option<String>,

    /// File with the room password
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "room", conflicts_with = "password", help_heading = HEADING_ROOM)]
    password_file: Option<PathBuf>,

    /// Print the rooms of the signaling server and exit
    #[arg(long, conflicts_with_all = ["room", "to", "embedded"], help_heading = HEADING_ROOM)]
    list_rooms: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

/// A joined room with a reachable member.
pub struct JoinedRoom {
    /// The session in the room.
    pub session: RoomSession,
    /// Address of the member.
    pub address: SocketAddr,
}

impl RoomTargetArgs {
    /// The value of --room.
    pub fn room_name(&self) -> Option<&str> {
        self.room.as_deref()
    }

    /// Which certificates to accept.
    pub fn trust_policy(&self) -> TrustPolicy {
        self.trust.trust_policy()
    }

    /// Name of the first given option that needs a UDP target.
    pub fn udp_only_option(&self) -> Option<&'static str> {
        let passwords = [("--password", self.password.is_some()), ("--password-file", self.password_file.is_some())];
        let password = passwords.into_iter().find_map(|(option, given)| given.then_some(option));
        self.command_line_url().map(|_| "--signaling-url").or(password)
    }

    /// Whether the target is found through --room.
    pub fn is_enabled(&self) -> bool {
        self.room.is_some()
    }

    /// Rejects options that are incomplete or have no effect. The environment variable `SIGNALING_URL` is accepted even if it has no
    /// effect.
    pub fn validate(&self) -> Result<(), Failure> {
        let option = match &self.room {
            Some(_) => "--room",
            None if self.list_rooms => "--list-rooms",
            None => return self.reject_unused_options(),
        };
        if self.configured_url().is_none() {
            return Err(Failure::usage(format!(
                "{option} needs a signaling server; add --signaling-url URL or set {SIGNALING_URL_VARIABLE}"
            )));
        }
        self.url().map(drop)
    }

    fn reject_unused_options(&self) -> Result<(), Failure> {
        match self.command_line_url().map(|_| "--signaling-url").or_else(|| self.trust.first_given()) {
            Some(option) => Err(Failure::usage(format!(
                "{option} has no effect without a room; add --room NAME or --list-rooms, or omit it"
            ))),
            None => Ok(()),
        }
    }

    /// Prints the rooms for --list-rooms and returns the exit code.
    pub fn list_rooms(&self, json: bool, on_one_line: bool) -> Result<Option<u8>, Failure> {
        if !self.list_rooms {
            return Ok(None);
        }
        let (url, tls) = (self.url()?, self.tls()?);
        let rooms = client::list_rooms(&url, &tls)
            .with_context(|| format!("cannot list the rooms of {url}"))
            .map_err(Failure::unusable)?;
        let text = if json || on_one_line {
            let document = rooms_json(&rooms, on_one_line);
            document.context("cannot convert the room list to JSON").map_err(Failure::unusable)?
        } else {
            room_table(&rooms)
        };
        print(&mut io::stdout().lock(), &text).map_err(Failure::unusable)?;
        Ok(Some(0))
    }

    /// If --room is given, joins the room as `name` and finds a reachable member.
    pub fn join(&self, name: &str, stop: &StopToken) -> Result<Option<JoinedRoom>, Failure> {
        let Some(room) = &self.room else { return Ok(None) };
        let (url, tls) = (self.url()?, self.tls()?);
        let client = RoomClient::new(room, self.password()?, name);
        let session = RoomSession::join(url.clone(), tls, client, stop).map_err(|error| match error {
            RoomSessionError::Interrupted(reason) => interrupted_error(reason.exit_code(), &url),
            error => Failure::unusable(anyhow::Error::from(error).context(format!("cannot join a room on {url}"))),
        })?;
        let tried = &session.peer_addresses[..session.peer_addresses.len().min(MAX_ADDRESSES_TRIED)];
        // Other members supplied these addresses, which may belong to third parties. An address is used only if it replies.
        let address = resolve::first_reachable(tried, stop).map_err(|unreachable| match stop.signal() {
            Some(reason) => search_interrupted_error(reason.exit_code(), &session.room_name),
            None => Failure { code: 1, error: anyhow::anyhow!(no_reply_error(&session, &unreachable)) },
        })?;
        Ok(Some(JoinedRoom { session, address }))
    }

    /// The URL from the option or the environment variable. An empty string, which Docker Compose substitutes for an unset variable, means
    /// that there is no URL.
    fn configured_url(&self) -> Option<&str> {
        self.signaling_url.as_deref().filter(|url| !url.is_empty())
    }

    /// The URL, unless it comes from the environment variable.
    fn command_line_url(&self) -> Option<&str> {
        let from_environment = env::var(SIGNALING_URL_VARIABLE).ok();
        self.configured_url().filter(|url| from_environment.as_deref() != Some(url))
    }

    fn url(&self) -> Result<WebSocketUrl, Failure> {
        let url = self.configured_url().unwrap_or_default().parse();
        // The error must not repeat the text, which may contain a password.
        url.map_err(|error| Failure::usage(format!("--signaling-url (or {SIGNALING_URL_VARIABLE}): {error}")))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.tls_config(&self.url()?)
    }

    /// TLS configuration for connecting to `url`.
    pub fn tls_config(&self, url: &WebSocketUrl) -> Result<Arc<ClientConfig>, Failure> {
        let tls = self.trust.tls_config()?;
        if self.trust.is_insecure() && url.is_secure() {
            print_notice(&format!("--insecure: the certificate of {url} is not verified"));
        }
        Ok(tls)
    }

    fn password(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.password_file else { return Ok(self.password.clone()) };
        let password = read_password(file).with_context(|| format!("cannot read a password from {}", file.display()));
        password.map(Some).map_err(Failure::unusable)
    }
}

fn read_password(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_PASSWORD_BYTES, "the file is longer than {MAX_PASSWORD_BYTES} bytes");
    // Remove the line break that editors append.
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    ensure!(!password.is_empty(), "the file is empty");
    Ok(password.to_owned())
}

fn interrupted_error(code: u8, url: &WebSocketUrl) -> Failure {
    Failure { code, error: anyhow::anyhow!("interrupted while joining a room on {url}; nothing was sent") }
}

fn search_interrupted_error(code: u8, room: &str) -> Failure {
    let message = "interrupted while waiting for a reply from a member of room";
    Failure { code, error: anyhow::anyhow!("{message} `{room}`; only KEEPALIVE packets were sent") }
}

fn no_reply_error(session: &RoomSession, unreachable: &[UnreachableAddress]) -> String {
    let tried: Vec<String> = unreachable.iter().map(|(address, error)| format!("{address} ({error})")).collect();
    let rest = match session.peer_addresses.len() - unreachable.len() {
        0 => String::new(),
        more => format!(", {more} more were not tried"),
    };
    let (room, tried) = (&session.room_name, tried.join(", "));
    format!(
        "no member of room `{room}` replies to KEEPALIVE: {tried}{rest}; no other packets were sent; if you know a member's \
         address, give --to instead of --room"
    )
}

/// A target with a connected socket.
pub struct ConnectedTarget {
    /// Address of the target.
    pub address: SocketAddr,
    /// Name in the report.
    pub name: String,
    pub(super) bound: BoundSocket,
    pub(super) background: BackgroundTasks,
}

/// Tasks that run alongside the client and end after it.
#[derive(Default)]
pub(super) struct BackgroundTasks {
    embedded: Option<(NodeThread<EchoServer>, StopToken, Option<OutcomeLogFile>)>,
    session: Option<RoomSession>,
}

impl ClientArgs {
    /// Connects a socket to the target, or to the embedded server. `command` becomes part of the member name in a room.
    pub fn connect(&self, to: Option<&UdpTarget>, command: &str, stop: &StopToken) -> Result<ConnectedTarget, Failure> {
        check_distinct_files(self.output_files())?;
        if let Some(option) = self.impairment.first_given().filter(|_| !self.embedded) {
            return Err(Failure::usage(format!(
                "{option}: only an embedded echo server can impair replies; add --embedded"
            )));
        }
        self.require_target(to)?;
        if to.is_some() && self.room.is_enabled() {
            return Err(Failure::usage("--room cannot be used with --to HOST[:PORT]; omit one of them"));
        }
        // Remove stale files only after the checks: a usage error must not remove earlier reports.
        self.files.remove_stale()?;
        if self.embedded {
            return self.start_embedded_server();
        }
        if let Some(joined) = self.room.join(&format!("jamjam-dev {command}"), stop)? {
            return self.connect_to_member(joined);
        }
        let Some(target) = to else { return Err(no_target_error()) };
        let candidates = resolve::resolve(&target.host, target.port).map_err(Failure::unusable)?;
        let bound = self.connect_socket(resolve::first_reachable_or_first(&candidates))?;
        // The system may connect to an address other than the requested one: it replaces 0.0.0.0 with 127.0.0.1.
        let address = bound
            .socket
            .peer_addr()
            .context("cannot determine the address that the socket is connected to")
            .map_err(Failure::unusable)?;
        Ok(ConnectedTarget { address, name: target.to_string(), bound, background: BackgroundTasks::default() })
    }

    /// Returns an error if there is no target.
    pub fn require_target(&self, to: Option<&UdpTarget>) -> Result<(), Failure> {
        if self.embedded || self.room.is_enabled() || to.is_some() { Ok(()) } else { Err(no_target_error()) }
    }

    fn connect_socket(&self, address: SocketAddr) -> Result<BoundSocket, Failure> {
        udp::connect(address, self.socket_buffer.0.min(1 << 30) as usize).map_err(Failure::unusable)
    }

    fn connect_to_member(&self, JoinedRoom { session, address }: JoinedRoom) -> Result<ConnectedTarget, Failure> {
        let bound = self.connect_socket(address)?;
        // Advertise the local address of this socket to the other members of the room.
        if let Ok(local) = bound.socket.local_addr() {
            session.advertise(local);
        }
        let name = format!("{} ({address})", session.room_name);
        Ok(ConnectedTarget {
            address,
            name,
            bound,
            background: BackgroundTasks { session: Some(session), embedded: None },
        })
    }

    fn start_embedded_server(&self) -> Result<ConnectedTarget, Failure> {
        let config = EchoConfig { delay: self.delay.0, ..EchoConfig::default() };
        let PreparedEcho { echo, reproduce_options, outcome_log } = self.impairment.prepare(config)?;
        let server =
            udp::bind(SocketAddr::from(([127, 0, 0, 1], 0)), DEFAULT_RECEIVE_BUFFER).map_err(Failure::unusable)?;
        let address = server.address;
        let stop = StopToken::default();
        let options = DriverOptions { idle: IdlePolicy::Wait, spin_percent: self.spin, backend: self.driver.into() };
        let running = udp::spawn_node("echo-server", server.socket, echo, stop.clone(), options)
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let suffix = reproduce_options.map_or_else(String::new, |options| format!(", {options}"));
        let name = format!("embedded echo server ({} ms{suffix})", self.delay);
        let background = BackgroundTasks { embedded: Some((running, stop, outcome_log)), session: None };
        Ok(ConnectedTarget { address, name, bound: self.connect_socket(address)?, background })
    }
}

impl BackgroundTasks {
    /// Ends all tasks. Returns the first error.
    pub(super) fn end(self) -> Option<anyhow::Error> {
        if let Some(error) = self.session.and_then(RoomSession::leave_room) {
            print_notice(&format!(
                "the connection to the signaling server was lost; the run continued without it: {error}"
            ));
        }
        let (server, stop, outcome_log) = self.embedded?;
        stop.request(crate::client::StopSignal::Terminate);
        let (echo, tally) = server.join();
        echo.stop();
        let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        tally.result.context("the embedded echo server failed").and(outcome_log).err()
    }
}

fn no_target_error() -> Failure {
    Failure::usage(
        "no target: give --to HOST[:PORT], or --embedded for an echo server in this process, or --signaling-url URL with \
         --room NAME",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::parse;

    #[test]
    #[cfg(target_os = "linux")]
    fn target_0_0_0_0_is_connected_as_127_0_0_1() {
        let target = UdpTarget { host: "0.0.0.0".to_owned(), port: 5_000 };
        let Ok(connected) = parse(&[]).connect(Some(&target), "send", &StopToken::default()) else {
            panic!("a socket to this machine")
        };
        assert_eq!(connected.address, SocketAddr::from(([127, 0, 0, 1], 5_000)));
    }
}
