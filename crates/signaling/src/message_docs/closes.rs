//! The codes with which the server closes connections. No message contains them, so this is their list.

use super::CloseDoc;
use crate::dialect::Dialect;
use jamjam_core::close_code::CloseCode;

/// Each close has its dialects, a constant of [`CloseCode`], and its reason. The comment is the cause.
macro_rules! closes {
    ($($(#[doc = $cause:literal])+ [$($dialect:ident)+] $code:ident $reason:literal;)+) => {
        &[$((
            &[$(Dialect::$dialect),+],
            CloseDoc { code: CloseCode::$code, reason: $reason, cause: concat!($($cause),+).trim_ascii() },
        ),)+]
    };
}

const CLOSES: &[(&[Dialect], CloseDoc)] = closes! {
    /// 20 wrong passwords on this connection.
    [Jamjam] POLICY_VIOLATION "Too many wrong passwords";
    /// The client has sent `leave`.
    [ControlSurface] NORMAL_CLOSURE "";
    /// The program closed the room, or its lifetime ended.
    [ControlSurface] NORMAL_CLOSURE "Room closed";
    /// 20 wrong room codes on this connection.
    [ControlSurface] POLICY_VIOLATION "Too many wrong codes";
    /// The URL contains no valid name of a room.
    [Broadcast] ROOM_NAME_REQUIRED "Room name required";
    /// Neither the URL nor the header `Authorization` contains a token.
    [Broadcast] AUTHENTICATION_REQUIRED "Authentication required";
    /// The token has expired, belongs to another room, or has a wrong signature.
    [Broadcast] INVALID_TOKEN "Invalid or expired token";
    /// The room handler rejected the client. It may use another code and reason.
    [Broadcast] REJECTED_BY_ROOM "Rejected by room";
    /// The room handler has failed. The room has closed all its connections.
    [Broadcast] INTERNAL_ERROR "Internal error";
    /// The client sent no message within IDLE_TIMEOUT_MS.
    [Broadcast] IDLE_TIMEOUT "Idle timeout";
    /// The connection has lasted for MAX_CONN_AGE_MS.
    [Broadcast] MAX_CONNECTION_AGE "Max connection age reached";
    /// A parameter of the URL is missing or empty. With `--strict`, the reason names it.
    [WebRtc] POLICY_VIOLATION "Missing required parameters";
    /// A parameter is longer than its maximum.
    [WebRtc] POLICY_VIOLATION "Parameter too long";
    /// Neither the URL nor the header `Authorization` contains a token (with `--webrtc-auth token`).
    [WebRtc] AUTHENTICATION_REQUIRED "Authentication required";
    /// The token is not valid for this room, user and time, or has another audience.
    [WebRtc] INVALID_TOKEN "Invalid or expired token";
    /// The same `userId` joined the room again.
    [WebRtc] NORMAL_CLOSURE "Duplicate connection";
    /// This address has created the maximum number of rooms.
    [Broadcast WebRtc] TRY_AGAIN_LATER "Too many rooms";
    /// Joins and lists have sent too many bytes for this address.
    [Broadcast WebRtc] TRY_AGAIN_LATER "Too many requests";
    /// The room has its maximum number of members.
    [Broadcast WebRtc] TRY_AGAIN_LATER "Room is full";
    /// The page's origin is not in --origin.
    [Jamjam Broadcast ControlSurface WebRtc] ORIGIN_NOT_ALLOWED "Origin not allowed";
    /// More messages or control frames than --rate-limit-messages.
    [Jamjam Broadcast ControlSurface WebRtc] POLICY_VIOLATION "Rate limit exceeded";
    /// The operator disconnected the client on the console.
    [Jamjam Broadcast ControlSurface WebRtc] CLOSED_BY_OPERATOR "Disconnected by the operator";
    /// The operator closed the room on the console.
    [Jamjam Broadcast ControlSurface WebRtc] CLOSED_BY_OPERATOR "Room closed by the operator";
    /// The send queue of the client was full.
    [Jamjam Broadcast ControlSurface WebRtc] TRY_AGAIN_LATER "the client reads too slowly";
    /// The memory budget of the server was used up.
    [Jamjam Broadcast ControlSurface WebRtc] TRY_AGAIN_LATER "the server has too little memory for the data of this client";
    /// A message was longer than the server accepts.
    [Jamjam Broadcast ControlSurface WebRtc] MESSAGE_TOO_BIG "";
    /// A text message was not UTF-8.
    [Jamjam Broadcast ControlSurface WebRtc] INVALID_PAYLOAD "";
    /// The client violated the WebSocket protocol.
    [Jamjam Broadcast ControlSurface WebRtc] PROTOCOL_ERROR "";
    /// No close frame: the connection was lost, or the client did not answer a ping.
    [Jamjam Broadcast ControlSurface WebRtc] ABNORMAL_CLOSURE "";
};

/// The closes of a dialect.
pub(super) fn closes_of(dialect: Dialect) -> Vec<CloseDoc> {
    let (code, reason) = dialect.shutdown_close_frame();
    let shutdown = CloseDoc { code, reason, cause: "The server is shutting down." };
    let own = CLOSES.iter().filter(|(dialects, _)| dialects.contains(&dialect));
    own.map(|(_, close)| *close).chain([shutdown]).collect()
}
