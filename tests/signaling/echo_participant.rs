//! The echo bot's side of jamjam's signaling, without a socket: what it asks, word for word, in answer to what a server says.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::logged;

use jamjam_dev::signaling::client::{AddressCandidates, EchoParticipant, RoomRejected};
use jamjam_dev::signaling::jamjam::{ClientMessage, ServerMessage};
use jamjam_dev::time::{Time, WallClock};
use logged::logged;
use serde_json::{Value, json};

const OWN: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn bot(reach: AddressCandidates) -> EchoParticipant {
    EchoParticipant::new("Echo Server", Duration::from_secs(3), reach)
}

fn reached() -> AddressCandidates {
    AddressCandidates { host: Some(address("203.0.113.9:5000")), server_reflexive: None }
}

fn at(unix_ms: u64) -> WallClock {
    Time::from_millis(unix_ms).into()
}

fn as_json(asked: &ClientMessage) -> Value {
    serde_json::to_value(asked).unwrap()
}

/// When the bot is told things: in milliseconds, as clients write and show the time of what is said.
const NOW: u64 = 1_795_181_823_047;

/// What the bot asks when it is told `message` at that time.
fn told(bot: &mut EchoParticipant, message: Value) -> Option<Value> {
    let message: ServerMessage = serde_json::from_value(message).unwrap();
    bot.on_message(message, at(NOW)).unwrap().as_ref().map(as_json)
}

fn created() -> Value {
    json!({"type": "RoomCreated", "data": {"room_id": "1a2b3c4d", "peer_id": OWN, "invite_code": "ABC234"}})
}

fn chat(from: &str, content: &str) -> Value {
    let data = json!({"sender_id": from, "sender_name": "Ann", "content": content, "timestamp": 5});
    json!({"type": "ChatMessage", "data": data})
}

/// A bot in its room.
fn inside() -> EchoParticipant {
    let mut bot = bot(reached());
    bot.on_connected();
    told(&mut bot, created());
    assert!(bot.is_joined());
    bot
}

#[test]
fn it_makes_the_room_that_the_protocol_names_and_says_where_the_server_is() {
    let mut bot = bot(reached());
    assert_eq!(
        as_json(&bot.on_connected()),
        json!({"type": "CreateRoom", "data": {
            "room_name": "[BOT] Echo Server (3000ms delay)", "password": null, "peer_name": "Echo Bot",
        }})
    );
    assert!(!bot.is_joined());
    // The same address in each: older clients read only the last two.
    assert_eq!(
        told(&mut bot, created()),
        Some(json!({"type": "UpdatePeerInfo", "data": {
            "candidates": [{"address": "203.0.113.9:5000", "candidate_type": "Host", "priority": 2_130_706_431}],
            "public_addr": "203.0.113.9:5000",
            "local_addr": "203.0.113.9:5000",
        }}))
    );
    assert!(bot.is_joined());
}

#[test]
fn the_delay_in_the_room_s_name_is_in_milliseconds() {
    for (delay, name) in [
        (Duration::ZERO, "[BOT] Studio (0ms delay)"),
        (Duration::from_millis(1), "[BOT] Studio (1ms delay)"),
        (Duration::from_micros(300), "[BOT] Studio (0.3ms delay)"),
        (Duration::from_secs(60), "[BOT] Studio (60000ms delay)"),
    ] {
        let asked = EchoParticipant::new("Studio", delay, reached()).on_connected();
        assert_eq!(as_json(&asked)["data"]["room_name"], name);
    }
}

#[test]
fn what_a_stun_server_sees_is_public_and_what_is_its_own_is_local() {
    let server_reflexive = Some(address("198.51.100.7:61000"));
    let mut bot = bot(AddressCandidates { host: Some(address("192.168.1.5:5000")), server_reflexive });
    bot.on_connected();
    let asked = told(&mut bot, created()).unwrap();
    let candidates = json!([
        {"address": "192.168.1.5:5000", "candidate_type": "Host", "priority": 2_130_706_431},
        {"address": "198.51.100.7:61000", "candidate_type": "ServerReflexive", "priority": 1_694_498_815},
    ]);
    assert_eq!(asked["data"]["candidates"], candidates);
    assert_eq!(asked["data"]["public_addr"], "198.51.100.7:61000");
    assert_eq!(asked["data"]["local_addr"], "192.168.1.5:5000");

    // Of its own it knows none that others could use.
    let alone = bot.on_addresses(AddressCandidates { host: None, server_reflexive }).unwrap();
    assert_eq!(as_json(&alone)["data"]["candidates"].as_array().unwrap().len(), 1);
    assert_eq!(as_json(&alone)["data"]["local_addr"], Value::Null);
}

#[test]
fn where_nobody_could_reach_it_it_says_nothing_and_a_change_is_said_once() {
    let mut bot = bot(AddressCandidates::default());
    bot.on_connected();
    assert_eq!(told(&mut bot, created()), None);
    assert_eq!(bot.on_addresses(AddressCandidates::default()), None);
    let asked = bot.on_addresses(reached()).map(|asked| as_json(&asked));
    assert_eq!(asked.unwrap()["data"]["public_addr"], "203.0.113.9:5000");
    assert_eq!(bot.on_addresses(reached()), None);
}

#[test]
fn before_it_has_a_room_a_change_is_only_noted() {
    let mut bot = bot(AddressCandidates::default());
    bot.on_connected();
    assert_eq!(bot.on_addresses(reached()), None);
    assert_eq!(told(&mut bot, created()).unwrap()["data"]["public_addr"], "203.0.113.9:5000");
}

