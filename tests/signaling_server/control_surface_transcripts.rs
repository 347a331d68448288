//! Plays the transcripts in `fixtures/signaling/control_surface` against the server itself on real sockets, plain and under TLS. Each has a server
//! of its own, which creates the rooms that the transcript names.

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

/// The options that create the rooms of a transcript; `None` if no option creates one of its rooms, or if the transcript moves the
/// clock.
fn rooms(script: &str) -> Option<Vec<String>> {
    let mut options = Vec::new();
    if script.lines().any(|line| line.ends_with("s pass")) {
        return None;
    }
    let created: Vec<&str> = script.lines().filter_map(|line| line.strip_prefix("program creates room ")).collect();
    for room in &created {
        let (code, members) = room.split_once(" for ").unwrap_or((room, "100"));
        options.extend(["--bbx-room".to_owned(), code.to_owned()]);
        if members != "100" {
            (created.len() == 1).then_some(())?;
            options.extend(["--bbx-max-clients".to_owned(), members.to_owned()]);
        }
    }
    Some(options)
}

/// Plays every transcript that needs no clock. Returns the number of complete ones.
fn play_all(options: &[String], stage: impl Fn(&Server) -> Sockets, which: impl Fn(&str) -> bool) -> usize {
    let (mut failures, mut complete) = (String::new(), 0);
    for (name, script) in scripts("control_surface").into_iter().filter(|(_, script)| which(script)) {
        let Some(rooms) = rooms(&script) else { continue };
        let options: Vec<&str> = options.iter().chain(&rooms).map(String::as_str).collect();
        let server = Server::start_signaling(&options);
        let mut stage = stage(&server);
        match play(&script, &mut stage).and_then(|played| stage.empty().map(|()| played)) {
            Ok(played) => complete += usize::from(played == Played::Whole),
            Err(error) => _ = writeln!(failures, "{name}: {error}"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    complete
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    let complete = play_all(&[], |server| Sockets::new(server.address, None), |_| true);
    assert!(complete >= 22, "{complete} transcripts");
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    let options: Vec<String> = authority.certify().options().iter().map(|option| (*option).to_owned()).collect();
    let tls = trusting(&authority.own());
    let complete = play_all(&options, |server| Sockets::new(server.address, Some(tls.clone())), |_| true);
    assert!(complete >= 22, "{complete} transcripts");
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let reset = |server: &Server| {
        let mut stage = Sockets::new(server.address, None);
        stage.reset = true;
        stage
    };
    assert!(play_all(&[], reset, |script| script.contains(" is cut")) >= 1);
}
