//! The output of the hub: an [`EventSink`] receives the messages for the connections, each of which has a [`ConnId`].

use std::num::NonZeroU64;

use super::control_surface_events::ControlSurfaceEvent;
use jamjam_core::close_code::CloseCode;
use jamjam_core::memory_budget::{MemoryBudget, MemoryPermit};
use jamjam_core::send_queue::UpdateKey;
use jamjam_core::time::Time;

/// The number of a connection. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A text message for one or more connections.
#[derive(Clone, Debug)]
pub struct OutgoingMessage {
    /// The text.
    pub text: String,
    /// The message supersedes unsent messages with the same key.
    pub update_key: Option<UpdateKey>,
    /// The number of the room that sends the message to its members. A connection that has [entered](EventSink::enter) another room does not
    /// receive it.
    pub room: Option<NonZeroU64>,
}

/// The rule of [`EventSink::wrong_message`]: the URL or the token of a connection is wrong, or a frame violates RFC 6455 or is too long, which the connection itself reports.
pub const REJECTED_CONNECTION: &str = "rejected_connection";

/// Receives the messages that the hub sends to connections.
pub trait EventSink {
    /// Sends the same message to each of these connections. Earlier messages to a connection arrive before this message.
    fn send(&mut self, to: &[ConnId], message: OutgoingMessage);

    /// A connection has entered the room with this number, and may still be in another one for a moment. By default, nothing is recorded.
    fn enter(&mut self, _conn: ConnId, _room: NonZeroU64) {}

    /// Whether a message that can wait may be sent to these connections now. By default, it may; otherwise, the hub tries again later.
    fn has_space(&mut self, _now: Time, _to: &[ConnId]) -> bool {
        true
    }

    /// Takes memory for data that outlives the current message, from the client that sent the message. `None`: a limit is reached. By
    /// default, there is no limit.
    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        MemoryBudget::new(None).account(None).take(bytes).ok()
    }

    /// Passes a control surface event to the listeners. By default, the event is dropped.
    fn control_surface_event(&mut self, _event: ControlSurfaceEvent) {}

    /// With `--strict`, reports a wrong message, or a connection that is rejected because of its URL or token: the violated rule, which is one
    /// of [`STRICT_RULES`](super::STRICT_RULES), and the sentence that the client receives. By default, the report is dropped.
    fn wrong_message(&mut self, _conn: ConnId, _rule: &'static str, _sentence: &str) {}

    /// Closes a connection after all earlier messages to it are sent. The hub has already removed the connection, so a later
    /// [`HubCall::on_disconnect`](super::HubCall::on_disconnect) has no effect.
    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str);

    /// Sends a ping to a connection.
    fn ping(&mut self, conn: ConnId);

    /// Drops a connection without a close frame. The hub has removed the connection.
    fn abort(&mut self, conn: ConnId);
}
