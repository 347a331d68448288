//! Options of clients of a signaling server, and the URLs to which they connect in each dialect.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Map;
use unicode_normalization::UnicodeNormalization;

use super::credentials::{SecretArg, read_hmac_secret};
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::dialect_parser;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::signaling::probe::WebSocketTarget;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::{clock, os};
use crate::signaling::token::{Audience, Claims, DEFAULT_LIFETIME_SECONDS, Secret, sign};
use crate::signaling::{BroadcastParams, Dialect, Route, decode_room_name, route};

pub(crate) const HEADING: &str = "Signaling server (ws:// or wss://)";

/// All characters except the unreserved ones (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Default, clap::Args)]
pub(crate) struct SignalingClientArgs {
    /// Message protocol (dialect) [default: from the URL]
    ///
    /// If the URL does not determine the dialect, the default is jamjam.
    #[arg(long, hide_short_help = true, value_parser = dialect_parser(), value_name = "DIALECT", help_heading = HEADING)]
    dialect: Option<Dialect>,

    /// The server's token secret, to sign the probe's own tokens
    ///
    /// With @FILE, the secret is the content of a file. Without this option, the probe uses the token of the URL (?token=TOKEN). In a
    /// WebRTC room, the probe joins as the client that this token names, unless the URL contains a userId.
    #[arg(long, hide_short_help = true, value_name = "SECRET|@FILE", help_heading = HEADING)]
    pub hmac_secret: Option<SecretArg>,
}

impl SignalingClientArgs {
    /// The URLs to connect to, and the dialect.
    pub(crate) fn probe_target(
        &self,
        url: WebSocketUrl,
        room: Option<&str>,
        socket_options: LocalSocketOptions,
    ) -> Result<WebSocketTarget, Failure> {
        let (dialect, params) = self.dialect(&url);
        self.reject_unused_options(dialect, room)?;
        let [nonce, own] = os::random_u64s();
        let generated_name = format!("probe-{:08x}", own >> 32);
        let secret = read_hmac_secret(self.hmac_secret.as_ref())?;
        let urls = match dialect {
            Dialect::WebRtc => vec![self.webrtc_url(&url, room, &generated_name, secret.as_ref())?],
            // One member sends, and the other receives.
            Dialect::Broadcast => {
                let room = room.or(params.room.as_deref());
                let is_named = params.token.is_none() || room.is_some();
                ensure_usage!(is_named, "a token is valid for one room; give --room, or the URL path /rooms/NAME");
                let url =
                    |name| self.broadcast_url(&url, &params, room.unwrap_or(&generated_name), name, secret.as_ref());
                ["jamjam-dev probe sender", "jamjam-dev probe receiver"]
                    .into_iter()
                    .map(url)
                    .collect::<Result<_, _>>()?
            }
            _ => vec![url],
        };
        let room_code = room.filter(|_| !dialect.is_selected_by_url()).map(str::to_owned);
        Ok(WebSocketTarget { urls, dialect, room_code, nonce, socket_options })
    }

    /// Rejects options that apply to other dialects only.
    pub(crate) fn reject_unused_options(&self, dialect: Dialect, room: Option<&str>) -> Result<(), Failure> {
        let reason = match dialect {
            _ if self.hmac_secret.is_some() && !dialect.is_selected_by_url() => {
                "--hmac-secret: only broadcast and WebRTC rooms use tokens; give --dialect broadcast or --dialect webrtc"
            }
            Dialect::Jamjam if room.is_some() => {
                "--room: this probe joins no room of the jamjam dialect. Give --dialect broadcast, webrtc or bbx; or for a member of the room \
                 over UDP, --signaling-url instead of the target"
            }
            _ => return Ok(()),
        };
        Err(Failure::usage(reason))
    }

    /// The dialect, and what the URL says about a broadcast room.
    pub(crate) fn dialect(&self, url: &WebSocketUrl) -> (Dialect, BroadcastParams) {
        let routed = route(url.path(), url.query(), &Dialect::ALL);
        let by_url = routed.as_ref().ok().and_then(Route::dialect);
        let params = match routed {
            Ok(Route::Broadcast(params)) => params,
            _ => BroadcastParams::default(),
        };
        (self.dialect.or(by_url).unwrap_or(Dialect::Jamjam), params)
    }

