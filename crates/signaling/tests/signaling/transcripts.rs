//! Runs the transcripts of `fixtures/signaling` against a hub in memory. The transcripts were written from the specifications of the dialects.

use test_support::in_memory_hub::InMemoryHub;
use test_support::transcript::{Progress, run_transcript};
use test_support::transcript_files::transcripts;

/// The ids of jamjam rooms are random, and some expectations depend on their letters.
#[test]
fn every_transcript_passes_and_those_of_jamjam_for_any_ids() {
    for (dialect, other_keys) in [("jamjam", 20), ("broadcast", 0), ("control_surface", 0), ("webrtc", 0)] {
        let transcripts = transcripts(dialect);
        assert!(transcripts.len() >= 23, "{dialect} has {} transcripts", transcripts.len());
        for (name, transcript) in transcripts {
            let run = |key| run_transcript(&transcript, &mut InMemoryHub::new(key));
            assert_eq!(run([1, 2, 3, 4]), Ok(Progress::Complete), "{dialect}/{name}");
            for key in 0..other_keys {
                let progress = run([key, 0, 0, key]);
                assert!(progress.is_ok(), "{name}, key {key}: {}", progress.unwrap_err());
            }
        }
    }
}

#[test]
fn wrong_transcript_fails_with_the_position() {
    let run = |lines: &str| {
        let transcript = format!("ann connects\nann> {{\"type\":\"ListRooms\"}}\n{lines}\n");
        run_transcript(&transcript, &mut InMemoryHub::new([1, 2, 3, 4]))
    };
    let reply = r#"ann< {"type":"RoomList","data":{"rooms":[]}}"#;
    assert_eq!(run(&format!("# a comment\n\n{reply}")), Ok(Progress::Complete));
    for (lines, expected) in [
        ("", "at the end: ann receives"),
        ("ann receives nothing", "line 3: ann receives nothing\n    ann receives"),
        (&reply.replace("RoomList", "Rooms"), "message.type is \"RoomList\", expected \"Rooms\""),
        (&reply.replace(r#"{"type":"RoomList","#, "{"), "message.type is unexpected: \"RoomList\""),
        (&reply.replace(r#"{"type""#, r#"{"a":1,"type""#), "message.a is missing, expected 1"),
        (&format!("{reply}\nann is closed 1008 x"), "ann is not closed"),
        (&format!("{reply}\nann sends hello"), "invalid transcript line"),
    ] {
        let error = run(lines).expect_err(lines);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
}
