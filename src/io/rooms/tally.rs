//! What the room server counts outside its hub.

use super::frame::Breach;
use crate::stats::Kind;

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// Counts, and how much there is now.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Tally { $($(#[doc = $doc])+ pub(super) $name: u64,)+ }

        impl Tally {
            /// All of them with their names, kinds and what they mean.
            pub(super) fn described(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> + use<> {
                [$((stringify!($name), Kind::$kind, concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

tally! {
    /// Bytes that wait for slow readers.
    Gauge queue_bytes,
    /// Connections closed because they did not read what they were sent.
    Count slow_closed,
    /// Messages that were waiting for those.
    Count slow_dropped,
    /// Those of them that were closed because too much waited for all together.
    Count budget_closed,
    /// Values that slow control surfaces were not told, because newer ones of the same parameter followed.
    Count updates_left_out,
    /// Connections closed because a message was too long.
    Count closed_too_long,
    /// Connections closed because a text was not UTF-8.
    Count closed_utf8,
    /// Connections closed because they broke the WebSocket protocol.
    Count closed_protocol,
    /// Connections closed because they sent too many pings or fragments in a second.
    Count closed_frames,
    /// Connections closed at once: too many of one address.
    Count address_full,
    /// Connections closed because no whole request came in time.
    Count handshake_timeouts,
}

impl Tally {
    /// Counts why a connection cannot be read any more.
    pub(super) fn breach(&mut self, breach: Breach) {
        match breach {
            Breach::Protocol => self.closed_protocol += 1,
            Breach::Utf8 => self.closed_utf8 += 1,
            Breach::TooLong => self.closed_too_long += 1,
        }
    }
}
