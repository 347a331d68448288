//! Documentation of the WebSocket messages of all dialects, for `/docs/asyncapi.json`.
//!
//! A channel is a kind of connection: a URL, the messages that can be sent over it, and the codes with which the server closes it. The JSON
//! file of a dialect has the texts and examples of its channels, and the schemas come from the types that parse and write the messages.
//! `crates/signaling/tests/signaling/message_docs.rs` checks the examples against the schemas and the hub.

mod broadcast;
mod model;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::dialect::Dialect;
use super::limits::SignalingLimits;
use super::{control_surface::messages as control_surface, jamjam, webrtc};
use model::Schemas;

pub use model::{ChannelDoc, CloseDoc, MessageDoc};

/// The documentation of all messages of a server.
#[derive(Clone, Debug, Default)]
pub struct MessageDocs {
    /// The channels of the enabled dialects.
    pub channels: Vec<ChannelDoc>,
    /// The schemas that messages refer to as `#/components/schemas/NAME`.
    pub schemas: BTreeMap<String, Value>,
}

/// The file of a dialect.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct DialectDoc {
    query: Value,
    closes: Vec<CloseDoc>,
    channels: Vec<ChannelDoc>,
}

const fn dialect_file(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Jamjam => include_str!("jamjam.json"),
        Dialect::Broadcast => include_str!("broadcast.json"),
        Dialect::ControlSurface => include_str!("control_surface.json"),
        Dialect::WebRtc => include_str!("webrtc.json"),
    }
}

/// Closes that every dialect has, except for the closes by `Dialect::shutdown_close_frame`.
const CLOSES_OF_EVERY_DIALECT: &str = include_str!("every_dialect.json");

fn parse<T: Deserialize<'static>>(file: &'static str) -> T {
    serde_json::from_str(file).unwrap_or_else(|error| unreachable!("a file of this folder must be valid: {error}"))
}

/// The documentation of the messages of a server with these limits: its dialects and its envelope format.
pub fn message_docs(limits: &SignalingLimits) -> MessageDocs {
    let common_closes: Vec<CloseDoc> = parse(CLOSES_OF_EVERY_DIALECT);
    let (mut schemas, mut all_channels) = (Schemas::default(), Vec::new());
    for dialect in Dialect::ALL.into_iter().filter(|dialect| limits.dialects.contains(dialect)) {
        let DialectDoc { query, closes, mut channels } = parse(dialect_file(dialect));
        for channel in &mut channels {
            channel.query = query.clone();
            channel.closes = closes.iter().chain(&common_closes).copied().collect();
        }
        match dialect {
            Dialect::Jamjam => schemas.add::<jamjam::ClientMessage, jamjam::ServerMessage>(&mut channels),
            Dialect::Broadcast => broadcast::add_messages(&mut schemas, &limits.broadcast, &mut channels),
            Dialect::ControlSurface => {
                schemas.add::<control_surface::ClientMessage<'_>, control_surface::ServerMessage<'_>>(&mut channels);
            }
            Dialect::WebRtc => {
                schemas.add::<webrtc::ClientMessage<'_>, webrtc::ServerMessage<'_>>(&mut channels);
                let is_sent = |message: &MessageDoc| limits.is_strict || message.name != "error";
                for channel in &mut channels {
                    channel.server_messages.retain(is_sent);
                }
            }
        }
        all_channels.append(&mut channels);
    }
    MessageDocs { channels: all_channels, schemas: schemas.0 }
}
