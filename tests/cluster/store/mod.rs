//! The store of a cluster, which is all that its processes have in common.

mod connection;
mod directory;
mod log;
mod processes;
mod sentinel;

use std::time::Duration;

use jamjam_dev::io::cluster::store::{self, Lease, LogEntry, Notification, Position, Store, StoreError};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::redis_server::RedisServer;

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const FORMAT: u32 = 1;

/// A process of a cluster, as the tests see it: its store, its notifications and its lease.
pub(crate) struct Member {
    pub(crate) store: Store,
    pub(crate) notifications: Receiver<Notification>,
    pub(crate) lease: Lease,
}

impl Member {
    pub(crate) async fn join(server: &RedisServer) -> Self {
        Self::join_url(&server.url()).await
    }

    /// Returns after the first `Subscribed`.
    pub(crate) async fn join_url(url: &str) -> Self {
        let (store, notifications) = store::connect(url, "jamjam:", FORMAT).await.unwrap();
        let lease = acquire(&store).await;
        let mut member = Self { store, notifications, lease };
        assert_eq!(member.next().await, Notification::Subscribed);
        member
    }

    pub(crate) fn number(&self) -> u32 {
        self.lease.number
    }

    pub(crate) async fn next(&mut self) -> Notification {
        timeout(PATIENCE, self.notifications.recv()).await.expect("a notification in time").expect("an open store")
    }

    /// The next notification, which must be an entry of `room`.
    pub(crate) async fn next_entry(&mut self, room: u64) -> LogEntry {
        match self.next().await {
            Notification::Entry { room: found, entry } if found == room => entry,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next `Subscribed`, whatever arrives before it.
    pub(crate) async fn subscribed(&mut self) {
        while self.next().await != Notification::Subscribed {}
    }

    /// Makes a room with one name and the first entry "first".
    pub(crate) async fn create(&self, name: &str) -> (u64, Position) {
        let (room, position) = self.try_create(&[name]).await;
        (room, position.unwrap_or_else(|| panic!("{name} belongs to {room}")))
    }

    pub(crate) async fn try_create(&self, names: &[&str]) -> (u64, Option<Position>) {
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let description = format!("about {}", names[0]);
        self.store.create(&self.lease, "jamjam", &owned, description.as_bytes(), b"first", 1).await.unwrap()
    }

    pub(crate) async fn append(&self, room: u64, entry: &str) -> Result<Position, StoreError> {
        Ok(self.store.append(&self.lease, room, (0, entry.as_bytes()), 0).await?.0)
    }

    /// The texts of the entries after a position, or after the newest snapshot.
    pub(crate) async fn read(&self, room: u64, after: Option<&Position>) -> Vec<String> {
        let followed = self.store.follow(&self.lease, room, after).await.unwrap().expect("the position is known");
        followed.entries.into_iter().map(|entry| String::from_utf8(entry.entry.into()).unwrap()).collect()
    }

    /// Renews the lease. Returns the processes in ascending order.
    pub(crate) async fn renew(&self) -> Result<Vec<(u32, bool)>, StoreError> {
        let mut processes = self.store.renew(&self.lease).await?.processes;
        processes.sort_unstable();
        Ok(processes)
    }

    /// Ends the lease as Redis does when it has expired.
    pub(crate) fn expire(&self, server: &RedisServer) {
        let deleted: u32 = server.command(&format!("DEL jamjam:lease:{}", self.number()));
        assert_eq!(deleted, 1);
    }
}

pub(crate) async fn acquire(store: &Store) -> Lease {
    store.acquire(&[]).await.unwrap().expect("no settings differ")
}
