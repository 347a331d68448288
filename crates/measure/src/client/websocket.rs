//! The client side of a signaling server: joins a room, sends requests at a fixed interval and measures the responses. Messages are passed
//! in and out as text.

use std::time::Duration;

use serde_json::{Map, Value};

use super::connection_results::ClockOffset;
use super::reply::ReceivedReply;
use super::request_matcher::{MatchResult, RequestMatcher, parse_object};
use super::results::{AudioResults, RunKind};
use super::run::{ClientNode, Workload, WorkloadStep};
use super::schedule::RequestSchedule;
use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::node::{SendStatus, TransmitSink};
use jamjam_core::time::Time;
use jamjam_signaling::Dialect;

/// The stream that requests are counted in.
const STREAM: StreamKind = StreamKind::Ping;

/// Maximum length of a message that is parsed as an error, in bytes.
const MAX_ERROR_MESSAGE_LEN: usize = 1_024;

/// Client name sent with a join.
const CLIENT_NAME: &str = "jamjam-dev probe";

/// A client that sends requests to a signaling server.
pub type WebSocketProber = ClientNode<WebSocketWorkload>;

impl WebSocketProber {
    /// Ends the run because the connection was lost at `at`. Returns whether requests were unsent or responses outstanding.
    pub fn on_disconnected(&mut self, at: Time) -> bool {
        if !self.is_finished() {
            self.finish(at);
        }
        self.workload.schedule.has_unsent() || !self.tracker.is_complete()
    }
}

/// Sends requests at a fixed interval.
pub struct WebSocketWorkload {
    matcher: RequestMatcher,
    schedule: RequestSchedule,
    text: String,
    /// Text of the first error message from the server.
    pub server_error: Option<String>,
}

impl WebSocketWorkload {
    /// Creates a workload that sends one request every `interval`: `count` requests, or an unlimited number if it is `None`.
    pub fn new(matcher: RequestMatcher, count: Option<u64>, interval: Duration) -> Self {
        let schedule = RequestSchedule::new(count, interval);
        Self { matcher, schedule, text: String::new(), server_error: None }
    }

    /// Offset of the server's clock, if the dialect reports the server's time.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.matcher.best_offset
    }

    fn record_server_error(&mut self, text: &str) {
        if self.server_error.is_none() && text.len() <= MAX_ERROR_MESSAGE_LEN {
            self.server_error = parse_object(text).and_then(|message| Some(server_error(&message)?.to_owned()));
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
        schedule.poll(now, tracker, |tracker, due| {
            let sequence = tracker.next_sequence(STREAM);
            matcher.write_request(sequence, now, text);
            let status = tracker.send(STREAM, (due, now), text.as_bytes(), 0, sink);
            if status != SendStatus::WouldBlock {
                matcher.on_sent(sequence, now);
            }
            status
        })
    }

    fn planned(&self) -> Duration {
        self.schedule.planned()
    }

    fn audio_results(&self) -> Option<AudioResults> {
        None
    }

    fn parse_reply<'a>(&mut self, payload: &'a [u8], at: Time) -> Option<(StreamKind, Option<ReceivedReply<'a>>)> {
        let text = str::from_utf8(payload).ok()?;
        match self.matcher.on_message(text, at) {
            MatchResult::Response(sequence) => {
                Some((STREAM, Some(ReceivedReply { sequence, received_at: at, digest: 0, payload })))
            }
            MatchResult::Unmatched => Some((STREAM, None)),
            MatchResult::Other => {
                self.record_server_error(text);
                None
            }
        }
    }

    /// Handles a message on the sending connection of a broadcast room, where the responses arrive on another connection.
    fn accept_secondary(&mut self, message: &[u8]) -> bool {
        if let Ok(text) = str::from_utf8(message) {
            self.record_server_error(text);
        }
        true
    }
}

