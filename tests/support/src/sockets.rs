//! Runs a transcript against a server process. Each client is a WebSocket, with or without TLS.
//!
//! No step waits for a fixed duration. After each message, the client sends a ping and waits for the pong, which the server sends after it
//! has processed the message. After a connection was closed or lost, the server must count one connection fewer. A pong may overtake queued
//! messages, so a surplus message is found when the client receives its next one; the transcripts in memory check that there are none at
//! all.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::SockRef;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::server::{exchange, poll_until, tcp};
use crate::transcript::TranscriptServer;

trait ByteStream: Read + Write + Send {}
impl<T: Read + Write + Send> ByteStream for T {}

/// Whether the next client that is cut sends a TCP reset, like every other one, instead of closing the socket without a close frame.
static SENDS_RESET: AtomicBool = AtomicBool::new(true);

pub struct Sockets {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// The servers that count the connections: `address` itself, or those behind a load balancer at `address`.
    pub servers: Vec<SocketAddr>,
    clients: BTreeMap<String, Client>,
}

struct Client {
    socket: WebSocket<Box<dyn ByteStream>>,
    tcp: TcpStream,
    inbox: VecDeque<String>,
    /// Code and reason of the server's close frame.
    close_reason: Option<(u16, String)>,
}

impl Client {
    fn send(&mut self, message: Message) -> Result<(), String> {
        self.socket.send(message).map_err(|error| format!("cannot be sent: {error}"))
    }

    /// Reads until a message (or, if `until_pong`, the pong) arrives or the server closes the connection.
    fn read(&mut self, until_pong: bool) -> Result<(), String> {
        loop {
            match self.socket.read().map_err(|error| format!("receives nothing: {error}"))? {
                Message::Text(text) => self.inbox.push_back(text.to_string()),
                Message::Pong(_) if until_pong => return Ok(()),
                // A ping is the server's heartbeat. The WebSocket library answers the ping before it sends anything else.
                Message::Ping(_) => continue,
                Message::Close(frame) => {
                    let close_frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    self.close_reason = Some(close_frame.unwrap_or((1005, String::new())));
                    // Sends the answer to the close frame.
                    return self.socket.flush().or(Ok(()));
                }
                other => return Err(format!("receives {other:?}")),
            }
            if !until_pong {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<String, String> {
        if self.inbox.is_empty() && self.close_reason.is_none() {
            self.read(false)?;
        }
        self.inbox.pop_front().ok_or_else(|| format!("is closed with {:?}", self.close_reason))
    }

    /// Waits until the server has processed everything that this client sent.
    fn wait_until_processed(&mut self) -> Result<(), String> {
        self.send(Message::Ping("acted on?".into()))?;
        self.read(true)
    }
}

impl Sockets {
    pub fn new(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { address, tls, servers: vec![address], clients: BTreeMap::new() }
    }

    fn open(&self, address: SocketAddr) -> (Box<dyn ByteStream>, TcpStream) {
        let tcp = tcp(address);
        tcp.set_nodelay(true).unwrap();
        let other = tcp.try_clone().unwrap();
        let Some(tls) = &self.tls else { return (Box::new(tcp), other) };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(tls), name).unwrap();
        (Box::new(StreamOwned::new(connection, tcp)), other)
    }

    /// The pages `/health` of all servers.
    fn health(&self) -> Vec<Value> {
        self.servers.iter().map(|server| exchange(self.open(*server).0, "GET", "/health", &[], "").json()).collect()
    }

    /// Waits until the servers count as many connections as there are clients.
    fn wait_for_connection_count(&self) {
        poll_until("one connection less", || {
            let count: u64 = self.health().iter().map(|health| health["clients"].as_u64().expect("a count")).sum();
            (count == self.clients.len() as u64).then_some(())
        });
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} is not connected"))
    }

    /// Ends a transcript, and checks that no client has an unread message. After the clients disconnect, no room may remain, except test rooms,
    /// which outlive their owner by 5 s.
    pub fn finish(&mut self, has_test_rooms: bool) -> Result<(), String> {
        self.clients.values_mut().try_for_each(Client::wait_until_processed)?;
        self.no_messages().map_err(|what| format!("at the end: {what}"))?;
        self.clients.clear();
        self.wait_for_connection_count();
        let rooms = |health: &Value, dialect: &str| health["dialects"][dialect]["rooms"].as_u64();
        let is_empty = |health: &Value| ["jamjam", "webrtc"].iter().all(|dialect| rooms(health, dialect) == Some(0));
        poll_until("the end of all rooms", || (has_test_rooms || self.health().iter().all(is_empty)).then_some(()));
        Ok(())
    }
}

impl TranscriptServer for Sockets {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        let (line, tcp) = self.open(self.address);
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let (socket, _) =
            tungstenite::client(format!("{scheme}://localhost{to}"), line).map_err(|error| error.to_string())?;
        let mut client = Client { socket, tcp, inbox: VecDeque::new(), close_reason: None };
        // Afterwards the server has counted the connection or closed it.
        client.wait_until_processed()?;
        self.clients.insert(name.to_owned(), client);
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let client = self.client(name);
        client.send(Message::text(text))?;
        client.wait_until_processed()
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let client = self.client(name);
        client.send(Message::binary(vec![0, 1, 2, 255]))?;
        client.wait_until_processed()
    }

    fn close(&mut self, name: &str, reason: &str) -> Result<(), String> {
        let mut client = self.clients.remove(name).ok_or("is not there")?;
        let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
        client.socket.close((!reason.is_empty()).then_some(frame)).map_err(|error| error.to_string())?;
        // Reads until the server has answered the close frame.
        while client.socket.read().is_ok() {}
        drop(client);
        self.wait_for_connection_count();
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let client = self.clients.remove(name).ok_or("is not there")?;
        if SENDS_RESET.fetch_xor(true, Ordering::Relaxed) {
            SockRef::from(&client.tcp).set_linger(Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        }
        drop(client);
        self.wait_for_connection_count();
        Ok(())
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        self.client(name).next().map_err(|what| format!("{name} {what}"))
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        self.client(name).inbox.front().map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        self.no_message(name)?;
        let mut client = self.clients.remove(name).ok_or("is not there")?;
        if client.close_reason.is_none() {
            client.read(false)?;
        }
        client.close_reason.map(Some).ok_or_else(|| format!("{name} is not closed, and receives {:?}", client.inbox))
    }

    /// Rooms are created by options of the server, so only `creates room` is supported, and does nothing.
    fn program(&mut self, command: &str) -> Result<bool, String> {
        Ok(command.starts_with("creates room "))
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))
    }
}
