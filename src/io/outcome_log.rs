//! `--outcome-log`: writes one CSV row per datagram on a thread of its own.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use tracing::warn;

use crate::io::files;
use crate::io::worker::Worker;
use crate::outcome::{OutcomeEvent, OutcomeObserver};
use crate::stats::Counter;

/// Maximum number of queued rows: 0.2 s at 330,000 datagrams per second.
const QUEUE_CAPACITY: usize = 65_536;

/// Maximum size of the file. Further rows are discarded and counted.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The writing thread, which ends when all rows are written. Drop the observer before joining it.
pub(crate) type OutcomeLog = Worker<io::Result<()>>;

/// Creates the file, which has at most `max_bytes`, and starts the writing thread. `route` names the columns of the route. The counter is the
/// number of rows that were not written because the file has its maximum size, or because the disk was too slow or failed.
pub(crate) fn spawn<R>(
    path: &Path,
    route: &str,
    max_bytes: u64,
) -> io::Result<(OutcomeObserver<R>, Arc<Counter>, OutcomeLog)>
where
    R: Display + Clone + Send + 'static,
{
    // In append mode, a file that is emptied during the run goes on at its start.
    let mut out = files::create_locked(path, File::options().append(true))?;
    // The columns are defined in `docs/measuring.md`.
    let header = format!("time_us,{route},type,sequence,outcome,reordered,delay_us,copies");
    writeln!(out, "{header}")?;
    let (queue, rows) = mpsc::sync_channel(QUEUE_CAPACITY);
    let dropped = Arc::<Counter>::default();
    let mut file = OutcomeFile {
        out,
        path: path.to_owned(),
        left: max_bytes.saturating_sub(header.len() as u64 + 1),
        rows: Vec::new(),
        row_count: 0,
        dropped: Arc::clone(&dropped),
        error: None,
    };
    let thread = Worker::spawn("outcome-log", move || {
        file.write_all(&rows);
        file.error.map_or(Ok(()), Err)
    })?;
    Ok((enqueue(queue, Arc::clone(&dropped)), dropped, thread))
}

/// Queues each outcome for the writing thread. Rows that do not fit are dropped and counted.
fn enqueue<R: Clone + Send + 'static>(queue: SyncSender<OutcomeEvent<R>>, dropped: Arc<Counter>) -> OutcomeObserver<R> {
    Box::new(move |event| {
        if queue.try_send(event.clone()).is_err() {
            dropped.add(1);
        }
    })
}

/// Bytes of rows that are written at once.
const BUFFER_BYTES: usize = 8 * 1024;

/// The file, which has a maximum length.
struct OutcomeFile {
    out: File,
    path: PathBuf,
    /// Number of bytes that may still be written; 0 after a row did not fit or could not be written.
    left: u64,
    /// Rows to write.
    rows: Vec<u8>,
    /// Number of rows to write.
    row_count: usize,
    dropped: Arc<Counter>,
    error: Option<io::Error>,
}

impl OutcomeFile {
    /// Writes rows until the queue is closed. Flushes whenever the queue is empty.
    fn write_all(&mut self, queue: &Receiver<OutcomeEvent<impl Display>>) {
        while let Ok(first) = queue.recv() {
            for event in iter::once(first).chain(queue.try_iter()) {
                self.push(&event);
            }
            self.flush();
        }
    }

