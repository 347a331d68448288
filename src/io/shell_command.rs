//! A command of a shell in a process group of its own, so that it is ended with all processes that it has started.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time to end by itself after SIGTERM. Then SIGKILL follows.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between searches for processes that are left.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct ShellCommand {
    shell: Child,
    /// Another group may then have its number.
    has_ended: bool,
}

impl ShellCommand {
    /// Starts `command` with an empty standard input. What it prints goes to the standard error of this process. Variables without a value are
    /// not set, even if they are set in this process.
    pub(crate) fn spawn(command: &str, environment: &[(&str, Option<String>)]) -> io::Result<Self> {
        let mut shell = shell(command);
        shell.stdin(Stdio::null()).stdout(io::stderr());
        for (name, value) in environment {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Ok(Self { shell: shell.spawn()?, has_ended: false })
    }

    /// Identifies the process group.
    pub(crate) fn id(&self) -> u32 {
        self.shell.id()
    }

    /// Whether the shell has ended by itself. The processes that it has started may run on.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        self.shell.try_wait().map(|status| status.is_some())
    }

    /// Ends what is left of the group. Returns how the shell has ended.
    pub(crate) fn end(&mut self) -> io::Result<ExitStatus> {
        let began = Instant::now();
        let mut is_left = terminate(self.id());
        while is_left && began.elapsed() < TERMINATION_TIMEOUT {
            thread::sleep(POLL_INTERVAL);
            // A process that has ended stays in its group until it is waited for.
            self.shell.try_wait()?;
            is_left = is_running(self.id());
        }
        if is_left {
            kill(self.id());
        }
        // The shell may have moved to another group.
        self.shell.kill()?;
        self.has_ended = true;
        self.shell.wait()
    }
}

impl Drop for ShellCommand {
    fn drop(&mut self) {
        if !self.has_ended {
            _ = self.end();
        }
    }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]).process_group(0);
    shell
}

#[cfg(unix)]
fn signal(id: u32, signal: Option<nix::sys::signal::Signal>) -> bool {
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id.cast_signed()), signal).is_ok()
}

/// Requests the end of the group `id`. Returns whether it has processes.
#[cfg(unix)]
fn terminate(id: u32) -> bool {
    signal(id, Some(nix::sys::signal::Signal::SIGTERM))
}

#[cfg(unix)]
fn is_running(id: u32) -> bool {
    signal(id, None)
}

/// Ends the group `id` at once.
#[cfg(unix)]
pub(crate) fn kill(id: u32) {
    signal(id, Some(nix::sys::signal::Signal::SIGKILL));
}

/// The exit code, and the signal that has ended the command: `sh` returns 128 and its number if the signal has ended a process of its own.
#[cfg(unix)]
pub(crate) fn code_and_signal(status: ExitStatus) -> (Option<i32>, Option<String>) {
    use nix::sys::signal::Signal;
    use std::os::unix::process::ExitStatusExt;
    let number = status.signal().or_else(|| Some(status.code()? - 128));
    let name = number.and_then(|number| Signal::try_from(number).ok()).map(|signal| signal.as_str().to_owned());
    (status.code(), name.or_else(|| Some(format!("signal {}", status.signal()?))))
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    #[cfg(windows)]
    std::os::windows::process::CommandExt::raw_arg(&mut shell, format!("/S /C \"{command}\""));
    shell
}

#[cfg(not(unix))]
fn terminate(id: u32) -> bool {
    kill(id);
    false
}

#[cfg(not(unix))]
fn is_running(_: u32) -> bool {
    false
}

/// Ends the process `id` and those that it has started.
#[cfg(not(unix))]
pub(crate) fn kill(id: u32) {
    let mut kill = Command::new("taskkill");
    _ = kill.args(["/T", "/F", "/PID", &id.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(not(unix))]
pub(crate) fn code_and_signal(status: ExitStatus) -> (Option<i32>, Option<String>) {
    (status.code(), None)
}
