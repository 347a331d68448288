//! Parses the command line, listens for signals, runs one subcommand, and exits with its code.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jamjam_dev::cmd::output::note;
use jamjam_dev::cmd::{Failure, environment};
use jamjam_dev::io::stop::{Reason, Stop};

fn main() -> ExitCode {
    let cli = environment::parse();
    let stop = Stop::default();
    let result = listen_for_signals(stop.clone()).and_then(|()| cli.run(&stop));
    match result {
        Ok(code) => code.into(),
        Err(Failure { code, error }) => {
            note(&format!("{error:#}"));
            code.into()
        }
    }
}

/// How long a run that was asked to stop may take to end unless it says otherwise: long enough to complete a recording.
const PATIENCE: Duration = Duration::from_secs(2);

/// Signals that come so close together are one: coreutils' `timeout` signals its child, and then the child's group.
const TOGETHER: Duration = Duration::from_millis(250);

/// Turns SIGINT and SIGTERM into a request to stop, from a thread of their own. A second one, or the end of [`PATIENCE`], ends
/// the process; so does the first before anything has begun.
fn listen_for_signals(stop: Stop) -> Result<(), Failure> {
    let listen = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let mut signals = Signals::new()?;
        drop(context);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let reason = signals.next().await;
                stop.request(reason);
                if !stop.is_awaited() {
                    // Nothing has begun: a name server or a pipe keeps us waiting.
                    std::process::exit(reason.exit_code().into());
                }
                let patience = stop.allowed().unwrap_or(PATIENCE);
                let asked = Instant::now();
                let again = async {
                    while asked.elapsed() < TOGETHER {
                        signals.next().await;
                    }
                };
                let _ = tokio::time::timeout(patience, again).await;
                std::process::exit(reason.exit_code().into());
            });
        })?;
        Ok(())
    };
    listen().map_err(|error| Failure { code: 3, error: anyhow::anyhow!("cannot listen for signals: {error}") })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Reason {
        tokio::select! {
            _ = self.interrupt.recv() => Reason::Interrupt,
            _ = self.terminate.recv() => Reason::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Reason {
        // Without a handler the system ends the process itself, which is what Ctrl-C means.
        let _ = tokio::signal::ctrl_c().await;
        Reason::Interrupt
    }
}
