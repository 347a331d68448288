//! Outbound queue of one connection. The queue is bounded in messages and bytes. All connections share a byte budget.
//!
//! The hub fills a queue under the hub's lock. The connection's task empties the queue. A full queue drops superseded updates before the
//! queue overflows. A superseded update is a frame with an older value of the same [`UpdateKey`]. The connection of a queue that overflows
//! is closed (`evict` in `io/signaling/shared_hub.rs`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use axum::body::Bytes;

use super::frame_queue::FrameQueue;
use crate::memory_budget::ConnectionMemory;
use crate::signaling::{CloseCode, UpdateKey};
use crate::time::Time;

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

/// Maximum size of a partly written frame that is still sent when a slow connection is closed. The memory budget no longer counts the frame
/// then, so the connection's own charge must cover it.
const MAX_UNFINISHED_BYTES: usize = 4 << 10;

/// Maximum time for which messages that can wait do wait for a client: in this time, a client that reads takes all queued messages.
const MAX_BACKLOG_AGE: Duration = Duration::from_secs(10);

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

/// The effect of [`SendQueue::close_discarding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct Discarded {
    /// Number of discarded frames.
    pub(in crate::io) frames: usize,
    /// Whether the connection still sends a close frame.
    pub(in crate::io) has_close_frame: bool,
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

