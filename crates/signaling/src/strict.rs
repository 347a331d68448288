//! The answers to wrong messages with `--strict`, for developers of clients: which member is missing, misnamed or of a wrong type.
//!
//! The generated documentation of the messages is the only description of their members. A client receives an error message of its
//! dialect, and the log the same sentence. Neither contains a value of the message, and of its names at most [`MAX_QUOTED_BYTES`].

use std::net::SocketAddr;
use std::slice;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::call::{Call, REJECTED_CONNECTION, Sender};
use super::dialect::Dialect;
use super::hub::Hub;
use super::json::{MessageError, integer, parse, to_json};
use super::limits::SignalingLimits;
use super::message_docs::{ChannelDoc, MessageDocs, message_docs};
use jamjam_core::sanitize::sanitize_line;

/// Maximum length of a quoted name of the client, in bytes.
const MAX_QUOTED_BYTES: usize = 64;

/// How many unknown members of an object are compared with the missing one.
const MAX_COMPARED_MEMBERS: usize = 16;

/// Minimum similarity of an unknown member to the missing one that it is to replace: `to` resembles `targetUserId`.
const MIN_SIMILARITY: f64 = 0.5;

/// The format of addresses in the schemas.
const IP_AND_PORT: &str = "ip-and-port";

/// The client messages of all dialects, which do not depend on the limits.
static DOCS: LazyLock<MessageDocs> = LazyLock::new(|| message_docs(&SignalingLimits::default()));

/// What is wrong with a message: the violated rule, and the sentence for the client and the log.
type Fault = (&'static str, String);

/// The rules of [`Observer::on_wrong_message`](super::Observer::on_wrong_message): the first four by the documentation of the message, and
/// `invalid_message` for all its other faults.
pub const STRICT_RULES: [&str; 7] = [
    "unknown_type",
    "missing_member",
    "misnamed_member",
    "wrong_type",
    "invalid_message",
    REFUSED,
    REJECTED_CONNECTION,
];

/// A right message that had no effect, because of the state of the room, a limit, or a wrong password or code. The client may not be at fault:
/// a member may have left before a message to it arrived.
pub const REFUSED: &str = "refused";

impl Hub {
    /// With `--strict`, answers a message that had no effect, unless its dialect has answered it, and reports it to the observer. Returns the
    /// error with the sentence that the client received.
    pub(super) fn answer_wrong_message(
        &self,
        call: &mut Call<'_>,
        text: Option<&str>,
        error: MessageError,
    ) -> MessageError {
        if !self.server.limits.is_strict {
            return error;
        }
        let (Sender { conn, dialect, .. }, enabled) = (&call.sender, &self.server.limits.dialects);
        let (conn, dialect) = (*conn, *dialect);
        let is_ignored = matches!(error, MessageError::Ignored(_));
        let room = dialect.and_then(|dialect| self.rooms(dialect).room_of(conn, &self.server.limits));
        let room = room.map(|(name, _)| name).unwrap_or_default();
        let (rule, error) = match text.and_then(|text| explain(dialect, &room, enabled, text)) {
            Some((rule, sentence)) if is_ignored => (rule, MessageError::Ignored(sentence.into())),
            Some((rule, _)) => (rule, error),
            None if error.is_fixed() && text.is_some_and(|text| parse(text).is_ok()) => (REFUSED, error),
            None => ("invalid_message", error),
        };
        let sentence = error.to_string();
        self.server.report(|observer| observer.on_wrong_message(conn, rule, &sentence));
        if is_ignored {
            // Before a dialect is selected, the error has the form of control surfaces, if they are enabled.
            let undecided =
                [Dialect::ControlSurface, Dialect::Jamjam].into_iter().find(|known| enabled.contains(known));
            let facts = dialect.or(undecided).unwrap_or(Dialect::Jamjam).facts();
            call.send_with([conn], || (facts.error)(&sentence), None, false);
        }
        error
    }
}

/// Finds what is wrong with a message by its documentation. `None` if it is not JSON, or only its content is wrong.
fn explain(dialect: Option<Dialect>, room: &str, enabled: &[Dialect], text: &str) -> Option<Fault> {
    let message = parse(text).ok()?;
    // Broadcast rooms relay arrays too.
    if dialect == Some(Dialect::Broadcast) && message.is_array() {
        return None;
    }
    let any = json!({"type": "object", "properties": {"type": {"type": "string"}}});
    if let Some(fault) = find_fault(&any, &message, "") {
        return Some(fault);
    }
    let Some(name) = message["type"].as_str() else {
        return Some(("missing_member", "member `type` is missing".to_owned()));
    };
    let is_own = |channel: &&ChannelDoc| match dialect {
        Some(dialect) => {
            let is_of_other_room = channel.address.strip_prefix("/rooms/").is_some_and(|name| name != room);
            channel.dialect == dialect && (!is_of_other_room || channel.address == "/rooms/{room}")
        }
        // The first message does not select the others.
        None => !channel.dialect.is_selected_by_url() && enabled.contains(&channel.dialect),
    };
    let own = DOCS.channels.iter().filter(is_own).flat_map(|channel| &channel.client_messages);
    if let Some(found) = own.clone().find(|message| message.name == name) {
        return find_fault(&found.schema, &message, "");
    }
    // Broadcast rooms relay messages of any type.
    if dialect == Some(Dialect::Broadcast) {
        return None;
    }
    let has_name = |channel: &&ChannelDoc| channel.client_messages.iter().any(|message| message.name == name);
    let hint = if let Some(channel) = DOCS.channels.iter().find(has_name) {
        format!("it belongs to the dialect {}", channel.dialect.name())
    } else {
        let scored = own.map(|message| (similarity(&message.name, name), &message.name));
        let (_, nearest) = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
        format!("the nearest type is `{nearest}`")
    };
    Some(("unknown_type", format!("member `type`: unknown type `{}`; {hint}", quote(name))))
}

/// Compares a value with the schema of the member at this path; the path of the message is empty.
fn find_fault(schema: &Value, value: &Value, path: &str) -> Option<Fault> {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return find_fault(DOCS.schemas.get(name)?, value, path);
    }
    if !types(schema).any(|expected| accepts(schema, expected, value)) {
        let place = if path.is_empty() { "message".to_owned() } else { format!("member `{path}`") };
        let (expected, got) = (expectation(schema), type_of(value));
        let got = if types(schema).any(|name| name == got) { format!("another {got}") } else { with_article(got) };
        return Some(("wrong_type", format!("{place}: expected {expected}, got {got}")));
    }
    let member_path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let properties = &schema["properties"];
    let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_missing = |name: &&str| value.as_object().is_some_and(|members| !members.contains_key(*name));
    if let Some(name) = required.find(is_missing) {
        let is_replacement = |(given, content): &(&String, &Value)| {
            let is_fitting = || find_fault(&properties[name], content, "").is_none();
            properties.get(given.as_str()).is_none() && (similarity(name, given) >= 1.0 || is_fitting())
        };
        let unknown = value.as_object().into_iter().flatten().filter(is_replacement).take(MAX_COMPARED_MEMBERS);
        let similar = unknown.map(|(given, _)| (similarity(name, given), given));
        let similar = similar.filter(|(score, _)| *score >= MIN_SIMILARITY);
        let sentence = format!("member `{}` is missing", member_path(name));
        return Some(match similar.max_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((_, given)) => ("misnamed_member", format!("{sentence}; `{}` is unknown", quote(given))),
            None => ("missing_member", sentence),
        });
    }
    let of_members = properties
        .as_object()
        .into_iter()
        .flatten()
        .find_map(|(name, property)| find_fault(property, value.get(name)?, &member_path(name)));
    of_members.or_else(|| {
        let mut items = value.as_array().into_iter().flatten().enumerate();
        items.find_map(|(index, item)| find_fault(&schema["items"], item, &format!("{path}[{index}]")))
    })
}

