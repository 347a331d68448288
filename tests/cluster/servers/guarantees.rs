//! Failures of other programs that share rooms between servers, each as a test that this one does not have them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::server::{Member, poll_until};

use super::{
    MAX_DEPARTURE, Servers, assert_all_reached, broadcast_member, get, jamjam_room, join_jamjam, post, webrtc_member,
};

/// `LiveKit` #4316: a server that has no more members deletes a room that others still use.
#[test]
fn room_is_not_deleted_by_the_count_of_one_server() {
    let Some(servers) = Servers::start(3, &[]) else { return };
    let (mut members, room) = jamjam_room(&servers.all[..2]);
    members.remove(0).close("");
    members[0].receive_type("PeerLeft");
    // The server of the creator has forgotten the room, and the others go on.
    poll_until("a forgotten room", || (servers.all[0].metric("cluster_rooms_here") == 0).then_some(()));
    for server in [2, 0] {
        let member = join_jamjam(&servers.all[server], &room, &mut members);
        members.push(member);
        assert_all_reached(&mut members);
    }
    assert_eq!(Member::connect(servers.all[2].address).rooms()[0]["peer_count"], 3);
    drop(members);
    poll_until("no rooms", || Member::connect(servers.all[1].address).rooms().is_empty().then_some(()));
}

/// socket.io-redis-streams-adapter #6: requests that wait for an answer of servers that have departed.
#[test]
fn nothing_waits_for_departed_servers() {
    let Some(mut servers) = Servers::start(3, &[]) else { return };
    let (mut members, room) = jamjam_room(&servers.all);
    let _radio = broadcast_member(servers.all[1].address, "radio", "ann");
    drop(servers.all.remove(2));
    drop(members.pop());
    let killed = Instant::now();
    assert_all_reached(&mut members);
    // The list of rooms and of members, and new rooms. Until the lease has expired, the dead member is in the room.
    let mut member = Member::connect(servers.all[1].address);
    assert_eq!(member.rooms().len(), 1);
    assert_eq!(member.join(&room).len(), 3);
    assert_eq!(post(&servers.all[0], "radio", &json!({})).status, 200);
    assert_eq!(get(&servers.all[0], "/health").status, 200);
    servers.assert_new_rooms_work();
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
}

/// socket.io-redis-streams-adapter #39: what is recovered by several servers is delivered several times.
#[test]
fn departure_found_by_all_servers_is_announced_once() {
    let Some(mut servers) = Servers::start(4, &[]) else { return };
    // Enough rooms that the servers share the work.
    let mut rooms: Vec<_> = (0..8).map(|_| jamjam_room(&servers.all).0).collect();
    drop(servers.all.pop());
    let killed = Instant::now();
    for members in &mut rooms {
        drop(members.pop());
        for member in &mut *members {
            member.receive_type("PeerLeft");
        }
        assert_all_reached(members);
    }
    assert!(killed.elapsed() < MAX_DEPARTURE, "{:?}", killed.elapsed());
}

/// `LiveKit` #1943: two clients that make a room at the same time on two servers are in two rooms of one name.
#[test]
fn simultaneous_creators_on_different_servers_make_one_room() {
    let Some(servers) = Servers::start(3, &[]) else { return };
    let addresses: Vec<_> = servers.all.iter().map(|server| server.address).collect();
    for round in 0..20 {
        let room = format!("room{round}");
        let barrier = Barrier::new(addresses.len());
        let join = |number: usize| {
            barrier.wait();
            let address = addresses[number];
            let peer = webrtc_member(address, &room, &format!("user{number}"));
            (peer, broadcast_member(address, &room, "ann"))
        };
        let mut members: Vec<_> = thread::scope(|scope| {
            let join = &join;
            let joining: Vec<_> = (0..addresses.len()).map(|number| scope.spawn(move || join(number))).collect();
            joining.into_iter().map(|join| join.join().unwrap()).collect()
        });
        assert_eq!(post(&servers.all[0], &room, &json!({"n": round})).json()["clientCount"], 3, "{room}");
        for (peer, listener) in &mut members {
            assert_eq!(listener.receive()["content"]["n"], round);
            peer.send_json(&json!({"type": "request-participants"}));
            // Joins of others may come before the answer.
            let all = peer.skip_to("participants-list");
            assert_eq!(all["participants"].as_array().map(Vec::len), Some(3), "{all}");
        }
    }
    let health = get(&servers.all[0], "/health").json();
    let rooms = ["webrtc", "broadcast"].map(|dialect| health["dialects"][dialect]["rooms"].as_u64());
    assert!(rooms.iter().all(|count| *count <= Some(20)), "{health}");
}

/// What a connection leaves because it has entered another room must not be what it enters next.
#[test]
fn member_that_returns_to_its_former_room_at_once_stays_in_it() {
    let Some(servers) = Servers::start(2, &["--rate-limit-messages", "off"]) else { return };
    let mut residents = [(); 2].map(|()| Member::connect(servers.all[1].address));
    let rooms = residents.each_mut().map(|resident| resident.create_room("jam"));
    let mut member = Member::connect(servers.all[0].address);
    for round in 0..40 {
        member.send("JoinRoom", &json!({"room_id": rooms[round % 2], "password": null, "peer_name": "Ann"}));
    }
    for round in 0..40 {
        member.receive_type("RoomJoined");
        residents[round % 2].receive_type("PeerJoined");
        if round < 39 {
            residents[round % 2].receive_type("PeerLeft");
        }
    }
    let [_, there] = residents;
    assert_all_reached(&mut [member, there]);
}

#[test]
fn member_whose_connection_is_lost_while_it_changes_rooms_leaves_both() {
    let limits = ["--rate-limit-messages", "off", "--rate-limit-connections", "off"];
    let Some(servers) = Servers::start(2, &limits) else { return };
    let mut residents = [(); 2].map(|()| Member::connect(servers.all[1].address));
    let rooms = residents.each_mut().map(|resident| resident.create_room("jam"));
    for _ in 0..60 {
        let mut member = Member::connect(servers.all[0].address);
        for round in 0..6 {
            member.send("JoinRoom", &json!({"room_id": rooms[round % 2], "password": null, "peer_name": "Ann"}));
        }
        // While earlier members are leaving, the room may be full.
        member.receive();
        // The connection is reset while later messages are handled.
        drop(member);
    }
    let mut observer = Member::connect(servers.all[1].address);
    poll_until("only the residents are left", || {
        let members = |room: &serde_json::Value| room["peer_count"].as_u64();
        (observer.rooms().iter().map(members).collect::<Vec<_>>() == [Some(1), Some(1)]).then_some(())
    });
    assert_eq!(observer.join(&rooms[0]).len(), 1);
}

/// One room that cannot be read must not cost the leases of other servers.
#[test]
fn unreadable_room_of_a_dead_server_harms_no_other_room() {
    let Some(mut servers) = Servers::start(2, &[]) else { return };
    let (mut members, _) = jamjam_room(&servers.all[..1]);
    let mut dead = Member::connect(servers.all[1].address);
    dead.create_room("lost");
    let _: u32 = servers.redis.command("HDEL jamjam:room:2 dialect");
    drop(servers.all.remove(1));
    poll_until("the departure", || (servers.all[0].metric("cluster_servers") == 1).then_some(()));
    // The room is visited two seconds later, and a lease lasts ten seconds.
    thread::sleep(MAX_DEPARTURE);
    assert_all_reached(&mut members);
    servers.assert_new_rooms_work();
}
