//! The room client finds a room, joins the room and collects peer addresses. The tests check the client's response to each server message,
//! and the client's errors.

use std::net::SocketAddr;

use jamjam_signaling::client::{RoomClient, RoomError, room_table};
use jamjam_signaling::jamjam::{ClientMessage, RoomInfo, ServerMessage};
use serde_json::{Value, json};
use test_support::snapshot::assert_matches;

const NAME: &str = "jamjam-dev send";

fn room_client(word: &str) -> RoomClient {
    RoomClient::new(word, None, NAME, None)
}

fn server_message(kind: &str, data: &Value) -> ServerMessage {
    serde_json::from_value(json!({"type": kind, "data": data})).unwrap()
}

fn as_json(message: &ClientMessage) -> Value {
    serde_json::to_value(message).unwrap()
}

fn room(id: &str, code: &str, name: &str, has_password: bool) -> Value {
    json!({"id": id, "name": name, "peer_count": 1, "max_peers": 10, "has_password": has_password, "invite_code": code})
}

fn list(rooms: &[Value]) -> ServerMessage {
    server_message("RoomList", &json!({"rooms": rooms}))
}

fn three() -> ServerMessage {
    list(&[
        room("0000000a", "AAAAAA", "[BOT] Echo Server (3000ms delay)", false),
        room("0000000b", "BBBBBB", "jam", false),
        room("0000000c", "CCCCCC", "jam session", false),
    ])
}

fn error(message: &str) -> ServerMessage {
    server_message("Error", &json!({"message": message}))
}

fn joined(peers: &Value) -> ServerMessage {
    server_message("RoomJoined", &json!({"room_id": "0000000a", "peer_id": "me", "peers": peers}))
}

fn peer(id: &str, name: &str, candidates: &Value, public: Option<&str>, local: Option<&str>) -> Value {
    json!({"id": id, "name": name, "candidates": candidates, "public_addr": public, "local_addr": local})
}

fn at(id: &str, name: &str, address: &str) -> Value {
    peer(id, name, &json!([]), Some(address), None)
}

fn host(address: &str, priority: u32) -> Value {
    json!({"address": address, "candidate_type": "Host", "priority": priority})
}

/// The client searches for `word` in these rooms. Returns the id or code in its join request, and the name of the room.
fn joined_room(word: &str, rooms: ServerMessage) -> (String, String) {
    let mut room_client = room_client(word);
    assert_eq!(as_json(&room_client.on_connected()), json!({"type": "ListRooms"}));
    let join = as_json(&room_client.on_message(rooms).unwrap().expect("a request"));
    let room_id = join["data"]["room_id"].as_str().expect("an id");
    let data = json!({"room_id": room_id, "password": null, "peer_name": NAME});
    assert_eq!(join, json!({"type": "JoinRoom", "data": data}));
    assert!(!room_client.is_joined());
    (room_id.to_owned(), room_client.room_name().to_owned())
}

/// The error that the last message in `messages` causes.
fn join_error(word: &str, messages: &[ServerMessage]) -> RoomError {
    let mut room_client = room_client(word);
    let (last, before) = messages.split_last().unwrap();
    for message in before {
        room_client.on_message(message.clone()).unwrap();
    }
    room_client.on_message(last.clone()).unwrap_err()
}

/// A client in a room with `peers`.
fn joined_client(peers: &Value) -> RoomClient {
    let mut room_client = room_client("jam");
    room_client.on_message(three()).unwrap();
    assert_eq!(room_client.on_message(joined(peers)).unwrap(), None);
    assert!(room_client.is_joined());
    room_client
}

fn addresses(room_client: &RoomClient) -> Vec<String> {
    room_client.peer_addresses().iter().map(SocketAddr::to_string).collect()
}

