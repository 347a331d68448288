//! The state of the console. The server sends the content of protected rooms only with `?content=true`.

use serde_json::{Value, json};

use super::login::RIGHT;
use crate::signaling_server::start_with_password;
use test_support::server::{Member, Server, poll_until, request};
use test_support::snapshot;

fn state(server: &Server, query: &str) -> Value {
    let response = request(server, "GET", &format!("/console/state{query}"), &[RIGHT]);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

#[test]
fn state_lists_rooms_members_and_activity() {
    let server = start_with_password(&[]);
    let first = state(&server, "");
    let mut member = Member::connect(server.address);
    let room = member.create_room("jam");
    member.send("JoinRoom", &json!({"room_id": "nowhere", "password": "hunter2", "peer_name": "Ann"}));
    member.receive_type("Error");
    let second = state(&server, "?after=0");
    assert_eq!(second["runId"], first["runId"]);
    // What differs in each run is masked: ids, times and memory.
    let mut shown = second;
    shown["counters"] = shown["counters"]["jamjam"].take();
    let masked = "version runId uptimeMs time rssBytes openFiles createdAt connectedMs idleMs id room";
    let shown = format!("{shown:#}");
    let lines = shown.lines().map(|line| match line.split_once(": ") {
        Some((name, _)) if masked.split(' ').any(|one| one == name.trim_matches([' ', '"'])) => format!("{name}: …\n"),
        _ => format!("{line}\n"),
    });
    snapshot::assert_matches("servers/console_state", &lines.collect::<String>());
    let third = state(&server, "?after=2");
    assert_eq!((third["activity"].as_array().unwrap().len(), &third["activity"][0]["number"]), (1, &json!(3)));
    assert_eq!(state(&server, "?after=3&filter=nobody")["rooms"], json!([]));
    assert_eq!(state(&server, "?filter=aNN")["rooms"][0]["id"], room);
    drop(member);
    poll_until("an empty server", || (state(&server, "")["rooms"] == json!([])).then_some(()));
}

#[test]
fn protected_content_is_given_on_request_and_logged_once() {
    let mut server = start_with_password(&[]);
    state(&server, "");
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    member.receive_type("RoomCreated");
    member.chat("between us");
    member.rooms();
    let hidden = state(&server, "?content=1");
    let notes = hidden["activity"].as_array().unwrap();
    assert!(notes.len() == 4 && notes.iter().all(|note| note["text"].is_null()), "{hidden}");
    for _ in 0..3 {
        let shown = state(&server, "?content=true");
        assert!(shown.to_string().contains("between us") && !shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["content"], json!(true));
    }
    let line = server.line_starting_with("console: responses include content of protected rooms to=127.0.0.1");
    assert_eq!(line.level, "INFO");
    let lines = server.stop("TERM").lines.concat();
    assert_eq!(lines.matches("responses include content of protected rooms").count(), 1, "{lines}");
}
