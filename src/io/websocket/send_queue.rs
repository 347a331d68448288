//! Outbound queue of one connection. The queue is bounded in messages and bytes. All connections share a byte budget.
//!
//! The hub fills a queue under the hub's lock. The connection's task empties the queue. A full queue drops superseded updates before the
//! queue overflows. A superseded update is a frame with an older value of the same [`UpdateKey`]. The connection of a queue that overflows
//! is closed with 1013 (`evict` in `io/signaling/shared_hub.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use axum::body::Bytes;

use crate::memory_budget::ConnectionMemory;
use crate::signaling::{CloseCode, UpdateKey};

/// Limits on the outbound queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQueueLimits {
    /// Maximum number of queued messages per connection.
    pub max_messages: usize,
    /// Maximum number of queued bytes per connection.
    pub max_bytes: usize,
    /// Maximum number of queued bytes of all connections together, including received messages that are incomplete.
    pub budget_bytes: u64,
    /// Maximum number of queued messages per connection before superseded updates are dropped.
    pub max_updates: usize,
}

impl Default for SendQueueLimits {
    /// 4,096 messages or 16 MiB per connection, and 512 MiB in total. When 256 or more messages are queued, superseded updates are dropped.
    fn default() -> Self {
        Self { max_messages: 4_096, max_bytes: 16 << 20, budget_bytes: 512 << 20, max_updates: 256 }
    }
}

/// The limits and the bytes used by all queues.
#[derive(Debug)]
pub(in crate::io) struct QueueBudget {
    pub(in crate::io) limits: SendQueueLimits,
    pub(in crate::io) used_bytes: AtomicU64,
}

impl QueueBudget {
    pub(in crate::io) fn new(limits: SendQueueLimits) -> Arc<Self> {
        Arc::new(Self { limits, used_bytes: AtomicU64::new(0) })
    }

    /// Whether the queues use more than the budget.
    pub(in crate::io) fn is_exceeded(&self) -> bool {
        self.used_bytes() > self.limits.budget_bytes
    }

    /// Bytes queued on all connections, and bytes of incomplete received messages.
    pub(in crate::io) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

/// Bytes that are charged to the memory budget for each queued frame in addition to its own bytes: its queue entry and its shared buffer.
const FRAME_OVERHEAD: usize = 128;

/// How a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::io) struct PendingClose {
    /// Code of the close frame, if it has one.
    pub(in crate::io) code: Option<CloseCode>,
    /// Reason in the close frame.
    pub(in crate::io) reason: String,
    /// Maximum time for the closing handshake. Zero: the connection ends without a close frame.
    pub(in crate::io) timeout: Duration,
}

/// Why a frame does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum QueueFull {
    /// The queue limit of this connection is reached.
    Connection,
    /// The budget of all queues is used up.
    Budget,
    /// The source address holds its share of the memory budget.
    Memory,
}

/// The next data that the connection writes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::io) enum NextWrite {
    /// Write these frames, of which the last may be incomplete. The first `written` bytes of the first frame have already been sent.
    Frames { frames: Vec<Bytes>, written: usize },
    /// Nothing to write now. The waker is called when there is something to write.
    Empty,
    /// The close frame, which is the last frame.
    Close(PendingClose),
}

/// Outbound queue of one connection: filled under the hub's lock, emptied by the connection's task. A frame stays in the queue
/// until its last byte was written.
#[derive(Debug)]
pub(in crate::io) struct SendQueue {
    inner: Mutex<SendQueueState>,
    budget: Arc<QueueBudget>,
    memory: ConnectionMemory,
}

#[derive(Debug, Default)]
struct SendQueueState {
    frames: FrameQueue,
    /// Bytes received so far of an incomplete message.
    partial_message_bytes: usize,
    /// The waiting writer and the event that it waits for.
    writer: Option<(Waker, WakeOn)>,
    close: CloseState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WakeOn {
    Anything,
    /// The socket accepts no data now. A new frame does not wake the writer, but a close does.
    CloseOnly,
}

#[derive(Debug, Default)]
enum CloseState {
    #[default]
    Open,
    Pending(PendingClose),
    /// The writer has received the request to close.
    Taken,
}

impl SendQueue {
    pub(in crate::io) fn new(budget: Arc<QueueBudget>, memory: ConnectionMemory) -> Self {
        Self { inner: Mutex::default(), budget, memory }
    }

