//! Runs the echo server of the program `jamjam-dev` with a room, for a test of a jamjam client. The test needs no second musician, and nothing
//! of the server is left when the test has ended, however it ends.
//!
//! ```no_run
//! use std::net::UdpSocket;
//!
//! # fn main() -> std::io::Result<()> {
//! let room = jamjam_dev_harness::EchoRoom::start()?;
//! // The client under test joins the room `room.room_code()` of `room.server_url()`, or sends to the echo server at once:
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! let audio = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
//! client.send_to(&audio, room.echo())?;
//! let mut echo = [0; 12];
//! client.recv(&mut echo)?;
//! assert_eq!(echo, audio);
//! println!("{}", room.report()?.json);
//! # Ok(())
//! # }
//! ```
//!
//! The program is the one that the environment variable `JAMJAM_DEV` names, otherwise `jamjam-dev` on the path.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "unlike the other crates, this one starts a process"
)]

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Error, Result};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Maximum time until the room exists, long enough for a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time until the server has ended by itself, which takes up to 10 s if it has recordings to complete.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval between looks whether the server is ready, or has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Number of lines of the log that an error contains.
const LOG_LINES: usize = 10;

/// An echo server that is a member of a room on its own signaling server, all in one process and on free ports of 127.0.0.1. It checks what
/// clients send (`--check`). Dropping this value ends the process.
#[derive(Debug)]
pub struct EchoRoom {
    server: Child,
    /// Contains the ready file, the report and the log.
    folder: PathBuf,
    /// The text of the ready file.
    ready: String,
}

/// What the server has found out about its clients.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether a client has sent AUDIO, and none has broken a rule.
    pub passed: bool,
    /// The report as JSON, as `docs/check.schema.json` defines it.
    pub json: String,
}

impl EchoRoom {
    /// Starts a server that returns AUDIO after 100 ms, and waits until its room exists.
    pub fn start() -> Result<Self> {
        Self::start_with(&["--delay", "100ms"])
    }

    /// Like [`EchoRoom::start`], but with these options of `jamjam-dev echo-server`. The server returns AUDIO after 3 s, unless they say otherwise.
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let program = env::var_os("JAMJAM_DEV").unwrap_or_else(|| "jamjam-dev".into());
        let folder = env::temp_dir().join(format!("jamjam-dev-{:016x}", RandomState::new().hash_one(0)));
        let file = |name| folder.join(name);
        let mut command = Command::new(&program);
        command.args(["echo-server", "--host", "127.0.0.1", "--port", "0", "--with-signaling=0", "--check", "--json"]);
        command.arg("--ready-file").arg(file("ready.json")).args(options);
        command.env("JAMJAM_END_WITH_STDIN", "1").env_remove("ECHO_DELAY_MS").stdin(Stdio::piped());
        // Fails if it exists: nobody else may write the files in it.
        fs::create_dir(&folder).map_err(|error| {
            Error::new(error.kind(), format!("cannot create the folder {}: {error}", folder.display()))
        })?;
        let mut spawn =
            || command.stdout(File::create(file("report.json"))?).stderr(File::create(file("log"))?).spawn();
        let server = spawn().map_err(|error| {
            _ = fs::remove_dir_all(&folder);
            let remedy = "install jamjam-dev, or set JAMJAM_DEV to its path";
            Error::new(error.kind(), format!("cannot start `{}`: {error}; {remedy}", program.display()))
        })?;
        let mut room = Self { server, folder, ready: String::new() };
        let deadline = Instant::now() + START_TIMEOUT;
        while room.ready.is_empty() && Instant::now() < deadline && room.server.try_wait()?.is_none() {
            thread::sleep(POLL_INTERVAL);
            // The file is written as a whole.
            room.ready = fs::read_to_string(room.folder.join("ready.json")).unwrap_or_default();
        }
        let is_ready = ["signaling_url", "code", "udp"].iter().all(|name| room.value(name).is_some());
        if is_ready { Ok(room) } else { Err(room.failure("did not start an echo server with a room")) }
    }

    /// The signaling server, as `http://HOST:PORT`.
    pub fn server_url(&self) -> &str {
        self.value("signaling_url").unwrap_or_default()
    }

    /// The invite code of the room, for newer clients.
    pub fn room_code(&self) -> &str {
        self.value("code").unwrap_or_default()
    }

    /// The echo server, as `HOST:PORT` for UDP.
    pub fn echo(&self) -> &str {
        self.value("udp").unwrap_or_default()
    }

    /// A text of the ready file (`docs/tasks/client.md`), such as `ws_url`, or the invite code `code_6` for older clients.
    pub fn value(&self, name: &str) -> Option<&str> {
        text_of(&self.ready, name)
    }

    /// Stops the server. Returns what it has found out about its clients.
    pub fn report(mut self) -> Result<Report> {
        let status = self.end()?;
        match status.code() {
            Some(code @ 0..=1) => {
                Ok(Report { passed: code == 0, json: fs::read_to_string(self.folder.join("report.json"))? })
            }
            _ => Err(self.failure(&format!("ended without a report, {status}"))),
        }
    }

    /// Ends the server, and waits for its end.
    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.server.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.server.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.server.kill()?;
        self.server.wait()
    }

    /// An error with the end of the log.
    fn failure(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        Error::other(format!("`jamjam-dev echo-server` {what}:\n{last}"))
    }
}

impl Drop for EchoRoom {
    fn drop(&mut self) {
        // What cannot be ended or removed here is no fault of the test.
        _ = self.end();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// The text of the member `name` of a ready file, unless it is null. No text that a server writes there needs an escape, except the room's name.
/// In that, a quotation mark follows a backslash, so it contains no `"name":`.
fn text_of<'a>(ready: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = ready.split_once(&format!("\"{name}\":"))?;
    let (text, _) = value.trim_start().strip_prefix('"')?.split_once('"')?;
    (!text.contains('\\')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not as the server writes it, and with a name that looks like another member.
    const READY: &str = r#"{"udp":"127.0.0.1:5000", "room" : null, "name": "\"code\": \"x\"", "code":
        "ABCD-2345", "code_6": null}"#;

    #[test]
    fn members_of_the_ready_file_are_found_in_any_layout() {
        let found = ["udp", "room", "name", "code", "code_6", "moqt"].map(|name| text_of(READY, name));
        assert_eq!(found, [Some("127.0.0.1:5000"), None, None, Some("ABCD-2345"), None, None]);
    }
}
