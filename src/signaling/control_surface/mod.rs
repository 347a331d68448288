//! The control surface dialect (`bbx`). A program creates a room, and clients join the room by its code. The clients set parameters of the
//! program.
//!
//! A room stays open until the program closes the room or the room's lifetime ends ([`commands`]). The server reports each action of a
//! client to the event listeners as a [`ControlSurfaceEvent`]. Each new value is also sent to the other clients of the room.

mod commands;

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::info;

use super::close_code::CloseCode;
use super::control_surface_events::{ControlSurfaceEvent, ControlSurfaceEventKind, MAX_PARAMETER_NAME_BYTES};
use super::dialect::Dialect;
use super::dialect_handler::{ConnectionContext, ConnectionHandle, Connections, DialectHandler};
use super::event_sink::ConnId;
use super::json::{MessageError, to_json};
use super::limits::{Heartbeat, SignalingLimits};
use super::rooms::{IdGenerator, MemberData, MemberInfo, RoomData, RoomDirectory, RoomKey, RoomMap};
use super::timers::{DialectTimer, TimerEvent, TimerKey, Timers};
use crate::rate_limit::{WindowLimit, WindowLimiter};

pub use commands::{CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom, MAX_VISUALIZATION_VALUES};

/// Message types that select this dialect.
const MESSAGE_TYPES: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// `join`: joins the room with this code.
#[derive(Debug, Deserialize)]
pub(super) struct JoinMessage<'a> {
    #[serde(borrow)]
    pub(super) room_code: Cow<'a, str>,
}

/// `param`: sets a parameter, at once or at the time `at` (microseconds since the Unix epoch).
#[derive(Debug, Deserialize)]
pub(super) struct ParamMessage<'a> {
    #[serde(rename = "param", borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) value: f32,
    pub(super) at: Option<f64>,
}

/// `trigger`: a momentary event. The server reports the trigger and its `at` immediately, and does not wait until `at`. `at` is a time in
/// microseconds since the Unix epoch.
#[derive(Debug, Deserialize)]
pub(super) struct TriggerMessage<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) at: Option<f64>,
}

/// `ping`: requests the server's time. The reply repeats the client's time exactly as the client wrote it.
#[derive(Debug, Deserialize)]
pub(super) struct PingMessage<'a> {
    #[serde(borrow)]
    pub(super) client_time: &'a RawValue,
}

