//! Documentation of the WebSocket messages of all dialects, for `/docs/asyncapi.json`.
//!
//! A channel is a kind of connection: a URL, the messages that can be sent over it, and the codes with which the server closes it. One type
//! has the messages of one direction, and it is the type that parses or writes them. Their meanings and fields are its doc comments, and
//! each variant with fields has an example: `#[schema(example = json!(…))]`. `crates/signaling/tests/signaling/message_docs.rs` checks the
//! examples against the schemas and the hub.

pub(super) mod broadcast;
mod schemas;

use std::collections::BTreeMap;

use serde_json::Value;

use super::dialect::Dialect;
use super::limits::SignalingLimits;
use crate::close_code::{CloseCode, WebSocketError};

pub(super) use schemas::Schemas;

/// The documentation of all messages of a server.
#[derive(Clone, Debug, Default)]
pub struct MessageDocs {
    /// The channels of the enabled dialects.
    pub channels: Vec<ChannelDoc>,
    /// The schemas that messages refer to as `#/components/schemas/NAME`.
    pub schemas: BTreeMap<String, Value>,
}

/// A kind of connection.
#[derive(Clone, Debug)]
pub struct ChannelDoc {
    /// The id in the document, for example `broadcast-chat`.
    pub id: &'static str,
    /// The dialect.
    pub dialect: Dialect,
    /// A name for people.
    pub title: &'static str,
    /// What the channel is for, and how its URL selects it: the doc comment of the type of the server's messages.
    pub description: String,
    /// The path of the URL. Parameters are in braces.
    pub address: &'static str,
    /// The parameters in the path: an object of `AsyncAPI` parameters.
    pub path_parameters: Value,
    /// The parameters in the query: a JSON schema.
    pub query: Value,
    /// Messages that clients send.
    pub client_messages: Vec<MessageDoc>,
    /// Messages that the server sends.
    pub server_messages: Vec<MessageDoc>,
    /// The codes with which the server closes connections.
    pub closes: Vec<CloseDoc>,
}

/// A message.
#[derive(Clone, Debug)]
pub struct MessageDoc {
    /// The `type` of the message, or a placeholder if the type depends on the room.
    pub name: String,
    /// The meaning.
    pub description: String,
    /// The JSON schema.
    pub schema: Value,
    /// Messages that the server accepts or sends.
    pub examples: Vec<Value>,
}

/// A code with which the server closes connections.
#[derive(Clone, Copy, Debug)]
pub struct CloseDoc {
    /// The code. 1006 stands for a lost connection without a close frame.
    pub code: CloseCode,
    /// The reason in the close frame.
    pub reason: &'static str,
    /// The cause.
    pub cause: &'static str,
}

/// The documentation of the messages of a server with these limits: its dialects and its envelope format.
pub fn message_docs(limits: &SignalingLimits) -> MessageDocs {
    let mut schemas = Schemas::default();
    let enabled = Dialect::ALL.into_iter().filter(|dialect| limits.dialects.contains(dialect));
    let channels = enabled.flat_map(|dialect| (dialect.facts().channels)(&mut schemas, limits)).collect();
    MessageDocs { channels, schemas: schemas.0 }
}

/// A list of closes: each is a constant of `CloseCode` and its reason. The comment is the cause.
macro_rules! closes {
    ($($(#[doc = $cause:literal])+ $code:ident $reason:literal;)+) => {
        &[$($crate::message_docs::CloseDoc {
            code: $crate::close_code::CloseCode::$code,
            reason: $reason,
            cause: concat!($($cause),+).trim_ascii(),
        },)+]
    };
}
pub(super) use closes;

/// Of dialects in which the URL selects a room.
pub(super) const ROOM_CLOSES: &[CloseDoc] = closes! {
    /// This address has created the maximum number of rooms.
    TRY_AGAIN_LATER "Too many rooms";
    /// Joins and lists have sent too many bytes for this address.
    TRY_AGAIN_LATER "Too many requests";
    /// The room has its maximum number of members.
    TRY_AGAIN_LATER "Room is full";
};

/// Of all dialects, in addition to those for a [`WebSocketError`].
const COMMON_CLOSES: &[CloseDoc] = closes! {
    /// The page's origin is not in --origin.
    ORIGIN_NOT_ALLOWED "Origin not allowed";
    /// The operator disconnected the client on the console.
    CLOSED_BY_OPERATOR "Disconnected by the operator";
    /// The operator closed the room on the console.
    CLOSED_BY_OPERATOR "Room closed by the operator";
    /// No close frame: the connection was lost, or the client did not answer a ping.
    ABNORMAL_CLOSURE "";
};

/// The closes of a dialect.
fn closes_of(dialect: Dialect) -> Vec<CloseDoc> {
    let (code, reason) = dialect.facts().shutdown_close;
    let shutdown = CloseDoc { code, reason, cause: "The server is shutting down." };
    let of_errors = WebSocketError::ALL.map(WebSocketError::close);
    [&dialect.facts().closes.concat(), COMMON_CLOSES, &of_errors, &[shutdown]].concat()
}
