//! The WebRTC dialect: the URL selects the room and the user, with a token if the server requires one, and each message is relayed to the
//! named participant or to all others.
//!
//! Messages are flat JSON objects. Relayed values are copied as they were written, but the sender's id is that of the connection.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::close_code::CloseCode;
use super::connection_context::{ConnectionContext, MAX_JOIN_DEBT, MAX_LIST_DEBT};
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::json::{MessageError, message_type, to_json};
use super::limits::SignalingLimits;
use super::member_log::ConnectionClose;
use super::rooms::{MemberData, MemberInfo, Room, RoomDirectory, RoomMap};
use super::route::{Route, WebRtcParams};
use super::token::{TOKEN_MISSING, verify_webrtc};

/// Maximum length of user ids and user names, in bytes. Together with the number of members, it limits the lists of participants.
const MAX_USER_BYTES: usize = 256;
/// Maximum length of room ids, in bytes.
pub const MAX_WEBRTC_ROOM_BYTES: usize = 128;

type WebRtcRooms = RoomMap<(), Participant>;

/// The WebRTC dialect.
#[derive(Default)]
pub(super) struct WebRtcDialect {
    rooms: WebRtcRooms,
}

/// A participant of a WebRTC room, as all participants see it.
#[derive(Serialize, ToSchema)]
pub(super) struct Participant {
    /// The `userId` of the participant's URL.
    pub(super) id: String,
    /// The `userName` of the participant's URL.
    pub(super) name: String,
    /// When the participant joined, in milliseconds since the Unix epoch.
    #[serde(rename = "joinedAt")]
    pub(super) joined_at: u64,
}

/// A WebRTC room in `/health` and `/rooms`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebRtcRoomInfo<'a> {
    room_id: &'a str,
    participant_count: usize,
    /// Participants in the order in which they joined. Empty with `--webrtc-auth token`, unless the response is detailed.
    participants: Vec<&'a Participant>,
}

/// A message from a participant.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ClientMessage<'a> {
    /// Sends a session description offer to another participant.
    Offer(#[schema(inline)] SentDescription<'a>),
    /// Sends the answer to an offer.
    Answer(#[schema(inline)] SentDescription<'a>),
    /// Sends an ICE candidate to another participant.
    IceCandidate(#[schema(inline)] SentCandidate<'a>),
    /// Ends the call with another participant.
    CallEnded(#[schema(inline)] EndedCall<'a>),
    /// Sends a change of state, such as a muted microphone, to all other participants.
    ParticipantUpdate(#[schema(inline)] SentUpdate<'a>),
    /// Requests the list of participants.
    RequestParticipants,
    /// Requests a `pong`, for example to measure the round-trip time.
    Ping,
}

/// The fields of `offer` and `answer`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentDescription<'a> {
    /// The `id` of the receiver.
    #[serde(borrow)]
    pub(super) target_user_id: Cow<'a, str>,
    /// The session description: any JSON value, relayed unchanged.
    #[serde(borrow, default, deserialize_with = "deserialize_present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(super) sdp: Option<&'a RawValue>,
}

/// The fields of `ice-candidate`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentCandidate<'a> {
    /// The `id` of the receiver.
    #[serde(borrow)]
    pub(super) target_user_id: Cow<'a, str>,
    /// The candidate: any JSON value, relayed unchanged.
    #[serde(borrow, default, deserialize_with = "deserialize_present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(super) candidate: Option<&'a RawValue>,
}

/// The fields of `call-ended`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndedCall<'a> {
    /// The `id` of the receiver.
    #[serde(borrow)]
    pub(super) target_user_id: Cow<'a, str>,
}

/// The fields of `participant-update`.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SentUpdate<'a> {
    /// The changes: any JSON value, relayed unchanged.
    #[serde(borrow, default, deserialize_with = "deserialize_present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(super) updates: Option<&'a RawValue>,
}