#[test]
fn room_is_found_by_id_code_name_or_part_of_the_name_in_this_order() {
    let echo = ("0000000a", "[BOT] Echo Server (3000ms delay)");
    for (word, (id, name)) in [
        ("0000000a", echo),
        ("AAAAAA", echo),
        (echo.1, echo),
        ("Echo Server", echo),
        ("jam", ("0000000b", "jam")),
        ("session", ("0000000c", "jam session")),
    ] {
        assert_eq!(joined_room(word, three()), (id.to_owned(), name.to_owned()), "{word}");
    }
    // The letter is composed in one text and decomposed in the other.
    for (word, name) in [("Caf\u{e9}", "Cafe\u{301}"), ("fe\u{301}", "Caf\u{e9}")] {
        let rooms = list(&[room("0000000d", "DDDDDD", name, false), room("0000000e", "EEEEEE", "Cafe", false)]);
        assert_eq!(joined_room(word, rooms).0, "0000000d", "{word}");
    }
    let rooms = list(&[room("0000000a", "AAAAAA", "BBBBBB", false), room("0000000b", "BBBBBB", "jam", false)]);
    assert_eq!(joined_room("BBBBBB", rooms), ("0000000b".to_owned(), "jam".to_owned()));
}

#[test]
fn unlisted_id_or_code_is_tried() {
    for word in ["ffffffff", "ZZZZZZ", "ZZZZZZ234"] {
        assert_eq!(joined_room(word, three()).0, word);
        let gone = join_error(word, &[three(), error("Room not found")]);
        assert!(
            matches!(&gone, RoomError::Missing(text) if text.contains(word) && text.contains("jam session")),
            "{word}"
        );
    }
    for word in ["FFFFFFFF", "zzzzzz", "fffffff", "ZZZZZZZ", "no such room"] {
        assert!(matches!(join_error(word, &[three()]), RoomError::Missing(_)), "{word}");
    }
}

#[test]
fn errors_list_the_rooms_and_name_the_remedy() {
    let many: Vec<Value> = (0..23).map(|n| room(&format!("{n:08}"), "AAAAAA", "jam", false)).collect();
    let twins = list(&[
        room("0000000a", "AAAAAA", "duo", false),
        room("0000000b", "BBBBBB", "duo", true),
        room("0000000c", "CCCCCC", "duo two", false),
    ]);
    let locked = list(&[room("0000000a", "AAAAAA", "vault", true)]);
    let mut with_password = RoomClient::new("vault", Some("sesame".to_owned()), NAME, None);
    let join = json!({"room_id": "0000000a", "password": "sesame", "peer_name": NAME});
    assert_eq!(as_json(&with_password.on_message(locked.clone()).unwrap().unwrap())["data"], join);
    let without_addresses = json!([peer("a", "A\u{7}nn", &json!([]), None, None), at("b", "Bob", "0.0.0.0:5000")]);
    let hostile: Vec<RoomInfo> = serde_json::from_value(json!([
        room("0000000a", "ABCDEFGHJ", "a\u{1b}]0;b\u{202e}c\nd", true),
        room("0000000b", "BBBBBB", &"日".repeat(300), false),
    ]))
    .unwrap();
    let texts = [
        join_error("duo", &[three()]).to_string(),
        join_error("duo", &[list(&[])]).to_string(),
        join_error("duo", &[list(&many)]).to_string(),
        join_error("duo", std::slice::from_ref(&twins)).to_string(),
        join_error("du", &[twins]).to_string(),
        join_error("vault", &[locked]).to_string(),
        with_password.on_message(error("Invalid password")).unwrap_err().to_string(),
        // The room is not listed, and the server requires a password.
        join_error("ZZZZZZ", &[three(), error("Invalid password")]).to_string(),
        join_error("jam", &[three(), error("Room is \u{1b}[2Jfull")]).to_string(),
        joined_client(&json!([])).no_peer_error().to_string(),
        joined_client(&without_addresses).no_peer_error().to_string(),
        room_table(&hostile),
        room_table(&[]),
    ];
    assert_matches("signaling/room_client_errors", &(texts.join("\n\n") + "\n"));
    assert!(matches!(join_error("jam", &[error("Go away")]), RoomError::Rejected(_)));
}

