//! A room of control surfaces: its members, and its parameters with the updates that are scheduled.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tracing::info;

use super::messages::{ClientMessage, ParamMessage, ParameterState, ServerMessage, TriggerMessage};
use crate::call::{Call, Effect, MAX_LIST_DEBT};
use crate::close_code::CloseCode;
use crate::control_surface_events::{
    ControlSurfaceEvent, ControlSurfaceEventKind, InlineStr, MAX_PARAMETER_NAME_BYTES,
};
use crate::dialect::Dialect;
use crate::json::{MessageError, TOO_MANY_REQUESTS, to_json};
use crate::lock::lock;
use crate::room::{CHANGED_ROOM, ConnectionClose, LEFT_ROOM, MemberData, MemberInfo, Room, Roster};
use crate::send_queue::UpdateKey;
use crate::server::ConnId;
use crate::timers::Timers;
use jamjam_core::address::source_network;
use jamjam_core::memory_budget::MemoryPermit;
use jamjam_core::time::Time;

/// The reply if a room has the maximum number of members.
pub(crate) const ROOM_FULL: ServerMessage<'static> =
    ServerMessage::Error { code: "ROOM_FULL", message: "Room is at capacity" };

/// The reply to `sync` above the limit.
const RATE_LIMITED: ServerMessage<'static> =
    ServerMessage::Error { code: "RATE_LIMITED", message: "Too many sync requests" };

/// The reply to a new parameter above a limit.
const TOO_MANY_PARAMETERS: ServerMessage<'static> =
    ServerMessage::Error { code: "TOO_MANY_PARAMETERS", message: "Too many parameters" };

/// Maximum number of scheduled updates per room.
const MAX_SCHEDULED_UPDATES: usize = 1_000;

/// Maximum time from the receipt of an update to its scheduled time. If this time is exceeded, the update is not delayed but takes effect
/// on receipt.
const MAX_SCHEDULE_AHEAD: Duration = Duration::from_secs(60);

/// A room, whose name is its code.
pub(crate) struct ControlSurfaceRoom {
    pub(crate) roster: Roster<ControlSurfaceMember>,
    parameters: ParameterValues,
    scheduled: Timers<ScheduledUpdate>,
    max_members: usize,
    expires: Time,
    /// Milliseconds since the Unix epoch.
    pub(crate) expires_ms: u64,
    is_closed: bool,
}

/// The data of a member.
pub(crate) struct ControlSurfaceMember {
    pub(super) node_id: String,
}

impl MemberData for ControlSurfaceMember {
    const DIALECT: Dialect = Dialect::ControlSurface;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.node_id, name: None, is_control_channel: false }
    }
}

/// A parameter update that waits for its scheduled time.
struct ScheduledUpdate {
    sender: (ConnId, IpAddr),
    name: String,
    value: f32,
}

impl Room for ControlSurfaceRoom {
    type Member = ControlSurfaceMember;

    fn roster(&self) -> &Roster<ControlSurfaceMember> {
        &self.roster
    }

    fn roster_mut(&mut self) -> &mut Roster<ControlSurfaceMember> {
        &mut self.roster
    }

    fn leave(&mut self, call: &mut Call<'_>, close: &ConnectionClose<'_>) {
        self.roster.leave(call, call.sender.conn, &close.leave_reason());
    }

    /// The members receive `closed`, as after every close of a room of this dialect.
    fn close(&mut self, call: &mut Call<'_>, _: CloseCode, _: &'static str, reason: &str) {
        self.close_with(call, reason);
    }

    fn is_needed(&self) -> bool {
        !self.is_closed
    }

    fn next_deadline(&self) -> Option<Time> {
        Some(self.scheduled.next_deadline().map_or(self.expires, |next| next.min(self.expires)))
    }

    fn on_deadline(&mut self, call: &mut Call<'_>) {
        let Some(ScheduledUpdate { sender, name, value }) =
            self.scheduled.pop_due(call.now.monotonic.min(self.expires))
        else {
            return self.close_with(call, "expired");
        };
        if self.store_and_broadcast(call, Some(sender), &name, value).is_err() {
            call.effects.counters.parameters_rejected += 1;
            call.send([sender.0], &TOO_MANY_PARAMETERS);
        }
    }
}

impl ControlSurfaceRoom {
    pub(crate) fn new(
        roster: Roster<ControlSurfaceMember>,
        max_members: usize,
        expires: Time,
        expires_ms: u64,
    ) -> Self {
        let (parameters, scheduled) = Default::default();
        Self { roster, parameters, scheduled, max_members, expires, expires_ms, is_closed: false }
    }

