//! Who is told what control surfaces do: streams over HTTP, and the program that the server is a part of.
//!
//! All of it happens under the switchboard's lock, so nobody is waited for: whoever does not keep up loses events, which are
//! counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::Bytes;
use tokio::sync::Notify;

use crate::rooms::{Event, EventProducer};

/// Streams over HTTP at a time.
pub(super) const MOST_STREAMS: usize = 16;

/// Events that wait for one of them.
const MOST_WAITING: usize = 1_024;

/// Events that leave in one go.
const TOGETHER: usize = 64;

/// Somebody who is told.
enum Listener {
    Stream(Weak<Mailbox>),
    Program(EventProducer),
}

/// Everybody who is told.
#[derive(Default)]
pub(super) struct Listeners {
    each: Vec<Listener>,
    lost: u64,
    refused: u64,
}

/// How many are told, and how much they were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// Who is told now.
    pub(super) now: u64,
    /// Events that somebody was not told, each listener counted.
    pub(super) lost: u64,
    /// Streams that were refused.
    pub(super) refused: u64,
}

impl Listeners {
    /// The program is told from now on.
    pub(super) fn add_program(&mut self, events: EventProducer) {
        self.each.push(Listener::Program(events));
    }

    /// One more stream, unless there are too many, or none is taken any more.
    pub(super) fn add_stream(&mut self, is_taken: bool) -> Option<Arc<Mailbox>> {
        self.each.retain(Listener::is_there);
        let streams = self.each.iter().filter(|listener| matches!(listener, Listener::Stream(_))).count();
        if !is_taken || streams >= MOST_STREAMS {
            self.refused += 1;
            return None;
        }
        let mailbox = Arc::new(Mailbox::default());
        self.each.push(Listener::Stream(Arc::downgrade(&mailbox)));
        Some(mailbox)
    }

    /// How many are told now, and what was counted.
    pub(super) fn listening(&self) -> Listening {
        let now = self.each.iter().filter(|listener| listener.is_there()).count() as u64;
        Listening { now, lost: self.lost, refused: self.refused }
    }

    /// Tells all.
    pub(super) fn tell(&mut self, event: &Event) {
        let Self { each, lost, .. } = self;
        let mut text = None;
        each.retain_mut(|listener| {
            let is_there = listener.is_there();
            let told = match listener {
                Listener::Program(events) => !is_there || events.push(event),
                Listener::Stream(mailbox) => mailbox.upgrade().is_none_or(|mailbox| {
                    let text: &Bytes = text.get_or_insert_with(|| data(event));
                    mailbox.put(text.clone())
                }),
            };
            *lost += u64::from(!told);
            is_there
        });
    }

    /// Nobody is told anything more.
    pub(super) fn end(&mut self) {
        for listener in self.each.drain(..) {
            if let Listener::Stream(mailbox) = listener
                && let Some(mailbox) = mailbox.upgrade()
            {
                mailbox.lock().ended = true;
                mailbox.news.notify_one();
            }
        }
    }
}

impl Listener {
    fn is_there(&self) -> bool {
        match self {
            Self::Stream(mailbox) => mailbox.strong_count() > 0,
            Self::Program(events) => !events.is_abandoned(),
        }
    }
}

/// An event as a stream of events has it (HTML, section 9.2). JSON has no line break that is not escaped.
fn data(event: &Event) -> Bytes {
    let json = serde_json::to_string(event).unwrap_or_else(|error| unreachable!("JSON has texts and numbers: {error}"));
    Bytes::from(format!("data: {json}\n\n"))
}

/// What waits for one stream.
#[derive(Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    ended: bool,
}

enum Waiting {
    Event(Bytes),
    /// So many were lost at this point.
    Lost(u64),
}

impl Mailbox {
    /// Puts an event in, if there is room for it; else its loss.
    fn put(&self, text: Bytes) -> bool {
        let mut inner = self.lock();
        let is_room = inner.waiting.len() < MOST_WAITING;
        if is_room {
            inner.waiting.push_back(Waiting::Event(text));
        } else if let Some(Waiting::Lost(many)) = inner.waiting.back_mut() {
            *many += 1;
        } else {
            inner.waiting.push_back(Waiting::Lost(1));
        }
        drop(inner);
        self.news.notify_one();
        is_room
    }

