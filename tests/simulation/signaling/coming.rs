//! What happens to whoever connects.

use jamjam_dev::signaling::ConnId;

use crate::signaling::deed::Token;
use crate::signaling::world::{Client, MOST_MEMBERS, MOST_ROOMS, MOST_UNDECIDED, Seat, Speaks, World};

impl World {
    fn comes(&mut self, conn: ConnId, from: u8, speaks: Speaks) {
        let client = Client { from, speaks, lived: self.now, spoke: self.now, wrong_codes: 0 };
        self.clients.insert(conn, client);
    }

    /// To the bare path: nothing is said. One too many, and the oldest has to go.
    pub(crate) fn connects(&mut self, conn: ConnId, from: u8) {
        let undecided = self.clients.iter().filter(|(_, client)| client.speaks == Speaks::Undecided);
        let undecided: Vec<ConnId> = undecided.map(|(conn, _)| *conn).collect();
        if undecided.len() >= MOST_UNDECIDED {
            self.close(undecided[0], 1_013);
        }
        self.comes(conn, from, Speaks::Undecided);
    }

    /// To a broadcast room.
    pub(crate) fn enters(&mut self, conn: ConnId, from: u8, room: Option<&str>, control: bool, token: Token, id: &str) {
        self.comes(conn, from, Speaks::Broadcast);
        let Some(name) = room else { return self.close(conn, 4_005) };
        let room = format!("broadcast {name}");
        match token {
            Token::Right => {}
            Token::None => return self.close(conn, 4_001),
            _ => return self.close(conn, 4_002),
        }
        let is_there = self.seats.iter().any(|seat| seat.room == room);
        if !is_there && self.made_by(from, Speaks::Broadcast) >= MOST_ROOMS {
            return self.close(conn, 1_013);
        }
        let (id, nothing) = (id.to_owned(), String::new());
        if control {
            self.hears(conn, "control-welcome", &[]);
        } else {
            let nicks = self.members(&room).into_iter().filter_map(|seat| seat.nick);
            let shown: Vec<String> = match name {
                "radio" => self.radio.iter().rev().take(5).cloned().collect(),
                "chat" => nicks.collect(),
                _ => Vec::new(),
            };
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            self.hears(conn, "welcome", &shown);
        }
        self.sit(Seat { room, conn, control, id, name: nothing, nick: None });
    }

    /// To a WebRTC room as a user.
    pub(crate) fn joins(&mut self, conn: ConnId, from: u8, room: &str, user: &str, name: &str) {
        self.comes(conn, from, Speaks::WebRtc);
        if [room, user, name].contains(&"") {
            return self.close(conn, 1_008);
        }
        let room = format!("webrtc {room}");
        let there = self.members(&room);
        let former = there.iter().find(|seat| seat.id == user).map(|seat| seat.conn);
        if there.is_empty() && self.made_by(from, Speaks::WebRtc) >= MOST_ROOMS {
            return self.close(conn, 1_013);
        }
        if former.is_none() && there.len() >= MOST_MEMBERS {
            return self.close(conn, 1_013);
        }
        if let Some(former) = former {
            // Nobody hears that they left.
            self.seats.retain(|seat| seat.conn != former);
            self.close(former, 1_000);
        }
        let (id, name) = (user.to_owned(), name.to_owned());
        self.sit(Seat { room: room.clone(), conn, control: false, id, name: name.clone(), nick: None });
        let all = self.names(&room);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.others_hear(&room, Some(conn), "participant-joined", &[&[&*name], &all[..]].concat());
        self.hears(conn, "welcome", &all);
        if all.len() > 1 {
            self.hears(conn, "existing-participants", &all[..all.len() - 1]);
        }
    }
}
