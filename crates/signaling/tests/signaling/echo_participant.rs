//! The echo server's room client for jamjam signaling, without a socket. The tests check the exact requests that the client sends in
//! response to server messages.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_signaling::client::{AddressCandidates, EchoParticipant, RoomError};
use jamjam_signaling::jamjam::{ClientMessage, ServerMessage};
use serde_json::{Value, json};

const OWN: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn addresses_with_host() -> AddressCandidates {
    AddressCandidates { host: Some(address("203.0.113.9:5000")), server_reflexive: None }
}

fn as_json(request: &ClientMessage) -> Value {
    serde_json::to_value(request).unwrap()
}

/// A time in milliseconds since 1970. Chat timestamps use the same unit.
const NOW: u64 = 1_795_181_823_047;

/// Returns the participant's response to a message that arrives at this time.
fn respond_at(participant: &mut EchoParticipant, unix_ms: u64, kind: &str, data: &Value) -> Option<Value> {
    let message = serde_json::from_value(json!({"type": kind, "data": data})).unwrap();
    participant.on_message(message, unix_ms).unwrap().as_ref().map(as_json)
}

/// Returns the participant's response to a message at [`NOW`].
fn respond(participant: &mut EchoParticipant, kind: &str, data: &Value) -> Option<Value> {
    respond_at(participant, NOW, kind, data)
}

fn create(participant: &mut EchoParticipant) -> Option<Value> {
    respond(participant, "RoomCreated", &json!({"room_id": "1a2b3c4d", "peer_id": OWN, "invite_code": "ABC234"}))
}

fn chat_at(participant: &mut EchoParticipant, unix_ms: u64, from: &str, content: &str) -> Option<Value> {
    let data = json!({"sender_id": from, "sender_name": "Ann", "content": content, "timestamp": 5});
    respond_at(participant, unix_ms, "ChatMessage", &data)
}

fn chat(participant: &mut EchoParticipant, from: &str, content: &str) -> Option<Value> {
    chat_at(participant, NOW, from, content)
}

/// A participant that has requested its room.
fn connected_participant(addresses: AddressCandidates) -> EchoParticipant {
    let mut participant = EchoParticipant::new("Echo Server", Duration::from_secs(3), None);
    assert_eq!(participant.on_addresses(addresses), None);
    participant.on_connected();
    participant
}

/// A participant in its room.
fn joined_participant() -> EchoParticipant {
    let mut participant = connected_participant(addresses_with_host());
    create(&mut participant);
    assert!(participant.is_joined());
    participant
}

#[test]
fn creates_the_room_named_by_the_protocol_and_publishes_its_address() {
    let mut participant = EchoParticipant::new("Echo Server", Duration::from_secs(3), None);
    participant.on_addresses(addresses_with_host());
    let data = json!({"room_name": "[BOT] Echo Server (3000ms delay)", "password": null, "peer_name": "Echo Bot"});
    assert_eq!(as_json(&participant.on_connected()), json!({"type": "CreateRoom", "data": data}));
    assert!(!participant.is_joined());
    // Each field contains the same address, because older clients read only the last two fields.
    let address = "203.0.113.9:5000";
    let candidates = json!([{"address": address, "candidate_type": "Host", "priority": 2_130_706_431}]);
    let data = json!({"candidates": candidates, "public_addr": address, "local_addr": address});
    assert_eq!(create(&mut participant), Some(json!({"type": "UpdatePeerInfo", "data": data})));
    assert!(participant.is_joined());
}

#[test]
fn room_name_gives_the_delay_in_milliseconds() {
    for (micros, delay) in [(0, "0ms"), (1_000, "1ms"), (300, "0.3ms"), (60_000_000, "60000ms")] {
        let delay_of_echo = Duration::from_micros(micros);
        let request = EchoParticipant::new("Studio", delay_of_echo, None).on_connected();
        assert_eq!(as_json(&request)["data"]["room_name"], format!("[BOT] Studio ({delay} delay)"));
    }
}

/// The server-reflexive address is published alone if there is one, but no IPv6 address before an IPv4 address.
#[test]
fn one_address_is_published() {
    let (private, local, ipv4) = (Some("192.168.1.5:5000"), Some("[fd00::5]:5000"), "192.0.2.5:5000");
    let (mapped, mapped_ipv6) = ("198.51.100.7:61000", "[2001:db8::7]:61000");
    for (host, server_reflexive, published) in [
        (private, mapped, mapped),
        (local, mapped, mapped),
        (None, mapped, mapped),
        (Some(ipv4), mapped_ipv6, ipv4),
        (None, mapped_ipv6, mapped_ipv6),
    ] {
        let (host, server_reflexive) = (host.map(address), Some(address(server_reflexive)));
        let mut participant = connected_participant(AddressCandidates { host, server_reflexive });
        let (kind, priority, local) = match published {
            "192.0.2.5:5000" => ("Host", 2_130_706_431, json!(published)),
            _ => ("ServerReflexive", 1_694_498_815, Value::Null),
        };
        let candidates = json!([{"address": published, "candidate_type": kind, "priority": priority}]);
        let data = json!({"candidates": candidates, "public_addr": published, "local_addr": local});
        assert_eq!(create(&mut participant), Some(json!({"type": "UpdatePeerInfo", "data": data})));
    }
}

