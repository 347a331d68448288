//! The codes with which the server closes connections. No message contains them, so lists of the dialects and these are all.

use super::CloseDoc;
use crate::dialect::Dialect;

/// A list of closes: each is a constant of `CloseCode` and its reason. The comment is the cause.
macro_rules! closes {
    ($($(#[doc = $cause:literal])+ $code:ident $reason:literal;)+) => {
        &[$($crate::message_docs::CloseDoc {
            code: crate::close_code::CloseCode::$code,
            reason: $reason,
            cause: concat!($($cause),+).trim_ascii(),
        },)+]
    };
}
pub(crate) use closes;

/// Of dialects in which the URL selects a room.
pub(crate) const ROOM_CLOSES: &[CloseDoc] = closes! {
    /// This address has created the maximum number of rooms.
    TRY_AGAIN_LATER "Too many rooms";
    /// Joins and lists have sent too many bytes for this address.
    TRY_AGAIN_LATER "Too many requests";
    /// The room has its maximum number of members.
    TRY_AGAIN_LATER "Room is full";
};

/// Of all dialects.
const COMMON_CLOSES: &[CloseDoc] = closes! {
    /// The page's origin is not in --origin.
    ORIGIN_NOT_ALLOWED "Origin not allowed";
    /// More messages or control frames than --rate-limit-messages.
    POLICY_VIOLATION "Rate limit exceeded";
    /// The operator disconnected the client on the console.
    CLOSED_BY_OPERATOR "Disconnected by the operator";
    /// The operator closed the room on the console.
    CLOSED_BY_OPERATOR "Room closed by the operator";
    /// The send queue of the client was full.
    TRY_AGAIN_LATER "the client reads too slowly";
    /// The memory budget of the server was used up.
    TRY_AGAIN_LATER "the server has too little memory for the data of this client";
    /// A message was longer than the server accepts.
    MESSAGE_TOO_BIG "";
    /// A text message was not UTF-8.
    INVALID_PAYLOAD "";
    /// The client violated the WebSocket protocol.
    PROTOCOL_ERROR "";
    /// No close frame: the connection was lost, or the client did not answer a ping.
    ABNORMAL_CLOSURE "";
};

/// The closes of a dialect.
pub(super) fn closes_of(dialect: Dialect) -> Vec<CloseDoc> {
    let (code, reason) = dialect.facts().shutdown_close;
    let shutdown = CloseDoc { code, reason, cause: "The server is shutting down." };
    [&dialect.facts().closes.concat(), COMMON_CLOSES, &[shutdown]].concat()
}
