//! Whoever says that they are somebody else: the others hear who it is.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tungstenite::Message;

use super::{Client, Duo, raw};
use crate::server::process::Server;

/// All names by which somebody might pass for another, said by a client in a place where none belongs.
fn spoofed(mut message: Value, as_whom: &str) -> Value {
    for name in [
        "fromUserId",
        "userId",
        "userName",
        "from",
        "clientId",
        "sender_id",
        "senderId",
        "id",
        "roomId",
        "room",
        "timestamp",
    ] {
        if message.get(name).is_none() {
            message[name] = as_whom.into();
        }
    }
    message
}

fn at(server: &Server, path: &str) -> Client {
    Client(tungstenite::client(format!("ws://{}{path}", server.address), raw(server.address)).expect("a connection").0)
}

fn say(client: &mut Client, message: &Value) {
    client.0.send(Message::text(message.to_string())).unwrap();
}

fn hear(client: &mut Client) -> Value {
    serde_json::from_str(client.0.read().unwrap().to_text().unwrap()).unwrap()
}

/// The next message of this type; there is none of the others'.
fn hear_a(client: &mut Client, kind: &str) -> Value {
    let message = hear(client);
    assert_eq!(message["type"], kind, "{message}");
    message
}

#[test]
fn a_participant_of_webrtc_is_who_its_url_says() {
    let server = Server::start_signaling(&[]);
    let mut ann = at(&server, "/?roomId=r&userId=ann&userName=Ann");
    hear_a(&mut ann, "welcome");
    let mut eve = at(&server, "/?roomId=r&userId=eve&userName=Eve");
    hear_a(&mut eve, "welcome");
    hear_a(&mut eve, "existing-participants");
    hear_a(&mut ann, "participant-joined");
    let mut elsewhere = at(&server, "/?roomId=r2&userId=bob&userName=Bob");
    hear_a(&mut elsewhere, "welcome");
    for (said, heard) in [
        (
            json!({"type": "offer", "targetUserId": "ann", "sdp": "s"}),
            json!({"type": "offer", "fromUserId": "eve", "sdp": "s"}),
        ),
        (
            json!({"type": "answer", "targetUserId": "ann", "sdp": 1}),
            json!({"type": "answer", "fromUserId": "eve", "sdp": 1}),
        ),
        (
            json!({"type": "ice-candidate", "targetUserId": "ann", "candidate": {}}),
            json!({"type": "ice-candidate", "fromUserId": "eve", "candidate": {}}),
        ),
        (json!({"type": "call-ended", "targetUserId": "ann"}), json!({"type": "call-ended", "fromUserId": "eve"})),
        (
            json!({"type": "participant-update", "updates": {"id": "bob"}}),
            json!({"type": "participant-update", "userId": "eve", "updates": {"id": "bob"}}),
        ),
    ] {
        say(&mut eve, &spoofed(said, "bob"));
        assert_eq!(hear(&mut ann), heard);
    }
    // What only a server says, what is meant for another room, and targets that are none: nobody hears anything.
    for kind in
        ["welcome", "participant-left", "participant-joined", "existing-participants", "participants-list", "pong"]
    {
        say(&mut eve, &spoofed(json!({"type": kind, "participants": []}), "ann"));
    }
    for target in
        [json!("bob"), json!(["ann"]), json!({"id": "ann"}), json!("ANN"), json!("ann "), json!("*"), json!(null)]
    {
        say(&mut eve, &spoofed(json!({"type": "offer", "targetUserId": target, "roomId": "r2", "sdp": "s"}), "ann"));
    }
    for client in [&mut eve, &mut ann, &mut elsewhere] {
        say(client, &json!({"type": "ping"}));
        hear_a(client, "pong");
    }
}

#[test]
fn a_member_of_a_broadcast_room_is_who_its_token_says() {
    let server = Server::start_signaling(&["--hmac-secret", "test-secret"]);
    // `c1` and `d2`, both of `radio`, signed by Python's `hmac`.
    let c1 = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";
    let d2 = "eyJjbGllbnRJZCI6ImQyIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.J5xOOFt8d8VQoO-srGUzdlo_axpLpGu-yiqM4vL3qEQ";
    // The URL is the client's own to write.
    let mut eve = at(&server, &format!("/radio?token={d2}&clientId=c1&from=server&userId=c1&room=chat"));
    let mut ann = at(&server, &format!("/radio?token={c1}"));
    hear_a(&mut eve, "welcome");
    hear_a(&mut ann, "welcome");
    for kind in ["message", "welcome", "control-welcome", "error", "ack ", "radio-content"] {
        say(&mut eve, &spoofed(json!({"type": kind, "content": 1, "receivedAt": 0}), "server"));
        let heard = hear_a(&mut ann, "radio-content");
        assert_eq!((&heard["from"], &heard["content"]), (&json!("d2"), &json!(1)), "{heard}");
        let members: BTreeSet<_> = heard.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, BTreeSet::from(["content", "from", "timestamp", "type"]));
        assert!(heard["timestamp"].is_u64(), "{heard}");
    }
}

#[test]
fn a_peer_of_jamjam_is_who_it_joined_as() {
    let server = Server::start_signaling(&[]);
    let Duo(mut ann, mut eve) = Duo::new(&server);
    let data = json!({"sender_id": "ann", "sender_name": "a", "content": "x", "timestamp": 1});
    eve.say("ChatMessage", &spoofed(data, "ann"));
    let heard = ann.hear_a("ChatMessage");
    assert_eq!((&heard["sender_name"], heard["sender_id"].as_str().map(str::len)), (&json!("b"), Some(36)), "{heard}");
    eve.say("PeerLeft", &json!({"peer_id": "ann"}));
    eve.say("RoomJoined", &json!({"room_id": "r", "peer_id": "ann", "peers": []}));
    eve.chat("still here");
    assert_eq!(ann.hear_a("ChatMessage")["content"], "still here");
}
