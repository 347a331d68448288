//! The HTTP interface of `jamjam-dev signaling-server`: responses to dashboards, supervisors and browsers.

mod console;
mod docs;
mod examples;
pub(crate) mod login;
mod proxied;
mod rejections;
mod start_page;

use std::fmt::Write as _;
use std::io::{Read, Write as _};

use serde_json::json;

use super::start_with_password;
use test_support::server::{Member, Server, get, poll_until, request, send, tcp};
use test_support::snapshot;

/// The header lines of a valid upgrade, beside `Host`.
pub(crate) const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[test]
fn every_page_has_its_headers_for_get_and_head() {
    let server = start_with_password(&[]);
    let mut pages = String::new();
    let paths = "/ /console /console/state /docs /docs/messages /docs/asyncapi.json /openapi.json /examples/ /examples/webrtc \
                 /static/icon.svg /static/messages.js /static/style.css /static/swagger-ui.css \
                 /health /health?detailed=true /rooms /healthz /metrics /ws /v1/signaling /radio /radio/x";
    for path in paths.split(' ') {
        let [mut get, mut head] = ["GET", "HEAD"].map(|method| request(&server, method, path, &[login::RIGHT]));
        // The length of a response may change between the two requests.
        for changing in ["date", "content-length"] {
            let is_present = [&mut get, &mut head].map(|response| response.headers.remove(changing).is_some());
            assert_eq!(is_present, [true, is_present[1] || get.status == 200], "{path}: {changing}");
        }
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
        writeln!(pages, "{path} {}", get.status).unwrap();
        get.headers.iter().for_each(|(name, value)| writeln!(pages, "  {name}: {value}").unwrap());
    }
    // Browsers name the headers that tracing libraries add.
    let requested = "Access-Control-Request-Headers: content-type,baggage,traceparent";
    for path in ["/auth/token", "/lobby/postcontent", "/rooms/lobby/post", "/health", "/rooms"] {
        for headers in [&[][..], &[requested]] {
            let mut preflight = request(&server, "OPTIONS", path, headers);
            preflight.headers.remove("date");
            writeln!(pages, "OPTIONS {path} {}", preflight.status).unwrap();
            preflight.headers.iter().for_each(|(name, value)| writeln!(pages, "  {name}: {value}").unwrap());
        }
    }
    snapshot::assert_matches("servers/page_headers", &pages);
}

#[test]
fn health_has_the_documented_form_and_the_resources_of_the_process() {
    let server = Server::start_signaling(&[]);
    poll_until("a later time", || (get(&server, "/health").json()["uptime"].as_f64()? > 0.0).then_some(()));
    // `/proc/PID` as the system shows it. The server counts while the connection of the request is open, and the test later.
    let resources = get(&server, "/health").json()["resources"].take();
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count() as u64;
    let reported = resources["openFiles"].as_u64().unwrap();
    assert!(reported >= 4 && reported.abs_diff(files) <= 2, "{reported} reported, {files} measured");
    let (reported, measured) =
        (resources["rssBytes"].as_u64().unwrap(), server.status("VmRSS").parse::<u64>().unwrap() << 10);
    assert!(reported.abs_diff(measured) < 4 << 20, "{reported} reported, {measured} measured");
    let mut health = get(&server, "/health").json();
    let timestamp = health["timestamp"].as_str().unwrap().replace(|letter: char| letter.is_ascii_digit(), "9");
    health["timestamp"] = timestamp.into();
    assert_eq!(health["version"].take(), env!("CARGO_PKG_VERSION"));
    for changing in ["uptime", "resources"] {
        health[changing].take();
    }
    snapshot::assert_matches("servers/health", &format!("{health:#}\n"));
}

