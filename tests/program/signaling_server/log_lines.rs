//! The log of the signaling server: joins, leaves, messages and rejections of every dialect.

use serde_json::{Value, json};
use test_support::server::{Line, Member, Server};
use test_support::snapshot;

use super::{broadcast_member, control_surface, jamjam_creator, jamjam_member, webrtc_member};

/// The lines about members, messages and rooms, in which `ID` stands for the ids that differ in each run.
fn events(lines: &[String], ids: &[&str]) -> String {
    let mut events = String::new();
    for line in lines {
        let Line { level, mut message, .. } = Line::parse(line);
        for id in ids {
            message = message.replace(id, "ID");
        }
        let is_event = ["member ", "message ", "room ", "request ", "connection rejected "];
        if message.strip_prefix("signaling: ").is_some_and(|event| is_event.iter().any(|what| event.starts_with(what)))
        {
            // The id of a control surface.
            let is_id = |word: &str| word.strip_prefix("user=").is_some_and(|id| id.len() == 36);
            let words = message.split(' ').map(|word| if is_id(word) { "user=ID" } else { word });
            events.extend([level, " ".to_owned(), words.collect::<Vec<_>>().join(" "), "\n".to_owned()]);
        }
    }
    events
}

#[test]
fn joins_leaves_messages_and_rejections_of_every_dialect_are_logged() {
    let server = Server::start_signaling(&[&["-v", "--bbx-room", "4711"], &super::SECRET[..]].concat());
    let (mut ann, id) = jamjam_creator(server.address);
    let mut bob = jamjam_member(server.address, &id);
    ann.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": null, "local_addr": null}));
    ann.chat("secret-chat");
    ann.send("JoinRoom", &json!({"room_id": "nowhere", "peer_name": "Ann"}));
    ann.send("LeaveRoom", &Value::Null);
    bob.skip_to("PeerLeft");
    bob.close("bye");
    let zoe = webrtc_member(server.address, "standup", "zoe");
    let mut yan = webrtc_member(server.address, "standup", "yan");
    for target in ["zoe", "nobody"] {
        yan.send_json(&json!({"type": "offer", "targetUserId": target, "sdp": "secret-sdp"}));
    }
    yan.send("ping", &Value::Null);
    yan.skip_to("pong");
    let mut again = webrtc_member(server.address, "standup", "zoe");
    drop(yan);
    again.skip_to("participant-left");
    again.close("");
    drop(zoe);
    webrtc_member(server.address, "r%1B%5B2J", "a%E2%80%AE").close("");
    Member::connect_to(server.address, "/?roomId=r").closed();
    let mut lobby = broadcast_member(server.address, "lobby", "c1");
    let mut listener = broadcast_member(server.address, "lobby", "c2");
    lobby.send_json(&json!({"type": "post", "data": {"text": "secret-text"}}));
    listener.skip_to("lobby-content");
    lobby.close("");
    listener.close("");
    let mut phone = control_surface(server.address, "4711");
    for message in [
        json!({"type": "param", "param": "secret-name", "value": 0.125}),
        json!({"type": "trigger", "name": "secret-name"}),
        json!({"type": "leave"}),
    ] {
        phone.send_json(&message);
    }
    while phone.0.read().is_ok() {}
    let lines = server.stop("TERM").lines;
    for forbidden in ["secret", "4711", "0.125", "hunter2", &super::token("c1", "lobby"), "\u{1b}"] {
        assert!(lines.iter().all(|line| !line.contains(forbidden)), "{forbidden}: {lines:#?}");
    }
    snapshot::assert_matches("servers/signaling_log", &events(&lines, &[id.as_str().unwrap()]));
}
