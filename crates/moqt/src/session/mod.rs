//! One MOQT session as a state machine: stream events go in, [`SessionAction`]s and [`SessionEvent`]s come out.
//! [`MoqtEndpoint`] combines a session and its [`SessionHandler`].
//!
//! This file negotiates the version and path, unless the transport has already selected a version that has no setup. The module `streams`
//! processes incoming data according to the role of its stream, and sends groups. The module `subscriptions` handles announcements and
//! subscriptions of both ends.

mod events;
mod stream_state;
mod streams;
mod subscriptions;

use std::collections::{BTreeMap, VecDeque};

use super::codec::Decoded;
use super::error_code;
use super::limits::SessionLimits;
use super::message::{MessageBody, PATH_PARAMETER, SESSION_STREAM, SessionClient, SessionServer};
use super::version::{MoqtVersion, alpns};
use jamjam_core::time::{Time, display_seconds};
use stream_state::{OutgoingGroups, OutgoingSubscriptions, StreamRole, StreamState};

pub use events::{SessionAction, SessionCounters, SessionEvent, StreamDir, StreamHandle};

/// Maximum number of messages and frames processed in one turn. One chunk of received data may contain thousands of them, and each frame may
/// be relayed to several subscribers.
const MAX_ITEMS_PER_TURN: usize = 64;

/// The setup messages are the same in all versions. They are decoded and encoded as messages of this version.
const SETUP_VERSION: MoqtVersion = MoqtVersion::Gomoqt202502;

/// Maximum number of bytes in messages that the transport has not accepted yet.
const MAX_UNSENT_MESSAGE_BYTES: usize = 256 << 10;

/// Bytes charged for a finished stream whose last bytes are unsent, in addition to these bytes.
const UNSENT_STREAM_OVERHEAD: usize = 256;

/// Role of this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointRole {
    /// This end accepted the connection.
    Server {
        /// The served path, such as `/echo`.
        served_path: String,
        /// Whether a WebTransport request contained the path, which the caller has already checked. Over raw QUIC, only the setup message
        /// contains the path.
        path_in_connect: bool,
    },
    /// This end opened the connection.
    Client {
        /// Offered versions, the preferred one first; not empty. The setup message offers only those that have a version code.
        offered_versions: Vec<MoqtVersion>,
        /// The requested path over raw QUIC, where the setup message contains it. `None` if the WebTransport request contains it.
        path: Option<String>,
    },
}

/// The application code that uses a session, such as the echo or the client.
pub trait SessionHandler {
    /// Handles an event.
    fn on_event(&mut self, now: Time, session: &mut Session, event: SessionEvent);

    /// Called when all pending events have been handled, so that the handler can act on them together.
    fn on_events_drained(&mut self, _now: Time, _session: &mut Session) {}

    /// Handles timers that are due at `now`. May be called earlier than [`SessionHandler::next_deadline`] requires.
    fn handle_timeout(&mut self, now: Time, session: &mut Session);

    /// When to call [`SessionHandler::handle_timeout`].
    fn next_deadline(&self) -> Option<Time>;

    /// Returns true if due items remain in this handler. One call of the handler processes only a limited number of items. While this
    /// method returns true, the owner calls [`SessionHandler::handle_timeout`] and reads no more data.
    fn has_backlog(&self) -> bool {
        false
    }
}

/// A session with its handler. After each call that takes `&mut self` there may be new actions
/// ([`MoqtEndpoint::poll_action`]) and an earlier deadline.
#[derive(Debug)]
pub struct MoqtEndpoint<H> {
    /// The session. [`MoqtEndpoint::update`] changes it.
    pub session: Session,
    /// The handler.
    pub handler: H,
}

impl<H: SessionHandler> MoqtEndpoint<H> {
    /// Combines a session and its handler into one endpoint.
    pub fn new(session: Session, handler: H) -> Self {
        Self { session, handler }
    }

    /// Passes an event of the connection to the session, and its effects to the handler.
    pub fn update(&mut self, now: Time, event: impl FnOnce(&mut Session)) {
        event(&mut self.session);
        self.dispatch_events(now);
    }

