//! The actions of a simulation. Clients and the embedding application act, messages are posted over HTTP, and time passes.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::simulation::model::ClientDialect;
use crate::simulation::received_messages::marks;

/// Number of connection slots.
pub(crate) const SLOTS: usize = 24;

/// Room names. The names are used for broadcast rooms and for WebRTC rooms. The names `1111` and `2222` are also codes of control surface
/// rooms.
pub(crate) const ROOMS: [&str; 5] = ["radio", "chat", "lobby", "1111", "2222"];
pub(crate) const CODES: [&str; 3] = ["1111", "2222", "3333"];

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Connects at path `/`.
    Connect,
    /// Connects to a broadcast room with this token. If the room is `None`, the URL contains an invalid room name. If the flag is set, the
    /// connection is a control channel.
    ConnectBroadcast(Option<usize>, bool, Token),
    /// Connects to a WebRTC room as the user with this number, 0 to 4. The first field is the index of the room in [`ROOMS`]. User 4
    /// connects with an empty name.
    ConnectWebRtc(usize, u8),
    Disconnect(bool),
    Binary,
    Activity,
    /// Sends a text message. [`TextKind::Own`] selects a message of the connection's dialect. [`TextKind::Any`] selects a message of any
    /// dialect.
    SendText(TextKind, u8, Mutation),
    RandomText(String),
    /// Posts into a broadcast room. The flag selects `PostFormat::Typed`, whose fields are required, instead of `PostFormat::Object`.
    Post(usize, bool, u8),
    CreateRoom(usize, u64),
    CloseRoom(usize),
    SetParam(Option<usize>, u8),
    DeclareRange(u8, bool),
    Visualize(Option<usize>),
    AdvanceTime(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token {
    Valid,
    None,
    OfAnotherRoom,
    OfAnotherSecret,
    Expired,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TextKind {
    Own(u8),
    Any(u8),
}

impl TextKind {
    /// The number of the message type that `self` selects for a client of this dialect.
    pub(crate) fn kind(self, dialect: ClientDialect) -> u8 {
        let (kind, own) = match self {
            Self::Own(kind) => (kind, dialect),
            Self::Any(kind) => return kind % KINDS,
        };
        let (first, last) = match own {
            // Messages that create or join a room, of either dialect.
            ClientDialect::Undecided => return [0, 1, 2, 9, 10, 9, 16][usize::from(kind) % 7],
            ClientDialect::Jamjam => (0, 8),
            ClientDialect::Bbx => (9, 17),
            ClientDialect::WebRtc => (18, 23),
            ClientDialect::Broadcast => (24, 30),
        };
        first + kind % (last - first + 1)
    }
}

/// A modification of a client's text message before the hub receives the message.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    None,
    /// One letter is replaced.
    Letter(usize, u8),
    Cut(usize),
    Twice,
}

pub(crate) fn action() -> impl Strategy<Value = (usize, Action)> {
    let token = prop_oneof![
        16 => Just(Token::Valid),
        1 => prop::sample::select(vec![Token::None, Token::OfAnotherRoom, Token::OfAnotherSecret, Token::Expired]),
    ];
    let mutation = prop_oneof![
        8 => Just(Mutation::None),
        2 => (any::<usize>(), 0x20_u8..0x7f).prop_map(|(slot, letter)| Mutation::Letter(slot, letter)),
        1 => any::<usize>().prop_map(Mutation::Cut),
        1 => Just(Mutation::Twice),
    ];
    let text_kind = prop_oneof![5 => any::<u8>().prop_map(TextKind::Own), 1 => any::<u8>().prop_map(TextKind::Any)];
    let room = prop::option::weighted(0.97, 0..ROOMS.len());
    let action = prop_oneof![
        16 => Just(Action::Connect),
        6 => (room, prop::bool::weighted(0.3), token).prop_map(|(room, control, token)| Action::ConnectBroadcast(room, control, token)),
        5 => (0..ROOMS.len(), 0_u8..5).prop_map(|(room, user)| Action::ConnectWebRtc(room, user)),
        1 => any::<bool>().prop_map(Action::Disconnect),
        1 => Just(Action::Binary),
        1 => Just(Action::Activity),
        60 => (text_kind, any::<u8>(), mutation).prop_map(|(text_kind, detail, mutation)| Action::SendText(text_kind, detail, mutation)),
        1 => ".{0,40}".prop_map(Action::RandomText),
        4 => (0..ROOMS.len(), any::<bool>(), 0_u8..6).prop_map(|(room, typed, kind)| Action::Post(room, typed, kind)),
        6 => (0..CODES.len(), 1_u64..200).prop_map(|(code, life)| Action::CreateRoom(code, life)),
        1 => (0..CODES.len()).prop_map(Action::CloseRoom),
        2 => (prop::option::of(0..CODES.len()), 0_u8..3).prop_map(|(code, name)| Action::SetParam(code, name)),
        1 => (0_u8..3, any::<bool>()).prop_map(|(name, is_set)| Action::DeclareRange(name, is_set)),
        1 => prop::option::of(0..CODES.len()).prop_map(Action::Visualize),
        2 => (1_u64..25).prop_map(Action::AdvanceTime),
    ];
    (0..SLOTS, action)
}

/// Number of kinds of text messages.
const KINDS: u8 = 33;

/// The text that a client sends: a message of one of the dialects, or an invalid message. Most texts contain marks (`m…x`). A mark is a
/// unique string that identifies the text in the messages of the hub. `room` is the id or code of a jamjam room.
pub(crate) fn text(kind: u8, detail: u8, serial: u64, now_us: u64, room: &str) -> String {
    let m = |number: u64| format!("m{}x", serial * 8 + number);
    let pick = |from: &[&str]| from[usize::from(detail) % from.len()].to_owned();
    let password = [None, None, Some("open")][usize::from(detail / 3) % 3];
    let (name, user) = (format!("p{}", detail % 3), format!("u{}", detail % 4));
    let at = [None, None, Some(now_us + 5_000_000), Some(now_us + 20_000_000), Some(now_us + 61_000_000), Some(1)];
    let at = at[usize::from(detail) % at.len()];
    let delivered: Value = match kind {
        0 => json!({"type": "CreateRoom", "data": {"room_name": m(0), "password": password, "peer_name": m(1)}}),
        1..=3 => {
            json!({"type": "JoinRoom", "data": {"room_id": room, "password": password, "peer_name": m(1), "extra": m(2)}})
        }
        4 if detail.is_multiple_of(2) => json!({"type": "LeaveRoom"}),
        4 => json!({"type": "ListRooms", "data": null}),
        5 => json!({"type": "UpdatePeerInfo", "data": {"public_addr": "192.0.2.9:1", "extra": m(0)}}),
        6..=8 => {
            json!({"type": "ChatMessage", "data": {"sender_id": m(0), "sender_name": m(1), "content": m(2), "timestamp": serial}})
        }
        9 | 10 => {
            json!({"type": "join", "room_code": pick(&["1111", "1111", "1111", "2222", "3333"]), "client_name": m(0)})
        }
        11..=13 => json!({"type": "param", "param": name, "value": serial, "at": at, "extra": m(0)}),
        14 => json!({"type": "trigger", "name": m(0), "at": at}),
        15 => json!({"type": "sync"}),
        16 => json!({"type": "ping", "client_time": serial, "extra": m(0)}),
        17 if detail.is_multiple_of(4) => json!({"type": "leave"}),
        17 | 18 => {
            json!({"type": "offer", "targetUserId": user, "sdp": m(0), "fromUserId": m(1), "candidate": m(2), "extra": m(3)})
        }
        19 => json!({"type": "answer", "targetUserId": user, "fromUserId": m(0)}),
        20 => json!({"type": "ice-candidate", "targetUserId": user, "candidate": {"a": [m(0), null]}, "sdp": m(1)}),
        21 => json!({"type": "call-ended", "targetUserId": user, "sdp": m(0)}),
        22 => json!({"type": "participant-update", "updates": [m(0)], "userId": m(1)}),
        23 => json!({"type": "request-participants"}),
        24 => {
            json!({"type": "message", "content": m(0), "metadata": {"k": m(1), "durationSeconds": "3"}, "from": m(2)})
        }
        25 => json!([m(0), {"type": "ack"}]),
        26 => json!({"type": pick(&["keepalive", "ACK"]), "content": m(0)}),
        27 => {
            json!({"type": pick(&["post", "Post"]), "data": {"content": {"id": m(0)}}, "delay": (if detail.is_multiple_of(2) { 5 } else { 20 }), "durationSeconds": 9})
        }
        28 => json!({"type": "setUsername", "username": pick(&[&format!(" {} ", m(0)), "", "  "])}),
        29 => {
            json!({"type": "chatMessage", "text": pick(&[&m(0), &m(0), "", "such SPAM", &"x".repeat(501)]), "extra": m(1)})
        }
        30 => json!({"type": "typing", "isTyping": true, "extra": m(0)}),
        _ => return hostile(detail, &m(0)),
    };
    delivered.to_string()
}

/// Invalid messages.
fn hostile(detail: u8, mark: &str) -> String {
    match detail % 12 {
        0 => String::new(),
        1 => "{".to_owned(),
        2 => "null".to_owned(),
        3 => format!("\"{mark}\""),
        4 => "[".repeat(100_000),
        5 => format!(
            "{{\"type\":\"offer\",\"targetUserId\":\"u0\",\"sdp\":{}\"{mark}\"{}}}",
            "[".repeat(200),
            "]".repeat(200)
        ),
        6 => format!("{{\"type\":[\"join\"],\"content\":\"{mark}\"}}"),
        7 => format!("{{\"type\":\"RoomCreated\",\"data\":{{\"room_id\":\"{mark}\"}}}}"),
        8 => "{\"type\":\"ping\",\"client_time\":\"now\"}".to_owned(),
        9 => "{\"type\":\"\\ud800\"}".to_owned(),
        10 => format!("{{\"type\":\"message\",\"content\":\"{mark}{}\"}}", "y".repeat(300 << 10)),
        _ => format!("{{\"type\":\"JOIN\",\"room_code\":\"1111\",\"x\":\"{mark}\u{0}\u{7f}\u{202e}\"}}"),
    }
}

/// Returns the text after the mutation. A mutation can produce a mark (`m…x`) that `text` does not contain. In this case, the function
/// returns `text` unchanged, because another text may contain the same mark.
pub(crate) fn mutated(text: String, mutation: &Mutation) -> String {
    let changed = match *mutation {
        Mutation::None => return text,
        Mutation::Letter(slot, letter) => {
            let mut letters: Vec<char> = text.chars().collect();
            let Some(slot) = slot.checked_rem(letters.len()) else { return text };
            // Numbers beyond the range of JSON readers are not tested here.
            if letters[slot].is_ascii_digit() && letter.eq_ignore_ascii_case(&b'e') {
                return text;
            }
            letters[slot] = letter.into();
            letters.into_iter().collect()
        }
        Mutation::Cut(slot) => text.chars().take(slot.checked_rem(text.len()).unwrap_or(0)).collect(),
        Mutation::Twice => format!("{text}{text}"),
    };
    let own = marks(&text);
    if marks(&changed).iter().all(|mark| own.contains(mark)) { changed } else { text }
}
