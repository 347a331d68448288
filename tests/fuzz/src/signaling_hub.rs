//! The hub with all dialects: a script of connections, messages, requests and time. No message leaves a room, limits hold, deadlines move
//! forward, every message is JSON, and nothing remains after the last client has left.
//!
//! A script is text, one action per line:
//!
//! ```text
//! =0123                 Settings, in the first line: each digit or upper-case letter changes a limit. Lower-case letters disable
//!                       dialects: `a` the first one.
//! a+/ws?roomId=r        The client "a" connects to this path and query.
//! a>{"type":"sync"}     The client sends a text. `$1` to `$9` are ids that the server has sent, in order.
//! a!                    The client sends a binary message.
//! a.                    The client sends a pong.
//! a-  a/bye             The connection is lost, or closed with this reason.
//! @1500                 The clock advances by 1,500 ms.
//! #chat {"x":1}         A post to a broadcast room.
//! C1234 2 60            The program creates a control surface room for two members, which expires after 60 s.
//! X1234                 The program closes the room.
//! Pfreq 0.5 1234        The program sets a parameter in this room; without a room, in all rooms.
//! Rfreq 0 1 0.5         The program declares the range and the value of a parameter.
//! V0.1 0.2              The program sends a visualization.
//! K1234                 The program removes the parameters of the room.
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use jamjam_dev::memory_budget::{MemoryAccount, MemoryBudget};
use jamjam_dev::signaling::broadcast::{BroadcastSettings, DeclaredRoom, Envelope, RadioRoom, RelayRoom, RoomHandlers};
use jamjam_dev::signaling::send_queue::{NextWrite, PendingClose, SendQueue};
use jamjam_dev::signaling::token::Secret;
use jamjam_dev::signaling::{
    CloseCode, ConnId, ControlSurfaceLimits, CreateRoomOptions, Dialect, Heartbeat, Hub, Message, NewConnection,
    PostFormat, Route, SignalingLimits, route,
};
use jamjam_dev::time::{Time, WallClock};
use serde_json::Value;
use serde_json::value::RawValue;

/// Limits of a script.
const MAX_LINES: usize = 32;
const MAX_ADVANCE_MS: u64 = 100_000_000;
const MAX_DEADLINES: usize = 300;
const MAX_CALLS_PER_DEADLINE: usize = 1_000;

/// Bytes sent to one connection per byte of a message, with a constant for lists of rooms, members and parameters.
const MAX_SENT_BYTES: usize = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let script = String::from_utf8_lossy(data);
    let mut lines = script.lines().take(MAX_LINES).peekable();
    let settings = lines.next_if(|line| line.starts_with('=')).unwrap_or_default();
    let mut run = Run::new(settings);
    for line in lines {
        run.act(line);
    }
    run.leave();
}

/// A room: the name of the dialect and the id of the room.
type Room = (&'static str, String);

/// Collects the output of the hub.
#[derive(Default)]
struct Sink {
    open: BTreeMap<ConnId, Arc<SendQueue>>,
    /// Ids in messages, in order.
    ids: Vec<String>,
    sent_bytes: BTreeMap<ConnId, usize>,
    /// The receivers of each message since the last action.
    groups: Vec<Vec<ConnId>>,
}

impl Sink {
    /// Reads the queues of all connections. The queues share the bytes of a message.
    fn read(&mut self) {
        let (mut received, mut closed) = (Vec::new(), Vec::new());
        for (conn, queue) in &self.open {
            loop {
                match queue.next_write(usize::MAX, usize::MAX / 2, Waker::noop()) {
                    NextWrite::Frames { frames, .. } => {
                        queue.advance(frames.iter().map(Bytes::len).sum());
                        received.extend(frames.into_iter().map(|frame| (*conn, frame)));
                    }
                    NextWrite::Close(PendingClose { code, reason, .. }) => {
                        let is_valid = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                        assert!(
                            code.is_none_or(|code| is_valid(code.get())) && reason.len() <= 123,
                            "{code:?} {reason}"
                        );
                        closed.push(*conn);
                    }
                    NextWrite::Empty => break,
                }
            }
        }
        let mut groups: BTreeMap<*const u8, Vec<ConnId>> = BTreeMap::new();
        // A ping has no text.
        let begin = |frame: &[u8]| frame.windows(2).position(|two| two == b"{\"");
        let messages = received.iter().filter_map(|(conn, frame)| Some((conn, frame, begin(frame)?)));
        for (conn, frame, begin) in messages {
            // `client_time` is returned verbatim, even if the number is too large for a `Value`.
            let text = str::from_utf8(&frame[begin..]).expect("UTF-8");
            let _: &RawValue = serde_json::from_str(text).expect("every message is a JSON object");
            if let Ok(message) = serde_json::from_str(text) {
                self.remember_ids(&message);
            }
            let group = groups.entry(frame.as_ptr()).or_default();
            assert!(!group.contains(conn), "a message is sent twice: {text}");
            group.push(*conn);
            let sent = self.sent_bytes.entry(*conn).or_default();
            *sent += text.len();
            assert!(*sent <= MAX_SENT_BYTES, "one action sends {sent} bytes to {conn:?}");
        }
        self.groups.extend(groups.into_values());
        self.open.retain(|conn, _| !closed.contains(conn));
    }

    /// Remembers strings in fields that contain ids.
    fn remember_ids(&mut self, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.remember_ids(value)),
            Value::Object(members) => {
                for (name, value) in members {
                    let is_id = matches!(name.as_str(), "room_id" | "peer_id" | "invite_code" | "node_id" | "clientId");
                    if let (true, Value::String(id)) = (is_id, value)
                        && !self.ids.contains(id)
                    {
                        self.ids.push(id.clone());
                    }
                    self.remember_ids(value);
                }
            }
            _ => {}
        }
    }
}

