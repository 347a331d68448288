//! What control surfaces do, for a thread that must never wait: events of a fixed size in a lock-free queue.
//!
//! [`Event`] owns texts, and whoever drops a text gives memory back, which may take as long as it likes. A [`SurfaceEvent`]
//! says the same with its texts in place: it is `Copy`, so that popping, keeping and dropping one neither asks for memory nor
//! gives any back, takes no lock and makes no system call. Only making the queue asks for memory, and only dropping it gives
//! that back.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::bbx::LONGEST_NAME;
use super::event::{Event, EventKind};
use super::hub::program::CODE_DIGITS;

/// Letters of an id, as `welcome` gives it.
const ID_BYTES: usize = 36;

/// A text of at most `N` bytes, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Inline<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    /// The same text, if it has so few bytes.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u16::try_from(text.len()).ok()?, bytes })
    }
}

impl<const N: usize> Deref for Inline<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // It was a text when it came in.
        self.bytes.get(..self.len.into()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize> fmt::Display for Inline<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// An [`Event`] of a fixed size, about 350 bytes. Texts are compared and matched as `&*event.name`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurfaceEvent {
    /// The code of the room.
    pub room: Inline<{ *CODE_DIGITS.end() }>,
    /// Who did it: the id that the client's welcome gave it.
    pub node_id: Inline<ID_BYTES>,
    /// What it is.
    pub kind: EventKind,
    /// The name of the parameter or trigger.
    pub name: Inline<LONGEST_NAME>,
    /// The parameter's value, which is finite; none with a trigger.
    pub value: Option<f32>,
    /// When it is meant to hold, in microseconds since 1970, if the client said so: any number, however far away.
    pub at: Option<u64>,
    /// When it came, in microseconds since 1970.
    pub time: u64,
}

impl SurfaceEvent {
    /// The same, if its texts are as short as those of a hub are.
    pub fn new(event: &Event) -> Option<Self> {
        let Event { room, node_id, kind, name, value, at, time } = event;
        let (room, node_id, name) = (Inline::new(room)?, Inline::new(node_id)?, Inline::new(name)?);
        Some(Self { room, node_id, kind: *kind, name, value: *value, at: *at, time: *time })
    }
}

/// The end of a queue that is filled.
#[derive(Debug)]
pub struct EventProducer {
    queue: Producer<SurfaceEvent>,
    lost: Arc<AtomicU64>,
}

/// The end of a queue that is emptied, by an audio thread for instance.
#[derive(Debug)]
pub struct EventConsumer {
    queue: Consumer<SurfaceEvent>,
    lost: Arc<AtomicU64>,
}

/// A queue in which `capacity` events may wait. When it is full the newest are lost, and counted.
pub fn event_queue(capacity: usize) -> (EventProducer, EventConsumer) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let lost = Arc::new(AtomicU64::new(0));
    (EventProducer { queue: producer, lost: Arc::clone(&lost) }, EventConsumer { queue: consumer, lost })
}

impl EventProducer {
    /// Appends an event, unless the queue is full. Whether it did. Never waits and asks for no memory.
    pub fn push(&mut self, event: &Event) -> bool {
        let pushed = SurfaceEvent::new(event).is_some_and(|event| self.queue.push(event).is_ok());
        if !pushed {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Whether the other end is gone.
    pub fn is_abandoned(&self) -> bool {
        self.queue.is_abandoned()
    }
}

impl EventConsumer {
    /// The oldest event that waits, if any does. Never waits, and neither asks for memory nor gives any back.
    pub fn pop(&mut self) -> Option<SurfaceEvent> {
        self.queue.pop().ok()
    }

    /// Events that were lost so far because the queue was full. As safe as [`EventConsumer::pop`].
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether nothing more will come than what waits: the server has ended. As safe.
    pub fn is_abandoned(&self) -> bool {
        self.queue.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn event(name: &str) -> Event {
        Event {
            room: "123456".to_owned(),
            node_id: "69043ffa-0f20-473a-b977-27525b15a135".to_owned(),
            kind: EventKind::Param,
            name: name.to_owned(),
            value: Some(0.7),
            at: Some(u64::MAX),
            time: 7,
        }
    }

    #[test]
    fn an_event_is_the_same_at_the_other_end() {
        let (mut producer, mut consumer) = event_queue(2);
        let long = "ä".repeat(128);
        assert!(producer.push(&event(&long)) && producer.push(&event("")));
        let popped = consumer.pop().expect("an event");
        assert_eq!((&*popped.room, &*popped.name, popped.value), ("123456", &*long, Some(0.7)));
        assert_eq!(&*popped.node_id, "69043ffa-0f20-473a-b977-27525b15a135");
        assert_eq!((popped.kind, popped.at, popped.time), (EventKind::Param, Some(u64::MAX), 7));
        assert_eq!(consumer.pop().map(|event| event.name.len()), Some(0));
        assert_eq!((consumer.pop(), consumer.lost()), (None, 0));
        assert!(size_of::<SurfaceEvent>() <= 350);
    }

    proptest! {
        #[test]
        fn every_event_is_popped_in_order_or_counted_as_lost(
            capacity in 0usize..5,
            deeds in prop::collection::vec(prop::option::of(0usize..300), 0..60),
        ) {
            let (mut producer, mut consumer) = event_queue(capacity);
            let (mut kept, mut lost) = (VecDeque::new(), 0);
            for deed in deeds {
                // A name of so many letters is pushed, or one event popped.
                let Some(letters) = deed else {
                    prop_assert_eq!(consumer.pop().map(|event| event.name.len()), kept.pop_front());
                    continue;
                };
                if kept.len() < capacity && letters <= 256 {
                    kept.push_back(letters);
                } else {
                    lost += 1;
                }
                producer.push(&event(&"x".repeat(letters)));
                prop_assert_eq!(consumer.lost(), lost);
            }
        }
    }

    #[test]
    fn when_it_is_full_the_newest_are_lost_and_counted() {
        let (mut producer, mut consumer) = event_queue(2);
        let pushed: Vec<bool> = ["a", "b", "c", "d"].iter().map(|name| producer.push(&event(name))).collect();
        assert_eq!((pushed, consumer.lost()), (vec![true, true, false, false], 2));
        assert_eq!(consumer.pop().map(|event| event.name.to_string()), Some("a".to_owned()));
        assert!(producer.push(&event("e")));
        let rest: Vec<String> = std::iter::from_fn(|| consumer.pop()).map(|event| event.name.to_string()).collect();
        assert_eq!((rest.join(""), consumer.lost()), ("be".to_owned(), 2));
        // What does not fit in is lost too, never cut.
        assert!(!producer.push(&event(&"x".repeat(257))) && consumer.lost() == 3);
        drop(producer);
        assert!(consumer.is_abandoned());
    }
}
