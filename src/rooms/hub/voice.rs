//! How anybody in the hub speaks to connections, whose turn it may or may not be.

use super::counts::Counts;
use crate::rooms::event::Event;
use crate::rooms::{Conn, Outlet, Topic};

/// Tells connections something, and counts it.
pub(in crate::rooms) struct Voice<'a> {
    pub(in crate::rooms) counts: &'a mut Counts,
    pub(in crate::rooms) out: &'a mut dyn Outlet,
}

impl Voice<'_> {
    /// Tells all of these the same.
    pub(in crate::rooms) fn tell(&mut self, to: &[Conn], text: String) {
        self.counts.told(to.len(), text.len());
        self.out.send(to, text);
    }

    /// Tells them what makes all earlier that was said of `topic` stale.
    pub(in crate::rooms) fn refresh(&mut self, to: &[Conn], text: String, topic: Topic) {
        self.counts.told(to.len(), text.len());
        self.out.refresh(to, text, topic);
    }

    /// Tells the program.
    pub(in crate::rooms) fn report(&mut self, event: Event) {
        self.counts.events += 1;
        self.out.event(event);
    }
}
