//! What jamjam members see of each other while the server relays their media.

use std::collections::BTreeSet;

use jamjam_core::media_relay::{MediaRelayConfig, MediaRooms};
use jamjam_signaling::CloseCode;
use jamjam_signaling::{ActivityOutcome, ConnId, Dialect, NewConnection, Route, SignalingLimits, route};
use serde_json::{Value, json};

use crate::test_hub::{LINK_KEYS, TestHub, connection, create, create_test_room, device, error, join, ms};

const NO_PORTS: &str = "No media ports left on the server";

/// A hub whose relay has this number of sockets.
fn hub(sockets: u16) -> TestHub {
    hub_of(SignalingLimits::default(), media(sockets))
}

fn media(sockets: u16) -> MediaRooms {
    let ports = (40_000..40_000 + sockets).collect();
    let config = MediaRelayConfig { ports, ..MediaRelayConfig::default() };
    MediaRooms::new(config, None)
}

fn hub_of(limits: SignalingLimits, media: MediaRooms) -> TestHub {
    TestHub::new(limits).with_media(media)
}

/// A connection from 198.51.100.`conn` to 203.0.113.`conn`.
fn connect_by(hub: &mut TestHub, conn: u8, route: Route) {
    let connection = connection(&format!("198.51.100.{conn}"), route);
    let connection = NewConnection { local_ip: [203, 0, 113, conn].into(), ..connection };
    hub.add(conn.into(), 0, connection);
}

fn connect(hub: &mut TestHub, conn: u8, path: &str) {
    connect_by(hub, conn, route(path, "", &Dialect::ALL).expect("a route"));
}

fn publish(hub: &mut TestHub, conn: u8, port: u16) {
    let (local, public) = (format!("10.0.0.9:{port}"), format!("198.51.100.{conn}:{port}"));
    let candidates = json!([
        {"address": local, "candidate_type": "Host", "priority": 5},
        {"address": public, "candidate_type": "ServerReflexive", "priority": 900},
    ]);
    let data = json!({"candidates": candidates, "public_addr": public, "local_addr": local});
    hub.send(conn.into(), 0, &json!({"type": "UpdatePeerInfo", "data": data}));
}

/// Connects and sends a request. Returns the type of the answer, if there is one.
fn request(hub: &mut TestHub, conn: u8, path: &str, request: &Value) -> Option<Value> {
    connect(hub, conn, path);
    hub.send(conn.into(), 0, request);
    hub.received(conn.into()).pop().map(|mut answer| answer["type"].take())
}

/// The address of a peer, which has the form that a relayed member has.
fn relayed(peer: &Value, conn: u8, priority: u32) -> String {
    let address = peer["public_addr"].as_str().expect("an address").to_owned();
    let candidates = json!([{"address": address, "candidate_type": "Host", "priority": priority}]);
    assert_eq!((&peer["candidates"], &peer["local_addr"]), (&candidates, &Value::Null));
    // Where the recipient's connection arrived.
    assert!(address.starts_with(&format!("203.0.113.{conn}:40")), "{address}");
    address
}

/// Two generations of clients in a room: connections 1 to 3.
fn room(hub: &mut TestHub) -> Value {
    for (conn, path) in [(1, "/"), (2, "/v1/signaling"), (3, "/v1/signaling")] {
        connect(hub, conn, path);
    }
    let id = hub.create_room(1, None);
    publish(hub, 1, 5_000);
    hub.send(2, 0, &join(&id, None));
    id
}

#[test]
fn each_recipient_sees_an_address_of_its_own_and_no_real_one() {
    let mut hub = hub(20);
    let id = room(&mut hub);
    let mut seen = vec![relayed(&hub.last(2)["data"]["peers"][0], 2, 900)];
    // A member without an address stays without.
    let peer = &hub.last(1)["data"]["peer"];
    assert_eq!((&peer["candidates"], &peer["public_addr"]), (&json!([]), &Value::Null));
    publish(&mut hub, 2, 5_000);
    seen.push(relayed(&hub.last(1)["data"]["peer"], 1, 900));
    hub.send(3, 0, &join(&id, None));
    seen.extend([0, 1].map(|index| relayed(&hub.last(3)["data"]["peers"][index], 3, 900)));
    publish(&mut hub, 3, 5_000);
    seen.extend([1, 2].map(|conn| relayed(&hub.last(conn.into())["data"]["peer"], conn, 900)));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 6);
    for (_, text) in &hub.sink.texts {
        assert!(!text.contains("198.51.100.") && !text.contains("10.0.0."), "{text}");
    }
}

