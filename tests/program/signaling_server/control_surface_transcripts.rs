//! Runs the transcripts in `fixtures/signaling/control_surface` against the server itself on real sockets, with and without TLS. Each
//! transcript has its own server, which creates the rooms that the transcript names.

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

/// The options that create the rooms of a transcript. Returns `None` if the transcript advances the clock, because a real server does not
/// support this. Also returns `None` if the transcript creates several rooms and limits the members of one of them. A real server applies
/// `--bbx-max-clients` to all rooms.
fn rooms(transcript: &str) -> Option<Vec<String>> {
    let mut options = Vec::new();
    if transcript.lines().any(|line| line.ends_with("s pass")) {
        return None;
    }
    let created: Vec<&str> = transcript.lines().filter_map(|line| line.strip_prefix("program creates room ")).collect();
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

/// Runs every transcript that does not move the clock. Returns the number of transcripts that were run completely.
fn run_all(options: &[String], sockets: impl Fn(&Server) -> Sockets, which: impl Fn(&str) -> bool) -> usize {
    let (mut failures, mut complete) = (String::new(), 0);
    for (name, transcript) in transcripts("control_surface").into_iter().filter(|(_, transcript)| which(transcript)) {
        let Some(rooms) = rooms(&transcript) else { continue };
        let options: Vec<&str> = options.iter().chain(&rooms).map(String::as_str).collect();
        let server = Server::start_signaling(&options);
        let mut sockets = sockets(&server);
        match run_transcript(&transcript, &mut sockets).and_then(|progress| sockets.finish().map(|()| progress)) {
            Ok(progress) => complete += usize::from(progress == Progress::Complete),
            Err(error) => _ = writeln!(failures, "{name}: {error}"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    complete
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    let complete = run_all(&[], |server| Sockets::new(server.address, None), |_| true);
    assert!(complete >= 22, "{complete} transcripts");
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    let options: Vec<String> = authority.certify().options().iter().map(|option| (*option).to_owned()).collect();
    let tls = trusting(&authority.own());
    let complete = run_all(&options, |server| Sockets::new(server.address, Some(tls.clone())), |_| true);
    assert!(complete >= 22, "{complete} transcripts");
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let reset = |server: &Server| {
        let mut sockets = Sockets::new(server.address, None);
        sockets.reset = true;
        sockets
    };
    assert!(run_all(&[], reset, |transcript| transcript.contains(" is cut")) >= 1);
}
