//! Turns the events of a MOQT client into the results of a run, with the frames as the packets of a stream.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::connection_results::{MoqtConnectTimes, MoqtFailure, MoqtResults};
use super::live_figures::{LiveFigures, UnfinishedResults};
use super::live_snapshot::LiveSnapshot;
use super::reply::{INTACT_DIGEST, ReceivedReply};
use super::results::{PacketObserver, RunResults, StopSignal};
use super::run_config::RunConfig;
use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::stats::{GroupOutcomes, PacingStats};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_moqt::client::{FIRST_GROUP_SEQUENCE, MoqtClientEvent, MoqtRunOutcome};
use jamjam_moqt::{SessionCounters, TrackPath};

/// The stream that frames are counted in.
const STREAM: StreamKind = StreamKind::Ping;

/// Tracks the frames and groups of one run.
pub struct FrameTracker {
    /// What was known about the run before its first packet.
    plan: RunResults,
    /// The results to which another connection attempt resets.
    initial_results: MoqtResults,
    /// The results of the connection so far. The caller records here why no session was established, or that the connection was retried
    /// with another path.
    pub results: MoqtResults,
    /// The frames are its LATENCY_PING packets.
    tracker: PacketTracker,
    /// When the session was established.
    pub established_at: Option<Time>,
    /// When the first frame was due.
    first_due: Option<Time>,
    live_figures: Arc<LiveFigures>,
    /// When and how the client finished.
    outcome: Option<(Time, MoqtRunOutcome)>,
}

impl FrameTracker {
    /// `plan` contains the subcommand, the name of the server and the time-out for replies. `results` are the initial results, before a session is
    /// established.
    pub fn new(plan: RunResults, results: MoqtResults, observer: Box<dyn PacketObserver>) -> Self {
        let timeout = Duration::from_nanos(plan.timeout_ns);
        let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut tracker = PacketTracker::new(RunConfig::new(peer, STREAM, timeout), 0, observer);
        tracker.streams[STREAM as usize].stats.groups = GroupOutcomes::new(results.frames_per_group);
        let (initial_results, live_figures) = (results.clone(), Arc::default());
        let (established_at, first_due, outcome) = (None, None, None);
        Self { plan, initial_results, results, tracker, established_at, first_due, live_figures, outcome }
    }

