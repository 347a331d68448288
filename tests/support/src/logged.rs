//! Captures log lines.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::{NoSubscriber, with_default};

/// The buffer of the captured log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps a second dispatcher alive. With exactly one dispatcher, `tracing` evaluates a callsite only for the thread that reaches it first,
/// so a parallel test without a subscriber would disable the callsite for all threads.
pub fn keep_callsites_enabled() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

/// Runs `action`. Returns the lines with level INFO and above that it logs on this thread, without the time.
pub fn logged(action: impl FnOnce()) -> Vec<String> {
    keep_callsites_enabled();
    let lines = Lines::default();
    let to = lines.clone();
    let format = tracing_subscriber::fmt::format().with_target(false).without_time().with_ansi(false).compact();
    with_default(tracing_subscriber::fmt().event_format(format).with_writer(move || to.clone()).finish(), action);
    let bytes = std::mem::take(&mut *lines.0.lock().expect("no writer panics"));
    String::from_utf8(bytes).expect("UTF-8").lines().map(|line| line.trim().to_owned()).collect()
}
