//! WebRTC signaling on real sockets, in addition to the transcripts: heartbeats, limits, `/health`, `/rooms` and `/metrics`.

use serde_json::json;
use tungstenite::{Error, Message};

use super::webrtc_member;
use test_support::server::{Member, Server, get, poll_until};

#[test]
fn client_without_pongs_is_aborted_and_others_stay() {
    let server = Server::start_signaling_with(&[], |command| {
        command.env("HEARTBEAT_INTERVAL_MS", "100").env("CLIENT_TIMEOUT_MS", "4000");
    });
    let mut unresponsive = webrtc_member(server.address, "r", "dead");
    let mut responsive = webrtc_member(server.address, "r", "alive");
    // `responsive` answers pings while it reads. `unresponsive` does not read.
    assert_eq!(responsive.skip_to("participant-left")["userId"], "dead");
    assert_eq!((server.metric("closed_heartbeat_timeout_total"), server.metric("connections")), (1, 1));
    // `unresponsive` reads the earlier messages and a ping, but no close frame: the connection was aborted.
    let is_before_the_end = |message: &Message| matches!(message, Message::Text(_) | Message::Ping(_));
    let end = std::iter::repeat_with(|| unresponsive.0.read()).find(|read| !read.as_ref().is_ok_and(is_before_the_end));
    assert!(matches!(end, Some(Err(Error::Io(_) | Error::Protocol(_)))), "{end:?}");
}

#[test]
fn health_rooms_and_metrics_count_the_participants() {
    let server = Server::start_signaling_with(&[], |command| _ = command.env("WEBRTC_MAX_MEMBERS", "2"));
    let members = [("r", "a"), ("r", "b"), ("q", "%22%F0%9F%8E%B8")]
        .map(|(room, user)| webrtc_member(server.address, room, user));
    let mut jamjam = Member::connect(server.address);
    jamjam.create_room("r");
    // This client has not sent a text message. When a client's ping is answered, the server has counted the client.
    let mut undecided = Member::connect(server.address);
    undecided.0.send(Message::Ping("here?".into())).unwrap();
    assert!(undecided.0.read().unwrap().is_pong());
    let (mut listed, health) = (get(&server, "/rooms").json(), get(&server, "/health").json());
    assert_eq!(health["roomDetails"], listed["rooms"]);
    for room in listed["rooms"].as_array_mut().unwrap() {
        for participant in room["participants"].as_array_mut().unwrap() {
            let joined_at = participant["joinedAt"].take().as_u64().expect("a time in ms");
            assert!((1_700_000_000_000..4_000_000_000_000).contains(&joined_at), "{joined_at}");
        }
    }
    let expected = json!({"rooms": [
        {"roomId": "r", "participantCount": 2, "participants": [
            {"id": "a", "name": "a", "joinedAt": null}, {"id": "b", "name": "b", "joinedAt": null}]},
        {"roomId": "q", "participantCount": 1, "participants": [{"id": "\"🎸", "name": "\"🎸", "joinedAt": null}]},
    ]});
    assert_eq!(listed, expected);
    // The top-level fields `rooms` and `connections` describe only WebRTC.
    assert_eq!((&health["rooms"], &health["connections"], &health["clients"]), (&json!(2), &json!(3), &json!(5)));
    assert_eq!(health["dialects"]["webrtc"], json!({"rooms": 2, "connections": 3}));
    assert_eq!(health["dialects"]["jamjam"], json!({"rooms": 1, "clients": 1}));
    assert_eq!(health["dialects"]["undecided"], json!(1));
    for (name, counts) in [("connections", [1, 1, 3]), ("rooms", [0, 1, 2]), ("members", [0, 1, 3])] {
        for (dialect, count) in ["undecided", "jamjam", "webrtc"].into_iter().zip(counts) {
            assert_eq!(server.metric(&format!("{name}{{dialect=\"{dialect}\"}}")), count, "{name} {dialect}");
        }
        assert_eq!(server.metric(name), counts.iter().sum::<u64>(), "{name}");
    }
    let mut third = Member::connect_to(server.address, "/?roomId=r&userId=c&userName=C");
    assert_eq!(third.closed(), (1013, "Room is full".to_owned()));
    assert_eq!(server.metric("requests_rejected_total"), 1);
    // The list changes when the members change.
    drop(members);
    poll_until("no member", || get(&server, "/rooms").json()["rooms"].as_array().unwrap().is_empty().then_some(()));
}
