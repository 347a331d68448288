//! Which of several addresses answers.

use std::io::{
    self,
    ErrorKind::{Interrupted, TimedOut, WouldBlock},
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stop::Stop;
use super::udp;
use crate::wire::{self, HEADER_LEN, Header, Kind};

/// How long an address may take to answer before the next one is tried.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a request to stop is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// An address from which nothing came, and why.
pub type Silent = (SocketAddr, io::Error);

/// The first of a host's addresses that returns a KEEPALIVE, or the first of all when none does. With one candidate there is
/// nothing to try.
///
/// # Panics
/// If there is no candidate.
pub fn of_host(candidates: &[SocketAddr]) -> SocketAddr {
    match candidates {
        [] => panic!("a host that was resolved has an address"),
        [only] => *only,
        [first, ..] => first_that_answers(candidates, &Stop::default()).unwrap_or(*first),
    }
}

/// The first of `candidates` that returns a KEEPALIVE within half a second, each asked once the one before it has not; or all
/// that were asked, which are fewer after a request to stop.
pub fn first_that_answers(candidates: &[SocketAddr], stop: &Stop) -> Result<SocketAddr, Vec<Silent>> {
    let mut silent = Vec::new();
    for peer in candidates {
        if stop.requested().is_some() {
            break;
        }
        match ask(*peer, stop) {
            Ok(()) => return Ok(*peer),
            Err(error) => silent.push((*peer, error)),
        }
    }
    Err(silent)
}

fn ask(peer: SocketAddr, stop: &Stop) -> io::Result<()> {
    let socket = udp::connect(peer, udp::DEFAULT_BUFFER).map_err(io::Error::other)?.socket;
    let until = Instant::now() + PATIENCE;
    socket.send(&Header::new(Kind::Keepalive, 0, 0).to_bytes())?;
    let mut answer = [0; HEADER_LEN];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.requested().is_some() {
            return Err(io::Error::new(TimedOut, format!("no answer within {} ms", PATIENCE.as_millis())));
        }
        socket.set_read_timeout(Some(left.min(LOOK)))?;
        match socket.recv(&mut answer) {
            Ok(len) if wire::parse(&answer[..len]).is_ok() => return Ok(()),
            Ok(_) => {}
            // A signal interrupts; whether it is a request to stop is seen above.
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