/// A message from the server. Times are in microseconds since the Unix epoch.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ServerMessage<'a> {
    Welcome { node_id: &'a str, server_time: u64 },
    State { params: Vec<ParameterState<'a>> },
    Update { param: &'a str, value: f32 },
    Visualization { data: &'a [f32] },
    Pong { client_time: &'a RawValue, server_time: u64 },
    Error { code: &'static str, message: &'static str },
    Closed,
}

/// A parameter in `state`.
#[derive(Debug, Serialize)]
pub(super) struct ParameterState<'a> {
    pub(super) name: &'a str,
    pub(super) value: f32,
    pub(super) min: f32,
    pub(super) max: f32,
}

/// The reply to an unknown room code.
pub(super) const INVALID_ROOM: ServerMessage<'static> =
    ServerMessage::Error { code: "INVALID_ROOM", message: "Invalid room code" };

/// The reply if a room has the maximum number of members.
pub(super) const ROOM_FULL: ServerMessage<'static> =
    ServerMessage::Error { code: "ROOM_FULL", message: "Room is at capacity" };

/// Number of wrong codes after which a connection is closed.
const MAX_WRONG_CODES: u32 = 20;

/// Maximum number of scheduled updates per room.
const MAX_SCHEDULED_UPDATES: usize = 1_000;

/// Maximum time from the receipt of an update to its scheduled time. If this time is exceeded, the update is not delayed but takes effect
/// on receipt.
const MAX_SCHEDULE_AHEAD: Duration = Duration::from_secs(60);

/// The control surface dialect.
pub(super) struct ControlSurfaceDialect {
    pub(super) rooms: RoomMap<ControlSurfaceRoom, ControlSurfaceMember>,
    pub(super) ranges: ParameterRanges,
    pub(super) wrong_codes: WindowLimiter,
}

impl Default for ControlSurfaceDialect {
    fn default() -> Self {
        Self {
            rooms: RoomMap::default(),
            ranges: ParameterRanges::default(),
            wrong_codes: WindowLimiter::new(WRONG_CODE_LIMIT, MAX_WRONG_CODE_SOURCES),
        }
    }
}

/// The data of a room; its name is its code.
pub(super) struct ControlSurfaceRoom {
    pub(super) parameters: ParameterValues,
    /// Number of scheduled updates that have not taken effect yet.
    pub(super) scheduled_updates: usize,
    pub(super) max_members: usize,
    /// Milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) expiry_timer: TimerKey,
}

/// The data of a member.
pub(super) struct ControlSurfaceMember {
    pub(super) node_id: String,
}

impl RoomData for ControlSurfaceRoom {}

impl MemberData for ControlSurfaceMember {
    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: Some(&self.node_id), name: None, is_control_channel: false }
    }
}

impl DialectHandler for ControlSurfaceDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn message_types(&self) -> &'static [&'static str] {
        &MESSAGE_TYPES
    }

    fn on_text(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        _: &SignalingLimits,
        text: &str,
    ) -> Result<(), MessageError> {
        on_text(ctx, self, text)
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, _: &SignalingLimits, _: CloseCode, _: &str) {
        self.rooms.leave(ctx.conn, None);
    }

    fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, _: &SignalingLimits, timer: DialectTimer) {
        match timer {
            DialectTimer::RoomExpiry(code) => {
                ctx.counters.cleanup_runs += 1;
                let mut handle = ConnectionHandle { counters: ctx.counters, sink: ctx.sink };
                self.close_room(&code, ctx.connections, ctx.timers, &mut handle);
            }
            DialectTimer::ScheduledUpdate { room, sender, name, value } => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.data.scheduled_updates -= 1;
                }
                let stored = store_and_broadcast(&mut self.rooms, &mut ctx.handle(), room, Some(sender), &name, value);
                if stored.is_err() {
                    ctx.counters.messages_ignored += 1;
                }
            }
            DialectTimer::RoomHeartbeat(_) | DialectTimer::DelayedMessage(_) => {}
        }
    }

    fn heartbeat(&self, limits: &SignalingLimits) -> Option<Heartbeat> {
        Some(limits.control_surface.heartbeat)
    }
}

impl ControlSurfaceDialect {
    /// Closes a room and the connections of its members. Returns the number of members, or `None` if no room has the code.
    fn close_room(
        &mut self,
        code: &str,
        connections: &mut Connections,
        timers: &mut Timers,
        handle: &mut ConnectionHandle<'_>,
    ) -> Option<usize> {
        let (room, members) = self.rooms.find(code).and_then(|key| self.rooms.close(key))?;
        timers.remove(room.expiry_timer);
        handle.send_text(&members, to_json(&ServerMessage::Closed));
        for conn in &members {
            connections.remove(conn);
            handle.sink.close(*conn, CloseCode::NORMAL_CLOSURE.get(), "Room closed");
        }
        info!(target: "signaling", dialect = Dialect::ControlSurface.name(), members = members.len(), "room closed");
        Some(members.len())
    }
}

/// The type of a message.
#[derive(Deserialize)]
struct MessageType<'a> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'a, str>,
}

