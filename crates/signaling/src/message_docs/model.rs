//! What the documentation of a channel contains, and the conversion of types to schemas of messages.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::close_code::CloseCode;
use crate::dialect::Dialect;
use crate::json::to_value;

/// A kind of connection.
#[derive(Clone, Debug)]
pub struct ChannelDoc {
    /// The id in the document, for example `broadcast-chat`.
    pub id: &'static str,
    /// The dialect.
    pub dialect: Dialect,
    /// A name for people.
    pub title: &'static str,
    /// What the channel is for, and how its URL selects it.
    pub description: &'static str,
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

/// Closes that every dialect has, except for the closes by `DialectHandler::shutdown_close_frame`.
pub(super) const COMMON_CLOSES: [CloseDoc; 10] = [
    close(CloseCode::ORIGIN_NOT_ALLOWED, "Origin not allowed", "The page's origin is not in --origin"),
    close(
        CloseCode::POLICY_VIOLATION,
        "Rate limit exceeded",
        "More messages or control frames than --rate-limit-messages",
    ),
    close(
        CloseCode::POLICY_VIOLATION,
        "Disconnected by the operator",
        "The operator disconnected the client on the console",
    ),
    close(CloseCode::POLICY_VIOLATION, "Room closed by the operator", "The operator closed the room on the console"),
    close(CloseCode::TRY_AGAIN_LATER, "the client reads too slowly", "The send queue of the client was full"),
    close(
        CloseCode::TRY_AGAIN_LATER,
        "the server has too little memory for the data of this client",
        "The memory budget of the server was used up",
    ),
    close(CloseCode::MESSAGE_TOO_BIG, "", "A message was longer than the server accepts"),
    close(CloseCode::INVALID_PAYLOAD, "", "A text message was not UTF-8"),
    close(CloseCode::PROTOCOL_ERROR, "", "The client violated the WebSocket protocol"),
    close(
        CloseCode::ABNORMAL_CLOSURE,
        "",
        "No close frame: the connection was lost, or the client did not answer a ping",
    ),
];

/// The closes of connections whose first message selects the dialect.
pub(super) const UNDECIDED_CLOSES: [CloseDoc; 2] = [
    close(
        CloseCode::TRY_AGAIN_LATER,
        "Too many connections have not selected a dialect",
        "Too many connections have sent no message yet; the oldest of them is closed",
    ),
    close(
        CloseCode::POLICY_VIOLATION,
        "y-webrtc clients are not supported",
        "The first message is one of y-webrtc or PeerJS, which this server does not support",
    ),
];

/// Closes of several dialects. All but broadcast close with this code at shutdown.
pub(super) const SHUTDOWN: CloseDoc = close(CloseCode::GOING_AWAY, "", "The server is shutting down");
pub(super) const AUTHENTICATION_REQUIRED: CloseDoc = close(
    CloseCode::AUTHENTICATION_REQUIRED,
    "Authentication required",
    "Neither the URL nor the header `Authorization` contains a token",
);
pub(super) const TOO_MANY_ROOMS: CloseDoc =
    close(CloseCode::TRY_AGAIN_LATER, "Too many rooms", "This address has created the maximum number of rooms");
pub(super) const TOO_MANY_REQUESTS: CloseDoc =
    close(CloseCode::TRY_AGAIN_LATER, "Too many requests", "Joins and lists have sent too many bytes for this address");

/// The query of a channel without parameters.
pub(super) fn no_query() -> Value {
    json!({"type": "object", "required": [], "properties": {}})
}

pub(super) const fn close(code: CloseCode, reason: &'static str, cause: &'static str) -> CloseDoc {
    CloseDoc { code, reason, cause }
}

/// Collects the schemas that messages refer to.
#[derive(Default)]
pub(super) struct Schemas(pub(super) BTreeMap<String, Value>);

impl Schemas {
    /// The schema of a type. The schemas that it refers to are added to this collection.
    pub(super) fn of<T: ToSchema>(&mut self) -> Value {
        let mut referenced = Vec::new();
        T::schemas(&mut referenced);
        for (name, schema) in referenced {
            self.0.insert(name, to_value(&schema));
        }
        to_value(&T::schema())
    }

    /// One message per variant of an enum whose variants have the name of the message in `type`. Each example belongs to the message of its
    /// type.
    pub(super) fn messages<T: ToSchema>(&mut self, examples: &Value) -> Vec<MessageDoc> {
        let examples = examples.as_array().into_iter().flatten();
        let mut schema = self.of::<T>();
        let Some(Value::Array(variants)) = schema.get_mut("oneOf").map(Value::take) else { return Vec::new() };
        let document = |variant: Value| {
            let schema = merge_all_of(variant);
            let name = schema["properties"]["type"]["enum"][0].as_str().unwrap_or_default().to_owned();
            let examples = examples.clone().filter(|example| example["type"] == *name).cloned().collect();
            message(&name, schema, examples)
        };
        variants.into_iter().map(document).collect()
    }
}

/// The documentation of a message with this schema. The description of the schema is the description of the message.
pub(super) fn message(name: &str, mut schema: Value, examples: Vec<Value>) -> MessageDoc {
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let description = description.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    MessageDoc { name: name.to_owned(), description, schema, examples }
}

/// A variant that contains a struct has two schemas, one with the fields and one with the type. The former may contain another pair, if
/// variant and struct have descriptions. Returns one schema with all fields.
fn merge_all_of(mut schema: Value) -> Value {
    let Some(Value::Array(parts)) = schema.get_mut("allOf").map(Value::take) else { return schema };
    let (mut required, mut properties) = (Vec::new(), Map::new());
    for mut part in parts.into_iter().map(merge_all_of) {
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
        if let Some(Value::Object(fields)) = part.get_mut("properties").map(Value::take) {
            properties.extend(fields);
        }
    }
    json!({"type": "object", "description": schema["description"], "required": required, "properties": properties})
}
