//! Incoming stream data: opens, buffers, splits and ends streams, and dispatches their messages by the role of the
//! stream. A turn processes a limited number of items; the rest waits in a backlog.

use std::collections::BTreeSet;

use bytes::Bytes;
use tracing::debug;

use super::{EndpointRole, Session, SessionAction, SessionEvent, StreamDir, StreamHandle};
use crate::moqt::codec::{DecodeError, Deframer, GROUP_STREAM_TYPE, GroupDeframer, GroupItem};
use crate::moqt::error_code;
use crate::moqt::message::{IETF_CLIENT_SETUP_TYPE, StreamType, Subscribe, TrackPath};

/// Maximum number of messages and frames processed in one turn. The limit is needed because one chunk of received data may contain
/// thousands of messages and frames, and each frame may be relayed to several subscribers.
pub(super) const MAX_ITEMS_PER_TURN: usize = 64;

/// Close reason for a peer that speaks MOQT of the IETF drafts or a related protocol, instead of gomoqt's.
const IETF_MOQT_REASON: &str =
    "unsupported MOQ protocol (first byte 0x20); supported versions are 0xffffff00 and 0xfeedbabe";

/// Role of a stream.
#[derive(Debug)]
pub(super) enum StreamRole {
    /// The type byte has not arrived, or the setup is not complete, so the byte is not read yet.
    Untyped,
    /// The session stream during the setup.
    SessionSetup,
    /// The session stream after the setup.
    SessionUpdates,
    /// The peer's announcement request, with its prefix once it has been received.
    IncomingAnnounceRequest { prefix: Option<TrackPath> },
    /// The peer's subscription, once it has been received.
    IncomingSubscribe(Option<IncomingSubscription>),
    /// Our announcement request.
    OutgoingAnnounceRequest(AnnounceRequest),
    /// Our subscription.
    OutgoingSubscribe { subscribe_id: u64, accepted: bool },
    /// An incoming group; `has_subscription` is false until its header names one of our subscriptions.
    IncomingGroup { deframer: GroupDeframer, has_subscription: bool },
}

impl StreamRole {
    /// A group whose header has not arrived.
    pub(super) fn incoming_group() -> Self {
        Self::IncomingGroup { deframer: GroupDeframer::default(), has_subscription: false }
    }
}

/// A subscription of the peer.
#[derive(Debug)]
pub(super) struct IncomingSubscription {
    pub(super) subscribe: Subscribe,
    pub(super) accepted: bool,
}

/// State of our announcement request.
#[derive(Debug)]
pub(super) struct AnnounceRequest {
    pub(super) prefix: TrackPath,
    /// Whether the initial reply has arrived. Always true in protocol versions that have no initial reply.
    pub(super) init_received: bool,
    pub(super) announced: BTreeSet<TrackPath>,
}

impl AnnounceRequest {
    /// Events that end all announcements of the request.
    pub(super) fn into_unannounced(self) -> impl Iterator<Item = SessionEvent> {
        self.announced.into_iter().map(|path| SessionEvent::Unannounced { path })
    }
}

/// The next item of a stream.
pub(super) enum StreamItem {
    /// No complete item is buffered.
    Incomplete,
    /// The stream type.
    Type(u8),
    /// A message body.
    Message(Bytes),
    /// An item of a group.
    Group(GroupItem),
}

/// State of one stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) dir: StreamDir,
    pub(super) role: StreamRole,
    pub(super) deframer: Deframer,
    /// Whether the peer finished its side.
    pub(super) finished: bool,
    /// Written bytes that the transport has not accepted yet.
    pub(super) unsent_bytes: usize,
}

impl StreamState {
    pub(super) fn new(dir: StreamDir, role: StreamRole) -> Self {
        Self { dir, role, deframer: Deframer::default(), finished: false, unsent_bytes: 0 }
    }

    /// Takes the next item from the buffer.
    pub(super) fn next_item(&mut self) -> Result<StreamItem, DecodeError> {
        Ok(match &mut self.role {
            StreamRole::Untyped => self.deframer.next_byte().map_or(StreamItem::Incomplete, StreamItem::Type),
            StreamRole::IncomingGroup { deframer, .. } => {
                deframer.next(&mut self.deframer)?.map_or(StreamItem::Incomplete, StreamItem::Group)
            }
            _ => self.deframer.next_length_prefixed()?.map_or(StreamItem::Incomplete, StreamItem::Message),
        })
    }