    /// Handles timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.update(now, |session| session.handle_timeout(now));
        if !self.session.is_closed() {
            self.handler.handle_timeout(now, &mut self.session);
            self.dispatch_events(now);
        }
    }

    /// The next action.
    pub fn poll_action(&mut self) -> Option<SessionAction> {
        self.session.actions.pop_front()
    }

    /// The time at which the owner must call [`MoqtEndpoint::handle_timeout`]. Other calls can change this time.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.session.is_closed() {
            return None;
        }
        if !self.session.events.is_empty() {
            return Some(Time::ZERO);
        }
        [self.session.next_deadline(), self.handler.next_deadline()].into_iter().flatten().min()
    }

    /// Whether work remains from the last turn. While work remains, [`MoqtEndpoint::next_deadline`] returns a time that has already passed.
    /// The owner should then read no more data.
    pub fn has_backlog(&self) -> bool {
        self.session.has_backlog() || !self.session.is_closed() && self.handler.has_backlog()
    }

    /// Counters of session and handler since the last call.
    pub fn take_counters(&mut self) -> SessionCounters {
        std::mem::take(&mut self.session.counters)
    }

    fn dispatch_events(&mut self, now: Time) {
        while !self.session.events.is_empty() {
            while let Some(event) = self.session.events.pop_front() {
                self.handler.on_event(now, &mut self.session, event);
            }
            self.handler.on_events_drained(now, &mut self.session);
        }
    }
}

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionState {
    /// The setup must complete by the deadline.
    SettingUp { deadline: Time },
    /// The setup is complete.
    Established(MoqtVersion),
    /// The session is closed.
    Closed,
}

/// One end of one session.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the field name `session_stream` is a term of the protocol")]
pub struct Session {
    role: EndpointRole,
    limits: SessionLimits,
    state: SessionState,
    /// Identifies this end as a relay in the announcements of moq-lite.
    hop_id: u64,
    /// The session stream once it is open. Always `None` if the version has no session stream.
    session_stream: Option<StreamHandle>,
    /// All streams except outgoing groups.
    streams: BTreeMap<StreamHandle, StreamState>,
    subscriptions: OutgoingSubscriptions,
    outgoing_groups: OutgoingGroups,
    next_stream_number: u64,
    /// Number of bytes buffered in `streams` that are not processed yet.
    reassembly_bytes: usize,
    /// Bytes written to `streams` and `finishing_streams` that the transport has not accepted yet.
    unsent_message_bytes: usize,
    /// Finished streams that are no longer in `streams`. The value is the number of bytes that the transport has not accepted yet.
    finishing_streams: BTreeMap<StreamHandle, usize>,
    /// Streams that may still have unprocessed items, because each turn processes at most `MAX_ITEMS_PER_TURN` items.
    backlog: VecDeque<StreamHandle>,
    actions: VecDeque<SessionAction>,
    events: VecDeque<SessionEvent>,
    /// The handler also counts here.
    pub(super) counters: SessionCounters,
}

impl Session {
    /// Bytes that are held for the peer: received and not processed yet, or not accepted by the transport yet. Finished streams with unsent
    /// bytes count in addition. A peer that permits no further stream can cause thousands of them.
    pub fn held_bytes(&self) -> usize {
        let finishing = self.finishing_streams.len() * UNSENT_STREAM_OVERHEAD;
        self.reassembly_bytes + self.unsent_message_bytes + finishing + self.outgoing_groups.cost
    }

    /// Creates a session whose setup starts `now`.
    pub fn new(now: Time, role: EndpointRole, limits: SessionLimits) -> Self {
        let state = SessionState::SettingUp { deadline: now + limits.setup_timeout };
        let mut session = Self::in_state(state, role, limits, 0);
        session.start_setup();
        session
    }

    /// Creates a session of a version that has no setup. The transport has already selected `version`. `hop_id` is a random number, which
    /// identifies this end in announcements.
    pub fn established(role: EndpointRole, limits: SessionLimits, version: MoqtVersion, hop_id: u64) -> Self {
        let mut session = Self::in_state(SessionState::Established(version), role, limits, hop_id);
        session.counters.sessions += 1;
        session.events.push_back(SessionEvent::Established { version });
        session
    }

    fn in_state(state: SessionState, role: EndpointRole, limits: SessionLimits, hop_id: u64) -> Self {
        Self {
            role,
            limits,
            state,
            hop_id,
            session_stream: None,
            streams: BTreeMap::new(),
            subscriptions: OutgoingSubscriptions::default(),
            outgoing_groups: OutgoingGroups::default(),
            next_stream_number: 0,
            reassembly_bytes: 0,
            unsent_message_bytes: 0,
            finishing_streams: BTreeMap::new(),
            backlog: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: SessionCounters::default(),
        }
    }

    /// The negotiated version after the setup.
    pub fn version(&self) -> Option<MoqtVersion> {
        if let SessionState::Established(version) = self.state { Some(version) } else { None }
    }

