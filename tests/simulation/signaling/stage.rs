//! The hub and the world beside each other: each deed is done to both, and all that the one said must be what the other expected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::signaling::broadcast::{BroadcastSettings, PostError, PostFormat};
use jamjam_dev::signaling::token::{Claims, Secret, sign};
use jamjam_dev::signaling::{
    ConnId, ControlSurfaceLimits, CreateRoomOptions, DialectSet, Hub, NewConnection, SignalingLimits, route,
};
use jamjam_dev::time::Time;
use serde_json::{Map, json};

use crate::signaling::deed::{CODES, Deed, ROOMS, Token, mutated, text};
use crate::signaling::ears::{Ears, heard};
use crate::signaling::world::{IDLE, MOST_MEMBERS, MOST_ROOMS, MOST_UNDECIDED, Opened, Speaks, World};

/// Addresses that clients come from.
pub(crate) const ADDRESSES: usize = 4;

pub(crate) struct Stage {
    pub(crate) hub: Hub,
    pub(crate) world: World,
    pub(crate) places: BTreeMap<usize, ConnId>,
    /// Every kind of thing that was heard or happened.
    pub(crate) seen: BTreeSet<String>,
    last: u64,
    serial: u64,
}

/// What the hub did is not what it should have.
pub(crate) type Fault = String;

#[expect(clippy::needless_pass_by_value, reason = "most of what is compared is made to be")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, done: T, expected: T) -> Result<(), Fault> {
    if done == expected { Ok(()) } else { Err(format!("{what}: {done:?}, and not {expected:?}")) }
}

fn secret() -> Secret {
    Secret::new("secret")
}

impl Stage {
    pub(crate) fn new() -> Self {
        let broadcast =
            BroadcastSettings { secret: Some(secret()), idle_timeout: Some(IDLE), ..BroadcastSettings::default() };
        let control_surface = ControlSurfaceLimits { max_members: MOST_MEMBERS, ..ControlSurfaceLimits::default() };
        let limits = SignalingLimits {
            message_rate: None,
            max_undecided: MOST_UNDECIDED,
            max_rooms_per_address: MOST_ROOMS,
            max_webrtc_members: MOST_MEMBERS,
            control_surface,
            broadcast,
            ..SignalingLimits::default()
        };
        let (hub, world) = (Hub::new(limits, [1, 2, 3, 4]), World::default());
        Self { hub, world, places: BTreeMap::new(), seen: BTreeSet::new(), last: 0, serial: 0 }
    }

    /// A visitor who asks for this comes to a place; the number of the connection, and of the address.
    fn visit(&mut self, place: usize, path: &str, query: &str, ears: &mut Ears) -> (ConnId, u8) {
        self.last += 1;
        let (conn, from) = (ConnId(self.last), (place % ADDRESSES) as u8);
        self.places.insert(place, conn);
        let route = route(path, query, DialectSet::default()).expect("a way in");
        let visitor = NewConnection { source: IpAddr::from([192, 0, 2, from]), route };
        self.hub.on_connect(self.world.now, conn, visitor, ears);
        (conn, from)
    }

