//! A server of control surfaces as a part of a program: commands go in over a channel, what surfaces do comes out of a lock-free
//! queue that an audio thread may empty.
//!
//! ```no_run
//! use jamjam_dev::io::rooms::surfaces::{Command, Config, Server};
//! use jamjam_dev::rooms::event_queue;
//! use tokio::sync::{mpsc, oneshot};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (producer, mut consumer) = event_queue(256);
//! let (commands, command_rx) = mpsc::channel(256);
//! // From here on commands are obeyed, and who connects waits until the server runs.
//! let server = Server::new(Config::default(), producer, command_rx)?;
//!
//! let (response, room_code) = oneshot::channel();
//! commands.send(Command::CreateRoom { response }).await?;
//! println!("Room code: {}", room_code.await?);
//!
//! std::thread::spawn(move || while let Some(event) = consumer.pop() { /* an audio thread */ });
//! server.run().await?;
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use super::switchboard::Switchboard;
use super::{Options, QueueBounds, serve_on};
use crate::io::complaints::Complaints;
use crate::io::{entropy, http};
use crate::rooms::{Dialects, EventProducer, Heartbeat, Hub, Limits, Making, SurfaceLimits};

/// Connections at a time, and of one address.
const CONNECTIONS: usize = 10_000;
const PER_ADDRESS: usize = 256;

/// Where a server listens, and how patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The TCP address to listen on; port 0 takes any free one.
    pub bind_addr: SocketAddr,
    /// How often clients are pinged. Zero is never, and drops nobody.
    pub ping_interval: Duration,
    /// How long a client may be silent: then it is dropped.
    pub connection_timeout: Duration,
    /// Messages that wait for one client before old values of parameters are left out.
    pub broadcast_capacity: usize,
}

impl Default for Config {
    /// `0.0.0.0:8080`, 5 s, 30 s, 256.
    fn default() -> Self {
        let Heartbeat { every, patience } = SurfaceLimits::default().heartbeat;
        Self {
            bind_addr: (Ipv4Addr::UNSPECIFIED, 8_080).into(),
            ping_interval: every.unwrap_or_default(),
            connection_timeout: patience,
            broadcast_capacity: QueueBounds::default().updates,
        }
    }
}

/// What all rooms of a server have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// Digits of a code, 4 to 6.
    pub code_length: usize,
    /// How long a room lives; then it is closed.
    pub expiration: Duration,
    /// Clients in a room at a time.
    pub max_clients: usize,
}

impl Default for RoomConfig {
    /// Four digits, 24 hours, 100 clients.
    fn default() -> Self {
        let SurfaceLimits { code_digits, life, members, .. } = SurfaceLimits::default();
        Self { code_length: code_digits, expiration: life, max_clients: members }
    }
}

/// What the program wants of its server. What cannot be done, such as closing a room that is not there, is said in the log.
#[derive(Debug)]
pub enum Command {
    /// Sets a parameter in all rooms that there are, and tells everybody in them.
    BroadcastParam {
        /// Its name, of at most 256 bytes.
        name: String,
        /// Its value, which has to be finite.
        value: f32,
    },
    /// Shows these numbers to everybody in a room.
    BroadcastVisualization {
        /// At most 65,536, all of them finite.
        data: Vec<f32>,
    },
    /// Makes a room.
    CreateRoom {
        /// Is told its code; dropped if there are too many rooms, 1,000. If nobody waits for it any more, the room is closed again.
        response: oneshot::Sender<String>,
    },
    /// Closes a room and everybody in it.
    CloseRoom {
        /// The room's code.
        code: String,
    },
    /// Ends the server, once everybody was told so. No later command is obeyed.
    Shutdown,
}

/// A server of control surfaces, and of nothing else. Every path is theirs.
pub struct Server {
    listener: TcpListener,
    switchboard: Arc<Switchboard>,
    ended: mpsc::Receiver<Infallible>,
    options: Options,
    shutdown: Arc<Notify>,
    commands: Obeying,
}

