//! Driver I/O over WebSocket: non-blocking connections over TCP or TLS, and the poller of the probe's thread. Each message carries the time at
//! which its last byte was read.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream;
use rustls::{ClientConnection, Stream};
use tungstenite::{Error, Message, WebSocket};

use crate::client::WebSocketFailure;
use crate::io::clock::monotonic_now;
use crate::io::poller::Poller;
use crate::io::udp::DriverIo;
use crate::io::websocket::connect::{closed_by_server, failure};
use crate::node::{Receive, SendStatus, Transmit};
use crate::time::Time;

/// Maximum number of messages per socket and read call.
const MAX_MESSAGES_PER_READ: usize = 32;

/// Placeholder source address, which the prober ignores, of messages from all other connections.
const IGNORED_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Established connections to one server. Requests are sent on the first connection, and responses are received on the last. A single
/// connection does both.
pub struct ProbeConnections {
    sockets: Vec<WebSocket<ProbeStream>>,
    pub(super) poller: Poller,
    failure: Option<WebSocketFailure>,
    /// Why nothing more can be sent, to be reported when all data that the server sent earlier has been read: its close frame explains more.
    send_failure: Option<WebSocketFailure>,
    /// When the socket stopped accepting data; `None` if it accepts data.
    blocked_since: Option<Time>,
    /// If the server accepts no data for this time, the connection is abandoned. TCP alone would wait for many minutes.
    send_timeout: Duration,
}

impl ProbeConnections {
    /// Placeholder source address of messages from the last connection, by which the prober identifies responses.
    pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    pub(super) fn new(sockets: Vec<WebSocket<ProbeStream>>, poller: Poller, send_timeout: Duration) -> Self {
        Self { sockets, poller, failure: None, send_failure: None, blocked_since: None, send_timeout }
    }

    fn is_closed(&self) -> bool {
        self.failure.is_some() || self.send_failure.is_some()
    }

    /// Sends close frames. The report does not wait for the replies.
    pub(super) fn close(self) {
        for mut socket in self.sockets {
            let _ = socket.close(None);
            let _ = socket.flush();
        }
    }
}

impl DriverIo for ProbeConnections {
    fn now(&self) -> Time {
        monotonic_now()
    }

    /// Reads a batch from each socket, even if another socket has failed. The messages that arrived before a failure are delivered. Returns
    /// true if a socket may have more messages, or if a failure has occurred, which the next call returns.
    fn recv(&mut self, deliver: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
        if let Some(failure) = self.failure.take() {
            return Err(io::Error::other(failure));
        }
        let mut more = false;
        let last = self.sockets.len() - 1;
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            let source = if number == last { Self::PEER } else { IGNORED_SOURCE };
            self.send_failure = self.send_failure.take().or(is_sent(socket.flush()).err());
            for read in 1..=MAX_MESSAGES_PER_READ {
                match read_message(socket) {
                    Ok(ReadResult::Text(contents, received_at)) => {
                        let segment_size = contents.len();
                        let received =
                            Receive { socket: 0, source, dst_ip: None, received_at, contents: &contents, segment_size };
                        deliver(monotonic_now(), &[received]);
                    }
                    Ok(ReadResult::Incomplete) => {
                        // What was read may be thousands of fragments, so the driver now gets its turn.
                        more = true;
                        break;
                    }
                    Ok(ReadResult::WouldBlock) => break,
                    Err(failure) => {
                        self.failure.get_or_insert(failure);
                        break;
                    }
                }
                more |= read == MAX_MESSAGES_PER_READ;
            }
        }
        if !more {
            self.failure = self.failure.take().or(self.send_failure.take());
        }
        Ok(more || self.failure.is_some())
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus> {
        if self.is_closed() {
            // The driver then reads from the sockets. One of the next reads returns the error.
            return Ok(SendStatus::WouldBlock);
        }
        let socket = &mut self.sockets[0];
        let sent = is_sent(socket.flush()).and_then(|has_space| {
            if has_space {
                let text = str::from_utf8(transmit.contents).unwrap_or_default();
                is_sent(socket.send(Message::text(text)))?;
            }
            Ok(has_space)
        });
        Ok(match sent {
            Ok(true) => {
                self.blocked_since = None;
                SendStatus::Sent
            }
            Ok(false) => {
                let now = self.now();
                if now.duration_since(*self.blocked_since.get_or_insert(now)) >= self.send_timeout {
                    let reason = format!("the server has accepted no data for {:?}", self.send_timeout);
                    self.failure = Some(WebSocketFailure::Broken(reason));
                }
                SendStatus::WouldBlock
            }
            Err(failure) => {
                self.send_failure = Some(failure);
                SendStatus::WouldBlock
            }
        })
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        if self.is_closed() {
            return Ok(false);
        }
        if !writable {
            return self.poller.wait(until);
        }
        self.poller.wait(Some(self.blocked_since.unwrap_or_else(|| self.now()) + self.send_timeout))
    }
}

/// A stream that can be read once at a time, and records the time of its last read.
pub(super) struct ProbeStream {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
    read_at: Time,
    /// A read clears this flag. Then, reads would block until it is set again. Otherwise, the library would read as long as a server sends
    /// parts of a message.
    may_read: bool,
}

impl ProbeStream {
    pub(super) fn new(tcp: TcpStream, tls: Option<ClientConnection>) -> Self {
        Self { tcp, tls, read_at: monotonic_now(), may_read: true }
    }
}

impl Read for ProbeStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.may_read {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = match &mut self.tls {
            Some(session) => Stream::new(session, &mut self.tcp).read(buffer),
            None => self.tcp.read(buffer),
        }?;
        (self.read_at, self.may_read) = (monotonic_now(), false);
        Ok(length)
    }
}

impl Write for ProbeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => Stream::new(session, &mut self.tcp).write(bytes),
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(session) => Stream::new(session, &mut self.tcp).flush(),
            None => Ok(()),
        }
    }
}

/// The result of a read.
pub(super) enum ReadResult {
    /// A text message and the time at which its last byte was read. A binary message is returned as an empty text, which matches no
    /// request.
    Text(Bytes, Time),
    /// There is nothing to read.
    WouldBlock,
    /// So far, only control frames or a part of a message were read. There may be more to read.
    Incomplete,
}

/// Returns one message. Reads the stream at most once. Flush the socket first, which sends the reply to a ping.
pub(super) fn read_message(socket: &mut WebSocket<ProbeStream>) -> Result<ReadResult, WebSocketFailure> {
    socket.get_mut().may_read = true;
    let received = socket.read();
    let stream = socket.get_ref();
    match received {
        Ok(Message::Text(text)) => Ok(ReadResult::Text(text.into(), stream.read_at)),
        Ok(Message::Binary(_)) => Ok(ReadResult::Text(Bytes::new(), stream.read_at)),
        Ok(Message::Close(frame)) => {
            // Sends the reply.
            let _ = socket.flush();
            Err(closed_by_server(frame))
        }
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(ReadResult::Incomplete),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock && stream.may_read => {
            Ok(ReadResult::WouldBlock)
        }
        Err(Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(ReadResult::Incomplete)
        }
        Err(error) => Err(failure(error)),
    }
}

/// Whether nothing is left in the buffer of the library, which keeps what the socket does not accept.
pub(super) fn is_sent(result: Result<(), Error>) -> Result<bool, WebSocketFailure> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(failure(error)),
    }
}
