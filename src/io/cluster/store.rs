//! What the signaling servers of a cluster keep in Redis: leases of processes, names of rooms, and the log and snapshot of each room.
//! Entries, snapshots and descriptions are opaque here.
//!
//! Each operation is one script (scripts/*.lua), which Redis runs without any other command in between. Only Redis measures leases: a
//! process whose lease has expired there can append nothing, whatever its own clock says. After an error of the connection it is unknown
//! whether the operation was executed, so the store never repeats one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redis::{FromRedisValue, Value};
use tokio::sync::mpsc;

use super::store_address::StoreAddress;
use super::store_scripts::{self as scripts, Call};
use super::store_session::{self, Shared};
use crate::io::os;
use crate::signaling::Dialect;

/// How long an operation may take, including the time until a broken connection is replaced.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a lease lives after it was taken or renewed (`LEASE_MS` in prelude.lua).
pub const LEASE_LIFETIME: Duration = Duration::from_secs(10);

/// Connection ids have 24 bits for the process number.
const MAX_PROCESSES: u32 = 1 << 24;

/// A position in the log of a room: how many entries precede it, and the hash of the last of them, which covers all entries before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of entries up to here. The first entry of a room has offset 1.
    pub offset: u64,
    /// SHA-1 of the previous hash and the entry, in hexadecimal digits. Empty before the first entry.
    pub hash: String,
}

/// An entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The hash of the position before the entry.
    pub previous_hash: String,
    /// The position after the entry.
    pub position: Position,
    /// The entry itself.
    pub entry: Bytes,
}

/// Why an operation was not executed, or why it is unknown whether it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Redis did not answer in time or answered with an error. An operation that changes something may have been executed.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// The lease has expired. Nothing was changed.
    #[error("the lease of this process has expired")]
    LeaseLost,
    /// The room was deleted, or Redis has lost it. Nothing was changed.
    #[error("the room does not exist any more")]
    RoomGone,
    /// The entry fits only after a snapshot of the room was saved. Nothing was changed.
    #[error("the log of the room is full until a snapshot is saved")]
    LogFull,
}

/// Why a store cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error("{0}")]
    Address(String),
    /// The server answers, but is not one that a cluster can use, or holds the data of another format.
    #[error("{0}")]
    Refused(String),
    /// No server answers, or it rejects the password.
    #[error("{0}")]
    Unavailable(String),
}

/// What Redis announces to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// A room that this process follows has a new entry. Entries of a room arrive in order, but some may be missing.
    Entry {
        /// The room.
        room: u64,
        /// The entry with its position.
        entry: LogEntry,
    },
    /// A message to all processes (`Store::publish_all`), including the one that sent it.
    All(Bytes),
    /// The subscription was established anew. What was announced before may be lost, so all followed rooms must be read again.
    Subscribed,
}

/// Entries as XRANGE returns them: id, and names and values of the fields.
type StreamEntries = Vec<(String, (Value, Bytes, Value, String, Value, u64))>;

/// The right of a process to append entries under its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process number, which no other process ever has.
    pub number: u32,
    token: String,
}

fn random_token() -> String {
    os::random_u64s::<2>().map(|word| format!("{word:016x}")).concat()
}

/// The result of `Store::acquire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The process has a number and a lease.
    Lease(Lease),
    /// Another process with a lease has other settings: the names of those that differ.
    SettingsDiffer(Vec<String>),
}

/// The result of `Store::create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The room was made, and this process follows it.
    Made {
        /// The number of the room, which no other room ever has.
        room: u64,
        /// The position after its first entry.
        position: Position,
    },
    /// One of the names belongs to this room. Nothing was changed.
    Taken(u64),
}

