//! Runs the transcripts in `fixtures/signaling` on real sockets, with and without TLS. Each transcript has its own server.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::ClientConfig;
use test_support::certificate::{Authority, trusting};
use test_support::server::Server;
use test_support::sockets::Sockets;
use test_support::transcript::{Progress, run_transcript};
use test_support::transcript_files::transcripts;

/// Dialects, each with the minimum number of transcripts that run to their last line. Others stop where the clock is advanced.
const DIALECTS: [(&str, usize); 4] = [("jamjam", 50), ("webrtc", 33), ("broadcast", 19), ("control_surface", 22)];

/// The options that create the control surface rooms of a transcript. `None` if a process cannot run it, because rooms would expire or the
/// members of one of several rooms are limited.
fn room_options(transcript: &str) -> Option<Vec<String>> {
    let created: Vec<&str> = transcript.lines().filter_map(|line| line.strip_prefix("program creates room ")).collect();
    let mut options = Vec::new();
    for room in &created {
        let (code, members) = room.split_once(" for ").unwrap_or((room, "100"));
        options.push(format!("--bbx-room={code}"));
        if members != "100" {
            (created.len() == 1).then_some(())?;
            options.push(format!("--bbx-max-clients={members}"));
        }
    }
    let needs_clock = !created.is_empty() && transcript.lines().any(|line| line.ends_with("s pass"));
    (!needs_clock).then_some(options)
}

/// Runs `transcript` as far as a process supports it. If an id to be spelled in another case has no letter, runs again with another id.
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

/// Runs each transcript for which `which` returns true. Returns the number of complete runs of each dialect.
fn run_all(options: &[&str], sockets: impl Fn(&Server) -> Sockets, which: impl Fn(&str) -> bool) -> [usize; 4] {
    let (mut failures, mut complete) = (String::new(), [0; 4]);
    for ((dialect, _), complete) in DIALECTS.iter().zip(&mut complete) {
        for (name, transcript) in transcripts(dialect).into_iter().filter(|(_, transcript)| which(transcript)) {
            let Some(rooms) = room_options(&transcript) else { continue };
            let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
            let server = Server::start_signaling(&[&super::SECRET, options, &rooms].concat());
            match run_complete(&transcript, &mut sockets(&server)) {
                Ok(progress) => *complete += usize::from(progress == Progress::Complete),
                Err(error) => _ = writeln!(failures, "{dialect}/{name}: {error}"),
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    complete
}

fn assert_all_pass(options: &[&str], tls: Option<&Arc<ClientConfig>>) {
    let complete = run_all(options, |server| Sockets::new(server.address, tls.cloned()), |_| true);
    assert!(DIALECTS.iter().zip(complete).all(|((_, minimum), count)| count >= *minimum), "{complete:?} transcripts");
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    assert_all_pass(&[], None);
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    assert_all_pass(&authority.certify().options(), Some(&trusting(&authority.own())));
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let authority = Authority::new();
    let pair = authority.certify();
    for (options, tls) in [(&[][..], None), (&pair.options(), Some(trusting(&authority.own())))] {
        let sockets = |server: &Server| {
            let mut sockets = Sockets::new(server.address, tls.clone());
            sockets.reset = true;
            sockets
        };
        let [jamjam, webrtc, _, control_surface] = run_all(options, sockets, |text| text.contains(" is cut"));
        assert!(jamjam > 0 && webrtc > 0 && control_surface > 0);
    }
}
