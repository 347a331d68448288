//! A client at work on a thread of its own, whose facts become a run as they happen.

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{self, Dial, DialError};
use crate::flow::moqt::Frames;
use crate::flow::run::Wait;
use crate::io::stop::Stop;
use crate::moqt::client::{Client, Config, Fact};
use crate::time::nanos;

/// Time between two attempts to reach a server that is waited for.
const EVERY: Duration = Duration::from_millis(100);

/// How long one of these attempts may take: lost packets are repeated within it.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What has become of a call.
pub struct Called {
    /// All that was told.
    pub frames: Frames,
    /// Why there was no session.
    pub error: Option<DialError>,
    /// How it was waited for the server.
    pub wait: Option<Wait>,
}

/// A call that goes on.
pub struct Call {
    thread: JoinHandle<Called>,
    ended: Receiver<()>,
}

impl Call {
    /// Calls as `dial` says, and runs a client of `config`. With `wait_for`, a server that is not there is called again until that is over.
    /// `heard` is told every fact, on the thread that sends.
    pub fn begin(
        dial: Dial,
        config: Config,
        frames: Frames,
        wait_for: Option<Duration>,
        mut heard: impl FnMut(&Fact) + Send + 'static,
        stop: Stop,
    ) -> io::Result<Self> {
        let (at_end, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || {
            let called = run(dial, &config, frames, wait_for, &mut heard, &stop);
            // Whoever hears of it may wait for that to be dropped.
            drop((heard, at_end));
            called
        })?;
        Ok(Self { thread, ended })
    }

    /// Waits for the end of the call, at most for `patience`. True when it has ended.
    pub fn ended_within(&self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    /// Waits for the end of the call.
    ///
    /// # Panics
    /// If its thread did.
    pub fn join(self) -> Called {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(
    mut dial: Dial,
    config: &Config,
    mut frames: Frames,
    wait_for: Option<Duration>,
    heard: &mut impl FnMut(&Fact),
    stop: &Stop,
) -> Called {
    let began = Instant::now();
    let patience = dial.limits.setup;
    loop {
        let left = wait_for.map(|whole| whole.saturating_sub(began.elapsed()));
        if let Some(left) = left {
            dial.limits.setup = left.clamp(EVERY, ATTEMPT.min(patience));
        }
        // Of a server that kept silent, and is asked in another way, nothing stays.
        let is_new = Cell::new(false);
        let make = || {
            is_new.set(true);
            Client::new(config.clone())
        };
        let observe = |client: &mut Client| {
            if is_new.take() {
                frames.begin_anew();
            }
            while let Some(fact) = client.poll_fact() {
                frames.on_fact(&fact);
                heard(&fact);
            }
        };
        let called = client::run(&dial, make, observe, stop);
        if is_new.take() {
            frames.begin_anew();
        }
        let error = match called {
            Ok(outcome) => {
                frames.connected(outcome.set_up, &outcome.counts);
                if outcome.path != dial.target.path {
                    frames.asked_again(outcome.path);
                }
                None
            }
            Err(error) => Some(error),
        };
        let may_pass = matches!(error, Some(DialError::Silent { .. } | DialError::Failed { .. }));
        if may_pass && left.is_some_and(|left| left > dial.limits.setup) && stop.requested().is_none() {
            thread::sleep(EVERY);
            continue;
        }
        let since = |at| nanos(dial.origin.elapsed()).saturating_sub(at);
        let waited = frames.established().map_or(0, |at| since(at.as_nanos()));
        let wait = wait_for.map(|_| Wait {
            waited_ns: nanos(began.elapsed()).saturating_sub(waited),
            answered: frames.established().is_some(),
        });
        return Called { frames, error, wait };
    }
}
