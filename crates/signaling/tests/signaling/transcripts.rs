//! Runs the transcripts of `fixtures/signaling` against a hub in memory. The transcripts were written from the specifications of the dialects.

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
        ("ann> {\"type\":\"ping\"}\nann< {}", "message.type is unexpected: \"pong\""),
        ("ann> {\"type\":\"ping\"}\nann< {\"type\":\"pong\",\"a\":1}", "message.a is missing, expected 1"),
        ("ann> {\"type\":\"ping\"}\nann< {\"type\":\"$room\"}", "$room is not a"),
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
