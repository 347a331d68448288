//! The console over HTTP: its state, with the content of protected rooms only on request, and the operator's requests to disconnect members
//! and close rooms, with their effects in all dialects.

use serde_json::{Value, json};

use super::login::{JSON, RIGHT};
use crate::signaling_server::{
    SECRET, broadcast_member, control_surface, jamjam_creator, jamjam_member, start_with_password, token, webrtc_member,
};
use test_support::server::{Member, Response, Server, poll_until, request, send};

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
    assert_eq!((&second["rooms"][0]["id"], &second["activity"][2]["reason"]), (&room, &json!("Room not found")));
    assert_eq!(second["counters"]["jamjam"]["messages_received"], 2);
    let third = state(&server, "?after=2");
    assert_eq!((third["activity"].as_array().unwrap().len(), &third["activity"][0]["number"]), (1, &json!(3)));
    drop(member);
    poll_until("an empty server", || (state(&server, "")["rooms"] == json!([])).then_some(()));
}

#[test]
fn protected_content_is_given_on_request_and_logged_once() {
    let mut server = start_with_password(&[]);
    state(&server, "");
    let (mut member, _) = jamjam_creator(server.address);
    member.chat("between us");
    member.rooms();
    assert!(!state(&server, "").to_string().contains("between us"));
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

const ROOM_CLOSED: (u16, &str) = (1008, "Room closed by the operator");

fn start() -> Server {
    start_with_password(&[&["--bbx-room", "4711"], &SECRET[..]].concat())
}

fn post(server: &Server, path: &str, body: &Value) -> Response {
    send(server, "POST", path, &[RIGHT, JSON], &body.to_string())
}

fn disconnect(server: &Server, connection: u64) -> Response {
    post(server, "/console/disconnect", &json!({"connection": connection}))
}

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

#[test]
fn disconnected_member_is_closed_and_the_others_receive_its_leave() {
    let mut server = start();
    let (mut ann, id) = jamjam_creator(server.address);
    let mut bob = jamjam_member(server.address, &id);
    let silent = Member::connect(server.address);
    assert_eq!(body(&disconnect(&server, 1)), json!({"disconnected": true}));
    assert_eq!(bob.closed(), (1008, "Disconnected by the operator".to_owned()));
    let line = server.line_starting_with("console: client disconnected by the operator ").message;
    assert!(line.contains(" source=127.0.0.1 ") && line.contains(" conn=1 "), "{line}");
    assert_eq!(ann.skip_to("PeerLeft")["data"]["peer_id"].as_str().map(str::len), Some(36));
    // A connection without a room can be disconnected too.
    assert_eq!(body(&disconnect(&server, 2)), json!({"disconnected": true}));
    drop(silent);
    // A second request finds no connection. Numbers are never used again.
    for connection in [1, 2, 3, u64::MAX] {
        assert_eq!(disconnect(&server, connection).status, 404, "{connection}");
    }
    assert_eq!((server.metric("closed_by_operator_total"), server.metric("connections")), (2, 1));
}

#[test]
fn closed_room_disconnects_its_members_without_leave_messages() {
    let mut server = start();
    let (ann, id) = jamjam_creator(server.address);
    let bob = jamjam_member(server.address, &id);
    let [zoe, yan] = ["zoe", "yan"].map(|user| webrtc_member(server.address, "standup", user));
    let mut other = webrtc_member(server.address, "other", "zoe");
    let lobby = broadcast_member(server.address, "lobby", "c1");
    let control = format!("/rooms/lobby/remotecontrol?token={}", token("c2", "lobby"));
    let listener = Member::connect_to(server.address, &control);
    let phone = control_surface(server.address, "4711");
    let mut rooms = [
        ("jamjam", id.as_str().unwrap(), vec![ann, bob], ROOM_CLOSED, vec!["PeerJoined"]),
        ("webrtc", "standup", vec![zoe, yan], ROOM_CLOSED, vec!["participant-joined", "existing-participants"]),
        ("broadcast", "lobby", vec![lobby, listener], ROOM_CLOSED, vec!["control-welcome"]),
        ("bbx", "4711", vec![phone], (1000, "Room closed"), vec!["closed"]),
    ];
    for (dialect, room, members, expected, allowed) in &mut rooms {
        let count = members.len();
        let close = |server: &Server| post(server, "/console/close-room", &json!({"dialect": dialect, "room": room}));
        assert_eq!(body(&close(&server)), json!({"closed": true, "clients": count}), "{dialect}");
        for member in members {
            let ((code, reason), texts) = member.read_to_close();
            assert_eq!((code, reason.as_str()), *expected, "{dialect}");
            let is_allowed = |text: &Value| text["type"].as_str().is_some_and(|kind| allowed.contains(&kind));
            assert!(texts.iter().all(is_allowed), "{dialect}: {texts:?}");
        }
        let line = server.line_starting_with("console: room closed by the operator ").message;
        assert!(line.contains(&format!("source=127.0.0.1 dialect={dialect} room=")), "{line}");
        assert!(line.ends_with(&format!(" members={count}")) && !line.contains("4711"), "{line}");
        assert_eq!(close(&server).status, 404, "{dialect}");
    }
    assert_eq!(server.metric("rooms_closed_by_operator_total"), 4);
    assert_eq!(server.metric("closed_by_operator_total"), 7);
    // The other WebRTC room stays open, and clients can create a closed room again.
    other.send("ping", &Value::Null);
    other.skip_to("pong");
    let run_id = body(&request(&server, "GET", "/console/state", &[RIGHT]))["runId"].take();
    let of_this_run = json!({"dialect": "webrtc", "room": "other", "runId": run_id});
    assert_eq!(body(&post(&server, "/console/close-room", &of_this_run))["clients"], 1);
    let _again = webrtc_member(server.address, "standup", "zoe");
    assert!(server.stop("TERM").lines.iter().all(|line| !line.contains("4711") && !line.contains("hunter2")));
}
