//! `signaling-server --strict` on real sockets.

use serde_json::{Value, json};
use test_support::server::{Member, Server};

use super::webrtc_member;

#[test]
fn strict_server_names_the_fault_to_the_client_and_in_the_log() {
    let mut server = Server::start_signaling(&["--strict"]);
    let mut ann = webrtc_member(server.address, "r", "ann");
    ann.send_json(&json!({"type": "offer", "to": "bob", "sdp": "v=0"}));
    let sentence = "member `targetUserId` is missing; `to` is unknown";
    assert_eq!(ann.receive(), json!({"type": "error", "message": sentence}));
    let line = server.line_starting_with("signaling: message ignored conn=");
    assert!(line.message.ends_with(&format!("reason=\"{sentence}\"")), "{line:?}");
    // The connection stays open.
    ann.send("ping", &Value::Null);
    assert_eq!(ann.receive(), json!({"type": "pong"}));
    let reason = "Missing required parameter userId";
    assert_eq!(Member::connect_to(server.address, "/?roomId=r&userName=Ann").closed(), (1008, reason.to_owned()));
    let line = server.line_starting_with("signaling: connection rejected conn=");
    assert!(line.message.ends_with(&format!("code=1008 reason=\"{reason}\"")), "{line:?}");
}
