//! The transcripts in `fixtures/signaling`.

/// Name and text of every transcript of a dialect.
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
