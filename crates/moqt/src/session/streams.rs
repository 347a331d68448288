//! Incoming streams are buffered and split into messages, which are dispatched by the role of their stream. A turn processes a limited
//! number of them, and the rest wait in a backlog.
//!
//! The second `impl` block sends groups. Their unsent bytes are limited: if a subscriber is slow, its oldest group is dropped as a whole, so
//! that what remains is recent.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tracing::debug;

use super::events::{SessionAction, SessionEvent, StreamDir, StreamHandle};
use super::stream_state::{FRAME_OVERHEAD, OutgoingGroup, StreamEnd, StreamItem, StreamRole, StreamState};
use super::{EndpointRole, MAX_ITEMS_PER_TURN, SETUP_VERSION, Session, SessionState, ietf_draft, no_setup_message};
use crate::codec::{self, Decoded};
use crate::error_code;
use crate::message::{
    ANNOUNCE_STREAM, FETCH_STREAM, GOAWAY_STREAM, GROUP_STREAM, GroupHeader, IETF_CLIENT_SETUP_TYPE,
    IETF_SERVER_SETUP_START, INFO_STREAM, MessageBody, OLD_IETF_CLIENT_SETUP_START, SESSION_STREAM, SUBSCRIBE_STREAM,
    SessionUpdate,
};

/// Consecutive writes to a group are joined into one write of at most this many bytes. A payload of at most this many bytes is copied
/// behind its length prefix.
const MAX_COALESCED_BYTES: usize = 1 << 10;

impl Session {
    /// The peer opened a stream. `id` identifies the stream among the peer's streams. If the version has a session stream, this is the
    /// peer's first bidirectional stream. Report the session stream before the peer's other bidirectional streams. All other streams may be
    /// reported in any order.
    pub fn on_stream_opened(&mut self, id: u64, dir: StreamDir) {
        let stream = StreamHandle::Remote(id);
        if self.is_closed() || self.streams.contains_key(&stream) {
            return;
        }
        let max_streams =
            if dir == StreamDir::Bi { self.limits.max_bidi_streams } else { self.limits.max_incoming_groups };
        let open_streams =
            self.streams.iter().filter(|(key, state)| matches!(key, StreamHandle::Remote(_)) && state.dir == dir);
        if open_streams.count() >= max_streams {
            self.counters.streams_rejected += 1;
            self.reject_stream(stream, dir, error_code::LIMIT_EXCEEDED);
            return;
        }
        let is_setting_up = matches!(self.state, SessionState::SettingUp { .. });
        if is_setting_up && dir == StreamDir::Bi && matches!(self.role, EndpointRole::Server { .. }) {
            self.session_stream.get_or_insert(stream);
        }
        self.streams.insert(stream, StreamState::new(dir, StreamRole::Untyped));
    }

