//! Load generator for a WebSocket server that forwards each message to all other members of a room.
//!
//!     ws_load ADDRESS MEMBERS RATE SECONDS BYTES < PATHS
//!
//! Each input line up to the first empty line is the URL path of a connection. The first MEMBERS connections form one room, the next
//! MEMBERS connections form the next room. When all clients are connected, the program prints `ready`. Each further input line starts a run
//! of SECONDS seconds. In a run, all members take turns to send messages. The total is RATE messages per second, with BYTES bytes each.
//! After the run, the program prints one line of JSON with the results. The program exits at an empty line or at the end of the input. If
//! RATE is `inf`, there is no pause between messages. At most ten messages per room are then in flight.
//!
//! Frames are encoded and parsed without a library. Each message contains a number that identifies its send time, room and sender.
//! Misrouted, duplicate and reordered messages count as wrong. Lost messages count neither as wrong nor as delivered.

use std::collections::VecDeque;
use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Masking key of all frames. It is not zero, because a server may skip unmasking with a zero key.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How long to wait for outstanding messages, and for a response during connection setup.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of messages in flight per room if RATE is `inf`, which means no pause between messages.
const WINDOW: usize = 10;

struct Client {
    stream: TcpStream,
    /// Start of an incomplete frame.
    incomplete: Vec<u8>,
    /// Last number received from each member of the room.
    last: Vec<u32>,
}

struct Load {
    clients: Vec<Client>,
    poll: Poll,
    members: usize,
    /// Send time of each message.
    sent_at: Vec<Instant>,
    latencies_ns: Vec<u64>,
    /// Misrouted, duplicate or reordered messages.
    wrong: u64,
    buffer: Vec<u8>,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, members, rate, seconds, bytes] = &arguments[..] else {
        panic!("ws_load ADDRESS MEMBERS RATE SECONDS BYTES < PATHS");
    };
    let mut lines = io::stdin().lock().lines().map(|line| line.expect("a line"));
    let paths: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let members = members.parse().expect("members");
    let mut load = Load::connect(address.parse().expect("an address"), &paths, members);
    println!("ready");
    while lines.next().is_some_and(|line| !line.is_empty()) {
        let (rate, seconds) = (rate.parse().expect("a rate"), seconds.parse().expect("seconds"));
        println!("{}", load.run(rate, seconds, bytes.parse().expect("bytes")));
    }
}

