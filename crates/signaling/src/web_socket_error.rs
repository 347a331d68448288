//! Why an endpoint ends a WebSocket connection.

use thiserror::Error;

use super::close_code::CloseCode;
use super::counters::DialectCounters;

/// Why an endpoint ends a WebSocket connection: a frame, a limit, or a peer that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WebSocketError {
    /// A frame violates RFC 6455.
    #[error("invalid WebSocket frame")]
    Protocol,
    /// A text message is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A message exceeds the maximum length.
    #[error("message too long")]
    MessageTooBig,
    /// Too many control frames or fragments.
    #[error("Rate limit exceeded")]
    RateLimit,
    /// The memory budget, or the share of the address, is used up.
    #[error("the server has too little memory for the data of this client")]
    Memory,
    /// The send queue is full, or the client has not taken a message for too long.
    #[error("the client reads too slowly")]
    SlowReader,
}

impl WebSocketError {
    /// The close code for this error (section 7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
            Self::RateLimit => CloseCode::POLICY_VIOLATION,
            Self::Memory | Self::SlowReader => CloseCode::TRY_AGAIN_LATER,
        }
    }

    /// The counter of connections that are closed for this reason.
    pub(super) fn counter(self, counters: &mut DialectCounters) -> &mut u64 {
        match self {
            Self::Protocol => &mut counters.closed_protocol_error,
            Self::InvalidUtf8 => &mut counters.closed_invalid_utf8,
            Self::MessageTooBig => &mut counters.closed_message_too_big,
            Self::RateLimit => &mut counters.closed_frame_rate,
            Self::Memory => &mut counters.closed_for_memory,
            Self::SlowReader => &mut counters.closed_slow_reader,
        }
    }
}
