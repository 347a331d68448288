//! Broadcast rooms of `signaling-server`: tokens, which WebRTC rooms also use, limits, and built-in rooms. A TOML file `NAME.toml` declares the room NAME.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tracing::{info, warn};

use super::credentials::SecretArgs;
use crate::cli::file_arguments::InputFile;
use crate::cli::output::Failure;
use crate::cli::values::{
    OrOff, duration_in, envelope_parser, format_request_rate, format_size, or_off, parse_millis, parse_nonzero_size,
    parse_request_rate,
};
use crate::io::signaling::broadcast_http::BroadcastHttpConfig;
use crate::io::{files, os};
use crate::rate_limit::RequestRate;
use crate::signaling::broadcast::{
    BroadcastSettings, DEFAULT_MAX_PAYLOAD_BYTES, DeclaredRoom, Envelope, MAX_BROADCAST_DELAY, RadioRoom, RoomHandlers,
};
use crate::signaling::token::Secret;
use crate::signaling::{Dialect, SignalingLimits, is_valid_room_name};
use crate::units::{InvalidValue, parse_or_off};

const HEADING: &str = "Broadcast rooms";
const HEADING_WEBRTC: &str = "WebRTC rooms";

/// Who may join WebRTC rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WebRtcAuth {
    /// Every client
    #[default]
    Off,
    /// Clients with a token for the room and the user
    Token,
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    duration_in("s", ..=MAX_BROADCAST_DELAY, "the maximum is 1h")(text)
}

#[derive(clap::Args)]
pub(crate) struct WebRtcAuthArgs {
    /// Who may join WebRTC rooms
    ///
    /// With `token`, a client needs a token for its roomId and userId. POST /auth/token issues these tokens only if a token issuer key is
    /// set.
    #[arg(long, hide_short_help = true, env = "WEBRTC_AUTH", value_name = "MODE", value_enum, default_value_t, help_heading = HEADING_WEBRTC)]
    webrtc_auth: WebRtcAuth,
}

impl WebRtcAuthArgs {
    /// Whether clients of WebRTC rooms need a token.
    pub(crate) fn requires_token(&self) -> bool {
        self.webrtc_auth == WebRtcAuth::Token
    }
}

/// Tokens, limits and contents of broadcast rooms.
#[derive(clap::Args)]
pub(crate) struct BroadcastArgs {
    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    webrtc: WebRtcAuthArgs,

    /// JSON format of relayed messages
    #[arg(long, hide_short_help = true, env = "BROADCAST_ENVELOPE", value_name = "FORMAT", value_parser = envelope_parser(), default_value = "document", help_heading = HEADING)]
    broadcast_envelope: Envelope,

    /// Delay of `post` messages in room `radio`, in seconds or with a unit
    #[arg(long, hide = true, env = "RADIO_POST_BROADCAST_DELAY_SECONDS", value_name = "DURATION", value_parser = parse_delay, default_value = "0", help_heading = HEADING)]
    radio_delay: Duration,

    /// Directory of rooms, one file NAME.toml each
    #[arg(long, env = "ROOMS_DIR", value_name = "DIR", help_heading = HEADING)]
    rooms: Option<InputFile>,

    /// Disconnect a member after this time without a message, or off
    ///
    /// In milliseconds or with a unit.
    #[arg(long, hide = true, env = "IDLE_TIMEOUT_MS", value_name = "DURATION", value_parser = parse_duration_or_off, default_value = "off", help_heading = HEADING)]
    idle_timeout: OrOff<Duration>,

    /// Maximum lifetime of a connection, or off
    ///
    /// In milliseconds or with a unit.
    #[arg(long, hide = true, env = "MAX_CONN_AGE_MS", value_name = "DURATION", value_parser = parse_duration_or_off, default_value = "off", help_heading = HEADING)]
    max_conn_age: OrOff<Duration>,

    /// Maximum message size in a broadcast room
    ///
    /// For clients without a token and for control channels, the limit is at most 256 KiB.
    #[arg(long, hide = true, env = "MAX_PAYLOAD_BYTES", value_name = "SIZE", value_parser = parse_nonzero_size, default_value = format_size(DEFAULT_MAX_PAYLOAD_BYTES as u64), help_heading = HEADING)]
    max_payload: u64,

    /// Maximum token requests per source address, as N/TIME (10/15m), or off
    #[arg(long, hide = true, env = "RATE_LIMIT_TOKEN", value_name = "RATE", value_parser = or_off(parse_request_rate), default_value = BroadcastHttpConfig::default().token_limit.map_or_else(String::new, format_request_rate), help_heading = HEADING)]
    rate_limit_token: OrOff<RequestRate>,

    /// Maximum HTTP posts per source address, as N/TIME (10/15m), or off
    #[arg(long, hide = true, env = "RATE_LIMIT_POST", value_name = "RATE", value_parser = or_off(parse_request_rate), default_value = BroadcastHttpConfig::default().post_limit.map_or_else(String::new, format_request_rate), help_heading = HEADING)]
    rate_limit_post: OrOff<RequestRate>,
}