    /// The address that the queue's memory is charged to.
    pub(in crate::io) fn source(&self) -> IpAddr {
        self.memory.source()
    }

    /// Releases `bytes` of `frames` frames. An incomplete message is not a frame.
    fn release(&self, bytes: usize, frames: usize) {
        self.budget.used_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.memory.shrink((bytes + frames * FRAME_OVERHEAD) as u64);
    }

    /// Appends a frame. After a close, the frame is dropped silently.
    pub(in crate::io) fn push(&self, frame: Bytes) -> Result<(), QueueFull> {
        self.append(self.lock(), frame, None)
    }

    /// Appends an update that supersedes earlier frames with the same key. If the queue is full, superseded frames are dropped
    /// first. Returns the number of dropped frames.
    pub(in crate::io) fn push_update(&self, frame: Bytes, key: UpdateKey) -> Result<usize, QueueFull> {
        let mut inner = self.lock();
        if !matches!(inner.close, CloseState::Open) {
            return Ok(0);
        }
        let SendQueueLimits { max_bytes, max_updates, .. } = self.budget.limits;
        let mut dropped = 0;
        while inner.frames.len() >= max_updates || inner.frames.bytes() + frame.len() > max_bytes {
            let Some(len) = inner.frames.coalesce(key) else { break };
            self.release(len, 1);
            dropped += 1;
        }
        self.append(inner, frame, Some(key)).map(|()| dropped)
    }

    fn append(
        &self,
        mut inner: MutexGuard<'_, SendQueueState>,
        frame: Bytes,
        key: Option<UpdateKey>,
    ) -> Result<(), QueueFull> {
        if !matches!(inner.close, CloseState::Open) {
            return Ok(());
        }
        let SendQueueLimits { max_messages, max_bytes, budget_bytes, .. } = self.budget.limits;
        let len = frame.len() as u64;
        // A frame larger than the whole budget closes its own connection. Closing other connections would not make the frame fit.
        if inner.frames.len() >= max_messages || inner.frames.bytes() + frame.len() > max_bytes || len > budget_bytes {
            return Err(QueueFull::Connection);
        }
        if self.budget.used_bytes.fetch_add(len, Ordering::Relaxed) + len > budget_bytes {
            self.budget.used_bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(QueueFull::Budget);
        }
        if self.memory.grow(len + FRAME_OVERHEAD as u64).is_err() {
            self.budget.used_bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(QueueFull::Memory);
        }
        inner.frames.push(frame, key);
        if matches!(inner.writer, Some((_, WakeOn::Anything))) {
            wake_writer(inner);
        }
        Ok(())
    }

    /// Closes the connection after the queued frames. Only the first close counts.
    pub(in crate::io) fn close(&self, close: PendingClose) {
        self.set_close(close, false);
    }

    /// Closes the connection now and discards queued frames, except a frame that is partly written. Returns the number of
    /// discarded frames.
    pub(in crate::io) fn close_discarding(&self, close: PendingClose) -> usize {
        self.set_close(close, true)
    }

    fn set_close(&self, close: PendingClose, discard: bool) -> usize {
        let mut inner = self.lock();
        if !matches!(inner.close, CloseState::Open) {
            return 0;
        }
        inner.close = CloseState::Pending(close);
        let mut discarded = 0;
        if discard {
            let (frames, bytes) = inner.frames.discard_unsent();
            // The connection's task frees the incomplete received message only when the task runs next. However, the bytes of this
            // message no longer count against the shared budget.
            let partial = std::mem::take(&mut inner.partial_message_bytes);
            self.release(bytes, frames);
            self.memory.close();
            self.budget.used_bytes.fetch_sub(partial as u64, Ordering::Relaxed);
            discarded = frames;
        }
        wake_writer(inner);
        discarded
    }

