//! A guest that looks for a room, joins, and learns where to send: what it asks for what it is told, and why it gives up.

use std::net::SocketAddr;

use jamjam_dev::signaling::client;
use jamjam_dev::signaling::client::{RoomClient, RoomError};
use jamjam_dev::signaling::jamjam::{ClientMessage, RoomInfo, ServerMessage};
use serde_json::{Value, json};

const NAME: &str = "jamjam-dev send";

fn guest(word: &str) -> RoomClient {
    RoomClient::new(word, None, NAME)
}

/// What the server says, from its JSON.
fn told(message: Value) -> ServerMessage {
    serde_json::from_value(message).unwrap()
}

/// What the guest asks, as JSON.
fn asked(asked: &ClientMessage) -> Value {
    serde_json::to_value(asked).unwrap()
}

fn room(id: &str, code: &str, name: &str, has_password: bool) -> Value {
    json!({"id": id, "name": name, "peer_count": 1, "max_peers": 10, "has_password": has_password, "invite_code": code})
}

fn list(rooms: &[Value]) -> ServerMessage {
    told(json!({"type": "RoomList", "data": {"rooms": rooms}}))
}

fn three() -> ServerMessage {
    list(&[
        room("0000000a", "AAAAAA", "[BOT] Echo Server (3000ms delay)", false),
        room("0000000b", "BBBBBB", "jam", false),
        room("0000000c", "CCCCCC", "jam session", false),
    ])
}

fn error(message: &str) -> ServerMessage {
    told(json!({"type": "Error", "data": {"message": message}}))
}

fn joined(peers: &Value) -> ServerMessage {
    told(json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "me", "peers": peers}}))
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

/// The id or code with which the guest joins what it finds in a list of three.
fn finds(word: &str) -> String {
    let mut guest = guest(word);
    assert_eq!(asked(&guest.on_connected()), json!({"type": "ListRooms"}));
    let join = guest.on_message(three()).unwrap().expect("a question");
    let ClientMessage::JoinRoom { room_id, password: None, peer_name } = join else { panic!("{join:?}") };
    assert_eq!(peer_name, NAME);
    assert!(!guest.is_joined());
    room_id
}

/// Why the guest gives up at the last of these.
fn refusal(word: &str, told: &[ServerMessage]) -> RoomError {
    let mut guest = guest(word);
    let (last, before) = told.split_last().unwrap();
    for told in before {
        guest.on_message(told.clone()).unwrap();
    }
    guest.on_message(last.clone()).unwrap_err()
}

/// A guest in a room with `peers`.
fn guest_among(peers: &Value) -> RoomClient {
    let mut guest = guest("jam");
    guest.on_message(three()).unwrap();
    assert_eq!(guest.on_message(joined(peers)).unwrap(), None);
    assert!(guest.is_joined());
    guest
}

fn addresses(guest: &RoomClient) -> Vec<String> {
    guest.peer_addresses().iter().map(SocketAddr::to_string).collect()
}

#[test]
fn a_room_is_found_by_what_a_person_calls_it() {
    for (word, id) in [
        ("0000000b", "0000000b"),
        ("BBBBBB", "0000000b"),
        ("[BOT] Echo Server (3000ms delay)", "0000000a"),
        ("Echo Server", "0000000a"),
        // A whole name goes before a part of one.
        ("jam", "0000000b"),
        ("session", "0000000c"),
    ] {
        assert_eq!(finds(word), id, "{word}");
    }
}

#[test]
fn an_id_or_code_goes_before_a_name() {
    let mut guest = guest("BBBBBB");
    let rooms = list(&[room("0000000a", "AAAAAA", "BBBBBB", false), room("0000000b", "BBBBBB", "jam", false)]);
    let Some(ClientMessage::JoinRoom { room_id, .. }) = guest.on_message(rooms).unwrap() else { panic!("a question") };
    assert_eq!((room_id.as_str(), guest.room_name()), ("0000000b", "jam"));
}

#[test]
fn the_room_is_known_by_its_name_whatever_it_was_called_by() {
    for word in ["0000000a", "AAAAAA", "Echo"] {
        let mut guest = guest(word);
        guest.on_message(three()).unwrap();
        assert_eq!(guest.room_name(), "[BOT] Echo Server (3000ms delay)");
    }
}

#[test]
fn what_could_be_an_id_or_code_is_tried_where_the_list_does_not_have_it() {
    for word in ["ffffffff", "ZZZZZZ", "ZZZZZZ234"] {
        assert_eq!(finds(word), word);
        let RoomError::NotFound { query: called, rooms } = refusal(word, &[three(), error("Room not found")]) else {
            panic!("unknown")
        };
        assert_eq!((called.as_str(), rooms.len()), (word, 3));
    }
    for word in ["FFFFFFFF", "zzzzzz", "fffffff", "ZZZZZZZ", "no such room"] {
        assert!(matches!(refusal(word, &[three()]), RoomError::NotFound { .. }), "{word}");
    }
}

