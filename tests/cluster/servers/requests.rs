//! HTTP requests and requests of the operator to a server without members of the room.

use std::time::Instant;

use serde_json::{Value, json};
use test_support::server::{Member, Response, Server, poll_until, send};

use super::{JSON, LOGIN, Servers, broadcast_member, get, jamjam_room, post, surface, webrtc_member};

fn operate(server: &Server, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(server, method, path, &[LOGIN, JSON], &body)
}

#[test]
fn post_reaches_and_counts_members_of_all_servers() {
    let Some(servers) = Servers::start(3, &[]) else { return };
    let mut members: Vec<_> = [0, 0, 1]
        .iter()
        .zip(["a", "b", "c"])
        .map(|(at, user)| broadcast_member(servers.all[*at].address, "radio", user))
        .collect();
    for (number, server) in servers.all.iter().enumerate() {
        let posted = post(server, "radio", &json!({"n": number}));
        assert_eq!((posted.status, &posted.json()["clientCount"]), (200, &json!(3)), "{posted:?}");
        for member in &mut members {
            assert_eq!(member.receive()["content"]["n"], number);
        }
        let health = get(server, "/health").json();
        assert_eq!(health["dialects"]["broadcast"]["roomCounts"], json!({"radio": 3}), "{health}");
    }
}

#[test]
fn delayed_post_arrives_although_its_server_was_killed() {
    // If nobody is in the room, only the killed server knows it.
    for is_occupied in [true, false] {
        let Some(mut servers) = Servers::start(2, &[]) else { return };
        let there = servers.all[1].address;
        let early = is_occupied.then(|| broadcast_member(there, "radio", "ann"));
        let posted = post(&servers.all[0], "radio", &json!({"type": "post", "content": 1, "delay": 4}));
        assert_eq!((posted.status, &posted.json()["delayMs"]), (200, &json!(4_000)), "{posted:?}");
        let sent = Instant::now();
        drop(servers.all.remove(0));
        let mut member = early.unwrap_or_else(|| broadcast_member(there, "radio", "ann"));
        assert_eq!(member.receive()["content"], 1);
        assert!((3.9..7.0).contains(&sent.elapsed().as_secs_f64()), "{:?}", sent.elapsed());
    }
}

#[test]
fn operator_of_any_server_controls_all_surface_rooms() {
    let Some(servers) = Servers::start(3, &["--bbx-room", "4711"]) else { return };
    let [here, there, third] = &servers.all[..] else { unreachable!() };
    let mut panel = surface(there, "4711");
    let set = operate(here, "POST", "/admin/bbx/param", &json!({"name": "gain", "value": 0.5}));
    assert_eq!(set.json(), json!({"delivered": 1}));
    assert_eq!(panel.receive(), json!({"type": "update", "param": "gain", "value": 0.5}));
    // A range is that of all servers.
    let declared = operate(here, "PUT", "/admin/bbx/params/gain", &json!({"min": 0, "max": 2, "value": 1.5}));
    assert_eq!(declared.status, 200, "{declared:?}");
    assert_eq!(panel.skip_to("update")["value"], 1.5);
    let mut other = surface(third, "4711");
    other.send_json(&json!({"type": "sync"}));
    let param = json!([{"name": "gain", "value": 1.5, "min": 0.0, "max": 2.0}]);
    assert_eq!(other.skip_to("state")["params"], param);
    let made = operate(here, "POST", "/admin/bbx/rooms", &json!({}));
    assert_eq!(made.status, 201, "{made:?}");
    let code = made.json()["code"].as_str().unwrap().to_owned();
    let mut guest = surface(third, &code);
    let listed = operate(there, "GET", "/admin/bbx/rooms", &Value::Null).json();
    let clients: Vec<_> = listed["rooms"].as_array().unwrap().iter().map(|room| room["clients"].clone()).collect();
    assert_eq!(clients, [2, 1], "{listed}");
    let closed = operate(here, "DELETE", &format!("/admin/bbx/rooms/{code}"), &Value::Null);
    assert_eq!(closed.json(), json!({"closed": true, "clients": 1}));
    guest.skip_to("closed");
    let gone = operate(there, "DELETE", &format!("/admin/bbx/rooms/{code}"), &Value::Null);
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[test]
fn operator_of_any_server_closes_rooms_of_all_dialects() {
    let Some(servers) = Servers::start(3, &["--bbx-room", "4711"]) else { return };
    let [first, second, third] = &servers.all[..] else { unreachable!() };
    let (jamjam, id) = jamjam_room(&servers.all[..2]);
    let mut members = vec![(jamjam, "jamjam", id.as_str().unwrap().to_owned())];
    let peers = vec![webrtc_member(first.address, "w", "a"), webrtc_member(second.address, "w", "b")];
    members.push((peers, "webrtc", "w".to_owned()));
    let listeners = vec![broadcast_member(first.address, "radio", "a"), broadcast_member(second.address, "radio", "b")];
    members.push((listeners, "broadcast", "radio".to_owned()));
    for (members, dialect, room) in members {
        let closed = operate(third, "POST", "/console/close-room", &json!({"dialect": dialect, "room": room}));
        assert_eq!((closed.status, &closed.json()["members"]), (200, &json!(2)), "{dialect}: {closed:?}");
        for mut member in members {
            let (code, reason) = member.read_to_close().0;
            assert_eq!((code, &*reason), (1008, "Room closed by the operator"), "{dialect}");
        }
        poll_until("no room", || {
            let again = operate(third, "POST", "/console/close-room", &json!({"dialect": dialect, "room": room}));
            (again.status == 404).then_some(())
        });
    }
    poll_until("no clients", || (get(third, "/health").json()["clients"] == 0).then_some(()));
    assert!(servers.all.iter().all(|server| server.metric("members") == 0));
}

#[test]
fn unreadable_room_does_not_hide_the_others_in_lists() {
    let Some(servers) = Servers::start(2, &[]) else { return };
    let [here, there] = &servers.all[..] else { unreachable!() };
    let (_members, _) = jamjam_room(&servers.all);
    let (_others, room) = jamjam_room(&servers.all);
    let _: u32 = servers.redis.command("HSET jamjam:room:1 description {");
    let rooms = Member::connect(here.address).rooms();
    assert_eq!(rooms.iter().map(|room| &room["id"]).collect::<Vec<_>>(), [&room]);
    // These lists need the rooms themselves.
    let _peers = ["lost", "found"].map(|room| webrtc_member(there.address, room, "ann"));
    let _: u32 = servers.redis.command("HSET jamjam:room:3 snapshot {");
    let listed = get(here, "/rooms").json();
    let names: Vec<_> = listed["rooms"].as_array().unwrap().iter().map(|room| &room["roomId"]).collect();
    assert_eq!(names, ["found"], "{listed}");
}
