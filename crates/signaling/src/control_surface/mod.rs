//! The control surface dialect (`bbx`): a program creates a room, and clients join it by its code and set parameters of the program.
//!
//! A room stays open until the program closes it or its lifetime ends. The event listeners receive each action of a client
//! as a [`ControlSurfaceEvent`], and the other clients of the room receive each new value.

mod guesses;
pub(super) mod messages;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use guesses::CodeGuesses;
use messages::{ClientMessage, ParamMessage, ParameterState, PingMessage, ServerMessage, TriggerMessage};
use tracing::{info, warn};

use super::close_code::CloseCode;
use super::connection_context::{ConnectionContext, MAX_LIST_DEBT};
use super::control_surface_events::{
    ControlSurfaceEvent, ControlSurfaceEventKind, InlineStr, MAX_PARAMETER_NAME_BYTES,
};
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::json::{MessageError, to_json};
use super::limits::{Heartbeat, SignalingLimits};
use super::member_log::{CHANGED_ROOM, ConnectionClose, LEFT_ROOM, log_membership};
use super::rooms::{MemberData, MemberInfo, RoomDirectory, RoomKey, RoomMap, UPDATE_KEY_BITS};
use super::timers::{ControlSurfaceTimer, ParameterSender, ScheduledUpdate, TimerEvent};
use jamjam_core::address::source_network;
use jamjam_core::memory_budget::MemoryPermit;

/// Message types that select this dialect.
const MESSAGE_TYPES: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// The reply to an unknown room code.
pub(super) const INVALID_ROOM: ServerMessage<'static> =
    ServerMessage::Error { code: "INVALID_ROOM", message: "Invalid room code" };

/// The reply if a room has the maximum number of members.
pub(super) const ROOM_FULL: ServerMessage<'static> =
    ServerMessage::Error { code: "ROOM_FULL", message: "Room is at capacity" };

/// The reply to `sync` above the limit.
const RATE_LIMITED: ServerMessage<'static> =
    ServerMessage::Error { code: "RATE_LIMITED", message: "Too many sync requests" };

/// The reply to a new parameter above a limit.
const TOO_MANY_PARAMETERS: ServerMessage<'static> =
    ServerMessage::Error { code: "TOO_MANY_PARAMETERS", message: "Too many parameters" };

/// In rooms with at most this number of parameters, the first `sync` of a connection never fails.
const MAX_EXEMPT_PARAMETERS: usize = 256;

/// Maximum number of scheduled updates per room.
const MAX_SCHEDULED_UPDATES: usize = 1_000;

/// Maximum time from the receipt of an update to its scheduled time. If this time is exceeded, the update is not delayed but takes effect
/// on receipt.
const MAX_SCHEDULE_AHEAD: Duration = Duration::from_secs(60);

type Rooms = RoomMap<ControlSurfaceRoom, ControlSurfaceMember>;

/// The control surface dialect.
#[derive(Default)]
pub(super) struct ControlSurfaceDialect {
    pub(super) rooms: Rooms,
    /// The declared ranges (minimum and maximum) by parameter name. Values outside the range are accepted and not clamped.
    pub(super) ranges: BTreeMap<String, (f32, f32)>,
    guesses: CodeGuesses,
}

/// The data of a room; its name is its code.
pub(super) struct ControlSurfaceRoom {
    pub(super) parameters: ParameterValues,
    /// Number of scheduled updates that have not taken effect yet.
    pub(super) scheduled_updates: usize,
    pub(super) max_members: usize,
    /// Milliseconds since the Unix epoch.
    pub(super) expires_ms: u64,
}

/// The data of a member.
pub(super) struct ControlSurfaceMember {
    pub(super) node_id: String,
    /// Whether the connection has sent `sync`.
    pub(super) has_synced: bool,
}

impl MemberData for ControlSurfaceMember {
    const DIALECT: Dialect = Dialect::ControlSurface;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.node_id, name: None, is_control_channel: false }
    }
}