    /// Passes the events of the run to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Box<dyn PacketObserver>) -> Self {
        self.tracker.observer = observer;
        self
    }

    /// Figures that can be read on another thread during the run.
    pub fn live_figures(&self) -> Arc<LiveFigures> {
        Arc::clone(&self.live_figures)
    }

    /// Records the counters of the session, and its connect times except that of the subscriptions, which [`Self::on_event`] records.
    pub fn on_connected(&mut self, connect_times: MoqtConnectTimes, counts: &SessionCounters) {
        let subscribe_ns = self.results.connect_times.subscribe_ns;
        self.results.connect_times = MoqtConnectTimes { subscribe_ns, ..connect_times };
        self.results.groups.stopped = counts.groups_stopped;
        self.results.groups.dropped = counts.groups_dropped_slow_reader;
    }

    /// Resets the results of the session before another connection attempt.
    pub fn reset_connection(&mut self) {
        (self.established_at, self.outcome) = (None, None);
        self.results = self.initial_results.clone();
    }

    /// Handles the next event of the MOQT client.
    pub fn on_event(&mut self, event: &MoqtClientEvent) {
        match *event {
            MoqtClientEvent::Established { at, version } => {
                self.results.version = Some(version);
                self.results.track = TrackPath::of_client(version).echoed_track(version).to_string();
                self.established_at = Some(at);
            }
            MoqtClientEvent::Ready { at } => {
                self.results.connect_times.subscribe_ns =
                    self.established_at.map(|established| saturating_nanos(at - established));
            }
            MoqtClientEvent::FrameSent { sent_at, due, .. } => {
                self.first_due.get_or_insert(due);
                self.tracker.on_sent(STREAM, (due, sent_at), INTACT_DIGEST);
                self.publish_figures(sent_at);
            }
            MoqtClientEvent::ScheduleShifted(by) => self.tracker.on_schedule_shift(by),
            MoqtClientEvent::Paused(pause) => self.tracker.hosts.this.add_pause(pause, pause.end - pause.start),
            MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact, ref payload } => {
                // Another copy of a returned frame is a duplicate, but a late copy of a lost frame is unmatched.
                let frames = &self.tracker.streams[STREAM as usize];
                let is_known = |sequence: &u32| sent_at.is_some() || frames.has_received(*sequence);
                let Some(sequence) = self.frame_index(group, frame).filter(is_known) else {
                    self.tracker.streams[STREAM as usize].stats.unmatched += 1;
                    return;
                };
                let digest = if intact { INTACT_DIGEST } else { !INTACT_DIGEST };
                let reply = ReceivedReply { sequence, received_at: at, digest, payload };
                self.tracker.on_received(Some((STREAM, Some(reply))));
                self.publish_figures(at);
            }
            MoqtClientEvent::Finished { at, ref outcome } => self.outcome = Some((at, outcome.clone())),
        }
    }

    fn publish_figures(&mut self, now: Time) {
        self.live_figures.publish(LiveSnapshot { started_at: self.first_due, ..self.tracker.snapshot(now) });
        let active = || self.results_so_far(&(now, MoqtRunOutcome::Completed), Some(StopSignal::Unknown));
        self.live_figures.supply_results(active);
    }

    /// Index of a frame in the run, from 0; `None` if no such frame was sent.
    fn frame_index(&self, group: u64, frame: usize) -> Option<u32> {
        let (group, frame) = (group.checked_sub(FIRST_GROUP_SEQUENCE)?, frame as u64);
        let in_group = frame < self.results.frames_per_group;
        let index = group.checked_mul(self.results.frames_per_group)?.checked_add(frame).filter(|_| in_group)?;
        (index < self.tracker.streams[STREAM as usize].next_index()).then_some(index as u32)
    }

    /// Whether the client has finished.
    pub fn is_finished(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether this program ended the run early: it closed the connection, or the client has not finished.
    pub fn is_interrupted(&self) -> bool {
        matches!(self.outcome, None | Some((_, MoqtRunOutcome::Closed { closed_locally: true, .. })))
    }

    /// The results of a run that was or was not `interrupted`. Events of frames without a reply go to `observer`.
    pub fn into_results(self, interrupted: Option<StopSignal>, observer: &mut dyn PacketObserver) -> RunResults {
        let completed = (Time::ZERO, MoqtRunOutcome::Completed);
        self.results_so_far(self.outcome.as_ref().unwrap_or(&completed), interrupted).finish(observer)
    }

    /// The results of a run that ends at this time with this outcome.
    pub fn results_so_far(&self, end: &(Time, MoqtRunOutcome), interrupted: Option<StopSignal>) -> UnfinishedResults {
        let ((at, outcome), mut moqt) = (end, self.results.clone());
        if interrupted.is_none() && moqt.failure.is_none() {
            moqt.failure = MoqtFailure::from_outcome(outcome, self.established_at.is_some());
        }
        let interrupted_at = interrupted.is_some().then_some(*at);
        let mut run = RunResults { interrupted, ..self.plan.clone() };
        run.duration_ns = self.first_due.map_or(0, |started| saturating_nanos(at.duration_since(started)));
        let PacketTracker { streams, pacing, hosts, .. } = &self.tracker;
        let groups = streams[STREAM as usize].next_index().div_ceil(self.results.frames_per_group.max(1));
        let planned = Duration::from_nanos(self.plan.interval_ns.unwrap_or(0)).saturating_mul(groups as u32);
        run.schedule = self.tracker.schedule_results(planned, 0);
        run.pauses = hosts.this.results(self.first_due.unwrap_or_default());
        // A run that failed before the first frame has no stream.
        let has_stream = streams[STREAM as usize].has_sent() || moqt.failure.is_none();
        run.pacing = has_stream.then(|| PacingStats::clone(pacing));
        run.moqt = Some(moqt);
        let tracked = has_stream.then(|| (streams.clone(), hosts.clone()));
        UnfinishedResults { run, tracked, interrupted_at }
    }
}
