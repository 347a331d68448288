//! What the program that the server belongs to does with its rooms of control surfaces: it makes and closes them, and speaks to those
//! who are in them. Nothing here comes from a client.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tracing::info;

use super::due::Due;
use super::parameters::{Full, Parameters, Range};
use super::space::RoomNumber;
use super::voice::Voice;
use super::{Dialect, Hub};
use crate::rooms::bbx::{self, LONGEST_NAME, NORMAL};
use crate::rooms::{Conn, Moment, Outlet};

/// How many digits a code may have.
pub const CODE_DIGITS: std::ops::RangeInclusive<usize> = 4..=6;

/// The longest life of a room: far more than a server lives, and no clock overflows.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Numbers in one visualization.
pub const MOST_SHOWN: usize = 65_536;

/// What a room is to be like. What is not said is as in [`crate::rooms::Limits`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Making {
    /// Its code, of 4 to 6 digits; by chance if not given.
    pub code: Option<String>,
    /// Most members.
    pub members: Option<usize>,
    /// How long it lives.
    pub life: Option<Duration>,
}

/// A room that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// Its code.
    pub code: String,
    /// When it closes, in milliseconds since 1970.
    #[serde(rename = "expiresAt")]
    pub expires_ms: u64,
}

/// A room, as the program sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SurfaceRoom {
    /// Its code.
    pub code: String,
    /// How many are in it.
    pub clients: usize,
    /// When it was made, in milliseconds since 1970.
    #[serde(rename = "createdAt")]
    pub created_ms: u64,
    /// When it closes, in milliseconds since 1970.
    #[serde(rename = "expiresAt")]
    pub expires_ms: u64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// There are as many rooms as there may be.
    #[error("there are {0} rooms already; close one first")]
    TooManyRooms(usize),
    /// A code that another room has.
    #[error("another room has this code")]
    CodeTaken,
    /// A code that is none.
    #[error("a code has 4 to 6 digits")]
    Code,
    /// No room has this code.
    #[error("no room has this code")]
    NoRoom,
    /// A name that is too long.
    #[error("a name has at most 256 bytes")]
    Name,
    /// Not a number, or one that 32 bits do not hold.
    #[error(
        "values are finite numbers of 32 bits, a range's minimum is not above its maximum, and one message has at most 65536"
    )]
    Value,
    /// As many parameters as there may be.
    #[error("there are 4096 parameters already")]
    TooManyParameters,
}

impl From<Full> for Unfit {
    fn from(Full: Full) -> Self {
        Self::TooManyParameters
    }
}

