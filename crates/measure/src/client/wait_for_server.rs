//! The wait for the server before a run (`--wait-for`), which lets client and server start in any order.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::results::WaitResult;
use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_core::wire::{Header, PacketType};

/// Time between KEEPALIVE packets while waiting for the server.
const READINESS_INTERVAL: Duration = Duration::from_millis(100);

/// First sequence number of the KEEPALIVE packets of `--wait-for`, far from the numbers of counted packets.
const FIRST_READINESS_SEQUENCE: u32 = 0x8000_0000;

/// Sends KEEPALIVE packets until the server replies.
pub(super) struct WaitForServer {
    started_at: Time,
    deadline: Time,
    next_send: Time,
    sequence: u32,
}

impl WaitForServer {
    pub(super) fn start(now: Time, timeout: Duration) -> Self {
        Self { started_at: now, deadline: now + timeout, next_send: now, sequence: FIRST_READINESS_SEQUENCE }
    }

    /// Sends a KEEPALIVE if one is due. If the wait has timed out, sends nothing and returns a result without a reply.
    pub(super) fn poll(&mut self, now: Time, peer: SocketAddr, sink: &mut dyn TransmitSink) -> Option<WaitResult> {
        if now >= self.deadline {
            return Some(self.result(now, false));
        }
        if now >= self.next_send {
            let keepalive = Header::new(PacketType::Keepalive, self.sequence, 0).to_bytes();
            if sink.send(Transmit::datagram(peer, &keepalive)) != SendStatus::WouldBlock {
                self.sequence = self.sequence.wrapping_add(1);
                self.next_send = now + READINESS_INTERVAL;
            }
        }
        None
    }

    pub(super) fn result(&self, at: Time, reply_received: bool) -> WaitResult {
        WaitResult { waited_ns: saturating_nanos(at.duration_since(self.started_at)), reply_received }
    }

    /// Sequence numbers of the KEEPALIVE packets sent so far, whose replies are not counted.
    pub(super) fn sequences_sent(&self) -> Range<u32> {
        FIRST_READINESS_SEQUENCE..self.sequence
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.next_send.min(self.deadline)
    }
}
