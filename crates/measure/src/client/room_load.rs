//! Load on the rooms of a signaling server: which member sends when, and whether each message reaches all others of its room, once and in
//! order. Messages are passed in and out as text.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::connection_results::WebSocketFailure;
use super::request_matcher::parse_object;
use super::websocket::{MAX_ERROR_MESSAGE_LEN, server_error};
use jamjam_core::stats::Histogram;
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_signaling::Dialect;

/// Maximum number of messages of a room. A control surface relays numbers up to this one exactly.
pub const MAX_ROOM_MESSAGES: u32 = 1 << 24;

/// Maximum number of messages of a room that may still be delivered. Above it, the oldest is settled early.
const MAX_UNSETTLED: usize = 1 << 16;

/// Maximum number of different reasons for which connections ended. Further reasons count as the last one.
const MAX_ENDINGS: usize = 64;

/// Who sends what in which rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomLoadConfig {
    /// The signaling dialect.
    pub dialect: Dialect,
    /// Number of members in all rooms together.
    pub members: usize,
    /// Number of rooms.
    pub rooms: usize,
    /// Time between two messages of a room.
    pub interval: Duration,
    /// Number of messages of each room.
    pub count: u32,
    /// A message that is delivered later counts as missing.
    pub timeout: Duration,
    /// Distinguishes messages of this run from all others.
    pub nonce: u64,
    /// Whether each delivered message names its sender, as its member name.
    pub names_senders: bool,
}

/// The members, the messages, and what was counted.
#[derive(Debug)]
pub struct RoomLoad {
    /// Who sends what.
    pub config: RoomLoadConfig,
    /// The beginning of the names of the rooms.
    room: String,
    /// Precedes the numbers in each message. It contains no characters that JSON escapes.
    marker: String,
    /// The quoted names of the members. Member `m` is in room `m % rooms`, at place `m / rooms`.
    names: Vec<String>,
    rooms: Vec<RoomMessages>,
    started: Option<Time>,
    /// The next message of all rooms in turn.
    next: u64,
    /// When the last message was delivered.
    last_delivery: Time,
    /// What was counted.
    pub counts: RoomLoadCounts,
    /// Time from the beginning of a connection until its room was joined.
    pub join_time: Histogram,
    /// Time from sending a message until another member received it.
    pub delivery_time: Histogram,
    /// Send time minus due time of each message.
    pub lateness: Histogram,
    /// Why connections ended before the end of the run.
    pub endings: Vec<Ending>,
}

/// Counts of a run. A delivery is a message at one of its receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomLoadCounts {
    /// Members that have joined their room.
    pub joined: u64,
    /// Members that could not join.
    pub refused: u64,
    /// Members whose connection ended after the join.
    pub disconnected: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were not sent in time, because the connection of the sender accepted none or had ended.
    pub not_sent: u64,
    /// Deliveries to the members that were connected when the messages were sent.
    pub expected: u64,
    /// First deliveries in time.
    pub received: u64,
    /// Deliveries that did not arrive in time.
    pub missing: u64,
    /// Missing deliveries that arrived later.
    pub late: u64,
    /// Repeated deliveries.
    pub duplicate: u64,
    /// Received deliveries that a later message of the same sender overtook.
    pub out_of_order: u64,
    /// Messages of another room.
    pub wrong_room: u64,
    /// Messages with a wrong sender or number, and messages that their own sender received.
    pub wrong_sender: u64,
    /// Errors that the server sent to members.
    pub errors: u64,
}

/// A reason for which connections ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The reason.
    pub failure: WebSocketFailure,
    /// Whether the connections had joined their rooms.
    pub had_joined: bool,
    /// Number of connections.
    pub count: u64,
}

/// The messages of a room.
#[derive(Debug, Default)]
struct RoomMessages {
    /// The members that send in turn: all that had joined when sending began.
    senders: Vec<usize>,
    /// Number of connected members.
    connected: u64,
    /// Number of the first unsettled message.
    first: u32,
    unsettled: VecDeque<RoomMessage>,
}

/// A message that may still be delivered.
#[derive(Debug)]
struct RoomMessage {
    due: Time,
    sent_at: Option<Time>,
    /// Number of receivers that have not received it.
    outstanding: u64,
    /// The places of the receivers that have received it, a bit each.
    received: Vec<u64>,
}

impl Default for RoomLoadConfig {
    /// Two members of a broadcast room, of which each receives the messages of the other within 2 s: one message per second for 10 s.
    fn default() -> Self {
        let [interval, timeout] = [1, 2].map(Duration::from_secs);
        let (dialect, names_senders) = (Dialect::Broadcast, false);
        Self { dialect, members: 2, rooms: 1, interval, count: 10, timeout, nonce: 0, names_senders }
    }
}