/// The task that obeys commands; it ends with this.
struct Obeying(JoinHandle<()>);

impl Drop for Obeying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Listens, and obeys `commands` from now on, in a task of the runtime that this is called in. Who connects is let in by
    /// [`Server::run`]. Fails without a runtime of tokio, and where the address cannot be listened on.
    pub fn new(config: Config, events: EventProducer, commands: mpsc::Receiver<Command>) -> io::Result<Self> {
        Self::with_rooms(config, RoomConfig::default(), events, commands)
    }

    /// The same with other rooms.
    pub fn with_rooms(
        config: Config,
        rooms: RoomConfig,
        events: EventProducer,
        commands: mpsc::Receiver<Command>,
    ) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = http::bind(config.bind_addr)?;
        let every = Some(config.ping_interval).filter(|every| !every.is_zero());
        let surfaces = SurfaceLimits {
            code_digits: rooms.code_length,
            life: rooms.expiration,
            members: rooms.max_clients,
            heartbeat: Heartbeat { every, patience: config.connection_timeout },
            ..SurfaceLimits::default()
        };
        let dialects = Dialects { bbx: true, jamjam: false, webrtc: false, broadcast: false };
        let hub = Hub::new(Limits { dialects, surfaces, ..Limits::default() }, entropy::words());
        let queue = QueueBounds { updates: config.broadcast_capacity, ..QueueBounds::default() };
        let (connections, per_address) = (Some(CONNECTIONS), Some(PER_ADDRESS));
        let bounds = http::Bounds { connections, per_address, ..http::Bounds::default() };
        let options = Options { bounds, queue, ..Options::default() };
        let (switchboard, ended) = Switchboard::new(hub, queue);
        switchboard.tell_program(events);
        let shutdown = Arc::new(Notify::new());
        let obeying = obey(commands, Arc::clone(&switchboard), Arc::clone(&shutdown));
        Ok(Self { listener, switchboard, ended, options, shutdown, commands: Obeying(runtime.spawn(obeying)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until [`Command::Shutdown`], then gives everybody at most 5 s to hear of it. Where the future is dropped before, they
    /// are told so too, but not waited for.
    pub async fn run(self) -> io::Result<()> {
        let Self { listener, switchboard, ended, options, shutdown, commands } = self;
        serve_on(listener, &switchboard, ended, options, shutdown.notified()).await;
        drop(commands);
        Ok(())
    }
}

/// Does what the program wants, until it wants no more.
async fn obey(mut commands: mpsc::Receiver<Command>, switchboard: Arc<Switchboard>, shutdown: Arc<Notify>) {
    let complaints = Complaints::default();
    while let Some(command) = commands.recv().await {
        let (what, done) = match command {
            Command::BroadcastParam { name, value } => {
                ("set a parameter", switchboard.ask(|_, hub, out| hub.set_param(None, &name, value, out)).map(drop))
            }
            Command::BroadcastVisualization { data } => {
                ("show numbers", switchboard.ask(|_, hub, out| hub.visualize(None, &data, out)).map(drop))
            }
            Command::CreateRoom { response } => {
                let made = switchboard.ask(|now, hub, _| hub.make_room(now, Making::default()));
                let told = made.map(|made| response.send(made.code));
                (
                    "make a room",
                    told.map(|told| {
                        // Nobody will ever know its code.
                        if let Err(code) = told {
                            let _ = switchboard.ask(|_, hub, out| hub.close_room(&code, out));
                        }
                    }),
                )
            }
            Command::CloseRoom { code } => {
                ("close a room", switchboard.ask(|_, hub, out| hub.close_room(&code, out)).map(drop))
            }
            Command::Shutdown => return shutdown.notify_one(),
        };
        if let Err(why) = done
            && complaints.may()
        {
            warn!("The program's command to {what} is not obeyed: {why}");
        }
    }
}
