//! Load on the rooms of a signaling server: which member sends when, and whether each message reaches all others of its room, once and in
//! order. Messages are passed in and out as text.

use std::collections::VecDeque;
use std::time::Duration;

use super::connection_results::{Ending, RoomResults, WebSocketFailure, WebSocketResults};
use super::results::{RunKind, RunResults};
use super::stream_kind::StreamKind;
use jamjam_core::stats::{Histogram, PacingStats, StreamStats};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_signaling::Dialect;

/// Maximum number of messages of a room. A control surface relays numbers up to this one exactly.
pub const MAX_ROOM_MESSAGES: u32 = 1 << 24;

/// Maximum number of messages of a room that may still be delivered. Above it, the oldest is settled early.
const MAX_UNSETTLED: usize = 1 << 16;

/// A character that is rare in messages, so that the marker is found fast.
const MARKER_START: char = '~';

/// Maximum number of different reasons for which connections ended. Further reasons count as the last one.
const MAX_ENDINGS: usize = 64;

/// Who sends what in which rooms.
#[derive(Clone, Debug)]
pub struct RoomLoadConfig {
    /// The signaling dialect.
    pub dialect: Dialect,
    /// Number of members in all rooms together. Member `m` is in room `m % rooms`.
    pub members: usize,
    /// Number of rooms.
    pub rooms: usize,
    /// The beginning of the names of the rooms.
    pub room: String,
    /// Time between two messages of a room.
    pub interval: Duration,
    /// Number of messages of each room.
    pub count: u32,
    /// A message that is delivered later counts as lost.
    pub timeout: Duration,
    /// Distinguishes messages of this run from all others.
    pub nonce: u64,
    /// Whether each delivered message names its sender, as its member name.
    pub names_senders: bool,
}

/// The members, the messages, and what was counted. A delivery is a message at one of its receivers.
#[derive(Clone, Debug)]
pub struct RoomLoad {
    /// Who sends what.
    pub config: RoomLoadConfig,
    /// Precedes the numbers in each message. It contains no characters that JSON escapes.
    marker: String,
    rooms: Vec<RoomMessages>,
    /// The quoted names of the members.
    names: Vec<String>,
    started: Option<Time>,
    /// The next message of all rooms in turn.
    next: u64,
    last_delivery: Time,
    join_time: Histogram,
    pacing: PacingStats,
    /// Deliveries to members that were connected when the message was sent. Their round trip is the time from sending until receiving.
    deliveries: StreamStats,
    /// What was counted beside.
    pub results: RoomResults,
}

/// The messages of a room.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug)]
struct RoomMessage {
    due: Time,
    sent_at: Option<Time>,
    /// Number of receivers that have not received it.
    missing: u64,
    /// The receivers that have received it, a bit for each member of the room.
    received: Vec<u64>,
}

impl RoomLoad {
    /// Members without connections.
    pub fn new(config: RoomLoadConfig) -> Self {
        let (members, rooms) = (config.members, config.rooms);
        Self {
            marker: format!("{MARKER_START}jamjam-dev load {:016x} ", config.nonce),
            rooms: (0..rooms).map(|_| RoomMessages::default()).collect(),
            names: (0..members).map(|member| format!("\"load-{}-{}\"", member % rooms, member / rooms)).collect(),
            started: None,
            next: 0,
            last_delivery: Time::ZERO,
            join_time: Histogram::default(),
            pacing: PacingStats::default(),
            deliveries: StreamStats::new(),
            results: RoomResults { rooms: rooms as u64, members: members as u64, ..RoomResults::default() },
            config,
        }
    }

    /// The name of a member.
    pub fn name(&self, member: usize) -> &str {
        self.names[member].trim_matches('"')
    }

    /// The name of the room of a member.
    pub fn room_name(&self, member: usize) -> String {
        format!("{}-{}", self.config.room, member % self.config.rooms + 1)
    }

    /// The first message of a member, if the dialect needs one. `room` is the room's code or id, if it is known. The first member of a jamjam room
    /// creates it.
    pub fn join_message(&self, member: usize, room: &str) -> Option<String> {
        let is_first = member < self.config.rooms;
        let room_name = self.room_name(member);
        let room = if room.is_empty() { &room_name } else { room };
        self.config.dialect.join_message(room, self.name(member), is_first)
    }

