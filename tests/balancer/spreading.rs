//! The members of a room meet, also after one of the servers was killed, has hung or has returned.

use std::collections::BTreeMap;

use serde_json::json;
use test_support::server::{Member, poll_until, send_to};

use crate::balancers::Balancer;
use crate::rooms::Room;
use crate::servers::{Servers, health};

/// As many members as there are forms of a URL.
const FORMS: usize = 7;

#[test]
#[ignore = "needs HAProxy: .ci/full"]
fn members_of_a_room_meet_whatever_form_their_urls_have() {
    let servers = Servers::start(&[]);
    let proxy = Balancer::haproxy(&servers);
    let mut rooms = Room::several(proxy.address, 0..50, FORMS, "+");
    rooms.push(Room::new(proxy.address, "Who? a;b+c %41".to_owned(), "+"));
    rooms[50].join(FORMS);
    rooms.iter_mut().for_each(Room::assert_complete);
    // `/static` is the folder of the pages' files and also a room, but `/static/postcontent` belongs to the folder.
    rooms.push(Room::new(proxy.address, "static".to_owned(), "+"));
    rooms[51].join(FORMS);
    let placed = servers.all_rooms(rooms.len());
    assert!(placed.iter().all(|rooms| rooms.len() > 5), "{placed:?}");
    assert!(placed.iter().flat_map(BTreeMap::values).all(|members| *members == FORMS as u64), "{placed:?}");
    // The table keeps a room for an hour, which does not pass while connections are open.
    assert_eq!(proxy.open_connections("room\\ 0"), Some(2 * FORMS));
    drop(rooms);
    poll_until("an entry without connections", || (proxy.open_connections("room\\ 0")? == 0).then_some(()));
}

#[test]
#[ignore = "needs HAProxy: .ci/full"]
fn urls_without_a_room_lead_to_one_server_but_never_to_its_metrics() {
    let servers = Servers::start(&[]);
    let proxy = Balancer::haproxy(&servers);
    let (mut creator, mut members) = (Member::connect(proxy.address), Vec::new());
    let room = creator.create_room("jam");
    for path in ["/ws", "/ws/", "/?x=1", "/ws?x=1"] {
        // A forged address, which the balancer must not pass on as the client's.
        let mut member = Member::try_connect(proxy.address, path, &[("X-Forwarded-For", "198.51.100.7")]).unwrap();
        assert_eq!(member.join(&room).len(), members.len() + 1, "{path}");
        members.push(member);
    }
    assert_eq!(health(proxy.address)["dialects"]["jamjam"], json!({"rooms": 1, "clients": 5}));
    for path in ["/metrics", "/metrics?x", "/%6detrics", "/metrics/"] {
        assert_eq!(send_to(proxy.address, "GET", path, &[], "").status, 404, "{path}");
    }
    let forged = ["X-Forwarded-Proto: https", "X-Forwarded-Host: forged"];
    let url = send_to(proxy.address, "GET", "/api/v1/signaling", &forged, "").json()["url"].take();
    assert!(url.as_str().is_some_and(|url| url.starts_with("ws:") && !url.contains("forged")), "{url}");
    drop((creator, members));
    let log = servers.stop();
    let opened: Vec<_> = log.iter().filter(|line| line.contains("connection opened")).collect();
    assert!(opened.len() == 5 && opened.iter().all(|line| line.ends_with(" source=127.0.0.1")), "{log:?}");
}

#[test]
#[ignore = "needs HAProxy: .ci/full"]
fn rooms_of_a_killed_server_meet_elsewhere_and_stay_there() {
    let mut servers = Servers::start(&[]);
    let proxy = Balancer::haproxy(&servers);
    let mut rooms = Room::several(proxy.address, 0..50, 2, "+");
    let lost = &servers.all_rooms(rooms.len())[0];
    servers.kill(0);
    return_to(&mut rooms, lost);
    // Neither have the members of the other rooms received anything else.
    rooms.iter_mut().for_each(Room::assert_complete);

    servers.start_again(0);
    proxy.wait_until_up(0);
    assert_all_found(&mut rooms);
    assert!(servers.rooms(0).is_empty());
    let mut new = Room::several(proxy.address, 50..100, 1, "+");
    poll_until("new rooms on it", || (!servers.rooms(0).is_empty()).then_some(()));

    proxy.reload();
    assert_all_found(&mut rooms);
    assert_all_found(&mut new);
}

#[test]
#[ignore = "needs HAProxy: .ci/full"]
fn server_that_hangs_splits_no_room() {
    let servers = Servers::start(&[]);
    let proxy = Balancer::haproxy(&servers);
    let mut rooms = Room::several(proxy.address, 0..50, 2, "+");
    let lost = &servers.all_rooms(rooms.len())[0];
    servers.signal(0, "STOP");
    return_to(&mut rooms, lost);
    servers.signal(0, "CONT");
    proxy.wait_until_up(0);
    poll_until("the end of the old connections", || servers.rooms(0).is_empty().then_some(()));
    assert_all_found(&mut rooms);
}

#[test]
#[ignore = "needs HAProxy: .ci/full"]
fn full_server_rejects_clients_but_keeps_its_members() {
    let servers = Servers::start(&["--max-connections", "40"]);
    let proxy = Balancer::haproxy(&servers);
    let mut room = Room::new(proxy.address, "full".to_owned(), "+");
    room.join(15);
    // Each attempt takes two seconds. A server that does not answer checks is down after three.
    for _ in 0..3 {
        assert_eq!(Member::try_connect(proxy.address, "/full", &[]).err(), Some(503));
    }
    // The balancer would reject posts, too.
    let number = (0..3).find(|number| servers.rooms(*number).contains_key("full")).expect("its server");
    room.balancer = servers.addresses[number];
    room.assert_complete();
}

/// As docs/deploy.md describes.
#[test]
#[ignore = "needs nginx: .ci/full"]
fn nginx_spreads_rooms_but_splits_them_after_a_return() {
    let mut servers = Servers::start(&[]);
    let nginx = Balancer::nginx(&servers);
    let mut rooms = Room::several(nginx.address, 0..50, FORMS, "%20");
    rooms.iter_mut().for_each(Room::assert_complete);
    assert_eq!(send_to(nginx.address, "GET", "/metrics", &[], "").status, 404);
    let lost = &servers.all_rooms(rooms.len())[0];
    servers.kill(0);
    return_to(&mut rooms, lost);
    rooms.iter_mut().for_each(Room::assert_complete);
    servers.start_again(0);
    let moved = rooms.iter_mut().find(|room| lost.contains_key(room.name())).unwrap();
    poll_until("a room in two parts", || (moved.join_webrtc().1 == 0).then_some(()));
}

/// The members of these rooms lose their connections, and come back.
fn return_to(rooms: &mut [Room], lost: &BTreeMap<String, u64>) {
    assert!(lost.len() > 5, "{lost:?}");
    let mut lost: Vec<&mut Room> = rooms.iter_mut().filter(|room| lost.contains_key(room.name())).collect();
    for room in &mut lost {
        room.wait_until_lost();
    }
    for room in &mut lost {
        room.join(2);
        room.assert_complete();
    }
}

/// A new member of each room finds the others.
fn assert_all_found(rooms: &mut [Room]) {
    for room in rooms {
        room.join(1);
        room.assert_complete();
    }
}
