//! A UDP server that replies as the test specifies, and records the received packets.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::packet::{AUDIO, PONG, Packet};
use crate::TEST_TIMEOUT;

/// The handling of a packet that requires a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    Reply,
    Silence,
    Times(usize),
    /// Reply with one bit changed outside of the packet number.
    Damage,
    /// Reply damaged, then intact.
    DamageThenReply,
    /// Hold the reply, and send it after the reply to the next packet of the same type.
    AfterNext,
    Later(Duration),
    UnknownSequence,
}

/// The server. Dropping this value stops the server.
pub struct Server {
    pub address: SocketAddr,
    received: Arc<Received>,
    /// A datagram from this socket stops the server.
    stopper: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Received {
    datagrams: Mutex<Vec<Vec<u8>>>,
    queries: AtomicUsize,
    more: Condvar,
}

impl Server {
    pub fn with_actions(decide: impl FnMut(&Packet) -> ServerAction + Send + 'static) -> Self {
        Self::with_delay(Duration::ZERO, decide)
    }

    pub fn correct() -> Self {
        Self::with_actions(|_| ServerAction::Reply)
    }

    /// A server that performs the action that `decide` returns for the sequence number of AUDIO, and echoes all other packets.
    pub fn with_audio(decide: impl Fn(u32) -> ServerAction + Send + 'static) -> Self {
        Self::with_actions(
            move |packet| if packet.kind == AUDIO { decide(packet.sequence) } else { ServerAction::Reply },
        )
    }

    pub fn silent() -> Self {
        Self::with_actions(|_| ServerAction::Silence)
    }

    pub fn with_delay(delay: Duration, decide: impl FnMut(&Packet) -> ServerAction + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // On a busy machine, the default receive buffer is too small. The system may grant less than 4 MiB, which is still sufficient.
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let address = socket.local_addr().unwrap();
        let stopper = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stopped_by = stopper.local_addr().unwrap();
        let received = Arc::<Received>::default();
        let server_thread = ServerThread {
            socket,
            stopped_by,
            delay,
            received: Arc::clone(&received),
            delayed: Vec::new(),
            held: Vec::new(),
        };
        let thread = Some(std::thread::spawn(move || server_thread.serve(decide)));
        Self { address, received, stopper, thread }
    }

    /// The server's address in the form that `--to` accepts.
    pub fn to(&self) -> String {
        self.address.to_string()
    }

    pub fn received(&self) -> Vec<Packet> {
        self.received.datagrams.lock().unwrap().iter().map(|bytes| Packet::read(bytes)).collect()
    }

    /// Number of STUN requests received so far. They are neither answered nor recorded as packets.
    pub fn queries(&self) -> usize {
        self.received.queries.load(Ordering::Relaxed)
    }

    pub fn received_of(&self, kind: u8) -> Vec<Packet> {
        self.received().into_iter().filter(|packet| packet.kind == kind).collect()
    }

    pub fn samples(&self) -> Vec<f32> {
        self.received_of(AUDIO).iter().flat_map(Packet::samples).collect()
    }

    pub fn wait_for(&self, count: usize) {
        let datagrams = self.received.datagrams.lock().unwrap();
        let (datagrams, timeout) = self
            .received
            .more
            .wait_timeout_while(datagrams, TEST_TIMEOUT, |datagrams| datagrams.len() < count)
            .unwrap();
        assert!(!timeout.timed_out(), "only {} datagrams arrived", datagrams.len());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.send_to(&[], self.address).unwrap();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

struct ServerThread {
    socket: UdpSocket,
    stopped_by: SocketAddr,
    delay: Duration,
    received: Arc<Received>,
    delayed: Vec<(Instant, SocketAddr, Vec<u8>)>,
    /// Replies that are held until the next reply of the same type.
    held: Vec<Packet>,
}

impl ServerThread {
    fn serve(mut self, mut decide: impl FnMut(&Packet) -> ServerAction) {
        let mut buffer = vec![0; 65_536];
        loop {
            let now = Instant::now();
            self.delayed.sort_by_key(|(due, ..)| *due);
            while self.delayed.first().is_some_and(|(due, ..)| *due <= now) {
                let (_, to, bytes) = self.delayed.remove(0);
                self.send(&bytes, to);
            }
            let next = self.delayed.first().map(|(due, ..)| *due - now);
            self.socket.set_read_timeout(next).unwrap();
            match self.socket.recv_from(&mut buffer) {
                Ok((_, from)) if from == self.stopped_by => return,
                Ok((length, from)) => self.handle(&buffer[..length], from, &mut decide),
                // The call timed out, or the system reported "port unreachable" because a client has ended.
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused),
                    "{error}"
                ),
            }
        }
    }