impl BroadcastArgs {
    /// Warns if tokens become invalid on restart, or if the server cannot issue tokens that it requires.
    pub(crate) fn log_token_warnings(&self, dialects: &[Dialect]) -> Result<(), Failure> {
        let webrtc_needs_tokens = dialects.contains(&Dialect::WebRtc) && self.webrtc.requires_token();
        if webrtc_needs_tokens && self.secrets.token_issuer_key()?.is_none() {
            warn!(
                target: "signaling",
                "--webrtc-auth token without a token issuer key: POST /auth/token issues no WebRTC tokens. Set TOKEN_ISSUER_KEY, or sign \
                 tokens with the HMAC secret (`jamjam-dev token`)"
            );
        }
        let needs_tokens = webrtc_needs_tokens || dialects.contains(&Dialect::Broadcast);
        if needs_tokens && self.secrets.hmac.read()?.is_none() {
            warn!(
                target: "signaling",
                "no HMAC secret is given (HMAC_SECRET or --hmac-secret), so the secret is random. Tokens become invalid on restart"
            );
        }
        Ok(())
    }

    pub(crate) fn apply_to(&self, limits: &mut SignalingLimits) -> Result<(), Failure> {
        let secret = self.secrets.hmac.read()?;
        limits.broadcast = BroadcastSettings {
            secret: Some(secret.unwrap_or_else(|| Secret::from_random(os::random_u64s()))),
            envelope: self.broadcast_envelope,
            idle_timeout: self.idle_timeout,
            max_connection_age: self.max_conn_age,
            max_payload_bytes: usize::try_from(self.max_payload).unwrap_or(usize::MAX),
        };
        limits.webrtc_requires_token = self.webrtc.requires_token();
        Ok(())
    }

    /// The handlers of the built-in rooms and of the rooms declared in files.
    pub(crate) fn room_handlers(&self) -> anyhow::Result<RoomHandlers> {
        let mut handlers = RoomHandlers::default();
        handlers.insert("radio", RadioRoom::new(self.radio_delay, self.broadcast_envelope));
        if let Some(directory) = &self.rooms {
            for (room, handler) in read_room_files(directory)? {
                info!(target: "signaling", room, directory = %directory.display(), "room declared");
                handlers.insert(&room, handler);
            }
        }
        Ok(handlers)
    }

    pub(crate) fn http_config(&self) -> Result<BroadcastHttpConfig, Failure> {
        Ok(BroadcastHttpConfig {
            issuer_key: self.secrets.token_issuer_key()?,
            token_limit: self.rate_limit_token,
            post_limit: self.rate_limit_post,
        })
    }
}

/// Parses a duration. 0 and `off` disable the limit.
fn parse_duration_or_off(text: &str) -> Result<OrOff<Duration>, InvalidValue> {
    Ok(parse_or_off(text, parse_millis)?.filter(|duration| !duration.is_zero()))
}

/// Contents of a room file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoomFile {
    requires_auth: Option<bool>,
    #[serde(deserialize_with = "read_delay")]
    broadcast_delay: Duration,
    welcome: toml::Table,
    max_clients: Option<NonZeroUsize>,
    stamp: bool,
}

fn read_delay<'a, D: Deserializer<'a>>(value: D) -> Result<Duration, D::Error> {
    parse_delay(&String::deserialize(value)?).map_err(D::Error::custom)
}

/// The rooms declared in `directory`, with their names.
fn read_room_files(directory: &Path) -> anyhow::Result<Vec<(String, DeclaredRoom)>> {
    let cannot_read = || format!("cannot read the rooms in {}", directory.display());
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let paths = entries.with_context(cannot_read)?.into_iter().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| is_room_file(path)).collect();
    paths.sort();
    paths.iter().map(|path| parse_room_file(path)).collect()
}

/// Whether a file declares a room. Editors and macOS create files with a leading dot, such as `.#stage.toml` and `._stage.toml`.
fn is_room_file(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    if is_toml && is_hidden {
        warn!(target: "signaling", file = %path.display(), "room file skipped: its name begins with a dot");
    }
    is_toml && !is_hidden
}

fn parse_room_file(path: &Path) -> anyhow::Result<(String, DeclaredRoom)> {
    let cannot = || format!("cannot use {} as a room", path.display());
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_valid_room_name(stem) {
        let reason = "reserved, too long, not UTF-8, or with control characters; rename the file";
        return Err(anyhow!("invalid room name {stem:?}: {reason}").context(cannot()));
    }
    let text = files::read_text(path).with_context(cannot)?;
    Ok((stem.to_owned(), parse_room(&text).with_context(cannot)?))
}

/// Parses the contents of a room file.
#[doc(hidden)]
pub fn parse_room(text: &str) -> anyhow::Result<DeclaredRoom> {
    let file: RoomFile = toml::from_str(text)?;
    Ok(DeclaredRoom {
        is_public: file.requires_auth == Some(false),
        broadcast_delay: file.broadcast_delay,
        welcome: json_fields(file.welcome),
        max_clients: file.max_clients.map(NonZeroUsize::get),
        stamp: file.stamp,
    })
}

/// Converts TOML to JSON. Dates and times become strings.
fn toml_to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Array(values) => values.into_iter().map(toml_to_json).collect(),
        toml::Value::Table(table) => json_fields(table).into(),
    }
}

fn json_fields(table: toml::Table) -> serde_json::Map<String, Value> {
    table.into_iter().map(|(key, value)| (key, toml_to_json(value))).collect()
}
