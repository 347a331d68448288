//! A room that is declared in a file: what most rooms differ in, without writing a handler.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::rooms::handler::{Client, Context, Relay, Room, RoomHandler, welcome};

/// A room as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Whether a token is needed to join.
    pub requires_auth: bool,
    /// How long every message waits before it is relayed.
    pub broadcast_delay: Duration,
    /// Members of the welcome frame, beside or in place of the usual ones.
    pub welcome: Map<String, Value>,
    /// The most members.
    pub max_clients: Option<usize>,
    /// Whether `processed` and the time in milliseconds as `timestamp` are added to messages.
    pub stamp: bool,
}

impl Default for Declared {
    fn default() -> Self {
        Self {
            requires_auth: true,
            broadcast_delay: Duration::ZERO,
            welcome: Map::new(),
            max_clients: None,
            stamp: false,
        }
    }
}

impl Declared {
    fn stamped(&self, room: &Room<'_>, mut payload: Value) -> Relay {
        if let (true, Some(members)) = (self.stamp, payload.as_object_mut()) {
            members.insert("processed".to_owned(), true.into());
            members.insert("timestamp".to_owned(), room.unix_ms().into());
        }
        Relay::Message(payload)
    }
}

impl RoomHandler for Declared {
    fn requires_auth(&self) -> bool {
        self.requires_auth
    }

    fn max_clients(&self) -> Option<usize> {
        self.max_clients
    }

    fn welcome_message(&mut self, room: &Room<'_>, _: &Client) -> String {
        let mut frame = welcome(room);
        if let Some(members) = frame.as_object_mut() {
            members.extend(self.welcome.clone());
        }
        frame.to_string()
    }

    fn on_message(&mut self, room: &Room<'_>, _: &Client, payload: Value) -> Option<Relay> {
        Some(self.stamped(room, payload))
    }

    fn on_http_post(&mut self, room: &Room<'_>, payload: Value) -> Option<Relay> {
        Some(self.stamped(room, payload))
    }

    fn broadcast_delay(&self, _: &Context<'_>) -> Duration {
        self.broadcast_delay
    }
}
