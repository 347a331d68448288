//! `signaling-server --strict` on real sockets.

use serde_json::{Value, json};
use test_support::server::Server;

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
}
