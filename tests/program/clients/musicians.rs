//! `musicians`: several members of a room, over real sockets.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::client::{document, run, start_line};
use test_support::server::{Member, Server};
use tungstenite::Message;

use crate::clients::websocket::scripted_server::raw;

/// The line of a run with this number of musicians in `room`.
fn line(server: &Server, room: &str, clients: usize) -> String {
    format!("musicians --tone 220 --clients {clients} --signaling-url ws://{}{room}", server.address)
}

#[test]
fn room_that_fills_up_after_the_list_is_left_by_all() {
    let room = json!({"id": "0000000a", "name": "jam", "peer_count": 1, "max_peers": 10, "has_password": false, "invite_code": "AAAAAA"});
    let listed = json!({"type": "RoomList", "data": {"rooms": [room]}});
    let (closed, first_left) = std::sync::mpsc::channel();
    let server = raw(move |number, stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let joined = json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "x", "peers": []}});
        let full = json!({"type": "Error", "data": {"message": "Room is full"}});
        for reply in [&listed, if number == 0 { &joined } else { &full }] {
            socket.read().unwrap();
            socket.send(Message::text(reply.to_string())).unwrap();
        }
        while socket.read().is_ok() {}
        closed.send(number).unwrap();
    });
    let output = run(&format!("musicians --tone 220 --clients 2 --signaling-url ws://{server} --room jam"));
    let error = format!(
        "jamjam-dev: cannot join a room on ws://{server}: the server rejected the request for room `jam`: Room is full\n"
    );
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (3, "", &*error));
    let mut left = [(); 2].map(|()| first_left.recv_timeout(Duration::from_secs(60)).unwrap());
    left.sort_unstable();
    assert_eq!(left, [0, 1]);
}

#[test]
fn signal_ends_with_the_report_and_all_members_leave() {
    let signaling = Server::start_signaling(&[]);
    let mut member = Member::connect(signaling.address);
    member.create_room("jam");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = socket.local_addr().unwrap();
    member.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": address, "local_addr": null}));
    let program = start_line(&line(&signaling, " --room jam --json", 3));
    let names: Vec<Value> = (0..3).map(|_| member.skip_to("PeerJoined")["data"]["peer"]["name"].clone()).collect();
    assert_eq!(names, ["Musician 1", "Musician 2", "Musician 3"]);
    socket.recv(&mut [0; 2_048]).unwrap();
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    assert_eq!(document::report(&output)["interrupted"], "SIGINT");
    (0..3).for_each(|_| drop(member.skip_to("PeerLeft")));
}
