//! The WebRTC dialect. The URL selects the room and the user. Each message is relayed to the named participant, or to all other
//! participants.
//!
//! Messages are flat JSON objects. Relayed values are copied as they were written; the sender's id is taken from the connection.

use std::borrow::Cow;

use form_urlencoded::parse;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::close_code::CloseCode;
use super::dialect::Dialect;
use super::dialect_handler::{ConnectionContext, DialectHandler};
use super::event_sink::ConnId;
use super::json::{self, MessageError, to_json, to_string_limited};
use super::limits::SignalingLimits;
use super::member_log::{ConnectionClose, LoggedMember, ROOM_CLOSED_BY_OPERATOR, RoomLabel, log_message};
use super::rooms::{Member, MemberData, MemberInfo, Room, RoomDirectory, RoomKey, RoomMap};
use super::route::Route;

/// Maximum length of user ids and user names, in bytes.
const MAX_USER_BYTES: usize = 256;
/// Maximum length of room ids, in bytes.
const MAX_ROOM_ID_BYTES: usize = 128;

type WebRtcRooms = RoomMap<(), Participant>;

/// The WebRTC dialect.
#[derive(Default)]
pub(super) struct WebRtcDialect {
    rooms: WebRtcRooms,
}

/// Parameters of a connection; absent parameters are empty.
#[derive(Debug, Default, PartialEq, Eq)]
struct WebRtcParams {
    /// `roomId`.
    room_id: String,
    /// `userId`.
    user_id: String,
    /// `userName`.
    user_name: String,
}

impl WebRtcParams {
    /// The parameters of a query. If a parameter is repeated, its last value counts.
    fn parse(query: &str) -> Self {
        let mut params = Self::default();
        for (name, value) in parse(query.as_bytes()) {
            match &*name {
                "roomId" => params.room_id = value.into_owned(),
                "userId" => params.user_id = value.into_owned(),
                "userName" => params.user_name = value.into_owned(),
                _ => {}
            }
        }
        params
    }
}

/// A participant as all participants see it.
#[derive(Serialize)]
struct Participant {
    id: String,
    name: String,
    /// Milliseconds since the Unix epoch.
    #[serde(rename = "joinedAt")]
    joined_at: u64,
}

/// A room in `/health` and `/rooms`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomInfo<'a> {
    room_id: &'a str,
    participant_count: usize,
    participants: Vec<&'a Participant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientMessage<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    target_user_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    updates: Option<&'a RawValue>,
}

/// Distinguishes `null`, which is a value, from an absent field.
fn deserialize_present<'de: 'a, 'a, D: Deserializer<'de>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum ServerMessage<'a> {
    Welcome { room_id: &'a str, user_id: &'a str, participants: Vec<&'a Participant> },
    ExistingParticipants { participants: Vec<&'a Participant> },
    ParticipantsList { participants: Vec<&'a Participant> },
    ParticipantJoined { user_id: &'a str, user_name: &'a str, participants: Vec<&'a Participant> },
    ParticipantLeft { user_id: &'a str, user_name: &'a str, participants: Vec<&'a Participant> },
    Pong,
}

/// A message relayed to one participant or to all others. The `type` equals the `type` of the received message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RelayedMessage<'a> {
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

impl MemberData for Participant {
    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: Some(&self.id), name: Some(&self.name), is_control_channel: false }
    }
}

impl DialectHandler for WebRtcDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn on_connect(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        route: Route,
    ) -> Option<RoomKey> {
        if let Route::Selected(_, query) = route {
            join(ctx, &mut self.rooms, limits, WebRtcParams::parse(&query));
        }
        None
    }

    fn on_text(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        _: &SignalingLimits,
        text: &str,
    ) -> Result<(), MessageError> {
        on_text(ctx, &self.rooms, text)
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, _: &SignalingLimits, close: &ConnectionClose<'_>) {
        leave(ctx, &mut self.rooms, close);
    }

    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?;
        let Room { members, .. } = self.rooms.close(key)?;
        for Member { conn, data: participant, .. } in &members {
            ctx.log_leave(logged_member(*conn, room, &participant.id), ROOM_CLOSED_BY_OPERATOR, 0);
            ctx.close(*conn, CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR);
        }
        Some(members.len())
    }
}

