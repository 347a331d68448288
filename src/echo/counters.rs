//! What the echo server counts. Written by the thread that runs the node, read by anyone at any time.

use crate::stats::Count;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Every datagram that reaches the node is in exactly one of `received`, `keepalives`, `pings`, `infos`, `ignored`,
        /// the `dropped_` counts of what is no packet, and the `refused_` counts. What was received or answered is in
        /// exactly one of `sent`, `answers`, `send_failed`, `dropped_at_stop` and the `impaired_` losses, or still waits; so is
        /// each second copy in `impaired_duplicated`.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: Count,)+ }

        impl Counters {
            /// All counts with their names, in the order in which the log prints them.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// AUDIO packets taken into the delay line.
    received,
    /// AUDIO packets echoed.
    sent,
    /// AUDIO packets waiting (a gauge).
    buffered,
    /// Memory charged for what waits, in bytes (a gauge).
    buffered_bytes,
    /// KEEPALIVE packets taken for an answer.
    keepalives,
    /// LATENCY_PING packets taken for an answer.
    pings,
    /// Answers to KEEPALIVE and LATENCY_PING sent.
    answers,
    /// LATENCY_INFO packets: noted in the debug log, not answered.
    infos,
    /// FEC, CONTROL and LATENCY_PONG packets, and replies of a newer client's route probe: ignored.
    ignored,
    /// Datagrams shorter than a header.
    dropped_short,
    /// Datagrams with another version.
    dropped_version,
    /// Packets of an unknown type.
    dropped_type,
    /// Packets whose payload does not fit their type.
    dropped_payload,
    /// Datagrams from source port 0, to which nothing can be returned.
    dropped_port_zero,
    /// AUDIO packets refused because the delay line held its cap for all clients.
    refused_buffer,
    /// AUDIO packets refused because their client held its cap.
    refused_client,
    /// KEEPALIVE and LATENCY_PING packets refused because the system takes no more answers.
    refused_answers,
    /// Packets refused because the system had no memory.
    refused_memory,
    /// Packets that the system refused to send.
    send_failed,
    /// Packets of sources beyond those that are followed in the log; served all the same, and counted above too.
    unfollowed,
    /// Replies lost on purpose by `--loss`.
    impaired_lost,
    /// Replies lost on purpose in a burst.
    impaired_burst,
    /// Replies lost on purpose because they were named.
    impaired_asked,
    /// Replies dropped because the queue before the limited bandwidth was full.
    impaired_queue,
    /// Second copies made on purpose.
    impaired_duplicated,
    /// Replies held back on purpose so that later ones pass; in the other counts too.
    impaired_reordered,
    /// AUDIO packets and answers still waiting at the stop.
    dropped_at_stop,
}
