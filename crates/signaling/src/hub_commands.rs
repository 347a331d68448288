//! Commands for control surface rooms: create, close and list rooms, set parameters, and send visualizations.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tracing::info;
use utoipa::ToSchema;

use super::call::Call;
use super::control_surface::messages::ServerMessage;
use super::control_surface::room::{ControlSurfaceRoom, MAX_PARAMETERS, is_name_too_long};
use super::control_surface_events::ROOM_CODE_DIGITS;
use super::dialect::Dialect;
use super::hub::Hub;
use super::json::to_json;
use super::lock::lock;
use super::room::Roster;
use jamjam_core::time::WallClock;

/// Maximum lifetime of a room. This maximum prevents overflows when lifetimes are added to times.
const MAX_ROOM_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Maximum number of values of a visualization.
const MAX_VISUALIZATION_VALUES: usize = 65_536;

/// Options for a new room. Absent options are taken from [`ControlSurfaceLimits`](super::ControlSurfaceLimits).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateRoomOptions {
    /// A code of 4 to 6 digits; random by default.
    pub code: Option<String>,
    /// Maximum number of members.
    pub max_members: Option<usize>,
    /// Lifetime of the room.
    pub lifetime: Option<Duration>,
}

/// A room that was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CreatedRoom {
    /// The room code.
    #[schema(example = "4711")]
    pub code: String,
    /// When the room closes, in milliseconds since the Unix epoch.
    #[serde(rename = "expiresAt")]
    pub expires_ms: u64,
}

/// An open control surface room, as `/admin/bbx/rooms` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ControlSurfaceRoomInfo {
    /// The room code.
    #[schema(example = "4711")]
    pub code: String,
    /// Number of members.
    #[serde(rename = "clients")]
    pub member_count: usize,
    /// Creation time in milliseconds since the Unix epoch.
    #[serde(rename = "createdAt")]
    pub created_ms: u64,
    /// When the room closes, in milliseconds since the Unix epoch.
    #[serde(rename = "expiresAt")]
    pub expires_ms: u64,
}

