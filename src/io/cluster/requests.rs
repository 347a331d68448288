//! What connections and HTTP requests want from rooms, in terms of Redis: find or make the room, follow it, append an entry, and wait until
//! it is applied here.
//!
//! While Redis is away, each step is repeated. Whoever requests it decides how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::rooms::{Broadcast, RoomNumber, Task, Waiter};
use super::store::{Lease, LogEntry, StoreError};
use super::{Cluster, ClusterRequest, passwords};
use crate::address::source_network;
use crate::io::http::body::to_json;
use crate::io::signaling::shared_hub::SharedHub;
use crate::memory_budget::MemoryAccount;
use crate::signaling::cluster::{
    Applied, Command, Entry, Plan, Replica, RoomDescription, RoomReply, RoomRequest, SavedClose,
};
use crate::signaling::{BroadcastParams, CloseCode, ConnId, Dialect, Hub, Route};
use crate::time::WallClock;

/// Pause before a step is repeated after an error of Redis.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of wrong passwords, codes or keys of an address within 15 minutes, at all processes together.
pub(super) const MAX_WRONG: u64 = 100;

/// The close reason while Redis is away.
pub(super) const UNAVAILABLE: &str = "The rooms are not available; connect again";

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::io) enum RequestError {
    /// Redis was away for longer than requests wait, or this process has no lease.
    #[error("The rooms are not available, because Redis is not; try again later")]
    Unavailable,
    /// There is no such room.
    #[error("the room does not exist")]
    NoRoom,
}

/// One request. It is abandoned when its future is dropped.
pub(super) struct Request<'a> {
    pub(super) hub: &'a Arc<SharedHub>,
    pub(super) cluster: &'a Cluster,
    /// Holds the messages that the request causes.
    pub(super) memory: Option<Arc<MemoryAccount>>,
}

/// Does what `plan` leaves to be done for a connection. If Redis has not answered in time since `began`, the connection is closed.
pub(in crate::io) fn for_connection(
    hub: &Arc<SharedHub>,
    (conn, memory): (ConnId, &Arc<MemoryAccount>),
    plan: Plan,
    began: Instant,
) -> Option<ClusterRequest> {
    if plan == Plan::Done {
        return None;
    }
    let (hub, memory) = (Arc::clone(hub), Arc::clone(memory));
    Some(Box::pin(async move {
        let Some(cluster) = hub.cluster() else { return };
        let request = Request { hub: &hub, cluster, memory: Some(memory) };
        let run = async {
            let done = request.run(conn, plan).await;
            // Else a connection that returns to its former room could leave it afterwards.
            let Some(former) = hub.with_rooms(|rooms| rooms.former.get(&conn).copied()) else { return done };
            let left = request.leave(former, conn, SavedClose::changed_room()).await;
            hub.with_rooms(|rooms| rooms.former.remove(&conn));
            left
        };
        let done = timeout_at((began + cluster.wait).into(), run).await;
        if let Some(memory) = &request.memory {
            hub.check_memory(conn, memory);
        }
        if !matches!(done, Ok(Ok(()) | Err(RequestError::NoRoom))) {
            debug!(target: "cluster", conn = conn.0, "no answer from Redis in time; closing the connection");
            hub.with_hub(|now, inner, out| {
                inner.close_connection(now, conn, CloseCode::SERVICE_RESTART, UNAVAILABLE, out);
            });
        }
    }))
}

/// Appends a request to the room with this name, and returns its result. Only a request to a broadcast room makes the room.
pub(in crate::io) async fn to_room(
    hub: &Arc<SharedHub>,
    (dialect, name): (Dialect, &str),
    request: RoomRequest,
) -> Result<RoomReply, RequestError> {
    let command = Command::Request(request);
    let applied = within_wait(hub, async |request| {
        loop {
            if let Some(used) = request.use_room((dialect, name), false).await? {
                match request.append(used.room, command.clone(), 0).await {
                    // The room was deleted after it was found.
                    Err(RequestError::NoRoom) => {}
                    result => return result,
                }
            } else if dialect != Dialect::Broadcast {
                return Err(RequestError::NoRoom);
            } else if let Some(applied) = request.create(dialect, &command, 0).await? {
                return Ok(applied);
            }
        }
    });
    applied.await?.reply.ok_or(RequestError::NoRoom)
}

