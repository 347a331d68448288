//! The console over HTTP: behind the login, nothing for other sites, secrets never, content where it is asked for.

use serde_json::{Value, json};

use crate::http::ask::{Answer, ask, get};
use test_support::server::member::Member;
use test_support::server::poll_until;
use test_support::server::process::Server;

/// printf admin:sesame | base64
const RIGHT: &str = "Authorization: Basic YWRtaW46c2VzYW1l";

const FILES: [(&str, &str); 4] = [
    ("/console", "text/html; charset=utf-8"),
    ("/console/style.css", "text/css; charset=utf-8"),
    ("/console/script.js", "text/javascript; charset=utf-8"),
    ("/console/icon.svg", "image/svg+xml"),
];

fn guarded() -> Server {
    Server::start_signaling(&["--docs-password", "sesame"])
}

fn state(server: &Server, query: &str) -> Value {
    let answer = ask(server, "GET", &format!("/console/state{query}"), &[RIGHT]);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn texts(state: &Value) -> Vec<&str> {
    state["activity"].as_array().unwrap().iter().filter_map(|note| note["text"].as_str()).collect()
}

#[test]
fn every_part_is_behind_the_login_and_may_load_nothing_from_elsewhere() {
    let server = guarded();
    for (path, kind) in FILES.into_iter().chain([("/console/state", "application/json")]) {
        let refused = get(&server, path);
        assert_eq!((refused.status, refused.error().as_str()), (401, "Login required"), "{path}");
        let answer: Answer = ask(&server, "GET", path, &[RIGHT]);
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let caching = if path == "/console/state" { "no-store" } else { "private, no-cache" };
        assert_eq!(answer.header("cache-control"), caching, "{path}");
        let posted = ask(&server, "POST", path, &[RIGHT, "Content-Type: application/json"]);
        assert_eq!(posted.status, 405, "{path}");
    }
    assert_eq!(ask(&server, "GET", "/console/other", &[RIGHT]).status, 404);
}

/// What a page of this policy could not use would be a mistake: a script in the markup, a style in an attribute, another host.
#[test]
fn the_page_needs_nothing_that_its_policy_forbids() {
    let server = guarded();
    let body = |path| ask(&server, "GET", path, &[RIGHT]).body;
    let page = body("/console");
    for forbidden in
        ["style=", "<style", "onclick", "onload", "javascript:", "http:", "https:", "src=\"//", "href=\"//"]
    {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    let script = body("/console/script.js");
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "//cdn"]
    {
        assert!(!script.contains(forbidden), "{forbidden}");
    }
    assert!(!body("/console/style.css").contains("url("));
}

#[test]
fn the_state_tells_who_is_where_and_what_came_last() {
    let server = guarded();
    let first = state(&server, "");
    assert_eq!((&first["activity"], &first["lastActivity"], &first["content"]), (&json!([]), &json!(0), &json!(false)));
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    let mut member = Member::of(server.address);
    member.say("CreateRoom", &json!({"room_name": "jam", "password": null, "peer_name": "Ann"}));
    let created = member.hear_a("RoomCreated");
    member.say("JoinRoom", &json!({"room_id": "nowhere", "password": "hunter2", "peer_name": "Ann"}));
    assert_eq!(member.hear_a("Error")["message"], "Room not found");
    let second = state(&server, "?after=0");
    assert_eq!(second["runId"], first["runId"]);
    let room = &second["rooms"][0];
    assert_eq!((&room["dialect"], &room["id"], &room["name"]), (&json!("jamjam"), &created["room_id"], &json!("jam")));
    assert_eq!(
        (&room["protected"], &room["memberCount"], &room["messageCount"]),
        (&json!(false), &json!(1), &json!(2))
    );
    let seen = &room["members"][0];
    assert_eq!(
        (&seen["id"], &seen["name"], &seen["address"]),
        (&created["peer_id"], &json!("Ann"), &json!("127.0.0.1"))
    );
    let notes = second["activity"].as_array().unwrap();
    let told: Vec<_> = notes
        .iter()
        .map(|note| json!([note["number"], note["kind"], note["messageType"], note["outcome"], note["reason"]]))
        .collect();
    assert_eq!(
        told,
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
fn content_of_a_protected_room_is_given_to_who_asks_and_the_log_names_them_once() {
    let mut server = guarded();
    state(&server, "");
    let mut member = Member::of(server.address);
    member.say("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    member.hear_a("RoomCreated");
    member.chat("between us");
    member.rooms();
    let hidden = state(&server, "");
    assert_eq!(hidden["activity"].as_array().unwrap().len(), 4);
    assert!(!hidden.to_string().contains("between us"), "{hidden}");
    assert_eq!(texts(&hidden), [""], "that somebody connected");
    for query in ["?content=false", "?content=1", "?content"] {
        assert_eq!(texts(&state(&server, query)), [""], "{query}");
    }
    for _ in 0..3 {
        let shown = state(&server, "?content=true");
        assert!(shown.to_string().contains("between us") && !shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["content"], json!(true));
    }
    let ended = server.line_that_begins("console: protected content shown to=127.0.0.1");
    assert_eq!(ended.level, "INFO");
    let lines = server.stop("TERM").lines.concat();
    assert_eq!(lines.matches("protected content shown").count(), 1, "{lines}");
    assert!(!lines.contains("hunter2"));
}

#[test]
fn without_a_password_there_is_no_console() {
    let server = Server::start_signaling(&[]);
    for (path, _) in FILES {
        assert!(get(&server, path).status == 401 && ask(&server, "GET", path, &[RIGHT]).status == 401, "{path}");
    }
}
