//! `--json-lines`: a line a datagram, printed while the run goes on, never by the thread that sends.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use super::output::write_line;
use crate::flow::run::StreamKind;
use crate::flow::{Fact, Fate, Observer};
use crate::report::json;
use crate::report::lines::{Line, Packet};
use crate::stats::Count;
use crate::time::Time;

/// Facts on their way to standard output: what a fast path brings in a second.
const QUEUE: usize = 65_536;

/// One fact without its bytes.
#[derive(Clone, Copy)]
struct Note {
    stream: StreamKind,
    sequence: u32,
    sent: Time,
    came: Option<Time>,
    fate: Fate,
}

impl From<Fact<'_>> for Note {
    fn from(Fact { stream, sequence, sent, came, fate, .. }: Fact<'_>) -> Self {
        Self { stream, sequence, sent, came, fate }
    }
}

/// Takes facts on the node's thread.
pub struct LineQueue {
    queue: SyncSender<Note>,
    dropped: Arc<Count>,
}

/// Prints them on another.
pub struct LinePrinter {
    notes: Receiver<Note>,
    dropped: Arc<Count>,
    started: Time,
    nobody_reads: bool,
}

/// The two ends.
pub fn channel() -> (LineQueue, LinePrinter) {
    let (queue, notes) = mpsc::sync_channel(QUEUE);
    let dropped = Arc::<Count>::default();
    (
        LineQueue { queue, dropped: Arc::clone(&dropped) },
        LinePrinter { notes, dropped, started: Time::ZERO, nobody_reads: false },
    )
}

impl Observer for LineQueue {
    fn on_fact(&mut self, fact: Fact<'_>) {
        if self.queue.try_send(fact.into()).is_err() {
            self.dropped.add(1);
        }
    }
}

impl LinePrinter {
    /// Prints everything that waits, with times since `started`.
    pub fn print_waiting(&mut self, started: Option<Time>) {
        self.started = started.unwrap_or(self.started);
        while let Ok(note) = self.notes.try_recv() {
            self.print(note);
        }
    }

    /// Whether whatever read standard output has closed it.
    pub fn nobody_reads(&self) -> bool {
        self.nobody_reads
    }

    /// Facts that were not printed because standard output did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    fn print(&mut self, note: Note) {
        let Note { stream, sequence, sent, came, fate } = note;
        let since = |time: Time| time.signed_since(self.started);
        let packet = Packet::new(stream, sequence, since(sent), came.map(since), fate);
        // A line that cannot be written is lost; the report at the end says whether standard output works.
        if let Ok(line) = json::line(&Line::Packet(packet))
            && let Err(error) = write_line(&mut io::stdout().lock(), line.trim_end())
        {
            self.nobody_reads |= error.kind() == io::ErrorKind::BrokenPipe;
        }
    }
}

/// What is decided at the end of the run is printed at once.
impl Observer for LinePrinter {
    fn on_fact(&mut self, fact: Fact<'_>) {
        self.print(fact.into());
    }
}