impl DialectHandler for ControlSurfaceDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        self.rooms.leave(ctx.conn, None, &close.leave_reason());
    }

    /// The members receive `closed`, as after every close of a room of this dialect.
    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?.key;
        self.close(ctx, key, "closed by the operator")
    }

    fn heartbeat(&self, limits: &SignalingLimits) -> Heartbeat {
        limits.control_surface.heartbeat
    }
}

/// Whether a first message of this type selects this dialect. Other protocols have a `ping` as well, but without `client_time`.
pub(super) fn is_selected_by(message_type: &str, text: &str) -> bool {
    MESSAGE_TYPES.contains(&message_type)
        && (message_type != "ping" || serde_json::from_str::<PingMessage<'_>>(text).is_ok())
}

impl ControlSurfaceDialect {
    pub(super) fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, timer: ControlSurfaceTimer) {
        match timer {
            ControlSurfaceTimer::RoomExpiry(room) => {
                ctx.counters.cleanup_runs += u64::from(self.close(ctx, room, "expired").is_some());
            }
            ControlSurfaceTimer::ScheduledUpdate { room, update } => {
                let ScheduledUpdate { sender, name, value } = *update;
                if let Some(room) = self.rooms.get_mut(room) {
                    room.data.scheduled_updates -= 1;
                }
                if store_and_broadcast(ctx, &mut self.rooms, room, Some(sender), &name, value).is_err() {
                    ctx.counters.parameters_rejected += 1;
                    ctx.send(&[sender.conn], &TOO_MANY_PARAMETERS);
                }
            }
        }
    }

    /// Handles a message of `bytes` bytes.
    pub(super) fn on_message(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: ClientMessage<'_>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        match message {
            ClientMessage::Join(message) => {
                self.join(ctx, &message.room_code)?;
                self.rooms.log_message("join", ctx.conn, 0, bytes);
            }
            ClientMessage::Param(message) => {
                let receivers = self.set_param(ctx, &message)?;
                self.rooms.log_message("param", ctx.conn, receivers, bytes);
            }
            ClientMessage::Trigger(TriggerMessage { name, at }) => {
                self.member_room(ctx, &name)?;
                self.emit_event(ctx, ControlSurfaceEventKind::Trigger, &name, None, at);
                self.rooms.log_message("trigger", ctx.conn, 0, bytes);
            }
            ClientMessage::Sync => {
                let key = self.rooms.room_of(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                let Self { rooms, ranges, .. } = self;
                let room = rooms.get_mut(key).ok_or(MessageError::NOT_IN_ROOM)?;
                let member = room.members.iter_mut().find(|member| member.conn == ctx.conn);
                let is_first = member.is_some_and(|member| !mem::replace(&mut member.data.has_synced, true));
                // Many clients behind one address may connect at the same time.
                let is_exempt = is_first && room.data.parameters.by_name.len() <= MAX_EXEMPT_PARAMETERS;
                if let Err(error) = ctx.check_requested_bytes(MAX_LIST_DEBT)
                    && !is_exempt
                {
                    ctx.count_limited();
                    ctx.reply(&RATE_LIMITED);
                    return Err(error);
                }
                ctx.reply_requested(room.data.parameters.state_json(ranges));
            }
            ClientMessage::Ping(PingMessage { client_time }) => {
                if !client_time.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    return Err(MessageError::ignored("client_time is not a number"));
                }
                let server_time = ctx.now.unix_us();
                ctx.reply(&ServerMessage::Pong { client_time, server_time });
            }
            ClientMessage::Leave => {
                self.rooms.log_message("leave", ctx.conn, 0, bytes);
                self.rooms.leave(ctx.conn, None, LEFT_ROOM);
                ctx.close(ctx.conn, CloseCode::NORMAL_CLOSURE, "");
            }
        }
        Ok(())
    }

    fn join(&mut self, ctx: &mut ConnectionContext<'_>, room_code: &str) -> Result<(), MessageError> {
        let (now, from, conn) = (ctx.now.monotonic, ctx.source, ctx.conn);
        let checked = self.guesses.may_check(now, from);
        let Some(room) = self.rooms.find(room_code).filter(|_| checked.is_ok()) else {
            if checked.is_err() {
                ctx.counters.codes_not_checked += 1;
            } else if self.guesses.on_wrong_code(now, from, room_code) {
                warn!(target: "signaling", dialect = Dialect::ControlSurface.name(), "too many wrong room codes; only addresses that joined before can join");
            }
            // The reply does not show whether the code was checked.
            ctx.reply(&INVALID_ROOM);
            if ctx.count_failed_guess() {
                self.rooms.leave(conn, None, "too many wrong codes");
                ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong codes");
            } else {
                ctx.counters.requests_rejected += 1;
            }
            return Err(MessageError::Rejected(checked.err().unwrap_or("no room has this code")));
        };
        // A member that joins the same room again is not counted twice.
        let key = room.key;
        if room.others(conn).len() >= room.data.max_members {
            ctx.count_limited();
            ctx.reply(&ROOM_FULL);
            return Err(MessageError::Rejected("the room is full"));
        }
        let left = self.rooms.leave(conn, None, CHANGED_ROOM);
        let has_synced = left.is_some_and(|(member, _)| member.has_synced);
        let node_id = ctx.ids.uuid();
        let server_time = ctx.now.unix_us();
        ctx.reply(&ServerMessage::Welcome { node_id: &node_id, server_time });
        self.rooms.join(key, conn, ControlSurfaceMember { node_id, has_synced }, false);
        self.guesses.on_join(now, from);
        Ok(())
    }

    /// Sets a parameter, or schedules the update. Returns the number of receivers so far.
    fn set_param(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: &ParamMessage<'_>,
    ) -> Result<usize, MessageError> {
        let ParamMessage { name, value, at } = message;
        let key = self.member_room(ctx, name)?;
        let sender = ParameterSender { conn: ctx.conn, source: ctx.source };
        let room = self.rooms.get_mut(key).ok_or(MessageError::NOT_IN_ROOM)?;
        if let Err(reason) = room.data.parameters.check_capacity(name, Some(sender.source)) {
            return reject_parameter(ctx, reason);
        }
        let ahead = at.map(|at| Duration::from_micros((at as u64).saturating_sub(ctx.now.unix_us())));
        let ahead = ahead.filter(|ahead| {
            !ahead.is_zero() && *ahead <= MAX_SCHEDULE_AHEAD && room.data.scheduled_updates < MAX_SCHEDULED_UPDATES
        });
        if let Some(ahead) = ahead {
            room.data.scheduled_updates += 1;
            let update = Box::new(ScheduledUpdate { sender, name: name.as_ref().to_owned(), value: *value });
            let timer = ControlSurfaceTimer::ScheduledUpdate { room: key, update };
            ctx.timers.insert(ctx.now.monotonic + ahead, TimerEvent::ControlSurface(timer));
        }
        self.emit_event(ctx, ControlSurfaceEventKind::Param, name, Some(*value), *at);
        if ahead.is_none() {
            let stored = store_and_broadcast(ctx, &mut self.rooms, key, Some(sender), name, *value);
            return stored.or_else(|reason| reject_parameter(ctx, reason));
        }
        Ok(0)
    }

    /// Returns the connection's room. Fails if there is no room, or if the parameter or event name is too long.
    fn member_room(&self, ctx: &ConnectionContext<'_>, name: &str) -> Result<RoomKey, MessageError> {
        let key = self.rooms.room_of(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
        if is_name_too_long(name) { Err(MessageError::ignored("name longer than 256 bytes")) } else { Ok(key) }
    }

    /// Reports an action of a member as a [`ControlSurfaceEvent`]. The time `at` is truncated to whole microseconds.
    fn emit_event(
        &self,
        ctx: &mut ConnectionContext<'_>,
        kind: ControlSurfaceEventKind,
        name: &str,
        value: Option<f32>,
        at: Option<f64>,
    ) {
        let Some((member, room)) = self.rooms.member(ctx.conn) else { return };
        // All strings fit: the lengths of codes and names are checked, and the node id is a UUID.
        let (room, node_id) = (InlineStr::new(room.name()), InlineStr::new(&member.data.node_id));
        let (Some(room), Some(node_id), Some(name)) = (room, node_id, InlineStr::new(name)) else { return };
        let (at, received_at) = (at.map(|at| at as u64), ctx.now.unix_us());
        ctx.counters.control_surface_events += 1;
        ctx.sink.control_surface_event(ControlSurfaceEvent { room, node_id, kind, name, value, at, received_at });
    }

    /// Closes a room and the connections of its members, whose number is returned; `None` if the room is not open. Only the log contains
    /// `reason`.
    pub(super) fn close(&mut self, ctx: &mut ConnectionContext<'_>, key: RoomKey, reason: &str) -> Option<usize> {
        let room = self.rooms.close(key)?;
        self.guesses.on_room_closed(room.name());
        ctx.send(&room.connections(), &ServerMessage::Closed);
        for member in &room.members {
            log_membership("member left", room.logged(member.conn, &member.data), Some("room closed"), 0);
            ctx.close(member.conn, CloseCode::NORMAL_CLOSURE, "Room closed");
        }
        let (dialect, members) = (Dialect::ControlSurface.name(), room.members.len());
        info!(target: "signaling", dialect, room = %key.label(), reason, members, "room closed");
        Some(members)
    }
}

