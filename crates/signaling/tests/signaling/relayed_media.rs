//! What jamjam members see of each other while the server relays their media.

use std::collections::BTreeSet;

use jamjam_core::media_relay::{MediaRelayConfig, MediaRooms};
use jamjam_signaling::{ConnId, Hub, NewConnection, SignalingLimits, route};
use serde_json::{Value, json};

use crate::test_hub::{TestHub, create, join};

/// A hub whose relay has this number of sockets.
fn hub(sockets: u16) -> TestHub {
    let ports = (40_000..40_000 + sockets).collect();
    let media = MediaRooms::new(MediaRelayConfig { ports, ..MediaRelayConfig::default() }, None);
    let mut hub = TestHub::new(SignalingLimits::default());
    hub.hub = Hub::new(SignalingLimits::default(), [1, 2, 3, 4]).with_media(Some(media));
    hub
}

/// A connection from 198.51.100.`conn` to 203.0.113.`conn`.
fn connect(hub: &mut TestHub, conn: u8, path: &str) {
    let route = route(path, "", <_>::default()).expect("a route");
    let (source, local_ip) = ([198, 51, 100, conn].into(), [203, 0, 113, conn].into());
    hub.at(0).on_connect(ConnId(conn.into()), NewConnection { source, local_ip, is_forwarded: false, route });
}

fn publish(hub: &mut TestHub, conn: u8, port: u16) {
    let address = |host| format!("{host}:{port}");
    let host = address(format!("198.51.100.{conn}"));
    let candidates = json!([
        {"address": address("10.0.0.9".to_owned()), "candidate_type": "Host", "priority": 5},
        {"address": host, "candidate_type": "ServerReflexive", "priority": 900},
    ]);
    let data = json!({"candidates": candidates, "public_addr": host, "local_addr": address("10.0.0.9".to_owned())});
    hub.send(conn.into(), 0, &json!({"type": "UpdatePeerInfo", "data": data}));
}

/// The address of a peer, which has the form that a relayed member has.
fn relayed(peer: &Value, conn: u8, priority: u32) -> String {
    let address = peer["public_addr"].as_str().expect("an address").to_owned();
    let candidates = json!([{"address": address, "candidate_type": "Host", "priority": priority}]);
    assert_eq!((&peer["candidates"], &peer["local_addr"]), (&candidates, &Value::Null));
    assert!(
        address.starts_with(&format!("203.0.113.{conn}:40")),
        "{address}: where the recipient's connection arrived"
    );
    address
}

/// Two generations of clients in a room: connections 1 to 3.
fn room(hub: &mut TestHub) -> Value {
    for (conn, path) in [(1, "/"), (2, "/v1/signaling"), (3, "/v1/signaling")] {
        connect(hub, conn, path);
    }
    hub.send(1, 0, &create(None));
    let id = hub.last(1)["data"]["room_id"].clone();
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
fn room_without_sockets_is_full_and_never_shows_real_addresses() {
    let mut hub = hub(3);
    let id = room(&mut hub);
    hub.send(3, 0, &join(&id, None));
    let full = json!({"type": "Error", "data": {"message": "Room is full"}});
    assert_eq!(hub.last(3), full);
    let before = hub.sink.texts.len();
    publish(&mut hub, 1, 6_000);
    assert_eq!(hub.last(2)["type"], "PeerUpdated", "one socket was left");
    publish(&mut hub, 1, 7_000);
    assert_eq!(hub.last(1), full);
    assert_eq!(hub.sink.texts.len(), before + 2);
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
fn echo_server_that_returns_to_its_room_is_relayed_anew() {
    let mut hub = hub(20);
    connect(&mut hub, 1, "/v1/signaling");
    connect(&mut hub, 2, "/");
    connect(&mut hub, 3, "/v1/signaling");
    let key = "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=";
    let create = json!({"type": "CreateRoom", "data": {
        "room_name": "[BOT] Echo", "password": null, "peer_name": "Echo Bot", "link_key": key
    }});
    hub.send(1, 0, &create);
    let id = hub.last(1)["data"]["room_id"].clone();
    publish(&mut hub, 1, 5_000);
    hub.send(2, 0, &join(&id, None));
    let first = relayed(&hub.last(2)["data"]["peers"][0], 2, 900);
    hub.disconnect(1);
    let connection = NewConnection {
        source: [198, 51, 100, 1].into(),
        local_ip: [203, 0, 113, 3].into(),
        is_forwarded: false,
        route: route("/v1/signaling", "", <_>::default()).expect("a route"),
    };
    hub.at(0).on_connect(ConnId(4), connection);
    hub.send(4, 0, &create);
    assert_eq!(hub.last(4)["data"]["room_id"], id);
    publish(&mut hub, 4, 5_000);
    let second = relayed(&hub.last(2)["data"]["peer"], 2, 900);
    assert_ne!(first, second);
}
