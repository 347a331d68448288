//! WebRTC signaling: who is in a room is known from the URL, and what they say goes to one other, who is named.
//!
//! Flat JSON objects. What is relayed is any JSON value, as it was written; who says it is known from the connection.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tracing::info;

use super::desk::{Desk, written};
use super::harmless::harmless;
use super::ignored::Ignored;
use super::limits::Limits;
use super::space::{RoomNumber, Space};
use super::{Conn, json};

/// Ids and names of users are not longer than this, in bytes, and ids of rooms not than that.
const LONGEST_NAME: usize = 256;
const LONGEST_ROOM: usize = 128;

const NORMAL: u16 = 1_000;
const POLICY: u16 = 1_008;
const TRY_AGAIN: u16 = 1_013;

/// This dialect's rooms.
pub(super) type Rooms = Space<(), Participant>;

/// What the URL asks for. What it does not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The room.
    pub room: String,
    /// Who wants to be in it.
    pub user: String,
    /// What they are called.
    pub name: String,
}

/// Somebody in a room, as everybody sees them.
#[derive(Serialize)]
pub(super) struct Participant {
    pub(super) id: String,
    pub(super) name: String,
    /// Milliseconds since 1970.
    #[serde(rename = "joinedAt")]
    joined_at: u64,
}

/// A room, as those outside see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    room_id: &'a str,
    participant_count: usize,
    participants: Vec<&'a Participant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    target_user_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    updates: Option<&'a RawValue>,
}

