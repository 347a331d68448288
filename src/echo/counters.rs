//! What the echo server counts. Written by the thread that runs the node, read by anyone at any time.

use super::lateness::Lateness;
use crate::stats::{Count, Kind};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// Every datagram that reaches the node is in exactly one of `received`, `keepalives`, `pings`, `stun`, `infos`, `ignored`,
        /// `stun_answered`, the `dropped_` counts but `dropped_at_stop`, and the `refused_` counts. What was received or answered is in
        /// exactly one of `sent`, `answers`, `send_failed`, `dropped_at_stop` and the `impaired_` losses, or still waits; so is
        /// each second copy in `impaired_duplicated` and each loop check.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Count,)+
            /// How late AUDIO left.
            pub audio_lateness: Lateness,
            /// How late answers left.
            pub answer_lateness: Lateness,
        }

        impl Counters {
            /// All counts with their names, in the order in which the log prints them.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                self.described().map(|(name, _, _, count)| (name, count))
            }

            /// The same, each with its kind and its description.
            pub fn described(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> + use<> {
                [$((stringify!($name), Kind::$kind, concat!($($doc),+).trim_ascii(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// AUDIO packets taken into the delay line.
    Count received,
    /// AUDIO packets echoed.
    Count sent,
    /// AUDIO packets waiting.
    Gauge buffered,
    /// Memory charged for what waits, in bytes.
    Gauge buffered_bytes,
    /// KEEPALIVE packets taken for an answer.
    Count keepalives,
    /// LATENCY_PING packets taken for an answer.
    Count pings,
    /// STUN Binding requests taken for an answer.
    Count stun,
    /// Loop checks taken for sending: KEEPALIVEs that only another echo server returns.
    Count loop_checks,
    /// Answers to KEEPALIVE, LATENCY_PING and STUN sent, and loop checks.
    Count answers,
    /// LATENCY_INFO packets: noted in the debug log, not answered.
    Count infos,
    /// FEC, CONTROL and LATENCY_PONG packets, replies of a newer client's route probe, and STUN indications: ignored.
    Count ignored,
    /// STUN Binding requests of the server's own sent, by which it learns how others see its socket.
    Count stun_asked,
    /// Answers to them, of whatever content.
    Count stun_answered,
    /// Rounds of them that were given up without an address.
    Count stun_unanswered,
    /// Datagrams shorter than a header.
    Count dropped_short,
    /// Datagrams with another version.
    Count dropped_version,
    /// Packets of an unknown type.
    Count dropped_type,
    /// Packets whose payload does not fit their type.
    Count dropped_payload,
    /// Datagrams that begin like a STUN request and are none.
    Count dropped_stun,
    /// Datagrams from source port 0, to which nothing can be returned.
    Count dropped_port_zero,
    /// Datagrams from an address that no client has: 0.0.0.0, ::, multicast, broadcast, an IPv4 address sent over IPv6, our own.
    Count dropped_nobody,
    /// Datagrams from sources that are not among those served.
    Count dropped_not_allowed,
    /// AUDIO and KEEPALIVE packets that had come too often before, byte for byte from the same source, and KEEPALIVEs of echo servers.
    Count dropped_repeated,
    /// Packets not answered because their source address had had its packets of the second.
    Count refused_rate,
    /// Packets not answered because their source address had had its bits of the second.
    Count refused_bits,
    /// AUDIO packets refused because the delay line held its cap for all clients.
    Count refused_buffer,
    /// AUDIO packets refused because their client held its cap.
    Count refused_client,
    /// KEEPALIVE and LATENCY_PING packets and STUN requests refused because the system takes no more answers.
    Count refused_answers,
    /// Packets refused because the system had no memory.
    Count refused_memory,
    /// Packets that the system refused to send.
    Count send_failed,
    /// Bytes of all datagrams that were read.
    Count heard_bytes,
    /// Bytes of AUDIO, answers and STUN requests sent.
    Count sent_bytes,
    /// Sources that are followed: heard in the last 10 s.
    Gauge sources,
    /// Datagrams of sources beyond those that are followed; served all the same, and counted above too.
    Count unfollowed,
    /// Replies lost on purpose by `--loss`.
    Count impaired_lost,
    /// Replies lost on purpose in a burst.
    Count impaired_burst,
    /// Replies lost on purpose because they were named.
    Count impaired_asked,
    /// Replies dropped because the queue before the limited bandwidth was full.
    Count impaired_queue,
    /// Second copies made on purpose.
    Count impaired_duplicated,
    /// Replies held back on purpose so that later ones pass; in the other counts too.
    Count impaired_reordered,
    /// AUDIO packets and answers still waiting at the stop.
    Count dropped_at_stop,
}
