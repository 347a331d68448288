//! From a connection that is open to the first question: who has to join does, and waits for the welcome.

use serde_json::json;

use super::Dialect;
use super::told::Told;

/// What a program calls itself in a room.
const NAME: &str = "jamjam-dev probe";

/// The server lets nobody in, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// The way into a room.
#[derive(Debug)]
pub struct Entrance {
    dialect: Dialect,
    /// Of a room of control surfaces.
    code: Option<String>,
    is_in: bool,
}

impl Entrance {
    /// The way in. `code`: into this room of control surfaces, which answer pings outside of rooms too.
    pub fn new(dialect: Dialect, code: Option<String>) -> Self {
        let is_in = match dialect {
            Dialect::Jamjam => true,
            Dialect::Bbx => code.is_none(),
            Dialect::Broadcast | Dialect::Webrtc => false,
        };
        Self { dialect, code, is_in }
    }

    /// What to say first, if anything.
    pub fn greeting(&self) -> Option<String> {
        let code = self.code.as_ref().filter(|_| self.dialect == Dialect::Bbx)?;
        Some(json!({"type": "join", "room_code": code, "client_name": NAME}).to_string())
    }

    /// Whether questions may be asked.
    pub fn is_in(&self) -> bool {
        self.is_in
    }

    /// Takes what the server says.
    pub fn hear(&mut self, text: &str) -> Result<(), Refused> {
        let Some(told) = Told::read(text) else { return Ok(()) };
        self.is_in |= told.is_welcome();
        match told.error() {
            Some(words) if !self.is_in => Err(Refused(words.to_owned())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn who_needs_no_room_asks_at_once() {
        for dialect in [Dialect::Jamjam, Dialect::Bbx] {
            let entrance = Entrance::new(dialect, None);
            assert_eq!((entrance.is_in(), entrance.greeting()), (true, None));
        }
    }

    #[test]
    fn a_code_is_shown_and_the_welcome_waited_for() {
        let mut entrance = Entrance::new(Dialect::Bbx, Some("12\"4".to_owned()));
        let said: Value = serde_json::from_str(&entrance.greeting().unwrap()).unwrap();
        assert_eq!(said, json!({"type": "join", "room_code": "12\"4", "client_name": "jamjam-dev probe"}));
        for other in ["", "x", "[]", r#"{"type":"update","param":"a","value":1}"#] {
            assert_eq!((entrance.hear(other), entrance.is_in()), (Ok(()), false), "{other}");
        }
        let refused = entrance.hear(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid room code"}"#);
        assert_eq!(refused, Err(Refused("Invalid room code".to_owned())));
        assert_eq!(entrance.hear(r#"{"type":"welcome","node_id":"n","server_time":1}"#), Ok(()));
        assert!(entrance.is_in());
    }

    #[test]
    fn members_are_in_when_they_are_welcome_and_say_nothing_before() {
        for dialect in [Dialect::Broadcast, Dialect::Webrtc] {
            let mut entrance = Entrance::new(dialect, None);
            assert_eq!((entrance.is_in(), entrance.greeting()), (false, None));
            entrance.hear(r#"{"type":"welcome","room":"r"}"#).unwrap();
            assert!(entrance.is_in());
        }
    }
}
