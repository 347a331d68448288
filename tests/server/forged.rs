//! Datagrams with a source that is somebody else's.

use std::net::SocketAddr;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket};

/// Sends UDP datagrams over IPv4 as if they came from elsewhere on this machine. Takes the right to open raw sockets.
pub(crate) struct Forger {
    raw: OwnedFd,
    source: u16,
}

impl Forger {
    /// One who claims to be `source`.
    pub(crate) fn of(source: SocketAddr) -> Self {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)).unwrap();
        bind(&raw, &SocketAddr::new(source.ip(), 0)).unwrap();
        Self { raw, source: source.port() }
    }

    /// Sends one datagram with a header made by hand.
    pub(crate) fn send(&self, to: SocketAddr, payload: &[u8]) {
        let len = (8 + payload.len()) as u16;
        // Checksum 0 is none.
        let mut datagram = [self.source, to.port(), len, 0].map(u16::to_be_bytes).concat();
        datagram.extend(payload);
        let sent = sendto(&self.raw, &datagram, SendFlags::empty(), &SocketAddr::new(to.ip(), 0)).unwrap();
        assert_eq!(sent, datagram.len());
    }
}
