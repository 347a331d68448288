//! Expected messages for a new connection.

use jamjam_signaling::ConnId;

use crate::simulation::action::Token;
use crate::simulation::model::{Client, ClientDialect, MAX_MEMBERS, MAX_ROOMS, MAX_UNDECIDED, Membership, Model};

impl Model {
    fn add_client(&mut self, conn: ConnId, from: u8, dialect: ClientDialect) {
        let client = Client { from, dialect, last_activity: self.now, last_text: self.now, failed_guesses: 0 };
        self.clients.insert(conn, client);
    }

    /// A connection at path `/`. The server sends nothing to a new connection. If the dialect of [`MAX_UNDECIDED`] connections is still
    /// undecided, the server closes the oldest of these connections.
    pub(crate) fn on_connect(&mut self, conn: ConnId, from: u8) {
        let undecided = self.clients.iter().filter(|(_, client)| client.dialect == ClientDialect::Undecided);
        let undecided: Vec<ConnId> = undecided.map(|(conn, _)| *conn).collect();
        if undecided.len() >= MAX_UNDECIDED {
            self.close(undecided[0], 1_013);
        }
        self.add_client(conn, from, ClientDialect::Undecided);
    }

    /// A connection to a broadcast room.
    pub(crate) fn on_broadcast_connect(
        &mut self,
        conn: ConnId,
        from: u8,
        room: Option<&str>,
        control: bool,
        token: Token,
        id: &str,
    ) {
        self.add_client(conn, from, ClientDialect::Broadcast);
        let Some(name) = room else { return self.close(conn, 4_005) };
        let room = format!("broadcast {name}");
        match token {
            Token::Valid => {}
            Token::None => return self.close(conn, 4_001),
            _ => return self.close(conn, 4_002),
        }
        let is_there = self.memberships.iter().any(|membership| membership.room == room);
        if !is_there && self.rooms_created_by(from, ClientDialect::Broadcast) >= MAX_ROOMS {
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
        self.add_member(Membership { room, conn, control, id, name: nothing, nick: None });
    }

    /// A connection to a WebRTC room as a user.
    pub(crate) fn on_webrtc_connect(&mut self, conn: ConnId, from: u8, room: &str, user: &str, name: &str) {
        self.add_client(conn, from, ClientDialect::WebRtc);
        if [room, user, name].contains(&"") {
            return self.close(conn, 1_008);
        }
        let room = format!("webrtc {room}");
        let there = self.members(&room);
        let former = there.iter().find(|membership| membership.id == user).map(|membership| membership.conn);
        if there.is_empty() && self.rooms_created_by(from, ClientDialect::WebRtc) >= MAX_ROOMS {
            return self.close(conn, 1_013);
        }
        if former.is_none() && there.len() >= MAX_MEMBERS {
            return self.close(conn, 1_013);
        }
        if let Some(former) = former {
            // The other members are not informed that `former` leaves the room.
            self.memberships.retain(|membership| membership.conn != former);
            self.close(former, 1_000);
        }
        let (id, name) = (user.to_owned(), name.to_owned());
        self.add_member(Membership { room: room.clone(), conn, control: false, id, name: name.clone(), nick: None });
        let all = self.names(&room);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.expect_for_others(&room, Some(conn), "participant-joined", &[&[&*name], &all[..]].concat());
        self.expect_message(conn, "welcome", &all);
        if all.len() > 1 {
            self.expect_message(conn, "existing-participants", &all[..all.len() - 1]);
        }
    }
}
