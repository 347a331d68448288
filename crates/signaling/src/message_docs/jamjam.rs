//! The messages of the jamjam dialect.

use serde_json::{Value, json};

use super::model::{ChannelDoc, CloseDoc, SHUTDOWN, Schemas, UNDECIDED_CLOSES, close, no_query};
use crate::close_code::CloseCode;
use crate::dialect::Dialect;
use crate::jamjam::{ClientMessage, ServerMessage};

const LINK_KEY: &str = "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=";
const ANN: &str = "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01";
const BOB: &str = "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02";

/// The closes that only this dialect has.
const CLOSES: [CloseDoc; 2] =
    [close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords", "20 wrong passwords on this connection"), SHUTDOWN];

/// The channel of jamjam clients.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    ChannelDoc {
        id: "jamjam",
        dialect: Dialect::Jamjam,
        title: "jamjam rooms",
        description: "Clients of the jamjam app create, list and join rooms, and exchange addresses and chat messages. `/ws` is equivalent \
                      to `/`: the first message selects the dialect. Newer clients connect to `/v1/signaling`, and only they receive the fields \
                      for newer clients. The server sends nothing before the first message, and ignores invalid messages.",
        address: "/",
        path_parameters: json!({}),
        query: no_query(),
        client_messages: schemas.messages::<ClientMessage>(&client_examples()),
        server_messages: schemas.messages::<ServerMessage>(&server_examples()),
        closes: CLOSES.into_iter().chain(UNDECIDED_CLOSES).collect(),
    }
}

fn candidate() -> Value {
    json!({"address": "192.168.1.5:5000", "candidate_type": "Host", "priority": 2_130_706_431})
}

fn chat() -> Value {
    json!({"sender_id": ANN, "sender_name": "Ann", "content": "From the second verse on", "timestamp": 1_795_158_236})
}

fn client_examples() -> Value {
    json!([
        {"type": "CreateRoom", "data": {
            "room_name": "Thursday jam", "password": null, "peer_name": "Ann", "link_key": LINK_KEY, "features": ["peer_message"],
        }},
        {"type": "JoinRoom", "data": {"room_id": "1a2b3c4d", "password": null, "peer_name": "Bob"}},
        {"type": "LeaveRoom"},
        {"type": "UpdatePeerInfo", "data": {
            "candidates": [candidate()], "public_addr": "203.0.113.9:5000", "local_addr": null,
        }},
        {"type": "ListRooms"},
        {"type": "ChatMessage", "data": chat()},
        {"type": "PeerMessage", "data": {"to": BOB, "body": {"tempo": 120}}},
    ])
}

fn server_examples() -> Value {
    let ann = json!({
        "id": ANN, "name": "Ann", "candidates": [candidate()], "public_addr": "203.0.113.9:5000", "local_addr": null,
        "joined_at": 1_795_158_200, "features": ["peer_message"], "link_key": LINK_KEY,
    });
    let room = json!({
        "id": "1a2b3c4d", "name": "Thursday jam", "peer_count": 1, "max_peers": 10, "has_password": false,
        "invite_code": "ABC234XYZ", "test_room": false,
    });
    json!([
        {"type": "RoomCreated", "data": {"room_id": "1a2b3c4d", "peer_id": ANN, "invite_code": "ABC234XYZ"}},
        {"type": "RoomJoined", "data": {
            "room_id": "1a2b3c4d", "peer_id": BOB, "invite_code": "ABC234XYZ", "peers": [ann],
        }},
        {"type": "PeerJoined", "data": {"peer": ann}},
        {"type": "PeerUpdated", "data": {"peer": ann}},
        {"type": "PeerLeft", "data": {"peer_id": BOB}},
        {"type": "RoomList", "data": {"rooms": [room]}},
        {"type": "ChatMessage", "data": chat()},
        {"type": "PeerMessage", "data": {"to": BOB, "from": ANN, "from_name": "Ann", "body": {"tempo": 120}}},
        {"type": "Error", "data": {"message": "Room not found"}},
    ])
}
