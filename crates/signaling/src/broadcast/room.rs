//! A broadcast room: its handler, members, control channels and delayed messages.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::debug;

use super::delay_queue::{DelayQueue, DelayedMessage, MessageOrigin};
use super::messages::{MessageSender, ServerMessage, wrap};
use super::room_handler::{
    ClientInfo, JoinRequest, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};
use crate::connection_context::MAX_JOIN_DEBT;
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::json::{self, MessageError, to_json};
use crate::limits::SignalingLimits;
use crate::room::{ConnectionClose, MemberData, MemberInfo, ROOM_CLOSED_BY_OPERATOR, Room, RoomCall, Roster};
use jamjam_core::close_code::CloseCode;
use jamjam_core::time::{Time, WallClock};

/// Maximum delay of a message.
pub const MAX_BROADCAST_DELAY: Duration = Duration::from_secs(3_600);

/// Types of messages that are acknowledged but not relayed, compared case-insensitively.
const ACKNOWLEDGED_TYPES: [&str; 2] = ["keepalive", "ack"];

/// A broadcast room. It is open while it has members.
pub(crate) struct BroadcastRoom {
    pub(crate) roster: Roster<Membership>,
    pub(crate) handler: Box<dyn RoomHandler>,
    /// Whether the handler outlives the members.
    pub(super) is_named: bool,
    pub(crate) delayed: DelayQueue,
    /// When the heartbeat hook of the handler is called if the room is then open.
    pub(super) heartbeat: Option<Time>,
}

/// A member or control channel of a room.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) client: Arc<ClientInfo>,
    pub(crate) is_control_channel: bool,
}

impl MemberData for Membership {
    const DIALECT: Dialect = Dialect::Broadcast;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: self.client.id(), name: None, is_control_channel: self.is_control_channel }
    }
}

impl Room for BroadcastRoom {
    const COUNTS_WHEN_OPENED: bool = true;

    type Member = Membership;

    fn roster(&self) -> &Roster<Membership> {
        &self.roster
    }

    fn roster_mut(&mut self) -> &mut Roster<Membership> {
        &mut self.roster
    }

    fn leave(&mut self, call: &mut RoomCall<'_>, close: &ConnectionClose<'_>) {
        let actions = self.remove_member(call, call.conn, close);
        self.apply_actions(call, actions);
    }

    /// The room handler is informed about each leave, but no member remains for its actions and for delayed messages.
    fn close(&mut self, call: &mut RoomCall<'_>) {
        let members: Vec<_> = self.roster.list.iter().map(|member| member.data.clone()).collect();
        self.roster.close_by_operator(call);
        self.delayed.clear();
        for member in &members {
            drop(self.on_leave(call.now, member, CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR));
        }
    }

    fn is_needed(&self) -> bool {
        self.is_named || self.is_open() || self.delayed.len() > 0
    }

    fn is_open(&self) -> bool {
        !self.roster.list.is_empty()
    }

    fn is_protected(&self, _: &SignalingLimits) -> bool {
        self.handler.requires_auth()
    }

    fn next_deadline(&self) -> Option<Time> {
        [self.heartbeat(), self.delayed.next_deadline()].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, call: &mut RoomCall<'_>) {
        let now = call.now.monotonic;
        if self.heartbeat().is_some_and(|at| self.delayed.next_deadline().is_none_or(|delayed| at <= delayed)) {
            self.schedule_heartbeat(call);
            let actions = self.handler.on_heartbeat(&view(&self.roster, call.now));
            self.apply_actions(call, actions);
        } else if let Some(message) = self.delayed.take_due(now, || has_space(call, &self.roster)) {
            let DelayedMessage { origin, variant, payload, .. } = message;
            // Parsing always succeeds, because this server wrote the text.
            let Ok(payload) = json::from_str_unlimited_depth(&payload) else { return };
            self.relay_now(call, &origin, &variant(payload));
        }
    }
}

impl BroadcastRoom {
    /// Adds the connection that causes the call. The error is the close code and reason with which it is rejected. Whether its address
    /// `has_too_many_rooms` matters only if it opens the room.
    pub(super) fn enter(
        &mut self,
        call: &mut RoomCall<'_>,
        membership: Membership,
        headers: &[(String, String)],
        has_too_many_rooms: impl FnOnce() -> bool,
    ) -> Result<(), (CloseCode, Cow<'static, str>)> {
        let Membership { client, is_control_channel } = &membership;
        let (client, is_control_channel) = (Arc::clone(client), *is_control_channel);
        let room = view(&self.roster, call.now);
        let request = JoinRequest { query: &client.query, headers };
        self.handler
            .verify_auth(&room, &client, &request)
            .map_err(|Rejection { code, reason }| (CloseCode(code), reason.into()))?;
        let reason = if !is_control_channel && self.handler.max_clients().is_some_and(|max| room.clients >= max) {
            Some("Room is full")
        } else if !self.is_open() && has_too_many_rooms() {
            Some("Too many rooms")
        } else {
            (!call.state.may_request(call.now, call.source, MAX_JOIN_DEBT)).then_some("Too many requests")
        };
        if let Some(reason) = reason {
            return Err((CloseCode::TRY_AGAIN_LATER, reason.into()));
        }
        if !self.is_open() {
            self.roster.created_ms = call.now.unix_ms();
            self.schedule_heartbeat(call);
        }
        self.roster.join(call, membership, false);
        let room = view(&self.roster, call.now);
        let actions = if is_control_channel {
            let message = "Connected to remote control channel";
            call.reply(&ServerMessage::ControlWelcome { message, room: room.name, time: room.unix_ms() });
            self.handler.on_control_join(&room, &client)
        } else {
            let welcome = self.handler.welcome_message(&room, &client);
            call.send_requested([call.conn], || welcome);
            self.handler.on_join(&room, &client)
        };
        self.apply_actions(call, actions);
        Ok(())
    }

