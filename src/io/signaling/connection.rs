//! One WebSocket to a signaling server, over which jamjam's messages go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tracing::debug;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error as Broken, Message};

use super::advice;
use super::url::SignalingUrl;
use crate::rooms::harmless::harmless;
use crate::rooms::jamjam::messages::{Asked, Told};

/// How long a connection may take to be made: name, TCP, TLS and upgrade together.
pub(in crate::io) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may be silent before it is asked for a sign of life, and then how long until it is given up. Boxes on
/// the way forget connections over which nothing goes.
const SILENCE: Duration = Duration::from_secs(30);

/// The longest message of a server: a list of ten thousand rooms.
const LONGEST: usize = 16 << 20;

/// What the WebSocket library buffers in each direction.
const BUFFER: usize = 8 << 10;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The host has no address.
    #[error("cannot find an address for host `{host}`: {error}")]
    Unknown {
        /// The host.
        host: String,
        /// The system's word.
        error: io::Error,
    },
    /// No TCP.
    #[error("cannot connect to {address}: {error}")]
    Refused {
        /// The last address that was tried.
        address: SocketAddr,
        /// The system's word.
        error: io::Error,
    },
    /// No TLS.
    #[error("TLS with `{host}` failed: {}", advice::on_tls(.error))]
    Tls {
        /// The host.
        host: String,
        /// What is wrong, the certificate perhaps.
        error: io::Error,
    },
    /// No WebSocket.
    #[error("{address} does not upgrade to WebSocket: {}", advice::on_upgrade(.error))]
    Upgrade {
        /// The address.
        address: SocketAddr,
        /// What it answered.
        error: Box<Broken>,
    },
    /// Nothing yet.
    #[error("no connection after {} s", PATIENCE.as_secs())]
    Overdue,
}

/// Why a connection has ended.
#[derive(Debug, Error)]
pub enum Lost {
    /// The server closed it.
    #[error("the server closed the connection{colon}{reason}", colon = if .reason.is_empty() { "" } else { ": " })]
    Closed {
        /// What it says about it, harmless to a terminal.
        reason: String,
    },
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(Box<Broken>),
    /// Not even a sign of life came.
    #[error("the server says nothing any more")]
    Silent,
}

/// TCP, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection over which messages go.
pub struct Connection {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// Our own end: the address that this machine has on the way to the server.
    pub local: SocketAddr,
    /// The server's end.
    pub peer: SocketAddr,
    heard: Instant,
    asked: bool,
}

impl Connection {
    /// Connects to `url`; where TLS is spoken, as `tls` says.
    pub async fn open(url: &SignalingUrl, tls: &Arc<ClientConfig>) -> Result<Self, ConnectError> {
        timeout(PATIENCE, Self::try_to(url, tls)).await.unwrap_or(Err(ConnectError::Overdue))
    }

    async fn try_to(url: &SignalingUrl, tls: &Arc<ClientConfig>) -> Result<Self, ConnectError> {
        let host = || url.host().to_owned();
        let tcp = connect(&addresses(url).await?).await?;
        let end =
            |address: io::Result<SocketAddr>| address.map_err(|error| ConnectError::Unknown { host: host(), error });
        let (local, peer) = (end(tcp.local_addr())?, end(tcp.peer_addr())?);
        prepare(&tcp);
        let stream: Box<dyn Stream> = if url.is_secure() {
            let broken = |error| ConnectError::Tls { host: host(), error };
            let name = ServerName::try_from(host()).map_err(|error| broken(io::Error::other(error)))?;
            Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(broken)?)
        } else {
            Box::new(tcp)
        };
        let upgraded = client_async_with_config(url.uri().clone(), stream, Some(config())).await;
        let (socket, _) = upgraded.map_err(|error| ConnectError::Upgrade { address: peer, error: Box::new(error) })?;
        Ok(Self { socket, local, peer, heard: Instant::now(), asked: false })
    }

    /// Says `what`.
    pub async fn say(&mut self, what: &Asked) -> Result<(), Lost> {
        let text = serde_json::to_string(what).unwrap_or_else(|error| unreachable!("JSON has every string: {error}"));
        self.send(Message::text(text)).await
    }

    /// The next message that is understood. To be dropped at any time, and asked again.
    pub async fn hear(&mut self) -> Result<Told, Lost> {
        loop {
            let overdue = self.heard + if self.asked { SILENCE * 2 } else { SILENCE };
            let message = tokio::select! {
                message = self.socket.next() => message,
                () = sleep_until(overdue) => {
                    if self.asked {
                        return Err(Lost::Silent);
                    }
                    self.asked = true;
                    self.send(Message::Ping(Vec::new().into())).await?;
                    continue;
                }
            };
            (self.heard, self.asked) = (Instant::now(), false);
            match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(told) => return Ok(told),
                    Err(error) => debug!("Not understood: {}", harmless(&error.to_string())),
                },
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| harmless(&frame.reason)).unwrap_or_default();
                    return Err(Lost::Closed { reason });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(Lost::Closed { reason: String::new() }),
            }
        }
    }

    /// Says goodbye, and waits a moment for the answer.
    pub async fn close(mut self) {
        let farewell = async {
            self.socket.close(None).await.ok();
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        let _ = timeout(Duration::from_millis(500), farewell).await;
    }

    async fn send(&mut self, message: Message) -> Result<(), Lost> {
        self.socket.send(message).await.map_err(broken)
    }
}

