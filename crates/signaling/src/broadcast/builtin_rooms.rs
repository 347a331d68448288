//! The room handlers that `jamjam-dev` contains, and their registry by room name: `radio`, `chat`, relay, and rooms declared in files.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::room_handler::{ClientInfo, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView, default_welcome};
use crate::json::{to_json, to_value};
use crate::limits::Envelope;
use crate::server::ConnId;

/// The room handlers by room name.
pub struct RoomHandlers {
    pub(super) named: BTreeMap<String, Box<dyn RoomHandler>>,
}

impl Default for RoomHandlers {
    /// Handlers for `radio` and `chat`; all other rooms relay every message.
    fn default() -> Self {
        let mut registry = Self { named: BTreeMap::new() };
        registry.insert("radio", RadioRoom::default());
        registry.insert("chat", ChatRoom::default());
        registry
    }
}

impl RoomHandlers {
    /// Sets the handler of the room with this name, and replaces any earlier handler.
    pub fn insert(&mut self, room: &str, handler: impl RoomHandler + 'static) {
        self.named.insert(room.to_owned(), Box::new(handler));
    }
}

/// A room that relays every message: it uses the default of every hook.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayRoom;

impl RoomHandler for RelayRoom {}

/// A room that is declared in a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeclaredRoom {
    /// Whether joining needs no token.
    pub is_public: bool,
    /// Delay of every message.
    pub broadcast_delay: Duration,
    /// Fields of the welcome message. These fields are added to the default fields; a default field with the same name is replaced.
    pub welcome: Map<String, Value>,
    /// Maximum number of members.
    pub max_clients: Option<usize>,
    /// Whether `processed` and `timestamp` (milliseconds since the Unix epoch) are added to messages.
    pub stamp: bool,
}

impl DeclaredRoom {
    fn add_stamp(&self, room: &RoomView<'_>, mut payload: Value) -> RelayPayload {
        if let (true, Some(members)) = (self.stamp, payload.as_object_mut()) {
            members.insert("processed".to_owned(), true.into());
            members.insert("timestamp".to_owned(), room.now.unix_ms().into());
        }
        RelayPayload::Message(payload)
    }
}

impl RoomHandler for DeclaredRoom {
    fn requires_auth(&self) -> bool {
        !self.is_public
    }

    fn max_clients(&self) -> Option<usize> {
        self.max_clients
    }

    fn welcome_message(&mut self, room: &RoomView<'_>, _: &ClientInfo) -> String {
        let mut frame = default_welcome(room);
        if let Some(members) = frame.as_object_mut() {
            members.extend(self.welcome.clone());
        }
        frame.to_string()
    }

    fn on_message(&mut self, room: &RoomView<'_>, _: &ClientInfo, payload: Value) -> Option<RelayPayload> {
        Some(self.add_stamp(room, payload))
    }

    fn on_http_post(&mut self, room: &RoomView<'_>, payload: Value) -> Option<RelayPayload> {
        Some(self.add_stamp(room, payload))
    }

    fn broadcast_delay(&self, _: &RelayContext<'_>) -> Duration {
        self.broadcast_delay
    }
}

/// Maximum number of stored messages.
const HISTORY_CAPACITY: usize = 10;

/// Maximum number of stored messages in the welcome message.
const WELCOME_HISTORY_LEN: usize = 5;

/// Maximum length of a stored message, in bytes.
const MAX_HISTORY_ENTRY_BYTES: usize = 256 << 10;

