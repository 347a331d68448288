//! WebSocket close codes (RFC 6455, section 7.4, and the IANA registry), among them the private codes of the dialects from 4000 to 4999.
//! [`diagnose`] returns the likely cause of a close and a remedy.

use std::fmt;

use serde::Deserialize;

use super::Dialect;
use jamjam_core::sanitize::prefix;

/// Maximum length of a close reason, in bytes. A control frame carries at most 125 bytes, and the code takes 2 bytes.
const MAX_REASON_BYTES: usize = 123;

/// The code of a WebSocket close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The connection has fulfilled its purpose.
    pub const NORMAL_CLOSURE: Self = Self(1000);
    /// The server is shutting down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer violated RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The server does not accept this type of data.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
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
    /// The server did not offer an extension that the client needs. Only clients may send this code.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// The server encountered an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server is restarting.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// A limit is reached, for example the send queue of a client that does not read. The client may try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// The client must log in (IANA registry).
    pub const UNAUTHORIZED: Self = Self(3000);
    /// The client has no permission (IANA registry).
    pub const FORBIDDEN: Self = Self(3003);
    /// The client did not act in time (IANA registry).
    pub const TIMEOUT: Self = Self(3008);
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

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a connection got before the server closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePhase {
    /// The client had sent no request: the server closed the connection after the upgrade or during the join.
    BeforeRequests,
    /// The client had sent requests, but no reply had arrived.
    BeforeReplies,
    /// At least one reply had arrived.
    AfterReplies,
}

/// The likely cause of a close, and a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseDiagnosis {
    /// The cause: a clause without a period.
    pub cause: &'static str,
    /// The remedy: one or more sentences without the last period.
    pub remedy: &'static str,
}

/// Which closes a row of [`DIAGNOSES`] applies to.
#[derive(Clone, Copy)]
enum Applies {
    /// The close reason contains one of these texts, in any case.
    Reason(&'static [&'static str]),
    /// The connection is in this phase.
    Phase(ClosePhase),
    /// The close reason contains one of these texts. Or there is no reason, and the client was not yet in its broadcast room.
    ReasonOrNonMember(&'static [&'static str]),
    /// The close reason contains one of these texts. Or there is no reason, and the client was in its broadcast room.
    ReasonOrMember(&'static [&'static str]),
    Always,
}

use Applies::{Always, Phase, Reason, ReasonOrMember, ReasonOrNonMember};
use ClosePhase::{AfterReplies, BeforeReplies, BeforeRequests};

type Row = (CloseCode, Applies, &'static str, &'static str);

