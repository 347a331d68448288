//! The client application announces a track, sends groups to the server and subscribes to the echo. It reports what was sent and what
//! returned as [`MoqtClientEvent`]s.

mod payload;
mod sent_frames;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub use payload::{FramePayload, TEXT_QUEUE_CAPACITY};
pub use sent_frames::{MoqtClientEvent, MoqtRunOutcome};

use super::error_code;
use super::message::SubscribeUpdate;
use super::{MAX_LATENCY_MS, MoqtVersion, Session, SessionEvent, SessionHandler, StreamHandle, TrackPath};
use jamjam_core::time::{MIN_PAUSE, PauseDetector, Time};
use payload::{FrameSource, NextFrame};
use sent_frames::AwaitedFrames;

/// Sequence number of the first group in reports, and on the wire in gomoqt-2025-02.
pub const FIRST_GROUP_SEQUENCE: u64 = 1;

/// How long a run waits for duplicates after all frames have returned.
pub const DUPLICATE_WAIT: Duration = Duration::from_millis(100);

/// Delay before the first group: a gomoqt server rejects groups that arrive before it has registered its subscription to our track.
const START_DELAY: Duration = Duration::from_millis(50);

/// Maximum number of frames sent in one turn.
const MAX_FRAMES_PER_TURN: usize = 64;

/// Reported if the server subscribed to our track and announced the echo, but did not accept our subscription in time.
const SUBSCRIBE_NOT_ACCEPTED: &str = "the server did not accept our subscription";

/// The server unsubscribed before all frames were sent.
const SERVER_UNSUBSCRIBED: &str = "the server unsubscribed from our track";

/// Configuration of a run.
#[derive(Clone, Debug)]
pub struct MoqtClientConfig {
    /// Groups to send; `None` means until stopped.
    pub group_count: Option<u64>,
    /// Frames per group; at least 1.
    pub frames_per_group: usize,
    /// Time between consecutive groups. All frames of a group are due at the same time.
    pub group_interval: Duration,
    /// Payload of the frames.
    pub payload: FramePayload,
    /// Time limit for the server to subscribe, announce the echo and accept our subscription. The time starts when the session setup is
    /// complete. In all versions but gomoqt-2025-02, the server's time limit for accepting our subscription starts when we send our first
    /// frame.
    pub subscribe_timeout: Duration,
    /// Maximum time to wait for the echo of a frame, in addition to the minimum RTT.
    pub reply_timeout: Duration,
}

impl Default for MoqtClientConfig {
    /// The defaults of a run:
    ///
    /// - The client sends 10 groups at intervals of 250 ms. Each group has one frame of 100 random bytes.
    /// - The server has 5 s to subscribe, to announce the echo and to accept our subscription.
    /// - The echo of a frame may take 2 s in addition to the minimum RTT.
    fn default() -> Self {
        Self {
            group_count: Some(10),
            frames_per_group: 1,
            group_interval: Duration::from_millis(250),
            payload: FramePayload::Random(100),
            subscribe_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(2),
        }
    }
}

/// Phase of a run.
#[derive(Debug)]
enum ClientPhase {
    /// The phase until the session is set up. [`Session`] enforces the deadline.
    SessionSetup,
    /// The phase until both sides have subscribed.
    Subscribing { deadline: Time },
    /// Both sides have subscribed. The first frame is due at `start`.
    Sending { start: Time },
    /// The phase after the last frame, which was sent at `since`.
    FinalWait { since: Time },
    /// The run is finished.
    Finished(MoqtRunOutcome),
}

/// One run of the client.
#[derive(Debug)]
pub struct MoqtClient {
    config: MoqtClientConfig,
    phase: ClientPhase,
    /// Subscriptions of the server to our track.
    subscribe_streams: Vec<StreamHandle>,
    /// The ID of our subscription to the echo, and whether it was accepted.
    echo_subscription: Option<(u64, bool)>,
    /// The code with which the server ended our last subscription, and whether the server had accepted it.
    ended_subscription: Option<(u32, bool)>,
    /// Deadline for the server to accept our subscription. It is set from our first frame until the server accepts the subscription, if the
    /// version has [`accepts_with_first_group`](super::version::VersionRules::accepts_with_first_group).
    accept_deadline: Option<Time>,
    /// The streams of the current group, one per subscription.
    open_groups: Vec<StreamHandle>,
    /// Groups being received: sequence number and frames received.
    receiving: BTreeMap<StreamHandle, (u64, usize)>,
    frames_sent: u64,
    pauses: PauseDetector,
    /// When the last pause of this host ended.
    resumed_at: Option<Time>,
    source: FrameSource,
    awaited: AwaitedFrames,
    events: VecDeque<MoqtClientEvent>,
}

