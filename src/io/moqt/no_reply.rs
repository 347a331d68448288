//! Finds out what listens on the port of a MOQT server that sent no QUIC packet. QUIC alone cannot distinguish a closed port, a firewall
//! and a server of another protocol.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::wire::{self, Header, PacketType};

/// Maximum duration of each check.
const CHECK_TIMEOUT: Duration = Duration::from_millis(300);

/// What listens on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// A UDP echo server replied to KEEPALIVE.
    EchoServer,
    /// Another UDP server replied.
    OtherUdpServer,
    /// Only a TCP server listens: the UDP port is closed or silent.
    TcpServer,
    /// ICMP port unreachable was received.
    Closed,
    /// Nothing replied.
    Silent,
}

/// The cause and the remedy.
impl fmt::Display for PortUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EchoServer => {
                "a UDP echo server listens on this port, not a MOQT server. Give --to HOST:PORT without a scheme, or the port of the \
                 MOQT server"
            }
            Self::OtherUdpServer => "a UDP server that does not speak QUIC listens on this port. Check the port",
            Self::TcpServer => {
                "a TCP server listens on this port, but MOQT uses UDP. Check the port. Check that the server supports MOQT or HTTP/3, and \
                 that no firewall drops UDP"
            }
            Self::Closed => {
                "no program listens on this UDP port, because ICMP port unreachable was received. Check the host and port, and that the \
                 server is running"
            }
            Self::Silent => {
                "no server listens there, or a firewall drops UDP. Check the host and port, and that the server is running. Compare with \
                 `jamjam-dev probe --embedded --moqt` on this host"
            }
        })
    }
}

/// Sends KEEPALIVE to `address` and opens a TCP connection to it.
pub(super) fn examine(address: SocketAddr) -> PortUse {
    let udp = match keepalive_reply(address) {
        Ok(reply) if wire::parse_packet(&reply).is_ok() => return PortUse::EchoServer,
        Ok(_) => return PortUse::OtherUdpServer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => PortUse::Closed,
        Err(_) => PortUse::Silent,
    };
    if TcpStream::connect_timeout(&address, CHECK_TIMEOUT).is_ok() { PortUse::TcpServer } else { udp }
}

fn keepalive_reply(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(CHECK_TIMEOUT))?;
    socket.send(&Header::new(PacketType::Keepalive, 0, 0).to_bytes())?;
    let mut reply = [0; 2_048];
    let length = socket.recv(&mut reply)?;
    Ok(reply[..length].to_vec())
}
