//! Runs the transcripts in `fixtures/signaling` against the server itself on real sockets, with and without TLS.

#![cfg(unix)]

use std::fmt::Write as _;
use test_support::certificate;
use test_support::server;
use test_support::sockets;
use test_support::transcript;
use test_support::transcript_files;

use certificate::{Authority, trusting};
use server::process::Server;
use sockets::Sockets;
use transcript::{Progress, run_transcript};
use transcript_files::transcripts;

/// Each entry is a dialect and a minimum. At least this number of the dialect's transcripts must run to the last line. On real sockets, the
/// clock cannot be advanced. Therefore, a transcript stops at a line that advances the clock.
const DIALECTS: [(&str, usize); 2] = [("jamjam", 50), ("webrtc", 33)];

/// Runs `transcript` to its end, or up to a line that this server does not support. For example, this server's clock cannot be advanced.
/// Some lines convert an assigned id to upper or lower case and send it back. If the conversion does not change the id, the function runs
/// the transcript again. The server then assigns another id.
fn run_complete(transcript: &str, sockets: &mut Sockets) -> Result<Progress, String> {
    for _ in 0..20 {
        let progress = run_transcript(transcript, sockets)?;
        sockets.finish()?;
        if progress == Progress::Complete || progress == Progress::UntilUnsupported {
            return Ok(progress);
        }
    }
    Err("no id has a letter".to_owned())
}

/// Runs each transcript of `dialect` for which the function `which` returns true. At least `min_complete` of these transcripts must run to
/// the last line.
fn run_all(sockets: &mut Sockets, dialect: &str, min_complete: usize, which: impl Fn(&str) -> bool) {
    let (mut failures, mut complete) = (String::new(), 0);
    for (name, transcript) in transcripts(dialect).into_iter().filter(|(_, transcript)| which(transcript)) {
        match run_complete(&transcript, sockets) {
            Ok(progress) => complete += usize::from(progress == Progress::Complete),
            Err(error) => {
                let _ = writeln!(failures, "{dialect}/{name}: {error}");
                // A client that is still connected must not affect the next transcript.
                *sockets = sockets.without_clients();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(complete >= min_complete, "{complete} transcripts");
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    let server = Server::start_signaling(&[]);
    let mut sockets = Sockets::new(server.address, None);
    for (dialect, min_complete) in DIALECTS {
        run_all(&mut sockets, dialect, min_complete, |_| true);
    }
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let mut sockets = Sockets::new(server.address, Some(trusting(&authority.own())));
    for (dialect, min_complete) in DIALECTS {
        run_all(&mut sockets, dialect, min_complete, |_| true);
    }
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let authority = Authority::new();
    let (plain, tls) = (Server::start_signaling(&[]), Server::start_signaling(&authority.certify().options()));
    for (server, tls) in [(&plain, None), (&tls, Some(trusting(&authority.own())))] {
        let mut sockets = Sockets::new(server.address, tls);
        sockets.reset = true;
        for (dialect, _) in DIALECTS {
            run_all(&mut sockets, dialect, 1, |transcript| transcript.contains(" is cut"));
        }
    }
}

const DUO: &str = r#"ann connects
bob connects
ann> {"type":"CreateRoom","data":{"room_name":"duo","peer_name":"Ann"}}
ann< {"type":"RoomCreated","data":{"room_id":"$room","peer_id":"$peerAnn","invite_code":"$invite"}}
bob> {"type":"JoinRoom","data":{"room_id":"$room","peer_name":"Bob"}}
bob< {"type":"RoomJoined","data":{"room_id":"$room","peer_id":"$peerBob","peers":[{"id":"$peerAnn","name":"Ann","candidates":[],"public_addr":null,"local_addr":null}]}}
"#;
const JOINED: &str = r#"ann< {"type":"PeerJoined","data":{"peer":{"id":"$peerBob","name":"Bob","candidates":[],"public_addr":null,"local_addr":null}}}"#;

/// A message that the transcript omits is detected, whichever line follows.
#[test]
fn transcript_that_omits_a_received_message_fails() {
    let server = Server::start_signaling(&[]);
    let fails_with = |lines: &[&str], at: &str, expected: &str| {
        let mut sockets = Sockets::new(server.address, None);
        let error = run_complete(&format!("{DUO}{}\n", lines.join("\n")), &mut sockets).expect_err("it passes");
        assert!(error.contains(at) && error.contains(expected), "{error}");
        drop(sockets);
        Sockets::new(server.address, None).finish().unwrap();
    };
    // Ann received a message about bob, but the transcript states that she did not.
    fails_with(&["ann receives nothing"], "line 7: ", "PeerJoined");
    // The transcript omits the `PeerJoined` that ann received. The next line is an action of bob.
    fails_with(&["bob sends binary"], "line 7: ", "PeerJoined");
    fails_with(&["bob closes"], "line 7: ", "PeerJoined");
    fails_with(&[], "at the end", "PeerJoined");
    fails_with(&[JOINED, "bob is cut", "ann receives nothing"], "line 9: ", "PeerLeft");
    fails_with(&[JOINED, "bob closes"], "at the end", "PeerLeft");
    // Messages must be received in order.
    fails_with(
        &[JOINED, r#"ann> {"type":"ListRooms"}"#, r#"ann> {"type":"ListRooms"}"#],
        "line 9: ",
        r#"{"type":"RoomList""#,
    );
}

/// Like the previous test, with the WebRTC dialect.
#[test]
fn webrtc_transcript_that_omits_a_received_message_fails() {
    const ANN: &str = r#"{"id":"a","name":"Ann","joinedAt":"$ms1"}"#;
    const BOB: &str = r#"{"id":"b","name":"Bob","joinedAt":"$ms2"}"#;
    let server = Server::start_signaling(&[]);
    let joined = format!(
        r#"ann connects to /?roomId=r&userId=a&userName=Ann
ann< {{"type":"welcome","roomId":"r","userId":"a","participants":[{ANN}]}}
bob connects to /?roomId=r&userId=b&userName=Bob
bob< {{"type":"welcome","roomId":"r","userId":"b","participants":[{ANN},{BOB}]}}
bob< {{"type":"existing-participants","participants":[{ANN}]}}
"#
    );
    for (lines, at, expected) in [
        ("ann receives nothing", "line 6: ", "participant-joined"),
        ("", "at the end", "participant-joined"),
        ("bob> x", "line 6: ", "participant-joined"),
        ("ann is closed 1008 x", "line 6: ", "participant-joined"),
    ] {
        let mut sockets = Sockets::new(server.address, None);
        let error = run_complete(&format!("{joined}{lines}\n"), &mut sockets).expect_err("it passes");
        assert!(error.contains(at) && error.contains(expected), "{error}");
        drop(sockets);
        Sockets::new(server.address, None).finish().unwrap();
    }
    // A transcript fails if the server closes the connection with a different code. A transcript without a close fails if the server closes
    // the connection.
    for (end, expected) in [("ann is closed 1008 x", "1008"), ("ann receives nothing", "is closed"), ("", "is closed")]
    {
        let mut sockets = Sockets::new(server.address, None);
        let error = run_complete(&format!("ann connects to /?roomId=r\n{end}\n"), &mut sockets).expect_err("it passes");
        assert!(error.contains(expected), "{error}");
        drop(sockets);
        Sockets::new(server.address, None).finish().unwrap();
    }
}