    /// A requested close is pending until the writer receives it. If a close is pending, returns the maximum time for the closing
    /// handshake. If no close is pending, returns `None`, and a later close wakes `writer`.
    pub(in crate::io) fn poll_pending_close(&self, writer: &Waker) -> Option<Duration> {
        let mut inner = self.lock();
        // The caller writes nothing now, because the socket accepts no data.
        inner.frames.release_borrowed();
        if let CloseState::Pending(close) = &inner.close {
            return Some(close.timeout);
        }
        inner.writer = Some((writer.clone(), WakeOn::CloseOnly));
        None
    }

    /// Queued bytes.
    pub(in crate::io) fn queued_bytes(&self) -> usize {
        self.lock().frames.bytes()
    }

    /// Queued bytes and bytes of an incomplete received message.
    pub(in crate::io) fn charged_bytes(&self) -> usize {
        let inner = self.lock();
        inner.frames.bytes() + inner.partial_message_bytes
    }

    /// Sets the size of the incomplete received message. The bytes of this message count against the shared budget. Bytes above that
    /// budget also count, but [`QueueFull::Budget`] is returned. If the memory budget refuses the bytes, they do not count, and
    /// [`QueueFull::Memory`] is returned. If the connection is closing, the bytes do not count, and [`QueueFull::Connection`] is returned.
    pub(in crate::io) fn charge_partial_message(&self, bytes: usize) -> Result<(), QueueFull> {
        let mut inner = self.lock();
        let is_open = matches!(inner.close, CloseState::Open);
        let bytes = if is_open { bytes } else { 0 };
        let before = inner.partial_message_bytes;
        if bytes > before && self.memory.grow((bytes - before) as u64).is_err() {
            return Err(QueueFull::Memory);
        }
        inner.partial_message_bytes = bytes;
        if bytes <= before {
            self.release(before - bytes, 0);
        } else {
            let more = (bytes - before) as u64;
            let total = self.budget.used_bytes.fetch_add(more, Ordering::Relaxed) + more;
            if total > self.budget.limits.budget_bytes {
                return Err(QueueFull::Budget);
            }
        }
        if is_open { Ok(()) } else { Err(QueueFull::Connection) }
    }

    /// What to write next: at most `max_frames` frames and `max_bytes` bytes, both at least 1. If there is nothing to write, `writer` is
    /// woken as soon as there is.
    pub(in crate::io) fn next_write(&self, max_frames: usize, max_bytes: usize, writer: &Waker) -> NextWrite {
        let mut inner = self.lock();
        if let Some((frames, written)) = inner.frames.borrow_front(max_frames, max_bytes) {
            return NextWrite::Frames { frames, written };
        }
        if let CloseState::Pending(_) = inner.close
            && let CloseState::Pending(close) = std::mem::replace(&mut inner.close, CloseState::Taken)
        {
            return NextWrite::Close(close);
        }
        inner.writer = Some((writer.clone(), WakeOn::Anything));
        NextWrite::Empty
    }

    /// Marks the next `bytes` bytes of the queue as written.
    pub(in crate::io) fn advance(&self, bytes: usize) {
        let mut inner = self.lock();
        let before = inner.frames.len();
        let done = inner.frames.advance(bytes);
        let frames = before - inner.frames.len();
        drop(inner);
        self.release(done, frames);
    }

