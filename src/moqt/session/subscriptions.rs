//! Announcements and subscriptions of both ends. The first part handles our requests and the replies. The second part handles requests of
//! the peer.

use std::collections::BTreeSet;

use super::Session;
use super::events::{SessionAction, SessionEvent, StreamDir, StreamHandle};
use super::stream_state::{AnnounceRequest, IncomingSubscription, RECENTLY_ENDED_CAPACITY, StreamRole, StreamState};
use crate::moqt::codec::DecodeError;
use crate::moqt::error_code;
use crate::moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, AnnounceStatus, MessageBody, MoqtVersion, StreamType, Subscribe,
    SubscribeGap, SubscribeOk, SubscribeUpdate, TrackPath,
};

impl Session {
    /// Requests announcements under `prefix`, reported as [`SessionEvent::Announced`].
    pub fn request_announcements(&mut self, prefix: &TrackPath) {
        let Some(version) = self.version() else { return };
        let please = AnnouncePlease { prefix: prefix.clone(), ..AnnouncePlease::default() };
        let request = AnnounceRequest {
            prefix: prefix.clone(),
            init_received: version == MoqtVersion::Gomoqt202502,
            announced: BTreeSet::new(),
        };
        self.open_request_stream(
            StreamType::Announce,
            StreamRole::OutgoingAnnounceRequest(request),
            &please.encode_with_length(version),
        );
    }

    /// Subscribes to a track and returns the subscribe ID. The result is [`SessionEvent::SubscribeAccepted`] or
    /// [`SessionEvent::SubscriptionEnded`].
    pub fn subscribe(&mut self, track: &TrackPath) -> u64 {
        let subscribe_id = self.subscriptions.next_id;
        let Some(version) = self.version() else { return subscribe_id };
        self.subscriptions.next_id += 1;
        let subscribe = Subscribe { id: subscribe_id, track: track.clone(), ..Subscribe::default() };
        let role = StreamRole::OutgoingSubscribe { subscribe_id, accepted: false };
        let stream = self.open_request_stream(StreamType::Subscribe, role, &subscribe.encode_with_length(version));
        self.subscriptions.active.insert(subscribe_id, stream);
        subscribe_id
    }

    /// Ends a subscription of ours. Groups that the peer has already started may still arrive.
    pub fn unsubscribe(&mut self, subscribe_id: u64) {
        let Some(stream) = self.subscriptions.active.remove(&subscribe_id) else { return };
        self.remember_ended(subscribe_id);
        if let Some(state) = self.remove_stream(stream) {
            self.finish_stream(stream, &state);
            self.actions.push_back(SessionAction::StopSending(stream, error_code::NO_ERROR));
        }
    }

    fn open_request_stream(&mut self, stream_type: StreamType, role: StreamRole, message: &[u8]) -> StreamHandle {
        let stream = self.open_stream(StreamDir::Bi);
        self.streams.insert(stream, StreamState::new(StreamDir::Bi, role));
        self.write_message(stream, [&[stream_type as u8], message].concat());
        stream
    }

    fn remember_ended(&mut self, subscribe_id: u64) {
        self.subscriptions.recently_ended.push_back(subscribe_id);
        if self.subscriptions.recently_ended.len() > RECENTLY_ENDED_CAPACITY {
            self.subscriptions.recently_ended.pop_front();
        }
    }

    pub(super) fn on_subscription_ended(&mut self, subscribe_id: u64, code: Option<u32>) {
        self.subscriptions.active.remove(&subscribe_id);
        self.remember_ended(subscribe_id);
        self.events.push_back(SessionEvent::SubscriptionEnded { subscribe_id, code });
    }

