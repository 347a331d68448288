//! Messages of broadcast rooms: validation, acknowledgment, delay, and the envelope in which they are relayed.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tracing::debug;
use utoipa::ToSchema;

use super::room_handler::{ClientInfo, RelayContext, RelayPayload, RoomView};
use super::room_state::{BroadcastDialect, DelayQueueFull, DelayedMessage, Membership, MessageOrigin};
use crate::connection_context::ConnectionContext;
use crate::dialect::Dialect;
use crate::json::{self, JsonError, MessageError, to_json};
use crate::limits::Envelope;
use crate::member_log::{RoomLabel, log_message};
use crate::timers::{BroadcastTimer, TimerEvent};

/// Maximum delay of a message.
pub const MAX_BROADCAST_DELAY: Duration = Duration::from_secs(3_600);

/// How long delayed messages wait before the hub checks again whether the queues of their receivers have room.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(10);

/// Types of messages that are acknowledged but not relayed, compared case-insensitively.
const ACKNOWLEDGED_TYPES: [&str; 2] = ["keepalive", "ack"];

impl BroadcastDialect {
    /// Handles a message of `bytes` bytes from a member.
    pub(crate) fn on_message(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: Result<Value, JsonError>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let (member, room) = self.rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
        let (Membership { client, is_control_channel }, name) = (member.data.clone(), room.name().to_owned());
        if is_control_channel {
            return reject(ctx, "Control channel is receive-only");
        }
        let settings = &ctx.limits.broadcast;
        if bytes > settings.max_payload_bytes {
            return Err(MessageError::too_big(settings.max_payload_bytes));
        }
        let payload = match message {
            Ok(payload) => payload,
            Err(JsonError::Syntax) => return reject(ctx, "Invalid JSON payload"),
            Err(JsonError::Unsupported(reason)) => return reject(ctx, reason),
            Err(JsonError::TooLarge) => return reject(ctx, "Payload is too deep or has too many values"),
        };
        if !payload.is_object() && !payload.is_array() {
            return reject(ctx, "Payload must be a JSON object");
        }
        let room = self.room_view(&name, ctx.now);
        let handler = self.handlers.get_mut(&name);
        if let Err(error) = handler.validate_message(&room, &client, &payload) {
            ctx.counters.requests_rejected += 1;
            ctx.reply(&ServerMessage::Error { error: &error });
            // The error text of the room handler may quote the client's message. Therefore, this text is not logged.
            return Err(MessageError::Rejected("rejected by the room handler"));
        }
        if let Some(kind) = payload.get("type").and_then(Value::as_str)
            && ACKNOWLEDGED_TYPES.iter().any(|acknowledged| acknowledged.eq_ignore_ascii_case(kind))
        {
            ctx.reply(&ServerMessage::Ack { ack_type: kind, received_at: ctx.now.unix_ms() });
            return Ok(());
        }
        let relay =
            handler.on_message(&room, &client, payload).ok_or(MessageError::ignored("dropped by the room handler"))?;
        let origin = MessageOrigin { room: name, sender: Some(client), received_at: ctx.now, bytes };
        if let Err(DelayQueueFull) = self.relay_or_delay(ctx, origin, &relay) {
            ctx.counters.requests_limited += 1;
            return reject(ctx, "Too many delayed messages are waiting");
        }
        Ok(())
    }

