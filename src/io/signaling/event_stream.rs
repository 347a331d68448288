//! Listeners for control surface events: HTTP event streams and the embedding application.
//!
//! Events are published under the hub's lock and never wait. A listener that does not keep up loses events. The lost events are counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::Bytes;
use tokio::sync::Notify;

use crate::signaling::{ControlSurfaceEvent, EventProducer};

/// Maximum number of concurrent event streams over HTTP.
pub(in crate::io) const MAX_EVENT_STREAMS: usize = 16;

/// Maximum number of queued events per stream.
const EVENT_STREAM_CAPACITY: usize = 1_024;

/// Maximum number of events per write.
const MAX_EVENTS_PER_WRITE: usize = 64;

/// All receivers of events.
#[derive(Default)]
pub(in crate::io) struct EventListeners {
    streams: Vec<Weak<EventStreamQueue>>,
    program: Option<EventProducer>,
    dropped_events: u64,
    rejected: u64,
}

/// Number of listeners, dropped events and rejected streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct EventListenerCounters {
    /// Connected listeners.
    pub(in crate::io) active: u64,
    /// Events that were not delivered. An event that two listeners miss counts twice.
    pub(in crate::io) dropped_events: u64,
    /// Rejected streams.
    pub(in crate::io) rejected: u64,
}

impl EventListeners {
    /// Adds the embedding application as a listener.
    pub(in crate::io) fn add_program(&mut self, events: EventProducer) {
        self.program = Some(events);
    }

    /// Adds a stream. Returns `None` if there are already [`MAX_EVENT_STREAMS`] streams, or if the server is shutting down.
    pub(in crate::io) fn add_stream(&mut self, accepts_streams: bool) -> Option<Arc<EventStreamQueue>> {
        self.streams.retain(|queue| queue.strong_count() > 0);
        if !accepts_streams || self.streams.len() >= MAX_EVENT_STREAMS {
            self.rejected += 1;
            return None;
        }
        let queue = Arc::new(EventStreamQueue::default());
        self.streams.push(Arc::downgrade(&queue));
        Some(queue)
    }

    pub(in crate::io) fn counters(&self) -> EventListenerCounters {
        let streams = self.streams.iter().filter(|queue| queue.strong_count() > 0).count() as u64;
        let programs = u64::from(self.program.as_ref().is_some_and(|events| !events.is_abandoned()));
        EventListenerCounters {
            active: streams + programs,
            dropped_events: self.dropped_events,
            rejected: self.rejected,
        }
    }

    /// Delivers an event to all listeners.
    pub(in crate::io) fn publish(&mut self, event: &ControlSurfaceEvent) {
        if let Some(events) = self.program.as_mut().filter(|events| !events.is_abandoned()) {
            self.dropped_events += u64::from(!events.push(event));
        }
        self.streams.retain(|queue| queue.strong_count() > 0);
        let mut text = None;
        for queue in self.streams.iter().filter_map(Weak::upgrade) {
            let text: &Bytes = text.get_or_insert_with(|| sse_event(event));
            self.dropped_events += u64::from(!queue.push(text.clone()));
        }
    }

    /// Removes all listeners.
    pub(in crate::io) fn close_all(&mut self) {
        self.program = None;
        for queue in self.streams.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.lock().closed = true;
            queue.ready.notify_one();
        }
    }
}

/// An event in the format of server-sent events (HTML, section 9.2). `to_string` writes JSON without line breaks, so one `data:`
/// line is enough.
fn sse_event(event: &ControlSurfaceEvent) -> Bytes {
    let json = serde_json::to_string(event)
        .unwrap_or_else(|error| unreachable!("an event must be serializable as JSON: {error}"));
    Bytes::from(format!("data: {json}\n\n"))
}

/// Events queued for one stream.
#[derive(Default)]
pub(in crate::io) struct EventStreamQueue {
    inner: Mutex<EventStreamState>,
    ready: Notify,
}

#[derive(Default)]
struct EventStreamState {
    events: VecDeque<QueuedEvent>,
    closed: bool,
}

enum QueuedEvent {
    Event(Bytes),
    /// Number of events dropped at this position of the queue.
    Dropped(u64),
}

impl EventStreamQueue {
    /// Queues an event. If the queue is full, counts the event as dropped and returns false.
    fn push(&self, text: Bytes) -> bool {
        let mut inner = self.lock();
        let has_space = inner.events.len() < EVENT_STREAM_CAPACITY;
        if has_space {
            inner.events.push_back(QueuedEvent::Event(text));
        } else if let Some(QueuedEvent::Dropped(count)) = inner.events.back_mut() {
            *count += 1;
        } else {
            inner.events.push_back(QueuedEvent::Dropped(1));
        }
        drop(inner);
        self.ready.notify_one();
        has_space
    }

