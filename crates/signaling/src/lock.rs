//! Locks of the hub. In tests, a scheduler decides which thread takes one.

use std::sync::{Mutex, MutexGuard};

/// Like [`jamjam_core::lock::lock`].
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    turns::wait_for(mutex);
    jamjam_core::lock::lock(mutex)
}

/// Threads of which one runs at a time. At every other lock, a random one continues, so that a seed determines the whole run.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the threads of a test")]
pub(crate) mod turns {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex, TryLockError};
    use std::thread::{self, Thread};

    use test_support::rng::Rng;

    /// Number of threads.
    pub(crate) const THREADS: usize = 8;

    /// Whose turn it is.
    struct Turns {
        threads: Mutex<Vec<(usize, Thread)>>,
        random: Mutex<Rng>,
        current: AtomicUsize,
        /// Number of attempts to take a lock since one succeeded.
        failed_attempts: AtomicUsize,
    }

    thread_local! {
        static TURNS: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
    }

    impl Turns {
        fn pass(&self) {
            let threads = self.threads.lock().expect("no panic");
            if !threads.is_empty() {
                let next = self.random.lock().expect("no panic").below(threads.len() as u64);
                let (next, thread) = &threads[next as usize];
                self.current.store(*next, Ordering::SeqCst);
                thread.unpark();
            }
        }

        fn wait(&self, own: usize) {
            while self.current.load(Ordering::SeqCst) != own {
                thread::park();
            }
        }
    }

    /// Lets other threads of a run continue until nobody holds the lock.
    pub(crate) fn wait_for<T: ?Sized>(mutex: &Mutex<T>) {
        let Some((turns, own)) = TURNS.with_borrow(Clone::clone) else { return };
        loop {
            if turns.random.lock().expect("no panic").below(2) == 0 {
                turns.pass();
                turns.wait(own);
            }
            if !matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)) {
                return turns.failed_attempts.store(0, Ordering::SeqCst);
            }
            assert!(turns.failed_attempts.fetch_add(1, Ordering::SeqCst) < 100 * THREADS, "deadlock");
        }
    }

    /// The end of a thread, even by a panic.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            if let Some((turns, own)) = TURNS.take() {
                turns.threads.lock().expect("no panic").retain(|(thread, _)| *thread != own);
                turns.pass();
            }
        }
    }

    /// Runs `act` with the number of each thread.
    pub(crate) fn in_turns(seed: u64, act: impl Fn(usize) + Sync) {
        let turns = Arc::new(Turns {
            threads: Mutex::default(),
            random: Mutex::new(Rng::new(seed)),
            current: AtomicUsize::new(0),
            failed_attempts: AtomicUsize::new(0),
        });
        let started = Barrier::new(THREADS);
        thread::scope(|scope| {
            for own in 0..THREADS {
                let (turns, started, act) = (Arc::clone(&turns), &started, &act);
                scope.spawn(move || {
                    turns.threads.lock().expect("no panic").push((own, thread::current()));
                    started.wait();
                    turns.threads.lock().expect("no panic").sort_unstable_by_key(|(number, _)| *number);
                    started.wait();
                    turns.wait(own);
                    TURNS.set(Some((turns, own)));
                    let _end = End;
                    act(own);
                });
            }
        });
    }
}