    /// Adds a member. One that joins the same room again is not counted twice.
    pub(super) fn enter(&mut self, call: &mut Call<'_>, member: ControlSurfaceMember) -> Result<(), MessageError> {
        if self.roster.others(call.sender.conn).count() >= self.max_members {
            call.effects.counters.add_rejected(true);
            call.reply(&ROOM_FULL);
            return Err(MessageError::Rejected("the room is full"));
        }
        self.roster.leave(call, call.sender.conn, CHANGED_ROOM);
        call.reply(&ServerMessage::Welcome { node_id: &member.node_id, server_time: call.now.unix_us() });
        self.roster.join(call, member, false);
        Ok(())
    }

    /// Handles a message from a member, except `join`.
    pub(super) fn on_message(
        &mut self,
        call: &mut Call<'_>,
        message: ClientMessage<'_>,
        ranges: &Mutex<Ranges>,
    ) -> Result<(), MessageError> {
        let conn = call.sender.conn;
        match message {
            ClientMessage::Param(message) => self.set_param(call, &message)?,
            ClientMessage::Trigger(TriggerMessage { name, at }) => {
                check_name_length(&name)?;
                self.emit_event(call, &name, None, at);
            }
            ClientMessage::Sync => {
                if !call.may_request(MAX_LIST_DEBT) {
                    call.effects.counters.add_rejected(true);
                    call.reply(&RATE_LIMITED);
                    return Err(MessageError::Rejected(TOO_MANY_REQUESTS));
                }
                call.send_requested([conn], || to_json(&self.parameters.state(&lock(ranges))));
            }
            ClientMessage::Leave => {
                self.roster.leave(call, conn, LEFT_ROOM);
                call.close(conn, CloseCode::NORMAL_CLOSURE, "");
            }
            ClientMessage::Join(_) | ClientMessage::Ping(_) => {}
        }
        Ok(())
    }

    /// Sets a parameter, or schedules the update.
    fn set_param(&mut self, call: &mut Call<'_>, message: &ParamMessage<'_>) -> Result<(), MessageError> {
        let ParamMessage { name, value, at } = message;
        check_name_length(name)?;
        let sender = (call.sender.conn, call.sender.source);
        if let Err(reason) = self.parameters.check_capacity(name, Some(call.sender.source)) {
            return reject_parameter(call, reason);
        }
        let ahead = at.map(|at| Duration::from_micros((at as u64).saturating_sub(call.now.unix_us())));
        let ahead = ahead.filter(|ahead| {
            !ahead.is_zero() && *ahead <= MAX_SCHEDULE_AHEAD && self.scheduled.len() < MAX_SCHEDULED_UPDATES
        });
        if let Some(ahead) = ahead {
            let update = ScheduledUpdate { sender, name: name.as_ref().to_owned(), value: *value };
            self.scheduled.insert(call.now.monotonic + ahead, update);
        }
        self.emit_event(call, name, Some(*value), *at);
        if ahead.is_none() {
            let stored = self.store_and_broadcast(call, Some(sender), name, *value);
            return stored.map(drop).or_else(|reason| reject_parameter(call, reason));
        }
        Ok(())
    }

    /// Reports an action of a member as a [`ControlSurfaceEvent`]: a trigger if there is no `value`. The time `at` is truncated to whole
    /// microseconds.
    fn emit_event(&self, call: &mut Call<'_>, name: &str, value: Option<f32>, at: Option<f64>) {
        let Some(member) = self.roster.find(call.sender.conn) else { return };
        // All strings fit: the lengths of codes and names are checked, and the node id is a UUID.
        let (room, node_id) = (InlineStr::new(self.roster.name()), InlineStr::new(&member.data.node_id));
        let (Some(room), Some(node_id), Some(name)) = (room, node_id, InlineStr::new(name)) else { return };
        let (at, received_at) = (at.map(|at| at as u64), call.now.unix_us());
        let kind = value.map_or(ControlSurfaceEventKind::Trigger, |_| ControlSurfaceEventKind::Param);
        call.effects.counters.control_surface_events += 1;
        let event = ControlSurfaceEvent { room, node_id, kind, name, value, at, received_at };
        call.effects.list.push(Effect::Event(Box::new(event)));
    }

