//! Which handler a broadcast room has: one by its name, or the one for all others.

use std::collections::BTreeMap;

use crate::rooms::handler::RoomHandler;
use crate::rooms::handlers::{Chat, Plain, Radio};

/// The handlers by the names of their rooms.
pub struct Registry {
    named: BTreeMap<String, Box<dyn RoomHandler>>,
    other: Box<dyn RoomHandler>,
}

impl Default for Registry {
    /// `radio` and `chat`; all other rooms relay everything.
    fn default() -> Self {
        let mut registry = Self { named: BTreeMap::new(), other: Box::new(Plain) };
        registry.insert("radio", Radio::default());
        registry.insert("chat", Chat::default());
        registry
    }
}

impl Registry {
    /// Gives the room of this name to `handler`, in place of the one that had it.
    pub fn insert(&mut self, room: &str, handler: impl RoomHandler + 'static) {
        self.named.insert(room.to_owned(), Box::new(handler));
    }

    /// The names of the rooms that have a handler of their own, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The handler of a room.
    pub(in crate::rooms) fn of(&mut self, room: &str) -> &mut dyn RoomHandler {
        match self.named.get_mut(room) {
            Some(handler) => handler.as_mut(),
            None => self.other.as_mut(),
        }
    }
}
