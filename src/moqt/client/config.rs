//! What a run sends, to whom it looks, and how it may end.

use std::time::Duration;

use super::Payload;
use crate::moqt::path::Path;

/// What to send, and how patiently to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The track that is announced.
    pub track: Path,
    /// What announcements are asked for, so as to hear of the echo.
    pub prefix: Path,
    /// The broadcast that is announced in the head's flavour.
    pub head_broadcast: Path,
    /// What announcements are asked for there.
    pub head_prefix: Path,
    /// The track of that broadcast.
    pub head_track: String,
    /// Groups to send; `None`: until stopped.
    pub count: Option<u64>,
    /// Frames in a group; at least 1.
    pub frames_per_group: usize,
    /// Time between the first frames of two groups.
    pub interval: Duration,
    /// Time between two frames of a group. A group takes no longer than `interval`, or that is stretched.
    pub frame_interval: Duration,
    /// What is in the frames.
    pub payload: Payload,
    /// How long after the set-up the server may take to subscribe, to announce the echo and to agree to our subscription; in the head's
    /// flavour, how long after the first frame to agree.
    pub patience: Duration,
    /// How long to wait before the first group: the original server refuses what comes before it has taken note of its own
    /// subscription.
    pub settle: Duration,
    /// How long to wait for a frame that has not come back, beyond the shortest time that one took.
    pub timeout: Duration,
}

impl Default for Config {
    /// `japan, kyoto, text`, or `/client.echo` and the track `index`; 10 groups of one frame of 100 bytes, 250 ms apart; 5 s of
    /// patience, 50 ms to settle, 2 s to wait.
    fn default() -> Self {
        Self {
            track: Path::of(["japan", "kyoto", "text"]),
            prefix: Path::of(["japan", "kyoto"]),
            head_broadcast: Path::of(["/client.echo"]),
            head_prefix: Path::of(["/"]),
            head_track: "index".to_owned(),
            count: Some(10),
            frames_per_group: 1,
            interval: Duration::from_millis(250),
            frame_interval: Duration::ZERO,
            payload: Payload::Noise(100),
            patience: Duration::from_secs(5),
            settle: Duration::from_millis(50),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// How long after the first frame the one with this number is due, counted from 0 over all groups.
    pub(super) fn due(&self, frame: u64) -> Duration {
        let per_group = self.frames_per_group.max(1) as u64;
        times(self.gap(), frame / per_group) + times(self.frame_interval, frame % per_group)
    }

    /// The time between the first frames of two groups, and the most between any two frames that follow each other.
    pub(super) fn gap(&self) -> Duration {
        self.interval.max(times(self.frame_interval, self.frames_per_group.saturating_sub(1) as u64))
    }
}

fn times(duration: Duration, times: u64) -> Duration {
    duration.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was sent, and has come back or was waited for.
    Done,
    /// The server did not do its part in time, before anything was sent or, where it may agree later, after that: what it did not do.
    Unready(&'static str),
    /// It was past its [`Bound`](super::Bound) and was given up: what it was waited for.
    Overdue(&'static str),
    /// The connection was closed.
    Closed {
        /// With this code.
        code: u32,
        /// For people.
        reason: String,
        /// Whether by us: interrupted, or the set-up failed.
        by_us: bool,
    },
}
