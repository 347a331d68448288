//! Rooms that several signaling servers share over Redis.
//!
//! Each process applies the log of the rooms that its members are in (`rooms.rs`, under the hub's lock). What a connection wants from a room is
//! appended to the log in Redis ([`store`]) by the connection's task, which reads nothing more in the meantime (`requests.rs`). This module
//! connects both, and keeps the lease of the process.

mod passwords;
mod requests;
mod rooms;
pub mod store;
mod store_address;
mod store_session;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{interval, sleep};
use tracing::{info, warn};

use crate::address::source_network;
use crate::io::clock;
use crate::io::http::body::to_json;
use crate::io::os;
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::cluster::{Command, Entry, FORMAT, SavedClose};
use crate::signaling::{CloseCode, Hub};
use requests::{MAX_WRONG, Request, UNAVAILABLE};
pub(in crate::io) use requests::{
    RequestError, UsedRoom, create, for_connection, list, publish_range, read_rooms, to_room, use_room, use_room_of,
};
pub(in crate::io) use rooms::FollowedRooms;
use rooms::{RoomNumber, Task};
use store::{CALL_TIMEOUT, ClusterView, ConnectError, Lease, Notification, Store, StoreError};

/// What a connection waits for.
pub(in crate::io) type ClusterRequest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Default of [`ClusterConfig::wait`].
pub const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Default of [`ClusterConfig::prefix`].
pub const DEFAULT_PREFIX: &str = "jamjam:";

/// Maximum length of a message, in bytes. Its entry is up to twice as long and must fit into the log of a room, 8 MiB between two snapshots.
pub const MAX_MESSAGE_BYTES: usize = 3 << 20;

/// The setting that is the key of the hashes of all settings.
const SECRET_OPTION: &str = "--hmac-secret";

/// Interval at which a process renews its lease, which lasts ten seconds, and looks for expired ones.
const TICK: Duration = Duration::from_secs(1);

/// Difference of the wall clock from that of Redis above which a warning is logged, µs.
const MAX_CLOCK_OFFSET_US: i64 = 100_000;

/// Pause after a failure to take a lease.
const LEASE_RETRY: Duration = Duration::from_millis(500);

/// The close reason if the state of a room is lost.
const LOST_ROOM: &str = "The state of the room was lost; connect again";

/// How a process takes part in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The URL of Redis or of its Sentinels, with a password.
    pub url: String,
    /// The beginning of all keys.
    pub prefix: String,
    /// How long messages and joins wait for Redis.
    pub wait: Duration,
    /// The settings that must be equal in all processes: name of the option, and keyed hash of the value.
    pub settings: Vec<(&'static str, String)>,
}

/// Why a process cannot take part in a cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The URL, the server or the format.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Redis went away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process has other settings.
    #[error("the other servers of the cluster were started with another value of {}; use the same value", .0.join(", "))]
    SettingsDiffer(Vec<String>),
    /// Handlers of the embedding program that cannot save their state.
    #[error("the handlers of these rooms cannot save their state, so that no cluster can share the rooms: {0}")]
    UnsavedRooms(String),
}

impl ClusterError {
    /// Whether other options are the remedy.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Connect(ConnectError::Unavailable(_)) | Self::Store(_))
    }
}

/// The connection of this process to the other processes of a cluster.
pub(in crate::io) struct Cluster {
    store: Store,
    wait: Duration,
    settings: Vec<(&'static str, String)>,
    lease: Mutex<Option<Lease>>,
    lease_lost: Notify,
    last_request: AtomicU64,
    password_permits: Semaphore,
    /// As of the last tick.
    state: Mutex<ClusterState>,
    /// Why the last tick failed.
    failure: Mutex<Option<String>>,
}

/// The state of the cluster, for `/metrics` and the console.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::io) struct ClusterState {
    /// The number of this process.
    process: u32,
    /// Number of processes with a lease.
    pub(in crate::io) processes: u64,
    /// Rooms that this process follows, and all others.
    pub(in crate::io) rooms_here: u64,
    pub(in crate::io) rooms_elsewhere: u64,
    /// The age of the last applied entry of another process.
    pub(in crate::io) lag_us: u64,
    /// How far the clock of Redis is ahead of ours.
    pub(in crate::io) clock_offset_us: i64,
    /// Replicas that differed from that of another process and were read again.
    pub(in crate::io) diverged: u64,
}

