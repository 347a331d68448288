//! `signaling-server --strict` on real sockets.

use jamjam_dev::signaling::token::{Claims, Secret, sign};
use serde_json::{Map, Value, json};
use test_support::server::{Member, Server};

use super::{SECRET, webrtc_member};

#[test]
fn strict_server_names_the_fault_to_the_client_and_in_the_log() {
    let mut server = Server::start_signaling(&[&["--strict"], &SECRET[..]].concat());
    let mut ann = webrtc_member(&server, "r", "ann");
    ann.send_json(&json!({"type": "offer", "to": "bob", "sdp": "v=0"}));
    let sentence = "member `targetUserId` is missing; `to` is unknown";
    assert_eq!(ann.receive(), json!({"type": "error", "message": sentence}));
    let line = server.line_starting_with("signaling: message ignored conn=");
    assert!(line.message.ends_with(&format!("reason=\"{sentence}\"")), "{line:?}");
    // The connection stays open.
    ann.send("ping", &Value::Null);
    assert_eq!(ann.receive(), json!({"type": "pong"}));
    let mut newer = Member::connect_to(server.address, "/v1/signaling");
    newer.send("JoinRoom", &json!({"room": "GFA7FR", "peer_name": "Bob"}));
    let message = "member `data.room_id` is missing; `room` is unknown";
    assert_eq!(newer.receive(), json!({"type": "Error", "data": {"message": message}}));

    let seconds =
        Claims { expires_at: Some(4_000_000_000_u64.into()), ..Claims::new("c", "lobby", Map::new(), 0, 1.0) };
    let token = sign(&Secret::new("test-secret"), &seconds);
    for (url, code, reason) in [
        ("/?roomId=r&userName=Ann", 1008, "Missing required parameter userId"),
        (&format!("/lobby?token={token}"), 4002, "expired token: expiresAt is in seconds; milliseconds are expected"),
    ] {
        assert_eq!(Member::connect_to(server.address, url).closed(), (code, reason.to_owned()));
    }
    let line = server.line_starting_with("signaling: connection rejected conn=");
    assert!(line.message.ends_with("code=1008 reason=\"Missing required parameter userId\""), "{line:?}");
}
