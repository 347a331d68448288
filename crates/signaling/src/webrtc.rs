//! The WebRTC dialect: the URL selects the room and the user, with a token if the server requires one, and each message is relayed to the
//! named participant or to all others.
//!
//! Messages are flat JSON objects. Relayed values are copied as they were written, but the sender's id is that of the connection.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::call::{Call, MAX_JOIN_DEBT, MAX_LIST_DEBT};
use super::close_code::CloseCode;
use super::dialect::{Dialect, DialectFacts, ProbeMethod};
use super::hub::Hub;
use super::json::{MessageError, TOO_MANY_REQUESTS, message_type, to_json};
use super::limits::SignalingLimits;
use super::message_docs::{ROOM_CLOSES, closes};
use super::room::{ConnectionClose, Member, MemberData, MemberInfo, Room, Roster};
use super::rooms::{Directory, Rooms};
use super::route::WebRtcParams;
use super::token::{TOKEN_MISSING, verify_webrtc};

/// Maximum length of user ids and user names, in bytes. Together with the number of members, it limits the lists of participants.
const MAX_USER_BYTES: usize = 256;
/// Maximum length of room ids, in bytes.
pub const MAX_WEBRTC_ROOM_BYTES: usize = 128;

/// For this long after a participant has left, messages to it may arrive, in milliseconds.
const LATE_MS: u64 = 10_000;

/// Number of participants of a room that are remembered after they have left.
const MAX_LEFT: usize = 100;

/// What is known about the dialect.
pub(super) static FACTS: DialectFacts = DialectFacts {
    name: "webrtc",
    description: "WebRTC signaling",
    is_selected_by: None,
    error: |message| to_json(&ServerMessage::Error { message }),
    channels: |schemas, limits| {
        let mut channel = schemas.channel::<ClientMessage<'_>, ServerMessage<'_>>(Dialect::WebRtc, "WebRTC signaling");
        channel.query = schemas.of::<WebRtcParams>();
        channel.server_messages.retain(|message| limits.is_strict || message.name != "error");
        vec![channel]
    },
    closes: &[
        closes! {
            /// A parameter of the URL is missing or empty. With `--strict`, the reason names it.
            POLICY_VIOLATION "Missing required parameters";
            /// A parameter is longer than its maximum.
            POLICY_VIOLATION "Parameter too long";
            /// Neither the URL nor the header `Authorization` contains a token (with `--webrtc-auth token`).
            AUTHENTICATION_REQUIRED "Authentication required";
            /// The token is not valid for this room, user and time, or has another audience.
            INVALID_TOKEN "Invalid or expired token";
            /// The same `userId` joined the room again.
            NORMAL_CLOSURE "Duplicate connection";
        },
        ROOM_CLOSES,
    ],
    shutdown_close: (CloseCode::GOING_AWAY, ""),
    probe_types: ["ping", "pong"],
    probe_method: ProbeMethod::Order,
    join_messages: [""; 2],
    load_message: r#"{"type":"participant-update","updates":"TEXT NUMBER"}"#,
    names_senders: true,
    returns_messages: false,
    room_limit: "members of a room: WEBRTC_MAX_MEMBERS",
};

/// The WebRTC dialect.
#[derive(Default)]
pub(super) struct WebRtcDialect {
    pub(super) rooms: Rooms<WebRtcRoom>,
}

