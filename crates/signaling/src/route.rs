//! Selects the dialect of a WebSocket upgrade by its path and query, and parses the parameters of broadcast and WebRTC rooms.

use std::fmt;

use form_urlencoded::parse;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use percent_encoding::percent_decode_str;
use utoipa::ToSchema;

use super::device::DeviceId;
use super::dialect::Dialect;

/// The path at which newer jamjam clients connect. Older ones connect to `/`.
pub const NEWER_PATH: &str = "/v1/signaling";

/// The dialect and parameters that the path and query of a request select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The first message selects the dialect.
    Undecided,
    /// The jamjam dialect, for a newer client that may have proven a device.
    NewerJamjam(Option<DeviceId>),
    /// The broadcast dialect.
    Broadcast(BroadcastParams),
    /// The WebRTC dialect.
    WebRtc(WebRtcParams),
    /// A connection of a page whose origin is not [allowed](super::SignalingLimits::allows_origin). It is closed at once after the upgrade,
    /// because a browser script can read a close code, but not an HTTP status.
    OriginNotAllowed,
}

impl Route {
    /// The dialect that the URL selects.
    pub fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::Undecided | Self::OriginNotAllowed => None,
            Self::NewerJamjam(_) => Some(Dialect::Jamjam),
            Self::Broadcast(_) => Some(Dialect::Broadcast),
            Self::WebRtc(_) => Some(Dialect::WebRtc),
        }
    }

    /// Adds what the dialect needs of the headers of the request.
    #[must_use]
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization.and_then(BearerToken::from_authorization);
        match &mut self {
            Self::WebRtc(params) => params.token = params.token.take().or(token),
            Self::Broadcast(params) => {
                params.token = params.token.take().or(token);
                params.headers.clone_from(headers);
                for credentials in CREDENTIAL_HEADERS {
                    params.headers.remove(credentials);
                }
            }
            Self::Undecided | Self::NewerJamjam(_) | Self::OriginNotAllowed => {}
        }
        self
    }
}

const NO_SUCH_PATH: &str = "no such path; connect to / or /ws";
const DIALECT_DISABLED: &str = "the query selects a dialect that is disabled";

/// Selects the dialect by `path`, then by `query`. A server with only one dialect uses it for every path. The error is the reason for the
/// log, and the response has status 404.
pub fn route(path: &str, query: &str, dialects: &[Dialect]) -> Result<Route, &'static str> {
    if path == NEWER_PATH && dialects.contains(&Dialect::Jamjam) {
        return Ok(Route::NewerJamjam(None));
    }
    if let [only] = dialects {
        return Ok(route_of(*only, path, query));
    }
    // All dialects share these paths, so that the query or the first message selects one.
    let is_common_path = matches!(path, "/" | "/ws" | "/ws/");
    let has_parameter =
        |names: &[&str]| is_common_path && parse(query.as_bytes()).any(|(name, _)| names.contains(&&*name));
    let dialect = if has_parameter(&["roomId", "userId", "userName"]) {
        Dialect::WebRtc
    } else if has_parameter(&["room", "token"]) || parse_room_path(path).is_some() {
        Dialect::Broadcast
    } else {
        return if is_common_path { Ok(Route::Undecided) } else { Err(NO_SUCH_PATH) };
    };
    if dialects.contains(&dialect) {
        Ok(route_of(dialect, path, query))
    } else {
        Err(if is_common_path { DIALECT_DISABLED } else { NO_SUCH_PATH })
    }
}

/// The route of a URL that selects this dialect, or of any URL if the server supports only this dialect.
fn route_of(dialect: Dialect, path: &str, query: &str) -> Route {
    match dialect {
        Dialect::Broadcast => Route::Broadcast(BroadcastParams::from_url(path, query)),
        Dialect::WebRtc => Route::WebRtc(WebRtcParams::from_query(query)),
        _ => Route::Undecided,
    }
}

/// Maximum length of a room name, in bytes.
const MAX_ROOM_NAME_BYTES: usize = 128;

/// Names that a room cannot have, because they are reserved for other URLs.
const RESERVED_SEGMENTS: &str = "health healthz readyz rooms docs console auth admin api v1 ws metrics start examples images favicon.ico \
                                 openapi.json postcontent";

fn is_reserved(segment: &str) -> bool {
    RESERVED_SEGMENTS.split(' ').any(|reserved| reserved == segment)
}

