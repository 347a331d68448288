//! Options for the room of a signaling server: joins it and finds a member that replies.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ArgMatches;
use clap::parser::ValueSource;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::cli::file_arguments::InputFile;
use crate::cli::options::credentials::TrustArgs;
use crate::cli::output::{Failure, ensure_usage, print_notice};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{self, ResolveError, UnreachableAddress};
use crate::io::signaling::client::{RoomSession, RoomSessionError};
use crate::io::signaling::discovery::parse_signaling_url;
use crate::io::stop::StopToken;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::{files, os};
use crate::signaling::client::RoomClient;
use crate::signaling::device::DeviceKey;

const HEADING_ROOM: &str = "Room target (instead of a host)";

/// Maximum number of addresses that are tried, for a second each. If no address replies, the search takes up to 32 seconds.
const MAX_ADDRESSES_TRIED: usize = 32;

#[derive(clap::Args)]
pub(crate) struct RoomArgs {
    /// WebSocket or HTTP URL of a signaling server
    ///
    /// http:// and https:// are for discovery: the server names its WebSocket URL at /api/v1/signaling.
    #[arg(long, env = "SIGNALING_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING_ROOM)]
    // Parsed only with a room: without one, the variable has no effect.
    signaling_url: Option<String>,

    /// Send to the first reachable member of this room
    ///
    /// Give a name, a unique part of a name, an ID, or an invite code. With `probe ws://`, this is the broadcast or WebRTC room to
    /// join, or the code of a bbx room. Without a code, the probe joins no bbx room: the server also answers its pings.
    #[arg(long, value_name = "NAME|ID|INVITE", help_heading = HEADING_ROOM)]
    pub room: Option<String>,

    /// File with the room password
    #[arg(long, hide_short_help = true, requires = "room", value_name = "FILE", help_heading = HEADING_ROOM)]
    pub password_file: Option<InputFile>,
}

#[derive(clap::Args)]
pub(crate) struct DeviceKeyArgs {
    /// File with the key that proves this device to the server at /v1/signaling [default: a new key]
    ///
    /// The file contains 32 random bytes in base64. If it does not exist, it is created with a new key.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = HEADING_ROOM)]
    pub device_key: Option<InputFile>,
}

/// The room of --room on its signaling server.
pub(crate) struct Room<'a> {
    pub url: WebSocketUrl,
    pub trust: &'a TrustArgs,
    args: &'a RoomArgs,
    device_key: Option<&'a Path>,
}

impl RoomArgs {
    /// Whether the URL is on the command line, not only in the environment.
    pub(crate) fn is_url_given(&self, matches: &ArgMatches) -> bool {
        self.signaling_url.is_some() && matches.value_source("signaling_url") == Some(ValueSource::CommandLine)
    }

    /// The URL of the signaling server, if there is a room.
    pub(crate) fn url(&self, matches: &ArgMatches) -> Result<Option<WebSocketUrl>, Failure> {
        if self.room.is_none() {
            ensure_usage!(!self.is_url_given(matches), "--signaling-url has no effect without a room; add --room NAME");
            return Ok(None);
        }
        let needed = "a signaling server is needed; add --signaling-url or set SIGNALING_URL";
        let url = self.signaling_url.as_deref().ok_or_else(|| Failure::usage(needed))?;
        // The error must not repeat the text, which may contain a password.
        parse_signaling_url(url).map(Some).map_err(|error| Failure::usage(format!("--signaling-url: {error}")))
    }

    /// The room on the signaling server at `url`.
    pub(crate) fn on<'a>(&'a self, url: WebSocketUrl, trust: &'a TrustArgs, device_key: Option<&'a Path>) -> Room<'a> {
        Room { url, trust, args: self, device_key }
    }

    fn password(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(None) };
        read_password(file).map(Some).with_context(|| format!("cannot read a password from {}", file.display()))
    }
}

