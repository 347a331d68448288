//! Dropped datagrams: each has one reason, under which it is counted, logged, and passed to the observer.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use tracing::{info, warn};

use super::counters::Counters;
use super::log_events;
use super::observer::{DropReason, ObservedDatagram, SourceObserver};
use super::server::EchoServer;
use crate::address::canonical_socket_addr;
use crate::log_throttle::LogThrottle;
use crate::node::Receive;
use crate::time::Time;
use crate::wire::{HEADER_LEN, PacketError};

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It is malformed in this way.
    Malformed(PacketError),
    /// It is not malformed.
    WellFormed(DropReason),
}

impl From<PacketError> for Dropped {
    fn from(error: PacketError) -> Self {
        Self::Malformed(error)
    }
}

impl From<DropReason> for Dropped {
    fn from(reason: DropReason) -> Self {
        Self::WellFormed(reason)
    }
}

impl Dropped {
    fn reason(self) -> DropReason {
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

/// The reason as a sentence.
impl Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::WellFormed(reason) => f.write_str(sentence(*reason)),
        }
    }
}

/// The reason as a sentence.
pub(super) const fn sentence(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Short | DropReason::Version | DropReason::Type | DropReason::Payload | DropReason::Stun => {
            "malformed"
        }
        DropReason::Repeated => "repeated too often, or from an echo server",
        DropReason::PacketRate => "the address exceeds its packet rate",
        DropReason::BitRate => "the address exceeds its bit rate",
        DropReason::KeyExchange => "CONTROL is not a valid key exchange",
        DropReason::KeyRate => "too many key exchanges or links",
        DropReason::Plain => "plain packet on an encrypted link",
        DropReason::NoKeys => "sealed packet without keys",
        DropReason::Replayed => "counter of a sealed packet repeated or too old",
        DropReason::NotOpened => "sealed packet does not open",
        DropReason::BufferFull => "buffer full",
        DropReason::ClientBufferFull => "the client's share of the buffer is full",
        DropReason::ReplyBufferFull => "too many replies are queued",
        DropReason::MemoryBudget => "the memory budget is used up",
        DropReason::OutOfMemory => "out of memory",
    }
}

impl EchoServer {
    /// Passes every datagram of an allowed source to `observer`, in the order of their arrival at the server.
    pub fn observe(&mut self, observer: Box<dyn SourceObserver>) {
        self.opened.clear();
        self.observer = Some(observer);
    }

    /// Ends the handling of a datagram of an allowed source.
    pub(super) fn conclude(&mut self, received: &Receive<'_>, bytes: &[u8], result: Result<(), Dropped>) {
        if let Err(dropped) = result {
            self.drop_packet(received, bytes, dropped);
        }
        if let Some(observer) = &mut self.observer {
            let drop_reason = result.err().map(Dropped::reason);
            let links = self.replies.links.as_mut();
            let links = links.filter(|_| matches!(drop_reason, Some(DropReason::NotOpened | DropReason::NoKeys)));
            let session = links.and_then(|links| links.session(received.received_at, received.source));
            let sealed = bytes.get(HEADER_LEN..).filter(|_| !self.opened.is_empty());
            observer.on_datagram(ObservedDatagram {
                at: received.received_at,
                source: received.source,
                dst_ip: received.dst_ip,
                bytes: if sealed.is_some() { &self.opened } else { bytes },
                counter: sealed.and_then(|payload| Some(u64::from_be_bytes(*payload.first_chunk()?))),
                drop_reason,
                mistake: session.and_then(|session| session.seal_mistake(bytes)),
            });
            self.opened.clear();
        }
    }

    /// Counts and logs a dropped datagram.
    fn drop_packet(&mut self, received: &Receive<'_>, bytes: &[u8], dropped: Dropped) {
        let reason = dropped.reason();
        self.counters.dropped(reason).add(1);
        self.drop_log.record(reason, received.source);
        let recorded = self.source_table.on_drop(received.received_at, received.source, reason, bytes);
        // Other datagrams were counted before.
        self.counters.untracked.add(usize::from(recorded.is_none() && reason.is_malformed()));
        log_events::log_dropped(received.source, bytes, reason, &dropped, recorded == Some(true));
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
    fn record(&mut self, reason: DropReason, source: SocketAddr) {
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
                dropped_packet_rate_total = counters.dropped_packet_rate.get(),
                dropped_bit_rate_total = counters.dropped_bit_rate.get(),
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
                dropped_buffer_full_total = counters.dropped_buffer_full.get(),
                dropped_client_buffer_full_total = counters.dropped_client_buffer_full.get(),
                dropped_reply_buffer_full_total = counters.dropped_reply_buffer_full.get(),
                dropped_memory_budget_total = counters.dropped_memory_budget.get(),
                dropped_out_of_memory_total = counters.dropped_out_of_memory.get(),
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
