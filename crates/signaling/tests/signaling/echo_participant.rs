//! The echo server's room client for jamjam signaling, without a socket. The tests check the exact requests that the client sends in
//! response to server messages.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::logged::logged;

use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::client::{AddressCandidates, EchoParticipant, RoomRejected};
use jamjam_signaling::jamjam::{ClientMessage, ServerMessage};
use serde_json::{Value, json};

const OWN: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn participant(addresses: AddressCandidates) -> EchoParticipant {
    EchoParticipant::new("Echo Server", Duration::from_secs(3), addresses, None)
}

fn addresses_with_host() -> AddressCandidates {
    AddressCandidates { host: Some(address("203.0.113.9:5000")), server_reflexive: None }
}

fn at(unix_ms: u64) -> WallClock {
    Time::from_millis(unix_ms).into()
}

fn as_json(request: &ClientMessage) -> Value {
    serde_json::to_value(request).unwrap()
}

/// The time at which all messages arrive, in milliseconds since 1970. Chat timestamps use the same unit.
const NOW: u64 = 1_795_181_823_047;

/// Returns the participant's response to `message` at [`NOW`].
fn respond(participant: &mut EchoParticipant, message: Value) -> Option<Value> {
    let message: ServerMessage = serde_json::from_value(message).unwrap();
    participant.on_message(message, at(NOW)).unwrap().as_ref().map(as_json)
}

fn created() -> Value {
    json!({"type": "RoomCreated", "data": {"room_id": "1a2b3c4d", "peer_id": OWN, "invite_code": "ABC234"}})
}

fn chat(from: &str, content: &str) -> Value {
    let data = json!({"sender_id": from, "sender_name": "Ann", "content": content, "timestamp": 5});
    json!({"type": "ChatMessage", "data": data})
}

/// A participant in its room.
fn joined_participant() -> EchoParticipant {
    let mut participant = participant(addresses_with_host());
    participant.on_connected();
    respond(&mut participant, created());
    assert!(participant.is_joined());
    participant
}

#[test]
fn creates_the_room_named_by_the_protocol_and_publishes_its_address() {
    let mut participant = participant(addresses_with_host());
    assert_eq!(
        as_json(&participant.on_connected()),
        json!({"type": "CreateRoom", "data": {
            "room_name": "[BOT] Echo Server (3000ms delay)", "password": null, "peer_name": "Echo Bot",
        }})
    );
    assert!(!participant.is_joined());
    // Each field contains the same address, because older clients read only the last two fields.
    assert_eq!(
        respond(&mut participant, created()),
        Some(json!({"type": "UpdatePeerInfo", "data": {
            "candidates": [{"address": "203.0.113.9:5000", "candidate_type": "Host", "priority": 2_130_706_431}],
            "public_addr": "203.0.113.9:5000",
            "local_addr": "203.0.113.9:5000",
        }}))
    );
    assert!(participant.is_joined());
}

#[test]
fn room_name_gives_the_delay_in_milliseconds() {
    for (delay, name) in [
        (Duration::ZERO, "[BOT] Studio (0ms delay)"),
        (Duration::from_millis(1), "[BOT] Studio (1ms delay)"),
        (Duration::from_micros(300), "[BOT] Studio (0.3ms delay)"),
        (Duration::from_secs(60), "[BOT] Studio (60000ms delay)"),
    ] {
        let request = EchoParticipant::new("Studio", delay, addresses_with_host(), None).on_connected();
        assert_eq!(as_json(&request)["data"]["room_name"], name);
    }
}