impl<'a> ClientMessage<'a> {
    /// Parses a message. First the type is parsed, then the fields of a message of this type: serde cannot borrow raw values from an enum
    /// with a tag.
    pub(super) fn parse(text: &'a str) -> Result<Self, MessageError> {
        Ok(match &*message_type(text)? {
            "offer" => Self::Offer(serde_json::from_str(text)?),
            "answer" => Self::Answer(serde_json::from_str(text)?),
            "ice-candidate" => Self::IceCandidate(serde_json::from_str(text)?),
            "call-ended" => Self::CallEnded(serde_json::from_str(text)?),
            "participant-update" => Self::ParticipantUpdate(serde_json::from_str(text)?),
            "request-participants" => Self::RequestParticipants,
            "ping" => Self::Ping,
            _ => return Err(MessageError::UNKNOWN_TYPE),
        })
    }
}

/// Distinguishes `null`, which is a value, from an absent field.
fn deserialize_present<'de: 'a, 'a, D: Deserializer<'de>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// A message from the server.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ServerMessage<'a> {
    /// The connection has joined the room of its URL.
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// The room.
        room_id: &'a str,
        /// The user.
        user_id: &'a str,
        /// All participants, including the receiver, in the order of joining.
        participants: Vec<&'a Participant>,
    },
    /// The other participants, after `welcome`. Not sent if the receiver is alone.
    ExistingParticipants {
        /// The participants without the receiver, in the order of joining.
        participants: Vec<&'a Participant>,
    },
    /// The reply to `request-participants`.
    ParticipantsList {
        /// All participants, including the receiver, in the order of joining.
        participants: Vec<&'a Participant>,
    },
    /// Another participant joined.
    #[serde(rename_all = "camelCase")]
    ParticipantJoined {
        /// The `id` of the new participant.
        user_id: &'a str,
        /// The name of the new participant.
        user_name: &'a str,
        /// All participants, including the new one.
        participants: Vec<&'a Participant>,
    },
    /// A participant left or lost the connection.
    #[serde(rename_all = "camelCase")]
    ParticipantLeft {
        /// The `id` of the participant that left.
        user_id: &'a str,
        /// The name of the participant that left.
        user_name: &'a str,
        /// The remaining participants.
        participants: Vec<&'a Participant>,
    },
    /// The reply to `ping`.
    Pong,
    /// An offer from another participant.
    Offer(#[schema(inline)] RelayedDescription<'a>),
    /// An answer from another participant.
    Answer(#[schema(inline)] RelayedDescription<'a>),
    /// An ICE candidate from another participant.
    #[serde(rename_all = "camelCase")]
    IceCandidate {
        /// The `id` of the sender.
        from_user_id: &'a str,
        /// The candidate as the sender wrote it.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Value, required = false)]
        candidate: Option<&'a RawValue>,
    },
    /// Another participant ended the call.
    #[serde(rename_all = "camelCase")]
    CallEnded {
        /// The `id` of the sender.
        from_user_id: &'a str,
    },
    /// Another participant changed its state.
    #[serde(rename_all = "camelCase")]
    ParticipantUpdate {
        /// The `id` of the sender.
        user_id: &'a str,
        /// The changes as the sender wrote them.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Value, required = false)]
        updates: Option<&'a RawValue>,
    },
    /// A message was wrong (only with `--strict`). The connection stays open.
    Error {
        /// The reason.
        message: &'a str,
    },
}

/// The fields of a relayed `offer` or `answer`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RelayedDescription<'a> {
    /// The `id` of the sender.
    pub(super) from_user_id: &'a str,
    /// The session description as the sender wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(super) sdp: Option<&'a RawValue>,
}

impl MemberData for Participant {
    const DIALECT: Dialect = Dialect::WebRtc;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.id, name: Some(&self.name), is_control_channel: false }
    }
}

