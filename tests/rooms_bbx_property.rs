//! Any sequence of deeds of surfaces, of clients of jamjam beside them, of the program and of time: nobody hears what is not theirs,
//! everybody in a room hears its values, and nothing is left behind but the rooms that the program keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::rooms::{Conn, Event, Hub, Limits, Making, Outlet, Route, SurfaceLimits, Visitor};
use jamjam_dev::time::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

const CODES: [&str; 3] = ["1111", "2222", "3333"];

#[derive(Default)]
struct Told {
    messages: BTreeMap<Conn, Vec<Value>>,
    events: Vec<Event>,
    ended: Vec<Conn>,
}

impl Outlet for Told {
    fn send(&mut self, to: &[Conn], text: String) {
        for conn in to {
            self.messages.entry(*conn).or_default().push(serde_json::from_str(&text).expect("JSON"));
        }
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn close(&mut self, conn: Conn, _: u16, _: &str) {
        self.ended.push(conn);
    }

    fn ping(&mut self, _: Conn) {}

    fn cut(&mut self, conn: Conn) {
        self.ended.push(conn);
    }
}

/// Something that one of six connections does, or the program, or time.
#[derive(Clone, Debug)]
enum Deed {
    Connect,
    Gone,
    Join(usize),
    /// A parameter; the value is to hold so many seconds later.
    Param(u8, Option<u64>),
    /// `sync`, `trigger`, `ping`, `leave`, or a request of jamjam.
    Say(u8),
    Noise(String),
    Make(usize, u64),
    Close(usize),
    Set(Option<usize>),
    Show(Option<usize>),
    Range(u8),
    Pass(u64),
}

fn deed() -> impl Strategy<Value = (u64, Deed)> {
    let deed = prop_oneof![
        3 => Just(Deed::Connect),
        1 => Just(Deed::Gone),
        6 => (0usize..3).prop_map(Deed::Join),
        6 => (0u8..3, prop::option::of(0u64..70)).prop_map(|(name, later)| Deed::Param(name, later)),
        4 => (0u8..6).prop_map(Deed::Say),
        1 => ".{0,40}".prop_map(Deed::Noise),
        4 => (0usize..3, 1u64..100).prop_map(|(room, life)| Deed::Make(room, life)),
        1 => (0usize..3).prop_map(Deed::Close),
        2 => prop::option::of(0usize..3).prop_map(Deed::Set),
        1 => prop::option::of(0usize..3).prop_map(Deed::Show),
        1 => (0u8..3).prop_map(Deed::Range),
        1 => (1u64..40).prop_map(Deed::Pass),
    ];
    (0u64..6, deed)
}

proptest! {
    #[test]
    fn whatever_happens_values_stay_in_their_room_and_rooms_stay_as_long_as_the_program_wants(
        deeds in prop::collection::vec(deed(), 1..150),
    ) {
        let surfaces = SurfaceLimits { members: 3, ..SurfaceLimits::default() };
        let mut hub = Hub::new(Limits { rate: None, surfaces, ..Limits::default() }, [1, 2, 3, 4]);
        let (mut told, mut now, mut next) = (Told::default(), 0_u64, 0_u64);
        let mut conns: BTreeMap<u64, Conn> = BTreeMap::new();
        // Which room each surface is in by what it was told, and the seconds at which rooms end.
        let mut seats: BTreeMap<Conn, usize> = BTreeMap::new();
        let mut rooms: BTreeMap<usize, u64> = BTreeMap::new();
        for (place, deed) in deeds {
            told = Told::default();
            let conn = conns.get(&place).copied();
            let before = seats.clone();
            let at = Time::ZERO + Duration::from_secs(now);
            let seat = conn.and_then(|conn| seats.get(&conn).copied());
            let say = |hub: &mut Hub, told: &mut Told, message: Value| if let Some(conn) = conn {
                hub.on_text(at, conn, &message.to_string(), told);
            };
            // Whose members may hear something now, beside the one who acts.
            let mut theirs: BTreeSet<usize> = seat.into_iter().collect();
            let mut set_now = false;
            match deed {
                Deed::Connect if conn.is_none() => {
                    next += 1;
                    conns.insert(place, Conn(next));
                    let visitor = Visitor { from: IpAddr::from([192, 0, 2, next as u8]), route: Route::Undecided };
                    hub.connect(at, Conn(next), visitor, &mut told);
                }
                Deed::Gone => if let Some(conn) = conns.remove(&place) {
                    hub.on_gone(at, conn, &mut told);
                    seats.remove(&conn);
                },
                Deed::Join(room) => {
                    say(&mut hub, &mut told, json!({"type": "join", "room_code": CODES[room]}));
                    let others = seats.iter().filter(|(other, seat)| **seat == room && Some(**other) != conn).count();
                    let answer = conn.and_then(|conn| told.messages.get(&conn)?.last());
                    if let Some(conn) = conn && let Some(answer) = answer {
                        let expected = if !rooms.contains_key(&room) { "INVALID_ROOM" } else if others == 3 { "ROOM_FULL" } else { "" };
                        prop_assert_eq!(answer["code"].as_str().unwrap_or_default(), expected);
                        if answer["type"] == "welcome" {
                            seats.insert(conn, room);
                        }
                    }
                }
                Deed::Param(name, later) => {
                    let due = later.map(|seconds| (now + seconds) * 1_000_000);
                    say(&mut hub, &mut told, json!({"type": "param", "param": format!("p{name}"), "value": name, "at": due}));
                    set_now = seat.is_some() && later.is_none_or(|later| later == 0 || later > 60);
                }
                Deed::Say(kind) => say(&mut hub, &mut told, match kind {
                    0 => json!({"type": "sync"}),
                    1 => json!({"type": "trigger", "name": "t"}),
                    2 => json!({"type": "ping", "client_time": 1}),
                    3 => json!({"type": "leave"}),
                    4 => json!({"type": "ListRooms"}),
                    _ => json!({"type": "CreateRoom", "data": {"room_name": "r", "peer_name": "p"}}),
                }),
                Deed::Noise(text) => if let Some(conn) = conn { hub.on_text(at, conn, &text, &mut told) },
                Deed::Make(room, life) => {
                    let making = Making { code: Some(CODES[room].to_owned()), life: Some(Duration::from_secs(life)), members: None };
                    prop_assert_eq!(hub.make_room(at, making).is_ok(), !rooms.contains_key(&room));
                    rooms.entry(room).or_insert(now + life);
                }
                Deed::Close(room) => {
                    theirs.insert(room);
                    let members = seats.values().filter(|seat| **seat == room).count();
                    prop_assert_eq!(hub.close_room(CODES[room], &mut told).ok(), rooms.remove(&room).map(|_| members));
                }
                Deed::Set(room) => {
                    theirs.extend(room.map_or(vec![0, 1, 2], |room| vec![room]));
                    let members = seats.values().filter(|seat| room.is_none_or(|room| room == **seat)).count();
                    let is_there = room.is_none_or(|room| rooms.contains_key(&room));
                    let code = room.map(|room| CODES[room]);
                    prop_assert_eq!(hub.set_param(code, "p0", 0.5, &mut told).ok(), is_there.then_some(members));
                }
                Deed::Show(room) => {
                    theirs.extend(room.map_or(vec![0, 1, 2], |room| vec![room]));
                    let members = seats.values().filter(|seat| room.is_none_or(|room| room == **seat)).count();
                    let is_there = room.is_none_or(|room| rooms.contains_key(&room));
                    let code = room.map(|room| CODES[room]);
                    prop_assert_eq!(hub.visualize(code, &[0.5], &mut told).ok(), is_there.then_some(members));
                }
                Deed::Range(name) => {
                    theirs.extend([0, 1, 2]);
                    let set = hub.set_range(&format!("p{name}"), (-1.0, 1.0), Some(0.5), &mut told);
                    prop_assert_eq!(set.ok(), Some(seats.len()));
                }
                Deed::Pass(seconds) => {
                    now += seconds;
                    theirs.extend([0, 1, 2]);
                    hub.on_deadline(Time::ZERO + Duration::from_secs(now), &mut told);
                    rooms.retain(|_, end| *end > now);
                }
                Deed::Connect => {}
            }
            if set_now {
                prop_assert!(conn.is_none_or(|conn| !told.messages.contains_key(&conn)), "who said it knows");
                let others = before.iter().filter(|(other, other_seat)| Some(**other) != conn && Some(**other_seat) == seat);
                for (other, _) in others {
                    prop_assert_eq!(told.messages.get(other).map(Vec::len), Some(1), "every other member is told");
                }
            }
            for (hearer, heard) in &told.messages {
                let is_theirs = before.get(hearer).is_some_and(|room| theirs.contains(room));
                prop_assert!(Some(*hearer) == conn || is_theirs, "{hearer:?} hears {heard:?}");
                // Types of jamjam begin with a capital; whoever is in a room of surfaces hears none of them.
                let jamjam = |message: &Value| message["type"].as_str().is_some_and(|kind| kind.starts_with(char::is_uppercase));
                prop_assert!(!before.contains_key(hearer) || !heard.iter().any(jamjam));
            }
            let code = seat.map(|seat| CODES[seat]);
            prop_assert!(told.events.iter().all(|event| Some(event.room.as_str()) == code), "events are those of members");
            for conn in &told.ended {
                seats.remove(conn);
                conns.retain(|_, other| other != conn);
            }
            prop_assert_eq!(hub.surface_rooms().len(), rooms.len());
            let members: usize = hub.surface_rooms().iter().map(|room| room.clients).sum();
            prop_assert_eq!(members, seats.len());
            prop_assert_eq!(hub.counts().connections, conns.len() as u64);
        }
        for conn in conns.into_values() {
            hub.on_gone(Time::ZERO + Duration::from_secs(now), conn, &mut told);
        }
        let counts = hub.counts();
        prop_assert_eq!((counts.connections, counts.members), (0, 0));
        prop_assert_eq!(counts.rooms, rooms.len() as u64);
        hub.on_deadline(Time::ZERO + Duration::from_secs(now + 1_000), &mut told);
        prop_assert_eq!((hub.counts().rooms, hub.next_deadline()), (0, None));
    }
}