/// The server-reflexive address is published alone if there is one, but no IPv6 address before an IPv4 address.
#[test]
fn one_address_is_published() {
    let [private, local, ipv4] =
        ["192.168.1.5:5000", "[fd00::5]:5000", "192.0.2.5:5000"].map(|text| Some(address(text)));
    let (mapped, mapped_ipv6) = ("198.51.100.7:61000", "[2001:db8::7]:61000");
    for (host, server_reflexive, published) in [
        (private, mapped, mapped),
        (local, mapped, mapped),
        (None, mapped, mapped),
        (ipv4, mapped_ipv6, "192.0.2.5:5000"),
        (None, mapped_ipv6, mapped_ipv6),
    ] {
        let server_reflexive = Some(address(server_reflexive));
        let mut participant = participant(AddressCandidates { host, server_reflexive });
        participant.on_connected();
        let data = respond(&mut participant, created()).unwrap()["data"].take();
        assert_eq!((&data["public_addr"], data["candidates"].as_array().map(Vec::len)), (&json!(published), Some(1)));
        let candidate = &data["candidates"][0];
        assert_eq!(candidate["address"], published);
        if published != "192.0.2.5:5000" {
            let expected = (&json!("ServerReflexive"), &json!(1_694_498_815), &Value::Null);
            assert_eq!((&candidate["candidate_type"], &candidate["priority"], &data["local_addr"]), expected);
        }
    }
}

#[test]
fn address_is_published_once_when_known_and_not_without_one() {
    let mut participant = participant(AddressCandidates::default());
    participant.on_connected();
    assert_eq!(respond(&mut participant, created()), None);
    assert_eq!(participant.on_addresses(AddressCandidates::default()), None);
    let request = participant.on_addresses(addresses_with_host()).map(|request| as_json(&request));
    assert_eq!(request.unwrap()["data"]["public_addr"], "203.0.113.9:5000");
    assert_eq!(participant.on_addresses(addresses_with_host()), None);
    // An address that is known before the room exists is published with the room.
    let mut participant = self::participant(AddressCandidates::default());
    participant.on_connected();
    assert_eq!(participant.on_addresses(addresses_with_host()), None);
    assert_eq!(respond(&mut participant, created()).unwrap()["data"]["public_addr"], "203.0.113.9:5000");
}