#[test]
fn an_unknown_room_is_told_with_those_that_are_there() {
    assert_eq!(
        refusal("duo", &[three()]).to_string(),
        "no room matches `duo`; its rooms are:\n\
         id        invite code  members  password  name\n\
         0000000a  AAAAAA          1/10  no        [BOT] Echo Server (3000ms delay)\n\
         0000000b  BBBBBB          1/10  no        jam\n\
         0000000c  CCCCCC          1/10  no        jam session"
    );
    assert_eq!(refusal("duo", &[list(&[])]).to_string(), "no room matches `duo`; the server has no rooms");
}

#[test]
fn an_error_lists_twenty_rooms_and_counts_the_rest() {
    let rooms: Vec<Value> = (0..23).map(|n| room(&format!("{n:08}"), "AAAAAA", "jam", false)).collect();
    let text = refusal("duo", &[list(&rooms)]).to_string();
    assert_eq!(text.lines().count(), 1 + 1 + 20 + 1);
    assert!(
        text.ends_with("00000019  AAAAAA          1/10  no        jam\nand 3 more; --list-rooms prints all"),
        "{text}"
    );
}

#[test]
fn a_name_that_several_rooms_have_is_told_with_them_alone() {
    let twins = [room("0000000a", "AAAAAA", "duo", false), room("0000000b", "BBBBBB", "duo", true)];
    let rooms = [&twins[..], &[room("0000000c", "CCCCCC", "duo two", false)]].concat();
    assert_eq!(
        refusal("duo", &[list(&rooms)]).to_string(),
        "several rooms match `duo`; give the id or the invite code of one:\n\
         id        invite code  members  password  name\n\
         0000000a  AAAAAA          1/10  no        duo\n\
         0000000b  BBBBBB          1/10  yes       duo"
    );
    let RoomError::Ambiguous { rooms, .. } = refusal("du", &[list(&rooms)]) else { panic!("ambiguous") };
    assert_eq!(rooms.iter().map(|room| room.id.as_str()).collect::<Vec<_>>(), ["0000000a", "0000000b", "0000000c"]);
}

#[test]
fn a_password_is_asked_for_before_one_is_refused() {
    let locked = list(&[room("0000000a", "AAAAAA", "vault", true)]);
    let needed = "room `vault` needs a password; give --password or --password-file";
    assert_eq!(refusal("vault", std::slice::from_ref(&locked)).to_string(), needed);

    let mut knowing = RoomClient::new("vault", Some("sesame".to_owned()), NAME);
    let join = knowing.on_message(locked.clone()).unwrap().unwrap();
    assert_eq!(
        asked(&join),
        json!({"type": "JoinRoom", "data": {"room_id": "0000000a", "password": "sesame", "peer_name": NAME}})
    );
    let wrong = knowing.on_message(error("Invalid password")).unwrap_err().to_string();
    assert_eq!(wrong, "wrong password for room `vault`");

    // A room that is not listed says so itself.
    assert_eq!(
        refusal("ZZZZZZ", &[three(), error("Invalid password")]).to_string(),
        "room `ZZZZZZ` needs a password; give --password or --password-file"
    );
}

#[test]
fn a_refusal_is_told_in_the_servers_words_made_harmless() {
    assert_eq!(
        refusal("jam", &[three(), error("Room is \u{1b}[2Jfull")]).to_string(),
        "the server rejected joining room `jam`: Room is \u{fffd}[2Jfull"
    );
    // It was listed, and went before it could be joined.
    let gone = refusal("jam", &[three(), error("Room not found")]).to_string();
    assert_eq!(gone, "the server rejected joining room `jam`: Room not found");
    assert!(matches!(refusal("jam", &[error("Go away")]), RoomError::Rejected { .. }));
}

#[test]
fn addresses_are_tried_in_the_clients_order() {
    let candidates = json!([
        host("192.0.2.1:1", 5),
        host("192.0.2.2:2", 9),
        host("192.0.2.3:3", 5),
        {"address": "192.0.2.4:4", "candidate_type": "ServerReflexive", "priority": 7},
    ]);
    let guest = guest_among(&json!([peer("a", "Ann", &candidates, Some("192.0.2.5:5"), Some("192.0.2.6:6"))]));
    let order = ["192.0.2.2:2", "192.0.2.4:4", "192.0.2.1:1", "192.0.2.3:3", "192.0.2.5:5", "192.0.2.6:6"];
    assert_eq!(addresses(&guest), order);
}

#[test]
fn no_address_comes_twice_and_none_means_any() {
    let candidates = json!([
        host("0.0.0.0:5000", 9),
        host("[::]:5000", 8),
        host("[::ffff:0.0.0.0]:5000", 7),
        host("192.0.2.1:0", 6),
        host("192.0.2.1:5000", 5),
        host("192.0.2.1:5000", 4),
    ]);
    let guest = guest_among(&json!([
        peer("a", "Ann", &candidates, Some("192.0.2.1:5000"), Some("192.0.2.2:5000")),
        at("b", "Bob", "192.0.2.2:5000"),
    ]));
    assert_eq!(addresses(&guest), ["192.0.2.1:5000", "192.0.2.2:5000"]);
}

