//! The HTTP side of broadcast rooms and their options, with the program itself.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use test_support::server;

use jamjam_dev::signaling::token::{Claims, Secret, sign, verify};
use serde_json::{Map, Value, json};
use server::PATIENCE;
use server::process::{Server, run};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

struct Answer {
    status: u16,
    /// In small letters.
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.body))
    }

    #[track_caller]
    fn refuses(&self, status: u16, error: &str) {
        assert_eq!((self.status, &self.json()["error"]), (status, &json!(error)), "{}", self.head);
    }
}

fn ask(server: &Server, request: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    Answer { status: head[9..12].parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() }
}

fn token(client: &str, room: &str) -> String {
    sign(&Secret::new("test-secret"), &Claims::new(client, room, Map::new(), 4_000_000_000_000, 1.0))
}

fn bearer(room: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token("poster", room))
}

struct Client(WebSocket<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects, with a token for the room.
    fn join(server: &Server, room: &str) -> Self {
        let mut client = Self::connect(server, &format!("/{room}?token={}", token("ann", room)));
        assert_eq!(client.hear()["type"], "welcome");
        client
    }

    fn connect(server: &Server, to: &str) -> Self {
        let (mut socket, _) = tungstenite::connect(format!("ws://{}{to}", server.address)).unwrap();
        if let MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self(socket)
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn hear(&mut self) -> Value {
        match self.0.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn closed(&mut self) -> (u16, String) {
        match self.0.read().unwrap() {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_token_is_given_to_whoever_asks_and_opens_its_room_alone() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-token", "off"]].concat());
    let ask = |body: &str| ask(&server, "POST /auth/token", "", body);
    let given = ask(r#"{"clientId":"ann","room":"radio","expiresIn":60,"metadata":{"broadcastDelay":1}}"#);
    assert_eq!(given.status, 200, "{}", given.body);
    assert!(given.head.contains("access-control-allow-origin: *"), "{}", given.head);
    let body = given.json();
    let expires_at = body["expiresAt"].as_u64().unwrap();
    assert_eq!(
        (&body["clientId"], &body["room"], body.as_object().unwrap().len()),
        (&json!("ann"), &json!("radio"), 4)
    );
    let secret = Secret::new("test-secret");
    let claims = verify(&secret, body["token"].as_str().unwrap(), "radio", 0).unwrap();
    assert_eq!((claims.expires_ms(), claims.metadata["broadcastDelay"].as_u64()), (Some(expires_at), Some(1)));
    assert_eq!(claims.issued_at, Some(json!(expires_at - 60_000)));
    let to = |room: &str| format!("/{room}?token={}", body["token"].as_str().unwrap());
    assert_eq!(Client::connect(&server, &to("radio")).hear()["type"], "welcome");
    assert_eq!(Client::connect(&server, &to("chat")).closed(), (4_002, "Invalid or expired token".to_owned()));
    // An hour by itself, and a year at most.
    for (asked, seconds) in [("", 3_600), (r#","expiresIn":1e12"#, 31_536_000), (r#","expiresIn":0.5"#, 0)] {
        let body = ask(&format!(r#"{{"clientId":"a","room":"b"{asked}}}"#)).json();
        let claims = verify(&secret, body["token"].as_str().unwrap(), "b", 0).unwrap();
        let lasts = claims.expires_ms().unwrap() - claims.issued_at.unwrap().as_u64().unwrap();
        assert_eq!(lasts / 1_000, seconds, "{asked}");
    }
    for body in ["{}", "[]", r#"{"clientId":"a"}"#, r#"{"clientId":"","room":"b"}"#, r#"{"clientId":1,"room":"b"}"#] {
        ask(body).refuses(400, "clientId and room are required");
        assert!(ask(body).json()["example"].is_object());
    }
    ask("{").refuses(400, "Invalid request: the body is not JSON");
    for wrong in [r#""expiresIn":0"#, r#""expiresIn":-1"#, r#""expiresIn":"60""#, r#""metadata":[]"#] {
        let refusal = ask(&format!(r#"{{"clientId":"a","room":"b",{wrong}}}"#));
        assert!(refusal.status == 400 && refusal.body.contains("Invalid request: "), "{wrong}: {}", refusal.body);
    }
    assert_eq!(ask(r#"{"clientId":"a","room":"rooms"}"#).status, 400);
    ask(&" ".repeat(300 << 10)).refuses(413, "Payload too large");
    let asked = self::ask(&server, "OPTIONS /auth/token", "", "");
    assert_eq!(asked.status, 204);
    for header in ["origin: *", "methods: post, options", "headers: content-type, authorization"] {
        assert!(asked.head.contains(&format!("access-control-allow-{header}")), "{}", asked.head);
    }
    assert_eq!(self::ask(&server, "GET /auth/token", "", "").status, 405);
}

#[test]
fn an_id_and_a_room_are_as_long_and_as_odd_as_they_may_be() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-token", "off"]].concat());
    let long = |length| "x".repeat(length);
    for (id, room, status) in [
        (long(256), "a".to_owned(), 200),
        (long(257), "a".to_owned(), 400),
        ("a".to_owned(), "100%".to_owned(), 200),
        ("a".to_owned(), "%2F".to_owned(), 200),
        ("a".to_owned(), "%/".to_owned(), 400),
        ("a".to_owned(), format!("%{}", long(128)), 400),
    ] {
        let body = json!({"clientId": id, "room": room}).to_string();
        assert_eq!(ask(&server, "POST /auth/token", "", &body).status, status, "{body}");
    }
}

/// The status of what is answered to `request`, of which no more is sent.
fn status(server: &Server, request: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

#[test]
fn a_body_that_is_too_long_or_broken_is_refused_for_what_it_is_and_not_waited_for() {
    let server = Server::start_signaling(&[&SECRET[..], &["--post-max", "1KiB", "--rate-limit-token", "off"]].concat());
    let bearer = bearer("radio");
    for (path, headers) in [("/radio/postcontent", &*bearer), ("/rooms/radio/post", &bearer), ("/auth/token", "")] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}");
        let expecting =
            |length| status(&server, &format!("{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(status(&server, &format!("{head}Content-Length: 1025\r\n\r\n")), 413, "{path}");
        assert_eq!((expecting(1_025), expecting(2)), (413, 100), "{path}");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(status(&server, &format!("{chunked}zz\r\n")), 400, "{path}");
        assert_eq!(status(&server, &format!("{chunked}500\r\n{}\r\n", "x".repeat(0x500))), 413, "{path}");
    }
}

#[test]
fn what_is_refused_over_http_is_counted_and_logged_without_what_came() {
    let mut server =
        Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "6/h", "--post-max", "1KiB"]].concat());
    let (own, other, long) = (bearer("radio"), bearer("lobby"), "x".repeat(1_025));
    let requests = [
        ("/radio/postcontent", "", "{}", 401),
        ("/radio/postcontent", &*other, "{}", 401),
        ("/radio/postcontent", &own, "hunter2", 400),
        ("/radio/postcontent", &own, &long, 413),
        ("/radio/postcontent", &own, r#"["hunter2"]"#, 422),
        ("/rooms/radio/post", &own, r#"{"type":"hunter2"}"#, 422),
        ("/radio/postcontent", &own, "{}", 429),
        ("/auth/token", "", "hunter2", 400),
    ];
    for (before, (path, headers, body, status)) in requests.into_iter().enumerate() {
        assert_eq!(ask(&server, &format!("POST {path}"), headers, body).status, status, "{path} {body}");
        let metrics = ask(&server, "GET /metrics", "", "").body;
        let line = format!("jamjam_signaling_requests_rejected_total{{dialect=\"broadcast\"}} {}\n", before + 1);
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    // One a second is logged, so of these the first.
    let line = server.line_that_begins("http: request rejected ").message;
    assert!(line.starts_with("http: request rejected path=/radio/postcontent source=127.0.0.1:"), "{line}");
    assert!(line.ends_with(" status=401 reason=\"Authentication required\""), "{line}");
    let lines = server.stop("TERM").lines.join("\n");
    assert!(!lines.contains("hunter2") && !lines.contains(other[22..].trim()), "{lines}");
}

#[test]
fn with_a_key_tokens_are_for_those_who_have_it_and_a_rate_holds_for_all() {
    let server = Server::start_signaling(&["--token-issuer-key", "open sesame", "--rate-limit-token", "3/h"]);
    let body = r#"{"clientId":"a","room":"b"}"#;
    for key in ["", "Authorization: Bearer open\r\n"] {
        let refused = ask(&server, "POST /auth/token", key, body);
        assert!(refused.status == 401 && refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
    }
    let right = "Authorization: Bearer open sesame\r\n";
    assert_eq!(ask(&server, "POST /auth/token", right, body).status, 200);
    let refused = ask(&server, "POST /auth/token", right, body);
    let wait = refused.json()["retryAfter"].as_u64().unwrap();
    assert_eq!(refused.status, 429);
    assert!(
        (3_500..=3_601).contains(&wait) && refused.head.contains(&format!("retry-after: {wait}")),
        "{}",
        refused.head
    );
}

#[test]
fn what_is_posted_reaches_the_members_and_says_how_many() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "off", "--post-max", "1KiB"]].concat());
    let (mut ann, mut other) = (Client::join(&server, "radio"), Client::join(&server, "lobby"));
    let post = |request: &str, body: &str| ask(&server, request, &bearer("radio"), body);
    let taken = post("POST /radio/postcontent", r#"{"content":{"title":"x"},"metadata":{"m":1}}"#);
    assert_eq!((taken.status, taken.json()), (200, json!({"success": true, "clientCount": 1})));
    let heard = ann.hear();
    assert_eq!(
        (&heard["type"], &heard["content"], &heard["from"]),
        (&json!("radio-content"), &json!({"title": "x"}), &json!("server"))
    );
    let delayed = post("POST /radio/postcontent", r#"{"type":"post","content":1,"delay":1800}"#);
    assert_eq!(delayed.json(), json!({"success": true, "clientCount": 1, "delayMs": 1_800_000}));
    let typed = r#"{"type":"item","timestamp":"2026-11-20T14:00:00Z","data":{"content":{"id":7}}}"#;
    let queued = post("POST /rooms/radio/post", typed);
    let said = queued.json();
    assert_eq!(queued.status, 202);
    for (member, value) in [
        ("success", json!(true)),
        ("clientCount", json!(1)),
        ("status", json!("queued")),
        ("room", json!("radio")),
        ("delayMs", json!(0)),
    ] {
        assert_eq!(said[member], value, "{said}");
    }
    assert!(said["scheduledAt"].as_u64().unwrap() > 1_700_000_000_000, "{said}");
    let heard = ann.hear();
    assert_eq!((&heard, &heard["content"]), (&said["echo"], &json!({"content": {"id": 7}})));
    // Errors, in their order.
    for headers in ["", "Authorization: Bearer x\r\n", &bearer("lobby"), "Authorization: Basic eDp5\r\n"] {
        let refused = ask(&server, "POST /radio/postcontent", headers, "{");
        assert!(
            refused.status == 401 && refused.head.contains("www-authenticate: bearer"),
            "{headers}: {}",
            refused.head
        );
    }
    assert_eq!(ask(&server, &format!("POST /radio/postcontent?token={}", token("a", "radio")), "", "{}").status, 401);
    post("POST /radio/postcontent", &"x".repeat(1_025)).refuses(413, "Payload too large");
    post("POST /radio/postcontent", "{").refuses(400, "Invalid JSON");
    post("POST /radio/postcontent", "[1]").refuses(422, "Payload must be a JSON object");
    for id in ["", r#""id":"""#, r#""id":0"#, r#""id":null"#] {
        post("POST /radio/postcontent", &format!(r#"{{"data":{{"content":{{{id}}}}}}}"#))
            .refuses(422, "Content must have an id");
    }
    let refused = post("POST /rooms/radio/post", r#"{"type":1,"timestamp":"noon","data":[]}"#);
    refused.refuses(422, "Validation failed");
    let fields: Vec<_> =
        refused.json()["details"].as_array().unwrap().iter().map(|detail| detail["field"].clone()).collect();
    assert_eq!(fields, ["type", "timestamp", "data"]);
    // No room for everybody, and none without a token.
    for path in [
        "/postcontent",
        "/rooms/postcontent",
        "/health/postcontent",
        "/rooms/health/post",
        "/rooms/radio/other",
        "/a/b/postcontent",
    ] {
        let refused = ask(&server, &format!("POST {path}"), &bearer("rooms"), "{}");
        assert!(refused.status == 404 && refused.json()["error"] == "Not found", "{path}: {}", refused.status);
    }
    assert_eq!(post("GET /radio/postcontent", "").status, 405);
    assert_eq!(post("OPTIONS /rooms/radio/post", "").status, 204);
    // Nothing of all this was heard elsewhere, and an empty room has nobody to hear it.
    other.say("no JSON");
    assert_eq!(other.hear()["type"], "error");
    assert_eq!(ask(&server, "POST /void/postcontent", &bearer("void"), "{}").json()["clientCount"], 0);
    let health = ask(&server, "GET /health", "", "").json();
    let rooms = json!({"rooms": 2, "clients": 2, "controlClients": 0, "roomCounts": {"lobby": 1, "radio": 1}});
    assert_eq!((&health["dialects"]["broadcast"], &health["clients"]), (&rooms, &json!(2)), "{health}");
}

#[test]
fn posts_have_a_rate() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "2/h"]].concat());
    let post = || ask(&server, "POST /radio/postcontent", &bearer("radio"), "{}");
    assert_eq!([post().status, post().status, post().status], [200, 200, 429]);
}

#[test]
fn the_other_envelope_is_the_one_that_dynode_parses() {
    let server = Server::start_signaling(&[&SECRET[..], &["--broadcast-envelope", "dynode"]].concat());
    let (mut ann, mut bob) = (Client::join(&server, "radio"), Client::join(&server, "radio"));
    ann.say(r#"{"type":"x","content":1}"#);
    let mut heard = bob.hear();
    assert!(heard["receivedAt"].take().as_u64().unwrap() > 1_700_000_000_000);
    let data = json!({"type": "x", "content": 1, "room": "radio", "processedBy": "RadioHandler"});
    assert_eq!(heard, json!({"type": "broadcast", "from": "ann", "receivedAt": null, "data": data}));
    ask(&server, "POST /radio/postcontent", &bearer("radio"), r#"{"a":1}"#);
    let mut heard = bob.hear();
    assert!(heard["serverReceivedAt"].take().as_str().unwrap().ends_with('Z'));
    assert_eq!(heard, json!({"a": 1, "serverReceivedAt": null, "room": "radio", "contentType": "radio"}));
}

#[test]
fn what_is_relayed_is_written_as_it_was() {
    let server = Server::start_signaling(&SECRET);
    let (mut ann, mut bob) = (Client::join(&server, "lobby"), Client::join(&server, "lobby"));
    let content = r#"{"z":1,"a":[1.5,1e3,-0.0],"m":{"y":18446744073709551615,"b":"\u00e9\n"}}"#;
    ann.say(&format!(r#"{{"metadata":{{"q":1,"c":2}},"content":{content}}}"#));
    let heard = bob.0.read().unwrap().into_text().unwrap().to_string();
    let content = r#"{"z":1,"a":[1.5,1000.0,-0.0],"m":{"y":18446744073709551615,"b":"é\n"}}"#;
    let begins = format!(r#"{{"type":"lobby-content","content":{content},"metadata":{{"q":1,"c":2}},"timestamp":"#);
    assert!(heard.starts_with(&begins), "{heard}");
}

#[test]
fn control_channels_are_open_to_all_only_where_that_is_asked_for() {
    let server = Server::start_signaling(&SECRET);
    let control = "/rooms/radio/remotecontrol";
    assert_eq!(Client::connect(&server, control).closed(), (4_001, "Authentication required".to_owned()));
    let server = Server::start_signaling(&[&SECRET[..], &["--open-control-channel"]].concat());
    assert_eq!(Client::connect(&server, control).hear()["type"], "control-welcome");
    // The room is not, and a token that is shown has to be worth something.
    assert_eq!(Client::connect(&server, "/radio").closed().0, 4_001);
    assert_eq!(Client::connect(&server, &format!("{control}?token=a.b")).closed().0, 4_002);
}

#[test]
fn limits_close_with_their_codes() {
    let server =
        Server::start_signaling(&[&SECRET[..], &["--max-payload", "300KiB", "--idle-timeout", "100ms"]].concat());
    let mut idle = Client::join(&server, "lobby");
    assert_eq!(idle.closed(), (4_000, "Idle timeout".to_owned()));
    let (mut ann, mut bob) = (Client::join(&server, "lobby"), Client::join(&server, "lobby"));
    // Longer than others may say.
    ann.say(&format!(r#"{{"content":"{}"}}"#, "x".repeat(290 << 10)));
    assert_eq!(bob.hear()["content"].as_str().unwrap().len(), 290 << 10);
    ann.say(&"x".repeat(301 << 10));
    assert_eq!(ann.closed().0, 1_009);
    // Also for those who need no token to be there.
    let server = Server::start_signaling(&[&SECRET[..], &["--max-payload", "1KiB", "--open-control-channel"]].concat());
    let mut control = Client::connect(&server, "/rooms/radio/remotecontrol");
    assert_eq!(control.hear()["type"], "control-welcome");
    control.say(&"x".repeat(1_025));
    assert_eq!(control.closed().0, 1_009);
    let server = Server::start_signaling(&[&SECRET[..], &["--max-conn-age", "100ms"]].concat());
    assert_eq!(Client::join(&server, "lobby").closed(), (4_001, "Max connection age reached".to_owned()));
}

#[test]
fn only_the_listed_pages_may_connect_whatever_they_speak_and_the_header_has_the_token_too() {
    let server = Server::start_signaling(&[&SECRET[..], &["--origin", "https://a.example,https://b.example"]].concat());
    let connect = |to: &str, origin: &str| {
        let mut request =
            tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{}{to}", server.address))
                .unwrap();
        request.headers_mut().insert("Authorization", format!("Bearer {}", token("ann", "lobby")).parse().unwrap());
        if !origin.is_empty() {
            request
                .headers_mut()
                .insert("Origin", tungstenite::http::HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        Client(tungstenite::connect(request).unwrap().0)
    };
    let user = "/?roomId=r&userId=u&userName=n";
    for origin in ["", "https://a.example", "https://b.example", "HTTPS://A.EXAMPLE"] {
        assert_eq!(connect("/lobby", origin).hear()["type"], "welcome", "{origin}");
        assert_eq!(connect(user, origin).hear()["type"], "welcome", "{origin}");
        let mut undecided = connect("/", origin);
        undecided.say(r#"{"type":"ListRooms"}"#);
        assert_eq!(undecided.hear()["type"], "RoomList", "{origin}");
    }
    for origin in ["https://c.example", "http://a.example", "null", "https://a.example.c", "https://a.example\u{e9}"] {
        for to in ["/lobby", "/rooms/lobby/remotecontrol", user, "/", "/ws"] {
            assert_eq!(connect(to, origin).closed(), (4_003, "Origin not allowed".to_owned()), "{to} {origin}");
        }
    }
}

#[test]
fn a_server_that_ends_says_so() {
    let server = Server::start_signaling(&SECRET);
    let mut ann = Client::join(&server, "lobby");
    server.signal("TERM");
    assert_eq!(ann.closed(), (4_002, "Server shutting down".to_owned()));
}

#[test]
fn no_secret_and_no_token_is_in_a_log_whatever_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2-the-secret\n").unwrap();
    let server = Server::start_signaling_as(
        &["--host", "127.0.0.1", "--port", "0", "--hmac-secret-file", file.to_str().unwrap()],
        |command| {
            command.env("RUST_LOG", "trace").env("TOKEN_ISSUER_KEY", "swordfish-the-key");
        },
    );
    let key = "Authorization: Bearer swordfish-the-key\r\n";
    let given = ask(&server, "POST /auth/token", key, r#"{"clientId":"a","room":"lobby"}"#).json();
    let token = given["token"].as_str().unwrap().to_owned();
    let mut ann = Client::connect(&server, &format!("/lobby?token={token}"));
    assert_eq!(ann.hear()["type"], "welcome");
    ann.say("{}");
    assert_eq!(
        ask(&server, "POST /lobby/postcontent", &format!("Authorization: Bearer {token}\r\n"), "{}").status,
        200
    );
    assert_eq!(Client::connect(&server, &format!("/radio?token={token}")).closed().0, 4_002);
    assert_eq!(ask(&server, "GET /nowhere/at/all?token=swordfish-the-key", "", "").status, 404);
    let log = server.stop("TERM").lines.join("\n");
    assert!(log.contains("token rejected") && log.contains("signaling: server stopped"), "{log}");
    let signature = token.rsplit_once('.').unwrap().1;
    for hidden in ["hunter2", "swordfish", signature] {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
}

#[test]
fn a_token_is_printed_for_the_secret_in_force() {
    let printed = |arguments: &[&str], variable: &'static [(&'static str, &'static str)]| {
        let output = run(&[&["signaling-server"], arguments].concat(), |command| {
            command.envs(variable.iter().copied());
        });
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for variable in [
        &[("HMAC_SECRET", "s")][..],
        &[("AUTH_SECRET", "s")],
        &[("HMAC_SECRET", "s"), ("AUTH_SECRET", "other")],
        &[("HMAC_SECRET", ""), ("AUTH_SECRET", "s")],
    ] {
        let (code, token, _) = printed(&["--print-token", "client-001:myroom:60"], variable);
        let claims = verify(&Secret::new("s"), &token, "myroom", 0).unwrap();
        assert_eq!((code, claims.client_id.as_str()), (Some(0), "client-001"));
        assert_eq!(claims.expires_ms().unwrap() - claims.issued_at.unwrap().as_u64().unwrap(), 60_000);
    }
    for wrong in ["myroom", "a:", ":b", "a:b:0", "a:b:x", "a:rooms"] {
        assert_eq!(printed(&["--print-token", wrong], &[("HMAC_SECRET", "s")]).0, Some(2), "{wrong}");
    }
    let (code, _, error) = printed(&["--print-token", "a:b"], &[]);
    assert!(code == Some(2) && error.contains("HMAC_SECRET"), "{error}");
    let (code, _, error) = printed(&["--print-token", "a:b", "--hmac-secret-file", "/nowhere"], &[]);
    assert!(code == Some(3) && error.contains("/nowhere"), "{error}");
}

#[test]
fn without_a_secret_one_is_made_and_said_once() {
    let mut server = Server::start_signaling(&[]);
    server.line_that_begins("signaling: HMAC_SECRET not set");
    let given = ask(&server, "POST /auth/token", "", r#"{"clientId":"a","room":"lobby"}"#).json();
    let to = format!("/lobby?token={}", given["token"].as_str().unwrap());
    assert_eq!(Client::connect(&server, &to).hear()["type"], "welcome");
    assert_eq!(Client::connect(&server, &format!("/lobby?token={}", token("a", "lobby"))).closed().0, 4_002);
}

#[test]
fn a_room_is_declared_by_a_file_and_a_mistake_in_it_is_found_before_anybody_comes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("stage.toml"), text).unwrap();
    write(
        "requires_auth = false\nbroadcast_delay = \"100ms\"\nmax_clients = 2\nstamp = true\n[welcome]\nmessage = \"Hello\"\nrules = [1, 2]\n[welcome.opens]\nat = [2026-11-20T20:00:00Z, 20:00:00]\n",
    );
    let options = ["--rooms", folder.path().to_str().unwrap()];
    let server = Server::start_signaling(&options);
    let (mut ann, mut bob) = (Client::connect(&server, "/stage"), Client::connect(&server, "/stage"));
    for client in [&mut ann, &mut bob] {
        let welcome = client.hear();
        let told = (&welcome["type"], &welcome["message"], &welcome["rules"], &welcome["room"]);
        assert_eq!(told, (&json!("welcome"), &json!("Hello"), &json!([1, 2]), &json!("stage")));
        assert_eq!(welcome["opens"], json!({"at": ["2026-11-20T20:00:00Z", "20:00:00"]}));
    }
    assert_eq!(Client::connect(&server, "/stage").closed(), (1_013, "Room is full".to_owned()));
    let said = std::time::Instant::now();
    ann.say(r#"{"type":"x"}"#);
    let heard = bob.hear();
    assert!(said.elapsed() >= Duration::from_millis(100));
    assert!(heard["content"]["processed"] == true && heard["content"]["timestamp"].is_u64(), "{heard}");
    assert_eq!(heard["from"], "anonymous");
    for (text, line, word) in [
        ("stamp = true\nwellcome = 1\n", "line 2", "wellcome"),
        ("stamp = 1", "line 1", "stamp = 1"),
        ("stamp = true\n\nbroadcast_delay = \"soon\"\n", "line 3", "broadcast_delay"),
        ("stamp", "line 1", "stamp"),
        ("stamp = true\nbroadcast_delay = \"61m\"\n", "line 2", "broadcast_delay"),
        ("# Nobody.\n\nmax_clients = 0\n", "line 3", "max_clients"),
    ] {
        write(text);
        let output = run(&[&["signaling-server", "--port", "0"], &options[..]].concat(), |_| {});
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.contains("stage.toml") && error.contains(line) && error.contains(word), "{error}");
        assert!(!error.contains("listening"), "{error}");
    }
    std::fs::rename(folder.path().join("stage.toml"), folder.path().join("rooms.toml")).unwrap();
    let output = run(&[&["signaling-server", "--port", "0"], &options[..]].concat(), |_| {});
    assert!(String::from_utf8(output.stderr).unwrap().contains("reserved"));
}
