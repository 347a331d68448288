//! What one connection has still to be told: a queue that is bounded in messages and in bytes, and ends with a reason.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

/// Messages that may wait for one connection.
pub const MOST_MESSAGES: usize = 4_096;
/// Bytes that may wait for one connection.
pub const MOST_BYTES: usize = 16 << 20;

/// Messages that an empty queue keeps room for: an idle connection stays small after a burst.
const KEPT: usize = 16;

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The close frame's code.
    pub(super) code: u16,
    /// Its reason.
    pub(super) reason: String,
    /// How long the other end has to agree, from the decision on.
    pub(super) patience: Duration,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Text(Utf8Bytes),
    /// The last there is.
    End(Ending),
}

/// One connection's queue: filled under the hub's lock, emptied by the connection's own task.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
    ending: Notify,
    /// Bytes that wait in all queues together.
    total: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Utf8Bytes>,
    bytes: usize,
    end: End,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Decided(Ending),
    /// The writer has it.
    Told(Duration),
}

impl Queue {
    pub(super) fn new(total: Arc<AtomicU64>) -> Self {
        Self { inner: Mutex::default(), filled: Notify::new(), ending: Notify::new(), total }
    }

    /// Appends `text`. False if there is no room for it; after the end was decided it is dropped in silence.
    pub(super) fn push(&self, text: Utf8Bytes) -> bool {
        let mut inner = self.lock();
        if !matches!(inner.end, End::Open) {
            return true;
        }
        if inner.waiting.len() >= MOST_MESSAGES || inner.bytes + text.len() > MOST_BYTES {
            return false;
        }
        inner.bytes += text.len();
        self.total.fetch_add(text.len() as u64, Ordering::Relaxed);
        inner.waiting.push_back(text);
        drop(inner);
        self.filled.notify_one();
        true
    }

    /// Ends the connection after what already waits. The first ending stands.
    pub(super) fn end(&self, ending: Ending) {
        self.end_with(ending, false);
    }

    /// Ends the connection at once: what waits is forgotten. Returns how many messages that was.
    pub(super) fn cut(&self, ending: Ending) -> usize {
        self.end_with(ending, true)
    }

    fn end_with(&self, ending: Ending, cut: bool) -> usize {
        let mut inner = self.lock();
        if !matches!(inner.end, End::Open) {
            return 0;
        }
        inner.end = End::Decided(ending);
        let forgotten = if cut { self.clear(&mut inner) } else { 0 };
        drop(inner);
        self.filled.notify_one();
        self.ending.notify_one();
        forgotten
    }

    /// The next to write, if anything waits.
    pub(super) fn pop(&self) -> Option<Next> {
        let mut inner = self.lock();
        if let Some(text) = inner.waiting.pop_front() {
            inner.bytes -= text.len();
            self.total.fetch_sub(text.len() as u64, Ordering::Relaxed);
            return Some(Next::Text(text));
        }
        inner.waiting.shrink_to(KEPT);
        let End::Decided(ending) = &inner.end else { return None };
        let ending = ending.clone();
        inner.end = End::Told(ending.patience);
        Some(Next::End(ending))
    }

    /// Returns when something may wait.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Returns when the end was decided and the other end's time for it is over.
    pub(super) async fn overdue(&self) {
        self.ending.notified().await;
        let patience = match &self.lock().end {
            End::Open => Duration::ZERO,
            End::Decided(ending) => ending.patience,
            End::Told(patience) => *patience,
        };
        tokio::time::sleep(patience).await;
    }

    fn clear(&self, inner: &mut Inner) -> usize {
        self.total.fetch_sub(inner.bytes as u64, Ordering::Relaxed);
        inner.bytes = 0;
        std::mem::take(&mut inner.waiting).len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.total.fetch_sub(self.lock().bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: u16) -> Ending {
        Ending { code, reason: String::new(), patience: Duration::ZERO }
    }

    fn queue() -> (Queue, Arc<AtomicU64>) {
        let total = Arc::new(AtomicU64::new(0));
        (Queue::new(Arc::clone(&total)), total)
    }

    #[test]
    fn what_was_sent_before_the_end_comes_before_it_and_nothing_after() {
        let (queue, total) = queue();
        assert!(queue.push("a".into()));
        queue.end(ending(1000));
        queue.end(ending(1001));
        assert!(queue.push("late".into()));
        assert_eq!(queue.pop(), Some(Next::Text("a".into())));
        assert_eq!(queue.pop(), Some(Next::End(ending(1000))));
        assert_eq!(queue.pop(), None);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn messages_and_bytes_are_bounded_and_a_cut_forgets_them() {
        let (queue, total) = queue();
        assert!((0..MOST_MESSAGES).all(|_| queue.push("ab".into())));
        assert!(!queue.push("c".into()));
        assert_eq!(total.load(Ordering::Relaxed), 2 * MOST_MESSAGES as u64);
        assert_eq!(queue.cut(ending(1013)), MOST_MESSAGES);
        assert_eq!(queue.pop(), Some(Next::End(ending(1013))));

        let other = Queue::new(Arc::clone(&total));
        let half = Utf8Bytes::from("x".repeat(MOST_BYTES / 2));
        assert!(other.push(half.clone()) && other.push(half) && !other.push("x".into()));
        assert_eq!(total.load(Ordering::Relaxed), MOST_BYTES as u64);
        drop(other);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