    fn handle(&mut self, bytes: &[u8], from: SocketAddr, decide: &mut impl FnMut(&Packet) -> ServerAction) {
        if bytes.starts_with(&[0, 1]) {
            self.received.queries.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let packet = Packet::read(bytes);
        self.received.datagrams.lock().unwrap().push(bytes.to_vec());
        self.received.more.notify_all();
        let Some(reply) = packet.reply() else { return };
        let damaged = || {
            let mut bytes = reply.bytes();
            // A pong contains a time, followed by the number by which the pong is matched. Only the time is damaged.
            let offset = if reply.kind == PONG { 12 } else { bytes.len() - 1 };
            bytes[offset] ^= 1;
            bytes
        };
        let unknown = || {
            let mut unknown_sequence = Packet { sequence: 0x7000_0000, ..reply.clone() };
            if reply.kind == PONG {
                unknown_sequence.payload[8..].copy_from_slice(&[0x70, 0, 0, 0]);
            }
            unknown_sequence.bytes()
        };
        let action = decide(&packet);
        let mut delay = self.delay;
        let replies = match action {
            ServerAction::Reply => vec![reply.bytes()],
            ServerAction::Silence | ServerAction::AfterNext => Vec::new(),
            ServerAction::Times(count) => vec![reply.bytes(); count],
            ServerAction::Damage => vec![damaged()],
            ServerAction::DamageThenReply => vec![damaged(), reply.bytes()],
            ServerAction::Later(more) => {
                delay += more;
                vec![reply.bytes()]
            }
            ServerAction::UnknownSequence => vec![unknown()],
        };
        let (overtaken, held) = self.held.drain(..).partition::<Vec<_>, _>(|held| held.kind == reply.kind);
        self.held = held;
        let overtaken = overtaken.iter().map(Packet::bytes);
        for bytes in replies.into_iter().chain(overtaken) {
            if delay.is_zero() {
                self.send(&bytes, from);
            } else {
                self.delayed.push((Instant::now() + delay, from, bytes));
            }
        }
        if action == ServerAction::AfterNext {
            self.held.push(reply);
        }
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) {
        // If the client has ended, sending may fail. This error is ignored.
        let _ = self.socket.send_to(bytes, to);
    }
}

/// A UDP port that looks closed while the sockets exist: it accepts datagrams from one other address only, and the system answers all others
/// with "port unreachable". The TCP port of the same number is closed too.
pub fn closed_udp_port() -> ((UdpSocket, Socket), SocketAddr) {
    loop {
        let (tcp, address) = closed_tcp_port();
        if let Ok(udp) = UdpSocket::bind(address) {
            udp.connect("127.0.0.1:1").unwrap();
            return ((udp, tcp), address);
        }
    }
}

/// A TCP port that refuses connections while the socket exists. The socket has the port but does not listen, so no other socket gets it.
pub fn closed_tcp_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A free port, which no other test gets, neither from here nor from the system, so that a server can start on it again.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different ports.
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    let mut ports = std::iter::repeat_with(|| first + TRIED.fetch_add(1, Ordering::Relaxed));
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap()
}