    fn lock(&self) -> MutexGuard<'_, SendQueueState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the writer if it is waiting.
fn wake_writer(mut inner: MutexGuard<'_, SendQueueState>) {
    let writer = inner.writer.take();
    drop(inner);
    if let Some((writer, _)) = writer {
        writer.wake();
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.charged_bytes() as u64, Ordering::Relaxed);
    }
}

/// Capacity that an empty queue keeps, so that an idle connection stays small after a burst.
const IDLE_CAPACITY: usize = 4;

/// Queued frames, oldest first. A partly written frame remains in the queue until its last byte has been written.
#[derive(Debug, Default)]
struct FrameQueue {
    frames: VecDeque<QueuedFrame>,
    /// Keys of queued updates. This map avoids a search of the queue if no frame is superseded.
    update_keys: BTreeMap<UpdateKey, UpdateKeyEntry>,
    /// Number of superseded frames.
    superseded: u32,
    /// Bytes of the first frame that have been written.
    written_bytes: usize,
    /// Number of frames at the front that are being written now and cannot be dropped.
    borrowed: u32,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct QueuedFrame {
    bytes: Bytes,
    update_key: Option<UpdateKey>,
    /// Sequence number in order of arrival.
    number: u64,
}

/// The queued frames with one key.
#[derive(Debug)]
struct UpdateKeyEntry {
    frames: usize,
    /// Sequence number of the oldest queued frame with this key.
    oldest: u64,
}

impl FrameQueue {
    /// Number of queued frames.
    pub(in crate::io) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of queued frames.
    pub(in crate::io) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame. The new frame supersedes earlier frames with the same key.
    pub(in crate::io) fn push(&mut self, bytes: Bytes, update_key: Option<UpdateKey>) {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += bytes.len();
        if let Some(key) = update_key {
            let entry = self.update_keys.entry(key).or_insert(UpdateKeyEntry { frames: 0, oldest: number });
            self.superseded += u32::from(entry.frames > 0);
            entry.frames += 1;
        }
        self.frames.push_back(QueuedFrame { bytes, update_key, number });
    }

    /// The first frames, up to `max_frames` and `max_bytes` unwritten bytes, and how many bytes of the first frame have been written. The
    /// frames are pinned until [`FrameQueue::advance`] or [`FrameQueue::release_borrowed`] is called.
    fn borrow_front(&mut self, max_frames: usize, max_bytes: usize) -> Option<(Vec<Bytes>, usize)> {
        let mut left = self.written_bytes + max_bytes;
        let mut borrowed = Vec::new();
        for QueuedFrame { bytes, .. } in self.frames.iter().take(max_frames) {
            borrowed.extend((left > 0).then(|| bytes.slice(..bytes.len().min(left))));
            left = left.saturating_sub(bytes.len());
        }
        self.borrowed = borrowed.len() as u32;
        if borrowed.is_empty() {
            self.frames.shrink_to(IDLE_CAPACITY);
        }
        (!borrowed.is_empty()).then_some((borrowed, self.written_bytes))
    }

    /// Records that `bytes` more bytes were written. Removes the completely written frames and returns their total length.
    pub(in crate::io) fn advance(&mut self, bytes: usize) -> usize {
        self.borrowed = 0;
        self.written_bytes += bytes;
        let before = self.bytes;
        while self.frames.front().is_some_and(|frame| frame.bytes.len() <= self.written_bytes) {
            self.written_bytes -= self.remove(0);
        }
        before - self.bytes
    }

    /// Records that no queued frame is being written now.
    fn release_borrowed(&mut self) {
        self.borrowed = 0;
    }

    /// Number of frames at the front that must stay, because they are or may be partly written.
    fn pinned(&self) -> usize {
        (self.borrowed as usize).max(usize::from(self.written_bytes > 0)).min(self.frames.len())
    }

    /// Drops one superseded frame that is not pinned and returns its length. If the queue contains frames with the key `incoming`, the
    /// oldest of these frames is dropped. If not, the oldest frame that has been superseded by another queued frame is dropped.
    fn coalesce(&mut self, incoming: UpdateKey) -> Option<usize> {
        let pinned = self.pinned();
        let index = self.oldest_unpinned(incoming, pinned).or_else(|| {
            if self.superseded == 0 {
                return None;
            }
            let is_superseded = |index: usize| {
                let QueuedFrame { update_key, number, .. } = &self.frames[index];
                let last = |key| self.frames.iter().rev().find(|frame| frame.update_key == Some(key));
                update_key.is_some_and(|key| {
                    self.update_keys.get(&key).is_some_and(|entry| entry.frames > 1)
                        && last(key).is_some_and(|last| last.number != *number)
                })
            };
            (pinned..self.frames.len()).find(|index| is_superseded(*index))
        })?;
        Some(self.remove(index))
    }

    /// Index of the oldest frame with `key` that is not pinned.
    fn oldest_unpinned(&self, key: UpdateKey, pinned: usize) -> Option<usize> {
        let UpdateKeyEntry { frames, oldest } = self.update_keys.get(&key)?;
        let index = self.frames.binary_search_by_key(oldest, |frame| frame.number).ok()?;
        if index < pinned && *frames == 1 {
            return None;
        }
        (index.max(pinned)..self.frames.len()).find(|index| self.frames[*index].update_key == Some(key))
    }

