//! Packet lines: the JSON lines of `--json-lines` on standard output, and the file of `--record-run`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::output::print_bytes;
use crate::client::{AudioPicture, LiveSnapshot, PacketEvent, PacketObserver, RecordedPacket, RunResults};
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
    print: bool,
    /// Whether the reader of standard output has closed the pipe.
    pub reader_closed: bool,
    file: Option<RecordFile>,
}

/// Creates the queue between the node and the writer. The writer prints the lines if `print` is true, and also writes them to `file`.
pub(crate) fn packet_lines(print: bool, file: Option<RecordFile>) -> (PacketLineSender, PacketLineWriter) {
    let (queue, records) = mpsc::sync_channel(QUEUE_CAPACITY);
    let dropped = Arc::<Counter>::default();
    let sender = PacketLineSender { queue, dropped: Arc::clone(&dropped) };
    let (started, newest, next_progress) = (Time::ZERO, (Time::ZERO, Instant::now()), Duration::ZERO);
    (sender, PacketLineWriter { records, dropped, started, newest, next_progress, print, reader_closed: false, file })
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
        let dropped = self.dropped.get();
        if let Some(file) = &mut self.file {
            if figures.started_at.is_some() && elapsed >= self.next_progress {
                self.next_progress = elapsed + PROGRESS_INTERVAL;
                file.write(&run_record::progress_line(elapsed, figures.packets, dropped));
            }
            // A record of a killed run lacks only its end.
            file.flush();
        }
    }

    /// The file of `--record-run`, after the last packet.
    pub(crate) fn into_file(self) -> Option<RecordFile> {
        let dropped = self.dropped.get();
        self.file.map(|file| RecordFile { packets_dropped: dropped, ..file })
    }

    fn write(&mut self, packet: RecordedPacket) {
        let line = run_record::packet_line((packet, self.started).into());
        if self.print {
            // An error is not reported here. If standard output is broken, printing the report also fails and reports the error.
            self.reader_closed |= print_bytes(line.trim_end().as_bytes()).is_ok_and(|is_read| !is_read);
        }
        if let Some(file) = &mut self.file {
            file.write(&line);
        }
    }
}

/// Writes packets whose outcome is known only at the end, such as lost packets. These packets do not pass through the queue.
impl PacketObserver for PacketLineWriter {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        self.write(event.packet);
    }
}

/// The file of `--record-run`.
pub(crate) struct RecordFile {
    path: PathBuf,
    out: BufWriter<File>,
    packets_dropped: u64,
    /// The first error. After an error, nothing more is written.
    error: Option<io::Error>,
}

impl RecordFile {
    /// Creates the file and writes the limits of the run and its plan. An existing file is replaced.
    pub(crate) fn create(path: &Path, limits: Limits, plan: &RunResults) -> anyhow::Result<Self> {
        let file = files::create_locked(path, File::options().append(true)).with_context(|| write_error(path))?;
        let out = BufWriter::new(file);
        let mut file = Self { path: path.to_owned(), out, packets_dropped: 0, error: None };
        file.write(&run_record::first_lines(limits, plan));
        file.flush();
        Ok(file)
    }

    fn write(&mut self, line: &str) {
        if self.error.is_none() {
            self.error = self.out.write_all(line.as_bytes()).err();
        }
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.out.flush().err();
        }
    }

    /// Writes the last line. Returns the first error of the file. A record without all packets is an error, because it cannot be replayed.
    pub(crate) fn finish(
        mut self,
        run: &RunResults,
        error: Option<String>,
        audio: Option<&AudioPicture>,
    ) -> anyhow::Result<()> {
        let Self { packets_dropped, .. } = self;
        self.write(&run_record::end_line(run, packets_dropped, error, audio));
        let result = self.error.take().map_or_else(|| self.out.flush(), Err);
        result.with_context(|| write_error(&self.path))?;
        if packets_dropped > 0 {
            let path = self.path.display();
            return Err(anyhow!(
                "--record-run: {packets_dropped} packets are missing from {path}, because standard output or the disk was too slow"
            ));
        }
        Ok(())
    }
}

fn write_error(path: &Path) -> String {
    format!("--record-run: cannot write {}", path.display())
}
