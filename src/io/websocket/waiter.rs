//! The one place where a probe over WebSocket waits: for sockets, for a point in time, for a request to stop.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::Notify;

use crate::flow::WallClock;
use crate::io::stop::{Reason, Stop};
use crate::time::{Time, nanos};

const STOP: Token = Token(usize::MAX);

/// Waits, and has the clock.
pub(super) struct Waiter {
    poll: Poll,
    events: Events,
    origin: Instant,
    stop: Stop,
    /// The same for those who wait asynchronously.
    asked: Arc<Notify>,
}

impl Waiter {
    /// To be used on one thread at a time.
    pub(super) fn new(stop: &Stop) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
        let asked = Arc::new(Notify::new());
        let notify = Arc::clone(&asked);
        stop.on_request(move || {
            notify.notify_one();
            // Fails only when nobody waits any more.
            let _ = waker.wake();
        });
        Ok(Self { poll, events: Events::with_capacity(8), origin: Instant::now(), stop: stop.clone(), asked })
    }

    /// The clock, by which what is read is stamped too.
    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    /// The monotonic clock.
    pub(super) fn now(&self) -> Time {
        Time::from_nanos(nanos(self.origin.elapsed()))
    }

    /// What time of day it is on that clock.
    pub(super) fn wall(&self) -> WallClock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
        WallClock { at: self.now(), unix_ns: unix.cast_signed() }
    }

    /// Why to stop, if there was a request to.
    pub(super) fn stopped(&self) -> Option<Reason> {
        self.stop.requested()
    }

    /// Until there is one.
    pub(super) async fn stopping(&self) -> Reason {
        loop {
            if let Some(reason) = self.stop.requested() {
                return reason;
            }
            self.asked.notified().await;
        }
    }

    /// From now on news of `tcp` end a wait. Each is told once: it has to be read, or written, until it would block.
    pub(super) fn watch(&self, tcp: &mut TcpStream, number: usize) -> io::Result<()> {
        self.poll.registry().register(tcp, Token(number), Interest::READABLE | Interest::WRITABLE)
    }

    /// Waits for news of a socket, for a request to stop, or until `until` has come. `true`: `until` has come and nothing else.
    pub(super) fn wait(&mut self, until: Option<Time>) -> io::Result<bool> {
        let left = until.map(|until| until.since(self.now()));
        let left = self.sleep(left)?;
        match self.poll.poll(&mut self.events, left) {
            Ok(()) => Ok(self.events.is_empty() && until.is_some_and(|until| self.now() >= until)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits as long as the system can to the nanosecond; the rest is left. The poll's own waits end up to a millisecond late.
    #[cfg(target_os = "linux")]
    fn sleep(&self, left: Option<Duration>) -> io::Result<Option<Duration>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(self.poll.registry(), PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Some(Duration::ZERO)),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it is one of two")]
    fn sleep(&self, left: Option<Duration>) -> io::Result<Option<Duration>> {
        Ok(left)
    }
}

/// The system may let this thread's sleeps end a nanosecond late in place of 50 µs. To be called on the thread that paces.
pub(super) fn sharpen() {
    #[cfg(target_os = "linux")]
    {
        // Where it is refused the wake-ups show it.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}
