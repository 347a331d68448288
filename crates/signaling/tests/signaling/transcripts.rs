//! Runs the transcripts of `fixtures/signaling` against a hub in memory. The transcripts were written from the specifications of the dialects.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use jamjam_core::time::WallClock;
use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::token::Secret;
use jamjam_signaling::{ConnId, CreateRoomOptions, Dialect, Hub, Message, SignalingLimits};
use test_support::transcript::{Progress, TranscriptServer, run_transcript};
use test_support::transcript_files::{Transcript, transcripts};

use crate::test_hub::TestHub;

/// A hub in memory, and a record of what a transcript has checked. The clock starts in 1970, and advances by a millisecond per action.
pub(crate) struct TranscriptHub {
    hub: TestHub,
    now_ms: u64,
    last: u64,
    /// Connections and URLs.
    clients: BTreeMap<String, (u64, String)>,
    /// Every message that a transcript has read, with the URL of its client.
    pub(crate) received: Vec<(String, String)>,
    /// How the connections ended whose end a transcript has checked: the URL, and the code and reason of a close frame.
    pub(crate) ended: Vec<(String, Option<(u16, String)>)>,
}

impl TranscriptHub {
    /// Creates an empty hub. The ids are derived from `key`. The hub's fixed secret verifies the tokens of the transcripts.
    pub(crate) fn new(key: [u64; 4]) -> Self {
        let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
        let hub = TestHub::with_key(SignalingLimits { broadcast, ..SignalingLimits::default() }, None, 0, key);
        let (clients, received, ended) = Default::default();
        Self { hub, now_ms: 1, last: 0, clients, received, ended }
    }

    /// The time of the next action, in milliseconds.
    fn next_ms(&mut self) -> u64 {
        self.now_ms += 1;
        self.now_ms
    }

    fn act<T>(&mut self, call: impl FnOnce(&Hub, WallClock) -> T) -> T {
        let now_ms = self.next_ms();
        self.hub.at(now_ms, call)
    }

    /// The position of the client's next unread message.
    fn unread(&self, name: &str) -> Option<usize> {
        let conn = self.clients[name].0;
        self.hub.sink.texts.iter().position(|(to, _)| *to == conn)
    }

    /// Removes a client, whose connection has ended.
    fn remove(&mut self, name: &str) -> (u64, String) {
        let (conn, url) = self.clients.remove(name).expect("a connected client");
        self.hub.queues.remove(&conn);
        (conn, url)
    }
}