    /// Adds a row. The first row that does not fit is logged. This row and all later rows are counted as dropped.
    fn push(&mut self, event: &OutcomeEvent<impl Display>) {
        let end = self.rows.len();
        // Writing to memory cannot fail.
        let _ = writeln!(self.rows, "{event}");
        let bytes = (self.rows.len() - end) as u64;
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            self.row_count += 1;
            if self.rows.len() >= BUFFER_BYTES {
                self.flush();
            }
            return;
        }
        self.rows.truncate(end);
        self.dropped.add(1);
        if self.left > 0 {
            self.left = 0;
            warn!(target: "echo", "the outcome log has its maximum size; further rows are discarded");
        }
    }

    /// Writes the rows. The first error is logged, and nothing is written after it.
    fn flush(&mut self) {
        if let Err(error) = self.out.write_all(&self.rows) {
            let path = self.path.display();
            warn!(
                target: "echo", %path, %error,
                "cannot write the outcome log; further rows are discarded. Free space on the disk and restart the server"
            );
            self.dropped.add(self.row_count);
            (self.left, self.error) = (0, Some(error));
        }
        self.rows.clear();
        self.row_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::impairment::LossCause;
    use crate::outcome::Outcome;
    use crate::time::Time;
    use crate::wire::PacketType;

    fn event(sequence: u32) -> OutcomeEvent<SocketAddr> {
        OutcomeEvent {
            received_at: Time::from_nanos(1_234_567_008),
            route: "192.0.2.1:5000".parse().expect("an address"),
            class: Some(PacketType::LatencyPing),
            sequence,
            outcome: Outcome::Sent,
            reordered: true,
            added_delay: Duration::from_nanos(10_000_050),
            copies_sent: 2,
        }
    }

    #[test]
    fn row_contains_the_outcome_of_a_datagram() {
        assert_eq!(event(7).to_string(), "1234567.008,192.0.2.1:5000,LATENCY_PING,7,sent,1,10000.050,2");
        let route = "[2001:db8::1]:9".parse().expect("an address");
        for (outcome, name) in [
            (Outcome::Lost(LossCause::Random), "lost"),
            (Outcome::Lost(LossCause::Burst), "burst"),
            (Outcome::Lost(LossCause::Listed), "listed"),
            (Outcome::Lost(LossCause::Outage), "outage"),
            (Outcome::Lost(LossCause::Recorded), "recorded"),
            (Outcome::BottleneckFull, "queue"),
            (Outcome::Dropped, "buffer_full"),
            (Outcome::SendFailed, "failed"),
            (Outcome::DroppedAtStop, "stopped"),
        ] {
            let event = OutcomeEvent {
                route,
                class: Some(PacketType::Audio),
                outcome,
                reordered: false,
                copies_sent: 0,
                received_at: Time::ZERO,
                ..event(0)
            };
            assert_eq!(event.to_string(), format!("0.000,[2001:db8::1]:9,AUDIO,0,{name},0,,0"));
        }
    }

    #[test]
    fn log_that_is_emptied_during_the_run_goes_on_at_its_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outcomes.csv");
        let text = || std::fs::read_to_string(&path).expect("a file");
        let (mut observe, _, log) = spawn(&path, "client", MAX_BYTES).expect("a file");
        observe(&event(1));
        while text().lines().count() < 2 {
            std::thread::yield_now();
        }
        // Like `: > outcomes.csv` of a shell.
        File::create(&path).expect("a file");
        observe(&event(2));
        drop(observe);
        log.join().expect("a disk");
        assert_eq!(text(), "1234567.008,192.0.2.1:5000,LATENCY_PING,2,sent,1,10000.050,2\n");
    }

    #[test]
    fn dropped_rows_are_counted_without_blocking() {
        // No thread reads from the queue, so it becomes full.
        let (queue, rows) = mpsc::sync_channel(2);
        let dropped = Arc::<Counter>::default();
        let mut observe = enqueue(queue, Arc::clone(&dropped));
        (0..5).for_each(|sequence| observe(&event(sequence)));
        assert_eq!(dropped.get(), 3);
        // The writing thread has ended.
        drop(rows);
        observe(&event(6));
        assert_eq!(dropped.get(), 4);
    }

    #[test]
    fn rows_beyond_the_maximum_size_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outcomes.csv");
        let row_len = event(7).to_string().len() + 1;
        let max_bytes =
            "time_us,client,type,sequence,outcome,reordered,delay_us,copies\n".len() + 3 * row_len + row_len / 2;
        let (mut observe, dropped, log) = spawn(&path, "client", max_bytes as u64).expect("a file");
        // The last row would fit if rows after the first discarded one were still written.
        (0..9).for_each(|_| observe(&event(7)));
        observe(&OutcomeEvent { outcome: Outcome::Dropped, ..event(7) });
        drop(observe);
        log.join().expect("written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!((text.lines().count(), dropped.get()), (4, 7));
    }
}
