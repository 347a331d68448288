//! What the connections of all processes receive.

use std::collections::BTreeMap;

use jamjam_signaling::{ConnId, EventSink};

/// Records what each open connection receives, and how connections end.
#[derive(Default)]
pub(crate) struct ClientQueues {
    pub(crate) received: BTreeMap<ConnId, Vec<String>>,
    /// Code and reason, or `None` for a connection that was dropped.
    pub(crate) ended: BTreeMap<ConnId, Option<(u16, String)>>,
    pub(crate) pinged: Vec<ConnId>,
    /// Messages to connections that are not open.
    pub(crate) faults: Vec<String>,
}

impl EventSink for ClientQueues {
    fn send(&mut self, to: &[ConnId], text: String) {
        for conn in to {
            match self.received.get_mut(conn) {
                Some(received) if !self.ended.contains_key(conn) => received.push(text.clone()),
                _ => self.faults.push(format!("{conn:?} is not open and is sent {text}")),
            }
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.ended.insert(conn, Some((code, reason.to_owned())));
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.ended.insert(conn, None);
    }
}
