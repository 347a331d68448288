//! Load for a server that relays what a member of a room says to all others there, over WebSocket and loopback.
//!
//!     ws_load ADDRESS MEMBERS RATE SECONDS BYTES < PATHS
//!
//! Each line of the input up to an empty one is the path of a connection; so many after each other are a room. When all are there,
//! `ready` is printed; after the next line of the input, RATE messages of BYTES bytes a second are said for SECONDS, by each room
//! in turn and each of its members, and a line of JSON tells what became of them. It ends with its input. A RATE of `inf` is as many as the
//! server takes: a message leaves whenever fewer than ten for each room are on their way.
//!
//! Frames are made and read here, without any library. Each message has a number, by which the receiver knows when it left, in which
//! room and by whom. What is lost, crossed, repeated or out of order is an error.

use std::collections::VecDeque;
use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// The key of all masks: any will do, but zeros, which some servers need not undo.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What comes after the last message before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages of each room that are on their way at a rate of `inf`.
const WINDOW: usize = 10;

struct Client {
    stream: TcpStream,
    /// What has come of a frame that is not whole.
    rest: Vec<u8>,
    /// The last number that each member of the room has said here.
    last: Vec<u32>,
}

struct Load {
    clients: Vec<Client>,
    poll: Poll,
    members: usize,
    /// When each message left.
    left: Vec<Instant>,
    latencies_ns: Vec<u64>,
    /// Messages that were not where or when they should be.
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
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("a request");
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).expect("an answer");
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
            stream.set_nonblocking(true).expect("a mode");
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE).expect("a place");
            clients.push(Client { stream, rest: Vec::new(), last: vec![0; members] });
        }
        Self { clients, poll, members, left: Vec::new(), latencies_ns: Vec::new(), wrong: 0, buffer: vec![0; 1 << 16] }
    }

    fn run(&mut self, rate: f64, seconds: f64, bytes: usize) -> String {
        let rooms = self.clients.len() / self.members;
        let first = self.left.len();
        self.latencies_ns.clear();
        // What was said before this does not count: welcomes.
        self.hear(Duration::from_millis(200));
        self.latencies_ns.clear();
        let by_rate = (rate * seconds) as usize;
        let (cpu, began) = (own_cpu(), Instant::now());
        let mut waiting: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        let mut said = 0;
        let others = self.members - 1;
        loop {
            let now = Instant::now();
            let so_far = (now - began).as_secs_f64();
            let due = if rate.is_finite() {
                by_rate.min((so_far * rate) as usize)
            } else if so_far < seconds {
                self.latencies_ns.len() / others + rooms * WINDOW
            } else {
                said
            };
            while said < due {
                let number = first + said;
                let speaker = number % rooms * self.members + number / rooms % self.members;
                self.left.push(Instant::now());
                waiting.push_back((speaker, message(number, bytes)));
                self.say(&mut waiting);
                said += 1;
            }
            self.say(&mut waiting);
            self.hear(Duration::ZERO);
            let is_over = now - began > Duration::from_secs_f64(seconds) + PATIENCE;
            let is_said = if rate.is_finite() { said == by_rate } else { so_far >= seconds };
            if is_said && self.latencies_ns.len() >= said * others || is_over {
                break;
            }
        }
        let took = began.elapsed().as_secs_f64();
        // What comes now is too much.
        self.hear(Duration::from_millis(50));
        let busy = (own_cpu() - cpu) / took;
        self.latencies_ns.sort_unstable();
        let at = |share: f64| {
            let count = self.latencies_ns.len();
            let place = ((share * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1;
            self.latencies_ns.get(place).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        format!(
            "{{\"said\":{said},\"expected\":{},\"delivered\":{},\"wrong\":{},\"seconds\":{took:.3},\"busy\":{busy:.2},\
             \"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1}}}",
            said * others,
            self.latencies_ns.len(),
            self.wrong,
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        )
    }

    /// Says what waits, as far as the sockets take it.
    fn say(&mut self, waiting: &mut VecDeque<(usize, Vec<u8>)>) {
        while let Some((speaker, frame)) = waiting.front_mut() {
            match self.clients[*speaker].stream.write(frame) {
                Ok(written) if written == frame.len() => _ = waiting.pop_front(),
                Ok(written) => _ = frame.drain(..written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Hears what has come by then.
    fn hear(&mut self, wait: Duration) {
        let mut events = Events::with_capacity(256);
        self.poll.poll(&mut events, Some(wait)).expect("events");
        for event in &events {
            let number = event.token().0;
            // Read to the end, or it would not be told again.
            loop {
                let mut buffer = std::mem::take(&mut self.buffer);
                let read = self.clients[number].stream.read(&mut buffer);
                let now = Instant::now();
                let more = match read {
                    Ok(0) => panic!("the server has closed a connection"),
                    Ok(read) => {
                        self.take(number, &buffer[..read], now);
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

    fn take(&mut self, receiver: usize, bytes: &[u8], now: Instant) {
        let mut rest = std::mem::take(&mut self.clients[receiver].rest);
        if rest.is_empty() {
            let used = self.frames(receiver, bytes, now);
            rest.extend_from_slice(&bytes[used..]);
        } else {
            rest.extend_from_slice(bytes);
            let used = self.frames(receiver, &rest, now);
            rest.drain(..used);
        }
        self.clients[receiver].rest = rest;
    }

    /// Whole frames; how many bytes they were.
    fn frames(&mut self, receiver: usize, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while let [first, short, more @ ..] = &bytes[used..] {
            let (length, head) = match (short, more) {
                (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                (126.., _) => break,
                (short, _) => (usize::from(*short), 2),
            };
            let Some(payload) = bytes.get(used + head..used + head + length) else { break };
            used += head + length;
            if *first == 0x81 {
                self.message(receiver, payload, now);
            }
        }
        used
    }

    fn message(&mut self, receiver: usize, payload: &[u8], now: Instant) {
        // Welcomes have no number.
        let Some(at) = payload.iter().position(|byte| *byte == b'#') else { return };
        let number = payload[at + 1..].iter().take_while(|byte| byte.is_ascii_digit());
        let number = number.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let rooms = self.clients.len() / self.members;
        let (room, speaker) = (number % rooms, number / rooms % self.members);
        let last = &mut self.clients[receiver].last[speaker];
        let is_right = room == receiver / self.members
            && speaker != receiver % self.members
            && number < self.left.len()
            && (*last == 0 || number == *last as usize + rooms * self.members);
        if !is_right {
            self.wrong += 1;
            return;
        }
        *last = number as u32;
        self.latencies_ns.push((now - self.left[number]).as_nanos() as u64);
    }
}

/// A text frame with a message of so many bytes.
fn message(number: usize, bytes: usize) -> Vec<u8> {
    let begin = format!("{{\"type\":\"message\",\"content\":\"#{number} ");
    let filler = bytes.checked_sub(begin.len() + 2).expect("more bytes");
    assert!(bytes < 126, "a message is short here");
    let text = begin + &"x".repeat(filler) + "\"}";
    let masked = text.bytes().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    [0x81, 0x80 | bytes as u8].into_iter().chain(KEY).chain(masked).collect()
}

/// Seconds of processor time of this process.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}
