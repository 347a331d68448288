//! The loop's port over WebSocket: messages go where datagrams do elsewhere.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::socket::{Heard, Socket};
use super::waiter::Waiter;
use crate::flow::websocket::Lost;
use crate::io::udp::Port;
use crate::node::{Datagram, Outcome, Transmit};
use crate::time::Time;

/// Messages read in a row.
const BATCH: usize = 32;

/// How long a server may take nothing before it is given up: TCP itself would wait for ever.
const STUCK: Duration = Duration::from_secs(10);

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Whoever is not listened to.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Connections to one server: the first speaks, the last is listened to.
pub(super) struct WebSocketPort {
    sockets: Vec<Socket>,
    waiter: Waiter,
    peer: SocketAddr,
    lost: Option<Lost>,
    /// Why nothing can be said any more; what the server has said before that is still to be read.
    mute: Option<Lost>,
    /// Since when the server takes nothing.
    stuck: Option<Time>,
}

impl WebSocketPort {
    pub(super) fn new(sockets: Vec<Socket>, waiter: Waiter, peer: SocketAddr) -> Self {
        Self { sockets, waiter, peer, lost: None, mute: None, stuck: None }
    }

    fn is_over(&self) -> bool {
        self.lost.is_some() || self.mute.is_some()
    }

    /// Says goodbye, and waits a moment for the answers.
    pub(super) fn farewell(mut self) {
        let until = self.waiter.now() + FAREWELL;
        self.sockets.retain_mut(|socket| socket.close().is_ok());
        while !self.sockets.is_empty() && self.waiter.now() < until {
            let mut more = false;
            self.sockets.retain_mut(|socket| {
                let read = socket.read();
                more |= matches!(read, Ok(Heard::Text(..) | Heard::Signs));
                read.is_ok()
            });
            // A server that goes on talking does not make us wait any longer.
            if !more && !self.sockets.is_empty() && self.waiter.wait(Some(until)).unwrap_or(true) {
                return;
            }
        }
    }

    /// Reads what is there, of each socket a batch at most, also where another one is lost. `true`: there may be more.
    fn read(&mut self, heard: &mut Vec<(SocketAddr, Bytes, Time)>) -> bool {
        let mut more = false;
        let last = self.sockets.len() - 1;
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            let from = if number == last { self.peer } else { NOBODY };
            let mut why = socket.flush().err();
            for read in 1..=BATCH {
                match socket.read() {
                    Ok(Heard::Text(bytes, at)) => heard.push((from, bytes, at)),
                    Ok(Heard::Signs) => {}
                    Ok(Heard::Nothing) => break,
                    Err(broken) => {
                        // What the server says when it closes tells more than that nothing can be written any more.
                        why = Some(broken);
                        break;
                    }
                }
                more |= read == BATCH;
            }
            self.lost = self.lost.take().or(why);
        }
        if !more {
            self.lost = self.lost.take().or(self.mute.take());
        }
        more || self.lost.is_some()
    }
}

impl Port for WebSocketPort {
    fn now(&self) -> Time {
        self.waiter.now()
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool> {
        if let Some(lost) = self.lost.take() {
            return Err(io::Error::other(lost));
        }
        let mut heard = Vec::new();
        // What came before the end of a connection counts.
        let more = self.read(&mut heard);
        let batch: Vec<Datagram<'_>> = heard
            .iter()
            .map(|(from, bytes, at)| Datagram { from: *from, to: None, at: *at, bytes, stride: bytes.len() })
            .collect();
        if !batch.is_empty() {
            take(self.now(), &batch);
        }
        Ok(more)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        if self.is_over() {
            // The loop reads before it goes on, and learns of it.
            return Outcome::Busy;
        }
        let socket = &mut self.sockets[0];
        let said = socket.flush().and_then(|()| {
            if socket.is_full {
                return Ok(false);
            }
            socket.say(str::from_utf8(transmit.bytes).unwrap_or_default()).map(|()| true)
        });
        match said {
            Ok(true) => {
                self.stuck = None;
                Outcome::Sent
            }
            Ok(false) => {
                self.stuck = self.stuck.or_else(|| Some(self.now()));
                Outcome::Busy
            }
            Err(lost) => {
                self.mute = Some(lost);
                Outcome::Busy
            }
        }
    }

    fn segments(&self, _: usize) -> usize {
        1
    }

    fn refused(&self) -> u64 {
        0
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        if self.is_over() {
            return Ok(false);
        }
        if !writable {
            return self.waiter.wait(until);
        }
        let until = self.stuck.unwrap_or_else(|| self.now()) + STUCK;
        if self.waiter.wait(Some(until))? || self.now() >= until {
            self.lost = Some(Lost::Broken(format!("the server has taken nothing for {} s", STUCK.as_secs())));
        }
        Ok(false)
    }
}
