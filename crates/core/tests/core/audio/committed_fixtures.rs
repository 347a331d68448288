//! The committed sound files are identical to the generator's output on this platform.

use std::fs;

#[path = "../../../../../fixtures/audio/make/mod.rs"]
mod make;

#[test]
fn committed_files_equal_the_generator_output() {
    let folder = test_support::repository().join("fixtures/audio");
    for (name, made) in make::files() {
        let committed = fs::read(folder.join(name)).unwrap();
        let differs = committed.iter().zip(&made).position(|(a, b)| a != b);
        let lengths = (committed.len(), made.len());
        assert!(committed == made, "{name} differs (lengths {lengths:?}, first at {differs:?})");
    }
}