/// Causes and remedies. The first row that applies is used, so rows with a reason come first.
#[rustfmt::skip]
const DIAGNOSES: &[Row] = &[
    (CloseCode::NORMAL_CLOSURE, Reason(&["duplicate"]), "another connection joined the room with the same userId",
     "Give another userId in the URL, or omit userId"),
    (CloseCode::NORMAL_CLOSURE, Reason(&["room closed"]), "the room was closed, or has expired",
     "Open a new room, and give its code with --dialect bbx --room"),
    (CloseCode::NORMAL_CLOSURE, Phase(AfterReplies), "the server ended the session, because the room was closed or the server is stopping",
     "Check that the room still exists, and try again"),
    (CloseCode::NORMAL_CLOSURE, Always, "the server ended the session without an answer, so the URL, the room or --dialect is probably wrong",
     "Check the path of the URL, the room and --dialect"),
    (CloseCode::GOING_AWAY, Always, "the server is shutting down or restarting",
     "Check that the server is running, and try again, for example with --wait-for 10s"),
    // The WebSocket library reports other codes than those of RFC 6455 with this reason.
    (CloseCode::PROTOCOL_ERROR, Reason(&["protocol violation"]), "the server closed with a code that RFC 6455 does not define, such as 1014 (bad gateway), or it received bytes that violate the WebSocket protocol",
     "Check the log of the server, and of a proxy in front of it"),
    (CloseCode::PROTOCOL_ERROR, Always, "the server received bytes that violate the WebSocket protocol. A proxy may have changed them",
     "Connect without the proxy. If the error remains, check the server's log"),
    (CloseCode::UNSUPPORTED_DATA, Always, "the server does not accept text messages, so it speaks another protocol",
     "Check the URL, and give the dialect of the server with --dialect"),
    (CloseCode::INVALID_PAYLOAD, Always, "the server cannot decode the messages of this client, so it probably speaks another dialect",
     "Give the dialect of the server with --dialect"),
    (CloseCode::POLICY_VIOLATION, Reason(&["missing", "required param"]), "the URL lacks a parameter that the server requires",
     "Check the parameters of the URL: none may be empty. For a WebRTC server, give --dialect webrtc, which adds roomId, userId and userName"),
    (CloseCode::POLICY_VIOLATION, Reason(&["too long"]), "a parameter of the URL is longer than the server accepts",
     "Give a shorter room name, userId or userName"),
    (CloseCode::POLICY_VIOLATION, Reason(&["wrong code", "wrong password"]), "this host sent too many wrong room codes or passwords",
     "Give the code or password of an existing room. Wait before the next attempt"),
    (CloseCode::POLICY_VIOLATION, Reason(&["rate limit", "rate exceeded", "too many"]), "this client sent more messages per second than the server accepts",
     "Give a longer --interval"),
    (CloseCode::POLICY_VIOLATION, Reason(&["not supported"]), "the server takes this client for a client of another protocol",
     "Check the path and the parameters of the URL"),
    (CloseCode::CLOSED_BY_OPERATOR, Reason(&["by the operator"]), "the operator of the server disconnected this client or closed the room",
     "Contact the operator of the server"),
    (CloseCode::POLICY_VIOLATION, Reason(&["auth", "token"]), "the server requires a login or a token",
     "For a broadcast or WebRTC room, give --dialect and a token (?token=TOKEN)"),
    (CloseCode::POLICY_VIOLATION, Phase(BeforeRequests), "the server rejects the connection because of its URL, its parameters or its source address",
     "Check the path and the parameters of the URL, the room and --dialect"),
    (CloseCode::POLICY_VIOLATION, Phase(BeforeReplies), "the server rejects the messages of this client, so it probably speaks another dialect",
     "Give the dialect of the server with --dialect. If the dialect is correct, give a longer --interval"),
    (CloseCode::POLICY_VIOLATION, Always, "the server accepted earlier messages, so this client probably sent too many messages per second",
     "Give a longer --interval"),
    (CloseCode::MESSAGE_TOO_BIG, Always, "a message of this client was longer than the server accepts",
     "Give a shorter room name, or raise the maximum message size of the server"),
    (CloseCode::EXTENSION_REQUIRED, Always, "the server requires a WebSocket extension, although only clients may send this code",
     "Turn off the extension on the server"),
    (CloseCode::INTERNAL_ERROR, Always, "the server failed",
     "Check the server's log"),
    (CloseCode::SERVICE_RESTART, Always, "the server is restarting",
     "Try again, for example with --wait-for 10s"),
    (CloseCode::TRY_AGAIN_LATER, Reason(&["room is full"]), "the room has its maximum number of members",
     "Give another --room, or try again later"),
    (CloseCode::TRY_AGAIN_LATER, Reason(&["too many rooms"]), "the server has its maximum number of rooms, in total or for this host",
     "Give the --room of an existing room, or try again later"),
    (CloseCode::TRY_AGAIN_LATER, Reason(&["too many requests"]), "joins from this host have made the server send too many bytes",
     "Try again in a minute, or use fewer clients on this host"),
    (CloseCode::TRY_AGAIN_LATER, Reason(&["selected a dialect"]), "the server closed its oldest connection without a dialect, because it had too many",
     "Close idle connections of other clients, or raise the server's limit"),
    (CloseCode::TRY_AGAIN_LATER, Reason(&["too slowly", "slow", "memory"]), "this client read too slowly, so the server's send queue was full",
     "Give a longer --interval, or probe from a less busy host"),
    (CloseCode::TRY_AGAIN_LATER, Phase(BeforeRequests), "the server or the room is full",
     "Try again later, or give another --room"),
    (CloseCode::TRY_AGAIN_LATER, Always, "the server is overloaded, or this client reads too slowly",
     "Try again later, or give a longer --interval"),
    (CloseCode::UNAUTHORIZED, Always, "the server requires a login",
     "Give the URL or the token that the operator of the server provides"),
    (CloseCode::FORBIDDEN, Always, "the server does not permit this client to connect",
     "Contact the operator of the server"),
    (CloseCode::TIMEOUT, Always, "the server received no message that it accepts in time",
     "Give the dialect of the server with --dialect, or a shorter --interval"),
    (CloseCode::IDLE_TIMEOUT, ReasonOrMember(&["idle"]), "the server closes connections that send no message for some time",
     "Give a shorter --interval"),
    (CloseCode::AUTHENTICATION_REQUIRED, ReasonOrNonMember(&["auth"]), "the room requires a token",
     "Give the token in the URL (?token=TOKEN), or sign tokens with --hmac-secret @FILE. Also give --dialect broadcast, --dialect webrtc or the URL of a room"),
    (CloseCode::MAX_CONNECTION_AGE, ReasonOrMember(&["connection age"]), "the connection reached the maximum connection age of the server",
     "Probe for a shorter time, or raise MAX_CONN_AGE_MS of the server"),
    (CloseCode::INVALID_TOKEN, ReasonOrNonMember(&["token", "auth"]), "the server rejects the token: it has expired, is for another room, user or audience, or is signed with another secret",
     "Give a new token (?token=TOKEN) and the room of this token (--room), or the server's secret (--hmac-secret @FILE)"),
    (CloseCode::SERVER_SHUTDOWN, ReasonOrMember(&["shut"]), "the server is shutting down",
     "Check that the server is running, and try again, for example with --wait-for 10s"),
    (CloseCode::ORIGIN_NOT_ALLOWED, Reason(&["origin"]), "the server accepts only connections from certain web pages, and this client sends no Origin header",
     "Allow clients without an Origin header on the server, or probe it from its own host without the proxy"),
    (CloseCode::REJECTED_BY_ROOM, ReasonOrNonMember(&["rejected by room"]), "the program of the room rejects this client",
     "Check the room and its token, and contact the operator of the room"),
    (CloseCode::ROOM_NAME_REQUIRED, ReasonOrNonMember(&["room name"]), "the URL contains no valid room name",
     "Give another --room, or a URL with the path /rooms/NAME"),
];

