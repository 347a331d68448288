//! How much of each dialect there is now.

use super::{Dialect, Hub, Rooms};
use crate::rooms::{Conn, Counts};

/// What connections are that have not said what they speak.
pub const UNDECIDED: &str = Dialect::Undecided.name();

impl Hub {
    /// The counts so far of each dialect, by its name, and how much there is of it now; [`UNDECIDED`] for those who have not said theirs.
    pub fn census(&self) -> Vec<(&'static str, Counts)> {
        let Rooms { broadcast, jamjam, bbx, webrtc } = &self.rooms;
        let mut census: Vec<_> = Dialect::ALL.iter().map(|dialect| (dialect.name(), self.counts[*dialect])).collect();
        for connection in self.connections.values() {
            census[connection.dialect as usize].1.connections += 1;
        }
        for (dialect, rooms, members) in [
            (Dialect::Broadcast, broadcast.space.len(), broadcast.space.members()),
            (Dialect::Jamjam, jamjam.len(), jamjam.members()),
            (Dialect::Bbx, bbx.space.len(), bbx.space.members()),
            (Dialect::WebRtc, webrtc.len(), webrtc.members()),
        ] {
            let counts = &mut census[dialect as usize].1;
            (counts.rooms, counts.members) = (rooms as u64, members as u64);
        }
        census[Dialect::Broadcast as usize].1.waiting = broadcast.waiting.len() as u64;
        census
    }

    /// The counts of all dialects together.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.census().into_iter().for_each(|(_, counts)| all += counts);
        all
    }

    /// Counts something of a connection's dialect.
    pub fn count(&mut self, conn: Conn, what: impl FnOnce(&mut Counts)) {
        if let Some(dialect) = self.dialect(conn) {
            what(&mut self.counts[dialect]);
        }
    }

    /// What a connection speaks, by its name.
    pub fn spoken(&self, conn: Conn) -> Option<&'static str> {
        self.dialect(conn).map(Dialect::name)
    }
}
