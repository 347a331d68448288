//! The HTTP interface of broadcast rooms and its options, tested with the program itself.

use jamjam_dev::signaling::token::{Secret, verify, verify_webrtc};
use serde_json::json;
use test_support::server::{Member, Response, Server, get, run, send};

use super::http::login::JSON;
use super::{SECRET, broadcast_member, token};

fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&SECRET, options].concat())
}

fn bearer(room: &str) -> String {
    format!("Authorization: Bearer {}", token("poster", room))
}

fn issue(server: &Server, body: &str) -> Response {
    send(server, "POST", "/auth/token", &[], body)
}

/// Connects with a token for the room.
fn connect(server: &Server, room: &str, token: &str) -> Member {
    Member::connect_to(server.address, &format!("/{room}?token={token}"))
}

#[test]
fn issued_token_opens_its_own_room_only() {
    let server = start(&["--rate-limit-token", "off"]);
    let body = r#"{"clientId":"ann","room":"radio","expiresIn":60,"metadata":{"broadcastDelay":1}}"#;
    let response = issue(&server, body);
    assert_eq!(response.header("access-control-allow-origin"), "*");
    let body = response.json();
    let expires_at = body["expiresAt"].as_u64().unwrap();
    let members = (&body["clientId"], &body["room"], body.as_object().unwrap().len());
    assert_eq!(members, (&json!("ann"), &json!("radio"), 4));
    let secret = Secret::new("test-secret");
    let issued = body["token"].as_str().unwrap();
    let claims = verify(Some(&secret), issued, "radio", 0).unwrap();
    assert_eq!((claims.expires_ms(), claims.metadata["broadcastDelay"].as_u64()), (Some(expires_at), Some(1)));
    assert_eq!(claims.issued_at, Some(json!(expires_at - 60_000)));
    assert_eq!(connect(&server, "radio", issued).receive()["type"], "welcome");
    assert_eq!(connect(&server, "chat", issued).closed(), (4_002, "Invalid or expired token".to_owned()));
    // The default is one hour, and the maximum is one year.
    for (expires_in, seconds) in [("", 3_600), (r#","expiresIn":1e12"#, 31_536_000), (r#","expiresIn":0.5"#, 0)] {
        let body = issue(&server, &format!(r#"{{"clientId":"a","room":"b"{expires_in}}}"#)).json();
        let claims = verify(Some(&secret), body["token"].as_str().unwrap(), "b", 0).unwrap();
        let lifetime_ms = claims.expires_ms().unwrap() - claims.issued_at.unwrap().as_u64().unwrap();
        assert_eq!(lifetime_ms / 1_000, seconds, "{expires_in}");
    }
    for (id, room, data, status) in [(256, 128, 0, 200), (257, 1, 0, 422), (1, 129, 0, 422), (1, 1, 9_300, 422)] {
        let metadata = json!({"data": "x".repeat(data)});
        let body = json!({"clientId": "x".repeat(id), "room": "x".repeat(room), "metadata": metadata}).to_string();
        assert_eq!(issue(&server, &body).status, status, "{body}");
    }
    assert_eq!(issue(&server, r#"{"clientId":"a\u0007","room":"b"}"#).status, 422);
    // The longest token opens its room.
    let metadata = json!({"data": "x".repeat(8_900)});
    let longest = issue(&server, &json!({"clientId": "ann", "room": "radio", "metadata": metadata}).to_string()).json();
    assert_eq!(connect(&server, "radio", longest["token"].as_str().unwrap()).receive()["type"], "welcome");
}

#[test]
fn rejected_http_requests_are_counted_and_logged_without_content() {
    let mut server = start(&["--rate-limit-post", "4/h"]);
    let (own, other) = (bearer("radio"), bearer("lobby"));
    for (count, (path, headers, body, status)) in (1_u64..).zip([
        ("/radio/postcontent", &[][..], "{}", 401),
        ("/radio/postcontent", &[&*other], "{}", 401),
        ("/radio/postcontent", &[&*own], "hunter2", 400),
        ("/rooms/radio/post", &[&*own], r#"{"type":"hunter2"}"#, 422),
        ("/radio/postcontent", &[&*own], "{}", 429),
        ("/auth/token", &[], "hunter2", 400),
    ]) {
        assert_eq!(send(&server, "POST", path, headers, body).status, status, "{path} {body}");
        // Tokens belong to no dialect.
        let counts = ["broadcast", "undecided"]
            .map(|dialect| server.metric(&format!("requests_rejected_total{{dialect=\"{dialect}\"}}")));
        assert_eq!(counts, [count.min(5), count.saturating_sub(5)]);
    }
    // One rejection per second is logged, so only the first of these is logged.
    let line = server.line_starting_with("http: request rejected ").message;
    assert!(line.starts_with("http: request rejected path=/radio/postcontent source=127.0.0.1:"), "{line}");
    assert!(line.ends_with(" status=401 reason=\"Authentication required\""), "{line}");
    let lines = server.stop("TERM").lines.join("\n");
    assert!(!lines.contains("hunter2") && !lines.contains(&other[22..]), "{lines}");
}

#[test]
fn issuer_key_restricts_tokens_and_their_rate_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "open sesame\n").unwrap();
    let key = format!("@{}", file.display());
    let server = Server::start_signaling(&["--token-issuer-key", &key, "--rate-limit-token", "3/h"]);
    let request = |key: &str| send(&server, "POST", "/auth/token", &[key], r#"{"clientId":"a","room":"b"}"#);
    for wrong in ["X: x", "Authorization: Bearer open"] {
        let rejected = request(wrong);
        assert!(rejected.status == 401 && rejected.header("www-authenticate").starts_with("Bearer"), "{rejected:?}");
    }
    let right = "Authorization: Bearer open sesame";
    assert_eq!(request(right).status, 200);
    let rejected = request(right);
    let wait = rejected.json()["retryAfter"].as_u64().unwrap();
    // One more request is permitted every 20 minutes.
    assert!(rejected.status == 429 && (1_100..=1_201).contains(&wait), "{rejected:?}");
    assert_eq!(rejected.header("retry-after"), wait.to_string());
}

#[test]
fn post_reaches_the_members_and_returns_their_number() {
    let server = start(&["--rate-limit-post", "off"]);
    let [mut ann, mut other] = ["radio", "lobby"].map(|room| broadcast_member(server.address, room, "ann"));
    let own = bearer("radio");
    let post = |path: &str, body: &str| send(&server, "POST", path, &[&own], body);
    let accepted = post("/radio/postcontent", r#"{"content":{"title":"x"},"metadata":{"m":1}}"#);
    assert_eq!((accepted.status, accepted.json()), (200, json!({"success": true, "clientCount": 1})));
    let received = ann.receive();
    let members = (&received["type"], &received["content"], &received["from"]);
    assert_eq!(members, (&json!("radio-content"), &json!({"title": "x"}), &json!("server")));
    let delayed = post("/radio/postcontent", r#"{"type":"post","content":1,"delay":1800}"#);
    assert_eq!(delayed.json(), json!({"success": true, "clientCount": 1, "delayMs": 1_800_000}));
    let typed = r#"{"type":"item","timestamp":"9999-12-31T23:59:59Z","data":{"content":{"id":7}}}"#;
    let queued = post("/rooms/radio/post", typed);
    let mut accepted = queued.json();
    assert!(accepted["scheduledAt"].take().as_u64().unwrap() > 1_700_000_000_000, "{queued:?}");
    let received = ann.receive();
    assert_eq!((&received, &received["content"]), (&accepted["echo"].take(), &json!({"content": {"id": 7}})));
    let expected = json!({
        "success": true, "clientCount": 1, "status": "queued", "room": "radio", "delayMs": 0, "scheduledAt": null, "echo": null,
    });
    assert_eq!((queued.status, accepted), (202, expected));
    let rejected = send(&server, "POST", "/lobby/postcontent", &[&own], "{");
    assert!(rejected.status == 401 && rejected.header("www-authenticate").starts_with("Bearer"), "{rejected:?}");
    // The next message to `other` is an error, so none of these posts reached its room. A post to an empty room reports 0 receivers.
    other.send_text("no JSON");
    assert_eq!(other.receive()["type"], "error");
    assert_eq!(send(&server, "POST", "/void/postcontent", &[&bearer("void")], "{}").json()["clientCount"], 0);
    let health = get(&server, "/health").json();
    let rooms = json!({"rooms": 2, "clients": 2, "controlClients": 0, "roomCounts": {"lobby": 1, "radio": 1}});
    assert_eq!((&health["dialects"]["broadcast"], &health["clients"]), (&rooms, &json!(2)), "{health}");
}

#[test]
fn delay_and_envelope_of_the_options_apply() {
    let server = start(&["--broadcast-envelope", "dynode", "--radio-delay", "1800"]);
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| broadcast_member(server.address, "radio", user));
    ann.send_text(r#"{"type":"x","content":1}"#);
    let mut received = bob.receive();
    received["receivedAt"].take();
    let data = json!({"type": "x", "content": 1, "room": "radio", "processedBy": "RadioHandler"});
    assert_eq!(received, json!({"type": "broadcast", "from": "ann", "receivedAt": null, "data": data}));
    for (room, delay) in [("radio", Some(1_800_000)), ("lobby", None)] {
        let message = r#"{"type":"post","content":1}"#;
        let posted = send(&server, "POST", &format!("/{room}/postcontent"), &[&bearer(room)], message).json();
        assert_eq!(posted["delayMs"].as_u64(), delay, "{room}");
    }
    let asyncapi = get(&server, "/docs/asyncapi.json").json();
    assert!(asyncapi["channels"]["broadcast"]["messages"]["server.broadcast"].is_object(), "{asyncapi}");
}

#[test]
fn limits_close_with_their_codes() {
    for (options, code, reason) in [
        (["--idle-timeout", "100ms"], 4_000, "Idle timeout"),
        (["--max-conn-age", "100ms"], 4_001, "Max connection age reached"),
    ] {
        assert_eq!(broadcast_member(start(&options).address, "lobby", "ann").closed(), (code, reason.to_owned()));
    }
    let server = start(&["--max-payload", "300KiB"]);
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| broadcast_member(server.address, "lobby", user));
    // This message is longer than 256 KiB, the maximum for clients without a token.
    ann.send_text(&format!(r#"{{"content":"{}"}}"#, "x".repeat(290 << 10)));
    assert_eq!(bob.receive()["content"].as_str().unwrap().len(), 290 << 10);
    ann.send_text(&"x".repeat(301 << 10));
    assert_eq!(ann.closed().0, 1_009);
}

#[test]
fn only_listed_origins_may_connect_or_send_http_requests() {
    let server = start(&["--origin", "https://a.example,https://b.example", "--rate-limit-token", "off"]);
    let bearer = bearer("lobby");
    let authorization = bearer.strip_prefix("Authorization: ").unwrap();
    let connect = |path: &str, origin: &str| {
        let headers = [("Authorization", authorization), ("Origin", origin)];
        Member::try_connect(server.address, path, &headers[..if origin.is_empty() { 1 } else { 2 }]).unwrap()
    };
    let typed = r#"{"type":"t","timestamp":"2026-01-01T00:00:00Z","data":{}}"#;
    let requests = [
        ("POST", "/auth/token", r#"{"clientId":"ann","room":"lobby"}"#),
        ("OPTIONS", "/auth/token", ""),
        ("POST", "/lobby/postcontent", "{}"),
        ("POST", "/rooms/lobby/post", typed),
        ("GET", "/health", ""),
    ];
    let user = "/?roomId=r&userId=u&userName=n";
    for origin in ["", "https://b.example", "HTTPS://A.EXAMPLE"] {
        for path in ["/lobby", user] {
            assert_eq!(connect(path, origin).receive()["type"], "welcome", "{path} {origin}");
        }
        assert!(connect("/", origin).rooms().is_empty(), "{origin}");
        let header = if origin.is_empty() { "X: x".to_owned() } else { format!("Origin: {origin}") };
        for (method, path, body) in requests {
            let response = send(&server, method, path, &[&header, JSON, &bearer], body);
            assert!((200..300).contains(&response.status), "{method} {path} {origin}: {response:?}");
        }
    }
    for origin in ["https://c.example", "http://a.example", "null", "https://a.example.c", "https://a.example\u{e9}"] {
        for path in ["/lobby", "/rooms/lobby/remotecontrol", user, "/", "/ws"] {
            let closed = connect(path, origin).closed();
            assert_eq!(closed, (4_003, "Origin not allowed".to_owned()), "{path} {origin}");
        }
        for (method, path, body) in requests {
            let response = send(&server, method, path, &[&format!("Origin: {origin}"), JSON, &bearer], body);
            let error = "Origin not allowed (allowed origins: the server's --origin)";
            assert_eq!((response.status, &response.json()["error"]), (403, &json!(error)), "{method} {path} {origin}");
            assert_eq!(response.header("access-control-allow-origin"), "", "{method} {path} {origin}");
        }
    }
}

#[test]
fn print_token_signs_with_the_configured_secret() {
    for variables in [
        &[("HMAC_SECRET", "s"), ("AUTH_SECRET", "other")][..],
        &[("AUTH_SECRET", "s")],
        &[("HMAC_SECRET", ""), ("AUTH_SECRET", "s")],
    ] {
        let arguments = ["token", "client-001:myroom:60"];
        let output = run(&arguments, |command| _ = command.envs(variables.iter().copied()));
        let claims = verify(Some(&Secret::new("s")), output.stdout.trim_end(), "myroom", 0).unwrap();
        assert_eq!((output.code, claims.client_id.as_str()), (0, "client-001"));
        assert_eq!(claims.expires_ms().unwrap() - claims.issued_at.unwrap().as_u64().unwrap(), 60_000);
    }
    let webrtc = run(&["token", "ann:jam", "--webrtc-auth", "token", "--hmac-secret", "s"], |_| {});
    assert_eq!(verify_webrtc(Some(&Secret::new("s")), webrtc.stdout.trim_end(), "jam", "ann", 0), Ok(()));
}

#[test]
fn missing_secret_is_generated_and_logged_once() {
    let mut server = Server::start_signaling(&[]);
    server.line_starting_with("signaling: no HMAC secret is given");
    let issued = issue(&server, r#"{"clientId":"a","room":"lobby"}"#).json();
    assert_eq!(connect(&server, "lobby", issued["token"].as_str().unwrap()).receive()["type"], "welcome");
    assert_eq!(connect(&server, "lobby", &token("a", "lobby")).closed().0, 4_002);
}

#[test]
fn room_file_declares_a_room_and_its_errors_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stage.toml");
    // Lock files of Emacs are dangling links, and macOS writes binary files.
    std::os::unix::fs::symlink("ann@host.42", folder.path().join(".#stage.toml")).unwrap();
    std::fs::write(folder.path().join("._stage.toml"), [0, 5, 22, 7]).unwrap();
    let room = "\u{feff}requires_auth = false\nmax_clients = 2\n[welcome]\nrules = [1, 2]\nopens = 20:00:00\n";
    std::fs::write(&file, room).unwrap();
    let options = ["--rooms", folder.path().to_str().unwrap()];
    let mut server = Server::start_signaling(&options);
    server.line_starting_with("signaling: room file skipped");
    let _members = [(); 2].map(|()| {
        let mut member = Member::connect_to(server.address, "/stage");
        let welcome = member.receive();
        let fields = ["type", "rules", "room", "opens"].map(|name| welcome[name].clone());
        assert_eq!(fields, [json!("welcome"), json!([1, 2]), json!("stage"), json!("20:00:00")]);
        member
    });
    assert_eq!(Member::connect_to(server.address, "/stage").closed(), (1_013, "Room is full".to_owned()));
    let start_error = || {
        let output = run(&[&["signaling-server", "--port", "0"], &options[..]].concat(), |_| {});
        assert_eq!(output.code, 3, "{output:?}");
        output.stderr
    };
    std::fs::write(&file, "stamp = true\nwellcome = 1\n").unwrap();
    let error = start_error();
    assert!(["stage.toml", "line 2", "wellcome"].iter().all(|part| error.contains(part)), "{error}");
    assert!(!error.contains("listening"), "{error}");
    std::fs::rename(&file, folder.path().join("rooms.toml")).unwrap();
    assert!(start_error().contains("reserved"));
}
