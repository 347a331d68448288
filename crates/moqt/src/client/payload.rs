//! Frame payloads of a client run. Generated payloads are computed from the frame number, so that a returned frame can be checked without a
//! copy of the sent one. Other payloads come from a queue of texts that the user types.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::sent_frames::GROUP_WINDOW;
use jamjam_core::impairment::splitmix64;
use jamjam_core::time::Time;

use jamjam_core::lock::lock;

/// Interval between polls of the text queue.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum number of texts in the queue of [`FramePayload::queue`].
pub const TEXT_QUEUE_CAPACITY: usize = 1_024;

/// Payload of the frames of a run.
#[derive(Clone, Debug)]
pub enum FramePayload {
    /// One of these texts per frame, in turn; the list is not empty.
    Texts(Vec<Bytes>),
    /// This many pseudo-random bytes, different in each frame.
    Random(usize),
    /// Texts from a queue, one frame each. Clones share the queue.
    Queue(Arc<Mutex<Receiver<Bytes>>>),
}

impl FramePayload {
    /// Creates a queue of texts. The run ends when the sender is dropped and all texts are sent.
    pub fn queue() -> (SyncSender<Bytes>, Self) {
        let (sender, texts) = sync_channel(TEXT_QUEUE_CAPACITY);
        (sender, Self::Queue(Arc::new(Mutex::new(texts))))
    }
}

/// State of the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextFrame {
    /// The frame can be sent.
    Ready,
    /// The text queue is open, but contains no payload for the next frame yet. Poll the queue again at this time.
    RetryAt(Time),
    /// There are no more frames.
    Exhausted,
}

/// The frames of a run, in order.
#[derive(Debug)]
pub(super) struct FrameSource {
    payload: FramePayload,
    /// Total number of frames; `None` means unlimited.
    frame_count: Option<u64>,
    /// The texts most recently taken from the queue. Frames with these texts may still return. The first text belongs to the frame
    /// `first_queued`.
    queued: VecDeque<Bytes>,
    first_queued: u64,
    /// When to poll the queue again; `None` after it was closed.
    poll_at: Option<Time>,
}

impl FrameSource {
    /// Creates a source of `frame_count` frames of `payload`; `None` means unlimited.
    pub(super) fn new(payload: FramePayload, frame_count: Option<u64>) -> Self {
        Self { payload, frame_count, queued: VecDeque::new(), first_queued: 0, poll_at: Some(Time::ZERO) }
    }

    /// If `frame` has no text yet, takes the next text from the text queue. Returns whether the queue supplied a text.
    pub(super) fn poll_queue(&mut self, frame: u64, now: Time) -> bool {
        let FramePayload::Queue(queue) = &self.payload else { return false };
        if self.next_frame(frame) == NextFrame::Ready || self.poll_at.is_none() {
            return false;
        }
        match lock(queue).try_recv() {
            Ok(text) => {
                if self.queued.len() == GROUP_WINDOW {
                    self.queued.pop_front();
                    self.first_queued += 1;
                }
                self.queued.push_back(text);
                return true;
            }
            Err(TryRecvError::Empty) => self.poll_at = Some(now + POLL_INTERVAL),
            Err(TryRecvError::Disconnected) => self.poll_at = None,
        }
        false
    }

    /// Whether this frame can be sent.
    pub(super) fn next_frame(&self, frame: u64) -> NextFrame {
        match &self.payload {
            _ if self.frame_count.is_some_and(|frames| frame >= frames) => NextFrame::Exhausted,
            FramePayload::Queue(_) if frame >= self.first_queued + self.queued.len() as u64 => {
                self.poll_at.map_or(NextFrame::Exhausted, NextFrame::RetryAt)
            }
            _ => NextFrame::Ready,
        }
    }

    /// The payload of a frame; `None` if it is not queued yet or no longer kept. Frames are counted from 0 over all groups.
    pub(super) fn bytes_of(&self, frame: u64) -> Option<Bytes> {
        match &self.payload {
            FramePayload::Texts(texts) => texts.get((frame % texts.len() as u64) as usize).cloned(),
            FramePayload::Random(size) => {
                let words = (0..size.div_ceil(8) as u64).map(|word| splitmix64(0, frame << 20 ^ word));
                Some(words.flat_map(u64::to_be_bytes).take(*size).collect())
            }
            FramePayload::Queue(_) => {
                self.queued.get(usize::try_from(frame.checked_sub(self.first_queued)?).ok()?).cloned()
            }
        }
    }
}