/// Messages of the room `radio`, with content for players. New members receive the latest messages, and messages of the type `post` can be
/// delayed.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum RadioServerMessage<'a> {
    /// The connection has joined the room.
    #[schema(example = json!({
        "type": "welcome", "message": "Connected to Radio Content room", "room": "radio", "time": 1_795_158_236_849_u64,
        "recentContent": [{
            "timestamp": "2026-11-20T07:03:56.849Z",
            "data": {"type": "post", "data": {"content": {"id": 7, "title": "Evening news"}}}
        }],
        "features": ["content-broadcast", "recent-content", "delayed-posts"]
    }))]
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// A greeting.
        message: &'static str,
        /// The room.
        room: &'a str,
        /// The time of the server, in milliseconds since the Unix epoch.
        time: u64,
        /// The latest messages of the room, the oldest first, at most five. Each has a `timestamp` (ISO 8601) and the message in `data`.
        #[schema(value_type = Vec<HistoryEntry>)]
        recent_content: Vec<&'a RawValue>,
        /// The features of the room.
        #[schema(value_type = Vec<String>)]
        features: [&'static str; 3],
    },
}

/// A stored message.
#[derive(Serialize, ToSchema)]
struct HistoryEntry<'a> {
    /// When the message was relayed, for example `2026-11-20T14:30:00.000Z`.
    timestamp: String,
    /// The message.
    data: &'a Value,
}

/// A message to the control channels of `radio`.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "rc": {"version": "1", "id": "1", "action": "play_now", "name": "RadioContent", "max-duration": "15"}
}))]
pub(crate) struct RadioControlMessage<'a> {
    /// The command.
    #[schema(inline)]
    rc: RadioCommand<'a>,
}

/// A command to a player.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct RadioCommand<'a> {
    /// The version of the protocol: `1`.
    version: &'a str,
    /// The id of the command: `1`.
    id: &'a str,
    /// The action: `play_now`.
    action: &'a str,
    /// The name of the room with a capital first letter, and `Content`.
    name: String,
    /// The duration of the content in whole seconds, as text.
    max_duration: String,
}

/// The `radio` room: relays content to players, and the duration of the content to control channels. Stores recent messages, even while
/// the room has no members.
#[derive(Debug, Default)]
pub struct RadioRoom {
    default_delay: Duration,
    envelope: Envelope,
    /// Recent messages, the oldest first, as JSON for the welcome message.
    history: VecDeque<Box<RawValue>>,
    /// The latest duration that `slot_duration_ms()` found, in milliseconds.
    slot_duration_ms: Option<f64>,
}

impl RadioRoom {
    /// `default_delay` applies to messages of type `post` that have no delay of their own.
    pub fn new(default_delay: Duration, envelope: Envelope) -> Self {
        Self { default_delay, envelope, ..Self::default() }
    }

    /// Long messages are not stored, because each new member receives the latest stored messages.
    fn add_to_history(&mut self, room: &RoomView<'_>, payload: &Value) {
        let Ok(entry) = to_raw_value(&HistoryEntry { timestamp: room.iso_time(), data: payload }) else { return };
        if entry.get().len() > MAX_HISTORY_ENTRY_BYTES {
            return;
        }
        if self.history.len() == HISTORY_CAPACITY {
            self.history.pop_front();
        }
        self.history.push_back(entry);
    }

    /// Adds fields that the players of Dynode expect.
    fn add_dynode_fields(&self, mut payload: Value, marks: &[(&str, &str)]) -> RelayPayload {
        if let (Envelope::Dynode, Some(members)) = (self.envelope, payload.as_object_mut()) {
            members.extend(marks.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        }
        RelayPayload::Message(payload)
    }
}

impl RoomHandler for RadioRoom {
    fn welcome_message(&mut self, room: &RoomView<'_>, _: &ClientInfo) -> String {
        let recent = self.history.iter().skip(self.history.len().saturating_sub(WELCOME_HISTORY_LEN));
        to_json(&RadioServerMessage::Welcome {
            message: "Connected to Radio Content room",
            room: room.name,
            time: room.now.unix_ms(),
            recent_content: recent.map(Box::as_ref).collect(),
            features: ["content-broadcast", "recent-content", "delayed-posts"],
        })
    }

