//! What a client asks for when it connects, and which names rooms may have.

use std::fmt;

use form_urlencoded::parse;
use percent_encoding::percent_decode_str;

use super::token::Secret;

/// The longest name of a room, in bytes.
const LONGEST: usize = 128;

/// First segments of paths that are no rooms.
const RESERVED: [&str; 16] = [
    "health",
    "healthz",
    "readyz",
    "rooms",
    "docs",
    "console",
    "auth",
    "admin",
    "api",
    "v1",
    "ws",
    "metrics",
    "images",
    "favicon.ico",
    "openapi.json",
    "postcontent",
];

/// A token as a client gave it: not shown, for whoever has it is let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Given(String);

impl Given {
    /// The token in the value of an `Authorization` header.
    pub fn bearer(header: &str) -> Option<Self> {
        let (scheme, token) = header.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Self(token.trim().to_owned()))
    }

    /// Whether it is this secret, in a time that does not tell how nearly.
    pub fn is(&self, secret: &Secret) -> bool {
        secret.is(&self.0)
    }

    pub(in crate::rooms) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The room, if one was named that can be.
    pub room: Option<String>,
    /// Whether it wants the room's control channel.
    pub control: bool,
    /// Its token, from the query or else from the `Authorization` header.
    pub token: Option<Given>,
    /// The other parameters of the query.
    pub query: Vec<(String, String)>,
    /// The headers that a room may see, by their names in small letters.
    pub headers: Vec<(String, String)>,
}

/// Headers that log somebody in, which is nobody else's business.
const HIDDEN: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Asked {
    /// What a query asks for in the room that is named by a path, or by the query itself.
    pub(in crate::rooms) fn new(named: Option<Result<String, NoRoom>>, control: bool, query: &str) -> Self {
        let mut asked = Self { control, ..Self::default() };
        let mut in_query = None;
        for (name, value) in parse(query.as_bytes()) {
            match &*name {
                "token" if asked.token.is_none() && !value.is_empty() => asked.token = Some(Given(value.into_owned())),
                "room" if in_query.is_none() => in_query = Some(checked(value.into_owned())),
                // The first counts.
                "token" | "room" => {}
                _ => asked.query.push((name.into_owned(), value.into_owned())),
            }
        }
        asked.room = named.or(in_query).and_then(Result::ok);
        asked
    }

    /// The token that the `Authorization` header shows, unless the query has one.
    #[must_use]
    pub fn or_shown(mut self, authorization: Option<&str>) -> Self {
        self.token = self.token.or_else(|| Given::bearer(authorization?));
        self
    }

    /// All that a room may know of the headers (their names in small letters), which are forgotten once it has let them in.
    #[must_use]
    pub fn showing<'a>(mut self, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let shown = headers.filter(|(name, _)| !HIDDEN.contains(name));
        self.headers = shown.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self
    }
}

/// A name that no room can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

fn checked(name: String) -> Result<String, NoRoom> {
    let is_odd = |letter: char| letter.is_control() || letter == '/';
    let wrong = name.is_empty() || name.len() > LONGEST || name.contains(is_odd) || RESERVED.contains(&&*name);
    if wrong { Err(NoRoom) } else { Ok(name) }
}

/// Whether a room can have this name, as it is and not percent-encoded.
pub fn can_be_room(name: &str) -> bool {
    checked(name.to_owned()).is_ok()
}

/// The room that a segment of a path names: percent-decoded, once.
pub fn room(segment: &str) -> Result<String, NoRoom> {
    let name = percent_decode_str(segment).decode_utf8().map_err(|_| NoRoom)?;
    checked(name.into_owned())
}

/// What a path asks for: a room and whether its control channel; `None` if no room has it.
pub(in crate::rooms) fn in_path(path: &str) -> Option<(Result<String, NoRoom>, bool)> {
    let path = path.strip_prefix('/')?;
    let Some(below) = path.strip_prefix("rooms") else { return bare(path) };
    let Some(below) = below.strip_prefix('/') else {
        return if below.is_empty() { Some((Err(NoRoom), false)) } else { bare(path) };
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    match below.split_once('/') {
        None => Some((room(below), false)),
        Some((name, "remotecontrol")) => Some((room(name), true)),
        Some(_) => None,
    }
}

/// A room right below the root. A reserved name is the path of something else.
fn bare(path: &str) -> Option<(Result<String, NoRoom>, bool)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let elsewhere = path.is_empty() || path.contains('/') || RESERVED.contains(&&*decoded);
    (!elsewhere).then(|| (room(path), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Option<(Option<String>, bool)> {
        in_path(path).map(|(room, control)| (room.ok(), control))
    }

    #[test]
    fn a_path_names_a_room_in_two_ways_and_its_control_channel_in_one() {
        let radio = || Some("radio".to_owned());
        for path in ["/radio", "/radio/", "/rooms/radio", "/rooms/radio/", "/%72adio"] {
            assert_eq!(named(path), Some((radio(), false)), "{path}");
        }
        for path in ["/rooms/radio/remotecontrol", "/rooms/radio/remotecontrol/"] {
            assert_eq!(named(path), Some((radio(), true)), "{path}");
        }
        for path in [
            "",
            "/",
            "/ws",
            "/health",
            "/%68ealth",
            "/postcontent",
            "/v1",
            "/v1/signaling",
            "/radio/remotecontrol",
            "/rooms/a/b",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_once_and_some_are_no_rooms() {
        let named = |path| named(path).and_then(|(room, _)| room);
        for (path, room) in [
            ("/a%20b", "a b"),
            ("/%2541", "%41"),
            ("/a+b", "a+b"),
            ("/%E2%98%83", "☃"),
            ("/roomsx", "roomsx"),
            ("/Health", "Health"),
        ] {
            assert_eq!(named(path).as_deref(), Some(room));
        }
        assert_eq!(named(&format!("/{}", "x".repeat(128))).map(|name| name.len()), Some(128));
        let long = format!("/{}", "x".repeat(129));
        for path in [
            "/rooms",
            "/rooms/",
            "/rooms/health",
            "/rooms/rooms",
            "/a%2Fb",
            "/a%00",
            "/a%C2%85",
            "/%FF",
            "/rooms//remotecontrol",
            &long,
        ] {
            assert_eq!(in_path(path).map(|(room, _)| room), Some(Err(NoRoom)), "{path}");
        }
    }

    #[test]
    fn a_room_sees_every_header_but_those_that_log_somebody_in() {
        let headers = [
            ("host", "x"),
            ("authorization", "Bearer t"),
            ("cookie", "c"),
            ("proxy-authorization", "p"),
            ("accept", "a"),
        ];
        let asked = Asked::new(None, false, "").showing(headers.into_iter());
        assert_eq!(
            asked.headers,
            [("host", "x"), ("accept", "a")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn the_query_has_the_first_word_on_the_token_and_nobody_sees_it() {
        let asked = Asked::new(None, false, "room=a&token=secret1&token=secret2&x=1&room=b&x=2");
        assert_eq!(asked.room.as_deref(), Some("a"));
        assert_eq!(asked.query, [("x".to_owned(), "1".to_owned()), ("x".to_owned(), "2".to_owned())]);
        let shown = format!("{asked:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(asked.or_shown(Some("Bearer other")).token, Some(Given("secret1".to_owned())));
        let from_header = |header| Asked::new(None, false, "token=").or_shown(Some(header)).token;
        assert_eq!(from_header("bearer  t"), Some(Given("t".to_owned())));
        assert_eq!((from_header("Basic t"), from_header("t")), (None, None));
    }
}