impl DialectHandler for WebRtcDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    /// The console then hides the messages of the clients. `/rooms` still lists the participants.
    fn is_protected(&self, limits: &SignalingLimits, _: &str) -> bool {
        limits.webrtc_requires_token
    }

    fn on_connect(&mut self, ctx: &mut ConnectionContext<'_>, route: Route) {
        if let Route::WebRtc(params) = route {
            join(ctx, &mut self.rooms, &params);
        }
    }

    /// Removes the connection from its room and informs the other members.
    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        let key = self.rooms.room_of(ctx.conn);
        let Some((left, others)) = self.rooms.leave(ctx.conn, None, &close.leave_reason()) else { return };
        let participants = key.and_then(|key| self.rooms.get(key)).map(participants).unwrap_or_default();
        let message = ServerMessage::ParticipantLeft { user_id: &left.id, user_name: &left.name, participants };
        ctx.send_requested(&others, to_json(&message));
    }

    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?.key;
        self.rooms.close(key).map(|room| ctx.close_members(&room))
    }
}

impl WebRtcDialect {
    /// Handles a message of `bytes` bytes.
    pub(super) fn on_message(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: ClientMessage<'_>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let rooms = &self.rooms;
        let (sender, room) = rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
        let from_user_id = sender.data.id.as_str();
        let (message_type, target, relayed) = match message {
            ClientMessage::Offer(SentDescription { target_user_id, sdp }) => {
                ("offer", target_user_id, ServerMessage::Offer(RelayedDescription { from_user_id, sdp }))
            }
            ClientMessage::Answer(SentDescription { target_user_id, sdp }) => {
                ("answer", target_user_id, ServerMessage::Answer(RelayedDescription { from_user_id, sdp }))
            }
            ClientMessage::IceCandidate(SentCandidate { target_user_id, candidate }) => {
                ("ice-candidate", target_user_id, ServerMessage::IceCandidate { from_user_id, candidate })
            }
            ClientMessage::CallEnded(EndedCall { target_user_id }) => {
                ("call-ended", target_user_id, ServerMessage::CallEnded { from_user_id })
            }
            ClientMessage::ParticipantUpdate(SentUpdate { updates }) => {
                let others = room.others(ctx.conn);
                ctx.send(&others, &ServerMessage::ParticipantUpdate { user_id: from_user_id, updates });
                rooms.log_message("participant-update", ctx.conn, others.len(), bytes);
                return Ok(());
            }
            ClientMessage::RequestParticipants => {
                ctx.check_requested_bytes(MAX_LIST_DEBT).inspect_err(|_| ctx.count_limited())?;
                let message = ServerMessage::ParticipantsList { participants: participants(room) };
                ctx.reply_requested(to_json(&message));
                return Ok(());
            }
            ClientMessage::Ping => {
                ctx.reply(&ServerMessage::Pong);
                return Ok(());
            }
        };
        let target = room
            .members
            .iter()
            .find(|member| member.data.id == target)
            .ok_or(MessageError::ignored("targetUserId is not in the room"))?;
        ctx.send(&[target.conn], &relayed);
        rooms.log_message(message_type, ctx.conn, 1, bytes);
        Ok(())
    }

    /// The rooms, each as a JSON [`WebRtcRoomInfo`], and whether rooms are missing because the list would be longer than `max_bytes`.
    pub(super) fn room_list(&self, max_bytes: usize, has_participants: bool) -> (Vec<Box<RawValue>>, bool) {
        // The brackets of the list. Each room is followed by a comma or a bracket.
        let (mut list, mut bytes) = (Vec::new(), 1);
        for room in self.rooms.iter() {
            let info = to_raw_value(&WebRtcRoomInfo {
                room_id: room.name(),
                participant_count: room.members.len(),
                participants: room.members.iter().filter(|_| has_participants).map(|member| &member.data).collect(),
            });
            let info = info.unwrap_or_else(|error| unreachable!("a room must be serializable as JSON: {error}"));
            bytes += info.get().len() + 1;
            if bytes > max_bytes {
                return (list, true);
            }
            list.push(info);
        }
        (list, false)
    }
}

