//! Membership and expected recipients, derived only from the protocol. The model uses plain lists and none of jamjam-dev's code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::action::{CODES, Target, Values};

/// The limits of the simulated hub.
pub(crate) const MAX_UNDECIDED: usize = 6;
pub(crate) const MAX_ROOMS: usize = 3;
pub(crate) const MAX_MEMBERS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The last byte of the address.
    from: u8,
    pub(crate) dialect: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) room: String,
    pub(crate) conn: u64,
    /// The user of WebRTC, or the client id of a broadcast room.
    id: String,
    name: String,
}

/// A room. Its name is the dialect and an id that no other room of the dialect ever has, or the name that clients join.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) name: String,
    /// The address of the client that created the room, and the title of a jamjam room.
    from: u8,
    title: String,
    /// The values of a control surface room.
    values: BTreeMap<&'static str, f32>,
}

#[derive(Default)]
pub(crate) struct Model {
    /// Milliseconds since the start.
    pub(crate) now: u64,
    pub(crate) clients: BTreeMap<u64, Client>,
    /// In the order of joining.
    pub(crate) members: Vec<Member>,
    /// In the order of creation.
    pub(crate) rooms: Vec<Room>,
    /// Ids and invite codes of all jamjam rooms that ever existed.
    pub(crate) known: Vec<[String; 2]>,
    /// The relayed messages of the radio room, oldest first.
    radio: Vec<String>,
    /// Expected messages: the connection, and the short form of the message.
    pub(crate) expected: Vec<(u64, String)>,
    pub(crate) closed: Vec<(u64, u16)>,
}

/// The short form of a message: its type and the marks that it contains, sorted. A mark is a text such as `m17x`.
pub(crate) fn short_form(kind: &str, text: &str) -> String {
    let is_mark = |word: &&str| {
        word.starts_with('m') && word.ends_with('x') && word[1..].starts_with(|c: char| c.is_ascii_digit())
    };
    let mut marks: Vec<&str> = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(is_mark).collect();
    marks.sort_unstable();
    format!("{kind} {}", marks.join(" "))
}

impl Model {
    pub(crate) fn new() -> Self {
        let surface =
            |code| Room { name: format!("bbx {code}"), from: u8::MAX, title: String::new(), values: BTreeMap::new() };
        Self { rooms: CODES.map(surface).into(), ..Self::default() }
    }

    fn expect(&mut self, conn: u64, kind: &str, parts: &[&str]) {
        self.expected.push((conn, short_form(kind, &parts.join(" "))));
    }

    /// All members of the room expect a message, except one.
    fn expect_for_others(&mut self, room: &str, but: Option<u64>, kind: &str, parts: &[&str]) {
        for member in self.members_of(room) {
            if Some(member.conn) != but {
                self.expect(member.conn, kind, parts);
            }
        }
    }

    pub(crate) fn members_of(&self, room: &str) -> Vec<Member> {
        self.members.iter().filter(|member| member.room == room).cloned().collect()
    }

    fn names(&self, room: &str) -> String {
        let names: Vec<String> = self.members_of(room).into_iter().map(|member| member.name).collect();
        names.join(" ")
    }

    /// Whether the client may create another room of its dialect.
    fn may_create(&self, conn: u64) -> bool {
        let Client { from, dialect, .. } = self.clients[&conn];
        let created = self.rooms.iter().filter(|room| room.name.starts_with(dialect) && room.from == from);
        created.count() < MAX_ROOMS
    }

    fn create(&mut self, conn: u64, name: String, title: &str) {
        let (from, title) = (self.clients[&conn].from, title.to_owned());
        self.rooms.push(Room { name, from, title, values: BTreeMap::new() });
    }

    fn join(&mut self, conn: u64, room: &str, id: &str, name: &str) {
        self.members.push(Member { room: room.to_owned(), conn, id: id.to_owned(), name: name.to_owned() });
    }

