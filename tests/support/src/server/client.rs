//! A UDP client: one socket connected to one address.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::TEST_TIMEOUT;
use super::packet::keepalive;

/// A UDP client. The client's socket is connected, so that replies from other addresses are dropped.
pub struct Client {
    pub socket: UdpSocket,
    syncs: u32,
}

impl Client {
    pub fn connect(server: SocketAddr) -> Self {
        Self::bind(if server.is_ipv4() { "0.0.0.0" } else { "::" }, server)
    }

    /// Like [`Client::connect`], from this local address.
    pub fn bind(host: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self { socket, syncs: 0 }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&self, datagram: &[u8]) {
        assert_eq!(self.socket.send(datagram).unwrap(), datagram.len());
    }

    pub fn recv(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = loop {
            match self.socket.recv(&mut buffer) {
                // A signal interrupts every receive call that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.expect("a reply in time"),
            }
        };
        buffer.truncate(len);
        buffer
    }

    pub fn exchange(&self, datagram: &[u8]) -> Vec<u8> {
        self.send(datagram);
        self.recv()
    }

    /// Sends KEEPALIVE until one returns, so that the server has read all earlier datagrams; discards others. Returns the number sent.
    pub fn sync(&mut self) -> u64 {
        let deadline = Instant::now() + TEST_TIMEOUT;
        self.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        self.syncs += 1;
        let token = keepalive(self.syncs, b"has it read this far?");
        let mut sent = 0;
        let mut buffer = vec![0; 65_536];
        'send: while Instant::now() < deadline {
            self.send(&token);
            sent += 1;
            while let Ok(len) = self.socket.recv(&mut buffer) {
                if buffer[..len] == token {
                    break 'send;
                }
            }
        }
        assert!(Instant::now() < deadline, "the server no longer replies");
        self.socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        sent
    }
}

pub fn at(host: &str, address: SocketAddr) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), address.port())
}
