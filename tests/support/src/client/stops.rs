//! With a seed in the variable `STOP_PROGRAMS`, each program that a test starts is stopped once: whatever a test asserts must hold at any
//! speed of its programs.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::rng::Rng;

const LATEST_STOP_MS: u64 = 500;

/// Longer than a server or client waits for one reply, and than the pauses that programs find in their own schedules.
const STOP_LENGTH: Duration = Duration::from_millis(1_500);

const VARIABLE: &str = "STOP_PROGRAMS";

/// Stops `program` at a random time within [`LATEST_STOP_MS`], and lets it continue after [`STOP_LENGTH`], unless `command` sets the variable:
/// a load balancer takes a server that is stopped for one that has failed.
pub(super) fn stop_once(command: &Command, program: &Child) {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let is_exempt = command.get_envs().any(|(name, _)| name == VARIABLE);
    let Some(seed) = std::env::var(VARIABLE).ok().filter(|_| !is_exempt) else { return };
    let seed: u64 = seed.parse().expect("STOP_PROGRAMS is a number");
    let mut rng = Rng::new(seed.rotate_left(32) ^ STARTED.fetch_add(1, Ordering::Relaxed));
    let start = Duration::from_millis(rng.below(LATEST_STOP_MS));
    // When the program has ended, its number may be that of another process, but the descriptor is not.
    let process = pidfd_open(Pid::from_child(program), PidfdFlags::empty()).expect("a descriptor of the program");
    std::thread::spawn(move || {
        for (wait, signal) in [(start, Signal::STOP), (STOP_LENGTH, Signal::CONT)] {
            std::thread::sleep(wait);
            // The program may have ended.
            let _ = pidfd_send_signal(&process, signal);
        }
    });
}
