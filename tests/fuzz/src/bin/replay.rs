//! Replays the committed inputs of one target: `replay TARGET`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some(target) = fuzz_targets::find(&name) else {
        eprintln!("unknown target {name:?}");
        return ExitCode::from(2);
    };
    let inputs = fuzz_targets::committed_inputs(&name).expect("the inputs are readable");
    let failed = fuzz_targets::replay(target, &inputs).expect("the inputs are readable");
    for path in &failed {
        eprintln!("{} fails", path.display());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
