//! What a signaling server is asked by `probe --to ws://…`: the dialect, the room, and what has to be shown to get in.

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Map;

use super::{Failure, secrets};
use crate::flow;
use crate::io::entropy;
use crate::io::signaling::{SignalingUrl, UrlError};
use crate::io::websocket::Plan;
use crate::rooms::broadcast::token::{Claims, Secret, VALID, sign};
use crate::rooms::broadcast::{self, room_name};
use crate::rooms::{Dialects, Route, route};

const HEADING: &str = "Signaling server (with --to ws:// or wss://)";

/// All but what stands for itself in a path (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A dialect of a signaling server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// The jamjam app's own
    Jamjam,
    /// Broadcast rooms: a path with the room's name, and a token
    Broadcast,
    /// Control surfaces: telephones in a program's rooms
    Bbx,
    /// WebRTC signaling: an URL with roomId, userId and userName
    Webrtc,
}

impl From<Dialect> for flow::Dialect {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Jamjam => Self::Jamjam,
            Dialect::Broadcast => Self::Broadcast,
            Dialect::Bbx => Self::Bbx,
            Dialect::Webrtc => Self::Webrtc,
        }
    }
}

/// Options of a probe of a signaling server.
#[derive(clap::Args)]
pub struct DialectArgs {
    /// What to speak [default: what the URL asks for, else jamjam]
    #[arg(long, value_enum, value_name = "DIALECT", help_heading = HEADING)]
    dialect: Option<Dialect>,

    /// Token for a broadcast room, which every user of this machine can see here
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    token: Option<String>,

    /// File with that token; a line break at its end does not count
    #[arg(long, value_name = "FILE", conflicts_with = "token", help_heading = HEADING)]
    token_file: Option<PathBuf>,

    /// File with the secret of a server's broadcast tokens, to sign tokens for both members with
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "token_file"], help_heading = HEADING)]
    hmac_secret_file: Option<PathBuf>,

    /// Join the bbx room of this code first; pings are answered outside of rooms too
    #[arg(long, value_name = "CODE", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    code: Option<String>,
}

