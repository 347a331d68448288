//! A UDP server that replies as a test decides, and records what it received.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::packet::{AUDIO, FEC, PONG, Packet};

/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_secs(30);

/// What to do with a packet that has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Answer as a faithful server does.
    Answer,
    /// Send no reply.
    Silence,
    /// Answer this often.
    Times(usize),
    /// Reply with one bit changed outside of the packet number.
    Damage,
    /// Answer with sound that is half as loud, upside down.
    Halve,
    /// Answer without the last four bytes.
    Truncate,
    /// Answer damaged, then as it should be.
    DamageThenAnswer,
    /// Answer once the next packet of the same type has been answered.
    AfterNext,
    /// Answer so much later.
    Later(Duration),
    /// Reply with a sequence number that was never sent.
    Unasked,
    /// Answer, and send what answers nothing: three bytes, another version, and FEC.
    Babble,
}

/// The server. Dropping it ends it.
pub struct Server {
    pub address: SocketAddr,
    received: Arc<Received>,
    /// A datagram from here ends it.
    stopper: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Received {
    datagrams: Mutex<Vec<Vec<u8>>>,
    more: Condvar,
}

impl Server {
    /// A server that handles each packet as `decide` returns.
    pub fn that(decide: impl FnMut(&Packet) -> ServerAction + Send + 'static) -> Self {
        Self::with_delay(Duration::ZERO, decide)
    }

    /// A faithful echo server.
    pub fn faithful() -> Self {
        Self::that(|_| ServerAction::Answer)
    }

    /// A faithful echo server that handles AUDIO as `decide` returns for its sequence number.
    pub fn with_audio(decide: impl Fn(u32) -> ServerAction + Send + 'static) -> Self {
        Self::that(move |packet| if packet.kind == AUDIO { decide(packet.sequence) } else { ServerAction::Answer })
    }

    /// A server that never answers.
    pub fn silent() -> Self {
        Self::that(|_| ServerAction::Silence)
    }

    /// A server whose every answer takes `delay` longer.
    pub fn with_delay(delay: Duration, decide: impl FnMut(&Packet) -> ServerAction + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // What it is granted is enough; the default is not, when this machine is busy.
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let address = socket.local_addr().unwrap();
        let stopper = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stopped_by = stopper.local_addr().unwrap();
        let received = Arc::<Received>::default();
        let work =
            Work { socket, stopped_by, delay, received: Arc::clone(&received), waiting: Vec::new(), kept: Vec::new() };
        let thread = Some(std::thread::spawn(move || work.serve(decide)));
        Self { address, received, stopper, thread }
    }

    /// Its port, for `--to 127.0.0.1:PORT`.
    pub fn to(&self) -> String {
        self.address.to_string()
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Packet> {
        self.received.datagrams.lock().unwrap().iter().map(|bytes| Packet::read(bytes)).collect()
    }

    /// Everything of one type received so far.
    pub fn received_of(&self, kind: u8) -> Vec<Packet> {
        self.received().into_iter().filter(|packet| packet.kind == kind).collect()
    }

    /// All samples received so far, in order of arrival.
    pub fn samples(&self) -> Vec<f32> {
        self.received_of(AUDIO).iter().flat_map(Packet::samples).collect()
    }

    /// Waits until `count` datagrams have been received.
    pub fn wait_for(&self, count: usize) {
        let datagrams = self.received.datagrams.lock().unwrap();
        let (datagrams, timeout) =
            self.received.more.wait_timeout_while(datagrams, DEADLINE, |datagrams| datagrams.len() < count).unwrap();
        assert!(!timeout.timed_out(), "only {} datagrams came", datagrams.len());
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

/// The thread's own.
struct Work {
    socket: UdpSocket,
    stopped_by: SocketAddr,
    delay: Duration,
    received: Arc<Received>,
    /// Answers with their time.
    waiting: Vec<(Instant, SocketAddr, Vec<u8>)>,
    /// Answers that wait for the next one of their type.
    kept: Vec<Packet>,
}

impl Work {
    fn serve(mut self, mut decide: impl FnMut(&Packet) -> ServerAction) {
        let mut buffer = vec![0; 65_536];
        loop {
            let now = Instant::now();
            self.waiting.sort_by_key(|(due, ..)| *due);
            while self.waiting.first().is_some_and(|(due, ..)| *due <= now) {
                let (_, to, bytes) = self.waiting.remove(0);
                self.send(&bytes, to);
            }
            let next = self.waiting.first().map(|(due, ..)| *due - now);
            self.socket.set_read_timeout(next).unwrap();
            match self.socket.recv_from(&mut buffer) {
                Ok((_, from)) if from == self.stopped_by => return,
                Ok((length, from)) => self.take(&buffer[..length], from, &mut decide),
                // The time-out, or "port unreachable" from a client that is gone.
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused),
                    "{error}"
                ),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr, decide: &mut impl FnMut(&Packet) -> ServerAction) {
        let packet = Packet::read(bytes);
        self.received.datagrams.lock().unwrap().push(bytes.to_vec());
        self.received.more.notify_all();
        let Some(answer) = packet.answer() else { return };
        let damaged = || {
            let mut bytes = answer.bytes();
            // A pong ends with the number it is matched by; its time stands before that.
            let place = if answer.kind == PONG { 12 } else { bytes.len() - 1 };
            bytes[place] ^= 1;
            bytes
        };
        let unasked = || {
            let mut unknown_sequence = Packet { sequence: 0x7000_0000, ..answer.clone() };
            if answer.kind == PONG {
                unknown_sequence.payload[8..].copy_from_slice(&[0x70, 0, 0, 0]);
            }
            unknown_sequence.bytes()
        };
        let action = decide(&packet);
        let mut delay = self.delay;
        let answers = match action {
            ServerAction::Answer => vec![answer.bytes()],
            ServerAction::Silence | ServerAction::AfterNext => Vec::new(),
            ServerAction::Times(count) => vec![answer.bytes(); count],
            ServerAction::Damage => vec![damaged()],
            ServerAction::Halve => {
                let payload = answer.samples().iter().flat_map(|sample| (sample / -2.0).to_le_bytes()).collect();
                vec![Packet { payload, ..answer.clone() }.bytes()]
            }
            ServerAction::Truncate => vec![answer.bytes()[..bytes.len() - 4].to_vec()],
            ServerAction::DamageThenAnswer => vec![damaged(), answer.bytes()],
            ServerAction::Later(more) => {
                delay += more;
                vec![answer.bytes()]
            }
            ServerAction::Unasked => vec![unasked()],
            ServerAction::Babble => {
                let version = Packet { version: 2, ..answer.clone() };
                let fec = Packet { kind: FEC, ..answer.clone() };
                vec![vec![1, 2, 3], version.bytes(), fec.bytes(), answer.bytes()]
            }
        };
        let (overtaken, kept) = self.kept.drain(..).partition::<Vec<_>, _>(|kept| kept.kind == answer.kind);
        self.kept = kept;
        let overtaken = overtaken.iter().map(Packet::bytes);
        for bytes in answers.into_iter().chain(overtaken) {
            if delay.is_zero() {
                self.send(&bytes, from);
            } else {
                self.waiting.push((Instant::now() + delay, from, bytes));
            }
        }
        if action == ServerAction::AfterNext {
            self.kept.push(answer);
        }
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) {
        // A client that is gone makes no difference.
        let _ = self.socket.send_to(bytes, to);
    }
}

/// A port where nothing listens and nothing can begin to: its socket accepts datagrams from one other address only, so the
/// system answers all others with "port unreachable".
pub fn closed_port() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:1").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}
