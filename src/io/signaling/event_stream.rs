//! Listeners for control surface events: HTTP event streams and the embedding application.
//!
//! Events are published under a room's lock and never wait. What a listener that does not keep up loses is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use tokio::sync::mpsc;

use crate::io::http::body;
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
    streams: Vec<StreamSender>,
    program: Option<EventProducer>,
    /// Whether the server is shutting down.
    is_closed: bool,
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
    pub(in crate::io) fn add_stream(&mut self) -> Option<EventStream> {
        self.streams.retain(|stream| !stream.queue.is_closed());
        if self.is_closed || self.streams.len() >= MAX_EVENT_STREAMS {
            self.rejected += 1;
            return None;
        }
        let (sender, queue) = mpsc::channel(EVENT_STREAM_CAPACITY);
        let dropped = Arc::default();
        self.streams.push(StreamSender { queue: sender, dropped: Arc::clone(&dropped) });
        Some(EventStream { queue, dropped })
    }

    /// Number of connected listeners.
    pub(in crate::io) fn active(&self) -> u64 {
        let streams = self.streams.iter().filter(|stream| !stream.queue.is_closed()).count() as u64;
        streams + u64::from(self.program.as_ref().is_some_and(|events| !events.is_abandoned()))
    }

    /// Delivers an event to all listeners.
    pub(in crate::io) fn publish(&mut self, event: &ControlSurfaceEvent) {
        if let Some(events) = self.program.as_mut().filter(|events| !events.is_abandoned()) {
            self.dropped_events += u64::from(!events.push(event));
        }
        self.streams.retain(|stream| !stream.queue.is_closed());
        if self.streams.is_empty() {
            return;
        }
        // The format of server-sent events (HTML, section 9.2). `to_json` writes no line breaks, so one `data:` line is enough.
        let text = Bytes::from(format!("data: {}\n\n", body::to_json(event)));
        for stream in &self.streams {
            self.dropped_events += u64::from(!stream.push(&text));
        }
    }

    /// Removes all listeners.
    pub(in crate::io) fn close_all(&mut self) {
        let (dropped_events, rejected) = (self.dropped_events, self.rejected);
        *self = Self { dropped_events, rejected, is_closed: true, ..Self::default() };
    }
}

/// The sending end of a stream. Each queued event has the number of events that were dropped before it.
struct StreamSender {
    queue: mpsc::Sender<(u64, Bytes)>,
    /// Number of events dropped since the last queued one. The end that takes this number reports it.
    dropped: Arc<AtomicU64>,
}

impl StreamSender {
    /// Queues an event. If the queue is full, drops it and returns false.
    fn push(&self, event: &Bytes) -> bool {
        let Ok(place) = self.queue.try_reserve() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        place.send((self.dropped.swap(0, Ordering::Relaxed), event.clone()));
        true
    }
}

/// The events of one stream.
pub(in crate::io) struct EventStream {
    queue: mpsc::Receiver<(u64, Bytes)>,
    dropped: Arc<AtomicU64>,
}

impl EventStream {
    /// The queued events, or the next event if none is queued; `None` after the end. Cancel safe.
    pub(in crate::io) async fn recv(&mut self) -> Option<Bytes> {
        let (mut events, mut text) = (Vec::new(), Vec::new());
        self.queue.recv_many(&mut events, MAX_EVENTS_PER_WRITE).await;
        if self.queue.is_empty() {
            events.push((self.dropped.swap(0, Ordering::Relaxed), Bytes::new()));
        }
        for (dropped, event) in events {
            if dropped > 0 {
                text.extend_from_slice(format!("event: dropped\ndata: {{\"dropped\":{dropped}}}\n\n").as_bytes());
            }
            text.extend_from_slice(&event);
        }
        (!text.is_empty()).then(|| text.into())
    }
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

    /// Publishes an event. Returns the number of listeners that missed the event.
    fn publish(listeners: &mut EventListeners, time: u64) -> u64 {
        let before = listeners.dropped_events;
        listeners.publish(&event(time));
        listeners.dropped_events - before
    }

    async fn drain(queue: &mut EventStream) -> String {
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
        let (mut fast, mut slow) =
            (listeners.add_stream().expect("a stream"), listeners.add_stream().expect("a stream"));
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
        assert_eq!(
            drain(&mut slow).await,
            expected + "event: dropped\ndata: {\"dropped\":2}\n\n" + &expected_event(1_026)
        );
        assert_eq!(received + &drain(&mut fast).await, (0..1_027).map(expected_event).collect::<String>());
    }

    #[test]
    fn stream_limit_excludes_the_program_listener() {
        let mut listeners = EventListeners::default();
        let (producer, mut consumer) = event_queue(1);
        listeners.add_program(producer);
        let mut streams: Vec<_> = (0..MAX_EVENT_STREAMS).map(|_| listeners.add_stream().expect("a stream")).collect();
        assert!(listeners.add_stream().is_none() && listeners.active() == 17);
        streams.pop();
        assert_eq!(listeners.active(), 16);
        assert!(listeners.add_stream().is_some());
        // The stream that was added last is closed at once, because the test does not keep it. The embedding application's queue holds at
        // most one event, so the application misses the second event.
        assert_eq!((publish(&mut listeners, 1), publish(&mut listeners, 2), listeners.active()), (0, 1, 16));
        assert_eq!((consumer.pop().map(|event| event.received_at), consumer.dropped()), (Some(1), 1));
        drop(consumer);
        assert_eq!((publish(&mut listeners, 3), listeners.active()), (0, 15));
    }
}
