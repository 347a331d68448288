//! Runs the echo server of the program `jamjam-dev` with a room, for a test of a jamjam client. The test needs no second musician, and no
//! process is left when the test has ended, however it ends.
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
//! In a room of [`EchoRoom::start_relayed`], the line of a member is broken from `room.sever("Aki", "*")` to `room.restore("Aki", "*")`.
//!
//! The program is the one that the environment variable `JAMJAM_DEV` names, otherwise `jamjam-dev` on the path.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "unlike the other crates, this one starts processes and writes in tests"
)]

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
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

/// An echo server that is a member of a room on its own signaling server, on free ports of 127.0.0.1. It checks the datagrams that
/// clients send (`--check`). Both are one process. If media is relayed, they are two, and messages to the signaling server are checked too.
/// Dropping this value ends them; in a test that fails, it prints the end of their logs.
#[derive(Debug)]
pub struct EchoRoom {
    /// The echo server, which ends first, and then the signaling server, if media is relayed.
    servers: Vec<Server>,
    /// The credentials for the signaling server, in Base64.
    login: String,
}

/// What the server has found out about its clients.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether a client has sent AUDIO, and none has broken a rule. If media is relayed, the signaling server must have passed its clients too.
    /// Warnings and notes do not count, and less than 12 s of AUDIO are not judged by all rules.
    pub passed: bool,
    /// The report of the echo server as JSON, as `docs/report.schema.json` defines it.
    pub json: String,
    /// That of the signaling server, if media is relayed. `media` has what was forwarded, and the recovery from each outage.
    pub relay: Option<String>,
}

impl EchoRoom {
    /// Starts a server that returns AUDIO after 100 ms, and waits until its room exists.
    pub fn start() -> Result<Self> {
        Self::start_with(&["--delay", "100ms"])
    }

