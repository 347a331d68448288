//! Newer jamjam clients at `/v1/signaling`. Such a client disconnects if it cannot read a message. Therefore, [`read_strictly`] checks every
//! message that the hub sends there.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::in_memory_hub::InMemoryHub;
use test_support::transcript::TranscriptServer;

const NEWER: &str = "/v1/signaling";
const LINK_KEY: &str = "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=";

/// A hub with clients whose names begin with `new` or `old`.
struct Clients(InMemoryHub);

impl Clients {
    fn connect(names: &[&str]) -> Self {
        let mut hub = InMemoryHub::new([1, 2, 3, 4]);
        for name in names {
            hub.connect(name, if name.starts_with("new") { NEWER } else { "/" }).unwrap();
        }
        Self(hub)
    }

    fn send(&mut self, name: &str, kind: &str, data: &Value) {
        self.0.send_text(name, &json!({"type": kind, "data": data}).to_string()).unwrap();
    }

    fn receive(&mut self, name: &str) -> Value {
        let message: Value = serde_json::from_str(&self.0.receive(name).unwrap()).unwrap();
        if name.starts_with("new") {
            read_strictly(&message).unwrap_or_else(|fault| panic!("{fault}: {message}"));
        }
        message
    }

    /// The data of the next message, which must have this type.
    fn receive_type(&mut self, name: &str, kind: &str) -> Value {
        let mut message = self.receive(name);
        assert_eq!(message["type"], kind, "{message}");
        message["data"].take()
    }

    /// Sends a request and returns the data of its answer, which must be the next message.
    fn request(&mut self, name: &str, kind: &str, data: &Value, answer: &str) -> Value {
        self.send(name, kind, data);
        self.receive_type(name, answer)
    }

    fn create(&mut self, name: &str, room: &str) -> Value {
        self.request(name, "CreateRoom", &json!({"room_name": room, "peer_name": name}), "RoomCreated")
    }

    fn join(&mut self, name: &str, room: &Value) -> Value {
        self.request(name, "JoinRoom", &json!({"room_id": room, "peer_name": name}), "RoomJoined")
    }

    fn rooms(&mut self, name: &str) -> Vec<Value> {
        let list = self.request(name, "ListRooms", &Value::Null, "RoomList");
        list["rooms"].as_array().unwrap().clone()
    }
}

fn has_form(value: &Value, is_valid: impl Fn(&str) -> bool) -> bool {
    value.as_str().is_some_and(is_valid)
}

/// `^[A-HJKMNP-Z2-9]{9}$`
fn is_code(value: &Value) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'Z' | b'2'..=b'9');
    has_form(value, |code| code.len() == 9 && code.bytes().all(is_allowed))
}

fn is_uuid(value: &Value) -> bool {
    let groups = |text: &str| text.split('-').map(str::len).collect::<Vec<_>>();
    has_form(value, |text| {
        groups(text) == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    })
}

fn is_address(value: &Value) -> bool {
    has_form(value, |text| text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0))
}

/// Whether a newer client can read this entry of a member.
fn is_peer(peer: &Value) -> bool {
    let is_candidate = |candidate: &Value| {
        let kind = &candidate["candidate_type"];
        is_address(&candidate["address"])
            && (kind == "Host" || kind == "ServerReflexive")
            && candidate["priority"].as_u64().is_some_and(|priority| u32::try_from(priority).is_ok())
    };
    is_uuid(&peer["id"])
        && peer["name"].is_string()
        && peer["candidates"].as_array().is_some_and(|candidates| candidates.iter().all(is_candidate))
        && [&peer["public_addr"], &peer["local_addr"]].iter().all(|address| address.is_null() || is_address(address))
        && peer["joined_at"].is_u64()
        && (peer["features"].is_null() || peer["features"] == json!(["peer_message"]))
        && (peer["link_key"].is_null() || has_form(&peer["link_key"], |key| key.len() == 44))
}

