//! Runs the transcripts of `fixtures/signaling/jamjam` against a hub in memory. The transcripts were written from the specification of the
//! protocol.

use std::fmt::Write as _;
use test_support::in_memory_hub;
use test_support::transcript;
use test_support::transcript_files;

use in_memory_hub::InMemoryHub;
use transcript::{Progress, run_transcript};
use transcript_files::{sent_and_received, transcripts};

#[test]
fn every_transcript_passes_against_the_in_memory_hub() {
    let mut failures = String::new();
    for (name, transcript) in transcripts("jamjam") {
        match run_transcript(&transcript, &mut InMemoryHub::new([1, 2, 3, 4])) {
            Ok(Progress::Complete | Progress::UntilUnsupported) => {}
            Ok(Progress::UntilLine(line)) => {
                let _ = writeln!(failures, "{name}: line {line}: the id contains no letter; use another key");
            }
            Err(error) => {
                let _ = writeln!(failures, "{name}: {error}");
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_transcript_passes_for_any_ids() {
    for key in 0..20 {
        for (name, transcript) in transcripts("jamjam") {
            let progress = run_transcript(&transcript, &mut InMemoryHub::new([key, 0, 0, key]));
            assert!(progress.is_ok(), "{name}, key {key}: {}", progress.unwrap_err());
        }
    }
}

#[test]
fn every_message_type_and_error_text_is_in_a_transcript() {
    let [sent, received] = sent_and_received("jamjam");
    for kind in ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage", "PeerMessage"] {
        assert!(sent.iter().any(|message| message["type"] == kind), "no client sends {kind}");
    }
    let kinds = [
        "RoomCreated",
        "RoomJoined",
        "PeerJoined",
        "PeerUpdated",
        "PeerLeft",
        "RoomList",
        "ChatMessage",
        "Error",
        "PeerMessage",
    ];
    for kind in kinds {
        assert!(received.iter().any(|message| message["type"] == kind), "no client receives {kind}");
    }
    for kind in &kinds[..6] {
        assert!(sent.iter().any(|message| message["type"] == *kind), "no client tries to send {kind}");
    }
    for text in [
        "Room not found",
        "Invalid password",
        "Room is full",
        "Password too long",
        "Too many candidates",
        "Invalid link key",
    ] {
        assert!(received.iter().any(|message| message["data"]["message"] == text), "no client receives {text:?}");
    }
}