#[test]
fn update_that_keeps_an_address_keeps_the_socket_and_a_new_member_has_others() {
    let mut hub = hub(20);
    let id = room(&mut hub);
    let first = relayed(&hub.last(2)["data"]["peers"][0], 2, 900);
    let updated = |hub: &mut TestHub, port| {
        publish(hub, 1, port);
        assert_eq!(hub.last(2)["type"], "PeerUpdated");
        relayed(&hub.last(2)["data"]["peer"], 2, 900)
    };
    assert_eq!(updated(&mut hub, 5_000), first);
    let second = updated(&mut hub, 6_000);
    assert_ne!(second, first);
    hub.send(1, 0, &json!({"type": "LeaveRoom"}));
    hub.send(1, 0, &join(&id, None));
    publish(&mut hub, 1, 6_000);
    let third = relayed(&hub.last(2)["data"]["peer"], 2, 900);
    assert!(third != first && third != second);
}

#[test]
fn member_whose_connection_ends_is_lost_unless_it_left_the_room() {
    type End = fn(&mut TestHub);
    let ends: [(&str, End, Option<&str>); 5] = [
        ("LeaveRoom", |hub| hub.send(2, 0, &json!({"type": "LeaveRoom"})), None),
        ("another room", |hub| hub.send(2, 0, &create(None)), None),
        ("connection lost", |hub| hub.disconnect(2), Some("Bob#1")),
        (
            "closed by the client",
            |hub| hub.at(0, |hub, now| hub.on_close(now, ConnId(2), CloseCode::NORMAL_CLOSURE, "")),
            Some("Bob#1"),
        ),
        ("the server ends", |_| (), None),
    ];
    for (case, end, expected) in ends {
        let media = media(20);
        let mut hub = hub_of(SignalingLimits::default(), media.clone());
        room(&mut hub);
        end(&mut hub);
        drop(hub);
        let rooms = media.take_results();
        let lost: Vec<_> =
            rooms.values().flat_map(|room| &room.recoveries).map(|(_, pair)| pair.lost.as_deref()).collect();
        assert_eq!(lost, [expected; 2], "{case}");
    }
}

#[test]
fn refused_update_for_want_of_ports_is_answered_and_reaches_nobody() {
    let mut hub = hub(2);
    room(&mut hub);
    let before = hub.sink.texts.len();
    publish(&mut hub, 1, 6_000);
    assert_eq!((hub.last(1), hub.sink.texts.len()), (error(NO_PORTS), before + 1));
}

#[test]
fn member_whose_new_room_has_no_ports_keeps_the_old_one() {
    let mut hub = hub(4);
    room(&mut hub);
    connect(&mut hub, 4, "/");
    let id = hub.create_room(4, None);
    hub.send(3, 0, &join(&id, None));
    let before = hub.sink.texts.len();
    hub.send(2, 0, &join(&id, None));
    assert_eq!((hub.last(2), hub.sink.texts.len()), (error(NO_PORTS), before + 1));
    publish(&mut hub, 2, 5_000);
    assert_eq!(hub.last(1)["type"], "PeerUpdated");
}

#[test]
fn members_of_a_full_room_join_it_again_and_nobody_else_does() {
    // As many ports as the room has announced.
    for sockets in [90, 180] {
        let mut hub = hub(sockets);
        let id = room(&mut hub);
        (4..=12).for_each(|conn| connect(&mut hub, conn, "/v1/signaling"));
        (3..=10).for_each(|conn| hub.send(conn, 0, &join(&id, None)));
        for _ in 0..3 {
            for conn in 1..=10 {
                let before = hub.received(11 - conn).len();
                hub.send(conn, 0, &join(&id, None));
                assert_eq!(hub.last(conn)["type"], "RoomJoined", "{conn}");
                assert_eq!(hub.received(11 - conn)[before]["type"], "PeerLeft", "{conn}");
            }
            hub.send(11, 0, &join(&id, None));
            assert_eq!(hub.last(11), error("Room is full"));
        }
    }
}