impl Room<'_> {
    /// Joins the room as `name`. Announces `link_key`. Returns the session and the address of a reachable member.
    pub(crate) fn join(
        &self,
        tls: &Arc<ClientConfig>,
        name: &str,
        link_key: Option<[u8; 32]>,
        options: &LocalSocketOptions,
        stop: &StopToken,
    ) -> Result<(RoomSession, SocketAddr), Failure> {
        let session = self.join_as(tls, self.client(name, link_key)?, stop)?;
        let usable = options.select(&session.room_name, session.peer_addresses.clone())?;
        let tried = &usable[..usable.len().min(MAX_ADDRESSES_TRIED)];
        // Other members supplied these addresses, which may belong to third parties. An address is used only if it replies.
        let address = resolve::first_reachable(tried, options, stop).map_err(|unreachable| match stop.signal() {
            Some(signal) => Failure::interrupted(signal, "interrupted while waiting for a reply from a member"),
            None => ResolveError::NoReply(no_reply_error(&session, &unreachable)).into(),
        })?;
        Ok((session, address))
    }

    /// A client called `name` for the room.
    pub(crate) fn client(&self, name: &str, link_key: Option<[u8; 32]>) -> anyhow::Result<RoomClient> {
        let link_key = link_key.map(|key| STANDARD.encode(key));
        Ok(RoomClient::new(self.args.room.as_deref().unwrap_or_default(), self.args.password()?, name, link_key))
    }

    /// Joins the room as `client`.
    pub(crate) fn join_as(
        &self,
        tls: &Arc<ClientConfig>,
        client: RoomClient,
        stop: &StopToken,
    ) -> Result<RoomSession, Failure> {
        let (url, identity) = (&self.url, (Arc::clone(tls), device_key(self.device_key)?));
        RoomSession::join(url, identity, client, stop).map_err(|error| match error {
            RoomSessionError::Interrupted(signal) => Failure::interrupted(
                signal,
                format_args!("interrupted while joining a room on {url}; nothing was sent"),
            ),
            error => anyhow::Error::from(error).context(format!("cannot join a room on {url}")).into(),
        })
    }
}

/// TLS configuration for connecting to `url`. Prints notices about what is not protected.
pub(crate) fn tls_config(url: &WebSocketUrl, trust: &TrustArgs) -> anyhow::Result<Arc<ClientConfig>> {
    let tls = trust.trust_policy().client_config()?;
    if url.sends_plain_login() {
        print_notice(&format!("warning: the password for {url} is sent without TLS"));
    }
    if trust.insecure && url.may_use_tls() {
        print_notice(&format!("--insecure: the certificate of {url} is not verified"));
    }
    Ok(tls)
}

/// The key of --device-key, or a new one.
pub(crate) fn device_key(file: Option<&Path>) -> anyhow::Result<DeviceKey> {
    let Some(file) = file else { return Ok(DeviceKey::from_seed(&os::random_secret())) };
    let key = read_or_create_key(file);
    let key = key.with_context(|| format!("cannot use the device key {}", file.display()));
    key.map(|seed| DeviceKey::from_seed(&seed))
}

fn read_password(file: &Path) -> anyhow::Result<String> {
    let password = files::read_text(file)?;
    ensure!(!password.is_empty(), "the file is empty");
    Ok(password)
}

/// Reads the key in `file`. If the file does not exist, creates it with a new key, which only its owner can read.
fn read_or_create_key(file: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    match files::read_text(file) {
        Ok(text) => {
            let bytes = STANDARD.decode(text.trim_ascii()).ok().and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes
                .context("the file must contain 32 bytes in base64; give another file, or one that does not exist")?;
            Ok(Zeroizing::new(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = os::random_secret();
            let written = files::create_private(file)?.write_all(format!("{}\n", STANDARD.encode(*key)).as_bytes());
            if written.is_err() {
                let _ = std::fs::remove_file(file);
            }
            written?;
            Ok(key)
        }
        Err(error) => Err(error.into()),
    }
}

fn no_reply_error(session: &RoomSession, unreachable: &[UnreachableAddress]) -> String {
    let tried: Vec<String> = unreachable.iter().map(|(address, error)| format!("{address} ({error})")).collect();
    let rest = match session.peer_addresses.len() - unreachable.len() {
        0 => String::new(),
        more => format!(", {more} more were not tried"),
    };
    let (room, tried) = (&session.room_name, tried.join(", "));
    format!(
        "no member of room `{room}` replies to KEEPALIVE: {tried}{rest}. No other packets were sent. If you know a member's \
         address, give --to instead of --room"
    )
}
