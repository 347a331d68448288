//! Listeners for control surface events: HTTP event streams and the embedding application.
//!
//! Events are published under a room's lock and never wait. What a listener that does not keep up loses is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::response::sse::Event;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::io::http::body;
use crate::signaling::{ControlSurfaceEvent, EventProducer};

/// Maximum number of concurrent event streams over HTTP.
pub(in crate::io) const MAX_EVENT_STREAMS: usize = 16;

/// Maximum number of queued events per stream.
const EVENT_STREAM_CAPACITY: usize = 1_024;

/// The listeners of a server.
pub(in crate::io) type SharedListeners = Arc<Mutex<EventListeners>>;

/// All receivers of events.
pub(in crate::io) struct EventListeners {
    /// `None` when the server is shutting down.
    streams: Option<broadcast::Sender<Event>>,
    program: Option<EventProducer>,
    /// Events that were not delivered. An event that two listeners miss counts twice.
    pub(in crate::io) dropped_events: Arc<AtomicU64>,
    /// Rejected streams.
    pub(in crate::io) rejected: u64,
}

impl Default for EventListeners {
    fn default() -> Self {
        let streams = Some(broadcast::Sender::new(EVENT_STREAM_CAPACITY));
        Self { streams, program: None, dropped_events: Arc::default(), rejected: 0 }
    }
}

impl EventListeners {
    /// Adds the embedding application as a listener.
    pub(in crate::io) fn add_program(&mut self, events: EventProducer) {
        self.program = Some(events);
    }

    /// Adds a stream. Returns `None` if there are already [`MAX_EVENT_STREAMS`] streams, or if the server is shutting down.
    pub(in crate::io) fn add_stream(&mut self) -> Option<BoxStream<'static, Event>> {
        let streams = self.streams.as_ref().filter(|streams| streams.receiver_count() < MAX_EVENT_STREAMS);
        self.rejected += u64::from(streams.is_none());
        Some(stream::unfold((streams?.subscribe(), Arc::clone(&self.dropped_events)), next_event).boxed())
    }

    /// Number of connected listeners.
    pub(in crate::io) fn active(&self) -> u64 {
        let streams = self.streams.as_ref().map_or(0, broadcast::Sender::receiver_count) as u64;
        streams + u64::from(self.program.as_ref().is_some_and(|events| !events.is_abandoned()))
    }

    /// Delivers an event to all listeners.
    pub(in crate::io) fn publish(&mut self, event: &ControlSurfaceEvent) {
        if let Some(events) = self.program.as_mut().filter(|events| !events.is_abandoned()) {
            self.dropped_events.fetch_add(u64::from(events.push(*event).is_err()), Ordering::Relaxed);
        }
        if let Some(streams) = self.streams.as_ref().filter(|streams| streams.receiver_count() > 0) {
            let _ = streams.send(Event::default().data(body::to_json(event)));
        }
    }

    /// Removes all listeners.
    pub(in crate::io) fn close_all(&mut self) {
        (self.streams, self.program) = (None, None);
    }
}

/// The queue of a stream, and the number of events that all listeners have missed.
type StreamQueue = (broadcast::Receiver<Event>, Arc<AtomicU64>);

/// The next event; `None` after the end. The number of events that were dropped because the queue was full replaces them.
async fn next_event((mut queue, dropped_events): StreamQueue) -> Option<(Event, StreamQueue)> {
    let event = match queue.recv().await {
        Ok(event) => event,
        Err(RecvError::Lagged(dropped)) => {
            dropped_events.fetch_add(dropped, Ordering::Relaxed);
            Event::default().event("dropped").data(format!("{{\"dropped\":{dropped}}}"))
        }
        Err(RecvError::Closed) => return None,
    };
    Some((event, (queue, dropped_events)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use axum::response::IntoResponse;
    use axum::response::sse::Sse;

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

    /// Publishes an event. Returns the number of events that listeners have missed.
    fn publish(listeners: &mut EventListeners, time: u64) -> u64 {
        listeners.publish(&event(time));
        listeners.dropped_events.load(Ordering::Relaxed)
    }

    /// At most `count` events, as a client receives them.
    async fn read(events: &mut BoxStream<'static, Event>, count: usize) -> String {
        let events: Vec<Event> = events.take(count).collect().await;
        let body = Sse::new(stream::iter(events).map(Ok::<_, Infallible>)).into_response().into_body();
        let text = to_bytes(body, usize::MAX).await.expect("a body");
        String::from_utf8(text.into()).expect("text")
    }

    #[tokio::test]
    async fn slow_stream_gets_the_dropped_count_in_place() {
        let mut listeners = EventListeners::default();
        let (mut fast, mut slow) =
            (listeners.add_stream().expect("a stream"), listeners.add_stream().expect("a stream"));
        (0..1_024).for_each(|time| _ = publish(&mut listeners, time));
        let received = read(&mut fast, 1_024).await;
        assert_eq!((publish(&mut listeners, 1_024), publish(&mut listeners, 1_025)), (0, 0));
        let expected: String = (2..65).map(expected_event).collect();
        let first = read(&mut slow, 64).await;
        assert_eq!(first, format!("event: dropped\ndata: {{\"dropped\":2}}\n\n{expected}"));
        assert_eq!(publish(&mut listeners, 1_026), 2);
        listeners.close_all();
        assert_eq!(read(&mut slow, 2_000).await, (65..1_027).map(expected_event).collect::<String>());
        assert_eq!(received + &read(&mut fast, 2_000).await, (0..1_027).map(expected_event).collect::<String>());
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
        assert_eq!(consumer.pop().map(|event| event.received_at), Ok(1));
        drop(consumer);
        assert_eq!((publish(&mut listeners, 3), listeners.active()), (1, 15));
    }
}