    fn validate_http_post(&mut self, _: &RoomView<'_>, payload: &Value) -> Result<(), String> {
        let content = payload.get("data").and_then(|data| data.get("content"));
        let none = [Value::Null, false.into(), "".into(), 0.into(), 0.0.into()];
        let has_id = |content: &Value| content.get("id").is_some_and(|id| !none.contains(id));
        if content.is_none_or(has_id) { Ok(()) } else { Err("Content must have an id".to_owned()) }
    }

    fn on_message(&mut self, _: &RoomView<'_>, _: &ClientInfo, payload: Value) -> Option<RelayPayload> {
        Some(self.add_dynode_fields(payload, &[("room", "radio"), ("processedBy", "RadioHandler")]))
    }

    fn on_http_post(&mut self, _: &RoomView<'_>, payload: Value) -> Option<RelayPayload> {
        Some(self.add_dynode_fields(payload, &[("room", "radio"), ("contentType", "radio")]))
    }

    fn room_stats(&self, _: &RoomView<'_>) -> Map<String, Value> {
        Map::from_iter([("recentContent".to_owned(), self.history.len().into())])
    }

    fn control_payload(&mut self, context: &RelayContext<'_>) -> Option<Value> {
        self.add_to_history(&context.room, context.payload);
        self.slot_duration_ms = slot_duration_ms(context).or(self.slot_duration_ms);
        let seconds = (self.slot_duration_ms? / 1e3).round();
        let mut letters = context.room.name.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        let name = format!("{first}{}Content", letters.as_str());
        let max_duration = seconds.to_string();
        let rc = RadioCommand { version: "1", id: "1", action: "play_now", name, max_duration };
        Some(to_value(&RadioControlMessage { rc }))
    }

    fn broadcast_delay(&self, context: &RelayContext<'_>) -> Duration {
        let RelayContext { payload, sender, .. } = context;
        let is_post = payload.get("type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("post"));
        if !is_post {
            return Duration::ZERO;
        }
        let in_message =
            positive_number(payload.get("delay")).or_else(|| positive_number(payload.get("data")?.get("delay")));
        let own = || {
            let client = (*sender)?;
            let query = client.query_parameter("broadcastDelay").map(Value::from);
            positive_number(query.as_ref()).or_else(|| positive_number(client.metadata("broadcastDelay")))
        };
        let seconds = in_message.or_else(own);
        seconds.map_or(self.default_delay, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// The duration of the message's content in milliseconds. If the message contains no duration, the sender's URL or token specifies the
/// duration.
fn slot_duration_ms(context: &RelayContext<'_>) -> Option<f64> {
    let fields = [("expectedSlotDurationMs", 1.0), ("expectedSlotDurationSeconds", 1e3), ("durationSeconds", 1e3)];
    let in_any = |find: &dyn Fn(&str) -> Option<f64>| fields.iter().find_map(|(name, ms)| Some(find(name)? * ms));
    let payload = context.payload;
    let places = [Some(payload), payload.get("metadata"), payload.get("data")];
    let in_message = places.into_iter().flatten().find_map(|index| in_any(&|name| positive_number(index.get(name))));
    in_message.or_else(|| {
        let sender = context.sender?;
        in_any(&|name| positive_number(sender.query_parameter(name).map(Value::from).as_ref()))
            .or_else(|| in_any(&|name| positive_number(sender.metadata(name))))
    })
}

/// Maximum length of a user name and of a message, in characters.
const MAX_USERNAME_CHARS: usize = 20;
const MAX_MESSAGE_CHARS: usize = 500;

/// Words that no text may contain, in lower case.
const BANNED_WORDS: [&str; 2] = ["spam", "badword"];

/// The `chat` room: members set a user name and exchange text messages.
#[derive(Debug, Default)]
pub struct ChatRoom {
    /// The user names that members have set. The numbers of connections are in the order of joining.
    usernames: BTreeMap<ConnId, String>,
    /// Messages since the room was last empty.
    message_count: u64,
}

/// A message from a member of `chat`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ChatClientMessage<'a> {
    /// Sets the sender's user name. It must be set before any other message.
    #[schema(example = json!({"type": "setUsername", "username": "Ann"}))]
    SetUsername {
        /// The name. It is cut to 20 characters.
        #[schema(value_type = String, min_length = 1)]
        username: &'a Value,
    },
    /// Informs the other members that the sender is typing, or has stopped.
    #[schema(example = json!({"type": "typing", "isTyping": true}))]
    #[serde(rename_all = "camelCase")]
    Typing {
        /// Whether the sender is typing.
        #[schema(value_type = bool)]
        is_typing: &'a Value,
    },
    /// Sends a text to the other members.
    #[schema(example = json!({"type": "chatMessage", "text": "hello"}))]
    ChatMessage {
        /// The text, at most 500 characters.
        #[schema(value_type = String)]
        text: &'a Value,
    },
}

impl<'a> ChatClientMessage<'a> {
    /// Parses a message. `None` if the message has another type, which is relayed.
    fn parse(payload: &'a Value) -> Option<Self> {
        let field = |name| payload.get(name).unwrap_or(&Value::Null);
        match field("type").as_str()? {
            "setUsername" => Some(Self::SetUsername { username: field("username") }),
            "typing" => Some(Self::Typing { is_typing: field("isTyping") }),
            "chatMessage" => Some(Self::ChatMessage { text: field("text") }),
            _ => None,
        }
    }
}

/// Messages of the room `chat`, whose members set a user name and exchange text messages. Messages of other types are relayed with the field
/// `username`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ChatServerMessage<'a> {
    /// The connection has joined the room.
    #[schema(example = json!({
        "type": "welcome", "message": "Connected to Chat room", "room": "chat", "time": 1_795_158_236_849_u64,
        "onlineUsers": ["Ann"], "totalMessages": 3, "instructions": chat_instructions()
    }))]
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// A greeting.
        message: &'a str,
        /// The room.
        room: &'a str,
        /// The time of the server, in milliseconds since the Unix epoch.
        time: u64,
        /// The user names of the members that have set one, in the order of joining.
        online_users: Vec<&'a str>,
        /// Number of chat messages since the room was last empty.
        total_messages: u64,
        /// How to use the room.
        #[schema(value_type = Object)]
        instructions: Value,
    },
}

