//! The connection of a store: one connection for commands and one for notifications, to the same server. If either breaks, both are
//! replaced: commands must not succeed while notifications are lost.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, Msg, RedisError, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::store::{CALL_TIMEOUT, ConnectError, LogEntry, Notification, Position, StoreError};
use super::store_address::{CHECK_TLS, StoreAddress, remedy};

/// A server that stops answering is noticed within this time and `CALL_TIMEOUT`.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A process that has not read this many notifications reads the rooms again instead.
const MAX_NOTIFICATIONS: usize = 4_096;
const OLDEST_VERSION: u32 = 7;
/// Why a process connects again after it has taken a number.
const RENUMBERED: &str = "the process has taken another number";

/// What the operations and the task that keeps the connection share.
pub(super) struct Shared {
    prefix: String,
    channels: String,
    /// The connection for commands with its number, or why there is none.
    commands: watch::Sender<Result<(u64, MultiplexedConnection), String>>,
    /// The number of this process, whose channel is subscribed by the next connection.
    process: AtomicU32,
}

/// Both connections to a server.
struct Session {
    commands: MultiplexedConnection,
    subscriptions: PubSubSink,
    messages: PubSubStream,
    server: ConnectionAddr,
    /// The number of this process whose channel is subscribed; 0 before the first.
    process: u32,
}

/// Connects, and starts the task that keeps the connection.
pub(super) async fn start(
    address: StoreAddress,
    prefix: &str,
    format: u32,
) -> Result<(Arc<Shared>, mpsc::Receiver<Notification>), ConnectError> {
    // Unlike keys, channels are shared by all databases of a server.
    let channels = match &address {
        StoreAddress::Server(server) => server.redis_settings().db(),
        StoreAddress::Sentinels { settings, .. } => settings.db(),
    };
    let shared = Arc::new(Shared {
        prefix: prefix.to_owned(),
        channels: format!("{prefix}{channels}:"),
        commands: watch::Sender::new(Err("not connected yet".to_owned())),
        process: AtomicU32::new(0),
    });
    let first = shared.open(&address, format).await?;
    let (sender, notifications) = mpsc::channel(MAX_NOTIFICATIONS);
    let task = Arc::clone(&shared);
    tokio::spawn(async move {
        let keep = task.keep(first, &address, format, &sender);
        tokio::select! {
            () = keep => {}
            () = sender.closed() => {}
        }
        let _ = task.commands.send_replace(Err("the store was closed".to_owned()));
    });
    Ok((shared, notifications))
}

