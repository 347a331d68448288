//! A control surface server embedded in another application. Commands enter through a channel; events leave through a lock-free queue that
//! an audio thread may read.
//!
//! ```no_run
//! use jamjam_dev::io::signaling::control_surface_server::{ServerCommand, WsServer, WsServerConfig};
//! use jamjam_dev::signaling::event_queue;
//! use tokio::sync::{mpsc, oneshot};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (producer, mut consumer) = event_queue(256);
//! let (commands, command_rx) = mpsc::channel(256);
//! // Commands are executed from now on; connections wait until the server runs.
//! let server = WsServer::new(WsServerConfig::default(), producer, command_rx)?;
//!
//! let (response, room_code) = oneshot::channel();
//! commands.send(ServerCommand::CreateRoom { response }).await?;
//! println!("Room code: {}", room_code.await?);
//!
//! std::thread::spawn(move || while let Ok(event) = consumer.pop() { /* an audio thread */ });
//! server.run().await?;
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::warn;

use crate::io::connection_permit::ConnectionLimits;
use crate::io::log::SharedLogThrottle;
use crate::io::signaling::event_stream::SharedListeners;
use crate::io::signaling::{SignalingServerConfig, connect, serve_hub};
use crate::io::stop::StopToken;
use crate::io::{clock, http, os};
use crate::lock::lock;
use crate::signaling::send_queue::DEFAULT_MAX_UPDATES;
use crate::signaling::{
    ControlSurfaceLimits, CreateRoomOptions, CreatedRoom, Dialect, EventProducer, Heartbeat, Hub, SignalingLimits,
};

/// Maximum number of concurrent connections, in total and per source address.
const MAX_CONNECTIONS: usize = 10_000;
const MAX_CONNECTIONS_PER_ADDRESS: usize = 256;

/// Listen address and time-outs of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsServerConfig {
    /// TCP address to listen on; port 0 selects a free port.
    pub bind_addr: SocketAddr,
    /// Interval of pings to clients. Zero disables pings and the time-out.
    pub ping_interval: Duration,
    /// Maximum time without incoming data before a client is disconnected.
    pub connection_timeout: Duration,
    /// Maximum number of queued messages per client before superseded parameter values are dropped.
    pub broadcast_capacity: usize,
}

impl Default for WsServerConfig {
    /// The defaults: address `0.0.0.0:8080`, ping every 5 s, time-out 30 s, capacity 256 messages.
    fn default() -> Self {
        let Heartbeat { interval, timeout } = ControlSurfaceLimits::default().heartbeat;
        Self {
            bind_addr: (Ipv4Addr::UNSPECIFIED, 8_080).into(),
            ping_interval: interval.unwrap_or_default(),
            connection_timeout: timeout,
            broadcast_capacity: DEFAULT_MAX_UPDATES,
        }
    }
}

/// Settings of all rooms of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// Number of digits of a room code, 4 to 6.
    pub code_length: usize,
    /// Lifetime of a room.
    pub expiration: Duration,
    /// Maximum number of clients in a room.
    pub max_clients: usize,
}

impl Default for RoomConfig {
    /// Four digits, 24 hours, 100 clients.
    fn default() -> Self {
        let ControlSurfaceLimits { code_digits, room_lifetime, max_members, .. } = ControlSurfaceLimits::default();
        Self { code_length: code_digits, expiration: room_lifetime, max_clients: max_members }
    }
}

/// A command of the embedding application to its server. Failed commands, such as closing a room that does not exist, are logged.
#[derive(Debug)]
pub enum ServerCommand {
    /// Sets a parameter in all rooms and sends it to all clients.
    BroadcastParam {
        /// Name, at most 256 bytes.
        name: String,
        /// Value; must be finite.
        value: f32,
    },
    /// Sends visualization data to all clients.
    BroadcastVisualization {
        /// At most 65,536 finite values.
        data: Vec<f32>,
    },
    /// Creates a room.
    CreateRoom {
        /// The sending half of a one-shot channel. The server creates a room and sends the room code on this channel. If there are already
        /// 1,000 rooms, the server creates no room and drops the sending half. The receiving half then returns an error. If the receiving
        /// half has been dropped, the server closes the new room again.
        response: oneshot::Sender<String>,
    },
    /// Closes a room and disconnects its clients.
    CloseRoom {
        /// The room code.
        code: String,
    },
    /// Stops the server after closing all connections. Commands after this one are not executed.
    Shutdown,
}

