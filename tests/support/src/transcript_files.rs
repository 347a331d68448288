//! The transcripts in `fixtures/signaling`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::sockets::Sockets;
use crate::transcript::{Progress, Step, run_transcript, step};

/// Dialects, each with the minimum number of transcripts that run to their last line on sockets. Others stop where the clock is advanced.
pub const DIALECTS: [(&str, usize); 4] = [("jamjam", 49), ("webrtc", 33), ("broadcast", 20), ("control_surface", 22)];

pub fn transcripts(dialect: &str) -> Vec<(String, String)> {
    let folder = format!("{}/fixtures/signaling/{dialect}", crate::repository().display());
    let files = std::fs::read_dir(folder).expect("the folder of the transcripts");
    let mut transcripts: Vec<_> = files
        .map(|file| {
            let path = file.expect("an entry of the folder").path();
            let name = path.file_name().expect("a file's name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a transcript"))
        })
        .collect();
    transcripts.sort();
    transcripts
}

/// The messages that clients send in all transcripts of a dialect. Malformed JSON is `null`.
pub fn sent_messages(dialect: &str) -> Vec<Value> {
    let mut sent = Vec::new();
    for (name, transcript) in transcripts(dialect) {
        for line in transcript.lines() {
            if let Some((_, Step::Sends(text))) = step(line).unwrap_or_else(|error| panic!("{name}: {error}")) {
                sent.push(serde_json::from_str(text).unwrap_or_default());
            }
        }
    }
    sent
}

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

/// Runs each transcript of a dialect for which `which` returns true on processes that `start` starts with these options. They live as long
/// as the value beside the sockets. Returns the number of complete runs.
pub fn run_on_sockets<T>(
    dialect: &str,
    which: impl Fn(&str) -> bool,
    start: impl Fn(&[&str]) -> (Sockets, T),
) -> usize {
    let (mut failures, mut complete) = (String::new(), 0);
    for (name, transcript) in transcripts(dialect).into_iter().filter(|(_, transcript)| which(transcript)) {
        let Some(rooms) = room_options(&transcript) else { continue };
        let (mut sockets, _running) = start(&rooms.iter().map(String::as_str).collect::<Vec<_>>());
        let progress = run_transcript(&transcript, &mut sockets);
        match progress.and_then(|progress| sockets.finish(transcript.contains("[BOT] ")).map(|()| progress)) {
            Ok(progress) => complete += usize::from(progress == Progress::Complete),
            Err(error) => _ = writeln!(failures, "{dialect}/{name}: {error}"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    complete
}
