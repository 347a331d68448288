//! Outbound queue of one connection, bounded in messages and bytes.
//!
//! The signaling hub fills a queue, and the connection's task empties it. If many messages are queued, superseded updates are dropped: frames
//! with an older value of the same [`UpdateKey`]. The connection of a queue that overflows is closed.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use crate::close_code::CloseCode;
use jamjam_core::lock::lock;
use jamjam_core::time::Time;

/// Maximum number of queued messages.
const MAX_MESSAGES: usize = 4_096;

/// Maximum number of queued bytes.
const MAX_BYTES: usize = 16 << 20;

/// Default number of queued messages above which superseded updates are dropped.
pub const DEFAULT_MAX_UPDATES: usize = 256;

/// Queues with fewer frames keep their memory.
const IDLE_LEN: usize = 8;

/// Maximum time for which messages that can wait do wait for a client: in this time, a client that reads takes all queued messages.
const MAX_BACKLOG_AGE: Duration = Duration::from_secs(10);

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Identifies the value that a message updates within its room. A newer message of the room supersedes earlier ones with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpdateKey(pub u16);

/// How a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingClose {
    /// Code of the close frame, if it has one.
    pub code: Option<CloseCode>,
    /// Reason in the close frame.
    pub reason: String,
    /// Maximum time for the closing handshake. Zero: the connection ends without a close frame.
    pub timeout: Duration,
}

impl PendingClose {
    /// A close with a close frame.
    pub(super) fn new(code: CloseCode, reason: &str) -> Self {
        Self { code: Some(code), reason: reason.to_owned(), timeout: CLOSE_TIMEOUT }
    }
}

/// A frame, shared by the queues of all its recipients, so that an entry of a queue takes only 8 bytes.
#[derive(Debug)]
pub struct QueuedFrame {
    /// The frame as it is sent.
    pub bytes: Bytes,
    /// The frame supersedes earlier frames of the same room with the same key.
    pub update_key: Option<UpdateKey>,
    /// The number of the room that sends the frame. Queues of connections that have entered another room drop it.
    pub room: Option<NonZeroU64>,
}

impl QueuedFrame {
    /// A ping without data (RFC 6455, section 5.5.2).
    pub(super) const PING: Self = Self { bytes: Bytes::from_static(&[0x89, 0]), update_key: None, room: None };
}

