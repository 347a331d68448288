//! A client's visit to a room: found, joined, kept while packets fly, and left.
//!
//! A thread of its own holds the connection and reads all that comes, so that the server never takes us for slow. To lose the
//! server during a visit ends nothing: packets go from peer to peer.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use rustls::ClientConfig;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tracing::debug;

use super::connection::{ConnectError, Connection, Lost};
use super::url::SignalingUrl;
use crate::io::stop::{Reason, Stop};
use crate::rooms::client::guest::{Guest, NoRoom};
use crate::rooms::jamjam::messages::{Asked, Listed, Told};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long those in the room may take to say where they are.
const SHYNESS: Duration = Duration::from_secs(5);

/// How long leaving may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why there is no visit.
#[derive(Debug, Error)]
pub enum VisitError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server was lost again.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The server cannot help.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It accepts connections, and does not answer what clients ask.
    #[error("the server does not answer; is it a jamjam signaling server?")]
    Overdue,
    /// There was a request to stop.
    #[error("interrupted before the room was joined")]
    Stopped(Reason),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A stay in a room. Dropping it leaves.
pub struct Visit {
    /// What the room is called, harmless to a terminal.
    pub room: String,
    /// Where those in it can be reached, in the order in which to try; at least one.
    pub addresses: Vec<SocketAddr>,
    /// Where we can be reached, to be told; closed, it ends the visit.
    here: Option<mpsc::Sender<SocketAddr>>,
    thread: Option<JoinHandle<Option<Lost>>>,
}

impl Visit {
    /// Lets `guest` join its room on the server at `url`. A request to stop ends it at once.
    pub fn begin(url: SignalingUrl, tls: Arc<ClientConfig>, guest: Guest, stop: &Stop) -> Result<Self, VisitError> {
        let stopped = Arc::new(Notify::new());
        let wake = Arc::clone(&stopped);
        stop.on_request(move || wake.notify_one());
        if let Some(reason) = stop.requested() {
            return Err(VisitError::Stopped(reason));
        }
        let (begun, beginning) = std_mpsc::sync_channel(1);
        let (here, told) = mpsc::channel(1);
        let runtime = runtime()?;
        let visit = async move {
            let entered = tokio::select! {
                entered = enter(&url, &tls, guest) => Some(entered),
                () = stopped.notified() => None,
            };
            match entered {
                Some(Ok((connection, guest))) => {
                    let _ = begun.send(Ok((guest.room().to_owned(), guest.addresses())));
                    stay(connection, told).await
                }
                Some(Err(error)) => {
                    let _ = begun.send(Err(error));
                    None
                }
                // That nothing is sent says why.
                None => None,
            }
        };
        let thread = thread::Builder::new().name("signaling".to_owned()).spawn(move || runtime.block_on(visit))?;
        // Where it did not begin nobody waits for the thread: it may hang in a name server.
        let (room, addresses) = beginning
            .recv()
            .unwrap_or_else(|_| Err(VisitError::Stopped(stop.requested().unwrap_or(Reason::Interrupt))))?;
        Ok(Self { room, addresses, here: Some(here), thread: Some(thread) })
    }

    /// Tells the others in the room that we can be reached at `address`.
    pub fn tell(&self, address: SocketAddr) {
        if let Some(here) = &self.here {
            // Without a connection there is nobody to be told.
            let _ = here.try_send(address);
        }
    }

    /// Leaves, within half a second; why the server was lost before, if it was.
    pub fn leave(mut self) -> Option<Lost> {
        self.end()
    }

    fn end(&mut self) -> Option<Lost> {
        self.here = None;
        self.thread.take()?.join().ok()?
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.end();
    }
}

/// The rooms of the server at `url`.
pub fn list(url: &SignalingUrl, tls: &Arc<ClientConfig>) -> Result<Vec<Listed>, VisitError> {
    runtime()?.block_on(async {
        let mut connection = Connection::open(url, tls).await?;
        let answer = async {
            connection.say(&Asked::ListRooms).await?;
            loop {
                if let Told::RoomList { rooms } = connection.hear().await? {
                    return Ok(rooms);
                }
            }
        };
        let rooms = timeout(PATIENCE, answer).await.unwrap_or(Err(VisitError::Overdue))?;
        connection.close().await;
        Ok(rooms)
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Connects and joins, and waits until somebody there says where they are.
async fn enter(url: &SignalingUrl, tls: &Arc<ClientConfig>, guest: Guest) -> Result<(Connection, Guest), VisitError> {
    let mut connection = Connection::open(url, tls).await?;
    let mut guest = guest;
    match find(&mut connection, &mut guest).await {
        Ok(()) => Ok((connection, guest)),
        Err(error) => {
            if let VisitError::NoRoom(_) = error {
                leave(connection).await;
            }
            Err(error)
        }
    }
}

async fn find(connection: &mut Connection, guest: &mut Guest) -> Result<(), VisitError> {
    let join = async {
        connection.say(&guest.on_connected()).await?;
        while !guest.is_in() {
            hear(connection, guest).await?;
        }
        Ok(())
    };
    timeout(PATIENCE, join).await.unwrap_or(Err(VisitError::Overdue))?;
    let meet = async {
        while guest.addresses().is_empty() {
            hear(connection, guest).await?;
        }
        Ok(())
    };
    timeout(SHYNESS, meet).await.unwrap_or_else(|_| Err(guest.nobody().into()))
}

async fn hear(connection: &mut Connection, guest: &mut Guest) -> Result<(), VisitError> {
    if let Some(asked) = guest.on_told(connection.hear().await?)? {
        connection.say(&asked).await?;
    }
    Ok(())
}

/// Is there until it is told to leave, or the connection is lost.
async fn stay(mut connection: Connection, mut told: mpsc::Receiver<SocketAddr>) -> Option<Lost> {
    let peer = connection.peer.ip().to_canonical();
    loop {
        let lost = tokio::select! {
            heard = connection.hear() => {
                match heard {
                    Ok(Told::ChatMessage(chat)) => {
                        debug!("{:?} says {:?}", chat.sender_name, chat.content);
                        None
                    }
                    Ok(_) => None,
                    Err(lost) => Some(lost),
                }
            }
            here = told.recv() => match here {
                // It would lead others to themselves, unless they are here too.
                Some(here) if here.ip().is_loopback() && !peer.is_loopback() => None,
                Some(here) => {
                    let said = timeout(PATIENCE, connection.say(&Guest::here(here))).await;
                    said.unwrap_or(Err(Lost::Silent)).err()
                }
                None => {
                    leave(connection).await;
                    return None;
                }
            },
        };
        if lost.is_some() {
            return lost;
        }
    }
}

async fn leave(mut connection: Connection) {
    let leave = async {
        if connection.say(&Asked::LeaveRoom).await.is_ok() {
            connection.close().await;
        }
    };
    let _ = timeout(FAREWELL, leave).await;
}
