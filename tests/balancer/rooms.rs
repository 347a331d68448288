//! The rooms whose name stands in the URL, as their members see them through a balancer.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;

use jamjam_dev::signaling::token::{Claims, Secret, sign};
use serde_json::{Map, json};
use test_support::server::{Member, poll_until, send_to};
use tungstenite::Error;

/// A room of both dialects, which have the same key and therefore the same server.
pub(crate) struct Room {
    /// Or a server.
    pub(crate) balancer: SocketAddr,
    name: String,
    /// The name in a query.
    query: String,
    broadcast: Vec<Member>,
    webrtc: Vec<Member>,
    joined: usize,
    posted: usize,
}

impl Room {
    /// The name in a query, with the letters escaped that may also stand there as they are.
    fn escaped(&self) -> String {
        self.query.replace('+', "%20").replace('?', "%3F").replace(';', "%3B")
    }

    /// A room without members. `space` is how a client writes a space in a query.
    pub(crate) fn new(balancer: SocketAddr, name: String, space: &str) -> Self {
        let query = name.replace('%', "%25").replace('+', "%2B").replace(' ', space);
        Self { balancer, name, query, broadcast: Vec::new(), webrtc: Vec::new(), joined: 0, posted: 0 }
    }

    /// Rooms with these numbers, each with this number of members.
    pub(crate) fn several(balancer: SocketAddr, numbers: Range<usize>, members: usize, space: &str) -> Vec<Self> {
        let mut rooms: Vec<_> = numbers.map(|number| Self::new(balancer, format!("room {number}"), space)).collect();
        for room in &mut rooms {
            room.join(members);
        }
        rooms
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        self.name.replace('%', "%25").replace(' ', "%20").replace('?', "%3F")
    }

    fn token(&self) -> String {
        let claims = Claims::new("ann", &self.name, Map::new(), 4_000_000_000_000, 1.0);
        sign(&Secret::new("test-secret"), &claims)
    }

    /// Adds members, whose URLs have all forms in turn. Each must find the earlier ones.
    pub(crate) fn join(&mut self, members: usize) {
        for _ in 0..members {
            let (path, query, escaped) = (self.path(), &self.query, self.escaped());
            let forms = [
                format!("/{path}?"),
                format!("/rooms/{path}?"),
                format!("/{path}/?"),
                format!("/rooms/{path}/?"),
                format!("/?room={query}&"),
                format!("/ws?room={escaped}&"),
                format!("/ws/?room={query}&room=other&"),
            ];
            let mut member = self.connect(&format!("{}token={}", forms[self.joined % forms.len()], self.token()));
            member.skip_to("welcome");
            self.broadcast.push(member);

            let (member, found) = self.join_webrtc();
            assert_eq!(found, self.webrtc.len(), "members of {}", self.name);
            for other in &mut self.webrtc {
                other.receive_type("participant-joined");
            }
            self.webrtc.push(member);
        }
    }

    /// A new WebRTC member, and how many others it finds.
    pub(crate) fn join_webrtc(&mut self) -> (Member, usize) {
        let (query, escaped, user) = (&self.query, self.escaped(), self.joined);
        let forms = [
            format!("/?roomId={query}&userId={user}"),
            format!("/ws?userId={user}&roomId={escaped}"),
            format!("/ws/?roomId=other&roomId={query}&userId={user}"),
        ];
        let mut member = self.connect(&format!("{}&userName=Ann", forms[user % forms.len()]));
        self.joined += 1;
        let others = member.skip_to("welcome")["participants"].as_array().unwrap().len() - 1;
        if others > 0 {
            member.receive_type("existing-participants");
        }
        (member, others)
    }

    /// A client that tries again until it is connected.
    fn connect(&self, url: &str) -> Member {
        poll_until(url, || Member::try_connect(self.balancer, url, &[]).ok())
    }

    /// Checks that posts and the messages of a member are the next that all members receive: none of them was lost, and none has noticed
    /// anything before.
    pub(crate) fn assert_complete(&mut self) {
        let (path, members) = (self.path(), self.broadcast.len());
        for (form, status) in [(format!("/{path}/postcontent"), 200), (format!("/rooms/{path}/post"), 202)] {
            self.posted += 1;
            let data = json!({"n": self.posted});
            let body = json!({"type": "post", "timestamp": "2026-11-27T10:00:00Z", "data": data});
            let bearer = format!("Authorization: Bearer {}", self.token());
            let response = send_to(self.balancer, "POST", &form, &[&bearer], &body.to_string());
            assert_eq!(response.status, status, "{response:?}");
            if status == 200 {
                assert_eq!(response.json()["clientCount"], members, "{}", self.name);
            }
            for member in &mut self.broadcast {
                let received = member.receive();
                assert_eq!(received["content"], data, "{received}");
            }
        }
        let (first, others) = self.webrtc.split_first_mut().unwrap();
        first.send_json(&json!({"type": "participant-update", "updates": {"n": self.posted}}));
        for other in others {
            let received = other.receive();
            assert_eq!(
                (&received["type"], &received["updates"]["n"]),
                (&json!("participant-update"), &json!(self.posted))
            );
        }
    }

    /// Waits until all members have lost their connections, and forgets them.
    pub(crate) fn wait_until_lost(&mut self) {
        for mut member in self.broadcast.drain(..).chain(self.webrtc.drain(..)) {
            let error = std::iter::from_fn(|| Some(member.0.read())).find_map(Result::err).unwrap();
            let timed_out = matches!(&error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock);
            assert!(!timed_out, "a member of {} keeps its connection", self.name);
        }
    }
}
