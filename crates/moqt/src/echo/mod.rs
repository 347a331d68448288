//! The server application announces back what the client announces, subscribes to the tracks, and relays each group, frame by frame, to the
//! subscribers of its track. Frames wait for the configured delay in a buffer of bounded size.
//!
//! In gomoqt, the echo subscribes once to each announced track. In moq-lite, only a subscription contains the name of a track, so that each
//! subscription of the client causes one subscription of the echo.

mod relay_queue;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::error_code;
use super::message::{AnnounceStatus, SubscribeGap, SubscribeUpdate};
use super::version::PathFormat;
use super::{MAX_LATENCY_MS, MoqtVersion, Session, SessionEvent, SessionHandler, StreamHandle, TrackPath};
use jamjam_core::time::Time;
use relay_queue::{RelayItem, RelayQueue};

/// Bytes that the groups of a connection may always have.
pub const MIN_BUFFERED_BYTES: usize = 64 << 10;

/// In moq-lite, the time for which groups are still relayed after the client's track or its announcement has ended. The last groups, each on
/// its own stream, may arrive after the end of the subscription.
const LATE_GROUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of groups per track that wait while the track has no subscriber.
const MAX_UNSUBSCRIBED_GROUPS: usize = 4;

/// Maximum time that a subscription waits for its track to be announced.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of gaps that wait for their due time.
const MAX_DELAYED_GAPS: usize = 256;

/// Configuration of the echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoqtEchoConfig {
    /// Delay of each frame.
    pub delay: Duration,
    /// Maximum number of bytes in frames that wait for their due time or for a subscriber.
    pub max_buffered_bytes: usize,
}

impl Default for MoqtEchoConfig {
    /// By default, frames are not delayed, and the buffer holds at most 4 MiB.
    fn default() -> Self {
        Self { delay: Duration::ZERO, max_buffered_bytes: 4 << 20 }
    }
}

/// A track of the client to which the echo has subscribed.
#[derive(Debug)]
struct EchoTrack {
    /// The announced path.
    path: TrackPath,
    subscribe_streams: Vec<StreamHandle>,
    state: TrackState,
}

impl EchoTrack {
    fn is_active(&self) -> bool {
        self.state == TrackState::Active
    }
}

/// State of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrackState {
    /// The client sends groups.
    Active,
    /// The track has ended, but its last groups may arrive until this time.
    Ending(Time),
    /// The track has ended. It is removed when its last group has been relayed.
    Ended,
    /// The client reset the subscription with this code. The reset is relayed at this time.
    Reset(Time, u32),
}

/// A subscription to a track that is not announced yet.
#[derive(Debug)]
struct PendingSubscribe {
    deadline: Time,
    track: TrackPath,
    range: SubscribeUpdate,
}

/// The echo of one connection.
#[derive(Debug, Default)]
pub struct MoqtEcho {
    config: MoqtEchoConfig,
    /// Paths that the client announces and the echo announces back.
    announced: Vec<TrackPath>,
    /// Tracks by the ID of our subscription.
    tracks: BTreeMap<u64, EchoTrack>,
    /// Streams of announcement requests with their prefix.
    announce_streams: BTreeMap<StreamHandle, TrackPath>,
    /// Subscriptions to tracks that are not announced yet.
    pending_subscribes: BTreeMap<StreamHandle, PendingSubscribe>,
    relay_queue: RelayQueue,
    /// Gaps that the client reported, with the time to report them and the ID of our subscription. The oldest is first.
    delayed_gaps: VecDeque<(Time, u64, SubscribeGap)>,
    /// Maximum of [`MoqtEcho::buffered_bytes`], at most [`MoqtEchoConfig::max_buffered_bytes`].
    max_buffered_bytes: usize,
    /// Whether due items remain in the queue because a turn relays at most [`MAX_ITEMS_PER_TURN`] items.
    has_backlog: bool,
}

impl MoqtEcho {
    /// Creates an echo handler for one connection.
    pub fn new(config: MoqtEchoConfig) -> Self {
        Self { max_buffered_bytes: config.max_buffered_bytes, config, ..Self::default() }
    }

    /// Bytes counted for all queued groups. The number exceeds [`MoqtEchoConfig::max_buffered_bytes`] only temporarily, while events are
    /// being handled.
    pub fn buffered_bytes(&self) -> usize {
        self.relay_queue.cost()
    }

