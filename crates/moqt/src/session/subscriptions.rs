//! Announcements and subscriptions: first our requests and their replies, then the requests of the peer.

use std::collections::BTreeSet;

use super::events::{SessionAction, SessionEvent, StreamDir, StreamHandle};
use super::stream_state::{AnnounceRequest, IncomingSubscription, RECENTLY_ENDED_CAPACITY, StreamRole, StreamState};
use super::{EndpointRole, Session};
use crate::codec::{DecodeError, Decoded};
use crate::error_code;
use crate::message::{
    ANNOUNCE_STREAM, Announce, AnnounceInit, AnnouncePlease, AnnounceStatus, MessageBody, SUBSCRIBE_STREAM, Subscribe,
    SubscribeGap, SubscribeOk, SubscribeUpdate, TrackPath,
};
use crate::version::{HopFormat, MoqtVersion, PathFormat};

/// Maximum length of a path, in bytes.
const MAX_PATH_BYTES: usize = 4 << 10;

/// Types of the replies to SUBSCRIBE in moq-lite.
const SUBSCRIBE_OK_TYPE: u8 = 0;
const SUBSCRIBE_DROP_TYPE: u8 = 1;

impl Session {
    /// Requests announcements under `prefix`, reported as [`SessionEvent::Announced`].
    pub(crate) fn request_announcements(&mut self, prefix: &TrackPath) {
        let Some(version) = self.version() else { return };
        let please = AnnouncePlease { prefix: prefix.clone(), excluded_hop: self.excluded_hop().unwrap_or(0) };
        let request = AnnounceRequest {
            prefix: prefix.clone(),
            init_received: !version.rules().has_announce_init,
            announced: BTreeSet::new(),
        };
        self.open_request_stream(
            ANNOUNCE_STREAM,
            StreamRole::OutgoingAnnounceRequest(request),
            &please.encode_with_length(version),
        );
    }

    /// The hop ID of this end if it is a server. A server does not need announcements that passed through itself: these are its own
    /// announcements, which the client has announced back.
    fn excluded_hop(&self) -> Option<u64> {
        matches!(self.role, EndpointRole::Server { .. }).then_some(self.hop_id)
    }

    /// Subscribes to a track and returns the subscribe ID. The result is [`SessionEvent::SubscribeAccepted`] or
    /// [`SessionEvent::SubscriptionEnded`].
    pub fn subscribe(&mut self, track: &TrackPath, range: &SubscribeUpdate) -> u64 {
        let subscribe_id = self.subscriptions.next_id;
        let Some(version) = self.version() else { return subscribe_id };
        self.subscriptions.next_id += 1;
        let subscribe = Subscribe { id: subscribe_id, track: track.clone(), range: *range };
        let has_reply_types = version.rules().is_lite;
        let role = StreamRole::OutgoingSubscribe { subscribe_id, accepted: false, has_reply_types };
        let stream = self.open_request_stream(SUBSCRIBE_STREAM, role, &subscribe.encode_with_length(version));
        self.subscriptions.active.insert(subscribe_id, stream);
        subscribe_id
    }

    /// Changes a subscription of ours.
    pub(crate) fn update_subscription(&mut self, subscribe_id: u64, range: &SubscribeUpdate) {
        let Some(version) = self.version() else { return };
        if let Some(stream) = self.subscriptions.active.get(&subscribe_id) {
            self.write_message(*stream, range.encode_with_length(version));
        }
    }

    /// Ends a subscription of ours: normally, or with an error code. Groups that the peer has already started may still arrive.
    pub fn unsubscribe(&mut self, subscribe_id: u64, code: Option<u32>) {
        let Some(stream) = self.subscriptions.active.remove(&subscribe_id) else { return };
        self.remember_ended(subscribe_id);
        self.close_request(stream, code);
    }

    /// Ends the stream of a request of either end on both sides: normally, or with an error code. Groups that have already started are not
    /// aborted.
    pub(crate) fn close_request(&mut self, stream: StreamHandle, code: Option<u32>) {
        let Some(state) = self.remove_stream(stream) else { return };
        if let Some(code) = code {
            self.reject_stream(stream, state.dir, code);
        } else {
            self.finish_stream(stream, &state);
            self.actions.push_back(SessionAction::StopSending(stream, error_code::NO_ERROR));
        }
    }

