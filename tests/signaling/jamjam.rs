//! The jamjam dialect against the transcripts in `fixtures/rooms/jamjam`, which were written from the spec: played to a
//! hub in memory.

use std::fmt::Write as _;
use test_support::hall;
use test_support::scripts;
use test_support::transcript;

use hall::Hall;
use scripts::scripts;
use serde_json::Value;
use transcript::{Played, Step, play, step};

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let mut wrong = String::new();
    for (name, script) in scripts("jamjam") {
        match play(&script, &mut Hall::new([1, 2, 3, 4])) {
            Ok(Played::Whole | Played::UpToTheClock) => {}
            Ok(Played::Until(line)) => {
                let _ = writeln!(wrong, "{name}: line {line}: the id has no letter; take another key");
            }
            Err(what) => {
                let _ = writeln!(wrong, "{name}: {what}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_transcript_holds_whatever_the_ids_are() {
    for key in 0..20 {
        for (name, script) in scripts("jamjam") {
            let played = play(&script, &mut Hall::new([key, 0, 0, key]));
            assert!(played.is_ok(), "{name}, key {key}: {}", played.unwrap_err());
        }
    }
}

#[test]
fn every_message_type_and_every_error_is_in_a_transcript() {
    let scripts = scripts("jamjam");
    let lines = || scripts.iter().flat_map(|(_, script)| script.lines()).filter_map(|line| step(line).unwrap());
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let said: Vec<Value> =
        lines().filter_map(|(_, step)| if let Step::Says(text) = step { Some(of(text)) } else { None }).collect();
    let heard: Vec<Value> =
        lines().filter_map(|(_, step)| if let Step::Hears(text) = step { Some(of(text)) } else { None }).collect();
    for kind in ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"] {
        assert!(said.iter().any(|message| message["type"] == kind), "nobody says {kind}");
    }
    let kinds =
        ["RoomCreated", "RoomJoined", "PeerJoined", "PeerUpdated", "PeerLeft", "RoomList", "ChatMessage", "Error"];
    for kind in kinds {
        assert!(heard.iter().any(|message| message["type"] == kind), "nobody hears {kind}");
    }
    for kind in &kinds[..6] {
        assert!(said.iter().any(|message| message["type"] == *kind), "no client tries to say {kind}");
    }
    for text in ["Room not found", "Invalid password", "Room is full"] {
        assert!(heard.iter().any(|message| message["data"]["message"] == text), "nobody hears {text:?}");
    }
}
