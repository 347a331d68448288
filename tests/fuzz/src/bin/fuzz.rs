//! Runs the target whose name is in the environment variable `FUZZ_TARGET`, with inputs from libFuzzer.

#![no_main]

use std::sync::OnceLock;

use fuzz_targets::{Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        let _ = TARGET.set(find(&name).expect("FUZZ_TARGET is the name of a target"));
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
