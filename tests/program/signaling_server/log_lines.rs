//! The log of the signaling server: joins, leaves, messages and rejections of every dialect.

use test_support::server::{Line, Server};
use test_support::snapshot;
use test_support::sockets::Sockets;
use test_support::transcript::{Progress, run_transcript};
use test_support::transcript_files::transcripts;

/// The lines about members, messages and rooms, in which `ID` stands for the ids that differ in each run.
fn events(lines: &[String]) -> String {
    let mut events = String::new();
    for line in lines {
        let Line { level, message, .. } = Line::parse(line);
        let is_event = ["member ", "message ", "room ", "request ", "connection rejected "];
        if message.strip_prefix("signaling: ").is_some_and(|event| is_event.iter().any(|what| event.starts_with(what)))
        {
            let words = message.split(' ').map(|word| match word.split_once('=') {
                // The id of a control surface, and that of a jamjam room.
                Some((name @ "user", id)) if id.len() == 36 => format!("{name}=ID"),
                Some((name @ "room", id)) if id.len() == 8 => format!("{name}=ID"),
                _ => word.to_owned(),
            });
            events.extend([level, " ".to_owned(), words.collect::<Vec<_>>().join(" "), "\n".to_owned()]);
        }
    }
    events
}

/// The conversations are the transcripts `logged.txt`.
#[test]
fn joins_leaves_messages_and_rejections_of_every_dialect_are_logged() {
    let server = Server::start_signaling(&[&["-v", "--bbx-room", "4711"], &super::SECRET[..]].concat());
    for transcript in transcripts().iter().filter(|transcript| transcript.name.ends_with("/logged.txt")) {
        let progress = run_transcript(&transcript.text, &mut Sockets::new(server.address, None));
        assert_eq!(progress, Ok(Progress::Complete), "{}", transcript.name);
    }
    let lines = server.stop("TERM").lines;
    // `eyJ` begins every token.
    for forbidden in ["secret", "4711", "0.125", "hunter2", "eyJ", "\u{1b}"] {
        assert!(lines.iter().all(|line| !line.contains(forbidden)), "{forbidden}: {lines:#?}");
    }
    snapshot::assert_matches("servers/signaling_log", &events(&lines));
}
