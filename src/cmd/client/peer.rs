//! The other side: a target by its name, one in a room, or an echo server inside this process.

use std::net::SocketAddr;

use anyhow::Context;

use super::super::Failure;
use super::super::distinct::refuse_one_file_twice;
use super::super::impairment::{FateFile, Prepared};
use super::super::output::note;
use super::super::room::Met;
use super::super::target::Target;
use super::ClientArgs;
use crate::echo::{Config, Echo};
use crate::io::signaling::Visit;
use crate::io::stop::Stop;
use crate::io::udp::{self, Bound, DEFAULT_BUFFER, Idle, Options, Running};
use crate::io::{reach, resolve};

/// The other side, ready to be talked to.
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// As the report calls it.
    pub name: String,
    pub(super) bound: Bound,
    pub(super) around: Around,
}

/// What goes on beside the run, and ends after it.
#[derive(Default)]
pub(super) struct Around {
    embedded: Option<(Running<Echo>, Stop, Option<FateFile>)>,
    visit: Option<Visit>,
}

impl ClientArgs {
    /// Finds the target, or starts the embedded one, and opens a socket to it. `command` is what we are called in a room.
    pub fn connect(&self, to: Option<&Target>, command: &str, stop: &Stop) -> Result<Peer, Failure> {
        refuse_one_file_twice(self.written())?;
        if let Some(option) = self.impairment.given().filter(|_| !self.embedded) {
            return Err(Failure::usage(format!("{option}: only an embedded echo server is told so; give --embedded")));
        }
        self.refuse_no_target(to)?;
        if to.is_some() && self.room.is_wanted() {
            return Err(Failure::usage("--room cannot be used with --to HOST[:PORT]: give one or the other"));
        }
        // It removes earlier reports: not for words that are wrong.
        self.files.prepare()?;
        if self.embedded {
            return self.embed();
        }
        if let Some(met) = self.room.enter(&format!("jamjam-dev {command}"), stop)? {
            return self.meet(met);
        }
        let Some(target) = to else { return Err(nobody()) };
        let candidates = resolve::resolve(&target.host, target.port).map_err(Failure::unusable)?;
        let bound = self.open(reach::of_host(&candidates))?;
        // Who answers is whom the system connected to: for 0.0.0.0 that is this machine by its loopback address.
        let address =
            bound.socket.peer_addr().context("cannot tell the target's address").map_err(Failure::unusable)?;
        Ok(Peer { address, name: target.to_string(), bound, around: Around::default() })
    }

    /// Says that nobody is named to talk to, unless somebody is.
    pub fn refuse_no_target(&self, to: Option<&Target>) -> Result<(), Failure> {
        if self.embedded || self.room.is_wanted() || to.is_some() { Ok(()) } else { Err(nobody()) }
    }

    fn open(&self, address: SocketAddr) -> Result<Bound, Failure> {
        udp::connect(address, self.socket_buffer.0.min(1 << 30) as usize).map_err(Failure::unusable)
    }

    fn meet(&self, Met { visit, address }: Met) -> Result<Peer, Failure> {
        let bound = self.open(address)?;
        // A connected socket knows which of this machine's addresses it uses.
        if let Ok(here) = bound.socket.local_addr() {
            visit.tell(here);
        }
        let name = format!("{} ({address})", visit.room);
        Ok(Peer { address, name, bound, around: Around { visit: Some(visit), embedded: None } })
    }

    fn embed(&self) -> Result<Peer, Failure> {
        let config = Config { delay: self.delay.0, ..Config::default() };
        let Prepared { echo, again, fates } = self.impairment.prepare(config)?;
        let server = udp::bind(SocketAddr::from(([127, 0, 0, 1], 0)), DEFAULT_BUFFER).map_err(Failure::unusable)?;
        let address = server.address;
        let stop = Stop::default();
        let options = Options { idle: Idle::Wait, spin: self.spin, backend: self.driver.into() };
        let running = udp::spawn("echo-server", server.socket, echo, stop.clone(), options)
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let again = again.map_or_else(String::new, |options| format!(", {options}"));
        let name = format!("embedded echo server ({} ms{again})", self.delay);
        let around = Around { embedded: Some((running, stop, fates)), visit: None };
        Ok(Peer { address, name, bound: self.open(address)?, around })
    }
}

impl Around {
    /// Ends all of it; what broke, if anything did.
    pub(super) fn end(self) -> Option<anyhow::Error> {
        if let Some(lost) = self.visit.and_then(Visit::leave) {
            note(&format!("the signaling server was lost during the run, which went on without it: {lost}"));
        }
        let (server, stop, fates) = self.embedded?;
        stop.request(crate::io::stop::Reason::Terminate);
        let (echo, tally) = server.join();
        echo.stop();
        let fates = fates.map_or(Ok(()), FateFile::finish);
        tally.result.context("the embedded echo server failed").and(fates).err()
    }
}

fn nobody() -> Failure {
    Failure::usage(
        "nobody to send to: give --to HOST[:PORT], or --embedded for an echo server in this process, or --signaling-url URL \
         with --room NAME",
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_target_of_all_addresses_is_known_by_the_one_that_answers() {
        let target = Target { host: "0.0.0.0".to_owned(), port: 5_000 };
        let Ok(peer) = options(&[]).connect(Some(&target), "send", &Stop::default()) else {
            panic!("a socket to this machine")
        };
        assert_eq!(peer.address, SocketAddr::from(([127, 0, 0, 1], 5_000)));
    }
}