    /// The queued events, or the next event if none is queued; `None` after the end. Cancel safe.
    pub(in crate::io) async fn recv(&self) -> Option<Bytes> {
        loop {
            {
                let mut inner = self.lock();
                let count = inner.events.len().min(MAX_EVENTS_PER_WRITE);
                if count > 0 {
                    return Some(inner.events.drain(..count).fold(Vec::new(), append_event).into());
                }
                if inner.closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, EventStreamState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_event(mut text: Vec<u8>, event: QueuedEvent) -> Vec<u8> {
    match event {
        QueuedEvent::Event(event) => text.extend_from_slice(&event),
        QueuedEvent::Dropped(count) => {
            text.extend_from_slice(format!("event: dropped\ndata: {{\"dropped\":{count}}}\n\n").as_bytes());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::signaling::{ControlSurfaceEventKind, InlineStr, event_queue};

    use super::*;

    fn event(received_at: u64) -> ControlSurfaceEvent {
        ControlSurfaceEvent {
            room: InlineStr::new("1234").expect("a code"),
            node_id: InlineStr::new("n").expect("an id"),
            kind: ControlSurfaceEventKind::Trigger,
            name: InlineStr::new("a\nb\"").expect("a name"),
            value: None,
            at: None,
            received_at,
        }
    }

    fn expected_event(time: u64) -> String {
        format!(
            "data: {{\"room\":\"1234\",\"nodeId\":\"n\",\"kind\":\"trigger\",\"name\":\"a\\nb\\\"\",\"time\":{time}}}\n\n"
        )
    }

    fn add_stream(listeners: &mut EventListeners) -> Option<Arc<EventStreamQueue>> {
        listeners.add_stream(true)
    }

    /// Publishes an event. Returns the number of listeners that missed the event.
    fn publish(listeners: &mut EventListeners, time: u64) -> u64 {
        let before = listeners.counters().dropped_events;
        listeners.publish(&event(time));
        listeners.counters().dropped_events - before
    }

    async fn drain(queue: &EventStreamQueue) -> String {
        let mut text = String::new();
        while let Some(more) = queue.recv().await {
            assert!(more.len() <= MAX_EVENTS_PER_WRITE * expected_event(1_000).len());
            text += str::from_utf8(&more).expect("text");
        }
        text
    }

    #[tokio::test]
    async fn slow_stream_gets_the_dropped_count_in_place() {
        let mut listeners = EventListeners::default();
        let (fast, slow) =
            (add_stream(&mut listeners).expect("a stream"), add_stream(&mut listeners).expect("a stream"));
        for time in 0..1_024 {
            assert_eq!(publish(&mut listeners, time), 0);
        }
        let mut received = String::new();
        for _ in 0..1_024 / MAX_EVENTS_PER_WRITE {
            received += str::from_utf8(&fast.recv().await.expect("events")).expect("text");
        }
        assert_eq!((publish(&mut listeners, 1_024), publish(&mut listeners, 1_025)), (1, 1));
        let first = slow.recv().await.expect("events");
        assert_eq!(str::from_utf8(&first), Ok(&*(0..64).map(expected_event).collect::<String>()));
        assert_eq!(publish(&mut listeners, 1_026), 0);
        listeners.close_all();
        let expected: String = (64..1_024).map(expected_event).collect();
        assert_eq!(drain(&slow).await, expected + "event: dropped\ndata: {\"dropped\":2}\n\n" + &expected_event(1_026));
        assert_eq!(received + &drain(&fast).await, (0..1_027).map(expected_event).collect::<String>());
    }

    #[test]
    fn stream_limit_excludes_the_program_listener() {
        let mut listeners = EventListeners::default();
        let (producer, mut consumer) = event_queue(1);
        listeners.add_program(producer);
        let mut streams: Vec<_> =
            (0..MAX_EVENT_STREAMS).map(|_| add_stream(&mut listeners).expect("a stream")).collect();
        assert!(add_stream(&mut listeners).is_none() && listeners.counters().active == 17);
        streams.pop();
        assert_eq!(listeners.counters().active, 16);
        assert!(add_stream(&mut listeners).is_some());
        // The stream that was added last is closed at once, because the test does not keep it. The embedding application's queue holds at
        // most one event, so the application misses the second event.
        assert_eq!((publish(&mut listeners, 1), publish(&mut listeners, 2), listeners.counters().active), (0, 1, 16));
        assert_eq!((consumer.pop().map(|event| event.received_at), consumer.dropped()), (Some(1), 1));
        drop(consumer);
        assert_eq!((publish(&mut listeners, 3), listeners.counters().active), (0, 15));
    }
}