    /// Relays a message now or after the delay that the room handler determines, which is returned. A post over HTTP waits for the queues of
    /// the room like a message whose delay is over. Messages of members do not: a member that does not read would delay all others.
    pub(crate) fn relay_or_delay(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        origin: MessageOrigin,
        relay: &RelayPayload,
    ) -> Result<Duration, DelayQueueFull> {
        let settings = &ctx.limits.broadcast;
        let MessageOrigin { room: name, sender, bytes, .. } = &origin;
        let context =
            RelayContext { room: self.room_view(name, ctx.now), sender: sender.as_deref(), payload: relay.value() };
        let delay = self.handlers.get_mut(name).broadcast_delay(&context).min(MAX_BROADCAST_DELAY);
        let now = ctx.now.monotonic;
        if delay.is_zero()
            && (sender.is_some()
                || (!self.delay_queue.has_due(name) && ctx.sink.has_room(now, &self.connections(name))))
        {
            self.relay_now(ctx, &origin, relay);
            return Ok(delay);
        }
        let variant = match relay {
            RelayPayload::Message(_) => RelayPayload::Message,
            RelayPayload::Content(_) => RelayPayload::Content,
        };
        // The capacity of the text may be up to twice its length.
        let mut payload = to_json(relay.value());
        payload.shrink_to_fit();
        // The sender's data is kept until the message is relayed, even if the sender leaves.
        let held_bytes = payload.len() + name.len() + sender.as_deref().map_or(0, retained_bytes);
        let memory = ctx.sink.take_memory(held_bytes as u64).ok_or(DelayQueueFull)?;
        let (source, room, bytes) = (ctx.source, name.clone(), *bytes);
        let message = DelayedMessage { origin, source, variant, payload, held_bytes, is_due: false, _memory: memory };
        let id = self.delay_queue.push(message, settings.max_delayed_messages, settings.max_delayed_bytes)?;
        ctx.timers.insert(now + delay, TimerEvent::Broadcast(BroadcastTimer::DelayedMessage(id)));
        debug!(target: "signaling", room = %RoomLabel::Name(&room), delay_ms = delay.as_millis() as u64, bytes, "message delayed");
        if delay.is_zero() {
            // Later posts must not overtake this one before its timer fires.
            self.delay_queue.on_due(id);
        }
        Ok(delay)
    }

    /// Relays a message whose delay is over, as soon as the queues of the room have room for it. Later messages of the room wait behind it.
    pub(super) fn relay_delayed(&mut self, ctx: &mut ConnectionContext<'_>, id: u64) {
        let Some(room) = self.delay_queue.on_due(id).map(str::to_owned) else { return };
        let now = ctx.now.monotonic;
        let mut schedule = |at, id| ctx.timers.insert(at, TimerEvent::Broadcast(BroadcastTimer::DelayedMessage(id)));
        if !ctx.sink.has_room(now, &self.connections(&room)) {
            schedule(now + FULL_QUEUE_RETRY, id);
            return;
        }
        let Some((message, next)) = self.delay_queue.take(id) else { return };
        if let Some(next) = next {
            schedule(now, next);
        }
        let DelayedMessage { origin, variant, payload, .. } = message;
        // Parsing always succeeds, because this server wrote the text.
        let Ok(payload) = json::from_str_unlimited_depth(&payload) else { return };
        self.relay_now(ctx, &origin, &variant(payload));
    }

    fn relay_now(&mut self, ctx: &mut ConnectionContext<'_>, origin: &MessageOrigin, relay: &RelayPayload) {
        let MessageOrigin { room: name, sender, received_at, bytes } = origin;
        let sender = sender.as_deref();
        let room = self.room_view(name, ctx.now);
        // Called even if there are no control channels, because the room handler may store the message.
        let context = RelayContext { room, sender, payload: relay.value() };
        let control = self.handlers.get_mut(name).control_payload(&context);
        let mut members = self.members(name, false);
        members.retain(|conn| Some(*conn) != sender.map(|client| client.conn));
        let message_type = relay.value().get("type").and_then(Value::as_str).unwrap_or("none");
        let logged_sender = sender.map(|client| (client.conn, client.id()));
        log_message(message_type, (Dialect::Broadcast, RoomLabel::Name(name)), logged_sender, members.len(), *bytes);
        if !members.is_empty() {
            let source = sender.map_or(MessageSender::Http, |client| MessageSender::Member(client.id()));
            let room = RoomView { now: *received_at, ..room };
            ctx.send_text(&members, wrap(ctx.limits.broadcast.envelope, &room, source, relay));
        }
        if let Some(control) = control {
            ctx.send(&self.members(name, true), &control);
        }
    }
}

