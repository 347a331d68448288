//! The queued frames of one connection. The queue knows which of them are being written and which are superseded updates.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;

use crate::signaling::UpdateKey;

/// Capacity that an empty queue keeps, so that an idle connection stays small after a burst.
const IDLE_CAPACITY: usize = 4;

/// Queued frames, oldest first. A partly written frame remains in the queue until its last byte has been written.
#[derive(Debug, Default)]
pub(super) struct FrameQueue {
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
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of queued frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Length of the longest queued frame.
    pub(super) fn longest(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes.len()).max().unwrap_or(0)
    }

    /// Appends a frame. The new frame supersedes earlier frames with the same key.
    pub(super) fn push(&mut self, bytes: Bytes, update_key: Option<UpdateKey>) {
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
    pub(super) fn borrow_front(&mut self, max_frames: usize, max_bytes: usize) -> Option<(Vec<Bytes>, usize)> {
        let mut left = self.written_bytes + max_bytes;
        let mut borrowed = Vec::with_capacity(self.frames.len().min(max_frames));
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
    pub(super) fn advance(&mut self, bytes: usize) -> usize {
        self.borrowed = 0;
        self.written_bytes += bytes;
        let before = self.bytes;
        while self.frames.front().is_some_and(|frame| frame.bytes.len() <= self.written_bytes) {
            self.written_bytes -= self.remove(0);
        }
        before - self.bytes
    }

    /// Records that no queued frame is being written now.
    pub(super) fn release_borrowed(&mut self) {
        self.borrowed = 0;
    }

    /// Number of frames at the front that must stay, because they are or may be partly written.
    fn pinned(&self) -> usize {
        (self.borrowed as usize).max(usize::from(self.written_bytes > 0)).min(self.frames.len())
    }

    /// Drops one superseded frame that is not pinned and returns its length. If the queue contains frames with the key `incoming`, the
    /// oldest of these frames is dropped. If not, the oldest frame that has been superseded by another queued frame is dropped.
    pub(super) fn coalesce(&mut self, incoming: UpdateKey) -> Option<usize> {
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
    pub(super) fn discard_unsent(&mut self) -> (usize, usize) {
        let (pinned, before) = (self.pinned(), self.bytes);
        let discarded = self.frames.len() - pinned;
        while self.frames.len() > pinned {
            self.remove(self.frames.len() - 1);
        }
        (discarded, before - self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

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
