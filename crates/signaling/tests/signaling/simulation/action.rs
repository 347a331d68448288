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
const PARAMETERS: [&str; 3] = ["p0", "p1", "p2"];

/// The dialects' names in counters, which are also the prefixes of their room names.
pub(crate) const DIALECTS: [&str; 5] = ["undecided", "jamjam", "broadcast", "bbx", "webrtc"];

/// The messages of a client: those of its dialect, and some that its dialect ignores.
pub(crate) fn messages(dialect: &str) -> Vec<&'static str> {
    let messages = match dialect {
        "jamjam" => "CreateRoom JoinRoom JoinRoom LeaveRoom ListRooms UpdatePeerInfo Chat Chat sync",
        "bbx" => "join join param param param sync leave Chat",
        "webrtc" => "offer offer update participants Chat",
        "broadcast" => "relay relay keepalive",
        _ => "CreateRoom JoinRoom JoinRoom join join join offer",
    };
    messages.split(' ').collect()
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
    /// The number selects one of the messages of the client.
    Say(usize, Values),
}

/// Values that some messages contain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    pub(crate) code: &'static str,
    pub(crate) user: &'static str,
    pub(crate) param: &'static str,
}

pub(crate) fn action() -> impl Strategy<Value = (usize, Action)> {
    let code = prop_oneof![3 => Just(CODES[0]), 2 => select(&CODES[1..])];
    let values = (code, select(&USERS[..]), select(&PARAMETERS[..]));
    let values = values.prop_map(|(code, user, param)| Values { code, user, param });
    let action = prop_oneof![
        16 => Just(Action::Connect(Target::Undecided)),
        6 => select(&ROOMS[..]).prop_map(|room| Action::Connect(Target::Broadcast(room))),
        6 => (select(&ROOMS[..]), select(&USERS[..])).prop_map(|(room, user)| Action::Connect(Target::WebRtc(room, user))),
        2 => Just(Action::Disconnect),
        60 => (any::<usize>(), values).prop_map(|(number, values)| Action::Say(number, values)),
    ];
    (0..SLOTS, action)
}

/// The text of a message. The marks `name` and `content` identify it in the messages of the hub. `room` is the id or code of a jamjam room.
pub(crate) fn text(message: &str, values: Values, now: u64, value: f32, marks: &[String; 2], room: &str) -> String {
    let Values { code, user, param } = values;
    let [name, content] = marks;
    let data = |data| json!({"type": message, "data": data});
    match message {
        "CreateRoom" => data(json!({"room_name": content, "password": null, "peer_name": name})),
        "JoinRoom" => data(json!({"room_id": room, "password": null, "peer_name": name})),
        "UpdatePeerInfo" => data(json!({"public_addr": "192.0.2.9:1", "extra": content})),
        "Chat" => {
            let data = json!({"sender_id": name, "sender_name": name, "content": content, "timestamp": now});
            json!({"type": "ChatMessage", "data": data})
        }
        "join" => json!({"type": "join", "room_code": code, "client_name": name}),
        "param" => json!({"type": "param", "param": param, "value": value, "extra": content}),
        "offer" => json!({"type": "offer", "targetUserId": user, "sdp": content, "fromUserId": name, "extra": name}),
        "update" => json!({"type": "participant-update", "updates": [content], "userId": name}),
        "participants" => json!({"type": "request-participants"}),
        "relay" => json!({"type": "message", "content": content}),
        "keepalive" => json!({"type": message, "content": content}),
        _ => json!({"type": message}),
    }
    .to_string()
}