/// An instruction for each type of message.
fn chat_instructions() -> Value {
    json!({
        "setUsername": "Send {type: \"setUsername\", username: \"YourName\"}",
        "sendMessage": "Send {type: \"chatMessage\", text: \"Your message\"}",
        "typing": "Send {type: \"typing\", isTyping: true}",
    })
}

/// The content of a relayed message in `chat`. Messages of other types are relayed with the field `username`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ChatContent<'a> {
    /// A member has set its user name or has left.
    #[schema(example = json!({
        "type": "systemMessage", "text": "Ann joined the chat", "timestamp": "2026-11-20T07:03:56.849Z"
    }))]
    SystemMessage {
        /// The text.
        text: String,
        /// The time of the server, for example `2026-11-20T14:30:00.000Z`.
        timestamp: String,
    },
    /// A member is typing, or has stopped.
    #[schema(example = json!({"type": "userTyping", "username": "Ann", "isTyping": true}))]
    #[serde(rename_all = "camelCase")]
    UserTyping {
        /// The member.
        username: &'a str,
        /// The value that the member sent: usually a boolean.
        is_typing: &'a Value,
    },
    /// A text from a member.
    #[schema(example = json!({
        "type": "chatMessage", "username": "Ann", "text": "hello", "timestamp": "2026-11-20T07:03:56.849Z", "messageId": 1
    }))]
    #[serde(rename_all = "camelCase")]
    ChatMessage {
        /// The member.
        username: &'a str,
        /// The text.
        #[schema(value_type = String)]
        text: &'a Value,
        /// The time of the server, for example `2026-11-20T14:30:00.000Z`.
        timestamp: String,
        /// The number of the message. The first message after the room was empty has number 1.
        message_id: u64,
    },
}

