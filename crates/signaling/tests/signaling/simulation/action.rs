//! What clients do in a simulation.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

/// Number of connection slots.
pub(crate) const SLOTS: usize = 24;
/// Names of broadcast rooms and of WebRTC rooms. `1111` and `2222` are also codes of control surface rooms.
const ROOMS: [&str; 4] = ["radio", "lobby", "1111", "2222"];
/// The control surface rooms, which are open throughout.
pub(crate) const CODES: [&str; 3] = ["1111", "2222", "3333"];
const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientDialect {
    Undecided,
    Jamjam,
    Broadcast,
    Bbx,
    WebRtc,
}

impl ClientDialect {
    pub(crate) const ALL: [Self; 5] = [Self::Undecided, Self::Jamjam, Self::Broadcast, Self::Bbx, Self::WebRtc];

    /// The dialect's name in counters, which is also the prefix of its room names.
    pub(crate) fn name(self) -> &'static str {
        ["undecided", "jamjam", "broadcast", "bbx", "webrtc"][self as usize]
    }

    /// The messages of a client: those of its dialect, and some that its dialect ignores.
    pub(crate) fn messages(self) -> &'static [Message] {
        use Message::{
            Ack, Chat, CreateRoom, JoinCode, JoinRoom, Leave, LeaveRoom, ListRooms, Offer, Param, Participants, Relay,
            Sync, Update, UpdatePeerInfo,
        };
        match self {
            Self::Undecided => &[CreateRoom, JoinRoom, JoinRoom, JoinCode, JoinCode, JoinCode, Offer],
            Self::Jamjam => &[CreateRoom, JoinRoom, JoinRoom, LeaveRoom, ListRooms, UpdatePeerInfo, Chat, Chat, Sync],
            Self::Bbx => &[JoinCode, JoinCode, Param, Param, Param, Sync, Leave, Chat],
            Self::WebRtc => &[Offer, Offer, Update, Participants, Chat],
            Self::Broadcast => &[Relay, Relay, Ack],
        }
    }
}

/// Where a client connects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Undecided,
    Broadcast(&'static str),
    /// The room and the user.
    WebRtc(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Connect(Target),
    Disconnect,
    /// The first number selects one of the messages of the client, the second one its values.
    Say(usize, Detail),
}

pub(crate) fn action() -> impl Strategy<Value = (usize, Action)> {
    let action = prop_oneof![
        16 => Just(Action::Connect(Target::Undecided)),
        6 => select(&ROOMS[..]).prop_map(|room| Action::Connect(Target::Broadcast(room))),
        6 => (select(&ROOMS[..]), select(&USERS[..])).prop_map(|(room, user)| Action::Connect(Target::WebRtc(room, user))),
        2 => Just(Action::Disconnect),
        60 => (any::<usize>(), any::<u8>()).prop_map(|(kind, detail)| Action::Say(kind, Detail(detail))),
    ];
    (0..SLOTS, action)
}

/// Selects the values of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail(u8);

impl Detail {
    fn pick<T: Copy>(self, from: &[T]) -> T {
        from[usize::from(self.0) % from.len()]
    }

    pub(crate) fn code(self) -> &'static str {
        self.pick(&[CODES[0], CODES[0], CODES[0], CODES[1], CODES[2]])
    }

    pub(crate) fn user(self) -> &'static str {
        self.pick(&USERS)
    }

    pub(crate) fn param(self) -> &'static str {
        self.pick(&["p0", "p1", "p2"])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListRooms,
    UpdatePeerInfo,
    Chat,
    JoinCode,
    Param,
    Sync,
    Leave,
    Offer,
    Update,
    Participants,
    Relay,
    Ack,
}

impl Message {
    /// The text of the message. The marks `name` and `content` identify it in the messages of the hub. `room` is the id or code of a jamjam
    /// room.
    pub(crate) fn text(
        self,
        detail: Detail,
        now: u64,
        value: f32,
        [name, content]: &[String; 2],
        room: &str,
    ) -> String {
        let data = |kind: &str, data| json!({"type": kind, "data": data});
        let user = detail.user();
        match self {
            Self::CreateRoom => data("CreateRoom", json!({"room_name": content, "password": null, "peer_name": name})),
            Self::JoinRoom => data("JoinRoom", json!({"room_id": room, "password": null, "peer_name": name})),
            Self::LeaveRoom => json!({"type": "LeaveRoom"}),
            Self::ListRooms => json!({"type": "ListRooms"}),
            Self::UpdatePeerInfo => data("UpdatePeerInfo", json!({"public_addr": "192.0.2.9:1", "extra": content})),
            Self::Chat => {
                let chat = json!({"sender_id": name, "sender_name": name, "content": content, "timestamp": now});
                data("ChatMessage", chat)
            }
            Self::JoinCode => json!({"type": "join", "room_code": detail.code(), "client_name": name}),
            Self::Param => json!({"type": "param", "param": detail.param(), "value": value, "extra": content}),
            Self::Sync => json!({"type": "sync"}),
            Self::Leave => json!({"type": "leave"}),
            Self::Offer => {
                json!({"type": "offer", "targetUserId": user, "sdp": content, "fromUserId": name, "extra": name})
            }
            Self::Update => json!({"type": "participant-update", "updates": [content], "userId": name}),
            Self::Participants => json!({"type": "request-participants"}),
            Self::Relay => json!({"type": "message", "content": content}),
            Self::Ack => json!({"type": "keepalive", "content": content}),
        }
        .to_string()
    }
}
