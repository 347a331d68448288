//! The conversion of types to the schemas and messages of a channel.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ChannelDoc, MessageDoc, closes_of};
use crate::dialect::Dialect;
use crate::json::to_value;

/// Collects the schemas that messages refer to.
#[derive(Default)]
pub(crate) struct Schemas(pub(super) BTreeMap<String, Value>);

impl Schemas {
    /// The schema of a type. The schemas that it refers to are added to this collection.
    pub(crate) fn of<T: ToSchema>(&mut self) -> Value {
        let mut referenced = Vec::new();
        T::schemas(&mut referenced);
        for (name, schema) in referenced {
            self.0.insert(name, to_value(&schema));
        }
        to_value(&T::schema())
    }

    /// One message per variant of an enum whose variants have the name of the message in `type`.
    pub(super) fn messages<T: ToSchema>(&mut self) -> Vec<MessageDoc> {
        let mut schema = self.of::<T>();
        let Some(Value::Array(variants)) = schema.get_mut("oneOf").map(Value::take) else { return Vec::new() };
        let document = |variant: Value| {
            let schema = merge_all_of(variant);
            let name = schema["properties"]["type"]["enum"][0].as_str().unwrap_or_default().to_owned();
            message(&name, schema)
        };
        variants.into_iter().map(document).collect()
    }

    /// The only channel of a dialect, without parameters: messages of the type `C` from clients, and of the type `S` from the server.
    pub(crate) fn channel<C: ToSchema, S: ToSchema>(&mut self, dialect: Dialect, title: &'static str) -> ChannelDoc {
        let sent = self.messages::<C>();
        self.channel_at::<S>(dialect, [dialect.name(), title, "/"], sent)
    }

    /// A channel with this id, title and address, no parameters, these messages from clients, and the messages of the type `S` from the server.
    pub(super) fn channel_at<S: ToSchema>(
        &mut self,
        dialect: Dialect,
        [id, title, address]: [&'static str; 3],
        client_messages: Vec<MessageDoc>,
    ) -> ChannelDoc {
        ChannelDoc {
            id,
            dialect,
            title,
            description: self.of::<S>()["description"].as_str().unwrap_or_default().to_owned(),
            address,
            path_parameters: json!({}),
            query: json!({"type": "object", "required": [], "properties": {}}),
            client_messages,
            server_messages: self.messages::<S>(),
            closes: closes_of(dialect),
        }
    }
}

/// The documentation of a message with this schema, whose description and example are those of the message. A message without an example
/// consists of its type.
pub(super) fn message(name: &str, mut schema: Value) -> MessageDoc {
    let mut take = |key: &str| schema.as_object_mut().and_then(|schema| schema.remove(key));
    let description = take("description").as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let example = take("example").unwrap_or_else(|| json!({"type": name}));
    MessageDoc { name: name.to_owned(), description, schema, examples: vec![example] }
}

/// A variant that contains a struct has two schemas, one with the fields and one with the type. The former may contain another pair, if
/// variant and struct have descriptions. Returns one schema with all fields.
fn merge_all_of(mut schema: Value) -> Value {
    let parts = schema.as_object_mut().and_then(|schema| schema.remove("allOf"));
    let Some(Value::Array(parts)) = parts else { return schema };
    let (mut required, mut properties) = (Vec::new(), Map::new());
    for mut part in parts.into_iter().map(merge_all_of) {
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
        if let Some(Value::Object(fields)) = part.get_mut("properties").map(Value::take) {
            properties.extend(fields);
        }
    }
    schema["type"] = "object".into();
    schema["required"] = required.into();
    schema["properties"] = properties.into();
    schema
}
