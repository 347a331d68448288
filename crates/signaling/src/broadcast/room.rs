//! A broadcast room: its handler, members, control channels and delayed messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use tracing::debug;

use super::messages::{ControlServerMessage, SERVER, ServerMessage, wrap};
use super::room_handler::{
    ClientInfo, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};
use crate::call::{Call, MAX_JOIN_DEBT};
use crate::close_code::CloseCode;
use crate::dialect::Dialect;
use crate::json::{self, MessageError, to_json};
use crate::limits::SignalingLimits;
use crate::room::{ConnectionClose, MemberData, MemberInfo, Room, Roster};
use crate::server::{ConnId, blocks};
use crate::timers::Timers;
use jamjam_core::memory_budget::MemoryPermit;
use jamjam_core::time::{Time, WallClock};

/// Maximum delay of a message.
pub const MAX_BROADCAST_DELAY: Duration = Duration::from_secs(3_600);

/// Types of messages that are acknowledged but not relayed, compared case-insensitively.
pub(crate) const ACKNOWLEDGED_TYPES: [&str; 2] = ["keepalive", "ack"];

/// How long messages whose delay is over wait before the room asks again whether the queues of their receivers have room.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(10);

/// Bytes that a delayed message holds beyond its text and its sender's data.
const DELAYED_MESSAGE_BYTES: usize = 256;

/// A message that waits. It is stored as text, because a parsed message takes many times the memory of its text.
struct DelayedMessage {
    /// The member that sent the message; `None` if the message was posted over HTTP.
    sender: Option<Arc<ClientInfo>>,
    /// The receive time, which the envelope contains.
    received_at: WallClock,
    /// The constructor of a [`RelayPayload`] variant. When the message is relayed, the constructor is called with the parsed `payload`.
    variant: fn(Value) -> RelayPayload,
    payload: String,
    /// The memory of the sender.
    _memory: MemoryPermit,
}

/// A broadcast room. It is open while it has members.
pub(crate) struct BroadcastRoom {
    pub(crate) roster: Roster<Arc<ClientInfo>>,
    pub(crate) handler: Box<dyn RoomHandler>,
    /// Whether the handler outlives the members.
    is_named: bool,
    /// The delayed messages in the order in which they are to be relayed.
    delayed: Timers<DelayedMessage>,
    /// Until when messages whose delay is over wait for a turn, or for the queues of their receivers.
    retry_at: Time,
    /// When the heartbeat hook of the handler is called if the room is then open.
    heartbeat: Option<Time>,
}

impl MemberData for Arc<ClientInfo> {
    const DIALECT: Dialect = Dialect::Broadcast;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: self.id(), name: None, is_control_channel: self.is_control_channel }
    }
}

impl Room for BroadcastRoom {
    type Member = Arc<ClientInfo>;

    fn roster(&self) -> &Roster<Arc<ClientInfo>> {
        &self.roster
    }

    fn roster_mut(&mut self) -> &mut Roster<Arc<ClientInfo>> {
        &mut self.roster
    }

    fn leave(&mut self, call: &mut Call<'_>, close: &ConnectionClose<'_>) {
        let actions = self.remove_member(call, call.sender.conn, close);
        self.apply_actions(call, actions);
    }

    /// The room handler is informed about each leave, but no member remains for its actions and for delayed messages.
    fn close(&mut self, call: &mut Call<'_>, code: CloseCode, close_reason: &'static str, reason: &str) {
        let members: Vec<_> = self.roster.list.iter().map(|member| member.data.clone()).collect();
        self.roster.close(call, code, close_reason, reason);
        self.delayed = Timers::default();
        for member in &members {
            drop(self.on_leave(call.now, member, code, close_reason));
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
        [self.heartbeat(), self.next_delivery()].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, call: &mut Call<'_>) {
        let now = call.now.monotonic;
        if self.heartbeat().is_some_and(|at| self.next_delivery().is_none_or(|delivery| at <= delivery)) {
            self.schedule_heartbeat(call);
            let actions = self.handler.on_heartbeat(&view(&self.roster, call.now));
            self.apply_actions(call, actions);
        } else if self.has_due(now) {
            // Other rooms, and the heartbeat of this one, have a turn before the next message.
            self.retry_at = now;
            if !has_space(call, &self.roster) {
                self.retry_at = now + FULL_QUEUE_RETRY;
                return;
            }
            let Some(message) = self.delayed.pop_due(now) else { return };
            // Parsing always succeeds, because this server wrote the text.
            let Ok(payload) = json::from_str_unlimited_depth(&message.payload) else { return };
            self.relay_now(call, message.sender.as_deref(), message.received_at, &(message.variant)(payload));
        }
    }
}

impl BroadcastRoom {
    pub(super) fn new(roster: Roster<Arc<ClientInfo>>, handler: Box<dyn RoomHandler>, is_named: bool) -> Self {
        Self { roster, handler, is_named, delayed: Timers::default(), retry_at: Time::ZERO, heartbeat: None }
    }

