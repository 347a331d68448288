//! The transcripts in `fixtures/rooms/bbx` against the server itself on real sockets, plain and under TLS. Each has a server of its own,
//! which makes the rooms that the transcript names.

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

/// The options that make the rooms of a transcript; `None` if one of its rooms is made in a way that no option has, or if the clock
/// has to be moved, before which its times mean something else.
fn rooms(script: &str) -> Option<Vec<String>> {
    let mut options = Vec::new();
    if script.lines().any(|line| line.ends_with("s pass")) {
        return None;
    }
    let made: Vec<&str> = script.lines().filter_map(|line| line.strip_prefix("program makes room ")).collect();
    for room in &made {
        let (code, members) = room.split_once(" for ").unwrap_or((room, "100"));
        options.extend(["--bbx-room".to_owned(), code.to_owned()]);
        if members != "100" {
            (made.len() == 1).then_some(())?;
            options.extend(["--bbx-max-clients".to_owned(), members.to_owned()]);
        }
    }
    Some(options)
}

/// Plays all that can be played without a clock. How many were played to their end.
fn play_all(options: &[String], stage: impl Fn(&Server) -> Sockets, which: impl Fn(&str) -> bool) -> usize {
    let (mut wrong, mut whole) = (String::new(), 0);
    for (name, script) in scripts("bbx").into_iter().filter(|(_, script)| which(script)) {
        let Some(rooms) = rooms(&script) else { continue };
        let options: Vec<&str> = options.iter().chain(&rooms).map(String::as_str).collect();
        let server = Server::start_signaling(&options);
        let mut stage = stage(&server);
        match play(&script, &mut stage).and_then(|played| stage.empty().map(|()| played)) {
            Ok(played) => whole += usize::from(played == Played::Whole),
            Err(what) => _ = writeln!(wrong, "{name}: {what}"),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    whole
}

#[test]
fn every_transcript_holds_over_plain_sockets() {
    let whole = play_all(&[], |server| Sockets::new(server.address, None), |_| true);
    assert!(whole >= 22, "{whole} transcripts");
}

#[test]
fn every_transcript_holds_under_tls() {
    let authority = Authority::new();
    let options: Vec<String> = authority.certify().options().iter().map(|option| (*option).to_owned()).collect();
    let tls = trusting(&authority.own());
    let whole = play_all(&options, |server| Sockets::new(server.address, Some(tls.clone())), |_| true);
    assert!(whole >= 22, "{whole} transcripts");
}

#[test]
fn a_connection_that_is_reset_is_lost_like_one_that_ends() {
    let reset = |server: &Server| {
        let mut stage = Sockets::new(server.address, None);
        stage.reset = true;
        stage
    };
    assert!(play_all(&[], reset, |script| script.contains(" is cut")) >= 1);
}