impl Load {
    fn connect(address: SocketAddr, paths: &[String], members: usize) -> Self {
        let poll = Poll::new().expect("a poll");
        let mut clients = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let mut stream = std::net::TcpStream::connect(address).expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("a request");
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).expect("a response");
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
            stream.set_nonblocking(true).expect("a mode");
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE).expect("a registration");
            clients.push(Client { stream, incomplete: Vec::new(), last: vec![0; members] });
        }
        Self {
            clients,
            poll,
            members,
            sent_at: Vec::new(),
            latencies_ns: Vec::new(),
            wrong: 0,
            buffer: vec![0; 1 << 16],
        }
    }

    fn run(&mut self, rate: f64, seconds: f64, bytes: usize) -> String {
        let rooms = self.clients.len() / self.members;
        let first = self.sent_at.len();
        self.latencies_ns.clear();
        // Discard the welcome messages.
        self.receive(Duration::from_millis(200));
        self.latencies_ns.clear();
        let total = (rate * seconds) as usize;
        let (cpu, start) = (own_cpu(), Instant::now());
        let mut queue: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        let mut sent = 0;
        let others = self.members - 1;
        loop {
            let now = Instant::now();
            let elapsed = (now - start).as_secs_f64();
            let due = if rate.is_finite() {
                total.min((elapsed * rate) as usize)
            } else if elapsed < seconds {
                self.latencies_ns.len() / others + rooms * WINDOW
            } else {
                sent
            };
            while sent < due {
                let number = first + sent;
                let sender = number % rooms * self.members + number / rooms % self.members;
                self.sent_at.push(Instant::now());
                queue.push_back((sender, message(number, bytes)));
                self.send(&mut queue);
                sent += 1;
            }
            self.send(&mut queue);
            self.receive(Duration::ZERO);
            let timed_out = now - start > Duration::from_secs_f64(seconds) + TIMEOUT;
            let all_sent = if rate.is_finite() { sent == total } else { elapsed >= seconds };
            if all_sent && self.latencies_ns.len() >= sent * others || timed_out {
                break;
            }
        }
        let duration = start.elapsed().as_secs_f64();
        // Anything received from here on is a duplicate.
        self.receive(Duration::from_millis(50));
        let busy = (own_cpu() - cpu) / duration;
        self.latencies_ns.sort_unstable();
        let percentile = |fraction: f64| {
            let count = self.latencies_ns.len();
            let index = ((fraction * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1;
            self.latencies_ns.get(index).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        format!(
            "{{\"sent\":{sent},\"expected\":{},\"delivered\":{},\"wrong\":{},\"seconds\":{duration:.3},\"busy\":{busy:.2},\
             \"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1}}}",
            sent * others,
            self.latencies_ns.len(),
            self.wrong,
            percentile(0.5),
            percentile(0.9),
            percentile(0.99),
            percentile(1.0)
        )
    }

    /// Sends queued frames in order until a socket would block.
    fn send(&mut self, queue: &mut VecDeque<(usize, Vec<u8>)>) {
        while let Some((sender, frame)) = queue.front_mut() {
            match self.clients[*sender].stream.write(frame) {
                Ok(written) if written == frame.len() => _ = queue.pop_front(),
                Ok(written) => _ = frame.drain(..written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits up to `timeout` for readable sockets and reads them.
    fn receive(&mut self, timeout: Duration) {
        let mut events = Events::with_capacity(256);
        self.poll.poll(&mut events, Some(timeout)).expect("events");
        for event in &events {
            let number = event.token().0;
            // Events are edge-triggered: read until the socket would block.
            loop {
                let mut buffer = std::mem::take(&mut self.buffer);
                let read = self.clients[number].stream.read(&mut buffer);
                let now = Instant::now();
                let more = match read {
                    Ok(0) => panic!("the server closed a connection"),
                    Ok(read) => {
                        self.on_bytes(number, &buffer[..read], now);
                        read == buffer.len()
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                    Err(error) => panic!("{error}"),
                };
                self.buffer = buffer;
                if !more {
                    break;
                }
            }
        }
    }

    fn on_bytes(&mut self, receiver: usize, bytes: &[u8], now: Instant) {
        let mut incomplete = std::mem::take(&mut self.clients[receiver].incomplete);
        if incomplete.is_empty() {
            let used = self.parse_frames(receiver, bytes, now);
            incomplete.extend_from_slice(&bytes[used..]);
        } else {
            incomplete.extend_from_slice(bytes);
            let used = self.parse_frames(receiver, &incomplete, now);
            incomplete.drain(..used);
        }
        self.clients[receiver].incomplete = incomplete;
    }

    /// Parses complete frames and returns their total length.
    fn parse_frames(&mut self, receiver: usize, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while let [first, short_len, rest @ ..] = &bytes[used..] {
            let (length, head) = match (short_len, rest) {
                (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                (126.., _) => break,
                (short_len, _) => (usize::from(*short_len), 2),
            };
            let Some(payload) = bytes.get(used + head..used + head + length) else { break };
            used += head + length;
            if *first == 0x81 {
                self.on_message(receiver, payload, now);
            }
        }
        used
    }

    fn on_message(&mut self, receiver: usize, payload: &[u8], now: Instant) {
        // Welcome messages have no number.
        let Some(marker) = payload.iter().position(|byte| *byte == b'#') else { return };
        let number = payload[marker + 1..].iter().take_while(|byte| byte.is_ascii_digit());
        let number = number.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let rooms = self.clients.len() / self.members;
        let (room, sender) = (number % rooms, number / rooms % self.members);
        let last = &mut self.clients[receiver].last[sender];
        let is_valid = room == receiver / self.members
            && sender != receiver % self.members
            && number < self.sent_at.len()
            && (*last == 0 || number == *last as usize + rooms * self.members);
        if !is_valid {
            self.wrong += 1;
            return;
        }
        *last = number as u32;
        self.latencies_ns.push((now - self.sent_at[number]).as_nanos() as u64);
    }
}

/// A masked text frame with a message of `bytes` bytes.
fn message(number: usize, bytes: usize) -> Vec<u8> {
    let start = format!("{{\"type\":\"message\",\"content\":\"#{number} ");
    let filler = bytes.checked_sub(start.len() + 2).expect("BYTES is too small");
    assert!(bytes < 126, "BYTES must be less than 126");
    let text = start + &"x".repeat(filler) + "\"}";
    let masked = text.bytes().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    [0x81, 0x80 | bytes as u8].into_iter().chain(KEY).chain(masked).collect()
}

/// CPU time of this process in seconds.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}