/// Without the token.
impl fmt::Debug for DialectArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialectArgs").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl DialectArgs {
    /// The option that is given, if one is.
    pub fn given(&self) -> Option<&'static str> {
        let dialect = self.dialect.map(|_| "--dialect");
        dialect.or(self.shown()).or(self.code.as_ref().map(|_| "--code"))
    }

    /// The option that lets members into a broadcast room.
    fn shown(&self) -> Option<&'static str> {
        let all = [
            ("--token", self.token.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--hmac-secret-file", self.hmac_secret_file.is_some()),
        ];
        all.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    /// Whom to connect to, and what to speak there.
    pub fn plan(&self, url: &str, room: Option<&str>) -> Result<Plan, Failure> {
        // The text is not repeated: there may be a token in it.
        let url: SignalingUrl = url.parse().map_err(unreadable)?;
        let routed = route(url.path(), url.query(), Dialects::default());
        let by_url = match &routed {
            Ok(Route::Broadcast(_)) => flow::Dialect::Broadcast,
            Ok(Route::WebRtc(_)) => flow::Dialect::Webrtc,
            _ => flow::Dialect::Jamjam,
        };
        let dialect = self.dialect.map_or(by_url, flow::Dialect::from);
        self.refuse_in_vain(dialect, room)?;
        let [nonce, own] = entropy::words();
        let fresh = format!("probe-{:08x}", own >> 32);
        let urls = match (dialect, routed) {
            (flow::Dialect::Jamjam | flow::Dialect::Bbx, _) => vec![url],
            (flow::Dialect::Webrtc, _) => vec![webrtc(&url, room, &fresh)?],
            (flow::Dialect::Broadcast, Ok(Route::Broadcast(asked))) => self.broadcast(&url, &asked, room, &fresh)?,
            (flow::Dialect::Broadcast, _) => self.broadcast(&url, &broadcast::Asked::default(), room, &fresh)?,
        };
        Ok(Plan { urls, dialect, code: self.code.clone(), nonce })
    }

    /// Refuses options of one dialect in another.
    fn refuse_in_vain(&self, dialect: flow::Dialect, room: Option<&str>) -> Result<(), Failure> {
        use flow::Dialect::{Bbx, Broadcast, Jamjam, Webrtc};
        let why = match (dialect, room.is_some(), self.shown(), &self.code) {
            (Jamjam | Bbx | Webrtc, _, Some(option), _) => {
                format!("{option}: only broadcast rooms take tokens; give --dialect broadcast")
            }
            (Jamjam | Broadcast | Webrtc, _, _, Some(_)) => {
                "--code: only bbx rooms have codes; give --dialect bbx".to_owned()
            }
            (Jamjam, true, ..) => {
                "--room: jamjam is asked for its list outside of rooms; give --dialect broadcast or webrtc, or \
                                   with UDP --signaling-url in place of --to"
                    .to_owned()
            }
            (Bbx, true, ..) => "--room: a bbx room is joined by its --code".to_owned(),
            _ => return Ok(()),
        };
        Err(Failure::usage(why))
    }

    /// Two members of a broadcast room.
    fn broadcast(
        &self,
        url: &SignalingUrl,
        asked: &broadcast::Asked,
        room: Option<&str>,
        fresh: &str,
    ) -> Result<Vec<SignalingUrl>, Failure> {
        if asked.control {
            return Err(Failure::usage("--to: a control channel only listens; give the room's own path, /rooms/NAME"));
        }
        let named = asked.room.as_deref();
        if let (Some(named), Some(room)) = (named, room)
            && named != room
        {
            return Err(Failure::usage("--room: the URL names another room; give one or the other"));
        }
        if let Some(option) = self.shown().filter(|_| asked.token.is_some()) {
            return Err(Failure::usage(format!("{option}: there is a token in the URL; give one or the other")));
        }
        let has_token = asked.token.is_some() || self.token.is_some() || self.token_file.is_some();
        if has_token && named.or(room).is_none() {
            return Err(Failure::usage("a token is for one room: name it by --room, or in the URL as /rooms/NAME"));
        }
        let member = named.or(room).unwrap_or(fresh);
        let encoded = utf8_percent_encode(member, RESERVED).to_string();
        if room_name(&encoded).is_err() {
            return Err(Failure::usage(
                "--room: no broadcast room can be called so: up to 128 bytes, without / and control characters, and none of a \
                 server's own paths such as health",
            ));
        }
        let below = format!("/rooms/{encoded}");
        // A room in the path stays where it is; at /ws, or wherever a proxy has put the server, the query names it.
        let (path, query) = match (named, url.path()) {
            (Some(_), path) => (path, None),
            (None, "/") => (below.as_str(), None),
            (None, path) => (path, Some(("room", member))),
        };
        self.tokens(member)?
            .iter()
            .map(|token| {
                let token = token.as_ref().map(|token| ("token", token.as_str()));
                let more: Vec<(&str, &str)> = query.into_iter().chain(token).collect();
                url.asking(path, &more).map_err(unreadable)
            })
            .collect()
    }

    /// What each of the two members shows.
    fn tokens(&self, room: &str) -> Result<[Option<String>; 2], Failure> {
        if let Some(secret) = secrets::text("--hmac-secret", None, self.hmac_secret_file.as_deref())? {
            let secret = Secret::new(&secret);
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
            let member = |name| sign(&secret, &Claims::new(name, room, Map::new(), now_ms, VALID));
            return Ok(["jamjam-dev probe speaking", "jamjam-dev probe listening"].map(|name| Some(member(name))));
        }
        let token = secrets::text("--token", self.token.as_deref(), self.token_file.as_deref())?;
        Ok([token.clone(), token])
    }
}

