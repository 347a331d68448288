//! Plays the transcripts in `fixtures/signaling` against the server itself on real sockets, plain and under TLS.

#![cfg(unix)]

use std::fmt::Write as _;
use test_support::certificate;
use test_support::scripts;
use test_support::server;
use test_support::sockets;
use test_support::transcript;

use certificate::{Authority, trusting};
use scripts::scripts;
use server::process::Server;
use sockets::Sockets;
use transcript::{Played, play};

/// Dialects, and the number of transcripts of each that need no clock.
const DIALECTS: [(&str, usize); 2] = [("jamjam", 50), ("webrtc", 33)];

/// Plays all of `script`, up to where it would move the clock; repeats if an id of this run has no letter whose case could change.
fn play_whole(script: &str, stage: &mut Sockets) -> Result<Played, String> {
    for _ in 0..20 {
        let played = play(script, stage)?;
        stage.empty()?;
        if played == Played::Whole || played == Played::UpToTheClock {
            return Ok(played);
        }
    }
    Err("no id has a letter".to_owned())
}

/// Plays the transcripts of a dialect that `which` selects; at least `min_complete` of them must be complete.
fn play_all(stage: &mut Sockets, dialect: &str, min_complete: usize, which: impl Fn(&str) -> bool) {
    let (mut failures, mut played) = (String::new(), 0);
    for (name, script) in scripts(dialect).into_iter().filter(|(_, script)| which(script)) {
        match play_whole(&script, stage) {
            Ok(all) => played += usize::from(all == Played::Whole),
            Err(error) => {
                let _ = writeln!(failures, "{dialect}/{name}: {error}");
                // A client that is still connected must not meet the next transcript.
                *stage = stage.anew();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(played >= min_complete, "{played} transcripts");
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    let server = Server::start_signaling(&[]);
    let mut stage = Sockets::new(server.address, None);
    for (dialect, min_complete) in DIALECTS {
        play_all(&mut stage, dialect, min_complete, |_| true);
    }
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let mut stage = Sockets::new(server.address, Some(trusting(&authority.own())));
    for (dialect, min_complete) in DIALECTS {
        play_all(&mut stage, dialect, min_complete, |_| true);
    }
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let authority = Authority::new();
    let (plain, tls) = (Server::start_signaling(&[]), Server::start_signaling(&authority.certify().options()));
    for (server, tls) in [(&plain, None), (&tls, Some(trusting(&authority.own())))] {
        let mut stage = Sockets::new(server.address, tls);
        stage.reset = true;
        for (dialect, _) in DIALECTS {
            play_all(&mut stage, dialect, 1, |script| script.contains(" is cut"));
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

/// An unexpected message is found wherever it is queued.
#[test]
fn transcript_that_omits_a_received_message_fails() {
    let server = Server::start_signaling(&[]);
    let fails_with = |lines: &[&str], at: &str, expected: &str| {
        let mut stage = Sockets::new(server.address, None);
        let error = play_whole(&format!("{DUO}{}\n", lines.join("\n")), &mut stage).expect_err("it passes");
        assert!(error.contains(at) && error.contains(expected), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    };
    // It received a message about bob, and claims that it did not.
    fails_with(&["ann receives nothing"], "line 7: ", "PeerJoined");
    // It omits the message, and the next line is an action of another client.
    fails_with(&["bob sends binary"], "line 7: ", "PeerJoined");
    fails_with(&["bob closes"], "line 7: ", "PeerJoined");
    fails_with(&[], "at the end", "PeerJoined");
    fails_with(&[JOINED, "bob is cut", "ann receives nothing"], "line 9: ", "PeerLeft");
    fails_with(&[JOINED, "bob closes"], "at the end", "PeerLeft");
    // An earlier message must be received earlier.
    fails_with(
        &[JOINED, r#"ann> {"type":"ListRooms"}"#, r#"ann> {"type":"ListRooms"}"#],
        "line 9: ",
        r#"{"type":"RoomList""#,
    );
}

/// The same where the requests are those of WebRTC.
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
        let mut stage = Sockets::new(server.address, None);
        let error = play_whole(&format!("{joined}{lines}\n"), &mut stage).expect_err("it passes");
        assert!(error.contains(at) && error.contains(expected), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    }
    // Closed with another code, and closed without being expected.
    for (end, expected) in [("ann is closed 1008 x", "1008"), ("ann receives nothing", "is closed"), ("", "is closed")]
    {
        let mut stage = Sockets::new(server.address, None);
        let error = play_whole(&format!("ann connects to /?roomId=r\n{end}\n"), &mut stage).expect_err("it passes");
        assert!(error.contains(expected), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    }
}
