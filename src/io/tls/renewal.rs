//! Replaces certificates while a server runs: by a timer, PEM files that have changed are read again, and self-signed certificates are renewed. On
//! SIGHUP, PEM files are read again at once.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::identity::ServerIdentity;
use crate::io::stop::StopToken;
use crate::io::worker::Worker;

/// How often files, and the age of a self-signed certificate, are checked. The age is that of the wall clock, which advances while a machine
/// sleeps.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

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

/// Starts a thread that reads the certificate files of `identity` again on SIGHUP, which requests a stop if the terminal of the process was
/// closed. Without files, the thread only handles SIGHUP, which would otherwise end the process.
#[cfg(unix)]
pub fn reload_on_sighup(identity: Option<Arc<ServerIdentity>>, stop: &StopToken) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on, the signal does not end the process.
    let mut hangups = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let terminals_at_start = terminals();
    let stop = stop.clone();
    let reload = move || {
        while runtime.block_on(hangups.recv()).is_some() {
            if terminals() < terminals_at_start {
                stop.request(crate::client::StopSignal::Terminate);
            }
            if let Some(identity) = &identity {
                identity.replace(SystemTime::now(), true);
            } else {
                tracing::info!(target: "tls", "SIGHUP received; there is no certificate file to reload");
            }
        }
    };
    Worker::spawn("certificates", reload).map(drop)
}

/// Systems other than Unix have no SIGHUP.
#[cfg(not(unix))]
pub fn reload_on_sighup(_: Option<Arc<ServerIdentity>>, _: &StopToken) -> io::Result<()> {
    Ok(())
}

/// Number of standard streams that are terminals. A closed terminal is no terminal any more.
#[cfg(unix)]
fn terminals() -> usize {
    use std::io::IsTerminal;

    [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()].map(usize::from).iter().sum()
}