struct Run {
    hub: Hub,
    now: Time,
    sink: Sink,
    /// The memory of all clients.
    memory: Arc<MemoryAccount>,
    last_conn: u64,
    clients: BTreeMap<char, ConnId>,
    /// The room of each member after the last action; `None` if the console is not open in this run.
    rooms: Option<BTreeMap<ConnId, Room>>,
}

/// The memory budget that the settings may select, in bytes: enough for a few parameters, delayed messages or messages.
const MEMORY_BUDGET: u64 = 8_192;

/// The source of posts.
const SYSTEM: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn limits(settings: &str) -> SignalingLimits {
    let has = |digit: char| settings.contains(digit);
    let heartbeat =
        Heartbeat { interval: (!has('1')).then(|| Duration::from_secs(30)), timeout: Duration::from_secs(61) };
    let broadcast = BroadcastSettings {
        secret: (!has('2')).then(|| Secret::new("test-secret")),
        envelope: if has('3') { Envelope::Dynode } else { Envelope::Document },
        idle_timeout: has('4').then(|| Duration::from_secs(40)),
        max_connection_age: has('4').then(|| Duration::from_secs(100)),
        ..BroadcastSettings::default()
    };
    let dialects = ('a'..='z').zip(Dialect::ALL).filter(|(letter, _)| !has(*letter));
    SignalingLimits {
        max_message_bytes: 4_096,
        max_updates: 2,
        message_rate: if has('6') { None } else { Some(5) },
        cost_rate: None,
        max_rooms_per_address: if has('7') { 1 } else { 3 },
        max_webrtc_members: 3,
        webrtc_requires_token: has('F'),
        test_room_prefix: Some("J".to_owned()),
        dialects: dialects.map(|(_, dialect)| dialect).collect(),
        control_surface: ControlSurfaceLimits { max_members: 3, max_rooms: 3, ..ControlSurfaceLimits::default() },
        heartbeat,
        broadcast,
        allowed_origins: Vec::new(),
        is_strict: has('G'),
    }
}

fn handlers(settings: &str) -> RoomHandlers {
    let mut handlers = RoomHandlers::default();
    let envelope = if settings.contains('3') { Envelope::Dynode } else { Envelope::Document };
    handlers.insert("radio", RadioRoom::new(Duration::from_millis(700), envelope));
    let broadcast_delay = Duration::from_secs(1);
    let open = DeclaredRoom { is_public: true, max_clients: Some(2), stamp: true, ..DeclaredRoom::default() };
    handlers.insert("open", open.clone());
    handlers.insert("late", DeclaredRoom { broadcast_delay, ..open });
    handlers.insert("relay", RelayRoom);
    handlers
}

impl Run {
    fn new(settings: &str) -> Self {
        let hub = Hub::new(limits(settings), [1, 2, 3, 4]).with_handlers(handlers(settings));
        let has_console = !settings.contains('9');
        Self {
            hub,
            now: Time::from_millis(1),
            sink: Sink::default(),
            memory: MemoryBudget::new(settings.contains('E').then_some(MEMORY_BUDGET)).account(None),
            last_conn: 0,
            clients: BTreeMap::new(),
            rooms: has_console.then(BTreeMap::new),
        }
    }

    /// Calls the hub, and reads the queues.
    fn call<T>(&mut self, action: impl FnOnce(&Hub, WallClock) -> T) -> T {
        let result = action(&self.hub, self.now.into());
        self.sink.read();
        result
    }