#[test]
fn the_bot_goes_first_and_the_others_in_their_order() {
    let guest = guest_among(&json!([
        at("a", "Ann", "192.0.2.1:1"),
        at("b", "Bob", "192.0.2.2:2"),
        at("e", "Echo Bot", "192.0.2.3:3"),
    ]));
    assert_eq!(addresses(&guest), ["192.0.2.3:3", "192.0.2.1:1", "192.0.2.2:2"]);
}

#[test]
fn who_comes_moves_and_goes_is_followed() {
    let mut guest = guest_among(&json!([peer("a", "Ann", &json!([]), None, None)]));
    assert_eq!(addresses(&guest), [] as [&str; 0]);
    let mut hear = |message| guest.on_message(told(message)).map(|asked| (asked, addresses(&guest))).unwrap();
    let silently = |addresses: &[&str]| (None, addresses.iter().map(ToString::to_string).collect::<Vec<_>>());

    let joined = json!({"type": "PeerJoined", "data": {"peer": at("b", "Bob", "192.0.2.2:2")}});
    assert_eq!(hear(joined), silently(&["192.0.2.2:2"]));
    let updated = json!({"type": "PeerUpdated", "data": {"peer": at("a", "Ann", "192.0.2.1:1")}});
    assert_eq!(hear(updated), silently(&["192.0.2.1:1", "192.0.2.2:2"]));
    let chat = json!({"type": "ChatMessage", "data": {"sender_id": "b", "sender_name": "Bob", "content": "hi", "timestamp": 1}});
    assert_eq!(hear(chat), silently(&["192.0.2.1:1", "192.0.2.2:2"]));
    let left = json!({"type": "PeerLeft", "data": {"peer_id": "b"}});
    assert_eq!(hear(left), silently(&["192.0.2.1:1"]));
    // Some servers tell a client of itself.
    let own = json!({"type": "PeerUpdated", "data": {"peer": at("me", NAME, "192.0.2.9:9")}});
    assert_eq!(hear(own), silently(&["192.0.2.1:1"]));
}

#[test]
fn of_each_other_only_so_many_addresses_are_remembered_and_none_that_many_are_at() {
    let many: Vec<Value> = (1..=200).map(|n| host(&format!("192.0.2.1:{n}"), n)).collect();
    let peers = json!([
        peer("a", "x", &json!(many), Some("192.0.2.2:1"), Some("192.0.2.3:1")),
        at("b", "x", "224.0.0.1:5000"),
        at("c", "x", "255.255.255.255:5000"),
        at("d", "x", "[ff02::1]:5000"),
        at("e", "x", "[::ffff:224.0.0.1]:5000"),
        at(&"f".repeat(257), "x", "192.0.2.4:1"),
    ]);
    let addresses = addresses(&guest_among(&peers));
    // The 64 of the highest priority, which a server of the protocol lets through, and the other two.
    assert_eq!(addresses.len(), 66, "{addresses:?}");
    assert_eq!([&addresses[0], &addresses[63]], ["192.0.2.1:200", "192.0.2.1:137"]);
    assert_eq!(addresses[64..], ["192.0.2.2:1", "192.0.2.3:1"]);
}

#[test]
fn no_more_than_sixty_four_others_are_remembered() {
    let many: Vec<Value> = (1..=100).map(|n| at(&n.to_string(), "x", &format!("192.0.2.1:{n}"))).collect();
    assert_eq!(guest_among(&json!(many)).peer_addresses().len(), 64);
}

#[test]
fn where_nobody_can_be_sent_to_it_is_said_why() {
    assert_eq!(guest_among(&json!([])).no_peer_error().to_string(), "room `jam` has no other member to send to");
    let shy = json!([peer("a", "A\u{7}nn", &json!([]), None, None), at("b", "Bob", "0.0.0.0:5000")]);
    assert_eq!(
        guest_among(&shy).no_peer_error().to_string(),
        "no member of room `jam` has published an address: A\u{fffd}nn, Bob"
    );
}

#[test]
fn what_is_said_before_the_room_is_joined_changes_nothing() {
    let mut guest = guest("jam");
    let early = json!({"type": "PeerJoined", "data": {"peer": at("b", "Bob", "192.0.2.2:2")}});
    assert_eq!(guest.on_message(told(early)).unwrap(), None);
    assert_eq!(guest.on_message(joined(&json!([at("b", "Bob", "192.0.2.2:2")]))).unwrap(), None);
    assert!(!guest.is_joined() && guest.peer_addresses().is_empty());
}

#[test]
fn its_own_address_is_told_in_each_member() {
    let here = RoomClient::address_update("192.168.1.5:51000".parse().unwrap());
    assert_eq!(
        asked(&here),
        json!({"type": "UpdatePeerInfo", "data": {
            "candidates": [{"address": "192.168.1.5:51000", "candidate_type": "Host", "priority": 2_130_706_431_u32}],
            "public_addr": "192.168.1.5:51000", "local_addr": "192.168.1.5:51000",
        }})
    );
}

#[test]
fn a_list_is_a_table_that_does_nothing_to_a_terminal() {
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
