//! The committed inputs of the fuzz targets, which include all inputs that once failed, and the dictionaries.

use std::fs;
use std::path::Path;

use fuzz_targets::{TARGETS, committed_inputs, replay};

#[test]
fn committed_inputs_of_all_fuzz_targets_pass() {
    for (name, target) in TARGETS {
        let inputs = committed_inputs(name).unwrap();
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        let failed = replay(target, &inputs).unwrap();
        assert!(failed.is_empty(), "{name}: {failed:?}");
    }
}

/// `scripts/fuzz` ignores a dictionary with another name, and libFuzzer ignores longer entries.
#[test]
fn dictionaries_belong_to_targets_and_have_short_entries() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/dictionaries");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let entry = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect(line);
            // `\x0a` stands for one byte, and so do `\"` and `\\`.
            let escapes = entry.replace("\\\\", ".").replace("\\\"", ".");
            let len = escapes.len() - 3 * escapes.matches("\\x").count();
            assert!((1..=64).contains(&len), "{name}: {len} bytes: {line}");
        }
    }
}
