//! Tracks sent frames until they return or are lost, and reports the result as events.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::MoqtVersion;
use jamjam_core::time::{Pause, Time};

/// Maximum number of tracked groups. When there are more groups, the oldest group is finalized. Groups with many frames have a
/// smaller window: see [`FRAME_WINDOW`].
pub const GROUP_WINDOW: usize = 16_384;

/// Maximum number of tracked frames. The newest group is always tracked, even if it has more frames.
pub const FRAME_WINDOW: usize = 262_144;

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoqtRunOutcome {
    /// All frames were sent, and each has returned or timed out.
    Completed,
    /// The server was not ready in time, or ended a subscription before all frames were sent. Contains the reason why the run ended.
    NotReady(Cow<'static, str>),
    /// The run exceeded the deadline of [`MoqtClient::awaits`](super::MoqtClient::awaits) and was abandoned. Contains a description of the event that
    /// the run was waiting for.
    TimedOut(&'static str),
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
    /// A frame was not sent, because it was overdue after a pause of this host. Frames are skipped and sent in order.
    FrameSkipped {
        /// When it was due.
        due: Time,
    },
    /// This host did not run.
    Paused(Pause),
    /// The last frame was sent.
    AllSent {
        /// Time of the event.
        at: Time,
    },
    /// A frame returned.
    FrameReturned {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was sent.
        sent_at: Time,
        /// When the frame was received.
        at: Time,
        /// Whether the payload of the returned frame is unchanged.
        intact: bool,
        /// Whether this frame is the first of its group to return.
        first_of_group: bool,
        /// Received payload.
        payload: Bytes,
    },
    /// A received frame was never sent, is a duplicate, or had already been reported lost.
    FrameUnmatched {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was received.
        at: Time,
        /// Whether the received payload equals the run's payload for the same group and frame number. If that frame was not sent yet,
        /// its future payload is used for the comparison.
        intact: bool,
        /// Received payload.
        payload: Bytes,
    },
    /// No frame of a group returned.
    GroupLost {
        /// The group.
        group: u64,
        /// When the first frame of the group was sent.
        sent_at: Time,
    },
    /// A frame was lost, but not its whole group. Another frame of the group returned, or was possibly still in flight.
    FrameMissing {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was sent.
        sent_at: Time,
    },
    /// A frame may still have been in flight when the run was cut short.
    FrameInFlight {
        /// Its group.
        group: u64,
        /// The frame's position in the group.
        frame: usize,
        /// When the frame was sent.
        sent_at: Time,
    },
    /// The run is finished. This is the last event.
    Finished {
        /// Time of the event.
        at: Time,
        /// Outcome of the run.
        outcome: MoqtRunOutcome,
    },
}

/// A sent frame.
#[derive(Clone, Copy, Debug)]
struct SentFrame {
    sent_at: Time,
    returned: bool,
}

/// The sent frames of one group, and how many of them returned.
#[derive(Debug)]
struct SentGroup {
    frames: Vec<SentFrame>,
    frames_returned: usize,
}

/// The sent frames of a run and its events.
#[derive(Debug)]
pub(super) struct SentFrames {
    /// Sequence number of the first of `groups`.
    first_sequence: u64,
    groups: VecDeque<SentGroup>,
    frames_per_group: usize,
    /// Frames in `groups` that have not returned.
    outstanding: usize,
    /// When the last matched frame returned.
    last_returned_at: Time,
    /// Minimum round-trip time of the frames that returned intact.
    min_rtt: Option<Duration>,
    events: VecDeque<MoqtClientEvent>,
}

impl SentFrames {
    /// Creates an empty collection. `first_sequence` is the sequence number of the first group.
    pub(super) fn new(first_sequence: u64, frames_per_group: usize) -> Self {
        Self {
            first_sequence,
            groups: VecDeque::new(),
            frames_per_group,
            outstanding: 0,
            last_returned_at: Time::ZERO,
            min_rtt: None,
            events: VecDeque::new(),
        }
    }

    pub(super) fn push_event(&mut self, event: MoqtClientEvent) {
        self.events.push_back(event);
    }

    pub(super) fn poll_event(&mut self) -> Option<MoqtClientEvent> {
        self.events.pop_front()
    }

    /// Records the next frame sent. Frames are recorded in order.
    pub(super) fn record_sent(&mut self, group: u64, sent_at: Time, due: Time, bytes: usize) {
        if group == self.first_sequence + self.groups.len() as u64 {
            self.begin_group(sent_at);
        }
        let Some(SentGroup { frames, .. }) = self.groups.back_mut() else { return };
        let frame = frames.len();
        frames.push(SentFrame { sent_at, returned: false });
        self.outstanding += 1;
        self.push_event(MoqtClientEvent::FrameSent { group, frame, sent_at, due, bytes });
    }

    /// Records a group that was due at `due` and of which no frame is sent.
    pub(super) fn record_skipped(&mut self, now: Time, due: impl Iterator<Item = Time>) {
        self.begin_group(now);
        self.events.extend(due.map(|due| MoqtClientEvent::FrameSkipped { due }));
    }

    fn begin_group(&mut self, now: Time) {
        if self.groups.len() == (FRAME_WINDOW / self.frames_per_group).clamp(1, GROUP_WINDOW) {
            self.finalize_oldest(now);
        }
        let frames = Vec::with_capacity(self.frames_per_group.min(64));
        self.groups.push_back(SentGroup { frames, frames_returned: 0 });
    }

    /// Finds the sent frame that matches a received frame, and reports the result as an event.
    pub(super) fn record_returned(&mut self, at: Time, group: u64, frame: usize, payload: Bytes, intact: bool) {
        let index = group.checked_sub(self.first_sequence).and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.groups.get_mut(index)).and_then(|of| {
            let sent = of.frames.get_mut(frame).filter(|sent| !sent.returned)?;
            Some((sent, &mut of.frames_returned))
        });
        let Some((sent, returned_count)) = found else {
            self.push_event(MoqtClientEvent::FrameUnmatched { group, frame, at, intact, payload });
            return;
        };
        sent.returned = true;
        *returned_count += 1;
        let (sent_at, first_of_group) = (sent.sent_at, *returned_count == 1);
        self.outstanding -= 1;
        self.last_returned_at = at;
        if intact {
            self.min_rtt = Some(self.min_rtt.map_or(at - sent_at, |min| min.min(at - sent_at)));
        }
        self.push_event(MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact, first_of_group, payload });
        let per_group = self.frames_per_group;
        let is_complete = |group: &SentGroup| group.frames.is_empty() || group.frames_returned == per_group;
        while self.groups.front().is_some_and(is_complete) {
            self.finalize_oldest(at);
        }
    }

    /// When the last frame returned; `None` if any tracked frame has not returned yet.
    pub(super) fn all_returned_at(&self) -> Option<Time> {
        (self.outstanding == 0).then_some(self.last_returned_at)
    }

    /// Minimum round-trip time of the frames that returned intact.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// Reports the frames that have not returned. Frames sent after `overdue` count as in flight.
    pub(super) fn finalize(&mut self, overdue: Time) {
        while !self.groups.is_empty() {
            self.finalize_oldest(overdue);
        }
    }

    fn finalize_oldest(&mut self, overdue: Time) {
        let Some(SentGroup { frames, frames_returned }) = self.groups.pop_front() else { return };
        let group = self.first_sequence;
        self.first_sequence += 1;
        self.outstanding -= frames.len() - frames_returned;
        match frames.first() {
            Some(first) if frames.iter().all(|sent| !sent.returned && sent.sent_at <= overdue) => {
                self.push_event(MoqtClientEvent::GroupLost { group, sent_at: first.sent_at });
            }
            _ => {
                let missing = frames.iter().enumerate().filter(|(_, sent)| !sent.returned);
                self.events.extend(missing.map(|(frame, &SentFrame { sent_at, .. })| {
                    if sent_at <= overdue {
                        MoqtClientEvent::FrameMissing { group, frame, sent_at }
                    } else {
                        MoqtClientEvent::FrameInFlight { group, frame, sent_at }
                    }
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_outside_the_window_is_reported_lost() {
        for (per_group, window) in [(1, 16_384), (16, 16_384), (131_072, 2), (300_000, 1)] {
            let mut tracker = SentFrames::new(1, per_group);
            let mut lost = Vec::new();
            for group in 1..=window + 2 {
                let frames = if group > window { 1 } else { per_group };
                (0..frames)
                    .for_each(|_| tracker.record_sent(group, Time::from_millis(group), Time::from_millis(group), 1));
                while let Some(event) = tracker.poll_event() {
                    lost.extend(if let MoqtClientEvent::GroupLost { group: lost, .. } = event {
                        Some((lost, group))
                    } else {
                        None
                    });
                }
            }
            assert_eq!(lost, [(1, window + 1), (2, window + 2)], "{per_group}");
        }
    }
}