/// Outbound queue of one connection.
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
    /// When [`SendQueue::has_room`] found no room, and how many of the frames queued at that time are still queued.
    backlog: Option<(Time, usize)>,
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

    /// Whether a message that can wait may be appended: the queue is empty, or at least half of each limit is free: of the queue, of the
    /// budget, and of the address's share of the memory budget.
    /// Messages do not wait for a client that does not read. The queue of this client then overflows.
    pub(in crate::io) fn has_room(&self, now: Time) -> bool {
        let mut inner = self.lock();
        let SendQueueLimits { max_messages, max_bytes, budget_bytes, .. } = self.budget.limits;
        let (frames, bytes) = (inner.frames.len(), inner.frames.bytes());
        let is_half_free = frames <= max_messages / 2 && bytes <= max_bytes / 2;
        if frames == 0
            || (is_half_free && self.budget.used_bytes() <= budget_bytes / 2 && self.memory.is_half_of_share_free())
        {
            return true;
        }
        let (since, _) = *inner.backlog.get_or_insert((now, frames));
        now >= since + MAX_BACKLOG_AGE
    }

    /// Closes the connection after the queued frames. Only the first close counts.
    pub(in crate::io) fn close(&self, close: PendingClose) {
        self.set_close(|_| close);
    }

    /// Closes the connection after the frame that is partly written. Discards the other queued frames.
    pub(in crate::io) fn close_after_started_frame(&self, close: PendingClose) {
        self.set_close(|inner| {
            let (frames, bytes) = inner.frames.discard_unsent();
            self.release(bytes, frames);
            close
        });
    }

    /// Closes the connection, discards queued frames and releases their memory now. The rest of a partly written frame is still sent, unless
    /// the frame exceeds [`MAX_UNFINISHED_BYTES`]. Then no close frame is sent.
    pub(in crate::io) fn close_discarding(&self, mut close: PendingClose) -> Discarded {
        let mut discarded = Discarded { frames: 0, has_close_frame: true };
        self.set_close(|inner| {
            let (mut frames, mut bytes) = inner.frames.discard_unsent();
            if inner.frames.longest() > MAX_UNFINISHED_BYTES {
                close.timeout = Duration::ZERO;
                let unfinished = std::mem::take(&mut inner.frames);
                (frames, bytes) = (frames + unfinished.len(), bytes + unfinished.bytes());
            }
            // The connection's task frees the incomplete received message only when the task runs next. However, the bytes of this
            // message no longer count against the shared budget.
            let partial = std::mem::take(&mut inner.partial_message_bytes);
            self.release(bytes, frames);
            self.memory.close();
            self.budget.used_bytes.fetch_sub(partial as u64, Ordering::Relaxed);
            discarded = Discarded { frames, has_close_frame: !close.timeout.is_zero() };
            close
        });
        discarded
    }

    /// Requests a close, unless one was requested before.
    fn set_close(&self, close: impl FnOnce(&mut SendQueueState) -> PendingClose) {
        let mut inner = self.lock();
        if matches!(inner.close, CloseState::Open) {
            inner.close = CloseState::Pending(close(&mut inner));
            wake_writer(inner);
        }
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
        inner.backlog = inner.backlog.and_then(|(since, left)| (left > frames).then(|| (since, left - frames)));
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

/// A queue without a memory limit.
#[cfg(test)]
pub(in crate::io) fn new_queue(budget: &Arc<QueueBudget>) -> SendQueue {
    let memory = ConnectionMemory::open(&Arc::default(), IpAddr::from([192, 0, 2, 1]), 0);
    SendQueue::new(Arc::clone(budget), memory.expect("no limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending_close(code: CloseCode) -> PendingClose {
        PendingClose { code: Some(code), reason: String::new(), timeout: Duration::ZERO }
    }

    fn one_second(code: CloseCode) -> PendingClose {
        PendingClose { timeout: Duration::from_secs(1), ..pending_close(code) }
    }

    fn queue(max_messages: usize, max_bytes: usize, budget_bytes: u64) -> (SendQueue, Arc<QueueBudget>) {
        let budget = QueueBudget::new(SendQueueLimits { max_messages, max_bytes, budget_bytes, max_updates: 2 });
        (new_queue(&budget), budget)
    }

    fn next(queue: &SendQueue) -> NextWrite {
        queue.next_write(64, 10_000, Waker::noop())
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
        assert_eq!(queue.close_discarding(one_second(CloseCode::TRY_AGAIN_LATER)).frames, 1);
        assert_eq!((next(&queue), budget.used_bytes()), (frames(&["abc"], 1), 3));
        queue.advance(2);
        assert_eq!((next(&queue), budget.used_bytes()), (NextWrite::Close(one_second(CloseCode::TRY_AGAIN_LATER)), 0));
    }

    #[test]
    fn discarding_close_drops_a_long_started_frame_and_ends_the_connection() {
        let code = CloseCode::TRY_AGAIN_LATER;
        // One long frame, one frame of the maximum size, and short frames that a vectored write has not sent yet.
        for (sizes, written, frames, has_close_frame) in [
            (&[MAX_UNFINISHED_BYTES + 1, 1][..], 1, 2, false),
            (&[MAX_UNFINISHED_BYTES, 1], 1, 1, true),
            (&[3_000, 3_000], 0, 0, true),
        ] {
            let (queue, budget) = queue(3, 99_999, 99_999);
            assert!(sizes.iter().all(|len| queue.push(vec![b'a'; *len].into()).is_ok()));
            assert!(matches!(next(&queue), NextWrite::Frames { .. }));
            if written > 0 {
                queue.advance(written);
            }
            assert_eq!(queue.close_discarding(one_second(code)), Discarded { frames, has_close_frame }, "{sizes:?}");
            // The remaining frames are written.
            queue.advance((budget.used_bytes() as usize).saturating_sub(written));
            let timeout = if has_close_frame { Duration::from_secs(1) } else { Duration::ZERO };
            let close = PendingClose { timeout, ..one_second(code) };
            assert_eq!((next(&queue), budget.used_bytes()), (NextWrite::Close(close), 0), "{sizes:?}");
            // A write that began before the close ends after it.
            queue.advance(1);
            assert_eq!(budget.used_bytes(), 0);
        }
    }

    #[test]
    fn close_after_the_started_frame_sends_it_and_keeps_it_charged() {
        let (queue, budget) = queue(3, 99_999, 99_999);
        assert!([9_000, 1].iter().all(|len| queue.push(vec![b'a'; *len].into()).is_ok()));
        assert!(matches!(next(&queue), NextWrite::Frames { .. }));
        queue.advance(1);
        queue.close_after_started_frame(one_second(CloseCode::NORMAL_CLOSURE));
        assert_eq!(budget.used_bytes(), 9_000);
        queue.advance(8_999);
        assert_eq!((next(&queue), budget.used_bytes()), (NextWrite::Close(one_second(CloseCode::NORMAL_CLOSURE)), 0));
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
        assert_eq!(
            (other.close_discarding(one_second(CloseCode::TRY_AGAIN_LATER)).frames, budget.used_bytes()),
            (2, 0)
        );
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
}