/// A participant, as far as the URL does not name one.
fn webrtc(url: &SignalingUrl, room: Option<&str>, fresh: &str) -> Result<SignalingUrl, Failure> {
    let is_there = |name: &str| form_urlencoded::parse(url.query().as_bytes()).any(|(known, _)| known == name);
    if room.is_some() && is_there("roomId") {
        return Err(Failure::usage("--room: the URL names a roomId; give one or the other"));
    }
    let all = [("roomId", room.unwrap_or(fresh)), ("userId", fresh), ("userName", "jamjam-dev probe")];
    let missing: Vec<(&str, &str)> = all.into_iter().filter(|(name, _)| !is_there(name)).collect();
    url.asking(url.path(), &missing).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unreadable(error: UrlError) -> Failure {
    Failure::usage(format!("--to: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        dialect: DialectArgs,
    }

    fn plan(url: &str, room: Option<&str>, words: &[&str]) -> Result<(flow::Dialect, Vec<String>), String> {
        let options = Options::parse_from(["x"].iter().chain(words)).dialect;
        let plan = options.plan(url, room).map_err(|failure| failure.error.to_string())?;
        let urls = plan.urls.iter().map(|url| format!("{}?{}", url.path(), url.query())).collect();
        Ok((plan.dialect, urls))
    }

    #[test]
    fn the_url_decides_what_is_spoken_where_it_can() {
        use flow::Dialect::{Bbx, Broadcast, Jamjam, Webrtc};
        for (url, words, dialect) in [
            ("ws://h", &[][..], Jamjam),
            ("ws://h/ws", &[], Jamjam),
            ("ws://h/v1/signaling", &[], Jamjam),
            ("ws://h/radio", &[], Broadcast),
            ("ws://h/rooms/radio", &[], Broadcast),
            ("ws://h/?room=radio", &[], Broadcast),
            ("ws://h/?userId=u", &[], Webrtc),
            ("ws://h/radio", &["--dialect", "webrtc"], Webrtc),
            ("ws://h", &["--dialect", "bbx", "--code", "1234"], Bbx),
        ] {
            assert_eq!(plan(url, None, words).unwrap().0, dialect, "{url}");
        }
    }

    #[test]
    fn two_members_of_a_broadcast_room_connect_to_its_path() {
        let urls =
            |url, room, words: &[&str]| plan(url, room, &[&["--dialect", "broadcast"], words].concat()).unwrap().1;
        for (url, room, path) in [
            ("ws://h", Some("a b"), "/rooms/a%20b?token=t"),
            ("ws://h/ws?x=1", Some("r"), "/ws?x=1&room=r&token=t"),
            ("ws://h/r", None, "/r?token=t"),
            ("ws://h/rooms/r", Some("r"), "/rooms/r?token=t"),
        ] {
            assert_eq!(urls(url, room, &["--token", "t"]), [path, path], "{url}");
        }
        let fresh = urls("ws://h", None, &[]);
        assert!(fresh[0].starts_with("/rooms/probe-") && fresh[0] == fresh[1], "{fresh:?}");
        assert_ne!(urls("ws://h", None, &[]), fresh);
    }

    #[test]
    fn a_participant_has_what_the_url_does_not_say() {
        let urls = |url, room| plan(url, room, &["--dialect", "webrtc"]).unwrap().1.remove(0);
        let all = urls("ws://h", Some("ä"));
        assert!(
            all.starts_with("/?roomId=%C3%A4&userId=probe-") && all.ends_with("&userName=jamjam-dev+probe"),
            "{all}"
        );
        assert_eq!(urls("ws://h/x?roomId=r&userId=u&userName=n", None), "/x?roomId=r&userId=u&userName=n");
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (url, room, words, error) in [
            ("ws://me:secret@h", None, &[][..], "--to: a user name or password cannot be given in the URL"),
            ("ws://h", Some("r"), &[], "--room: jamjam is asked for its list outside of rooms"),
            ("ws://h", Some("r"), &["--dialect", "bbx"], "--room: a bbx room is joined by its --code"),
            ("ws://h", None, &["--token", "t"], "--token: only broadcast rooms take tokens; give --dialect broadcast"),
            ("ws://h/r", None, &["--code", "1"], "--code: only bbx rooms have codes; give --dialect bbx"),
            ("ws://h/r", Some("s"), &[], "--room: the URL names another room"),
            ("ws://h/r?token=t", None, &["--token", "t"], "--token: there is a token in the URL"),
            ("ws://h/rooms/r/remotecontrol", None, &[], "--to: a control channel only listens"),
            ("ws://h", None, &["--dialect", "broadcast", "--token", "t"], "a token is for one room: name it by --room"),
            ("ws://h?token=t", None, &[], "a token is for one room: name it by --room"),
            ("ws://h", Some("a/b"), &["--dialect", "broadcast"], "--room: no broadcast room can be called so"),
            ("ws://h", Some("health"), &["--dialect", "broadcast"], "--room: no broadcast room can be called so"),
            ("ws://h?roomId=r", Some("s"), &[], "--room: the URL names a roomId"),
        ] {
            let said = plan(url, room, words).unwrap_err();
            assert!(said.starts_with(error), "{url}: {said}");
        }
    }
}
