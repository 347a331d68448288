//! The whole server at one moment, for people who look at it.

use std::sync::PoisonError;

use super::Switchboard;
use crate::rooms::{Counts, Look, Wanted};

impl Switchboard {
    /// What there is to see, with how much waits for whom, and the counts of each dialect by its name.
    pub(in crate::io::rooms) fn look(&self, wanted: &Wanted) -> (Look, Vec<(&'static str, Counts)>) {
        let mut look = self.ask(|now, hub, _| hub.look(now, wanted));
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let members = look.rooms.iter_mut().flat_map(|room| &mut room.members);
            for seen in members.chain(&mut look.outside) {
                let queue = state.lines.queues.get(&crate::rooms::Conn(seen.connection));
                seen.waiting_bytes = queue.map_or(0, |queue| queue.bytes() as u64);
            }
        }
        (look, self.census())
    }
}