impl MoqtClient {
    /// Creates a client whose run starts when the session is set up.
    pub fn new(mut config: MoqtClientConfig) -> Self {
        config.frames_per_group = config.frames_per_group.max(1);
        let awaited = AwaitedFrames::new(config.frames_per_group);
        let frame_count = config.group_count.map(|count| count.saturating_mul(config.frames_per_group as u64));
        let source = FrameSource::new(config.payload.clone(), frame_count);
        Self {
            config,
            phase: ClientPhase::SessionSetup,
            subscribe_streams: Vec::new(),
            echo_subscription: None,
            ended_subscription: None,
            accept_deadline: None,
            open_groups: Vec::new(),
            receiving: BTreeMap::new(),
            frames_sent: 0,
            pauses: PauseDetector::default(),
            resumed_at: None,
            source,
            awaited,
            events: VecDeque::new(),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<MoqtClientEvent> {
        self.events.pop_front()
    }

    /// The outcome of a finished run.
    pub fn outcome(&self) -> Option<&MoqtRunOutcome> {
        if let ClientPhase::Finished(outcome) = &self.phase { Some(outcome) } else { None }
    }

    /// Starts sending when both sides have subscribed. Servers of some versions accept our subscription only when they send its first group,
    /// which is the echo of our first group: then sending does not wait for the server.
    fn check_ready(&mut self, now: Time, version: MoqtVersion) {
        let is_ready = !self.subscribe_streams.is_empty()
            && self.echo_subscription.is_some_and(|(_, accepted)| accepted || version.rules().accepts_with_first_group);
        if is_ready && matches!(self.phase, ClientPhase::Subscribing { .. }) {
            self.events.push_back(MoqtClientEvent::Ready { at: now });
            self.phase = ClientPhase::Sending { start: now + START_DELAY };
        }
    }

    /// Group, position in the group and due time of the next frame.
    fn next_frame(&self, start: Time) -> (u64, usize, Time) {
        let per_group = self.config.frames_per_group as u64;
        let (group, frame) = (self.frames_sent / per_group, self.frames_sent % per_group);
        let due = start + self.config.group_interval.saturating_mul(u32::try_from(group).unwrap_or(u32::MAX));
        (FIRST_GROUP_SEQUENCE + group, frame as usize, due)
    }

    fn send_due(&mut self, now: Time, session: &mut Session, mut start: Time) {
        let Some(version) = session.version() else { return };
        for _ in 0..MAX_FRAMES_PER_TURN {
            let was_queued = self.source.poll_queue(self.frames_sent, now);
            match self.source.next_frame(self.frames_sent) {
                NextFrame::Ready => {}
                NextFrame::RetryAt(_) => return,
                NextFrame::Exhausted => {
                    self.phase = ClientPhase::FinalWait { since: now };
                    return;
                }
            }
            let (group, frame, mut due) = self.next_frame(start);
            let is_overdue = due + MIN_PAUSE.max(self.config.group_interval) < now;
            // A typed text is due as soon as it is available.
            if is_overdue || was_queued && due < now {
                if !was_queued {
                    self.events.push_back(MoqtClientEvent::ScheduleShifted(now - due));
                }
                start += now - due;
                (due, self.phase) = (now, ClientPhase::Sending { start });
            }
            let Some(payload) = self.source.bytes_of(self.frames_sent).filter(|_| due <= now) else { return };
            if frame == 0 {
                let open =
                    |subscriber: &StreamHandle| session.open_group(*subscriber, group - wire_sequence_offset(version));
                self.open_groups = self.subscribe_streams.iter().filter_map(open).collect();
            }
            let is_accepted = self.echo_subscription.is_some_and(|(_, accepted)| accepted);
            if version.rules().accepts_with_first_group && self.frames_sent == 0 && !is_accepted {
                self.accept_deadline = Some(now + self.config.subscribe_timeout);
            }
            self.awaited.on_sent(self.frames_sent, now);
            self.events.push_back(MoqtClientEvent::FrameSent { group, frame, sent_at: now, due, bytes: payload.len() });
            self.frames_sent += 1;
            for stream in &self.open_groups {
                session.send_frame(*stream, payload.clone());
                if frame + 1 == self.config.frames_per_group {
                    session.finish_group(*stream);
                }
            }
        }
    }

    /// Detects a pause of this host.
    fn detect_pause(&mut self, now: Time) {
        let is_counting = matches!(self.phase, ClientPhase::Sending { .. } | ClientPhase::FinalWait { .. });
        let planned = self.next_deadline().filter(|planned| is_counting && *planned > Time::ZERO);
        if let Some(pause) = self.pauses.on_run(now, planned) {
            self.events.push_back(MoqtClientEvent::Paused(pause));
            self.resumed_at = Some(now);
        }
    }

    fn on_frame(&mut self, now: Time, group: StreamHandle, payload: Bytes) {
        let Some((sequence, frames)) = self.receiving.get_mut(&group) else { return };
        let (group, frame) = (*sequence, *frames);
        *frames += 1;
        let first_frame = group.wrapping_sub(FIRST_GROUP_SEQUENCE).wrapping_mul(self.config.frames_per_group as u64);
        let number = first_frame.wrapping_add(frame as u64);
        let intact = self.source.bytes_of(number).is_some_and(|sent| sent == payload);
        // A group may contain more frames than this client has sent in it.
        let is_known = group >= FIRST_GROUP_SEQUENCE && frame < self.config.frames_per_group;
        let sent_at = if is_known { self.awaited.on_returned(number, now, intact) } else { None };
        self.events.push_back(MoqtClientEvent::FrameReturned { group, frame, sent_at, at: now, intact, payload });
    }

    /// Time at which the run ends if its last frame was sent at `since`.
    fn finish_deadline(&self, since: Time) -> Time {
        // After a pause, the echoes that arrived meanwhile are still to be read.
        let timeout = self.awaited.min_rtt.unwrap_or_default() + self.config.reply_timeout;
        let deadline = self.resumed_at.map_or(since, |at| at.max(since)) + timeout;
        let complete = self.awaited.all_returned_at();
        complete.map_or(deadline, |complete| deadline.min(complete.max(since) + DUPLICATE_WAIT))
    }

    fn finish(&mut self, at: Time, outcome: MoqtRunOutcome) {
        if self.outcome().is_none() {
            self.events.push_back(MoqtClientEvent::Finished { at, outcome: outcome.clone() });
            self.phase = ClientPhase::Finished(outcome);
        }
    }

    /// Finishes the run if nothing is left to wait for.
    fn check_finished(&mut self, now: Time, session: &mut Session) {
        let ended = self.ended_subscription.filter(|_| self.echo_subscription.is_none());
        let is_ended = ended.is_some_and(|(_, was_accepted)| was_accepted);
        let not_accepted = || subscription_failure(ended.map(|(code, _)| code), SUBSCRIBE_NOT_ACCEPTED);
        let outcome = match self.phase {
            // Without our subscription, no further frame returns.
            ClientPhase::Sending { .. } if is_ended => not_accepted(),
            ClientPhase::FinalWait { .. } if is_ended && self.awaited.all_returned_at().is_none() => not_accepted(),
            ClientPhase::Sending { .. } | ClientPhase::FinalWait { .. }
                if self.accept_deadline.is_some_and(|deadline| now >= deadline) =>
            {
                not_accepted()
            }
            ClientPhase::FinalWait { since } if now >= self.finish_deadline(since) => {
                if self.accept_deadline.is_some() { not_accepted() } else { MoqtRunOutcome::Completed }
            }
            // The server has unsubscribed from our track, so no more frames can be sent. If the run continued, the unsent frames
            // would count as lost.
            ClientPhase::Sending { .. } if self.subscribe_streams.is_empty() => {
                MoqtRunOutcome::NotReady(SERVER_UNSUBSCRIBED.into())
            }
            ClientPhase::Subscribing { deadline } if now >= deadline => {
                let missing = match (&self.subscribe_streams[..], self.echo_subscription) {
                    ([], _) => "the server did not subscribe to our track",
                    (_, None) => "the server did not announce the echo",
                    _ => SUBSCRIBE_NOT_ACCEPTED,
                };
                subscription_failure(ended.map(|(code, _)| code), missing)
            }
            _ => return,
        };
        self.finish(now, outcome);
        session.close(error_code::NO_ERROR, "done");
    }
}

/// The outcome without a subscription: the code with which the server ended it, or else `missing`.
fn subscription_failure(code: Option<u32>, missing: &'static str) -> MoqtRunOutcome {
    MoqtRunOutcome::NotReady(match code {
        Some(code) => format!("the server ended our subscription with code {code:#x}").into(),
        None => missing.into(),
    })
}

/// The difference between our sequence number of a group, which counts from [`FIRST_GROUP_SEQUENCE`], and its number on the wire, whose start
/// the version defines.
fn wire_sequence_offset(version: MoqtVersion) -> u64 {
    FIRST_GROUP_SEQUENCE - version.rules().first_group
}

impl SessionHandler for MoqtClient {
    fn on_event(&mut self, now: Time, session: &mut Session, event: SessionEvent) {
        self.detect_pause(now);
        if let SessionEvent::Closed { code, reason, closed_locally } = event {
            let has_all =
                matches!(self.phase, ClientPhase::FinalWait { .. }) && self.awaited.all_returned_at().is_some();
            let outcome = if has_all && !closed_locally {
                MoqtRunOutcome::Completed
            } else {
                MoqtRunOutcome::Closed { code, reason, closed_locally }
            };
            self.finish(now, outcome);
            return;
        }
        let Some(version) = session.version() else { return };
        match event {
            SessionEvent::Established { version } => {
                self.events.push_back(MoqtClientEvent::Established { at: now, version });
                self.phase = ClientPhase::Subscribing { deadline: now + self.config.subscribe_timeout };
                session.request_announcements(&TrackPath::echo_prefix(version));
            }
            SessionEvent::AnnounceRequested { announce_stream, prefix } => {
                let path = Some(TrackPath::of_client(version)).filter(|path| path.has_prefix(&prefix, version));
                session.announce_all(announce_stream, path.as_ref());
            }
            SessionEvent::SubscribeRequested { subscribe_stream, track, .. } => {
                if track == TrackPath::of_client(version).echoed_track(version) {
                    session.accept_subscribe(subscribe_stream);
                    self.subscribe_streams.push(subscribe_stream);
                } else {
                    session.reject_request(subscribe_stream, error_code::TRACK_NOT_FOUND);
                }
            }
            SessionEvent::Unsubscribed { subscribe_stream, .. } => {
                self.subscribe_streams.retain(|other| *other != subscribe_stream);
            }
            SessionEvent::Announced { path }
                if path == TrackPath::of_client(version) && self.echo_subscription.is_none() =>
            {
                let range = SubscribeUpdate { max_latency_ms: MAX_LATENCY_MS, ..SubscribeUpdate::default() };
                self.echo_subscription = Some((session.subscribe(&path.echoed_track(version), &range), false));
            }
            SessionEvent::SubscribeAccepted { subscribe_id } => {
                if let Some((_, accepted)) = self.echo_subscription.as_mut().filter(|(id, _)| *id == subscribe_id) {
                    *accepted = true;
                    self.accept_deadline = None;
                }
            }
            // A server that rejected the subscription may accept it after a new announcement.
            SessionEvent::SubscriptionEnded { code, .. } => {
                let was_accepted = self.echo_subscription.take().is_some_and(|(_, accepted)| accepted);
                self.ended_subscription = code.map(|code| (code, was_accepted));
            }
            SessionEvent::GroupStarted { group_stream, sequence, .. } => {
                // A server that sends groups has accepted the subscription.
                self.accept_deadline = None;
                if let Some((_, accepted)) = &mut self.echo_subscription {
                    *accepted = true;
                }
                let sequence = sequence.saturating_add(wire_sequence_offset(version));
                self.receiving.insert(group_stream, (sequence, 0));
            }
            SessionEvent::FrameReceived { group_stream, payload } => self.on_frame(now, group_stream, payload),
            SessionEvent::GroupEnded { group_stream } | SessionEvent::GroupAborted { group_stream, .. } => {
                self.receiving.remove(&group_stream);
            }
            _ => {}
        }
        self.check_ready(now, version);
        self.check_finished(now, session);
    }

    fn handle_timeout(&mut self, now: Time, session: &mut Session) {
        self.detect_pause(now);
        if let ClientPhase::Sending { start } = self.phase {
            self.send_due(now, session, start);
        }
        self.check_finished(now, session);
    }

    fn next_deadline(&self) -> Option<Time> {
        let next = match self.phase {
            ClientPhase::Subscribing { deadline } => deadline,
            ClientPhase::Sending { start } => match self.source.next_frame(self.frames_sent) {
                NextFrame::Ready => self.next_frame(start).2,
                NextFrame::RetryAt(time) => time,
                // All frames were sent: finish immediately.
                NextFrame::Exhausted => Time::ZERO,
            },
            ClientPhase::FinalWait { since } => self.finish_deadline(since),
            ClientPhase::SessionSetup | ClientPhase::Finished(_) => return None,
        };
        Some(self.accept_deadline.map_or(next, |deadline| deadline.min(next)))
    }
}
