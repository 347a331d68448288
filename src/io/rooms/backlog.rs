//! What waits for one connection, in the order in which it is written; what is stale may be left out.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;

use crate::rooms::Topic;

/// Frames that an empty backlog keeps room for: an idle connection stays small after a burst.
const KEPT: usize = 4;

/// Frames that wait, the oldest first. One stays here until its last byte was written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    frames: VecDeque<Frame>,
    /// The topics of those that have one, so that nobody searches where nothing is stale.
    topics: BTreeMap<Topic, Entry>,
    /// Frames with a topic of which there is a newer one.
    stale: usize,
    /// Of the first frame.
    written: usize,
    /// How many of the first are being written right now: they stay what they are.
    lent: usize,
    bytes: usize,
    pushed: u64,
}

#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    topic: Option<Topic>,
    /// As they came.
    number: u64,
}

/// The frames of one topic.
#[derive(Debug)]
struct Entry {
    frames: usize,
    /// The number of the oldest.
    oldest: u64,
}

impl Backlog {
    /// Frames that wait.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more frame, after all others. A later one of the same topic makes it stale.
    pub(super) fn push(&mut self, bytes: Bytes, topic: Option<Topic>) {
        let number = self.pushed;
        self.pushed += 1;
        self.bytes += bytes.len();
        if let Some(topic) = topic {
            let entry = self.topics.entry(topic).or_insert(Entry { frames: 0, oldest: number });
            self.stale += usize::from(entry.frames > 0);
            entry.frames += 1;
        }
        self.frames.push_back(Frame { bytes, topic, number });
    }

    /// The first frames, up to so many, and how much of the first of them has been written: they are written from now on, until
    /// [`Backlog::advance`] or [`Backlog::rest`].
    pub(super) fn lend(&mut self, most: usize) -> Option<(Vec<Bytes>, usize)> {
        self.lent = self.frames.len().min(most);
        if self.lent == 0 {
            self.frames.shrink_to(KEPT);
            return None;
        }
        Some((self.frames.iter().take(most).map(|frame| frame.bytes.clone()).collect(), self.written))
    }

    /// So many bytes were written. How many of frames that are done with.
    pub(super) fn advance(&mut self, bytes: usize) -> usize {
        self.lent = 0;
        self.written += bytes;
        let before = self.bytes;
        while self.frames.front().is_some_and(|frame| frame.bytes.len() <= self.written) {
            self.written -= self.remove(0);
        }
        before - self.bytes
    }

    /// Nothing is being written now.
    pub(super) fn rest(&mut self) {
        self.lent = 0;
    }

    /// How many of the first frames have to stay: those that have begun to leave, or may have.
    fn bound(&self) -> usize {
        self.lent.max(usize::from(self.written > 0)).min(self.frames.len())
    }

    /// Leaves out one that is stale: the oldest of the topic of what is `coming`, else the oldest of which there is a newer one.
    /// Its length, if there is one.
    pub(super) fn leave_out(&mut self, coming: Topic) -> Option<usize> {
        let bound = self.bound();
        let place = self.oldest_free(coming, bound).or_else(|| {
            if self.stale == 0 {
                return None;
            }
            let is_stale = |place: usize| {
                let Frame { topic, number, .. } = &self.frames[place];
                let last = |topic| self.frames.iter().rev().find(|frame| frame.topic == Some(topic));
                topic.is_some_and(|topic| {
                    self.topics.get(&topic).is_some_and(|entry| entry.frames > 1)
                        && last(topic).is_some_and(|last| last.number != *number)
                })
            };
            (bound..self.frames.len()).find(|place| is_stale(*place))
        })?;
        Some(self.remove(place))
    }

    /// Where the oldest frame of `topic` is that is not bound to stay.
    fn oldest_free(&self, topic: Topic, bound: usize) -> Option<usize> {
        let Entry { frames, oldest } = self.topics.get(&topic)?;
        let place = self.frames.binary_search_by_key(oldest, |frame| frame.number).ok()?;
        if place < bound && *frames == 1 {
            return None;
        }
        (place.max(bound)..self.frames.len()).find(|place| self.frames[*place].topic == Some(topic))
    }

    /// Takes a frame out. Its length.
    fn remove(&mut self, place: usize) -> usize {
        let Some(Frame { bytes, topic, number }) = self.frames.remove(place) else { return 0 };
        self.bytes -= bytes.len();
        if let Some(topic) = topic
            && let Some(entry) = self.topics.get_mut(&topic)
        {
            entry.frames -= 1;
            if entry.frames == 0 {
                self.topics.remove(&topic);
            } else {
                self.stale -= 1;
                if entry.oldest == number {
                    let next = self.frames.iter().skip(place).find(|frame| frame.topic == Some(topic));
                    entry.oldest = next.map_or(number, |frame| frame.number);
                }
            }
        }
        bytes.len()
    }

