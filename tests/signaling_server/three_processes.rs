//! A jamjam client's whole life against three real processes: signaling-server, echo-server and `send --room`. The signaling
//! server is killed and started again while audio flows.

#![cfg(unix)]

use std::process::Stdio;
use test_support::server;

use serde_json::Value;

use server::member::Member;
use server::poll_until;
use server::process::{Server, program};

/// Packets of `send`: 3 s of 20 ms.
const PACKETS: u64 = 150;

#[test]
fn audio_loses_nothing_while_the_signaling_server_is_killed_and_restarted_and_the_bot_is_there_again() {
    let signaling = Server::start_signaling(&[]);
    let (address, port) = (signaling.address, signaling.address.port().to_string());
    let url = format!("ws://{address}");
    let mut echo = Server::start(&["--host", "127.0.0.1", "--delay", "300", "--signaling-url", &url]);
    echo.line_that_begins("registration: room created ");

    let arguments = ["send", "--tone", "440", "--duration", "3s", "--frame-size", "960", "--signaling-url", &url];
    let options = ["--room", "Echo Server", "--json", "--max-loss", "0%"];
    let sending =
        program(&[&arguments[..], &options].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    echo.line_that_begins("registration: member joined user=\"jamjam-dev send\"");
    // Audio flows.
    echo.line_that_begins("echo: source first seen ");
    // Killed, not asked.
    drop(signaling);
    echo.line_that_begins(&format!("registration: failed, retrying url=ws://{address} error="));

    let _again = Server::start_signaling(&["--port", &port]);
    echo.line_that_begins("registration: room created room=\"[BOT] Echo Server (300ms delay)\"");
    // A client that comes now finds the bot, its address and its voice.
    let mut member = Member::of(address);
    let room = poll_until("the room", || member.rooms().pop());
    assert_eq!(room["name"], "[BOT] Echo Server (300ms delay)");
    let mut bot = member.join(&room["invite_code"]).remove(0);
    if bot["public_addr"].is_null() {
        bot = member.hear_a("PeerUpdated")["peer"].take();
    }
    assert_eq!(bot["public_addr"], echo.address.to_string());
    member.chat("still there?");
    assert_eq!(member.hear_a("ChatMessage")["content"], "🔊 still there?");

    let sent = sending.wait_with_output().unwrap();
    let said = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(sent.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&sent.stdout).unwrap();
    let audio = &report["streams"]["audio"];
    assert_eq!((audio["sent"].as_u64(), audio["returned"].as_u64()), (Some(PACKETS), Some(PACKETS)), "{report:#}");
    let stats = echo.stop("TERM").stats();
    let count = |name: &str| stats.count(name);
    assert_eq!((count("received"), count("sent"), count("buffered")), (PACKETS, PACKETS, 0));
}
