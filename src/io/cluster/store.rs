//! What the signaling servers of a cluster keep in Redis: leases of processes, names of rooms, and the log and snapshot of each room.
//! Entries, snapshots and descriptions are opaque here.
//!
//! Each operation is one function of a script (store.lua), which Redis runs without any other command in between. Only Redis measures leases: a
//! process whose lease has expired there can append nothing, whatever its own clock says. After an error of the connection it is unknown
//! whether the operation was executed, so the store never repeats one.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redis::{FromRedisValue, Script, ScriptInvocation, Value};
use tokio::sync::mpsc;

use super::store_address::StoreAddress;
use super::store_session::{self, Shared};
use crate::io::os;
use crate::signaling::Dialect;

/// How long an operation may take, including the time until a broken connection is replaced.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a lease lives after it was taken or renewed (`LEASE_MS` in store.lua).
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
    /// Redis has other data than this program writes, so that repeating the operation is useless.
    #[error("Redis has data that cannot be read: {0}")]
    Invalid(String),
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
    /// The URL cannot be used, or the server is not one that a cluster can use, or it holds the data of another format.
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

/// The log of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The dialect of the room.
    pub dialect: String,
    /// The newest snapshot and its position, if no position was given and there is a snapshot.
    pub snapshot: Option<(Position, Bytes)>,
    /// The entries after the given position, or after the snapshot, without gaps.
    pub entries: Vec<LogEntry>,
}

/// What `Store::renew` finds out about the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// All processes that have a lease or still follow rooms, and whether they have a lease.
    pub processes: Vec<(u32, bool)>,
    /// Number of rooms of all dialects.
    pub rooms: u64,
    /// How far the wall clock of Redis is ahead of ours, in microseconds. Wrong by at most half the round trip.
    pub clock_offset_us: i64,
}

/// A connection to Redis that all tasks of a process share. It is replaced whenever it breaks, until the receiver of the notifications is
/// dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store.lua")));

/// Connects to the server of `url` (`redis://`, `rediss://`, `redis+sentinel://` or `rediss+sentinel://`). All keys and channels begin
/// with `prefix`. `format` is the major version of the entries; a server whose data have another is refused.
pub async fn connect(
    url: &str,
    prefix: &str,
    format: u32,
) -> Result<(Store, mpsc::Receiver<Notification>), ConnectError> {
    let address = StoreAddress::parse(url).map_err(ConnectError::Refused)?;
    let (shared, notifications) = store_session::start(address, prefix, format).await?;
    Ok((Store { shared }, notifications))
}

impl Store {
    /// `Err` with the reason while there is no connection.
    pub fn status(&self) -> Result<(), String> {
        self.shared.status()
    }

    /// Takes a new number and its lease. Afterwards, every operation waits until notifications to this number arrive. `settings` (name and
    /// keyed hash) must be those of the other processes, otherwise the names of those that differ are returned; without any other process,
    /// they replace what is stored. Both are one script, so that two processes that start together either agree or the second is refused.
    pub async fn acquire(&self, settings: &[(&str, String)]) -> Result<Result<Lease, Vec<String>>, StoreError> {
        let token = os::random_u64s::<2>().map(|word| format!("{word:016x}")).concat();
        let mut call = self.call("acquire", None);
        call.arg(&token);
        for (name, value) in settings {
            call.arg(*name).arg(value);
        }
        let (number, differing): (u32, Vec<String>) = self.run(&call).await?;
        if !differing.is_empty() {
            return Ok(Err(differing));
        }
        if number >= MAX_PROCESSES {
            return Err(StoreError::Unavailable("all process numbers were used".to_owned()));
        }
        self.shared.become_process(number);
        Ok(Ok(Lease { number, token }))
    }

    /// Extends the lease. Fails if Redis has no memory for more data.
    pub async fn renew(&self, lease: &Lease) -> Result<ClusterView, StoreError> {
        let mut call = self.call("renew", Some(lease));
        call.arg(Dialect::ALL.map(Dialect::name).as_slice());
        let (sent, started) = (SystemTime::now(), Instant::now());
        let ((seconds, micros), rooms, processes): ((i64, i64), u64, Vec<(u32, bool)>) = self.run(&call).await?;
        let middle = sent.duration_since(UNIX_EPOCH).unwrap_or_default() + started.elapsed() / 2;
        let clock_offset_us = seconds * 1_000_000 + micros - middle.as_micros() as i64;
        Ok(ClusterView { processes, rooms, clock_offset_us })
    }

