//! A thread with a result, whose end can be awaited for a limited time.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lock::lock;

/// A running thread.
#[derive(Debug)]
pub struct Worker<T> {
    thread: JoinHandle<T>,
    /// Closed when the thread ends. The lock makes this type `Sync`.
    finished: Mutex<Receiver<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Calls `work` on a new thread called `name`.
    pub fn spawn(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (running, finished) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = work();
            drop(running);
            result
        })?;
        Ok(Self { thread, finished: Mutex::new(finished) })
    }

    /// Waits for the end of the thread for at most `timeout`. Returns whether the thread has ended.
    pub fn finished_within(&self, timeout: Duration) -> bool {
        lock(&self.finished).recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// Waits for the end of the thread and returns its result.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn join(self) -> T {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