    /// Whether the session is closed.
    pub fn is_closed(&self) -> bool {
        self.state == SessionState::Closed
    }

    /// When to call [`Session::handle_timeout`].
    pub fn next_deadline(&self) -> Option<Time> {
        match self.state {
            SessionState::Closed => None,
            _ if self.has_backlog() => Some(Time::ZERO),
            SessionState::SettingUp { deadline } => Some(deadline),
            SessionState::Established(_) => None,
        }
    }

    /// Handles timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.process_backlog();
        if matches!(self.state, SessionState::SettingUp { deadline } if now >= deadline) {
            let reason = format!("setup timed out after {} s", display_seconds(self.limits.setup_timeout));
            self.close(error_code::SETUP_FAILED, &reason);
        }
    }

    /// The connection was closed by the peer or the transport.
    pub fn on_connection_closed(&mut self, code: u32, reason: &str) {
        self.enter_closed(code, reason, false);
    }

    /// Closes the connection.
    pub fn close(&mut self, code: u32, reason: &str) {
        if self.enter_closed(code, reason, true) {
            self.actions.push_back(SessionAction::Close { code, reason: reason.to_owned() });
        }
    }

    fn enter_closed(&mut self, code: u32, reason: &str, closed_locally: bool) -> bool {
        if self.is_closed() {
            return false;
        }
        self.counters.setups_failed += u64::from(closed_locally && self.version().is_none());
        self.state = SessionState::Closed;
        self.streams.clear();
        self.backlog.clear();
        self.finishing_streams.clear();
        self.outgoing_groups = OutgoingGroups::default();
        (self.reassembly_bytes, self.unsent_message_bytes) = (0, 0);
        self.events.push_back(SessionEvent::Closed { code, reason: reason.to_owned(), closed_locally });
        true
    }

    /// Rejects a stream of the peer and sends nothing on it.
    fn reject_stream(&mut self, stream: StreamHandle, dir: StreamDir, code: u32) {
        self.actions.push_back(SessionAction::StopSending(stream, code));
        if dir == StreamDir::Bi {
            self.actions.push_back(SessionAction::Reset(stream, code));
        }
    }

    fn remove_stream(&mut self, stream: StreamHandle) -> Option<StreamState> {
        let state = self.streams.remove(&stream)?;
        self.reassembly_bytes -= state.deframer.buffered();
        self.unsent_message_bytes -= state.unsent_bytes;
        Some(state)
    }

    /// Ends our side of a removed stream. The end is sent after all bytes that are still unsent.
    fn finish_stream(&mut self, stream: StreamHandle, state: &StreamState) {
        if state.unsent_bytes > 0 {
            self.unsent_message_bytes += state.unsent_bytes;
            self.finishing_streams.insert(stream, state.unsent_bytes);
        }
        self.actions.push_back(SessionAction::Finish(stream));
    }

    /// Opens a stream.
    fn open_stream(&mut self, dir: StreamDir) -> StreamHandle {
        let stream = StreamHandle::Local(self.next_stream_number);
        self.next_stream_number += 1;
        self.actions.push_back(SessionAction::OpenStream(stream, dir));
        stream
    }

    /// Writes a message. Closes the connection if the peer does not read messages.
    fn write_message(&mut self, stream: StreamHandle, bytes: Vec<u8>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.unsent_bytes += bytes.len();
        self.unsent_message_bytes += bytes.len();
        self.actions.push_back(SessionAction::Write(stream, bytes.into()));
        if self.unsent_message_bytes > MAX_UNSENT_MESSAGE_BYTES {
            self.close(error_code::INTERNAL_ERROR, "the peer does not read messages");
        }
    }
}

/// Whether the `requested` path is the `served` path. A leading slash and a query are ignored.
pub fn path_matches(served: &str, requested: &str) -> bool {
    let [served, requested] = [served, without_query(requested)].map(|path| path.strip_prefix('/').unwrap_or(path));
    served == requested
}

/// The path without its query, which may contain a token and must not be printed.
pub fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// Whether the path in the client's setup message is the served one, or else the reason for the client.
fn check_path(hello: &SessionClient, served_path: &str) -> Result<(), String> {
    let path = hello.path()?;
    if path_matches(served_path, path) {
        return Ok(());
    }
    Err(format!("unknown path {:.64}; this server serves {served_path}", without_query(path)))
}

