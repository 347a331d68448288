//! The operator disconnects members and closes rooms over HTTP: effects in all dialects, rejected requests, and the log.

use serde_json::{Value, json};

use super::http::login::{JSON, RIGHT};
use super::{broadcast_member, control_surface, jamjam_creator, jamjam_member, start_with_password, webrtc_member};
use test_support::server::{Member, Response, Server, request, send};

const BY_OPERATOR: (u16, &str) = (1008, "Disconnected by the operator");
const ROOM_CLOSED: (u16, &str) = (1008, "Room closed by the operator");

fn start(options: &[&str]) -> Server {
    start_with_password(&[&["--bbx-room", "4711"], &super::SECRET[..], options].concat())
}

fn post(server: &Server, path: &str, body: &Value) -> Response {
    send(server, "POST", path, &[RIGHT, JSON], &body.to_string())
}

fn disconnect(server: &Server, connection: u64) -> Response {
    post(server, "/console/disconnect", &json!({"connection": connection}))
}

fn close_room(server: &Server, dialect: &str, room: &str) -> Response {
    post(server, "/console/close-room", &json!({"dialect": dialect, "room": room}))
}

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

#[test]
fn disconnected_member_is_closed_and_the_others_receive_its_leave() {
    let mut server = start(&[]);
    let (mut ann, id) = jamjam_creator(&server);
    let bob = jamjam_member(&server, &id);
    let mut zoe = webrtc_member(&server, "standup", "zoe");
    let yan = webrtc_member(&server, "standup", "yan");
    let lobby = broadcast_member(&server, "lobby", "c1");
    let phone = control_surface(&server);
    let silent = Member::connect(server.address);
    for (connection, mut client) in [(1, bob), (3, yan), (4, lobby), (5, phone)] {
        assert_eq!(body(&disconnect(&server, connection)), json!({"disconnected": true}), "{connection}");
        let ((code, reason), _) = client.read_to_close();
        assert_eq!((code, reason.as_str()), BY_OPERATOR, "{connection}");
        let line = server.line_starting_with("console: client disconnected by the operator ").message;
        assert!(line.contains(" source=127.0.0.1 ") && line.contains(&format!(" conn={connection} ")), "{line}");
    }
    assert_eq!(ann.skip_to("PeerLeft")["data"]["peer_id"].as_str().map(str::len), Some(36));
    assert_eq!(zoe.skip_to("participant-left")["userId"], "yan");
    // A connection without a room can be disconnected too.
    assert_eq!(body(&disconnect(&server, 6)), json!({"disconnected": true}));
    drop(silent);
    // A second request finds no connection. Numbers are never used again.
    for connection in [1, 6, 7, u64::MAX] {
        let response = disconnect(&server, connection);
        let error = "No open connection has this number; reload the console";
        assert_eq!((response.status, response.error().as_str()), (404, error), "{connection}");
    }
    assert_eq!((server.metric("closed_by_operator_total"), server.metric("connections")), (5, 2));
}

#[test]
fn closed_room_disconnects_its_members_without_leave_messages() {
    let mut server = start(&[]);
    let (ann, id) = jamjam_creator(&server);
    let bob = jamjam_member(&server, &id);
    let [zoe, yan] = ["zoe", "yan"].map(|user| webrtc_member(&server, "standup", user));
    let mut other = webrtc_member(&server, "other", "zoe");
    let lobby = broadcast_member(&server, "lobby", "c1");
    let control = format!("/rooms/lobby/remotecontrol?token={}", super::token("c2", "lobby"));
    let listener = Member::connect_to(server.address, &control);
    let phone = control_surface(&server);
    let mut rooms = [
        ("jamjam", id.as_str().unwrap(), vec![ann, bob], ROOM_CLOSED, vec!["PeerJoined"]),
        ("webrtc", "standup", vec![zoe, yan], ROOM_CLOSED, vec!["participant-joined", "existing-participants"]),
        ("broadcast", "lobby", vec![lobby, listener], ROOM_CLOSED, vec!["control-welcome"]),
        ("bbx", "4711", vec![phone], (1000, "Room closed"), vec!["closed"]),
    ];
    for (dialect, room, members, expected, allowed) in &mut rooms {
        let count = members.len();
        assert_eq!(body(&close_room(&server, dialect, room)), json!({"closed": true, "members": count}), "{dialect}");
        for member in members {
            let ((code, reason), texts) = member.read_to_close();
            assert_eq!((code, reason.as_str()), *expected, "{dialect}");
            let is_allowed = |text: &Value| text["type"].as_str().is_some_and(|kind| allowed.contains(&kind));
            assert!(texts.iter().all(is_allowed), "{dialect}: {texts:?}");
        }
        let line = server.line_starting_with("console: room closed by the operator ").message;
        assert!(line.contains(&format!("source=127.0.0.1 dialect={dialect} room=")), "{line}");
        assert!(line.ends_with(&format!(" members={count}")) && !line.contains("4711"), "{line}");
        let again = close_room(&server, dialect, room);
        let error = "No open room of this dialect has this id; reload the console";
        assert_eq!((again.status, again.error().as_str()), (404, error));
    }
    assert_eq!(server.metric("rooms_closed_by_operator_total"), 4);
    assert_eq!(server.metric("closed_by_operator_total"), 7);
    // The other WebRTC room stays open, and clients can create a closed room again.
    other.send("ping", &Value::Null);
    other.skip_to("pong");
    let run_id = body(&request(&server, "GET", "/console/state", &[RIGHT]))["runId"].take();
    let of_this_run = json!({"dialect": "webrtc", "room": "other", "runId": run_id});
    assert_eq!(body(&post(&server, "/console/close-room", &of_this_run))["members"], 1);
    let _again = webrtc_member(&server, "standup", "zoe");
    assert!(server.stop("TERM").lines.iter().all(|line| !line.contains("4711") && !line.contains("hunter2")));
}