/// What is taken from a server.
pub(in crate::io) fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    config.max_message_size = Some(LONGEST);
    config.max_frame_size = Some(LONGEST);
    config
}

fn broken(error: Broken) -> Lost {
    match error {
        Broken::ConnectionClosed | Broken::AlreadyClosed => Lost::Closed { reason: String::new() },
        error => Lost::Broken(Box::new(error)),
    }
}

/// The host's addresses, at least one, IPv4 before IPv6.
pub(in crate::io) async fn addresses(url: &SignalingUrl) -> Result<Vec<SocketAddr>, ConnectError> {
    let unknown = |error| ConnectError::Unknown { host: url.host().to_owned(), error };
    let mut addresses: Vec<SocketAddr> = lookup_host((url.host(), url.port())).await.map_err(unknown)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() { Err(unknown(io::Error::other("it has none"))) } else { Ok(addresses) }
}

/// The first of the addresses that takes the connection. None has the time of the others: one may be deaf.
pub(in crate::io) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let share = PATIENCE / (addresses.len() as u32 + 1);
    let mut last = None;
    for address in addresses {
        let connected = timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(ConnectError::Refused { address: *address, error }),
        }
    }
    Err(last.unwrap_or(ConnectError::Overdue))
}

/// Small messages leave at once, and a server that is gone without a word is noticed. A system that refuses either still serves.
pub(in crate::io) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 2);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::WebSocketStream;
    use tungstenite::protocol::Role;

    use super::*;

    /// A connection without a network, and the server's end of it.
    async fn pair() -> (Connection, WebSocketStream<tokio::io::DuplexStream>) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let socket = WebSocketStream::from_raw_socket(Box::new(near) as Box<dyn Stream>, Role::Client, None).await;
        let connection = Connection { socket, local: nowhere, peer: nowhere, heard: Instant::now(), asked: false };
        (connection, WebSocketStream::from_raw_socket(far, Role::Server, None).await)
    }

    fn hundredths(began: Instant) -> u128 {
        began.elapsed().as_millis() / 100
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_asked_for_a_sign_of_life_and_given_up_half_a_minute_later() {
        let (mut connection, mut server) = pair().await;
        let began = Instant::now();
        let silent = async {
            assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
            assert_eq!(hundredths(began), 300);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            heard = connection.hear() => assert!(matches!(heard, Err(Lost::Silent)), "{heard:?}"),
            () = silent => {}
        }
        assert_eq!(hundredths(began), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_gives_signs_of_life_is_never_given_up() {
        let (mut connection, mut server) = pair().await;
        let began = Instant::now();
        // A pong is made by the library as it reads; in an hour there are a hundred and twenty questions.
        let alive = async {
            let mut asked = 0;
            while let Some(Ok(message)) = server.next().await {
                asked += u32::from(message.is_ping());
                if asked == 120 {
                    return;
                }
            }
        };
        tokio::select! {
            heard = connection.hear() => panic!("{heard:?}"),
            () = alive => {}
        }
        assert_eq!(hundredths(began), 36_000);
    }
}