    /// Data arrived on a stream.
    pub fn on_stream_data(&mut self, stream: StreamHandle, bytes: &[u8]) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.deframer.push(bytes);
        self.reassembly_bytes += bytes.len();
        self.process_stream(stream);
        if self.reassembly_bytes > self.limits.max_reassembly_bytes && self.streams.contains_key(&stream) {
            self.counters.streams_rejected += 1;
            self.end_stream(stream, StreamEnd::Reset(error_code::LIMIT_EXCEEDED));
        }
    }

    /// The peer finished its side of a stream.
    pub fn on_stream_finished(&mut self, stream: StreamHandle) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.finished = true;
        self.process_stream(stream);
    }

    /// The peer reset its side of a stream.
    pub fn on_stream_reset(&mut self, stream: StreamHandle, code: u32) {
        self.end_stream(stream, StreamEnd::Reset(code));
    }

    /// The peer sent `STOP_SENDING` for a stream.
    pub fn on_stop_sending(&mut self, stream: StreamHandle, code: u32) {
        if self.outgoing_groups.remove(stream).is_some() {
            self.counters.groups_stopped += 1;
            self.actions.push_back(SessionAction::Reset(stream, code));
        } else {
            self.end_stream(stream, StreamEnd::Reset(code));
        }
    }

    /// The transport has accepted `bytes` more bytes of the data written to a stream.
    pub fn on_bytes_written(&mut self, stream: StreamHandle, bytes: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            let bytes = bytes.min(state.unsent_bytes);
            state.unsent_bytes -= bytes;
            self.unsent_message_bytes -= bytes;
        } else if let Some(unsent) = self.finishing_streams.get_mut(&stream) {
            let bytes = bytes.min(*unsent);
            *unsent -= bytes;
            self.unsent_message_bytes -= bytes;
            if *unsent == 0 {
                self.finishing_streams.remove(&stream);
            }
        } else {
            let (frames, bytes) = self.outgoing_groups.on_bytes_written(stream, bytes);
            self.counters.frames_sent += frames;
            self.counters.sent_bytes += bytes;
        }
    }

    /// Processes new data of a stream. A stream in the backlog waits for its turn.
    fn process_stream(&mut self, stream: StreamHandle) {
        if !self.backlog.contains(&stream) {
            self.process_items(stream, MAX_ITEMS_PER_TURN);
        }
    }

    /// Whether complete items are waiting to be processed. While this is true, call [`Session::handle_timeout`] and read no more data.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Processes at most `MAX_ITEMS_PER_TURN` items of the streams in the backlog.
    pub(super) fn process_backlog(&mut self) {
        let mut left = MAX_ITEMS_PER_TURN;
        while left > 0
            && let Some(stream) = self.backlog.pop_front()
        {
            left = self.process_items(stream, left);
        }
    }

    /// Processes at most `left` complete items of a stream. Returns `left` minus the number of processed items. If the result is 0, the
    /// stream joins the backlog.
    pub(super) fn process_items(&mut self, stream: StreamHandle, mut left: usize) -> usize {
        while self.version().is_some() || self.session_stream == Some(stream) {
            let Some(state) = self.streams.get_mut(&stream) else { return left };
            if left == 0 {
                self.backlog.push_back(stream);
                return left;
            }
            if state.is_ietf_reply() {
                let reason = ietf_draft(IETF_SERVER_SETUP_START[0], "SERVER_SETUP of an IETF draft, such as draft 14");
                self.close(error_code::PROTOCOL_VIOLATION, &reason);
                return left;
            }
            let before = state.deframer.buffered();
            let item = state.next_item();
            self.reassembly_bytes -= before - state.deframer.buffered();
            left -= usize::from(!matches!(item, Ok(None)));
            let result = match item {
                Ok(None) => break,
                Ok(Some(StreamItem::Type(byte))) => {
                    self.on_stream_type(stream, byte);
                    Ok(())
                }
                Ok(Some(StreamItem::Message(reply_type, body))) => self.on_message(stream, reply_type, body),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.end_stream(stream, StreamEnd::Malformed(error));
                return left;
            }
        }
        let is_readable = self.version().is_some() || self.session_stream == Some(stream);
        if let Some(state) = self.streams.get(&stream).filter(|state| is_readable && state.finished) {
            let end = state.check_end().map_or_else(StreamEnd::Malformed, |()| StreamEnd::Finished);
            self.end_stream(stream, end);
        }
        left
    }

    fn on_stream_type(&mut self, stream: StreamHandle, byte: u8) {
        let is_lite = self.version().is_some_and(|version| version.rules().is_lite);
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if self.session_stream == Some(stream) {
            let reason = match byte {
                SESSION_STREAM => {
                    state.role = StreamRole::SessionSetup;
                    return;
                }
                IETF_CLIENT_SETUP_TYPE => ietf_draft(byte, "CLIENT_SETUP of an IETF draft, such as draft 14"),
                OLD_IETF_CLIENT_SETUP_START => ietf_draft(byte, "CLIENT_SETUP of an IETF draft up to 10"),
                other => no_setup_message(other),
            };
            self.close(error_code::PROTOCOL_VIOLATION, &reason);
            return;
        }
        state.role = match (state.dir, byte) {
            (StreamDir::Uni, GROUP_STREAM) => StreamRole::IncomingGroup { has_header: false },
            (StreamDir::Bi, ANNOUNCE_STREAM) => StreamRole::IncomingAnnounceRequest { prefix: None },
            (StreamDir::Bi, SUBSCRIBE_STREAM) => StreamRole::IncomingSubscribe(None),
            (StreamDir::Bi, GOAWAY_STREAM) if is_lite => StreamRole::IncomingGoaway,
            (dir, _) => {
                if dir == StreamDir::Bi && matches!(byte, FETCH_STREAM | INFO_STREAM) {
                    self.counters.requests_unsupported += 1;
                } else {
                    self.counters.streams_unknown_type += 1;
                }
                self.remove_stream(stream);
                self.reject_stream(stream, dir, error_code::UNSUPPORTED_STREAM_TYPE);
                return;
            }
        };
    }

    fn on_message(&mut self, stream: StreamHandle, reply_type: Option<u8>, body: Bytes) -> Decoded {
        let version = self.version().unwrap_or(SETUP_VERSION);
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        match &mut state.role {
            StreamRole::SessionSetup => self.on_setup(stream, &body)?,
            StreamRole::SessionUpdates => {
                SessionUpdate::from_bytes(version, &body)?;
                self.counters.messages_ignored += 1;
            }
            StreamRole::IncomingAnnounceRequest { .. } => self.on_announce_please(version, stream, &body)?,
            StreamRole::IncomingSubscribe(_) => self.on_subscribe(version, stream, &body)?,
            StreamRole::OutgoingAnnounceRequest(_) => self.on_announcement(version, stream, &body)?,
            StreamRole::OutgoingSubscribe { .. } => self.on_subscribe_reply(version, stream, reply_type, &body)?,
            StreamRole::IncomingGroup { has_header: true } => {
                self.counters.frames_received += 1;
                self.counters.received_bytes += body.len() as u64;
                self.events.push_back(SessionEvent::FrameReceived { group_stream: stream, payload: body });
            }
            StreamRole::IncomingGroup { has_header } => {
                let GroupHeader { subscribe_id, sequence } = GroupHeader::from_bytes(version, &body)?;
                // A subscribe ID is registered when SUBSCRIBE is written, before any valid group can arrive.
                if self.subscriptions.contains(subscribe_id) {
                    *has_header = true;
                    self.counters.groups_received += 1;
                    self.events.push_back(SessionEvent::GroupStarted { group_stream: stream, subscribe_id, sequence });
                } else {
                    self.counters.groups_rejected += 1;
                    self.remove_stream(stream);
                    self.reject_stream(stream, StreamDir::Uni, error_code::INVALID_SUBSCRIBE_ID);
                }
            }
            StreamRole::IncomingGoaway => self.counters.messages_ignored += 1,
            StreamRole::Untyped => {}
        }
        Ok(())
    }

    /// Ends a stream after the peer ended its side: our side ends as well.
    fn end_stream(&mut self, stream: StreamHandle, end: StreamEnd) {
        let Some(state) = self.remove_stream(stream) else { return };
        if self.session_stream == Some(stream) {
            match end {
                StreamEnd::Malformed(error) => {
                    self.close(error_code::PROTOCOL_VIOLATION, &format!("malformed session stream: {error}"));
                }
                _ => self.close(error_code::NO_ERROR, "the session stream ended"),
            }
            return;
        }
        let code = match end {
            StreamEnd::Finished => None,
            StreamEnd::Reset(code) => Some(code),
            StreamEnd::Malformed(error) => {
                self.counters.streams_malformed += 1;
                debug!(target: "moqt", ?stream, reason = %error, "stream rejected");
                Some(error_code::MALFORMED_MESSAGE)
            }
        };
        match code {
            None if state.dir == StreamDir::Bi => self.finish_stream(stream, &state),
            None => {}
            // If the peer has reset the stream, the STOP_SENDING has no effect.
            Some(code) => self.reject_stream(stream, state.dir, code),
        }
        match state.role {
            StreamRole::IncomingAnnounceRequest { prefix: Some(_) } => {
                self.events.push_back(SessionEvent::AnnounceRequestEnded { announce_stream: stream });
            }
            StreamRole::IncomingSubscribe(Some(_)) => self.on_unsubscribed(stream, code),
            // One event for each path that the peer announced in reply to this request.
            StreamRole::OutgoingAnnounceRequest(request) => {
                self.events.extend(request.announced.into_iter().map(|path| SessionEvent::Unannounced { path }));
            }
            StreamRole::OutgoingSubscribe { subscribe_id, .. } => self.on_subscription_ended(subscribe_id, code),
            StreamRole::IncomingGroup { has_header: true } => {
                self.counters.groups_aborted += u64::from(code.is_some());
                self.events.push_back(match code {
                    None => SessionEvent::GroupEnded { group_stream: stream },
                    Some(code) => SessionEvent::GroupAborted { group_stream: stream, code },
                });
            }
            _ => {}
        }
    }
}