/// The join of a room: the first message if the dialect needs one, and the wait for the welcome.
#[derive(Debug)]
pub struct JoinHandshake {
    /// The first message to send, if any.
    pub first_message: Option<String>,
    /// Whether requests may be sent.
    pub joined: bool,
    /// Id of the room that a jamjam client has created or joined.
    pub room_id: Option<String>,
}

impl JoinHandshake {
    /// `room_code` is the control-surface room to join; without it, the prober joins none, because a control-surface server also answers pings
    /// from clients outside rooms. So does a jamjam server. The URL selects the rooms of the other dialects, which send a welcome.
    pub fn new(dialect: Dialect, room_code: Option<String>) -> Self {
        let first_message = room_code.and_then(|code| dialect.join_message(&code, CLIENT_NAME, false));
        let joined = !dialect.is_selected_by_url() && first_message.is_none();
        Self { joined, ..Self::with_message(first_message) }
    }

    /// A join that begins with `first_message`, if any.
    pub fn with_message(first_message: Option<String>) -> Self {
        Self { first_message, joined: false, room_id: None }
    }

    /// Handles a message from the server. If the server rejects the join, the error is its text.
    pub fn on_message(&mut self, text: &str) -> Result<(), String> {
        let Some(message) = parse_object(text) else { return Ok(()) };
        self.joined |= matches!(message_type(&message), Some("welcome" | "RoomCreated" | "RoomJoined"));
        self.room_id = message.get("data").and_then(|data| Some(data.get("room_id")?.as_str()?.to_owned()));
        match server_error(&message) {
            Some(error) if !self.joined => Err(error.to_owned()),
            _ => Ok(()),
        }
    }
}

/// The type of a message from the server, in any dialect.
fn message_type(message: &Map<String, Value>) -> Option<&str> {
    message.get("type")?.as_str()
}

/// Text of an error message, from the member in which its dialect has this text; `None` if the message is no error message.
fn server_error(message: &Map<String, Value>) -> Option<&str> {
    message_type(message).filter(|name| name.eq_ignore_ascii_case("error"))?;
    let text = ["message", "error", "code"].iter().find_map(|member| message.get(*member)?.as_str());
    let nested = || message.get("data")?.get("message")?.as_str();
    Some(text.or_else(nested).unwrap_or("an error without a message"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dialect_without_join_is_joined_at_once() {
        for dialect in [Dialect::Jamjam, Dialect::ControlSurface] {
            let handshake = JoinHandshake::new(dialect, None);
            assert_eq!((handshake.joined, handshake.first_message), (true, None));
        }
    }

    #[test]
    fn room_code_is_sent_and_the_welcome_completes_the_join() {
        let mut handshake = JoinHandshake::new(Dialect::ControlSurface, Some("12\"4".to_owned()));
        let first_message: Value = serde_json::from_str(handshake.first_message.as_ref().unwrap()).unwrap();
        assert_eq!(first_message, json!({"type": "join", "room_code": "12\"4", "client_name": "jamjam-dev probe"}));
        for other in ["", "x", "[]", r#"{"type":"update","param":"a","value":1}"#] {
            assert_eq!((handshake.on_message(other), handshake.joined), (Ok(()), false), "{other}");
        }
        let rejected = handshake.on_message(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid room code"}"#);
        assert_eq!(rejected, Err("Invalid room code".to_owned()));
        assert_eq!(handshake.on_message(r#"{"type":"welcome","node_id":"n","server_time":1}"#), Ok(()));
        assert!(handshake.joined);
    }

    #[test]
    fn members_send_nothing_before_the_welcome() {
        for dialect in [Dialect::Broadcast, Dialect::WebRtc] {
            let mut handshake = JoinHandshake::new(dialect, None);
            assert_eq!((handshake.joined, &handshake.first_message), (false, &None));
            handshake.on_message(r#"{"type":"welcome","room":"r"}"#).unwrap();
            assert!(handshake.joined);
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
            assert_eq!(server_error(&parse_object(text).unwrap()), expected, "{text}");
        }
        assert!(server_error(&Map::new()).is_none() && parse_object::<Map<String, Value>>("x").is_none());
    }
}