/// What the cluster announces to this process, and what rooms want from Redis.
pub(in crate::io) struct ClusterInbox {
    notifications: mpsc::Receiver<Notification>,
    tasks: mpsc::UnboundedReceiver<Task>,
}

impl Cluster {
    /// Takes a number and a lease.
    pub(in crate::io) async fn connect(
        ClusterConfig { url, prefix, wait, settings }: ClusterConfig,
        hub: &Hub,
    ) -> Result<((Self, FollowedRooms), ClusterInbox), ClusterError> {
        let unsaved = hub.unsaved_rooms();
        if !unsaved.is_empty() {
            return Err(ClusterError::UnsavedRooms(unsaved.join(", ")));
        }
        let (store, notifications) = store::connect(&url, &prefix, FORMAT).await?;
        let lease = store.acquire(&settings).await?.map_err(|mut names| {
            // The secret is the key of all hashes.
            if names.iter().any(|name| name == SECRET_OPTION) {
                names = vec![SECRET_OPTION.to_owned()];
            }
            ClusterError::SettingsDiffer(names)
        })?;
        info!(target: "cluster", process = lease.number, prefix, "joined the cluster");
        let (sender, tasks) = mpsc::unbounded_channel();
        let rooms = FollowedRooms::new(lease.number, sender);
        let cluster = Self {
            store,
            wait,
            settings,
            lease: Mutex::new(Some(lease)),
            lease_lost: Notify::new(),
            last_request: AtomicU64::new(0),
            password_permits: Semaphore::new(passwords::MAX_CONCURRENT),
            state: Mutex::default(),
            failure: Mutex::default(),
        };
        Ok(((cluster, rooms), ClusterInbox { notifications, tasks }))
    }

    /// `Err` with the reason while this process cannot change rooms.
    pub(in crate::io) fn status(&self) -> Result<(), String> {
        self.store.status().map_err(|reason| format!("Redis is not available: {reason}"))?;
        if let Some(failure) = &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure.clone());
        }
        self.lease().map(drop).ok_or_else(|| "this process has no lease".to_owned())
    }

    /// The state at the last tick.
    pub(in crate::io) fn state(&self) -> ClusterState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a wrong key of a token request at all processes. While Redis is away, nothing is counted.
    pub(in crate::io) async fn has_too_many_wrong_tokens(&self, source: IpAddr) -> bool {
        let network = source_network(source).to_string();
        self.store.count_wrong("token", &network).await.is_ok_and(|count| count > MAX_WRONG)
    }

    /// Ends the lease, so that the other processes remove the members of this one.
    pub(in crate::io) async fn leave(&self) {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lease) = lease {
            let _ = self.store.release(&lease).await;
        }
    }

    fn lease(&self) -> Option<Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entry(&self, command: Command) -> Entry {
        Entry {
            request: self.last_request.fetch_add(1, Ordering::Relaxed) + 1,
            process: self.lease().map_or(0, |lease| lease.number),
            time_us: clock::unix_us(),
            seed: os::random_u64s(),
            command,
        }
    }
}

