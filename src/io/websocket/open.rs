//! From a URL to an open WebSocket: name, TCP, TLS and upgrade, each timed, all within ten seconds.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::{Error, HandshakeError, WebSocket};

use super::BeginError;
use super::socket::{Socket, Stamped, Stream};
use super::waiter::Waiter;
use crate::flow::websocket::SetUp;
use crate::io::signaling::{self, ConnectError, SignalingUrl};
use crate::time::{Time, nanos};

/// Connects to `url` until `until` at most. `number` tells its news from those of others.
pub(super) fn open(
    url: &SignalingUrl,
    tls: &Arc<ClientConfig>,
    waiter: &mut Waiter,
    number: usize,
    until: Time,
) -> Result<(Socket, SetUp), BeginError> {
    let mut set_up = SetUp::default();
    let patience = until.since(waiter.now()).min(signaling::PATIENCE);
    let until = waiter.now() + patience;
    let std = reach(url, patience, waiter, &mut set_up)?;
    let address = std.peer_addr()?;
    let mut tcp = TcpStream::from_std(std);
    waiter.watch(&mut tcp, number)?;
    let mut stamped = Stamped::new(tcp, waiter.origin());

    let began = Instant::now();
    let stream = if url.is_secure() {
        let broken = |error| ConnectError::Tls { host: url.host().to_owned(), error };
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| broken(io::Error::other(error)))?;
        let session = ClientConnection::new(Arc::clone(tls), name);
        let mut session = session.map_err(|error| broken(io::Error::other(error)))?;
        while session.is_handshaking() {
            match session.complete_io(&mut stamped) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => pause(waiter, until)?,
                Err(error) => return Err(broken(error).into()),
            }
        }
        set_up.tls_ns = Some(nanos(began.elapsed()));
        Stream::Tls(Box::new(StreamOwned::new(session, stamped)))
    } else {
        Stream::Plain(stamped)
    };

    let began = Instant::now();
    let refused = |error| ConnectError::Upgrade { address, error: Box::new(error) };
    let socket = upgrade(url, stream, waiter, until).map_err(|error| match error {
        Upgrade::Begin(error) => error,
        Upgrade::Refused(error) => refused(error).into(),
    })?;
    set_up.upgrade_ns = nanos(began.elapsed());
    Ok((Socket::new(socket), set_up))
}

/// TCP to the first address that takes it.
fn reach(
    url: &SignalingUrl,
    patience: Duration,
    waiter: &Waiter,
    set_up: &mut SetUp,
) -> Result<std::net::TcpStream, BeginError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let connect = async {
        let began = Instant::now();
        let addresses = signaling::addresses(url).await?;
        set_up.name_ns = nanos(began.elapsed());
        let began = Instant::now();
        let stream = signaling::connect(&addresses).await?;
        set_up.tcp_ns = nanos(began.elapsed());
        signaling::prepare(&stream);
        Ok::<_, ConnectError>(stream)
    };
    let stream = runtime.block_on(async {
        tokio::select! {
            connected = timeout(patience, connect) => Ok(connected.unwrap_or(Err(ConnectError::Overdue))?.into_std()?),
            reason = waiter.stopping() => Err(BeginError::Stopped(reason)),
        }
    });
    // A name server that hangs has a thread of its own, which nobody waits for.
    runtime.shutdown_background();
    stream
}

enum Upgrade {
    Begin(BeginError),
    Refused(Error),
}

fn upgrade(url: &SignalingUrl, stream: Stream, waiter: &mut Waiter, until: Time) -> Result<WebSocket<Stream>, Upgrade> {
    let request = url.uri().clone().into_client_request().map_err(Upgrade::Refused)?;
    let mut handshake = ClientHandshake::start(stream, request, Some(signaling::config())).map_err(Upgrade::Refused)?;
    loop {
        match handshake.handshake() {
            Ok((socket, _)) => return Ok(socket),
            Err(HandshakeError::Failure(error)) => return Err(Upgrade::Refused(error)),
            Err(HandshakeError::Interrupted(rest)) => handshake = rest,
        }
        pause(waiter, until).map_err(Upgrade::Begin)?;
    }
}

/// Waits for news, unless there is a request to stop or the time is over.
pub(super) fn pause(waiter: &mut Waiter, until: Time) -> Result<(), BeginError> {
    let over = waiter.wait(Some(until))?;
    if let Some(reason) = waiter.stopped() {
        return Err(BeginError::Stopped(reason));
    }
    if over || waiter.now() >= until { Err(ConnectError::Overdue.into()) } else { Ok(()) }
}
