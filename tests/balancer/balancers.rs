//! `HAProxy` and nginx as processes, with the files in `packaging/`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use test_support::client::free_port;
use test_support::server::{TEST_TIMEOUT, poll_until};

use crate::servers::Servers;

/// A load balancer in front of three servers.
pub(crate) struct Balancer {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl Balancer {
    /// Starts `program` with a copy of `file`, in which `listen` precedes the port of the clients. `options` gets the folder of the copy,
    /// and its result comes before the path of the copy.
    fn start(
        program: &str,
        file: &str,
        listen: &str,
        servers: &Servers,
        options: impl Fn(PathBuf) -> Vec<String>,
    ) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut text = fs::read_to_string(test_support::repository().join("packaging").join(file)).unwrap();
        let mut replace = |from: &str, to: String| {
            assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
            text = text.replace(from, &to);
        };
        if program == "haproxy" {
            // Before the other addresses, of which one may be the same.
            replace("127.0.0.1:10000", format!("127.0.0.1:{}", free_port()));
            // Only root can change the user.
            replace("    user haproxy\n    group haproxy\n", String::new());
            if let Some(limit) = servers.max_connections {
                replace(" maxconn 9900 pool-max-conn 50 ", format!(" maxconn {} pool-max-conn 4 ", limit - 10));
            }
        }
        replace(&format!("{listen}8080"), format!("{} {address}", listen.trim_end_matches([' ', ':'])));
        for (number, server) in (1..).zip(servers.addresses) {
            replace(&format!("192.0.2.{number}:8080"), server.to_string());
        }
        let copy = folder.path().join(file);
        fs::write(&copy, text).unwrap();
        let mut command = Command::new(program);
        command.args(options(folder.path().to_owned())).arg(copy).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect(program);
        let balancer = Self { child, folder, address };
        poll_until(program, || TcpStream::connect(address).ok());
        balancer
    }

    /// nginx, as the package of Debian starts it.
    pub(crate) fn nginx(servers: &Servers) -> Self {
        let options = |folder: PathBuf| {
            let settings = format!("daemon off; pid {}; error_log stderr crit;", folder.join("pid").display());
            ["-g", &settings, "-c"].map(str::to_owned).to_vec()
        };
        Self::start("nginx", "nginx.conf", "listen ", servers, options)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "SIG{name}");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // SIGKILL would leave the worker processes.
        self.signal("TERM");
        let _ = self.child.wait();
    }
}

/// `HAProxy` as systemd starts it: a master and a worker process.
impl Balancer {
    pub(crate) fn haproxy(servers: &Servers) -> Self {
        // `maxconn` of the file needs more descriptors than each machine permits.
        let options = |folder: PathBuf| {
            let socket = folder.join("master").display().to_string();
            ["-q", "-W", "-n", "2000", "-S", &socket, "-f"].map(str::to_owned).to_vec()
        };
        Self::start("haproxy", "haproxy.cfg", "bind :", servers, options)
    }

    /// The worker's response to a command of the runtime API. Empty while the master starts again.
    fn show(&self, command: &str) -> String {
        let mut response = String::new();
        if let Ok(mut master) = UnixStream::connect(self.folder.path().join("master")) {
            master.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            _ = master.write_all(format!("@1 {command}\n").as_bytes());
            // The master responds to further commands until then.
            _ = master.shutdown(Shutdown::Write);
            _ = master.read_to_string(&mut response);
        }
        response
    }

    /// Waits until new rooms can be on the server of this number.
    pub(crate) fn wait_until_up(&self, number: usize) {
        let line = format!("servers,{},", ["one", "two", "three"][number]);
        let is_up = |stats: &str| stats.lines().any(|stat| stat.starts_with(&line) && stat.contains(",UP,"));
        poll_until("a server that is up", || is_up(&self.show("show stat")).then_some(()));
    }

    /// The number of open connections of a room in the table. `None` if the table does not contain the room.
    pub(crate) fn open_connections(&self, room: &str) -> Option<usize> {
        let table = self.show("show table servers");
        let entry = table.lines().find(|line| line.contains(&format!(" key={room} ")))?;
        // Only with `conn_cur` does the hour begin again when the last connection ends.
        assert!(entry.contains(" conn_cur="), "{entry}");
        entry.split_once(" use=")?.1.split(' ').next()?.parse().ok()
    }

    /// Replaces the worker process, as `systemctl reload` does. Returns when the new one has the table of the old one.
    pub(crate) fn reload(&self) {
        let number = |command: &str, start: &str| {
            let response = self.show(command);
            let text = response.split_once(start)?.1.split_whitespace().next()?.to_owned();
            text.strip_prefix("0x").map_or(text.parse(), |digits| u64::from_str_radix(digits, 16)).ok()
        };
        // In its first seconds, a worker itself waits for a table.
        let has_waited = || number("show peers", "flags=").filter(|flags| flags & 3 == 3);
        poll_until("the end of the wait for a table", has_waited);
        let (entries, worker) = (|| number("show table servers", "used:"), || number("show info", "\nPid: "));
        let (before, old) = (entries(), worker());
        assert!(before > Some(0) && old.is_some());
        self.signal("USR2");
        poll_until("a new worker", || worker().filter(|new| Some(*new) != old));
        poll_until("its table", || entries().filter(|count| Some(*count) >= before));
    }
}
