//! The JSON of entries.

use std::net::IpAddr;

use jamjam_signaling::ConnId;
use jamjam_signaling::broadcast::PostFormat;
use jamjam_signaling::cluster::{Command, Entrance, Entry, RoomRequest, SavedClose};
use jamjam_signaling::jamjam::ClientMessage;
use jamjam_signaling::token::Claims;
use serde_json::{Map, Value, json};

const CONN: u64 = (2 << 40) | 7;

fn enter(entrance: Entrance) -> Command {
    let source = IpAddr::from([192, 0, 2, 1]);
    Command::Enter { conn: ConnId::of_process(2, 7), source, entrance: Box::new(entrance) }
}

/// Each command and its JSON, as the first version wrote it.
fn commands() -> Vec<(Command, Value)> {
    let conn = ConnId(CONN);
    let source = IpAddr::from([192, 0, 2, 1]);
    let entered = |entrance: Value| json!({"enter": {"conn": CONN, "source": "192.0.2.1", "entrance": entrance}});
    let create = ClientMessage::CreateRoom {
        room_name: "Jam".to_owned(),
        password: Some("$argon2id$x".to_owned()),
        peer_name: "Ann".to_owned(),
        link_key: None,
        features: vec!["peer_message".to_owned()],
    };
    let create_json = json!({"type": "CreateRoom", "data": {
        "room_name": "Jam", "password": "$argon2id$x", "peer_name": "Ann", "features": ["peer_message"],
    }});
    let claims = Claims::new("c", "radio", Map::from_iter([("k".to_owned(), 0.1.into())]), 1_000, 60.0);
    let request = |name: &str, fields: Value| json!({"request": {name: fields}});
    let code = || "1234".to_owned();
    vec![
        (
            enter(Entrance::Jamjam { message: create, is_newer: true }),
            entered(json!({"jamjam": {"message": create_json, "is_newer": true}})),
        ),
        (
            enter(Entrance::ControlSurface { room_code: code() }),
            entered(json!({"control_surface": {"room_code": "1234"}})),
        ),
        (
            enter(Entrance::Broadcast {
                room: "radio".to_owned(),
                claims: Some(claims),
                query: vec![("a".to_owned(), "b".to_owned())],
                is_control_channel: false,
            }),
            entered(json!({"broadcast": {
                "room": "radio",
                "claims": {
                    "clientId": "c", "room": "radio", "expiresAt": 61_000, "metadata": {"k": 0.1}, "issuedAt": 1_000,
                },
                "query": [["a", "b"]],
                "is_control_channel": false,
            }})),
        ),
        (
            enter(Entrance::WebRtc { room_id: "r".to_owned(), user_id: "u".to_owned(), user_name: "n".to_owned() }),
            entered(json!({"web_rtc": {"room_id": "r", "user_id": "u", "user_name": "n"}})),
        ),
        (Command::Message { conn, text: "{}".to_owned() }, json!({"message": {"conn": CONN, "text": "{}"}})),
        (
            Command::Leave { conn, close: SavedClose::changed_room() },
            json!({"leave": {
                "conn": CONN, "close": {"code": null, "reason": "", "server_reason": "changed the room"},
            }}),
        ),
        (
            Command::Leave { conn, close: SavedClose::lost() },
            json!({"leave": {"conn": CONN, "close": {"code": 1006, "reason": "", "server_reason": null}}}),
        ),
        (Command::Depart { process: 3 }, json!({"depart": {"process": 3}})),
        (Command::Due, json!("due")),
        (
            Command::Request(RoomRequest::Post {
                room: "radio".to_owned(),
                source,
                format: PostFormat::Typed,
                body: "{}".to_owned(),
            }),
            request("post", json!({"room": "radio", "source": "192.0.2.1", "format": "typed", "body": "{}"})),
        ),
        (
            Command::Request(RoomRequest::Create { code: None, max_members: 2, lifetime_ms: 5 }),
            request("create", json!({"code": null, "max_members": 2, "lifetime_ms": 5})),
        ),
        (Command::Request(RoomRequest::Close { code: code() }), request("close", json!({"code": "1234"}))),
        (
            Command::Request(RoomRequest::SetParameter { code: code(), name: "gain".to_owned(), value: 0.5 }),
            request("set_parameter", json!({"code": "1234", "name": "gain", "value": 0.5})),
        ),
        (
            Command::Request(RoomRequest::ClearParameters { code: code() }),
            request("clear_parameters", json!({"code": "1234"})),
        ),
        (
            Command::Request(RoomRequest::Visualize { code: code(), data: vec![0.5, -1.0] }),
            request("visualize", json!({"code": "1234", "data": [0.5, -1.0]})),
        ),
        (
            Command::Request(RoomRequest::CloseByOperator { room: "jam".to_owned() }),
            request("close_by_operator", json!({"room": "jam"})),
        ),
    ]
}

/// Adds a member to each object that belongs to the format of entries, as a later version may.
fn add_members(value: &mut Value) {
    for (name, inner) in value.as_object_mut().into_iter().flatten() {
        // The metadata of a token belongs to its issuer.
        if name != "metadata" {
            add_members(inner);
        }
    }
    let is_variant = value.as_object().is_some_and(|fields| fields.len() == 1 && fields.values().all(Value::is_object));
    if let Some(fields) = value.as_object_mut().filter(|fields| !is_variant && !fields.contains_key("k")) {
        fields.insert("added_later".to_owned(), json!({"by": "a later version"}));
    }
}

#[test]
fn json_of_each_command_is_stable_and_unknown_members_are_ignored() {
    for (command, expected) in commands() {
        let entry =
            Entry { request: 5, process: 2, time_us: 1_795_000_000_000_001, seed: [u64::MAX, 2, 3, 4], command };
        let json = json!({
            "request": 5,
            "process": 2,
            "time_us": 1_795_000_000_000_001_u64,
            "seed": [u64::MAX, 2, 3, 4],
            "command": expected,
        });
        assert_eq!(serde_json::to_value(&entry).expect("JSON"), json);
        let text = serde_json::to_string(&entry).expect("JSON");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("an entry"), entry);
        let mut extended = json;
        add_members(&mut extended);
        assert!(extended.to_string().matches("added_later").count() >= 1);
        assert_eq!(serde_json::from_value::<Entry>(extended).expect("an entry"), entry);
    }
}

#[test]
fn process_and_number_of_a_connection_are_in_its_id() {
    assert_eq!((ConnId(CONN).process(), ConnId::of_process(2, 7)), (2, ConnId(CONN)));
    assert_eq!(ConnId(u64::MAX >> 24).process(), 0);
    assert_eq!(ConnId::of_process((1 << 24) - 1, 1).process(), (1 << 24) - 1);
}
