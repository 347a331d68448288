//! The transcripts in `fixtures/signaling`.

use serde_json::Value;

use crate::in_memory_hub::InMemoryHub;
use crate::transcript::{Progress, Step, run_transcript, step};

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

/// Runs every transcript of a dialect to its end, each against a new hub. There must be at least `min_count` transcripts.
pub fn assert_transcripts_pass(dialect: &str, min_count: usize, hub: impl Fn() -> InMemoryHub) {
    let transcripts = transcripts(dialect);
    assert!(transcripts.len() >= min_count, "{} transcripts", transcripts.len());
    let failures: Vec<String> = transcripts
        .iter()
        .filter_map(|(name, transcript)| {
            let progress = run_transcript(transcript, &mut hub());
            (progress != Ok(Progress::Complete)).then(|| format!("{name}: {progress:?}"))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The messages that clients send, and those that they receive, in all transcripts of a dialect. Malformed JSON is `null`.
pub fn sent_and_received(dialect: &str) -> [Vec<Value>; 2] {
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_default();
    for (name, transcript) in transcripts(dialect) {
        for line in transcript.lines() {
            match step(line).unwrap_or_else(|error| panic!("{name}: {error}")) {
                Some((_, Step::Sends(text))) => sent.push(parse(text)),
                Some((_, Step::Receives(text))) => received.push(parse(text)),
                _ => {}
            }
        }
    }
    [sent, received]
}