/// `null` is a value; only what is absent is none.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Told<'a> {
    Welcome { room_id: &'a str, user_id: &'a str, participants: Vec<&'a Participant> },
    ExistingParticipants { participants: Vec<&'a Participant> },
    ParticipantsList { participants: Vec<&'a Participant> },
    ParticipantJoined { user_id: &'a str, user_name: &'a str, participants: Vec<&'a Participant> },
    ParticipantLeft { user_id: &'a str, user_name: &'a str, participants: Vec<&'a Participant> },
    Pong,
}

/// Something one says to another, or to all others. Its type is the one that it was said with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relayed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdp: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<&'a RawValue>,
}

/// Somebody connected, who joins at once or is closed.
pub(super) fn on_connect(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, asked: Asked) {
    let Asked { room: room_id, user, name } = asked;
    let given = [&room_id, &user, &name];
    if given.iter().any(|text| text.is_empty()) {
        return desk.refuse(POLICY, "Missing required parameters");
    }
    if room_id.len() > LONGEST_ROOM || user.len() > LONGEST_NAME || name.len() > LONGEST_NAME {
        return desk.refuse(POLICY, "Parameter too long");
    }
    let found = rooms.find(&room_id);
    let former = found.and_then(|number| rooms.get(number)?.members.iter().find(|member| member.data.id == user));
    let former = former.map(|member| member.conn);
    let members = found.and_then(|number| rooms.get(number)).map_or(0, |room| room.members.len());
    if former.is_none() && members >= limits.webrtc_members {
        return desk.refuse(TRY_AGAIN, "Room is full");
    }
    if found.is_none() && rooms.made_by(desk.from()) >= limits.rooms_per_address {
        return desk.refuse(TRY_AGAIN, "Too many rooms");
    }
    if let Some(former) = former {
        // Nobody is told that they left: they are still there.
        rooms.leave(former, found);
        desk.close(former, NORMAL, "Duplicate connection");
    }
    let newcomer = Participant { id: user, name, joined_at: desk.unix_ms() };
    let (user_id, user_name) = (newcomer.id.clone(), newcomer.name.clone());
    let number = match found {
        Some(number) => {
            rooms.join(number, desk.conn(), newcomer);
            number
        }
        None => rooms.make(vec![room_id.clone()], desk.from(), (), desk.conn(), newcomer),
    };
    let (others, participants) = seen(rooms, number, desk.conn());
    let (user_id, user_name) = (user_id.as_str(), user_name.as_str());
    info!("Connection {} is {} in WebRTC room {}", desk.conn().0, harmless(user_id), harmless(&room_id));
    desk.tell(&others, &Told::ParticipantJoined { user_id, user_name, participants: participants.clone() });
    desk.answer(&Told::Welcome { room_id: &room_id, user_id, participants: participants.clone() });
    if !others.is_empty() {
        let participants = participants.into_iter().filter(|other| other.id != user_id).collect();
        desk.answer(&Told::ExistingParticipants { participants });
    }
}

/// Does what `text` asks.
pub(super) fn on_text(desk: &mut Desk<'_>, rooms: &mut Rooms, text: &str) -> Result<(), Ignored> {
    if json::is_too_deep(text) {
        return Err(Ignored::TooDeep(json::DEEPEST));
    }
    let said: Said<'_> = serde_json::from_str(text)?;
    let number = rooms.seat(desk.conn()).ok_or(Ignored::NoRoom)?;
    let room = rooms.get(number).ok_or(Ignored::NoRoom)?;
    let own = room.members.iter().find(|member| member.conn == desk.conn()).ok_or(Ignored::NoRoom)?;
    let own_id = own.data.id.as_str();
    let relayed = |from_user_id, user_id| Relayed {
        kind: &said.kind,
        from_user_id,
        user_id,
        sdp: None,
        candidate: None,
        updates: None,
    };
    let to_target = match &*said.kind {
        "offer" | "answer" => Relayed { sdp: said.sdp, ..relayed(Some(own_id), None) },
        "ice-candidate" => Relayed { candidate: said.candidate, ..relayed(Some(own_id), None) },
        "call-ended" => relayed(Some(own_id), None),
        "participant-update" => {
            let (others, _) = seen(rooms, number, desk.conn());
            desk.tell(&others, &Relayed { updates: said.updates, ..relayed(None, Some(own_id)) });
            return Ok(());
        }
        "request-participants" => {
            let (_, participants) = seen(rooms, number, desk.conn());
            desk.answer(&Told::ParticipantsList { participants });
            return Ok(());
        }
        "ping" => {
            desk.answer(&Told::Pong);
            return Ok(());
        }
        _ => return Err(Ignored::UnknownType),
    };
    let target: String = serde_json::from_str(said.target_user_id.ok_or(Ignored::NoTarget)?.get())?;
    let target = room.members.iter().find(|member| member.data.id == target).ok_or(Ignored::NoTarget)?;
    desk.tell(&[target.conn], &to_target);
    Ok(())
}

/// The connection leaves its room, if it is in one.
pub(super) fn on_gone(desk: &mut Desk<'_>, rooms: &mut Rooms) {
    let Some(number) = rooms.seat(desk.conn()) else { return };
    let room_id = rooms.get(number).map_or_else(String::new, |room| harmless(room.name()));
    let Some((left, others)) = rooms.leave(desk.conn(), None) else { return };
    let end = if others.is_empty() { ", which has ended" } else { "" };
    info!("Connection {}, {}, has left WebRTC room {room_id}{end}", desk.conn().0, harmless(&left.id));
    let (_, participants) = seen(rooms, number, desk.conn());
    desk.tell(&others, &Told::ParticipantLeft { user_id: &left.id, user_name: &left.name, participants });
}

/// The connections in a room other than `own`, and everybody who is in it.
fn seen(rooms: &Rooms, number: RoomNumber, own: Conn) -> (Vec<Conn>, Vec<&Participant>) {
    let Some(room) = rooms.get(number) else { return (Vec::new(), Vec::new()) };
    let others = room.members.iter().map(|member| member.conn).filter(|conn| *conn != own).collect();
    (others, room.members.iter().map(|member| &member.data).collect())
}

/// All rooms as those outside see them, in JSON. Written once for everybody who asks until something changes.
pub(super) fn listing(rooms: &mut Rooms) -> &str {
    rooms.listing(|rooms| {
        let shown = rooms.map(|room| Shown {
            room_id: room.name(),
            participant_count: room.members.len(),
            participants: room.members.iter().map(|member| &member.data).collect(),
        });
        written(&shown.collect::<Vec<_>>())
    })
}