#[test]
fn on_a_new_connection_it_goes_back_to_the_old_room() {
    let mut bot = inside();
    assert_eq!(
        as_json(&bot.on_connected()),
        json!({"type": "JoinRoom", "data": {"room_id": "ABC234", "password": null, "peer_name": "Echo Bot"}})
    );
    assert!(!bot.is_joined());
    let joined = json!({"type": "RoomJoined", "data": {"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []}});
    assert_eq!(told(&mut bot, joined).unwrap()["type"], "UpdatePeerInfo");
    assert!(bot.is_joined());
    // And again to the same, should it be necessary.
    assert_eq!(as_json(&bot.on_connected())["data"]["room_id"], "ABC234");
}

#[test]
fn if_the_old_room_is_gone_it_makes_a_new_one_and_goes_back_to_that_from_then_on() {
    let mut bot = inside();
    bot.on_connected();
    let gone = json!({"type": "Error", "data": {"message": "Room not found"}});
    assert_eq!(told(&mut bot, gone).unwrap()["type"], "CreateRoom");
    let created =
        json!({"type": "RoomCreated", "data": {"room_id": "5e6f7a8b", "peer_id": OWN, "invite_code": "XYZ789"}});
    assert_eq!(told(&mut bot, created).unwrap()["type"], "UpdatePeerInfo");
    assert_eq!(as_json(&bot.on_connected())["data"]["room_id"], "XYZ789");
}

#[test]
fn a_server_that_makes_no_room_is_an_error() {
    let mut bot = bot(reached());
    bot.on_connected();
    let refused = bot.on_message(ServerMessage::Error { message: "Too many rooms".to_owned() }, at(NOW));
    assert_eq!(refused, Err(RoomRejected("Too many rooms".to_owned())));
}

#[test]
fn what_others_say_is_returned_and_nothing_of_its_own() {
    let mut bot = inside();
    assert_eq!(
        told(&mut bot, chat(OTHER, "hello")),
        Some(json!({"type": "ChatMessage", "data": {
            "sender_id": OWN, "sender_name": "Echo Bot", "content": "🔊 hello", "timestamp": 1_795_181_823_047_u64,
        }}))
    );
    assert_eq!(told(&mut bot, chat(OWN, "🔊 hello")), None);
    assert_eq!(told(&mut bot, chat(OTHER, "")).unwrap()["data"]["content"], "🔊 ");
}

#[test]
fn two_bots_in_one_room_fall_silent() {
    let (mut one, mut other) = (inside(), inside());
    let mut said = chat(OTHER, "hello");
    let mut turns = 0;
    while let Some(answer) = told(if turns % 2 == 0 { &mut one } else { &mut other }, said.clone()) {
        said = chat(OTHER, answer["data"]["content"].as_str().unwrap());
        turns += 1;
        assert!(turns < 10, "it goes on: {said}");
    }
    assert_eq!(said["data"]["content"], "🔊 🔊 hello");
}

#[test]
fn neither_a_flood_nor_a_novel_is_returned() {
    let mut bot = inside();
    let returned = (0..1_000).filter(|_| told(&mut bot, chat(OTHER, "x")).is_some()).count();
    assert_eq!(returned, 100);
    // In the next second it returns again, and not before.
    for (time, returns) in [(1_795_181_823_999, false), (1_795_181_824_000, true)] {
        let next: ServerMessage = serde_json::from_value(chat(OTHER, "x")).unwrap();
        assert_eq!(bot.on_message(next, at(time)).unwrap().is_some(), returns, "at {time}");
    }
    let longest = "y".repeat(16 << 10);
    assert!(told(&mut inside(), chat(OTHER, &longest)).is_some());
    assert_eq!(told(&mut inside(), chat(OTHER, &(longest + "y"))), None);
}

#[test]
fn outside_its_room_it_answers_nobody() {
    let mut bot = bot(reached());
    bot.on_connected();
    assert_eq!(told(&mut bot, chat(OTHER, "hello")), None);
    let joined = json!({"type": "RoomJoined", "data": {"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []}});
    assert_eq!(told(&mut bot, joined), None, "it asked for a new room, not for this one");
}

#[test]
fn of_a_crowd_twenty_a_second_are_logged_and_the_rest_are_counted() {
    let mut bot = inside();
    let lines = logged(|| {
        for n in 0..100 {
            let peer = json!({"id": format!("id {n}"), "name": format!("name {n}"), "candidates": []});
            told(&mut bot, json!({"type": "PeerJoined", "data": {"peer": peer}}));
        }
        for (n, time) in [(0, NOW + 1_000), (63, NOW + 1_000), (64, NOW + 1_000)] {
            let left = json!({"type": "PeerLeft", "data": {"peer_id": format!("id {n}")}});
            bot.on_message(serde_json::from_value(left).unwrap(), at(time)).unwrap();
        }
    });
    assert_eq!(lines[0], "INFO member joined user=\"name 0\"");
    assert_eq!(lines[19], "INFO member joined user=\"name 19\"");
    // The names of 64 are remembered.
    assert_eq!(
        lines[20..],
        [
            "INFO member events not logged count=80",
            "INFO member left user=\"name 0\"",
            "INFO member left user=\"name 63\"",
            "INFO member left user=\"id 64\"",
        ]
    );
}
