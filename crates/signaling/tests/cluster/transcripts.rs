//! The transcripts of all dialects, with the clients on three processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::cluster::{RoomReply, RoomRequest};
use jamjam_signaling::token::Secret;
use jamjam_signaling::{ConnId, CreateRoomOptions, Dialect, SignalingLimits};
use test_support::transcript::{Progress, TranscriptServer, run_transcript};
use test_support::transcript_files::transcripts;

use crate::processes::Cluster;

pub(crate) const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "control_surface", "webrtc"];

/// Three processes, to which the clients of a transcript connect in turn.
pub(crate) struct ThreeProcesses {
    pub(crate) all: Cluster,
    conns: BTreeMap<String, ConnId>,
    connected: usize,
    /// Number of messages that the transcript has read of each connection.
    read: BTreeMap<ConnId, usize>,
}

impl ThreeProcesses {
    pub(crate) fn new(seed: u64) -> Self {
        let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
        let all = Cluster::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, 3, seed);
        Self { all, conns: BTreeMap::new(), connected: 0, read: BTreeMap::new() }
    }

    fn act(&mut self, name: &str) -> ConnId {
        self.all.now += Duration::from_millis(1);
        self.conns[name]
    }

    fn unread(&self, conn: ConnId) -> Option<&String> {
        self.all.queues.received.get(&conn)?.get(self.read.get(&conn).copied().unwrap_or(0))
    }

    fn count(reply: Option<RoomReply>) -> Result<(), String> {
        match reply {
            Some(RoomReply::Count(Ok(_))) => Ok(()),
            Some(RoomReply::Count(Err(error))) => Err(error.to_string()),
            other => Err(format!("unexpected reply: {other:?}")),
        }
    }

    fn in_rooms(&mut self, room: Option<&str>, request: impl Fn(String) -> RoomRequest) -> Result<(), String> {
        let codes = room.map_or_else(|| self.all.surface_codes(), |code| vec![code.to_owned()]);
        codes.into_iter().try_for_each(|code| {
            Self::count(self.all.request(0, Dialect::ControlSurface, &code, request(code.clone())))
        })
    }
}

impl TranscriptServer for ThreeProcesses {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        self.all.now += Duration::from_millis(1);
        let conn = self.all.connect(self.connected % 3, IpAddr::V4(Ipv4Addr::LOCALHOST), to)?;
        self.connected += 1;
        self.conns.insert(name.to_owned(), conn);
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let conn = self.act(name);
        self.all.text(conn, text);
        Ok(())
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let conn = self.act(name);
        self.all.binary(conn);
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let conn = self.act(name);
        self.conns.remove(name);
        self.all.cut(conn);
        Ok(())
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        let conn = self.conns[name];
        let text = self.unread(conn).cloned().ok_or_else(|| format!("{name} receives nothing"))?;
        *self.read.entry(conn).or_default() += 1;
        Ok(text)
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        self.unread(self.conns[name]).map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        self.no_message(name)?;
        let conn = self.conns.remove(name).ok_or("is not there")?;
        self.all.queues.received.remove(&conn);
        self.all.queues.ended.remove(&conn).ok_or_else(|| format!("{name} is not closed"))
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        let (conn, pinged) = (self.conns[name], &mut self.all.queues.pinged);
        let position = pinged.iter().position(|pinged| *pinged == conn);
        pinged.swap_remove(position.ok_or_else(|| format!("{name} is not pinged"))?);
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> bool {
        self.all.queues.pinged.clear();
        self.all.advance(Duration::from_secs(seconds));
        true
    }

    fn program(&mut self, command: &str) -> Result<bool, String> {
        self.all.now += Duration::from_millis(1);
        let words: Vec<&str> = command.split(' ').collect();
        let number = |word: &str| word.parse::<f32>().map_err(|error| format!("{word}: {error}"));
        let (command, room) = match &*words {
            [command @ .., "in", code] => (command, Some(*code)),
            command => (command, None),
        };
        match *command {
            ["creates", "room", code, ref rest @ ..] => {
                let (max_members, lifetime) = match *rest {
                    [] => (None, None),
                    ["for", members] => (members.parse().ok(), None),
                    ["for", members, "expiring", life] => {
                        (members.parse().ok(), life.parse().map(Duration::from_secs).ok())
                    }
                    _ => return Err(format!("invalid room: {command:?}")),
                };
                let options = CreateRoomOptions { code: Some(code.to_owned()), max_members, lifetime };
                self.all.create_surface_room(1, options)?;
            }
            ["closes", "room", code] => self.in_rooms(Some(code), |code| RoomRequest::Close { code })?,
            ["sets", name, value] => {
                let value = number(value)?;
                self.in_rooms(room, |code| RoomRequest::SetParameter { code, name: name.to_owned(), value })?;
            }
            ["declares", name, min, max, ref value @ ..] => {
                let (now, range) = (self.all.clock(), (number(min)?, number(max)?));
                for process in &mut self.all.processes {
                    let declared = process.lobby.declare_range(now, name, range, None, &mut self.all.queues);
                    declared.map_err(|error| error.to_string())?;
                }
                if let ["at", value] = *value {
                    let value = number(value)?;
                    self.in_rooms(None, |code| RoomRequest::SetParameter { code, name: name.to_owned(), value })?;
                }
            }
            ["shows", ref values @ ..] => {
                let data: Vec<f32> = values.iter().map(|value| number(value)).collect::<Result<_, _>>()?;
                self.in_rooms(room, |code| RoomRequest::Visualize { code, data: data.clone() })?;
            }
            _ => return Err(format!("unknown program action: {command:?}")),
        }
        Ok(true)
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.conns.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))?;
        if let Some((conn, end)) = self.all.queues.ended.first_key_value() {
            return Err(format!("the server closes {conn:?} with {end:?}"));
        }
        self.all.queues.faults.first().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}

#[test]
fn every_transcript_passes_with_the_clients_on_three_processes() {
    let mut failures = Vec::new();
    for dialect in DIALECTS {
        for (name, transcript) in transcripts(dialect) {
            match run_transcript(&transcript, &mut ThreeProcesses::new(1)) {
                Ok(Progress::Complete | Progress::UntilLine(_)) => {}
                other => failures.push(format!("{dialect}/{name}: {other:?}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
