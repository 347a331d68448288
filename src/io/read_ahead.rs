//! Reads audio ahead on a thread of its own, so that a slow disk does not delay packets.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};

use crate::audio::convert::PayloadReader;
use crate::audio::quality::SourceQuality;
use crate::audio::wav::WavError;
use crate::client::{PayloadSource, SourcePoll};
use crate::io::worker::Worker;

/// Number of packets read ahead: 0.7 s at 375 packets per second.
const QUEUE_CAPACITY: usize = 256;

/// A payload and the quality of the input up to the end of this payload.
struct QueuedPayload {
    payload: Vec<u8>,
    source_quality: SourceQuality,
}

/// The payloads that were read ahead, for the sending node.
pub(crate) struct ReadAhead {
    /// The first payload; `None` after the node has taken it.
    first: Option<QueuedPayload>,
    payloads: Receiver<QueuedPayload>,
    free_buffers: SyncSender<Vec<u8>>,
    /// Quality of the input up to the last payload that was taken.
    source_quality: SourceQuality,
}

/// The reading thread, which returns the warning of [`PayloadReader::warning`] or the read error. Drop the [`ReadAhead`] before joining it.
pub(crate) type ReaderThread = Worker<Result<Option<String>, WavError>>;

/// Starts a thread that reads from `reader`. Returns when the thread has filled the queue for the first time, or the input has ended.
pub(crate) fn spawn<R: Read + Send + 'static>(mut reader: PayloadReader<R>) -> io::Result<(ReadAhead, ReaderThread)> {
    let (queue, payloads) = mpsc::sync_channel(QUEUE_CAPACITY);
    let (free_buffers, buffers) = mpsc::sync_channel::<Vec<u8>>(QUEUE_CAPACITY);
    let (queue_full_tx, queue_full) = mpsc::channel::<()>();
    let source_quality = reader.source_quality();
    let thread = Worker::spawn("read-ahead", move || {
        let mut queue_full_tx = Some(queue_full_tx);
        for count in 0.. {
            let mut payload = buffers.try_recv().unwrap_or_default();
            payload.clear();
            if !reader.next_payload(&mut payload)?
                || queue.send(QueuedPayload { payload, source_quality: reader.source_quality() }).is_err()
            {
                break;
            }
            if count + 1 == QUEUE_CAPACITY {
                queue_full_tx = None;
            }
        }
        drop(queue_full_tx);
        Ok(reader.warning().map(str::to_owned))
    })?;
    // Waits until the thread drops the sender: when the queue is full, the input ends or an error occurs.
    let _ = queue_full.recv();
    let first = payloads.recv().ok();
    Ok((ReadAhead { first, payloads, free_buffers, source_quality }, thread))
}

impl ReadAhead {
    /// Whether the input has no payload at all. The result is valid only before the first payload is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl PayloadSource for ReadAhead {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        match self.first.take().map_or_else(|| self.payloads.try_recv(), Ok) {
            Ok(queued) => {
                payload.extend_from_slice(&queued.payload);
                self.source_quality = queued.source_quality;
                // A buffer that does not fit is dropped: there are enough.
                let _ = self.free_buffers.try_send(queued.payload);
                SourcePoll::Ready
            }
            Err(TryRecvError::Empty) => SourcePoll::Pending,
            Err(TryRecvError::Disconnected) => SourcePoll::End,
        }
    }

    fn source_quality(&self) -> Option<SourceQuality> {
        Some(self.source_quality)
    }
}
