//! One request to stop, seen by everything that runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why a run should end before it is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupt = 1,
    /// SIGTERM: a supervisor asks.
    Terminate = 2,
}

impl Reason {
    /// The exit code of a client that was cut short: 128 plus the signal's number.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// A request to stop that any number of threads can wait for. Clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    reason: AtomicU8,
    /// Milliseconds; 0 is not said.
    patience: AtomicU64,
    wakers: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Stop {
    /// Asks everything to stop. The first reason stands.
    pub fn request(&self, reason: Reason) {
        let _ = self.0.reason.compare_exchange(0, reason as u8, Ordering::SeqCst, Ordering::SeqCst);
        for wake in self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wake();
        }
    }

    /// Whether and why to stop.
    pub fn requested(&self) -> Option<Reason> {
        match self.0.reason.load(Ordering::SeqCst) {
            0 => None,
            2 => Some(Reason::Terminate),
            _ => Some(Reason::Interrupt),
        }
    }

    /// Whether anything waits for a request: a run that would end itself and has something to report.
    pub fn is_awaited(&self) -> bool {
        !self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Says that the run may take up to `patience` to end well after a request.
    pub fn allow(&self, patience: Duration) {
        self.0.patience.store(patience.as_millis() as u64, Ordering::SeqCst);
    }

    /// How long the run may take to end after a request, if it said so.
    pub fn allowed(&self) -> Option<Duration> {
        Some(self.0.patience.load(Ordering::SeqCst)).filter(|patience| *patience > 0).map(Duration::from_millis)
    }

    /// Calls `wake` when a stop is requested. Whoever registers looks at [`Stop::requested`] afterwards, so that a
    /// request made before is not missed.
    pub fn on_request(&self, wake: impl Fn() + Send + 'static) {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(wake));
    }
}
