//! Runs a transcript against a hub in memory. Each client has its own message queue.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::Waker;

use jamjam_core::memory_budget::{MemoryAccount, MemoryBudget};
use jamjam_core::time::Time;
use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::send_queue::SendQueue;
use jamjam_signaling::token::Secret;
use jamjam_signaling::{ConnId, CreateRoomOptions, Dialect, Hub, Message, NewConnection, SignalingLimits, route};

use crate::read_queue::{Received, read_queue};
use crate::transcript::TranscriptServer;

/// A hub and its connections. Connections are numbered from 1; the clock advances by a millisecond per action.
pub struct InMemoryHub {
    hub: Hub,
    memory: Arc<MemoryAccount>,
    now: Time,
    last: u64,
    conns: BTreeMap<String, ConnId>,
    queues: BTreeMap<ConnId, Arc<SendQueue>>,
    /// The unread messages of each client.
    waiting: BTreeMap<ConnId, VecDeque<String>>,
    /// Connections that the server closed (with code and reason) or dropped (`None`), until a line of the transcript checks it.
    closed: BTreeMap<ConnId, Option<(u16, String)>>,
    pinged: Vec<ConnId>,
    urls: BTreeMap<String, String>,
    /// Every message that a transcript has read, with the URL of its client.
    pub received: Vec<(String, String)>,
    /// How the connections ended whose end a transcript has checked: the URL, and the code and reason of a close frame.
    pub ended: Vec<(String, Option<(u16, String)>)>,
}

impl InMemoryHub {
    /// Creates an empty hub. The ids are derived from `key`. The hub's fixed secret verifies the tokens of the transcripts.
    pub fn new(key: [u64; 4]) -> Self {
        let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
        let hub = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, key);
        Self {
            hub,
            memory: MemoryBudget::new(None).account(None),
            now: Time::from_millis(1),
            last: 0,
            conns: BTreeMap::new(),
            queues: BTreeMap::new(),
            waiting: BTreeMap::new(),
            closed: BTreeMap::new(),
            pinged: Vec::new(),
            urls: BTreeMap::new(),
            received: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Reads the queues of all connections.
    fn read(&mut self) {
        for (conn, queue) in &self.queues {
            for received in read_queue(queue) {
                match received {
                    Received::Text(text) => self.waiting.entry(*conn).or_default().push_back(text),
                    Received::Ping => self.pinged.push(*conn),
                    Received::End(end) => drop(self.closed.insert(*conn, end)),
                }
            }
        }
    }

    /// Returns the time of the next action, and the connection of the client `name`.
    fn act(&mut self, name: &str) -> (Time, ConnId) {
        self.now += std::time::Duration::from_millis(1);
        (self.now, self.conns[name])
    }
}

impl TranscriptServer for InMemoryHub {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        self.last += 1;
        self.conns.insert(name.to_owned(), ConnId(self.last));
        self.urls.insert(name.to_owned(), to.to_owned());
        let (now, conn) = self.act(name);
        let (path, query) = to.split_once('?').unwrap_or((to, ""));
        let route = route(path, query, &Dialect::ALL).map_err(str::to_owned)?;
        let connection =
            NewConnection { source: IpAddr::V4(Ipv4Addr::LOCALHOST), route, local_ip: Ipv4Addr::LOCALHOST };
        self.queues.insert(conn, self.hub.on_connect(now.into(), conn, connection, &self.memory));
        self.read();
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.hub.on_message(now.into(), conn, Message::Text(text));
        self.read();
        Ok(())
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.hub.on_message(now.into(), conn, Message::Binary(0));
        self.read();
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.conns.remove(name);
        self.queues.remove(&conn);
        self.hub.on_disconnect(now.into(), conn);
        self.read();
        Ok(())
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        let waiting = self.waiting.get_mut(&self.conns[name]);
        let text = waiting.and_then(VecDeque::pop_front).ok_or_else(|| format!("{name} receives nothing"))?;
        self.received.push((self.urls[name].clone(), text.clone()));
        Ok(text)
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        let waiting = self.waiting.get(&self.conns[name]).and_then(VecDeque::front);
        waiting.map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        self.no_message(name)?;
        let conn = self.conns.remove(name).ok_or("is not there")?;
        self.queues.remove(&conn);
        let ended = self.closed.remove(&conn).ok_or_else(|| format!("{name} is not closed"))?;
        self.ended.push((self.urls[name].clone(), ended.clone()));
        Ok(ended)
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        let conn = self.conns[name];
        let position = self.pinged.iter().position(|pinged| *pinged == conn);
        let position = position.ok_or_else(|| format!("{name} is not pinged"))?;
        self.pinged.swap_remove(position);
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> bool {
        self.pinged.clear();
        let until = self.now + std::time::Duration::from_secs(seconds);
        // Handles every deadline up to `until`, with the clock set to that deadline.
        while let Some(next) = self.hub.next_deadline(Waker::noop()).filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.hub.on_deadline(self.now.into());
            self.read();
        }
        self.now = until;
        true
    }

    fn program(&mut self, command: &str) -> Result<bool, String> {
        self.now += std::time::Duration::from_millis(1);
        let words: Vec<&str> = command.split(' ').collect();
        let number = |word: &str| word.parse::<f32>().map_err(|error| format!("{word}: {error}"));
        let seconds = |word: &str| word.parse().map(std::time::Duration::from_secs).ok();
        let (command, room) = match &*words {
            [command @ .., "in", code] => (command, Some(*code)),
            command => (command, None),
        };
        let (hub, now) = (&self.hub, self.now.into());
        let executed = match *command {
            ["creates", "room", code, ref rest @ ..] => {
                let (max_members, lifetime) = match *rest {
                    [] => (None, None),
                    ["for", members] => (members.parse().ok(), None),
                    ["for", members, "expiring", life] => (members.parse().ok(), seconds(life)),
                    _ => return Err(format!("invalid room: {command:?}")),
                };
                let options = CreateRoomOptions { code: Some(code.to_owned()), max_members, lifetime };
                hub.create_room(now, options).map(drop)
            }
            ["closes", "room", code] => hub.close_room(now, code).map(drop),
            ["sets", name, value] => hub.broadcast_param(now, room, name, number(value)?).map(drop),
            ["declares", name, min, max] => hub.declare_range(now, name, (number(min)?, number(max)?), None).map(drop),
            ["declares", name, min, max, "at", value] => {
                hub.declare_range(now, name, (number(min)?, number(max)?), Some(number(value)?)).map(drop)
            }
            ["shows", ref values @ ..] => {
                let data: Vec<f32> = values.iter().map(|value| number(value)).collect::<Result<_, _>>()?;
                hub.broadcast_visualization(now, room, &data).map(drop)
            }
            _ => return Err(format!("unknown program action: {command:?}")),
        };
        self.read();
        executed.map(|()| true).map_err(|unfit| unfit.to_string())
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.conns.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))?;
        let ended = self.closed.first_key_value();
        ended.map_or(Ok(()), |(conn, end)| Err(format!("the server closes {conn:?} with {end:?}")))
    }
}