    /// From the next turn on, the queued groups may have at most `max_growth` bytes more than now, or [`MIN_BUFFERED_BYTES`] if that is more.
    /// In any case, they may have at most [`MoqtEchoConfig::max_buffered_bytes`].
    pub fn limit_growth(&mut self, max_growth: u64) {
        let max_growth = usize::try_from(max_growth).unwrap_or(usize::MAX);
        let limit = self.buffered_bytes().saturating_add(max_growth).max(MIN_BUFFERED_BYTES);
        self.max_buffered_bytes = limit.min(self.config.max_buffered_bytes);
    }

    fn on_announced(&mut self, session: &mut Session, path: TrackPath) {
        let Some(version) = session.version() else { return };
        self.announce_back(session, version, &path, AnnounceStatus::Active);
        let (wanted, pending) = std::mem::take(&mut self.pending_subscribes)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, pending)| announced_path(version, &pending.track) == path);
        self.pending_subscribes = pending;
        self.announced.push(path.clone());
        if !version.rules().is_lite {
            let track = path.echoed_track(version);
            let subscription = session.subscribe(&track, &SubscribeUpdate::default());
            let track = EchoTrack { path, subscribe_streams: Vec::new(), state: TrackState::Active };
            self.tracks.insert(subscription, track);
        }
        for (subscriber, PendingSubscribe { track, range, .. }) in wanted {
            self.serve(session, subscriber, &track, range);
        }
    }

    /// Announces a status of `path` to the client, on each stream that requested it.
    fn announce_back(&self, session: &mut Session, version: MoqtVersion, path: &TrackPath, status: AnnounceStatus) {
        for (stream, prefix) in &self.announce_streams {
            if path.has_prefix(prefix, version) {
                session.announce(*stream, path, status);
            }
        }
    }

    /// The path is no longer announced back.
    fn on_unannounced(&mut self, session: &mut Session, version: MoqtVersion, path: &TrackPath) {
        let Some(index) = self.announced.iter().position(|announced| announced == path) else { return };
        self.announced.remove(index);
        self.announce_back(session, version, path, AnnounceStatus::Ended);
    }

    /// The client no longer announces `path`.
    fn on_client_unannounced(&mut self, now: Time, session: &mut Session, path: &TrackPath) {
        let Some(version) = session.version() else { return };
        let of_path = self.tracks.iter_mut().filter(|(_, track)| track.is_active() && track.path == *path);
        for (subscription, track) in of_path {
            track.state = TrackState::Ending(now + LATE_GROUP_TIMEOUT);
            if !version.rules().is_lite {
                session.unsubscribe(*subscription, None);
                track.state = TrackState::Ended;
            }
        }
        self.on_unannounced(session, version, path);
    }

    /// Our subscription ended. An ended track accepts no subscription, and is removed when its last group has been relayed. In moq-lite, a
    /// reset is relayed after the delay, like the groups before it.
    fn on_subscription_ended(&mut self, now: Time, session: &mut Session, subscription: u64, code: Option<u32>) {
        let Some(version) = session.version() else { return };
        let Some(track) = self.tracks.get_mut(&subscription) else { return };
        match code {
            Some(code) if version.rules().is_lite => track.state = TrackState::Reset(now + self.config.delay, code),
            _ if !track.is_active() => {}
            None if version.rules().is_lite => track.state = TrackState::Ending(now + LATE_GROUP_TIMEOUT),
            _ => {
                track.state = TrackState::Ended;
                let path = track.path.clone();
                self.on_unannounced(session, version, &path);
            }
        }
    }

    /// Accepts a subscription to a track whose path is announced.
    fn serve(&mut self, session: &mut Session, subscriber: StreamHandle, track: &TrackPath, range: SubscribeUpdate) {
        let Some(version) = session.version() else { return };
        session.accept_subscribe(subscriber);
        let path = announced_path(version, track);
        if version.rules().is_lite {
            let subscription = session.subscribe(track, &relayed_range(range));
            let subscribe_streams = vec![subscriber];
            self.tracks.insert(subscription, EchoTrack { path, subscribe_streams, state: TrackState::Active });
        } else if let Some(track) = self.tracks.values_mut().find(|track| track.is_active() && track.path == path) {
            track.subscribe_streams.push(subscriber);
        }
    }

    /// The client ended a subscription, normally or with an error code.
    fn on_unsubscribed(&mut self, session: &mut Session, subscriber: StreamHandle, code: Option<u32>) {
        self.pending_subscribes.remove(&subscriber);
        let is_relayed = relays_subscriptions(session);
        for (subscription, track) in &mut self.tracks {
            let before = track.subscribe_streams.len();
            track.subscribe_streams.retain(|other| *other != subscriber);
            if is_relayed && track.subscribe_streams.len() < before {
                session.unsubscribe(*subscription, code);
                track.state = TrackState::Ended;
            }
        }
    }

    /// The client changed a subscription.
    fn on_subscription_updated(&mut self, session: &mut Session, subscriber: StreamHandle, range: SubscribeUpdate) {
        if let Some(pending) = self.pending_subscribes.get_mut(&subscriber) {
            pending.range = range;
            return;
        }
        let track = self.tracks.iter().find(|(_, track)| track.subscribe_streams.contains(&subscriber));
        if let Some((subscription, _)) = track.filter(|_| relays_subscriptions(session)) {
            session.update_subscription(*subscription, &relayed_range(range));
        }
    }

    fn report_due_gaps(&mut self, now: Time, session: &mut Session) {
        while self.delayed_gaps.front().is_some_and(|(due, ..)| *due <= now)
            && let Some((_, subscription, gap)) = self.delayed_gaps.pop_front()
        {
            let track = self.tracks.get(&subscription);
            for subscriber in track.into_iter().flat_map(|track| &track.subscribe_streams) {
                session.report_gap(*subscriber, &gap);
            }
        }
    }

    /// Relays the due frames of one turn, then applies the limits and removes ended tracks.
    fn relay_due(&mut self, now: Time, session: &mut Session) {
        let tracks = &self.tracks;
        let subscribers = |subscription| tracks.get(&subscription).map_or(&[][..], |track| &track.subscribe_streams);
        self.has_backlog = self.relay_queue.relay_due(now, session, subscribers);
        self.relay_queue.drop_over_limit(self.max_buffered_bytes, session, |id| !subscribers(id).is_empty());
        // A backlog contains groups that are due before the gaps and resets.
        if !self.has_backlog {
            self.report_due_gaps(now, session);
        }
        let (relay_queue, has_backlog) = (&self.relay_queue, self.has_backlog);
        self.tracks.retain(|subscription, track| {
            if matches!(track.state, TrackState::Ending(until) if now >= until) {
                track.state = TrackState::Ended;
            }
            let (is_finished, code) = match track.state {
                TrackState::Active | TrackState::Ending(_) => (false, None),
                TrackState::Ended => {
                    (track.subscribe_streams.is_empty() || !relay_queue.has_subscription(*subscription), None)
                }
                TrackState::Reset(due, code) => (now >= due && !has_backlog, Some(code)),
            };
            if is_finished {
                session.unsubscribe(*subscription, None);
                track.subscribe_streams.iter().for_each(|subscriber| session.close_request(*subscriber, code));
            }
            !is_finished
        });
        let tracks = &self.tracks;
        self.relay_queue.drop_orphaned(session, |subscription| !tracks.contains_key(&subscription));
    }
}