/// The result of `Store::follow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The entries after the given position, or after the snapshot.
    Entries {
        /// The dialect of the room.
        dialect: String,
        /// The newest snapshot and its position, if no position was given and there is a snapshot.
        snapshot: Option<(Position, Bytes)>,
        /// The entries, without gaps.
        entries: Vec<LogEntry>,
    },
    /// The log has no such position: Redis has lost entries, or they were trimmed.
    Diverged,
}

/// The result of `Store::append`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position after the entry.
    pub position: Position,
    /// Whether the process should save a snapshot.
    pub snapshot_due: bool,
}

/// The result of `Store::depart`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Rooms that the dead process was the last to follow. This process follows them now, and should look whether they can be deleted.
    pub unfollowed: Vec<u64>,
    /// Whether the dead process followed further rooms, so that the call must be repeated.
    pub more: bool,
}

/// A room in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    /// The number of the room.
    pub room: u64,
    /// What was saved with `Store::create` or `Store::save_snapshot`.
    pub description: Bytes,
    /// Members of all processes that have a lease.
    pub members: u64,
}

/// A connection to Redis that all tasks of a process share. It is replaced whenever it breaks, until the receiver of the notifications is
/// dropped.
#[derive(Clone)]
pub struct Store {
    shared: std::sync::Arc<Shared>,
}

/// Connects to the server of `url` (`redis://`, `rediss://`, `redis+sentinel://` or `rediss+sentinel://`). All keys and channels begin
/// with `prefix`. `format` is the major version of the entries; a server whose data have another is refused.
pub async fn connect(
    url: &str,
    prefix: &str,
    format: u32,
) -> Result<(Store, mpsc::Receiver<Notification>), ConnectError> {
    let address = StoreAddress::parse(url).map_err(ConnectError::Address)?;
    let (shared, notifications) = store_session::start(address, prefix, format).await?;
    Ok((Store { shared }, notifications))
}

impl Store {
    /// `Err` with the reason while there is no connection.
    pub fn status(&self) -> Result<(), String> {
        self.shared.status()
    }

    /// Takes a new number and its lease, and returns when notifications to this number arrive. `settings` (name and keyed hash) must be
    /// those of the other processes; without any other process, they replace what is stored. Both are one script, so that two processes
    /// that start together either agree or the second is refused.
    pub async fn acquire(&self, settings: &[(&str, String)]) -> Result<Acquired, StoreError> {
        let token = random_token();
        let mut call = self.call(&scripts::ACQUIRE);
        call.arg(&token);
        for (name, value) in settings {
            call.arg(*name).arg(value);
        }
        let (number, differing): (u32, Vec<String>) = call.run().await?;
        if !differing.is_empty() {
            return Ok(Acquired::SettingsDiffer(differing));
        }
        if number >= MAX_PROCESSES {
            return Err(StoreError::Unavailable("all process numbers were used".to_owned()));
        }
        self.shared.become_process(number);
        Ok(Acquired::Lease(Lease { number, token }))
    }