impl ChatContent<'_> {
    fn into_payload(self) -> RelayPayload {
        RelayPayload::Content(to_value(&self))
    }
}

fn system_message(room: &RoomView<'_>, text: String) -> RelayPayload {
    ChatContent::SystemMessage { text, timestamp: room.iso_time() }.into_payload()
}

impl RoomHandler for ChatRoom {
    fn welcome_message(&mut self, room: &RoomView<'_>, _: &ClientInfo) -> String {
        to_json(&ChatServerMessage::Welcome {
            message: "Connected to Chat room",
            room: room.name,
            time: room.now.unix_ms(),
            online_users: self.usernames.values().map(String::as_str).collect(),
            total_messages: self.message_count,
            instructions: chat_instructions(),
        })
    }

    fn validate_message(&mut self, _: &RoomView<'_>, client: &ClientInfo, payload: &Value) -> Result<(), String> {
        let message = ChatClientMessage::parse(payload);
        let sets_username = matches!(message, Some(ChatClientMessage::SetUsername { .. }));
        if !sets_username && !self.usernames.contains_key(&client.conn) {
            return Err("Username required. Send {type: \"setUsername\", username: \"YourName\"} first".to_owned());
        }
        let Some(ChatClientMessage::ChatMessage { text }) = message else { return Ok(()) };
        let text = text.as_str().filter(|text| !text.is_empty());
        let text = text.ok_or("Chat message must have a text field")?;
        if text.chars().count() > MAX_MESSAGE_CHARS {
            return Err(format!("Message too long (max {MAX_MESSAGE_CHARS} characters)"));
        }
        let small = text.to_lowercase();
        if BANNED_WORDS.iter().any(|word| small.contains(word)) {
            return Err("Message contains inappropriate content".to_owned());
        }
        Ok(())
    }

    fn on_message(&mut self, room: &RoomView<'_>, client: &ClientInfo, mut payload: Value) -> Option<RelayPayload> {
        let message = ChatClientMessage::parse(&payload);
        if let Some(ChatClientMessage::SetUsername { username }) = message {
            let name: String = username.as_str()?.trim().chars().take(MAX_USERNAME_CHARS).collect();
            let name = name.trim_end().to_owned();
            if name.is_empty() {
                return None;
            }
            let announced = system_message(room, format!("{name} joined the chat"));
            self.usernames.insert(client.conn, name);
            return Some(announced);
        }
        let username = self.usernames.get(&client.conn)?;
        let content = match message {
            Some(ChatClientMessage::Typing { is_typing }) => ChatContent::UserTyping { username, is_typing },
            Some(ChatClientMessage::ChatMessage { text }) => {
                self.message_count += 1;
                let message_id = self.message_count;
                ChatContent::ChatMessage { username, text, timestamp: room.iso_time(), message_id }
            }
            Some(ChatClientMessage::SetUsername { .. }) | None => {
                let username = username.to_owned();
                if let Some(members) = payload.as_object_mut() {
                    members.insert("username".to_owned(), username.into());
                }
                return Some(RelayPayload::Content(payload));
            }
        };
        Some(content.into_payload())
    }

    fn on_leave(&mut self, room: &RoomView<'_>, client: &ClientInfo, _: u16, _: &str) -> Vec<RoomAction> {
        if room.clients == 0 {
            self.message_count = 0;
        }
        let Some(name) = self.usernames.remove(&client.conn) else { return Vec::new() };
        vec![RoomAction::Broadcast(system_message(room, format!("{name} left the chat")))]
    }

    fn room_stats(&self, _: &RoomView<'_>) -> Map<String, Value> {
        let names = self.usernames.values().map(|name| Value::from(name.as_str())).collect::<Vec<_>>();
        Map::from_iter([
            ("onlineUsers".to_owned(), names.into()),
            ("totalMessages".to_owned(), self.message_count.into()),
        ])
    }
}

/// A positive number, written as a number or as a string.
fn positive_number(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite() && *number > 0.0)
}