    /// Handles a reply to [`Session::request_announcements`].
    pub(super) fn on_announcement(&mut self, stream: StreamHandle, body: &[u8]) -> Result<(), DecodeError> {
        let Some(version) = self.version() else { return Ok(()) };
        let Some(StreamState { role: StreamRole::OutgoingAnnounceRequest(request), .. }) =
            self.streams.get_mut(&stream)
        else {
            return Ok(());
        };
        let announcements: Vec<Announce> = if !request.init_received {
            request.init_received = true;
            let active = |suffix| Announce { path: TrackPath(vec![suffix]), ..Announce::default() };
            AnnounceInit::from_bytes(version, body)?.suffixes.into_iter().map(active).collect()
        } else if body.is_empty() && version == MoqtVersion::Gomoqt202502 {
            // After LIVE, gomoqt sends a byte 0 that the length prefix of LIVE does not include. This byte is read as the length of an
            // empty message, which is ignored.
            Vec::new()
        } else {
            vec![Announce::from_bytes(version, body)?]
        };
        for Announce { status, path, .. } in announcements {
            let path = TrackPath::from_announcement(path, &request.prefix, version);
            let is_announced = request.announced.contains(&path);
            match status {
                AnnounceStatus::Ended if is_announced => {
                    request.announced.remove(&path);
                    self.events.push_back(SessionEvent::Unannounced { path });
                }
                AnnounceStatus::Active if is_announced => self.counters.messages_ignored += 1,
                AnnounceStatus::Active
                    if request.announced.len() >= self.limits.max_announcements
                        || path.byte_len() > self.limits.max_path_bytes
                        || path.is_empty() =>
                {
                    self.counters.announcements_rejected += 1;
                }
                AnnounceStatus::Active => {
                    self.counters.announcements += 1;
                    request.announced.insert(path.clone());
                    self.events.push_back(SessionEvent::Announced { path });
                }
                AnnounceStatus::Ended | AnnounceStatus::Live => self.counters.messages_ignored += 1,
            }
        }
        Ok(())
    }

    /// Handles a reply to [`Session::subscribe`], or an update after it.
    pub(super) fn on_subscribe_reply(&mut self, stream: StreamHandle, body: &[u8]) -> Result<(), DecodeError> {
        let Some(version) = self.version() else { return Ok(()) };
        let Some(StreamState { role: StreamRole::OutgoingSubscribe { subscribe_id, accepted }, .. }) =
            self.streams.get_mut(&stream)
        else {
            return Ok(());
        };
        if *accepted {
            if version == MoqtVersion::Gomoqt202502 {
                SubscribeGap::from_bytes(version, body)?;
            }
            self.counters.messages_ignored += 1;
        } else {
            SubscribeOk::from_bytes(version, body)?;
            *accepted = true;
            self.events.push_back(SessionEvent::SubscribeAccepted { subscribe_id: *subscribe_id });
        }
        Ok(())
    }
}