    /// Ends the lease. If the process still follows rooms, others treat it like one that has died.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run(&self.call("release", Some(lease))).await
    }

    /// Removes `dead` from up to 50 rooms that it followed, and appends `entry` to each. Does nothing if `dead` has a lease. Returns the
    /// rooms that `dead` was the last to follow, which this process follows now and should visit, because they may be deleted, and whether
    /// the call must be repeated.
    pub async fn depart(&self, lease: &Lease, dead: u32, entry: &[u8]) -> Result<(Vec<u64>, bool), StoreError> {
        self.run(self.call("depart", Some(lease)).arg(dead).arg(entry)).await
    }

    /// The room of a dialect that has this name.
    pub async fn find(&self, dialect: &str, name: &str) -> Result<Option<u64>, StoreError> {
        let key = self.shared.key(&format!("name:{dialect}:{name}"));
        self.command("GET", &[key.as_bytes()]).await
    }

    /// The rooms of a dialect in the order of their creation: their descriptions, and the number of members of all living processes.
    pub async fn list(&self, dialect: &str) -> Result<Vec<(Bytes, u64)>, StoreError> {
        self.run(self.call("list", None).arg(dialect)).await
    }

    /// Makes a room with these names, and appends its first entry. This process follows it with `members` members. Returns the number of the
    /// room, which no other room ever has, and the position after the entry. If one of the names is taken: the room that has it, and `None`.
    pub async fn create(
        &self,
        lease: &Lease,
        dialect: &str,
        names: &[String],
        description: &[u8],
        entry: &[u8],
        members: u64,
    ) -> Result<(u64, Option<Position>), StoreError> {
        let mut call = self.call("create", Some(lease));
        call.arg(dialect).arg(description).arg(entry).arg(members).arg(names);
        let (room, made): (u64, Option<(u64, String)>) = self.run(&call).await?;
        Ok((room, made.map(|(offset, hash)| Position { offset, hash })))
    }

    /// Makes this process a follower of the room and reads its log: after `after`, or with the newest snapshot. `None`: the log has no such
    /// position, because Redis has lost entries, or they were trimmed.
    pub async fn follow(
        &self,
        lease: &Lease,
        room: u64,
        after: Option<&Position>,
    ) -> Result<Option<Followed>, StoreError> {
        let mut call = self.call("follow", Some(lease));
        call.arg(room);
        if let Some(Position { offset, hash }) = after {
            call.arg(offset).arg(hash);
        }
        let followed: Option<(String, u64, String, Option<Bytes>, StreamEntries)> = self.run(&call).await?;
        Ok(followed.map(|(dialect, offset, hash, snapshot, entries)| {
            let mut position = Position { offset, hash };
            let snapshot = snapshot.map(|bytes| (position.clone(), bytes));
            let entries = entries.into_iter().map(|(_, (_, entry, _, hash, _, _))| {
                let next = Position { offset: position.offset + 1, hash };
                let previous_hash = std::mem::replace(&mut position, next.clone()).hash;
                LogEntry { previous_hash, position: next, entry }
            });
            Followed { dialect, snapshot, entries: entries.collect() }
        }))
    }

    /// Appends an entry, adds `members_delta` to the members that this process has in the room, and notifies all followers. `request`
    /// identifies the attempt. Returns the position after the entry, and whether the process should save a snapshot.
    pub async fn append(
        &self,
        lease: &Lease,
        room: u64,
        (request, entry): (u64, &[u8]),
        members_delta: i64,
    ) -> Result<(Position, bool), StoreError> {
        let mut call = self.call("append", Some(lease));
        let (offset, hash, snapshot_due) = self.run(call.arg(room).arg(request).arg(entry).arg(members_delta)).await?;
        Ok((Position { offset, hash }, snapshot_due))
    }

    /// Makes Redis reject an attempt to append that arrives only later, because there was no answer to it.
    pub async fn reject_late(&self, lease: &Lease, request: u64) -> Result<(), StoreError> {
        self.run(self.call("reject_late", Some(lease)).arg(request)).await
    }

    /// Corrects the number of members that this process has in a room that it follows.
    pub async fn set_members(&self, lease: &Lease, room: u64, members: u64) -> Result<(), StoreError> {
        self.run(self.call("set_members", Some(lease)).arg(room).arg(members)).await
    }

    /// Ends following the room. If it is `disposable`, nobody else follows it and `offset` is still its last, it is deleted with its
    /// names. Returns whether it was deleted.
    pub async fn unfollow(&self, lease: &Lease, room: u64, offset: u64, disposable: bool) -> Result<bool, StoreError> {
        self.run(self.call("unfollow", Some(lease)).arg(room).arg(offset).arg(u8::from(disposable))).await
    }

    /// Saves a snapshot of the room at a position of its log, and trims the log below the snapshot before it. Returns whether it was
    /// saved: a snapshot that is not newer than the saved one, or at a position that the log does not have, is ignored.
    pub async fn save_snapshot(
        &self,
        lease: &Lease,
        room: u64,
        Position { offset, hash }: &Position,
        snapshot: &[u8],
        description: &[u8],
    ) -> Result<bool, StoreError> {
        let mut call = self.call("save_snapshot", Some(lease));
        self.run(call.arg(room).arg(offset).arg(hash).arg(snapshot).arg(description)).await
    }

    /// Counts a wrong password, code or token of a network and returns how many there were in the last 15 minutes.
    pub async fn count_wrong(&self, kind: &str, network: &str) -> Result<u64, StoreError> {
        self.run(self.call("count_wrong", None).arg(kind).arg(network)).await
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
        self.command("HGETALL", &[self.shared.key("ranges").as_bytes()]).await
    }

    /// Saves a value for all rooms of the cluster.
    pub async fn set_range(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.command("HSET", &[self.shared.key("ranges").as_bytes(), name.as_bytes(), value]).await
    }

    /// A call of an operation without its arguments. With `lease`, it is executed only if the process has this lease.
    fn call(&self, operation: &str, lease: Option<&Lease>) -> ScriptInvocation<'static> {
        let mut call = SCRIPT.key(self.shared.key(""));
        call.key(self.shared.channel("")).arg(operation);
        match lease {
            Some(Lease { number, token }) => call.arg(number).arg(token),
            None => call.arg("").arg(""),
        };
        call
    }

    /// Runs the script. If Redis does not have it (after a restart), it is sent and called again.
    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'static>) -> Result<T, StoreError> {
        self.shared.run(|mut connection| async move { call.invoke_async(&mut connection).await }).await
    }

    async fn command<T: FromRedisValue>(&self, name: &str, arguments: &[&[u8]]) -> Result<T, StoreError> {
        let mut command = redis::cmd(name);
        command.arg(arguments);
        let run = |mut connection| async move { command.query_async(&mut connection).await };
        self.shared.run(run).await
    }
}
