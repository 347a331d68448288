//! What the hub counts, for each dialect.

use std::ops::{AddAssign, Index, IndexMut};

use super::Dialect;
use crate::stats::Kind;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// What is counted of connections, and how much there is now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counts {
            /// What all of them are called, their kinds, what they mean, and how to read one.
            pub fn described() -> impl Iterator<Item = (&'static str, Kind, &'static str, fn(&Counts) -> u64)> {
                let all: [(_, _, _, fn(&Counts) -> u64); _] =
                    [$((stringify!($name), Kind::$kind, concat!($($doc),+).trim_ascii(), |counts| counts.$name),)+];
                all.into_iter()
            }
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    /// Connections now.
    Gauge connections,
    /// Rooms now.
    Gauge rooms,
    /// Connections now that are in a room.
    Gauge members,
    /// Messages now that wait for their time.
    Gauge waiting,
    /// Bytes now that wait for slow readers.
    Gauge queue_bytes,
    /// Connections so far, by what they were when they came.
    Count opened,
    /// Messages that came.
    Count messages_in,
    /// The bytes of text in them.
    Count bytes_in,
    /// Messages given to connections, each receiver counted.
    Count messages_out,
    /// The bytes of text in those, likewise.
    Count bytes_out,
    /// Messages that had no effect.
    Count ignored,
    /// What control surfaces did, as the program was told.
    Count events,
    /// Messages and requests that were refused: by a limit, by a room, for want of a token, or because nobody could read them.
    Count refused,
    /// Looks at whether something has to go: who may be silent, idle or too old, and rooms whose time is over.
    Count cleanups,
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
    /// Connections closed because they sent too many pings or fragments in a second.
    Count closed_frames,
    /// Connections closed because a message was too long.
    Count closed_too_long,
    /// Connections closed because a text was not UTF-8.
    Count closed_utf8,
    /// Connections closed because they broke the WebSocket protocol.
    Count closed_protocol,
    /// Connections closed because they did not read what they were sent.
    Count slow_closed,
    /// Messages that were waiting for those.
    Count slow_dropped,
    /// Those of them that were closed because too much waited for all together.
    Count budget_closed,
    /// Values that slow control surfaces were not told, because newer ones of the same parameter followed.
    Count updates_left_out,
}

impl Counts {
    /// Tells `receivers` connections `bytes` each.
    pub(in crate::rooms) fn told(&mut self, receivers: usize, bytes: usize) {
        self.messages_out += receivers as u64;
        self.bytes_out += (receivers * bytes) as u64;
    }
}

/// The counts of each dialect.
#[derive(Default)]
pub(super) struct ByDialect([Counts; Dialect::ALL.len()]);

impl Index<Dialect> for ByDialect {
    type Output = Counts;

    fn index(&self, dialect: Dialect) -> &Counts {
        &self.0[dialect as usize]
    }
}

impl IndexMut<Dialect> for ByDialect {
    fn index_mut(&mut self, dialect: Dialect) -> &mut Counts {
        &mut self.0[dialect as usize]
    }
}
