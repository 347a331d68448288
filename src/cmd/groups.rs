//! Options of a probe over MOQT: how the groups are made that it sends.

use std::time::Duration;

use super::Failure;
use super::args::Millis;
use super::moqt_session::HEADING;
use crate::moqt::client::{Config, Payload};
use crate::moqt::fields::BODY_BYTES;

/// Frames in a group. A window of frames is remembered, and a group is not cut by it.
const MOST_FRAMES: u64 = 10_000;

/// How groups are made.
#[derive(Clone, Debug, clap::Args)]
pub struct GroupArgs {
    /// Frames in each group [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_FRAMES), help_heading = HEADING)]
    frames_per_group: Option<u64>,

    /// Time between two frames of a group, in milliseconds or with a unit; a group takes no longer than --interval, or that is
    /// stretched [default: 0]
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    frame_interval: Option<Millis>,
}

impl GroupArgs {
    /// The option that is given, if one is.
    pub fn given(&self) -> Option<&'static str> {
        let frames = self.frames_per_group.map(|_| "--frames-per-group");
        frames.or(self.frame_interval.map(|_| "--frame-interval"))
    }

    /// Groups of frames of `size` bytes, `count` or until stopped, one every `interval`; the rest as in `config`.
    pub fn config(
        &self,
        count: Option<u64>,
        interval: Duration,
        size: usize,
        config: Config,
    ) -> Result<Config, Failure> {
        if size > BODY_BYTES {
            return Err(Failure::usage(format!("--size {size}: a MOQT frame has at most {BODY_BYTES} bytes")));
        }
        Ok(Config {
            count,
            interval,
            frames_per_group: self.frames_per_group.map_or(1, |frames| frames as usize),
            frame_interval: self.frame_interval.map_or(Duration::ZERO, |Millis(interval)| interval),
            payload: Payload::Noise(size),
            ..config
        })
    }
}