    /// Removes a frame. Returns the length of the frame.
    fn remove(&mut self, index: usize) -> usize {
        let Some(QueuedFrame { bytes, update_key, number }) = self.frames.remove(index) else { return 0 };
        self.bytes -= bytes.len();
        if let Some(key) = update_key
            && let Some(entry) = self.update_keys.get_mut(&key)
        {
            entry.frames -= 1;
            if entry.frames == 0 {
                self.update_keys.remove(&key);
            } else {
                self.superseded -= 1;
                if entry.oldest == number {
                    let next = self.frames.iter().skip(index).find(|frame| frame.update_key == Some(key));
                    entry.oldest = next.map_or(number, |frame| frame.number);
                }
            }
        }
        bytes.len()
    }

    /// Drops all frames that are not pinned. Returns the number of frames dropped and their total bytes.
    fn discard_unsent(&mut self) -> (usize, usize) {
        let (pinned, before) = (self.pinned(), self.bytes);
        let discarded = self.frames.len() - pinned;
        while self.frames.len() > pinned {
            self.remove(self.frames.len() - 1);
        }
        (discarded, before - self.bytes)
    }
}

/// A queue without a memory limit.
#[cfg(test)]
pub(in crate::io) fn new_queue(budget: &Arc<QueueBudget>) -> SendQueue {
    let memory = ConnectionMemory::open(&Arc::default(), IpAddr::from([192, 0, 2, 1]), 0);
    SendQueue::new(Arc::clone(budget), memory.expect("no limit"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn pending_close(code: CloseCode) -> PendingClose {
        PendingClose { code: Some(code), reason: String::new(), timeout: Duration::ZERO }
    }

    fn queue(max_messages: usize, max_bytes: usize, budget_bytes: u64) -> (SendQueue, Arc<QueueBudget>) {
        let budget = QueueBudget::new(SendQueueLimits { max_messages, max_bytes, budget_bytes, max_updates: 2 });
        (new_queue(&budget), budget)
    }

    fn next(queue: &SendQueue) -> NextWrite {
        queue.next_write(64, 1_000, Waker::noop())
    }

    fn frames(texts: &[&'static str], written: usize) -> NextWrite {
        NextWrite::Frames { frames: texts.iter().map(|text| Bytes::from(*text)).collect(), written }
    }

    #[test]
    fn frames_queued_before_the_close_are_written_first() {
        let (queue, budget) = queue(9, 99, 99);
        assert_eq!(next(&queue), NextWrite::Empty);
        assert_eq!(queue.push("abc".into()), Ok(()));
        assert_eq!(queue.push("de".into()), Ok(()));
        queue.close(pending_close(CloseCode::NORMAL_CLOSURE));
        queue.close(pending_close(CloseCode::GOING_AWAY));
        assert_eq!(queue.push("late".into()), Ok(()));
        assert_eq!(next(&queue), frames(&["abc", "de"], 0));
        queue.advance(2);
        assert_eq!((next(&queue), budget.used_bytes()), (frames(&["abc", "de"], 2), 5));
        queue.advance(2);
        assert_eq!((next(&queue), budget.used_bytes()), (frames(&["de"], 1), 2));
        queue.advance(1);
        assert_eq!(queue.poll_pending_close(Waker::noop()), Some(Duration::ZERO));
        assert_eq!(
            (next(&queue), budget.used_bytes()),
            (NextWrite::Close(pending_close(CloseCode::NORMAL_CLOSURE)), 0)
        );
        assert_eq!((next(&queue), queue.poll_pending_close(Waker::noop())), (NextWrite::Empty, None));
    }

    #[test]
    fn limits_hold_and_a_discarding_close_keeps_only_the_started_frame() {
        let (queue, budget) = queue(3, 6, 99);
        assert!((0..3).all(|_| queue.push("a".into()).is_ok()));
        assert_eq!(queue.push("b".into()), Err(QueueFull::Connection));
        queue.advance(3);
        assert!(queue.push("abc".into()).is_ok() && queue.push("def".into()).is_ok());
        assert_eq!(queue.push("g".into()), Err(QueueFull::Connection));
        queue.advance(1);
        assert_eq!(queue.close_discarding(pending_close(CloseCode::TRY_AGAIN_LATER)), 1);
        assert_eq!((next(&queue), budget.used_bytes()), (frames(&["abc"], 1), 3));
        queue.advance(2);
        assert_eq!(
            (next(&queue), budget.used_bytes()),
            (NextWrite::Close(pending_close(CloseCode::TRY_AGAIN_LATER)), 0)
        );
    }

    #[test]
    fn budget_holds_for_all_queues_and_is_returned_on_drop() {
        let (one, budget) = queue(9, 6, 10);
        let other = new_queue(&budget);
        assert!(one.push("abcdef".into()).is_ok() && other.push("abcd".into()).is_ok());
        assert_eq!(other.push("e".into()), Err(QueueFull::Budget));
        assert_eq!(budget.used_bytes(), 10);
        drop(one);
        assert_eq!((other.push("e".into()), budget.used_bytes()), (Ok(()), 5));
        assert_eq!((other.close_discarding(pending_close(CloseCode::TRY_AGAIN_LATER)), budget.used_bytes()), (2, 0));
    }

    #[test]
    fn full_queue_coalesces_updates_and_keeps_the_newest() {
        let (queue, budget) = queue(9, 99, 99);
        let key = |number| UpdateKey(std::num::NonZeroU64::new(number).expect("not 0"));
        let push_update = |text: &'static str, number| queue.push_update(text.into(), key(number));
        assert_eq!([push_update("a1", 1), push_update("b1", 2)], [Ok(0), Ok(0)]);
        // No queued update is superseded, so none may be dropped.
        assert_eq!(push_update("c1", 3), Ok(0));
        // Each newer value replaces the older value of the same key. The updates have three keys, one more than the limit.
        assert_eq!([push_update("a2", 1), push_update("a3", 1), push_update("b2", 2)], [Ok(1), Ok(1), Ok(1)]);
        assert_eq!((next(&queue), budget.used_bytes()), (frames(&["c1", "a3", "b2"], 0), 6));
    }

    fn update_key(number: u64) -> UpdateKey {
        UpdateKey(NonZeroU64::new(number).expect("not 0"))
    }

    /// A queue with these frames. Each item is the text of a frame and its key. If the key is 0, the frame has no key.
    fn frame_queue(frames: &[(&'static str, u64)]) -> FrameQueue {
        let mut queue = FrameQueue::default();
        for (text, number) in frames {
            queue.push(Bytes::from(*text), (*number > 0).then(|| update_key(*number)));
        }
        queue
    }

    fn texts(queue: &FrameQueue) -> Vec<&str> {
        queue.frames.iter().map(|frame| std::str::from_utf8(&frame.bytes).expect("text")).collect()
    }

    #[test]
    fn same_key_is_coalesced_first_then_the_oldest_superseded_frame() {
        let mut queue = frame_queue(&[("b1", 2), ("a1", 1), ("x", 0), ("b2", 2), ("a2", 1), ("b3", 2), ("c1", 3)]);
        assert_eq!(queue.coalesce(update_key(1)), Some(2));
        assert_eq!(texts(&queue), ["b1", "x", "b2", "a2", "b3", "c1"]);
        assert_eq!(queue.coalesce(update_key(9)), Some(2));
        assert_eq!(texts(&queue), ["x", "b2", "a2", "b3", "c1"]);
        assert_eq!(queue.coalesce(update_key(9)), Some(2));
        assert_eq!(texts(&queue), ["x", "a2", "b3", "c1"]);
        assert_eq!((queue.coalesce(update_key(9)), queue.bytes(), queue.len()), (None, 7, 4));
        assert_eq!(queue.coalesce(update_key(3)), Some(2));
        assert_eq!(texts(&queue), ["x", "a2", "b3"]);
    }

    #[test]
    fn borrowed_frames_are_never_coalesced() {
        let mut queue = frame_queue(&[("a1", 1), ("a2", 1), ("a3", 1)]);
        assert_eq!(queue.borrow_front(2, 1_000).map(|(frames, written)| (frames.len(), written)), Some((2, 0)));
        assert_eq!(queue.coalesce(update_key(1)), Some(2));
        assert_eq!(queue.coalesce(update_key(1)), None);
        assert_eq!(texts(&queue), ["a1", "a2"]);
        // One byte of the first frame is written.
        assert_eq!(queue.advance(1), 0);
        assert_eq!(queue.coalesce(update_key(1)), Some(2));
        assert_eq!(queue.coalesce(update_key(1)), None);
        assert_eq!(texts(&queue), ["a1"]);
        assert_eq!((queue.discard_unsent(), queue.advance(1), queue.len(), queue.bytes()), ((0, 0), 2, 0, 0));
    }

    #[test]
    fn borrowed_frames_are_limited_in_bytes_and_may_be_released() {
        let mut queue = frame_queue(&[("aaaa", 0), ("bb", 1), ("cc", 0)]);
        assert_eq!(queue.borrow_front(64, 5), Some((vec!["aaaa".into(), "b".into()], 0)));
        assert_eq!((queue.discard_unsent(), queue.advance(4)), ((1, 2), 4));
        queue.borrow_front(64, 9);
        assert_eq!(queue.discard_unsent(), (0, 0));
        queue.release_borrowed();
        assert_eq!((queue.coalesce(update_key(1)), queue.len(), queue.bytes()), (Some(2), 0, 0));
    }

    /// Reference implementation that searches without an index. It represents each frame only by the length and key of the frame.
    #[derive(Default)]
    struct ReferenceQueue {
        frames: Vec<(usize, u64)>,
        written: usize,
        borrowed: usize,
    }

    impl ReferenceQueue {
        fn coalesce(&mut self, incoming: u64) -> Option<usize> {
            let pinned = self.borrowed.max(usize::from(self.written > 0));
            let free = pinned..self.frames.len();
            let newer = |index: usize| self.frames[index + 1..].iter().any(|frame| frame.1 == self.frames[index].1);
            let same_key = free.clone().find(|index| self.frames[*index].1 == incoming);
            let index = same_key.or_else(|| free.clone().find(|index| self.frames[*index].1 > 0 && newer(*index)))?;
            Some(self.frames.remove(index).0)
        }

        fn advance(&mut self, bytes: usize) -> usize {
            (self.borrowed, self.written) = (0, self.written + bytes);
            let mut done = 0;
            while self.frames.first().is_some_and(|frame| frame.0 <= self.written) {
                let (len, _) = self.frames.remove(0);
                (self.written, done) = (self.written - len, done + len);
            }
            done
        }
    }

    proptest! {
        #[test]
        fn coalesced_frame_equals_the_reference_search(
            actions in prop::collection::vec((0u8..8, 1usize..9, 0u64..5), 1..120),
        ) {
            let (mut queue, mut reference) = (FrameQueue::default(), ReferenceQueue::default());
            for (action, size, number) in actions {
                match action {
                    0..=3 => {
                        queue.push(vec![b'x'; size].into(), (number > 0).then(|| update_key(number)));
                        reference.frames.push((size, number));
                    }
                    4 | 5 if number > 0 => prop_assert_eq!(queue.coalesce(update_key(number)), reference.coalesce(number)),
                    6 => {
                        queue.borrow_front(size, 1_000);
                        reference.borrowed = reference.frames.len().min(size);
                    }
                    _ => {
                        // Advance by at most the number of borrowed bytes.
                        let borrowed: usize = reference.frames.iter().take(reference.borrowed).map(|frame| frame.0).sum();
                        let bytes = size.min(borrowed.saturating_sub(reference.written));
                        prop_assert_eq!(queue.advance(bytes), reference.advance(bytes));
                    }
                }
                let left: Vec<_> = queue.frames.iter().map(|frame| frame.bytes.len()).collect();
                prop_assert_eq!(left, reference.frames.iter().map(|frame| frame.0).collect::<Vec<_>>());
                prop_assert_eq!(queue.bytes(), reference.frames.iter().map(|frame| frame.0).sum::<usize>());
            }
        }
    }
}
