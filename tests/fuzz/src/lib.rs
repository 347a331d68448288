//! Fuzz targets. Each target passes arbitrary bytes to one part of `jamjam-dev` and panics if a property does not hold.
//!
//! `scripts/fuzz` runs the targets with libFuzzer. The folder of a target in `corpus/` contains inputs that together reach most of the
//! code. The folder in `crashes/` contains inputs that once failed. The test program `library` replays both.

use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

mod impairment_patch;
mod input;
mod link;
mod moqt_messages;
mod signaling_hub;
mod stun;
mod webtransport;

/// Runs one input.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("impairment_patch", impairment_patch::run),
    ("link", link::run),
    ("moqt_messages", moqt_messages::run),
    ("signaling_hub", signaling_hub::run),
    ("stun", stun::run),
    ("webtransport", webtransport::run),
];

/// The target with this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(own, _)| *own == name).map(|(_, target)| *target)
}

/// The committed inputs of a target.
pub fn committed_inputs(name: &str) -> io::Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    for kind in ["corpus", "crashes"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(name);
        // A target without crashes has no folder for them.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            inputs.push(entry?.path());
        }
    }
    inputs.sort();
    Ok(inputs)
}

/// Runs these inputs. Returns those that fail.
pub fn replay(target: Target, inputs: &[PathBuf]) -> io::Result<Vec<&Path>> {
    let mut failed = Vec::new();
    for path in inputs {
        let bytes = fs::read(path)?;
        if catch_unwind(|| target(&bytes)).is_err() {
            failed.push(path.as_path());
        }
    }
    Ok(failed)
}