    /// Sets a parameter and sends it to the members other than the `sender`, which has this address (`None`: for the program). Returns the
    /// number of receivers.
    pub(crate) fn store_and_broadcast(
        &mut self,
        call: &mut Call<'_>,
        sender: Option<(ConnId, IpAddr)>,
        name: &str,
        value: f32,
    ) -> Result<usize, &'static str> {
        let memory = if sender.is_some() && !self.parameters.by_name.contains_key(name) {
            Some(
                call.take_memory(3 * name.len() + PARAMETER_BYTES)
                    .ok_or("half of the memory is used, or the share of this address")?,
            )
        } else {
            None
        };
        let index = self.parameters.set(name, value, sender.map(|(_, source)| source), memory)?;
        let others = self.roster.connections().filter(|conn| sender.is_none_or(|(sender, _)| sender != *conn));
        let text = || to_json(&ServerMessage::Update { param: name, value });
        Ok(call.send_with(others, text, Some(UpdateKey(index as u16)), false))
    }

    /// Sends a visualization to all members. Returns their number.
    pub(crate) fn visualize(&self, call: &mut Call<'_>, text: &str) -> usize {
        // The keys of parameters begin with 1.
        call.send_with(self.roster.connections(), || text.to_owned(), Some(UpdateKey(0)), false)
    }

    /// Closes the room and the connections of its members. Only the log contains `reason`.
    pub(crate) fn close_with(&mut self, call: &mut Call<'_>, reason: &str) {
        let members = call.send(self.roster.connections(), &ServerMessage::Closed);
        self.roster.close(call, CloseCode::NORMAL_CLOSURE, "Room closed", "room closed");
        self.is_closed = true;
        let dialect = Dialect::ControlSurface.name();
        info!(target: "signaling", dialect, room = %self.roster.label(), reason, members, "room closed");
    }
}

fn reject_parameter<T>(call: &mut Call<'_>, reason: &'static str) -> Result<T, MessageError> {
    call.effects.counters.parameters_rejected += 1;
    call.reply(&TOO_MANY_PARAMETERS);
    Err(MessageError::Rejected(reason))
}

fn check_name_length(name: &str) -> Result<(), MessageError> {
    if is_name_too_long(name) { Err(MessageError::ignored("name longer than 256 bytes")) } else { Ok(()) }
}

/// Whether a name has more than [`MAX_PARAMETER_NAME_BYTES`] in JSON, where a character has up to six bytes.
pub(crate) fn is_name_too_long(name: &str) -> bool {
    let quotes = 2;
    name.len() > MAX_PARAMETER_NAME_BYTES / 6 && to_json(&name).len() - quotes > MAX_PARAMETER_NAME_BYTES
}

/// Maximum number of parameters in one room. The same maximum applies to the number of declared ranges.
pub(crate) const MAX_PARAMETERS: usize = 4_096;

/// Maximum number of parameters in one room that members from one address (IPv6: one /64) have created.
const MAX_PARAMETERS_PER_ADDRESS: usize = MAX_PARAMETERS / 4;

/// The declared ranges (minimum and maximum) by parameter name. Values outside the range are accepted and not clamped.
pub(crate) type Ranges = BTreeMap<String, (f32, f32)>;

/// The range of a parameter that has no declared range.
const DEFAULT_RANGE: (f32, f32) = (0.0, 1.0);

/// Why a new parameter is rejected.
const NO_SPACE: &str = "the room has the maximum number of parameters, or this address has created its share";

/// A parameter of a room.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ParameterValue {
    /// The parameter that was set first has index 1, and each further parameter has the next index.
    index: usize,
    value: f32,
}

/// The parameters of a room by name.
#[derive(Debug, Default)]
struct ParameterValues {
    by_name: BTreeMap<String, ParameterValue>,
    /// How many of them members from each address have created. The share of an address does not grow if its members leave.
    created_by: HashMap<IpAddr, usize>,
    /// The memory of what members have created.
    memory: Vec<MemoryPermit>,
}

/// Bytes that each parameter holds in addition to three times its name: the parameter and its part of the `state` message.
const PARAMETER_BYTES: usize = 256;

impl ParameterValues {
    /// Checks that the parameter exists or may be created by a member from `source` (`None`: by the program).
    fn check_capacity(&self, name: &str, source: Option<IpAddr>) -> Result<(), &'static str> {
        let created = source.and_then(|source| self.created_by.get(&source_network(source)));
        let has_space =
            self.by_name.len() < MAX_PARAMETERS && created.is_none_or(|created| *created < MAX_PARAMETERS_PER_ADDRESS);
        if has_space || self.by_name.contains_key(name) { Ok(()) } else { Err(NO_SPACE) }
    }

    /// Sets a parameter for a member from `source` (`None`: for the program) and returns its index. A new parameter holds `memory`.
    fn set(
        &mut self,
        name: &str,
        value: f32,
        source: Option<IpAddr>,
        memory: Option<MemoryPermit>,
    ) -> Result<usize, &'static str> {
        self.check_capacity(name, source)?;
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

    /// The `state` message.
    fn state(&self, ranges: &Ranges) -> ServerMessage<'_> {
        let params = self.by_name.iter().map(|(name, parameter)| {
            let (min, max) = ranges.get(name).copied().unwrap_or(DEFAULT_RANGE);
            ParameterState { name, value: parameter.value, min, max }
        });
        ServerMessage::State { params: params.collect() }
    }
}
