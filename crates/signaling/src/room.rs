//! A room as a value: it receives calls with the time, and each call leaves its effects in a buffer.
//!
//! A room knows connections as numbers, and nothing of queues, other rooms or the hub. Its [`Roster`] holds the members in the order of
//! joining, and a [`RoomCall`] is what a room may use during one call. [`Rooms`](super::rooms::Rooms) performs the effects.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU64;

use serde::Serialize;
use tracing::{debug, info};

use super::control_surface_events::ControlSurfaceEvent;
use super::counters::DialectCounters;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::json::to_json;
use super::limits::SignalingLimits;
use super::server_state::ServerState;
use jamjam_core::close_code::CloseCode;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::send_queue::UpdateKey;
use jamjam_core::time::{Time, WallClock};

/// Reason of a leave after a message that ends the membership.
pub(super) const LEFT_ROOM: &str = "left the room";

/// Reason of a leave because the member creates or joins another room, or joins the same room again.
pub(super) const CHANGED_ROOM: &str = "changed the room";

/// Close reason, and reason of the leaves, after the operator has closed a room.
pub(super) const ROOM_CLOSED_BY_OPERATOR: &str = "Room closed by the operator";

/// How a connection ended, or why its member leaves a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionClose<'a> {
    pub(super) code: CloseCode,
    /// The reason in the close frame.
    pub(super) reason: &'a str,
    /// Why the server ends the membership; `None` if the client or the network does.
    pub(super) server_reason: Option<&'a str>,
}

impl ConnectionClose<'_> {
    /// The reason of the leave in the log.
    pub(super) fn leave_reason(&self) -> Cow<'_, str> {
        match self.server_reason {
            Some(reason) => reason.into(),
            None if self.code == CloseCode::ABNORMAL_CLOSURE => "connection lost".into(),
            None if self.reason.is_empty() => "closed by client".into(),
            None => format!("closed by client: {}", sanitize_name(self.reason)).into(),
        }
    }
}

/// A room of one dialect.
pub(super) trait Room: Send {
    /// Whether the room counts for the address that opens it, and not for the one that creates it.
    const COUNTS_WHEN_OPENED: bool = false;

    /// The data of a member.
    type Member: MemberData;

    /// The members.
    fn roster(&self) -> &Roster<Self::Member>;

    /// The members.
    fn roster_mut(&mut self) -> &mut Roster<Self::Member>;

    /// A member's connection has ended, or the member has entered another room: then the reason of the server is
    /// [`CHANGED_ROOM`].
    fn leave(&mut self, call: &mut RoomCall<'_>, close: &ConnectionClose<'_>);

    /// The operator closes the room with all connections. The members receive no messages about each other.
    fn close(&mut self, call: &mut RoomCall<'_>) {
        self.roster_mut().close_by_operator(call);
    }

    /// Whether the room stays. A room that is not needed is removed after the call.
    fn is_needed(&self) -> bool {
        !self.roster().list.is_empty()
    }

    /// Whether the room is counted and listed.
    fn is_open(&self) -> bool {
        true
    }

    /// Whether the room needs a password or token.
    fn is_protected(&self, _limits: &SignalingLimits) -> bool {
        false
    }

    /// When [`Self::on_deadline`] is to be called.
    fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Handles the first event that is due.
    fn on_deadline(&mut self, _call: &mut RoomCall<'_>) {}
}

/// What a room may use during a call, which one connection has caused.
pub(super) struct RoomCall<'a> {
    pub(super) now: WallClock,
    pub(super) conn: ConnId,
    /// The address of the connection.
    pub(super) source: IpAddr,
    /// For the limits, which the room reads.
    pub(super) state: &'a ServerState,
    /// To be asked for space and memory. What is sent is an effect.
    pub(super) sink: &'a mut dyn EventSink,
    pub(super) effects: &'a mut Effects,
}

/// What a call of a room causes.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) list: Vec<Effect>,
    /// The receivers of all messages, one message after the other.
    pub(super) receivers: Vec<ConnId>,
    pub(super) counters: DialectCounters,
}