impl RoomLoad {
    /// Members without connections. The names of the rooms begin with `room`.
    pub fn new(config: RoomLoadConfig, room: &str) -> Self {
        let RoomLoadConfig { members, rooms, nonce, .. } = config;
        Self {
            config,
            room: room.to_owned(),
            marker: format!("jamjam-dev load {nonce:016x} "),
            names: (0..members).map(|member| format!("\"load-{}-{}\"", member % rooms, member / rooms)).collect(),
            rooms: (0..rooms).map(|_| RoomMessages::default()).collect(),
            started: None,
            next: 0,
            last_delivery: Time::ZERO,
            counts: RoomLoadCounts::default(),
            join_time: Histogram::default(),
            delivery_time: Histogram::default(),
            lateness: Histogram::default(),
            endings: Vec::new(),
        }
    }

    /// The name of a member.
    pub fn name(&self, member: usize) -> &str {
        self.names[member].trim_matches('"')
    }

    /// The name of the room of a member.
    pub fn room_name(&self, member: usize) -> String {
        format!("{}-{}", self.room, member % self.config.rooms + 1)
    }

    /// The first message of a member, if the dialect needs one. `room` is the room's code or id. The first member of a jamjam room creates it.
    pub fn join_message(&self, member: usize, room: &str) -> Option<String> {
        let name = self.name(member);
        let message = match self.config.dialect {
            Dialect::Broadcast | Dialect::WebRtc => return None,
            Dialect::ControlSurface => json!({"type": "join", "room_code": room, "client_name": name}),
            Dialect::Jamjam if member < self.config.rooms => {
                let room_name = self.room_name(member);
                json!({"type": "CreateRoom", "data": {"room_name": room_name, "password": null, "peer_name": name}})
            }
            Dialect::Jamjam => {
                json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": name}})
            }
        };
        Some(message.to_string())
    }

    /// A member has joined its room, this time after it began to connect.
    pub fn on_joined(&mut self, member: usize, took: Duration) {
        self.counts.joined += 1;
        self.join_time.record(saturating_nanos(took).cast_signed());
        let room = &mut self.rooms[member % self.config.rooms];
        room.connected += 1;
        room.senders.push(member);
    }

    /// A connection has ended, or could not be established.
    pub fn on_ended(&mut self, member: usize, had_joined: bool, failure: WebSocketFailure) {
        if had_joined {
            self.counts.disconnected += 1;
            self.rooms[member % self.config.rooms].connected -= 1;
        } else {
            self.counts.refused += 1;
        }
        let is_same = |ending: &Ending| (&ending.failure, ending.had_joined) == (&failure, had_joined);
        let known = self.endings.iter().position(is_same);
        match known.or((self.endings.len() == MAX_ENDINGS).then_some(MAX_ENDINGS - 1)) {
            Some(index) => self.endings[index].count += 1,
            None => self.endings.push(Ending { failure, had_joined, count: 1 }),
        }
    }

    /// Whether each member has joined or failed.
    pub fn is_complete(&self) -> bool {
        self.counts.joined + self.counts.refused == self.config.members as u64
    }

    /// Whether no connection came about so far.
    pub fn is_unreachable(&self) -> bool {
        let is_unreachable = |ending: &Ending| matches!(ending.failure, WebSocketFailure::Unreachable(_));
        self.counts.joined == 0 && !self.endings.is_empty() && self.endings.iter().all(is_unreachable)
    }

    /// Whether sending has begun.
    pub fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// Begins to send.
    pub fn start(&mut self, now: Time) {
        self.started = Some(now);
    }

    /// When the next message is due; `None` if all have been.
    pub fn next_due(&self) -> Option<Time> {
        let RoomLoadConfig { rooms, interval, count, .. } = self.config;
        let is_left = self.next < rooms as u64 * u64::from(count);
        let since_start = u128::from(self.next) * interval.as_nanos() / rooms as u128;
        let since_start = Duration::from_nanos(u64::try_from(since_start).unwrap_or(u64::MAX));
        self.started.filter(|_| is_left).map(|at| at + since_start)
    }