/// A client's token. `Debug` does not print the token.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token in an `Authorization` header.
    pub fn from_authorization(header: &str) -> Option<Self> {
        let (scheme, token) = header.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Self(token.trim().to_owned()))
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// Parameters of a WebRTC connection; absent parameters are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct WebRtcParams {
    /// The room: 1 to 128 bytes, percent-encoded. A room is created when its first participant joins.
    #[schema(examples("standup"))]
    pub room_id: String,
    /// The id of the user: 1 to 256 bytes, percent-encoded. A new connection with the id of a participant replaces the connection of this
    /// participant.
    #[schema(examples("ann"))]
    pub user_id: String,
    /// The name of the user: 1 to 256 bytes, percent-encoded.
    #[schema(examples("Ann"))]
    pub user_name: String,
    /// A token with the audience `webrtc` for this room and user. Required with `--webrtc-auth token`. The header `Authorization: Bearer TOKEN`
    /// is equivalent.
    #[schema(value_type = String, required = false)]
    pub token: Option<BearerToken>,
}

impl WebRtcParams {
    /// The parameters of a query. If a parameter is repeated, its last value counts.
    fn from_query(query: &str) -> Self {
        let mut params = Self::default();
        for (name, value) in parse(query.as_bytes()) {
            match &*name {
                "roomId" => params.room_id = value.into_owned(),
                "userId" => params.user_id = value.into_owned(),
                "userName" => params.user_name = value.into_owned(),
                "token" => params.token = Some(BearerToken(value.into_owned())).filter(|token| !token.0.is_empty()),
                _ => {}
            }
        }
        params
    }
}

/// Parameters of a broadcast connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroadcastParams {
    /// The room, if the URL names a valid room.
    pub room: Option<String>,
    /// Whether the connection is a control channel of the room.
    pub is_control_channel: bool,
    /// The token from the query or, if the query has none, from the `Authorization` header.
    pub token: Option<BearerToken>,
    /// The other query parameters, at most 64.
    pub query: Vec<(String, String)>,
    /// The headers that the room handler may see.
    pub headers: HeaderMap,
}

/// Maximum number of query parameters that are kept for the room handler.
const MAX_QUERY_PARAMETERS: usize = 64;

/// Headers with credentials, which room handlers do not see.
const CREDENTIAL_HEADERS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

impl BroadcastParams {
    /// The parameters of a URL. If the path names no room, the room in the query counts.
    fn from_url(path: &str, query: &str) -> Self {
        let (mut room_in_query, (room_in_path, is_control_channel)) = (None, parse_room_path(path).unzip());
        let mut params = Self { is_control_channel: is_control_channel.unwrap_or(false), ..Self::default() };
        for (name, value) in parse(query.as_bytes()) {
            match &*name {
                "token" if params.token.is_none() && !value.is_empty() => {
                    params.token = Some(BearerToken(value.into_owned()));
                }
                "room" if room_in_query.is_none() => room_in_query = Some(value.into_owned()),
                // If a parameter is repeated, its first value counts.
                "token" | "room" => {}
                _ if params.query.len() >= MAX_QUERY_PARAMETERS => {}
                _ => params.query.push((name.into_owned(), value.into_owned())),
            }
        }
        let room_in_query = room_in_query.filter(|name| is_valid_room_name(name));
        params.room = room_in_path.unwrap_or(room_in_query);
        params
    }
}

/// Whether a room can have this name (not percent-encoded).
pub fn is_valid_room_name(name: &str) -> bool {
    let is_forbidden = |letter: char| letter.is_control() || letter == '/';
    !name.is_empty() && name.len() <= MAX_ROOM_NAME_BYTES && !name.contains(is_forbidden) && !is_reserved(name)
}

/// Percent-decodes the room name in a path segment, once. `None` if no room can have this name.
pub fn decode_room_name(segment: &str) -> Option<String> {
    let name = percent_decode_str(segment).decode_utf8().ok()?;
    is_valid_room_name(&name).then(|| name.into_owned())
}

