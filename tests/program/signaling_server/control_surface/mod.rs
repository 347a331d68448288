//! Control surfaces of a `signaling-server` process: room options, and a client that does not read.

mod admin_api;
mod example;
#[path = "../../../../examples/control_surface.rs"]
mod example_program;
mod program;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::server::{Member, Server, poll_until, run_during};
use tungstenite::Message;

use super::{control_surface, joined, slow_reader};

#[test]
fn slow_reader_loses_stale_values_only_and_delays_no_other_client() {
    let server = Server::start_signaling(&["--bbx-room", "1234", "--rate-limit-messages", "off"]);
    let mut slow = joined(slow_reader(server.address), "1234");
    let [mut fast, mut sender] = [(); 2].map(|()| control_surface(server.address, "1234"));
    // Long names fill the buffers between the two ends.
    let name = |number: usize| format!("{number}{}", "x".repeat(200));
    let mut newest = BTreeMap::new();
    let mut value = 0_u32;
    poll_until("values are dropped", || {
        for _ in 0..100 {
            for number in 0..20 {
                value += 1;
                newest.insert(name(number), f64::from(value));
                sender.send_json(&json!({"type": "param", "param": name(number), "value": value}));
            }
            // The client `fast` receives each value, even while messages are queued for the client `slow`, which does not read.
            (value - 19..=value).for_each(|value| assert_eq!(fast.receive()["value"].as_f64(), Some(f64::from(value))));
        }
        (server.metric("updates_coalesced_total") > 2_000).then_some(())
    });
    assert_eq!((server.metric("closed_slow_reader_total"), server.metric("members")), (0, 3));
    // Besides the system's socket buffers, 64 messages are being written, 256 in the queue, and one for each of the 20 parameters.
    assert!(server.metric("queued_bytes") < (64 + 256 + 20) * 300);
    slow.send_json(&json!({"type": "ping", "client_time": 7}));
    let (mut received, mut count) = (BTreeMap::new(), 0);
    loop {
        let message = slow.receive();
        if message["type"] == "pong" {
            break;
        }
        count += 1;
        let value = message["value"].as_f64().unwrap();
        let previous = received.insert(message["param"].as_str().unwrap().to_owned(), value);
        assert!(previous.is_none_or(|previous| previous < value), "values arrive in order");
    }
    assert!(count < value - 2_000, "{count} of {value}");
    assert_eq!(received, newest);
}

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
