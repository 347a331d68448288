//! The HTTP interface of broadcast rooms and its options, tested with the program itself.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use test_support::server;

use jamjam_dev::signaling::token::{Claims, Secret, sign, verify};
use serde_json::{Map, Value, json};
use server::TEST_TIMEOUT;
use server::process::{Server, run};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

struct Response {
    status: u16,
    /// The head of the response, in lower case.
    head: String,
    body: String,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.body))
    }

    #[track_caller]
    fn assert_error(&self, status: u16, error: &str) {
        assert_eq!((self.status, &self.json()["error"]), (status, &json!(error)), "{}", self.head);
    }
}

fn request(server: &Server, request: &str, headers: &str, body: &str) -> Response {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}"));
    Response { status: head[9..12].parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() }
}

fn token(client: &str, room: &str) -> String {
    sign(&Secret::new("test-secret"), &Claims::new(client, room, Map::new(), 4_000_000_000_000, 1.0))
}

fn bearer(room: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token("poster", room))
}

struct Client(WebSocket<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects with a token for the room.
    fn join(server: &Server, room: &str) -> Self {
        let mut client = Self::connect(server, &format!("/{room}?token={}", token("ann", room)));
        assert_eq!(client.receive()["type"], "welcome");
        client
    }

    fn connect(server: &Server, to: &str) -> Self {
        let (mut socket, _) = tungstenite::connect(format!("ws://{}{to}", server.address)).unwrap();
        if let MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        }
        Self(socket)
    }

    fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn receive(&mut self) -> Value {
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
fn issued_token_opens_its_own_room_only() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-token", "off"]].concat());
    let request = |body: &str| request(&server, "POST /auth/token", "", body);
    let issued = request(r#"{"clientId":"ann","room":"radio","expiresIn":60,"metadata":{"broadcastDelay":1}}"#);
    assert_eq!(issued.status, 200, "{}", issued.body);
    assert!(issued.head.contains("access-control-allow-origin: *"), "{}", issued.head);
    let body = issued.json();
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
    assert_eq!(Client::connect(&server, &to("radio")).receive()["type"], "welcome");
    assert_eq!(Client::connect(&server, &to("chat")).closed(), (4_002, "Invalid or expired token".to_owned()));
    // The default is one hour, and the maximum is one year.
    for (expires_in, seconds) in [("", 3_600), (r#","expiresIn":1e12"#, 31_536_000), (r#","expiresIn":0.5"#, 0)] {
        let body = request(&format!(r#"{{"clientId":"a","room":"b"{expires_in}}}"#)).json();
        let claims = verify(&secret, body["token"].as_str().unwrap(), "b", 0).unwrap();
        let lifetime_ms = claims.expires_ms().unwrap() - claims.issued_at.unwrap().as_u64().unwrap();
        assert_eq!(lifetime_ms / 1_000, seconds, "{expires_in}");
    }
    for body in ["{}", r#"{"clientId":"a"}"#, r#"{"clientId":"","room":"b"}"#] {
        request(body).assert_error(400, "clientId and room are required");
        assert!(request(body).json()["example"].is_object());
    }
    for (wrong, error) in [
        ("{", "The body is not JSON: EOF"),
        ("[]", "The body must be a JSON object"),
        (r#"{"clientId":1,"room":"b"}"#, "clientId: invalid type: integer `1`, expected a string at line 1 column 13"),
        (r#"{"clientId":"a","room":"b","expiresIn":0}"#, "expiresIn must be a number of seconds above 0"),
        (r#"{"clientId":"a","room":"b","expiresIn":-1}"#, "expiresIn must be a number of seconds above 0"),
        (r#"{"clientId":"a","room":"b","expiresIn":"60"}"#, "expiresIn: invalid type: string \"60\", expected f64"),
        (
            r#"{"clientId":"a","room":"b","audience":"tv"}"#,
            "audience: unknown variant `tv`, expected `broadcast` or `webrtc`",
        ),
        (r#"{"clientId":"a","room":"b","metadata":[]}"#, "metadata: invalid type: sequence, expected a map"),
    ] {
        let rejected = request(wrong);
        let text = rejected.json()["error"].as_str().unwrap().to_owned();
        assert!(rejected.status == 400 && text.starts_with(&format!("Invalid request: {error}")), "{wrong}: {text}");
    }
    assert_eq!(request(r#"{"clientId":"a","room":"rooms"}"#).status, 400);
    request(&" ".repeat(300 << 10)).assert_error(413, "Payload too large");
    let preflight = self::request(&server, "OPTIONS /auth/token", "", "");
    assert_eq!(preflight.status, 204);
    for header in ["origin: *", "methods: get, post, options", "headers: content-type, authorization"] {
        assert!(preflight.head.contains(&format!("access-control-allow-{header}")), "{}", preflight.head);
    }
    // Browsers name the headers that tracing libraries add.
    let requested = "Access-Control-Request-Headers: content-type,baggage,traceparent\r\n";
    for path in ["/auth/token", "/lobby/postcontent", "/health", "/rooms"] {
        let preflight = self::request(&server, &format!("OPTIONS {path}"), requested, "");
        let allowed = "access-control-allow-headers: content-type,baggage,traceparent\r\n";
        assert!(preflight.status == 204 && preflight.head.contains(allowed), "{path}: {}", preflight.head);
    }
    assert_eq!(self::request(&server, "GET /auth/token", "", "").status, 405);
}

#[test]
fn client_id_and_room_name_limits_are_enforced() {
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
        assert_eq!(request(&server, "POST /auth/token", "", &body).status, status, "{body}");
    }
}

/// Sends `request` and nothing more. Returns the status of the response.
fn status(server: &Server, request: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).unwrap();
    std::str::from_utf8(&response[9..]).unwrap().parse().unwrap()
}

#[test]
fn oversized_or_malformed_body_is_rejected_before_it_is_complete() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-token", "off"]].concat());
    let bearer = bearer("radio");
    for (path, headers) in [("/radio/postcontent", &*bearer), ("/rooms/radio/post", &bearer), ("/auth/token", "")] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}");
        let expecting =
            |length| status(&server, &format!("{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(status(&server, &format!("{head}Content-Length: 262145\r\n\r\n")), 413, "{path}");
        assert_eq!((expecting(262_145), expecting(2)), (413, 100), "{path}");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(status(&server, &format!("{chunked}zz\r\n")), 400, "{path}");
        assert_eq!(status(&server, &format!("{chunked}40001\r\n{}\r\n", "x".repeat(0x40_001))), 413, "{path}");
    }
}

#[test]
fn rejected_http_requests_are_counted_and_logged_without_content() {
    let mut server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "6/h"]].concat());
    let (own, other, long) = (bearer("radio"), bearer("lobby"), "x".repeat((256 << 10) + 1));
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
        assert_eq!(request(&server, &format!("POST {path}"), headers, body).status, status, "{path} {body}");
        let metrics = request(&server, "GET /metrics", "", "").body;
        let line = format!("jamjam_signaling_requests_rejected_total{{dialect=\"broadcast\"}} {}\n", before + 1);
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    // One rejection per second is logged, so only the first of these is logged.
    let line = server.line_starting_with("http: request rejected ").message;
    assert!(line.starts_with("http: request rejected path=/radio/postcontent source=127.0.0.1:"), "{line}");
    assert!(line.ends_with(" status=401 reason=\"Authentication required\""), "{line}");
    let lines = server.stop("TERM").lines.join("\n");
    assert!(!lines.contains("hunter2") && !lines.contains(other[22..].trim()), "{lines}");
}

#[test]
fn issuer_key_restricts_tokens_and_their_rate_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "open sesame\n").unwrap();
    // If both options are given, the key is that of the file.
    let keys = ["--token-issuer-key", "open", "--token-issuer-key-file", file.to_str().unwrap()];
    let server = Server::start_signaling(&[&keys[..], &["--rate-limit-token", "3/h"]].concat());
    let body = r#"{"clientId":"a","room":"b"}"#;
    for key in ["", "Authorization: Bearer open\r\n"] {
        let rejected = request(&server, "POST /auth/token", key, body);
        assert!(rejected.status == 401 && rejected.head.contains("www-authenticate: bearer"), "{}", rejected.head);
    }
    let right = "Authorization: Bearer open sesame\r\n";
    assert_eq!(request(&server, "POST /auth/token", right, body).status, 200);
    let rejected = request(&server, "POST /auth/token", right, body);
    let wait = rejected.json()["retryAfter"].as_u64().unwrap();
    assert_eq!(rejected.status, 429);
    let error = "Too many token requests from this address; try again later (limit: the server's --rate-limit-token)";
    assert_eq!(rejected.json()["error"], error);
    assert!(
        (3_500..=3_601).contains(&wait) && rejected.head.contains(&format!("retry-after: {wait}")),
        "{}",
        rejected.head
    );
}

#[test]
fn post_reaches_the_members_and_returns_their_number() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "off"]].concat());
    let (mut ann, mut other) = (Client::join(&server, "radio"), Client::join(&server, "lobby"));
    let post = |line: &str, body: &str| request(&server, line, &bearer("radio"), body);
    let accepted_post = post("POST /radio/postcontent", r#"{"content":{"title":"x"},"metadata":{"m":1}}"#);
    assert_eq!((accepted_post.status, accepted_post.json()), (200, json!({"success": true, "clientCount": 1})));
    let received = ann.receive();
    assert_eq!(
        (&received["type"], &received["content"], &received["from"]),
        (&json!("radio-content"), &json!({"title": "x"}), &json!("server"))
    );
    let delayed = post("POST /radio/postcontent", r#"{"type":"post","content":1,"delay":1800}"#);
    assert_eq!(delayed.json(), json!({"success": true, "clientCount": 1, "delayMs": 1_800_000}));
    let typed = r#"{"type":"item","timestamp":"9999-12-31T23:59:59Z","data":{"content":{"id":7}}}"#;
    let queued = post("POST /rooms/radio/post", typed);
    let accepted = queued.json();
    assert_eq!(queued.status, 202);
    for (member, value) in [
        ("success", json!(true)),
        ("clientCount", json!(1)),
        ("status", json!("queued")),
        ("room", json!("radio")),
        ("delayMs", json!(0)),
    ] {
        assert_eq!(accepted[member], value, "{accepted}");
    }
    assert!(accepted["scheduledAt"].as_u64().unwrap() > 1_700_000_000_000, "{accepted}");
    let received = ann.receive();
    assert_eq!((&received, &received["content"]), (&accepted["echo"], &json!({"content": {"id": 7}})));
    // The errors in the order in which they are checked.
    for headers in ["", "Authorization: Bearer x\r\n", &bearer("lobby"), "Authorization: Basic eDp5\r\n"] {
        let rejected = request(&server, "POST /radio/postcontent", headers, "{");
        assert!(
            rejected.status == 401 && rejected.head.contains("www-authenticate: bearer"),
            "{headers}: {}",
            rejected.head
        );
    }
    assert_eq!(
        request(&server, &format!("POST /radio/postcontent?token={}", token("a", "radio")), "", "{}").status,
        401
    );
    post("POST /radio/postcontent", &"x".repeat(262_145)).assert_error(413, "Payload too large");
    post("POST /radio/postcontent", "{").assert_error(400, "Invalid JSON");
    post("POST /radio/postcontent", "[1]").assert_error(422, "Payload must be a JSON object");
    for id in ["", r#""id":"""#, r#""id":0"#, r#""id":null"#] {
        post("POST /radio/postcontent", &format!(r#"{{"data":{{"content":{{{id}}}}}}}"#))
            .assert_error(422, "Content must have an id");
    }
    let rejected = post("POST /rooms/radio/post", r#"{"type":1,"timestamp":"noon","data":[]}"#);
    rejected.assert_error(422, "Validation failed");
    let fields: Vec<_> =
        rejected.json()["details"].as_array().unwrap().iter().map(|detail| detail["field"].clone()).collect();
    assert_eq!(fields, ["type", "timestamp", "data"]);
    // Posts to paths that name no room are rejected with status 404, with or without a token.
    for path in [
        "/postcontent",
        "/rooms/postcontent",
        "/health/postcontent",
        "/rooms/health/post",
        "/rooms/radio/other",
        "/a/b/postcontent",
    ] {
        let rejected = request(&server, &format!("POST {path}"), &bearer("rooms"), "{}");
        assert!(rejected.status == 404 && rejected.json()["error"] == "Not found", "{path}: {}", rejected.status);
    }
    assert_eq!(post("GET /radio/postcontent", "").status, 405);
    assert_eq!(post("OPTIONS /rooms/radio/post", "").status, 204);
    // The next message that `other` receives is an error. Therefore, none of these posts was delivered to its room. For a post to an empty
    // room, the response reports 0 receivers.
    other.send("no JSON");
    assert_eq!(other.receive()["type"], "error");
    assert_eq!(request(&server, "POST /void/postcontent", &bearer("void"), "{}").json()["clientCount"], 0);
    let health = request(&server, "GET /health", "", "").json();
    let rooms = json!({"rooms": 2, "clients": 2, "controlClients": 0, "roomCounts": {"lobby": 1, "radio": 1}});
    assert_eq!((&health["dialects"]["broadcast"], &health["clients"]), (&rooms, &json!(2)), "{health}");
}

#[test]
fn radio_delay_applies_to_posts_without_a_delay() {
    let server = Server::start_signaling(&[&SECRET[..], &["--radio-delay", "0.2"]].concat());
    let mut ann = Client::join(&server, "radio");
    for (room, message, delay) in [
        ("radio", r#"{"type":"Post","content":1}"#, Some(200)),
        ("radio", r#"{"type":"post","content":2,"delay":0.1}"#, Some(100)),
        ("radio", r#"{"type":"item","content":3}"#, None),
        ("lobby", r#"{"type":"post","content":4}"#, None),
    ] {
        let posted = request(&server, &format!("POST /{room}/postcontent"), &bearer(room), message).json();
        assert_eq!((&posted["success"], posted["delayMs"].as_u64()), (&json!(true), delay), "{message}");
    }
    assert_eq!([(); 3].map(|()| ann.receive()["content"].clone()), [3, 2, 1]);
}

#[test]
fn post_rate_is_limited() {
    let server = Server::start_signaling(&[&SECRET[..], &["--rate-limit-post", "2/h"]].concat());
    let post = || request(&server, "POST /radio/postcontent", &bearer("radio"), "{}");
    assert_eq!([post().status, post().status], [200, 200]);
    let rejected = post();
    let error = "Too many posts from this address; try again later (limit: the server's --rate-limit-post)";
    assert_eq!((rejected.status, &rejected.json()["error"]), (429, &json!(error)));
}

#[test]
fn dynode_envelope_has_the_documented_form() {
    let server = Server::start_signaling(&[&SECRET[..], &["--broadcast-envelope", "dynode"]].concat());
    let (mut ann, mut bob) = (Client::join(&server, "radio"), Client::join(&server, "radio"));
    ann.send(r#"{"type":"x","content":1}"#);
    let mut received = bob.receive();
    assert!(received["receivedAt"].take().as_u64().unwrap() > 1_700_000_000_000);
    let data = json!({"type": "x", "content": 1, "room": "radio", "processedBy": "RadioHandler"});
    assert_eq!(received, json!({"type": "broadcast", "from": "ann", "receivedAt": null, "data": data}));
    request(&server, "POST /radio/postcontent", &bearer("radio"), r#"{"a":1}"#);
    let mut received = bob.receive();
    assert!(received["serverReceivedAt"].take().as_str().unwrap().ends_with('Z'));
    assert_eq!(received, json!({"a": 1, "serverReceivedAt": null, "room": "radio", "contentType": "radio"}));
}

#[test]
fn relayed_content_keeps_its_order_and_numbers() {
    let server = Server::start_signaling(&SECRET);
    let (mut ann, mut bob) = (Client::join(&server, "lobby"), Client::join(&server, "lobby"));
    let content = r#"{"z":1,"a":[1.5,1e3,-0.0],"m":{"y":18446744073709551615,"b":"\u00e9\n"}}"#;
    ann.send(&format!(r#"{{"metadata":{{"q":1,"c":2}},"content":{content}}}"#));
    let received = bob.0.read().unwrap().into_text().unwrap().to_string();
    let content = r#"{"z":1,"a":[1.5,1000.0,-0.0],"m":{"y":18446744073709551615,"b":"é\n"}}"#;
    let begins = format!(r#"{{"type":"lobby-content","content":{content},"metadata":{{"q":1,"c":2}},"timestamp":"#);
    assert!(received.starts_with(&begins), "{received}");
}

#[test]
fn control_channels_need_a_token() {
    let server = Server::start_signaling(&SECRET);
    let control = "/rooms/radio/remotecontrol";
    assert_eq!(Client::connect(&server, control).closed(), (4_001, "Authentication required".to_owned()));
    let with_token = format!("{control}?token={}", token("ann", "radio"));
    assert_eq!(Client::connect(&server, &with_token).receive()["type"], "control-welcome");
    assert_eq!(Client::connect(&server, &format!("{control}?token=a.b")).closed().0, 4_002);
}

#[test]
fn limits_close_with_their_codes() {
    let server = Server::start_signaling(&[&SECRET[..], &["--idle-timeout", "100ms"]].concat());
    assert_eq!(Client::join(&server, "lobby").closed(), (4_000, "Idle timeout".to_owned()));
    let server = Server::start_signaling(&[&SECRET[..], &["--max-payload", "300KiB"]].concat());
    let (mut ann, mut bob) = (Client::join(&server, "lobby"), Client::join(&server, "lobby"));
    // This message is longer than 256 KiB, the maximum for clients without a token.
    ann.send(&format!(r#"{{"content":"{}"}}"#, "x".repeat(290 << 10)));
    assert_eq!(bob.receive()["content"].as_str().unwrap().len(), 290 << 10);
    ann.send(&"x".repeat(301 << 10));
    assert_eq!(ann.closed().0, 1_009);
    // The limit also applies to control channels.
    let server = Server::start_signaling(&[&SECRET[..], &["--max-payload", "1KiB"]].concat());
    let to = format!("/rooms/radio/remotecontrol?token={}", token("ann", "radio"));
    let mut control = Client::connect(&server, &to);
    assert_eq!(control.receive()["type"], "control-welcome");
    control.send(&"x".repeat(1_025));
    assert_eq!(control.closed().0, 1_009);
    let server = Server::start_signaling(&[&SECRET[..], &["--max-conn-age", "100ms"]].concat());
    assert_eq!(Client::join(&server, "lobby").closed(), (4_001, "Max connection age reached".to_owned()));
}

#[test]
fn only_listed_origins_may_connect_in_any_dialect() {
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
        assert_eq!(connect("/lobby", origin).receive()["type"], "welcome", "{origin}");
        assert_eq!(connect(user, origin).receive()["type"], "welcome", "{origin}");
        let mut undecided = connect("/", origin);
        undecided.send(r#"{"type":"ListRooms"}"#);
        assert_eq!(undecided.receive()["type"], "RoomList", "{origin}");
    }
    for origin in ["https://c.example", "http://a.example", "null", "https://a.example.c", "https://a.example\u{e9}"] {
        for to in ["/lobby", "/rooms/lobby/remotecontrol", user, "/", "/ws"] {
            assert_eq!(connect(to, origin).closed(), (4_003, "Origin not allowed".to_owned()), "{to} {origin}");
        }
    }
}

#[test]
fn only_listed_origins_may_send_http_requests() {
    let server = Server::start_signaling(
        &[&SECRET[..], &["--origin", "https://a.example", "--rate-limit-token", "off"]].concat(),
    );
    let json = "Content-Type: application/json\r\n";
    let requests = [
        ("POST /auth/token", json.to_owned(), r#"{"clientId":"ann","room":"lobby"}"#),
        ("OPTIONS /auth/token", String::new(), ""),
        ("POST /lobby/postcontent", format!("{json}{}", bearer("lobby")), "{}"),
        ("OPTIONS /lobby/postcontent", String::new(), ""),
        (
            "POST /rooms/lobby/post",
            format!("{json}{}", bearer("lobby")),
            r#"{"type":"t","timestamp":"2026-01-01T00:00:00Z","data":{}}"#,
        ),
        ("GET /healthz", String::new(), ""),
        ("GET /health", String::new(), ""),
    ];
    for (line, headers, body) in requests {
        for origin in ["", "Origin: https://a.example\r\n", "Origin: HTTPS://A.example\r\n"] {
            let response = request(&server, line, &format!("{origin}{headers}"), body);
            assert!((200..300).contains(&response.status), "{line} {origin}: {} {}", response.head, response.body);
        }
        for origin in ["https://b.example", "null", "http://x"] {
            let response = request(&server, line, &format!("Origin: {origin}\r\n{headers}"), body);
            response.assert_error(403, "Origin not allowed (allowed origins: the server's --origin)");
            assert!(!response.head.contains("access-control-allow"), "{line} {origin}: {}", response.head);
        }
    }
}

#[test]
fn server_shutdown_closes_with_4002() {
    let server = Server::start_signaling(&SECRET);
    let mut ann = Client::join(&server, "lobby");
    server.signal("TERM");
    assert_eq!(ann.closed(), (4_002, "Server shutting down".to_owned()));
}

#[test]
fn no_secret_or_token_is_logged_at_any_level() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2-the-secret\n").unwrap();
    let server = Server::start_signaling_as(
        &["--host", "127.0.0.1", "--port", "0", "--hmac-secret", &format!("@{}", file.display())],
        |command| {
            command.env("RUST_LOG", "trace").env("TOKEN_ISSUER_KEY", "swordfish-the-key");
        },
    );
    let key = "Authorization: Bearer swordfish-the-key\r\n";
    let issued = request(&server, "POST /auth/token", key, r#"{"clientId":"a","room":"lobby"}"#).json();
    let token = issued["token"].as_str().unwrap().to_owned();
    let mut ann = Client::connect(&server, &format!("/lobby?token={token}"));
    assert_eq!(ann.receive()["type"], "welcome");
    ann.send("{}");
    assert_eq!(
        request(&server, "POST /lobby/postcontent", &format!("Authorization: Bearer {token}\r\n"), "{}").status,
        200
    );
    assert_eq!(Client::connect(&server, &format!("/radio?token={token}")).closed().0, 4_002);
    assert_eq!(request(&server, "GET /nowhere/at/all?token=swordfish-the-key", "", "").status, 404);
    let log = server.stop("TERM").lines.join("\n");
    assert!(log.contains("token rejected") && log.contains("signaling: server stopped"), "{log}");
    let signature = token.rsplit_once('.').unwrap().1;
    for hidden in ["hunter2", "swordfish", signature] {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
}

#[test]
fn print_token_signs_with_the_configured_secret() {
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
    let (code, _, error) = printed(&["--print-token", "a:b", "--hmac-secret", "@/nowhere"], &[]);
    assert!(code == Some(3) && error.contains("/nowhere"), "{error}");
}

#[test]
fn missing_secret_is_generated_and_logged_once() {
    let mut server = Server::start_signaling(&[]);
    server.line_starting_with("signaling: no HMAC secret is given");
    let issued = request(&server, "POST /auth/token", "", r#"{"clientId":"a","room":"lobby"}"#).json();
    let to = format!("/lobby?token={}", issued["token"].as_str().unwrap());
    assert_eq!(Client::connect(&server, &to).receive()["type"], "welcome");
    assert_eq!(Client::connect(&server, &format!("/lobby?token={}", token("a", "lobby"))).closed().0, 4_002);
}

#[test]
fn room_file_declares_a_room_and_its_errors_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("stage.toml"), text).unwrap();
    // Lock files of Emacs are dangling links, and macOS writes binary files.
    std::os::unix::fs::symlink("ann@host.42", folder.path().join(".#stage.toml")).unwrap();
    std::fs::write(folder.path().join("._stage.toml"), [0, 5, 22, 7]).unwrap();
    write(
        "\u{feff}requires_auth = false\nbroadcast_delay = \"100ms\"\nmax_clients = 2\nstamp = true\n[welcome]\nmessage = \"Hello\"\nrules = [1, 2]\n[welcome.opens]\nat = [2026-11-20T20:00:00Z, 20:00:00]\n",
    );
    let options = ["--rooms", folder.path().to_str().unwrap()];
    let mut server = Server::start_signaling(&options);
    server.line_starting_with("signaling: room file skipped");
    let (mut ann, mut bob) = (Client::connect(&server, "/stage"), Client::connect(&server, "/stage"));
    for client in [&mut ann, &mut bob] {
        let welcome = client.receive();
        let fields = (&welcome["type"], &welcome["message"], &welcome["rules"], &welcome["room"]);
        assert_eq!(fields, (&json!("welcome"), &json!("Hello"), &json!([1, 2]), &json!("stage")));
        assert_eq!(welcome["opens"], json!({"at": ["2026-11-20T20:00:00Z", "20:00:00"]}));
    }
    assert_eq!(Client::connect(&server, "/stage").closed(), (1_013, "Room is full".to_owned()));
    let sent_at = std::time::Instant::now();
    ann.send(r#"{"type":"x"}"#);
    let received = bob.receive();
    assert!(sent_at.elapsed() >= Duration::from_millis(100));
    assert!(received["content"]["processed"] == true && received["content"]["timestamp"].is_u64(), "{received}");
    assert_eq!(received["from"], "anonymous");
    for (text, line, word) in [
        ("stamp = true\nwellcome = 1\n", "line 2", "wellcome"),
        ("stamp = 1", "line 1", "stamp = 1"),
        ("stamp = true\n\nbroadcast_delay = \"soon\"\n", "line 3", "broadcast_delay"),
        ("stamp", "line 1", "stamp"),
        ("stamp = true\nbroadcast_delay = \"61m\"\n", "line 2", "broadcast_delay"),
        ("# Empty.\n\nmax_clients = 0\n", "line 3", "max_clients"),
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
