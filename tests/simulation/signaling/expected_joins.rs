//! Expected messages for a new connection.

use jamjam_dev::signaling::ConnId;

use crate::signaling::action::Token;
use crate::signaling::model::{Client, MAX_MEMBERS, MAX_ROOMS, MAX_UNDECIDED, Membership, Model, Speaks};

impl Model {
    fn comes(&mut self, conn: ConnId, from: u8, speaks: Speaks) {
        let client = Client { from, speaks, lived: self.now, spoke: self.now, wrong_codes: 0 };
        self.clients.insert(conn, client);
    }

    /// On the bare path nothing is sent. Above the limit the oldest connection is closed.
    pub(crate) fn connects(&mut self, conn: ConnId, from: u8) {
        let undecided = self.clients.iter().filter(|(_, client)| client.speaks == Speaks::Undecided);
        let undecided: Vec<ConnId> = undecided.map(|(conn, _)| *conn).collect();
        if undecided.len() >= MAX_UNDECIDED {
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
        let is_there = self.memberships.iter().any(|membership| membership.room == room);
        if !is_there && self.made_by(from, Speaks::Broadcast) >= MAX_ROOMS {
            return self.close(conn, 1_013);
        }
        let (id, nothing) = (id.to_owned(), String::new());
        if control {
            self.expect_message(conn, "control-welcome", &[]);
        } else {
            let nicks = self.members(&room).into_iter().filter_map(|membership| membership.nick);
            let shown: Vec<String> = match name {
                "radio" => self.radio.iter().rev().take(5).cloned().collect(),
                "chat" => nicks.collect(),
                _ => Vec::new(),
            };
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            self.expect_message(conn, "welcome", &shown);
        }
        self.sit(Membership { room, conn, control, id, name: nothing, nick: None });
    }

    /// To a WebRTC room as a user.
    pub(crate) fn joins(&mut self, conn: ConnId, from: u8, room: &str, user: &str, name: &str) {
        self.comes(conn, from, Speaks::WebRtc);
        if [room, user, name].contains(&"") {
            return self.close(conn, 1_008);
        }
        let room = format!("webrtc {room}");
        let there = self.members(&room);
        let former = there.iter().find(|membership| membership.id == user).map(|membership| membership.conn);
        if there.is_empty() && self.made_by(from, Speaks::WebRtc) >= MAX_ROOMS {
            return self.close(conn, 1_013);
        }
        if former.is_none() && there.len() >= MAX_MEMBERS {
            return self.close(conn, 1_013);
        }
        if let Some(former) = former {
            // No member is informed that they left.
            self.memberships.retain(|membership| membership.conn != former);
            self.close(former, 1_000);
        }
        let (id, name) = (user.to_owned(), name.to_owned());
        self.sit(Membership { room: room.clone(), conn, control: false, id, name: name.clone(), nick: None });
        let all = self.names(&room);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.expect_for_others(&room, Some(conn), "participant-joined", &[&[&*name], &all[..]].concat());
        self.expect_message(conn, "welcome", &all);
        if all.len() > 1 {
            self.expect_message(conn, "existing-participants", &all[..all.len() - 1]);
        }
    }
}
