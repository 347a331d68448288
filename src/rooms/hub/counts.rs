//! What the hub counts.

use crate::stats::Kind;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// What the hub counts, and how much there is now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counts {
            /// All of them with their names, kinds and what they mean.
            pub fn described(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> + use<> {
                [$((stringify!($name), Kind::$kind, concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

counts! {
    /// Connections now.
    Gauge connections,
    /// Connections now that have not said what they are.
    Gauge undecided,
    /// Rooms now.
    Gauge rooms,
    /// Connections now that are in a room.
    Gauge members,
    /// Messages now that wait for their time.
    Gauge waiting,
    /// Connections so far.
    Count opened,
    /// Messages that came.
    Count messages_in,
    /// Messages given to connections, each receiver counted.
    Count messages_out,
    /// Messages that had no effect.
    Count ignored,
    /// What control surfaces did, as the program was told.
    Count events,
    /// Requests that a limit refused.
    Count refused,
    /// Connections closed because they said too much in a second.
    Count closed_rate,
    /// Undecided connections closed to make room for others.
    Count closed_undecided,
    /// Connections dropped because they gave no sign of life.
    Count closed_silent,
    /// Connections closed because they had said nothing for too long.
    Count closed_idle,
    /// Connections closed because they had lasted long enough.
    Count closed_old,
}