impl Session {
    /// Replies to [`SessionEvent::AnnounceRequested`] with all current paths. Must be called once, before any [`Session::announce`].
    pub fn announce_all<'a>(&mut self, announce_stream: StreamHandle, paths: impl IntoIterator<Item = &'a TrackPath>) {
        let Some(version) = self.version() else { return };
        let Some(prefix) = self.announce_prefix(announce_stream) else { return };
        match version {
            MoqtVersion::Gomoqt202502 => {
                for path in paths {
                    self.announce(announce_stream, path, AnnounceStatus::Active);
                }
            }
            MoqtVersion::Gomoqt09 => {
                let suffixes = paths.into_iter().map(|path| path.suffix_after(&prefix)).collect();
                self.write_message(announce_stream, AnnounceInit { suffixes }.encode_with_length(version));
            }
        }
    }

    /// Announces the new status of one path.
    pub fn announce(&mut self, announce_stream: StreamHandle, path: &TrackPath, status: AnnounceStatus) {
        let Some(version) = self.version() else { return };
        let Some(prefix) = self.announce_prefix(announce_stream) else { return };
        let path = match version {
            MoqtVersion::Gomoqt202502 => path.clone(),
            MoqtVersion::Gomoqt09 => TrackPath(vec![path.suffix_after(&prefix)]),
        };
        self.write_message(
            announce_stream,
            Announce { status, path, ..Announce::default() }.encode_with_length(version),
        );
    }

    fn announce_prefix(&self, announce_stream: StreamHandle) -> Option<TrackPath> {
        match &self.streams.get(&announce_stream)?.role {
            StreamRole::IncomingAnnounceRequest { prefix } => prefix.clone(),
            _ => None,
        }
    }

    /// Accepts a subscription, so that groups may be sent.
    pub fn accept_subscribe(&mut self, subscriber: StreamHandle) {
        let Some(version) = self.version() else { return };
        if let Some(StreamState { role: StreamRole::IncomingSubscribe(Some(subscription)), .. }) =
            self.streams.get_mut(&subscriber)
            && !subscription.accepted
        {
            subscription.accepted = true;
            self.counters.subscriptions += 1;
            self.write_message(subscriber, SubscribeOk::default().encode_with_length(version));
        }
    }

    /// Rejects an announcement request or a subscription. There are no further events for the rejected request.
    pub fn reject_request(&mut self, stream: StreamHandle, code: u32) {
        let Some(state) = self.remove_stream(stream) else { return };
        self.counters.subscriptions_rejected += u64::from(matches!(state.role, StreamRole::IncomingSubscribe(_)));
        self.reject_stream(stream, state.dir, code);
    }

    /// Ends a subscription of the peer because the track has ended. Groups that have already started are not aborted.
    pub fn end_subscription(&mut self, subscriber: StreamHandle) {
        if let Some(state) = self.remove_stream(subscriber) {
            self.finish_stream(subscriber, &state);
            self.actions.push_back(SessionAction::StopSending(subscriber, error_code::NO_ERROR));
        }
    }

    pub(super) fn on_announce_please(&mut self, stream: StreamHandle, body: &[u8]) -> Result<(), DecodeError> {
        let Some(version) = self.version() else { return Ok(()) };
        let Some(StreamState { role: StreamRole::IncomingAnnounceRequest { prefix }, .. }) =
            self.streams.get_mut(&stream)
        else {
            return Ok(());
        };
        if prefix.is_some() {
            self.counters.messages_ignored += 1;
            return Ok(());
        }
        let please = AnnouncePlease::from_bytes(version, body)?;
        if please.prefix.byte_len() > self.limits.max_path_bytes {
            self.counters.streams_rejected += 1;
            self.reject_request(stream, error_code::LIMIT_EXCEEDED);
            return Ok(());
        }
        *prefix = Some(please.prefix.clone());
        self.events.push_back(SessionEvent::AnnounceRequested { announce_stream: stream, prefix: please.prefix });
        Ok(())
    }

    pub(super) fn on_subscribe(&mut self, stream: StreamHandle, body: &[u8]) -> Result<(), DecodeError> {
        let Some(version) = self.version() else { return Ok(()) };
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        if let StreamRole::IncomingSubscribe(Some(subscription)) = &mut state.role {
            subscription.subscribe.range = without_parameters(SubscribeUpdate::from_bytes(version, body)?);
            return Ok(());
        }
        let subscribe = Subscribe::from_bytes(version, body)?;
        let subscribe = Subscribe { range: without_parameters(subscribe.range), ..subscribe };
        let (id, track) = (subscribe.id, subscribe.track.clone());
        let active = self.streams.values().filter_map(|state| match &state.role {
            StreamRole::IncomingSubscribe(Some(subscription)) => Some(subscription.subscribe.id),
            _ => None,
        });
        let ids: Vec<u64> = active.collect();
        let rejection = if ids.contains(&id) {
            Some(error_code::DUPLICATE_SUBSCRIBE_ID)
        } else if ids.len() >= self.limits.max_subscriptions || track.byte_len() > self.limits.max_path_bytes {
            Some(error_code::LIMIT_EXCEEDED)
        } else {
            None
        };
        if let Some(code) = rejection {
            self.reject_request(stream, code);
            return Ok(());
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.role = StreamRole::IncomingSubscribe(Some(IncomingSubscription { subscribe, accepted: false }));
            self.events.push_back(SessionEvent::SubscribeRequested { subscribe_stream: stream, track });
        }
        Ok(())
    }

    /// Handles the end of a subscription of the peer: resets its unsent groups.
    pub(super) fn on_unsubscribed(&mut self, subscribe_stream: StreamHandle) {
        for group_stream in self.outgoing_groups.of_subscription(subscribe_stream) {
            self.counters.groups_unsubscribed += 1;
            self.reset_group(group_stream, error_code::PUBLISH_ABORTED);
            self.events.push_back(SessionEvent::GroupDropped { group_stream });
        }
        self.events.push_back(SessionEvent::Unsubscribed { subscribe_stream });
    }
}

/// Discards the parameters of a range, which are unused and may be long.
fn without_parameters(mut range: SubscribeUpdate) -> SubscribeUpdate {
    range.parameters = Vec::new();
    range
}
