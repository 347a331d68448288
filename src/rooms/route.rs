//! Which dialect an upgrade request asks for: the one table of it. The path beats the query. Until broadcast is there, what
//! belongs to it is sent away.

use form_urlencoded::parse;
use thiserror::Error;

use super::webrtc;

/// Which dialects are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    /// jamjam's own signaling.
    pub jamjam: bool,
    /// Control surfaces.
    pub bbx: bool,
    /// WebRTC signaling.
    pub webrtc: bool,
}

impl Default for Dialects {
    /// All of them.
    fn default() -> Self {
        Self { jamjam: true, bbx: true, webrtc: true }
    }
}

/// What the request's path and query decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The first message that is understood will decide.
    Undecided,
    /// WebRTC signaling, and who wants to be where.
    WebRtc(webrtc::Asked),
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
        Dialects { jamjam: true, bbx: false, webrtc: false } | Dialects { jamjam: false, bbx: true, webrtc: false } => {
            return Ok(Route::Undecided);
        }
        Dialects { jamjam: false, bbx: false, webrtc: true } => return Ok(webrtc()),
        _ => {}
    }
    if !matches!(path, "/" | "/ws" | "/ws/") {
        return Err(Refusal::Path);
    }
    let has = |names: &[&str]| parse(query.as_bytes()).any(|(name, _)| names.contains(&&*name));
    if has(&["roomId", "userId", "userName"]) {
        return if dialects.webrtc { Ok(webrtc()) } else { Err(Refusal::Query) };
    }
    if has(&["room", "token"]) { Err(Refusal::Query) } else { Ok(Route::Undecided) }
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

    const JAMJAM: Dialects = Dialects { jamjam: true, bbx: false, webrtc: false };
    const BBX: Dialects = Dialects { jamjam: false, bbx: true, webrtc: false };
    const WEBRTC: Dialects = Dialects { jamjam: false, bbx: false, webrtc: true };

    fn who(room: &str, user: &str, name: &str) -> Route {
        let [room, user, name] = [room, user, name].map(str::to_owned);
        Route::WebRtc(webrtc::Asked { room, user, name })
    }

    #[test]
    fn a_bare_path_is_undecided_and_what_belongs_to_others_is_refused() {
        let all = Dialects::default();
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
            assert_eq!(route(path, "token=t", JAMJAM), Ok(Route::Undecided));
            assert_eq!(route(path, "roomId=r", BBX), Ok(Route::Undecided));
            assert_eq!(route(path, "userId=u", WEBRTC), Ok(who("", "u", "")));
        }
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
