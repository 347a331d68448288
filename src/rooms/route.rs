//! Which dialect an upgrade request asks for: the one table of it. The path beats the query.

use form_urlencoded::parse;
use thiserror::Error;

use super::{broadcast, webrtc};

/// Which dialects are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each dialect is spoken or not, whatever the others are")]
pub struct Dialects {
    /// Broadcast rooms.
    pub broadcast: bool,
    /// jamjam's own signaling.
    pub jamjam: bool,
    /// Control surfaces.
    pub bbx: bool,
    /// WebRTC signaling.
    pub webrtc: bool,
}

impl Dialects {
    /// jamjam's own signaling alone.
    pub const JAMJAM: Self = Self { broadcast: false, jamjam: true, bbx: false, webrtc: false };
}

impl Default for Dialects {
    /// All of them.
    fn default() -> Self {
        Self { broadcast: true, jamjam: true, bbx: true, webrtc: true }
    }
}

/// What the request's path and query decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The first message that is understood will decide.
    Undecided,
    /// WebRTC signaling, and who wants to be where.
    WebRtc(webrtc::Asked),
    /// A broadcast room, and what has been shown to get in.
    Broadcast(broadcast::Asked),
    /// Closed at once: the page that it comes from is not [welcome](super::Limits::welcomes), whatever it asks for. A browser shows its
    /// script no other answer than a close code.
    Unwelcome,
}

/// Why an upgrade is refused; the status is 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No dialect is spoken there.
    #[error("no rooms are at this path; connect to / or /ws")]
    Path,
    /// The query asks for a dialect that is not there.
    #[error("the query belongs to a dialect that is not spoken here")]
    Query,
}

/// Decides by the request's `path` and `query`. What only one dialect could be meant for goes to that one, whatever its path.
pub fn route(path: &str, query: &str, dialects: Dialects) -> Result<Route, Refusal> {
    let webrtc = || Route::WebRtc(asked(query));
    match dialects {
        Dialects { jamjam: true, bbx: false, webrtc: false, broadcast: false }
        | Dialects { jamjam: false, bbx: true, webrtc: false, broadcast: false } => {
            return Ok(Route::Undecided);
        }
        Dialects { jamjam: false, bbx: false, webrtc: true, broadcast: false } => return Ok(webrtc()),
        _ => {}
    }
    let alone = dialects == Dialects { broadcast: true, jamjam: false, bbx: false, webrtc: false };
    let in_path = broadcast::in_path(path).filter(|_| dialects.broadcast);
    if let Some((room, control)) = in_path {
        return Ok(Route::Broadcast(broadcast::Asked::new(Some(room), control, query)));
    }
    if alone {
        return Ok(Route::Broadcast(broadcast::Asked::new(None, false, query)));
    }
    if !matches!(path, "/" | "/ws" | "/ws/") {
        return Err(Refusal::Path);
    }
    let has = |names: &[&str]| parse(query.as_bytes()).any(|(name, _)| names.contains(&&*name));
    if has(&["roomId", "userId", "userName"]) {
        return if dialects.webrtc { Ok(webrtc()) } else { Err(Refusal::Query) };
    }
    match (has(&["room", "token"]), dialects.broadcast) {
        (true, true) => Ok(Route::Broadcast(broadcast::Asked::new(None, false, query))),
        (true, false) => Err(Refusal::Query),
        (false, _) => Ok(Route::Undecided),
    }
}

