//! What holds for every dialect: limits, and that nothing is left behind or told to strangers.

#[path = "rooms/logged.rs"]
mod logged;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::rooms::{Conn, Dialects, Heartbeat, Hub, Limits, Outlet, Route, UNDECIDED, Visitor, route};
use jamjam_dev::time::Time;
use logged::logged;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What everybody was told, and who was closed.
#[derive(Default)]
struct Told {
    messages: BTreeMap<Conn, Vec<Value>>,
    closed: Vec<(Conn, u16)>,
    pinged: Vec<Conn>,
    cut: Vec<Conn>,
}

impl Outlet for Told {
    fn send(&mut self, to: &[Conn], text: String) {
        for conn in to {
            self.messages.entry(*conn).or_default().push(serde_json::from_str(&text).expect("JSON"));
        }
    }

    fn close(&mut self, conn: Conn, code: u16, _: &str) {
        self.closed.push((conn, code));
    }

    fn ping(&mut self, conn: Conn) {
        self.pinged.push(conn);
    }

    fn cut(&mut self, conn: Conn) {
        self.cut.push(conn);
    }
}

impl Told {
    fn last(&self, conn: u64) -> &Value {
        self.messages[&Conn(conn)].last().expect("a message")
    }
}

fn hub(limits: Limits) -> (Hub, Told) {
    (Hub::new(limits, [1, 2, 3, 4]), Told::default())
}

fn connect(hub: &mut Hub, told: &mut Told, conn: u64) {
    let visitor = Visitor { from: IpAddr::from([192, 0, 2, 1]), route: Route::Undecided };
    hub.connect(Time::ZERO, Conn(conn), visitor, told);
}

fn say(hub: &mut Hub, told: &mut Told, conn: u64, at_ms: u64, message: &Value) {
    hub.on_text(Time::from_millis(at_ms), Conn(conn), &message.to_string(), told);
}

fn create() -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "r", "password": null, "peer_name": "p"}})
}

#[test]
fn who_says_too_much_is_closed_and_leaves_the_room() {
    let (mut hub, mut told) = hub(Limits { rate: Some(10), ..Limits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &create());
    let room = told.last(1)["data"]["room_id"].clone();
    let join = json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "q"}});
    say(&mut hub, &mut told, 2, 0, &join);
    // Ten a second and twice as many at once: the join and nineteen more.
    (0..19).for_each(|_| say(&mut hub, &mut told, 2, 0, &json!({"type": "ListRooms"})));
    assert_eq!((told.closed.len(), told.messages[&Conn(2)].len()), (0, 20));
    say(&mut hub, &mut told, 2, 99, &json!({"type": "ListRooms"}));
    assert_eq!(told.closed, [(Conn(2), 1008)]);
    assert_eq!(told.last(1)["type"], "PeerLeft");
    let counts = hub.counts();
    assert_eq!((counts.closed_rate, counts.connections, counts.rooms, counts.members), (1, 1, 1, 1));
    // Whoever is gone says nothing more, and keeping to the rate goes on for ever.
    say(&mut hub, &mut told, 2, 5_000, &create());
    (0..1_000).for_each(|turn| say(&mut hub, &mut told, 1, turn * 100, &json!({"type": "ListRooms"})));
    assert_eq!((told.closed.len(), hub.counts().rooms), (1, 1));
}

