//! Options of `signaling-server` about those who are in a room and may have fallen silent.

use std::time::Duration;

use super::args::{Millis, OrOff};
use crate::rooms::{Heartbeat, Limits};
use crate::units::{self, Unit};

const HEADING: &str = "Limits";

/// Who is asked for signs of life, and how many may be in a room.
#[derive(Debug, clap::Args)]
pub struct Heartbeats {
    /// How often clients in WebRTC and broadcast rooms are pinged, in ms or with a unit; 0 or off is never, and drops nobody. HEARTBEAT_INTERVAL_MS counts
    /// where HEARTBEAT_INTERVAL is not set
    #[arg(long, env = "HEARTBEAT_INTERVAL", value_name = "DURATION", value_parser = interval, default_value_t = OrOff(Heartbeat::default().every.map(Millis)), help_heading = HEADING)]
    heartbeat_interval: OrOff<Millis>,

    /// How long one of them may be silent, in ms or with a unit: then it is dropped. CLIENT_TIMEOUT_MS counts where
    /// CLIENT_TIMEOUT is not set
    #[arg(long, env = "CLIENT_TIMEOUT", value_name = "DURATION", value_parser = timeout, default_value_t = Millis(Heartbeat::default().patience), help_heading = HEADING)]
    client_timeout: Millis,

    /// Most members of a WebRTC room; more are closed
    #[arg(long, env = "WEBRTC_MAX_MEMBERS", value_name = "N", value_parser = members, default_value_t = Limits::default().webrtc_members, help_heading = HEADING)]
    webrtc_max_members: usize,
}

impl Heartbeats {
    /// Puts them among the hub's limits.
    pub fn within(&self, limits: &Limits) -> Limits {
        let every = self.heartbeat_interval.0.map(|Millis(every)| every);
        let heartbeat = Heartbeat { every, patience: self.client_timeout.0 };
        Limits { heartbeat, webrtc_members: self.webrtc_max_members, ..limits.clone() }
    }
}

/// Shorter ones would keep the server busy with nothing else.
const SHORTEST: Duration = Duration::from_millis(10);

/// A duration, or 0 or `off` for none.
pub(super) fn interval(text: &str) -> Result<OrOff<Millis>, String> {
    if text == "off" {
        return Ok(OrOff(None));
    }
    let every = units::parse_duration(text, Unit::Millis).map_err(|error| error.to_string())?;
    match every {
        Duration::ZERO => Ok(OrOff(None)),
        every if every < SHORTEST => Err("give 10ms or more, or off".to_owned()),
        every => Ok(OrOff(Some(Millis(every)))),
    }
}

/// A duration that is not 0.
pub(super) fn timeout(text: &str) -> Result<Millis, String> {
    let patience = units::parse_duration(text, Unit::Millis).map_err(|error| error.to_string())?;
    if patience.is_zero() {
        Err("give a duration such as 60s; with --heartbeat-interval off nobody is dropped".to_owned())
    } else {
        Ok(Millis(patience))
    }
}

/// A whole number that is not 0.
fn members(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give a whole number above 0".to_owned())
}
