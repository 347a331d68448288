//! The committed inputs of the fuzz targets, which include all inputs that once failed.

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