/// A WebRTC room.
pub(super) struct WebRtcRoom {
    roster: Roster<Participant>,
    /// The ids of those who left last, the earliest first, and when, in milliseconds since the Unix epoch.
    left: VecDeque<(String, u64)>,
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
    #[schema(example = json!({"type": "offer", "targetUserId": "bob", "sdp": {"type": "offer", "sdp": "v=0\r\n"}}))]
    Offer(#[schema(inline)] SentDescription<'a>),
    /// Sends the answer to an offer.
    #[schema(example = json!({"type": "answer", "targetUserId": "bob", "sdp": {"type": "answer", "sdp": "v=0\r\n"}}))]
    Answer(#[schema(inline)] SentDescription<'a>),
    /// Sends an ICE candidate to another participant.
    #[schema(example = json!({"type": "ice-candidate", "targetUserId": "bob", "candidate": {
        "candidate": "candidate:1 1 udp 2130706431 192.168.1.5 5000 typ host", "sdpMid": "0", "sdpMLineIndex": 0
    }}))]
    IceCandidate(#[schema(inline)] SentCandidate<'a>),
    /// Ends the call with another participant.
    #[schema(example = json!({"type": "call-ended", "targetUserId": "bob"}))]
    CallEnded(#[schema(inline)] EndedCall<'a>),
    /// Sends a change of state, such as a muted microphone, to all other participants.
    #[schema(example = json!({"type": "participant-update", "updates": {"muted": true}}))]
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
    #[schema(value_type = Value, required = true)]
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

/// Messages with which participants of a room exchange offers, answers and ICE candidates. The URL selects the room and the user. `/ws` is
/// equivalent to `/`. The server ignores invalid messages, and messages to participants that are not in the room, or with `--strict` answers
/// them with an error.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ServerMessage<'a> {
    /// The connection has joined the room of its URL.
    #[schema(example = json!({
        "type": "welcome", "roomId": "standup", "userId": "bob", "participants": some_participants(2)
    }))]
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
    #[schema(example = json!({"type": "existing-participants", "participants": some_participants(1)}))]
    ExistingParticipants {
        /// The participants without the receiver, in the order of joining.
        participants: Vec<&'a Participant>,
    },
    /// The reply to `request-participants`.
    #[schema(example = json!({"type": "participants-list", "participants": some_participants(2)}))]
    ParticipantsList {
        /// All participants, including the receiver, in the order of joining.
        participants: Vec<&'a Participant>,
    },
    /// Another participant joined.
    #[schema(example = json!({
        "type": "participant-joined", "userId": "bob", "userName": "Bob", "participants": some_participants(2)
    }))]
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
    #[schema(example = json!({
        "type": "participant-left", "userId": "bob", "userName": "Bob", "participants": some_participants(1)
    }))]
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
    #[schema(example = json!({"type": "offer", "fromUserId": "ann", "sdp": {"type": "offer", "sdp": "v=0\r\n"}}))]
    Offer(#[schema(inline)] RelayedDescription<'a>),
    /// An answer from another participant.
    #[schema(example = json!({"type": "answer", "fromUserId": "ann", "sdp": {"type": "answer", "sdp": "v=0\r\n"}}))]
    Answer(#[schema(inline)] RelayedDescription<'a>),
    /// An ICE candidate from another participant.
    #[schema(example = json!({"type": "ice-candidate", "fromUserId": "ann", "candidate": {
        "candidate": "candidate:1 1 udp 2130706431 192.168.1.5 5000 typ host", "sdpMid": "0", "sdpMLineIndex": 0
    }}))]
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
    #[schema(example = json!({"type": "call-ended", "fromUserId": "ann"}))]
    #[serde(rename_all = "camelCase")]
    CallEnded {
        /// The `id` of the sender.
        from_user_id: &'a str,
    },
    /// Another participant changed its state.
    #[schema(example = json!({"type": "participant-update", "userId": "ann", "updates": {"muted": true}}))]
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
    #[schema(example = json!({"type": "error", "message": "member `targetUserId` is missing; `to` is unknown"}))]
    Error {
        /// The reason.
        message: &'a str,
    },
}

