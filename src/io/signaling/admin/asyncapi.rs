//! `/docs/asyncapi.json`: the `AsyncAPI` 3.0 document of all WebSocket messages, which is public. `/docs/messages` and the start page show it.
//!
//! The schemas come from the types that parse and write the messages ([`message_docs`]). `AsyncAPI` cannot express close codes, so each
//! channel lists them in the extension `x-close-codes`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::io::http::body::page_response;
use crate::io::signaling::http_state::SharedState;
use crate::signaling::SignalingLimits;
use crate::signaling::message_docs::{ChannelDoc, CloseDoc, MessageDoc, MessageDocs, message_docs};

const ABOUT: &str = include_str!("asyncapi.md");

/// `AsyncAPI` document
#[utoipa::path(
    get, path = "/docs/asyncapi.json", operation_id = "asyncapi", tag = "documentation",
    responses((status = 200, description = "The WebSocket messages of all enabled dialects, as AsyncAPI 3.0", body = Object)),
)]
pub(super) async fn asyncapi_json(State(state): SharedState) -> Response {
    let document = state.asyncapi.get_or_init(|| {
        let mut document = asyncapi_document(state.hub.limits());
        // The start page shows a MOQT echo in the same process.
        if let Some(url) = &state.config.moqt_url {
            document["x-moqt-url"] = url.to_string().into();
        }
        document.to_string().into()
    });
    page_response("application/json", document.clone())
}

/// The document for a server with these limits.
pub(super) fn asyncapi_document(limits: &SignalingLimits) -> Value {
    let MessageDocs { channels, schemas } = message_docs(limits);
    let host = json!({"default": "localhost:8080", "description": "Host and port of the server."});
    let server = |protocol| json!({"host": "{host}", "protocol": protocol, "variables": {"host": host}});
    let operations = channels.iter().flat_map(channel_operations);
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "jamjam-dev signaling-server", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": {"ws": server("ws"), "wss": server("wss")},
        "operations": operations.collect::<Map<_, _>>(),
        "channels": channels.iter().map(|channel| (channel.id.to_owned(), channel_object(channel))).collect::<Map<_, _>>(),
        "components": {"schemas": schemas},
    })
}

/// What the server does with the messages of each direction, their sender, and the messages.
fn directions(channel: &ChannelDoc) -> [(&'static str, &'static str, &[MessageDoc]); 2] {
    [("receive", "client", &channel.client_messages), ("send", "server", &channel.server_messages)]
}

fn channel_object(channel: &ChannelDoc) -> Value {
    let message = |sender, MessageDoc { name, description, schema, examples }: &MessageDoc| {
        let examples: Vec<Value> = examples.iter().map(|example| json!({"payload": example})).collect();
        let message = json!({"name": name, "description": description, "payload": schema, "examples": examples});
        (message_key(sender, name), message)
    };
    let messages = directions(channel).into_iter();
    let messages = messages.flat_map(|(_, sender, messages)| messages.iter().map(move |it| message(sender, it)));
    let close = |CloseDoc { code, reason, cause }: &CloseDoc| json!({"code": code.get(), "reason": reason, "description": cause});
    json!({
        "address": channel.address,
        "title": channel.title,
        "description": channel.description,
        "tags": [{"name": channel.dialect.name()}],
        "messages": messages.collect::<Map<_, _>>(),
        "parameters": channel.path_parameters,
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0", "query": channel.query}},
        "x-close-codes": channel.closes.iter().map(close).collect::<Vec<_>>(),
    })
}

/// The key of a message in its channel. A reference contains the key, so it has only characters that a reference need not escape.
fn message_key(sender: &str, name: &str) -> String {
    let name: String = name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    format!("{sender}.{name}")
}

/// The operations of a channel. `AsyncAPI` describes the server, so the server receives the messages of clients.
fn channel_operations(channel: &ChannelDoc) -> impl Iterator<Item = (String, Value)> {
    let id = channel.id;
    directions(channel).into_iter().filter(|(.., messages)| !messages.is_empty()).map(move |(action, sender, messages)| {
        let reference = |message: &MessageDoc| json!({"$ref": format!("#/channels/{id}/messages/{}", message_key(sender, &message.name))});
        let messages: Vec<Value> = messages.iter().map(reference).collect();
        let channel = json!({"$ref": format!("#/channels/{id}")});
        (format!("{id}.{action}"), json!({"action": action, "channel": channel, "messages": messages}))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_channel_have_distinct_keys() {
        for channel in message_docs(&SignalingLimits::default()).channels {
            let count = channel.client_messages.len() + channel.server_messages.len();
            let object = channel_object(&channel);
            assert_eq!(object["messages"].as_object().map(Map::len), Some(count), "{}", channel.id);
        }
    }
}
