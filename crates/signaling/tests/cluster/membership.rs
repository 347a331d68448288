//! Members of several processes in one room: who may enter, who has left, and what is counted where.

use std::net::IpAddr;
use std::time::Duration;

use jamjam_signaling::broadcast::{BroadcastSettings, PostBody, PostFormat};
use jamjam_signaling::cluster::{Command, Replica, RoomReply};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{
    ConnId, CreateRoomOptions, Dialect, DialectCounters, Heartbeat, SignalingLimits, SnapshotQuery,
};
use serde_json::{Map, Value, json};

use crate::processes::{Cluster, password_hash};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn limits() -> SignalingLimits {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
    SignalingLimits { broadcast, ..SignalingLimits::default() }
}

fn three() -> Cluster {
    Cluster::new(limits(), 3, 1)
}

fn broadcast_url(room: &str) -> String {
    format!("/{room}?token={}", sign(&Secret::new("s"), &Claims::new("c", room, Map::new(), 0, 1e6)))
}

fn join_url(user: &str) -> String {
    format!("/?roomId=r&userId={user}&userName=n")
}

impl Cluster {
    fn connects(&mut self, at: usize, url: &str) -> ConnId {
        self.connect(at, HERE, url).expect("a route")
    }

    fn sends(&mut self, conn: ConnId, message: &Value) {
        self.text(conn, &message.to_string());
    }

    fn last(&self, conn: ConnId) -> Value {
        let received = &self.queues.received[&conn];
        received.last().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"))
    }

    fn types(&self, conn: ConnId) -> Vec<String> {
        let received = self.queues.received[&conn].iter();
        let message_type = |text: &String| {
            let message: Value = serde_json::from_str(text).expect("JSON");
            message["type"].as_str().expect("a type").to_owned()
        };
        received.map(message_type).collect()
    }

    /// The counters of all processes together.
    fn counters(&self) -> DialectCounters {
        let mut total = DialectCounters::default();
        self.processes.iter().for_each(|process| total += process.lobby.total_counters());
        total
    }

    fn create_code(&mut self, code: &str, max_members: usize) {
        let options = CreateRoomOptions { code: Some(code.to_owned()), max_members: Some(max_members), lifetime: None };
        self.create_surface_room(0, options).expect("a room");
    }

    /// The only room.
    fn room(&self) -> u64 {
        *self.logs.keys().last().expect("a room")
    }
}

#[test]
fn members_of_a_departed_process_leave_with_1006_in_the_order_of_joining() {
    let mut all = three();
    let [ann, bob, cat, _dan] =
        [(0, "ann"), (1, "bob"), (1, "cat"), (2, "dan")].map(|(at, user)| all.connects(at, &join_url(user)));
    let dead = all.kill(1);
    assert_eq!(all.queues.received[&ann].len(), 4);
    let room = all.room();
    all.append(0, room, Command::Depart { process: dead.number });
    let left: Vec<Value> =
        all.queues.received[&ann][4..].iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let left: Vec<_> = left.iter().map(|message| (message["type"].as_str(), message["userId"].as_str())).collect();
    assert_eq!(left, [(Some("participant-left"), Some("bob")), (Some("participant-left"), Some("cat"))]);
    let (replica, _) = &all.processes[0].replicas[&room];
    assert_eq!((replica.members(), replica.processes().into_iter().collect::<Vec<_>>()), (2, vec![0, 2]));
    // A second departure changes nothing, and the numbers of connections are never used again.
    let before = all.queues.received[&ann].len();
    all.append(2, room, Command::Depart { process: dead.number });
    assert_eq!(all.queues.received[&ann].len(), before);
    assert!(bob.process() == dead.number && cat.process() == dead.number);
}

