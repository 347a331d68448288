//! A stop request that all threads share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;

use crate::client::StopSignal;
use crate::lock::lock;

/// A stop request that any number of threads can wait for. All clones share the same request.
#[derive(Clone, Default)]
pub struct StopToken(Arc<StopState>);

#[derive(Default)]
struct StopState {
    signal: OnceLock<StopSignal>,
    wakers: Mutex<Vec<Box<dyn Fn() + Send>>>,
    on_exit: OnceLock<Box<dyn Fn() + Send + Sync>>,
    has_run_started: AtomicBool,
    is_serving: AtomicBool,
}

impl StopToken {
    /// Requests a stop. Only the first signal is kept.
    pub fn request(&self, signal: StopSignal) {
        let _ = self.0.signal.set(signal);
        for wake in lock(&self.0.wakers).iter() {
            wake();
        }
    }

    /// Returns the signal that requested the stop, or `None` if no stop was requested.
    pub fn signal(&self) -> Option<StopSignal> {
        self.0.signal.get().copied()
    }

    /// Called by a run that from here on ends by itself after a stop request, with its report.
    pub fn set_run_started(&self) {
        self.0.has_run_started.store(true, Ordering::Relaxed);
    }

    /// Whether the run ends by itself after a stop request. Otherwise, the signal handler ends the process.
    pub fn has_run_started(&self) -> bool {
        self.0.has_run_started.load(Ordering::Relaxed)
    }

    /// Called by a server that has all its threads and sockets.
    pub fn set_serving(&self) {
        self.0.is_serving.store(true, Ordering::Relaxed);
    }

    /// Whether a server has started completely.
    pub fn is_serving(&self) -> bool {
        self.0.is_serving.load(Ordering::Relaxed)
    }

    /// A value that one waiter at a time can wait for. It is notified by every stop request, also by an earlier one.
    pub fn to_notify(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        let wake = Arc::clone(&notify);
        self.on_stop(move || wake.notify_one());
        if self.signal().is_some() {
            notify.notify_one();
        }
        notify
    }

    /// The output of `future`, unless `stopped`, which is from [`StopToken::to_notify`], is notified before.
    pub async fn unless_stopped<T>(&self, stopped: &Notify, future: impl Future<Output = T>) -> Result<T, StopSignal> {
        tokio::select! {
            biased;
            () = stopped.notified() => Err(self.signal().unwrap_or(StopSignal::Interrupt)),
            output = future => Ok(output),
        }
    }

    /// Sets what must be done if the process exits before the run has ended by itself.
    pub fn set_exit_action(&self, action: impl Fn() + Send + Sync + 'static) {
        _ = self.0.on_exit.set(Box::new(action));
    }

    /// Called before the process exits without waiting for the run.
    pub fn run_exit_action(&self) {
        if let Some(action) = self.0.on_exit.get() {
            action();
        }
    }

    /// Calls `wake` for every stop request made after this call. The caller must check [`StopToken::signal`] after this call to detect an
    /// earlier request.
    pub fn on_stop(&self, wake: impl Fn() + Send + 'static) {
        lock(&self.0.wakers).push(Box::new(wake));
    }
}
