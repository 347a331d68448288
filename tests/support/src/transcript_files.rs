//! The transcripts in `fixtures/signaling`.

use serde_json::Value;

use crate::transcript::{Step, step};

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