fn reject_parameter<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    ctx.counters.parameters_rejected += 1;
    ctx.reply(&TOO_MANY_PARAMETERS);
    Err(MessageError::Rejected(reason))
}

/// Whether a name has more than [`MAX_PARAMETER_NAME_BYTES`] in JSON, where a character has up to six bytes.
pub(super) fn is_name_too_long(name: &str) -> bool {
    let quotes = 2;
    name.len() > MAX_PARAMETER_NAME_BYTES / 6 && to_json(&name).len() - quotes > MAX_PARAMETER_NAME_BYTES
}

/// Sets a parameter of a room and sends it to the members other than `sender`. Returns the number of receivers.
pub(super) fn store_and_broadcast(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut Rooms,
    key: RoomKey,
    sender: Option<ParameterSender>,
    name: &str,
    value: f32,
) -> Result<usize, &'static str> {
    let Some(room) = rooms.get_mut(key) else { return Ok(0) };
    let memory = if sender.is_some() && !room.data.parameters.by_name.contains_key(name) {
        let bytes = (3 * name.len() + PARAMETER_BYTES) as u64;
        Some(ctx.sink.take_memory(bytes).ok_or("this address holds its share of the memory budget")?)
    } else {
        None
    };
    let index = room.data.parameters.set(name, value, sender.map(|sender| sender.source), memory)?;
    let sender = sender.map(|sender| sender.conn);
    let others = sender.map_or_else(|| room.connections(), |sender| room.others(sender));
    if !others.is_empty() {
        ctx.send_update(&others, to_json(&ServerMessage::Update { param: name, value }), key.update_key(index));
    }
    Ok(others.len())
}

