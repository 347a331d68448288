//! Options of `signaling-server` about broadcast rooms.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use tracing::{info, warn};

use super::Failure;
use super::args::{OrOff, Size};
use super::room_files;
use super::secrets::Secrets;
use crate::io::entropy;
use crate::io::http::rate::Rate;
use crate::io::rooms::BroadcastHttp;
use crate::io::rooms::broadcast::POST_BYTES;
use crate::rooms::broadcast::token::{Claims, Secret, VALID, sign};
use crate::rooms::broadcast::{self, LONGEST_DELAY, PAYLOAD_BYTES, SUPPRESSED, Settings, can_be_room};
use crate::rooms::handlers::{BANNED, Chat, Radio};
use crate::rooms::{Limits, Registry};
use crate::units::{self, Unit};

const HEADING: &str = "Broadcast rooms";

/// What relayed messages look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Envelope {
    /// As the documentation has it
    #[default]
    Document,
    /// As Dynode's players parse it
    Dynode,
}

/// A rate of requests.
#[derive(Clone, Copy, Debug)]
pub struct PerTime(Rate);

impl PerTime {
    /// As the HTTP side takes it.
    pub fn rate(self) -> Rate {
        self.0
    }
}

impl fmt::Display for PerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { most, per } = self.0;
        match per.as_secs() {
            1 => write!(f, "{most}/s"),
            60 => write!(f, "{most}/m"),
            3_600 => write!(f, "{most}/h"),
            minutes if minutes % 60 == 0 => write!(f, "{most}/{}m", minutes / 60),
            seconds => write!(f, "{most}/{seconds}s"),
        }
    }
}

/// A duration in seconds, or with a unit; fractions are fine.
#[derive(Clone, Copy, Debug)]
struct Delay(Duration);

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// A delay that is not too long.
fn delay(text: &str) -> Result<Delay, String> {
    let delay = units::parse_duration(text, Unit::Seconds).map_err(|error| error.to_string())?;
    if delay > LONGEST_DELAY { Err("nothing waits for more than 1h".to_owned()) } else { Ok(Delay(delay)) }
}

/// Who may be in broadcast rooms, and what happens there.
#[derive(Debug, clap::Args)]
pub struct BroadcastRooms {
    #[command(flatten)]
    secrets: Secrets,

    /// Print a token for this client and room, valid for so many seconds (3600), and end. It takes a secret, which the server has too
    #[arg(long, value_name = "CLIENT:ROOM[:SECONDS]", help_heading = HEADING)]
    print_token: Option<String>,

    /// What relayed messages look like
    #[arg(long, env = "BROADCAST_ENVELOPE", value_name = "FORM", value_enum, default_value_t, help_heading = HEADING)]
    broadcast_envelope: Envelope,

    /// How long messages of type post wait in room radio, in seconds or with a unit
    #[arg(long, env = "RADIO_POST_BROADCAST_DELAY_SECONDS", value_name = "DURATION", value_parser = delay, default_value_t = Delay(Duration::ZERO), help_heading = HEADING)]
    radio_delay: Delay,

    /// Types of messages that are acknowledged and not relayed. Comma-separated
    #[arg(long, env = "SUPPRESSED_TYPES", value_name = "TYPE", value_delimiter = ',', default_value = SUPPRESSED, help_heading = HEADING)]
    suppressed_types: Vec<String>,

    /// Words that room chat refuses, in whatever case. Comma-separated
    #[arg(long, env = "CHAT_BANNED_WORDS", value_name = "WORD", value_delimiter = ',', default_value = BANNED, help_heading = HEADING)]
    chat_banned_words: Vec<String>,

    /// Folder of *.toml files, each of which declares the room of its name
    #[arg(long, env = "ROOMS_DIR", value_name = "DIR", help_heading = HEADING)]
    rooms: Option<PathBuf>,

    /// Let control channels in without a token
    #[arg(long, env = "OPEN_CONTROL_CHANNEL", help_heading = HEADING)]
    open_control_channel: bool,

    /// How long a member may say nothing, in ms or with a unit; 0 or off is for ever
    #[arg(long, env = "IDLE_TIMEOUT_MS", value_name = "DURATION", value_parser = or_for_ever, default_value = "off", help_heading = HEADING)]
    idle_timeout: OrOff<super::args::Millis>,

    /// How long a connection may last, likewise
    #[arg(long, env = "MAX_CONN_AGE_MS", value_name = "DURATION", value_parser = or_for_ever, default_value = "off", help_heading = HEADING)]
    max_conn_age: OrOff<super::args::Millis>,

    /// Longest message in a broadcast room; who has shown no token keeps to 256 KiB too
    #[arg(long, env = "MAX_PAYLOAD_BYTES", value_name = "SIZE", value_parser = size, default_value_t = Size(PAYLOAD_BYTES as u64), help_heading = HEADING)]
    max_payload: Size,

    /// Longest body of a request
    #[arg(long, env = "POST_CONTENT_MAX_BYTES", value_name = "SIZE", value_parser = size, default_value_t = Size(POST_BYTES as u64), help_heading = HEADING)]
    post_max: Size,

    /// Most tokens that one address is given, as N/TIME (10/15m, 5/s), or off
    #[arg(long, env = "RATE_LIMIT_TOKEN", value_name = "RATE", value_parser = rate, default_value_t = OrOff(BroadcastHttp::default().token_rate.map(PerTime)), help_heading = HEADING)]
    rate_limit_token: OrOff<PerTime>,