impl WebRtcDialect {
    /// The rooms with their participants as a JSON array of at most `max_bytes`, and whether rooms are missing.
    pub(super) fn rooms_json(&self, max_bytes: usize) -> (String, bool) {
        let (mut json, mut is_truncated) = ("[".to_owned(), false);
        for room in self.rooms.iter() {
            let info = RoomInfo {
                room_id: room.name(),
                participant_count: room.members.len(),
                participants: room.members.iter().map(|member| &member.data).collect(),
            };
            // The comma and the closing bracket.
            let Some(info) = to_string_limited(&info, max_bytes.saturating_sub(json.len() + 2)) else {
                is_truncated = true;
                break;
            };
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str(&info);
        }
        json.push(']');
        (json, is_truncated)
    }
}

/// Adds a new connection to its room, or closes the connection.
fn join(ctx: &mut ConnectionContext<'_>, rooms: &mut WebRtcRooms, limits: &SignalingLimits, params: WebRtcParams) {
    let WebRtcParams { room_id, user_id: user, user_name: name } = params;
    let values = [&room_id, &user, &name];
    if values.iter().any(|text| text.is_empty()) {
        return ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Missing required parameters");
    }
    if room_id.len() > MAX_ROOM_ID_BYTES || user.len() > MAX_USER_BYTES || name.len() > MAX_USER_BYTES {
        return ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Parameter too long");
    }
    let found = rooms.find(&room_id);
    let previous = found.and_then(|key| rooms.get(key)?.members.iter().find(|member| member.data.id == user));
    let previous = previous.map(|member| member.conn);
    let members = found.and_then(|key| rooms.get(key)).map_or(0, |room| room.members.len());
    if previous.is_none() && members >= limits.max_webrtc_members {
        return ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Room is full");
    }
    if found.is_none() && rooms.rooms_created_by(ctx.source) >= limits.max_rooms_per_address {
        return ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many rooms");
    }
    if let Some(previous) = previous {
        // The other members receive no message: the user is still in the room.
        if let Some((left, others)) = rooms.leave(previous, found) {
            let member = logged_member(previous, &room_id, &left.id);
            ctx.log_leave(member, "replaced by a new connection of this user", others.len());
        }
        ctx.close(previous, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
    }
    let participant = Participant { id: user, name, joined_at: ctx.unix_ms() };
    let (user_id, user_name) = (participant.id.clone(), participant.name.clone());
    let key = match found {
        Some(key) => {
            rooms.join(key, ctx.conn, participant);
            key
        }
        None => rooms.create(vec![room_id.clone()], ctx.source, ctx.unix_ms(), (), ctx.conn, participant),
    };
    let (others, participants) = others_and_participants(rooms, key, ctx.conn);
    let (user_id, user_name) = (user_id.as_str(), user_name.as_str());
    ctx.log_join(logged_member(ctx.conn, &room_id, user_id), participants.len());
    ctx.send(&others, &ServerMessage::ParticipantJoined { user_id, user_name, participants: participants.clone() });
    ctx.reply(&ServerMessage::Welcome { room_id: &room_id, user_id, participants: participants.clone() });
    if !others.is_empty() {
        let participants = participants.into_iter().filter(|other| other.id != user_id).collect();
        ctx.reply(&ServerMessage::ExistingParticipants { participants });
    }
}

/// Handles a message.
fn on_text(ctx: &mut ConnectionContext<'_>, rooms: &WebRtcRooms, text: &str) -> Result<(), MessageError> {
    if json::is_too_deep(text) {
        return Err(MessageError::TooDeep(json::MAX_DEPTH));
    }
    let message: ClientMessage<'_> = serde_json::from_str(text)?;
    let key = rooms.room_of(ctx.conn).ok_or(MessageError::NotInRoom)?;
    let room = rooms.get(key).ok_or(MessageError::NotInRoom)?;
    let sender = room.members.iter().find(|member| member.conn == ctx.conn).ok_or(MessageError::NotInRoom)?;
    let sender_id = sender.data.id.as_str();
    let member = logged_member(ctx.conn, room.name(), sender_id);
    let relayed = |from_user_id, user_id| RelayedMessage {
        kind: &message.kind,
        from_user_id,
        user_id,
        sdp: None,
        candidate: None,
        updates: None,
    };
    let to_target = match &*message.kind {
        "offer" | "answer" => RelayedMessage { sdp: message.sdp, ..relayed(Some(sender_id), None) },
        "ice-candidate" => RelayedMessage { candidate: message.candidate, ..relayed(Some(sender_id), None) },
        "call-ended" => relayed(Some(sender_id), None),
        "participant-update" => {
            let (others, _) = others_and_participants(rooms, key, ctx.conn);
            ctx.send(&others, &RelayedMessage { updates: message.updates, ..relayed(None, Some(sender_id)) });
            log_message(&message.kind, member, others.len(), text.len());
            return Ok(());
        }
        "request-participants" => {
            ctx.check_requested_bytes().inspect_err(|_| ctx.count_rejection())?;
            let (_, participants) = others_and_participants(rooms, key, ctx.conn);
            ctx.reply_requested(to_json(&ServerMessage::ParticipantsList { participants }));
            return Ok(());
        }
        "ping" => {
            ctx.reply(&ServerMessage::Pong);
            return Ok(());
        }
        _ => return Err(MessageError::UnknownType),
    };
    let target: String = serde_json::from_str(message.target_user_id.ok_or(MessageError::TargetNotFound)?.get())?;
    let target = room.members.iter().find(|member| member.data.id == target).ok_or(MessageError::TargetNotFound)?;
    ctx.send(&[target.conn], &to_target);
    log_message(&message.kind, member, 1, text.len());
    Ok(())
}

fn logged_member<'a>(conn: ConnId, room: &'a str, user: &'a str) -> LoggedMember<'a> {
    LoggedMember { dialect: Dialect::WebRtc, room: RoomLabel::Name(room), user, conn }
}

/// Removes the connection from its room and informs the other members.
fn leave(ctx: &mut ConnectionContext<'_>, rooms: &mut WebRtcRooms, close: &ConnectionClose<'_>) {
    let Some(key) = rooms.room_of(ctx.conn) else { return };
    let room_id = rooms.get(key).map_or_else(String::new, |room| room.name().to_owned());
    let Some((left, others)) = rooms.leave(ctx.conn, None) else { return };
    ctx.log_leave(logged_member(ctx.conn, &room_id, &left.id), &close.leave_reason(), others.len());
    let (_, participants) = others_and_participants(rooms, key, ctx.conn);
    ctx.send(&others, &ServerMessage::ParticipantLeft { user_id: &left.id, user_name: &left.name, participants });
}

/// Returns two lists. The first list contains all connections in the room except `sender`. The second list contains all current
/// participants of the room.
fn others_and_participants(rooms: &WebRtcRooms, key: RoomKey, sender: ConnId) -> (Vec<ConnId>, Vec<&Participant>) {
    let Some(room) = rooms.get(key) else { return (Vec::new(), Vec::new()) };
    let others = room.members.iter().map(|member| member.conn).filter(|conn| *conn != sender).collect();
    (others, room.members.iter().map(|member| &member.data).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_last_of_a_name_counts() {
        for (query, decoded) in [
            ("roomId=r&userId=u&userName=n", ["r", "u", "n"]),
            ("userName=Ann+B&userId=%C3%A4&roomId=a%2Fb%26c", ["a/b&c", "ä", "Ann B"]),
            ("roomId=", ["", "", ""]),
            ("userId=u&room=x&token=t", ["", "u", ""]),
            ("roomId=a&roomId=b", ["b", "", ""]),
            ("%72oomId=r", ["r", "", ""]),
            ("roomId=%ff%00", ["\u{fffd}\0", "", ""]),
        ] {
            let [room_id, user_id, user_name] = decoded.map(str::to_owned);
            assert_eq!(WebRtcParams::parse(query), WebRtcParams { room_id, user_id, user_name }, "{query}");
        }
    }
}
