//! Reads a datagram from the peer as the answer to a packet of ours.

use super::ledger::{Came, digest};
use super::run::StreamKind;
use crate::time::Time;
use crate::wire::{self, Kind, PING_LEN, Ping};

/// The stream that `datagram` belongs to and what it is matched and compared by. `None`: no answer to anything.
///
/// AUDIO and KEEPALIVE come back whole and are compared whole; of LATENCY_PONG the twelve payload bytes count, as
/// servers differ in its header.
pub(super) fn read(datagram: &[u8], at: Time) -> Option<(StreamKind, Came<'_>)> {
    let packet = wire::parse(datagram).ok()?;
    let payload = packet.payload;
    let whole = |kind| Some((kind, Came { sequence: packet.header.sequence, at, answer: digest(datagram), payload }));
    match packet.header.kind {
        Kind::Audio => whole(StreamKind::Audio),
        Kind::Keepalive => whole(StreamKind::Keepalive),
        Kind::LatencyPong => {
            let ping = Ping::parse(packet).ok()?;
            let answer = digest(&payload[..PING_LEN]);
            Some((StreamKind::Ping, Came { sequence: ping.sequence, at, answer, payload }))
        }
        Kind::Fec | Kind::Control | Kind::LatencyPing | Kind::LatencyInfo => None,
    }
}
