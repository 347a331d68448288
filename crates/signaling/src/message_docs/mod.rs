//! Documentation of the WebSocket messages of all dialects. The schemas are generated from the types that parse and write the messages.
//! `crates/signaling/tests/signaling/message_docs.rs` checks the examples against the schemas and the hub.
//!
//! One file per dialect lists the channels, their messages and their close codes. A channel is a kind of connection: a URL, and the messages
//! that can be sent over it.

mod broadcast;
mod control_surface;
mod jamjam;
mod model;
mod webrtc;

use std::collections::BTreeMap;

use serde_json::Value;

use super::dialect::Dialect;
use super::limits::SignalingLimits;
use model::{COMMON_CLOSES, Schemas};

pub use model::{ChannelDoc, CloseDoc, MessageDoc};

/// The documentation of all messages of a server.
#[derive(Clone, Debug, Default)]
pub struct MessageDocs {
    /// The channels of the enabled dialects.
    pub channels: Vec<ChannelDoc>,
    /// The schemas that messages refer to as `#/components/schemas/NAME`.
    pub schemas: BTreeMap<String, Value>,
}

/// The documentation of the messages of a server with these limits: its dialects, its envelope format and its suppressed types.
pub fn message_docs(limits: &SignalingLimits) -> MessageDocs {
    let (mut schemas, mut channels) = (Schemas::default(), Vec::new());
    for dialect in Dialect::ALL.into_iter().filter(|dialect| limits.dialects.contains(*dialect)) {
        let schemas = &mut schemas;
        channels.extend(match dialect {
            Dialect::Jamjam => vec![jamjam::channel(schemas)],
            Dialect::Broadcast => broadcast::channels(schemas, &limits.broadcast),
            Dialect::ControlSurface => vec![control_surface::channel(schemas)],
            Dialect::WebRtc => vec![webrtc::channel(schemas)],
        });
    }
    for channel in &mut channels {
        channel.closes.extend(COMMON_CLOSES);
    }
    MessageDocs { channels, schemas: schemas.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::Envelope;

    #[test]
    fn every_message_has_a_name_a_description_and_an_example() {
        for envelope in [Envelope::Document, Envelope::Dynode] {
            let mut limits = SignalingLimits::default();
            limits.broadcast.envelope = envelope;
            for channel in message_docs(&limits).channels {
                assert!(!channel.server_messages.is_empty() && !channel.closes.is_empty(), "{}", channel.id);
                for message in channel.client_messages.iter().chain(&channel.server_messages) {
                    let name = format!("{} {}", channel.id, message.name);
                    assert!(!message.name.is_empty() && message.description.ends_with('.'), "{name}: {message:?}");
                    assert!(!message.examples.is_empty(), "{name} has no example");
                    assert!(message.schema["type"] == "object" || message.schema["type"].is_array(), "{name}");
                }
            }
        }
    }
}
