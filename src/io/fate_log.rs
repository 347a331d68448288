//! `--fate-log`: a row a reply, written by a thread of its own.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;

use crate::echo::{Fate, FateObserver, Fated};
use crate::stats::Count;
use crate::time::{Time, nanos};

/// Rows on their way to the file: what a fast server decides in a fifth of a second.
const QUEUE: usize = 65_536;

/// The columns, as `docs/measuring.md` defines them.
pub const HEADER: &str = "time_us,client,type,sequence,fate,reordered,delay_us,copies";

/// Takes fates on the node's thread.
pub struct FateQueue {
    queue: SyncSender<Fated>,
    dropped: Arc<Count>,
}

/// The thread that writes.
pub struct FateLog {
    dropped: Arc<Count>,
    thread: JoinHandle<io::Result<()>>,
}

/// Creates the file and starts to write.
pub fn start(path: &Path) -> io::Result<(FateQueue, FateLog)> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "{HEADER}").and_then(|()| out.flush())?;
    let (queue, rows) = mpsc::sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("fate-log".to_owned()).spawn(move || write_all(&rows, &mut out))?;
    let dropped = Arc::<Count>::default();
    Ok((FateQueue { queue, dropped: Arc::clone(&dropped) }, FateLog { dropped, thread }))
}

/// Writes until the queue's other end is gone. Whenever nothing waits, the file is up to date.
fn write_all(rows: &Receiver<Fated>, out: &mut impl Write) -> io::Result<()> {
    loop {
        match rows.try_recv() {
            Ok(fated) => write_row(out, &fated)?,
            Err(TryRecvError::Disconnected) => return out.flush(),
            Err(TryRecvError::Empty) => {
                out.flush()?;
                if let Ok(fated) = rows.recv() {
                    write_row(out, &fated)?;
                }
            }
        }
    }
}

/// Writes one row.
pub fn write_row(out: &mut impl Write, fated: &Fated) -> io::Result<()> {
    let Fated { at, client, kind, sequence, fate, reordered, delay, copies } = fated;
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let (time, delay) = (micros(at.since(Time::ZERO)), micros(*delay));
    // What has not left has no time at which it did.
    let delay = if *fate == Fate::Sent { delay.as_str() } else { "" };
    let (kind, fate, reordered) = (kind.name(), fate.name(), u8::from(*reordered));
    writeln!(out, "{time},{client},{kind},{sequence},{fate},{reordered},{delay},{copies}")
}

fn micros(time: std::time::Duration) -> String {
    let nanos = nanos(time);
    format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
}

impl FateObserver for FateQueue {
    fn on_fate(&mut self, fated: &Fated) {
        if self.queue.try_send(*fated).is_err() {
            self.dropped.add(1);
        }
    }
}

impl FateLog {
    /// Rows that were not written, because the disk did not keep up or failed.
    pub fn dropped(&self) -> Arc<Count> {
        Arc::clone(&self.dropped)
    }

    /// Waits until all is written. The [`FateQueue`] must be gone.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::Loss;
    use crate::wire::Kind;

    fn fated(sequence: u32) -> Fated {
        Fated {
            at: Time::from_nanos(1_234_567_008),
            client: "[::ffff:192.0.2.1]:5000".parse().expect("an address"),
            kind: Kind::LatencyPing,
            sequence,
            fate: Fate::Sent,
            reordered: true,
            delay: Duration::from_nanos(10_000_050),
            copies: 2,
        }
    }

    #[test]
    fn a_row_names_what_became_of_a_reply() {
        let row = |fated: &Fated| {
            let mut row = Vec::new();
            write_row(&mut row, fated).expect("memory");
            String::from_utf8(row).expect("text")
        };
        assert_eq!(row(&fated(7)), "1234567.008,192.0.2.1:5000,LATENCY_PING,7,sent,1,10000.050,2\n");
        let client = "[2001:db8::1]:9".parse().expect("an address");
        for (fate, name) in [
            (Fate::Lost(Loss::Single), "lost"),
            (Fate::Lost(Loss::Burst), "burst"),
            (Fate::Lost(Loss::Asked), "asked"),
            (Fate::Queue, "queue"),
            (Fate::Refused, "refused"),
            (Fate::Failed, "failed"),
            (Fate::Stopped, "stopped"),
        ] {
            let fated =
                Fated { client, kind: Kind::Audio, fate, reordered: false, copies: 0, at: Time::ZERO, ..fated(0) };
            assert_eq!(row(&fated), format!("0.000,[2001:db8::1]:9,AUDIO,0,{name},0,,0\n"));
        }
    }

    #[test]
    fn every_row_is_in_the_file_when_its_writing_is_finished() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fates.csv");
        let (mut queue, log) = start(&path).expect("a file");
        (0..10_000).for_each(|sequence| queue.on_fate(&fated(sequence)));
        drop(queue);
        let dropped = log.dropped();
        log.finish().expect("a disk");
        assert_eq!(dropped.get(), 0);
        let text = std::fs::read_to_string(&path).expect("a file");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("time_us,client,type,sequence,fate,reordered,delay_us,copies"));
        assert!(lines.enumerate().all(|(n, line)| line.split(',').nth(3) == Some(&n.to_string())), "{text}");
        assert_eq!(text.lines().count(), 10_001);
    }

    #[test]
    fn rows_that_cannot_be_written_are_counted_and_do_not_block() {
        // The writer is not there yet: the queue fills.
        let (queue, rows) = mpsc::sync_channel(2);
        let dropped = Arc::<Count>::default();
        let mut full = FateQueue { queue, dropped: Arc::clone(&dropped) };
        (0..5).for_each(|sequence| full.on_fate(&fated(sequence)));
        assert_eq!(dropped.get(), 3);
        // It has failed: nobody takes any more.
        drop(rows);
        full.on_fate(&fated(6));
        assert_eq!(dropped.get(), 4);
    }
}