/// The room in a path, if its name is valid, and whether the path belongs to a control channel. `None` if no room can have this path.
fn parse_room_path(path: &str) -> Option<(Option<String>, bool)> {
    let path = path.strip_prefix('/')?;
    let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    match segments[..] {
        ["rooms"] => Some((None, false)),
        ["rooms", name] => Some((decode_room_name(name), false)),
        ["rooms", name, "remotecontrol"] => Some((decode_room_name(name), true)),
        [name] if !name.is_empty() && !is_reserved(&percent_decode_str(name).decode_utf8_lossy()) => {
            Some((decode_room_name(name), false))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const CONTROL_SURFACE_ONLY: &[Dialect] = &[Dialect::ControlSurface];
    const WEBRTC_ONLY: &[Dialect] = &[Dialect::WebRtc];
    const JAMJAM_ONLY: &[Dialect] = &[Dialect::Jamjam];

    fn webrtc_route(query: &str) -> Route {
        Route::WebRtc(WebRtcParams::from_query(query))
    }

    #[test]
    fn bare_path_is_undecided_and_disabled_dialects_are_rejected() {
        let first_spoken = &[Dialect::Jamjam, Dialect::ControlSurface];
        let all = &[Dialect::Jamjam, Dialect::ControlSurface, Dialect::WebRtc];
        for path in ["/", "/ws", "/ws/"] {
            assert_eq!(route(path, "", all), Ok(Route::Undecided));
            assert_eq!(route(path, "x=1&y", all), Ok(Route::Undecided));
        }
        for query in ["x=1&token=t", "room=radio"] {
            assert_eq!(route("/", query, all), Err(DIALECT_DISABLED));
        }
        assert_eq!(route("/", "", first_spoken), Ok(Route::Undecided));
        assert_eq!(route("/", "roomId=r", first_spoken), Err(DIALECT_DISABLED));
        for path in ["/radio", "/rooms/radio", "/v1", "/v1/signaling/", "/api/v1/signaling", "/wsx", ""] {
            assert_eq!(route(path, "", all), Err(NO_SUCH_PATH));
            assert_eq!(route(path, "roomId=r", all), Err(NO_SUCH_PATH), "the path beats the query");
            assert_eq!(route(path, "token=t", JAMJAM_ONLY), Ok(Route::Undecided));
            assert_eq!(route(path, "roomId=r", CONTROL_SURFACE_ONLY), Ok(Route::Undecided));
            assert_eq!(route(path, "userId=u", WEBRTC_ONLY), Ok(webrtc_route("userId=u")));
        }
    }

    #[test]
    fn path_of_newer_clients_selects_jamjam_if_it_is_enabled() {
        let newer = Ok(Route::NewerJamjam(None));
        for dialects in [&Dialect::ALL, JAMJAM_ONLY] {
            for query in ["", "roomId=r", "token=t"] {
                assert_eq!(route("/v1/signaling", query, dialects), newer, "{query}");
            }
        }
        let others = &[Dialect::Broadcast, Dialect::ControlSurface, Dialect::WebRtc];
        assert_eq!(route("/v1/signaling", "token=t", others), Err(NO_SUCH_PATH));
        assert_eq!(route("/v1/signaling", "userId=u", WEBRTC_ONLY), Ok(webrtc_route("userId=u")));
    }

    #[test]
    fn broadcast_alone_accepts_every_path_and_a_plus_sign_is_no_space() {
        for (path, query, room) in [
            ("/", "", None),
            ("/health", "", None),
            ("/radio/x", "", None),
            ("/", "room=radio", Some("radio")),
            ("/a+b", "", Some("a+b")),
        ] {
            let Ok(Route::Broadcast(params)) = route(path, query, &[Dialect::Broadcast]) else { panic!("{path}") };
            assert_eq!(params.room.as_deref(), room, "{path}");
        }
    }

    #[test]
    fn credential_headers_are_hidden_from_room_handlers() {
        let headers = [
            ("host", "x"),
            ("authorization", "Bearer t"),
            ("cookie", "c"),
            ("proxy-authorization", "p"),
            ("accept", "a"),
        ];
        let params = broadcast_params("/radio", "", &headers);
        assert_eq!(params.headers, header_map(&[("host", "x"), ("accept", "a")]));
        assert_eq!(params.token, Some(BearerToken("t".to_owned())));
    }

    fn header_map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn broadcast_params(path: &str, query: &str, headers: &[(&'static str, &'static str)]) -> BroadcastParams {
        match route(path, query, &Dialect::ALL).map(|route| route.with_headers(&header_map(headers))) {
            Ok(Route::Broadcast(params)) => params,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn first_parameter_of_a_name_counts_and_tokens_are_never_printed() {
        let params = broadcast_params("/", "room=a&token=secret1&token=secret2&x=1&room=b&x=2", &[]);
        assert_eq!(params.room.as_deref(), Some("a"));
        assert_eq!(params.query, [("x".to_owned(), "1".to_owned()), ("x".to_owned(), "2".to_owned())]);
        let printed = format!("{params:?} {:?}", webrtc_route("roomId=a&token=secret1"));
        assert!(!printed.contains("secret"), "{printed}");
    }

    #[test]
    fn any_webrtc_parameter_selects_webrtc_and_its_last_decoded_value_counts() {
        for (query, decoded) in [
            ("roomId=a&roomId=b", ["b", "", ""]),
            ("userId=u&%72oomId=r", ["r", "u", ""]),
            ("roomId=%ff%00", ["\u{fffd}\0", "", ""]),
        ] {
            let [room_id, user_id, user_name] = decoded.map(str::to_owned);
            let expected = Route::WebRtc(WebRtcParams { room_id, user_id, user_name, token: None });
            assert_eq!(route("/", query, &Dialect::ALL), Ok(expected), "{query}");
        }
        let token = |query| WebRtcParams::from_query(query).token.map(|token| token.0);
        assert_eq!(["token=a%2Eb", "token=a&token=b"].map(token), [Some("a.b".to_owned()), Some("b".to_owned())]);
        assert_eq!(["", "token=", "token=a&token="].map(token), [None, None, None]);
    }
}