    /// Removes a client from its room, and then the rooms that are empty, except the one that the client joins next.
    fn leave(&mut self, conn: u64, next: &str) {
        let Some(slot) = self.members.iter().position(|member| member.conn == conn) else { return };
        let Member { room, name, .. } = self.members.remove(slot);
        if room.starts_with("jamjam") {
            self.expect_for_others(&room, None, "PeerLeft", &[]);
        } else if room.starts_with("webrtc") {
            self.expect_for_others(&room, None, "participant-left", &[&self.names(&room), &name]);
        }
        let Self { rooms, members, .. } = self;
        rooms.retain(|room| {
            let is_occupied = members.iter().any(|member| member.room == room.name);
            is_occupied || room.name.starts_with("bbx") || room.name == next
        });
    }

    pub(crate) fn on_disconnect(&mut self, conn: u64) {
        self.leave(conn, "");
        self.clients.remove(&conn);
    }

    /// The server closes the connection.
    fn close(&mut self, conn: u64, code: u16) {
        self.on_disconnect(conn);
        self.closed.push((conn, code));
    }

    pub(crate) fn on_connect(&mut self, conn: u64, from: u8, target: Target, name: &str) {
        let dialect = match target {
            Target::Undecided => "undecided",
            Target::Broadcast(_) => "broadcast",
            Target::WebRtc(..) => "webrtc",
        };
        let undecided = self.clients.iter().filter(|(_, client)| client.dialect == "undecided");
        let undecided: Vec<u64> = undecided.map(|(conn, _)| *conn).collect();
        if dialect == "undecided" && undecided.len() >= MAX_UNDECIDED {
            self.close(undecided[0], 1_013);
        }
        self.clients.insert(conn, Client { from, dialect });
        let (Target::Broadcast(room) | Target::WebRtc(room, _)) = target else { return };
        let room = format!("{dialect} {room}");
        let there = self.members_of(&room);
        if there.is_empty() && !self.may_create(conn) {
            return self.close(conn, 1_013);
        }
        let id = if let Target::WebRtc(_, user) = target { user } else { name };
        let former = there.iter().find(|member| dialect == "webrtc" && member.id == id);
        if dialect == "webrtc" && former.is_none() && there.len() >= MAX_MEMBERS {
            return self.close(conn, 1_013);
        }
        if there.is_empty() {
            self.create(conn, room.clone(), "");
        }
        if let Some(former) = former {
            // The other members are not informed that the former connection of the user leaves.
            self.members.retain(|member| member.conn != former.conn);
            self.clients.remove(&former.conn);
            self.closed.push((former.conn, 1_000));
        }
        let others = self.names(&room);
        self.join(conn, &room, id, name);
        if dialect == "broadcast" {
            let history = if room == "broadcast radio" { self.radio.clone() } else { Vec::new() };
            return self.expect(conn, "welcome", &[&history[history.len().saturating_sub(5)..].join(" ")]);
        }
        self.expect_for_others(&room, Some(conn), "participant-joined", &[name, &others, name]);
        self.expect(conn, "welcome", &[&others, name]);
        if !others.is_empty() {
            self.expect(conn, "existing-participants", &[&others]);
        }
    }

