//! The events of a run, and the sent frames for which the client waits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::MoqtVersion;
use jamjam_core::time::{Pause, Time};

/// Maximum number of groups whose frames are awaited. Groups with many frames have a smaller window: see [`FRAME_WINDOW`].
pub(super) const GROUP_WINDOW: usize = 16_384;

/// Maximum number of awaited frames. All frames of the newest group are awaited, even if there are more.
const FRAME_WINDOW: usize = 262_144;

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoqtRunOutcome {
    /// All frames were sent, and each has returned or timed out.
    Completed,
    /// The server was not ready in time, or ended a subscription before all frames were sent. Contains the reason why the run ended.
    NotReady(Cow<'static, str>),
    /// The connection was closed.
    Closed {
        /// Error code.
        code: u32,
        /// Why the connection was closed. Logs and reports show this text.
        reason: String,
        /// Whether this client closed the connection, because of an interruption or a failed setup.
        closed_locally: bool,
    },
}

/// An event of a client run. `group` is a sequence number, `frame` a position in the group, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoqtClientEvent {
    /// The session is set up.
    Established {
        /// Time of the event.
        at: Time,
        /// The negotiated version.
        version: MoqtVersion,
    },
    /// The server has subscribed to our track. In gomoqt-2025-02, the server has also accepted our subscription to the echo. In the other
    /// versions, the server has announced the echo. It may accept our subscription only when it sends the first group of the echo.
    Ready {
        /// Time of the event.
        at: Time,
    },
    /// A frame was sent.
    FrameSent {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was passed to the session.
        sent_at: Time,
        /// When it was due.
        due: Time,
        /// Payload bytes.
        bytes: usize,
    },
    /// The rest of the schedule was delayed by this time, because this host paused or was too slow.
    ScheduleShifted(Duration),
    /// This host did not run.
    Paused(Pause),
    /// A frame was received.
    FrameReturned {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was sent; `None` if the client did not wait for it. Then the frame was never sent, has already returned, or is
        /// outside the window.
        sent_at: Option<Time>,
        /// When the frame was received.
        at: Time,
        /// Whether the received payload equals the run's payload for the same group and frame number. If that frame was not sent yet,
        /// its future payload is used for the comparison.
        intact: bool,
        /// Received payload.
        payload: Bytes,
    },
    /// The run is finished. This is the last event.
    Finished {
        /// Time of the event.
        at: Time,
        /// Outcome of the run.
        outcome: MoqtRunOutcome,
    },
}

/// The sent frames of a run that have not returned. Frames are counted from 0 over all groups.
#[derive(Debug)]
pub(super) struct AwaitedFrames {
    /// When each frame was sent.
    sent_at: BTreeMap<u64, Time>,
    frames_per_group: u64,
    /// When the last awaited frame returned.
    last_returned_at: Time,
    /// Minimum round-trip time of the frames that returned intact.
    pub(super) min_rtt: Option<Duration>,
}

impl AwaitedFrames {
    pub(super) fn new(frames_per_group: usize) -> Self {
        let frames_per_group = frames_per_group as u64;
        Self { sent_at: BTreeMap::new(), frames_per_group, last_returned_at: Time::ZERO, min_rtt: None }
    }

    /// Adds a frame. Frames are added in order. The frames of the oldest group are no longer awaited if the window is full.
    pub(super) fn on_sent(&mut self, frame: u64, at: Time) {
        let window = (FRAME_WINDOW as u64 / self.frames_per_group).clamp(1, GROUP_WINDOW as u64);
        let first_group = (frame / self.frames_per_group + 1).saturating_sub(window);
        while self.sent_at.first_key_value().is_some_and(|(frame, _)| *frame < first_group * self.frames_per_group) {
            self.sent_at.pop_first();
        }
        self.sent_at.insert(frame, at);
    }

    /// Removes a frame that returned. Returns when it was sent, or `None` if it was not awaited.
    pub(super) fn on_returned(&mut self, frame: u64, at: Time, intact: bool) -> Option<Time> {
        let sent_at = self.sent_at.remove(&frame)?;
        self.last_returned_at = at;
        if intact {
            self.min_rtt = Some(self.min_rtt.map_or(at - sent_at, |min| min.min(at - sent_at)));
        }
        Some(sent_at)
    }

    /// When the last frame returned; `None` if any awaited frame has not returned yet.
    pub(super) fn all_returned_at(&self) -> Option<Time> {
        self.sent_at.is_empty().then_some(self.last_returned_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_outside_the_window_is_not_awaited() {
        for (per_group, window) in [(1_u64, 16_384_u64), (16, 16_384), (131_072, 2), (300_000, 1)] {
            let mut frames = AwaitedFrames::new(per_group as usize);
            let at = Time::from_millis;
            // The groups of the window, without the first frame of the group after it.
            (0..window * per_group).for_each(|frame| frames.on_sent(frame, at(frame)));
            assert_eq!(frames.on_returned(0, at(9), true), Some(at(0)), "{per_group}");
            frames.on_sent(window * per_group, at(7));
            assert_eq!(frames.on_returned(per_group - 1, at(9), true), None, "{per_group}");
            let next = frames.on_returned(per_group, at(per_group + 9), true);
            assert_eq!(next, Some(at(if window == 1 { 7 } else { per_group })), "{per_group}");
        }
    }
}