/// What a query asks for in WebRTC signaling. Of what it says twice the last counts.
fn asked(query: &str) -> webrtc::Asked {
    let mut asked = webrtc::Asked::default();
    for (name, value) in parse(query.as_bytes()) {
        match &*name {
            "roomId" => asked.room = value.into_owned(),
            "userId" => asked.user = value.into_owned(),
            "userName" => asked.name = value.into_owned(),
            _ => {}
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    const BBX: Dialects = Dialects { jamjam: false, bbx: true, webrtc: false, broadcast: false };
    const WEBRTC: Dialects = Dialects { jamjam: false, bbx: false, webrtc: true, broadcast: false };

    fn who(room: &str, user: &str, name: &str) -> Route {
        let [room, user, name] = [room, user, name].map(str::to_owned);
        Route::WebRtc(webrtc::Asked { room, user, name })
    }

    #[test]
    fn a_bare_path_is_undecided_and_what_belongs_to_others_is_refused() {
        let all = Dialects { broadcast: false, ..Dialects::default() };
        for path in ["/", "/ws", "/ws/"] {
            assert_eq!(route(path, "", all), Ok(Route::Undecided));
            assert_eq!(route(path, "x=1&y", all), Ok(Route::Undecided));
        }
        for query in ["x=1&token=t", "room=radio"] {
            assert_eq!(route("/", query, all), Err(Refusal::Query));
        }
        let first_spoken = Dialects { webrtc: false, ..all };
        assert_eq!(route("/", "", first_spoken), Ok(Route::Undecided));
        assert_eq!(route("/", "roomId=r", first_spoken), Err(Refusal::Query));
        for path in ["/radio", "/rooms/radio", "/v1/signaling", "/wsx", ""] {
            assert_eq!(route(path, "", all), Err(Refusal::Path));
            assert_eq!(route(path, "roomId=r", all), Err(Refusal::Path), "the path beats the query");
            assert_eq!(route(path, "token=t", Dialects::JAMJAM), Ok(Route::Undecided));
            assert_eq!(route(path, "roomId=r", BBX), Ok(Route::Undecided));
            assert_eq!(route(path, "userId=u", WEBRTC), Ok(who("", "u", "")));
        }
    }

    #[test]
    fn a_path_with_a_room_is_broadcast_and_so_is_a_query_with_one() {
        let asked = |path, query, dialects| match route(path, query, dialects) {
            Ok(Route::Broadcast(asked)) => Some((asked.room, asked.control)),
            _ => None,
        };
        let (all, radio) = (Dialects::default(), || Some("radio".to_owned()));
        for path in ["/radio", "/rooms/radio"] {
            assert_eq!(
                asked(path, "roomId=r&userId=u&userName=n", all),
                Some((radio(), false)),
                "the path beats the query"
            );
        }
        assert_eq!(asked("/rooms/radio/remotecontrol", "", all), Some((radio(), true)));
        for path in ["/", "/ws", "/ws/"] {
            assert_eq!(asked(path, "room=radio", all), Some((radio(), false)));
            assert_eq!(asked(path, "token=t", all), Some((None, false)));
            assert_eq!(asked(path, "token=t&roomId=r", all), None, "WebRTC comes first");
        }
        for path in ["/health", "/metrics", "/v1/signaling", "/docs/", "/radio/x", "/rooms/radio/x"] {
            assert_eq!(route(path, "token=t", all), Err(Refusal::Path), "{path}");
        }
        // Alone, it has every path; what names no room is told so.
        let alone = Dialects { broadcast: true, jamjam: false, bbx: false, webrtc: false };
        for path in ["/", "/health", "/radio/x"] {
            assert_eq!(asked(path, "", alone), Some((None, false)));
        }
        assert_eq!(
            (asked("/", "room=radio", alone), asked("/radio", "", alone)),
            (Some((radio(), false)), Some((radio(), false)))
        );
    }

    #[test]
    fn any_one_of_three_parameters_asks_for_webrtc_and_values_are_decoded() {
        for (query, decoded) in [
            ("roomId=r&userId=u&userName=n", who("r", "u", "n")),
            ("userName=Ann+B&userId=%C3%A4&roomId=a%2Fb%26c", who("a/b&c", "ä", "Ann B")),
            ("roomId=", who("", "", "")),
            ("userId=u&room=x&token=t", who("", "u", "")),
            ("roomId=a&roomId=b", who("b", "", "")),
            ("%72oomId=r", who("r", "", "")),
            ("roomId=%ff%00", who("\u{fffd}\0", "", "")),
        ] {
            assert_eq!(route("/", query, Dialects::default()), Ok(decoded), "{query}");
        }
    }
}