    /// When the heartbeat hook is called.
    fn heartbeat(&self) -> Option<Time> {
        self.heartbeat.filter(|_| self.is_open())
    }

    /// Schedules the next call of the heartbeat hook.
    fn schedule_heartbeat(&mut self, call: &RoomCall<'_>) {
        self.heartbeat = call.state.limits.heartbeat.interval.map(|interval| call.now.monotonic + interval);
    }

    /// Removes a member. Returns the actions of the handler.
    fn remove_member(&mut self, call: &mut RoomCall<'_>, conn: ConnId, close: &ConnectionClose<'_>) -> Vec<RoomAction> {
        let Some(membership) = self.roster.leave(call, conn, &close.leave_reason()) else { return Vec::new() };
        self.on_leave(call.now, &membership, close.code, close.reason)
    }

    /// Informs the handler that a member or control channel has left.
    fn on_leave(
        &mut self,
        now: WallClock,
        Membership { client, is_control_channel }: &Membership,
        code: CloseCode,
        reason: &str,
    ) -> Vec<RoomAction> {
        let room = view(&self.roster, now);
        if *is_control_channel {
            self.handler.on_control_leave(&room, client, code.get(), reason)
        } else {
            self.handler.on_leave(&room, client, code.get(), reason)
        }
    }

    /// The connections of the members, or of the control channels.
    fn receivers(&self, control: bool) -> impl Iterator<Item = ConnId> {
        let members = self.roster.list.iter().filter(move |member| member.data.is_control_channel == control);
        members.map(|member| member.conn)
    }

    /// Performs the actions of the handler, and those that result from closing connections. Actions on connections of other rooms are
    /// ignored.
    fn apply_actions(&mut self, call: &mut RoomCall<'_>, actions: Vec<RoomAction>) {
        let mut pending = VecDeque::from(actions);
        while let Some(action) = pending.pop_front() {
            match action {
                RoomAction::Send(Recipients::Connection(conn), message) => {
                    call.send(self.roster.find(conn).map(|member| member.conn), &message);
                }
                RoomAction::Send(Recipients::Members, message) => _ = call.send(self.receivers(false), &message),
                RoomAction::Send(Recipients::ControlChannels, message) => _ = call.send(self.receivers(true), &message),
                RoomAction::Broadcast(relay) => {
                    let room = view(&self.roster, call.now);
                    let text = || wrap(call.state.limits.broadcast.envelope, &room, MessageSender::Handler, &relay);
                    call.send_with(self.receivers(false), text, None, false);
                }
                RoomAction::Close(conn, code, reason) => {
                    if self.roster.find(conn).is_none() {
                        continue;
                    }
                    let (code, reason) = CloseCode(code).for_frame(&reason);
                    let close = ConnectionClose { code, reason, server_reason: Some(reason) };
                    pending.extend(self.remove_member(call, conn, &close));
                    call.close(conn, code, reason.to_owned());
                }
            }
        }
    }

    /// Handles a message of `bytes` bytes from a member.
    pub(super) fn on_message(
        &mut self,
        call: &mut RoomCall<'_>,
        message: Result<Value, &'static str>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let Membership { client, is_control_channel } =
            self.roster.find(call.conn).ok_or(MessageError::NOT_IN_ROOM)?.data.clone();
        if is_control_channel {
            return reject(call, "Control channel is receive-only");
        }
        let max_payload_bytes = call.state.limits.broadcast.max_payload_bytes;
        if bytes > max_payload_bytes {
            return Err(MessageError::too_big(max_payload_bytes));
        }
        let payload = match message {
            Ok(payload) => payload,
            Err(reason) => return reject(call, reason),
        };
        if !payload.is_object() && !payload.is_array() {
            return reject(call, "Payload must be a JSON object");
        }
        let room = view(&self.roster, call.now);
        if let Err(error) = self.handler.validate_message(&room, &client, &payload) {
            call.effects.counters.requests_rejected += 1;
            call.reply(&ServerMessage::Error { error: &error });
            // The error text of the room handler may quote the client's message. Therefore, this text is not logged.
            return Err(MessageError::Rejected("rejected by the room handler"));
        }
        if let Some(kind) = payload.get("type").and_then(Value::as_str)
            && ACKNOWLEDGED_TYPES.iter().any(|acknowledged| acknowledged.eq_ignore_ascii_case(kind))
        {
            call.reply(&ServerMessage::Ack { ack_type: kind, received_at: call.now.unix_ms() });
            return Ok(());
        }
        let relay = self
            .handler
            .on_message(&room, &client, payload)
            .ok_or(MessageError::ignored("dropped by the room handler"))?;
        let origin = MessageOrigin { sender: Some(client), received_at: call.now, bytes };
        if self.relay_or_delay(call, origin, &relay).is_none() {
            call.effects.counters.requests_limited += 1;
            return reject(call, "Too many delayed messages are waiting");
        }
        Ok(())
    }

