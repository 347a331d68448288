//! Rooms as a person or a program reads them: a table, or one JSON document. What others called their rooms is made harmless.

use std::fmt::Write;

use serde::Serialize;

use crate::rooms::harmless::harmless;
use crate::rooms::jamjam::messages::Listed;

/// Raised when a field of the document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// The rooms as a table with a line of headings, or `no rooms`. The name is last: its width depends on the reader's letters.
pub fn table(rooms: &[Listed]) -> String {
    if rooms.is_empty() {
        return "no rooms".to_owned();
    }
    let mut text = "id        invite code  members  password  name".to_owned();
    for room in rooms {
        let [id, code] = [&room.id, &room.invite_code].map(|text| harmless(text));
        let members = format!("{}/{}", room.peer_count, room.max_peers);
        let password = if room.has_password { "yes" } else { "no" };
        // Writing to a string cannot fail.
        _ = write!(text, "\n{id:<8}  {code:<11}  {members:>7}  {password:<8}  {}", harmless(&room.name));
    }
    text
}

/// The rooms as one JSON document, `docs/rooms.schema.json`: over many lines, or on one.
pub fn document(rooms: &[Listed], on_one_line: bool) -> serde_json::Result<String> {
    let document = Document {
        kind: "rooms",
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION"),
        rooms: rooms.iter().map(Room::from).collect(),
    };
    if on_one_line { serde_json::to_string(&document) } else { serde_json::to_string_pretty(&document) }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema_version: u32,
    tool_version: &'static str,
    rooms: Vec<Room<'a>>,
}

#[derive(Serialize)]
struct Room<'a> {
    id: &'a str,
    invite_code: &'a str,
    name: &'a str,
    members: usize,
    max_members: usize,
    has_password: bool,
}

impl<'a> From<&'a Listed> for Room<'a> {
    fn from(room: &'a Listed) -> Self {
        Self {
            id: &room.id,
            invite_code: &room.invite_code,
            name: &room.name,
            members: room.peer_count,
            max_members: room.max_peers,
            has_password: room.has_password,
        }
    }
}
