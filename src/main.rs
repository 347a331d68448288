//! Parses the command line, handles signals, runs one subcommand, and exits with its code.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::ExitCode;
use std::time::Duration;
use std::{env, io, panic};

use jamjam_dev::cli::output::{Failure, print_message};
use jamjam_dev::cli::{environment, system_limits};
use jamjam_dev::client::StopSignal;
#[cfg(unix)]
use jamjam_dev::io::os;
use jamjam_dev::io::stop::StopToken;
use tokio::sync::oneshot;

/// Allocator that returns the memory of closed connections to the system, which glibc's keeps. Its settings: `src/jemalloc_settings.c`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let stop = StopToken::default();
    exit_at_system_limits(stop.clone());
    let result = environment::parse().and_then(|(cli, matches)| {
        listen_for_signals(stop.clone(), cli.is_server())?;
        cli.run(&matches, &stop).map_err(|failure| environment::name_variables(failure, &matches))
    });
    match result {
        Ok(code) => code.into(),
        Err(Failure { code, error }) => {
            let text = format!("{error:#}");
            print_message(&format!("{text}{}", system_limits::advice(&text).unwrap_or_default()));
            code.into()
        }
    }
}

/// Libraries panic if the system starts no more threads or opens no more files. A process that starts then exits like after any other error of
/// the system.
fn exit_at_system_limits(stop: StopToken) {
    let print_panic = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match system_limits::failed_start(&panic.to_string(), &stop) {
        Some(message) => {
            print_message(&message);
            std::process::exit(3);
        }
        None => print_panic(panic),
    }));
}

/// Signals within this time count as one signal. The coreutils command `timeout` sends a signal twice: first to its child, then to the
/// child's process group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(250);

/// Returns what is received at the end of standard input, if a test started this server (`crates/harness`). Its standard input is then a pipe,
/// which the end of the test closes, however it ends.
fn end_of_input(is_server: bool) -> io::Result<oneshot::Receiver<()>> {
    let (end, ended) = oneshot::channel();
    if is_server && env::var_os("JAMJAM_END_WITH_STDIN").is_some_and(|value| value == "1") {
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // A standard input that cannot be read has ended too.
            _ = io::copy(&mut io::stdin(), &mut io::sink());
            _ = end.send(());
        })?;
    }
    Ok(ended)
}

/// Handles SIGINT, SIGTERM and SIGHUP on a thread. The first signal requests a stop, after which the run ends by
/// itself. The process exits immediately on a second signal, or if the program is still starting, on the first one.
/// The end of standard input counts as SIGTERM in a server that a test started.
fn listen_for_signals(stop: StopToken, is_server: bool) -> Result<(), Failure> {
    let listen = move || -> io::Result<()> {
        let input_ended = end_of_input(is_server)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let mut signals = Signals::new()?;
        drop(context);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let reason = tokio::select! {
                    reason = signals.next() => reason,
                    Ok(()) = input_ended => StopSignal::Terminate,
                };
                stop.request(reason);
                if !stop.has_run_started() {
                    // The program is still starting. For example, it may be waiting for a name server or a pipe.
                    std::process::exit(reason.exit_code().into());
                }
                let counts_as_one = async {
                    loop {
                        signals.next().await;
                    }
                };
                let _: Result<(), _> = tokio::time::timeout(SIGNAL_DEBOUNCE, counts_as_one).await;
                signals.next().await;
                stop.run_exit_action();
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
    /// `None` under `nohup`: a handler would end what `nohup` protects.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        // A write beyond the limit on file sizes then fails, as on a full disk. By default, it kills the process.
        #[cfg(target_os = "linux")]
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        let hangup = (!os::is_hangup_ignored()).then(|| signal(SignalKind::hangup()));
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self { interrupt: interrupt?, terminate: terminate?, hangup: hangup.transpose()? })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            Some(()) = async { self.hangup.as_mut()?.recv().await } => StopSignal::Hangup,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> StopSignal {
        // If the signal handler cannot be installed, `ctrl_c` fails at once. The program then stops as if it were interrupted.
        let _ = tokio::signal::ctrl_c().await;
        StopSignal::Interrupt
    }
}