    /// What waits, or what comes next; nothing after the end. May be given up at any time without a loss.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut inner = self.lock();
                let many = inner.waiting.len().min(TOGETHER);
                if many > 0 {
                    return Some(inner.waiting.drain(..many).fold(Vec::new(), written).into());
                }
                if inner.ended {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written(mut text: Vec<u8>, waiting: Waiting) -> Vec<u8> {
    match waiting {
        Waiting::Event(event) => text.extend_from_slice(&event),
        Waiting::Lost(many) => text.extend_from_slice(format!("event: lost\ndata: {{\"lost\":{many}}}\n\n").as_bytes()),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{EventKind, event_queue};

    fn event(time: u64) -> Event {
        let (room, node_id, name) = ("1234".to_owned(), "n".to_owned(), "a\nb\"".to_owned());
        Event { room, node_id, kind: EventKind::Trigger, name, value: None, at: None, time }
    }

    fn line(time: u64) -> String {
        format!(
            "data: {{\"room\":\"1234\",\"nodeId\":\"n\",\"kind\":\"trigger\",\"name\":\"a\\nb\\\"\",\"time\":{time}}}\n\n"
        )
    }

    fn stream(listeners: &mut Listeners) -> Option<Arc<Mailbox>> {
        listeners.add_stream(true)
    }

    /// Tells all; how many of them could not be told.
    fn tell(listeners: &mut Listeners, time: u64) -> u64 {
        let before = listeners.listening().lost;
        listeners.tell(&event(time));
        listeners.listening().lost - before
    }

    async fn all(mailbox: &Mailbox) -> String {
        let mut text = String::new();
        while let Some(more) = mailbox.next().await {
            assert!(more.len() <= TOGETHER * line(1_000).len());
            text += str::from_utf8(&more).expect("text");
        }
        text
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_much_was_lost_and_where() {
        let mut listeners = Listeners::default();
        let (quick, slow) = (stream(&mut listeners).expect("a stream"), stream(&mut listeners).expect("a stream"));
        for time in 0..1_024 {
            assert_eq!(tell(&mut listeners, time), 0);
        }
        let mut heard = String::new();
        for _ in 0..1_024 / TOGETHER {
            heard += str::from_utf8(&quick.next().await.expect("events")).expect("text");
        }
        assert_eq!((tell(&mut listeners, 1_024), tell(&mut listeners, 1_025)), (1, 1));
        let first = slow.next().await.expect("events");
        assert_eq!(str::from_utf8(&first), Ok(&*(0..64).map(line).collect::<String>()));
        assert_eq!(tell(&mut listeners, 1_026), 0);
        listeners.end();
        let expected: String = (64..1_024).map(line).collect();
        assert_eq!(all(&slow).await, expected + "event: lost\ndata: {\"lost\":2}\n\n" + &line(1_026));
        assert_eq!(heard + &all(&quick).await, (0..1_027).map(line).collect::<String>());
    }

    #[test]
    fn there_are_so_many_streams_at_a_time_and_the_program_is_none_of_them() {
        let mut listeners = Listeners::default();
        let (producer, mut consumer) = event_queue(1);
        listeners.add_program(producer);
        let mut streams: Vec<_> = (0..MOST_STREAMS).map(|_| stream(&mut listeners).expect("a stream")).collect();
        assert!(stream(&mut listeners).is_none() && listeners.listening().now == 17);
        streams.pop();
        assert_eq!(listeners.listening().now, 16);
        assert!(stream(&mut listeners).is_some());
        // That one is gone again; the program's queue takes one event.
        assert_eq!((tell(&mut listeners, 1), tell(&mut listeners, 2), listeners.listening().now), (0, 1, 16));
        assert_eq!((consumer.pop().map(|event| event.time), consumer.lost()), (Some(1), 1));
        drop(consumer);
        assert_eq!((tell(&mut listeners, 3), listeners.listening().now), (0, 15));
    }
}