    /// The URL of the member `name` of a broadcast room.
    pub(crate) fn broadcast_url(
        &self,
        url: &WebSocketUrl,
        params: &BroadcastParams,
        room: &str,
        name: &str,
        secret: Option<&Secret>,
    ) -> Result<WebSocketUrl, Failure> {
        ensure_usage!(!params.is_control_channel, "a control channel cannot be probed; give the path of the room");
        let url_room = params.room.as_deref();
        let is_same = url_room.is_none_or(|url_room| url_room.nfc().eq(room.nfc()));
        ensure_usage!(is_same, "--room: the URL names another room; omit --room or the room in the URL");
        self.reject_second_token(params.token.is_some())?;
        let room = url_room.unwrap_or(room);
        let encoded = utf8_percent_encode(room, RESERVED).to_string();
        ensure_usage!(decode_room_name(&encoded).is_some(), "--room: {room:?} is no name of a broadcast room");
        let room_path = format!("/rooms/{encoded}");
        // A URL that contains the room keeps its path and query. If the URL contains no room, its path determines where the room is added.
        // The path `/` becomes `/rooms/NAME`. If the URL has another path, such as /ws, the room is added to the query.
        let (path, query) = match (url_room, url.path()) {
            (Some(_), path) => (path, None),
            (None, "/") => (room_path.as_str(), None),
            (None, path) => (path, Some(("room", room))),
        };
        let claims = Claims::new(name, room, Map::new(), clock::unix_ms(), DEFAULT_LIFETIME_SECONDS);
        let token = secret.map(|secret| sign(secret, &claims));
        let token = token.as_deref().map(|token| ("token", token));
        let parameters: Vec<(&str, &str)> = query.into_iter().chain(token).collect();
        url.with_path_and_query(path, &parameters).map_err(Failure::usage)
    }

    /// Rejects a URL with a token if the probe signs its own tokens.
    fn reject_second_token(&self, url_has_token: bool) -> Result<(), Failure> {
        let has_both = url_has_token && self.hmac_secret.is_some();
        ensure_usage!(!has_both, "--hmac-secret: the URL already contains a token; omit one of them");
        Ok(())
    }