/// The session stream. The client offers versions and a path. The server selects a version or closes the connection with a reason.
impl Session {
    /// Sends `SESSION_CLIENT` if this end is the client.
    fn start_setup(&mut self) {
        let EndpointRole::Client { offered_versions, path } = &self.role else { return };
        let mut hello = SessionClient {
            versions: offered_versions.iter().filter_map(|offer| offer.rules().session_code).collect(),
            ..SessionClient::default()
        };
        hello.parameters.extend(path.iter().map(|path| (PATH_PARAMETER, path.clone().into_bytes())));
        let hello = hello.encode_with_length(SETUP_VERSION);
        self.session_stream = Some(self.open_request_stream(SESSION_STREAM, StreamRole::SessionSetup, &hello));
    }

    fn on_setup(&mut self, stream: StreamHandle, body: &[u8]) -> Decoded {
        let selected = match &self.role {
            EndpointRole::Server { served_path, path_in_connect } => {
                let hello = SessionClient::from_bytes(SETUP_VERSION, body)?;
                let path = if *path_in_connect { Ok(()) } else { check_path(&hello, served_path) };
                path.map_err(|reason| (error_code::SETUP_FAILED, reason)).and_then(|()| {
                    let is_offered = |version: &MoqtVersion| {
                        version.rules().session_code.is_some_and(|code| hello.versions.contains(&code))
                    };
                    let common = MoqtVersion::ALL.into_iter().find(is_offered);
                    common.ok_or_else(|| (error_code::UNSUPPORTED_VERSION, no_common_version(&hello.versions)))
                })
            }
            EndpointRole::Client { offered_versions, .. } => {
                let SessionServer { version: code } = SessionServer::from_bytes(SETUP_VERSION, body)?;
                let version = MoqtVersion::from_session_code(code).filter(|version| offered_versions.contains(version));
                version.ok_or_else(|| (error_code::UNSUPPORTED_VERSION, version_not_offered(code, offered_versions)))
            }
        };
        let is_server = matches!(self.role, EndpointRole::Server { .. });
        match selected {
            Err((code, reason)) => self.close(code, &reason),
            Ok(version) => {
                if let Some(code) = version.rules().session_code.filter(|_| is_server) {
                    self.write_message(stream, SessionServer { version: code }.encode_with_length(version));
                }
                self.establish(stream, version);
            }
        }
        Ok(())
    }

    /// Completes the setup and processes data that arrived early on other streams.
    fn establish(&mut self, stream: StreamHandle, version: MoqtVersion) {
        self.state = SessionState::Established(version);
        self.counters.sessions += 1;
        if let Some(state) = self.streams.get_mut(&stream) {
            state.role = StreamRole::SessionUpdates;
        }
        self.events.push_back(SessionEvent::Established { version });
        let waiting: Vec<StreamHandle> = self.streams.keys().copied().filter(|other| *other != stream).collect();
        waiting.into_iter().fold(MAX_ITEMS_PER_TURN, |left, other| self.process_items(other, left));
    }
}

/// The version codes of setup messages, such as `0xffffff00 and 0xfeedbabe`.
fn version_codes(versions: &[MoqtVersion], separator: &str) -> String {
    let codes = versions.iter().filter_map(|version| version.rules().session_code);
    codes.map(|code| format!("{code:#x}")).collect::<Vec<_>>().join(separator)
}

fn version_not_offered(selected: u64, offered: &[MoqtVersion]) -> String {
    let offered = version_codes(offered, ", ");
    format!("the server selected version {selected:#x}, which was not offered (offered: {offered})")
}

fn no_common_version(offered: &[u64]) -> String {
    let offered: Vec<String> = offered.iter().take(8).map(|version| format!("{version:#x}")).collect();
    let supported = version_codes(&MoqtVersion::ALL, " and ");
    format!("no common version: offered {}, supported {supported}", offered.join(", "))
}

/// Close reason for a first stream that does not begin with a setup message.
fn no_setup_message(byte: u8) -> String {
    format!(
        "the first stream has type {byte:#04x}, expected 0x00 (session), because no moq-lite ALPN or \
         WebTransport protocol was negotiated; supported: {}",
        alpns(&MoqtVersion::ALL).join(", ")
    )
}

/// Close reason for a peer that speaks MOQT of an IETF draft.
fn ietf_draft(byte: u8, message: &str) -> String {
    let supported = MoqtVersion::ALL.map(MoqtVersion::name).join(", ");
    format!("unsupported MOQ protocol (first byte {byte:#04x}): {message}; supported versions: {supported}")
}
