//! What newer jamjam clients need beside the rooms: discovery over HTTP, proof of a device, and a test room.

use std::time::{SystemTime, UNIX_EPOCH};

use jamjam_dev::signaling::device::DeviceKey;
use serde_json::json;
use test_support::server::{Member, Response, Server, get, request};

const DISCOVERY: &str = "/api/v1/signaling";
const NEWER: &str = "/v1/signaling";

/// The URL in a response of the discovery.
fn discovered(response: &Response) -> String {
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"), "{response:?}");
    assert_eq!(response.header("cache-control"), "no-store");
    let body = response.json();
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    body["url"].as_str().unwrap().to_owned()
}

#[test]
fn discovered_url_names_the_requested_host_and_accepts_newer_clients() {
    for options in [&[][..], &["--dialect", "jamjam"]] {
        let server = Server::start_signaling(options);
        for host in [&*server.address.to_string(), "rooms.example", "[::1]:9"] {
            let url = discovered(&request(&server, "GET", DISCOVERY, &[&format!("Host: {host}")]));
            assert_eq!(url, format!("ws://{host}/v1/signaling"));
        }
        for host in ["", "<b>", "me@rooms.example"] {
            let url = discovered(&request(&server, "GET", DISCOVERY, &[&format!("Host: {host}")]));
            assert_eq!(url, format!("ws://{}/v1/signaling", server.address), "{host}");
        }
        let mut member = Member::connect_to(server.address, NEWER);
        member.send("CreateRoom", &json!({"room_name": "My Room", "peer_name": "Aki"}));
        let code = member.receive_type("RoomCreated")["invite_code"].clone();
        assert_eq!(code.as_str().map(str::len), Some(9), "{code}");
    }
    let without = Server::start_signaling(&["--dialect", "webrtc,broadcast"]);
    assert_eq!([DISCOVERY, NEWER].map(|path| get(&without, path).status), [404, 404]);
}

#[test]
fn forwarded_host_and_scheme_count_only_from_a_trusted_proxy() {
    let headers = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: rooms.example"];
    let untrusting = Server::start_signaling(&[]);
    assert_eq!(discovered(&request(&untrusting, "GET", DISCOVERY, &headers)), "ws://x/v1/signaling");
    let server = Server::start_signaling(&["--trust-proxy"]);
    for (scheme, host, url) in [
        ("http", "rooms.example:81", "ws://rooms.example:81/v1/signaling"),
        ("https, http", "rooms.example, inner:8080", "wss://rooms.example/v1/signaling"),
        ("https", "me@rooms.example", "wss://x/v1/signaling"),
        ("https", "\"/><script>", "wss://x/v1/signaling"),
    ] {
        let [scheme, host] = [format!("X-Forwarded-Proto: {scheme}"), format!("X-Forwarded-Host: {host}")];
        assert_eq!(discovered(&request(&server, "GET", DISCOVERY, &[headers[0], &scheme, &host])), url);
    }
    // The request does not come from the proxy.
    assert_eq!(discovered(&request(&server, "GET", DISCOVERY, &headers[1..])), "ws://x/v1/signaling");
}

#[test]
fn configured_public_url_is_discovered() {
    for (given, url) in [
        ("https://rooms.example", "wss://rooms.example/v1/signaling"),
        ("http://rooms.example:81/", "ws://rooms.example:81/v1/signaling"),
        ("https://rooms.example/v1/signaling/", "wss://rooms.example/v1/signaling"),
    ] {
        let server = Server::start_signaling_with(&[], |command| _ = command.env("PUBLIC_URL", given));
        assert_eq!(discovered(&get(&server, DISCOVERY)), url);
    }
}

#[test]
fn only_proven_devices_connect_if_proof_is_required() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (options, anonymous, reason) in [
        (&[][..], None, "x-device-timestamp differs by "),
        (&["--require-device"], Some(401), "the request needs exactly one header x-device-id"),
    ] {
        let mut server = Server::start_signaling(options);
        let rejection = |path: &str, unix_seconds: Option<u64>| {
            let headers = unix_seconds.map(|seconds| DeviceKey::from_seed(&[3; 32]).headers(seconds));
            let headers: Vec<(&str, &str)> =
                headers.iter().flatten().map(|(name, value)| (*name, value.as_str())).collect();
            Member::try_connect(server.address, path, &headers).err()
        };
        assert_eq!(rejection(NEWER, Some(now)), None);
        // Within the tolerance of 300 s, even if the test takes a minute.
        assert_eq!(rejection(NEWER, Some(now - 240)), None);
        assert_eq!(rejection(NEWER, None), anonymous);
        // Older clients cannot prove a device.
        assert_eq!(rejection("/", None), None);
        assert_eq!(rejection(NEWER, Some(now - 400)), Some(401));
        // Only one reason per second is logged: the first.
        let line = server.line_starting_with("http: WebSocket upgrade rejected path=/v1/signaling ").message;
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn only_rooms_with_the_prefix_are_test_rooms() {
    let (bot, lab) = ("[BOT] Echo", "Lab 1");
    for (options, listed) in [
        (&[][..], [(bot, true), (lab, false)]),
        (&["--test-room", "Lab"], [(lab, true), (bot, false)]),
        (&["--test-room", "off"], [(bot, false), (lab, false)]),
    ] {
        let server = Server::start_signaling(options);
        let _members = [bot, lab].map(|room| {
            let mut member = Member::connect(server.address);
            member.send("CreateRoom", &json!({"room_name": room, "peer_name": "x"}));
            member.receive_type("RoomCreated");
            member
        });
        let rooms = Member::connect_to(server.address, NEWER).rooms();
        let rooms: Vec<_> = rooms.iter().map(|room| json!([room["name"], room["test_room"]])).collect();
        assert_eq!(rooms, listed.map(|room| json!(room)), "{options:?}");
    }
}

#[test]
fn rejected_device_is_answered_with_a_challenge() {
    let server = Server::start_signaling(&["--require-device"]);
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ];
    let response = request(&server, "GET", NEWER, &upgrade);
    assert_eq!((response.status, response.header("www-authenticate")), (401, "Device"));
}