/// Maximum number of parameters in one room. The same maximum applies to the number of declared ranges.
pub(super) const MAX_PARAMETERS: usize = 4_096;
const _: () = assert!(MAX_PARAMETERS < 1 << UPDATE_KEY_BITS, "an index of a parameter needs more bits");

/// Maximum number of parameters in one room that members from one address (IPv6: one /64) have created.
const MAX_PARAMETERS_PER_ADDRESS: usize = MAX_PARAMETERS / 4;

/// The range of a parameter that has no declared range.
const DEFAULT_RANGE: (f32, f32) = (0.0, 1.0);

/// Why a new parameter is rejected.
const TOO_MANY_IN_ROOM: &str = "the room has the maximum number of parameters";
const TOO_MANY_FROM_ADDRESS: &str = "this address has created its share of the parameters";

/// A parameter of a room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ParameterValue {
    /// The parameter that was set first has index 1, and each further parameter has the next index.
    pub(super) index: usize,
    pub(super) value: f32,
}

/// The parameters of a room by name.
#[derive(Debug, Default)]
pub(super) struct ParameterValues {
    by_name: BTreeMap<String, ParameterValue>,
    /// How many of them members from each address have created. The share of an address does not grow if its members leave.
    created_by: HashMap<IpAddr, usize>,
    /// The memory of what members have created.
    memory: Vec<MemoryPermit>,
    /// The cached `state` message.
    pub(super) cached_state: Option<String>,
}