    /// Number of delayed messages.
    pub(crate) fn delayed_messages(&self) -> usize {
        self.delayed.len()
    }

    /// Whether messages wait although their delay is over.
    fn has_due(&self, now: Time) -> bool {
        self.delayed.next_deadline().is_some_and(|at| at <= now)
    }

    /// When the next delayed message is to be relayed.
    fn next_delivery(&self) -> Option<Time> {
        self.delayed.next_deadline().map(|at| at.max(self.retry_at))
    }

    /// Adds the connection that causes the call. Whether its address `has_too_many_rooms` matters only if it opens the room.
    pub(super) fn enter(
        &mut self,
        call: &mut Call<'_>,
        client: &Arc<ClientInfo>,
        headers: &HeaderMap,
        has_too_many_rooms: impl FnOnce() -> bool,
    ) -> Result<(), Rejection> {
        let room = view(&self.roster, call.now);
        self.handler.verify_auth(&room, client, headers)?;
        let reason = if !client.is_control_channel && self.handler.max_clients().is_some_and(|max| room.clients >= max)
        {
            Some("Room is full")
        } else if !self.is_open() && has_too_many_rooms() {
            Some("Too many rooms")
        } else {
            (!call.may_request(MAX_JOIN_DEBT)).then_some("Too many requests")
        };
        if let Some(reason) = reason {
            return Err(Rejection { code: CloseCode::TRY_AGAIN_LATER.get(), reason: reason.to_owned() });
        }
        if !self.is_open() {
            self.roster.created_ms = call.now.unix_ms();
            self.schedule_heartbeat(call);
        }
        self.roster.join(call, Arc::clone(client), false);
        let room = view(&self.roster, call.now);
        let actions = if client.is_control_channel {
            let message = "Connected to remote control channel";
            call.reply(&ControlServerMessage::ControlWelcome { message, room: room.name, time: room.now.unix_ms() });
            self.handler.on_control_join(&room, client)
        } else {
            let welcome = self.handler.welcome_message(&room, client);
            call.send_requested([call.sender.conn], || welcome);
            self.handler.on_join(&room, client)
        };
        self.apply_actions(call, actions);
        Ok(())
    }

    /// When the heartbeat hook is called.
    fn heartbeat(&self) -> Option<Time> {
        self.heartbeat.filter(|_| self.is_open())
    }

    /// Schedules the next call of the heartbeat hook.
    fn schedule_heartbeat(&mut self, call: &Call<'_>) {
        self.heartbeat = call.server.limits.heartbeat.interval.map(|interval| call.now.monotonic + interval);
    }

    /// Removes a member. Returns the actions of the handler.
    fn remove_member(&mut self, call: &mut Call<'_>, conn: ConnId, close: &ConnectionClose<'_>) -> Vec<RoomAction> {
        let Some(client) = self.roster.leave(call, conn, &close.leave_reason()) else { return Vec::new() };
        self.on_leave(call.now, &client, close.code, close.reason)
    }

