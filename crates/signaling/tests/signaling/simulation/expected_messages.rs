//! The messages that are expected after a jamjam client, control surface or WebRTC participant sends a text message.

use std::net::SocketAddr;

use jamjam_signaling::ConnId;
use serde_json::Value;

use crate::simulation::model::{ClientDialect, CreatedRoom, MAX_MEMBERS, MAX_ROOMS, Membership, Model, Scheduled};
use crate::simulation::received_messages::ReceivedMessages;

const JAMJAM: [&str; 6] = ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];
const BBX: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// A string member; `None` for any other type.
fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// Checks an optional member: it is absent, null or of the right type.
fn optional(object: &Value, name: &str, is_right: fn(&Value) -> bool) -> Option<()> {
    object.get(name).is_none_or(|value| value.is_null() || is_right(value)).then_some(())
}

impl Model {
    /// A client sends a text. Names that the server generates are taken from the server's response.
    pub(crate) fn on_text(&mut self, conn: ConnId, text_sent: &str, received: &ReceivedMessages) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(&conn) else { return };
        (client.last_activity, client.last_text) = (now, now);
        if client.dialect == ClientDialect::Broadcast {
            return self.on_broadcast_message(conn, text_sent);
        }
        if text_sent.len() > 256 << 10 {
            return;
        }
        let Ok(message) = serde_json::from_str::<Value>(text_sent) else { return };
        let Some(kind) = text(&message, "type").map(str::to_owned) else { return };
        if client.dialect == ClientDialect::Undecided {
            client.dialect = match &*kind {
                kind if JAMJAM.contains(&kind) => ClientDialect::Jamjam,
                "ping" if message.get("client_time").is_none() => return,
                kind if BBX.contains(&kind) => ClientDialect::Bbx,
                _ => return,
            };
        }
        // Invalid messages are ignored.
        let _ = match client.dialect {
            ClientDialect::Jamjam => self.on_jamjam_message(conn, &kind, &message["data"], received),
            ClientDialect::Bbx => self.on_control_surface_message(conn, &kind, &message),
            _ => self.on_webrtc_message(conn, &kind, &message),
        };
    }

    /// The 20th wrong room code or password closes the connection.
    fn count_failed_guess(&mut self, conn: ConnId) -> Option<()> {
        let client = self.clients.get_mut(&conn)?;
        client.failed_guesses += 1;
        if client.failed_guesses >= 20 {
            self.close(conn, 1_008);
        }
        Some(())
    }

    fn on_jamjam_message(&mut self, conn: ConnId, kind: &str, data: &Value, received: &ReceivedMessages) -> Option<()> {
        let from = self.clients[&conn].from;
        let own = self.membership(conn).cloned();
        let room = own.as_ref().map(|membership| membership.room.as_str());
        match kind {
            "CreateRoom" => {
                let (title, name) = (text(data, "room_name")?, text(data, "peer_name")?);
                optional(data, "password", Value::is_string)?;
                let password = text(data, "password").map(str::to_owned);
                if self.rooms_created_by(from, ClientDialect::Jamjam) >= MAX_ROOMS {
                    self.expect_message(conn, "Error", &[]);
                    return Some(());
                }
                self.leave(conn, None);
                let room = format!("jamjam #{}", self.known.len());
                let mut created = received
                    .delivered
                    .iter()
                    .filter(|(other, _)| *other == conn)
                    .map(|(_, delivered)| &delivered["data"]);
                let created = created.find(|data| data["invite_code"].is_string())?;
                let [id, code] =
                    ["room_id", "invite_code"].map(|name| created[name].as_str().unwrap_or_default().to_owned());
                self.known.push((room.clone(), id, code));
                self.created.push(CreatedRoom { room: room.clone(), from, title: title.to_owned(), password });
                self.expect_message(conn, "RoomCreated", &[]);
                self.add_member(Membership {
                    room,
                    conn,
                    control: false,
                    id: String::new(),
                    name: name.to_owned(),
                    nick: None,
                });
            }
            "JoinRoom" => {
                let (wanted, name) = (text(data, "room_id")?, text(data, "peer_name")?);
                optional(data, "password", Value::is_string)?;
                let password = text(data, "password");
                let known = self.known.iter().find(|(_, id, code)| [id, code].contains(&&wanted.to_owned()));
                let created =
                    known.and_then(|(room, ..)| self.created.iter().find(|created| created.room == *room)).cloned();
                let has_password = created.is_some();
                let Some(created) =
                    created.filter(|created| created.password.is_none() || created.password.as_deref() == password)
                else {
                    self.expect_message(conn, "Error", &[]);
                    if has_password {
                        self.count_failed_guess(conn)?;
                    }
                    return Some(());
                };
                if self.members(&created.room).len() >= 10 {
                    self.expect_message(conn, "Error", &[]);
                    return Some(());
                }
                self.leave(conn, Some(&created.room));
                let there = self.names(&created.room);
                let there: Vec<&str> = there.iter().map(String::as_str).collect();
                self.expect_message(conn, "RoomJoined", &there);
                self.expect_for_others(&created.room, None, "PeerJoined", &[name]);
                self.add_member(Membership {
                    room: created.room,
                    conn,
                    control: false,
                    id: String::new(),
                    name: name.to_owned(),
                    nick: None,
                });
            }
            "LeaveRoom" if data.is_null() => self.leave(conn, None),
            "UpdatePeerInfo" if data.is_object() && data.get("candidates").is_none() => {
                for address in ["public_addr", "local_addr"] {
                    optional(data, address, Value::is_string)?;
                    text(data, address).is_none_or(|address| address.parse::<SocketAddr>().is_ok()).then_some(())?;
                }
                self.expect_for_others(room?, Some(conn), "PeerUpdated", &[&own.as_ref()?.name]);
            }
            "ListRooms" if data.is_null() => {
                let titles: Vec<String> = self
                    .created
                    .iter()
                    .filter(|created| created.room.starts_with("jamjam"))
                    .map(|created| created.title.clone())
                    .collect();
                self.expect_message(conn, "RoomList", &titles.iter().map(String::as_str).collect::<Vec<_>>());
            }
            "ChatMessage" => {
                let (_, _, content) = (text(data, "sender_id")?, text(data, "sender_name")?, text(data, "content")?);
                data.get("timestamp")?.as_u64()?;
                self.expect_for_others(room?, Some(conn), "ChatMessage", &[&own.as_ref()?.name, content]);
            }
            _ => {}
        }
        Some(())
    }

    fn on_control_surface_message(&mut self, conn: ConnId, kind: &str, message: &Value) -> Option<()> {
        let room = self.membership(conn).map(|membership| membership.room.clone());
        let code =
            |model: &Self, room: &str| model.opened.iter().find(|opened| opened.room == room).map(|opened| opened.code);
        match kind {
            "join" => {
                let wanted = text(message, "room_code")?;
                let Some(found) =
                    self.opened.iter().find(|opened| opened.code == wanted).map(|opened| opened.room.clone())
                else {
                    self.expect_message(conn, "error INVALID_ROOM", &[]);
                    self.count_failed_guess(conn)?;
                    return Some(());
                };
                if self.members(&found).iter().filter(|membership| membership.conn != conn).count() >= MAX_MEMBERS {
                    self.expect_message(conn, "error ROOM_FULL", &[]);
                    return Some(());
                }
                self.leave(conn, None);
                self.expect_message(conn, "welcome", &[]);
                self.add_member(Membership {
                    room: found,
                    conn,
                    control: false,
                    id: String::new(),
                    name: String::new(),
                    nick: None,
                });
            }
            "param" => {
                let (name, value) = (text(message, "param")?, message.get("value")?.as_f64()? as f32);
                optional(message, "at", Value::is_number)?;
                let room = room?;
                if !value.is_finite() {
                    return None;
                }
                self.events.push((code(self, &room)?.to_owned(), name.to_owned(), Some(value)));
                let ahead = message["at"].as_f64().map_or(0, |at| (at as u64).saturating_sub(self.now.as_micros()));
                if ahead == 0 || ahead > 60_000_000 {
                    self.set(&room, Some(conn), name, value);
                } else {
                    let due = self.now + std::time::Duration::from_micros(ahead);
                    self.scheduled.push((due, Scheduled::Value { room, by: conn, name: name.to_owned(), value }));
                }
            }
            "trigger" => {
                let name = text(message, "name")?;
                optional(message, "at", Value::is_number)?;
                self.events.push((code(self, &room?)?.to_owned(), name.to_owned(), None));
            }
            "sync" => {
                let room = room?;
                let opened = self.opened.iter().find(|opened| opened.room == room)?;
                let shown = opened.values.iter().map(|(name, value)| {
                    let (min, max) = self.ranges.get(name).copied().unwrap_or((0.0, 1.0));
                    format!("\"{name}\"={value} of {min} to {max}")
                });
                let state = format!("state {:?}", shown.collect::<Vec<_>>());
                self.expect_message(conn, &state, &[]);
            }
            "ping" if message.get("client_time").is_some_and(Value::is_number) => {
                self.expect_message(conn, "pong", &[]);
            }
            "leave" => self.close(conn, 1_000),
            _ => {}
        }
        Some(())
    }

    fn on_webrtc_message(&mut self, conn: ConnId, kind: &str, message: &Value) -> Option<()> {
        let own = self.membership(conn)?.clone();
        let part = match kind {
            "offer" | "answer" => "sdp",
            "ice-candidate" => "candidate",
            "participant-update" => "updates",
            "call-ended" => "",
            "request-participants" => {
                let all = self.names(&own.room);
                self.expect_message(conn, "participants-list", &all.iter().map(String::as_str).collect::<Vec<_>>());
                return Some(());
            }
            "ping" => {
                self.expect_message(conn, "pong", &[]);
                return Some(());
            }
            _ => return None,
        };
        let relayed = message.get(part).map(Value::to_string).unwrap_or_default();
        let kind = format!("{kind} from \"{}\"", own.id);
        if part == "updates" {
            self.expect_for_others(&own.room, Some(conn), &kind, &[&relayed]);
        } else {
            let target = text(message, "targetUserId")?;
            let target = self.members(&own.room).into_iter().find(|membership| membership.id == target)?;
            self.expect_message(target.conn, &kind, &[&relayed]);
        }
        Some(())
    }
}
