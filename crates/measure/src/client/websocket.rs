//! The client side of a signaling server. The client joins a room, sends requests at a fixed interval and measures the responses. This
//! module performs no I/O: messages are passed in and out as text.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::connection_results::ClockOffset;
use super::reply::ReceivedReply;
use super::request_matcher::{MatchResult, RequestMatcher, parse_object};
use super::results::{AudioResults, RunKind, StreamKind};
use super::run::{ClientNode, Workload, WorkloadStep};
use super::schedule::RequestSchedule;
use super::sent_packets::PacketTracker;
use jamjam_core::node::{SendStatus, TransmitSink};
use jamjam_core::time::Time;
use jamjam_signaling::{Dialect, ProbeRoom};

/// The stream that requests are counted in.
const STREAM: StreamKind = StreamKind::Ping;

/// Maximum length of a message that is parsed as an error, in bytes.
const MAX_ERROR_MESSAGE_LEN: usize = 1_024;

/// Client name sent with a join.
const CLIENT_NAME: &str = "jamjam-dev probe";

/// A client that sends requests to a signaling server.
pub type WebSocketProber = ClientNode<WebSocketWorkload>;

/// Sends requests at a fixed interval.
pub struct WebSocketWorkload {
    matcher: RequestMatcher,
    schedule: RequestSchedule,
    text: String,
    server_error: Option<String>,
}

impl WebSocketWorkload {
    /// Creates a workload that sends one request every `interval`: `count` requests, or an unlimited number if it is `None`.
    pub fn new(matcher: RequestMatcher, count: Option<u64>, interval: Duration) -> Self {
        let schedule = RequestSchedule::new(count, interval);
        Self { matcher, schedule, text: String::new(), server_error: None }
    }

    /// Offset of the server's clock, if the dialect reports the server's time.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.matcher.clock_offset()
    }

    /// Text of the first error message from the server.
    pub fn server_error(&self) -> Option<&str> {
        self.server_error.as_deref()
    }

    fn record_server_error(&mut self, text: &str) {
        if self.server_error.is_none() && text.len() <= MAX_ERROR_MESSAGE_LEN {
            self.server_error = ServerMessage::parse(text).and_then(|message| message.error().map(str::to_owned));
        }
    }
}

impl Workload for WebSocketWorkload {
    const RUN_KIND: RunKind = RunKind::Probe;

    fn start(&mut self, now: Time, _: &PacketTracker) {
        self.schedule.start(now);
    }

    fn poll_transmit(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> WorkloadStep {
        let Self { matcher, schedule, text, .. } = self;
        schedule.poll(now, |due, is_overdue| {
            if is_overdue {
                tracker.on_not_sent(STREAM, due, false, &[]);
                return SendStatus::Sent;
            }
            let sequence = tracker.next_sequence(STREAM);
            matcher.write_request(sequence, now, text);
            let status = tracker.send(STREAM, (due, now), text.as_bytes(), 0, sink);
            if status != SendStatus::WouldBlock {
                matcher.on_sent(sequence, now);
            }
            status
        })
    }

    fn audio_results(&self) -> Option<AudioResults> {
        None
    }

    fn parse_reply<'a>(
        &mut self,
        message: &'a [u8],
        received_at: Time,
    ) -> Option<(StreamKind, Option<ReceivedReply<'a>>)> {
        let text = str::from_utf8(message).ok()?;
        match self.matcher.on_message(text, received_at) {
            MatchResult::Response(sequence) => {
                Some((STREAM, Some(ReceivedReply { sequence, received_at, digest: 0, payload: message })))
            }
            MatchResult::Unmatched => Some((STREAM, None)),
            MatchResult::Other => {
                self.record_server_error(text);
                None
            }
        }
    }

    /// In a broadcast room, a client sends requests on one connection and receives the responses on another connection. This method handles
    /// messages that arrive on the sending connection.
    fn accept_secondary(&mut self, message: &[u8]) -> bool {
        if let Ok(text) = str::from_utf8(message) {
            self.record_server_error(text);
        }
        true
    }

    fn has_unsent(&self) -> bool {
        self.schedule.has_unsent()
    }
}

/// The server rejected the join, with this error text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRejected(pub String);

/// The join of a room. The handshake sends the first message if the dialect needs one, and waits for the welcome.
#[derive(Debug)]
pub struct JoinHandshake {
    dialect: Dialect,
    /// Code of a control-surface room.
    room_code: Option<String>,
    joined: bool,
}

