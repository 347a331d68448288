//! What broadcast rooms say: the frames that relayed messages stand in, and the few others.

use serde::Serialize;
use serde_json::Value;

use super::settings::Envelope;
use crate::rooms::desk::written;
use crate::rooms::handler::{Relay, Room};

/// Whose words a message is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// A member's, by the id in its token.
    Member(&'a str),
    /// Nobody's who is there: the room itself, or whoever posted it over HTTP.
    Room,
    Http,
}

/// Frames that no handler makes.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Told<'a> {
    ControlWelcome { message: &'a str, room: &'a str, time: u64 },
    Ack { ack_type: &'a str, received_at: u64 },
    Error { error: &'a str },
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    content: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Value>,
    /// In seconds, as the document has it.
    timestamp: u64,
    from: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dynode<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    from: &'a str,
    received_at: u64,
    data: &'a Value,
}

/// The frame in which `relay` goes to the members of `room`.
pub(super) fn framed(envelope: Envelope, room: &Room<'_>, source: Source<'_>, relay: &Relay) -> String {
    let from = match source {
        Source::Member(id) => id,
        Source::Room | Source::Http => "server",
    };
    let payload = relay.payload();
    match (envelope, source) {
        (Envelope::Document, _) => {
            let (content, metadata) = match relay {
                Relay::Content(content) => (content, None),
                Relay::Message(message) => {
                    let content = message.get("content").or_else(|| message.get("data"));
                    (content.unwrap_or(message), message.get("metadata"))
                }
            };
            let (kind, timestamp) = (format!("{}-content", room.name), room.unix_ms() / 1_000);
            written(&Document { kind, content, metadata, timestamp, from })
        }
        (Envelope::Dynode, Source::Http) => {
            let mut body = payload.clone();
            if let Some(members) = body.as_object_mut() {
                members.insert("serverReceivedAt".to_owned(), room.iso().into());
            }
            written(&body)
        }
        (Envelope::Dynode, _) => {
            written(&Dynode { kind: "broadcast", from, received_at: room.unix_ms(), data: payload })
        }
    }
}