#[test]
fn only_the_login_sees_the_members_of_broadcast_rooms() {
    let server = start_with_password(&super::SECRET);
    // A client has joined when it receives the welcome. Members are listed in the order of joining.
    let _members = ["/radio", "/rooms/radio/remotecontrol"].map(|path| {
        let mut member = Member::connect_to(server.address, &format!("{path}?token={}", super::token("ann", "radio")));
        member.receive();
        member
    });
    for path in ["/health?detailed=true", "/health?x=1&%64etailed=true"] {
        let body = request(&server, "GET", path, &[login::RIGHT]).json();
        let details = &body["dialects"]["broadcast"]["details"]["radio"];
        let member = |control| json!({"clientId": "ann", "address": "127.0.0.1", "control": control});
        assert_eq!(details["members"], json!([member(false), member(true)]), "{details}");
        assert_eq!((&details["clients"], &details["controlClients"]), (&json!(1), &json!(1)));
        for headers in [&[][..], &[login::WRONG]] {
            assert!(login::is_challenge(&request(&server, "GET", path, headers)), "{path}");
        }
    }
    // Everything else is public, whatever credentials are sent.
    for path in ["/health", "/health?detailed=false", "/health?detailed", "/health?undetailed=true"] {
        for headers in [&[][..], &[login::WRONG], &[login::RIGHT]] {
            let response = request(&server, "GET", path, headers);
            assert_eq!((response.status, response.header("access-control-allow-origin")), (200, "*"), "{path}");
            assert!(!response.body.contains("details\":{") && !response.body.contains("ann"), "{}", response.body);
        }
    }
}

#[test]
fn metrics_are_open_on_loopback_only_and_count_logins() {
    let server = start_with_password(&[]);
    assert_eq!(request(&server, "GET", "/health?detailed=true", &[login::WRONG]).status, 401);
    assert_eq!((server.metric("logins_failed_total"), server.metric("logins_rate_limited_total")), (1, 0));
    // Requests from another machine or through a proxy need the login.
    for options in [&["--host", "0.0.0.0"][..], &["--trust-proxy"]] {
        let server = start_with_password(options);
        for (headers, status) in [(&[][..], 401), (&[login::WRONG], 401), (&[login::RIGHT], 200)] {
            let metrics = request(&server, "GET", "/metrics", headers);
            assert_eq!(metrics.status, status, "{options:?} {headers:?}");
            assert_eq!(metrics.body.contains("jamjam_signaling_"), status == 200);
        }
        assert_eq!(get(&server, "/healthz").body, "ok\n");
    }
}

/// The file lists header lines that replace the headers of a valid upgrade, and the responses. An empty value removes a header.
#[test]
fn invalid_upgrade_is_rejected_in_json() {
    let server = Server::start_signaling(&[]);
    let mut text = String::new();
    for changes in snapshot::committed("servers/upgrade_rejections").lines().filter_map(|line| line.strip_prefix("> "))
    {
        let name = |header: &str| header.split(':').next().unwrap().to_owned();
        let changed: Vec<String> = changes.split(" | ").map(name).collect();
        let kept = UPGRADE.into_iter().filter(|header| !changed.contains(&name(header)));
        let added = changes.split(" | ").filter(|header| !header.ends_with(':'));
        let response = request(&server, "GET", "/", &kept.chain(added).collect::<Vec<_>>());
        let version = response.header("sec-websocket-version");
        let outcome = format!("{} {version} {}", response.status, response.body);
        writeln!(text, "> {changes}\n< {}", outcome.trim_end()).unwrap();
    }
    snapshot::assert_matches("servers/upgrade_rejections", &text);
    // Only a request of HTTP/1.0 needs no Host header.
    let upgrade = UPGRADE.join("\r\n");
    for (head, status) in [
        (&*format!("GET / HTTP/1.1\r\n{upgrade}"), "HTTP/1.1 400"),
        ("GET /healthz HTTP/1.1\r\nX: x", "HTTP/1.1 400"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x", "HTTP/1.1 400"),
        // An upgrade to another protocol is ignored.
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "HTTP/1.1 200"),
        ("GET /healthz HTTP/1.0\r\nX: x", "HTTP/1.0 200"),
        ("GET /healthz HTTP/1.0\r\nHost: x\r\nHost: x", "HTTP/1.0 400"),
    ] {
        let mut stream = tcp(server.address);
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line).unwrap();
        assert_eq!(str::from_utf8(&status_line), Ok(status), "{head}");
    }
    let posted = request(&server, "POST", "/", &UPGRADE);
    assert_eq!((posted.status, posted.header("allow"), &*posted.error()), (405, "GET,HEAD", "Method not allowed"));
    for path in ["/health", "/healthz", "/metrics", "/docs", "/radio/x"] {
        assert_eq!(request(&server, "GET", path, &UPGRADE).error(), "Not found", "{path}");
    }
}