/// Reads a message like a newer client, with the forms that the client requires.
fn read_strictly(message: &Value) -> Result<(), &'static str> {
    let data = &message["data"];
    let all = |list: &Value, is_valid: &dyn Fn(&Value) -> bool| {
        list.as_array().is_some_and(|entries| entries.iter().all(is_valid))
    };
    let is_room = |room: &Value| {
        is_code(&room["invite_code"])
            && room["test_room"].is_boolean()
            && has_form(&room["id"], |id| id.len() == 8)
            && room["name"].is_string()
            && room["peer_count"].is_u64()
            && room["max_peers"] == 10
            && room["has_password"].is_boolean()
    };
    let is_valid = match message["type"].as_str().unwrap_or_default() {
        "RoomCreated" => is_uuid(&data["peer_id"]) && is_code(&data["invite_code"]),
        "RoomJoined" => is_uuid(&data["peer_id"]) && is_code(&data["invite_code"]) && all(&data["peers"], &is_peer),
        "RoomList" => all(&data["rooms"], &is_room),
        "PeerJoined" | "PeerUpdated" => is_peer(&data["peer"]),
        "PeerLeft" => is_uuid(&data["peer_id"]),
        "ChatMessage" => is_uuid(&data["sender_id"]) && data["sender_name"].is_string() && data["content"].is_string(),
        "PeerMessage" => is_uuid(&data["from"]) && data["from_name"].is_string() && data["body"].is_object(),
        "Error" => data["message"].is_string(),
        _ => return Err("unknown type"),
    };
    is_valid.then_some(()).ok_or("unreadable")
}

#[test]
fn server_is_silent_until_a_newer_client_speaks_and_answers_first() {
    let mut clients = Clients::connect(&["new", "new2", "old"]);
    let created = clients.create("old", "Jam");
    clients.0.no_message("new").unwrap();
    // `request` accepts only the answer as the next message, and `no_message` rejects any other.
    for _ in 0..2 {
        assert_eq!(clients.rooms("new").len(), 1);
        clients.0.no_message("new").unwrap();
        clients.join("new", &created["room_id"]);
        clients.0.no_message("new").unwrap();
        clients.send("new", "LeaveRoom", &Value::Null);
        clients.0.no_message("new").unwrap();
    }
    // A room that other clients use at the same time sends nothing before the answer.
    clients.join("new2", &created["invite_code"]);
    clients.send("old", "ChatMessage", &json!({"sender_id": "", "sender_name": "", "content": "x", "timestamp": 1}));
    clients.join("new", &created["room_id"]);
    clients.create("new", "Other");
    clients.0.no_message("new").unwrap();
    let error = clients.request("new", "JoinRoom", &json!({"room_id": "x", "peer_name": "n"}), "Error");
    assert_eq!(error["message"], "Room not found");
}

#[test]
fn codes_for_newer_clients_have_nine_characters_and_open_the_room() {
    let mut clients = Clients::connect(&["old", "new", "new2", "old2"]);
    let (old, new) = (clients.create("old", "Old"), clients.create("new", "New"));
    assert_eq!(old["invite_code"].as_str().map(str::len), Some(6));
    // `read_strictly` has checked the codes that newer clients receive.
    let (listed, listed_for_old) = (clients.rooms("new2"), clients.rooms("old2"));
    assert_eq!(listed[1]["invite_code"], new["invite_code"]);
    assert_eq!(listed_for_old[0]["invite_code"], old["invite_code"]);
    for (index, room) in [&old["room_id"], &new["room_id"]].into_iter().enumerate() {
        assert_eq!((&listed[index]["id"], &listed_for_old[index]["id"]), (room, room));
        let codes = [&listed[index]["invite_code"], &listed_for_old[index]["invite_code"], room];
        for code in codes {
            let joined = clients.join("new2", code);
            assert_eq!((&joined["room_id"], &joined["invite_code"]), (room, &listed[index]["invite_code"]));
            let joined = clients.join("old2", code);
            assert_eq!((&joined["room_id"], joined.get("invite_code")), (room, None));
            clients.send("new2", "LeaveRoom", &Value::Null);
            clients.send("old2", "LeaveRoom", &Value::Null);
            while clients.0.receive("new2").is_ok() {}
            while clients.0.receive("old2").is_ok() {}
        }
    }
}