/// Why a command, or an operation of the operator, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The maximum number of open rooms is reached.
    #[error("the maximum number of rooms ({0}) is open; close a room first")]
    TooManyRooms(usize),
    /// The code is in use.
    #[error("another room has this code")]
    CodeTaken,
    /// The code is not 4 to 6 digits.
    #[error("a room code has 4 to 6 digits")]
    InvalidCode,
    /// There is no such room or connection, or its dialect is disabled.
    #[error("{0}")]
    NotFound(&'static str),
    /// The parameter name is too long.
    #[error("name longer than 256 bytes in JSON")]
    NameTooLong,
    /// The field with this name is not a finite 32-bit number, or not a list of such numbers, or the list is too long.
    #[error("{0:?} must be a finite 32-bit number, or a list of at most {MAX_VISUALIZATION_VALUES} of them")]
    InvalidValue(&'static str),
    /// The minimum of a range is above its maximum.
    #[error("\"min\" must not be above \"max\"")]
    InvalidRange,
    /// The maximum number of parameters is reached.
    #[error("the maximum number of parameters (4096) is reached")]
    TooManyParameters,
}

impl Hub {
    /// Creates a room.
    pub fn create_room(&self, now: WallClock, options: CreateRoomOptions) -> Result<CreatedRoom, CommandError> {
        let limits = &self.server.limits.control_surface;
        let digits = limits.code_digits.clamp(*ROOM_CODE_DIGITS.start(), *ROOM_CODE_DIGITS.end());
        // At most half of the codes are in use. Therefore, a free code is found quickly, and codes stay hard to guess.
        let max_rooms = limits.max_rooms.min(10_usize.pow(digits as u32) / 2);
        let created_ms = now.unix_ms();
        let lifetime = options.lifetime.unwrap_or(limits.room_lifetime).min(MAX_ROOM_LIFETIME);
        let expires_ms = created_ms + lifetime.as_millis() as u64;
        let max_members = options.max_members.unwrap_or(limits.max_members);
        let rooms = &self.control_surface.rooms;
        let (key, code) = {
            let mut directory = rooms.directory();
            if directory.len() >= max_rooms {
                return Err(CommandError::TooManyRooms(directory.len()));
            }
            let code = match options.code {
                Some(code)
                    if !ROOM_CODE_DIGITS.contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_digit()) =>
                {
                    return Err(CommandError::InvalidCode);
                }
                Some(code) if directory.find(&code).is_some() => return Err(CommandError::CodeTaken),
                Some(code) => code,
                None => {
                    let is_free = |code: &str| directory.find(code).is_none();
                    lock(&self.server.ids).unique(|ids| ids.room_code(digits), is_free)
                }
            };
            let key = directory.create(|key| {
                let roster = Roster::new(key, vec![code.clone()], None, created_ms);
                ControlSurfaceRoom::new(roster, max_members, now.monotonic + lifetime, expires_ms)
            });
            (key, code)
        };
        // A call schedules the end of the room.
        self.call_as_system(now, Dialect::ControlSurface, |call| rooms.call(call, |_| Some(key), |_, _| ()));
        info!(
            target: "signaling",
            dialect = Dialect::ControlSurface.name(),
            room = %key.label(),
            max_clients = max_members,
            expires_in_s = lifetime.as_secs(),
            "room created"
        );
        Ok(CreatedRoom { code, expires_ms })
    }

    /// All rooms in the order of creation.
    pub fn control_surface_rooms(&self) -> Vec<ControlSurfaceRoomInfo> {
        self.control_surface.rooms.map(|room| ControlSurfaceRoomInfo {
            code: room.roster.name().to_owned(),
            member_count: room.roster.list.len(),
            created_ms: room.roster.created_ms,
            expires_ms: room.expires_ms,
        })
    }

    /// Lets the room with `code` act, or without a code each room.
    fn call_rooms<T>(
        &self,
        now: WallClock,
        code: Option<&str>,
        mut action: impl FnMut(&mut ControlSurfaceRoom, &mut Call<'_>) -> T,
    ) -> Result<Vec<T>, CommandError> {
        let rooms = &self.control_surface.rooms;
        let keys = match code {
            Some(code) => vec![rooms.directory().find(code).ok_or(CommandError::NotFound("no room has this code"))?],
            None => rooms.keys(),
        };
        Ok(self.call_as_system(now, Dialect::ControlSurface, |call| {
            keys.into_iter().filter_map(|key| rooms.call(call, |_| Some(key), &mut action)).collect()
        }))
    }

    /// Informs the members of a room and closes it. Returns the number of members.
    pub fn close_room(&self, now: WallClock, code: &str) -> Result<usize, CommandError> {
        let members = self.call_rooms(now, Some(code), |room, call| {
            let members = room.roster.list.len();
            room.close_with(call, "closed by a command");
            members
        })?;
        Ok(members.iter().sum())
    }

    /// Sets a parameter in the room with `code`, or without a code in all rooms, and sends it to the members. Returns their number.
    pub fn broadcast_param(
        &self,
        now: WallClock,
        code: Option<&str>,
        name: &str,
        value: f32,
    ) -> Result<usize, CommandError> {
        check_name(name)?;
        check_values("value", &[value])?;
        let receivers = self.call_rooms(now, code, |room, call| {
            let set = room.store_and_broadcast(call, None, name, value);
            call.effects.counters.parameters_rejected += u64::from(set.is_err() && code.is_none());
            set
        })?;
        if code.is_some() && receivers.iter().any(Result::is_err) {
            return Err(CommandError::TooManyParameters);
        }
        Ok(receivers.into_iter().flatten().sum())
    }

    /// Declares the range of a parameter for all rooms, and sets it if there is a `value`. Returns the number of receivers of the value.
    pub fn declare_range(
        &self,
        now: WallClock,
        name: &str,
        (min, max): (f32, f32),
        value: Option<f32>,
    ) -> Result<usize, CommandError> {
        check_name(name)?;
        check_values("min", &[min])?;
        check_values("max", &[max])?;
        check_values("value", value.as_slice())?;
        if min > max {
            return Err(CommandError::InvalidRange);
        }
        {
            let mut ranges = lock(&self.control_surface.ranges);
            if ranges.len() >= MAX_PARAMETERS && !ranges.contains_key(name) {
                return Err(CommandError::TooManyParameters);
            }
            ranges.insert(name.to_owned(), (min, max));
        }
        value.map_or(Ok(0), |value| self.broadcast_param(now, None, name, value))
    }

    /// Sends a visualization to the members of the room with `code`, or of all rooms. Returns the number of receivers.
    pub fn broadcast_visualization(
        &self,
        now: WallClock,
        code: Option<&str>,
        data: &[f32],
    ) -> Result<usize, CommandError> {
        check_values("data", data)?;
        let text = to_json(&ServerMessage::Visualization { data });
        Ok(self.call_rooms(now, code, |room, call| room.visualize(call, &text))?.iter().sum())
    }
}

fn check_name(name: &str) -> Result<(), CommandError> {
    if is_name_too_long(name) { Err(CommandError::NameTooLong) } else { Ok(()) }
}

fn check_values(field: &'static str, values: &[f32]) -> Result<(), CommandError> {
    let are_fit = values.len() <= MAX_VISUALIZATION_VALUES && values.iter().all(|value| value.is_finite());
    if are_fit { Ok(()) } else { Err(CommandError::InvalidValue(field)) }
}