    /// Forgets all but what has begun to leave. How many frames, and their bytes.
    pub(super) fn forget(&mut self) -> (usize, usize) {
        let (bound, before) = (self.bound(), self.bytes);
        let forgotten = self.frames.len() - bound;
        while self.frames.len() > bound {
            self.remove(self.frames.len() - 1);
        }
        (forgotten, before - self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn topic(number: u64) -> Topic {
        Topic(NonZeroU64::new(number).expect("not 0"))
    }

    /// Frames of one topic each; topic 0 is none.
    fn backlog(frames: &[(&'static str, u64)]) -> Backlog {
        let mut backlog = Backlog::default();
        for (text, number) in frames {
            backlog.push(Bytes::from(*text), (*number > 0).then(|| topic(*number)));
        }
        backlog
    }

    fn texts(backlog: &Backlog) -> Vec<&str> {
        backlog.frames.iter().map(|frame| std::str::from_utf8(&frame.bytes).expect("text")).collect()
    }

    #[test]
    fn an_older_value_of_the_same_topic_goes_first_then_the_oldest_stale_one_and_the_newest_never() {
        let mut backlog = backlog(&[("b1", 2), ("a1", 1), ("x", 0), ("b2", 2), ("a2", 1), ("b3", 2), ("c1", 3)]);
        assert_eq!(backlog.leave_out(topic(1)), Some(2));
        assert_eq!(texts(&backlog), ["b1", "x", "b2", "a2", "b3", "c1"]);
        assert_eq!(backlog.leave_out(topic(9)), Some(2));
        assert_eq!(texts(&backlog), ["x", "b2", "a2", "b3", "c1"]);
        assert_eq!(backlog.leave_out(topic(9)), Some(2));
        assert_eq!(texts(&backlog), ["x", "a2", "b3", "c1"]);
        assert_eq!((backlog.leave_out(topic(9)), backlog.bytes(), backlog.len()), (None, 7, 4));
        assert_eq!(backlog.leave_out(topic(3)), Some(2));
        assert_eq!(texts(&backlog), ["x", "a2", "b3"]);
    }

    #[test]
    fn what_is_being_written_stays() {
        let mut backlog = backlog(&[("a1", 1), ("a2", 1), ("a3", 1)]);
        assert_eq!(backlog.lend(2).map(|(frames, written)| (frames.len(), written)), Some((2, 0)));
        assert_eq!(backlog.leave_out(topic(1)), Some(2));
        assert_eq!(backlog.leave_out(topic(1)), None);
        assert_eq!(texts(&backlog), ["a1", "a2"]);
        // One byte of the first has left.
        assert_eq!(backlog.advance(1), 0);
        assert_eq!(backlog.leave_out(topic(1)), Some(2));
        assert_eq!(backlog.leave_out(topic(1)), None);
        assert_eq!(texts(&backlog), ["a1"]);
        assert_eq!((backlog.forget(), backlog.advance(1), backlog.len(), backlog.bytes()), ((0, 0), 2, 0, 0));
    }

    #[test]
    fn while_nothing_can_be_written_everything_may_go() {
        let mut backlog = backlog(&[("a1", 1), ("x", 0)]);
        backlog.lend(64);
        assert_eq!(backlog.forget(), (0, 0));
        backlog.rest();
        assert_eq!(backlog.leave_out(topic(1)), Some(2));
        assert_eq!((backlog.forget(), backlog.len(), backlog.bytes()), ((1, 1), 0, 0));
    }

    /// The same without any index: frames as their lengths and topics.
    #[derive(Default)]
    struct Naive {
        frames: Vec<(usize, u64)>,
        written: usize,
        lent: usize,
    }

    impl Naive {
        fn leave_out(&mut self, coming: u64) -> Option<usize> {
            let bound = self.lent.max(usize::from(self.written > 0));
            let free = bound..self.frames.len();
            let newer = |place: usize| self.frames[place + 1..].iter().any(|frame| frame.1 == self.frames[place].1);
            let same = free.clone().find(|place| self.frames[*place].1 == coming);
            let place = same.or_else(|| free.clone().find(|place| self.frames[*place].1 > 0 && newer(*place)))?;
            Some(self.frames.remove(place).0)
        }

        fn advance(&mut self, bytes: usize) -> usize {
            (self.lent, self.written) = (0, self.written + bytes);
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
        fn what_is_left_out_is_what_a_search_of_all_finds(
            deeds in prop::collection::vec((0u8..8, 1usize..9, 0u64..5), 1..120),
        ) {
            let (mut backlog, mut naive) = (Backlog::default(), Naive::default());
            for (deed, size, number) in deeds {
                match deed {
                    0..=3 => {
                        backlog.push(vec![b'x'; size].into(), (number > 0).then(|| topic(number)));
                        naive.frames.push((size, number));
                    }
                    4 | 5 if number > 0 => prop_assert_eq!(backlog.leave_out(topic(number)), naive.leave_out(number)),
                    6 => {
                        backlog.lend(size);
                        naive.lent = naive.frames.len().min(size);
                    }
                    _ => {
                        // As much as has been lent, or less.
                        let lent: usize = naive.frames.iter().take(naive.lent).map(|frame| frame.0).sum();
                        let bytes = size.min(lent.saturating_sub(naive.written));
                        prop_assert_eq!(backlog.advance(bytes), naive.advance(bytes));
                    }
                }
                let left: Vec<_> = backlog.frames.iter().map(|frame| frame.bytes.len()).collect();
                prop_assert_eq!(left, naive.frames.iter().map(|frame| frame.0).collect::<Vec<_>>());
                prop_assert_eq!(backlog.bytes(), naive.frames.iter().map(|frame| frame.0).sum::<usize>());
            }
        }
    }
}
