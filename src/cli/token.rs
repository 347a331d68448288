//! `jamjam-dev token`: prints a token with which a client joins a room.

use clap::builder::Resettable;

use super::options::broadcast::WebRtcAuthArgs;
use super::options::credentials::HmacSecretArgs;
use super::output::{Failure, ensure_usage, print};
use crate::io::clock;
use crate::signaling::token::{Audience, Claims, DEFAULT_LIFETIME_SECONDS, sign};
use crate::signaling::{MAX_WEBRTC_ROOM_BYTES, is_valid_room_name};

/// Print a token with which a client joins a broadcast or WebRTC room
#[derive(clap::Args)]
#[command(mut_arg("hmac_secret", |arg| arg.help("Secret of the server")))]
#[command(mut_arg("webrtc_auth", |arg| arg.help("With `token`, the room is a WebRTC room").long_help(Resettable::Reset)))]
pub(crate) struct Args {
    /// Client and room, and for how long the token is valid [default: 3600]
    ///
    /// With --webrtc-auth token, the token is for a WebRTC room, and CLIENT is the userId of the client.
    #[arg(value_name = "CLIENT:ROOM[:SECONDS]", value_parser = parse_request)]
    request: Request,

    #[command(flatten)]
    secret: HmacSecretArgs,

    #[command(flatten)]
    webrtc: WebRtcAuthArgs,
}

/// Who may join which room, and for how long.
#[derive(Clone)]
struct Request {
    client: String,
    room: String,
    seconds: f64,
}

/// Parses `CLIENT:ROOM[:SECONDS]`.
fn parse_request(text: &str) -> Result<Request, &'static str> {
    let invalid = "give CLIENT:ROOM[:SECONDS], such as client-001:radio:3600";
    let (client, rest) = text.split_once(':').filter(|(client, _)| !client.is_empty()).ok_or(invalid)?;
    let (room, seconds) = match rest.rsplit_once(':') {
        Some((room, seconds)) => (room, seconds.parse().ok().filter(|seconds| *seconds > 0.0).ok_or(invalid)?),
        None => (rest, DEFAULT_LIFETIME_SECONDS),
    };
    Ok(Request { client: client.to_owned(), room: room.to_owned(), seconds })
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let Request { client, room, seconds } = &self.request;
        let secret = self.secret.read()?.ok_or_else(|| {
            Failure::usage("a token needs the server's secret; add --hmac-secret @FILE or set HMAC_SECRET")
        })?;
        let (audience, is_valid) = if self.webrtc.requires_token() {
            (Audience::WebRtc, !room.is_empty() && room.len() <= MAX_WEBRTC_ROOM_BYTES)
        } else {
            (Audience::Broadcast, is_valid_room_name(room))
        };
        ensure_usage!(is_valid, "{room:?} is no name of a room");
        let claims = Claims::new(client, room, serde_json::Map::new(), clock::unix_ms(), *seconds);
        print(&sign(&secret, &claims.with_audience(audience)))?;
        Ok(0)
    }
}