/// Adds a new connection to its room, or closes the connection.
fn join(ctx: &mut ConnectionContext<'_>, rooms: &mut WebRtcRooms, params: &WebRtcParams) {
    let limits = ctx.limits;
    let WebRtcParams { room_id, user_id: user, user_name: name, .. } = params;
    let values = [
        (room_id, MAX_WEBRTC_ROOM_BYTES, "Missing required parameter roomId", "Parameter roomId too long"),
        (user, MAX_USER_BYTES, "Missing required parameter userId", "Parameter userId too long"),
        (name, MAX_USER_BYTES, "Missing required parameter userName", "Parameter userName too long"),
    ];
    if let Some((.., detail, _)) = values.iter().find(|(text, ..)| text.is_empty()) {
        return ctx.reject_with_detail(CloseCode::POLICY_VIOLATION, "Missing required parameters", Some(detail));
    }
    if let Some((.., detail)) = values.iter().find(|(text, max_bytes, ..)| text.len() > *max_bytes) {
        return ctx.reject_with_detail(CloseCode::POLICY_VIOLATION, "Parameter too long", Some(detail));
    }
    // The token is checked before the room is searched. A client without a valid token does not replace a member and learns nothing.
    if limits.webrtc_requires_token
        && let Err((code, reason, detail)) = check_token(limits, params, ctx.now.unix_ms())
    {
        ctx.counters.closed_invalid_token += 1;
        return ctx.reject_with_detail(code, reason, detail);
    }
    let room = rooms.find(room_id);
    let previous = room.and_then(|room| room.members.iter().find(|member| member.data.id == *user));
    let previous = previous.map(|member| member.conn);
    let members = room.map_or(0, |room| room.members.len());
    let found = room.map(|room| room.key);
    if previous.is_none() && members >= limits.max_webrtc_members {
        return ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Room is full");
    }
    if found.is_none() && rooms.rooms_created_by(ctx.source) >= limits.max_rooms_per_address {
        return ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many rooms");
    }
    if ctx.check_requested_bytes(MAX_JOIN_DEBT).is_err() {
        return ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many requests");
    }
    if let Some(previous) = previous {
        // The other members receive no message: the user is still in the room.
        rooms.leave(previous, found, "replaced by a new connection of this user");
        ctx.close(previous, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
    }
    let participant = Participant { id: user.clone(), name: name.clone(), joined_at: ctx.now.unix_ms() };
    let key =
        found.unwrap_or_else(|| rooms.create(vec![room_id.clone()], None, Some(ctx.source), participant.joined_at, ()));
    rooms.join(key, ctx.conn, participant, false);
    let Some(room) = rooms.get(key) else { return };
    let (others, participants) = (room.others(ctx.conn), participants(room));
    let joined =
        ServerMessage::ParticipantJoined { user_id: user, user_name: name, participants: participants.clone() };
    ctx.send_requested(&others, to_json(&joined));
    let welcome = ServerMessage::Welcome { room_id, user_id: user, participants: participants.clone() };
    ctx.reply_requested(to_json(&welcome));
    if !others.is_empty() {
        let participants = participants.into_iter().filter(|other| other.id != *user).collect();
        ctx.reply_requested(to_json(&ServerMessage::ExistingParticipants { participants }));
    }
}

/// Close code, close reason, and a detail for the log.
type TokenRejection = (CloseCode, &'static str, Option<&'static str>);

fn check_token(limits: &SignalingLimits, params: &WebRtcParams, unix_ms: u64) -> Result<(), TokenRejection> {
    let WebRtcParams { room_id, user_id, token, .. } = params;
    let token =
        token.as_ref().ok_or((CloseCode::AUTHENTICATION_REQUIRED, "Authentication required", Some(TOKEN_MISSING)))?;
    verify_webrtc(limits.broadcast.secret.as_ref(), token.as_str(), room_id, user_id, unix_ms)
        .map_err(|detail| (CloseCode::INVALID_TOKEN, "Invalid or expired token", Some(detail)))
}

/// All participants of a room in the order of joining.
fn participants(room: &Room<(), Participant>) -> Vec<&Participant> {
    room.members.iter().map(|member| &member.data).collect()
}
