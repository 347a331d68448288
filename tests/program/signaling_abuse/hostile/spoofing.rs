//! Clients that claim another client's identity. The other clients receive the true identity.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tungstenite::Message;

use super::{Client, Duo, raw};
use crate::signaling_abuse::server::process::Server;

/// Adds JSON fields with the value `claimed_id` to a message. These fields could forge the sender, the room or the time. Fields that the
/// message already contains stay unchanged.
fn spoofed(mut message: Value, claimed_id: &str) -> Value {
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
            message[name] = claimed_id.into();
        }
    }
    message
}

fn at(server: &Server, path: &str) -> Client {
    Client(tungstenite::client(format!("ws://{}{path}", server.address), raw(server.address)).expect("a connection").0)
}

fn send(client: &mut Client, message: &Value) {
    client.0.send(Message::text(message.to_string())).unwrap();
}

fn receive(client: &mut Client) -> Value {
    serde_json::from_str(client.0.read().unwrap().to_text().unwrap()).unwrap()
}

/// The next message, which must be of this type.
fn receive_type(client: &mut Client, kind: &str) -> Value {
    let message = receive(client);
    assert_eq!(message["type"], kind, "{message}");
    message
}

#[test]
fn webrtc_participant_is_identified_by_its_url() {
    let server = Server::start_signaling(&[]);
    let mut ann = at(&server, "/?roomId=r&userId=ann&userName=Ann");
    receive_type(&mut ann, "welcome");
    let mut eve = at(&server, "/?roomId=r&userId=eve&userName=Eve");
    receive_type(&mut eve, "welcome");
    receive_type(&mut eve, "existing-participants");
    receive_type(&mut ann, "participant-joined");
    let mut elsewhere = at(&server, "/?roomId=r2&userId=bob&userName=Bob");
    receive_type(&mut elsewhere, "welcome");
    for (sent, expected) in [
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
        send(&mut eve, &spoofed(sent, "bob"));
        assert_eq!(receive(&mut ann), expected);
    }
    // Eve sends messages of types that only the server may send. Eve also sends messages to a client in another room or to an invalid
    // target. The server relays none of these messages to any client.
    for kind in
        ["welcome", "participant-left", "participant-joined", "existing-participants", "participants-list", "pong"]
    {
        send(&mut eve, &spoofed(json!({"type": kind, "participants": []}), "ann"));
    }
    for target in
        [json!("bob"), json!(["ann"]), json!({"id": "ann"}), json!("ANN"), json!("ann "), json!("*"), json!(null)]
    {
        send(&mut eve, &spoofed(json!({"type": "offer", "targetUserId": target, "roomId": "r2", "sdp": "s"}), "ann"));
    }
    for client in [&mut eve, &mut ann, &mut elsewhere] {
        send(client, &json!({"type": "ping"}));
        receive_type(client, "pong");
    }
}

#[test]
fn broadcast_member_is_identified_by_its_token() {
    let server = Server::start_signaling(&["--hmac-secret", "test-secret"]);
    // Tokens of the clients `c1` and `d2` for room `radio`, signed with Python's `hmac`.
    let c1 = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";
    let d2 = "eyJjbGllbnRJZCI6ImQyIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.J5xOOFt8d8VQoO-srGUzdlo_axpLpGu-yiqM4vL3qEQ";
    // The client may write anything in its URL.
    let mut eve = at(&server, &format!("/radio?token={d2}&clientId=c1&from=server&userId=c1&room=chat"));
    let mut ann = at(&server, &format!("/radio?token={c1}"));
    receive_type(&mut eve, "welcome");
    receive_type(&mut ann, "welcome");
    for kind in ["message", "welcome", "control-welcome", "error", "ack ", "radio-content"] {
        send(&mut eve, &spoofed(json!({"type": kind, "content": 1, "receivedAt": 0}), "server"));
        let received = receive_type(&mut ann, "radio-content");
        assert_eq!((&received["from"], &received["content"]), (&json!("d2"), &json!(1)), "{received}");
        let members: BTreeSet<_> = received.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, BTreeSet::from(["content", "from", "timestamp", "type"]));
        assert!(received["timestamp"].is_u64(), "{received}");
    }
}

#[test]
fn jamjam_peer_is_identified_by_its_join() {
    let server = Server::start_signaling(&[]);
    let Duo(mut ann, mut eve) = Duo::new(&server);
    let data = json!({"sender_id": "ann", "sender_name": "a", "content": "x", "timestamp": 1});
    eve.send("ChatMessage", &spoofed(data, "ann"));
    let received = ann.receive("ChatMessage");
    assert_eq!(
        (&received["sender_name"], received["sender_id"].as_str().map(str::len)),
        (&json!("b"), Some(36)),
        "{received}"
    );
    eve.send("PeerLeft", &json!({"peer_id": "ann"}));
    eve.send("RoomJoined", &json!({"room_id": "r", "peer_id": "ann", "peers": []}));
    eve.chat("still here");
    assert_eq!(ann.receive("ChatMessage")["content"], "still here");
}