    /// Relays a message now or after the delay that the room handler determines, which is returned, unless too many delayed messages wait. A
    /// post over HTTP waits for the queues of the room like a message whose delay is over. Messages of members do not: a member that does not
    /// read would delay all others.
    #[must_use]
    pub(crate) fn relay_or_delay(
        &mut self,
        call: &mut RoomCall<'_>,
        origin: MessageOrigin,
        relay: &RelayPayload,
    ) -> Option<Duration> {
        let MessageOrigin { sender, bytes, .. } = &origin;
        let room = view(&self.roster, call.now);
        let context = RelayContext { room, sender: sender.as_deref(), payload: relay.value() };
        let delay = self.handler.broadcast_delay(&context).min(MAX_BROADCAST_DELAY);
        let now = call.now.monotonic;
        if delay.is_zero() && (sender.is_some() || (!self.delayed.has_due(now) && has_space(call, &self.roster))) {
            self.relay_now(call, &origin, relay);
            return Some(delay);
        }
        let variant = match relay {
            RelayPayload::Message(_) => RelayPayload::Message,
            RelayPayload::Content(_) => RelayPayload::Content,
        };
        // The capacity of the text may be up to twice its length.
        let mut payload = to_json(relay.value());
        payload.shrink_to_fit();
        // The sender's data is kept until the message is relayed, even if the sender leaves.
        let held_bytes = payload.len() + self.roster.name().len() + sender.as_deref().map_or(0, retained_bytes);
        let memory = call.sink.take_memory(held_bytes as u64)?;
        let bytes = *bytes;
        let message = DelayedMessage { origin, source: call.source, variant, payload, held_bytes, _memory: memory };
        self.delayed.push(message, now + delay, &call.state.limits.broadcast)?;
        debug!(target: "signaling", room = %self.roster.label(), delay_ms = delay.as_millis() as u64, bytes, "message delayed");
        Some(delay)
    }

    fn relay_now(&mut self, call: &mut RoomCall<'_>, origin: &MessageOrigin, relay: &RelayPayload) {
        let MessageOrigin { sender, received_at, bytes } = origin;
        let sender = sender.as_deref();
        let room = view(&self.roster, call.now);
        // Called even if there are no control channels, because the room handler may store the message.
        let context = RelayContext { room, sender, payload: relay.value() };
        let control = self.handler.control_payload(&context);
        let source = sender.map_or(MessageSender::Http, |client| MessageSender::Member(client.id()));
        let envelope = call.state.limits.broadcast.envelope;
        let text = || wrap(envelope, &RoomView { now: *received_at, ..room }, source, relay);
        let others = self.receivers(false).filter(|conn| sender.is_none_or(|client| client.conn != *conn));
        let receivers = call.send_with(others, text, None, false);
        let message_type = relay.value().get("type").and_then(Value::as_str).unwrap_or("none");
        let logged_sender = sender.map(|client| (client.conn, client.id()));
        self.roster.log(message_type, logged_sender, receivers, *bytes);
        if let Some(control) = control {
            call.send(self.receivers(true), &control);
        }
    }
}

/// What a handler sees of the room with these members.
pub(crate) fn view(roster: &Roster<Membership>, now: WallClock) -> RoomView<'_> {
    let control_clients = roster.list.iter().filter(|member| member.data.is_control_channel).count();
    RoomView { name: roster.name(), now, clients: roster.list.len() - control_clients, control_clients }
}

/// Whether a message that can wait may be sent to the members now.
fn has_space(call: &mut RoomCall<'_>, roster: &Roster<Membership>) -> bool {
    let connections: Vec<ConnId> = roster.connections().collect();
    call.sink.has_space(call.now.monotonic, &connections)
}

/// Counts a rejected message and sends the error to its sender.
fn reject(call: &mut RoomCall<'_>, error: &'static str) -> Result<(), MessageError> {
    call.effects.counters.requests_rejected += 1;
    call.reply(&ServerMessage::Error { error });
    Err(MessageError::Rejected(error))
}

/// Approximate memory of a sender's query and claims, in bytes.
fn retained_bytes(client: &ClientInfo) -> usize {
    let query: usize = client.query.iter().map(|(name, value)| name.len() + value.len()).sum();
    query + client.claims.as_ref().map_or(0, |claims| to_json(claims).len())
}
