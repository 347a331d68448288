//! Resolves host names, and selects the first address that replies to a KEEPALIVE.

use std::io;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::task::spawn_blocking;

use super::local_socket::LocalSocketOptions;
use super::stop::StopToken;
use super::udp;
use super::worker::Worker;
use crate::wire::{self, Header, MAX_UDP_PAYLOAD, PacketType};

/// Why a host could not be resolved to an address that can be used.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The lookup of a host name failed.
    #[error("cannot find an address for host `{0}`: {1}")]
    Lookup(String, io::Error),
    /// The zone of the address is not an interface of this machine, or the address is not link-local.
    #[error(
        "the zone `{0}` must be a network interface of this machine, and only link-local addresses (fe80::) have zones"
    )]
    Zone(String),
    /// No address replies to a KEEPALIVE.
    #[error("{0}")]
    NoReply(String),
}

/// Returns all addresses of `host` with `port`, at least one, IPv4 first. `host` is a name or an address as in [`crate::address::HostPort`].
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        // Windows sends to an IPv4-mapped address only from sockets that are not limited to IPv6.
        return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
    }
    let found = (host, port).to_socket_addrs().map_err(|error| match host.split_once('%') {
        Some((_, zone)) => ResolveError::Zone(zone.to_owned()),
        None => ResolveError::Lookup(host.to_owned(), error),
    })?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

/// Like [`resolve`], for addresses that `options` can reach. The lookup blocks only a thread of its own.
pub(super) async fn lookup(
    host: &str,
    port: u16,
    options: &LocalSocketOptions,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let (name, failed) = (host.to_owned(), |error| ResolveError::Lookup(host.to_owned(), error));
    let found = spawn_blocking(move || resolve(&name, port)).await.map_err(|panicked| failed(panicked.into()))?;
    options.select(host, found?).map_err(failed)
}

/// Like [`resolve`], but a stop request ends it with [`Interrupted`]. A blocked lookup then blocks only its own thread.
pub fn resolve_until_stopped(host: &str, port: u16, stop: &StopToken) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |error| ResolveError::Lookup(host.to_owned(), error);
    let name = host.to_owned();
    let lookup = Worker::spawn("lookup", move || resolve(&name, port)).map_err(failed)?;
    while !lookup.finished_within(POLL_INTERVAL) {
        if stop.signal().is_some() {
            return Err(failed(io::Error::new(Interrupted, "no answer yet")));
        }
    }
    lookup.join()
}

/// Sequence numbers of the KEEPALIVE packets to one address, of which some may be lost. They are far from those of counted packets.
const KEEPALIVE_SEQUENCES: Range<u32> = 0x8000_0000..0x8000_000a;

/// Interval of the KEEPALIVE packets.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(100);

/// Interval of the check for a stop request.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// An address that did not reply, and the error.
pub type UnreachableAddress = (SocketAddr, io::Error);

/// Returns the first address that replies to a KEEPALIVE within a second. Tries one address after the other. If no address replies,
/// returns all addresses that were tried. After a stop request, the remaining addresses are not tried.
pub fn first_reachable(
    candidates: &[SocketAddr],
    options: &LocalSocketOptions,
    stop: &StopToken,
) -> Result<SocketAddr, Vec<UnreachableAddress>> {
    let mut unreachable = Vec::new();
    for peer in candidates {
        if stop.signal().is_some() {
            break;
        }
        match probe_address(*peer, options, stop) {
            Ok(()) => return Ok(*peer),
            Err(error) => unreachable.push((*peer, error)),
        }
    }
    Err(unreachable)
}

fn probe_address(peer: SocketAddr, options: &LocalSocketOptions, stop: &StopToken) -> io::Result<()> {
    let socket = udp::connect(peer, udp::DEFAULT_RECEIVE_BUFFER, options).map_err(io::Error::other)?.socket;
    // On Windows, it is an error if a datagram is longer than the buffer.
    let mut reply = vec![0; MAX_UDP_PAYLOAD];
    socket.set_read_timeout(Some(POLL_INTERVAL))?;
    for sequence in KEEPALIVE_SEQUENCES {
        if stop.signal().is_some() {
            break;
        }
        socket.send(&Header::new(PacketType::Keepalive, sequence, 0).to_bytes())?;
        let sent = Instant::now();
        // A host that pauses reads after it what has arrived meanwhile.
        loop {
            match socket.recv(&mut reply) {
                Ok(len) if wire::parse_packet(&reply[..len]).is_ok() => return Ok(()),
                Ok(_) => {}
                // A signal may have interrupted the call.
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
                Err(error) => return Err(error),
            }
            if sent.elapsed() >= KEEPALIVE_INTERVAL || stop.signal().is_some() {
                break;
            }
        }
    }
    let waited = KEEPALIVE_INTERVAL * KEEPALIVE_SEQUENCES.len() as u32;
    Err(io::Error::new(TimedOut, format!("no reply within {} s", waited.as_secs())))
}
