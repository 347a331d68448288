//! Options of `signaling-server` for control surfaces.

use std::io;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Error, FromArgMatches};

use super::args::{Millis, OrOff, Seconds};
use super::heartbeats::{interval, timeout};
use super::{Failure, output};
use crate::io::rooms::QueueBounds;
use crate::rooms::{CODE_DIGITS, Heartbeat, Hub, Limits, Making, Moment, SurfaceLimits};
use crate::time::Time;

const HEADING: &str = "Control surfaces (bbx)";

/// How a code is asked for that is made by chance.
const ANY: &str = "any";

/// Rooms of control surfaces, and those who are in them.
#[derive(Debug, clap::Args)]
pub struct BbxOptions {
    // The first: reading an option takes it out of what this looks at.
    #[command(flatten)]
    given: Given,

    /// Make a room at the start and print its code: this one of 4 to 6 digits, or any. Comma-separated or repeated
    #[arg(long, env = "BBX_ROOM", value_name = "CODE", value_parser = code, num_args = 0..=1, default_missing_value = ANY, value_delimiter = ',', help_heading = HEADING)]
    bbx_room: Vec<String>,

    /// Digits of the codes that are made, 4 to 6
    #[arg(long, env = "BBX_CODE_LENGTH", value_name = "N", value_parser = digits, default_value_t = SurfaceLimits::default().code_digits, help_heading = HEADING)]
    bbx_code_length: usize,

    /// How long a room lives, in seconds or with a unit; then it is closed
    #[arg(long, env = "BBX_ROOM_EXPIRATION", value_name = "DURATION", value_parser = life, default_value_t = Seconds(SurfaceLimits::default().life), help_heading = HEADING)]
    bbx_room_expiration: Seconds,

    /// Most members of a room; more are told that it is full
    #[arg(long, env = "BBX_MAX_CLIENTS", value_name = "N", value_parser = number, default_value_t = SurfaceLimits::default().members, help_heading = HEADING)]
    bbx_max_clients: usize,

    /// Most rooms at a time
    #[arg(long, env = "BBX_MAX_ROOMS", value_name = "N", value_parser = number, default_value_t = SurfaceLimits::default().rooms, help_heading = HEADING)]
    bbx_max_rooms: usize,

    /// How often surfaces are pinged, in ms or with a unit; 0 or off is never, and drops nobody [default: `5000`, or --heartbeat-interval
    /// where that is given]
    #[arg(long, env = "BBX_PING_INTERVAL", value_name = "DURATION", value_parser = interval, help_heading = HEADING)]
    bbx_ping_interval: Option<OrOff<Millis>>,

    /// How long one of them may be silent, in ms or with a unit: then it is dropped [default: `30000`, or --client-timeout
    /// where that is given]
    #[arg(long, env = "BBX_CONNECTION_TIMEOUT", value_name = "DURATION", value_parser = timeout, help_heading = HEADING)]
    bbx_connection_timeout: Option<Millis>,

    /// Most messages that wait for a surface before old values of parameters are left out
    #[arg(long, env = "BROADCAST_CAPACITY", value_name = "N", value_parser = number, default_value_t = QueueBounds::default().updates, help_heading = HEADING)]
    broadcast_capacity: usize,
}

/// Which of the options for all dialects were given, and not left to their defaults.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    interval: bool,
    timeout: bool,
}

impl BbxOptions {
    /// Puts them among the hub's limits, which have the heartbeat of the other dialects.
    pub fn within(&self, limits: &Limits) -> Limits {
        let Heartbeat { every, patience } = SurfaceLimits::default().heartbeat;
        let every = match self.bbx_ping_interval {
            Some(OrOff(every)) => every.map(|Millis(every)| every),
            None if self.given.interval => limits.heartbeat.every,
            None => every,
        };
        let patience = match self.bbx_connection_timeout {
            Some(Millis(patience)) => patience,
            None if self.given.timeout => limits.heartbeat.patience,
            None => patience,
        };
        let surfaces = SurfaceLimits {
            code_digits: self.bbx_code_length,
            life: self.bbx_room_expiration.0,
            members: self.bbx_max_clients,
            rooms: self.bbx_max_rooms,
            heartbeat: Heartbeat { every, patience },
        };
        Limits { surfaces, ..limits.clone() }
    }