    /// Extends the lease. `false`: it has expired, and the process needs a new one.
    pub async fn renew(&self, lease: &Lease) -> Result<bool, StoreError> {
        match self.leased(&scripts::RENEW, lease).run::<()>().await {
            Err(StoreError::LeaseLost) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Ends the lease. If the process still follows rooms, others treat it like one that has died.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.leased(&scripts::RELEASE, lease).run().await
    }

    /// All processes that have a lease or are still followers of rooms, by number, and whether they have a lease.
    pub async fn processes(&self) -> Result<Vec<(u32, bool)>, StoreError> {
        let mut processes: Vec<(u32, bool)> = self.call(&scripts::PROCESSES).run().await?;
        processes.sort_unstable();
        Ok(processes)
    }

    /// Removes `dead` from up to 50 rooms that it followed, and appends `entry` to each. Does nothing if `dead` has a lease.
    pub async fn depart(&self, lease: &Lease, dead: u32, entry: &[u8]) -> Result<Departed, StoreError> {
        let mut call = self.leased(&scripts::DEPART, lease);
        let (unfollowed, more) = call.arg(dead).arg(entry).run().await?;
        Ok(Departed { unfollowed, more })
    }

    /// The room of a dialect that has this name.
    pub async fn find(&self, dialect: &str, name: &str) -> Result<Option<u64>, StoreError> {
        let key = self.shared.key(&format!("name:{dialect}:{name}"));
        self.command("GET", &[key.as_bytes()]).await
    }

    /// The rooms of a dialect in the order of their creation.
    pub async fn list(&self, dialect: &str) -> Result<Vec<ListedRoom>, StoreError> {
        let rooms: Vec<(u64, Bytes, u64)> = self.call(&scripts::LIST).arg(dialect).run().await?;
        Ok(rooms.into_iter().map(|(room, description, members)| ListedRoom { room, description, members }).collect())
    }

    /// Number of rooms of all dialects.
    pub async fn rooms(&self) -> Result<u64, StoreError> {
        let mut rooms = 0;
        for dialect in Dialect::ALL {
            let key = self.shared.key(&format!("dialect:{}", dialect.name()));
            rooms += self.command::<u64>("ZCARD", &[key.as_bytes()]).await?;
        }
        Ok(rooms)
    }

    /// Makes a room with these names, unless one of them is taken, and appends its first entry. This process follows it with `members`
    /// members.
    pub async fn create(
        &self,
        lease: &Lease,
        dialect: &str,
        names: &[String],
        description: &[u8],
        entry: &[u8],
        members: u64,
    ) -> Result<Created, StoreError> {
        let mut call = self.leased(&scripts::CREATE, lease);
        call.arg(dialect).arg(description).arg(entry).arg(members).arg(names);
        let (room, made): (u64, Option<(u64, String)>) = call.run().await?;
        Ok(made
            .map_or(Created::Taken(room), |(offset, hash)| Created::Made { room, position: Position { offset, hash } }))
    }

    /// Makes this process a follower of the room and reads its log: after `after`, or with the newest snapshot.
    pub async fn follow(&self, lease: &Lease, room: u64, after: Option<&Position>) -> Result<Followed, StoreError> {
        let mut call = self.leased(&scripts::FOLLOW, lease);
        call.arg(room);
        if let Some(Position { offset, hash }) = after {
            call.arg(offset).arg(hash);
        }
        let followed: Option<(String, u64, String, Option<Bytes>, StreamEntries)> = call.run().await?;
        let Some((dialect, offset, hash, snapshot, entries)) = followed else { return Ok(Followed::Diverged) };
        let mut position = Position { offset, hash };
        let snapshot = snapshot.map(|bytes| (position.clone(), bytes));
        let entries = entries.into_iter().map(|(_, (_, entry, _, hash, _, _))| {
            let next = Position { offset: position.offset + 1, hash };
            let previous_hash = std::mem::replace(&mut position, next.clone()).hash;
            LogEntry { previous_hash, position: next, entry }
        });
        Ok(Followed::Entries { dialect, snapshot, entries: entries.collect() })
    }

    /// Appends an entry, adds `members_delta` to the members that this process has in the room, and notifies all followers.
    pub async fn append(
        &self,
        lease: &Lease,
        room: u64,
        entry: &[u8],
        members_delta: i64,
    ) -> Result<Appended, StoreError> {
        let mut call = self.leased(&scripts::APPEND, lease);
        let (offset, hash, snapshot_due) = call.arg(room).arg(entry).arg(members_delta).run().await?;
        Ok(Appended { position: Position { offset, hash }, snapshot_due })
    }

    /// Makes Redis reject an entry that arrives only later, because its first attempt to append it got no answer.
    pub async fn reject_late(&self, entry: &[u8]) -> Result<(), StoreError> {
        self.call(&scripts::REJECT_LATE).arg(entry).run().await
    }

    /// Corrects the number of members that this process has in a room that it follows.
    pub async fn set_members(&self, lease: &Lease, room: u64, members: u64) -> Result<(), StoreError> {
        self.leased(&scripts::SET_MEMBERS, lease).arg(room).arg(members).run().await
    }

    /// Ends following the room. If it is `disposable`, nobody else follows it and `offset` is still its last, it is deleted with its
    /// names. Returns whether it was deleted.
    pub async fn unfollow(&self, lease: &Lease, room: u64, offset: u64, disposable: bool) -> Result<bool, StoreError> {
        self.leased(&scripts::UNFOLLOW, lease).arg(room).arg(offset).arg(u8::from(disposable)).run().await
    }

    /// Saves a snapshot of the room at a position of its log, and trims the log below the snapshot before it. Returns whether it was
    /// saved: a snapshot that is not newer than the saved one, or at a position that the log does not have, is ignored.
    pub async fn save_snapshot(
        &self,
        lease: &Lease,
        room: u64,
        position: &Position,
        snapshot: &[u8],
        description: &[u8],
    ) -> Result<bool, StoreError> {
        let mut call = self.leased(&scripts::SAVE_SNAPSHOT, lease);
        call.arg(room).arg(position.offset).arg(&position.hash).arg(snapshot).arg(description).run().await
    }

    /// Counts a wrong password, code or token of a network and returns how many there were in the last 15 minutes.
    pub async fn count_wrong(&self, kind: &str, network: &str) -> Result<u64, StoreError> {
        self.call(&scripts::COUNT_WRONG).arg(kind).arg(network).run().await
    }

    /// How many wrong passwords, codes or tokens of a network there were since the count began, at most 15 minutes ago.
    pub async fn wrong_count(&self, kind: &str, network: &str) -> Result<u64, StoreError> {
        let key = self.shared.key(&format!("wrong:{kind}:{network}"));
        Ok(self.command::<Option<u64>>("GET", &[key.as_bytes()]).await?.unwrap_or(0))
    }

    /// Sends a message to all processes.
    pub async fn publish_all(&self, message: &[u8]) -> Result<(), StoreError> {
        self.command("PUBLISH", &[self.shared.channel("all").as_bytes(), message]).await
    }

    /// What was saved for all rooms of the cluster.
    pub async fn ranges(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        let mut ranges: Vec<(String, Bytes)> = self.command("HGETALL", &[self.shared.key("ranges").as_bytes()]).await?;
        ranges.sort_unstable();
        Ok(ranges)
    }

    /// Saves a value for all rooms of the cluster.
    pub async fn set_range(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.command("HSET", &[self.shared.key("ranges").as_bytes(), name.as_bytes(), value]).await
    }

    /// How far the wall clock of Redis is ahead of ours, in microseconds. Wrong by at most half the round trip.
    pub async fn clock_offset_us(&self) -> Result<i64, StoreError> {
        let (sent, started) = (SystemTime::now(), Instant::now());
        let (seconds, micros): (i64, i64) = self.command("TIME", &[]).await?;
        let middle = sent.duration_since(UNIX_EPOCH).unwrap_or_default() + started.elapsed() / 2;
        Ok(seconds * 1_000_000 + micros - middle.as_micros() as i64)
    }

    fn call<'a>(&'a self, script: &'static redis::Script) -> Call<'a> {
        Call::new(&self.shared, script)
    }

    /// A call whose script checks the lease first.
    fn leased<'a>(&'a self, script: &'static redis::Script, lease: &Lease) -> Call<'a> {
        let mut call = self.call(script);
        call.arg(lease.number).arg(&lease.token);
        call
    }

    async fn command<T: FromRedisValue>(&self, name: &str, arguments: &[&[u8]]) -> Result<T, StoreError> {
        let mut command = redis::cmd(name);
        command.arg(arguments);
        let run = |mut connection| async move { command.query_async(&mut connection).await };
        self.shared.run(run).await
    }
}