#[test]
fn address_is_published_once_when_known_and_not_without_one() {
    let published = |request: Option<Value>| request.expect("a request")["data"]["public_addr"].take();
    let mut participant = connected_participant(AddressCandidates::default());
    assert_eq!(create(&mut participant), None);
    assert_eq!(participant.on_addresses(AddressCandidates::default()), None);
    let request = participant.on_addresses(addresses_with_host()).map(|request| as_json(&request));
    assert_eq!(published(request), "203.0.113.9:5000");
    assert_eq!(participant.on_addresses(addresses_with_host()), None);
    // An address that is known before the room exists is published with the room.
    let mut participant = connected_participant(AddressCandidates::default());
    assert_eq!(participant.on_addresses(addresses_with_host()), None);
    assert_eq!(published(create(&mut participant)), "203.0.113.9:5000");
}

#[test]
fn reconnect_rejoins_the_previous_room_or_recreates_it() {
    let mut participant = joined_participant();
    let rejoin = json!({"type": "JoinRoom", "data": {"room_id": "ABC234", "password": null, "peer_name": "Echo Bot"}});
    assert_eq!(as_json(&participant.on_connected()), rejoin);
    assert!(!participant.is_joined());
    let joined = json!({"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []});
    assert_eq!(respond(&mut participant, "RoomJoined", &joined).unwrap()["type"], "UpdatePeerInfo");
    assert!(participant.is_joined());
    assert_eq!(as_json(&participant.on_connected()), rejoin);
    let gone = json!({"message": "Room not found"});
    assert_eq!(respond(&mut participant, "Error", &gone).unwrap()["type"], "CreateRoom");
    let created = json!({"room_id": "5e6f7a8b", "peer_id": OWN, "invite_code": "XYZ789"});
    assert_eq!(respond(&mut participant, "RoomCreated", &created).unwrap()["type"], "UpdatePeerInfo");
    assert_eq!(as_json(&participant.on_connected())["data"]["room_id"], "XYZ789");
}

#[test]
fn room_creation_error_is_returned() {
    let error = ServerMessage::Error { message: "Too many rooms".to_owned() };
    let rejected = connected_participant(addresses_with_host()).on_message(error, NOW);
    let text = "the signaling server rejected the creation of a room: Too many rooms";
    assert_eq!(rejected, Err(RoomError::Rejected(text.to_owned())));
}

#[test]
fn chat_of_other_members_is_echoed_and_own_chat_is_not() {
    let mut participant = joined_participant();
    let data = json!({"sender_id": OWN, "sender_name": "Echo Bot", "content": "🔊 hello", "timestamp": NOW});
    assert_eq!(chat(&mut participant, OTHER, "hello"), Some(json!({"type": "ChatMessage", "data": data})));
    assert_eq!(chat(&mut participant, OWN, "🔊 hello"), None);
    assert_eq!(chat(&mut participant, OTHER, "").unwrap()["data"]["content"], "🔊 ");
}

#[test]
fn chat_echo_counts_seconds_if_the_message_does() {
    let mut participant = joined_participant();
    for (sent, returned) in [(1_795_181_800_u64, 1_795_181_823_u64), (1_795_181_800_000, 1_795_181_823_047)] {
        let data = json!({"sender_id": OTHER, "sender_name": "Ann", "content": "x", "timestamp": sent});
        assert_eq!(respond(&mut participant, "ChatMessage", &data).unwrap()["data"]["timestamp"], returned);
    }
}

#[test]
fn two_echo_participants_in_one_room_stop_answering_each_other() {
    let mut participants = [joined_participant(), joined_participant()];
    let mut content = "hello".to_owned();
    let answers = (0..10).map_while(|turn| {
        let answer = chat(&mut participants[turn % 2], OTHER, &content)?;
        content = answer["data"]["content"].as_str()?.to_owned();
        Some(content.clone())
    });
    assert_eq!(answers.collect::<Vec<_>>(), ["🔊 hello", "🔊 🔊 hello"]);
}

#[test]
fn chat_echo_is_limited_in_rate_and_length() {
    let mut participant = joined_participant();
    let returned = (0..1_000).filter(|_| chat(&mut participant, OTHER, "x").is_some()).count();
    assert_eq!(returned, 100);
    // Echoing resumes in the next second, and not before.
    for (time, returns) in [(1_795_181_823_999, false), (1_795_181_824_000, true)] {
        assert_eq!(chat_at(&mut participant, time, OTHER, "x").is_some(), returns, "at {time}");
    }
    let longest = "y".repeat(16 << 10);
    assert!(chat(&mut joined_participant(), OTHER, &longest).is_some());
    assert_eq!(chat(&mut joined_participant(), OTHER, &(longest + "y")), None);
}

#[test]
fn messages_outside_the_joined_room_are_ignored() {
    let mut participant = connected_participant(addresses_with_host());
    assert_eq!(chat(&mut participant, OTHER, "hello"), None);
    let joined = json!({"room_id": "1a2b3c4d", "peer_id": OTHER, "peers": []});
    let response = respond(&mut participant, "RoomJoined", &joined);
    assert_eq!(response, None, "the request was for a new room, not for this one");
}
