//! `--webrtc-auth token`: a WebRTC room opens only with a token for this room and this user. Tokens of broadcast rooms do not open it, and
//! its tokens do not open broadcast rooms.

#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use jamjam_dev::signaling::token::{Audience, Claims, Secret, sign};
use serde_json::{Map, Value, json};
use test_support::server::TEST_TIMEOUT;
use test_support::server::process::{Server, run};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "test-secret";
const KEY: &str = "test-issuer-key";

/// A server that requires tokens in WebRTC rooms and issues them with the key.
fn protected_server(more: &[&str]) -> Server {
    let options = ["--hmac-secret", SECRET, "--token-issuer-key", KEY];
    let auth = if more.contains(&"--webrtc-auth") { &[][..] } else { &["--webrtc-auth", "token"] };
    Server::start_signaling(&[&options, auth, more].concat())
}

fn open(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

/// Connects at `path`, with an `Authorization` header if one is given.
fn connect(server: &Server, path: &str, authorization: Option<&str>) -> WebSocket<TcpStream> {
    let mut request = format!("ws://{}{path}", server.address).into_client_request().unwrap();
    if let Some(authorization) = authorization {
        request.headers_mut().insert("Authorization", authorization.parse().unwrap());
    }
    tungstenite::client(request, open(server)).unwrap().0
}

/// The close code and reason, or the type of the first message.
fn first(client: &mut WebSocket<TcpStream>) -> Result<String, (u16, String)> {
    match client.read().unwrap() {
        Message::Close(Some(frame)) => Err((frame.code.into(), frame.reason.to_string())),
        message => {
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            Ok(message["type"].as_str().unwrap().to_owned())
        }
    }
}

fn url(room: &str, user: &str, token: &str) -> String {
    format!("/?roomId={room}&userId={user}&userName=N&token={token}")
}

/// The result of joining a WebRTC room with this token.
fn join(server: &Server, room: &str, user: &str, token: &str) -> Result<String, (u16, String)> {
    first(&mut connect(server, &url(room, user, token), None))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with the result of a join")]
fn welcome() -> Result<String, (u16, String)> {
    Ok("welcome".to_owned())
}

fn rejected() -> Result<String, (u16, String)> {
    Err((4002, "Invalid or expired token".to_owned()))
}

fn missing() -> Result<String, (u16, String)> {
    Err((4001, "Authentication required".to_owned()))
}

/// Claims that are valid for a minute.
fn claims(user: &str, room: &str) -> Claims {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    Claims::new(user, room, Map::new(), now_ms, 60.0).with_audience(Audience::WebRtc)
}

/// The status and body of a POST request with this bearer token.
fn post(server: &Server, path: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
    let (mut stream, body) = (open(server), body.to_string());
    let authorization = bearer.map_or_else(String::new, |bearer| format!("Authorization: Bearer {bearer}\r\n"));
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn issue(server: &Server, body: &Value) -> String {
    let (status, response) = post(server, "/auth/token", Some(KEY), body);
    assert_eq!(status, 200, "{response}");
    response["token"].as_str().unwrap().to_owned()
}

#[test]
fn issued_token_opens_its_room_for_its_user_only() {
    let server = protected_server(&[]);
    let token = issue(&server, &json!({"clientId": "ann", "room": "jam", "audience": "webrtc"}));
    assert_eq!(join(&server, "jam", "ann", &token), welcome());
    for (room, user) in [("other", "ann"), ("jam", "bob"), ("Jam", "ann"), ("jam", "ann%20"), ("jam%2F", "ann")] {
        assert_eq!(join(&server, room, user, &token), rejected(), "{room} {user}");
    }
    let authorization = format!("Bearer {token}");
    for (path, header, expected) in [
        ("/?roomId=jam&userId=ann&userName=N", Some(&*authorization), welcome()),
        ("/ws?roomId=jam&userId=ann&userName=N&token=", Some(&authorization), welcome()),
        ("/?roomId=jam&userId=ann&userName=N", None, missing()),
        ("/?roomId=jam&userId=ann&userName=N&token=", None, missing()),
        ("/?roomId=jam&userId=ann&userName=N", Some("Basic YW5uOnB3"), missing()),
        ("/?roomId=jam&userId=ann&userName=N&token=x", Some(&authorization), rejected()),
        // A missing parameter is reported before the token.
        ("/?roomId=jam&userId=ann", None, Err((1008, "Missing required parameters".to_owned()))),
    ] {
        assert_eq!(first(&mut connect(&server, path, header)), expected, "{path}");
    }
    // Room names of WebRTC rooms have no reserved names and may contain slashes.
    let token = issue(&server, &json!({"clientId": "ann", "room": "a/b", "audience": "webrtc", "expiresIn": 60}));
    assert_eq!(join(&server, "a%2Fb", "ann", &token), welcome());
}

#[test]
fn broadcast_token_and_webrtc_token_do_not_open_the_other_kind_of_room() {
    let server = protected_server(&[]);
    let webrtc = issue(&server, &json!({"clientId": "ann", "room": "jam", "audience": "webrtc"}));
    for audience in [Value::Null, "broadcast".into()] {
        let broadcast = issue(&server, &json!({"clientId": "ann", "room": "jam", "audience": audience}));
        assert_eq!(join(&server, "jam", "ann", &broadcast), rejected());
        assert_eq!(first(&mut connect(&server, &format!("/rooms/jam?token={broadcast}"), None)), welcome());
        assert_eq!(post(&server, "/jam/postcontent", Some(&broadcast), &json!({})).0, 200);
    }
    // `token` in the query of `/` selects a broadcast room, unless the query has a parameter of WebRTC.
    for path in ["/rooms/jam?x=1", "/jam?x=1", "/?room=jam"] {
        assert_eq!(first(&mut connect(&server, &format!("{path}&token={webrtc}"), None)), rejected(), "{path}");
    }
    assert_eq!(first(&mut connect(&server, "/rooms/jam", Some(&format!("Bearer {webrtc}")))), rejected());
    assert_eq!(post(&server, "/jam/postcontent", Some(&webrtc), &json!({})).0, 401);
    assert_eq!(join(&server, "jam", "ann", &webrtc), welcome());
}

#[test]
fn token_signed_elsewhere_needs_all_claims() {
    let server = protected_server(&[]);
    let valid = claims("ann", "jam");
    let secret = Secret::new(SECRET);
    assert_eq!(join(&server, "jam", "ann", &sign(&secret, &valid)), welcome());
    let expired = Claims { expires_at: Some(1_000_000_000_000_u64.into()), ..valid.clone() };
    for wrong in [
        Claims { audience: None, ..valid.clone() },
        Claims { audience: Some("broadcast".to_owned()), ..valid.clone() },
        Claims { audience: Some("WebRTC".to_owned()), ..valid.clone() },
        Claims { client_id: String::new(), ..valid.clone() },
        Claims { room: String::new(), ..valid.clone() },
        Claims { expires_at: None, ..valid.clone() },
        expired,
    ] {
        assert_eq!(join(&server, "jam", "ann", &sign(&secret, &wrong)), rejected(), "{wrong:?}");
    }
    assert_eq!(join(&server, "jam", "ann", &sign(&Secret::new("other"), &valid)), rejected());
}

#[test]
fn client_without_a_valid_token_does_not_replace_a_member() {
    let server = protected_server(&[]);
    let token = sign(&Secret::new(SECRET), &claims("ann", "jam"));
    let mut member = connect(&server, &url("jam", "ann", &token), None);
    assert_eq!(first(&mut member), welcome());
    let foreign = sign(&Secret::new(SECRET), &claims("bob", "jam"));
    for (attempt, expected) in [("", missing()), ("x.y", rejected()), (&*foreign, rejected())] {
        assert_eq!(join(&server, "jam", "ann", attempt), expected);
    }
    // The member is still connected, and it has received no message in between.
    member.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
    assert_eq!(first(&mut member), Ok("pong".to_owned()));
    // With a valid token, the user replaces their own connection.
    let mut again = connect(&server, &url("jam", "ann", &token), None);
    assert_eq!(first(&mut again), welcome());
    assert_eq!(first(&mut member), Err((1000, "Duplicate connection".to_owned())));
}

#[test]
fn rejected_tokens_are_counted_and_logged_once_without_the_token() {
    let mut server = protected_server(&["-v"]);
    let mut token = sign(&Secret::new(SECRET), &claims("bob", "jam"));
    assert_eq!(join(&server, "jam", "ann", &token), rejected());
    let line = server.line_starting_with("signaling: connection rejected ");
    assert_eq!(line.level, "WARN");
    let expected = r#"code=4002 reason="Invalid or expired token" detail="token for another client""#;
    assert!(line.message.ends_with(expected), "{line:?}");
    for _ in 0..20 {
        assert_eq!(join(&server, "jam", "ann", &token), rejected());
    }
    assert_eq!(join(&server, "jam", "ann", ""), missing());
    let counters = ["closed_invalid_token_total", "requests_rejected_total", "connections_opened_total"];
    let of_webrtc = counters.map(|name| server.metric(&format!("{name}{{dialect=\"webrtc\"}}")));
    assert_eq!(of_webrtc, [22, 22, 22]);
    assert_eq!(server.metric("closed_invalid_token_total{dialect=\"broadcast\"}"), 0);
    assert!(first(&mut connect(&server, "/rooms/jam?token=x", None)).is_err());
    assert_eq!(server.metric("closed_invalid_token_total{dialect=\"broadcast\"}"), 1);
    let lines = server.stop("TERM").lines;
    let rejections = lines.iter().filter(|line| line.contains("connection rejected")).count();
    assert!(rejections < 15, "{rejections}");
    // Neither the payload nor the signature of the token.
    let signature = token.split_off(token.find('.').unwrap() + 1);
    assert!(!lines.iter().any(|line| line.contains(&token) || line.contains(&signature)), "{lines:?}");
}

#[test]
fn webrtc_tokens_are_issued_with_the_issuer_key_only() {
    let request = json!({"clientId": "ann", "room": "jam", "audience": "webrtc"});
    let server = protected_server(&[]);
    for bearer in [None, Some("wrong"), Some("")] {
        assert_eq!(post(&server, "/auth/token", bearer, &request).0, 401, "{bearer:?}");
    }
    for (changed, value) in [
        ("audience", json!("x")),
        ("audience", json!(["webrtc"])),
        ("room", json!("x".repeat(129))),
        ("room", json!("")),
    ] {
        let mut request = request.clone();
        request[changed] = value;
        assert_eq!(post(&server, "/auth/token", Some(KEY), &request).0, 400, "{request}");
    }
    // Without a key, every client could get a token. Broadcast tokens are still issued, but they do not open WebRTC rooms.
    let mut server = Server::start_signaling(&["--webrtc-auth", "token", "--hmac-secret", SECRET]);
    let line = server.line_starting_with("signaling: --webrtc-auth token without a token issuer key");
    assert!(line.level == "WARN" && line.message.contains("TOKEN_ISSUER_KEY"), "{line:?}");
    for bearer in [None, Some(KEY), Some("")] {
        let (status, response) = post(&server, "/auth/token", bearer, &request);
        let error = response["error"].as_str().unwrap();
        assert!(status == 403 && error.contains("--token-issuer-key-file"), "{status} {response}");
    }
    let (status, issued) = post(&server, "/auth/token", None, &json!({"clientId": "ann", "room": "jam"}));
    assert_eq!(status, 200);
    assert_eq!(join(&server, "jam", "ann", issued["token"].as_str().unwrap()), rejected());
}

#[test]
fn participants_of_protected_rooms_are_listed_only_with_the_login() {
    let get = |server: &Server, path: &str, login: &str| -> Value {
        let mut stream = open(server);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{login}\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    // The output of `printf admin:sesame | base64`.
    let login = "Authorization: Basic YWRtaW46c2VzYW1l\r\n";
    for (webrtc_auth, expected) in [("token", json!([])), ("off", json!(["ann"]))] {
        let server = protected_server(&["--docs-password", "sesame", "--webrtc-auth", webrtc_auth]);
        let mut member = connect(&server, &url("jam", "ann", &sign(&Secret::new(SECRET), &claims("ann", "jam"))), None);
        assert_eq!(first(&mut member), welcome());
        let ids = |rooms: &Value| {
            assert_eq!((&rooms[0]["roomId"], &rooms[0]["participantCount"]), (&json!("jam"), &json!(1)), "{rooms}");
            let participants = rooms[0]["participants"].as_array().unwrap();
            participants.iter().map(|participant| participant["id"].clone()).collect::<Value>()
        };
        assert_eq!(ids(&get(&server, "/rooms", "")["rooms"]), expected);
        assert_eq!(ids(&get(&server, "/health", "")["roomDetails"]), expected);
        assert_eq!(ids(&get(&server, "/health?detailed=true", login)["roomDetails"]), json!(["ann"]));
    }
}

#[test]
fn server_with_only_webrtc_issues_and_requires_tokens() {
    let server = protected_server(&["--dialect", "webrtc"]);
    let token = issue(&server, &json!({"clientId": "ann", "room": "jam", "audience": "webrtc"}));
    assert_eq!(join(&server, "jam", "ann", &token), welcome());
    let anywhere = format!("/any/path{}", url("jam", "ann", "").trim_start_matches('/'));
    assert_eq!(first(&mut connect(&server, &anywhere, None)), missing());
    let (status, response) = post(&server, "/auth/token", Some(KEY), &json!({"clientId": "ann", "room": "jam"}));
    assert!(status == 400 && response["error"].as_str().unwrap().contains("audience"), "{response}");
}

#[test]
fn without_the_option_every_client_may_join() {
    let server = Server::start_signaling(&["--hmac-secret", SECRET]);
    for token in ["", "x.y"] {
        assert_eq!(join(&server, "jam", "ann", token), welcome());
    }
}

#[test]
fn printed_token_opens_a_webrtc_room_for_a_probe() {
    let server = protected_server(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret_file = format!("@{}", file("secret", SECRET));
    let print = |more: &[&str]| {
        let options = ["signaling-server", "--print-token", "ann:jam:60", "--hmac-secret", &secret_file];
        let output = run(&[&options, more].concat(), |_| {});
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let token = print(&["--webrtc-auth", "token"]);
    assert_eq!(join(&server, "jam", "ann", &token), welcome());
    let other = print(&[]);
    let probe = |query: &str, more: &[&str]| {
        let to = format!("ws://{}/?{query}", server.address);
        let options = ["probe", "--to", &to, "--dialect", "webrtc", "--count", "2", "--interval", "10ms"];
        let output = run(&[&options, more].concat(), |_| {});
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let given = format!("token={token}");
    for (query, more) in [
        (&*given, &[][..]),
        (&given, &["--room", "jam"]),
        ("", &["--hmac-secret", &secret_file]),
        ("", &["--hmac-secret", &secret_file, "--room", "another"]),
    ] {
        let (code, text) = probe(query, more);
        assert_eq!(code, Some(0), "{query} {more:?}: {text}");
    }
    for (query, more, remedy) in [
        ("", &["--room", "jam"][..], "?token=TOKEN"),
        (&*format!("token={other}"), &[], "--hmac-secret"),
        (&given, &["--room", "another"], "--room"),
    ] {
        let (code, text) = probe(query, more);
        assert!(code == Some(1) && text.contains(remedy), "{query} {more:?}: {code:?} {text}");
        assert!(!text.contains(&token), "{text}");
    }
}