/// What nginx forwards without `proxy_set_header Upgrade`.
#[test]
fn lost_upgrade_header_is_logged_and_a_subprotocol_is_not_accepted() {
    let mut server = Server::start_signaling(&[]);
    for path in ["/", "/ws", "/radio", "/v1/signaling"] {
        let response = request(&server, "GET", path, &["Connection: close", UPGRADE[2], UPGRADE[3]]);
        assert_eq!((response.status, response.header("upgrade")), (426, "websocket"), "{path}");
        assert!(response.error().contains("proxy"), "{}", response.error());
    }
    let line = server.line_starting_with("http: WebSocket upgrade rejected path=/ source=127.0.0.1:");
    assert!(line.level == "WARN" && line.message.contains("a proxy removed the Upgrade header"), "{line:?}");
    // Only one rejection per second is logged.
    (0..50).for_each(|_| assert_eq!(request(&server, "GET", "/x/%1b", &UPGRADE).status, 404));
    let offer = [&UPGRADE[..], &["Sec-WebSocket-Protocol: mqtt, graphql-ws"]].concat();
    let response = request(&server, "GET", "/", &offer);
    assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, ""));
    let lines = server.stop("TERM").lines;
    let rejected: Vec<&String> = lines.iter().filter(|line| line.contains("upgrade rejected path=/x/%1b")).collect();
    let ends = |line: &&String| line.ends_with(" reason=\"no such path; connect to / or /ws\"");
    assert!(rejected.len() < 25 && rejected.iter().all(ends), "{rejected:?}");
}

/// Words with `hunter2` are secrets: of the server, of its operator, of rooms and of clients.
#[test]
fn log_contains_no_secret_at_any_level() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2-of-the-server\n").unwrap();
    let secret = format!("@{}", file.display());
    let mut server = Server::start_signaling_with(&["--hmac-secret", &secret], |command| {
        command.env("RUST_LOG", "trace").env("TOKEN_ISSUER_KEY", "hunter2-key").env("DOCS_PASSWORD", "sesame");
    });
    let issuer = "Authorization: Bearer hunter2-key";
    let body = r#"{"clientId":"a","room":"lobby"}"#;
    let issued = send(&server, "POST", "/auth/token", &[issuer], body).json();
    let token = issued["token"].as_str().unwrap();
    let mut ann = Member::connect_to(server.address, &format!("/lobby?token={token}"));
    assert_eq!(ann.receive()["type"], "welcome");
    ann.send_text("hunter2");
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(send(&server, "POST", "/lobby/postcontent", &[&bearer], "{}").status, 200);
    assert_eq!(Member::connect_to(server.address, &format!("/radio?token={token}")).closed().0, 4_002);
    for path in ["/nowhere/at/all?token=hunter2", "/metrics?token=hunter2", "/radio?token=hunter2"] {
        request(&server, "GET", path, &["Authorization: Bearer hunter2"]);
        request(&server, "GET", path, &UPGRADE);
    }
    for (login, status) in [(login::RIGHT, 405), (login::WRONG, 401)] {
        assert_eq!(request(&server, "GET", "/admin/shutdown", &[login]).status, status);
    }
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    let room = member.receive_type("RoomCreated")["room_id"].clone();
    let mut other = Member::connect(server.address);
    for password in [json!("hunter22"), json!("hunter2")] {
        other.send("JoinRoom", &json!({"room_id": room, "password": password, "peer_name": "Bob"}));
        other.receive();
    }
    // If a message is faulty, the server logs the fault, but not the content of the message.
    for data in [json!({"room_id": room, "password": ["hunter2"], "peer_name": "Cid"}), json!("hunter2")] {
        Member::connect(server.address).send("JoinRoom", &data);
        server.line_starting_with("signaling: message ignored conn=");
    }
    drop((member, other));
    let log = server.stop("TERM").lines.join("\n");
    for logged in ["token for another room", "login rejected source=127.0.0.1", " DEBUG ", "signaling: server stopped"]
    {
        assert!(log.contains(logged), "{logged}: {log}");
    }
    for hidden in ["hunter2", "sesam", "YWRtaW46", token.rsplit_once('.').unwrap().1] {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
}

#[test]
fn request_head_longer_than_16_kib_is_rejected_logged_and_counted() {
    let mut server = Server::start_signaling(&[]);
    assert_eq!(request(&server, "GET", "/healthz", &[&format!("X: {}", "x".repeat(15 << 10))]).status, 200);
    assert_eq!(request(&server, "GET", "/healthz", &[&format!("X: {}", "x".repeat(17 << 10))]).status, 431);
    let line = server.line_starting_with("http: malformed request source=127.0.0.1:");
    assert!(line.level == "WARN" && line.message.ends_with(" reason=\"message head is too large\""), "{line:?}");
    assert_eq!(server.metric("malformed_requests_total"), 1);
}