fn some_participants(count: usize) -> Vec<Participant> {
    let users = [("ann", "Ann"), ("bob", "Bob")].into_iter().take(count);
    let participant =
        |(id, name)| Participant { id: str::to_owned(id), name: str::to_owned(name), joined_at: 1_795_158_236_849 };
    users.map(participant).collect()
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

impl Room for WebRtcRoom {
    type Member = Participant;

    fn roster(&self) -> &Roster<Participant> {
        &self.roster
    }

    fn roster_mut(&mut self) -> &mut Roster<Participant> {
        &mut self.roster
    }

    fn leave(&mut self, call: &mut Call<'_>, close: &ConnectionClose<'_>) {
        let Some(left) = self.roster.leave(call, call.sender.conn, &close.leave_reason()) else { return };
        let message = ServerMessage::ParticipantLeft {
            user_id: &left.id,
            user_name: &left.name,
            participants: self.participants(),
        };
        call.send_requested(self.roster.connections(), || to_json(&message));
        if self.left.len() == MAX_LEFT {
            self.left.pop_front();
        }
        self.left.push_back((left.id, call.now.unix_ms()));
    }

    /// The console then hides the messages of the clients. `/rooms` still lists the participants.
    fn is_protected(&self, limits: &SignalingLimits) -> bool {
        limits.webrtc_requires_token
    }
}

impl WebRtcRoom {
    /// All participants in the order of joining.
    fn participants(&self) -> Vec<&Participant> {
        self.roster.list.iter().map(|member| &member.data).collect()
    }

    /// The participant with this id.
    fn find(&self, id: &str) -> Option<&Member<Participant>> {
        self.roster.list.iter().find(|member| member.data.id == id)
    }

    /// Adds a participant, in place of the one with the same id if there is one. The error is the reason of the rejection.
    fn enter(&mut self, call: &mut Call<'_>, participant: Participant) -> Result<(), &'static str> {
        let previous = self.find(&participant.id).map(|member| member.conn);
        if previous.is_none() && self.roster.list.len() >= call.server.limits.max_webrtc_members {
            return Err("Room is full");
        }
        if !call.may_request(MAX_JOIN_DEBT) {
            return Err("Too many requests");
        }
        if let Some(previous) = previous {
            // The other members receive no message: the user is still in the room.
            self.roster.leave(call, previous, "replaced by a new connection of this user");
            call.close(previous, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
        }
        self.roster.join(call, participant, false);
        let (conn, participants) = (call.sender.conn, self.participants());
        let Some((Participant { id: user_id, name: user_name, .. }, others)) = participants.split_last() else {
            return Ok(());
        };
        let joined = ServerMessage::ParticipantJoined { user_id, user_name, participants: participants.clone() };
        call.send_requested(self.roster.others(conn), || to_json(&joined));
        let room_id = self.roster.name();
        let welcome = ServerMessage::Welcome { room_id, user_id, participants: participants.clone() };
        call.send_requested([conn], || to_json(&welcome));
        if !others.is_empty() {
            let existing = ServerMessage::ExistingParticipants { participants: others.to_vec() };
            call.send_requested([conn], || to_json(&existing));
        }
        Ok(())
    }

    /// Handles a message.
    fn on_message(&self, call: &mut Call<'_>, message: ClientMessage<'_>) -> Result<(), MessageError> {
        let sender = self.roster.find(call.sender.conn).ok_or(MessageError::NOT_IN_ROOM)?;
        let from_user_id = sender.data.id.as_str();
        let (target, relayed, is_complete) = match message {
            ClientMessage::Offer(SentDescription { target_user_id, sdp }) => {
                (target_user_id, ServerMessage::Offer(RelayedDescription { from_user_id, sdp }), sdp.is_some())
            }
            ClientMessage::Answer(SentDescription { target_user_id, sdp }) => {
                (target_user_id, ServerMessage::Answer(RelayedDescription { from_user_id, sdp }), sdp.is_some())
            }
            ClientMessage::IceCandidate(SentCandidate { target_user_id, candidate }) => {
                (target_user_id, ServerMessage::IceCandidate { from_user_id, candidate }, true)
            }
            ClientMessage::CallEnded(EndedCall { target_user_id }) => {
                (target_user_id, ServerMessage::CallEnded { from_user_id }, true)
            }
            ClientMessage::ParticipantUpdate(SentUpdate { updates }) => {
                let message = ServerMessage::ParticipantUpdate { user_id: from_user_id, updates };
                call.send(self.roster.others(call.sender.conn), &message);
                return Ok(());
            }
            ClientMessage::RequestParticipants => {
                if !call.may_request(MAX_LIST_DEBT) {
                    call.effects.counters.add_rejected(true);
                    return Err(MessageError::ignored(TOO_MANY_REQUESTS));
                }
                let message = ServerMessage::ParticipantsList { participants: self.participants() };
                call.send_requested([call.sender.conn], || to_json(&message));
                return Ok(());
            }
            ClientMessage::Ping => {
                call.reply(&ServerMessage::Pong);
                return Ok(());
            }
        };
        let Some(target) = self.find(&target) else {
            let now = call.now.unix_ms();
            let has_just_left = self.left.iter().any(|(id, at)| *id == target && now.saturating_sub(*at) < LATE_MS);
            return has_just_left.then_some(()).ok_or(MessageError::ignored("targetUserId is not in the room"));
        };
        call.send([target.conn], &relayed);
        // The receiver decides whether it can use an offer or answer without a description.
        let is_wrong = call.server.limits.is_strict && !is_complete;
        if is_wrong { Err(MessageError::ignored("member `sdp` is missing")) } else { Ok(()) }
    }
}

impl WebRtcDialect {
    /// Handles a message of the connection that causes the call.
    pub(super) fn on_text(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        let message = ClientMessage::parse(text)?;
        let called = self.rooms.call_own(call, |room, call| room.on_message(call, message));
        called.ok_or(MessageError::NOT_IN_ROOM)?
    }

    /// Adds a new connection to its room, or closes the connection.
    pub(super) fn on_connect(&self, call: &mut Call<'_>, params: WebRtcParams) {
        let limits = &call.server.limits;
        let WebRtcParams { room_id, user_id: user, user_name: name, .. } = &params;
        let values = [
            (room_id, MAX_WEBRTC_ROOM_BYTES, "Missing required parameter roomId", "Parameter roomId too long"),
            (user, MAX_USER_BYTES, "Missing required parameter userId", "Parameter userId too long"),
            (name, MAX_USER_BYTES, "Missing required parameter userName", "Parameter userName too long"),
        ];
        for (text, max_bytes, missing, too_long) in values {
            let (reason, detail) = match text.len() {
                0 => ("Missing required parameters", missing),
                bytes if bytes > max_bytes => ("Parameter too long", too_long),
                _ => continue,
            };
            return call.reject_with_detail(CloseCode::POLICY_VIOLATION, reason, Some(detail));
        }
        // The token is checked before the room is searched. A client without a valid token does not replace a member and learns nothing.
        if limits.webrtc_requires_token
            && let Err(reason) = check_token(limits, &params, call.now.unix_ms())
        {
            return call.reject_token(reason);
        }
        let (unix_ms, source) = (call.now.unix_ms(), call.sender.source);
        let WebRtcParams { room_id, user_id: id, user_name: name, .. } = params;
        let participant = Participant { id, name, joined_at: unix_ms };
        let mut has_too_many_rooms = false;
        let locate = |directory: &mut Directory<WebRtcRoom>| {
            let found = directory.find(&room_id);
            has_too_many_rooms = found.is_none() && directory.rooms_opened_by(source) >= limits.max_rooms_per_address;
            let room = |key| WebRtcRoom {
                roster: Roster::new(key, vec![room_id.clone()], None, unix_ms),
                left: VecDeque::new(),
            };
            (!has_too_many_rooms).then(|| found.unwrap_or_else(|| directory.create(room)))
        };
        let entered = self.rooms.call(call, locate, |room, call| room.enter(call, participant));
        if has_too_many_rooms {
            call.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many rooms");
        } else if let Some(Err(reason)) = entered {
            call.reject_and_close(CloseCode::TRY_AGAIN_LATER, reason);
        }
    }
}

impl Hub {
    /// The WebRTC rooms for `/health` and `/rooms`, each as a JSON [`WebRtcRoomInfo`], in a list of at most `max_bytes`, and whether rooms are
    /// missing. If rooms require a token, their participants are listed only with `include_protected`.
    pub fn webrtc_rooms(&self, max_bytes: usize, include_protected: bool) -> (Vec<Box<RawValue>>, bool) {
        let has_participants = include_protected || !self.server.limits.webrtc_requires_token;
        // The brackets of the list. Each room is followed by a comma or a bracket.
        let (mut list, mut bytes) = (Vec::new(), 1);
        self.webrtc.rooms.map(|room| {
            if bytes > max_bytes {
                return;
            }
            let info = to_raw_value(&WebRtcRoomInfo {
                room_id: room.roster.name(),
                participant_count: room.roster.list.len(),
                participants: if has_participants { room.participants() } else { Vec::new() },
            });
            bytes += info.as_ref().map_or(0, |info| info.get().len() + 1);
            list.extend(info.ok().filter(|_| bytes <= max_bytes));
        });
        (list, bytes > max_bytes)
    }
}

fn check_token(limits: &SignalingLimits, params: &WebRtcParams, unix_ms: u64) -> Result<(), &'static str> {
    let WebRtcParams { room_id, user_id, token, .. } = params;
    let token = token.as_ref().ok_or(TOKEN_MISSING)?;
    verify_webrtc(limits.broadcast.secret.as_ref(), token.as_str(), room_id, user_id, unix_ms)
}