/// The bytes are those of the literals.
#[test]
fn what_is_said_counts_for_the_dialect_that_it_is_said_in() {
    let (mut hub, mut told) = hub(Limits::default());
    let visitor = |route| Visitor { from: IpAddr::from([192, 0, 2, 1]), route };
    let webrtc = route("/", "roomId=r&userId=u&userName=n", Dialects::default()).unwrap();
    hub.connect(Time::ZERO, Conn(1), visitor(Route::Undecided), &mut told);
    hub.connect(Time::ZERO, Conn(2), visitor(webrtc), &mut told);
    hub.on_text(Time::ZERO, Conn(1), "?", &mut told);
    hub.on_text(Time::ZERO, Conn(1), r#"{"type":"ListRooms"}"#, &mut told);
    hub.on_text(Time::ZERO, Conn(2), r#"{"type":"ping"}"#, &mut told);
    hub.on_text(Time::ZERO, Conn(2), r#"{"type":"sing"}"#, &mut told);
    hub.on_binary(Time::ZERO, Conn(2), &mut told);
    let counted = |asked: &str| {
        let (_, counts) = hub.census().into_iter().find(|(dialect, _)| *dialect == asked).unwrap();
        let heard = (counts.opened, counts.messages_in, counts.bytes_in, counts.ignored);
        (heard, (counts.messages_out, counts.bytes_out))
    };
    assert_eq!(counted("undecided"), ((1, 1, 1, 1), (0, 0)));
    let listed = r#"{"type":"RoomList","data":{"rooms":[]}}"#.len() as u64;
    assert_eq!(counted("jamjam"), ((0, 1, 20, 0), (1, listed)));
    let welcome = r#"{"type":"welcome","roomId":"r","userId":"u","participants":[{"id":"u","name":"n","joinedAt":0}]}"#;
    assert_eq!(counted("webrtc"), ((1, 3, 30, 2), (2, (welcome.len() + r#"{"type":"pong"}"#.len()) as u64)));
    assert_eq!(counted("bbx"), ((0, 0, 0, 0), (0, 0)));
}

#[test]
fn the_oldest_undecided_connection_makes_room_for_the_newest() {
    let (mut hub, mut told) = hub(Limits { undecided: 2, ..Limits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &json!({"type": "ListRooms"}));
    (3..=4).for_each(|conn| connect(&mut hub, &mut told, conn));
    // The first has said what it is; of the others the second came before all.
    assert_eq!(told.closed, [(Conn(2), 1013)]);
    let (spoken, undecided) = hub.census()[0];
    assert_eq!((spoken, undecided.connections), (UNDECIDED, 2));
    assert_eq!((hub.counts().connections, hub.counts().closed_undecided), (3, 1));
    say(&mut hub, &mut told, 2, 0, &create());
    assert_eq!(hub.counts().rooms, 0);
}

#[test]
fn one_address_makes_only_so_many_rooms_and_gets_the_place_of_one_that_has_gone() {
    let (mut hub, mut told) = hub(Limits { rooms_per_address: 2, ..Limits::default() });
    for conn in 1..=3 {
        connect(&mut hub, &mut told, conn);
        say(&mut hub, &mut told, conn, 0, &create());
    }
    assert_eq!(told.last(3), &json!({"type": "Error", "data": {"message": "Too many rooms"}}));
    assert_eq!((hub.counts().rooms, hub.counts().refused), (2, 1));
    hub.on_gone(Time::ZERO, Conn(1), &mut told);
    say(&mut hub, &mut told, 3, 0, &create());
    assert_eq!((hub.counts().rooms, told.last(3)["type"].as_str()), (2, Some("RoomCreated")));
}

#[test]
fn what_is_ignored_or_refused_is_logged_once_a_second_a_connection_and_only_the_first_is_counted() {
    let (mut hub, mut told) = hub(Limits { rate: None, ..Limits::default() });
    let join = json!({"type": "JoinRoom", "data": {"room_id": "nowhere", "password": "secret", "peer_name": "q"}});
    let lines = logged(|| {
        (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
        for at in [0, 999, 1_000, 1_001] {
            say(&mut hub, &mut told, 1, at, &join);
            say(&mut hub, &mut told, 2, at, &json!({"type": "\u{1b}[2J"}));
        }
    });
    let refused = "WARN Refused a message of connection 1 from 192.0.2.1: Room not found";
    let ignored = "WARN Ignored a message of connection 2 from 192.0.2.1: no dialect has this type of message";
    assert_eq!(lines[2..], [refused, ignored, refused, ignored]);
    assert_eq!((hub.counts().ignored, hub.counts().refused), (4, 0));
}

#[test]
fn what_is_too_long_or_binary_has_no_effect_and_is_counted() {
    let (mut hub, mut told) = hub(Limits { message_bytes: 100, ..Limits::default() });
    connect(&mut hub, &mut told, 1);
    let long = format!("{{\"type\":\"ListRooms\",\"x\":\"{}\"}}", "x".repeat(100));
    hub.on_text(Time::ZERO, Conn(1), &long, &mut told);
    hub.on_binary(Time::ZERO, Conn(1), &mut told);
    let candidate = json!({"address": "192.0.2.1:1", "candidate_type": "Host", "priority": 1});
    assert_eq!((hub.counts().ignored, hub.counts().messages_in, told.messages.len()), (2, 2, 0));
    // 64 ways to reach a peer are kept, 65 are refused.
    let (mut hub, mut told) = self::hub(Limits::default());
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &create());
    for (many, ignored) in [(64, 0), (65, 1)] {
        let data = json!({"candidates": vec![candidate.clone(); many], "public_addr": null, "local_addr": null});
        say(&mut hub, &mut told, 1, 0, &json!({"type": "UpdatePeerInfo", "data": data}));
        assert_eq!(hub.counts().ignored, ignored, "{many}");
    }
}

#[test]
fn nobody_is_dropped_who_was_not_asked_for_a_sign_of_life() {
    // More impatient than it asks.
    let heartbeat = Heartbeat { every: Some(Duration::from_secs(30)), patience: Duration::from_secs(10) };
    let (mut hub, mut told) = hub(Limits { heartbeat, ..Limits::default() });
    let asked = route("/", "roomId=r&userId=u&userName=n", Dialects::default()).expect("a way in");
    hub.connect(Time::ZERO, Conn(1), Visitor { from: IpAddr::from([192, 0, 2, 1]), route: asked }, &mut told);
    let mut at = |seconds: u64, hub: &mut Hub| {
        hub.on_deadline(Time::from_millis(seconds * 1_000), &mut told);
        (told.pinged.len(), told.cut.len())
    };
    assert_eq!(at(29, &mut hub), (0, 0));
    assert_eq!(at(30, &mut hub), (1, 0));
    hub.on_alive(Time::from_millis(30_001), Conn(1));
    assert_eq!(at(60, &mut hub), (2, 0), "it has answered");
    assert_eq!(at(90, &mut hub), (2, 1), "it has not");
    assert_eq!((hub.counts().closed_silent, hub.counts().connections, hub.next_deadline()), (1, 0, None));
}

/// Something that one of eight connections does, or time does.
#[derive(Clone, Debug)]
enum Deed {
    Connect,
    /// As this user of this room of WebRTC.
    Join(u8, u8),
    Gone,
    Binary,
    /// A message of jamjam; a room is the one that was made so many rooms ago, by its id or its code.
    Say(u8, usize, bool),
    /// A message of WebRTC, for this user.
    Signal(u8, u8),
    Noise(String),
    /// So many seconds go by.
    Pass(u64),
}

fn deed() -> impl Strategy<Value = (u64, Deed)> {
    let deed = prop_oneof![
        2 => Just(Deed::Connect),
        4 => (0u8..2, 0u8..4).prop_map(|(room, user)| Deed::Join(room, user)),
        1 => Just(Deed::Gone),
        1 => Just(Deed::Binary),
        8 => (0u8..6, 0usize..3, any::<bool>()).prop_map(|(kind, ago, by_code)| Deed::Say(kind, ago, by_code)),
        8 => (0u8..7, 0u8..4).prop_map(|(kind, user)| Deed::Signal(kind, user)),
        1 => ".{0,40}".prop_map(Deed::Noise),
        1 => (1u64..70).prop_map(Deed::Pass),
    ];
    (0u64..8, deed)
}

fn said(kind: u8, room: &str) -> Value {
    match kind {
        0 => create(),
        1 => json!({"type": "JoinRoom", "data": {"room_id": room, "peer_name": "n"}}),
        2 => json!({"type": "LeaveRoom"}),
        3 => json!({"type": "UpdatePeerInfo", "data": {"public_addr": "192.0.2.9:1"}}),
        4 => json!({"type": "ListRooms", "data": null}),
        _ => {
            json!({"type": "ChatMessage", "data": {"sender_id": "x", "sender_name": "x", "content": "c", "timestamp": 1}})
        }
    }
}

fn signalled(kind: u8, user: u8) -> Value {
    let target = format!("u{user}");
    match kind {
        0 => json!({"type": "offer", "targetUserId": target, "sdp": null, "fromUserId": "x"}),
        1 => json!({"type": "answer", "targetUserId": target}),
        2 => json!({"type": "ice-candidate", "targetUserId": target, "candidate": {"a": [1]}}),
        3 => json!({"type": "call-ended", "targetUserId": target}),
        4 => json!({"type": "participant-update", "updates": 1, "userId": "x"}),
        5 => json!({"type": "request-participants"}),
        _ => json!({"type": "ping"}),
    }
}

proptest! {
    #[test]
    fn whatever_happens_only_a_room_hears_its_members_and_nothing_stays_when_all_have_gone(
        deeds in prop::collection::vec(deed(), 1..120),
    ) {
        let (mut hub, mut told) = hub(Limits { rate: None, webrtc_members: 3, ..Limits::default() });
        let mut now_ms = 0;
        // Each place takes a new connection when it connects again.
        let mut conns: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = 0;
        // Who is in which room: of jamjam by what they have been told themselves, of WebRTC (`w…`) by what they asked for. Then
        // the ids of those in the latter; and all rooms of jamjam, in order.
        let mut seats: BTreeMap<Conn, String> = BTreeMap::new();
        let mut users: BTreeMap<Conn, String> = BTreeMap::new();
        let mut rooms: Vec<(String, String)> = Vec::new();
        for (place, deed) in deeds {
            let conn = conns.get(&place).copied();
            (told.messages, told.closed, told.cut, told.pinged) = Default::default();
            let before = seats.clone();
            let mut target = None;
            let at = Time::from_millis(now_ms);
            match (deed, conn) {
                (Deed::Connect, None) => {
                    next += 1;
                    conns.insert(place, next);
                    connect(&mut hub, &mut told, next);
                    prop_assert!(told.messages.is_empty(), "nothing is said before the client speaks");
                }
                (Deed::Join(room, user), None) => {
                    next += 1;
                    let (seat, user) = (format!("w{room}"), format!("u{user}"));
                    let query = format!("roomId={seat}&userId={user}&userName=n");
                    let asked = route("/", &query, Dialects::default()).expect("a way in");
                    let visitor = Visitor { from: IpAddr::from([192, 0, 2, 1]), route: asked };
                    let there: Vec<Conn> = seats.iter().filter(|(_, other)| **other == seat).map(|(conn, _)| *conn).collect();
                    let former = there.iter().copied().find(|conn| users[conn] == user);
                    hub.connect(at, Conn(next), visitor, &mut told);
                    if former.is_none() && there.len() == 3 {
                        prop_assert_eq!(&told.closed, &[(Conn(next), 1013)]);
                        prop_assert!(told.messages.is_empty());
                    } else {
                        prop_assert_eq!(&told.closed, &former.iter().map(|conn| (*conn, 1000)).collect::<Vec<_>>());
                        conns.insert(place, next);
                        seats.insert(Conn(next), seat);
                        users.insert(Conn(next), user);
                    }
                }
                (Deed::Gone, Some(conn)) => {
                    hub.on_gone(at, Conn(conn), &mut told);
                    conns.remove(&place);
                    seats.remove(&Conn(conn));
                }
                (Deed::Binary, Some(conn)) => hub.on_binary(at, Conn(conn), &mut told),
                (Deed::Noise(text), Some(conn)) => hub.on_text(at, Conn(conn), &text, &mut told),
                // It would make a control surface of who is undecided.
                (Deed::Signal(6, _), Some(conn)) if !users.contains_key(&Conn(conn)) => {}
                (Deed::Signal(kind, user), Some(conn)) => {
                    say(&mut hub, &mut told, conn, now_ms, &signalled(kind, user));
                    target = (kind < 4).then(|| format!("u{user}"));
                }
                (Deed::Say(kind, ago, by_code), Some(conn)) => {
                    let room = rooms.iter().rev().nth(ago).map_or("none", |(id, code)| if by_code { code } else { id });
                    say(&mut hub, &mut told, conn, now_ms, &said(kind, room));
                    let answer = told.messages.get(&Conn(conn)).and_then(|all| all.last());
                    let room = answer.and_then(|answer| answer["data"]["room_id"].as_str()).map(str::to_owned);
                    match (answer.and_then(|answer| answer["type"].as_str()), room) {
                        (Some("RoomCreated"), Some(id)) => {
                            let code = answer.and_then(|answer| answer["data"]["invite_code"].as_str()).unwrap_or_default();
                            rooms.push((id.clone(), code.to_owned()));
                            seats.insert(Conn(conn), id);
                        }
                        (Some("RoomJoined"), Some(id)) => {
                            seats.insert(Conn(conn), id);
                        }
                        _ if kind == 2 && !users.contains_key(&Conn(conn)) => {
                            seats.remove(&Conn(conn));
                        }
                        _ => {}
                    }
                }
                (Deed::Pass(seconds), _) => {
                    now_ms += seconds * 1_000;
                    hub.on_deadline(Time::from_millis(now_ms), &mut told);
                }
                _ => {}
            }
            let ended: BTreeSet<Conn> = told.closed.iter().map(|(conn, _)| *conn).chain(told.cut.iter().copied()).collect();
            seats.retain(|conn, _| !ended.contains(conn));
            conns.retain(|_, conn| !ended.contains(&Conn(*conn)));
            prop_assert!(told.cut.iter().chain(&told.pinged).all(|conn| users.contains_key(conn)), "others are not pinged");
            // Whoever is told something was in a room with whoever did it, or who ended, or did it; and is still there.
            let doers: BTreeSet<Conn> = conn.map(Conn).into_iter().chain(conns.get(&place).map(|conn| Conn(*conn)))
                .chain(told.cut.iter().copied()).collect();
            let theirs: BTreeSet<&String> = doers.iter().flat_map(|doer| before.get(doer).into_iter().chain(seats.get(doer))).collect();
            for (hearer, heard) in &told.messages {
                let room = before.get(hearer);
                prop_assert!(doers.contains(hearer) || room.is_some_and(|room| theirs.contains(room)), "{hearer:?}");
                prop_assert!(!told.closed.iter().any(|(conn, _)| conn == hearer), "{hearer:?}");
                if let Some(target) = &target && before.get(hearer).is_some_and(|room| room.starts_with('w')) {
                    prop_assert_eq!(&users[hearer], target);
                }
                // Types of jamjam begin with a capital, those of WebRTC do not.
                let speaks_webrtc = users.contains_key(hearer);
                for message in heard {
                    let kind = message["type"].as_str().unwrap_or_default();
                    prop_assert_eq!(kind.starts_with(char::is_lowercase), speaks_webrtc, "{}", kind);
                }
            }
            let live: BTreeSet<&String> = seats.values().collect();
            prop_assert_eq!((hub.counts().rooms, hub.counts().members), (live.len() as u64, seats.len() as u64));
            prop_assert_eq!(hub.counts().connections, conns.len() as u64);
        }
        for conn in conns.into_values() {
            hub.on_gone(Time::from_millis(now_ms), Conn(conn), &mut told);
        }
        let counts = hub.counts();
        prop_assert_eq!((counts.connections, counts.rooms, counts.members), (0, 0, 0));
        prop_assert_eq!(hub.webrtc_rooms(), "[]");
        hub.on_deadline(Time::from_millis(1_000_000_000), &mut told);
        prop_assert_eq!(hub.next_deadline(), None);
    }
}