/// The rooms of a dialect in the order of their creation, with the number of members.
pub(in crate::io) async fn list(
    hub: &Arc<SharedHub>,
    dialect: Dialect,
) -> Result<Vec<(RoomDescription, usize)>, RequestError> {
    within_wait(hub, async |request| request.list(dialect).await).await
}

/// Makes a room with this first request. `None` if another room has its name.
pub(in crate::io) async fn create(
    hub: &Arc<SharedHub>,
    dialect: Dialect,
    request: RoomRequest,
) -> Result<Option<RoomReply>, RequestError> {
    let command = Command::Request(request);
    within_wait(hub, async |of_room| Ok(of_room.create(dialect, &command, 0).await?.and_then(|applied| applied.reply)))
        .await
}

/// Reads each room of a dialect.
pub(in crate::io) async fn read_rooms<T>(
    hub: &Arc<SharedHub>,
    dialect: Dialect,
    read: impl Fn(WallClock, &Hub) -> T,
) -> Result<Vec<T>, RequestError> {
    within_wait(hub, async |request| {
        let mut all = Vec::new();
        for (room, _) in request.list(dialect).await? {
            let Some(name) = room.names.first() else { continue };
            // The log has the reason why a room cannot be read.
            if let Ok(Some(used)) = request.use_room((dialect, name), false).await {
                all.extend(hub.with_hub_and_rooms(|now, rooms, inner, _| {
                    rooms.replica(used.room).map(|replica| replica.read(inner, |copy| read(now, copy)))
                }));
            }
        }
        Ok(all)
    })
    .await
}

/// Follows the room with this name, if there is one, until the returned value is dropped.
pub(in crate::io) async fn use_room(
    hub: &Arc<SharedHub>,
    name: (Dialect, &str),
) -> Result<Option<UsedRoom>, RequestError> {
    if hub.cluster().is_none() {
        return Ok(None);
    }
    within_wait(hub, async |request| request.use_room(name, false).await).await
}

/// Follows the room that a new connection wants to enter, so that the room's handler can decide on the connection.
pub(in crate::io) async fn use_room_of(hub: &Arc<SharedHub>, route: &Route) -> Option<UsedRoom> {
    let Route::Broadcast(BroadcastParams { room: Some(name), .. }) = route else { return None };
    let has_handler = hub.cluster().is_some() && hub.with_hub(|_, inner, _| inner.has_handler(name));
    if has_handler { use_room(hub, (Dialect::Broadcast, name)).await.ok().flatten() } else { None }
}

/// Informs all processes, also later ones, of the range of a parameter.
pub(in crate::io) async fn publish_range(
    hub: &Arc<SharedHub>,
    name: &str,
    (min, max): (f32, f32),
) -> Result<(), RequestError> {
    let message = to_json(&Broadcast::Range { name: name.to_owned(), min, max });
    within_wait(hub, async |request| {
        request.repeat(|| request.cluster.store.set_range(name, message.as_bytes())).await?;
        request.repeat(|| request.cluster.store.publish_all(message.as_bytes())).await
    })
    .await
}

