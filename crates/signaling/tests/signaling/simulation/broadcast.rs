//! The messages that clients must receive after a text is sent to a broadcast room. A member sends the text, or an HTTP client posts the
//! text.

use std::time::Duration;

use jamjam_signaling::ConnId;
use serde_json::Value;

use crate::simulation::model::{Model, Scheduled};

/// A positive number, given as a number or as a string.
fn positive(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number| *number > 0.0)
}

/// The content of a relayed message (its `content`, its `data`, or the whole message), and its metadata.
fn framed(message: &Value) -> String {
    let content = message.get("content").or(message.get("data")).unwrap_or(message);
    format!("{content} {}", message.get("metadata").map(Value::to_string).unwrap_or_default())
}

impl Model {
    pub(crate) fn on_broadcast_message(&mut self, conn: ConnId, text_sent: &str) {
        let Some(membership) = self.membership(conn).cloned() else { return };
        let message: Option<Value> = serde_json::from_str(text_sent).ok();
        let message = message.filter(|message| (message.is_object() || message.is_array()) && !membership.control);
        let Some(message) = message else { return self.expect_message(conn, "error ", &[]) };
        let kind = message["type"].as_str().unwrap_or_default();
        let is_chat = membership.room == "broadcast chat";
        if is_chat {
            let text = message["text"].as_str().unwrap_or_default();
            let banned = ["spam", "badword"].iter().any(|word| text.to_lowercase().contains(word));
            let is_text_wrong = text.is_empty() || text.chars().count() > 500 || banned;
            if kind != "setUsername" && membership.nick.is_none() || kind == "chatMessage" && is_text_wrong {
                return self.expect_message(conn, "error ", &[]);
            }
        }
        if ["keepalive", "ack"].contains(&&*kind.to_lowercase()) {
            return self.expect_message(conn, "ack", &[]);
        }
        if !is_chat {
            return self.schedule_relay(&membership.room, Some((conn, &membership.id)), &message);
        }
        let nick = membership.nick.unwrap_or_default();
        let what = match kind {
            "setUsername" => {
                let nick: String = message["username"].as_str().unwrap_or_default().trim().chars().take(20).collect();
                if nick.trim_end().is_empty() {
                    return;
                }
                let membership = self.memberships.iter_mut().find(|membership| membership.conn == conn);
                membership.expect("the connection is a member of a room").nick = Some(nick.clone());
                nick
            }
            "chatMessage" => format!("{nick} {}", message["text"]),
            "typing" => format!("{nick} {}", message["isTyping"]),
            // A username in the message is replaced.
            _ if message.is_object() => {
                let mut message = message.clone();
                message["username"] = nick.into();
                message.to_string()
            }
            _ => message.to_string(),
        };
        self.relay(&membership.room, Some(conn), &format!("{what} {}", membership.id), None);
    }

    /// Relays a message to a room, at once or after the delay that the message requests.
    fn schedule_relay(&mut self, room: &str, by: Option<(ConnId, &str)>, message: &Value) {
        let is_radio = room == "broadcast radio";
        let mut delay = None;
        if is_radio {
            let is_post = message["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("post"));
            let requested_delay =
                positive(message.get("delay")).or(positive(message.get("data").and_then(|data| data.get("delay"))));
            delay = requested_delay.filter(|_| is_post);
        }
        let what = format!("{} {}", framed(message), by.map_or("", |(_, id)| id));
        let (by, played) = (by.map(|(conn, _)| conn), is_radio.then(|| message.clone()));
        match delay {
            None => self.relay(room, by, &what, played.as_ref()),
            Some(seconds) => {
                let due = self.now + Duration::from_secs_f64(seconds.min(3_600.0));
                self.scheduled.push((due, Scheduled::Relay { room: room.to_owned(), by, what, played }));
            }
        }
    }

    /// The radio relays a message. Returns whether this or an earlier radio message contained a positive `durationSeconds`. This field is
    /// the duration of the content.
    pub(crate) fn on_radio_message(&mut self, message: &Value) -> bool {
        if message.to_string().len() <= 256 << 10 {
            self.radio.push(message.to_string());
        }
        let slots = [Some(message), message.get("metadata"), message.get("data")];
        let lengths = slots.into_iter().flatten().map(|slot| positive(slot.get("durationSeconds")));
        self.is_length_known |= lengths.flatten().next().is_some();
        self.is_length_known
    }

    /// A message is posted. Returns the number of recipients, or the reason why the message is rejected.
    pub(crate) fn on_post(&mut self, name: &str, typed: bool, body: &str) -> Result<usize, &'static str> {
        let message: Value = serde_json::from_str(body).map_err(|_| "not JSON")?;
        if !message.is_object() {
            return Err("no object");
        }
        let is_filled = message["type"].is_string() && message["timestamp"].is_string() && message["data"].is_object();
        if typed && !is_filled {
            return Err("a field");
        }
        if name == "radio" && message["data"].get("content").is_some_and(|content| content["id"].is_null()) {
            return Err("the room");
        }
        let room = format!("broadcast {name}");
        self.schedule_relay(&room, None, &message);
        Ok(self.members(&room).len())
    }
}
