//! The transcripts in `fixtures/rooms/jamjam`.

/// Name and text of every transcript.
pub(crate) fn scripts() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/rooms/jamjam");
    let files = std::fs::read_dir(folder).expect("the folder of the transcripts");
    let mut scripts: Vec<_> = files
        .map(|file| {
            let path = file.expect("an entry of the folder").path();
            let name = path.file_name().expect("a file's name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a transcript"))
        })
        .collect();
    scripts.sort();
    scripts
}
