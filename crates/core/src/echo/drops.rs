//! Dropped datagrams: the reason of each, and the log lines about many.

use std::net::SocketAddr;

use thiserror::Error;
use tracing::{info, warn};

use super::counters::Counters;
use super::observer::DropReason;
use crate::address::canonical_socket_addr;
use crate::log_throttle::LogThrottle;
use crate::time::Time;
use crate::wire::PacketError;

/// Why a datagram is dropped, as a sentence for the log.
#[derive(Clone, Copy, Debug, Error)]
pub(super) enum Dropped {
    #[error(transparent)]
    Malformed(#[from] PacketError),
    #[error("{}", .0.sentence())]
    WellFormed(DropReason),
}

impl From<DropReason> for Dropped {
    fn from(reason: DropReason) -> Self {
        Self::WellFormed(reason)
    }
}

impl Dropped {
    pub(super) fn reason(self) -> DropReason {
        match self {
            Self::WellFormed(reason) => reason,
            Self::Malformed(PacketError::TooShort(_)) => DropReason::Short,
            Self::Malformed(PacketError::Version(_)) => DropReason::Version,
            Self::Malformed(PacketError::Type(_)) => DropReason::Type,
            Self::Malformed(PacketError::Payload { .. }) => DropReason::Payload,
            Self::Malformed(PacketError::Stun(_)) => DropReason::Stun,
        }
    }
}

/// Drops that an operator should see, in at most one log line per second and kind.
#[derive(Default)]
pub(super) struct DropLog {
    pub(super) not_allowed: ThrottledDrops,
    rate_limit: ThrottledDrops,
    repetition: ThrottledDrops,
    buffer: ThrottledDrops,
}

impl DropLog {
    pub(super) fn record(&mut self, reason: DropReason, source: SocketAddr) {
        let drops = match reason {
            DropReason::PacketRate | DropReason::BitRate => &mut self.rate_limit,
            DropReason::Repeated => &mut self.repetition,
            DropReason::BufferFull
            | DropReason::ClientBufferFull
            | DropReason::ReplyBufferFull
            | DropReason::MemoryBudget
            | DropReason::OutOfMemory => &mut self.buffer,
            _ => return,
        };
        drops.record(source, 1);
    }

    /// Logs what was dropped, if a line is due.
    pub(super) fn log(&mut self, now: Time, counters: &Counters) {
        if let Some((last_source, newly_dropped)) = self.not_allowed.take_due(now) {
            info!(
                target: "echo",
                newly_dropped,
                reason = "source not in --allow",
                %last_source,
                dropped_not_allowed_total = counters.dropped_not_allowed.get(),
                "datagrams dropped"
            );
        }
        if let Some((last_source, newly_dropped)) = self.rate_limit.take_due(now) {
            warn!(
                target: "echo",
                newly_dropped,
                %last_source,
                dropped_packet_rate_total = counters.dropped(DropReason::PacketRate).get(),
                dropped_bit_rate_total = counters.dropped(DropReason::BitRate).get(),
                "rate limit exceeded"
            );
        }
        if let Some((last_source, newly_dropped)) = self.repetition.take_due(now) {
            warn!(target: "echo", %last_source, newly_dropped, "repeated packets dropped: possible echo loop");
        }
        if let Some((last_source, newly_dropped)) = self.buffer.take_due(now) {
            warn!(
                target: "echo",
                newly_dropped,
                reason = "buffer full or out of memory",
                %last_source,
                dropped_buffer_full_total = counters.dropped(DropReason::BufferFull).get(),
                dropped_client_buffer_full_total = counters.dropped(DropReason::ClientBufferFull).get(),
                dropped_reply_buffer_full_total = counters.dropped(DropReason::ReplyBufferFull).get(),
                dropped_memory_budget_total = counters.dropped(DropReason::MemoryBudget).get(),
                dropped_out_of_memory_total = counters.dropped(DropReason::OutOfMemory).get(),
                "packets dropped"
            );
        }
    }
}

/// Drops of one kind, logged at most once per second with their number and the last source.
#[derive(Default)]
pub(super) struct ThrottledDrops {
    throttle: LogThrottle,
    last_source: Option<SocketAddr>,
}

impl ThrottledDrops {
    pub(super) fn record(&mut self, source: SocketAddr, packets: usize) {
        self.throttle.record(packets as u64);
        self.last_source = Some(source);
    }

    /// The last source and the number of packets since the last log line. `None` if no new line is due.
    fn take_due(&mut self, now: Time) -> Option<(SocketAddr, u64)> {
        Some((canonical_socket_addr(self.last_source?), self.throttle.take_due(now)?))
    }
}