/// Outgoing groups.
impl Session {
    /// Opens a group for an accepted subscription. `None` if the subscription has ended or its range does not contain
    /// the group.
    pub(crate) fn open_group(&mut self, subscribe_stream: StreamHandle, sequence: u64) -> Option<StreamHandle> {
        let version = self.version()?;
        let StreamRole::IncomingSubscribe(Some(subscription)) = &self.streams.get(&subscribe_stream)?.role else {
            return None;
        };
        if !subscription.accepted || !subscription.range.contains(sequence) {
            return None;
        }
        let subscribe_id = subscription.id;
        let group = self.open_stream(StreamDir::Uni);
        let header = GroupHeader { subscribe_id, sequence }.encode_with_length(version);
        let header = [vec![GROUP_STREAM], header].concat();
        let (unsent_frames, first_frame_written) = (VecDeque::new(), -(header.len() as isize));
        self.outgoing_groups.groups.insert(
            group,
            OutgoingGroup { subscribe_stream, unsent_bytes: 0, unsent_frames, first_frame_written, finished: false },
        );
        self.counters.groups_sent += 1;
        self.write_group(group, header.into());
        Some(group)
    }

    /// Sends a frame of a group. Frames of dropped groups are ignored.
    pub(crate) fn send_frame(&mut self, group: StreamHandle, payload: Bytes) {
        let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) else { return };
        outgoing.unsent_frames.push_back(payload.len() as u32);
        self.outgoing_groups.cost += FRAME_OVERHEAD;
        let mut length = Vec::with_capacity(codec::MAX_VARINT_LEN);
        codec::write_varint(payload.len() as u64, &mut length);
        if payload.len() <= MAX_COALESCED_BYTES {
            length.extend_from_slice(&payload);
            self.write_group(group, length.into());
        } else {
            self.write_group(group, length.into());
            self.write_group(group, payload);
        }
    }

    /// Finishes a group.
    pub(crate) fn finish_group(&mut self, group: StreamHandle) {
        if let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) {
            outgoing.finished = true;
            self.actions.push_back(SessionAction::Finish(group));
            let _ = self.outgoing_groups.on_bytes_written(group, 0);
        }
    }

    /// Resets a group.
    pub(crate) fn reset_group(&mut self, group: StreamHandle, code: u32) {
        if self.outgoing_groups.remove(group).is_some() {
            self.actions.push_back(SessionAction::Reset(group, code));
        }
    }

    /// Writes to a group and coalesces short writes.
    fn write_group(&mut self, group: StreamHandle, bytes: Bytes) {
        let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) else { return };
        outgoing.unsent_bytes += bytes.len();
        self.outgoing_groups.cost += bytes.len();
        match self.actions.back_mut() {
            Some(SessionAction::Write(last, before))
                if *last == group && before.len() + bytes.len() <= MAX_COALESCED_BYTES =>
            {
                let mut joined = BytesMut::from(std::mem::take(before));
                joined.extend_from_slice(&bytes);
                *before = joined.freeze();
            }
            _ => self.actions.push_back(SessionAction::Write(group, bytes)),
        }
        while let Some(oldest) =
            self.outgoing_groups.oldest_over_limit(self.limits.max_unsent_group_bytes, self.limits.max_outgoing_groups)
        {
            self.counters.groups_dropped_slow_reader += 1;
            debug!(
                target: "moqt",
                stream = ?oldest,
                queued_bytes = self.outgoing_groups.cost,
                reason = "slow reader",
                "oldest group dropped"
            );
            self.reset_group(oldest, error_code::GROUP_EXPIRED);
        }
    }
}