/// A process answers its own connections, and the logs of the rooms are those of a cluster that is not strict.
#[test]
fn strict_answers_reach_only_the_sender_and_add_no_entries() {
    let wrong = [
        (
            join_url("ann"),
            r#"{"type":"offer","to":"bob"}"#,
            "message",
            "member `targetUserId` is missing; `to` is unknown",
        ),
        (join_url("ann"), r#"{"type":"offer","targetUserId":"zoe"}"#, "message", "targetUserId is not in the room"),
        (
            broadcast_url("chat"),
            r#"{"type":"setUsername","username":" "}"#,
            "error",
            "member `username`: expected a string that is not blank, got another string",
        ),
        ("/".to_owned(), r#"{"type":"ping"}"#, "message", "member `client_time` is missing"),
    ];
    for (url, message, member, text) in wrong {
        let entries = [true, false].map(|is_strict| {
            let mut all = Cluster::new(SignalingLimits { is_strict, ..limits() }, 2, 1);
            let (ann, bob) = (all.connects(0, &url), all.connects(1, &url.replace("ann", "bob")));
            let before = [ann, bob].map(|conn| all.queues.received[&conn].len());
            all.text(ann, message);
            assert_eq!(all.queues.received[&ann].len() - before[0], usize::from(is_strict), "{message}");
            assert_eq!(all.queues.received[&bob].len(), before[1], "{message}");
            if is_strict {
                assert_eq!(all.last(ann)[member], text);
            }
            all.logs.values().map(|log| log.entries.len()).sum::<usize>()
        });
        assert_eq!(entries[0], entries[1], "{message}");
    }
}

#[test]
fn second_entry_for_due_timers_changes_nothing() {
    let mut all = three();
    all.create_code("1234", 9);
    let [ann, bob] = [0, 1].map(|at| all.connects(at, "/"));
    for conn in [ann, bob] {
        all.sends(conn, &json!({"type": "join", "room_code": "1234"}));
    }
    let at = all.now.as_micros() + 5_000;
    all.sends(ann, &json!({"type": "param", "param": "gain", "value": 0.5, "at": at}));
    assert_eq!(all.types(bob), ["welcome"]);
    let room = all.room();
    all.append(0, room, Command::Due);
    assert_eq!(all.types(bob), ["welcome"], "the timer is not due yet");
    assert_eq!(all.processes[1].replicas[&room].0.next_due_us(), Some(at));
    all.now += Duration::from_millis(6);
    all.append(0, room, Command::Due);
    let hash = |all: &Cluster| all.processes[1].replicas[&room].0.hash(&all.processes[1].lobby);
    let (first, received) = (hash(&all), all.queues.received[&bob].len());
    all.append(1, room, Command::Due);
    assert_eq!((hash(&all), all.queues.received[&bob].len()), (first, received));
    assert_eq!(all.types(bob), ["welcome", "update"]);
}

#[test]
fn the_log_decides_who_enters_a_room_that_becomes_full() {
    let mut all = three();
    all.create_code("1234", 1);
    let [ann, bob] = [0, 1].map(|at| all.connects(at, "/"));
    let room = all.room();
    all.follow(0, room);
    all.follow(1, room);
    // Both processes still see an empty room.
    all.is_immediate = false;
    let join = json!({"type": "join", "room_code": "1234"}).to_string();
    let commands = [(0, ann), (1, bob)].map(|(at, conn)| {
        let now = all.clock();
        let lobby = &mut all.processes[at].lobby;
        let parsed = lobby.message_parser(conn).parse(&join);
        match lobby.plan_message(now, conn, parsed, None, &mut all.queues) {
            jamjam_signaling::cluster::Plan::Enter { command, .. } => command,
            plan => panic!("{plan:?}"),
        }
    });
    let [by_ann, by_bob] = commands;
    all.append(1, room, by_bob);
    all.append(0, room, by_ann);
    all.deliver_all();
    assert_eq!((all.types(ann), all.types(bob)), (vec!["error".to_owned()], vec!["welcome".to_owned()]));
    assert_eq!(all.last(ann)["code"], "ROOM_FULL");
    // Only the process of the rejected client counts it.
    assert_eq!(all.counters().requests_limited, 1);
    assert_eq!((all.rooms_of(ann), all.rooms_of(bob)), (None, Some(room)));
}

#[test]
fn password_is_in_no_entry_and_wrong_ones_are_counted_per_connection() {
    let mut all = three();
    let [ann, bob] = [0, 1].map(|at| all.connects(at, "/"));
    all.sends(
        ann,
        &json!({"type": "CreateRoom", "data": {"room_name": "j", "password": "hunter2", "peer_name": "Ann"}}),
    );
    let room = all.last(ann)["data"]["room_id"].clone();
    let join = |password: &str| json!({"type": "JoinRoom", "data": {"room_id": room, "password": password, "peer_name": "Bob"}});
    for _ in 0..19 {
        all.sends(bob, &join("wrong"));
        assert_eq!(all.last(bob)["data"]["message"], "Invalid password");
    }
    all.sends(bob, &join("hunter2"));
    assert_eq!(all.last(bob)["type"], "RoomJoined");
    assert_eq!(all.processes[1].replicas[&1].0.password_hash(), Some(password_hash("hunter2").as_str()));
    let log = &all.logs[&1];
    assert!(log.description.has_password && log.entries.len() == 2);
    let entries = log.entries.join("\n");
    assert_eq!(entries.matches("hunter2").count(), entries.matches(&password_hash("hunter2")).count());
    // The twentieth wrong password of a connection closes it, and it leaves its room.
    all.sends(bob, &join("wrong"));
    assert_eq!(all.queues.ended[&bob], Some((1008, "Too many wrong passwords".to_owned())));
    assert_eq!(all.last(ann)["type"], "PeerLeft");
}

#[test]
fn connection_that_ends_before_its_entry_is_applied_leaves() {
    let mut all = three();
    let ann = all.connects(0, &join_url("ann"));
    let room = all.room();
    let (now, text) = (all.clock(), join_url("bob"));
    let route = jamjam_signaling::route("/", text.trim_start_matches("/?"), jamjam_signaling::DialectSet::ALL);
    let connection =
        jamjam_signaling::NewConnection { source: HERE, is_forwarded: false, route: route.expect("a route") };
    let bob = ConnId::of_process(1, 99);
    let lobby = &mut all.processes[1].lobby;
    let plan = lobby.plan_connect(now, bob, connection, None, &mut all.queues);
    let jamjam_signaling::cluster::Plan::Enter { command, .. } = plan else { panic!("{plan:?}") };
    all.follow(1, room);
    all.processes[1].lobby.on_disconnect(now, bob, &mut all.queues);
    assert_eq!(all.processes[1].lobby.take_departures(), []);
    all.append(1, room, command);
    assert_eq!(all.types(ann), ["welcome", "participant-joined", "participant-left"]);
    assert_eq!((all.members(room), all.queues.faults.len()), (1, 0));
    assert!(!all.processes[1].replicas.contains_key(&room));
}

#[test]
fn connection_that_changed_rooms_receives_nothing_more_of_the_old_one() {
    let mut all = three();
    let [ann, bob, cat] = [0, 1, 2].map(|at| all.connects(at, "/"));
    let mut ids = Vec::new();
    for conn in [ann, cat] {
        all.sends(conn, &json!({"type": "CreateRoom", "data": {"room_name": "j", "peer_name": "x"}}));
        ids.push(all.last(conn)["data"]["room_id"].clone());
    }
    let join = |room: &Value| json!({"type": "JoinRoom", "data": {"room_id": room, "peer_name": "Bob"}});
    all.sends(bob, &join(&ids[0]));
    // The process of bob applies his second join before he has left the first room.
    all.is_immediate = false;
    let chat = json!({"type": "ChatMessage", "data": {
        "sender_id": "", "sender_name": "", "content": "late", "timestamp": 1,
    }});
    all.sends(ann, &chat);
    all.sends(bob, &join(&ids[1]));
    all.sends(ann, &chat);
    all.deliver_all();
    all.deliver_all();
    assert_eq!(all.types(bob), ["RoomJoined", "RoomJoined"]);
    assert_eq!(all.types(ann), ["RoomCreated", "PeerJoined", "PeerLeft"]);
    assert_eq!(all.types(cat), ["RoomCreated", "PeerJoined"]);
    assert!(all.rooms_of(bob) == Some(2) && all.members(1) == 1);
}

#[test]
fn process_that_reloads_a_room_keeps_its_members() {
    let mut all = three();
    let [ann, bob] = [(0, "ann"), (1, "bob")].map(|(at, user)| all.connects(at, &join_url(user)));
    let room = all.room();
    let process = &mut all.processes[1];
    let (replica, applied) = process.replicas.remove(&room).expect("a replica");
    let snapshot = replica.snapshot(&process.lobby);
    assert_eq!(replica.retire(&mut process.lobby), [bob]);
    let reloaded = Replica::follow(Dialect::WebRtc, Some(&snapshot), &[], &mut process.lobby).expect("a snapshot");
    assert_eq!((reloaded.local_members(), process.lobby.take_departures()), (vec![bob], vec![]));
    process.replicas.insert(room, (reloaded, applied));
    all.sends(ann, &json!({"type": "offer", "targetUserId": "bob", "sdp": 1}));
    all.sends(bob, &json!({"type": "answer", "targetUserId": "ann", "sdp": 2}));
    assert_eq!((all.last(bob)["sdp"].clone(), all.last(ann)["sdp"].clone()), (json!(1), json!(2)));
    // The members of a room that is retired for good are in no room.
    let process = &mut all.processes[1];
    let (replica, _) = process.replicas.remove(&room).expect("a replica");
    replica.retire(&mut process.lobby);
    all.queues.received.remove(&bob);
    all.processes[1].lobby.on_disconnect(jamjam_core::time::Time::ZERO.into(), bob, &mut all.queues);
    assert_eq!(all.processes[1].lobby.take_departures(), []);
}

#[test]
fn messages_are_counted_by_their_sender_and_deliveries_by_their_receivers() {
    let mut all = three();
    let conns = [0, 1, 2, 0].map(|at| all.connects(at, &broadcast_url("lobby")));
    all.sends(conns[0], &json!({"type": "t", "data": 1}));
    all.text(conns[1], "{");
    all.text(conns[1], r#"{"type":"ack"}"#);
    let per_process = all.processes.iter().map(|process| process.lobby.total_counters());
    let counted: Vec<_> =
        per_process.map(|counts| (counts.messages_received, counts.messages_sent, counts.requests_rejected)).collect();
    // Each member has a welcome message, three received the message, and the second one an error and an acknowledgment.
    assert_eq!(counted, [(1, 2 + 1, 0), (2, 1 + 1 + 2, 1), (0, 1 + 1, 0)]);
    let entries = all.logs[&1].entries.len();
    assert_eq!(entries, 5, "invalid and acknowledged messages are no entries");
}

#[test]
fn rooms_of_an_address_are_limited_per_process_and_counted_while_followed() {
    let mut all = Cluster::new(SignalingLimits { max_rooms_per_address: 1, ..limits() }, 2, 1);
    let room = |number: u32| format!("/?roomId={number}&userId=u{number}&userName=n");
    let first = all.connects(0, &room(1));
    let second = all.connects(0, &room(2));
    assert_eq!(all.queues.ended[&second], Some((1013, "Too many rooms".to_owned())));
    // An existing room is open to all, and another process has its own limit.
    let [third, fourth] =
        [(0, "/?roomId=1&userId=x&userName=n".to_owned()), (1, room(3))].map(|(at, url)| all.connects(at, &url));
    assert!(!all.queues.ended.contains_key(&third) && !all.queues.ended.contains_key(&fourth));
    for conn in [first, third] {
        all.cut(conn);
    }
    let fifth = all.connects(0, &room(4));
    assert!(!all.queues.ended.contains_key(&fifth));
}

#[test]
fn delayed_post_to_a_room_without_members_is_in_its_history() {
    let mut all = three();
    let body = json!({"type": "post", "delay": 2, "data": {"content": {"id": 1}}}).to_string();
    let now = all.clock();
    let lobby = &mut all.processes[0].lobby;
    let post = (PostFormat::Object, PostBody::parse(body.as_bytes()));
    let request = lobby.plan_post(now, HERE, "radio", post, None).expect("a post");
    let reply = all.post(0, "radio", request);
    let Some(RoomReply::Posted(Ok(posted))) = reply else { panic!("{reply:?}") };
    assert_eq!((posted.recipients, posted.delay), (0, Duration::from_secs(2)));
    assert!(all.processes.iter().all(|process| process.replicas.is_empty()), "nobody follows a room without members");
    // Another process loads the room for its first member, after the delay.
    all.advance(Duration::from_secs(3));
    let ann = all.connects(2, &broadcast_url("radio"));
    assert_eq!(all.last(ann)["recentContent"][0]["data"]["data"]["content"]["id"], 1);
    // The copy of the room has the state of its handler.
    let (now, process) = (all.clock(), &mut all.processes[2]);
    let (replica, _) = process.replicas.values_mut().next().expect("a replica");
    let details = replica.read(&mut process.lobby, |hub| hub.broadcast_details(now));
    assert_eq!(serde_json::to_value(&details["radio"]).expect("JSON")["recentContent"], 1);
    let invalid = (PostFormat::Object, PostBody::parse(b"[1"));
    let rejected = all.processes[1].lobby.plan_post(now, HERE, "radio", invalid, None);
    assert_eq!(rejected.map_err(|error| error.to_string()), Err("Invalid JSON".to_owned()));
}

#[test]
fn heartbeat_knows_members_of_shared_rooms() {
    let idle = Duration::from_secs(10);
    let broadcast = BroadcastSettings { idle_timeout: Some(idle), ..limits().broadcast };
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(30)), timeout: Duration::MAX };
    let mut all = Cluster::new(SignalingLimits { broadcast, heartbeat, ..limits() }, 2, 1);
    let control = all.connects(0, &broadcast_url("lobby").replace("/lobby", "/rooms/lobby/remotecontrol"));
    let member = all.connects(1, &broadcast_url("lobby"));
    let jamjam = [0, 1].map(|at| all.connects(at, "/v1/signaling"));
    all.sends(jamjam[0], &json!({"type": "CreateRoom", "data": {"room_name": "j", "peer_name": "x"}}));
    // Control channels have no idle time-out, and only members of jamjam rooms are pinged.
    all.advance(Duration::from_secs(35));
    assert_eq!(all.queues.ended.keys().copied().collect::<Vec<_>>(), [member]);
    assert_eq!(all.queues.ended[&member].as_ref().map(|(code, _)| *code), Some(4000));
    assert!(all.queues.pinged.contains(&jamjam[0]) && !all.queues.pinged.contains(&jamjam[1]));
    assert_eq!(all.members(1), 1);
    // Authorized members may send long messages.
    let limit = |all: &Cluster, at: usize, conn| all.processes[at].lobby.max_message_bytes(conn);
    let late = all.connects(1, &broadcast_url("lobby"));
    assert_eq!([limit(&all, 0, control), limit(&all, 1, late)], [256 << 10, 10 << 20]);
}

#[test]
fn declared_range_is_in_the_state_of_every_process() {
    let mut all = three();
    all.create_code("1234", 9);
    let ann = all.connects(2, "/");
    all.sends(ann, &json!({"type": "join", "room_code": "1234"}));
    all.sends(ann, &json!({"type": "param", "param": "gain", "value": 0.5}));
    all.sends(ann, &json!({"type": "sync"}));
    assert_eq!(all.last(ann)["params"], json!([{"name": "gain", "value": 0.5, "min": 0.0, "max": 1.0}]));
    let (entries, now) = (all.logs[&1].entries.len(), all.clock());
    for process in &mut all.processes {
        process.lobby.declare_range(now, "gain", (-1.0, 2.0), None, &mut all.queues).expect("a range");
    }
    all.sends(ann, &json!({"type": "sync"}));
    assert_eq!(all.last(ann)["params"], json!([{"name": "gain", "value": 0.5, "min": -1.0, "max": 2.0}]));
    // Neither `sync` nor `ping` is an entry.
    all.text(ann, r#"{"type":"ping","client_time":1.50}"#);
    assert!(all.queues.received[&ann].last().expect("a reply").contains(r#""client_time":1.50"#));
    assert_eq!(all.logs[&1].entries.len(), entries);
}

#[test]
fn console_shows_followed_rooms_with_local_members() {
    let mut all = three();
    for (at, user) in [(0, "ann"), (1, "bob"), (1, "cat")] {
        all.connects(at, &join_url(user));
    }
    let undecided = all.connects(1, "/");
    let now = all.clock();
    let process = &mut all.processes[1];
    let replicas = process.replicas.values().map(|(replica, _)| replica);
    let snapshot = process.lobby.snapshot_with(now, &SnapshotQuery::default(), replicas);
    let room = &snapshot.rooms[0];
    let members: Vec<_> = room.members.iter().map(|member| member.id.as_deref()).collect();
    assert_eq!((snapshot.rooms.len(), room.member_count, members), (1, 3, vec![Some("bob"), Some("cat")]));
    let unjoined: Vec<u64> = snapshot.unjoined.iter().map(|connection| connection.connection).collect();
    assert_eq!(unjoined, [undecided.0]);
}

#[test]
fn timers_take_effect_before_a_later_message_and_time_never_goes_back() {
    let mut all = three();
    all.create_code("1234", 9);
    let [ann, bob] = [0, 1].map(|at| all.connects(at, "/"));
    for conn in [ann, bob] {
        all.sends(conn, &json!({"type": "join", "room_code": "1234"}));
    }
    let at = all.now.as_micros() + 5_000;
    all.sends(ann, &json!({"type": "param", "param": "gain", "value": 0.5, "at": at}));
    all.now += Duration::from_millis(6);
    all.sends(ann, &json!({"type": "param", "param": "gain", "value": 0.75}));
    let values: Vec<Value> =
        all.queues.received[&bob][1..].iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let values: Vec<_> = values.iter().map(|update| update["value"].as_f64()).collect();
    assert_eq!(values, [Some(0.5), Some(0.75)]);
    // The clock of the process of cat is behind by three milliseconds.
    let cat = all.connects(2, "/");
    let latest = all.now.as_micros();
    all.now = jamjam_core::time::Time::from_nanos((latest - 3_000) * 1_000);
    all.sends(cat, &json!({"type": "join", "room_code": "1234"}));
    assert_eq!(all.last(cat)["server_time"], latest);
}

#[test]
fn connection_that_changed_rooms_stays_open_when_the_old_one_closes() {
    let mut all = three();
    all.create_code("1234", 9);
    all.create_code("5678", 9);
    let ann = all.connects(1, "/");
    all.sends(ann, &json!({"type": "join", "room_code": "1234"}));
    all.is_immediate = false;
    all.follow(0, 1);
    let close = jamjam_signaling::cluster::RoomRequest::Close { code: "1234".to_owned() };
    all.append(0, 1, Command::Request(close));
    all.sends(ann, &json!({"type": "join", "room_code": "5678"}));
    all.deliver_all();
    assert_eq!((all.types(ann), all.queues.ended.len()), (vec!["welcome".to_owned(); 2], 0));
    assert_eq!((all.rooms_of(ann), all.surface_codes()), (Some(2), vec!["5678".to_owned()]));
}

#[test]
fn share_of_an_address_in_the_parameters_survives_a_snapshot() {
    let mut all = three();
    all.create_code("1234", 9);
    let ann = all.connects(0, "/");
    all.sends(ann, &json!({"type": "join", "room_code": "1234"}));
    let room = all.room();
    for number in 0..1_024 {
        all.sends(ann, &json!({"type": "param", "param": format!("p{number}"), "value": 0.5}));
    }
    let (replica, _) = &all.processes[0].replicas[&room];
    let snapshot: Value = serde_json::from_slice(&replica.snapshot(&all.processes[0].lobby)).expect("JSON");
    assert_eq!(snapshot["room"]["data"]["parameters"]["created_by"], json!({"192.0.2.1": 1_024}));
    // A process that loads the room from the snapshot rejects the next parameter of this address.
    let bob = all.connects(1, "/");
    all.sends(bob, &json!({"type": "join", "room_code": "1234"}));
    all.sends(bob, &json!({"type": "param", "param": "one more", "value": 0.5}));
    assert_eq!(all.last(bob)["code"], "TOO_MANY_PARAMETERS");
    assert_eq!(all.counters().parameters_rejected, 1);
}

#[test]
fn a_burst_of_delayed_messages_takes_several_entries() {
    let mut all = three();
    let conns: Vec<ConnId> = (0..8).map(|number| all.connects(number % 3, &broadcast_url("radio"))).collect();
    let post = json!({"type": "post", "delay": 1, "data": {"content": {"id": 1, "text": "x".repeat(10_000)}}});
    for _ in 0..20 {
        all.sends(conns[0], &post);
    }
    all.now += Duration::from_secs(2);
    // Eight members receive 256 KiB with the fourth message.
    for relayed in [4, 8, 12] {
        all.append(1, 1, Command::Due);
        assert_eq!(all.queues.received[&conns[5]].len(), 1 + relayed);
        let due = |at: usize| all.processes[at].replicas[&1].0.next_due_us();
        assert!(due(0).is_some_and(|due| due < all.now.as_micros()) && due(0) == due(1) && due(1) == due(2));
    }
    all.advance(Duration::from_millis(1));
    assert_eq!(all.queues.received[&conns[5]].len(), 21);
}