    /// Puts the bound of surfaces among those of the queues.
    pub fn bounds(&self, bounds: QueueBounds) -> QueueBounds {
        QueueBounds { updates: self.broadcast_capacity, ..bounds }
    }

    /// Makes the rooms that are asked for and prints their codes on standard output.
    pub fn open_rooms(&self, hub: &mut Hub, is_spoken: bool) -> Result<(), Failure> {
        if !self.bbx_room.is_empty() && !is_spoken {
            return Err(Failure::usage("--bbx-room makes rooms that nobody could join; add --dialect bbx".to_owned()));
        }
        let unix_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let mut codes: Vec<_> = self.bbx_room.iter().filter(|code| *code != ANY).collect();
        codes.sort();
        if let Some([twice, _]) = codes.windows(2).find(|two| two[0] == two[1]) {
            return Err(Failure::usage(format!("--bbx-room (BBX_ROOM in the environment): {twice} is given twice")));
        }
        let mut made_codes = Vec::new();
        for code in &self.bbx_room {
            let code = Some(code.clone()).filter(|code| code != ANY);
            let making = Making { code: code.clone(), ..Making::default() };
            let made = hub.make_room(Moment { at: Time::ZERO, unix_us }, making).map_err(|unfit| {
                let which = code.map_or_else(String::new, |code| format!(" {code}"));
                Failure::usage(format!("cannot make the room of --bbx-room{which}: {unfit}"))
            })?;
            made_codes.push(made.code);
        }
        for code in made_codes {
            output::print(&mut io::stdout(), &format!("bbx room: {code}")).map_err(Failure::unusable)?;
        }
        Ok(())
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_given = |option| {
            let source = matches.value_source(option);
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        Ok(Self { interval: is_given("heartbeat_interval"), timeout: is_given("client_timeout") })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// It is no option: it looks at the others.
impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// A code, or `any`.
fn code(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_code = CODE_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_code || text == ANY { Ok(text.to_owned()) } else { Err("give a code of 4 to 6 digits, or any".to_owned()) }
}

fn digits(text: &str) -> Result<usize, String> {
    let digits: RangeInclusive<usize> = CODE_DIGITS;
    text.parse().ok().filter(|number| digits.contains(number)).ok_or_else(|| "give 4, 5 or 6".to_owned())
}

/// A duration that is not 0.
fn life(text: &str) -> Result<Seconds, String> {
    let life: Seconds = text.parse().map_err(|error: crate::units::UnitError| error.to_string())?;
    if life.0 < Duration::from_secs(1) { Err("give 1s or more".to_owned()) } else { Ok(life) }
}

/// A whole number that is not 0.
fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give a whole number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cmd::heartbeats::Heartbeats;

    #[derive(Parser)]
    struct Both {
        #[command(flatten)]
        bbx: BbxOptions,
        #[command(flatten)]
        heartbeats: Heartbeats,
    }

    /// How often surfaces are pinged, and how long they may be silent, in ms.
    fn heartbeat(options: &[&str]) -> (Option<u128>, u128) {
        let Both { bbx, heartbeats } = Both::parse_from([&["x"], options].concat());
        let Heartbeat { every, patience } = bbx.within(&heartbeats.within(&Limits::default())).surfaces.heartbeat;
        (every.map(|every| every.as_millis()), patience.as_millis())
    }

    #[test]
    fn surfaces_have_a_heartbeat_of_their_own_unless_only_the_general_one_is_given() {
        assert_eq!(heartbeat(&[]), (Some(5_000), 30_000));
        assert_eq!(heartbeat(&["--heartbeat-interval", "30000"]), (Some(30_000), 30_000));
        assert_eq!(heartbeat(&["--client-timeout", "1s"]), (Some(5_000), 1_000));
        assert_eq!(heartbeat(&["--bbx-ping-interval", "2s", "--heartbeat-interval", "off"]), (Some(2_000), 30_000));
        assert_eq!(heartbeat(&["--heartbeat-interval", "0"]), (None, 30_000));
        assert_eq!(heartbeat(&["--bbx-ping-interval", "off", "--bbx-connection-timeout", "7"]), (None, 7));
    }
}
