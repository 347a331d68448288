//! Joins of rooms with members on another server.

use serde_json::json;
use test_support::server::Member;

use super::{Servers, broadcast_member, token};

/// Ids and fields of the entries of a log.
type Log = Vec<(String, Vec<String>)>;

#[test]
fn password_is_checked_on_all_servers_but_not_at_any_cost() {
    let Some(servers) = Servers::start(2, &[]) else { return };
    // Each cost alone would take hours, or more memory than this machine has.
    let costs = [("m=19456,t=2", "RoomJoined"), ("m=4194304000,t=2", "Error"), ("m=19456,t=4194304000", "Error")];
    for (number, (cost, expected)) in (1..).zip(costs) {
        let mut creator = Member::connect(servers.all[0].address);
        creator.send("CreateRoom", &json!({"room_name": "jam", "password": "sesame", "peer_name": "Ann"}));
        let room = creator.receive_type("RoomCreated")["room_id"].clone();
        let key = format!("jamjam:room:{number}:log");
        let (id, fields) = servers.redis.command::<Log>(&format!("XRANGE {key} - +")).remove(0);
        let entry = fields.join(" ").replace("m=19456,t=2", cost);
        let _: u32 = servers.redis.command(&format!("DEL {key}"));
        let _: String = servers.redis.command(&format!("XADD {key} {id} {entry}"));
        for (password, expected) in [("wrong", "Error"), ("sesame", expected)] {
            let mut member = Member::connect(servers.all[1].address);
            member.send("JoinRoom", &json!({"room_id": room, "password": password, "peer_name": "Bob"}));
            assert_eq!(member.receive()["type"], expected, "{cost}");
        }
    }
}

#[test]
fn users_of_a_chat_are_listed_in_the_order_of_joining() {
    let Some(servers) = Servers::start(2, &[]) else { return };
    // Connections to the second server have higher numbers.
    let mut users = [(1, "ann"), (0, "bob")].map(|(at, user)| broadcast_member(servers.all[at].address, "chat", user));
    for (user, name) in [(1, "Bob"), (0, "Ann")] {
        users[user].send_json(&json!({"type": "setUsername", "username": name}));
        users[1 - user].receive();
    }
    let path = format!("/rooms/chat?token={}", token("eve", "chat"));
    let mut late = Member::connect_to(servers.all[0].address, &path);
    assert_eq!(late.skip_to("welcome")["onlineUsers"], json!(["Ann", "Bob"]));
}
