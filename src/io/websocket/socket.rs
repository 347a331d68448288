//! A WebSocket that never blocks, over TCP or TLS, whose messages carry the time at which their last byte was read.

use std::io::{self, Read, Write};
use std::time::Instant;

use bytes::Bytes;
use mio::net::TcpStream;
use rustls::{ClientConnection, StreamOwned};
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::{Error, Message, WebSocket};

use crate::flow::websocket::Lost;
use crate::rooms::harmless::harmless;
use crate::time::{Time, nanos};

/// Frames that are looked at in a row for one message: of pings there may be any number.
const FRAMES: usize = 64;

/// TCP that notes when something was read.
pub(super) struct Stamped {
    pub(super) tcp: TcpStream,
    origin: Instant,
    read_at: Time,
}

impl Stamped {
    pub(super) fn new(tcp: TcpStream, origin: Instant) -> Self {
        Self { tcp, origin, read_at: Time::ZERO }
    }
}

impl Read for Stamped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tcp.read(buffer)?;
        if length > 0 {
            self.read_at = Time::from_nanos(nanos(self.origin.elapsed()));
        }
        Ok(length)
    }
}

impl Write for Stamped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// TCP, with TLS or without.
pub(super) enum Stream {
    Plain(Stamped),
    Tls(Box<StreamOwned<ClientConnection, Stamped>>),
}

impl Stream {
    fn stamped(&self) -> &Stamped {
        match self {
            Self::Plain(stamped) => stamped,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What was read.
pub(super) enum Heard {
    /// A text, and when its last byte was read. A binary message is an empty text: nobody is answered by one.
    Text(Bytes, Time),
    /// Nothing more is there.
    Nothing,
    /// Something that is no message; there may be more.
    Signs,
}

/// The socket.
pub(super) struct Socket {
    inner: WebSocket<Stream>,
    /// Whether something that was said has not left yet.
    pub(super) is_full: bool,
}

impl Socket {
    pub(super) fn new(inner: WebSocket<Stream>) -> Self {
        Self { inner, is_full: false }
    }

    /// Reads one message, if one is there.
    pub(super) fn read(&mut self) -> Result<Heard, Lost> {
        for _ in 0..FRAMES {
            match self.inner.read() {
                Ok(Message::Text(text)) => return Ok(Heard::Text(text.into(), self.inner.get_ref().stamped().read_at)),
                Ok(Message::Binary(_)) => return Ok(Heard::Text(Bytes::new(), self.inner.get_ref().stamped().read_at)),
                Ok(Message::Close(frame)) => {
                    // The answer to it; a server that does not wait for one is gone already.
                    let _ = self.inner.flush();
                    let (code, reason) = frame.map(|frame| (frame.code.into(), harmless(&frame.reason))).unzip();
                    return Err(Lost::Closed { code, reason: reason.unwrap_or_default() });
                }
                Ok(_) => {}
                Err(error) if would_block(&error) => return Ok(Heard::Nothing),
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(Heard::Signs)
    }

    /// Says `text`, or what of it the system takes: then the rest is kept, and [`Socket::is_full`].
    pub(super) fn say(&mut self, text: &str) -> Result<(), Lost> {
        let said = self.inner.send(Message::text(text));
        self.note(said)
    }

    /// Lets what was kept leave, as far as the system takes it.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        if !self.is_full {
            return Ok(());
        }
        let flushed = self.inner.flush();
        self.note(flushed)
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) -> Result<(), Lost> {
        let closed = self.inner.close(None).and_then(|()| self.inner.flush());
        self.note(closed)
    }

    fn note(&mut self, result: tungstenite::Result<()>) -> Result<(), Lost> {
        match result {
            Ok(()) => self.is_full = false,
            Err(error) if would_block(&error) => self.is_full = true,
            Err(error) => return Err(lost(error)),
        }
        Ok(())
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn lost(error: Error) -> Lost {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            Lost::Closed { code: None, reason: String::new() }
        }
        Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            Lost::Closed { code: None, reason: String::new() }
        }
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Lost::Broken(format!("a message of {size} bytes came, where at most {max_size} are taken"))
        }
        error => Lost::Broken(harmless(&error.to_string())),
    }
}