/// Handles a message.
fn on_text(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut ControlSurfaceDialect,
    text: &str,
) -> Result<(), MessageError> {
    let MessageType { message_type } = serde_json::from_str(text)?;
    match &*message_type {
        "join" => return join(ctx, dialect, serde_json::from_str(text)?),
        "param" => return set_param(ctx, dialect, &serde_json::from_str(text)?),
        "trigger" => {
            let TriggerMessage { name, at } = serde_json::from_str(text)?;
            let key = member_room(ctx, dialect, &name)?;
            emit_event(ctx, dialect, key, ControlSurfaceEventKind::Trigger, &name, None, at);
        }
        "sync" => {
            let key = dialect.rooms.room_of(ctx.conn).ok_or(MessageError::NotInRoom)?;
            let ControlSurfaceDialect { rooms, ranges, .. } = dialect;
            let room = rooms.get_mut(key).ok_or(MessageError::NotInRoom)?;
            let state = room.data.parameters.state_json(|all| {
                let shown = all.map(|(name, parameter)| {
                    let range = ranges.get(name);
                    ParameterState { name, value: parameter.value, min: range.min, max: range.max }
                });
                to_json(&ServerMessage::State { params: shown.collect() })
            });
            ctx.reply_text(state);
        }
        "ping" => {
            let PingMessage { client_time } = serde_json::from_str(text)?;
            if !client_time.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                return Err(MessageError::Invalid("client_time is not a number".to_owned()));
            }
            let server_time = ctx.now.unix_us();
            ctx.reply(&ServerMessage::Pong { client_time, server_time });
        }
        "leave" => {
            dialect.rooms.leave(ctx.conn, None);
            ctx.close(ctx.conn, CloseCode::NORMAL_CLOSURE, "");
        }
        _ => return Err(MessageError::UnknownType),
    }
    Ok(())
}

fn join(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut ControlSurfaceDialect,
    JoinMessage { room_code }: JoinMessage<'_>,
) -> Result<(), MessageError> {
    let (now, from, conn) = (ctx.now.monotonic, ctx.source, ctx.conn);
    let is_checked = dialect.wrong_codes.retry_after(now, from).is_none();
    let found = dialect.rooms.find(&room_code).filter(|_| is_checked);
    let Some((key, room)) = found.and_then(|key| Some((key, dialect.rooms.get(key)?))) else {
        // If the limit of wrong codes is reached, a further wrong code is not counted.
        let _ = dialect.wrong_codes.check(now, from);
        ctx.reply(&INVALID_ROOM);
        if ctx.count_wrong_code() < MAX_WRONG_CODES {
            ctx.count_rejection();
        } else {
            dialect.rooms.leave(ctx.conn, None);
            ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong codes");
        }
        let reason = if is_checked { "no room has this code" } else { "too many wrong codes from this address" };
        return Err(MessageError::Rejected(reason));
    };
    // A member that joins the same room again is not counted twice.
    let others = room.members.iter().filter(|member| member.conn != conn).count();
    if others >= room.data.max_members {
        ctx.count_rejection();
        ctx.reply(&ROOM_FULL);
        return Err(MessageError::Rejected("the room is full"));
    }
    dialect.rooms.leave(ctx.conn, None);
    let node_id = ctx.generate_unique(IdGenerator::uuid, |_| false);
    let server_time = ctx.now.unix_us();
    ctx.reply(&ServerMessage::Welcome { node_id: &node_id, server_time });
    info!(target: "signaling", dialect = Dialect::ControlSurface.name(), conn = conn.0, node_id, "member joined");
    dialect.rooms.join(key, conn, ControlSurfaceMember { node_id });
    Ok(())
}