/// Runs until the future is dropped. If it ends, the server must end too.
pub(in crate::io) async fn run(hub: &Arc<SharedHub>, inbox: ClusterInbox) {
    let Some(cluster) = hub.cluster() else { return std::future::pending().await };
    let ClusterInbox { mut notifications, mut tasks } = inbox;
    let mut batch = Vec::new();
    let receive = async {
        while notifications.recv_many(&mut batch, 64).await > 0 {
            hub.with_hub_and_rooms(|now, rooms, inner, out| {
                for notification in batch.drain(..) {
                    match notification {
                        Notification::Entry { room, entry } => rooms.apply(room, entry, now, inner, out),
                        Notification::All(message) => rooms.on_broadcast(&message, now, inner, out),
                        Notification::Subscribed => rooms.reread_all(),
                    }
                }
            });
        }
    };
    let work = async {
        while let Some(task) = tasks.recv().await {
            let hub = Arc::clone(hub);
            tokio::spawn(async move {
                if let Some(cluster) = hub.cluster() {
                    // What fails because the lease is lost is done by the process that finds out.
                    let _ = run_task(&Request { hub: &hub, cluster, memory: None }, task).await;
                }
            });
        }
    };
    tokio::select! {
        () = receive => {}
        () = work => {}
        () = maintain(hub, cluster) => {}
    }
}

async fn run_task(request: &Request<'_>, task: Task) -> Result<(), RequestError> {
    let (hub, cluster) = (request.hub, request.cluster);
    match task {
        Task::CatchUp(room) => request.catch_up(room).await?,
        Task::Unfollow(room) => unfollow(request, room).await?,
        // The members of an earlier number of this process leave like those of any dead process.
        Task::Leave(_, conn, _) if cluster.lease().is_none_or(|lease| lease.number != conn.process()) => {}
        Task::Leave(room, conn, close) => request.leave(room, conn, close).await?,
        Task::Visit(room) => {
            // An answer arrives within this time. A room that then has no user is unfollowed, and deleted if nothing in it must be kept.
            sleep(CALL_TIMEOUT).await;
            request.use_number(room).await?;
        }
        Task::RunTimers(room) => drop(request.append(room, Command::Due, 0).await?),
        Task::Count(room) => {
            let counting = hub.with_rooms(|rooms| rooms.get(room).map(|followed| Arc::clone(&followed.counting)));
            let _counting = counting.ok_or(RequestError::NoRoom)?.lock_owned().await;
            request.correct_count(room).await?;
        }
        Task::Snapshot(room) => request.save_snapshot(room).await,
        Task::ReadRanges => {
            for (_, range) in request.repeat(|| cluster.store.ranges()).await? {
                hub.with_hub_and_rooms(|now, rooms, inner, out| rooms.on_broadcast(&range, now, inner, out));
            }
        }
        Task::Broadcast(message) => drop(cluster.store.publish_all(message.as_bytes()).await),
    }
    Ok(())
}

/// Stops following a room that nobody here uses. A room of which nothing is to be kept is deleted, unless another process follows it.
async fn unfollow(request: &Request<'_>, room: RoomNumber) -> Result<(), RequestError> {
    let reading = request.hub.with_rooms(|rooms| rooms.get(room).map(|followed| Arc::clone(&followed.reading)));
    let _reading = reading.ok_or(RequestError::NoRoom)?.lock_owned().await;
    let unloaded = request.hub.with_hub_and_rooms(|_, rooms, inner, _| rooms.unload(room, inner));
    if let Some((offset, is_disposable)) = unloaded {
        let store = &request.cluster.store;
        let unfollow = |lease| async move { store.unfollow(&lease, room, offset, is_disposable).await };
        request.repeat_with_lease(unfollow).await?;
        request.hub.with_rooms(|rooms| rooms.remove_unloaded(room));
    }
    Ok(())
}

/// Keeps the lease, and removes the members of processes that have lost theirs.
async fn maintain(hub: &Arc<SharedHub>, cluster: &Cluster) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = cluster.lease_lost.notified() => {}
        }
        let Some(lease) = cluster.lease() else { return std::future::pending().await };
        let failure = match cluster.store.renew(&lease).await {
            Err(StoreError::LeaseLost) => {
                take_new_lease(hub, cluster).await;
                continue;
            }
            Ok(view) => on_renewed(hub, cluster, &lease, view).await.err(),
            Err(error) => Some(error),
        };
        let failure = failure.map(|error| error.to_string());
        let mut last = cluster.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last, &failure) {
            (None, Some(error)) => warn!(target: "cluster", error, "the rooms cannot be changed now"),
            (Some(_), None) => info!(target: "cluster", "the rooms can be changed again"),
            _ => {}
        }
        *last = failure;
    }
}

