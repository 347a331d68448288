//! Three signaling servers, each of which can be killed and started again at the same address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use test_support::client::free_port;
use test_support::server::{Server, poll_until, send_to};

/// The servers, of which one may be killed.
pub(crate) struct Servers {
    pub(crate) addresses: [SocketAddr; 3],
    pub(crate) running: [Option<Server>; 3],
    /// `--max-connections`, if a test sets it.
    pub(crate) max_connections: Option<usize>,
}

impl Servers {
    pub(crate) fn start(options: &[&str]) -> Self {
        let addresses = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let limit = options.windows(2).find(|pair| pair[0] == "--max-connections").map(|pair| pair[1].parse().unwrap());
        Self { addresses, running: addresses.map(|address| Some(start(address, options))), max_connections: limit }
    }

    /// Ends a server with SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }

    pub(crate) fn start_again(&mut self, number: usize) {
        self.running[number] = Some(start(self.addresses[number], &[]));
    }

    pub(crate) fn signal(&self, number: usize, name: &str) {
        self.running[number].as_ref().expect("it runs").signal(name);
    }

    /// The number of members of each broadcast room on a server.
    pub(crate) fn rooms(&self, number: usize) -> BTreeMap<String, u64> {
        serde_json::from_value(health(self.addresses[number])["dialects"]["broadcast"]["roomCounts"].take()).unwrap()
    }

    /// The rooms on each server, once all servers together have this number of rooms.
    pub(crate) fn all_rooms(&self, count: usize) -> [BTreeMap<String, u64>; 3] {
        poll_until("all rooms", || {
            let rooms = [0, 1, 2].map(|number| self.rooms(number));
            (rooms.iter().map(BTreeMap::len).sum::<usize>() == count).then_some(rooms)
        })
    }

    /// Stops all servers, and returns their logs.
    pub(crate) fn stop(self) -> Vec<String> {
        self.running.into_iter().flatten().flat_map(|server| server.stop("TERM").lines).collect()
    }
}

fn start(address: SocketAddr, options: &[&str]) -> Server {
    let port = address.port().to_string();
    // All clients have the same address.
    let limits =
        ["--rate-limit-post", "off", "--rate-limit-connections", "off", "--max-connections-per-address", "off"];
    let all = ["--port", &port, "--trust-proxy", "--hmac-secret", "test-secret"];
    let all = [&all, &limits[..], options].concat();
    Server::start_signaling_with(&all, |command| _ = command.env("STOP_PROGRAMS", ""))
}

/// The page `/health` of the server at `address` or behind it.
pub(crate) fn health(address: SocketAddr) -> Value {
    send_to(address, "GET", "/health", &[], "").json()
}