    /// Informs the handler that a member or control channel has left.
    fn on_leave(&mut self, now: WallClock, client: &ClientInfo, code: CloseCode, reason: &str) -> Vec<RoomAction> {
        let room = view(&self.roster, now);
        if client.is_control_channel {
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
    fn apply_actions(&mut self, call: &mut Call<'_>, actions: Vec<RoomAction>) {
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
                    let text = || wrap(call.server.limits.broadcast.envelope, &room, Some(SERVER), &relay);
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

    /// Handles a message from a member.
    pub(super) fn on_message(
        &mut self,
        call: &mut Call<'_>,
        message: Result<Value, &'static str>,
    ) -> Result<(), MessageError> {
        let client = Arc::clone(&self.roster.find(call.sender.conn).ok_or(MessageError::NOT_IN_ROOM)?.data);
        if client.is_control_channel {
            return call.reject("Control channel is receive-only");
        }
        let payload = match message {
            Ok(payload) => payload,
            Err(reason) => return call.reject(reason),
        };
        if !payload.is_object() && !payload.is_array() {
            return call.reject("Payload must be a JSON object");
        }
        let room = view(&self.roster, call.now);
        if let Err(error) = self.handler.validate_message(&room, &client, &payload) {
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
        if self.relay_or_delay(call, Some(client), &relay).is_none() {
            call.effects.counters.requests_limited += 1;
            return call.reject("Too many delayed messages are waiting");
        }
        Ok(())
    }

    /// Relays a message now or after the delay that the room handler determines, which is returned, unless too many delayed messages wait. A
    /// post over HTTP waits for the queues of the room like a message whose delay is over. Messages of members do not: a member that does not
    /// read would delay all others.
    #[must_use]
    pub(crate) fn relay_or_delay(
        &mut self,
        call: &mut Call<'_>,
        sender: Option<Arc<ClientInfo>>,
        relay: &RelayPayload,
    ) -> Option<Duration> {
        let room = view(&self.roster, call.now);
        let context = RelayContext { room, sender: sender.as_deref(), payload: relay.value() };
        let delay = self.handler.broadcast_delay(&context).min(MAX_BROADCAST_DELAY);
        let now = call.now.monotonic;
        if delay.is_zero() && (sender.is_some() || (!self.has_due(now) && has_space(call, &self.roster))) {
            self.relay_now(call, sender.as_deref(), call.now, relay);
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
        let sender_bytes = sender.as_ref().map_or(0, |client| to_json(&(&client.query, &client.claims)).len());
        let memory = call.take_memory(DELAYED_MESSAGE_BYTES + payload.len() + sender_bytes)?;
        // The timer, which relays it, belongs to nobody.
        call.effects.deliveries += room.clients * blocks(payload.len());
        self.delayed
            .insert(now + delay, DelayedMessage { sender, received_at: call.now, variant, payload, _memory: memory });
        debug!(target: "signaling", room = %self.roster.label(), delay_ms = delay.as_millis() as u64, "message delayed");
        Some(delay)
    }

    fn relay_now(
        &mut self,
        call: &mut Call<'_>,
        sender: Option<&ClientInfo>,
        received_at: WallClock,
        relay: &RelayPayload,
    ) {
        let room = view(&self.roster, call.now);
        // Called even if there are no control channels, because the room handler may store the message.
        let context = RelayContext { room, sender, payload: relay.value() };
        let control = self.handler.control_payload(&context);
        let envelope = call.server.limits.broadcast.envelope;
        let text = || wrap(envelope, &RoomView { now: received_at, ..room }, sender.map(ClientInfo::id), relay);
        let others = self.receivers(false).filter(|conn| sender.is_none_or(|client| client.conn != *conn));
        call.send_with(others, text, None, false);
        if let Some(control) = control {
            call.send(self.receivers(true), &control);
        }
    }
}

/// What a handler sees of the room with these members.
pub(crate) fn view(roster: &Roster<Arc<ClientInfo>>, now: WallClock) -> RoomView<'_> {
    let control_clients = roster.list.iter().filter(|member| member.data.is_control_channel).count();
    RoomView { name: roster.name(), now, clients: roster.list.len() - control_clients, control_clients }
}

/// Whether a message that can wait may be sent to the members now.
fn has_space(call: &mut Call<'_>, roster: &Roster<Arc<ClientInfo>>) -> bool {
    let connections: Vec<ConnId> = roster.connections().collect();
    call.has_space(&connections)
}
