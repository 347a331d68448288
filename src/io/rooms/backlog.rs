//! What waits for one connection, in the order in which it is written; what is stale may be left out.

use std::collections::{HashSet, VecDeque};

use axum::body::Bytes;

use crate::rooms::Topic;

/// Frames that an empty backlog keeps room for: an idle connection stays small after a burst.
const KEPT: usize = 4;

/// Frames that wait, the oldest first. One stays here until its last byte was written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    frames: VecDeque<Frame>,
    /// Of the first frame.
    written: usize,
    /// How many of the first are being written right now: they stay what they are.
    lent: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    topic: Option<Topic>,
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
        self.bytes += bytes.len();
        self.frames.push_back(Frame { bytes, topic });
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
        let mut done = 0;
        while let Some(len) = self.frames.front().map(|frame| frame.bytes.len()).filter(|len| *len <= self.written) {
            self.frames.pop_front();
            self.written -= len;
            done += len;
        }
        self.bytes -= done;
        done
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
        let free = || self.frames.iter().enumerate().skip(bound);
        let same = free().find(|(_, frame)| frame.topic == Some(coming)).map(|(place, _)| place);
        let place = same.or_else(|| {
            let mut newer = HashSet::new();
            let stale = free().rev().filter(|(_, frame)| frame.topic.is_some_and(|topic| !newer.insert(topic)));
            stale.last().map(|(place, _)| place)
        })?;
        let len = self.frames.remove(place)?.bytes.len();
        self.bytes -= len;
        Some(len)
    }

    /// Forgets all but what has begun to leave. How many frames, and their bytes.
    pub(super) fn forget(&mut self) -> (usize, usize) {
        let bound = self.bound();
        let forgotten = self.frames.drain(bound..).map(|frame| frame.bytes.len());
        let (frames, bytes) = forgotten.fold((0, 0), |(frames, bytes), len| (frames + 1, bytes + len));
        self.bytes -= bytes;
        (frames, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

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
}
