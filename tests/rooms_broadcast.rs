//! Broadcast rooms against the transcripts in `fixtures/rooms/broadcast`, which were written from the protocol: played to a hub in
//! memory.

#[path = "rooms/compare.rs"]
mod compare;
#[path = "rooms/hall.rs"]
mod hall;
#[path = "rooms/scripts.rs"]
mod scripts;
#[path = "rooms/transcript.rs"]
mod transcript;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use hall::Hall;
use jamjam_dev::rooms::broadcast::token::{Claims, Secret, sign};
use jamjam_dev::rooms::broadcast::{Form, Refusal, Settings};
use jamjam_dev::rooms::{BroadcastCounts, Conn, Dialects, Hub, Limits, Outlet, Visitor, route};
use jamjam_dev::time::Time;
use proptest::prelude::*;
use scripts::scripts;
use serde_json::{Map, Value, json};
use transcript::{Played, play};

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let mut wrong = String::new();
    let scripts = scripts("broadcast");
    assert!(scripts.len() >= 22, "{} transcripts", scripts.len());
    for (name, script) in scripts {
        let played = play(&script, &mut Hall::new([1, 2, 3, 4]));
        if played != Ok(Played::Whole) {
            let _ = writeln!(wrong, "{name}: {played:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What each connection was told, and who was closed.
#[derive(Default)]
struct Told {
    messages: Vec<(Conn, Value)>,
    closed: Vec<Conn>,
}

impl Outlet for Told {
    fn send(&mut self, to: &[Conn], text: String) {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        self.messages.extend(to.iter().map(|conn| (*conn, message.clone())));
    }

    fn close(&mut self, conn: Conn, _: u16, _: &str) {
        self.closed.push(conn);
    }

    fn ping(&mut self, _: Conn) {}

    fn cut(&mut self, conn: Conn) {
        self.closed.push(conn);
    }
}

/// Somebody with a token for room `radio`.
fn in_radio(hub: &mut Hub, secret: &Secret, conn: Conn) {
    let token = sign(secret, &Claims::new("c", "radio", Map::new(), 1, 1e6));
    let route = route("/radio", &format!("token={token}"), Dialects::default()).unwrap();
    let visitor = Visitor { from: IpAddr::from([192, 0, 2, 1]), route };
    hub.connect(Time::ZERO, conn, visitor, &mut Told::default());
}

#[test]
fn ten_thousand_messages_wait_for_a_room_and_more_are_refused_until_their_time_has_come() {
    let secret = Secret::new("s");
    let broadcast = Settings { secret: Some(secret.clone()), ..Settings::default() };
    let mut hub = Hub::new(Limits { broadcast, rate: None, ..Limits::default() }, [1, 2, 3, 4]);
    let (ann, bob) = (Conn(1), Conn(2));
    in_radio(&mut hub, &secret, ann);
    in_radio(&mut hub, &secret, bob);
    let mut told = Told::default();
    for number in 0..10_000 {
        hub.on_text(Time::ZERO, ann, &format!(r#"{{"type":"post","content":{number},"delay":5}}"#), &mut told);
    }
    assert!(told.messages.is_empty());
    hub.on_text(Time::ZERO, ann, r#"{"type":"post","content":"more","delay":5}"#, &mut told);
    let refusal = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    assert_eq!(told.messages, [(ann, refusal)]);
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let posted = hub.post(Time::ZERO.into(), "radio", Form::Free, body, &mut told);
    assert_eq!(posted, Err(Refusal::TooManyWaiting));
    // What does not wait is relayed.
    told.messages.clear();
    hub.on_text(Time::ZERO, ann, r#"{"content":"now"}"#, &mut told);
    assert_eq!(told.messages[0].1["content"], "now");
    told.messages.clear();
    hub.on_deadline(Time::ZERO + Duration::from_secs(5), &mut told);
    let heard: Vec<_> = told.messages.iter().map(|(conn, message)| (*conn, message["content"].as_u64())).collect();
    assert_eq!(heard, (0..10_000).map(|number| (bob, Some(number))).collect::<Vec<_>>());
    assert_eq!((hub.counts().waiting, hub.counts().refused), (0, 2));
    assert!(hub.post(Time::ZERO.into(), "radio", Form::Free, body, &mut told).is_ok());
}

const ROOMS: [&str; 3] = ["radio", "chat", "lobby"];

/// What one of six places does: each has a room and may be its control channel; the last one is a client of jamjam in a room that is
/// called like one of ours.
#[derive(Clone, Debug)]
enum Deed {
    Come(usize, bool),
    Go,
    Say(u8),
    Noise(String),
    Post(usize, u8),
    Pass(u64),
}

fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let deed = prop_oneof![
        4 => (0usize..3, prop::bool::weighted(0.2)).prop_map(|(room, control)| Deed::Come(room, control)),
        2 => Just(Deed::Go),
        8 => (0u8..6).prop_map(Deed::Say),
        1 => ".{0,40}".prop_map(Deed::Noise),
        2 => (0usize..3, 0u8..6).prop_map(|(room, kind)| Deed::Post(room, kind)),
        2 => (1u64..40).prop_map(Deed::Pass),
    ];
    (0usize..6, deed)
}

/// A message that says where it was said.
fn said(kind: u8, room: &str) -> Value {
    let room = format!("in {room}");
    match kind {
        0 => json!({"type": "setUsername", "username": room}),
        1 => json!({"type": "chatMessage", "text": room}),
        2 => json!({"type": "post", "content": room, "delay": 20, "durationSeconds": 5}),
        3 => json!({"type": "keepalive", "content": room}),
        4 => json!({"type": "CreateRoom", "data": {"room_name": room, "peer_name": room}}),
        _ => json!({"type": "offer", "targetUserId": "u", "content": room}),
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_room_is_heard_by_its_members_alone_and_nothing_stays_when_all_have_gone(
        deeds in prop::collection::vec(deed(), 1..120),
    ) {
        let secret = Secret::new("s");
        let broadcast = Settings { secret: Some(secret.clone()), idle: Some(Duration::from_secs(35)), ..Settings::default() };
        let mut hub = Hub::new(Limits { broadcast, rate: None, ..Limits::default() }, [1, 2, 3, 4]);
        let (mut at, mut next) = (Time::from_millis(1), 0);
        let mut places: BTreeMap<usize, (Conn, usize, bool)> = BTreeMap::new();
        for (place, deed) in deeds {
            let mut told = Told::default();
            let there = places.get(&place).copied();
            let before = places.clone();
            match (deed, there) {
                (Deed::Come(room, control), None) => {
                    next += 1;
                    let token = sign(&secret, &Claims::new("c", ROOMS[room], Map::new(), 1, 1e6));
                    let end = if control { "/remotecontrol" } else { "" };
                    let path = if place == 5 { "/".to_owned() } else { format!("/rooms/{}{end}", ROOMS[room]) };
                    let query = if place == 5 { String::new() } else { format!("token={token}") };
                    let visitor = Visitor {
                        from: IpAddr::from([192, 0, 2, 1]),
                        route: route(&path, &query, Dialects::default()).unwrap(),
                    };
                    places.insert(place, (Conn(next), room, control));
                    hub.connect(at, Conn(next), visitor, &mut told);
                    prop_assert!(told.closed.is_empty());
                }
                (Deed::Go, Some((conn, ..))) => {
                    hub.on_gone(at, conn, &mut told);
                    places.remove(&place);
                }
                (Deed::Say(kind), Some((conn, room, _))) => hub.on_text(at, conn, &said(kind, ROOMS[room]).to_string(), &mut told),
                (Deed::Noise(text), Some((conn, ..))) => hub.on_text(at, conn, &text, &mut told),
                (Deed::Post(room, kind), _) => {
                    let body = said(kind, ROOMS[room]).to_string();
                    prop_assert!(hub.post(at.into(), ROOMS[room], Form::Free, body.as_bytes(), &mut told).is_ok());
                }
                (Deed::Pass(seconds), _) => {
                    at += Duration::from_secs(seconds);
                    hub.on_deadline(at, &mut told);
                }
                _ => {}
            }
            places.retain(|_, (conn, ..)| !told.closed.contains(conn));
            for (conn, message) in &told.messages {
                let by = before.iter().chain(&places).find(|(_, (other, ..))| other == conn);
                let (place, (_, room, control)) = by.expect("somebody who is there");
                let kind = message["type"].as_str().unwrap_or_default();
                if *place == 5 {
                    prop_assert!(!kind.ends_with("-content") && kind != "welcome", "{}", message);
                    continue;
                }
                for other in ROOMS.iter().filter(|other| **other != ROOMS[*room]) {
                    prop_assert!(!message.to_string().contains(&format!("in {other}")), "{} hears {}", ROOMS[*room], message);
                    prop_assert!(kind != format!("{other}-content"), "{} hears {}", ROOMS[*room], message);
                }
                let is_content = kind.ends_with("-content");
                prop_assert!(!(is_content && *control), "a control channel hears {}", message);
                prop_assert!(message.get("rc").is_none() || *control, "a member hears {}", message);
            }
        }
        let mut told = Told::default();
        for (conn, ..) in places.into_values() {
            hub.on_gone(at, conn, &mut told);
        }
        at += Duration::from_secs(4_000);
        hub.on_deadline(at, &mut told);
        let counts = hub.counts();
        prop_assert_eq!((counts.connections, counts.rooms, counts.members, counts.waiting), (0, 0, 0, 0));
        prop_assert_eq!((hub.broadcast_counts(), hub.next_deadline()), (BroadcastCounts::default(), None));
    }
}
