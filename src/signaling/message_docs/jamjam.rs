//! The messages of the jamjam dialect.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Map;

use super::model::{COMMON_CLOSES, ChannelDoc, SHUTDOWN, Schemas, UNDECIDED_CLOSES, close};
use crate::signaling::close_code::CloseCode;
use crate::signaling::dialect::Dialect;
use crate::signaling::jamjam::{
    Candidate, CandidateType, ChatMessage, ClientMessage, Peer, PeerMessage, RoomInfo, ServerMessage,
};
use crate::signaling::json::to_value;

const ROOM_ID: &str = "1a2b3c4d";
const INVITE_CODE: &str = "ABC234XYZ";
const LINK_KEY: &str = "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=";
const PEER_MESSAGE: &str = "peer_message";
const ANN: &str = "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01";
const BOB: &str = "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02";

/// The channel of jamjam clients.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    let closes = [
        close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords", "20 wrong passwords on this connection"),
        SHUTDOWN,
    ];
    ChannelDoc {
        id: "jamjam",
        dialect: Dialect::Jamjam,
        title: "jamjam rooms",
        description: "Clients of the jamjam app create, list and join rooms, and exchange addresses and chat messages. `/ws` is equivalent \
                      to `/`: the first message selects the dialect. Newer clients connect to `/v1/signaling`, and only they receive the fields \
                      for newer clients. The server sends nothing before the first message, and ignores invalid messages.",
        address: "/",
        path_parameters: Vec::new(),
        query_parameters: Vec::new(),
        client_messages: schemas.messages::<ClientMessage>(&client_examples().map(|example| to_value(&example))),
        server_messages: schemas.messages::<ServerMessage>(&server_examples().map(|example| to_value(&example))),
        closes: closes.into_iter().chain(UNDECIDED_CLOSES).chain(COMMON_CLOSES).collect(),
    }
}

fn address([a, b, c, d]: [u8; 4]) -> SocketAddr {
    (Ipv4Addr::new(a, b, c, d), 5_000).into()
}

fn candidate() -> Candidate {
    Candidate { address: address([192, 168, 1, 5]), kind: CandidateType::Host, priority: 2_130_706_431 }
}

fn ann() -> Peer {
    Peer {
        id: ANN.to_owned(),
        name: "Ann".to_owned(),
        candidates: vec![candidate()],
        public_addr: Some(address([203, 0, 113, 9])),
        local_addr: None,
        joined_at: Some(1_795_158_200),
        features: vec![PEER_MESSAGE.to_owned()],
        link_key: Some(LINK_KEY.to_owned()),
    }
}

fn peer_message(from: Option<&str>, from_name: Option<&str>) -> PeerMessage {
    let [from, from_name] = [from, from_name].map(|text| text.map(str::to_owned));
    let body = Map::from_iter([("tempo".to_owned(), 120.into())]);
    PeerMessage { to: Some(BOB.to_owned()), from, from_name, body }
}

fn chat() -> ChatMessage {
    ChatMessage {
        sender_id: ANN.to_owned(),
        sender_name: "Ann".to_owned(),
        content: "From the second verse on".to_owned(),
        timestamp: 1_795_158_236,
    }
}

fn client_examples() -> [ClientMessage; 7] {
    [
        ClientMessage::CreateRoom {
            room_name: "Thursday jam".to_owned(),
            password: None,
            peer_name: "Ann".to_owned(),
            link_key: Some(LINK_KEY.to_owned()),
            features: vec![PEER_MESSAGE.to_owned()],
        },
        ClientMessage::JoinRoom {
            room_id: ROOM_ID.to_owned(),
            password: None,
            peer_name: "Bob".to_owned(),
            link_key: None,
            features: Vec::new(),
        },
        ClientMessage::LeaveRoom,
        ClientMessage::UpdatePeerInfo {
            candidates: vec![candidate()],
            public_addr: Some(address([203, 0, 113, 9])),
            local_addr: None,
        },
        ClientMessage::ListRooms,
        ClientMessage::ChatMessage(chat()),
        ClientMessage::PeerMessage(peer_message(None, None)),
    ]
}

fn server_examples() -> [ServerMessage; 9] {
    let room = RoomInfo {
        id: ROOM_ID.to_owned(),
        name: "Thursday jam".to_owned(),
        peer_count: 1,
        max_peers: 10,
        has_password: false,
        invite_code: INVITE_CODE.to_owned(),
        test_room: Some(false),
    };
    [
        ServerMessage::RoomCreated {
            room_id: ROOM_ID.to_owned(),
            peer_id: ANN.to_owned(),
            invite_code: INVITE_CODE.to_owned(),
        },
        ServerMessage::RoomJoined {
            room_id: ROOM_ID.to_owned(),
            peer_id: BOB.to_owned(),
            invite_code: Some(INVITE_CODE.to_owned()),
            peers: vec![ann()],
        },
        ServerMessage::PeerJoined { peer: ann() },
        ServerMessage::PeerUpdated { peer: ann() },
        ServerMessage::PeerLeft { peer_id: BOB.to_owned() },
        ServerMessage::RoomList { rooms: vec![room] },
        ServerMessage::ChatMessage(chat()),
        ServerMessage::PeerMessage(peer_message(Some(ANN), Some("Ann"))),
        ServerMessage::Error { message: "Room not found".to_owned() },
    ]
}