/// The JSON types that a schema allows; empty text stands for any.
fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let types = schema["type"].as_array().map_or_else(|| slice::from_ref(&schema["type"]), Vec::as_slice);
    types.iter().map(|name| name.as_str().unwrap_or_default())
}

/// Whether a value has this type and the format that the schema requires of it.
fn accepts(schema: &Value, expected: &str, value: &Value) -> bool {
    let text = value.as_str();
    match (expected, schema["format"].as_str()) {
        ("", _) => true,
        ("integer", Some("int32")) => integer::<_, u32>(value).is_ok(),
        ("integer", _) => integer::<_, u64>(value).is_ok(),
        ("number", Some("float")) => value.as_f64().is_some_and(|number| (number as f32).is_finite()),
        ("string", Some(IP_AND_PORT)) => {
            text.and_then(|text| text.parse().ok()).is_some_and(|at: SocketAddr| at.port() != 0)
        }
        ("string", _) if schema["enum"].is_array() => schema["enum"].as_array().is_some_and(|all| all.contains(value)),
        ("string", _) if schema["minLength"].is_u64() => text.is_some_and(|text| !text.trim().is_empty()),
        // The server counts the bytes between the quotes.
        ("string", _) if schema["maxLength"].is_u64() => text
            .is_some_and(|text| to_json(&text).len() - 2 <= schema["maxLength"].as_u64().unwrap_or_default() as usize),
        (expected, _) => type_of(value) == expected,
    }
}

/// What a schema requires, in words.
fn expectation(schema: &Value) -> String {
    let values = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut words: Vec<String> = values.map(|value| format!("`{value}`")).collect();
    if words.is_empty() {
        words = types(schema).filter(|name| *name != "null").map(with_article).collect();
    }
    let suffix = match schema["format"].as_str() {
        Some("int32") => " from 0 to 4294967295",
        Some("int64") => " from 0",
        Some("float") => " of 32 bits",
        Some(IP_AND_PORT) => " such as 192.0.2.1:5000, with a port above 0",
        _ if schema["minLength"].is_u64() => " that is not blank",
        _ if schema["maxLength"].is_u64() => {
            return format!("{} of at most {} bytes", words.join(" or "), schema["maxLength"]);
        }
        _ => "",
    };
    words.join(" or ") + suffix
}

fn with_article(name: &str) -> String {
    match name {
        "null" => name.to_owned(),
        "integer" => "a whole number".to_owned(),
        "object" | "array" => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// How similar a name of the client is to a known one, from 0 to 1, without regard to case and punctuation.
fn similarity(known: &str, given: &str) -> f64 {
    let letters =
        |name: &str| name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let (known, given) = (letters(known), letters(&quote(given)));
    let is_part = given.len() > 1 && (known.contains(&given) || given.contains(&known));
    if is_part { 1.0 } else { strsim::jaro_winkler(&known, &given) }
}

/// A name of the client, safe to print.
fn quote(name: &str) -> String {
    sanitize_line(name, MAX_QUOTED_BYTES)
}
