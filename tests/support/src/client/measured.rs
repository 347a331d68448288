//! Measurements: tests that need the clock, and that this host cannot always judge.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether a program has measured nothing, or its server or relay was paused or late, since the current try began.
static NOT_MEASURED: AtomicBool = AtomicBool::new(false);

/// Runs `work` while no other measurement runs. A panic is a failure of the test, unless a program that ran in `work` ended with NOT
/// MEASURED or a server or relay reported that it was paused or late: then, `work` runs again, and after five times it was not judged. A
/// test that expects one of these must do without this function, because it could not fail.
pub fn measured(work: impl Fn()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..5 {
        NOT_MEASURED.store(false, Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(&work)) {
            Ok(()) => return,
            Err(panic) if !NOT_MEASURED.load(Ordering::Relaxed) => resume_unwind(panic),
            Err(_) => {}
        }
    }
    // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests. `scripts/check` reads this line.
    let test = std::thread::current();
    let _ = writeln!(std::io::stderr(), "NOT JUDGED: {}", test.name().unwrap_or_default());
}

/// Remembers for [`measured`] how a program ended. For a program in a shell, `code` may be that of the shell.
pub fn note_end(code: i32, output: &str) {
    // The verdict, and what a relay that failed for another reason says of its host.
    let reasons =
        ["NOT MEASURED", "\"not_measured\"", "not measured: ", "relay did not run for ", "sent over 50 ms late"];
    note(code == 4 || reasons.iter().any(|reason| output.contains(reason)));
}

/// Remembers for [`measured`] whether this text from the log of a server or relay reports a pause, or that it sent late.
pub fn note_log(text: &str) {
    note(["did not run for ", "sent datagrams late by "].iter().any(|reason| text.contains(reason)));
}

fn note(is_not_measured: bool) {
    NOT_MEASURED.fetch_or(is_not_measured, Ordering::Relaxed);
}
