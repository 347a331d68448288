//! Seeded simulations of clients and echo servers. Their results are compared with an independent computation.

mod client_and_echo;
mod link;
pub(crate) mod log;
pub(crate) mod net;
mod node_group;
pub(crate) mod participants;
mod pauses;
mod reference_counts;
mod simulated_socket;

use std::sync::Mutex;
use std::thread;

/// Runs tasks on all cores. Returns the results of all.
pub(crate) fn in_parallel<T: Send>(tasks: Vec<impl FnOnce() -> Vec<T> + Send>) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tasks = Mutex::new(tasks.into_iter());
    let next = || tasks.lock().unwrap().next();
    let run = || std::iter::from_fn(next).flat_map(|task| task()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
