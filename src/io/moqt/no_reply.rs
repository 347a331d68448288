//! Finds out what listens on the port of a MOQT server that sent no QUIC packet. QUIC alone cannot distinguish a closed port, a firewall
//! and a server of another protocol.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use thiserror::Error;

use crate::io::local_socket::LocalSocketOptions;
use crate::io::udp;
use crate::wire::{self, Header, PacketType};

/// Maximum duration of each attempt: more than the round trip over a satellite.
const CHECK_TIMEOUT: Duration = Duration::from_millis(700);

/// What listens on the port: the cause of the missing reply, with a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PortUse {
    /// A UDP echo server replied to KEEPALIVE.
    #[error(
        "a UDP echo server listens on this port, not a MOQT server. Give --to HOST:PORT without a scheme, or the port of the MOQT server"
    )]
    EchoServer,
    /// Another UDP server replied.
    #[error("a UDP server that does not speak QUIC listens on this port. Check the port")]
    OtherUdpServer,
    /// Only a TCP server listens: the UDP port is closed or silent.
    #[error(
        "a TCP server listens on this port, but MOQT uses UDP. Check the port. Check that the server supports MOQT or HTTP/3, and that no \
         firewall drops UDP"
    )]
    TcpServer,
    /// ICMP port unreachable was received.
    #[error(
        "no program listens on this UDP port, because ICMP port unreachable was received. Check the host and port, and that the server is \
         running"
    )]
    Closed,
    /// Nothing replied.
    #[error(
        "no server listens there, or a firewall drops UDP. Check the host and port, and that the server is running. Compare with \
         `jamjam-dev probe --embedded --moqt` on this host"
    )]
    Silent,
}

/// Sends KEEPALIVE to `address` and opens a TCP connection to it.
pub(super) fn examine(address: SocketAddr) -> PortUse {
    let udp = match keepalive_reply(address) {
        Ok(reply) if wire::parse_packet(&reply).is_ok() => return PortUse::EchoServer,
        Ok(_) => return PortUse::OtherUdpServer,
        Err(error) if udp::is_port_unreachable(error.kind()) => PortUse::Closed,
        Err(_) => PortUse::Silent,
    };
    if TcpStream::connect_timeout(&address, CHECK_TIMEOUT).is_ok() { PortUse::TcpServer } else { udp }
}

/// The first reply to two KEEPALIVE packets, the second of which replaces a lost one.
fn keepalive_reply(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(LocalSocketOptions::default().address_for(address))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(CHECK_TIMEOUT))?;
    let attempt = || {
        let mut reply = [0; 2_048];
        socket.send(&Header::new(PacketType::Keepalive, 0, 0).to_bytes())?;
        socket.recv(&mut reply).map(|length| reply[..length].to_vec())
    };
    attempt().or_else(|error| if udp::is_port_unreachable(error.kind()) { Err(error) } else { attempt() })
}