/// The likely cause of a close by the server, from its code, its reason and the phase of the connection. `code` is `None` if the server
/// sent none.
pub fn diagnose(dialect: Dialect, code: Option<u16>, reason: &str, phase: ClosePhase) -> CloseDiagnosis {
    let reason = reason.to_lowercase();
    let contains = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    let is_broadcast = dialect == Dialect::Broadcast && reason.is_empty();
    let applies = |applies: &Applies| match *applies {
        Reason(parts) => contains(parts),
        Phase(only) => only == phase,
        ReasonOrNonMember(parts) => contains(parts) || is_broadcast && phase == BeforeRequests,
        ReasonOrMember(parts) => contains(parts) || is_broadcast && phase != BeforeRequests,
        Always => true,
    };
    let row = DIAGNOSES.iter().find(|(row_code, when, ..)| code == Some(row_code.get()) && applies(when));
    let (cause, remedy) = match (row, code) {
        (Some((_, _, cause, remedy)), _) => (*cause, *remedy),
        (None, None) if phase == AfterReplies => (
            "the server stopped or failed, or a proxy or the network dropped the connection",
            "Check that the server is still running. Check its log and the log of the proxy",
        ),
        (None, None) => (
            "the server or a proxy dropped the connection without an answer",
            "Check the path of the URL, --dialect and the server's log",
        ),
        (None, Some(4_000..=4_999)) if phase == AfterReplies => (
            "the code is private to this server, which accepted earlier messages",
            "Find the code in the documentation of the server, and check its log",
        ),
        (None, Some(4_000..=4_999)) => (
            "the code is private to this server, which rejects this client",
            "Find the code in the documentation of the server. Check the URL and --dialect",
        ),
        (None, Some(_)) => (
            "the code belongs to a library or framework of the server",
            "Find the code in the documentation of this library, and check the server's log",
        ),
    };
    CloseDiagnosis { cause, remedy }
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