/// A server for control surfaces only. It accepts their connections on every URL path.
pub struct WsServer {
    listener: TcpListener,
    hub: Arc<Hub>,
    listeners: SharedListeners,
    config: SignalingServerConfig,
    /// The task that executes commands until a shutdown. It ends when this set is dropped.
    commands: JoinSet<()>,
}

impl WsServer {
    /// Binds the listener and executes `commands` in a task of the current tokio runtime. [`WsServer::run`] accepts
    /// connections. Fails if there is no tokio runtime or if the address cannot be bound.
    pub fn new(
        config: WsServerConfig,
        events: EventProducer,
        commands: mpsc::Receiver<ServerCommand>,
    ) -> io::Result<Self> {
        Self::with_rooms(config, RoomConfig::default(), events, commands)
    }

    /// Like [`WsServer::new`], but with other room settings.
    pub fn with_rooms(
        config: WsServerConfig,
        rooms: RoomConfig,
        events: EventProducer,
        commands: mpsc::Receiver<ServerCommand>,
    ) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = TcpListener::from_std(http::bind(config.bind_addr)?)?;
        let interval = Some(config.ping_interval).filter(|interval| !interval.is_zero());
        let control_surface = ControlSurfaceLimits {
            code_digits: rooms.code_length,
            room_lifetime: rooms.expiration,
            max_members: rooms.max_clients,
            heartbeat: Heartbeat { interval, timeout: config.connection_timeout },
            ..ControlSurfaceLimits::default()
        };
        let dialects = vec![Dialect::ControlSurface];
        let max_updates = config.broadcast_capacity;
        let limits = SignalingLimits { dialects, control_surface, max_updates, ..SignalingLimits::default() };
        let hub = Hub::new(limits, os::random_u64s());
        let (max_connections, max_connections_per_address) = (Some(MAX_CONNECTIONS), Some(MAX_CONNECTIONS_PER_ADDRESS));
        let connection_limits =
            ConnectionLimits { max_connections, max_connections_per_address, ..ConnectionLimits::default() };
        let options = SignalingServerConfig { connection_limits, ..SignalingServerConfig::default() };
        let (hub, listeners) = connect(hub, &options);
        lock(&listeners).add_program(events);
        let mut command_task = JoinSet::new();
        command_task.spawn_on(run_commands(commands, Arc::clone(&hub)), &runtime);
        Ok(Self { listener, hub, listeners, config: options, commands: command_task })
    }

    /// The bound address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until [`ServerCommand::Shutdown`], then waits up to 5 s for connections to close. If the future is dropped, all connections
    /// are closed at once.
    pub async fn run(self) -> io::Result<()> {
        let Self { listener, hub, listeners, config, mut commands } = self;
        let stopped = async { commands.join_next().await };
        serve_hub(listener, (&hub, &listeners), config, &StopToken::default(), stopped.map(drop)).await;
        Ok(())
    }
}

/// Executes commands until shutdown.
async fn run_commands(mut commands: mpsc::Receiver<ServerCommand>, hub: Arc<Hub>) {
    let log_throttle = SharedLogThrottle::default();
    while let Some(command) = commands.recv().await {
        let now = clock::now();
        let (action, result) = match command {
            ServerCommand::BroadcastParam { name, value } => {
                ("set parameter", hub.broadcast_param(now, None, &name, value).map(drop))
            }
            ServerCommand::BroadcastVisualization { data } => {
                ("show visualization", hub.broadcast_visualization(now, None, &data).map(drop))
            }
            ServerCommand::CreateRoom { response } => {
                let deliver = |created: CreatedRoom| {
                    // The room code can no longer be delivered.
                    if let Err(code) = response.send(created.code) {
                        let _ = hub.close_room(now, &code);
                    }
                };
                ("create room", hub.create_room(now, CreateRoomOptions::default()).map(deliver))
            }
            ServerCommand::CloseRoom { code } => ("close room", hub.close_room(now, &code).map(drop)),
            ServerCommand::Shutdown => return,
        };
        if let Err(error) = result
            && log_throttle.allow()
        {
            warn!(target: "control_surface", command = action, error = %error, "command failed");
        }
    }
    // Without a sender, the server runs on.
    std::future::pending::<()>().await;
}