    /// Does something, a millisecond after what was done before: so nothing is due at the same time as something else.
    pub(crate) fn act(&mut self, place: usize, deed: &Deed) -> Result<(), Fault> {
        self.world.now += Duration::from_millis(1);
        self.serial += 1;
        let (now, serial, mut ears) = (self.world.now, self.serial, Ears::default());
        let mark = |number: u64| format!("m{}x", serial * 8 + number);
        let conn = self.places.get(&place).copied();
        match (deed, conn) {
            (Deed::Connect, None) => {
                let (conn, from) = self.visit(place, "/", "", &mut ears);
                self.world.connects(conn, from);
            }
            (Deed::Enter(room, control, token), None) => {
                let name = room.map_or("a%2Fb", |room| ROOMS[room]);
                let path = format!("/rooms/{name}{}", if *control { "/remotecontrol" } else { "" });
                let query = Self::asking(name, *token, &mark(0), &mark(1));
                let (conn, from) = self.visit(place, &path, &query, &mut ears);
                self.world.enters(conn, from, room.map(|room| ROOMS[room]), *control, *token, &mark(0));
            }
            (Deed::Join(room, user), None) => {
                let (user, name) = (format!("u{user}"), if *user == 4 { String::new() } else { mark(0) });
                let query = format!("roomId={}&userId={user}&userName={name}&token={}", ROOMS[*room], mark(1));
                let (conn, from) = self.visit(place, "/", &query, &mut ears);
                self.world.joins(conn, from, ROOMS[*room], &user, &name);
            }
            (Deed::Gone(well), Some(conn)) => {
                if *well {
                    self.hub.on_close(now, conn, 1_000, &mark(0), &mut ears);
                } else {
                    self.hub.on_disconnect(now, conn, &mut ears);
                }
                self.world.gone(conn);
                self.places.remove(&place);
            }
            (Deed::Binary, Some(conn)) => {
                self.hub.on_binary(now, conn, &mut ears);
                let client = self.world.clients.get_mut(&conn).expect("it is there");
                (client.lived, client.spoke) = (now, now);
            }
            (Deed::Alive, Some(conn)) => {
                self.hub.on_activity(now, conn);
                self.world.clients.get_mut(&conn).expect("it is there").lived = now;
            }
            (Deed::Say(words, detail, mutation), Some(conn)) => {
                let kind = words.kind(self.world.clients[&conn].speaks);
                let room = self.world.known.iter().rev().nth(usize::from(detail % 3));
                let room = room.map_or("none", |(_, id, code)| if detail % 2 == 0 { id } else { code });
                let said = mutated(text(kind, *detail, serial, now.as_micros(), room), mutation);
                self.hub.on_text(now, conn, &said, &mut ears);
                self.world.says(conn, &said, &ears);
            }
            (Deed::Noise(noise), Some(conn)) => {
                self.hub.on_text(now, conn, noise, &mut ears);
                self.world.says(conn, noise, &ears);
            }
            (Deed::Post(room, typed, kind), _) => {
                let body = body(*kind, &mark(0), &mark(1));
                let form = if *typed { PostFormat::Typed } else { PostFormat::Object };
                let posted = self.hub.post_to_room(now.into(), ROOMS[*room], form, body.as_bytes(), &mut ears);
                let posted = posted.map(|posted| posted.recipients).map_err(|refusal| match refusal {
                    PostError::InvalidJson => "not JSON",
                    PostError::NotAnObject => "no object",
                    PostError::InvalidFields(_) => "a field",
                    PostError::RejectedByRoom(_) => "the room",
                    PostError::DelayQueueFull => "too many",
                });
                same("posting", posted, self.world.posted(ROOMS[*room], *typed, &body))?;
            }
            (Deed::Pass(seconds), _) => self.pass(Duration::from_secs(*seconds))?,
            (deed, _) => self.program(deed, &mut ears)?,
        }
        self.settle(&ears)
    }

    fn asking(room: &str, token: Token, id: &str, mark: &str) -> String {
        let other = if token == Token::OfAnotherRoom { "elsewhere" } else { room };
        let secret = if token == Token::OfAnotherSecret { Secret::new("Secret") } else { secret() };
        let metadata = Map::from_iter([("k".to_owned(), mark.into())]);
        let (from_ms, seconds) = if token == Token::Expired { (0, 0.0) } else { (1, 1e6) };
        let signed = sign(&secret, &Claims::new(id, other, metadata, from_ms, seconds));
        if token == Token::None { format!("x={mark}") } else { format!("token={signed}&x={mark}") }
    }