impl Shared {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.channels)
    }

    pub(super) fn status(&self) -> Result<(), String> {
        self.commands.borrow().as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Connects again as the process with this number, so that its notifications arrive before any further operation is executed.
    pub(super) fn become_process(&self, number: u32) {
        self.process.store(number, Ordering::SeqCst);
        let _ = self.commands.send_replace(Err(RENUMBERED.to_owned()));
    }

    /// Runs an operation on the connection, after waiting for one if there is none.
    pub(super) async fn run<T, F: Future<Output = RedisResult<T>>>(
        &self,
        operation: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError> {
        let mut commands = self.commands.subscribe();
        let run = async {
            let connected = commands.wait_for(Result::is_ok).await.ok().and_then(|commands| commands.clone().ok());
            // The sender is a field of `self`.
            let (number, connection) = connected.expect("the watch is open and has a connection");
            (number, operation(connection).await)
        };
        let error = match timeout(CALL_TIMEOUT, run).await {
            Ok((_, Ok(value))) => return Ok(value),
            Ok((number, Err(error))) => {
                let is_broken = !is_invalid(&error) && (error.is_unrecoverable_error() || is_wrong_server(&error));
                if is_broken {
                    self.disconnect(number, &error.to_string());
                }
                error
            }
            Err(_) => {
                let reason = self.status().err();
                return Err(StoreError::Unavailable(reason.unwrap_or_else(no_answer)));
            }
        };
        Err(match error.code() {
            Some("LEASELOST") => StoreError::LeaseLost,
            Some("ROOMGONE") => StoreError::RoomGone,
            Some("LOGFULL") => StoreError::LogFull,
            _ if is_invalid(&error) => StoreError::Invalid(error.to_string()),
            _ => StoreError::Unavailable(error.to_string()),
        })
    }

    /// Gives up the connection with this number, which `keep` then replaces.
    fn disconnect(&self, number: u64, reason: &str) {
        self.commands.send_if_modified(|commands| {
            let is_current = commands.as_ref().is_ok_and(|(current, _)| *current == number);
            if is_current {
                *commands = Err(reason.to_owned());
            }
            is_current
        });
    }

    /// Forwards notifications, and replaces the session whenever it breaks. Never returns while `sender` is open.
    async fn keep(&self, first: Session, address: &StoreAddress, format: u32, sender: &mpsc::Sender<Notification>) {
        let (mut first, mut number) = (Some(first), 0);
        // A process that reads too slowly gets no new subscription before it has read on: the queue in front of `forward` has no limit.
        while let Ok(permit) = sender.reserve().await {
            let session = match first.take() {
                Some(first) => first,
                None => self.reopen(address, format).await,
            };
            number += 1;
            let _ = self.commands.send_replace(Ok((number, session.commands.clone())));
            if session.process > 0 {
                permit.send(Notification::Subscribed);
            }
            let is_outdated = session.process != self.process.load(Ordering::SeqCst);
            let reason = if is_outdated { RENUMBERED.to_owned() } else { self.forward(session, address, sender).await };
            let _ = self.commands.send_replace(Err(reason));
        }
    }

    /// Connects, as often as necessary.
    async fn reopen(&self, address: &StoreAddress, format: u32) -> Session {
        let mut retry = FIRST_RETRY;
        loop {
            sleep(retry).await;
            match self.open(address, format).await {
                Ok(session) => return session,
                Err(error) => drop(self.commands.send_replace(Err(error.to_string()))),
            }
            retry = LAST_RETRY.min(retry * 2);
        }
    }

    /// Connects to the server, checks that it can be used, and subscribes.
    async fn open(&self, address: &StoreAddress, format: u32) -> Result<Session, ConnectError> {
        let open = async {
            let server = address.resolve().await.map_err(ConnectError::Unavailable)?;
            let unavailable =
                |error: RedisError| ConnectError::Unavailable(format!("{}: {error}{}", server.addr(), remedy(&error)));
            let client = Client::open(server.clone()).map_err(unavailable)?;
            // `run` limits the time of every operation.
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let mut commands =
                client.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable)?;
            let answer = redis::cmd("HELLO").query_async(&mut commands).await.map_err(unavailable)?;
            check_server(&answer)?;
            let stored: Option<u32> = redis::cmd("SET")
                .arg((self.key("format"), format, "NX", "GET"))
                .query_async(&mut commands)
                .await
                .map_err(unavailable)?;
            if let Some(stored) = stored.filter(|stored| *stored != format) {
                let message = format!("the server has rooms of format {stored}, this version needs {format}");
                return Err(ConnectError::Refused(message));
            }
            let (mut subscriptions, messages) = client.get_async_pubsub().await.map_err(unavailable)?.split();
            let process = self.process.load(Ordering::SeqCst);
            let channels = [self.channel("all"), self.channel(&format!("to:{process}"))];
            subscriptions.subscribe(&channels).await.map_err(unavailable)?;
            let server = server.addr().clone();
            Ok(Session { commands, subscriptions, messages, server, process })
        };
        timeout(CALL_TIMEOUT, open).await.unwrap_or_else(|_| Err(ConnectError::Unavailable(no_answer() + CHECK_TLS)))
    }

    /// Forwards notifications until the session breaks. Returns the reason.
    async fn forward(&self, session: Session, address: &StoreAddress, sender: &mpsc::Sender<Notification>) -> String {
        let Session { mut commands, mut subscriptions, mut messages, server, .. } = session;
        let forward = async {
            while let Some(message) = messages.next().await {
                let Some(notification) = self.parse(&message) else { continue };
                if sender.try_send(notification).is_err() {
                    return "notifications arrive faster than they are handled".to_owned();
                }
            }
            "the subscription was closed".to_owned()
        };
        // A server that was replaced accepts commands until a Sentinel demotes it, 10 s later, and would lose them then.
        let check = async {
            let mut ticks = interval(CHECK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                in_time(redis::cmd("PING").exec_async(&mut commands)).await?;
                in_time(subscriptions.ping::<Value>()).await?;
                // Without Sentinels, the server goes on.
                if address.resolve().await.is_ok_and(|chosen| *chosen.addr() != server) {
                    return Err("the Sentinels have chosen another server".to_owned());
                }
            }
        };
        let mut state = self.commands.subscribe();
        let given_up = state.wait_for(Result::is_err);
        // Notifications do not wait for the checks.
        tokio::select! {
            reason = forward => reason,
            checked = check => checked.map_or_else(|reason| reason, |never: Infallible| match never {}),
            _ = given_up => self.status().err().unwrap_or_default(),
        }
    }

    /// `None` for what another version sends.
    fn parse(&self, message: &Msg) -> Option<Notification> {
        let payload = message.get_payload_bytes();
        if message.get_channel_name() == self.channel("all") {
            return Some(Notification::All(Bytes::copy_from_slice(payload)));
        }
        // A line of words, and the entry.
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let words: Vec<_> = str::from_utf8(&payload[..end]).ok()?.split(' ').collect();
        let [room, offset, previous_hash, hash] = words[..] else { return None };
        let position = Position { offset: offset.parse().ok()?, hash: hash.to_owned() };
        let entry = Bytes::copy_from_slice(&payload[end + 1..]);
        let entry = LogEntry { previous_hash: previous_hash.to_owned(), position, entry };
        Some(Notification::Entry { room: room.parse().ok()?, entry })
    }
}

