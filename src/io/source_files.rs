//! `echo-server --record` and `--capture`: a thread that writes what the sources send.
//!
//! The node's thread copies each datagram into a batch of bounded size. Datagrams that do not fit are dropped and counted. The writing thread
//! takes the batch every few milliseconds, so that the node's thread never waits for the disk.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tracing::warn;

use super::capture::Capture;
use super::files;
use super::source_recorder::SourceRecorder;
use super::worker::Worker;
use crate::audio::placement::MAX_SILENCE;
use crate::echo::ObservedDatagram;
use crate::lock::lock;
use crate::time::{Time, WallClock};

/// Maximum size of a batch: 40 s of a stereo client at 48 kHz.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// Interval between batches.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Datagrams with their lengths, and the concatenation of their bytes.
#[derive(Default)]
struct Batch {
    datagrams: Vec<(ObservedDatagram<'static>, usize)>,
    bytes: Vec<u8>,
    dropped: u64,
}

/// Passes datagrams from the node's thread to the writing thread, with times since 1970.
pub(crate) struct SourceQueue {
    batch: Arc<Mutex<Batch>>,
    clock: WallClock,
}

impl SourceQueue {
    pub(crate) fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let ObservedDatagram { at, source, dst_ip, bytes, counter, drop_reason, mistake } = datagram;
        let at = self.clock.unix_ns_at(at);
        let at = Time::from_nanos(at.cast_unsigned());
        let stored = ObservedDatagram { at, source, dst_ip, bytes: &[], counter, drop_reason, mistake };
        let mut batch = lock(&self.batch);
        if size_of_val(&*batch.datagrams) + batch.bytes.len() + bytes.len() < MAX_BATCH_BYTES {
            batch.datagrams.push((stored, bytes.len()));
            batch.bytes.extend_from_slice(bytes);
        } else {
            batch.dropped += 1;
        }
    }
}

/// Creates the directory `record` and the file `capture`, and starts the writing thread, which ends after the queue was dropped and
/// returns which files are incomplete, and why. `port` and `clock` are those of the server.
pub(crate) fn spawn(
    record: Option<&Path>,
    capture: Option<&Path>,
    port: u16,
    clock: WallClock,
) -> anyhow::Result<(SourceQueue, Worker<Vec<String>>)> {
    if let Some(folder) = record {
        // A name that no file has, to check that files can be created.
        let file = folder.join(format!(".jamjam-dev.{}", std::process::id()));
        let prepared = fs::create_dir_all(folder).and_then(|()| files::prepare(&file));
        prepared.with_context(|| format!("cannot write recordings to {}", folder.display()))?;
    }
    let mut recorder = record.map(SourceRecorder::new);
    let error = || capture.map(|path| format!("cannot write the capture to {}", path.display())).unwrap_or_default();
    let mut capture = capture.map(|path| Capture::create(path, port)).transpose().with_context(error)?;
    let queue = SourceQueue { batch: Arc::default(), clock };
    let shared = Arc::clone(&queue.batch);
    let write = move || {
        let (mut dropped, mut is_last) = (0, false);
        let mut batch = Batch::default();
        while !is_last {
            std::thread::sleep(POLL_INTERVAL);
            // When the queue was dropped, nothing follows this batch.
            is_last = Arc::strong_count(&shared) == 1;
            std::mem::swap(&mut batch, &mut lock(&shared));
            let mut rest = &*batch.bytes;
            for (datagram, len) in batch.datagrams.drain(..) {
                let datagram = ObservedDatagram { bytes: rest.split_off(..len).unwrap_or_default(), ..datagram };
                if let Some(recorder) = &mut recorder {
                    recorder.on_datagram(datagram);
                }
                if let Some(capture) = &mut capture {
                    capture.on_datagram(datagram);
                }
            }
            if let Some(recorder) = &mut recorder {
                recorder.finish_silent(MAX_SILENCE);
            }
            batch.bytes.clear();
            dropped += std::mem::take(&mut batch.dropped);
        }
        if dropped > 0 {
            warn!(target: "echo", dropped, "the disk was too slow: packets are missing from the recordings and the capture");
        }
        let mut incomplete = recorder.map(SourceRecorder::finish).unwrap_or_default();
        incomplete.extend(capture.and_then(|capture| capture.error));
        incomplete
    };
    Ok((queue, Worker::spawn("source-files", write).context("cannot start a thread")?))
}