    pub(super) fn open_request_stream(&mut self, stream_type: u8, role: StreamRole, message: &[u8]) -> StreamHandle {
        let stream = self.open_stream(StreamDir::Bi);
        self.streams.insert(stream, StreamState::new(StreamDir::Bi, role));
        self.write_message(stream, [&[stream_type], message].concat());
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
    pub(super) fn on_announcement(&mut self, version: MoqtVersion, stream: StreamHandle, body: &[u8]) -> Decoded {
        let (rules, excluded_hop) = (version.rules(), self.excluded_hop());
        let Some(StreamState { role: StreamRole::OutgoingAnnounceRequest(request), .. }) =
            self.streams.get_mut(&stream)
        else {
            return Ok(());
        };
        let announcements: Vec<Announce> = if !request.init_received {
            request.init_received = true;
            let active = |suffix| Announce { path: TrackPath(vec![suffix]), ..Announce::default() };
            AnnounceInit::from_bytes(version, body)?.suffixes.into_iter().map(active).collect()
        } else if body.is_empty() && rules.has_live_status {
            // After LIVE, gomoqt sends a byte 0 that the length prefix of LIVE does not include. This byte is read as the length of an
            // empty message, which is ignored.
            Vec::new()
        } else {
            vec![Announce::from_bytes(version, body)?]
        };
        for Announce { status, path, hops, .. } in announcements {
            let path = TrackPath::from_announcement(path, &request.prefix, version);
            let is_announced = request.announced.contains(&path);
            // The client announces back what this end has announced.
            let is_own = rules.hops == HopFormat::Ids && excluded_hop.is_some_and(|hop| hops.contains(&hop));
            let is_over_limit = request.announced.len() >= self.limits.max_announcements
                || path.byte_len() > MAX_PATH_BYTES
                || path.is_empty();
            match status {
                AnnounceStatus::Ended if is_announced => {
                    request.announced.remove(&path);
                    self.events.push_back(SessionEvent::Unannounced { path });
                }
                AnnounceStatus::Active if is_announced || is_own => self.counters.messages_ignored += 1,
                AnnounceStatus::Active if is_over_limit => self.counters.announcements_rejected += 1,
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
    pub(super) fn on_subscribe_reply(
        &mut self,
        version: MoqtVersion,
        stream: StreamHandle,
        reply_type: Option<u8>,
        body: &[u8],
    ) -> Decoded {
        let Some(StreamState { role: StreamRole::OutgoingSubscribe { subscribe_id, accepted, .. }, .. }) =
            self.streams.get_mut(&stream)
        else {
            return Ok(());
        };
        // Without types, the first reply accepts the subscription.
        let untyped = if *accepted { SUBSCRIBE_DROP_TYPE } else { SUBSCRIBE_OK_TYPE };
        match reply_type.unwrap_or(untyped) {
            SUBSCRIBE_OK_TYPE => {
                SubscribeOk::from_bytes(version, body)?;
                if std::mem::replace(accepted, true) {
                    self.counters.messages_ignored += 1;
                } else {
                    self.events.push_back(SessionEvent::SubscribeAccepted { subscribe_id: *subscribe_id });
                }
            }
            SUBSCRIBE_DROP_TYPE if version.rules().has_subscribe_gap => {
                let gap = SubscribeGap::from_bytes(version, body)?;
                self.events.push_back(SessionEvent::GroupsSkipped { subscribe_id: *subscribe_id, gap });
                self.counters.messages_ignored += u64::from(reply_type.is_none());
            }
            SUBSCRIBE_DROP_TYPE => self.counters.messages_ignored += 1,
            unknown => return Err(DecodeError::UnknownReplyType(unknown)),
        }
        Ok(())
    }
}

impl Session {
    /// Replies to [`SessionEvent::AnnounceRequested`] with all current paths. Must be called once, before any [`Session::announce`].
    pub(crate) fn announce_all<'a>(
        &mut self,
        announce_stream: StreamHandle,
        paths: impl IntoIterator<Item = &'a TrackPath>,
    ) {
        let Some(version) = self.version() else { return };
        let Some(prefix) = self.announce_prefix(announce_stream) else { return };
        if version.rules().has_announce_init {
            let suffixes = paths.into_iter().map(|path| path.suffix_after(&prefix, version)).collect();
            self.write_message(announce_stream, AnnounceInit { suffixes }.encode_with_length(version));
        } else {
            for path in paths {
                self.announce(announce_stream, path, AnnounceStatus::Active);
            }
        }
    }

    /// Announces the new status of one path.
    pub fn announce(&mut self, announce_stream: StreamHandle, path: &TrackPath, status: AnnounceStatus) {
        let Some(version) = self.version() else { return };
        let Some(prefix) = self.announce_prefix(announce_stream) else { return };
        let path = match version.rules().paths {
            PathFormat::Parts => path.clone(),
            PathFormat::Text | PathFormat::Segments => TrackPath(vec![path.suffix_after(&prefix, version)]),
        };
        let announce = Announce { status, path, hops: vec![self.hop_id] };
        self.write_message(announce_stream, announce.encode_with_length(version));
    }

    fn announce_prefix(&self, announce_stream: StreamHandle) -> Option<TrackPath> {
        match &self.streams.get(&announce_stream)?.role {
            StreamRole::IncomingAnnounceRequest { prefix } => prefix.clone(),
            _ => None,
        }
    }

    /// Accepts a subscription, so that groups may be sent.
    pub(crate) fn accept_subscribe(&mut self, subscriber: StreamHandle) {
        let Some(version) = self.version() else { return };
        if let Some(StreamState { role: StreamRole::IncomingSubscribe(Some(subscription)), .. }) =
            self.streams.get_mut(&subscriber)
            && !subscription.accepted
        {
            subscription.accepted = true;
            self.counters.subscriptions += 1;
            self.write_reply(subscriber, SUBSCRIBE_OK_TYPE, &SubscribeOk::default().encode_with_length(version));
        }
    }

    /// Reports groups that will not be sent to the subscriber. Has no effect if replies have no types.
    pub(crate) fn report_gap(&mut self, subscriber: StreamHandle, gap: &SubscribeGap) {
        if let Some(version) = self.version().filter(|version| version.rules().is_lite) {
            self.write_reply(subscriber, SUBSCRIBE_DROP_TYPE, &gap.encode_with_length(version));
        }
    }

    /// Writes a reply to SUBSCRIBE, after its type if the version has one.
    fn write_reply(&mut self, subscriber: StreamHandle, reply_type: u8, message: &[u8]) {
        let has_type = self.version().is_some_and(|version| version.rules().is_lite);
        let reply_type = has_type.then_some(reply_type);
        self.write_message(subscriber, reply_type.into_iter().chain(message.iter().copied()).collect());
    }

    /// Rejects an announcement request or a subscription. There are no further events for the rejected request.
    pub(crate) fn reject_request(&mut self, stream: StreamHandle, code: u32) {
        let Some(state) = self.remove_stream(stream) else { return };
        self.counters.subscriptions_rejected += u64::from(matches!(state.role, StreamRole::IncomingSubscribe(_)));
        self.reject_stream(stream, state.dir, code);
    }

    pub(super) fn on_announce_please(&mut self, version: MoqtVersion, stream: StreamHandle, body: &[u8]) -> Decoded {
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
        if please.prefix.byte_len() > MAX_PATH_BYTES {
            self.counters.streams_rejected += 1;
            self.reject_request(stream, error_code::LIMIT_EXCEEDED);
            return Ok(());
        }
        *prefix = Some(please.prefix.clone());
        self.events.push_back(SessionEvent::AnnounceRequested { announce_stream: stream, prefix: please.prefix });
        Ok(())
    }

    pub(super) fn on_subscribe(&mut self, version: MoqtVersion, stream: StreamHandle, body: &[u8]) -> Decoded {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        if let StreamRole::IncomingSubscribe(Some(subscription)) = &mut state.role {
            let range = SubscribeUpdate::from_bytes(version, body)?;
            subscription.range = range;
            self.events.push_back(SessionEvent::SubscriptionUpdated { subscribe_stream: stream, range });
            return Ok(());
        }
        let Subscribe { id, track, range } = Subscribe::from_bytes(version, body)?;
        let active = self.streams.values().filter_map(|state| match &state.role {
            StreamRole::IncomingSubscribe(Some(subscription)) => Some(subscription.id),
            _ => None,
        });
        let ids: Vec<u64> = active.collect();
        let rejection = if ids.contains(&id) {
            Some(error_code::DUPLICATE_SUBSCRIBE_ID)
        } else if ids.len() >= self.limits.max_subscriptions || track.byte_len() > MAX_PATH_BYTES {
            Some(error_code::LIMIT_EXCEEDED)
        } else {
            None
        };
        if let Some(code) = rejection {
            self.reject_request(stream, code);
            return Ok(());
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.role = StreamRole::IncomingSubscribe(Some(IncomingSubscription { id, range, accepted: false }));
            self.events.push_back(SessionEvent::SubscribeRequested { subscribe_stream: stream, track, range });
        }
        Ok(())
    }

    /// Handles the end of a subscription of the peer: resets its unsent groups.
    pub(super) fn on_unsubscribed(&mut self, subscribe_stream: StreamHandle, code: Option<u32>) {
        for group_stream in self.outgoing_groups.of_subscription(subscribe_stream) {
            self.counters.groups_unsubscribed += 1;
            self.reset_group(group_stream, error_code::PUBLISH_ABORTED);
        }
        self.events.push_back(SessionEvent::Unsubscribed { subscribe_stream, code });
    }
}
