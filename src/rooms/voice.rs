//! How anybody in the hub speaks to connections, whose turn it may or may not be.

use super::counts::Counts;
use super::event::Event;
use super::{Conn, Outlet, Topic};

/// Tells connections something, and counts it.
pub(super) struct Voice<'a> {
    pub(super) counts: &'a mut Counts,
    pub(super) out: &'a mut dyn Outlet,
}

impl Voice<'_> {
    /// Tells all of these the same.
    pub(super) fn tell(&mut self, to: &[Conn], text: String) {
        self.counts.messages_out += to.len() as u64;
        self.out.send(to, text);
    }

    /// Tells them what makes all earlier that was said of `topic` stale.
    pub(super) fn refresh(&mut self, to: &[Conn], text: String, topic: Topic) {
        self.counts.messages_out += to.len() as u64;
        self.out.refresh(to, text, topic);
    }

    /// Tells the program.
    pub(super) fn report(&mut self, event: Event) {
        self.counts.events += 1;
        self.out.event(event);
    }
}
