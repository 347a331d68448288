//! Runs the transcripts of `fixtures/signaling` against a hub in memory. The transcripts were written from the specifications of the dialects.

use test_support::compare::Bindings;
use test_support::in_memory_hub::InMemoryHub;
use test_support::transcript::{Progress, run_transcript};
use test_support::transcript_files::transcripts;

const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "control_surface", "webrtc"];

#[test]
fn every_transcript_passes_against_the_in_memory_hub() {
    for dialect in DIALECTS {
        let transcripts = transcripts(dialect);
        assert!(transcripts.len() >= 23, "{dialect} has {} transcripts", transcripts.len());
        for (name, transcript) in transcripts {
            let progress = run_transcript(&transcript, &mut InMemoryHub::new([1, 2, 3, 4]));
            assert_eq!(progress, Ok(Progress::Complete), "{dialect}/{name}");
        }
    }
}

#[test]
fn every_transcript_of_jamjam_passes_for_any_ids() {
    for key in 0..20 {
        for (name, transcript) in transcripts("jamjam") {
            let progress = run_transcript(&transcript, &mut InMemoryHub::new([key, 0, 0, key]));
            assert!(progress.is_ok(), "{name}, key {key}: {}", progress.unwrap_err());
        }
    }
}

/// A transcript in which `ann` and `bob` are members of a WebRTC room, followed by these lines.
fn run_lines(lines: &str) -> Result<Progress, String> {
    let [ann, bob] = [r#"{"id":"a","name":"A","joinedAt":"$ms1"}"#, r#"{"id":"b","name":"B","joinedAt":"$ms2"}"#];
    let joined = format!(
        r#"ann connects to /?roomId=r&userId=a&userName=A
ann< {{"type":"welcome","roomId":"r","userId":"a","participants":[{ann}]}}
bob connects to /?roomId=r&userId=b&userName=B
ann< {{"type":"participant-joined","userId":"b","userName":"B","participants":[{ann},{bob}]}}
bob< {{"type":"welcome","roomId":"r","userId":"b","participants":[{ann},{bob}]}}
bob< {{"type":"existing-participants","participants":[{ann}]}}"#
    );
    run_transcript(&format!("{joined}\n{lines}\n"), &mut InMemoryHub::new([1, 2, 3, 4]))
}

#[test]
fn wrong_transcript_fails_with_the_position() {
    assert_eq!(run_lines("# a comment\n\nann> {\"type\":\"ping\"}\nann< {\"type\":\"pong\"}"), Ok(Progress::Complete));
    for (lines, expected) in [
        ("ann< 1", "line 7: ann< 1\n    ann receives nothing"),
        ("ann> {\"type\":\"ping\"}", "at the end: ann receives"),
        ("ann> {\"type\":\"ping\"}\nann receives nothing", "line 8: ann receives nothing\n    ann receives"),
        ("ann> {\"type\":\"ping\"}\nbob closes", "line 8: bob closes\n    before this line: ann receives"),
        ("ann> {\"type\":\"ping\"}\nann< {\"type\":\"Pong\"}", "message.type is \"pong\", expected \"Pong\""),
        ("ann> {\"type\":\"ping\"}\nann< {", "line 8: ann< {\n    the transcript is not JSON"),
        ("ann> \"$unbound\"", "$unbound has no value yet"),
        ("ann is closed 1008 x", "ann is not closed"),
        ("ann is pinged", "ann is not pinged"),
        ("ann connects", "connected already, or not yet"),
        ("cat> 1", "connected already, or not yet"),
        ("ann sends hello", "invalid transcript line"),
        (" # comment", "invalid transcript line"),
    ] {
        let error = run_lines(lines).expect_err(lines);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
}

#[test]
fn only_equal_messages_and_well_formed_placeholders_match() {
    for (expected, received, error) in [
        (r#"{"a":1,"b":[null,"x"]}"#, r#"{"b":[null,"x"],"a":1}"#, ""),
        (r#"{"a":1.0}"#, r#"{"a":1}"#, "message.a is 1, expected 1.0"),
        (r#"{"a":"1"}"#, r#"{"a":1}"#, "message.a is 1, expected \"1\""),
        (r#"{"a":[1,2]}"#, r#"{"a":[1,3]}"#, "message.a[1] is 3, expected 2"),
        ("[1]", "[1,2]", "has 2 elements, expected 1"),
        (r#"{"a":1}"#, "{}", "message.a is missing, expected 1"),
        ("{}", r#"{"a":1}"#, "message.a is unexpected: 1"),
        (r#"["$room","in $room"]"#, r#"["1a2b3c4d","in 1a2b3c4d"]"#, ""),
        (r#"["$room","$room"]"#, r#"["1a2b3c4d","1a2b3c4e"]"#, "message[1]"),
        (r#"["$room_a","$room_b"]"#, r#"["1a2b3c4d","1a2b3c4d"]"#, "$room_b is the same as $room_a"),
        (r#"["$room_a1","$room_a2"]"#, r#"["1a2b3c4d","1a2b3c4d"]"#, ""),
        (r#"["$invite","$peer_a"]"#, r#"["ABC234","6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b"]"#, ""),
        (r#""$room""#, r#""1A2B3C4D""#, "$room is not a"),
        (r#""$invite""#, r#""ABC10O""#, "$invite is not a"),
        (r#""$peer_a""#, r#""6f1c2a34-5b6d-1e7f-8a9b-0c1d2e3f4a5b""#, "$peer_a is not a"),
        (r#"["$ms1","$ms1"]"#, "[5,5]", ""),
        (r#"["$ms1","$ms1"]"#, "[5,6]", "message[1]"),
        (r#""$ms1""#, "5.5", "5.5"),
        (r#""$name""#, "5", "message is 5"),
    ] {
        match Bindings::default().compare(expected, received) {
            Ok(()) => assert_eq!(error, "", "{expected} {received}"),
            Err(found) => assert!(!error.is_empty() && found.contains(error), "{expected} {received}: {found}"),
        }
    }
}
