//! The recorded run: the lines of `--json-lines` on standard output, and of `--record-run` in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::output::print_bytes;
use crate::client::{LiveSnapshot, PacketEvent, PacketObserver, RecordedPacket, RunResults};
use crate::io::files;
use crate::report::limits::Limits;
use crate::run_record;
use crate::stats::Counter;
use crate::time::Time;

/// Capacity of the packet record queue: about one second of traffic at a high packet rate.
const QUEUE_CAPACITY: usize = 65_536;

/// Interval of the progress lines in a run record.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Adds packet records to the queue between the node and the writer. Because the node's thread must not block, records that do not fit are
/// dropped and counted.
pub(crate) struct PacketLineSender {
    queue: SyncSender<RecordedPacket>,
    dropped: Arc<Counter>,
}

impl PacketObserver for PacketLineSender {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if self.queue.try_send(event.packet).is_err() {
            self.dropped.add(1);
        }
    }
}

/// Writes the queued records as JSON lines on the main thread.
pub(crate) struct PacketLineWriter {
    records: Receiver<RecordedPacket>,
    /// Number of records that were dropped because standard output or the disk was too slow.
    pub dropped: Arc<Counter>,
    started: Time,
    /// Time of the newest figures, and when they were first read.
    newest: (Time, Instant),
    next_progress: Duration,
    pub output: RecordOutput,
}

/// Creates the queue between the node and the writer.
pub(crate) fn packet_lines(output: RecordOutput) -> (PacketLineSender, PacketLineWriter) {
    let (queue, records) = mpsc::sync_channel(QUEUE_CAPACITY);
    let dropped = Arc::<Counter>::default();
    let sender = PacketLineSender { queue, dropped: Arc::clone(&dropped) };
    let (started, newest, next_progress) = (Time::ZERO, (Time::ZERO, Instant::now()), Duration::ZERO);
    (sender, PacketLineWriter { records, dropped, started, newest, next_progress, output })
}

impl PacketLineWriter {
    /// Writes all queued records, with times relative to the start of counting. `figures` were read before, so that the records of all earlier
    /// packets are queued.
    pub(crate) fn write_queued(&mut self, figures: &LiveSnapshot) {
        self.started = figures.started_at.unwrap_or(self.started);
        if figures.at != self.newest.0 {
            self.newest = (figures.at, Instant::now());
        }
        // Nothing is published while the run waits.
        let elapsed = figures.at.duration_since(self.started) + self.newest.1.elapsed();
        while let Ok(record) = self.records.try_recv() {
            self.write(record);
        }
        if figures.started_at.is_some() && elapsed >= self.next_progress {
            self.next_progress = elapsed + PROGRESS_INTERVAL;
            self.output.write(&run_record::progress_line(elapsed, figures.packets, self.dropped.get()));
        }
        // A record of a killed run lacks only its end.
        self.output.flush();
    }

    /// The output after the last packet.
    pub(crate) fn into_output(self) -> RecordOutput {
        RecordOutput { packets_dropped: self.dropped.get(), ..self.output }
    }

    fn write(&mut self, packet: RecordedPacket) {
        self.output.write(&run_record::packet_line((packet, self.started).into()));
    }
}

/// Writes packets whose outcome is known only at the end, such as lost packets. These packets do not pass through the queue.
impl PacketObserver for PacketLineWriter {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        self.write(event.packet);
    }
}

/// Where the lines of a run go.
pub(crate) struct RecordOutput {
    is_printed: bool,
    /// Whether the reader of standard output has closed the pipe.
    pub reader_closed: bool,
    file: Option<(PathBuf, BufWriter<File>)>,
    packets_dropped: u64,
    /// The first error of the file. After an error, nothing more is written to it.
    error: Option<io::Error>,
}

impl RecordOutput {
    /// Creates `file`, which replaces an existing one, and writes the limits of the run and its plan.
    pub(crate) fn create(
        is_printed: bool,
        file: Option<&Path>,
        limits: Limits,
        plan: &RunResults,
    ) -> anyhow::Result<Self> {
        let create = |path: &Path| {
            let file = files::create_locked(path, File::options().append(true)).with_context(|| write_error(path))?;
            Ok::<_, anyhow::Error>((path.to_owned(), BufWriter::new(file)))
        };
        let file = file.map(create).transpose()?;
        let mut output = Self { is_printed, reader_closed: false, file, packets_dropped: 0, error: None };
        output.write(&run_record::first_line(limits, plan));
        output.flush();
        Ok(output)
    }

    fn write(&mut self, line: &str) {
        if self.is_printed {
            // An error is not reported here. If standard output is broken, printing the report also fails and reports the error.
            self.reader_closed |= print_bytes(line.trim_end().as_bytes()).is_ok_and(|is_read| !is_read);
        }
        self.in_file(|file| file.write_all(line.as_bytes()));
    }

    fn flush(&mut self) {
        self.in_file(Write::flush);
    }

    fn in_file(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some((_, file)) = self.file.as_mut().filter(|_| self.error.is_none()) {
            self.error = write(file).err();
        }
    }

    /// Writes what packets do not show and, into the file, the report. Returns the first error of the file. A file without all packets is an
    /// error, because it cannot be replayed.
    pub(crate) fn finish(mut self, run: &RunResults, error: Option<String>, report: &str) -> anyhow::Result<()> {
        self.write(&run_record::end_line(run, self.packets_dropped, error));
        self.in_file(|file| writeln!(file, "{report}"));
        self.flush();
        let (Some((path, _)), dropped) = (&self.file, self.packets_dropped) else { return Ok(()) };
        self.error.take().map_or(Ok(()), Err).with_context(|| write_error(path))?;
        ensure!(
            dropped == 0,
            "--record-run: {dropped} packets are missing from {}, because standard output or the disk was too slow",
            path.display()
        );
        Ok(())
    }
}

fn write_error(path: &Path) -> String {
    format!("--record-run: cannot write {}", path.display())
}
