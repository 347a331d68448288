//! `signaling-server --relay-media`: the options, and requests that change paths.

use std::time::{SystemTime, UNIX_EPOCH};

use jamjam_dev::signaling::device::DeviceKey;
use serde_json::json;
use test_support::server::{Member, Server, send};

use super::http::login::{JSON, RIGHT};

#[test]
fn relay_has_the_given_address_and_ports() {
    // No system assigns these ports by itself.
    let first = 20_000 + std::process::id() % 8_000;
    let ports = format!("{first}-{}", first + 3);
    let options = ["--relay-media", "--relay-addr", "192.0.2.9", "--relay-ports", &ports];
    let server = Server::start_signaling(&options);
    let (mut aki, mut ben) = (Member::connect(server.address), Member::connect(server.address));
    let room = aki.create_room("jam");
    ben.join(&room);
    aki.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": "10.0.0.1:5000", "local_addr": null}));
    let peer = ben.skip_to("PeerUpdated")["data"]["peer"].clone();
    let (host, port) = peer["public_addr"].as_str().unwrap().split_once(':').unwrap();
    assert!(host == "192.0.2.9" && (first..first + 4).contains(&port.parse().unwrap()), "{peer} {ports}");
}

/// What then happens to the media is tested in `harness`, `tests/measurements/bad_room` and `crates/core/tests/core/media_relay.rs`.
#[test]
fn paths_are_changed_by_requests_and_a_severed_device_is_refused() {
    let server = Server::start_signaling(&["--relay-media", "--docs-password", "sesame"]);
    let change = |request: &str| send(&server, "POST", "/admin/links", &[RIGHT, JSON], request);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let headers = DeviceKey::from_seed(&[3; 32]).headers(now);
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let connect = || Member::try_connect(server.address, "/v1/signaling", &headers);
    let (mut aki, mut ben) = (Member::connect(server.address), connect().unwrap());
    let room = aki.create_room("jam");
    ben.send("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "Ben"}));
    ben.receive_type("RoomJoined");
    let link = json!({"from": "Ann", "to": "Ben", "loss": 100, "members": 1});
    for (request, members, links, severed) in [
        (r#"{"from":"Ann","to":"Ben","loss":100}"#, 1, json!([link]), json!([])),
        (r#"{"from":"*","loss":null}"#, 2, json!([]), json!([])),
        (r#"{"from":"Ann","renumber":true}"#, 1, json!([]), json!([])),
        (r#"{"from":"Bne","signaling":false}"#, 0, json!([]), json!([])),
        (r#"{"from":"Ben","signaling":true,"require":true}"#, 1, json!([]), json!(["Ben"])),
    ] {
        let (response, expected) = (change(request), json!({"links": links, "severed": severed, "members": members}));
        assert_eq!((response.status, response.json()), (200, expected), "{request}");
    }
    let missed = change(r#"{"from":"Zoe","loss":1,"require":true}"#);
    assert!(missed.status == 422 && missed.error().contains("nobody is meant by `Zoe` to `*`"), "{missed:?}");
    while ben.0.read().is_ok_and(|message| !message.is_close()) {}
    assert_eq!(connect().err(), Some(503));
    let restored = change(r#"{"from":"Ben","signaling":false}"#).json();
    assert_eq!(restored, json!({"links": [], "severed": [], "members": 0}));
    assert!(connect().is_ok());
    assert_eq!(change(r#"{"from":"*","network":"wifi","delay":"30ms"}"#).status, 200);
    let log = server.stop("TERM").lines;
    assert!(log.iter().any(|line| line.contains("no member matches yet") && line.contains("Bne")), "{log:?}");
}

#[test]
fn change_of_paths_without_relayed_media_is_rejected_with_the_option() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let response = send(&server, "POST", "/admin/links", &[RIGHT, JSON], r#"{"from":"*","loss":100}"#);
    assert!(response.status == 422 && response.error().contains("--relay-media"), "{response:?}");
}