    /// A member has joined its room, this time after it began to connect.
    pub fn on_joined(&mut self, member: usize, took: Duration) {
        self.results.joined += 1;
        self.join_time.record(saturating_nanos(took).cast_signed());
        let room = &mut self.rooms[member % self.config.rooms];
        room.connected += 1;
        room.senders.push(member);
    }

    /// A connection has ended, or could not be established.
    pub fn on_ended(&mut self, member: usize, had_joined: bool, failure: WebSocketFailure) {
        let RoomResults { refused, disconnected, endings, .. } = &mut self.results;
        *if had_joined { disconnected } else { refused } += 1;
        self.rooms[member % self.config.rooms].connected -= u64::from(had_joined);
        let known = endings.iter().position(|ending| ending.failure == failure);
        match known.or((endings.len() == MAX_ENDINGS).then_some(MAX_ENDINGS - 1)) {
            Some(index) => endings[index].count += 1,
            None => endings.push(Ending { failure, count: 1 }),
        }
    }

    /// Begins to send, as soon as each member has joined or failed.
    pub fn start(&mut self, now: Time) {
        let RoomResults { joined, refused, members, .. } = self.results;
        if self.started.is_none() && joined + refused == members {
            self.started = Some(now);
        }
    }

    /// When the next message is due; `None` if there is none.
    pub fn next_due(&self) -> Option<Time> {
        let (rooms, interval) = (self.config.rooms as u64, self.config.interval);
        let since_start = u128::from(self.next) * interval.as_nanos() / u128::from(rooms);
        let due = self.started? + Duration::from_nanos(u64::try_from(since_start).unwrap_or(u64::MAX));
        (self.next < rooms * u64::from(self.config.count)).then_some(due)
    }