impl Hub {
    /// Makes a room of control surfaces.
    pub fn make_room(&mut self, now: impl Into<Moment>, making: Making) -> Result<Made, Unfit> {
        let now = now.into();
        let limits = &self.limits.surfaces;
        let digits = limits.code_digits.clamp(*CODE_DIGITS.start(), *CODE_DIGITS.end());
        // At most every second code is one of a room: a free one is found soon, and guessing stays work.
        let most = limits.rooms.min(10_usize.pow(digits as u32) / 2);
        let space = &mut self.rooms.bbx.space;
        if space.len() >= most {
            return Err(Unfit::TooManyRooms(space.len()));
        }
        let code = match making.code {
            Some(code) if !CODE_DIGITS.contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(Unfit::Code);
            }
            Some(code) if space.is_taken(&code) => return Err(Unfit::CodeTaken),
            Some(code) => code,
            None => loop {
                let code = self.names.code(digits);
                if !space.is_taken(&code) {
                    break code;
                }
            },
        };
        let life = making.life.unwrap_or(limits.life).min(LONGEST_LIFE);
        let expiry = self.timers.enter(now.at + life, Due::Expiry(code.clone()));
        let created_ms = now.unix_us / 1_000;
        let expires_ms = created_ms + life.as_millis() as u64;
        let most_members = making.members.unwrap_or(limits.members);
        let parameters = Parameters::default();
        let room = bbx::Room { parameters, waiting: 0, most_members, created_ms, expires_ms, expiry };
        space.tell_time(now);
        space.open(vec![code.clone()], room);
        info!("A room of control surfaces is made, for {most_members} members and {} s", life.as_secs());
        Ok(Made { code, expires_ms })
    }

    /// Closes a room: its members are told, and closed. How many these were.
    pub fn close_room(&mut self, code: &str, out: &mut dyn Outlet) -> Result<usize, Unfit> {
        let space = &mut self.rooms.bbx.space;
        let (room, members) = space.find(code).and_then(|number| space.close(number)).ok_or(Unfit::NoRoom)?;
        self.timers.cancel(room.expiry);
        Voice { counts: &mut self.counts[Dialect::Bbx], out }.tell(&members, bbx::closed());
        for conn in &members {
            self.connections.remove(conn);
            out.close(*conn, NORMAL, "Room closed");
        }
        info!("A room of control surfaces is closed, with {} members", members.len());
        Ok(members.len())
    }

    /// All rooms of control surfaces, in the order of their making.
    pub fn surface_rooms(&self) -> Vec<SurfaceRoom> {
        let shown = |room: &super::space::Room<bbx::Room, bbx::Member>| SurfaceRoom {
            code: room.name().to_owned(),
            clients: room.members.len(),
            created_ms: room.data.created_ms,
            expires_ms: room.data.expires_ms,
        };
        self.rooms.bbx.space.iter().map(shown).collect()
    }

    /// Sets a parameter in all rooms, or in the one of a code, and tells everybody there. How many were told.
    pub fn set_param(
        &mut self,
        code: Option<&str>,
        name: &str,
        value: f32,
        out: &mut dyn Outlet,
    ) -> Result<usize, Unfit> {
        check_name(name)?;
        check_values(&[value])?;
        let rooms = self.surfaces(code)?;
        let mut voice = Voice { counts: &mut self.counts[Dialect::Bbx], out };
        let mut told = 0;
        for number in rooms {
            match bbx::set(&mut self.rooms.bbx.space, &mut voice, number, None, name, value) {
                Ok(more) => told += more,
                Err(Full) if code.is_some() => return Err(Unfit::TooManyParameters),
                Err(Full) => voice.counts.refused += 1,
            }
        }
        Ok(told)
    }

    /// Declares the range of a parameter in all rooms, now and later, and sets it there if there is a `value`. How many were told
    /// of that.
    pub fn set_range(
        &mut self,
        name: &str,
        (min, max): (f32, f32),
        value: Option<f32>,
        out: &mut dyn Outlet,
    ) -> Result<usize, Unfit> {
        check_name(name)?;
        check_values(&[min, max, value.unwrap_or(min)])?;
        if min > max {
            return Err(Unfit::Value);
        }
        self.rooms.bbx.ranges.declare(name, Range { min, max })?;
        self.rooms.bbx.space.iter_mut().for_each(|room| room.data.parameters.tell_anew());
        value.map_or(Ok(0), |value| self.set_param(None, name, value, out))
    }

    /// Shows everybody in all rooms, or in the one of a code, these numbers. How many were told.
    pub fn visualize(&mut self, code: Option<&str>, data: &[f32], out: &mut dyn Outlet) -> Result<usize, Unfit> {
        check_values(data)?;
        let rooms = self.surfaces(code)?;
        let text = bbx::visualization(data);
        let mut voice = Voice { counts: &mut self.counts[Dialect::Bbx], out };
        let mut told = 0;
        for number in rooms {
            let Some(room) = self.rooms.bbx.space.get(number) else { continue };
            let members: Vec<Conn> = room.members.iter().map(|member| member.conn).collect();
            if !members.is_empty() {
                voice.refresh(&members, text.clone(), number.topic(0));
            }
            told += members.len();
        }
        Ok(told)
    }

    /// The room of a code, or all.
    fn surfaces(&self, code: Option<&str>) -> Result<Vec<RoomNumber>, Unfit> {
        let space = &self.rooms.bbx.space;
        match code {
            Some(code) => space.find(code).map(|number| vec![number]).ok_or(Unfit::NoRoom),
            None => Ok(space.numbers().collect()),
        }
    }

    /// A value holds from now on, if its room is still there.
    pub(in crate::rooms) fn on_value(
        &mut self,
        room: RoomNumber,
        by: Conn,
        name: &str,
        value: f32,
        out: &mut dyn Outlet,
    ) {
        let space = &mut self.rooms.bbx.space;
        if let Some(room) = space.get_mut(room) {
            room.data.waiting -= 1;
        }
        let mut voice = Voice { counts: &mut self.counts[Dialect::Bbx], out };
        if bbx::set(space, &mut voice, room, Some(by), name, value).is_err() {
            self.counts[Dialect::Bbx].ignored += 1;
        }
    }
}

fn check_name(name: &str) -> Result<(), Unfit> {
    if name.len() > LONGEST_NAME { Err(Unfit::Name) } else { Ok(()) }
}

fn check_values(values: &[f32]) -> Result<(), Unfit> {
    let are_fit = values.len() <= MOST_SHOWN && values.iter().all(|value| value.is_finite());
    if are_fit { Ok(()) } else { Err(Unfit::Value) }
}