/// One effect of a call.
pub(super) enum Effect {
    /// A connection has become a member.
    Entered(ConnId),
    /// A connection is no longer a member.
    Left(ConnId),
    /// Sends a message to the next `receivers`.
    Send {
        receivers: usize,
        text: String,
        /// The message supersedes unsent messages with the same key.
        update_key: Option<UpdateKey>,
        /// Whether the address that caused the call pays for the bytes of all receivers.
        is_requested: bool,
    },
    /// Closes a connection that is no longer in this room.
    Close(ConnId, CloseCode, Cow<'static, str>),
    /// An event for the listeners of control surfaces.
    Event(Box<ControlSurfaceEvent>),
}

impl RoomCall<'_> {
    /// Serializes a message once and sends it to these connections.
    pub(super) fn send(&mut self, to: impl IntoIterator<Item = ConnId>, message: &impl Serialize) -> usize {
        self.send_with(to, || to_json(message), None, false)
    }

    /// Sends a message to the connection that caused the call.
    pub(super) fn reply(&mut self, message: &impl Serialize) {
        self.send([self.conn], message);
    }

    /// Sends a message that the call has requested, at the expense of its address.
    pub(super) fn send_requested(&mut self, to: impl IntoIterator<Item = ConnId>, text: impl FnOnce() -> String) {
        self.send_with(to, text, None, true);
    }

    /// Sends a text to these connections, if there are any. Returns their number.
    pub(super) fn send_with(
        &mut self,
        to: impl IntoIterator<Item = ConnId>,
        text: impl FnOnce() -> String,
        update_key: Option<UpdateKey>,
        is_requested: bool,
    ) -> usize {
        let Effects { list, receivers, counters } = &mut *self.effects;
        let before = receivers.len();
        receivers.extend(to);
        let receivers = receivers.len() - before;
        if receivers > 0 {
            let text = text();
            counters.add_sent(receivers, text.len());
            list.push(Effect::Send { receivers, text, update_key, is_requested });
        }
        receivers
    }

    /// Closes a connection that is no longer in this room.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, reason: impl Into<Cow<'static, str>>) {
        self.effects.list.push(Effect::Close(conn, code, reason.into()));
    }
}

/// The number of a room, in the order of creation. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoomKey(pub(super) NonZeroU64);

/// Bits of an [`UpdateKey`] that hold the index within the room.
pub(super) const UPDATE_KEY_BITS: u32 = 13;

impl RoomKey {
    /// The room in log lines, if its name is a secret code.
    pub(super) fn label(self) -> String {
        format!("#{}", self.0)
    }

    /// The key that all updates of the same value in this room share. Index 0 identifies the visualization, and indexes from 1
    /// identify the parameters.
    pub(super) fn update_key(self, index: usize) -> UpdateKey {
        UpdateKey(NonZeroU64::MIN.saturating_add(self.0.get() << UPDATE_KEY_BITS | index as u64))
    }
}

/// Data of a member that the console and the log show.
pub(super) trait MemberData {
    const DIALECT: Dialect;

    fn info(&self) -> MemberInfo<'_>;

    /// The user in log lines.
    fn user(&self) -> &str {
        self.info().id
    }
}

/// A member as the console shows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemberInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) is_control_channel: bool,
}

/// A member of a room, with the data of the dialect.
pub(super) struct Member<M> {
    pub(super) conn: ConnId,
    pub(super) data: M,
    /// Whether the connection is lost, and the member's place is kept for another one. Such a member receives nothing.
    pub(super) is_lost: bool,
}

/// What a room is called, and its members in the order of joining.
pub(super) struct Roster<M> {
    pub(super) key: RoomKey,
    /// The id and further names, each of which is unique within the dialect.
    pub(super) names: Vec<String>,
    /// The name that users see, if it differs from the id.
    pub(super) display_name: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
    pub(super) list: Vec<Member<M>>,
}

impl<M: MemberData> Roster<M> {
    pub(super) fn new(key: RoomKey, names: Vec<String>, display_name: Option<String>, created_ms: u64) -> Self {
        Self { key, names, display_name, created_ms, list: Vec::new() }
    }

    /// The id.
    pub(super) fn name(&self) -> &str {
        &self.names[0]
    }

    /// The member with this connection.
    pub(super) fn find(&self, conn: ConnId) -> Option<&Member<M>> {
        self.list.iter().find(|member| member.conn == conn)
    }

    /// The member with this connection.
    pub(super) fn find_mut(&mut self, conn: ConnId) -> Option<&mut Member<M>> {
        self.list.iter_mut().find(|member| member.conn == conn)
    }

