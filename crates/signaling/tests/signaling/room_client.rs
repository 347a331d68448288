//! The room client finds a room, joins the room and collects peer addresses. The tests check the client's response to each server message,
//! and the client's errors.

use std::net::SocketAddr;

use jamjam_signaling::client;
use jamjam_signaling::client::{RoomClient, RoomError};
use jamjam_signaling::jamjam::{ClientMessage, RoomInfo, ServerMessage};
use serde_json::{Value, json};

const NAME: &str = "jamjam-dev send";

fn room_client(word: &str) -> RoomClient {
    RoomClient::new(word, None, NAME)
}

/// A server message from its JSON.
fn server_message(message: Value) -> ServerMessage {
    serde_json::from_value(message).unwrap()
}

/// A client message as JSON.
fn as_json(message: &ClientMessage) -> Value {
    serde_json::to_value(message).unwrap()
}

fn room(id: &str, code: &str, name: &str, has_password: bool) -> Value {
    json!({"id": id, "name": name, "peer_count": 1, "max_peers": 10, "has_password": has_password, "invite_code": code})
}

fn list(rooms: &[Value]) -> ServerMessage {
    server_message(json!({"type": "RoomList", "data": {"rooms": rooms}}))
}

fn three() -> ServerMessage {
    list(&[
        room("0000000a", "AAAAAA", "[BOT] Echo Server (3000ms delay)", false),
        room("0000000b", "BBBBBB", "jam", false),
        room("0000000c", "CCCCCC", "jam session", false),
    ])
}

fn error(message: &str) -> ServerMessage {
    server_message(json!({"type": "Error", "data": {"message": message}}))
}

fn joined(peers: &Value) -> ServerMessage {
    server_message(json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "me", "peers": peers}}))
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

