//! What one connection has still to be told: a queue that is bounded in messages and in bytes, by itself and together with all
//! others, and ends with a reason.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use axum::body::Bytes;

use super::backlog::Backlog;
use super::budget::{QueueBounds, Shared};
use crate::rooms::Topic;

/// Messages that are written in one go.
const TOGETHER: usize = 64;

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The close frame's code, if it says one.
    pub(super) code: Option<u16>,
    /// Its reason.
    pub(super) reason: String,
    /// How long the other end has to agree, from the decision on.
    pub(super) patience: Duration,
}

/// Why there is no room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// As much waits here as may wait for one.
    Own,
    /// As much waits everywhere as may wait in all.
    Budget,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These frames, the first of them from its byte `written` on.
    Frames { frames: Vec<Bytes>, written: usize },
    /// Nothing now; the waker is called when there is.
    Nothing,
    /// The last there is.
    End(Ending),
}

/// One connection's queue: filled under the hub's lock, emptied by the connection's own task. A frame stays in it until its last
/// byte was written.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Backlog,
    /// Bytes of a message that has not come in full.
    unfinished: usize,
    /// Who writes, and is waiting to be told of this.
    writer: Option<(Waker, Awaited)>,
    end: End,
}

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Anything,
    /// The other end takes nothing now, so more frames are no news.
    End,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Decided(Ending),
    /// The writer has it.
    Told,
}

