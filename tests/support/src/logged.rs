//! Captures log lines.

use std::fmt::{Debug, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{NoSubscriber, with_default};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Sends the lines with level INFO and above, without time and area.
struct Lines(Sender<String>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            let text = match field.name() {
                "message" => write!(line, " {value:?}"),
                name => write!(line, " {name}={value:?}"),
            };
            text.expect("a string takes all");
        });
        self.0.send(line).expect("a receiver");
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs `action`. Returns the lines that `action` logs on this thread.
pub fn logged(action: impl FnOnce()) -> Vec<String> {
    // With only one dispatcher, `tracing` stores for each callsite whether the first thread that reaches it has a subscriber, and a parallel
    // test without one would disable the callsite for all threads.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    let (sender, lines) = mpsc::channel();
    with_default(Lines(sender), action);
    lines.try_iter().collect()
}