    /// A client sends a message. `reply` is the reply of the hub, which contains the id and the code of a created room.
    pub(crate) fn on_message(
        &mut self,
        conn: u64,
        message: (&str, Values, f32),
        [name, content]: &[String; 2],
        wanted: &str,
        reply: Option<&Value>,
    ) -> Option<()> {
        let client = self.clients.get_mut(&conn)?;
        let (message, Values { code, user, param }, value) = message;
        if client.dialect == "undecided" && message != "offer" {
            client.dialect = if message == "join" { "bbx" } else { "jamjam" };
        }
        let is_ignored = match client.dialect {
            "undecided" => true,
            "jamjam" => message == "sync",
            "bbx" | "webrtc" => message == "Chat",
            _ => false,
        };
        if is_ignored {
            return None;
        }
        // The room of a client that is in none has no name and no members.
        let own = self.members.iter().find(|member| member.conn == conn).cloned().unwrap_or_default();
        match message {
            "CreateRoom" if !self.may_create(conn) => self.expect(conn, "Error", &[]),
            "CreateRoom" => {
                self.leave(conn, "");
                let [id, code] = ["room_id", "invite_code"].map(|name| reply.map(|reply| &reply["data"][name]));
                let [id, code] = [id?.as_str()?.to_owned(), code?.as_str()?.to_owned()];
                let room = format!("jamjam {id}");
                self.known.push([id, code]);
                self.create(conn, room.clone(), content);
                self.join(conn, &room, "", name);
                self.expect(conn, "RoomCreated", &[]);
            }
            "JoinRoom" => self.join_room(conn, wanted, name),
            "LeaveRoom" => self.leave(conn, ""),
            "ListRooms" => {
                let titles = self.rooms.iter().filter(|room| room.name.starts_with("jamjam"));
                let titles: Vec<&str> = titles.map(|room| &*room.title).collect();
                self.expect(conn, "RoomList", &[&titles.join(" ")]);
            }
            "UpdatePeerInfo" => self.expect_for_others(&own.room, Some(conn), "PeerUpdated", &[&own.name]),
            "Chat" => self.expect_for_others(&own.room, Some(conn), "ChatMessage", &[&own.name, content]),
            "join" => self.join_surface(conn, code),
            "param" => {
                self.rooms.iter_mut().find(|other| other.name == own.room)?.values.insert(param, value);
                self.expect_for_others(&own.room, Some(conn), &format!("update \"{param}\"={value}"), &[]);
            }
            "sync" => {
                let values = &self.rooms.iter().find(|other| other.name == own.room)?.values;
                let values: Vec<_> = values.iter().map(|(name, value)| format!("\"{name}\"={value}")).collect();
                self.expect(conn, &format!("state {values:?}"), &[]);
            }
            "leave" => self.close(conn, 1_000),
            "offer" => {
                let target = self.members_of(&own.room).into_iter().find(|member| member.id == user)?;
                self.expect(target.conn, &format!("offer from \"{}\"", own.id), &[content]);
            }
            "update" => {
                let kind = format!("participant-update from \"{}\"", own.id);
                self.expect_for_others(&own.room, Some(conn), &kind, &[content]);
            }
            "participants" => self.expect(conn, "participants-list", &[&self.names(&own.room)]),
            "relay" => {
                let Member { room, id, .. } = own;
                let name = room.trim_start_matches("broadcast ");
                self.expect_for_others(&room, Some(conn), &format!("{name}-content"), &[&id, content]);
                if name == "radio" {
                    self.radio.push(content.clone());
                }
            }
            _ => self.expect(conn, "ack", &[]),
        }
        Some(())
    }

    fn join_room(&mut self, conn: u64, wanted: &str, name: &str) {
        let id = self.known.iter().find(|names| names.iter().any(|name| name == wanted)).map(|names| &names[0]);
        let room = format!("jamjam {}", id.map_or("", String::as_str));
        if self.rooms.iter().all(|other| other.name != room) || self.members_of(&room).len() >= 10 {
            return self.expect(conn, "Error", &[]);
        }
        self.leave(conn, &room);
        self.expect(conn, "RoomJoined", &[&self.names(&room)]);
        self.expect_for_others(&room, None, "PeerJoined", &[name]);
        self.join(conn, &room, "", name);
    }

    fn join_surface(&mut self, conn: u64, code: &str) {
        let room = format!("bbx {code}");
        if self.members_of(&room).iter().filter(|member| member.conn != conn).count() >= MAX_MEMBERS {
            return self.expect(conn, "error ROOM_FULL", &[]);
        }
        self.leave(conn, "");
        self.join(conn, &room, "", "");
        self.expect(conn, "welcome", &[]);
    }
}