/// Bytes that each parameter holds in addition to three times its name: the parameter and its part of the `state` message.
const PARAMETER_BYTES: usize = 256;

impl ParameterValues {
    /// Checks that the parameter exists or may be created by a member from `source` (`None`: by the program).
    pub(super) fn check_capacity(&self, name: &str, source: Option<IpAddr>) -> Result<(), &'static str> {
        if self.by_name.contains_key(name) {
            return Ok(());
        }
        if self.by_name.len() >= MAX_PARAMETERS {
            return Err(TOO_MANY_IN_ROOM);
        }
        let created = source.and_then(|source| self.created_by.get(&source_network(source)));
        if created.is_some_and(|created| *created >= MAX_PARAMETERS_PER_ADDRESS) {
            return Err(TOO_MANY_FROM_ADDRESS);
        }
        Ok(())
    }

    /// Sets a parameter for a member from `source` (`None`: for the program) and returns its index. A new parameter holds `memory`.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: f32,
        source: Option<IpAddr>,
        memory: Option<MemoryPermit>,
    ) -> Result<usize, &'static str> {
        self.check_capacity(name, source)?;
        self.cached_state = None;
        if let Some(parameter) = self.by_name.get_mut(name) {
            parameter.value = value;
            return Ok(parameter.index);
        }
        if let Some(source) = source {
            *self.created_by.entry(source_network(source)).or_default() += 1;
        }
        self.memory.extend(memory);
        let index = self.by_name.len() + 1;
        self.by_name.insert(name.to_owned(), ParameterValue { index, value });
        Ok(index)
    }

    /// Removes all parameters, whose number is returned, and the shares of all addresses. The first update of a new parameter replaces a
    /// queued update of the removed one that had the same index.
    pub(super) fn clear(&mut self) -> usize {
        self.cached_state = None;
        self.created_by.clear();
        self.memory.clear();
        std::mem::take(&mut self.by_name).len()
    }

    /// The `state` message, which is cached until a change.
    fn state_json(&mut self, ranges: &BTreeMap<String, (f32, f32)>) -> &str {
        self.cached_state.get_or_insert_with(|| {
            let params = self.by_name.iter().map(|(name, parameter)| {
                let (min, max) = ranges.get(name).copied().unwrap_or(DEFAULT_RANGE);
                ParameterState { name, value: parameter.value, min, max }
            });
            to_json(&ServerMessage::State { params: params.collect() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_json_is_cached_until_a_change() {
        let (mut parameters, none) = (ParameterValues::default(), BTreeMap::new());
        let all = BTreeMap::from([("a".to_owned(), (-1.0, 2.0))]);
        let empty = r#"{"type":"state","params":[]}"#;
        assert_eq!(parameters.state_json(&none), empty);
        assert_eq!(parameters.set("a", 1.0, None, None), Ok(1));
        let set = r#"{"type":"state","params":[{"name":"a","value":1.0,"min":0.0,"max":1.0}]}"#;
        assert_eq!((parameters.state_json(&none).to_owned(), parameters.state_json(&all)), (set.to_owned(), set));
        parameters.cached_state = None;
        assert_eq!(parameters.state_json(&all), set.replace(r#""min":0.0,"max":1.0"#, r#""min":-1.0,"max":2.0"#));
    }
}
