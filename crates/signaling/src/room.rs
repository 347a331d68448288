//! A room as a value: it receives calls with the time, and leaves its effects there.
//!
//! A room knows connections as numbers, and nothing of other rooms or the hub. Its [`Roster`] holds the members in the order of joining, and
//! a [`Call`] is what it may use. [`Rooms`](super::rooms::Rooms) performs the effects.

use std::borrow::Cow;
use std::num::NonZeroU64;

use tracing::info;

use super::call::{Call, Effect};
use super::close_code::CloseCode;
use super::dialect::Dialect;
use super::limits::SignalingLimits;
use super::server::ConnId;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::Time;

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
    /// The data of a member.
    type Member: MemberData;

    /// The members.
    fn roster(&self) -> &Roster<Self::Member>;

    /// The members.
    fn roster_mut(&mut self) -> &mut Roster<Self::Member>;

    /// A member's connection has ended, or the member has entered another room: then the reason of the server is
    /// [`CHANGED_ROOM`].
    fn leave(&mut self, call: &mut Call<'_>, close: &ConnectionClose<'_>);

    /// Closes the connections of all members, because the operator requests it or the room has failed: the reason in the close frames, and the
    /// one in the log. The members receive no messages about each other.
    fn close(&mut self, call: &mut Call<'_>, code: CloseCode, close_reason: &'static str, reason: &str) {
        self.roster_mut().close(call, code, close_reason, reason);
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
    fn on_deadline(&mut self, _call: &mut Call<'_>) {}
}

/// The number of a room, in the order of creation. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoomKey(pub(super) NonZeroU64);

impl RoomKey {
    /// The room in log lines, if its name is a secret code.
    pub(super) fn label(self) -> String {
        format!("#{}", self.0)
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
    pub(super) fn join(&mut self, call: &mut Call<'_>, data: M, is_first: bool) {
        let member = Member { conn: call.sender.conn, data, is_lost: false };
        self.log_membership("member joined", &member, None, self.connections().count() + 1);
        self.list.insert(if is_first { 0 } else { self.list.len() }, member);
        call.effects.list.push(Effect::Entered(call.sender.conn));
    }

    /// Gives the place of a member to the connection that caused the call, and logs it.
    pub(super) fn replace(&mut self, call: &mut Call<'_>, previous: ConnId) {
        let Some(member) = self.find_mut(previous) else { return };
        (member.conn, member.is_lost) = (call.sender.conn, false);
        call.effects.list.extend([Effect::Left(previous), Effect::Entered(call.sender.conn)]);
        if let Some(member) = self.find(call.sender.conn) {
            self.log_membership("member returned", member, None, self.connections().count());
        }
    }

    /// Removes a member, and logs the reason. Returns its data.
    pub(super) fn leave(&mut self, call: &mut Call<'_>, conn: ConnId, reason: &str) -> Option<M> {
        let removed = self.list.remove(self.list.iter().position(|member| member.conn == conn)?);
        self.log_membership("member left", &removed, Some(reason), self.connections().count());
        call.effects.list.push(Effect::Left(conn));
        Some(removed.data)
    }

    /// Removes all members, logs the reason, and closes their connections.
    pub(super) fn close(&mut self, call: &mut Call<'_>, code: CloseCode, close_reason: &'static str, reason: &str) {
        for member in self.list.split_off(0) {
            self.log_membership("member left", &member, Some(reason), 0);
            call.effects.list.push(Effect::Left(member.conn));
            call.close(member.conn, code, close_reason);
        }
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

    /// The room in log lines.
    pub(super) fn label(&self) -> String {
        // The name of a control surface room is its code, which is a secret.
        if M::DIALECT == Dialect::ControlSurface { self.key.label() } else { sanitize_name(self.name()) }
    }
}
