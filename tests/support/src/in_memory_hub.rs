//! Runs a transcript against a hub in memory. Each client has its own message queue.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use jamjam_core::time::Time;
use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::token::Secret;
use jamjam_signaling::{
    CloseCode, ConnId, CreateRoomOptions, Dialect, EventSink, Hub, NewConnection, OutgoingMessage, SignalingLimits,
    route,
};

use crate::transcript::TranscriptServer;

/// A hub and its connections. Connections are numbered from 1; the clock advances by a millisecond per action.
pub struct InMemoryHub {
    hub: Hub,
    now: Time,
    last: u64,
    conns: BTreeMap<String, ConnId>,
    queues: Queues,
    urls: BTreeMap<String, String>,
    /// Every message that a transcript has read, with the URL of its client.
    pub received: Vec<(String, String)>,
    /// How the connections ended whose end a transcript has checked: the URL, and the code and reason of a close frame.
    pub ended: Vec<(String, Option<(u16, String)>)>,
}

/// Collects the output of the hub: each client's unread messages, the ended connections, and the pings.
#[derive(Default)]
struct Queues {
    waiting: BTreeMap<ConnId, VecDeque<String>>,
    /// Connections that the server closed (with code and reason) or dropped (`None`), until a line of the transcript checks it.
    ended: BTreeMap<ConnId, Option<(u16, String)>>,
    pinged: Vec<ConnId>,
    faults: Vec<String>,
}

impl EventSink for Queues {
    fn send(&mut self, to: &[ConnId], OutgoingMessage { text, .. }: OutgoingMessage) {
        for conn in to {
            match self.waiting.get_mut(conn) {
                Some(waiting) => waiting.push_back(text.clone()),
                None => self.faults.push(format!("{conn:?}, which is not connected, is sent {text}")),
            }
        }
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        self.ended.insert(conn, Some((code.get(), reason.to_owned())));
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.ended.insert(conn, None);
    }
}

impl InMemoryHub {
    /// Creates an empty hub. The ids are derived from `key`. The hub's fixed secret verifies the tokens of the transcripts.
    pub fn new(key: [u64; 4]) -> Self {
        let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
        let hub = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, key);
        Self {
            hub,
            now: Time::from_millis(1),
            last: 0,
            conns: BTreeMap::new(),
            queues: Queues::default(),
            urls: BTreeMap::new(),
            received: Vec::new(),
            ended: Vec::new(),
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
        self.queues.waiting.insert(conn, VecDeque::new());
        let (path, query) = to.split_once('?').unwrap_or((to, ""));
        let route = route(path, query, &Dialect::ALL).map_err(str::to_owned)?;
        let connection = NewConnection {
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route,
            local_ip: Ipv4Addr::LOCALHOST,
            is_forwarded: false,
        };
        self.hub.at(now.into(), &mut self.queues).on_connect(conn, connection);
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.hub.at(now.into(), &mut self.queues).on_text(conn, text);
        Ok(())
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.hub.at(now.into(), &mut self.queues).on_binary(conn);
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let (now, conn) = self.act(name);
        self.queues.waiting.remove(&conn);
        self.conns.remove(name);
        self.hub.at(now.into(), &mut self.queues).on_disconnect(conn);
        Ok(())
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        let waiting = self.queues.waiting.get_mut(&self.conns[name]);
        let text = waiting.and_then(VecDeque::pop_front).ok_or_else(|| format!("{name} receives nothing"))?;
        self.received.push((self.urls[name].clone(), text.clone()));
        Ok(text)
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        let waiting = self.queues.waiting.get(&self.conns[name]).and_then(VecDeque::front);
        waiting.map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        self.no_message(name)?;
        let conn = self.conns.remove(name).ok_or("is not there")?;
        self.queues.waiting.remove(&conn);
        let ended = self.queues.ended.remove(&conn).ok_or_else(|| format!("{name} is not closed"))?;
        self.ended.push((self.urls[name].clone(), ended.clone()));
        Ok(ended)
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        let conn = self.conns[name];
        let position = self.queues.pinged.iter().position(|pinged| *pinged == conn);
        let position = position.ok_or_else(|| format!("{name} is not pinged"))?;
        self.queues.pinged.swap_remove(position);
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> bool {
        self.queues.pinged.clear();
        let until = self.now + std::time::Duration::from_secs(seconds);
        // Handles every deadline up to `until`, with the clock set to that deadline.
        while let Some(next) = self.hub.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.hub.at(self.now.into(), &mut self.queues).on_deadline();
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
        let mut call = self.hub.at(self.now.into(), &mut self.queues);
        match *command {
            ["creates", "room", code, ref rest @ ..] => {
                let (max_members, lifetime) = match *rest {
                    [] => (None, None),
                    ["for", members] => (members.parse().ok(), None),
                    ["for", members, "expiring", life] => (members.parse().ok(), seconds(life)),
                    _ => return Err(format!("invalid room: {command:?}")),
                };
                let options = CreateRoomOptions { code: Some(code.to_owned()), max_members, lifetime };
                call.hub.create_room(call.now, options).map(drop)
            }
            ["closes", "room", code] => call.close_room(code).map(drop),
            ["sets", name, value] => call.broadcast_param(room, name, number(value)?).map(drop),
            ["declares", name, min, max] => call.declare_range(name, (number(min)?, number(max)?), None).map(drop),
            ["declares", name, min, max, "at", value] => {
                call.declare_range(name, (number(min)?, number(max)?), Some(number(value)?)).map(drop)
            }
            ["shows", ref values @ ..] => {
                let data: Vec<f32> = values.iter().map(|value| number(value)).collect::<Result<_, _>>()?;
                call.broadcast_visualization(room, &data).map(drop)
            }
            _ => return Err(format!("unknown program action: {command:?}")),
        }
        .map(|()| true)
        .map_err(|unfit| unfit.to_string())
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.conns.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))?;
        if let Some((conn, end)) = self.queues.ended.first_key_value() {
            return Err(format!("the server closes {conn:?} with {end:?}"));
        }
        self.queues.faults.first().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}
