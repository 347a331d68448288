//! Which of a host's addresses answers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::udp;
use crate::wire::{self, HEADER_LEN, Header, Kind};

/// How long an address may take to answer before the next one is tried.
const PATIENCE: Duration = Duration::from_millis(500);

/// The first of `candidates` that returns a KEEPALIVE, or the first of all when none does. With one candidate there is nothing to
/// try.
///
/// # Panics
/// If there is no candidate.
pub fn first_that_answers(candidates: &[SocketAddr]) -> SocketAddr {
    match candidates {
        [] => panic!("a host that was resolved has an address"),
        [only] => *only,
        [first, ..] => candidates.iter().copied().find(|peer| answers(*peer).unwrap_or(false)).unwrap_or(*first),
    }
}

fn answers(peer: SocketAddr) -> io::Result<bool> {
    let socket = udp::connect(peer, udp::DEFAULT_BUFFER).map_err(io::Error::other)?.socket;
    let until = Instant::now() + PATIENCE;
    socket.send(&Header::new(Kind::Keepalive, 0, 0).to_bytes())?;
    let mut answer = [0; HEADER_LEN];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.recv(&mut answer)?;
        if wire::parse(&answer[..len]).is_ok() {
            return Ok(true);
        }
    }
}