#[test]
fn codes_stay_valid_until_the_room_ends() {
    let mut clients = Clients::connect(&["new", "new2", "old"]);
    let code = clients.create("new", "Jam")["invite_code"].clone();
    for _ in 0..3 {
        clients.join("new2", &code);
        clients.0.close("new").unwrap();
        clients.0.connect("new", NEWER).unwrap();
        assert_eq!(clients.join("new", &code)["peers"].as_array().map(Vec::len), Some(1));
        clients.send("new2", "LeaveRoom", &Value::Null);
        while clients.0.receive("new2").is_ok() {}
    }
    clients.send("new", "LeaveRoom", &Value::Null);
    for name in ["new2", "old"] {
        let error = clients.request(name, "JoinRoom", &json!({"room_id": code, "peer_name": "n"}), "Error");
        assert_eq!(error["message"], "Room not found");
    }
}

#[test]
fn link_key_and_features_are_passed_on_but_client_info_is_not() {
    let mut clients = Clients::connect(&["new", "new2", "new3", "old"]);
    let settings: Value = (0..100).map(|number| (format!("setting{number}"), json!("SECRET"))).collect();
    let client_info = json!({"app_version": "SECRET", "cpu_cores": 8, "settings": settings});
    let announced = |room: (&str, &Value)| {
        let (name, value) = room;
        json!({name: value, "peer_name": "Ann", "features": ["peer_message", "SECRET"], "link_key": LINK_KEY, "client_info": client_info})
    };
    let data = announced(("room_name", &json!("Jam")));
    let created = clients.request("new", "CreateRoom", &data, "RoomCreated");
    let data = announced(("room_id", &created["invite_code"]));
    let joined = clients.request("new2", "JoinRoom", &data, "RoomJoined");
    let peer_joined = clients.receive_type("new", "PeerJoined");
    clients.send("new2", "UpdatePeerInfo", &json!({"public_addr": "192.0.2.1:5000"}));
    let peer_updated = clients.receive_type("new", "PeerUpdated");
    for peer in [&joined["peers"][0], &peer_joined["peer"], &peer_updated["peer"]] {
        assert_eq!((&peer["link_key"], &peer["features"]), (&json!(LINK_KEY), &json!(["peer_message"])), "{peer}");
        assert!(peer["joined_at"].is_u64(), "{peer}");
    }
    let mut seen = vec![created, joined, peer_joined, peer_updated];
    seen.extend(clients.rooms("new3"));
    let old_joined = clients.join("old", &seen[0]["room_id"]);
    for field in ["link_key", "features", "joined_at"] {
        assert_eq!(old_joined["peers"][0].get(field), None, "older clients do not receive {field}");
    }
    seen.push(old_joined);
    // What is announced on the older path is passed on as well.
    let rejoined = clients.request("old", "JoinRoom", &announced(("room_id", &seen[0]["room_id"])), "RoomJoined");
    while let Ok(text) = clients.0.receive("new") {
        seen.push(serde_json::from_str(&text).unwrap());
    }
    assert_eq!(seen.last().unwrap()["data"]["peer"]["link_key"], LINK_KEY);
    seen.push(rejoined);
    assert!(!seen.iter().any(|message| message.to_string().contains("SECRET")), "{seen:?}");
}