/// The client searches for `word` in a list of three rooms and sends a join request. Returns the room id or code in this request.
fn joined_room_id(word: &str) -> String {
    let mut room_client = room_client(word);
    assert_eq!(as_json(&room_client.on_connected()), json!({"type": "ListRooms"}));
    let join = room_client.on_message(three()).unwrap().expect("a question");
    let ClientMessage::JoinRoom { room_id, password: None, peer_name, link_key: None, .. } = join else {
        panic!("{join:?}")
    };
    assert_eq!(peer_name, NAME);
    assert!(!room_client.is_joined());
    room_id
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
fn room_is_found_by_id_code_name_or_part_of_the_name() {
    for (word, id) in [
        ("0000000b", "0000000b"),
        ("BBBBBB", "0000000b"),
        ("[BOT] Echo Server (3000ms delay)", "0000000a"),
        ("Echo Server", "0000000a"),
        // A complete name takes precedence over a partial match.
        ("jam", "0000000b"),
        ("session", "0000000c"),
    ] {
        assert_eq!(joined_room_id(word), id, "{word}");
    }
    // The letter is composed in one text and decomposed in the other.
    for (word, name) in [("Caf\u{e9}", "Cafe\u{301}"), ("fe\u{301}", "Caf\u{e9}")] {
        let rooms = list(&[room("0000000d", "DDDDDD", name, false), room("0000000e", "EEEEEE", "Cafe", false)]);
        let join = room_client(word).on_message(rooms).unwrap().expect("a question");
        assert_eq!(as_json(&join)["data"]["room_id"], "0000000d", "{word}");
    }
}

#[test]
fn id_or_code_takes_precedence_over_a_name() {
    let mut room_client = room_client("BBBBBB");
    let rooms = list(&[room("0000000a", "AAAAAA", "BBBBBB", false), room("0000000b", "BBBBBB", "jam", false)]);
    let Some(ClientMessage::JoinRoom { room_id, .. }) = room_client.on_message(rooms).unwrap() else {
        panic!("a question")
    };
    assert_eq!((room_id.as_str(), room_client.room_name()), ("0000000b", "jam"));
}

#[test]
fn room_name_is_that_of_the_list_for_any_query() {
    for word in ["0000000a", "AAAAAA", "Echo"] {
        let mut room_client = room_client(word);
        room_client.on_message(three()).unwrap();
        assert_eq!(room_client.room_name(), "[BOT] Echo Server (3000ms delay)");
    }
}

#[test]
fn unlisted_id_or_code_is_tried() {
    for word in ["ffffffff", "ZZZZZZ", "ZZZZZZ234"] {
        assert_eq!(joined_room_id(word), word);
        let RoomError::NotFound { query, rooms } = join_error(word, &[three(), error("Room not found")]) else {
            panic!("unknown")
        };
        assert_eq!((query.as_str(), rooms.len()), (word, 3));
    }
    for word in ["FFFFFFFF", "zzzzzz", "fffffff", "ZZZZZZZ", "no such room"] {
        assert!(matches!(join_error(word, &[three()]), RoomError::NotFound { .. }), "{word}");
    }
}

#[test]
fn unknown_room_error_lists_the_rooms() {
    assert_eq!(
        join_error("duo", &[three()]).to_string(),
        "no room matches `duo`; the server's rooms are:\n\
         id        invite code  members  password  name\n\
         0000000a  AAAAAA          1/10  no        [BOT] Echo Server (3000ms delay)\n\
         0000000b  BBBBBB          1/10  no        jam\n\
         0000000c  CCCCCC          1/10  no        jam session"
    );
    assert_eq!(join_error("duo", &[list(&[])]).to_string(), "no room matches `duo`; the server has no rooms");
}

#[test]
fn error_lists_twenty_rooms_and_counts_the_rest() {
    let rooms: Vec<Value> = (0..23).map(|n| room(&format!("{n:08}"), "AAAAAA", "jam", false)).collect();
    let text = join_error("duo", &[list(&rooms)]).to_string();
    assert_eq!(text.lines().count(), 1 + 1 + 20 + 1);
    assert!(
        text.ends_with("00000019  AAAAAA          1/10  no        jam\nand 3 more; --list-rooms prints all rooms"),
        "{text}"
    );
}

#[test]
fn ambiguous_name_error_lists_the_matching_rooms_only() {
    let twins = [room("0000000a", "AAAAAA", "duo", false), room("0000000b", "BBBBBB", "duo", true)];
    let rooms = [&twins[..], &[room("0000000c", "CCCCCC", "duo two", false)]].concat();
    assert_eq!(
        join_error("duo", &[list(&rooms)]).to_string(),
        "several rooms match `duo`; give the id or invite code of one of these rooms:\n\
         id        invite code  members  password  name\n\
         0000000a  AAAAAA          1/10  no        duo\n\
         0000000b  BBBBBB          1/10  yes       duo"
    );
    let RoomError::Ambiguous { rooms, .. } = join_error("du", &[list(&rooms)]) else { panic!("ambiguous") };
    assert_eq!(rooms.iter().map(|room| room.id.as_str()).collect::<Vec<_>>(), ["0000000a", "0000000b", "0000000c"]);
}

#[test]
fn missing_password_is_an_error_before_joining() {
    let locked = list(&[room("0000000a", "AAAAAA", "vault", true)]);
    let needed = "room `vault` needs a password; give --password-file";
    assert_eq!(join_error("vault", std::slice::from_ref(&locked)).to_string(), needed);

    let mut with_password = RoomClient::new("vault", Some("sesame".to_owned()), NAME);
    let join = with_password.on_message(locked.clone()).unwrap().unwrap();
    assert_eq!(
        as_json(&join),
        json!({"type": "JoinRoom", "data": {"room_id": "0000000a", "password": "sesame", "peer_name": NAME}})
    );
    let wrong = with_password.on_message(error("Invalid password")).unwrap_err().to_string();
    assert_eq!(wrong, "wrong password for room `vault`");

    // If the room is not listed, the client sends a join request without a password. If the server requires a password, the error message
    // names the options for a password.
    assert_eq!(
        join_error("ZZZZZZ", &[three(), error("Invalid password")]).to_string(),
        "room `ZZZZZZ` needs a password; give --password-file"
    );
}

#[test]
fn server_error_text_is_quoted_without_control_characters() {
    assert_eq!(
        join_error("jam", &[three(), error("Room is \u{1b}[2Jfull")]).to_string(),
        "the server rejected the request for room `jam`: Room is \u{fffd}[2Jfull"
    );
    // The room was listed, and closed before it could be joined.
    let gone = join_error("jam", &[three(), error("Room not found")]).to_string();
    assert_eq!(gone, "the server rejected the request for room `jam`: Room not found");
    assert!(matches!(join_error("jam", &[error("Go away")]), RoomError::Rejected { .. }));
}

#[test]
fn peer_addresses_are_in_order_of_priority() {
    let candidates = json!([
        host("192.0.2.1:1", 5),
        host("192.0.2.2:2", 9),
        host("192.0.2.3:3", 5),
        {"address": "192.0.2.4:4", "candidate_type": "ServerReflexive", "priority": 7},
    ]);
    let room_client = joined_client(&json!([peer("a", "Ann", &candidates, Some("192.0.2.5:5"), Some("192.0.2.6:6"))]));
    let order = ["192.0.2.2:2", "192.0.2.4:4", "192.0.2.1:1", "192.0.2.3:3", "192.0.2.5:5", "192.0.2.6:6"];
    assert_eq!(addresses(&room_client), order);
}

#[test]
fn duplicate_unspecified_and_port_zero_addresses_are_skipped() {
    let candidates = json!([
        host("0.0.0.0:5000", 9),
        host("[::]:5000", 8),
        host("[::ffff:0.0.0.0]:5000", 7),
        host("192.0.2.1:0", 6),
        host("192.0.2.1:5000", 5),
        host("192.0.2.1:5000", 4),
    ]);
    let room_client = joined_client(&json!([
        peer("a", "Ann", &candidates, Some("192.0.2.1:5000"), Some("192.0.2.2:5000")),
        at("b", "Bob", "192.0.2.2:5000"),
    ]));
    assert_eq!(addresses(&room_client), ["192.0.2.1:5000", "192.0.2.2:5000"]);
}

#[test]
fn echo_participant_comes_first_and_others_keep_their_order() {
    let room_client = joined_client(&json!([
        at("a", "Ann", "192.0.2.1:1"),
        at("b", "Bob", "192.0.2.2:2"),
        at("e", "Echo Bot", "192.0.2.3:3"),
    ]));
    assert_eq!(addresses(&room_client), ["192.0.2.3:3", "192.0.2.1:1", "192.0.2.2:2"]);
}

#[test]
fn joins_updates_and_leaves_change_the_peer_addresses() {
    let mut room_client = joined_client(&json!([peer("a", "Ann", &json!([]), None, None)]));
    assert_eq!(addresses(&room_client), [] as [&str; 0]);
    let mut receive = |message| {
        room_client.on_message(server_message(message)).map(|request| (request, addresses(&room_client))).unwrap()
    };
    let without_request = |addresses: &[&str]| (None, addresses.iter().map(ToString::to_string).collect::<Vec<_>>());

    let joined = json!({"type": "PeerJoined", "data": {"peer": at("b", "Bob", "192.0.2.2:2")}});
    assert_eq!(receive(joined), without_request(&["192.0.2.2:2"]));
    let updated = json!({"type": "PeerUpdated", "data": {"peer": at("a", "Ann", "192.0.2.1:1")}});
    assert_eq!(receive(updated), without_request(&["192.0.2.1:1", "192.0.2.2:2"]));
    let chat = json!({"type": "ChatMessage", "data": {"sender_id": "b", "sender_name": "Bob", "content": "hi", "timestamp": 1}});
    assert_eq!(receive(chat), without_request(&["192.0.2.1:1", "192.0.2.2:2"]));
    let left = json!({"type": "PeerLeft", "data": {"peer_id": "b"}});
    assert_eq!(receive(left), without_request(&["192.0.2.1:1"]));
    // Some servers also send the client an update about the client itself.
    let own = json!({"type": "PeerUpdated", "data": {"peer": at("me", NAME, "192.0.2.9:9")}});
    assert_eq!(receive(own), without_request(&["192.0.2.1:1"]));
}

#[test]
fn addresses_per_peer_are_limited_and_multicast_is_skipped() {
    let many: Vec<Value> = (1..=200).map(|n| host(&format!("192.0.2.1:{n}"), n)).collect();
    let peers = json!([
        peer("a", "x", &json!(many), Some("192.0.2.2:1"), Some("192.0.2.3:1")),
        at("b", "x", "224.0.0.1:5000"),
        at("c", "x", "255.255.255.255:5000"),
        at("d", "x", "[ff02::1]:5000"),
        at("e", "x", "[::ffff:224.0.0.1]:5000"),
        at(&"f".repeat(257), "x", "192.0.2.4:1"),
    ]);
    let addresses = addresses(&joined_client(&peers));
    // The 64 candidates with the highest priority give 64 addresses. The peer has two other addresses.
    assert_eq!(addresses.len(), 66, "{addresses:?}");
    assert_eq!([&addresses[0], &addresses[63]], ["192.0.2.1:200", "192.0.2.1:137"]);
    assert_eq!(addresses[64..], ["192.0.2.2:1", "192.0.2.3:1"]);
}

#[test]
fn at_most_sixty_four_peers_are_stored() {
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
fn missing_peer_addresses_are_explained() {
    assert_eq!(joined_client(&json!([])).no_peer_error().to_string(), "room `jam` has no other member to send to");
    let without_addresses = json!([peer("a", "A\u{7}nn", &json!([]), None, None), at("b", "Bob", "0.0.0.0:5000")]);
    assert_eq!(
        joined_client(&without_addresses).no_peer_error().to_string(),
        "no member of room `jam` has published an address (members: A\u{fffd}nn, Bob)"
    );
}

#[test]
fn messages_before_the_room_is_joined_are_ignored() {
    let mut room_client = room_client("jam");
    let early = json!({"type": "PeerJoined", "data": {"peer": at("b", "Bob", "192.0.2.2:2")}});
    assert_eq!(room_client.on_message(server_message(early)).unwrap(), None);
    assert_eq!(room_client.on_message(joined(&json!([at("b", "Bob", "192.0.2.2:2")]))).unwrap(), None);
    assert!(!room_client.is_joined() && room_client.peer_addresses().is_empty());
}

#[test]
fn own_address_is_in_every_address_field() {
    let update = RoomClient::address_update("192.168.1.5:51000".parse().unwrap());
    assert_eq!(
        as_json(&update),
        json!({"type": "UpdatePeerInfo", "data": {
            "candidates": [{"address": "192.168.1.5:51000", "candidate_type": "Host", "priority": 2_130_706_431_u32}],
            "public_addr": "192.168.1.5:51000", "local_addr": "192.168.1.5:51000",
        }})
    );
}

#[test]
fn room_table_contains_no_control_characters() {
    let rooms: Vec<RoomInfo> = [
        room("0000000a", "ABCDEFGHJ", "a\u{1b}]0;b\u{202e}c\nd", true),
        room("0000000b", "BBBBBB", &"日".repeat(300), false),
    ]
    .into_iter()
    .map(|room| serde_json::from_value(room).unwrap())
    .collect();
    let long = "日".repeat(256);
    assert_eq!(
        client::room_table(&rooms),
        format!(
            "id        invite code  members  password  name\n\
             0000000a  ABCDEFGHJ       1/10  yes       a\u{fffd}]0;b\u{fffd}c\u{fffd}d\n\
             0000000b  BBBBBB          1/10  no        {long}"
        )
    );
    assert_eq!(client::room_table(&[]), "no rooms");
}