    fn act(&mut self, line: &str) {
        self.now += Duration::from_millis(1);
        self.sink.sent_bytes.clear();
        self.sink.groups.clear();
        let Some(first) = line.chars().next() else { return };
        let rest = &line[first.len_utf8()..];
        match first {
            'a'..='h' => self.act_of_client(first, rest),
            '@' => self.advance(rest.parse().unwrap_or(1_000).min(MAX_ADVANCE_MS)),
            '#' => self.post(rest),
            _ => self.act_of_program(first, rest),
        }
        self.check();
    }

    fn act_of_client(&mut self, name: char, action: &str) {
        let Some(operation) = action.chars().next() else { return };
        let rest = &action[operation.len_utf8()..];
        if operation == '+' {
            return self.connect(name, rest);
        }
        let Some(conn) = self.clients.get(&name).copied() else { return };
        match operation {
            '>' => {
                let text = self.with_ids(rest);
                self.call(|hub, now| {
                    hub.charge(now, conn, Message::Text(&text));
                    hub.on_message(now, conn, Message::Text(&text));
                });
            }
            '!' => self.call(|hub, now| hub.on_message(now, conn, Message::Binary(9))),
            '.' => self.hub.on_activity(self.now.into(), conn),
            '-' | '/' => {
                self.sink.open.remove(&conn);
                self.clients.remove(&name);
                if operation == '-' {
                    self.call(|hub, now| hub.on_disconnect(now, conn));
                } else {
                    self.call(|hub, now| hub.on_close(now, conn, CloseCode::NORMAL_CLOSURE, rest));
                }
            }
            _ => return,
        }
        self.check_receivers(Some(conn), |_| true);
    }