fn set_param(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut ControlSurfaceDialect,
    message: &ParamMessage<'_>,
) -> Result<(), MessageError> {
    let ParamMessage { name, value, at } = message;
    if !value.is_finite() {
        return Err(MessageError::Invalid("value is not a finite 32-bit number".to_owned()));
    }
    let key = member_room(ctx, dialect, name)?;
    let room = dialect.rooms.get_mut(key).ok_or(MessageError::NotInRoom)?;
    if !room.data.parameters.has_capacity_for(name) {
        return Err(MessageError::TooMany("parameters"));
    }
    let ahead = at.map(|at| Duration::from_micros((at as u64).saturating_sub(ctx.now.unix_us())));
    let ahead = ahead.filter(|ahead| {
        !ahead.is_zero() && *ahead <= MAX_SCHEDULE_AHEAD && room.data.scheduled_updates < MAX_SCHEDULED_UPDATES
    });
    if let Some(ahead) = ahead {
        room.data.scheduled_updates += 1;
        let (room, sender, name, value) = (key, ctx.conn, name.as_ref().into(), *value);
        let timer = DialectTimer::ScheduledUpdate { room, sender, name, value };
        ctx.timers.insert(ctx.now.monotonic + ahead, TimerEvent::Dialect(Dialect::ControlSurface, timer));
    }
    emit_event(ctx, dialect, key, ControlSurfaceEventKind::Param, name, Some(*value), *at);
    if ahead.is_none() {
        let sender = Some(ctx.conn);
        store_and_broadcast(&mut dialect.rooms, &mut ctx.handle(), key, sender, name, *value)
            .map_err(|TooManyParameters| MessageError::TooMany("parameters"))?;
    }
    Ok(())
}

/// Returns the connection's room. Fails if there is no room, or if the parameter or event name is too long.
fn member_room(
    ctx: &ConnectionContext<'_>,
    dialect: &ControlSurfaceDialect,
    name: &str,
) -> Result<RoomKey, MessageError> {
    let key = dialect.rooms.room_of(ctx.conn).ok_or(MessageError::NotInRoom)?;
    if name.len() > MAX_PARAMETER_NAME_BYTES {
        Err(MessageError::NameTooLong(MAX_PARAMETER_NAME_BYTES))
    } else {
        Ok(key)
    }
}

/// Reports an action of a member as a [`ControlSurfaceEvent`]. The time `at` is truncated to whole microseconds.
fn emit_event(
    ctx: &mut ConnectionContext<'_>,
    dialect: &ControlSurfaceDialect,
    key: RoomKey,
    kind: ControlSurfaceEventKind,
    name: &str,
    value: Option<f32>,
    at: Option<f64>,
) {
    let Some(room) = dialect.rooms.get(key) else { return };
    let Some(member) = room.members.iter().find(|member| member.conn == ctx.conn) else { return };
    let event = ControlSurfaceEvent {
        room: room.name().to_owned(),
        node_id: member.data.node_id.clone(),
        kind,
        name: name.to_owned(),
        value,
        at: at.map(|at| at as u64),
        received_at: ctx.now.unix_us(),
    };
    ctx.handle().emit_event(event);
}

/// Sets a parameter of a room and sends it to the members other than `sender`. Returns the number of receivers.
pub(super) fn store_and_broadcast(
    rooms: &mut RoomMap<ControlSurfaceRoom, ControlSurfaceMember>,
    handle: &mut ConnectionHandle<'_>,
    key: RoomKey,
    sender: Option<ConnId>,
    name: &str,
    value: f32,
) -> Result<usize, TooManyParameters> {
    let Some(room) = rooms.get_mut(key) else { return Ok(0) };
    let index = room.data.parameters.set(name, value)?;
    let others = room.members.iter().map(|member| member.conn).filter(|conn| Some(*conn) != sender);
    let others: Vec<ConnId> = others.collect();
    if !others.is_empty() {
        handle.send_update(&others, to_json(&ServerMessage::Update { param: name, value }), key.update_key(index));
    }
    Ok(others.len())
}

/// Maximum number of parameters in one room. The same maximum applies to the number of declared ranges.
const MAX_PARAMETERS: usize = 4_096;

/// The range of a parameter that has no declared range.
const DEFAULT_RANGE: ParameterRange = ParameterRange { min: 0.0, max: 1.0 };

/// The maximum number of parameters or ranges is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyParameters;

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
    /// The cached `state` message.
    cached_state: Option<String>,
}

impl ParameterValues {
    /// Whether the parameter exists or may be added.
    pub(super) fn has_capacity_for(&self, name: &str) -> bool {
        self.by_name.len() < MAX_PARAMETERS || self.by_name.contains_key(name)
    }

