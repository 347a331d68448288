//! Runs a transcript against a server process. Each client is a WebSocket, with or without TLS.
//!
//! No step waits for a fixed duration. After each message, the client sends a ping and waits for the pong. The server processes each message
//! of a connection before it reads the next frame, so all resulting messages are then in their queues. After a connection was closed or
//! lost, the test polls the server until it counts one connection fewer.
//!
//! A pong cannot prove that a client has received its whole queue, because it may overtake queued messages. Therefore, the client sends two
//! requests that change nothing, and whose responses differ except on control channels. The responses go through the queue, which is first
//! in, first out, so they must be the next messages that the client receives. These requests would decide the dialect of a connection that
//! is still undecided. Such a client sends them only before it leaves and at the end of the transcript.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::SockRef;
use tungstenite::{Message, WebSocket};

use crate::server::{TEST_TIMEOUT, poll_until};
use crate::transcript::TranscriptServer;

/// Requests that change nothing, and the beginning of the response to each.
type Requests = [(&'static str, &'static str); 2];

const JAMJAM: Requests = [
    (r#"{"type":"ListRooms"}"#, r#"{"type":"RoomList""#),
    (
        r#"{"type":"JoinRoom","data":{"room_id":"nowhere","peer_name":"nobody"}}"#,
        r#"{"type":"Error","data":{"message":"Room not found"}"#,
    ),
];

const WEBRTC: Requests = [
    (r#"{"type":"request-participants"}"#, r#"{"type":"participants-list""#),
    (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#),
];

/// The time in each response distinguishes the responses.
const BBX: Requests = [
    (r#"{"type":"ping","client_time":-1001}"#, r#"{"type":"pong","client_time":-1001,"#),
    (r#"{"type":"ping","client_time":-1002}"#, r#"{"type":"pong","client_time":-1002,"#),
];

/// The protocol of broadcast rooms has no requests. Therefore, this list contains invalid messages. The server answers each invalid message
/// with an error.
const BROADCAST: Requests = [
    ("no JSON", r#"{"type":"error","error":"Invalid JSON payload"}"#),
    ("1", r#"{"type":"error","error":"Payload must be a JSON object"}"#),
];

const CONTROL: Requests = [("", r#"{"type":"error","error":"Control channel is receive-only"}"#); 2];

/// The requests that a client can send in its dialect. `to` is the path and query with which the client connected. `to` distinguishes
/// all dialects, but not jamjam from bbx.
fn requests(to: &str) -> Requests {
    if ["roomId=", "userId=", "userName="].iter().any(|parameter| to.contains(parameter)) {
        WEBRTC
    } else if to.contains("/remotecontrol") {
        CONTROL
    } else if to.contains("token=") {
        BROADCAST
    } else {
        JAMJAM
    }
}

trait ByteStream: Read + Write + Send {}
impl<T: Read + Write + Send> ByteStream for T {}

pub struct Sockets {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// If true, a client whose connection is cut sends a TCP reset. Otherwise, the client closes the socket without a WebSocket close
    /// frame.
    pub reset: bool,
    clients: BTreeMap<String, Client>,
}

struct Client {
    socket: WebSocket<Box<dyn ByteStream>>,
    tcp: TcpStream,
    inbox: VecDeque<String>,
    requests: Requests,
    decided: bool,
    /// Code and reason of the server's close frame.
    close_reason: Option<(u16, String)>,
}

impl Client {
    fn send(&mut self, message: Message) -> Result<(), String> {
        self.socket.send(message).map_err(|error| format!("cannot be sent: {error}"))
    }

    /// Reads until a message arrives or the server closes the connection. If `until_pong` is set, the function waits for the pong instead
    /// of a message.
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

    /// If the dialect is still undecided, a control surface message makes the client a control surface.
    fn decide(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let kind = message["type"].as_str().unwrap_or_default();
        let is_surface = ["join", "param", "trigger", "sync", "ping", "leave"].contains(&kind);
        if !self.decided && self.requests == JAMJAM && is_surface {
            (self.requests, self.decided) = (BBX, true);
        }
    }

    fn is_open(&self) -> Result<(), String> {
        self.close_reason.as_ref().map_or(Ok(()), |end| Err(format!("is closed with {end:?}")))
    }

    fn next(&mut self) -> Result<String, String> {
        if self.inbox.is_empty() && self.close_reason.is_none() {
            self.read(false)?;
        }
        if self.inbox.is_empty() {
            self.is_open()?;
        }
        self.decided = true;
        self.inbox.pop_front().ok_or_else(|| "receives nothing".to_owned())
    }

    /// Waits until the server has processed everything that this client sent.
    fn wait_until_processed(&mut self) -> Result<(), String> {
        self.send(Message::Ping("acted on?".into()))?;
        self.read(true)
    }

    /// Sends both requests, and fails if the next received messages are not the responses to them.
    fn check_queue_empty(&mut self) -> Result<(), String> {
        for (request, answer) in self.requests {
            self.is_open()?;
            self.send(Message::text(request))?;
            let text = self.next()?;
            if !text.starts_with(answer) {
                return Err(format!("receives {text}"));
            }
        }
        Ok(())
    }
}

impl Sockets {
    pub fn new(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { address, tls, reset: false, clients: BTreeMap::new() }
    }

    fn open(&self) -> (Box<dyn ByteStream>, TcpStream) {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let other = tcp.try_clone().unwrap();
        let Some(tls) = &self.tls else { return (Box::new(tcp), other) };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(tls), name).unwrap();
        (Box::new(StreamOwned::new(connection, tcp)), other)
    }

    pub fn health(&self) -> Value {
        let (mut line, _) = self.open();
        line.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until the server counts as many connections as there are clients.
    fn wait_for_connection_count(&self) {
        poll_until("one connection less", || (self.health()["clients"] == self.clients.len()).then_some(()));
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} is not connected"))
    }

    /// Ends a transcript, and checks that every client has received all messages. After the clients disconnect, no state may remain.
    pub fn finish(&mut self) -> Result<(), String> {
        for (name, client) in &mut self.clients {
            // The client sends request 1 and request 2, and then both requests again. The repeated requests reveal a surplus message after
            // the first response to request 2.
            client
                .check_queue_empty()
                .and_then(|()| client.check_queue_empty())
                .map_err(|what| format!("at the end: {name} {what}"))?;
        }
        self.clients.clear();
        self.wait_for_connection_count();
        let health = self.health();
        let is_empty = ["jamjam", "webrtc"].iter().all(|dialect| health["dialects"][dialect]["rooms"] == 0);
        if is_empty { Ok(()) } else { Err(format!("at the end: {health}")) }
    }
}

impl TranscriptServer for Sockets {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        let (line, tcp) = self.open();
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let (socket, _) =
            tungstenite::client(format!("{scheme}://localhost{to}"), line).map_err(|error| error.to_string())?;
        let (inbox, requests) = (VecDeque::new(), requests(to));
        let mut client = Client { socket, tcp, inbox, requests, decided: false, close_reason: None };
        // Afterwards the server has counted the connection or closed it.
        client.wait_until_processed()?;
        self.clients.insert(name.to_owned(), client);
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let client = self.client(name);
        client.decide(text);
        client.send(Message::text(text))?;
        client.wait_until_processed()
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        let client = self.client(name);
        client.send(Message::binary(vec![0, 1, 2, 255]))?;
        client.wait_until_processed()
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        let mut client = self.clients.remove(name).ok_or("is not there")?;
        client.check_queue_empty()?;
        client.socket.close(None).map_err(|error| error.to_string())?;
        // Reads until the server has answered the close frame.
        while client.socket.read().is_ok() {}
        drop(client);
        self.wait_for_connection_count();
        Ok(())
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        let mut client = self.clients.remove(name).ok_or("is not there")?;
        client.check_queue_empty()?;
        if self.reset {
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
        let client = self.client(name);
        if let Some(text) = client.inbox.front() {
            return Err(format!("{name} receives {text}"));
        }
        if client.decided { client.check_queue_empty().map_err(|what| format!("{name} {what}")) } else { Ok(()) }
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        let mut client = self.clients.remove(name).ok_or("is not there")?;
        if let Some(text) = client.inbox.front() {
            return Err(format!("{name} receives {text}"));
        }
        if client.close_reason.is_none() {
            client.read(false)?;
        }
        client.close_reason.map(Some).ok_or_else(|| format!("{name} is not closed, and receives {:?}", client.inbox))
    }

    /// Returns true for the command `creates room`, and false for all other commands. The command `creates room` causes no
    /// action here. The options of the server specify these rooms, so the server created the rooms when it started.
    fn program(&mut self, command: &str) -> Result<bool, String> {
        Ok(command.starts_with("creates room "))
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        Err(format!("the clock cannot be moved, so {name} is not pinged"))
    }

    fn advance(&mut self, _: u64) -> bool {
        false
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))
    }
}
