//! Redis servers as processes, each with a free port and a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;
use test_support::server::poll_until;

/// A running server, which is killed when this value is dropped.
pub(crate) struct RedisServer {
    child: Child,
    folder: TempDir,
    options: Vec<String>,
    pub(crate) port: u16,
}

impl RedisServer {
    /// `None` if no server is installed, except in CI, where `scripts/setup --tests` installs one.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server that writes every command to its disk before it answers.
    pub(crate) fn start_durable() -> Option<Self> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take the port before the server binds it.
        for _ in 0..5 {
            let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
            let child = spawn(port, folder.path(), &options)?;
            let mut server = Self { child, folder, options: options.clone(), port };
            if server.wait_until_ready() {
                return Some(server);
            }
        }
        panic!("no server started")
    }

    /// Starts a replica, which has all data of this server when this returns.
    pub(crate) fn start_replica(&self) -> Self {
        let replica = Self::start_with(&["--replicaof", &format!("127.0.0.1 {}", self.port)]).expect("installed");
        let info = || self.command::<String>("INFO replication");
        poll_until("the replica", || info().contains("state=online").then_some(()));
        replica
    }

    /// Starts a Sentinel that replaces the server `rooms` with this port two seconds after it has died. `options` are lines of its file.
    pub(crate) fn start_sentinel(monitored: u16, options: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("sentinel.conf");
        let monitor = format!("sentinel monitor rooms 127.0.0.1 {monitored} 1\n");
        let times = "sentinel down-after-milliseconds rooms 2000\nsentinel failover-timeout rooms 1000\n";
        fs::write(&file, format!("port {port}\nbind 127.0.0.1\n{monitor}{times}{options}")).unwrap();
        let mut command = Command::new(program());
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = Self { child: command.spawn().unwrap(), folder, options: Vec::new(), port };
        assert!(server.wait_until_ready(), "the Sentinel has ended");
        server
    }

    pub(crate) fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    pub(crate) fn url_at(&self, address: &str) -> String {
        format!("redis://{address}:{}", self.port)
    }

    /// Runs a command whose arguments contain no spaces.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, command: &str) -> T {
        self.try_command(command).unwrap()
    }

    pub(crate) fn try_command<T: redis::FromRedisValue>(&self, command: &str) -> redis::RedisResult<T> {
        let mut words = command.split(' ');
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut connection)
    }

    /// Waits until the server has this role, even if it drops connections meanwhile.
    pub(crate) fn wait_for_role(&self, role: &str) {
        let line = format!("role:{role}");
        let info = || self.try_command::<String>("INFO replication").ok();
        poll_until(role, || info().is_some_and(|info| info.contains(&line)).then_some(()));
    }

    /// Kills the server and starts it again with what it had written to its disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kills the server and starts it again without data.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        for file in fs::read_dir(self.folder.path()).unwrap() {
            let path = file.unwrap().path();
            _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        self.start_again();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.options).expect("installed");
        assert!(self.wait_until_ready(), "the server did not start again");
    }

    /// Sends a signal such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// `false` if the server has ended.
    fn wait_until_ready(&mut self) -> bool {
        let client = redis::Client::open(self.url()).unwrap();
        poll_until("the start of Redis", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let mut connection = client.get_connection().ok()?;
            match redis::cmd("PING").exec(&mut connection) {
                Err(error) if error.code() == Some("LOADING") => None,
                // Even an error, such as that of a server with a password, is an answer.
                Err(error) if error.is_io_error() => None,
                _ => Some(true),
            }
        })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A free port, which no other test gets, neither from here nor from the system, so that a server can start on it again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap()
}

fn program() -> OsString {
    std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// `None` if the program is not installed.
fn spawn(port: u16, folder: &Path, options: &[String]) -> Option<Child> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
    command.args(["--logfile", "redis.log"]).args(options).stdin(Stdio::null()).stdout(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = format!("{} is not installed", program.display());
            assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
            // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}