    /// The member that must send now, and the number of its message. `None` if no message is due.
    pub fn poll(&mut self, now: Time) -> Option<(usize, u32)> {
        let rooms = self.config.rooms as u64;
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let (room, number) = ((self.next % rooms) as usize, (self.next / rooms) as u32);
            self.next += 1;
            // Of a single member, nobody would receive the message.
            if self.rooms[room].senders.len() > 1 {
                self.settle(room, now);
                let received = vec![0; self.config.members.div_ceil(self.config.rooms).div_ceil(64)];
                let RoomMessages { senders, unsettled, .. } = &mut self.rooms[room];
                unsettled.push_back(RoomMessage { due, sent_at: None, missing: 0, received });
                return Some((senders[number as usize % senders.len()], number));
            }
        }
        None
    }

    /// Settles the messages of a room whose time is over.
    fn settle(&mut self, room: usize, now: Time) {
        let (room, timeout) = (&mut self.rooms[room], self.config.timeout);
        while let Some(oldest) = room.unsettled.front()
            && (oldest.sent_at.unwrap_or(oldest.due) + timeout <= now || room.unsettled.len() >= MAX_UNSETTLED)
        {
            self.results.not_sent += u64::from(oldest.sent_at.is_none());
            self.deliveries.lost += oldest.missing;
            room.unsettled.pop_front();
            room.first += 1;
        }
    }

    /// Settles all messages: after the end of all connections, no message is sent or delivered any more.
    pub fn settle_all(&mut self) {
        (0..self.rooms.len()).for_each(|room| self.settle(room, Time::MAX));
    }

    /// Whether all messages were sent and delivered, or their time is over.
    pub fn is_settled(&mut self, now: Time) -> bool {
        if self.started.is_none() || self.next_due().is_some() {
            return false;
        }
        (0..self.rooms.len()).for_each(|room| self.settle(room, now));
        let is_open = |one: &RoomMessage| one.sent_at.is_none() || one.missing > 0;
        !self.rooms.iter().flat_map(|room| &room.unsettled).any(is_open)
    }

    /// The message that a member sends now, unless its time is over.
    pub fn message(&mut self, member: usize, number: u32, now: Time) -> Option<String> {
        let (room, place) = (member % self.config.rooms, member / self.config.rooms);
        let RoomMessages { connected, first, unsettled, .. } = &mut self.rooms[room];
        let message = unsettled.get_mut(number.checked_sub(*first)? as usize)?;
        (message.sent_at, message.missing) = (Some(now), connected.saturating_sub(1));
        self.results.sent += 1;
        self.deliveries.sent += message.missing;
        self.pacing.on_sent(message.due, now);
        let text = format!("{}{room} {place}", self.marker);
        Some(self.config.dialect.load_message(&text, number))
    }

    /// A member has received `text`. Messages that are not of this run are ignored.
    pub fn on_message(&mut self, member: usize, text: &str, now: Time) {
        let mut starts = text.match_indices(MARKER_START).map(|(start, _)| &text[start..]);
        let Some(rest) = starts.find_map(|text| text.strip_prefix(&*self.marker)) else { return };
        let numbers = rest.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let mut numbers = numbers.map_while(|digits| digits.parse::<u32>().ok());
        let [room, place, number] = [(); 3].map(|()| numbers.next());
        let rooms = self.config.rooms;
        if room.is_some_and(|room| room as usize != member % rooms) {
            self.results.wrong_room += 1;
            return;
        }
        let RoomMessages { senders, first, unsettled, .. } = &mut self.rooms[member % rooms];
        let sender = number.and_then(|number| senders.get(number as usize % senders.len().max(1)).copied());
        if sender == Some(member) && self.config.dialect.facts().returns_messages {
            return;
        }
        let is_from = |sender: usize| {
            let is_named = !self.config.names_senders || text.contains(&*self.names[sender]);
            is_named && sender != member && place.is_some_and(|place| sender / rooms == place as usize)
        };
        let Some(number) = number.filter(|_| sender.is_some_and(is_from)) else {
            self.results.wrong_sender += 1;
            return;
        };
        let Some(index) = number.checked_sub(*first) else {
            self.results.late += 1;
            return;
        };
        let (word, bit) = (member / rooms / 64, 1 << (member / rooms % 64));
        let mut of_sender = unsettled.iter().skip(index as usize).step_by(senders.len()).skip(1);
        let is_overtaken = of_sender.any(|message| message.received[word] & bit != 0);
        let sent = unsettled.get_mut(index as usize).and_then(|message| Some((message.sent_at?, message)));
        let Some((sent_at, message)) = sent else {
            self.results.wrong_sender += 1;
            return;
        };
        if message.received[word] & bit != 0 {
            self.deliveries.duplicated += 1;
            return;
        }
        message.received[word] |= bit;
        message.missing = message.missing.saturating_sub(1);
        self.deliveries.returned += 1;
        self.deliveries.reordered += u64::from(is_overtaken);
        self.deliveries.rtt.record(now.signed_nanos_since(sent_at));
        self.last_delivery = now;
    }

    /// The counts that change now, for people.
    pub fn progress(&self) -> String {
        let RoomResults { members, joined, refused, disconnected, .. } = self.results;
        let StreamStats { sent, returned, .. } = self.deliveries;
        format!(
            "{joined} of {members} members joined, {refused} refused, {disconnected} disconnected; {returned} of {sent} deliveries"
        )
    }

    /// The results of the run against `target`. What is not settled is in flight.
    pub fn into_results(mut self, target: String) -> RunResults {
        let started = self.started.unwrap_or_default();
        let duration_ns = saturating_nanos(self.last_delivery.duration_since(started));
        self.deliveries.in_flight = self.deliveries.sent - self.deliveries.returned - self.deliveries.lost;
        let [p50, p99] = [0.5, 0.99].map(|p| self.join_time.percentile_if_enough(p));
        let rooms = RoomResults { join_ns: [p50, p99, self.join_time.max()], ..self.results };
        let failure = rooms.endings.first().map(|ending| ending.failure.clone());
        let websocket = WebSocketResults { failure, rooms: Some(rooms), ..WebSocketResults::new(self.config.dialect) };
        RunResults {
            duration_ns,
            interval_ns: Some(saturating_nanos(self.config.interval)),
            timeout_ns: saturating_nanos(self.config.timeout),
            ping: Some(self.deliveries),
            pacing: Some(self.pacing),
            websocket: Some(websocket),
            ..RunResults::new(RunKind::Probe, target, StreamKind::Ping)
        }
    }
}