    /// The members that receive messages.
    pub(super) fn receivers(&self) -> impl Iterator<Item = &Member<M>> {
        self.list.iter().filter(|member| !member.is_lost)
    }

    /// The connections of all members.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.receivers().map(|member| member.conn)
    }

    /// The connections of the members other than `conn`.
    pub(super) fn others(&self, conn: ConnId) -> impl Iterator<Item = ConnId> {
        self.connections().filter(move |other| *other != conn)
    }

    /// Adds and logs the connection that caused the call, behind or, if `is_first`, before all other members.
    pub(super) fn join(&mut self, call: &mut RoomCall<'_>, data: M, is_first: bool) {
        let member = Member { conn: call.conn, data, is_lost: false };
        self.log_membership("member joined", &member, None, self.list.len() + 1);
        self.list.insert(if is_first { 0 } else { self.list.len() }, member);
        call.effects.list.push(Effect::Entered(call.conn));
    }

    /// Gives the place of a member to the connection that caused the call, and logs it.
    pub(super) fn replace(&mut self, call: &mut RoomCall<'_>, previous: ConnId) {
        let Some(member) = self.find_mut(previous) else { return };
        (member.conn, member.is_lost) = (call.conn, false);
        call.effects.list.extend([Effect::Left(previous), Effect::Entered(call.conn)]);
        if let Some(member) = self.find(call.conn) {
            self.log_membership("member returned", member, None, self.list.len());
        }
    }

    /// Removes a member, and logs the reason. Returns its data.
    pub(super) fn leave(&mut self, call: &mut RoomCall<'_>, conn: ConnId, reason: &str) -> Option<M> {
        let removed = self.list.remove(self.list.iter().position(|member| member.conn == conn)?);
        self.log_membership("member left", &removed, Some(reason), self.connections().count());
        call.effects.list.push(Effect::Left(conn));
        Some(removed.data)
    }

    /// Removes all members, logs the reason, and closes their connections.
    pub(super) fn close(&mut self, call: &mut RoomCall<'_>, code: CloseCode, close_reason: &'static str, reason: &str) {
        for member in self.list.split_off(0) {
            self.log_membership("member left", &member, Some(reason), 0);
            call.effects.list.push(Effect::Left(member.conn));
            call.close(member.conn, code, close_reason);
        }
    }

    /// Closes the connections of all members, because the operator requests it.
    pub(super) fn close_by_operator(&mut self, call: &mut RoomCall<'_>) {
        self.close(call, CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR);
    }

    /// Logs that a member joined or left (INFO), and the reason of a leave. `members` is the number of members after that.
    fn log_membership(&self, event: &str, member: &Member<M>, reason: Option<&str>, members: usize) {
        info!(
            target: "signaling",
            dialect = M::DIALECT.name(),
            conn = member.conn.0,
            room = %self.label(),
            user = sanitize_name(member.data.user()),
            reason,
            members,
            "{event}"
        );
    }

    /// Logs a message of `bytes` bytes from a member.
    pub(super) fn log_message(&self, message_type: &str, conn: ConnId, receivers: usize, bytes: usize) {
        if let Some(member) = self.find(conn) {
            self.log(message_type, Some((conn, member.data.user())), receivers, bytes);
        }
    }

    /// Logs a message of `bytes` bytes that changed state or was forwarded (DEBUG), without its content. Without a `sender`, it is a post over
    /// HTTP or a command.
    pub(super) fn log(&self, message_type: &str, sender: Option<(ConnId, &str)>, receivers: usize, bytes: usize) {
        debug!(
            target: "signaling",
            dialect = M::DIALECT.name(),
            r#type = sanitize_name(message_type),
            conn = sender.map(|(conn, _)| conn.0),
            room = %self.label(),
            user = sender.map(|(_, user)| sanitize_name(user)),
            receivers,
            bytes,
            "{}",
            if sender.is_some() { "message handled" } else { "posted message handled" }
        );
    }

    /// The room in log lines.
    pub(super) fn label(&self) -> String {
        // The name of a control surface room is its code, which is a secret.
        if M::DIALECT == Dialect::ControlSurface { self.key.label() } else { sanitize_name(self.name()) }
    }
}