/// A text message as an unmasked frame (RFC 6455, section 5.2).
pub(super) fn text_frame(text: &str) -> Vec<u8> {
    const MAX_HEADER_BYTES: usize = 10;
    let len = text.len();
    let mut frame = Vec::with_capacity(MAX_HEADER_BYTES + len);
    frame.push(0x81);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => frame.push(len),
        (_, Ok(len)) => {
            frame.push(126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The queue has no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// The next data that the connection writes.
#[derive(Debug, PartialEq, Eq)]
pub enum NextWrite {
    /// Write these frames, of which the last may be incomplete.
    Frames {
        /// The frames, the oldest first.
        frames: Vec<Bytes>,
        /// Bytes of the first frame that have been sent.
        written: usize,
    },
    /// Nothing to write now. The waker is called when there is something to write.
    Empty,
    /// The close frame, which is the last frame.
    Close(PendingClose),
}

/// Outbound queue of one connection.
#[derive(Debug)]
pub struct SendQueue {
    state: Mutex<SendQueueState>,
    max_updates: usize,
}

#[derive(Debug, Default)]
struct SendQueueState {
    /// Queued frames, oldest first. A partly written frame remains until its last byte has been written.
    frames: VecDeque<Arc<QueuedFrame>>,
    bytes: usize,
    /// The number of the room that the connection has entered last.
    room: Option<NonZeroU64>,
    /// Bytes of the first frame that have been written.
    written: usize,
    /// Number of frames at the front that are being written now and cannot be dropped.
    borrowed: usize,
    /// Number of queued frames above which superseded updates are searched again.
    search_above: usize,
    /// When [`SendQueue::has_space`] found no room, and how many of the frames queued at that time are still queued.
    backlog: Option<(Time, usize)>,
    /// The waiting writer and the event that it waits for.
    writer: Option<(Waker, WakeOn)>,
    /// The first requested close, until the writer takes it.
    pending_close: Option<PendingClose>,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WakeOn {
    Anything,
    /// The socket accepts no data now. A new frame does not wake the writer, but a close does.
    CloseOnly,
}

impl SendQueue {
    /// With more than `max_updates` queued messages, superseded updates are dropped.
    pub fn new(max_updates: usize) -> Self {
        Self { state: Mutex::default(), max_updates }
    }

    /// The connection has entered the room with this number. From now on, frames of the room in which it was are dropped.
    pub fn enter(&self, room: NonZeroU64) {
        lock(&self.state).room = Some(room);
    }

    /// Appends a frame. Returns the number of dropped superseded frames. A frame of another room, or after a close, is dropped silently.
    pub fn push(&self, frame: Arc<QueuedFrame>) -> Result<usize, QueueFull> {
        let mut state = lock(&self.state);
        if state.is_closing || frame.room.is_some() && frame.room != state.room {
            return Ok(0);
        }
        let (mut dropped, len) = (0, frame.bytes.len());
        if frame.update_key.is_some()
            && (state.frames.len() >= self.max_updates.max(state.search_above) || state.bytes + len > MAX_BYTES)
        {
            dropped = state.drop_superseded(&frame);
            // The next search is after as many pushes as this one has seen frames, so a push costs constant time on average.
            state.search_above = 2 * state.frames.len();
        }
        if state.frames.len() >= MAX_MESSAGES || state.bytes + len > MAX_BYTES {
            return Err(QueueFull);
        }
        state.bytes += len;
        state.frames.push_back(frame);
        if matches!(state.writer, Some((_, WakeOn::Anything))) {
            wake_writer(state);
        }
        Ok(dropped)
    }

    /// Whether a message that can wait may be appended: the queue is empty, or at least half of it is free. Messages do not wait for a
    /// client that does not read. The queue of this client then overflows.
    pub fn has_space(&self, now: Time) -> bool {
        let mut state = lock(&self.state);
        let frames = state.frames.len();
        if frames == 0 || (frames <= MAX_MESSAGES / 2 && state.bytes <= MAX_BYTES / 2) {
            return true;
        }
        let (since, _) = *state.backlog.get_or_insert((now, frames));
        now >= since + MAX_BACKLOG_AGE
    }

    /// Closes the connection after the queued frames. Only the first close counts.
    pub fn close(&self, close: PendingClose) {
        Self::set_close(lock(&self.state), close);
    }

    /// Closes the connection after the frames that are partly written. The other queued frames are discarded; returns their number, or `None`
    /// if the connection is closing already.
    pub fn discard_and_close(&self, close: PendingClose) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_closing {
            return None;
        }
        let pinned = state.pinned();
        let discarded = state.frames.split_off(pinned);
        state.bytes -= discarded.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        Self::set_close(state, close);
        Some(discarded.len())
    }

    /// Closes the connection after the queued frames, or drops it at once without a close frame (1006).
    pub(super) fn end(&self, code: CloseCode, reason: &str) {
        if code == CloseCode::ABNORMAL_CLOSURE {
            self.discard_and_close(PendingClose { code: None, reason: String::new(), timeout: Duration::ZERO });
        } else {
            self.close(PendingClose::new(code, reason));
        }
    }

    fn set_close(mut state: MutexGuard<'_, SendQueueState>, close: PendingClose) {
        if !std::mem::replace(&mut state.is_closing, true) {
            state.pending_close = Some(close);
            wake_writer(state);
        }
    }

    /// A requested close is pending until the writer receives it. If a close is pending, returns the maximum time for the closing
    /// handshake. If no close is pending, returns `None`, and a later close wakes `writer`.
    pub fn poll_pending_close(&self, writer: &Waker) -> Option<Duration> {
        let mut state = lock(&self.state);
        // The caller writes nothing now, because the socket accepts no data.
        state.borrowed = 0;
        if let Some(close) = &state.pending_close {
            return Some(close.timeout);
        }
        state.writer = Some((writer.clone(), WakeOn::CloseOnly));
        None
    }

    /// Whether a close was requested.
    pub fn is_closing(&self) -> bool {
        lock(&self.state).is_closing
    }

    /// Queued bytes.
    pub fn queued_bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// What to write next: at most `max_frames` frames and `max_bytes` bytes, both at least 1. The frames are pinned until
    /// [`SendQueue::advance`] is called. If there is nothing to write, `writer` is woken as soon as there is.
    pub fn next_write(&self, max_frames: usize, max_bytes: usize, writer: &Waker) -> NextWrite {
        let mut state = lock(&self.state);
        if !state.frames.is_empty() {
            let mut left = state.written + max_bytes;
            let mut frames = Vec::with_capacity(state.frames.len().min(max_frames));
            for frame in state.frames.iter().take(max_frames) {
                let len = frame.bytes.len();
                if left > 0 {
                    frames.push(frame.bytes.slice(..len.min(left)));
                }
                left = left.saturating_sub(len);
            }
            state.borrowed = frames.len();
            return NextWrite::Frames { frames, written: state.written };
        }
        if let Some(close) = state.pending_close.take() {
            return NextWrite::Close(close);
        }
        state.writer = Some((writer.clone(), WakeOn::Anything));
        NextWrite::Empty
    }

    /// Marks the next `bytes` bytes of the queue as written. Returns the number of completely written frames.
    pub fn advance(&self, bytes: usize) -> usize {
        let mut state = lock(&self.state);
        state.borrowed = 0;
        state.written += bytes;
        let mut done = 0;
        while state.frames.front().is_some_and(|frame| frame.bytes.len() <= state.written)
            && let Some(frame) = state.frames.pop_front()
        {
            state.written -= frame.bytes.len();
            state.bytes -= frame.bytes.len();
            done += 1;
        }
        // Returns the memory of a burst. A steady stream allocates nothing.
        let kept = 2 * state.frames.len().max(IDLE_LEN);
        if state.frames.capacity() > 2 * kept {
            state.frames.shrink_to(kept);
        }
        state.backlog = state.backlog.and_then(|(since, left)| (left > done).then(|| (since, left - done)));
        if state.frames.is_empty() {
            state.search_above = 0;
        }
        done
    }
}

impl SendQueueState {
    /// Number of frames at the front that must stay, because they are or may be partly written.
    fn pinned(&self) -> usize {
        self.borrowed.max(usize::from(self.written > 0)).min(self.frames.len())
    }

    /// Drops the frames that are superseded by a later frame or by the `incoming` one. Returns their number.
    fn drop_superseded(&mut self, incoming: &QueuedFrame) -> usize {
        let mut newer = HashSet::from([(incoming.room, incoming.update_key)]);
        let before = self.frames.len();
        let candidates = self.frames.split_off(self.pinned());
        let mut kept = VecDeque::with_capacity(candidates.len());
        for frame in candidates.into_iter().rev() {
            if frame.update_key.is_none() || newer.insert((frame.room, frame.update_key)) {
                kept.push_front(frame);
            } else {
                self.bytes -= frame.bytes.len();
            }
        }
        self.frames.append(&mut kept);
        before - self.frames.len()
    }
}

/// Wakes the writer if it is waiting.
fn wake_writer(mut state: MutexGuard<'_, SendQueueState>) {
    let writer = state.writer.take();
    drop(state);
    if let Some((writer, _)) = writer {
        writer.wake();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(code: CloseCode) -> PendingClose {
        PendingClose { code: Some(code), reason: String::new(), timeout: Duration::from_secs(1) }
    }

    fn push(queue: &SendQueue, bytes: impl Into<Bytes>) -> Result<usize, QueueFull> {
        queue.push(Arc::new(QueuedFrame { bytes: bytes.into(), update_key: None, room: None }))
    }

    fn next(queue: &SendQueue) -> NextWrite {
        queue.next_write(64, 1 << 20, Waker::noop())
    }

    fn frames(texts: &[&'static str], written: usize) -> NextWrite {
        NextWrite::Frames { frames: texts.iter().map(|text| Bytes::from(*text)).collect(), written }
    }

    #[test]
    fn header_of_a_text_frame_has_the_shortest_length() {
        for (len, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(len);
            assert_eq!(text_frame(&text), [header, text.as_bytes()].concat());
        }
    }

    #[test]
    fn frames_queued_before_the_close_are_written_first() {
        let queue = SendQueue::new(256);
        assert_eq!(next(&queue), NextWrite::Empty);
        assert_eq!([push(&queue, "abc"), push(&queue, "de")], [Ok(0); 2]);
        queue.close(close(CloseCode::NORMAL_CLOSURE));
        queue.close(close(CloseCode::GOING_AWAY));
        assert_eq!(push(&queue, "late"), Ok(0));
        assert_eq!(next(&queue), frames(&["abc", "de"], 0));
        assert_eq!(queue.advance(2), 0);
        assert_eq!((next(&queue), queue.queued_bytes()), (frames(&["abc", "de"], 2), 5));
        assert_eq!(queue.advance(2), 1);
        assert_eq!((next(&queue), queue.queued_bytes()), (frames(&["de"], 1), 2));
        assert_eq!(queue.advance(1), 1);
        assert_eq!(queue.poll_pending_close(Waker::noop()), Some(Duration::from_secs(1)));
        assert_eq!(next(&queue), NextWrite::Close(close(CloseCode::NORMAL_CLOSURE)));
        assert_eq!((next(&queue), queue.poll_pending_close(Waker::noop())), (NextWrite::Empty, None));
    }

    #[test]
    fn next_write_is_limited_in_frames_and_bytes() {
        let queue = SendQueue::new(256);
        assert!(["aaaa", "bb", "cc"].into_iter().all(|text| push(&queue, text).is_ok()));
        assert_eq!(queue.next_write(64, 5, Waker::noop()), frames(&["aaaa", "b"], 0));
        assert_eq!(queue.next_write(1, 99, Waker::noop()), frames(&["aaaa"], 0));
    }

    #[test]
    fn queue_holds_at_most_4096_messages_and_16_mib_and_shrinks() {
        let queue = SendQueue::new(256);
        let message = Bytes::from(vec![0; 4 << 20]);
        assert!((0..4).all(|_| push(&queue, message.clone()).is_ok()));
        assert_eq!(push(&queue, "a"), Err(QueueFull));
        assert_eq!(queue.advance(16 << 20), 4);
        assert!((0..4_096).all(|_| push(&queue, "a").is_ok()));
        assert_eq!(push(&queue, "a"), Err(QueueFull));
        queue.advance(4_000);
        assert!(lock(&queue.state).frames.capacity() <= 4 * 96);
    }

    #[test]
    fn discarding_close_keeps_what_may_be_partly_written() {
        let code = CloseCode::TRY_AGAIN_LATER;
        for (written, kept) in [(0, &["abc", "d", "e"][..]), (1, &["abc"])] {
            let queue = SendQueue::new(256);
            assert!(["abc", "d", "e"].into_iter().all(|text| push(&queue, text).is_ok()));
            // A vectored write that has begun may include all frames.
            assert_eq!(next(&queue), frames(&["abc", "d", "e"], 0));
            if written > 0 {
                assert_eq!(queue.advance(written), 0);
            }
            assert_eq!(queue.discard_and_close(close(code)), Some(3 - kept.len()));
            assert_eq!(next(&queue), frames(kept, written));
            queue.advance(queue.queued_bytes() - written);
            assert_eq!((next(&queue), queue.queued_bytes()), (NextWrite::Close(close(code)), 0));
        }
    }

    #[test]
    fn messages_that_can_wait_do_so_while_clients_read_but_at_most_10_s() {
        let second = |second: u64| Time::from_millis(1_000 * second);
        let queue = SendQueue::new(256);
        let fill = |count| assert!((0..count).all(|_| push(&queue, "a").is_ok()));
        fill(2_048);
        assert!(queue.has_space(second(0)));
        fill(1);
        assert!(!queue.has_space(second(0)));
        // The client reads what is queued within 10 s, while more is queued.
        queue.advance(2_049);
        fill(2_049);
        assert!(!queue.has_space(second(9)));
        assert!(!queue.has_space(second(18)));
        assert!(queue.has_space(second(19)));
        queue.advance(2_049);
        assert!(queue.has_space(second(19)));
    }

    #[test]
    fn client_receives_nothing_of_a_room_that_it_has_left_for_another() {
        let queue = SendQueue::new(256);
        let push = |(text, room): (&'static str, u64)| {
            queue.push(Arc::new(QueuedFrame { bytes: text.into(), update_key: None, room: NonZeroU64::new(room) }))
        };
        let enter = |room| queue.enter(NonZeroU64::new(room).expect("a number"));
        // Before its first room, a client receives only replies.
        assert_eq!([("a", 1), ("b", 0)].map(push), [Ok(0); 2]);
        enter(1);
        assert_eq!([("c", 1), ("d", 2)].map(push), [Ok(0); 2]);
        enter(2);
        assert_eq!([("e", 1), ("f", 2), ("g", 0)].map(push), [Ok(0); 3]);
        assert_eq!(next(&queue), frames(&["b", "c", "f", "g"], 0));
    }

    proptest! {
        #[test]
        fn only_superseded_updates_are_dropped(
            pushes in prop::collection::vec(0_u16..5, 1..80),
            max_updates in 1_usize..20,
            borrowed in 0_usize..4,
        ) {
            let queue = SendQueue::new(max_updates);
            let (mut pushed, mut dropped) = (Vec::new(), 0);
            for (index, number) in pushes.into_iter().enumerate() {
                if index == 4 && borrowed > 0 {
                    let _ = queue.next_write(borrowed, 1 << 20, Waker::noop());
                }
                let text = Bytes::from(format!("{index} {number}"));
                pushed.push((text.clone(), number));
                let update_key = (number > 0).then_some(UpdateKey(number));
                dropped += queue.push(Arc::new(QueuedFrame { bytes: text, update_key, room: None })).expect("room");
            }
            let left: Vec<Bytes> = lock(&queue.state).frames.iter().map(|frame| frame.bytes.clone()).collect();
            prop_assert_eq!(left.len() + dropped, pushed.len());
            prop_assert_eq!(queue.queued_bytes(), left.iter().map(Bytes::len).sum::<usize>());
            let is_superseded = |index: usize| {
                let (_, number) = pushed[index];
                number > 0 && pushed[index + 1..].iter().any(|(_, later)| *later == number)
            };
            // What is left is in order, and what is missing was superseded.
            let mut expected = left.iter().peekable();
            for (index, (text, _)) in pushed.iter().enumerate() {
                if expected.next_if(|left| *left == text).is_none() {
                    prop_assert!(is_superseded(index), "{:?} is missing", text);
                }
            }
            prop_assert_eq!(expected.next(), None);
            // At most three frames are being written.
            let current = (0..pushed.len()).filter(|index| !is_superseded(*index)).count() + 3;
            let is_update = pushed.last().is_some_and(|(_, number)| *number > 0);
            prop_assert!(!is_update || left.len() <= max_updates.max(2 * current) + 1, "{} of {}", left.len(), current);
        }
    }
}
