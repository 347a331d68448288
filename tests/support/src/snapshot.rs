//! Expected texts of whole outputs, one file each in `tests/snapshots/`.

use std::fs;
use std::path::PathBuf;

/// Compares a whole output with `tests/snapshots/NAME.txt`. Write the expected text by hand, from the documentation. When an output changes
/// on purpose, `UPDATE_SNAPSHOTS=1` rewrites the files; review each difference.
#[track_caller]
pub fn assert_matches(name: &str, actual: &str) {
    let file = path(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder of the snapshot");
        fs::write(&file, actual).expect("the snapshot");
        return;
    }
    assert_eq!(actual, committed(name), "{} differs; UPDATE_SNAPSHOTS=1 rewrites it", file.display());
}

/// The committed text, for tests that take their inputs from it.
pub fn committed(name: &str) -> String {
    let file = path(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn path(name: &str) -> PathBuf {
    crate::repository().join("tests/snapshots").join(name).with_extension("txt")
}