#[test]
fn reconnect_rejoins_the_previous_room_or_recreates_it() {
    let mut participant = joined_participant();
    let rejoin = json!({"type": "JoinRoom", "data": {"room_id": "ABC234", "password": null, "peer_name": "Echo Bot"}});
    assert_eq!(as_json(&participant.on_connected()), rejoin);
    assert!(!participant.is_joined());
    let joined = json!({"type": "RoomJoined", "data": {"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []}});
    assert_eq!(respond(&mut participant, joined).unwrap()["type"], "UpdatePeerInfo");
    assert!(participant.is_joined());
    assert_eq!(as_json(&participant.on_connected()), rejoin);
    let gone = json!({"type": "Error", "data": {"message": "Room not found"}});
    assert_eq!(respond(&mut participant, gone).unwrap()["type"], "CreateRoom");
    let created = json!({"room_id": "5e6f7a8b", "peer_id": OWN, "invite_code": "XYZ789"});
    let created = json!({"type": "RoomCreated", "data": created});
    assert_eq!(respond(&mut participant, created).unwrap()["type"], "UpdatePeerInfo");
    assert_eq!(as_json(&participant.on_connected())["data"]["room_id"], "XYZ789");
}

#[test]
fn room_creation_error_is_returned() {
    let mut participant = participant(addresses_with_host());
    participant.on_connected();
    let rejected = participant.on_message(ServerMessage::Error { message: "Too many rooms".to_owned() }, at(NOW));
    assert_eq!(rejected, Err(RoomRejected("Too many rooms".to_owned())));
}

#[test]
fn chat_of_other_members_is_echoed_and_own_chat_is_not() {
    let mut participant = joined_participant();
    assert_eq!(
        respond(&mut participant, chat(OTHER, "hello")),
        Some(json!({"type": "ChatMessage", "data": {
            "sender_id": OWN, "sender_name": "Echo Bot", "content": "🔊 hello", "timestamp": 1_795_181_823_047_u64,
        }}))
    );
    assert_eq!(respond(&mut participant, chat(OWN, "🔊 hello")), None);
    assert_eq!(respond(&mut participant, chat(OTHER, "")).unwrap()["data"]["content"], "🔊 ");
}

#[test]
fn chat_echo_counts_seconds_if_the_message_does() {
    let mut participant = joined_participant();
    for (sent, returned) in [(1_795_181_800_u64, 1_795_181_823_u64), (1_795_181_800_000, 1_795_181_823_047)] {
        let data = json!({"sender_id": OTHER, "sender_name": "Ann", "content": "x", "timestamp": sent});
        let echo = respond(&mut participant, json!({"type": "ChatMessage", "data": data})).unwrap();
        assert_eq!(echo["data"]["timestamp"], returned);
    }
}

#[test]
fn two_echo_participants_in_one_room_stop_answering_each_other() {
    let (mut one, mut other) = (joined_participant(), joined_participant());
    let mut message = chat(OTHER, "hello");
    let mut turns = 0;
    while let Some(answer) = respond(if turns % 2 == 0 { &mut one } else { &mut other }, message.clone()) {
        message = chat(OTHER, answer["data"]["content"].as_str().unwrap());
        turns += 1;
        assert!(turns < 10, "the exchange continues: {message}");
    }
    assert_eq!(message["data"]["content"], "🔊 🔊 hello");
}

#[test]
fn chat_echo_is_limited_in_rate_and_length() {
    let mut participant = joined_participant();
    let returned = (0..1_000).filter(|_| respond(&mut participant, chat(OTHER, "x")).is_some()).count();
    assert_eq!(returned, 100);
    // Echoing resumes in the next second, and not before.
    for (time, returns) in [(1_795_181_823_999, false), (1_795_181_824_000, true)] {
        let next: ServerMessage = serde_json::from_value(chat(OTHER, "x")).unwrap();
        assert_eq!(participant.on_message(next, at(time)).unwrap().is_some(), returns, "at {time}");
    }
    let longest = "y".repeat(16 << 10);
    assert!(respond(&mut joined_participant(), chat(OTHER, &longest)).is_some());
    assert_eq!(respond(&mut joined_participant(), chat(OTHER, &(longest + "y"))), None);
}

#[test]
fn messages_outside_the_joined_room_are_ignored() {
    let mut participant = participant(addresses_with_host());
    participant.on_connected();
    assert_eq!(respond(&mut participant, chat(OTHER, "hello")), None);
    let joined = json!({"type": "RoomJoined", "data": {"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []}});
    assert_eq!(respond(&mut participant, joined), None, "the request was for a new room, not for this one");
}

#[test]
fn twenty_member_events_per_second_are_logged_and_the_rest_counted() {
    let mut participant = joined_participant();
    let long = "n".repeat(200);
    let lines = logged(|| {
        for n in 0..100 {
            let name = if n == 0 { long.clone() } else { format!("name {n}") };
            let peer = json!({"id": format!("id {n}"), "name": name, "candidates": []});
            respond(&mut participant, json!({"type": "PeerJoined", "data": {"peer": peer}}));
        }
        for (n, time) in [(0, NOW + 1_000), (63, NOW + 1_000), (64, NOW + 1_000)] {
            let left = json!({"type": "PeerLeft", "data": {"peer_id": format!("id {n}")}});
            participant.on_message(serde_json::from_value(left).unwrap(), at(time)).unwrap();
        }
    });
    let cut = format!("user=\"{}…\"", "n".repeat(48));
    assert_eq!(lines[0], format!("INFO member joined {cut}"));
    assert_eq!(lines[19], "INFO member joined user=\"name 19\"");
    // Only the names of the first 64 members are stored. The 65th member is logged with its id.
    assert_eq!(
        lines[20..],
        [
            "INFO suppressed log lines about members count=80",
            &format!("INFO member left {cut}"),
            "INFO member left user=\"name 63\"",
            "INFO member left user=\"id 64\"",
        ]
    );
}
