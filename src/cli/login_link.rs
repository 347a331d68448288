//! Gives the operator a login link if there is no password: prints the link on a terminal, or writes the link to a private file. SIGUSR1
//! requests a new link. The log contains the path of the file, but never the link.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use crate::io::http::login::Login;
use crate::io::private_file::PrivateFile;
use crate::io::stop::StopToken;

/// Begins the name of the file with the link, or of its folder.
const FILE_NAME: &str = "jamjam-dev-login";

/// Delivers the login links of one server.
pub struct LinkDelivery {
    login: Arc<Login>,
    /// URLs of the server without a path. A link works with each of them.
    urls: Vec<String>,
    /// How the operator can log in without a link, for the log.
    remedy: &'static str,
}

impl LinkDelivery {
    /// Delivers links for a server with these URLs, until `stop` is requested. If a link cannot be delivered, the log contains `remedy`.
    pub fn new(login: Arc<Login>, urls: Vec<String>, remedy: &'static str, stop: &StopToken) -> Self {
        let closing = Arc::clone(&login);
        // Removes the file even if the process exits without dropping its values.
        stop.on_stop(move || close(&closing));
        if stop.signal().is_some() {
            close(&login);
        }
        Self { login, urls, remedy }
    }

    /// Creates a new link and delivers it. An unused earlier link becomes invalid. Does nothing if the server accepts no links.
    pub fn deliver(&self) {
        let Some(link) = self.login.link() else { return };
        let remedy = self.remedy;
        let secret = match link.create_link() {
            Ok(Some(secret)) => secret,
            Ok(None) => return,
            Err(error) => {
                return warn!(target: "http", %error, "cannot create a login link; {remedy}");
            }
        };
        let lines = |before: &str| {
            let links = self.urls.iter().map(|url| format!("{before}{url}/start?login={}\n", secret.as_str()));
            links.collect::<String>()
        };
        if print_on_terminal(&lines("Login link, valid once: ")).is_ok_and(|printed| printed) {
            return;
        }
        let runtime_folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match PrivateFile::create(FILE_NAME, &lines(""), runtime_folder.as_deref()) {
            Ok(file) => {
                let path = file.path().to_owned();
                link.attach_file(&secret, file);
                info!(target: "http", file = %path.display(), "login link written; open the link in this file, it works once");
            }
            Err(error) => {
                warn!(target: "http", %error, "cannot write the login link to a file; set XDG_RUNTIME_DIR, or {remedy}");
            }
        }
    }

    /// Reports that SIGUSR1 has no effect, or delivers a new link.
    #[cfg(unix)]
    fn on_signal(&self) {
        if self.login.link().is_none() {
            info!(target: "http", "SIGUSR1 ignored, because the server accepts no login link");
        }
        self.deliver();
    }

    /// Removes an unused link and its file. The server has stopped.
    pub fn close(&self) {
        close(&self.login);
    }
}

fn close(login: &Login) {
    if let Some(link) = login.link() {
        link.close();
    }
}

/// Prints the text on standard error, or on standard output, if it is a terminal. Returns whether the text was printed.
fn print_on_terminal(text: &str) -> io::Result<bool> {
    if stderr().is_terminal() {
        stderr().write_all(text.as_bytes()).map(|()| true)
    } else if stdout().is_terminal() {
        stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()).map(|()| true)
    } else {
        Ok(false)
    }
}

/// Receives SIGUSR1. Without this handler, the signal would end the process.
#[cfg(unix)]
pub struct LinkSignal {
    runtime: tokio::runtime::Runtime,
    signal: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl LinkSignal {
    /// Installs the handler. Signals are kept until [`Self::deliver_on_signal`].
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signal = {
            let _context = runtime.enter();
            signal(SignalKind::user_defined1())?
        };
        Ok(Self { runtime, signal })
    }

    /// Delivers a new link for each signal, on a thread that runs until the process exits.
    pub fn deliver_on_signal(self, delivery: Arc<LinkDelivery>) -> io::Result<()> {
        let Self { runtime, mut signal } = self;
        std::thread::Builder::new().name("login-link".to_owned()).spawn(move || {
            runtime.block_on(async {
                while signal.recv().await.is_some() {
                    delivery.on_signal();
                }
            });
        })?;
        Ok(())
    }
}

/// Other systems have no SIGUSR1.
#[cfg(not(unix))]
pub struct LinkSignal;

#[cfg(not(unix))]
impl LinkSignal {
    /// Does nothing.
    pub fn install() -> io::Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    pub fn deliver_on_signal(self, _: Arc<LinkDelivery>) -> io::Result<()> {
        Ok(())
    }
}
