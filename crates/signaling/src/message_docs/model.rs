//! What the documentation of a channel contains, and the conversion of types to schemas of messages.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::dialect::Dialect;
use crate::json::to_value;
use jamjam_core::close_code::CloseCode;

/// A kind of connection.
#[derive(Clone, Debug, Deserialize)]
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
    #[serde(skip)]
    pub query: Value,
    /// Messages that clients send. The files list only those that no type parses.
    #[serde(default)]
    pub client_messages: Vec<MessageDoc>,
    /// Messages that the server sends.
    #[serde(skip)]
    pub server_messages: Vec<MessageDoc>,
    /// The codes with which the server closes connections.
    #[serde(skip)]
    pub closes: Vec<CloseDoc>,
    #[serde(default)]
    pub(super) client_examples: Vec<Value>,
    /// At least one for each message that the server sends on the channel.
    pub(super) server_examples: Vec<Value>,
}

/// A message.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct CloseDoc {
    /// The code. 1006 stands for a lost connection without a close frame.
    pub code: CloseCode,
    /// The reason in the close frame.
    pub reason: &'static str,
    /// The cause.
    pub cause: &'static str,
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

    /// Adds the messages of the types `C` from clients and `S` from the server to these channels.
    pub(super) fn add<C: ToSchema, S: ToSchema>(&mut self, channels: &mut [ChannelDoc]) {
        for channel in channels {
            channel.client_messages = self.messages::<C>(&channel.client_examples);
            channel.server_messages = self.messages::<S>(&channel.server_examples);
        }
    }

    /// One message per variant of an enum whose variants have the name of the message in `type`. Each example belongs to the message of its
    /// type.
    pub(super) fn messages<T: ToSchema>(&mut self, examples: &[Value]) -> Vec<MessageDoc> {
        let mut schema = self.of::<T>();
        let Some(Value::Array(variants)) = schema.get_mut("oneOf").map(Value::take) else { return Vec::new() };
        let document = |variant: Value| {
            let schema = merge_all_of(variant);
            let name = schema["properties"]["type"]["enum"][0].as_str().unwrap_or_default().to_owned();
            let examples = examples.iter().filter(|example| example["type"] == *name).cloned().collect();
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