#[test]
fn peer_addresses_are_valid_unique_and_in_order_of_priority() {
    let candidates = json!([
        host("192.0.2.1:1", 5),
        host("192.0.2.2:2", 9),
        host("192.0.2.3:3", 5),
        {"address": "192.0.2.4:4", "candidate_type": "ServerReflexive", "priority": 7},
        host("0.0.0.0:5000", 9),
        host("[::]:5000", 8),
        host("[::ffff:0.0.0.0]:5000", 7),
        host("192.0.2.1:0", 6),
        host("192.0.2.2:2", 4),
    ]);
    // The echo participant comes first. The others keep their order. Multicast addresses and long ids are skipped.
    let room_client = joined_client(&json!([
        peer("a", "Ann", &candidates, Some("192.0.2.5:5"), Some("192.0.2.6:6")),
        at("b", "Bob", "192.0.2.6:6"),
        at("c", "x", "224.0.0.1:5000"),
        at("d", "x", "255.255.255.255:5000"),
        at("e", "x", "[ff02::1]:5000"),
        at("f", "x", "[::ffff:224.0.0.1]:5000"),
        at(&"g".repeat(257), "x", "192.0.2.8:1"),
        at("h", "Echo Bot", "192.0.2.7:7"),
    ]));
    let order = [7, 2, 4, 1, 3, 5, 6].map(|n| format!("192.0.2.{n}:{n}"));
    assert_eq!(addresses(&room_client), order);
}

#[test]
fn joins_updates_and_leaves_change_the_peer_addresses() {
    let mut room_client = joined_client(&json!([peer("a", "Ann", &json!([]), None, None)]));
    assert_eq!(addresses(&room_client), [] as [&str; 0]);
    let chat = json!({"sender_id": "b", "sender_name": "Bob", "content": "hi", "timestamp": 1});
    for (kind, data, expected) in [
        ("PeerJoined", json!({"peer": at("b", "Bob", "192.0.2.2:2")}), &["192.0.2.2:2"][..]),
        ("PeerUpdated", json!({"peer": at("a", "Ann", "192.0.2.1:1")}), &["192.0.2.1:1", "192.0.2.2:2"]),
        ("ChatMessage", chat, &["192.0.2.1:1", "192.0.2.2:2"]),
        ("PeerLeft", json!({"peer_id": "b"}), &["192.0.2.1:1"]),
        // Some servers also send the client an update about the client itself.
        ("PeerUpdated", json!({"peer": at("me", NAME, "192.0.2.9:9")}), &["192.0.2.1:1"]),
    ] {
        assert_eq!(room_client.on_message(server_message(kind, &data)).unwrap(), None, "{kind}");
        assert_eq!(addresses(&room_client), expected, "{kind}");
    }
}

#[test]
fn peers_and_addresses_per_peer_are_limited() {
    let many: Vec<Value> = (1..=200).map(|n| host(&format!("192.0.2.1:{n}"), n)).collect();
    let peers = json!([peer("a", "x", &json!(many), Some("192.0.2.2:1"), Some("192.0.2.3:1"))]);
    // The 64 candidates with the highest priority give 64 addresses. The peer has two other addresses.
    let expected = (137..=200).rev().map(|n| format!("192.0.2.1:{n}"));
    let expected = expected.chain(["192.0.2.2:1".to_owned(), "192.0.2.3:1".to_owned()]);
    assert_eq!(addresses(&joined_client(&peers)), expected.collect::<Vec<_>>());
    let many: Vec<Value> = (1..=100).map(|n| at(&n.to_string(), "x", &format!("192.0.2.1:{n}"))).collect();
    assert_eq!(joined_client(&json!(many)).peer_addresses().len(), 64);
}

#[test]
fn link_key_of_an_address_is_that_of_its_first_member() {
    let with_key = |id: &str, key: &str| {
        let mut peer = at(id, "Echo Bot", "192.0.2.1:5000");
        peer["link_key"] = json!(key);
        peer
    };
    let keys = joined_client(&json!([with_key("a", "first"), with_key("b", "second")])).link_keys();
    assert_eq!(keys[&"192.0.2.1:5000".parse().unwrap()].as_deref(), Some("first"));
}

#[test]
fn messages_before_the_room_is_joined_are_ignored() {
    let mut room_client = room_client("jam");
    let bob = at("b", "Bob", "192.0.2.2:2");
    for early in [server_message("PeerJoined", &json!({"peer": bob})), joined(&json!([bob]))] {
        assert_eq!(room_client.on_message(early).unwrap(), None);
    }
    assert!(!room_client.is_joined() && room_client.peer_addresses().is_empty());
}

#[test]
fn own_address_is_in_every_address_field() {
    let update = RoomClient::address_update("192.168.1.5:51000".parse().unwrap());
    let own = "192.168.1.5:51000";
    let data = json!({"candidates": [host(own, 2_130_706_431)], "public_addr": own, "local_addr": own});
    assert_eq!(as_json(&update), json!({"type": "UpdatePeerInfo", "data": data}));
}