async fn in_time<T>(request: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(CALL_TIMEOUT, request).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", CALL_TIMEOUT.as_secs())
}

/// Whether Redis has other data than this program writes: keys of another type, or values that a script or this program cannot read.
fn is_invalid(error: &RedisError) -> bool {
    let is_unreadable = matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType);
    is_unreadable || matches!(error.code(), Some("WRONGTYPE" | "ERR"))
}

/// Whether the server cannot execute commands any more, but another might (after a failover) or it can soon (after a restart).
fn is_wrong_server(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(BusyLoading | MasterDown | ReadOnly))
}

/// Checks version, mode and role of the server.
fn check_server(answer: &HashMap<String, Value>) -> Result<(), ConnectError> {
    let text =
        |name| answer.get(name).and_then(|value| redis::from_redis_value_ref::<String>(value).ok()).unwrap_or_default();
    let version = text("version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or_default();
    let refused = match text("mode").as_str() {
        "cluster" => Some("the server belongs to a Redis Cluster; a Redis server that has all keys is needed"),
        "sentinel" => {
            Some("the server is a Sentinel; the URL of a server behind Sentinels is redis+sentinel://HOST,HOST/NAME")
        }
        _ => None,
    };
    if let Some(message) = refused {
        return Err(ConnectError::Refused(message.to_owned()));
    }
    if major < OLDEST_VERSION {
        return Err(ConnectError::Refused(format!("Redis {OLDEST_VERSION} or newer is needed, this is {version}")));
    }
    match text("role").as_str() {
        "master" => Ok(()),
        role => Err(ConnectError::Unavailable(format!("the server is a {role}, which accepts no writes"))),
    }
}
