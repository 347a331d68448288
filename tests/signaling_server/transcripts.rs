//! The transcripts in `fixtures/rooms` against the server itself on real sockets, plain and under TLS.

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

/// Dialects, and how many transcripts of each can be played without a clock.
const DIALECTS: [(&str, usize); 2] = [("jamjam", 50), ("webrtc", 33)];

/// Plays all of `script`, up to where the clock would have to be moved: again where an id of this run has no letter to be spelled in another case.
fn whole(script: &str, stage: &mut Sockets) -> Result<Played, String> {
    for _ in 0..20 {
        let played = play(script, stage)?;
        stage.empty()?;
        if played == Played::Whole || played == Played::UpToTheClock {
            return Ok(played);
        }
    }
    Err("no id has a letter".to_owned())
}

/// Plays those transcripts of a dialect that `which` takes; `least` of them must have been played to their end.
fn play_all(stage: &mut Sockets, dialect: &str, least: usize, which: impl Fn(&str) -> bool) {
    let (mut wrong, mut played) = (String::new(), 0);
    for (name, script) in scripts(dialect).into_iter().filter(|(_, script)| which(script)) {
        match whole(&script, stage) {
            Ok(all) => played += usize::from(all == Played::Whole),
            Err(what) => {
                let _ = writeln!(wrong, "{dialect}/{name}: {what}");
                // Whoever is left must not be met by the next.
                *stage = stage.anew();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(played >= least, "{played} transcripts");
}

#[test]
fn every_transcript_holds_over_plain_sockets() {
    let server = Server::start_signaling(&[]);
    let mut stage = Sockets::new(server.address, None);
    for (dialect, least) in DIALECTS {
        play_all(&mut stage, dialect, least, |_| true);
    }
}

#[test]
fn every_transcript_holds_under_tls() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let mut stage = Sockets::new(server.address, Some(trusting(&authority.own())));
    for (dialect, least) in DIALECTS {
        play_all(&mut stage, dialect, least, |_| true);
    }
}

#[test]
fn a_connection_that_is_reset_is_lost_like_one_that_ends() {
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

/// A message that nobody expects is found, wherever it waits.
#[test]
fn a_transcript_that_forgets_what_is_heard_does_not_hold() {
    let server = Server::start_signaling(&[]);
    let forgets = |lines: &[&str], at: &str, what: &str| {
        let mut stage = Sockets::new(server.address, None);
        let error = whole(&format!("{DUO}{}\n", lines.join("\n")), &mut stage).expect_err("it holds");
        assert!(error.contains(at) && error.contains(what), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    };
    // It heard of bob, and says it did not.
    forgets(&["ann hears nothing"], "line 7: ", "PeerJoined");
    // It forgets it, and the next line is somebody's act.
    forgets(&["bob sends binary"], "line 7: ", "PeerJoined");
    forgets(&["bob closes"], "line 7: ", "PeerJoined");
    forgets(&[], "at the end", "PeerJoined");
    forgets(&[JOINED, "bob is cut", "ann hears nothing"], "line 9: ", "PeerLeft");
    forgets(&[JOINED, "bob closes"], "at the end", "PeerLeft");
    // What was said before must be heard before.
    forgets(
        &[JOINED, r#"ann> {"type":"ListRooms"}"#, r#"ann> {"type":"ListRooms"}"#],
        "line 9: ",
        r#"{"type":"RoomList""#,
    );
}

/// The same where the requests are those of WebRTC.
#[test]
fn a_webrtc_transcript_that_forgets_what_is_heard_does_not_hold() {
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
    for (lines, at, what) in [
        ("ann hears nothing", "line 6: ", "participant-joined"),
        ("", "at the end", "participant-joined"),
        ("bob> x", "line 6: ", "participant-joined"),
        ("ann is closed 1008 x", "line 6: ", "participant-joined"),
    ] {
        let mut stage = Sockets::new(server.address, None);
        let error = whole(&format!("{joined}{lines}\n"), &mut stage).expect_err("it holds");
        assert!(error.contains(at) && error.contains(what), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    }
    // Closed, but not like this; and not heard of.
    for (end, what) in [("ann is closed 1008 x", "1008"), ("ann hears nothing", "is closed"), ("", "is closed")] {
        let mut stage = Sockets::new(server.address, None);
        let error = whole(&format!("ann connects to /?roomId=r\n{end}\n"), &mut stage).expect_err("it holds");
        assert!(error.contains(what), "{error}");
        drop(stage);
        Sockets::new(server.address, None).empty().unwrap();
    }
}
