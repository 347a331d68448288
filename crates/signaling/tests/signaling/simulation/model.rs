//! Membership and expected recipients, derived only from the protocol. The model uses plain lists and none of jamjam-dev's code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::action::{ClientDialect, Detail, Message, Target};

/// The limits of the simulated hub.
pub(crate) const MAX_UNDECIDED: usize = 6;
pub(crate) const MAX_ROOMS: usize = 3;
pub(crate) const MAX_MEMBERS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The last byte of the address.
    from: u8,
    pub(crate) dialect: ClientDialect,
    pub(crate) last_activity: u64,
    wrong_codes: u32,
}

#[derive(Clone, Debug)]
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
    /// The code, the end and the values of a control surface room.
    pub(crate) surface: Option<(&'static str, u64)>,
    values: BTreeMap<&'static str, f32>,
}

/// An action that waits for its time.
#[derive(Clone, Debug)]
pub(crate) enum Scheduled {
    Relay { room: String, by: Option<u64>, id: String, content: String },
    Value { room: String, by: u64, name: &'static str, value: f32 },
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
    opened: usize,
    /// The relayed messages of the radio room, oldest first.
    radio: Vec<String>,
    pub(crate) scheduled: Vec<(u64, Scheduled)>,
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

    pub(crate) fn surface(&mut self, code: &str) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.surface.is_some_and(|(known, _)| known == code))
    }

    /// Whether the client may create another room of its dialect.
    fn may_create(&self, conn: u64) -> bool {
        let Client { from, dialect, .. } = self.clients[&conn];
        let created = self.rooms.iter().filter(|room| room.surface.is_none() && room.from == from);
        created.filter(|room| room.name.starts_with(dialect.name())).count() < MAX_ROOMS
    }

    fn create(&mut self, conn: u64, name: String, title: &str) {
        let (from, title) = (self.clients[&conn].from, title.to_owned());
        self.rooms.push(Room { name, from, title, surface: None, values: BTreeMap::new() });
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
            is_occupied || room.surface.is_some() || room.name == next
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
            Target::Undecided => ClientDialect::Undecided,
            Target::Broadcast(_) => ClientDialect::Broadcast,
            Target::WebRtc(..) => ClientDialect::WebRtc,
        };
        let undecided = self.clients.iter().filter(|(_, client)| client.dialect == ClientDialect::Undecided);
        let undecided: Vec<u64> = undecided.map(|(conn, _)| *conn).collect();
        if dialect == ClientDialect::Undecided && undecided.len() >= MAX_UNDECIDED {
            self.close(undecided[0], 1_013);
        }
        self.clients.insert(conn, Client { from, dialect, last_activity: self.now, wrong_codes: 0 });
        let (Target::Broadcast(room) | Target::WebRtc(room, _)) = target else { return };
        let room = format!("{} {room}", dialect.name());
        let there = self.members_of(&room);
        if there.is_empty() && !self.may_create(conn) {
            return self.close(conn, 1_013);
        }
        let id = if let Target::WebRtc(_, user) = target { user } else { name };
        let former = there.iter().find(|member| dialect == ClientDialect::WebRtc && member.id == id);
        if dialect == ClientDialect::WebRtc && former.is_none() && there.len() >= MAX_MEMBERS {
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
        if dialect == ClientDialect::Broadcast {
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
        message: (Message, Detail, f32),
        [name, content]: &[String; 2],
        wanted: &str,
        reply: Option<&Value>,
    ) -> Option<()> {
        let now = self.now;
        let client = self.clients.get_mut(&conn)?;
        client.last_activity = now;
        let (message, detail, value) = message;
        if client.dialect == ClientDialect::Undecided && message != Message::Offer {
            client.dialect = if message == Message::JoinCode { ClientDialect::Bbx } else { ClientDialect::Jamjam };
        }
        let is_ignored = match client.dialect {
            ClientDialect::Undecided => true,
            ClientDialect::Jamjam => message == Message::Sync,
            ClientDialect::Bbx | ClientDialect::WebRtc => message == Message::Chat,
            ClientDialect::Broadcast => false,
        };
        if is_ignored {
            return None;
        }
        let own = self.members.iter().find(|member| member.conn == conn).cloned();
        match message {
            Message::CreateRoom if !self.may_create(conn) => self.expect(conn, "Error", &[]),
            Message::CreateRoom => {
                self.leave(conn, "");
                let [id, code] = ["room_id", "invite_code"].map(|name| reply.map(|reply| &reply["data"][name]));
                let [id, code] = [id?.as_str()?.to_owned(), code?.as_str()?.to_owned()];
                let room = format!("jamjam {id}");
                self.known.push([id, code]);
                self.create(conn, room.clone(), content);
                self.join(conn, &room, "", name);
                self.expect(conn, "RoomCreated", &[]);
            }
            Message::JoinRoom => self.join_room(conn, wanted, name),
            Message::LeaveRoom => self.leave(conn, ""),
            Message::ListRooms => {
                let titles = self.rooms.iter().filter(|room| room.name.starts_with("jamjam"));
                let titles: Vec<&str> = titles.map(|room| &*room.title).collect();
                self.expect(conn, "RoomList", &[&titles.join(" ")]);
            }
            Message::UpdatePeerInfo => {
                let own = own?;
                self.expect_for_others(&own.room, Some(conn), "PeerUpdated", &[&own.name]);
            }
            Message::Chat => {
                let own = own?;
                self.expect_for_others(&own.room, Some(conn), "ChatMessage", &[&own.name, content]);
            }
            Message::JoinCode => self.join_surface(conn, detail.code()),
            Message::Param => {
                let (room, name) = (own?.room, detail.param());
                match detail.delay_ms() {
                    delay @ 1..=60_000 => {
                        self.scheduled.push((now + delay, Scheduled::Value { room, by: conn, name, value }));
                    }
                    _ => self.set(&room, Some(conn), name, value),
                }
            }
            Message::Sync => {
                let room = own?.room;
                let values = &self.rooms.iter().find(|other| other.name == room)?.values;
                let values: Vec<_> = values.iter().map(|(name, value)| format!("\"{name}\"={value}")).collect();
                self.expect(conn, &format!("state {values:?}"), &[]);
            }
            Message::Leave => self.close(conn, 1_000),
            Message::Offer => {
                let own = own?;
                let target = self.members_of(&own.room).into_iter().find(|member| member.id == detail.user())?;
                self.expect(target.conn, &format!("offer from \"{}\"", own.id), &[content]);
            }
            Message::Update => {
                let own = own?;
                let kind = format!("participant-update from \"{}\"", own.id);
                self.expect_for_others(&own.room, Some(conn), &kind, &[content]);
            }
            Message::Participants => self.expect(conn, "participants-list", &[&self.names(&own?.room)]),
            Message::Relay | Message::Post => {
                let Member { room, id, .. } = own?;
                let delay = if message == Message::Post && room == "broadcast radio" { detail.delay_ms() } else { 0 };
                if delay == 0 {
                    self.relay(&room, Some(conn), &id, content);
                } else {
                    let relay = Scheduled::Relay { room, by: Some(conn), id, content: content.clone() };
                    self.scheduled.push((now + delay, relay));
                }
            }
            Message::Ack => self.expect(conn, "ack", &[]),
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

    /// Joins a control surface room. The 20th wrong code closes the connection.
    fn join_surface(&mut self, conn: u64, code: &str) {
        let Some(room) = self.surface(code).map(|room| room.name.clone()) else {
            self.expect(conn, "error INVALID_ROOM", &[]);
            let client = self.clients.get_mut(&conn).expect("a client");
            client.wrong_codes += 1;
            if client.wrong_codes == 20 {
                self.close(conn, 1_008);
            }
            return;
        };
        if self.members_of(&room).iter().filter(|member| member.conn != conn).count() >= MAX_MEMBERS {
            return self.expect(conn, "error ROOM_FULL", &[]);
        }
        self.leave(conn, "");
        self.join(conn, &room, "", "");
        self.expect(conn, "welcome", &[]);
    }

    pub(crate) fn relay(&mut self, room: &str, by: Option<u64>, id: &str, content: &str) {
        let name = room.trim_start_matches("broadcast ");
        self.expect_for_others(room, by, &format!("{name}-content"), &[id, content]);
        if name == "radio" {
            self.radio.push(content.to_owned());
        }
    }

    /// Sets a value in a control surface room, if the room still exists.
    pub(crate) fn set(&mut self, room: &str, by: Option<u64>, name: &'static str, value: f32) {
        let Some(found) = self.rooms.iter_mut().find(|other| other.name == room) else { return };
        found.values.insert(name, value);
        self.expect_for_others(room, by, &format!("update \"{name}\"={value}"), &[]);
    }

    /// The application opens a control surface room. Returns whether the code is free.
    pub(crate) fn open_surface(&mut self, code: &'static str, ends: u64) -> bool {
        let is_free = self.surface(code).is_none();
        if is_free {
            self.opened += 1;
            let (name, surface) = (format!("bbx {}", self.opened), Some((code, ends)));
            self.rooms.push(Room { name, from: u8::MAX, title: String::new(), surface, values: BTreeMap::new() });
        }
        is_free
    }

    /// Closes a control surface room. Returns the number of its members.
    pub(crate) fn close_surface(&mut self, room: &str) -> usize {
        let members = self.members_of(room);
        for member in &members {
            self.expect(member.conn, "closed", &[]);
            self.close(member.conn, 1_000);
        }
        self.rooms.retain(|other| other.name != room);
        members.len()
    }

    /// Performs what is due, and removes the connections that the hub has dropped. Returns whether all of them had timed out.
    pub(crate) fn on_deadline(&mut self, dropped: &[u64]) -> bool {
        let is_over = |room: &&Room| room.surface.is_some_and(|(_, ends)| ends <= self.now);
        let over: Vec<String> = self.rooms.iter().filter(is_over).map(|room| room.name.clone()).collect();
        for room in over {
            self.close_surface(&room);
        }
        let (mut due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.scheduled).into_iter().partition(|(at, _)| *at <= self.now);
        self.scheduled = waiting;
        due.sort_by_key(|(at, _)| *at);
        for (_, due) in due {
            match due {
                Scheduled::Relay { room, by, id, content } => self.relay(&room, by, &id, &content),
                Scheduled::Value { room, by, name, value } => self.set(&room, Some(by), name, value),
            }
        }
        let have_timed_out = dropped.iter().all(|conn| self.silence(*conn).is_some_and(|(silent, max)| silent >= max));
        for conn in dropped {
            self.on_disconnect(*conn);
        }
        have_timed_out
    }

    /// How long a connection has been silent, and after which time the hub drops it, in milliseconds.
    fn silence(&self, conn: u64) -> Option<(u64, u64)> {
        let client = self.clients.get(&conn)?;
        let timeout = match client.dialect {
            ClientDialect::Undecided | ClientDialect::Jamjam => return None,
            ClientDialect::Broadcast | ClientDialect::WebRtc => 60_000,
            ClientDialect::Bbx => 30_000,
        };
        Some((self.now - client.last_activity, timeout))
    }

    /// Whether a timeout or a scheduled action was missed. A client is pinged at most twice before it is dropped.
    pub(crate) fn is_overdue(&self) -> bool {
        let is_late = |conn: &u64| self.silence(*conn).is_some_and(|(silent, max)| silent >= 2 * max);
        self.clients.keys().any(is_late) || self.scheduled.iter().any(|(at, _)| *at <= self.now)
    }
}
