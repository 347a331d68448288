//! The console over HTTP requires a login and rejects other sites. The console contains no secrets. The server sends the
//! content of protected rooms only with `?content=true`.

use serde_json::{Value, json};

use crate::signaling_server::http::request::{Response, get, request};
use test_support::server::member::Member;
use test_support::server::poll_until;
use test_support::server::process::Server;

/// The credentials are the output of `printf admin:sesame | base64`.
const RIGHT: &str = "Authorization: Basic YWRtaW46c2VzYW1l";

fn start_with_password() -> Server {
    Server::start_signaling(&["--docs-password", "sesame"])
}

fn state(server: &Server, query: &str) -> Value {
    let response = request(server, "GET", &format!("/console/state{query}"), &[RIGHT]);
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"), "{response:?}");
    serde_json::from_str(&response.body).unwrap()
}

fn texts(state: &Value) -> Vec<&str> {
    state["activity"].as_array().unwrap().iter().filter_map(|note| note["text"].as_str()).collect()
}

#[test]
fn page_and_state_need_the_login_and_load_nothing_from_elsewhere() {
    let server = start_with_password();
    for (path, kind, caching) in [
        ("/console", "text/html; charset=utf-8", "private, no-cache"),
        ("/console/state", "application/json", "no-store"),
    ] {
        let rejected = get(&server, path);
        assert_eq!((rejected.status, rejected.error().as_str()), (401, "Login required"), "{path}");
        let response: Response = request(&server, "GET", path, &[RIGHT]);
        assert_eq!((response.status, response.header("content-type")), (200, kind), "{path}");
        assert_eq!(
            response.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            "{path}"
        );
        assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(response.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(response.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(response.header("cache-control"), caching, "{path}");
        assert_eq!(request(&server, "POST", path, &[RIGHT]).status, 405, "{path}");
    }
    assert_eq!(get(&server, "/console/other").status, 404);
}

/// The page contains no inline scripts, no inline styles and no URLs of other hosts. The content security policy forbids all three. The
/// script contains no function that inserts HTML or runs text as code.
#[test]
fn page_needs_nothing_that_its_policy_forbids() {
    let server = start_with_password();
    let body = |path| request(&server, "GET", path, &[RIGHT]).body;
    let page = body("/console");
    for forbidden in
        ["style=", "<style", "onclick", "onload", "javascript:", "http:", "https:", "src=\"//", "href=\"//"]
    {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    let script = body("/static/console.js");
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "//cdn"]
    {
        assert!(!script.contains(forbidden), "{forbidden}");
    }
    assert!(!body("/static/console.css").contains("url("));
}

#[test]
fn state_lists_rooms_members_and_activity() {
    let server = start_with_password();
    let first = state(&server, "");
    assert_eq!((&first["activity"], &first["lastActivity"], &first["content"]), (&json!([]), &json!(0), &json!(false)));
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": null, "peer_name": "Ann"}));
    let created = member.receive_type("RoomCreated");
    member.send("JoinRoom", &json!({"room_id": "nowhere", "password": "hunter2", "peer_name": "Ann"}));
    assert_eq!(member.receive_type("Error")["message"], "Room not found");
    let second = state(&server, "?after=0");
    assert_eq!(second["runId"], first["runId"]);
    let room = &second["rooms"][0];
    assert_eq!((&room["dialect"], &room["id"], &room["name"]), (&json!("jamjam"), &created["room_id"], &json!("jam")));
    assert_eq!((&room["protected"], &room["memberCount"]), (&json!(false), &json!(1)));
    let listed = &room["members"][0];
    assert_eq!(
        (&listed["id"], &listed["name"], &listed["address"]),
        (&created["peer_id"], &json!("Ann"), &json!("127.0.0.1"))
    );
    let notes = second["activity"].as_array().unwrap();
    let entries: Vec<_> = notes
        .iter()
        .map(|note| json!([note["number"], note["kind"], note["messageType"], note["outcome"], note["reason"]]))
        .collect();
    assert_eq!(
        entries,
        [
            json!([1, "connect", null, "accepted", null]),
            json!([2, "message", "CreateRoom", "accepted", null]),
            json!([3, "message", "JoinRoom", "rejected", "Room not found"]),
        ]
    );
    assert_eq!(
        notes[2]["text"],
        r#"{"type":"JoinRoom","data":{"room_id":"nowhere","password":"(redacted)","peer_name":"Ann"}}"#
    );
    assert_eq!((&second["counters"]["jamjam"]["messages_received"], &second["lastActivity"]), (&json!(2), &json!(3)));
    let third = state(&server, "?after=2");
    assert_eq!(
        third["activity"].as_array().unwrap().iter().map(|note| &note["number"]).collect::<Vec<_>>(),
        [&json!(3)]
    );
    assert_eq!(state(&server, "?after=3&filter=nobody")["rooms"], json!([]));
    assert_eq!(state(&server, "?filter=aNN")["rooms"][0]["id"], created["room_id"]);
    drop(member);
    poll_until("an empty server", || (state(&server, "")["rooms"] == json!([])).then_some(()));
}

#[test]
fn protected_content_is_given_on_request_and_logged_once() {
    let mut server = start_with_password();
    state(&server, "");
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    member.receive_type("RoomCreated");
    member.chat("between us");
    member.rooms();
    let hidden = state(&server, "");
    assert_eq!(hidden["activity"].as_array().unwrap().len(), 4);
    assert!(!hidden.to_string().contains("between us"), "{hidden}");
    for query in ["", "?content=false", "?content=1", "?content"] {
        assert_eq!(texts(&state(&server, query)), [""; 0], "{query}");
    }
    for _ in 0..3 {
        let shown = state(&server, "?content=true");
        assert!(shown.to_string().contains("between us") && !shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["content"], json!(true));
    }
    let line = server.line_starting_with("console: responses include content of protected rooms to=127.0.0.1");
    assert_eq!(line.level, "INFO");
    let lines = server.stop("TERM").lines.concat();
    assert_eq!(lines.matches("responses include content of protected rooms").count(), 1, "{lines}");
    assert!(!lines.contains("hunter2"));
}