/// The announced path to which a requested track belongs. The path is empty if the echo does not serve the track.
fn announced_path(version: MoqtVersion, track: &TrackPath) -> TrackPath {
    let path = match version.rules().paths {
        PathFormat::Parts => return track.clone(),
        PathFormat::Text | PathFormat::Segments => track.broadcast(),
    };
    let is_served = version.rules().is_lite || path.echoed_track(version) == *track;
    if is_served { path } else { TrackPath::default() }
}

impl SessionHandler for MoqtEcho {
    fn on_event(&mut self, now: Time, session: &mut Session, event: SessionEvent) {
        let due = now + self.config.delay;
        match event {
            SessionEvent::Established { version } => {
                session.request_announcements(&TrackPath::echo_prefix(version));
            }
            SessionEvent::AnnounceRequested { announce_stream, prefix } => {
                let Some(version) = session.version() else { return };
                let requested = self.announced.iter().filter(|path| path.has_prefix(&prefix, version));
                session.announce_all(announce_stream, requested);
                self.announce_streams.insert(announce_stream, prefix);
            }
            SessionEvent::AnnounceRequestEnded { announce_stream } => {
                drop(self.announce_streams.remove(&announce_stream));
            }
            SessionEvent::Announced { path } => self.on_announced(session, path),
            SessionEvent::Unannounced { path } => self.on_client_unannounced(now, session, &path),
            SessionEvent::SubscribeRequested { subscribe_stream, track, range } => {
                let Some(version) = session.version() else { return };
                if self.announced.contains(&announced_path(version, &track)) {
                    self.serve(session, subscribe_stream, &track, range);
                } else {
                    let pending = PendingSubscribe { deadline: now + ANNOUNCE_TIMEOUT, track, range };
                    self.pending_subscribes.insert(subscribe_stream, pending);
                }
            }
            SessionEvent::SubscriptionUpdated { subscribe_stream, range } => {
                self.on_subscription_updated(session, subscribe_stream, range);
            }
            SessionEvent::Unsubscribed { subscribe_stream, code } => {
                self.on_unsubscribed(session, subscribe_stream, code);
            }
            SessionEvent::GroupsSkipped { subscribe_id, gap } if self.delayed_gaps.len() < MAX_DELAYED_GAPS => {
                self.delayed_gaps.push_back((due, subscribe_id, gap));
            }
            SessionEvent::GroupsSkipped { .. } => session.counters.messages_ignored += 1,
            SessionEvent::SubscriptionEnded { subscribe_id, code } => {
                self.on_subscription_ended(now, session, subscribe_id, code);
            }
            SessionEvent::GroupStarted { group_stream, subscribe_id, sequence } => {
                self.relay_queue.start_group(group_stream, subscribe_id, sequence);
                if self.tracks.get(&subscribe_id).is_some_and(|track| track.subscribe_streams.is_empty()) {
                    self.relay_queue.drop_unsubscribed(subscribe_id, MAX_UNSUBSCRIBED_GROUPS, session);
                }
            }
            SessionEvent::FrameReceived { group_stream, payload } => {
                self.relay_queue.push(group_stream, due, RelayItem::Frame(payload));
            }
            SessionEvent::GroupEnded { group_stream } => self.relay_queue.push(group_stream, due, RelayItem::Fin),
            SessionEvent::GroupAborted { group_stream, code } => {
                self.relay_queue.push(group_stream, due, RelayItem::Reset(code));
            }
            SessionEvent::SubscribeAccepted { .. } | SessionEvent::Closed { .. } => {}
        }
    }