    /// What the program does.
    fn program(&mut self, deed: &Deed, ears: &mut Ears) -> Result<(), Fault> {
        let (now, value) = (self.world.now, self.serial as f32);
        let in_rooms = |world: &World, code: Option<usize>| {
            let opened = world.opened.iter().filter(|opened| code.is_none_or(|code| opened.code == CODES[code]));
            let rooms: Vec<String> = opened.map(|opened| opened.room.clone()).collect();
            (!rooms.is_empty() || code.is_none()).then_some(rooms)
        };
        let count = |world: &World, rooms: &[String]| rooms.iter().map(|room| world.members(room).len()).sum::<usize>();
        match deed {
            Deed::Make(code, life) => {
                let (code, life) = (CODES[*code], Duration::from_secs(*life));
                let making = CreateRoomOptions { code: Some(code.to_owned()), lifetime: Some(life), max_members: None };
                let is_free = self.world.opened.iter().all(|opened| opened.code != code);
                same("making", self.hub.create_room(now, making).is_ok(), is_free)?;
                if is_free {
                    self.world.ever_opened += 1;
                    let room = format!("bbx #{}", self.world.ever_opened);
                    self.world.opened.push(Opened { room, code, ends: now + life, values: BTreeMap::new() });
                }
            }
            Deed::Close(code) => {
                let closed = self.hub.close_room(CODES[*code], ears).ok();
                let room = in_rooms(&self.world, Some(*code));
                same("closing", closed, room.map(|room| self.world.shut(&room[0])))?;
            }
            Deed::Set(code, name) => {
                let told =
                    self.hub.broadcast_param(code.map(|code| CODES[code]), &format!("p{name}"), value, ears).ok();
                let rooms = in_rooms(&self.world, *code);
                same("setting", told, rooms.as_ref().map(|rooms| count(&self.world, rooms)))?;
                for room in rooms.unwrap_or_default() {
                    self.world.set(&room, None, &format!("p{name}"), value);
                }
            }
            Deed::Range(name, is_set) => {
                let (name, value) = (format!("p{name}"), is_set.then_some(value));
                let range = (-(self.serial as f32), self.serial as f32 + 0.5);
                let told = self.hub.declare_range(&name, range, value, ears).map_err(|unfit| unfit.to_string())?;
                let rooms = value.and_then(|_| in_rooms(&self.world, None)).unwrap_or_default();
                same("declaring", told, count(&self.world, &rooms))?;
                self.world.ranges.insert(name.clone(), range);
                for room in rooms {
                    self.world.set(&room, None, &name, value.unwrap_or_default());
                }
            }
            Deed::Show(code) => {
                let told = self.hub.broadcast_visualization(code.map(|code| CODES[code]), &[value], ears).ok();
                let rooms = in_rooms(&self.world, *code);
                same("showing", told, rooms.as_ref().map(|rooms| count(&self.world, rooms)))?;
                for room in rooms.unwrap_or_default() {
                    self.world.others_hear(&room, None, &format!("visualization {value}"), &[]);
                }
            }
            // Nobody is there who could, or somebody is there already.
            _ => {}
        }
        Ok(())
    }

