//! Control surfaces of a `signaling-server` process: room options.

mod admin_api;
mod example;
#[path = "../../../../examples/control_surface.rs"]
mod example_program;
mod program;

use serde_json::{Value, json};
use test_support::server::{Member, Server, get, poll_until, run_during};
use tungstenite::Message;

use super::joined;

#[test]
fn rooms_of_the_options_are_printed() {
    let printed = |options: &[&str]| {
        let fixed = ["signaling-server", "--host", "127.0.0.1", "--port", "0"];
        run_during(&[&fixed, options].concat(), |_, running| running.signal("INT")).stdout
    };
    assert_eq!(printed(&["--bbx-room", "4711", "--bbx-room", "123456"]), "bbx room: 4711\nbbx room: 123456\n");
    let random = [(); 2].map(|()| printed(&["--bbx-code-length", "6", "--bbx-room"]));
    for line in &random {
        let code = line.strip_prefix("bbx room: ").unwrap().trim_end();
        assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    }
    assert_ne!(random[0], random[1]);
}

#[test]
fn options_take_effect_on_rooms() {
    let options = "--dialect bbx --bbx-room 1234 --bbx-max-clients 1 --bbx-ping-interval 10ms";
    let server = Server::start_signaling(&options.split(' ').collect::<Vec<_>>());
    // A server with a single dialect accepts every URL path, and ignores messages of other dialects.
    drop(Member::connect_to(server.address, "/health"));
    assert_eq!(get(&server, "/health").status, 200);
    let mut surface = Member::connect_to(server.address, "/any/where?roomId=r");
    surface.send("ListRooms", &Value::Null);
    let mut surface = joined(surface, "1234");
    // The interval is 10 ms.
    assert!(matches!(surface.0.read(), Ok(Message::Ping(_))));
    let mut other = Member::connect(server.address);
    other.send_json(&json!({"type": "join", "room_code": "1234"}));
    assert_eq!(other.receive()["code"], "ROOM_FULL");
    assert_eq!(server.metric("rooms"), 1);
    let expiring = Server::start_signaling(&["--bbx-room", "1234", "--bbx-room-expiration", "1s"]);
    poll_until("the end of the room", || (expiring.metric("rooms") == 0).then_some(()));
}