#[test]
fn member_with_an_ipv6_address_is_rejected() {
    let mut hub = hub(20);
    for (conn, source, expected) in
        [(1, "2001:db8::1", "Error"), (2, "::ffff:198.51.100.2", "RoomCreated"), (3, "::1", "RoomCreated")]
    {
        hub.connect_from(conn, source, 0, "/");
        hub.send(conn, 0, &create(None));
        assert_eq!(hub.last(conn)["type"], expected, "{source}");
    }
    assert_eq!(hub.last(1)["data"]["message"], "media is relayed over IPv4 only");
}

#[test]
fn create_room_is_rejected_like_join_room_if_no_sockets_are_left() {
    let mut hub = hub_of(SignalingLimits { is_strict: true, ..SignalingLimits::default() }, media(2));
    request(&mut hub, 1, "/v1/signaling", &create_test_room(Some(LINK_KEYS[0])));
    let id = hub.last(1)["data"]["room_id"].clone();
    request(&mut hub, 2, "/v1/signaling", &join(&id, None));
    request(&mut hub, 3, "/v1/signaling", &join(&id, None));
    hub.send(1, 0, &json!({"type": "LeaveRoom"}));
    request(&mut hub, 5, "/v1/signaling", &join(&id, None));
    // The place of the owner is free, but both sockets are announced to others.
    request(&mut hub, 4, "/v1/signaling", &create_test_room(Some(LINK_KEYS[0])));
    assert_eq!([3, 4].map(|conn| hub.received(conn)), [[error(NO_PORTS)], [error(NO_PORTS)]]);
    let reported: Vec<_> = hub.sink.wrong.iter().map(|(conn, .., sentence)| (*conn, &**sentence)).collect();
    assert_eq!(reported, [(3, NO_PORTS), (4, NO_PORTS)]);
    let activity = hub.hub.snapshot(ms(0), 0, false).activity;
    let rejected = activity.iter().filter(|entry| entry.outcome == ActivityOutcome::Rejected);
    assert_eq!(rejected.map(|entry| entry.connection).collect::<Vec<_>>(), [Some(3), Some(4)]);
}

#[test]
fn echo_server_that_returns_to_its_room_is_relayed_anew() {
    let mut hub = hub(20);
    request(&mut hub, 1, "/v1/signaling", &create_test_room(Some(LINK_KEYS[0])));
    let id = hub.last(1)["data"]["room_id"].clone();
    publish(&mut hub, 1, 5_000);
    request(&mut hub, 2, "/", &join(&id, None));
    let first = relayed(&hub.last(2)["data"]["peers"][0], 2, 900);
    hub.disconnect(1);
    hub.connect_from(4, "198.51.100.1", 0, "/v1/signaling");
    hub.send(4, 0, &create_test_room(Some(LINK_KEYS[0])));
    assert_eq!(hub.last(4)["data"]["room_id"], id);
    publish(&mut hub, 4, 5_000);
    let second = relayed(&hub.last(2)["data"]["peer"], 2, 900);
    assert_ne!(first, second);
}

fn change(hub: &mut TestHub, link: Value) {
    hub.at(0, |hub, now| hub.change_link(now, serde_json::from_value(link).expect("a link")))
        .expect("media is relayed");
}

fn join_as(name: &str, room: &Value) -> Value {
    json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": name}})
}

fn sever(hub: &mut TestHub, from: &str, is_severed: bool) {
    change(hub, json!({"from": from, "signaling": is_severed}));
}

#[test]
fn change_of_both_directions_is_two_changes() {
    let mut hub = hub(20);
    change(&mut hub, json!({"from": "Aki", "to": "*", "both": true, "loss": 100}));
    let links = json!([{"from": "*", "to": "Aki", "loss": 100, "members": 0}, {"from": "Aki", "to": "*", "loss": 100, "members": 0}]);
    assert_eq!(hub.hub.links()["links"], links);
    change(&mut hub, json!({"from": "Aki", "to": "*", "both": true, "loss": null}));
    change(&mut hub, json!({"from": "Aki", "both": false, "loss": 1}));
    assert_eq!(hub.hub.links()["links"], json!([{"from": "Aki", "to": "*", "loss": 1, "members": 0}]));
}

#[test]
fn required_change_that_means_nobody_is_rejected_and_severs_nobody() {
    let mut hub = hub(20);
    room(&mut hub);
    let mut change =
        |link| hub.at(0, |hub, now| hub.change_link(now, serde_json::from_value(link).expect("a link"))).ok();
    assert_eq!(change(json!({"from": "Bob", "signaling": true, "require": true, "loss": 1})), Some(1));
    assert_eq!(change(json!({"from": "Bob", "signaling": true, "require": true})), None);
    assert_eq!(change(json!({"from": "Bbo", "signaling": true, "require": true})), None);
    assert_eq!(change(json!({"from": "Bbo", "signaling": true})), Some(0));
    // Nothing is to be changed.
    assert_eq!(change(json!({"from": "Bob"})), None);
    assert_eq!(hub.hub.links()["severed"], json!(["Bbo", "Bob"]));
}