    /// Returns an error if the peer's side of the stream must not end at the current position.
    pub(super) fn check_end(&self) -> Result<(), DecodeError> {
        match &self.role {
            StreamRole::Untyped => Err(DecodeError::UnexpectedEnd("stream type")),
            StreamRole::SessionSetup => Err(DecodeError::UnexpectedEnd("setup")),
            StreamRole::IncomingAnnounceRequest { prefix: None } => Err(DecodeError::UnexpectedEnd("ANNOUNCE_PLEASE")),
            StreamRole::IncomingSubscribe(None) => Err(DecodeError::UnexpectedEnd("SUBSCRIBE")),
            StreamRole::IncomingGroup { deframer, .. } => deframer.check_end(&self.deframer),
            _ => self.deframer.check_end(),
        }
    }
}

/// How the peer's side of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    /// Normally.
    Finished,
    /// The stream ended because of `RESET_STREAM` or `STOP_SENDING` from the peer, or because the peer exceeded a limit.
    Reset(u32),
    /// The stream ended because of malformed data.
    Malformed(DecodeError),
}

impl Session {
    /// The peer opened a stream.
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
        if dir == StreamDir::Bi && matches!(self.role, EndpointRole::Server { .. }) {
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
            self.events.push_back(SessionEvent::GroupDropped { group_stream: stream });
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

    /// Processes one turn of the backlog.
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
            let before = state.deframer.buffered();
            let item = state.next_item();
            self.reassembly_bytes -= before - state.deframer.buffered();
            left -= usize::from(!matches!(item, Ok(StreamItem::Incomplete)));
            let result = match item {
                Ok(StreamItem::Incomplete) => break,
                Ok(StreamItem::Type(byte)) => {
                    self.on_stream_type(stream, byte);
                    Ok(())
                }
                Ok(StreamItem::Message(body)) => self.on_message(stream, &body),
                Ok(StreamItem::Group(item)) => {
                    self.on_group_item(stream, item);
                    Ok(())
                }
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
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if self.session_stream == Some(stream) {
            match byte {
                0 => state.role = StreamRole::SessionSetup,
                IETF_CLIENT_SETUP_TYPE => self.close(error_code::PROTOCOL_VIOLATION, IETF_MOQT_REASON),
                other => {
                    self.close(
                        error_code::PROTOCOL_VIOLATION,
                        &format!("the first stream has type {other:#04x}, expected 0x00 (session)"),
                    );
                }
            }
            return;
        }
        state.role = match (state.dir, byte) {
            (StreamDir::Uni, GROUP_STREAM_TYPE) => StreamRole::incoming_group(),
            (StreamDir::Bi, byte) if byte == StreamType::Announce as u8 => {
                StreamRole::IncomingAnnounceRequest { prefix: None }
            }
            (StreamDir::Bi, byte) if byte == StreamType::Subscribe as u8 => StreamRole::IncomingSubscribe(None),
            (dir, _) => {
                self.counters.streams_unknown_type += 1;
                self.remove_stream(stream);
                self.reject_stream(stream, dir, error_code::UNSUPPORTED_STREAM_TYPE);
                return;
            }
        };
    }

    fn on_message(&mut self, stream: StreamHandle, body: &[u8]) -> Result<(), DecodeError> {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        match &state.role {
            StreamRole::SessionSetup => self.on_setup(stream, body),
            StreamRole::SessionUpdates => self.on_session_update(body),
            StreamRole::IncomingAnnounceRequest { .. } => self.on_announce_please(stream, body),
            StreamRole::IncomingSubscribe(_) => self.on_subscribe(stream, body),
            StreamRole::OutgoingAnnounceRequest(_) => self.on_announcement(stream, body),
            StreamRole::OutgoingSubscribe { .. } => self.on_subscribe_reply(stream, body),
            StreamRole::Untyped | StreamRole::IncomingGroup { .. } => Ok(()),
        }
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
            StreamRole::IncomingSubscribe(Some(_)) => self.on_unsubscribed(stream),
            StreamRole::OutgoingAnnounceRequest(asking) => self.events.extend(asking.into_unannounced()),
            StreamRole::OutgoingSubscribe { subscribe_id, .. } => self.on_subscription_ended(subscribe_id, code),
            StreamRole::IncomingGroup { has_subscription: true, .. } => self.on_group_ended(stream, code),
            _ => {}
        }
    }
}
