//! Reads the certificate files again when they change and on SIGHUP. Open connections keep their certificate, and new handshakes get the new
//! one. If the new files cannot be used, the previous certificate remains in use, and one line is logged.
//!
//! Certificate and key are replaced one after the other. Therefore, new contents are used only if the key belongs to the certificate. Files
//! that cannot be used are reported only if they stay the same for `SETTLE_TIME`.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::pem_files::{FilesState, PemFiles};
use super::server::{CA_CERTIFICATE_WARNING, CertResolver, ServerIdentity, load_pem_files};
use crate::client::StopSignal;
use crate::io::stop::StopToken;

/// How often the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How long to wait for the next check after a change was seen.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long files that cannot be used must stay the same before an error is logged.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// Starts a thread that reloads the certificate of `identity` on SIGHUP and when its files change. Without files, the thread only handles
/// SIGHUP, which would otherwise end the process. If the terminal of the process is closed, SIGHUP requests a stop.
pub fn spawn(identity: Option<&ServerIdentity>, stop: &StopToken) -> io::Result<()> {
    let reloader = identity.and_then(Reloader::new);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    // From here on, the signal does not end the process.
    let hangups = Hangups::new()?;
    drop(context);
    let terminals_at_start = terminals();
    let stop = stop.clone();
    std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
        runtime.block_on(run(reloader, hangups, || {
            if terminals() < terminals_at_start {
                stop.request(StopSignal::Terminate);
            }
        }));
    })?;
    Ok(())
}

/// Reloads until the server no longer uses the certificate. Without `reloader`, runs until the process ends.
async fn run(mut reloader: Option<Reloader>, mut hangups: Hangups, on_hangup: impl Fn()) {
    loop {
        let wait = async {
            match &reloader {
                Some(reloader) => tokio::time::sleep(reloader.check_interval()).await,
                None => std::future::pending().await,
            }
        };
        let is_requested = tokio::select! {
            () = wait => false,
            () = hangups.next() => true,
        };
        if is_requested {
            on_hangup();
        }
        if let Some(reloader) = &mut reloader {
            if !reloader.check(is_requested, Instant::now()) {
                return;
            }
        } else if is_requested {
            info!(target: "tls", "SIGHUP received; there is no certificate file to reload");
        }
    }
}

/// Number of standard streams that are terminals. A closed terminal is no terminal any more.
fn terminals() -> usize {
    [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()]
        .into_iter()
        .map(usize::from)
        .sum()
}

/// Reloads one pair of files.
struct Reloader {
    resolver: Weak<CertResolver>,
    files: PemFiles,
    /// The state of the files when the current certificate was loaded.
    loaded: FilesState,
    /// A newer state that is not loaded yet.
    pending: Option<Pending>,
}

/// Changed files that have not been loaded.
#[derive(Clone, Copy)]
struct Pending {
    state: FilesState,
    since: Instant,
    /// Whether SIGHUP requested to load the files.
    is_requested: bool,
    /// Whether an error about this state was logged.
    is_reported: bool,
}

impl Reloader {
    /// A reloader, if the certificate of `identity` was read from files.
    fn new(identity: &ServerIdentity) -> Option<Self> {
        let resolver = identity.cert_resolver();
        let files = resolver.files.clone()?;
        let loaded = files.first_state;
        Some(Self { resolver: Arc::downgrade(resolver), files, loaded, pending: None })
    }

    /// Time until the next check.
    fn check_interval(&self) -> Duration {
        let is_settling = self.pending.is_some_and(|pending| !pending.is_reported);
        if is_settling { RETRY_INTERVAL } else { POLL_INTERVAL }
    }

    /// Loads the files if they have changed, or if `is_requested`. Returns false if the server no longer uses the certificate.
    fn check(&mut self, is_requested: bool, now: Instant) -> bool {
        let Some(resolver) = self.resolver.upgrade() else { return false };
        let state = self.files.state();
        if state == self.loaded && !is_requested && self.pending.is_none_or(|pending| !pending.is_requested) {
            // The files are as they were. If they have changed in between, the change was undone.
            self.pending = None;
            return true;
        }
        let known = self.pending.filter(|pending| pending.state == state);
        let mut pending = known.unwrap_or(Pending { state, since: now, is_requested: false, is_reported: false });
        if is_requested {
            pending = Pending { since: now, is_requested: true, is_reported: false, ..pending };
        }
        self.pending = Some(pending);
        if known.is_none() && !is_requested {
            // The files may still be written. The next check loads them, if they have not changed again.
            return true;
        }
        match load_pem_files(&self.files.certificate, &self.files.key, SystemTime::now()) {
            Ok(certificate) if self.files.state() == state => {
                resolver.replace(certificate.clone());
                info!(
                    target: "tls",
                    valid_until = %certificate.valid_until,
                    sha256 = %certificate.fingerprint(),
                    "certificate reloaded"
                );
                if certificate.is_ca {
                    warn!(target: "tls", "{CA_CERTIFICATE_WARNING}");
                }
                (self.loaded, self.pending) = (state, None);
            }
            Err(error) if !pending.is_reported && now.duration_since(pending.since) >= SETTLE_TIME => {
                resolver.failed_reloads.add(1);
                let valid_until = resolver.current_at(SystemTime::now()).valid_until;
                error!(
                    target: "tls",
                    %error,
                    %valid_until,
                    "certificate not reloaded; the previous one remains in use. Correct the files: changed files are read again"
                );
                self.pending = Some(Pending { is_reported: true, ..pending });
            }
            // The files changed while they were read, or may still be written. The next check reads them again.
            Ok(_) | Err(_) => {}
        }
        true
    }
}

/// The SIGHUP signals of the process.
#[cfg(unix)]
struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?))
    }

    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Systems other than Unix have no SIGHUP.
#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}
