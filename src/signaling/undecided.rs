//! The connections whose first message has not selected a dialect yet, by age and source.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::event_sink::ConnId;
use crate::address::source_network;

/// Connections that have not selected a dialect yet. Connection numbers are in the order of connecting.
#[derive(Default)]
pub(super) struct UndecidedConnections {
    sources: BTreeMap<ConnId, IpAddr>,
    by_source: BTreeSet<(IpAddr, ConnId)>,
}

impl UndecidedConnections {
    pub(super) fn insert(&mut self, conn: ConnId, source: IpAddr) {
        let source = source_network(source);
        self.sources.insert(conn, source);
        self.by_source.insert((source, conn));
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        if let Some(source) = self.sources.remove(&conn) {
            self.by_source.remove(&(source, conn));
        }
    }

    /// The oldest connection from `source`, if there are at least `max` of them.
    pub(super) fn oldest_of_source(&self, source: IpAddr, max: usize) -> Option<ConnId> {
        let source = source_network(source);
        let mut same_source = self.by_source.range((source, ConnId(0))..=(source, ConnId(u64::MAX)));
        let (_, oldest) = *same_source.next()?;
        (1 + same_source.take(max).count() >= max).then_some(oldest)
    }

    /// The oldest connection, if there are at least `max`.
    pub(super) fn oldest(&self, max: usize) -> Option<ConnId> {
        self.sources.first_key_value().filter(|_| self.sources.len() >= max).map(|(oldest, _)| *oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_connection_is_found_in_total_and_per_source() {
        let [a, same_as_a, b] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        let mut undecided = UndecidedConnections::default();
        for (conn, source) in [(3, b), (5, a), (7, same_as_a)] {
            undecided.insert(ConnId(conn), source);
        }
        assert_eq!((undecided.oldest(4), undecided.oldest(3)), (None, Some(ConnId(3))));
        assert_eq!(undecided.oldest_of_source(a, 3), None);
        assert_eq!(
            (undecided.oldest_of_source(a, 2), undecided.oldest_of_source(b, 1)),
            (Some(ConnId(5)), Some(ConnId(3)))
        );
        undecided.remove(ConnId(5));
        undecided.remove(ConnId(5));
        assert_eq!((undecided.oldest_of_source(a, 2), undecided.oldest_of_source(a, 1)), (None, Some(ConnId(7))));
        undecided.remove(ConnId(3));
        undecided.remove(ConnId(7));
        assert_eq!((undecided.oldest(0), undecided.oldest_of_source(b, 0)), (None, None));
    }
}
