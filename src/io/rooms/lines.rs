//! How the hub speaks to connections: what it says is put into their queues, and whoever has no room left is cut off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;

use super::budget::Shared;
use super::frame;
use super::listeners::Listeners;
use super::queue::{Ending, Full, Queue};
use crate::rooms::{Conn, Event, Outlet, Topic};

/// How long a connection that is closed has to say so too.
const PATIENCE: Duration = Duration::from_secs(1);

/// The close code of who does not read; the hub and the switchboard say their own.
pub(super) const TRY_AGAIN_LATER: u16 = 1013;

/// Why somebody is closed who does not read.
pub(super) const DEAF: &str = "does not read what it is sent";

/// The queues of all connections by number.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) queues: HashMap<Conn, Arc<Queue>>,
    /// Those cut off while the hub was speaking; it is told when it has finished.
    pub(super) cut: Vec<Cut>,
    /// For whom how many messages were left out meanwhile.
    pub(super) left_out: Vec<(Conn, usize)>,
    /// Who is told what control surfaces do.
    pub(super) listeners: Listeners,
}

/// Somebody who does not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) conn: Conn,
    /// Messages that are lost.
    pub(super) dropped: usize,
    /// Whether too much waited for all together.
    pub(super) by_budget: bool,
}

impl Outlet for Lines {
    fn send(&mut self, to: &[Conn], text: String) {
        self.put(to, &text, |queue, frame| queue.push(frame).map(|()| 0));
    }

    fn refresh(&mut self, to: &[Conn], text: String, topic: Topic) {
        self.put(to, &text, |queue, frame| queue.refresh(frame, topic));
    }

    fn event(&mut self, event: Event) {
        self.listeners.tell(&event);
    }

    fn close(&mut self, conn: Conn, code: u16, reason: &str) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.end(ending(code, reason));
        }
    }

    fn ping(&mut self, conn: Conn) {
        // Who has no room for it does not read, and is found out by the silence that follows.
        if let Some(queue) = self.queues.get(&conn) {
            let _ = queue.push(frame::ping());
        }
    }

    fn cut(&mut self, conn: Conn) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.cut(Ending { code: None, reason: String::new(), patience: Duration::ZERO });
        }
    }
}

impl Lines {
    /// Puts a message into queues by `push`, which says how many others it left out for it.
    fn put(&mut self, to: &[Conn], text: &str, push: impl Fn(&Queue, Bytes) -> Result<usize, Full>) {
        let frame = frame::text(text);
        for conn in to {
            while let Some(queue) = self.queues.get(conn) {
                match push(queue, frame.clone()) {
                    Ok(0) => break,
                    Ok(left_out) => {
                        self.left_out.push((*conn, left_out));
                        break;
                    }
                    Err(Full::Own) => self.cut_slow(*conn, 1, false),
                    Err(Full::Budget) => {
                        let slowest = self.slowest().unwrap_or(*conn);
                        self.cut_slow(slowest, usize::from(slowest == *conn), true);
                    }
                }
            }
        }
    }

    /// Who costs the most bytes, if anybody does. Looked for only when all that may wait does.
    fn slowest(&self) -> Option<Conn> {
        let waiting = self.queues.iter().map(|(conn, queue)| (queue.cost(), *conn));
        waiting.max().filter(|(bytes, _)| *bytes > 0).map(|(_, conn)| conn)
    }

    /// Closes those who cost the most until no more waits for all together than may.
    pub(super) fn make_room(&mut self, all: &Shared) {
        while all.is_overdrawn() {
            let Some(slowest) = self.slowest() else { return };
            self.cut_slow(slowest, 0, true);
        }
    }

    /// Cuts off who does not read, or does not say to its end what it has begun; so many messages more than those that waited are lost.
    fn cut_slow(&mut self, conn: Conn, more: usize, by_budget: bool) {
        if let Some(queue) = self.queues.remove(&conn) {
            let forgotten = queue.cut(ending(TRY_AGAIN_LATER, DEAF));
            self.cut.push(Cut { conn, dropped: forgotten + more, by_budget });
        }
    }
}

/// The end of a connection that may say so too.
pub(super) fn ending(code: u16, reason: &str) -> Ending {
    Ending { code: Some(code), reason: reason.to_owned(), patience: PATIENCE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::rooms::budget::QueueBounds;

    #[test]
    fn when_too_much_waits_for_all_the_one_with_the_most_is_closed_not_the_one_spoken_to() {
        let shared = Shared::new(QueueBounds { messages: 9, bytes: 99, budget: 30, updates: 9 });
        let mut lines = Lines::default();
        for conn in [Conn(1), Conn(2)] {
            lines.queues.insert(conn, Arc::new(Queue::new(Arc::clone(&shared))));
        }
        // Frames of ten bytes each.
        for conn in [1, 1, 2, 2] {
            lines.send(&[Conn(conn)], "12345678".to_owned());
        }
        assert_eq!(lines.cut, [Cut { conn: Conn(1), dropped: 2, by_budget: true }]);
        assert!(lines.queues.contains_key(&Conn(2)));
        assert_eq!(shared.bytes(), 20);
    }

    /// Four hold all there is by what they have begun to say; nobody else is closed for it.
    #[test]
    fn what_is_begun_and_not_ended_costs_those_who_hold_it_and_nobody_who_is_spoken_to() {
        let shared = Shared::new(QueueBounds { messages: 9, bytes: 99, budget: 80, updates: 9 });
        let mut lines = Lines::default();
        for conn in 1..=8 {
            lines.queues.insert(Conn(conn), Arc::new(Queue::new(Arc::clone(&shared))));
        }
        // Whoever serves a connection has its queue too.
        let served: Vec<Arc<Queue>> = lines.queues.values().map(Arc::clone).collect();
        let holds = |lines: &Lines, conn: u64, bytes: usize| lines.queues[&Conn(conn)].hold(bytes);
        for conn in 1..=4 {
            assert_eq!(holds(&lines, conn, 20), Ok(()));
        }
        // Ten bytes to each of four: two of the holders have to go.
        lines.send(&[Conn(5), Conn(6), Conn(7), Conn(8)], "12345678".to_owned());
        let cut = |lines: &Lines| lines.cut.iter().map(|cut| cut.conn).collect::<Vec<_>>();
        assert_eq!((cut(&lines), shared.bytes()), (vec![Conn(4), Conn(3)], 80));
        // Who holds little is not closed for what somebody else holds.
        assert_eq!((holds(&lines, 1, 0), holds(&lines, 2, 0), shared.bytes()), (Ok(()), Ok(()), 40));
        let large = Arc::clone(&lines.queues[&Conn(6)]);
        assert_eq!((large.hold(35), holds(&lines, 7, 8)), (Ok(()), Err(Full::Budget)));
        lines.make_room(&shared);
        assert_eq!(cut(&lines), [Conn(4), Conn(3), Conn(6)]);
        assert_eq!((large.hold(35), holds(&lines, 7, 8), shared.bytes()), (Err(Full::Own), Ok(()), 38));
        drop((lines, large, served));
        assert_eq!(shared.bytes(), 0);
    }
}