    /// Adds the room, the user and the token to the URL unless it already contains them. Without a room or user, those of the token are
    /// used.
    pub(crate) fn webrtc_url(
        &self,
        url: &WebSocketUrl,
        room: Option<&str>,
        generated_name: &str,
        secret: Option<&Secret>,
    ) -> Result<WebSocketUrl, Failure> {
        // If a parameter is repeated, the server uses its last value.
        let parameter = |name: &str| {
            let values = form_urlencoded::parse(url.query().as_bytes()).filter(|(key, _)| key == name);
            values.last().map(|(_, value)| value.into_owned())
        };
        let (url_room, url_user, url_token) = (parameter("roomId"), parameter("userId"), parameter("token"));
        let has_both = room.is_some() && url_room.is_some();
        ensure_usage!(!has_both, "--room: the URL already contains a roomId; omit one of them");
        self.reject_second_token(url_token.is_some())?;
        let claims = url_token.as_deref().and_then(Claims::read_unverified);
        let (claimed_room, claimed_user) = claims.map(|claims| (claims.room, claims.client_id)).unzip();
        let given_room = room.or(url_room.as_deref()).or(claimed_room.as_deref());
        let room = given_room.filter(|room| !room.is_empty()).unwrap_or(generated_name);
        let given_user = url_user.as_deref().or(claimed_user.as_deref());
        let user = given_user.filter(|user| !user.is_empty()).unwrap_or(generated_name);
        let token = secret.map(|secret| {
            let claims = Claims::new(user, room, Map::new(), clock::unix_ms(), DEFAULT_LIFETIME_SECONDS);
            sign(secret, &claims.with_audience(Audience::WebRtc))
        });
        let all = [("roomId", room), ("userId", user), ("userName", "jamjam-dev probe")];
        let missing = all.into_iter().filter(|(name, _)| parameter(name).is_none());
        let missing: Vec<(&str, &str)> = missing.chain(token.as_deref().map(|token| ("token", token))).collect();
        url.with_path_and_query(url.path(), &missing).map_err(Failure::usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        dialect: SignalingClientArgs,
    }

    fn probe_target(url: &str, room: Option<&str>, words: &[&str]) -> WebSocketTarget {
        let options = Options::parse_from(["x"].iter().chain(words)).dialect;
        options.probe_target(url.parse().unwrap(), room, LocalSocketOptions::default()).unwrap()
    }

    fn probe_urls(url: &str, room: Option<&str>, words: &[&str]) -> Vec<String> {
        let urls = probe_target(url, room, words).urls;
        urls.iter().map(|url| format!("{}?{}", url.path(), url.query())).collect()
    }

    #[test]
    fn url_determines_the_dialect() {
        use Dialect::{Broadcast, ControlSurface, Jamjam, WebRtc};
        for (url, words, dialect) in [
            ("ws://h", &[][..], Jamjam),
            ("ws://h/ws", &[], Jamjam),
            ("ws://h/v1/signaling", &[], Jamjam),
            ("ws://h/radio", &[], Broadcast),
            ("ws://h/rooms/radio", &[], Broadcast),
            ("ws://h/?room=radio", &[], Broadcast),
            ("ws://h/?userId=u", &[], WebRtc),
            ("ws://h/radio", &["--dialect", "webrtc"], WebRtc),
            ("ws://h", &["--dialect", "bbx"], ControlSurface),
            ("ws://h/radio", &["--dialect", "bbx"], ControlSurface),
        ] {
            assert_eq!(probe_target(url, None, words).dialect, dialect, "{url}");
        }
    }

    #[test]
    fn room_is_the_code_of_a_control_surface_room() {
        let code = |room| probe_target("ws://h", room, &["--dialect", "bbx"]).room_code;
        assert_eq!((code(Some("1234")), code(None)), (Some("1234".to_owned()), None));
    }

    #[test]
    fn both_members_of_a_broadcast_room_get_its_url_and_token() {
        let urls = |url, room| probe_urls(url, room, &["--dialect", "broadcast"]);
        for (url, room, path) in [
            ("ws://h?token=t", Some("a b"), "/rooms/a%20b?token=t"),
            ("ws://h/ws?x=1&token=t", Some("r"), "/ws?x=1&token=t&room=r"),
            ("ws://h/r?token=t", None, "/r?token=t"),
            ("ws://h/rooms/r?token=t", Some("r"), "/rooms/r?token=t"),
        ] {
            assert_eq!(urls(url, room), [path, path], "{url}");
        }
        let generated = urls("ws://h", None);
        assert!(generated[0].starts_with("/rooms/probe-") && generated[0] == generated[1], "{generated:?}");
        assert_ne!(urls("ws://h", None), generated);
    }

    #[test]
    fn webrtc_url_gets_the_missing_parameters() {
        let urls = |url, room| probe_urls(url, room, &["--dialect", "webrtc"]).remove(0);
        let all = urls("ws://h", Some("ä"));
        assert!(
            all.starts_with("/?roomId=%C3%A4&userId=probe-") && all.ends_with("&userName=jamjam-dev+probe"),
            "{all}"
        );
        assert_eq!(urls("ws://h/x?roomId=r&userId=u&userName=n", None), "/x?roomId=r&userId=u&userName=n");
    }

    #[test]
    fn webrtc_url_gets_the_token_with_its_room_and_user() {
        let claims = Claims::new("ann b", "jam", Map::new(), 0, 60.0).with_audience(Audience::WebRtc);
        let token = sign(&Secret::new("s"), &claims);
        let urls = |query: &str, room| probe_urls(&format!("ws://h?{query}"), room, &["--dialect", "webrtc"]).remove(0);
        let given = format!("token={token}");
        let rest = "&userName=jamjam-dev+probe";
        assert_eq!(urls(&given, None), format!("/?{given}&roomId=jam&userId=ann+b{rest}"));
        assert_eq!(urls(&format!("userId=u&{given}"), Some("r")), format!("/?userId=u&{given}&roomId=r{rest}"));
        assert!(urls("token=x", Some("r")).starts_with("/?token=x&roomId=r&userId=probe-"));
    }
}