#[test]
fn severed_member_is_dropped_without_a_close_frame_and_refused_by_name_until_restored() {
    let mut hub = hub(20);
    let id = room(&mut hub);
    hub.send(3, 0, &join(&id, None));
    sever(&mut hub, "Ann", true);
    assert_eq!((&hub.sink.aborted, hub.closed()), (&vec![1], vec![]));
    assert_eq!((&hub.last(2)["type"], hub.counts().connections), (&json!("PeerLeft"), 2));
    for (conn, as_ann) in [(4, create(None)), (5, join_as("Ann", &id))] {
        assert_eq!(request(&mut hub, conn, "/", &as_ann), None);
    }
    assert_eq!((&hub.sink.aborted, hub.closed(), hub.counts().connections), (&vec![1, 4, 5], vec![], 2));
    // Whoever has another name is not affected.
    assert_eq!(request(&mut hub, 6, "/", &join(&id, None)), Some(json!("RoomJoined")));
    sever(&mut hub, "*", false);
    assert_eq!(request(&mut hub, 7, "/", &create(None)), Some(json!("RoomCreated")));
}

#[test]
fn severed_device_is_refused_under_every_name_until_restored() {
    let mut hub = hub(20);
    for (conn, is_by_id) in [(1, false), (2, true)] {
        // The upgrade request of a severed device is rejected.
        assert!(!hub.hub.is_severed(&device(1)));
        connect_by(&mut hub, conn, Route::NewerJamjam(Some(device(1))));
        hub.send(conn.into(), 0, &create(None));
        let peer_id = hub.last(conn.into())["data"]["peer_id"].as_str().expect("an id").to_owned();
        let from = if is_by_id { &*peer_id } else { "Ann" };
        sever(&mut hub, from, true);
        // A repeated request changes nothing.
        sever(&mut hub, from, true);
        assert!(hub.hub.is_severed(&device(1)) && !hub.hub.is_severed(&device(2)), "{from}");
        assert_eq!(hub.sink.aborted.last(), Some(&u64::from(conn)), "{from}");
        sever(&mut hub, from, false);
        assert!(!hub.hub.is_severed(&device(1)), "{from}");
    }
}

#[test]
fn severed_name_that_changes_its_room_leaves_the_old_one_and_no_name_severs_no_device() {
    let mut hub = hub(20);
    let id = room(&mut hub);
    for from in ["Cid", ""] {
        sever(&mut hub, from, true);
    }
    assert!(!hub.hub.is_severed(&device(1)));
    hub.send(2, 0, &join_as("Cid", &id));
    assert_eq!((&hub.sink.aborted, &hub.last(1)["type"]), (&vec![2], &json!("PeerLeft")));
}

#[test]
fn member_without_a_device_that_is_severed_by_its_id_is_refused_by_its_name() {
    let mut hub = hub(20);
    let id = room(&mut hub);
    let peer_id = hub.last(2)["data"]["peer_id"].as_str().expect("an id").to_owned();
    sever(&mut hub, &peer_id, true);
    assert_eq!(hub.sink.aborted, [2]);
    request(&mut hub, 4, "/v1/signaling", &join(&id, None));
    assert_eq!(hub.sink.aborted, [2, 4]);
    sever(&mut hub, "Bob", false);
    assert_eq!(request(&mut hub, 5, "/v1/signaling", &join(&id, None)), Some(json!("RoomJoined")));
}

#[test]
fn devices_severed_last_stay_severed_above_the_maximum() {
    let mut hub = hub(20);
    (0..1_000).for_each(|number| sever(&mut hub, &number.to_string(), true));
    connect_by(&mut hub, 1, Route::NewerJamjam(Some(device(1))));
    hub.send(1, 0, &create(None));
    (0..2).for_each(|_| sever(&mut hub, "Ann", true));
    assert!(hub.hub.is_severed(&device(1)));
    // The name and the device have replaced two others.
    assert_eq!(hub.hub.links()["severed"].as_array().map(Vec::len), Some(999));
}
