//! The echo server: returns AUDIO after a delay and replies to KEEPALIVE, LATENCY_PING and STUN at once.
//!
//! [`EchoServer`] is a [`Node`](crate::node::Node). An echo has exactly the bytes of the received datagram. The echo of AUDIO is due
//! at the kernel's receive timestamp plus the delay. The echo is never sent earlier. On an encrypted link ([`crate::link`]), the echo has the
//! same header and the same opened payload.

mod admission;
mod counters;
mod delay_line;
mod drops;
mod immediate_replies;
mod impaired_replies;
mod keepalive;
mod link_packets;
mod links;
mod log_events;
mod loop_detection;
mod mapped_address;
mod observer;
mod rate_limiter;
mod reply_exit;
mod reply_memory;
mod reply_store;
mod server;
mod source_stats;
mod sources;

/// The name of log events whose text is exactly that of the original server, without area and fields.
pub const FIXED_LOG_LINE: &str = "fixed line";

pub use admission::AdmissionConfig;
pub(crate) use admission::{Admission, Source};
pub use counters::{Counters, ExternalCounts, register_metrics};
pub use links::{EntropySource, LinkConfig, LinkPolicy};
pub use mapped_address::StunConfig;
pub use observer::{DropReason, ObservedDatagram};
pub use reply_memory::{BufferLimits, IMPAIRED_PACKET_OVERHEAD};
pub use server::{DEFAULT_DELAY, EchoConfig, EchoServer, ReadSocketDrops};
pub use sources::SharedSources;
