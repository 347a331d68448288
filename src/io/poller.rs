//! Waits for sockets, timers and stop requests. Part of the drivers that use `mio`.

use std::io;
use std::sync::Arc;
use std::time::Duration;
#[cfg(windows)]
use std::time::Instant;

use mio::{Events, Poll, Registry, Token, Waker};

#[cfg(windows)]
use crate::io::alarm::{self, Alarm};
use crate::io::clock::monotonic_now;
use crate::io::stop::StopToken;
use crate::time::Time;

/// The token of the waker. Sockets have other tokens.
const WAKER: Token = Token(usize::MAX);

pub(super) struct Poller {
    poll: Poll,
    /// The events of the last wait, also of the waker. If there are more, the next wait has the rest.
    pub(super) events: Events,
    waker: Arc<Waker>,
    #[cfg(windows)]
    alarm: Alarm,
}

impl Poller {
    /// Creates a poller whose waits end when `stop` is requested.
    pub(super) fn new(stop: &StopToken) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let poller = Self {
            poll,
            events: Events::with_capacity(8),
            #[cfg(windows)]
            alarm: Alarm::new(Arc::clone(&waker))?,
            waker,
        };
        stop.on_stop(poller.waker());
        Ok(poller)
    }

    /// Returns a function that ends a wait from any thread.
    pub(super) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let waker = Arc::clone(&self.waker);
        // Fails only after the poller was dropped.
        move || _ = waker.wake()
    }

    /// Registers sockets, edge-triggered: after an event, the caller must read or write until the socket would block.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for a socket event, the waker, or `until`, or on Windows for a part of the time. True if `until` was reached and there was no
    /// socket event.
    pub(super) fn wait(&mut self, until: Option<Time>) -> io::Result<bool> {
        let remaining = match until.map(|until| until.duration_since(monotonic_now())) {
            Some(Duration::ZERO) => Some(Duration::ZERO),
            remaining => self.sleep_precisely(remaining)?,
        };
        match self.poll.poll(&mut self.events, remaining) {
            Ok(()) => Ok(self.events.iter().all(|event| event.token() == WAKER)
                && until.is_some_and(|until| monotonic_now() >= until)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits with nanosecond resolution if the system supports it, because a `mio` timeout may expire up to a millisecond late. Returns the
    /// timeout for the `mio` poll that follows: zero after a wait, otherwise `remaining`.
    #[cfg(target_os = "linux")]
    fn sleep_precisely(&self, remaining: Option<Duration>) -> io::Result<Option<Duration>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let timeout = remaining.and_then(|remaining| Timespec::try_from(remaining).ok());
        match poll(&mut [PollFd::new(self.poll.registry(), PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Some(Duration::ZERO)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the alarm to the end of the wait, whose timeout may expire late. Returns the timeout: a longer wait ends before its end, and the
    /// caller waits again.
    #[cfg(windows)]
    #[expect(clippy::unnecessary_wraps, reason = "same signature as on Linux")]
    fn sleep_precisely(&self, remaining: Option<Duration>) -> io::Result<Option<Duration>> {
        Ok(remaining.map(|remaining| {
            if remaining > alarm::MAX_SLEEP {
                return remaining - alarm::MAX_SLEEP;
            }
            self.alarm.set(Instant::now() + remaining);
            remaining
        }))
    }

    #[cfg(not(any(target_os = "linux", windows)))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "same signature as on Linux")]
    fn sleep_precisely(&self, remaining: Option<Duration>) -> io::Result<Option<Duration>> {
        Ok(remaining)
    }
}