/// Updates the state for the operator, and removes the members of processes that have lost their lease.
async fn on_renewed(
    hub: &SharedHub,
    cluster: &Cluster,
    lease: &Lease,
    ClusterView { processes, rooms, clock_offset_us }: ClusterView,
) -> Result<(), StoreError> {
    let is_wrong = |offset: i64| offset.abs() > MAX_CLOCK_OFFSET_US;
    if is_wrong(clock_offset_us) && !is_wrong(cluster.state().clock_offset_us) {
        warn!(target: "cluster", offset_ms = clock_offset_us / 1_000, "the clocks of Redis and of this machine differ; synchronize them");
    }
    let (rooms_here, lag_us, diverged) =
        hub.with_rooms(|rooms| (rooms.replicas().count() as u64, rooms.lag_us, rooms.diverged));
    *cluster.state.lock().unwrap_or_else(PoisonError::into_inner) = ClusterState {
        process: lease.number,
        processes: processes.iter().filter(|(_, is_alive)| *is_alive).count() as u64,
        rooms_here,
        rooms_elsewhere: rooms.saturating_sub(rooms_here),
        lag_us,
        clock_offset_us,
        diverged,
    };
    for (dead, _) in processes.into_iter().filter(|(_, is_alive)| !is_alive) {
        info!(target: "cluster", process = dead, "removing the members of a process that has stopped");
        let entry = to_json(&cluster.entry(Command::Depart { process: dead }));
        loop {
            let (unfollowed, is_incomplete) = cluster.store.depart(lease, dead, entry.as_bytes()).await?;
            hub.with_rooms(|rooms| unfollowed.into_iter().for_each(|room| rooms.task(Task::Visit(room))));
            if !is_incomplete {
                break;
            }
        }
    }
    Ok(())
}

/// Without a lease, the state of this process is outdated: it closes its connections, and begins anew with another number.
async fn take_new_lease(hub: &Arc<SharedHub>, cluster: &Cluster) {
    *cluster.lease.lock().unwrap_or_else(PoisonError::into_inner) = None;
    warn!(target: "cluster", "the lease of this process has expired; closing all connections");
    hub.close_connections(CloseCode::SERVICE_RESTART, UNAVAILABLE);
    let lease = loop {
        match cluster.store.acquire(&cluster.settings).await {
            Ok(Ok(lease)) => break lease,
            Ok(Err(names)) => {
                warn!(target: "cluster", ?names, "the other servers of the cluster were started with other options; restart this one");
            }
            Err(error) => warn!(target: "cluster", %error, "cannot join the cluster again"),
        }
        sleep(LEASE_RETRY).await;
    };
    info!(target: "cluster", process = lease.number, "joined the cluster again");
    hub.join_cluster(lease.number, CloseCode::SERVICE_RESTART, UNAVAILABLE);
    *cluster.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
}

impl SharedHub {
    /// Closes the members of a room whose state is lost.
    fn close_lost_room(&self, room: RoomNumber) {
        self.with_hub_and_rooms(|now, rooms, inner, out| {
            let members = rooms.retire(room, inner);
            if !members.is_empty() {
                warn!(target: "cluster", room, members = members.len(), "the state of a room was lost; closing its members");
            }
            for conn in members {
                inner.close_connection(now, conn, CloseCode::SERVICE_RESTART, LOST_ROOM, out);
                // Redis may still have the member.
                rooms.task(Task::Leave(room, conn, SavedClose::lost()));
            }
        });
    }
}