    /// Like [`EchoRoom::start`], but with these options of `jamjam-dev echo-server`. The server returns AUDIO after 3 s, unless they say otherwise.
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let echo = Server::start("echo-server", &[&["--with-signaling=0"], options].concat(), &[], "code")?;
        Ok(Self { servers: vec![echo], login: String::new() })
    }

    /// Like [`EchoRoom::start`], but the signaling server is a second process with these options of `jamjam-dev signaling-server`, and relays
    /// media. Impairment options such as `--network wifi-bad`, `--delay 30ms` (one way) or `--outage 5s@30s` apply to all members.
    pub fn start_relayed(options: &[&str]) -> Result<Self> {
        let random = || RandomState::new().hash_one(0);
        // With `admin:`, the length is a multiple of 3.
        let password = format!("{:018x}{:018x}", random(), random());
        let login = [("DOCS_USERNAME", "admin"), ("DOCS_PASSWORD", &*password)];
        let relay = Server::start("signaling-server", &[&["--relay-media"], options].concat(), &login, "ws_url")?;
        let url = text_of(&relay.ready, "ws_url").unwrap_or_default();
        let echo = Server::start("echo-server", &["--delay", "100ms", "--signaling-url", url], &[], "code")?;
        Ok(Self { servers: vec![echo, relay], login: base64(&format!("admin:{password}")) })
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
        self.servers.iter().find_map(|server| text_of(&server.ready, name))
    }

    /// Lets nothing more pass between these members, in both directions. A member is an id, a name (all members that have it, now or later) or
    /// `*` (everybody); the echo server is `Echo Bot`.
    pub fn sever(&self, from: &str, to: &str) -> Result<()> {
        self.change_links(&format!(r#"{{"from":{},"to":{},"both":true,"loss":100}}"#, json_text(from), json_text(to)))
    }

    /// Lets everything pass again as before [`EchoRoom::sever`].
    pub fn restore(&self, from: &str, to: &str) -> Result<()> {
        self.change_links(&format!(r#"{{"from":{},"to":{},"both":true,"loss":null}}"#, json_text(from), json_text(to)))
    }

    /// Lets what this member sends come from new ports, as after a NAT has lost its state. The old ones forward nothing. `Echo Bot` only replies:
    /// a client learns its new port from the AUDIO of the last 100 ms, and otherwise hears nothing until it joins again.
    pub fn renumber(&self, member: &str) -> Result<()> {
        self.change_links(&format!(r#"{{"from":{},"renumber":true}}"#, json_text(member)))
    }

    /// Sends a request to `/admin/links` (`docs/signaling-server.md`), such as `{"from":"Aki","network":"wifi-bad"}`, or
    /// `{"from":"Aki","signaling":true}`, which severs Aki from the signaling server.
    pub fn change_links(&self, request: &str) -> Result<()> {
        let response = match self.server_url().strip_prefix("http://") {
            Some(address) if !self.login.is_empty() => exchange(address, &self.login, request)
                .map_err(|error| format!("no response from {address}: {error}; did the signaling server end?")),
            _ => Err("no media is relayed over http; start the room with `EchoRoom::start_relayed`".to_owned()),
        };
        match response {
            Ok(response) if response.starts_with("HTTP/1.1 200 ") => Ok(()),
            Ok(response) | Err(response) => {
                Err(Error::other(format!("cannot change links with {request}: {response}")))
            }
        }
    }

    /// Stops the servers. Returns what they have found out about their clients, which should have ended before.
    pub fn report(mut self) -> Result<Report> {
        let reports = self.servers.iter_mut().map(Server::report).collect::<Result<Vec<_>>>()?;
        let passed = reports.iter().all(|(passed, _)| *passed);
        let mut texts = reports.into_iter().map(|(_, json)| json);
        Ok(Report { passed, json: texts.next().unwrap_or_default(), relay: texts.next() })
    }
}

/// Sends a request to `/admin/links`. Returns the response.
fn exchange(address: &str, login: &str, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    let length = request.len();
    let head =
        format!("POST /admin/links HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}");
    let head = format!("{head}\r\nContent-Type: application/json\r\nAuthorization: Basic {login}");
    stream.write_all(format!("{head}\r\n\r\n{request}").as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

/// A process, and its files.
#[derive(Debug)]
struct Server {
    process: Child,
    subcommand: &'static str,
    /// Contains the ready file, the report and the log.
    folder: PathBuf,
    /// The text of the ready file.
    ready: String,
}

impl Server {
    /// Starts a server, and waits until its ready file has the text `last`.
    fn start(subcommand: &'static str, options: &[&str], environment: &[(&str, &str)], last: &str) -> Result<Self> {
        let program = env::var_os("JAMJAM_DEV").unwrap_or_else(|| "jamjam-dev".into());
        let folder = env::temp_dir().join(format!("jamjam-dev-{:016x}", RandomState::new().hash_one(0)));
        let file = |name| folder.join(name);
        let mut command = Command::new(&program);
        command.args([subcommand, "--host", "127.0.0.1", "--port", "0", "--check", "--json"]);
        command.arg("--ready-file").arg(file("ready.json")).args(options);
        command.env("JAMJAM_END_WITH_STDIN", "1").env_remove("ECHO_DELAY_MS").envs(environment.to_vec());
        command.stdin(Stdio::piped());
        // Fails if it exists: nobody else may write the files in it.
        fs::create_dir(&folder).map_err(|error| {
            Error::new(error.kind(), format!("cannot create the folder {}: {error}", folder.display()))
        })?;
        let mut spawn =
            || command.stdout(File::create(file("report.json"))?).stderr(File::create(file("log"))?).spawn();
        let process = spawn().map_err(|error| {
            _ = fs::remove_dir_all(&folder);
            let remedy = "install jamjam-dev, or set JAMJAM_DEV to its path";
            Error::new(error.kind(), format!("cannot start `{}`: {error}; {remedy}", program.display()))
        })?;
        let mut server = Self { process, subcommand, folder, ready: String::new() };
        let deadline = Instant::now() + START_TIMEOUT;
        while server.ready.is_empty() && Instant::now() < deadline && server.process.try_wait()?.is_none() {
            thread::sleep(POLL_INTERVAL);
            // The file is written as a whole.
            server.ready = fs::read_to_string(server.folder.join("ready.json")).unwrap_or_default();
        }
        let is_ready = text_of(&server.ready, last).is_some();
        if is_ready { Ok(server) } else { Err(server.failure(&format!("did not start with a `{last}`"))) }
    }

    /// Ends the server. Returns whether its clients have passed, and the report.
    fn report(&mut self) -> Result<(bool, String)> {
        let status = self.end()?;
        match status.code() {
            Some(code @ (0 | 1 | 4)) => Ok((code == 0, fs::read_to_string(self.folder.join("report.json"))?)),
            _ => Err(self.failure(&format!("ended without a report, {status}"))),
        }
    }

    /// Ends the server, and waits for its end.
    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.process.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.process.kill()?;
        self.process.wait()
    }

    /// An error with the end of the log.
    fn failure(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        Error::other(format!("`jamjam-dev {}` {what}:\n{last}", self.subcommand))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What cannot be ended or removed here is no fault of the test.
        _ = self.end();
        if thread::panicking() {
            eprintln!("{}", self.failure("has logged before the test failed"));
        }
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

/// A text in JSON.
fn json_text(text: &str) -> String {
    let escaped = text.chars().map(|char| match char {
        '"' | '\\' => format!("\\{char}"),
        '\0'..' ' => format!("\\u{:04x}", u32::from(char)),
        _ => char.into(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Base64 of a text whose length is a multiple of 3.
fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.as_bytes().chunks(3).flat_map(|three| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]))
    });
    digits.collect()
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

    #[test]
    fn any_name_is_a_text_in_json() {
        assert_eq!(json_text("Aki \"\\\" é\n"), r#""Aki \"\\\" é\u000a""#);
    }

    /// The expected values are the output of `printf TEXT | base64`.
    #[test]
    fn credentials_are_in_base64() {
        assert_eq!(base64("admin:0a9"), "YWRtaW46MGE5");
        assert_eq!(base64("\u{3fb}~?\u{7ff}"), "z7t+P9+/");
    }
}