impl TranscriptServer for TranscriptHub {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        self.last += 1;
        self.clients.insert(name.to_owned(), (self.last, to.to_owned()));
        let now_ms = self.next_ms();
        self.hub.connect_from(self.last, "127.0.0.1", now_ms, to);
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let conn = ConnId(self.clients[name].0);
        self.act(|hub, now| hub.on_message(now, conn, Message::Text(text)));
        Ok(())
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let conn = ConnId(self.clients[name].0);
        self.act(|hub, now| hub.on_message(now, conn, Message::Binary(0)));
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let (conn, _) = self.remove(name);
        self.act(|hub, now| hub.on_disconnect(now, ConnId(conn)));
        Ok(())
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        let unread = self.unread(name).ok_or_else(|| format!("{name} receives nothing"))?;
        let (_, text) = self.hub.sink.texts.remove(unread);
        self.received.push((self.clients[name].1.clone(), text.clone()));
        Ok(text)
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        let unread = self.unread(name).map(|unread| &self.hub.sink.texts[unread].1);
        unread.map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        self.no_message(name)?;
        let (conn, url) = self.remove(name);
        let sink = &mut self.hub.sink;
        let ended = if let Some(closed) = sink.closed.iter().position(|(closed, ..)| *closed == conn) {
            let (_, code, reason) = sink.closed.remove(closed);
            Some((code, reason))
        } else {
            let aborted = sink.aborted.iter().position(|aborted| *aborted == conn);
            sink.aborted.remove(aborted.ok_or_else(|| format!("{name} is not closed"))?);
            None
        };
        self.ended.push((url, ended.clone()));
        Ok(ended)
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        let (conn, pinged) = (self.clients[name].0, &mut self.hub.sink.pinged);
        let position = pinged.iter().position(|pinged| *pinged == conn);
        pinged.remove(position.ok_or_else(|| format!("{name} is not pinged"))?);
        Ok(())
    }

    /// Handles every deadline, with the clock set to that deadline.
    fn advance(&mut self, seconds: u64) -> bool {
        self.hub.sink.pinged.clear();
        let until_ms = self.now_ms + 1_000 * seconds;
        let next_ms = |hub: &Hub| Some(hub.next_deadline(Waker::noop())?.as_nanos().div_ceil(1_000_000));
        while let Some(next_ms) = next_ms(&self.hub.hub).filter(|next| *next <= until_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            self.hub.on_deadline(self.now_ms);
        }
        self.now_ms = until_ms;
        true
    }

    fn program(&mut self, command: &str) -> Result<bool, String> {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |word: &str| word.parse::<f32>().map_err(|error| format!("{word}: {error}"));
        let seconds = |word: &str| word.parse().map(Duration::from_secs).ok();
        let (command, room) = match &*words {
            [command @ .., "in", code] => (command, Some(*code)),
            command => (command, None),
        };
        let executed = match *command {
            ["creates", "room", code, ref rest @ ..] => {
                let (max_members, lifetime) = match *rest {
                    [] => (None, None),
                    ["for", members] => (members.parse().ok(), None),
                    ["for", members, "expiring", life] => (members.parse().ok(), seconds(life)),
                    _ => return Err(format!("invalid room: {command:?}")),
                };
                let options = CreateRoomOptions { code: Some(code.to_owned()), max_members, lifetime };
                self.act(|hub, now| hub.create_room(now, options)).map(drop)
            }
            ["closes", "room", code] => self.act(|hub, now| hub.close_room(now, code)).map(drop),
            ["sets", name, value] => {
                let value = number(value)?;
                self.act(|hub, now| hub.broadcast_param(now, room, name, value)).map(drop)
            }
            ["declares", name, min, max, ref at @ ..] => {
                let value = if let ["at", value] = at { Some(number(value)?) } else { None };
                let range = (number(min)?, number(max)?);
                self.act(|hub, now| hub.declare_range(now, name, range, value)).map(drop)
            }
            ["shows", ref values @ ..] => {
                let data: Vec<f32> = values.iter().map(|value| number(value)).collect::<Result<_, _>>()?;
                self.act(|hub, now| hub.broadcast_visualization(now, room, &data)).map(drop)
            }
            _ => return Err(format!("unknown program action: {command:?}")),
        };
        executed.map(|()| true).map_err(|unfit| unfit.to_string())
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))?;
        let (closed, aborted) = (&self.hub.sink.closed, &self.hub.sink.aborted);
        let is_quiet = closed.is_empty() && aborted.is_empty();
        if is_quiet { Ok(()) } else { Err(format!("the server closes {closed:?} and drops {aborted:?}")) }
    }
}

/// The ids of jamjam rooms are random, and some expectations depend on their letters.
#[test]
fn every_transcript_passes_and_those_of_jamjam_for_any_ids() {
    for Transcript { dialect, name, text } in transcripts() {
        let run = |key| run_transcript(&text, &mut TranscriptHub::new(key));
        assert_eq!(run([1, 2, 3, 4]), Ok(Progress::Complete), "{name}");
        for key in 0..if dialect == Dialect::Jamjam { 20 } else { 0 } {
            let progress = run([key, 0, 0, key]);
            assert!(progress.is_ok(), "{name}, key {key}: {}", progress.unwrap_err());
        }
    }
}

#[test]
fn wrong_transcript_fails_with_the_position() {
    let run = |lines: &str| {
        let transcript = format!("ann connects\nann> {{\"type\":\"ListRooms\"}}\n{lines}\n");
        run_transcript(&transcript, &mut TranscriptHub::new([1, 2, 3, 4]))
    };
    let reply = r#"ann< {"type":"RoomList","data":{"rooms":[]}}"#;
    assert_eq!(run(&format!("# a comment\n\n{reply}")), Ok(Progress::Complete));
    for (lines, expected) in [
        ("", "at the end: ann receives"),
        ("ann receives nothing", "line 3: ann receives nothing\n    ann receives"),
        (&reply.replace("RoomList", "Rooms"), "message.type is \"RoomList\", expected \"Rooms\""),
        (&reply.replace(r#"{"type":"RoomList","#, "{"), "message.type is unexpected: \"RoomList\""),
        (&reply.replace(r#"{"type""#, r#"{"a":1,"type""#), "message.a is missing, expected 1"),
        (&format!("{reply}\nann is closed 1008 x"), "ann is not closed"),
        (&format!("{reply}\nann sends hello"), "invalid transcript line"),
    ] {
        let error = run(lines).expect_err(lines);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
}
