//! A client at work on a thread of its own, whose facts become a run as they happen.
//!
//! Whoever asks for the call holds what it has told. When the thread is long past its [`Bound`], or does not end when it is asked to, it
//! is left alone with whatever holds it up, and the run is what was told until then. Nothing else keeps a run from hanging for ever
//! where the system, or what is below us, does.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{self, Dial, DialError, INTERRUPTED};
use super::pump::Clock;
use crate::flow::moqt::Frames;
use crate::flow::run::Wait;
use crate::io::stop::Stop;
use crate::moqt::client::{Bound, Client, Config, Ending, Fact};
use crate::moqt::code;
use crate::time::{Time, nanos};

/// Time between two attempts to reach a server that is waited for.
const EVERY: Duration = Duration::from_millis(100);

/// How long one of these attempts may take: lost packets are repeated within it.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a call may be past its bound: the machine may be busy. It counts from when that was seen, for it may have stood still too.
const MARGIN: Duration = Duration::from_secs(5);

/// How long a call may take to end once it is asked to. After two seconds nobody waits for a report any more.
const STOPPING: Duration = Duration::from_millis(1_500);

/// What has become of a call.
pub struct Called {
    /// All that was told.
    pub frames: Frames,
    /// Why there was no session.
    pub error: Option<DialError>,
    /// How it was waited for the server.
    pub wait: Option<Wait>,
}

/// What was told.
struct Told {
    frames: Frames,
    bound: Bound,
}

/// Nothing any more once the call is over.
#[derive(Clone)]
struct Record(Arc<Mutex<Option<Told>>>);

impl Record {
    fn lock(&self) -> MutexGuard<'_, Option<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is new.
    fn note(&self, new: impl FnOnce(&mut Told)) {
        self.lock().as_mut().map(new);
    }
}

/// A call that goes on.
pub struct Call {
    thread: JoinHandle<Option<DialError>>,
    ended: Receiver<()>,
    record: Record,
    clock: Clock,
    began: Instant,
    wait_for: Option<Duration>,
    stop: Stop,
    /// Since when it should have been over.
    late: Option<Instant>,
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
        let (clock, began) = (Clock(dial.origin), Instant::now());
        let called = clock.now() + wait_for.unwrap_or_default() + dial.longest();
        let record = Record(Arc::new(Mutex::new(Some(Told { frames, bound: Bound::new(config.clone(), called) }))));
        let (asked, told) = (stop.clone(), record.clone());
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || {
            let error = run(dial, &config, &told, wait_for, &mut heard, &asked);
            // Whoever hears of it may wait for that to be dropped.
            drop((heard, at_end));
            error
        })?;
        Ok(Self { thread, ended, record, clock, began, wait_for, stop, late: None })
    }

    /// Waits for the end of the call, at most for `patience`. True when it has ended, or is to be given up.
    pub fn is_over_within(&mut self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) || self.is_given_up()
    }

    /// Whether it has not ended though it had to.
    pub fn is_given_up(&mut self) -> bool {
        let patience = if self.stop.requested().is_some() {
            STOPPING
        } else if self.bound().is_some_and(|(by, _)| by < self.clock.now()) {
            MARGIN
        } else {
            self.late = None;
            return false;
        };
        self.late.get_or_insert_with(Instant::now).elapsed() >= patience
    }

    /// By when what should come next.
    fn bound(&self) -> Option<(Time, &'static str)> {
        self.record.lock().as_ref().and_then(|told| Some((told.bound.by()?, told.bound.awaited())))
    }

    /// Waits for the end of the call, unless it is given up: what has become of it.
    ///
    /// # Panics
    /// If its thread did.
    pub fn end(mut self) -> Called {
        while !self.is_over_within(EVERY) {}
        let has_ended = self.ended.try_recv() == Err(TryRecvError::Disconnected);
        let Self { thread, record, clock, began, wait_for, stop, .. } = self;
        let mut error = None;
        if has_ended {
            error = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        // Nobody else takes it.
        let Some(Told { mut frames, bound }) = record.lock().take() else { unreachable!() };
        let (now, established) = (clock.now(), frames.established());
        if !has_ended && !frames.has_ended() {
            let ending = match stop.requested() {
                None => Ending::Overdue(bound.awaited()),
                Some(_) => Ending::Closed { code: code::NONE, reason: INTERRUPTED.to_owned(), by_us: true },
            };
            error = (stop.requested().is_some() && established.is_none()).then_some(DialError::Interrupted);
            frames.on_fact(&Fact::Ended { at: now, ending });
        }
        let in_session = established.map_or(Duration::ZERO, |at| now.since(at));
        let wait = wait_for.map(|_| Wait {
            waited_ns: nanos(began.elapsed().saturating_sub(in_session)),
            answered: established.is_some(),
        });
        Called { frames, error, wait }
    }
}

fn run(
    mut dial: Dial,
    config: &Config,
    record: &Record,
    wait_for: Option<Duration>,
    heard: &mut impl FnMut(&Fact),
    stop: &Stop,
) -> Option<DialError> {
    let began = Instant::now();
    let patience = dial.limits.setup;
    loop {
        let left = wait_for.map(|whole| whole.saturating_sub(began.elapsed()));
        if let Some(left) = left {
            dial.limits.setup = left.clamp(EVERY, ATTEMPT.min(patience));
        }
        let make = || {
            // Of a server that kept silent, and is asked in another way, nothing stays.
            record.note(|told| {
                told.frames.begin_anew();
                told.bound.call();
            });
            Client::new(config.clone())
        };
        let observe = |client: &mut Client| {
            while let Some(fact) = client.poll_fact() {
                record.note(|told| {
                    told.frames.on_fact(&fact);
                    told.bound.on_fact(&fact);
                });
                heard(&fact);
            }
        };
        let error = match client::run(&dial, make, observe, stop) {
            Ok(outcome) => {
                record.note(|told| {
                    told.frames.connected(outcome.set_up, &outcome.counts);
                    if outcome.path != dial.target.path {
                        told.frames.asked_again(outcome.path);
                    }
                });
                return None;
            }
            Err(error) => error,
        };
        let may_pass = matches!(error, DialError::Silent { .. } | DialError::Failed { .. });
        if !may_pass || left.is_none_or(|left| left <= dial.limits.setup) || stop.requested().is_some() {
            return Some(error);
        }
        thread::sleep(EVERY);
    }
}
