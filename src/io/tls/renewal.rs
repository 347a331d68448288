//! Replaces certificates while a server runs: PEM files that have changed are read again, and self-signed certificates are renewed.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::identity::ServerIdentity;
use crate::io::worker::Worker;

/// How often files, and the age of a self-signed certificate, are checked. The age is that of the wall clock, which advances while a machine
/// sleeps.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Starts a thread that replaces the certificate of `identity` when it is due.
pub fn replace_when_due(identity: &Arc<ServerIdentity>) -> io::Result<()> {
    let identity = Arc::clone(identity);
    let renew = move || -> () {
        loop {
            thread::sleep(CHECK_INTERVAL);
            identity.replace_if_due(SystemTime::now());
        }
    };
    Worker::spawn("certificates", renew).map(drop)
}
