//! `echo-server --capture`: a pcapng file of the datagrams that the sources send, with the three kinds of blocks that one interface needs.
//!
//! A socket delivers only payloads, so the IP and UDP headers are made from the addresses.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tracing::warn;

use crate::address::canonical_socket_addr;
use crate::echo::ObservedDatagram;
use crate::io::files;
use crate::wire::FLAG_SEALED;

/// Maximum length of a capture: 3 h of a stereo client at 48 kHz.
const MAX_BYTES: u64 = 4 << 30;

/// One section (version 1.0, little-endian, of any length) with one interface: packets of any length that begin with their IP header
/// (`LINKTYPE_RAW`), and timestamps in nanoseconds (`if_tsresol`).
const SECTION: [u8; 16] = *b"\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
const INTERFACE: [u8; 20] = *b"\x65\0\0\0\0\0\0\0\x09\0\x01\0\x09\0\0\0\0\0\0\0";

/// A comment and the end of the options.
const OPENED: &[u8; 56] = b"\x01\0\x30\0Sealed packet, opened by jamjam-dev (flag clear)\0\0\0\0";

pub(crate) struct Capture {
    out: File,
    /// The port of the server.
    port: u16,
    /// Number of bytes that may still be written; 0 after blocks did not fit or could not be written.
    left: u64,
    /// Why the file is incomplete, unless it has reached its maximum length.
    pub error: Option<String>,
}

impl Capture {
    pub(crate) fn create(path: &Path, port: u16) -> io::Result<Self> {
        let mut capture = Self {
            out: files::create_locked(path, files::private_options().append(true))?,
            port,
            left: MAX_BYTES,
            error: None,
        };
        capture.write(&[block(0x0a0d_0d0a, &SECTION), block(1, &INTERFACE)].concat());
        Ok(capture)
    }

    fn write(&mut self, blocks: &[u8]) {
        let left = self.left.checked_sub(blocks.len() as u64);
        let is_full = io::Error::from(io::ErrorKind::FileTooLarge);
        let written = left.ok_or(is_full).and_then(|left| self.out.write_all(blocks).map(|()| left));
        if let (Err(error), 1..) = (&written, self.left) {
            warn!(target: "echo", %error, "no more packets are captured; the echo goes on");
            // The reader of a pipe may have seen enough.
            let is_wrong = left.is_some() && error.kind() != io::ErrorKind::BrokenPipe;
            self.error = is_wrong.then(|| format!("the capture is incomplete: {error}"));
        }
        self.left = written.unwrap_or(0);
    }

    pub(crate) fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let from = canonical_socket_addr(datagram.source);
        let unspecified = if from.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let to = datagram.dst_ip.map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv4() == from.is_ipv4());
        let to = SocketAddr::new(to.unwrap_or(unspecified), self.port);
        let mut payload = datagram.bytes.to_vec();
        if datagram.counter.is_some() {
            payload[11] &= !(FLAG_SEALED as u8);
        }
        let packet = ip_packet(from, to, &payload);
        let (ns, len) = (datagram.at.as_nanos(), packet.len() as u32);
        let fields = [0, (ns >> 32) as u32, ns as u32, len, len].map(u32::to_le_bytes);
        let padding = &[0; 3][..packet.len().wrapping_neg() % 4];
        let comment = if datagram.counter.is_some() { &OPENED[..] } else { &[] };
        self.write(&block(6, &[fields.as_flattened(), &packet, padding, comment].concat()));
    }
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// A UDP datagram with an IPv4 or IPv6 header.
fn ip_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let addresses = [octets(from), octets(to)].concat();
    let len = (8 + payload.len() as u16).to_be_bytes();
    let mut udp = [&from.port().to_be_bytes()[..], &to.port().to_be_bytes(), &len, &[0; 2], payload].concat();
    let sum = checksum(&[&addresses, &[0, 17][..], &len, &udp].concat());
    udp[6..8].copy_from_slice(&sum);
    if from.is_ipv6() {
        return [&[0x60, 0, 0, 0][..], &len, &[17, 64], &addresses, &udp].concat();
    }
    let len = (20 + udp.len() as u16).to_be_bytes();
    let mut header = [&[0x45, 0][..], &len, &[0, 0, 0, 0, 64, 17, 0, 0], &addresses].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [header, udp].concat()
}

/// The Internet checksum (RFC 1071), which is never 0: in UDP, 0 means that there is none.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    (!(words.sum::<u32>() % 0xffff) as u16).to_be_bytes()
}
