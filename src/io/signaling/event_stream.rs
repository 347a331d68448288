//! Listeners for control surface events: HTTP event streams and the embedding application.
//!
//! Events are published under a room's lock and never wait. What a listener that does not keep up loses is counted.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::io::http::body;
use crate::signaling::{ControlSurfaceEvent, EventProducer};

/// Maximum number of concurrent event streams over HTTP.
pub(in crate::io) const MAX_EVENT_STREAMS: usize = 16;

/// Maximum number of queued events per stream.
const EVENT_STREAM_CAPACITY: usize = 1_024;

/// Maximum number of events per write.
const MAX_EVENTS_PER_WRITE: usize = 64;

/// All receivers of events.
pub(in crate::io) struct EventListeners {
    /// `None` when the server is shutting down.
    streams: Option<broadcast::Sender<Bytes>>,
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
    pub(in crate::io) fn add_stream(&mut self) -> Option<EventStream> {
        let streams = self.streams.as_ref().filter(|streams| streams.receiver_count() < MAX_EVENT_STREAMS);
        self.rejected += u64::from(streams.is_none());
        Some(EventStream { queue: streams?.subscribe(), dropped_events: Arc::clone(&self.dropped_events) })
    }

    /// Number of connected listeners.
    pub(in crate::io) fn active(&self) -> u64 {
        let streams = self.streams.as_ref().map_or(0, broadcast::Sender::receiver_count) as u64;
        streams + u64::from(self.program.as_ref().is_some_and(|events| !events.is_abandoned()))
    }

    /// Delivers an event to all listeners.
    pub(in crate::io) fn publish(&mut self, event: &ControlSurfaceEvent) {
        if let Some(events) = self.program.as_mut().filter(|events| !events.is_abandoned()) {
            self.dropped_events.fetch_add(u64::from(!events.push(event)), Ordering::Relaxed);
        }
        if let Some(streams) = self.streams.as_ref().filter(|streams| streams.receiver_count() > 0) {
            // The format of server-sent events (HTML, section 9.2). `to_json` writes no line breaks, so one `data:` line is enough.
            let _ = streams.send(format!("data: {}\n\n", body::to_json(event)).into());
        }
    }

    /// Removes all listeners.
    pub(in crate::io) fn close_all(&mut self) {
        (self.streams, self.program) = (None, None);
    }
}

/// The events of one stream.
pub(in crate::io) struct EventStream {
    queue: broadcast::Receiver<Bytes>,
    dropped_events: Arc<AtomicU64>,
}

impl EventStream {
    /// The queued events, or the next event if none is queued; `None` after the end. The number of events that were dropped because the queue
    /// was full replaces them. Cancel safe.
    pub(in crate::io) async fn recv(&mut self) -> Option<Bytes> {
        let first = match self.queue.recv().await {
            Ok(event) => Ok(event),
            Err(RecvError::Lagged(dropped)) => Err(dropped),
            Err(RecvError::Closed) => return None,
        };
        let next = || match self.queue.try_recv() {
            Ok(event) => Some(Ok(event)),
            Err(TryRecvError::Lagged(dropped)) => Some(Err(dropped)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        };
        let mut text = Vec::new();
        for received in iter::once(first).chain(iter::from_fn(next)).take(MAX_EVENTS_PER_WRITE) {
            match received {
                Ok(event) => text.extend_from_slice(&event),
                Err(dropped) => {
                    self.dropped_events.fetch_add(dropped, Ordering::Relaxed);
                    text.extend_from_slice(format!("event: dropped\ndata: {{\"dropped\":{dropped}}}\n\n").as_bytes());
                }
            }
        }
        Some(text.into())
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

    /// Publishes an event. Returns the number of events that listeners have missed.
    fn publish(listeners: &mut EventListeners, time: u64) -> u64 {
        listeners.publish(&event(time));
        listeners.dropped_events.load(Ordering::Relaxed)
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
        (0..1_024).for_each(|time| _ = publish(&mut listeners, time));
        let mut received = String::new();
        for _ in 0..1_024 / MAX_EVENTS_PER_WRITE {
            received += str::from_utf8(&fast.recv().await.expect("events")).expect("text");
        }
        assert_eq!((publish(&mut listeners, 1_024), publish(&mut listeners, 1_025)), (0, 0));
        let first = slow.recv().await.expect("events");
        let expected: String = (2..65).map(expected_event).collect();
        assert_eq!(str::from_utf8(&first), Ok(&*format!("event: dropped\ndata: {{\"dropped\":2}}\n\n{expected}")));
        assert_eq!(publish(&mut listeners, 1_026), 2);
        listeners.close_all();
        assert_eq!(drain(&mut slow).await, (65..1_027).map(expected_event).collect::<String>());
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
        assert_eq!((publish(&mut listeners, 3), listeners.active()), (1, 15));
    }
}
