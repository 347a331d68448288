//! `--webrtc-auth token`: a WebRTC room opens only with a token for this room and this user. Broadcast rooms and their tokens are separate.

use jamjam_dev::signaling::token::{Audience, Claims, Secret, sign};
use serde_json::{Map, Value, json};
use test_support::server::{Member, Server, request, send};
use tungstenite::Message;

use super::http::login::RIGHT;

const KEY: &str = "test-issuer-key";

/// A server that requires tokens in WebRTC rooms and issues them with the key.
fn protected_server(more: &[&str]) -> Server {
    let auth = if more.contains(&"--webrtc-auth") { &[][..] } else { &["--webrtc-auth", "token"] };
    Server::start_signaling(&[&super::SECRET[..], &["--token-issuer-key", KEY], auth, more].concat())
}

const WELCOME: &str = "welcome";
const REJECTED: &str = "4002 Invalid or expired token";
const MISSING: &str = "4001 Authentication required";

/// The close code and reason, or the type of the first message.
fn first(client: &mut Member) -> String {
    match client.0.read().unwrap() {
        Message::Close(Some(frame)) => format!("{} {}", u16::from(frame.code), frame.reason),
        message => {
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            message["type"].as_str().unwrap().to_owned()
        }
    }
}

fn connect(server: &Server, path: &str) -> Member {
    Member::connect_to(server.address, path)
}

fn url(room: &str, user: &str, token: &str) -> String {
    format!("/?roomId={room}&userId={user}&userName=N&token={token}")
}

/// The result of joining a WebRTC room with this token.
fn join(server: &Server, room: &str, user: &str, token: &str) -> String {
    first(&mut connect(server, &url(room, user, token)))
}

fn token(user: &str, room: &str) -> String {
    let claims = Claims::new(user, room, Map::new(), 4_000_000_000_000, 1.0).with_audience(Audience::WebRtc);
    sign(&Secret::new("test-secret"), &claims)
}

/// The status and body of a POST request with this bearer token.
fn post(server: &Server, path: &str, bearer: &str, body: &Value) -> (u16, Value) {
    let response = send(server, "POST", path, &[&format!("Authorization: Bearer {bearer}")], &body.to_string());
    (response.status, response.json())
}

fn issue(server: &Server, body: &Value) -> String {
    let (status, response) = post(server, "/auth/token", KEY, body);
    assert_eq!(status, 200, "{response}");
    response["token"].as_str().unwrap().to_owned()
}

#[test]
fn webrtc_tokens_are_issued_with_the_issuer_key_only() {
    let request = json!({"clientId": "ann", "room": "jam", "audience": "webrtc"});
    let server = protected_server(&[]);
    assert_eq!(join(&server, "jam", "ann", &issue(&server, &request)), WELCOME);
    assert_eq!(post(&server, "/auth/token", "wrong", &request).0, 401);
    // Without a key, every client could get a token. Broadcast tokens are still issued, but they do not open WebRTC rooms.
    let mut server = Server::start_signaling(&[&super::SECRET[..], &["--webrtc-auth", "token"]].concat());
    let line = server.line_starting_with("signaling: --webrtc-auth token without a token issuer key");
    assert!(line.level == "WARN" && line.message.contains("TOKEN_ISSUER_KEY"), "{line:?}");
    for bearer in [KEY, ""] {
        let (status, response) = post(&server, "/auth/token", bearer, &request);
        assert!(status == 403 && response["error"].as_str().unwrap().contains("--token-issuer-key"), "{response}");
    }
    let issued = issue(&server, &json!({"clientId": "ann", "room": "jam"}));
    assert_eq!(join(&server, "jam", "ann", &issued), REJECTED);
    // A server without broadcast rooms issues only tokens of WebRTC rooms, on every path.
    let server = protected_server(&["--dialect", "webrtc"]);
    assert_eq!(join(&server, "jam", "ann", &issue(&server, &request)), WELCOME);
    assert_eq!(first(&mut connect(&server, &format!("/any{}", url("jam", "ann", "")))), MISSING);
    let broadcast = json!({"clientId": "ann", "room": "jam"});
    let other = Server::start_signaling(&["--dialect", "broadcast", "--token-issuer-key", KEY]);
    for (server, request) in [(&server, &broadcast), (&other, &request)] {
        let (status, response) = post(server, "/auth/token", KEY, request);
        assert!(status == 422 && response["error"].as_str().unwrap().contains("audience"), "{response}");
    }
}

#[test]
fn participants_of_protected_rooms_are_listed_only_with_the_login() {
    for (webrtc_auth, expected) in [("token", json!([])), ("off", json!(["ann"]))] {
        let server = protected_server(&["--docs-password", "sesame", "--webrtc-auth", webrtc_auth]);
        let mut member = connect(&server, &url("jam", "ann", &token("ann", "jam")));
        assert_eq!(first(&mut member), WELCOME);
        let ids = |path: &str, list: &str, headers: &[&str]| {
            let response = request(&server, "GET", path, headers).json();
            let rooms = &response[list];
            assert_eq!((&rooms[0]["roomId"], &rooms[0]["participantCount"]), (&json!("jam"), &json!(1)), "{rooms}");
            let participants = rooms[0]["participants"].as_array().unwrap();
            participants.iter().map(|participant| participant["id"].clone()).collect::<Value>()
        };
        assert_eq!(ids("/rooms", "rooms", &[]), expected);
        assert_eq!(ids("/health", "roomDetails", &[]), expected);
        assert_eq!(ids("/health?detailed=true", "roomDetails", &[RIGHT]), json!(["ann"]));
    }
}
