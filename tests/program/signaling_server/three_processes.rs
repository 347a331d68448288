//! The complete session of a jamjam client with three real processes: signaling-server, echo-server and `send --room`. The signaling server
//! is killed and restarted while audio is sent.

#![cfg(unix)]

use std::process::Stdio;
use test_support::server;

use serde_json::Value;

use server::member::Member;
use server::poll_until;
use server::process::{Server, program};

/// Number of packets that `send` sends: 3 s in packets of 20 ms.
const PACKETS: u64 = 150;

#[test]
fn audio_survives_a_signaling_server_restart_and_the_room_returns() {
    let signaling = Server::start_signaling(&[]);
    let (address, port) = (signaling.address, signaling.address.port().to_string());
    let url = format!("ws://{address}");
    let mut echo = Server::start(&["--host", "127.0.0.1", "--delay", "300", "--signaling-url", &url]);
    echo.line_starting_with("registration: room created ");

    let arguments = ["send", "--tone", "440", "--duration", "3s", "--frame-size", "960", "--signaling-url", &url];
    let options = ["--room", "Echo Server", "--json", "--max-loss", "0%"];
    let sending =
        program(&[&arguments[..], &options].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    echo.line_starting_with("registration: member joined user=\"jamjam-dev send\"");
    // Audio is being sent.
    echo.line_starting_with("echo: source first seen ");
    // The server is killed without a stop signal.
    drop(signaling);
    echo.line_starting_with(&format!("registration: failed, retrying url=ws://{address} error="));

    let _again = Server::start_signaling(&["--port", &port]);
    echo.line_starting_with("registration: room created room=\"[BOT] Echo Server (300ms delay)\"");
    // A client that connects now finds the echo server's room and address. The echo server replies to the client's chat message.
    let mut member = Member::connect(address);
    let room = poll_until("the room", || member.rooms().pop());
    assert_eq!(room["name"], "[BOT] Echo Server (300ms delay)");
    let mut echo_member = member.join(&room["invite_code"]).remove(0);
    if echo_member["public_addr"].is_null() {
        echo_member = member.receive_type("PeerUpdated")["peer"].take();
    }
    assert_eq!(echo_member["public_addr"], echo.address.to_string());
    member.chat("still there?");
    assert_eq!(member.receive_type("ChatMessage")["content"], "🔊 still there?");

    let sent = sending.wait_with_output().unwrap();
    let stderr = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(sent.status.code(), Some(0), "{stderr}");
    let report: Value = serde_json::from_slice(&sent.stdout).unwrap();
    let audio = &report["streams"]["audio"];
    assert_eq!((audio["sent"].as_u64(), audio["returned"].as_u64()), (Some(PACKETS), Some(PACKETS)), "{report:#}");
    let stats = echo.stop("TERM").stats();
    let count = |name: &str| stats.count(name);
    assert_eq!((count("received"), count("sent"), count("buffered")), (PACKETS, PACKETS, 0));
}