    /// Sets a parameter and returns its index.
    pub(super) fn set(&mut self, name: &str, value: f32) -> Result<usize, TooManyParameters> {
        if !self.has_capacity_for(name) {
            return Err(TooManyParameters);
        }
        self.cached_state = None;
        if let Some(parameter) = self.by_name.get_mut(name) {
            parameter.value = value;
            return Ok(parameter.index);
        }
        let index = self.by_name.len() + 1;
        self.by_name.insert(name.to_owned(), ParameterValue { index, value });
        Ok(index)
    }

    /// All parameters sorted by name, serialized by `write`. Cached until a change.
    pub(super) fn state_json(
        &mut self,
        write: impl FnOnce(btree_map::Iter<'_, String, ParameterValue>) -> String,
    ) -> &str {
        self.cached_state.get_or_insert_with(|| write(self.by_name.iter()))
    }

    /// Discards the cached state, because a range has changed.
    pub(super) fn invalidate_state(&mut self) {
        self.cached_state = None;
    }
}

/// The declared range of a parameter. Values outside the range are accepted and not clamped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ParameterRange {
    pub(super) min: f32,
    pub(super) max: f32,
}

/// The declared ranges by parameter name.
#[derive(Debug, Default)]
pub(super) struct ParameterRanges(BTreeMap<String, ParameterRange>);

impl ParameterRanges {
    /// The range of a parameter.
    pub(super) fn get(&self, name: &str) -> ParameterRange {
        self.0.get(name).copied().unwrap_or(DEFAULT_RANGE)
    }

    /// Declares the range of a parameter.
    pub(super) fn declare(&mut self, name: &str, range: ParameterRange) -> Result<(), TooManyParameters> {
        if self.0.len() >= MAX_PARAMETERS && !self.0.contains_key(name) {
            return Err(TooManyParameters);
        }
        self.0.insert(name.to_owned(), range);
        Ok(())
    }
}

/// Maximum number of wrong room codes per source in one period. A period starts with the first wrong code.
const WRONG_CODE_LIMIT: WindowLimit = WindowLimit { count: 100, period: Duration::from_secs(15 * 60) };

/// Maximum number of sources whose wrong codes are counted.
const MAX_WRONG_CODE_SOURCES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_parameters_can_be_set_at_the_limit() {
        let mut parameters = ParameterValues::default();
        for index in 0..4_096 {
            assert_eq!(parameters.set(&format!("p{index}"), 0.5), Ok(index + 1));
        }
        assert_eq!(parameters.set("one more", 0.5), Err(TooManyParameters));
        assert_eq!(parameters.set("p7", 0.25), Ok(8));
        let mut values = Vec::new();
        parameters.state_json(|all| {
            values.extend(all.take(2).map(|(name, parameter)| (name.clone(), parameter.value)));
            String::new()
        });
        assert_eq!(values, [("p0".to_owned(), 0.5), ("p1".to_owned(), 0.5)]);
        let mut ranges = ParameterRanges::default();
        let range = ParameterRange { min: -1.0, max: 2.0 };
        assert!((0..4_096).all(|index| ranges.declare(&format!("p{index}"), range).is_ok()));
        assert_eq!((ranges.declare("one more", range), ranges.declare("p7", range)), (Err(TooManyParameters), Ok(())));
        assert_eq!((ranges.get("p7"), ranges.get("one more")), (range, DEFAULT_RANGE));
    }

    #[test]
    fn state_json_is_cached_until_a_change() {
        let mut parameters = ParameterValues::default();
        assert_eq!(parameters.state_json(|_| "first".to_owned()), "first");
        assert_eq!(parameters.state_json(|_| "second".to_owned()), "first");
        assert_eq!(parameters.set("a", 1.0), Ok(1));
        assert_eq!(parameters.state_json(|_| "third".to_owned()), "third");
        parameters.invalidate_state();
        assert_eq!(parameters.state_json(|_| "fourth".to_owned()), "fourth");
    }
}