/// Counts a rejected message and sends the error to its sender.
fn reject(ctx: &mut ConnectionContext<'_>, error: &'static str) -> Result<(), MessageError> {
    ctx.counters.requests_rejected += 1;
    ctx.reply(&ServerMessage::Error { error });
    Err(MessageError::Rejected(error))
}

/// Approximate memory of a sender's query and claims, in bytes.
fn retained_bytes(client: &ClientInfo) -> usize {
    let query: usize = client.query.iter().map(|(name, value)| name.len() + value.len()).sum();
    query + client.claims.as_ref().map_or(0, |claims| to_json(claims).len())
}

/// The sender in the envelope of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MessageSender<'a> {
    /// A member, identified by the client id in its token.
    Member(&'a str),
    /// The room handler.
    Handler,
    /// The HTTP client that posted the message. Such a client has no connection in the room.
    Http,
}

/// Messages from the server that do not come from a room handler.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum ServerMessage<'a> {
    /// The connection is now a control channel of the room.
    ControlWelcome {
        /// A greeting.
        message: &'a str,
        /// The room.
        room: &'a str,
        /// The time of the server, in milliseconds since the Unix epoch.
        time: u64,
    },
    /// The reply to a message that is not relayed.
    #[serde(rename_all = "camelCase")]
    Ack {
        /// The type of the received message.
        ack_type: &'a str,
        /// When the server received the message, in milliseconds since the Unix epoch.
        received_at: u64,
    },
    /// A message was rejected. The connection stays open.
    Error {
        /// The reason.
        error: &'a str,
    },
}

/// A message from another member, from an HTTP post, or from the room itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct DocumentEnvelope<'a> {
    /// The name of the room and `-content`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The field `content` of the message; without it, the field `data`; without both, the whole message.
    pub(crate) content: &'a Value,
    /// The field `metadata` of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(crate) metadata: Option<&'a Value>,
    /// When the server received the message, in seconds since the Unix epoch.
    pub(crate) timestamp: u64,
    /// The `clientId` in the sender's token. `server` for HTTP posts and for messages from the room itself.
    pub(crate) from: &'a str,
}

/// A relayed message in the envelope format of Dynode.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum DynodeEnvelope<'a> {
    /// A message from another member or from the room itself.
    #[serde(rename_all = "camelCase")]
    Broadcast {
        /// The `clientId` in the sender's token. `server` for messages from the room itself.
        from: &'a str,
        /// When the server received the message, in milliseconds since the Unix epoch.
        received_at: u64,
        /// The whole message.
        data: &'a Value,
    },
}

/// Puts `relay` into the envelope for the members of `room`.
pub(crate) fn wrap(envelope: Envelope, room: &RoomView<'_>, source: MessageSender<'_>, relay: &RelayPayload) -> String {
    let from = match source {
        MessageSender::Member(id) => id,
        MessageSender::Handler | MessageSender::Http => "server",
    };
    let payload = relay.value();
    match (envelope, source) {
        (Envelope::Document, _) => {
            let (content, metadata) = match relay {
                RelayPayload::Content(content) => (content, None),
                RelayPayload::Message(message) => {
                    let content = message.get("content").or_else(|| message.get("data"));
                    (content.unwrap_or(message), message.get("metadata"))
                }
            };
            let (kind, timestamp) = (format!("{}-content", room.name), room.unix_ms() / 1_000);
            to_json(&DocumentEnvelope { kind, content, metadata, timestamp, from })
        }
        (Envelope::Dynode, MessageSender::Http) => {
            let mut body = payload.clone();
            if let Some(members) = body.as_object_mut() {
                members.insert("serverReceivedAt".to_owned(), room.iso_time().into());
            }
            to_json(&body)
        }
        (Envelope::Dynode, _) => {
            to_json(&DynodeEnvelope::Broadcast { from, received_at: room.unix_ms(), data: payload })
        }
    }
}