    fn connect(&mut self, name: char, target: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let dialects = &self.hub.limits().dialects;
        let Ok(route) = route(path, query, dialects) else { return };
        assert!(route.dialect().is_none_or(|dialect| dialects.contains(&dialect)));
        if let Route::Broadcast(params) = &route {
            assert!(params.room.as_ref().is_none_or(|room| !room.is_empty() && !room.contains('/')));
        }
        if let Some(conn) = self.clients.remove(&name) {
            self.sink.open.remove(&conn);
            self.call(|hub, now| hub.on_disconnect(now, conn));
            self.check_receivers(Some(conn), |_| true);
            self.sink.groups.clear();
        }
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let source = match name {
            'a' | 'b' | 'c' => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            'd' | 'e' => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, name as u16)),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        self.clients.insert(name, conn);
        let connection = NewConnection { source, route, local_ip: Ipv4Addr::LOCALHOST };
        let queue = self.hub.on_connect(self.now.into(), conn, connection, &self.memory);
        self.sink.open.insert(conn, queue);
        self.sink.read();
        self.check_receivers(Some(conn), |_| true);
    }

    /// Replaces `$1` to `$9` by ids.
    fn with_ids(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let index = letters.peek().and_then(|digit| digit.to_digit(10)).filter(|digit| letter == '$' && *digit > 0);
            match index.and_then(|index| self.sink.ids.get(index as usize - 1)) {
                Some(id) => {
                    replaced.push_str(id);
                    letters.next();
                }
                None => replaced.push(letter),
            }
        }
        replaced
    }

    fn post(&mut self, rest: &str) {
        let (room, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let format = if self.last_conn.is_multiple_of(2) { PostFormat::Object } else { PostFormat::Typed };
        let posted = self.hub.post_to_room(self.now.into(), (SYSTEM, &self.memory), room, (format, body.as_bytes()));
        self.sink.read();
        if let Ok(posted) = posted {
            serde_json::from_str::<Value>(&posted.message).expect("the relayed message is JSON");
        }
        self.check_receivers(None, |at| *at == (Dialect::Broadcast.name(), room.to_owned()));
    }

    fn act_of_program(&mut self, command: char, rest: &str) {
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<f32>().ok());
        let code = words[0];
        let (hub, now) = (&self.hub, self.now.into());
        match command {
            'C' => {
                let options = CreateRoomOptions {
                    code: (!code.is_empty()).then(|| code.to_owned()),
                    max_members: words.get(1).and_then(|word| word.parse().ok()),
                    lifetime: words.get(2).and_then(|word| word.parse().ok()).map(Duration::from_secs),
                };
                if let Ok(room) = hub.create_room(now, options) {
                    assert!((4..=6).contains(&room.code.len()) && room.code.bytes().all(|byte| byte.is_ascii_digit()));
                }
            }
            'X' => _ = hub.close_room(now, code),
            'P' => _ = hub.broadcast_param(now, words.get(2).copied(), code, number(1).unwrap_or_default()),
            'R' => {
                let range = (number(1).unwrap_or_default(), number(2).unwrap_or_default());
                let _ = hub.declare_range(now, code, range, number(3));
            }
            'V' => {
                let values: Vec<f32> = words.iter().filter_map(|word| word.parse().ok()).collect();
                let _ = hub.broadcast_visualization(now, None, &values);
            }
            _ => return,
        }
        self.sink.read();
        let rooms = self.hub.control_surface_rooms();
        assert!(rooms.len() <= self.hub.limits().control_surface.max_rooms);
        self.check_receivers(None, |(dialect, _)| *dialect == Dialect::ControlSurface.name());
    }

    /// Calls the hub until no timer is due. A call handles only a part of a burst.
    fn run_due_timers(&mut self) {
        for _ in 0..MAX_CALLS_PER_DEADLINE {
            self.call(Hub::on_deadline);
            if self.hub.next_deadline(Waker::noop()).is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("the deadline does not move forward");
    }

    fn advance(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        for _ in 0..MAX_DEADLINES {
            let Some(next) = self.hub.next_deadline(Waker::noop()).filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.sink.sent_bytes.clear();
            self.run_due_timers();
        }
        self.now = until;
        self.run_due_timers();
        // A connection without a room may receive the reason why it is closed.
        let is_member = |conn: &ConnId| self.rooms.as_ref().is_some_and(|rooms| rooms.contains_key(conn));
        self.sink.groups.retain(|group| group.len() > 1 || group.iter().all(is_member));
        self.check_receivers(None, |_| true);
    }

    /// The room of each member.
    fn members(&mut self) -> BTreeMap<ConnId, Room> {
        let snapshot = self.hub.snapshot(WallClock::from(self.now), u64::MAX, false);
        let mut members = BTreeMap::new();
        let limits = self.hub.limits();
        for room in snapshot.rooms {
            let max = match room.dialect {
                "webrtc" => limits.max_webrtc_members,
                "broadcast" if matches!(room.id.as_str(), "open" | "late") => 2,
                name if name == Dialect::ControlSurface.name() => limits.control_surface.max_members,
                _ => usize::MAX,
            };
            let count = room.members.iter().filter(|member| !member.is_control_channel).count();
            assert!(count <= max, "{room:?}");
            assert_eq!(room.members.len(), room.member_count);
            for member in room.members {
                let conn = ConnId(member.connection);
                assert!(self.sink.open.contains_key(&conn), "{conn:?} is a member, but not connected");
                assert_eq!(members.insert(conn, (room.dialect, room.id.clone())), None, "{conn:?} is in two rooms");
            }
        }
        assert_eq!(members.len() + snapshot.unjoined.len(), self.sink.open.len());
        members
    }

    /// Each message since the last action reaches only `actor`, the connection that acts, and the members of one room, before or after the
    /// action. The room is one in which `actor` is or was, and one of those that `is_possible` selects.
    fn check_receivers(&mut self, actor: Option<ConnId>, is_possible: impl Fn(&Room) -> bool) {
        let Some(before) = self.rooms.take() else { return };
        let after = self.members();
        let is_in = |conn: &ConnId, room: &Room| [&before, &after].iter().any(|rooms| rooms.get(conn) == Some(room));
        for group in &self.sink.groups {
            let others: Vec<&ConnId> = group.iter().filter(|conn| Some(**conn) != actor).collect();
            let Some(first) = others.first() else { continue };
            let is_shared = |room: &&Room| {
                is_possible(room) && actor.iter().chain(others.iter().copied()).all(|conn| is_in(conn, room))
            };
            let mut rooms = [before.get(first), after.get(first)].into_iter().flatten();
            assert!(
                rooms.any(|room| is_shared(&room)),
                "an action of {actor:?} reaches {group:?}: {before:?} {after:?}"
            );
        }
        self.rooms = Some(after);
    }

    fn check(&mut self) {
        self.clients.retain(|_, conn| self.sink.open.contains_key(conn));
        let totals = self.hub.total_counters();
        assert_eq!(totals.connections_opened, self.last_conn);
    }

    /// All clients leave, and all deadlines pass.
    fn leave(mut self) {
        for (_, conn) in std::mem::take(&mut self.clients) {
            self.sink.open.remove(&conn);
            self.call(|hub, now| hub.on_disconnect(now, conn));
        }
        assert!(self.sink.open.is_empty());
        // The places of the owners of test rooms are kept for 5 s.
        self.advance(5_000);
        self.sink.groups.clear();
        let snapshot = self.hub.snapshot(WallClock::from(self.now), 0, false);
        assert!(snapshot.unjoined.is_empty(), "{snapshot:?}");
        let is_permanent = |dialect: &str| dialect == Dialect::ControlSurface.name();
        assert!(
            snapshot.rooms.iter().all(|room| is_permanent(room.dialect) && room.members.is_empty()),
            "{snapshot:?}"
        );
        self.advance(MAX_ADVANCE_MS);
    }
}
