//! The `chat` room: people with names who write to each other.

use serde_json::{Map, Value, json};

use crate::rooms::Conn;
use crate::rooms::handler::{Action, Client, Relay, Room, RoomHandler};

/// The longest name and the longest message, in characters.
const LONGEST_NAME: usize = 20;
const LONGEST_TEXT: usize = 500;

/// Words that are not relayed unless told otherwise, as a list.
pub const BANNED: &str = "spam,badword";

/// The `chat` room.
#[derive(Debug)]
pub struct Chat {
    /// In small letters.
    banned: Vec<String>,
    /// Who has a name, in the order of the numbers.
    names: Vec<(Conn, String)>,
    /// Messages since the room was empty.
    said: u64,
}

impl Default for Chat {
    fn default() -> Self {
        Self::new(BANNED.split(','))
    }
}

impl Chat {
    /// A room that refuses messages with these words, in whatever case.
    pub fn new<S: AsRef<str>>(banned: impl IntoIterator<Item = S>) -> Self {
        let small = |word: S| word.as_ref().trim().to_lowercase();
        let banned = banned.into_iter().map(small).filter(|word| !word.is_empty()).collect();
        Self { banned, names: Vec::new(), said: 0 }
    }

    fn place(&self, conn: Conn) -> Result<usize, usize> {
        self.names.binary_search_by_key(&conn, |(known, _)| *known)
    }

    fn name(&self, conn: Conn) -> Option<&str> {
        self.place(conn).ok().map(|place| self.names[place].1.as_str())
    }
}

fn kind(payload: &Value) -> &str {
    payload.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn announced(room: &Room<'_>, text: &str) -> Relay {
    Relay::Content(json!({"type": "systemMessage", "text": text, "timestamp": room.iso()}))
}

impl RoomHandler for Chat {
    fn welcome_message(&mut self, room: &Room<'_>, _: &Client) -> String {
        let frame = json!({
            "type": "welcome",
            "message": "Connected to Chat room",
            "room": room.name,
            "time": room.unix_ms(),
            "onlineUsers": self.names.iter().map(|(_, name)| name).collect::<Vec<_>>(),
            "totalMessages": self.said,
            "instructions": {
                "setUsername": "Send {type: \"setUsername\", username: \"YourName\"}",
                "sendMessage": "Send {type: \"chatMessage\", text: \"Your message\"}",
                "typing": "Send {type: \"typing\", isTyping: true}",
            },
        });
        frame.to_string()
    }

    fn validate_message(&mut self, _: &Room<'_>, client: &Client, payload: &Value) -> Result<(), String> {
        let kind = kind(payload);
        if kind != "setUsername" && self.name(client.conn).is_none() {
            return Err("Username required. Send {type: \"setUsername\", username: \"YourName\"} first".to_owned());
        }
        if kind != "chatMessage" {
            return Ok(());
        }
        let text = payload.get("text").and_then(Value::as_str).filter(|text| !text.is_empty());
        let text = text.ok_or("Chat message must have a text field")?;
        if text.chars().count() > LONGEST_TEXT {
            return Err(format!("Message too long (max {LONGEST_TEXT} characters)"));
        }
        let small = text.to_lowercase();
        if self.banned.iter().any(|word| small.contains(word)) {
            return Err("Message contains inappropriate content".to_owned());
        }
        Ok(())
    }

    fn on_message(&mut self, room: &Room<'_>, client: &Client, mut payload: Value) -> Option<Relay> {
        if kind(&payload) == "setUsername" {
            let name: String = payload.get("username")?.as_str()?.trim().chars().take(LONGEST_NAME).collect();
            let name = name.trim_end().to_owned();
            if name.is_empty() {
                return None;
            }
            let announced = announced(room, &format!("{name} joined the chat"));
            match self.place(client.conn) {
                Ok(place) => self.names[place].1 = name,
                Err(place) => self.names.insert(place, (client.conn, name)),
            }
            return Some(announced);
        }
        let name = self.name(client.conn)?.to_owned();
        Some(Relay::Content(match kind(&payload) {
            "typing" => json!({"type": "userTyping", "username": name, "isTyping": payload["isTyping"]}),
            "chatMessage" => {
                self.said += 1;
                let text = payload["text"].take();
                json!({"type": "chatMessage", "username": name, "text": text, "timestamp": room.iso(), "messageId": self.said})
            }
            _ => {
                if let Some(members) = payload.as_object_mut() {
                    members.insert("username".to_owned(), name.into());
                }
                payload
            }
        }))
    }

    fn on_leave(&mut self, room: &Room<'_>, client: &Client, _: u16, _: &str) -> Vec<Action> {
        if room.clients == 0 {
            self.said = 0;
        }
        let Ok(place) = self.place(client.conn) else { return Vec::new() };
        let (_, name) = self.names.remove(place);
        vec![Action::Broadcast(announced(room, &format!("{name} left the chat")))]
    }

    fn room_stats(&self, _: &Room<'_>) -> Map<String, Value> {
        let names = self.names.iter().map(|(_, name)| Value::from(name.as_str())).collect::<Vec<_>>();
        Map::from_iter([("onlineUsers".to_owned(), names.into()), ("totalMessages".to_owned(), self.said.into())])
    }
}
