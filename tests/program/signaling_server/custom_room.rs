//! The room of `examples/custom_room.rs` over real sockets. The room uses all hooks.

#[expect(dead_code, reason = "the example's main function is not called here")]
#[path = "../../../examples/custom_room.rs"]
mod example;

use std::sync::Arc;
use std::time::Duration;

use example::MyRoom;
use jamjam_dev::io::http::login::Login;
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::signaling::broadcast::{BroadcastSettings, RoomHandlers};
use jamjam_dev::signaling::token::Secret;
use jamjam_dev::signaling::{Heartbeat, Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use serde_json::{Value, json};
use test_support::server::{Member, TEST_TIMEOUT, send_to};
use tungstenite::protocol::CloseFrame;

use super::http::login::RIGHT;
use super::token;

/// A server with the room of the example.
fn start() -> SignalingServer {
    let mut handlers = RoomHandlers::default();
    handlers.insert("myroom", MyRoom::default());
    let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
    let heartbeat = Heartbeat { interval: Some(Duration::from_millis(50)), timeout: TEST_TIMEOUT };
    let limits = SignalingLimits { broadcast, heartbeat, ..SignalingLimits::default() };
    let hub = Hub::new(limits, [1, 2, 3, 4]).with_handlers(handlers);
    let login = Arc::new(Login::new("admin", "sesame"));
    SignalingServer::start_hub(hub, SignalingServerConfig { login, ..SignalingServerConfig::default() }).unwrap()
}

/// The next message whose type is not `beat`.
fn receive(client: &mut Member) -> Value {
    let mut message = client.receive();
    while message["type"] == "beat" {
        message = client.receive();
    }
    message
}

/// The content of the next relayed message, without its time.
fn content(client: &mut Member) -> Value {
    let mut message = receive(client);
    assert_eq!(message["type"], "myroom-content", "{message}");
    let mut content = message["content"].take();
    assert!(content.as_object_mut().unwrap().remove("timestamp").unwrap().is_u64());
    content
}

fn notice(what: &str, who: &str) -> Value {
    json!({"type": "notice", "what": what, "who": who})
}

#[test]
fn every_hook_of_a_custom_room_has_its_effect() {
    let server = start();
    let address = server.addr();
    let connect = |path: &str| Member::connect_to(address, path);
    let join = |name: &str| connect(&format!("/myroom?token={}", token(name, "myroom")));
    // `requires_auth` returns false, so `verify_auth` sees clients without a token and the headers, and chooses code and text of the close.
    assert_eq!(connect("/myroom").closed(), (4_001, "Missing clientId".to_owned()));
    assert_eq!(join("mallory").closed(), (4_004, "Rejected by room".to_owned()));
    let old = Member::try_connect(address, "/myroom", &[("User-Agent", "myclient/1")]).unwrap().closed();
    assert_eq!(old, (4_010, "Update your client".to_owned()));
    // The server calls `welcome_message`, then `on_join`.
    let mut ann = join("ann");
    let welcome = receive(&mut ann);
    assert_eq!((&welcome["message"], &welcome["you"]), (&json!("Welcome to MyRoom!"), &json!("ann")));
    assert_eq!(receive(&mut ann), notice("joined", "ann"));
    let mut bob = join("bob");
    receive(&mut bob);
    let both = |ann: &mut Member, bob: &mut Member, expected: Value| {
        assert_eq!((receive(ann), receive(bob)), (expected.clone(), expected));
    };
    both(&mut ann, &mut bob, notice("joined", "bob"));
    // `on_control_join` is called once, and `on_heartbeat`, which sends the numbers of members and control channels, repeatedly.
    let mut con = connect(&format!("/rooms/myroom/remotecontrol?token={}", token("con", "myroom")));
    assert_eq!(receive(&mut con)["type"], "control-welcome");
    both(&mut ann, &mut bob, notice("listens", "con"));
    assert_eq!(con.receive(), json!({"type": "beat", "clients": 2, "listeners": 1}));
    // The server calls `validate_message`. If the message is valid, the server then calls `on_message` and `control_payload`.
    ann.send_json(&json!({"text": 1}));
    assert_eq!(receive(&mut ann), json!({"type": "error", "error": "A message needs a type"}));
    ann.send_json(&json!({"type": "forget"}));
    ann.send_json(&json!({"type": "x", "text": "hello"}));
    assert_eq!(content(&mut bob), json!({"type": "x", "text": "hello", "processed": true}));
    assert_eq!(receive(&mut con), json!({"type": "relayed", "kind": "x", "by": "ann"}));
    // `broadcast_delay` delays the first message, so the message that is sent second arrives first.
    ann.send_json(&json!({"type": "late", "wait": 3_600_000}));
    ann.send_json(&json!({"type": "early"}));
    assert_eq!((&content(&mut bob)["type"], &receive(&mut con)["kind"]), (&json!("early"), &json!("early")));
    // The server calls `validate_http_post`. If the post is valid, the server then calls `on_http_post`.
    let bearer = format!("Authorization: Bearer {}", token("poster", "myroom"));
    let request = |method: &str, path: &str, body: &str| {
        let response = send_to(address, method, path, &[&bearer], body);
        (response.status, response.body)
    };
    let rejected = request("POST", "/myroom/postcontent", "{}");
    assert_eq!(rejected, (422, r#"{"error":"A post needs a type"}"#.to_owned()));
    let taken = request("POST", "/myroom/postcontent", r#"{"type":"y"}"#);
    assert_eq!(taken, (200, r#"{"success":true,"clientCount":2}"#.to_owned()));
    let posted = json!({"type": "y", "posted": true, "processed": true});
    assert_eq!((content(&mut ann), content(&mut bob)), (posted.clone(), posted));
    assert_eq!(receive(&mut con), json!({"type": "relayed", "kind": "y", "by": "http"}));
    // The handler's `routes` returns a response or a rejection. For a path without a route, the server returns 404.
    let stats = request("GET", "/rooms/myroom/stats", "");
    assert_eq!(stats, (200, r#"{"room":"myroom","relayed":4,"clients":2}"#.to_owned()));
    assert_eq!(request("DELETE", "/rooms/myroom/stats", "").0, 405);
    assert_eq!(request("GET", "/rooms/myroom/more", "").0, 404);
    assert_eq!(request("POST", "/rooms/lobby/more", "{}").0, 404);
    // The handler's `room_stats` adds its fields to the fields that every room has.
    let health = send_to(address, "GET", "/health?detailed=true", &[RIGHT], "").body;
    let mut health: Value = serde_json::from_str(&health).unwrap();
    let details = &mut health["dialects"]["broadcast"]["details"]["myroom"];
    assert_eq!(details["members"].take().as_array().map(Vec::len), Some(3));
    assert_eq!(*details, json!({"relayed": 4, "clients": 2, "controlClients": 1, "members": null}));
    // `max_clients` limits the room to three members.
    let mut cat = join("cat");
    assert_eq!(receive(&mut cat)["type"], "welcome");
    both(&mut ann, &mut bob, notice("joined", "cat"));
    assert_eq!(join("dan").closed(), (1_013, "Room is full".to_owned()));
    // `on_leave` or `on_control_leave` gets the code and reason of the close frame, or 1006 without one.
    cat.0.close(Some(CloseFrame { code: 4_321.into(), reason: "Enough".into() })).unwrap();
    both(&mut ann, &mut bob, notice("left with 4321 Enough", "cat"));
    drop(con);
    assert_eq!(receive(&mut ann), notice("listens no more: 1006", "con"));
    drop(bob);
    assert_eq!(receive(&mut ann), notice("left with 1006 ", "bob"));
}
