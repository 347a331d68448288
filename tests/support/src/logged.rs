//! Captures log lines.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::subscriber::{NoSubscriber, with_default};
use tracing::{Dispatch, Subscriber};

/// The captured lines with level INFO and above, without the time. All clones share the same lines.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps a second dispatcher alive. With only one, `tracing` stores for each callsite whether the first thread that reaches it has a
/// subscriber, and a parallel test without one would disable the callsite for all threads.
pub fn keep_callsites_enabled() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

impl Lines {
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let to = self.clone();
        let format = tracing_subscriber::fmt::format().with_target(false).without_time().with_ansi(false).compact();
        tracing_subscriber::fmt().event_format(format).with_writer(move || to.clone()).finish()
    }

    pub fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no writer panics"));
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

/// Runs `action`. Returns the lines that `action` logs on this thread, without leading and trailing spaces.
pub fn logged(action: impl FnOnce()) -> Vec<String> {
    keep_callsites_enabled();
    let lines = Lines::default();
    with_default(lines.subscriber(), action);
    lines.take().iter().map(|line| line.trim().to_owned()).collect()
}