/// Makes a request, which fails if Redis does not answer in time.
async fn within_wait<T>(
    hub: &Arc<SharedHub>,
    make: impl AsyncFnOnce(&Request<'_>) -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let cluster = hub.cluster().ok_or(RequestError::Unavailable)?;
    let request = Request { hub, cluster, memory: None };
    timeout(cluster.wait, make(&request)).await.unwrap_or(Err(RequestError::Unavailable))
}

impl Request<'_> {
    async fn run(&self, conn: ConnId, plan: Plan) -> Result<(), RequestError> {
        match plan {
            Plan::Done => {}
            Plan::List(dialect) => {
                let rooms = self.list(dialect).await?;
                self.hub.with_hub(|now, inner, out| inner.reply_room_list(now, conn, &rooms, out));
            }
            Plan::Append(command) => {
                let room = self.hub.with_rooms(|rooms| rooms.room_of(conn)).ok_or(RequestError::NoRoom)?;
                self.append(room, command, 0).await?;
            }
            Plan::Create { mut command, password } => {
                if let Some(password) = password {
                    command.set_password_hash(passwords::hash(&self.cluster.password_permits, password).await);
                }
                // Until a draft has free names.
                while self.create(Dialect::Jamjam, &command, 1).await?.is_none() {}
            }
            Plan::Enter { dialect, name, create, password, command } => {
                self.enter(conn, (dialect, &name), (create, password), command).await?;
            }
        }
        Ok(())
    }

    /// Appends that a member has left.
    pub(super) async fn leave(&self, room: RoomNumber, conn: ConnId, close: SavedClose) -> Result<(), RequestError> {
        let used = self.use_number(room).await?;
        self.append(used.room, Command::Leave { conn, close }, -1).await.map(drop)
    }

    /// The rooms of a dialect in the order of their creation, with the number of members.
    pub(super) async fn list(&self, dialect: Dialect) -> Result<Vec<(RoomDescription, usize)>, RequestError> {
        let rooms = self.repeat(|| self.cluster.store.list(dialect.name())).await?;
        // Only control surface rooms are open without members.
        let open = rooms.into_iter().filter(|(_, members)| *members > 0 || dialect == Dialect::ControlSurface);
        let described = open.filter_map(|(description, members)| {
            let description = serde_json::from_slice(&description).inspect_err(|error| {
                warn!(target: "cluster", dialect = dialect.name(), %error, "lists omit a room whose description cannot be read");
            });
            Some((description.ok()?, members as usize))
        });
        Ok(described.collect())
    }

    async fn enter(
        &self,
        conn: ConnId,
        (dialect, name): (Dialect, &str),
        (create, password): (bool, Option<String>),
        command: Command,
    ) -> Result<(), RequestError> {
        let Command::Enter { source, .. } = &command else { return Ok(()) };
        let (store, network) = (&self.cluster.store, source_network(*source).to_string());
        let is_code = dialect == Dialect::ControlSurface;
        // The reply does not show whether the code was checked.
        let is_hidden = is_code && self.repeat(|| store.wrong_count("code", &network)).await? >= MAX_WRONG;
        loop {
            let Some(used) = self.use_room((dialect, name), is_hidden).await? else {
                if create && self.create(dialect, &command, 1).await?.is_none() {
                    continue;
                }
                if is_code {
                    self.repeat(|| store.count_wrong("code", &network)).await?;
                }
                if !create {
                    self.hub.with_hub(|now, inner, out| inner.on_unknown_room(now, conn, &command, out));
                }
                return Ok(());
            };
            if let Some(Some(hash)) = used.with_replica(|replica| replica.password_hash().map(str::to_owned)) {
                let is_limited = self.repeat(|| store.wrong_count("password", &network)).await? >= MAX_WRONG;
                let permits = &self.cluster.password_permits;
                if is_limited || !passwords::verify(permits, password.clone(), hash).await {
                    if !is_limited {
                        self.repeat(|| store.count_wrong("password", &network)).await?;
                    }
                    self.hub.with_hub(|now, inner, out| inner.on_wrong_password(now, conn, &command, is_limited, out));
                    return Ok(());
                }
            }
            match self.append(used.room, command.clone(), 1).await {
                // The room was deleted after it was found.
                Err(RequestError::NoRoom) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Makes a room with this first command. `None` if another room has one of its names.
    pub(super) async fn create(
        &self,
        dialect: Dialect,
        command: &Command,
        members: u64,
    ) -> Result<Option<Applied>, RequestError> {
        let entry = self.cluster.entry(command.clone());
        let json = to_json(&entry);
        let draft = self.hub.with_hub(|_, inner, _| Replica::draft(dialect, inner, &entry));
        let description = to_json(&draft);
        let (store, names, description, first) =
            (&self.cluster.store, &draft.names, description.as_bytes(), json.as_bytes());
        let create =
            |lease| async move { store.create(&lease, dialect.name(), names, description, first, members).await };
        let (room, made) = self.repeat_with_lease(create).await?;
        let mut waiter = self.expect(&entry, room);
        if let Some(position) = made.clone() {
            let first = LogEntry { previous_hash: String::new(), position, entry: Bytes::from(json) };
            self.hub.with_hub_and_rooms(|now, rooms, inner, out| {
                rooms.start(room, dialect, inner);
                rooms.add_counted(room, members as i64);
                rooms.apply(room, first, now, inner, out);
            });
        }
        self.catch_up(room).await?;
        // The answer to an earlier attempt was lost, and with it the answer to the client.
        let is_lost = waiter
            .used
            .with_replica(Replica::local_members)
            .is_some_and(|members| made.is_none() && command.conn().is_some_and(|conn| members.contains(&conn)));
        if is_lost { Err(RequestError::Unavailable) } else { Ok(waiter.applied.try_recv().ok()) }
    }

    /// Appends a command to a followed room, and waits until it is applied here.
    pub(super) async fn append(
        &self,
        room: RoomNumber,
        command: Command,
        members_delta: i64,
    ) -> Result<Applied, RequestError> {
        let counting = self.hub.with_rooms(|rooms| rooms.get(room).map(|followed| Arc::clone(&followed.counting)));
        let counting = counting.ok_or(RequestError::NoRoom)?;
        // Until the entry is applied, the directory counts a member that the replica does not have, or the reverse.
        let counting = if members_delta == 0 { Err(counting) } else { Ok(counting.lock_owned().await) };
        let applied = self.append_until_applied(room, command, members_delta).await?;
        // Whoever has the answer finds the right number in lists.
        if members_delta != 0 || !applied.left.is_empty() {
            let _counting = match counting {
                Ok(counting) => counting,
                Err(counting) => counting.lock_owned().await,
            };
            self.correct_count(room).await?;
        }
        Ok(applied)
    }

    async fn append_until_applied(
        &self,
        room: RoomNumber,
        command: Command,
        members_delta: i64,
    ) -> Result<Applied, RequestError> {
        let mut entry = self.cluster.entry(command);
        loop {
            let json = to_json(&entry);
            let mut waiter = self.expect(&entry, room);
            let store = &self.cluster.store;
            match store.append(&self.lease()?, room, (entry.request, json.as_bytes()), members_delta).await {
                Ok((_, snapshot_due)) => {
                    self.hub.with_rooms(|rooms| rooms.add_counted(room, members_delta));
                    if snapshot_due {
                        self.hub.with_rooms(|rooms| rooms.task(Task::Snapshot(room)));
                    }
                    // The sender is dropped if the replica is: the room was lost.
                    return (&mut waiter.applied).await.map_err(|_| RequestError::Unavailable);
                }
                Err(StoreError::LogFull) => self.save_snapshot(room).await,
                Err(StoreError::Unavailable(reason)) => {
                    debug!(target: "cluster", room, reason, "it is unknown whether an entry was appended; reading the room again");
                    sleep(RETRY_PAUSE).await;
                    let request = entry.request;
                    self.repeat_with_lease(|lease| async move { store.reject_late(&lease, request).await }).await?;
                    self.hub.with_rooms(|rooms| rooms.mark_stale(room));
                    self.catch_up(room).await?;
                    if let Ok(applied) = waiter.applied.try_recv() {
                        return Ok(applied);
                    }
                    entry = self.cluster.entry(entry.command);
                }
                Err(error) => {
                    if matches!(error, StoreError::Invalid(_)) {
                        self.hub.close_lost_room(room);
                    }
                    return Err(self.final_error(&error));
                }
            }
        }
    }

    /// Corrects the number of members here in the directory. The caller holds the lock on this number.
    pub(super) async fn correct_count(&self, room: RoomNumber) -> Result<(), RequestError> {
        if let Some(members) = self.hub.with_rooms(|rooms| rooms.wrong_count(room)) {
            let store = &self.cluster.store;
            let set = |lease| async move { store.set_members(&lease, room, members as u64).await };
            self.repeat_with_lease(set).await?;
            self.hub.with_rooms(|rooms| rooms.set_counted(room, members));
        }
        Ok(())
    }

    /// Reads a room until its replica is up to date.
    pub(super) async fn catch_up(&self, room: RoomNumber) -> Result<(), RequestError> {
        let reading = self.hub.with_rooms(|rooms| rooms.get(room).map(|followed| Arc::clone(&followed.reading)));
        let reading = reading.ok_or(RequestError::NoRoom)?;
        let _reading = reading.lock().await;
        while let Err(after) = self.hub.with_rooms(|rooms| rooms.check_current(room)) {
            let (store, after) = (&self.cluster.store, after.as_ref());
            let follow = |lease| async move { store.follow(&lease, room, after).await };
            let Ok(Some(read)) = self.repeat_with_lease(follow).await else {
                self.hub.close_lost_room(room);
                return Err(RequestError::NoRoom);
            };
            let is_loaded = self.hub.with_hub_and_rooms(|now, rooms, inner, out| {
                rooms.apply_read(room, read, now, inner, out);
                rooms.replica(room).is_some()
            });
            if !is_loaded {
                return Err(RequestError::Unavailable);
            }
        }
        Ok(())
    }

    /// Follows the room with this name, if there is one, at least until the returned value is dropped.
    pub(super) async fn use_room(
        &self,
        (dialect, name): (Dialect, &str),
        is_hidden: bool,
    ) -> Result<Option<UsedRoom>, RequestError> {
        loop {
            let found = self.repeat(|| self.cluster.store.find(dialect.name(), name)).await?;
            let Some(room) = found.filter(|_| !is_hidden) else { return Ok(None) };
            match self.use_number(room).await {
                Err(RequestError::NoRoom) => sleep(RETRY_PAUSE).await,
                result => return result.map(Some),
            }
        }
    }

    pub(super) async fn use_number(&self, room: RoomNumber) -> Result<UsedRoom, RequestError> {
        let used = UsedRoom::new(self.hub, room);
        self.catch_up(room).await?;
        Ok(used)
    }

    pub(super) async fn save_snapshot(&self, room: RoomNumber) {
        let saved = self.hub.with_hub_and_rooms(|_, rooms, inner, _| rooms.snapshot(room, inner));
        if let (Some((position, snapshot, description)), Some(lease)) = (saved, self.cluster.lease())
            && let Err(error) =
                self.cluster.store.save_snapshot(&lease, room, &position, &snapshot, description.as_bytes()).await
        {
            debug!(target: "cluster", room, %error, "cannot save a snapshot");
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Repeats an operation until Redis answers.
    pub(super) async fn repeat<T, F>(&self, operation: impl Fn() -> F) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.repeat_with_lease(|_| operation()).await
    }

    /// Repeats an operation of the process that has this lease until Redis answers.
    pub(super) async fn repeat_with_lease<T, F>(&self, operation: impl Fn(Lease) -> F) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match operation(self.lease()?).await {
                Ok(value) => return Ok(value),
                Err(StoreError::Unavailable(_) | StoreError::LogFull) => sleep(RETRY_PAUSE).await,
                Err(error) => return Err(self.final_error(&error)),
            }
        }
    }

    fn lease(&self) -> Result<Lease, RequestError> {
        self.cluster.lease().ok_or(RequestError::Unavailable)
    }

    /// The error after which a repetition is useless.
    fn final_error(&self, error: &StoreError) -> RequestError {
        match error {
            StoreError::RoomGone => return RequestError::NoRoom,
            StoreError::Invalid(_) => warn!(target: "cluster", %error, "a request failed"),
            _ => self.cluster.lease_lost.notify_one(),
        }
        RequestError::Unavailable
    }

    /// Waits from now on for the entry to be applied.
    fn expect(&self, entry: &Entry, room: RoomNumber) -> Expected {
        let (sender, applied) = oneshot::channel();
        let waiter = Waiter { applied: sender, memory: self.memory.clone() };
        let used = UsedRoom::new(self.hub, room);
        self.hub.with_rooms(|rooms| rooms.waiting.insert(entry.request, waiter));
        Expected { used, request: entry.request, applied }
    }
}

/// An entry that is not applied yet.
struct Expected {
    used: UsedRoom,
    request: u64,
    applied: oneshot::Receiver<Applied>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.used.hub.with_rooms(|rooms| rooms.waiting.remove(&self.request));
    }
}

/// A room that is followed as long as this value exists.
pub(in crate::io) struct UsedRoom {
    hub: Arc<SharedHub>,
    pub(in crate::io) room: RoomNumber,
}

impl UsedRoom {
    fn new(hub: &Arc<SharedHub>, room: RoomNumber) -> Self {
        hub.with_rooms(|rooms| rooms.begin_use(room));
        Self { hub: Arc::clone(hub), room }
    }

    /// Reads the replica; `None` if it was lost in the meantime.
    pub(super) fn with_replica<T>(&self, read: impl FnOnce(&Replica) -> T) -> Option<T> {
        self.hub.with_rooms(|rooms| rooms.replica(self.room).as_deref().map(read))
    }
}

impl Drop for UsedRoom {
    fn drop(&mut self) {
        self.hub.with_rooms(|rooms| rooms.end_use(self.room));
    }
}