    /// The member that must send now, and the number of its message. `None` if no message is due.
    pub fn poll(&mut self, now: Time) -> Option<(usize, u32)> {
        let rooms = self.config.rooms as u64;
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let (room, number) = ((self.next % rooms) as usize, (self.next / rooms) as u32);
            self.next += 1;
            if self.rooms[room].senders.len() < 2 {
                // Nobody would receive the message.
                continue;
            }
            let places = self.config.members.div_ceil(self.config.rooms).div_ceil(64);
            let spare = self.settle(room, now);
            let mut received = spare.unwrap_or_default();
            received.clear();
            received.resize(places, 0);
            let RoomMessages { senders, unsettled, .. } = &mut self.rooms[room];
            unsettled.push_back(RoomMessage { due, sent_at: None, outstanding: 0, received });
            return Some((senders[number as usize % senders.len()], number));
        }
        None
    }

    /// Settles the messages of a room whose time is over. Returns a buffer of one of them.
    fn settle(&mut self, room: usize, now: Time) -> Option<Vec<u64>> {
        let (room, timeout, mut spare) = (&mut self.rooms[room], self.config.timeout, None);
        while let Some(oldest) = room.unsettled.front()
            && (oldest.sent_at.unwrap_or(oldest.due) + timeout <= now || room.unsettled.len() >= MAX_UNSETTLED)
        {
            let oldest = room.unsettled.pop_front()?;
            room.first += 1;
            self.counts.not_sent += u64::from(oldest.sent_at.is_none());
            self.counts.missing += oldest.outstanding;
            spare = Some(oldest.received);
        }
        spare
    }

    /// Whether all messages were sent and delivered, or their time is over.
    pub fn is_settled(&mut self, now: Time) -> bool {
        if self.started.is_none() || self.next_due().is_some() {
            return false;
        }
        let RoomLoadCounts { expected, received, missing, sent, not_sent, .. } = self.counts;
        let waiting: u64 = self.rooms.iter().map(|room| u64::from(room.first) + room.unsettled.len() as u64).sum();
        if expected == received + missing && waiting == sent + not_sent {
            return true;
        }
        (0..self.rooms.len()).for_each(|room| drop(self.settle(room, now)));
        self.rooms.iter().all(|room| room.unsettled.is_empty())
    }

    /// Writes a message that the member sends now, unless its time is over.
    pub fn write_message(&mut self, member: usize, number: u32, now: Time) -> Option<String> {
        let RoomLoadConfig { rooms, dialect, .. } = self.config;
        let (number_of_room, place) = (member % rooms, member / rooms);
        let RoomMessages { connected, first, unsettled, .. } = &mut self.rooms[number_of_room];
        let message = unsettled.get_mut(number.checked_sub(*first)? as usize)?;
        message.sent_at = Some(now);
        message.outstanding = connected.saturating_sub(1);
        self.counts.sent += 1;
        self.counts.expected += message.outstanding;
        self.lateness.record(now.signed_nanos_since(message.due));
        let (start, separator, end) = match dialect {
            Dialect::Broadcast => (r#"{"type":"load","content":""#, " ", r#""}"#),
            Dialect::WebRtc => (r#"{"type":"participant-update","updates":""#, " ", r#""}"#),
            Dialect::ControlSurface => (r#"{"type":"param","param":""#, r#"","value":"#, "}"),
            Dialect::Jamjam => (
                r#"{"type":"ChatMessage","data":{"sender_id":"","sender_name":"","timestamp":0,"content":""#,
                " ",
                r#""}}"#,
            ),
        };
        let mut text = String::with_capacity(160);
        // Writing to a string cannot fail.
        _ = write!(text, "{start}{}{number_of_room} {place}{separator}{number}{end}", self.marker);
        Some(text)
    }

    /// A member has received `text`.
    pub fn on_message(&mut self, member: usize, text: &str, now: Time) {
        let Some((_, rest)) = text.split_once(&*self.marker) else {
            let is_error = || server_error(&parse_object::<Map<String, Value>>(text)?).map(drop);
            self.counts.errors += u64::from(text.len() <= MAX_ERROR_MESSAGE_LEN && is_error().is_some());
            return;
        };
        let numbers = rest.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let mut numbers = numbers.map_while(|digits| digits.parse::<u32>().ok());
        let [room, place, number] = [(); 3].map(|()| numbers.next());
        let (own_room, own_place) = (member % self.config.rooms, member / self.config.rooms);
        if room.is_some_and(|room| room as usize != own_room) {
            self.counts.wrong_room += 1;
            return;
        }
        let RoomMessages { senders, first, unsettled, .. } = &mut self.rooms[own_room];
        let sender = number.and_then(|number| senders.get(number as usize % senders.len().max(1)).copied());
        if sender == Some(member) && self.config.dialect == Dialect::Jamjam {
            // On the path for newer clients, the sender receives its own message too.
            return;
        }
        let is_from = |sender: usize| {
            place.is_some_and(|place| sender / self.config.rooms == place as usize)
                && sender != member
                && (!self.config.names_senders || text.contains(&*self.names[sender]))
        };
        let Some(number) = number.filter(|_| sender.is_some_and(is_from)) else {
            self.counts.wrong_sender += 1;
            return;
        };
        let Some(index) = number.checked_sub(*first) else {
            self.counts.late += 1;
            return;
        };
        let (word, bit) = (own_place / 64, 1 << (own_place % 64));
        let mut of_sender = unsettled.iter().skip(index as usize).step_by(senders.len());
        let is_overtaken = of_sender.by_ref().skip(1).any(|message| message.received[word] & bit != 0);
        let sent = unsettled.get_mut(index as usize).and_then(|message| Some((message.sent_at?, message)));
        let Some((sent_at, message)) = sent else {
            // The message was not sent.
            self.counts.wrong_sender += 1;
            return;
        };
        if message.received[word] & bit != 0 {
            self.counts.duplicate += 1;
            return;
        }
        message.received[word] |= bit;
        message.outstanding = message.outstanding.saturating_sub(1);
        self.counts.received += 1;
        self.counts.out_of_order += u64::from(is_overtaken);
        self.delivery_time.record(now.signed_nanos_since(sent_at));
        self.last_delivery = now;
    }

    /// Time from the first due time to the last delivery.
    pub fn duration(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| self.last_delivery.duration_since(started))
    }
}
