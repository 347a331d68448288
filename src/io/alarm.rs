//! Wakes the poller at a given time on Windows, where the timeout of a poll is in milliseconds and may expire a whole clock tick late.
//!
//! `std::thread::sleep` uses timers of high resolution there. It sleeps on a thread of its own, because the poller's thread must read
//! datagrams when they arrive.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

/// The alarm must not be set earlier than this before its time, so that its thread is soon ready for the next alarm. A clock tick is 15.6 ms.
pub(super) const MAX_SLEEP: Duration = Duration::from_millis(20);

/// Maximum number of times set during one sleep.
const MAX_SET: usize = 256;

/// A thread that sleeps until the time that was set last. Dropping this value ends the thread.
pub(super) struct Alarm(SyncSender<Instant>);

impl Alarm {
    /// Starts the thread, which calls `waker` at each time.
    pub(super) fn new(waker: Arc<Waker>) -> io::Result<Self> {
        let (alarm, times) = sync_channel::<Instant>(MAX_SET);
        thread::Builder::new().name("alarm".to_owned()).spawn(move || {
            while let Ok(mut time) = times.recv() {
                loop {
                    time = times.try_iter().last().unwrap_or(time);
                    let remaining = time.saturating_duration_since(Instant::now());
                    if remaining.is_zero() {
                        break;
                    }
                    thread::sleep(remaining);
                }
                // Fails only after the poller was dropped.
                _ = waker.wake();
            }
        })?;
        Ok(Self(alarm))
    }

    /// Replaces the time that was set before. If that was later, the thread may sleep until then: the poller needs a timeout of its own.
    pub(super) fn set(&self, time: Instant) {
        // Fails if the poller waits very often. Then the timeout ends the wait.
        _ = self.0.try_send(time);
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn alarm_ends_a_wait_at_its_time_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap())).unwrap();
        let mut events = Events::with_capacity(1);
        for _ in 0..2 {
            let time = Instant::now() + MAX_SLEEP;
            alarm.set(time);
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty() && Instant::now() >= time);
        }
    }
}