impl JoinHandshake {
    /// `room_code` is the control-surface room to join. Without a room code, the prober joins no control-surface room. A control-surface
    /// server also answers pings from clients outside rooms.
    pub fn new(dialect: Dialect, room_code: Option<String>) -> Self {
        let joined = match dialect.probe().room {
            ProbeRoom::None => true,
            ProbeRoom::Code => room_code.is_none(),
            ProbeRoom::Query | ProbeRoom::TwoMembers => false,
        };
        Self { dialect, room_code, joined }
    }

    /// The first message to send, if any.
    pub fn first_message(&self) -> Option<String> {
        let code = self.room_code.as_ref().filter(|_| self.dialect.probe().room == ProbeRoom::Code)?;
        Some(json!({"type": "join", "room_code": code, "client_name": CLIENT_NAME}).to_string())
    }

    /// Whether requests may be sent.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Handles a message from the server. Returns an error if the server rejects the join.
    pub fn on_message(&mut self, text: &str) -> Result<(), JoinRejected> {
        let Some(message) = ServerMessage::parse(text) else { return Ok(()) };
        self.joined |= message.is_welcome();
        match message.error() {
            Some(error) if !self.joined => Err(JoinRejected(error.to_owned())),
            _ => Ok(()),
        }
    }
}

/// A message from the server, in any dialect.
#[derive(Deserialize)]
struct ServerMessage {
    #[serde(rename = "type")]
    message_type: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ServerMessage {
    fn parse(text: &str) -> Option<Self> {
        parse_object(text)
    }

    fn is_welcome(&self) -> bool {
        self.message_type == "welcome"
    }

    /// Text of an error message, from the JSON field in which the dialect puts this text. Returns `None` if the message is not an error
    /// message.
    fn error(&self) -> Option<&str> {
        if !self.message_type.eq_ignore_ascii_case("error") {
            return None;
        }
        let text = ["message", "error", "code"].iter().find_map(|member| self.rest.get(*member)?.as_str());
        let nested = || self.rest.get("data")?.get("message")?.as_str();
        Some(text.or_else(nested).unwrap_or("an error without a message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_without_join_is_joined_at_once() {
        for dialect in [Dialect::Jamjam, Dialect::ControlSurface] {
            let handshake = JoinHandshake::new(dialect, None);
            assert_eq!((handshake.is_joined(), handshake.first_message()), (true, None));
        }
    }

    #[test]
    fn room_code_is_sent_and_the_welcome_completes_the_join() {
        let mut handshake = JoinHandshake::new(Dialect::ControlSurface, Some("12\"4".to_owned()));
        let first_message: Value = serde_json::from_str(&handshake.first_message().unwrap()).unwrap();
        assert_eq!(first_message, json!({"type": "join", "room_code": "12\"4", "client_name": "jamjam-dev probe"}));
        for other in ["", "x", "[]", r#"{"type":"update","param":"a","value":1}"#] {
            assert_eq!((handshake.on_message(other), handshake.is_joined()), (Ok(()), false), "{other}");
        }
        let rejected = handshake.on_message(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid room code"}"#);
        assert_eq!(rejected, Err(JoinRejected("Invalid room code".to_owned())));
        assert_eq!(handshake.on_message(r#"{"type":"welcome","node_id":"n","server_time":1}"#), Ok(()));
        assert!(handshake.is_joined());
    }

    #[test]
    fn members_send_nothing_before_the_welcome() {
        for dialect in [Dialect::Broadcast, Dialect::WebRtc] {
            let mut handshake = JoinHandshake::new(dialect, None);
            assert_eq!((handshake.is_joined(), handshake.first_message()), (false, None));
            handshake.on_message(r#"{"type":"welcome","room":"r"}"#).unwrap();
            assert!(handshake.is_joined());
        }
    }

    #[test]
    fn error_text_is_taken_from_any_known_member() {
        for (text, expected) in [
            (r#"{"type":"error","code":"ROOM_FULL","message":"Room is at capacity"}"#, Some("Room is at capacity")),
            (r#"{"type":"error","error":"Invalid JSON payload"}"#, Some("Invalid JSON payload")),
            (r#"{"type":"Error","data":{"message":"Room not found"}}"#, Some("Room not found")),
            (r#"{"type":"error"}"#, Some("an error without a message")),
            (r#"{"type":"error","error":["x"]}"#, Some("an error without a message")),
            (r#"{"type":"update","message":"x"}"#, None),
        ] {
            assert_eq!(ServerMessage::parse(text).unwrap().error(), expected, "{text}");
        }
        assert!(ServerMessage::parse("{}").is_none() && ServerMessage::parse("x").is_none());
    }
}