    /// Time passes, as a clock has it: each deadline at its time.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), Fault> {
        let until = self.world.now + time;
        while let Some(next) = self.hub.next_deadline().filter(|next| *next <= until) {
            let mut ears = Ears::default();
            self.world.now = next.max(self.world.now);
            self.hub.on_deadline(self.world.now, &mut ears);
            if !self.world.fall_due(&ears.cut, &ears.closed) {
                return Err(format!("who may stay is dropped: {:?} {:?}", ears.cut, ears.closed));
            }
            let pinged = ears.pinged.iter().all(|conn| self.world.speaks(*conn) > Some(Speaks::Jamjam));
            same("only those are pinged who answer", pinged, true)?;
            self.settle(&ears)?;
        }
        self.world.now = until;
        same("nobody is overdue", self.world.is_nobody_overdue(), true)?;
        let is_late = self.world.later.iter().any(|(at, _)| *at <= until);
        same("something is late", is_late, false)
    }

    /// All that was said is what was expected, and everybody is where they should be.
    fn settle(&mut self, ears: &Ears) -> Result<(), Fault> {
        let mut told: Vec<(ConnId, String)> = ears.told.iter().map(|(conn, message)| (*conn, heard(message))).collect();
        let mut expected = std::mem::take(&mut self.world.expected);
        told.sort();
        expected.sort();
        same("heard", told, expected)?;
        let (mut closed, mut expected) = (ears.closed.clone(), std::mem::take(&mut self.world.closed));
        closed.sort_unstable();
        expected.sort_unstable();
        same("closed", closed, expected)?;
        for (_, message) in &ears.told {
            let word = ["code", "type"].into_iter().find_map(|name| message[name].as_str());
            self.seen.insert(word.unwrap_or("rc").to_owned());
        }
        self.seen.extend(ears.closed.iter().map(|(_, code)| code.to_string()));
        self.seen.extend(ears.cut.iter().map(|_| "cut".to_owned()));
        let events = ears.events.iter().map(|event| (event.room.clone(), event.name.clone(), event.value)).collect();
        same("told the program", events, std::mem::take(&mut self.world.events))?;
        let clients = &self.world.clients;
        self.places.retain(|_, conn| clients.contains_key(conn));
        self.count()
    }

    fn count(&self) -> Result<(), Fault> {
        let World { clients, seats, made, opened, later, .. } = &self.world;
        let shares = Speaks::ALL.map(|speaks| {
            let speaking = clients.values().filter(|client| client.speaks == speaks).count();
            let rooms = made.iter().map(|made| &made.room).chain(opened.iter().map(|opened| &opened.room));
            let rooms = rooms.filter(|room| room.starts_with(speaks.name())).count();
            let members = seats.iter().filter(|seat| seat.room.starts_with(speaks.name())).count();
            (speaks.name(), speaking as u64, rooms as u64, members as u64)
        });
        let mut expected = shares.to_vec();
        expected.sort_unstable();
        let counted = self.hub.counters_by_dialect().into_iter();
        let mut counted: Vec<_> =
            counted.map(|(name, counts)| (name, counts.connections, counts.rooms, counts.members)).collect();
        counted.sort_unstable();
        same("counted", counted, expected)?;
        let relays =
            later.iter().filter(|(_, later)| matches!(later, crate::signaling::world::Later::Relay { .. })).count();
        same("waiting", self.hub.total_counters().delayed_messages, relays as u64)
    }

    /// Everybody goes.
    pub(crate) fn all_go(&mut self) -> Result<(), Fault> {
        for place in self.places.keys().copied().collect::<Vec<_>>() {
            self.act(place, &Deed::Gone(place % 2 == 0))?;
        }
        let counts = self.hub.total_counters();
        same("left behind", (counts.connections, counts.members), (0, 0))?;
        same("rooms left behind", counts.rooms, self.world.opened.len() as u64)?;
        same("listed", self.hub.webrtc_rooms_json(), "[]")?;
        same("rooms with content left behind", self.hub.broadcast_counters().rooms, 0)
    }
}

/// What somebody posts.
fn body(kind: u8, first: &str, second: &str) -> String {
    let time = "2026-11-20T14:00:00Z";
    match kind {
        0 => json!({"content": first, "metadata": {"k": second}}),
        1 => json!({"type": "item", "timestamp": time, "data": {"content": {"id": first}}, "extra": second}),
        2 => json!({"type": "post", "timestamp": time, "data": {"x": first}, "delay": 5}),
        3 => json!({"type": "item", "timestamp": time, "data": {"content": {"id": null, "x": first}}}),
        4 => return "{".to_owned(),
        _ => json!([first]),
    }
    .to_string()
}

/// A time at which nothing waits any more, whatever it is.
pub(crate) const LONG: Duration = Duration::from_secs(10_000);

/// The start of time is not that of a world.
pub(crate) fn begins(stage: &mut Stage) {
    stage.world.now = Time::from_millis(1);
}