    fn on_events_drained(&mut self, now: Time, session: &mut Session) {
        if !session.is_closed() {
            self.relay_due(now, session);
        }
    }

    fn handle_timeout(&mut self, now: Time, session: &mut Session) {
        self.pending_subscribes.retain(|subscriber, pending| {
            let is_expired = now >= pending.deadline;
            if is_expired {
                session.reject_request(*subscriber, error_code::TRACK_NOT_FOUND);
            }
            !is_expired
        });
        self.relay_due(now, session);
    }

    fn next_deadline(&self) -> Option<Time> {
        let has_subscribers =
            |subscription| self.tracks.get(&subscription).is_some_and(|track| !track.subscribe_streams.is_empty());
        let pending = self.pending_subscribes.values().map(|pending| pending.deadline);
        let ending = self.tracks.values().filter_map(|track| match track.state {
            TrackState::Ending(until) | TrackState::Reset(until, _) => Some(until),
            TrackState::Active | TrackState::Ended => None,
        });
        let gap = self.delayed_gaps.front().map(|(due, ..)| *due);
        pending.chain(ending).chain(gap).chain(self.relay_queue.next_deadline(has_subscribers)).min()
    }

    fn has_backlog(&self) -> bool {
        self.has_backlog
    }
}

/// Whether each subscription of the client causes a subscription of the echo.
fn relays_subscriptions(session: &Session) -> bool {
    session.version().is_some_and(|version| version.rules().is_lite)
}

/// The range that the echo requests for a subscription of the client.
fn relayed_range(range: SubscribeUpdate) -> SubscribeUpdate {
    SubscribeUpdate { order: 1, max_latency_ms: MAX_LATENCY_MS, ..range }
}