#[test]
fn hostile_member_leaves_the_messages_of_others_readable() {
    let mut clients = Clients::connect(&["new", "new2", "old", "new hostile"]);
    let created = clients.create("new", "Jam");
    clients.join("new2", &created["invite_code"]);
    clients.join("old", &created["room_id"]);
    let join = |link_key: &Value, features: &Value| json!({"room_id": created["invite_code"], "peer_name": "Eve", "link_key": link_key, "features": features});
    // These messages are answered with an error, or ignored.
    let too_long = "A".repeat(1 << 20);
    for link_key in ["", "x", "AAAA", &LINK_KEY[..43], &format!("{LINK_KEY}="), &"A".repeat(44), &"A".repeat(100_000)] {
        let error = clients.request("new hostile", "JoinRoom", &join(&json!(link_key), &json!([])), "Error");
        assert_eq!(error["message"], "Invalid link key", "{link_key:.50}");
    }
    for data in [
        join(&json!(too_long), &json!([])),
        join(&json!(7), &json!([])),
        join(&Value::Null, &json!("peer_message")),
        join(&Value::Null, &json!([1])),
        json!({"room_id": created["invite_code"], "link_key": LINK_KEY}),
    ] {
        clients.send("new hostile", "JoinRoom", &data);
        clients.0.no_message("new hostile").unwrap();
    }
    let name = "\u{1b}[2J\"\\".repeat(1_000);
    let features: Vec<String> = (0..10_000).map(|number| format!("feature{number}")).collect();
    let data = json!({"room_id": created["invite_code"], "peer_name": name, "features": features, "client_info": [1]});
    let eve = clients.request("new hostile", "JoinRoom", &data, "RoomJoined")["peer_id"].clone();
    let candidate = |address: &str, kind: &str| json!({"candidates": [{"address": address, "candidate_type": kind, "priority": 1}]});
    for data in [
        candidate("example.org:5000", "Host"),
        candidate("192.0.2.1", "Host"),
        candidate("192.0.2.1:0", "Host"),
        candidate("192.0.2.1:99999", "Host"),
        candidate("192.0.2.1:5000", "Relay"),
        candidate("192.0.2.1:5000", "host"),
        json!({"public_addr": "example.org:5000"}),
        json!({"public_addr": "192.0.2.1:0"}),
        json!({"local_addr": "[::1]:0"}),
        json!({"public_addr": 5}),
        json!({"candidates": [{"address": "192.0.2.1:5000", "candidate_type": "Host", "priority": -1}]}),
        json!({"candidates": [{"address": "192.0.2.1:5000", "candidate_type": "Host", "priority": 4_294_967_296_u64}]}),
    ] {
        clients.send("new hostile", "UpdatePeerInfo", &data);
    }
    for body in [json!(null), json!(1), json!("x"), json!([{}])] {
        clients.send("new hostile", "PeerMessage", &json!({"body": body}));
    }
    clients.send("new hostile", "PeerMessage", &json!({"to": 5, "body": {}}));
    clients.send(
        "new hostile",
        "ChatMessage",
        &json!({"sender_id": 1, "sender_name": "", "content": "", "timestamp": 1}),
    );
    clients.send(
        "new hostile",
        "ChatMessage",
        &json!({"sender_id": "?", "sender_name": "?", "content": "?", "timestamp": 1}),
    );
    clients.send("new hostile", "LeaveRoom", &Value::Null);
    for name in ["new", "new2"] {
        // `receive` reads every message strictly.
        let joins = if name == "new" { vec!["PeerJoined", "PeerJoined"] } else { vec!["PeerJoined"] };
        for kind in joins {
            clients.receive_type(name, kind);
        }
        let joined = clients.receive_type(name, "PeerJoined")["peer"].take();
        assert_eq!((&joined["id"], joined["name"].as_str().unwrap().len()), (&eve, 256));
        assert_eq!((&joined["candidates"], joined.get("features")), (&json!([]), None));
        assert_eq!(clients.receive_type(name, "ChatMessage")["sender_id"], eve);
        assert_eq!(clients.receive_type(name, "PeerLeft")["peer_id"], eve);
        clients.0.no_message(name).unwrap();
        assert_eq!(clients.rooms(name).len(), 1);
    }
    let names = |peer: &Value| peer["peer_id"] == eve || peer["peer"]["id"] == eve || peer["sender_id"] == eve;
    let mut about_eve = 0;
    while let Ok(text) = clients.0.receive("old") {
        about_eve += usize::from(names(&serde_json::from_str::<Value>(&text).unwrap()["data"]));
    }
    assert_eq!(about_eve, 3, "joined, chat message, left");
}

#[test]
fn rooms_with_the_prefix_of_test_rooms_are_marked_for_newer_clients() {
    let mut clients = Clients::connect(&["old", "old2", "old3", "new"]);
    for (name, room) in [("old", "My Room"), ("old2", "[BOT] Echo Server (3000ms delay)"), ("old3", "[BOT]x")] {
        clients.create(name, room);
    }
    let marks: Vec<Value> = clients.rooms("new").iter().map(|room| room["test_room"].clone()).collect();
    assert_eq!(marks, [false, true, false]);
    let listed = clients.rooms("old");
    assert!(listed.iter().all(|room| room.get("test_room").is_none()), "{listed:?}");
}