    /// Most posts of one address, likewise
    #[arg(long, env = "RATE_LIMIT_POST", value_name = "RATE", value_parser = rate, default_value_t = OrOff(BroadcastHttp::default().post_rate.map(PerTime)), help_heading = HEADING)]
    rate_limit_post: OrOff<PerTime>,
}

impl BroadcastRooms {
    /// The token that is asked for, if one is: nothing else is to be done then.
    pub fn token(&self) -> Result<Option<String>, Failure> {
        let Some(asked) = &self.print_token else { return Ok(None) };
        let secret = self.secrets.hmac()?.ok_or_else(|| {
            Failure::usage(
                "--print-token needs the secret that the server has: give --hmac-secret-file FILE or HMAC_SECRET",
            )
        })?;
        let mistake = || {
            Failure::usage(format!("{asked:?} is no CLIENT:ROOM[:SECONDS]; give for instance client-001:radio:3600"))
        };
        let (client, rest) = asked.split_once(':').ok_or_else(mistake)?;
        let (room, seconds) = match rest.rsplit_once(':') {
            Some((room, seconds)) => (room, seconds.parse().ok().filter(|seconds| *seconds > 0.0).ok_or_else(mistake)?),
            None => (rest, VALID),
        };
        if client.is_empty() || !can_be_room(room) {
            return Err(mistake());
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let claims = Claims::new(client, room, serde_json::Map::new(), now_ms, seconds);
        Ok(Some(sign(&secret, &claims)))
    }

    /// Says so where no secret was given.
    pub fn warn(&self) -> Result<(), Failure> {
        if self.secrets.hmac()?.is_none() {
            warn!("No HMAC_SECRET is given: tokens are signed with a random secret and worth nothing after a restart");
        }
        Ok(())
    }

    /// Puts what the hub has to know of them among its limits.
    pub fn within(&self, limits: &Limits) -> Result<Limits, Failure> {
        let given = self.secrets.hmac()?;
        let listed = |list: &[String]| -> Vec<String> {
            list.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        };
        let broadcast = Settings {
            secret: Some(given.unwrap_or_else(|| Secret::from_words(entropy::words()))),
            envelope: self.envelope(),
            suppressed: listed(&self.suppressed_types),
            idle: self.idle_timeout.0.map(|millis| millis.0),
            age: self.max_conn_age.0.map(|millis| millis.0),
            open_control: self.open_control_channel,
            payload_bytes: usize::try_from(self.max_payload.0).unwrap_or(usize::MAX),
            ..Settings::default()
        };
        Ok(Limits { broadcast, ..limits.clone() })
    }

    /// What happens in the rooms.
    pub fn handlers(&self) -> Result<Registry, Failure> {
        let mut handlers = Registry::default();
        handlers.insert("radio", Radio::new(self.radio_delay.0, self.envelope()));
        handlers.insert("chat", Chat::new(&self.chat_banned_words));
        if let Some(folder) = &self.rooms {
            for (room, handler) in room_files::read(folder)? {
                info!("Room {room:?} is declared in {}", folder.display());
                handlers.insert(&room, handler);
            }
        }
        Ok(handlers)
    }

    /// The HTTP side.
    pub fn http(&self) -> Result<BroadcastHttp, Failure> {
        Ok(BroadcastHttp {
            issuer_key: self.secrets.issuer_key()?,
            token_rate: self.rate_limit_token.0.map(|rate| rate.0),
            post_rate: self.rate_limit_post.0.map(|rate| rate.0),
            post_bytes: usize::try_from(self.post_max.0).unwrap_or(usize::MAX),
        })
    }

    fn envelope(&self) -> broadcast::Envelope {
        match self.broadcast_envelope {
            Envelope::Document => broadcast::Envelope::Document,
            Envelope::Dynode => broadcast::Envelope::Dynode,
        }
    }
}

/// A duration; 0 and `off` are none.
fn or_for_ever(text: &str) -> Result<OrOff<super::args::Millis>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let duration = units::parse_duration(text, Unit::Millis).map_err(|error| error.to_string())?;
    Ok(OrOff((!duration.is_zero()).then_some(super::args::Millis(duration))))
}

/// A size that is not 0.
fn size(text: &str) -> Result<Size, String> {
    let size = units::parse_size(text).map_err(|error| error.to_string())?;
    if size == 0 { Err("nobody could say anything; give a size such as 1MiB".to_owned()) } else { Ok(Size(size)) }
}

/// So many in a time, or `off`.
pub(super) fn rate(text: &str) -> Result<OrOff<PerTime>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let parsed = text.split_once('/').and_then(|(most, time)| {
        let most = most.parse().ok().filter(|most: &u32| *most > 0)?;
        let (number, unit) = time.split_at(time.len().checked_sub(1).filter(|end| time.is_char_boundary(*end))?);
        let number: u64 = if number.is_empty() { 1 } else { number.parse().ok().filter(|number| *number > 0)? };
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        // A year is long enough, and cannot overflow.
        let per = number.checked_mul(seconds).filter(|seconds| *seconds <= 31_536_000)?;
        Some(PerTime(Rate { most, per: Duration::from_secs(per) }))
    });
    parsed.map(|rate| OrOff(Some(rate))).ok_or_else(|| "give a rate such as 10/15m, 30/m or 5/s, or off".to_owned())
}
