//! Calls of the hub from several threads at once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::{
    CloseCode, ConnId, CreateRoomOptions, Dialect, DialectSet, EventSink, Hub, NewConnection, PostBody, PostFormat,
    Snapshot, SnapshotQuery, route,
};
use serde_json::{Value, json};

use crate::test_hub::{create, join, ms, url, with_secret};

const THREADS: u64 = 8;
const ROUNDS: u64 = 60;
const MESSAGES: u64 = 12;

/// Remembers the ids of jamjam rooms.
struct RoomIds<'a>(&'a Mutex<Vec<Value>>);

impl EventSink for RoomIds<'_> {
    fn send(&mut self, _: &[ConnId], text: String) {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if message["type"] == "RoomCreated" {
            self.0.lock().expect("no panic").push(message["data"]["room_id"].clone());
        }
    }

    fn close(&mut self, _: ConnId, _: CloseCode, _: &str) {}

    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

/// The generator `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// Connects, sends messages that change rooms, and disconnects, again and again. Meanwhile, it closes connections and rooms of others.
fn act(hub: &Hub, ids: &Mutex<Vec<Value>>, current: &[AtomicU64], (seed, thread): (u64, u64)) {
    let (mut random, mut sink) = (Random(1_000 * seed + thread), RoomIds(ids));
    for round in 0..ROUNDS {
        let conn = ConnId(thread * ROUNDS + round);
        current[thread as usize].store(conn.0, Ordering::Relaxed);
        let user = random.below(6);
        let to = match random.below(4) {
            0 => format!("/?roomId=r{}&userId=u{user}&userName=n", random.below(3)),
            1 => url(["a", "b", "chat"][random.below(3) as usize]),
            _ => "/".to_owned(),
        };
        let (path, query) = to.split_once('?').unwrap_or((&to, ""));
        let route = route(path, query, DialectSet::default()).expect("a route");
        let source = [192, 0, 2, user as u8].into();
        let connection = NewConnection { source, is_forwarded: false, route };
        hub.at(ms(round), &mut sink).on_connect(conn, connection);
        let is_jamjam = random.below(2) == 0;
        for _ in 0..MESSAGES {
            let known = ids.lock().expect("no panic").clone();
            let message = match (random.below(6), is_jamjam) {
                (0, true) => create(None),
                (1, true) => json!({"type": "LeaveRoom"}),
                (2, true) => json!({"type": "ListRooms"}),
                (_, true) if known.is_empty() => create(None),
                (_, true) => join(&known[random.below(known.len() as u64) as usize], None),
                (0..3, false) => json!({"type": "join", "room_code": format!("100{}", random.below(3))}),
                (_, false) => json!({"type": "param", "param": "p", "value": 0.5}),
            };
            let text = message.to_string();
            let parsed = hub.message_parser(conn).parse(&text);
            hub.at(ms(round), &mut sink).on_parsed_text(conn, parsed);
            let other = ConnId(current[random.below(THREADS) as usize].load(Ordering::Relaxed));
            match random.below(60) {
                0 => drop(hub.at(ms(round), &mut sink).disconnect(other)),
                1 => drop(hub.at(ms(round), &mut sink).close_room(&format!("100{}", random.below(3)))),
                2 => hub.at(ms(round), &mut sink).on_deadline(),
                3 => drop(hub.create_room(ms(round), code(random.below(3)))),
                4 => drop(hub.snapshot(ms(round), &SnapshotQuery::default())),
                5 => drop((hub.total_counters(), hub.webrtc_rooms(10_000, true), hub.broadcast_details(ms(round)))),
                6 => drop(hub.at(ms(round), &mut sink).declare_range("p", (0.0, 2.0), Some(1.0))),
                7 => {
                    let post = (PostFormat::Object, PostBody::parse(b"{\"type\":\"x\"}"));
                    drop(hub.at(ms(round), &mut sink).post_to_room(source, "chat", post));
                }
                8 => drop(hub.at(ms(round), &mut sink).close_room_of(Dialect::WebRtc, "r0")),
                _ => {}
            }
        }
        if random.below(3) > 0 {
            hub.at(ms(round), &mut sink).on_disconnect(conn);
        }
    }
}

fn code(number: u64) -> CreateRoomOptions {
    CreateRoomOptions { code: Some(format!("100{number}")), ..CreateRoomOptions::default() }
}

fn members(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.rooms.iter().flat_map(|room| &room.members).map(|member| member.connection).collect()
}

#[test]
fn threads_leave_no_member_in_two_rooms_no_empty_room_and_nothing_behind() {
    for seed in 0..6 {
        let (hub, ids) = (Hub::new(with_secret(&BroadcastSettings::default()), [seed; 4]), Mutex::default());
        let current = [const { AtomicU64::new(0) }; THREADS as usize];
        (0..3).for_each(|number| drop(hub.create_room(ms(0), code(number))));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (hub, ids, current) = (&hub, &ids, &current);
                scope.spawn(move || act(hub, ids, current, (seed, thread)));
            }
        });
        let snapshot = hub.snapshot(ms(0), &SnapshotQuery::default());
        let members = members(&snapshot);
        assert_eq!(members.iter().collect::<BTreeSet<_>>().len(), members.len());
        let is_empty =
            |dialect: &str| snapshot.rooms.iter().any(|room| room.dialect == dialect && room.member_count == 0);
        assert!(!is_empty("jamjam") && !is_empty("webrtc") && !is_empty("broadcast"));
        let connections = hub.total_counters().connections as usize;
        assert_eq!(members.len() + snapshot.unjoined.len() + snapshot.omitted_unjoined, connections);
        let mut sink = RoomIds(&ids);
        (0..THREADS * ROUNDS).for_each(|conn| hub.at(ms(0), &mut sink).on_disconnect(ConnId(conn)));
        let left = hub.counters_by_dialect();
        assert!(
            left.iter().all(|(dialect, counts)| counts.members == 0 && (*dialect == "bbx" || counts.rooms == 0)),
            "{left:?}"
        );
    }
}