impl Queue {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { inner: Mutex::default(), shared }
    }

    /// Appends a frame, if there is room for it; after the end was decided it is dropped in silence.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), Full> {
        self.append(self.lock(), frame, None)
    }

    /// The same for a frame after which all earlier ones of its topic are stale. Where much waits, as many of these and of other stale
    /// ones are left out as it takes. How many.
    pub(super) fn refresh(&self, frame: Bytes, topic: Topic) -> Result<usize, Full> {
        let mut inner = self.lock();
        if !matches!(inner.end, End::Open) {
            return Ok(0);
        }
        let QueueBounds { bytes, updates, .. } = self.shared.bounds;
        let mut left_out = 0;
        while inner.waiting.len() >= updates || inner.waiting.bytes() + frame.len() > bytes {
            let Some(len) = inner.waiting.leave_out(topic) else { break };
            self.shared.bytes.fetch_sub(len as u64, Ordering::Relaxed);
            left_out += 1;
        }
        self.append(inner, frame, Some(topic)).map(|()| left_out)
    }

    fn append(&self, mut inner: MutexGuard<'_, Inner>, frame: Bytes, topic: Option<Topic>) -> Result<(), Full> {
        if !matches!(inner.end, End::Open) {
            return Ok(());
        }
        let QueueBounds { messages, bytes, budget, .. } = self.shared.bounds;
        let len = frame.len() as u64;
        // What is too much even if nothing else waits is nobody else's fault.
        if inner.waiting.len() >= messages || inner.waiting.bytes() + frame.len() > bytes || len > budget {
            return Err(Full::Own);
        }
        if self.shared.bytes.fetch_add(len, Ordering::Relaxed) + len > budget {
            self.shared.bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(Full::Budget);
        }
        inner.waiting.push(frame, topic);
        if matches!(inner.writer, Some((_, Awaited::Anything))) {
            wake(inner);
        }
        Ok(())
    }

    /// Ends the connection after what already waits. The first ending stands.
    pub(super) fn end(&self, ending: Ending) {
        self.end_with(ending, false);
    }

    /// Ends the connection at once: what waits is forgotten, but for the rest of a frame that has begun to leave. Returns how
    /// many messages that was.
    pub(super) fn cut(&self, ending: Ending) -> usize {
        self.end_with(ending, true)
    }

    fn end_with(&self, ending: Ending, cut: bool) -> usize {
        let mut inner = self.lock();
        if !matches!(inner.end, End::Open) {
            return 0;
        }
        inner.end = End::Decided(ending);
        let mut forgotten = 0;
        if cut {
            let (frames, bytes) = inner.waiting.forget();
            // Its unfinished message is dropped as soon as its task runs, and others must not pay for it until then.
            let unfinished = std::mem::take(&mut inner.unfinished);
            self.shared.bytes.fetch_sub((bytes + unfinished) as u64, Ordering::Relaxed);
            forgotten = frames;
        }
        wake(inner);
        forgotten
    }

    /// How long the other end has to agree, if the end was decided and not taken yet; else the waker is called when it is.
    pub(super) fn ending(&self, writer: &Waker) -> Option<Duration> {
        let mut inner = self.lock();
        // Whoever asks waits for the other end, and is writing nothing.
        inner.waiting.rest();
        if let End::Decided(ending) = &inner.end {
            return Some(ending.patience);
        }
        inner.writer = Some((writer.clone(), Awaited::End));
        None
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().waiting.bytes()
    }

    /// Bytes that wait, and those of a message that has not come in full.
    pub(super) fn cost(&self) -> usize {
        let inner = self.lock();
        inner.waiting.bytes() + inner.unfinished
    }

    /// So many bytes of a message have come, and not all of it. They count in any case but one: nobody wants them any more, since the
    /// end was decided ([`Full::Own`]). [`Full::Budget`] says that too much waits everywhere now.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Full> {
        let mut inner = self.lock();
        let is_open = matches!(inner.end, End::Open);
        let bytes = if is_open { bytes } else { 0 };
        let before = std::mem::replace(&mut inner.unfinished, bytes);
        let all = if bytes <= before {
            self.shared.bytes.fetch_sub((before - bytes) as u64, Ordering::Relaxed);
            0
        } else {
            let more = (bytes - before) as u64;
            self.shared.bytes.fetch_add(more, Ordering::Relaxed) + more
        };
        match is_open {
            _ if all > self.shared.bounds.budget => Err(Full::Budget),
            true => Ok(()),
            false => Err(Full::Own),
        }
    }

    /// What to write next.
    pub(super) fn next(&self, writer: &Waker) -> Next {
        let mut inner = self.lock();
        if let Some((frames, written)) = inner.waiting.lend(TOGETHER) {
            return Next::Frames { frames, written };
        }
        if let End::Decided(_) = inner.end
            && let End::Decided(ending) = std::mem::replace(&mut inner.end, End::Told)
        {
            return Next::End(ending);
        }
        inner.writer = Some((writer.clone(), Awaited::Anything));
        Next::Nothing
    }

    /// So many bytes of the first frames have been written.
    pub(super) fn written(&self, bytes: usize) {
        let done = self.lock().waiting.advance(bytes);
        self.shared.bytes.fetch_sub(done as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the writer, if it waits to be told.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let writer = inner.writer.take();
    drop(inner);
    if let Some((writer, _)) = writer {
        writer.wake();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.cost() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: u16) -> Ending {
        Ending { code: Some(code), reason: String::new(), patience: Duration::ZERO }
    }

    fn queue(messages: usize, bytes: usize, budget: u64) -> (Queue, Arc<Shared>) {
        let shared = Shared::new(QueueBounds { messages, bytes, budget, updates: 2 });
        (Queue::new(Arc::clone(&shared)), shared)
    }

    fn next(queue: &Queue) -> Next {
        queue.next(Waker::noop())
    }

    fn frames(texts: &[&'static str], written: usize) -> Next {
        Next::Frames { frames: texts.iter().map(|text| Bytes::from(*text)).collect(), written }
    }

    #[test]
    fn what_was_sent_before_the_end_comes_before_it_and_nothing_after() {
        let (queue, shared) = queue(9, 99, 99);
        assert_eq!(next(&queue), Next::Nothing);
        assert_eq!(queue.push("abc".into()), Ok(()));
        assert_eq!(queue.push("de".into()), Ok(()));
        queue.end(ending(1000));
        queue.end(ending(1001));
        assert_eq!(queue.push("late".into()), Ok(()));
        assert_eq!(next(&queue), frames(&["abc", "de"], 0));
        queue.written(2);
        assert_eq!((next(&queue), shared.bytes()), (frames(&["abc", "de"], 2), 5));
        queue.written(2);
        assert_eq!((next(&queue), shared.bytes()), (frames(&["de"], 1), 2));
        queue.written(1);
        assert_eq!(queue.ending(Waker::noop()), Some(Duration::ZERO));
        assert_eq!((next(&queue), shared.bytes()), (Next::End(ending(1000)), 0));
        assert_eq!((next(&queue), queue.ending(Waker::noop())), (Next::Nothing, None));
    }

    #[test]
    fn messages_and_bytes_are_bounded_and_a_cut_forgets_all_but_what_has_begun() {
        let (queue, shared) = queue(3, 6, 99);
        assert!((0..3).all(|_| queue.push("a".into()).is_ok()));
        assert_eq!(queue.push("b".into()), Err(Full::Own));
        queue.written(3);
        assert!(queue.push("abc".into()).is_ok() && queue.push("def".into()).is_ok());
        assert_eq!(queue.push("g".into()), Err(Full::Own));
        queue.written(1);
        assert_eq!(queue.cut(ending(1013)), 1);
        assert_eq!((next(&queue), shared.bytes()), (frames(&["abc"], 1), 3));
        queue.written(2);
        assert_eq!((next(&queue), shared.bytes()), (Next::End(ending(1013)), 0));
    }

    #[test]
    fn all_queues_together_are_bounded_too_and_a_dropped_one_counts_no_more() {
        let (one, shared) = queue(9, 6, 10);
        let other = Queue::new(Arc::clone(&shared));
        assert!(one.push("abcdef".into()).is_ok() && other.push("abcd".into()).is_ok());
        assert_eq!(other.push("e".into()), Err(Full::Budget));
        assert_eq!(shared.bytes(), 10);
        drop(one);
        assert_eq!((other.push("e".into()), shared.bytes()), (Ok(()), 5));
        assert_eq!((other.cut(ending(1013)), shared.bytes()), (2, 0));
    }

    #[test]
    fn a_full_queue_leaves_out_stale_values_and_keeps_the_newest_of_each_topic() {
        let (queue, shared) = queue(9, 99, 99);
        let topic = |number| Topic(std::num::NonZeroU64::new(number).expect("not 0"));
        let refresh = |text: &'static str, number| queue.refresh(text.into(), topic(number));
        assert_eq!([refresh("a1", 1), refresh("b1", 2)], [Ok(0), Ok(0)]);
        // Nothing is stale yet, and nothing of it may be lost.
        assert_eq!(refresh("c1", 3), Ok(0));
        // Each newer value drives out its older one; there are three topics, which is one more than wait anyway.
        assert_eq!([refresh("a2", 1), refresh("a3", 1), refresh("b2", 2)], [Ok(1), Ok(1), Ok(1)]);
        assert_eq!((next(&queue), shared.bytes()), (frames(&["c1", "a3", "b2"], 0), 6));
    }
}
