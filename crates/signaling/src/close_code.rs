//! WebSocket close codes (RFC 6455, section 7.4, and the IANA registry), among them the private codes of the dialects from 4000 to 4999, and
//! [`WebSocketError`], the causes that do not depend on the dialect.

use jamjam_core::sanitize::prefix;
use thiserror::Error;

use super::counters::DialectCounters;
use super::message_docs::CloseDoc;

/// Maximum length of a close reason, in bytes. A control frame carries at most 125 bytes, and the code takes 2 bytes.
const MAX_REASON_BYTES: usize = 123;

/// The code of a WebSocket close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The connection has fulfilled its purpose.
    pub const NORMAL_CLOSURE: Self = Self(1000);
    /// The server is shutting down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer violated RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Stands for a close frame without a code; never sent.
    pub const NO_STATUS_RECEIVED: Self = Self(1005);
    /// Stands for a connection that was lost without a close frame; never sent.
    pub const ABNORMAL_CLOSURE: Self = Self(1006);
    /// A text message was not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The client violated a rule of the server. For example, the client exceeded the maximum rate of messages or control frames.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message was longer than the server accepts.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// The server has failed, for example a handler of the client's room.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server is restarting.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// A limit is reached, for example the send queue of a client that does not read. The client may try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// Broadcast rooms: the client sent no message for too long.
    pub const IDLE_TIMEOUT: Self = Self(4000);
    /// Broadcast and WebRTC rooms: the room needs a token.
    pub const AUTHENTICATION_REQUIRED: Self = Self(4001);
    /// Broadcast rooms: the connection reached its maximum age. The same number as [`CloseCode::AUTHENTICATION_REQUIRED`].
    pub const MAX_CONNECTION_AGE: Self = Self(4001);
    /// Broadcast and WebRTC rooms: the token is invalid or expired.
    pub const INVALID_TOKEN: Self = Self(4002);
    /// Broadcast rooms: the server is shutting down. The same number as [`CloseCode::INVALID_TOKEN`].
    pub const SERVER_SHUTDOWN: Self = Self(4002);
    /// The page's origin is not allowed.
    pub const ORIGIN_NOT_ALLOWED: Self = Self(4003);
    /// Broadcast rooms: the room handler rejected the client.
    pub const REJECTED_BY_ROOM: Self = Self(4004);
    /// Broadcast rooms: the URL names no valid room.
    pub const ROOM_NAME_REQUIRED: Self = Self(4005);

    /// The operator disconnected the client or closed the room. The same number as [`CloseCode::POLICY_VIOLATION`], after which clients do
    /// not reconnect automatically.
    pub const CLOSED_BY_OPERATOR: Self = Self(1008);

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a close frame may carry this code. All other codes are reserved or are never sent in a frame.
    pub const fn is_allowed_in_frame(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The code and reason for a close frame. [`CloseCode::REJECTED_BY_ROOM`] replaces a code that is not allowed in a frame. The reason is
    /// cut to 123 bytes.
    pub fn for_frame(self, reason: &str) -> (Self, &str) {
        (if self.is_allowed_in_frame() { self } else { Self::REJECTED_BY_ROOM }, prefix(reason, MAX_REASON_BYTES))
    }
}

/// The errors: cause, variant, code and reason of the close frame (RFC 6455, section 7.4.1), and the counter of closed connections.
macro_rules! web_socket_errors {
    ($(#[doc = $cause:literal] $error:ident: $code:ident $reason:literal $counter:ident;)+) => {
        /// Why an endpoint ends a WebSocket connection: a frame, a limit, or a peer that reads too slowly.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
        #[error("{}", self.close().reason)]
        pub enum WebSocketError {
            $(#[doc = $cause] $error,)+
        }

        impl WebSocketError {
            /// All errors.
            pub const ALL: [Self; [$($reason),+].len()] = [$(Self::$error),+];

            /// The close for this error.
            pub const fn close(self) -> CloseDoc {
                let (code, reason, cause) = match self {
                    $(Self::$error => (CloseCode::$code, $reason, $cause),)+
                };
                CloseDoc { code, reason, cause: cause.trim_ascii() }
            }

            /// The counter of connections that are closed for this reason.
            pub(super) const fn counter(self, counters: &mut DialectCounters) -> &mut u64 {
                match self {
                    $(Self::$error => &mut counters.$counter,)+
                }
            }
        }
    };
}

web_socket_errors! {
    /// The client violated the WebSocket protocol.
    Protocol: PROTOCOL_ERROR "invalid WebSocket frame" closed_protocol_error;
    /// A text message was not UTF-8.
    InvalidUtf8: INVALID_PAYLOAD "text is not UTF-8" closed_invalid_utf8;
    /// A message was longer than the server accepts.
    MessageTooBig: MESSAGE_TOO_BIG "message too long" closed_message_too_big;
    /// More messages or control frames than --rate-limit-messages.
    RateLimit: POLICY_VIOLATION "Rate limit exceeded" closed_frame_rate;
    /// The memory budget of the server, or the share of the address, was used up.
    Memory: TRY_AGAIN_LATER "the server has too little memory for the data of this client" closed_for_memory;
    /// The send queue of the client was full, or the client has not taken a message for too long.
    SlowReader: TRY_AGAIN_LATER "the client reads too slowly" closed_slow_reader;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_codes_and_long_reasons_are_replaced_for_a_frame() {
        for code in [999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(CloseCode(code).for_frame("x"), (CloseCode::REJECTED_BY_ROOM, "x"), "{code}");
        }
        assert_eq!(CloseCode(4999).for_frame(""), (CloseCode(4999), ""));
        let long = "ä".repeat(100);
        let (_, reason) = CloseCode::NORMAL_CLOSURE.for_frame(&long);
        assert_eq!(reason.len(), 122);
    }
}
