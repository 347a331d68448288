//! The transcripts in `fixtures/signaling`. A new dialect needs only its folder there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{read_dir, read_to_string};

use jamjam_signaling::Dialect;
use serde_json::Value;

use crate::sockets::Sockets;
use crate::transcript::{Progress, Step, run_transcript, step};

/// A file. The name of its folder is that of the dialect.
pub struct Transcript {
    pub dialect: Dialect,
    /// The folder and the file.
    pub name: String,
    pub text: String,
}

/// The transcripts of all dialects, sorted by name. Fails if a dialect has none, or if a folder has the name of no dialect.
pub fn transcripts() -> Vec<Transcript> {
    let folder = crate::repository().join("fixtures/signaling");
    let entries = |path| read_dir(path).expect("a folder").map(|entry| entry.expect("an entry of the folder"));
    let mut transcripts = Vec::new();
    for folder in entries(folder) {
        let of_dialect = folder.file_name().into_string().expect("UTF-8");
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.name() == of_dialect);
        let dialect = dialect.unwrap_or_else(|| panic!("no dialect has the name {of_dialect}"));
        transcripts.extend(entries(folder.path()).map(|file| {
            let name = format!("{of_dialect}/{}", file.file_name().display());
            Transcript { dialect, name, text: read_to_string(file.path()).expect("a transcript") }
        }));
    }
    let found: BTreeSet<Dialect> = transcripts.iter().map(|transcript| transcript.dialect).collect();
    assert_eq!(found, Dialect::ALL.into(), "each dialect has transcripts");
    transcripts.sort_by(|one, other| one.name.cmp(&other.name));
    transcripts
}

/// The messages that clients send in all transcripts of a dialect. Malformed JSON is `null`.
pub fn sent_messages(dialect: Dialect) -> Vec<Value> {
    let mut sent = Vec::new();
    for Transcript { name, text, .. } in transcripts().iter().filter(|transcript| transcript.dialect == dialect) {
        for line in text.lines() {
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

/// Whether a process may stop within a transcript: at a line that advances the clock, runs a command of the embedding application, or spells
/// an id in another letter case.
fn may_be_partial(transcript: &str) -> bool {
    let is_stop = |line: &str| {
        line.ends_with("s pass")
            || line.strip_prefix("program ").is_some_and(|command| !command.starts_with("creates room "))
            || line.contains(":upper}")
            || line.contains(":lower}")
    };
    transcript.lines().any(is_stop)
}

/// Runs each transcript on a process that `start` starts with these options. It lives as long as the value beside the sockets. At least one
/// transcript of each dialect runs to its last line, as do all that need nothing else than messages.
pub fn run_on_sockets<T>(start: impl Fn(&[&str]) -> (Sockets, T)) {
    let (mut failures, mut complete) = (String::new(), BTreeSet::new());
    for Transcript { dialect, name, text } in transcripts() {
        let Some(rooms) = room_options(&text) else { continue };
        let (mut sockets, _running) = start(&rooms.iter().map(String::as_str).collect::<Vec<_>>());
        let progress = run_transcript(&text, &mut sockets);
        match progress.and_then(|progress| sockets.finish(text.contains("[BOT] ")).map(|()| progress)) {
            Ok(Progress::Complete) => _ = complete.insert(dialect),
            Ok(Progress::Partial) if may_be_partial(&text) => {}
            Ok(Progress::Partial) => _ = writeln!(failures, "{name}: not run to its last line"),
            Err(error) => _ = writeln!(failures, "{name}: {error}"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert_eq!(complete, Dialect::ALL.into(), "a transcript of each dialect runs to its last line");
}
