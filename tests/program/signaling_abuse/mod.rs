//! Malicious clients of a `signaling-server` process. The server keeps running, and its memory is bounded. Other clients are not affected.
//! Each kind of abuse has a counter. `CHURN=100000 cargo test --test program signaling_abuse` opens and closes ten times as many
//! connections as the default.

#![cfg(target_os = "linux")]

use test_support::server;
mod hostile;

use std::io::{BufReader, Read, Write};
use std::iter::repeat_with;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jamjam_dev::signaling::token::{Claims, Secret, sign};

use server::poll_until;
use server::process::Server;

use hostile::{
    Client, Duo, MAX_MESSAGE_LEN, UPGRADE, close_code, frame, frame_with_length, raw, resident_kib, upgraded,
    upgraded_with,
};

/// Sends each message on its own connection. Checks that the server closes this connection with the given code and counts the close. Other
/// clients must still be able to chat.
fn each_is_closed(cases: &[(&str, u16, Vec<u8>)], count: &str) {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    for (number, (what, code, bytes)) in cases.iter().enumerate() {
        let mut stream = upgraded(server.address);
        stream.write_all(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(close_code(stream), Some(*code), "{what}");
        assert_eq!(server.metric(count), number as u64 + 1, "{what}");
        duo.chat();
    }
    poll_until("all but two are gone", || (server.metric("connections") == 2).then_some(()));
}

#[test]
fn oversized_message_is_closed_with_1009_for_any_declared_length() {
    let half = frame(0x01, &vec![b' '; MAX_MESSAGE_LEN / 2 + 1]);
    let other_half = frame(0x80, &vec![b' '; MAX_MESSAGE_LEN / 2 + 1]);
    each_is_closed(
        &[
            ("one frame", 1009, frame(0x81, &vec![b' '; MAX_MESSAGE_LEN + 1])),
            ("only its header", 1009, frame_with_length(0x81, MAX_MESSAGE_LEN as u64 + 1, b"")),
            ("the longest there could be", 1009, frame_with_length(0x82, i64::MAX as u64, b"")),
            ("two fragments", 1009, [half, other_half].concat()),
        ],
        "closed_message_too_big_total",
    );
}

#[test]
fn protocol_violation_is_closed_with_1002() {
    each_is_closed(
        &[
            ("no mask", 1002, vec![0x81, 0x02, b'h', b'i']),
            ("a reserved bit", 1002, frame(0xa1, b"x")),
            ("a compressed message, which was not negotiated", 1002, frame(0xc1, &[0xaa, 0x56, 0x4a, 0x04])),
            ("a reserved opcode", 1002, frame(0x83, b"x")),
            ("a reserved control opcode", 1002, frame(0x8b, b"x")),
            ("a length in more bytes than needed", 1002, vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0]),
            ("a length with the highest bit", 1002, frame_with_length(0x82, u64::MAX, b"")),
            ("a long ping", 1002, frame(0x89, &[0; 126])),
            ("a ping in fragments", 1002, frame(0x09, b"x")),
            ("a continuation of nothing", 1002, frame(0x80, b"x")),
            ("a message within another", 1002, [frame(0x01, b"x"), frame(0x81, b"y")].concat()),
            ("a close frame of one byte", 1002, frame(0x88, b"x")),
            ("a close code that may not be sent", 1002, frame(0x88, &1006_u16.to_be_bytes())),
        ],
        "closed_protocol_error_total",
    );
}

#[test]
fn invalid_utf8_is_closed_with_1007() {
    each_is_closed(
        &[
            ("a text", 1007, frame(0x81, &[b'a', 0xff])),
            ("a text in fragments", 1007, [frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0x28])].concat()),
            ("half a letter at the end", 1007, frame(0x81, &[0xf0, 0x9f])),
            ("the reason of a close frame", 1007, frame(0x88, &[0x03, 0xe8, 0xff])),
        ],
        "closed_invalid_utf8_total",
    );
}

#[test]
fn endless_pings_or_fragments_are_closed_with_1008() {
    let pings = frame(0x89, b"p").repeat(200);
    let answers = frame(0x8a, b"p").repeat(200);
    let fragments = [frame(0x01, b""), frame(0x00, b"").repeat(200)].concat();
    let server = Server::start_signaling(&["--rate-limit-messages", "50/s"]);
    for (number, bytes) in [pings, answers, fragments].into_iter().enumerate() {
        let mut stream = upgraded(server.address);
        stream.write_all(&bytes).unwrap();
        assert_eq!(close_code(stream), Some(1008), "{number}");
        assert_eq!(server.metric("closed_frame_rate_total"), number as u64 + 1);
    }
    let mut duo = Duo::new(&server);
    duo.0.chat("still there");
    duo.1.receive("ChatMessage");
}

#[test]
fn binary_message_is_ignored_and_counted() {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    let mut stream = upgraded(server.address);
    let fragments = [frame(0x02, &[0xff; 9]), frame(0x80, &[0xff; 9])].concat();
    stream.write_all(&[frame(0x82, &[0xff; 1_000]), fragments].concat()).unwrap();
    poll_until("both are counted", || (server.metric("messages_ignored_total") == 2).then_some(()));
    duo.chat();
    stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
    assert_eq!(close_code(stream), Some(1000), "a close frame is answered with its own code");
}

#[test]
fn slow_handshake_is_closed_at_the_timeout_and_counted() {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    let (mut slow, mut silent) = (raw(server.address), raw(server.address));
    let sent = UPGRADE.bytes().take_while(|byte| {
        // The request would take longer than the time-out of 10 s.
        thread::park_timeout(std::time::Duration::from_millis(100));
        slow.write_all(&[*byte]).is_ok()
    });
    assert!(sent.count() < UPGRADE.len(), "the complete request was accepted");
    let mut nothing = Vec::new();
    assert!(silent.read_to_end(&mut nothing).is_ok() && !nothing.starts_with(b"HTTP/1.1 101"));
    poll_until("both are counted", || (server.metric("handshake_timeouts_total") == 2).then_some(()));
    duo.chat();
}

#[test]
fn flooding_member_is_closed_and_others_are_not_affected() {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    let mut stream = upgraded(server.address);
    let flood = thread::spawn(move || {
        let burst = frame(0x81, br#"{"type":"ListRooms"}"#).repeat(1_000);
        while stream.write_all(&burst).is_ok() {}
    });
    for _ in 0..4 {
        duo.chat();
    }
    flood.join().unwrap();
    assert_eq!(server.metric("closed_message_rate_total"), 1);
    duo.chat();
}

#[test]
fn queue_is_bounded_and_shared_and_slow_connections_are_closed() {
    const MESSAGE_LEN: usize = 200_000;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let before = resident_kib(&server);
    let (mut duo, mut flooder) = (Duo::new(&server), Client::new(&server));
    let room = flooder.create();
    let join = |mut client: Client| {
        client.join(&room);
        flooder.receive("PeerJoined");
        client
    };
    let _unread: Vec<Client> = std::iter::repeat_with(|| Client::new(&server)).take(3).map(join).collect();
    // Three clients do not read. `flooder` sends 60 MB to each of these clients. The socket buffers and the queue cannot hold this amount.
    for _ in 0..300 {
        flooder.chat(&"x".repeat(MESSAGE_LEN));
    }
    poll_until("all three are closed", || (server.metric("closed_slow_reader_total") == 3).then_some(()));
    duo.chat();
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more");
    poll_until("nothing is queued", || (server.metric("queued_bytes") == 0).then_some(()));
}

/// A program that opens connections, and sends an incomplete request on each connection. The program prints the number of connections and
/// waits to be killed.
const HALF_OPEN: &str = "import socket,sys,time,resource
maximum=resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE,(maximum,maximum))
connections=[]
try:
  for i in range(int(sys.argv[2])):
    s=socket.create_connection(('127.0.0.1',int(sys.argv[1]))); s.send(b'GET / HT'); connections.append(s)
except OSError as e: print(e,file=sys.stderr)
print(len(connections),flush=True)
time.sleep(60)";

#[test]
fn four_thousand_half_open_connections_leave_memory_for_others() {
    const MANY: usize = 4_000;
    let server = Server::start_signaling(&[]);
    let (mut duo, before) = (Duo::new(&server), resident_kib(&server));
    let port = server.address.port().to_string();
    let child =
        Command::new("python3").args(["-c", HALF_OPEN, &port, &MANY.to_string()]).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("python3");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let made: usize = line.trim().parse().unwrap();
    if made < MANY {
        eprintln!("NOTE: this machine gives one process {made} connections only, not {MANY}");
    }
    assert!(made >= 500, "{made} connections are too few for this test");
    duo.chat();
    Duo::new(&server).chat();
    let grown = resident_kib(&server).saturating_sub(before) * 1_024 / made as u64;
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{made} half-open connections: {grown} bytes each");
    assert!(grown < 26_000, "{grown} bytes each");
    duo.chat();
}

#[test]
fn ten_thousand_short_connections_leave_nothing_behind() {
    let churn: usize = std::env::var("CHURN").map_or(10_000, |text| text.parse().expect("a number"));
    let server = Server::start_signaling(&[]);
    let round = |times: usize| {
        thread::scope(|scope| {
            for part in 0..4 {
                let address = server.address;
                scope.spawn(move || {
                    for number in 0..times / 4 {
                        let mut stream = upgraded(address);
                        // In each group of four connections, connection 0 sends a close frame. Connections 1 to 3 disconnect without a
                        // close frame. Connection 1 sends no message. Connection 2 sends an incomplete frame. Connection 3 requests a new
                        // room.
                        match (number + part) % 4 {
                            0 => drop(stream.write_all(&frame(0x88, b""))),
                            1 => {}
                            2 => drop(stream.write_all(&frame_with_length(0x81, 100, b"half"))),
                            _ => drop(stream.write_all(&frame(
                                0x81,
                                br#"{"type":"CreateRoom","data":{"room_name":"r","peer_name":"p"}}"#,
                            ))),
                        }
                    }
                });
            }
        });
        let names = ["connections", "rooms", "members", "queued_bytes"];
        poll_until("no connection is left", || names.iter().all(|name| server.metric(name) == 0).then_some(()));
        resident_kib(&server)
    };
    let early = round(churn / 5);
    let late = round(churn - churn / 5);
    println!("{early} KiB after {}, {late} KiB after {churn}", churn / 5);
    assert!(late < early + 4_096, "{early} KiB, then {late} KiB");
    Duo::new(&server).chat();
}

/// Eight members delay 9,000 messages until one moment. The server has one worker thread, and sends 360,000 messages to 40 members.
#[test]
fn burst_of_delayed_messages_closes_no_client_that_reads() {
    const MESSAGES: usize = 9_000;
    let options =
        ["--host", "127.0.0.1", "--port", "0", "--hmac-secret", "s", "--trust-proxy", "--rate-limit-messages", "off"];
    let server = Server::start_signaling_as(&options, |command| _ = command.env("TOKIO_WORKER_THREADS", "1"));
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let token = sign(&Secret::new("s"), &Claims::new("c", "radio", serde_json::Map::new(), now_ms, 600.0));
    let member = |address: usize| {
        let request = UPGRADE.replace("GET / ", &format!("GET /radio?token={token} "));
        let request = request.replace("Host: x\r\n", &format!("Host: x\r\nX-Forwarded-For: 192.0.2.{address}\r\n"));
        upgraded_with(server.address, &request)
    };
    let listeners: Vec<_> = (0..40).map(|number| member(100 + number)).collect();
    let mut duo = Duo::new(&server);
    // Late enough that all messages are accepted before they are due, even on a busy machine.
    let due = Instant::now() + Duration::from_secs(12);
    for number in 0..8 {
        let (mut sender, mut posts) = (member(number), Vec::new());
        for _ in 0..MESSAGES / 8 {
            let delay = (due - Instant::now()).as_secs_f64();
            posts.extend(frame(0x81, format!(r#"{{"type":"post","content":"{:060}","delay":{delay}}}"#, 0).as_bytes()));
        }
        sender.write_all(&posts).unwrap();
        // The messages are relayed even though their sender has left.
        sender.write_all(&frame(0x88, b"")).unwrap();
        std::io::copy(&mut sender, &mut std::io::sink()).unwrap();
    }
    let count_messages = |stream| {
        let (mut stream, mut header) = (BufReader::new(stream), [0; 2]);
        // The first message is the welcome message.
        for number in 0..=MESSAGES {
            stream.read_exact(&mut header).unwrap_or_else(|error| panic!("after {number} messages: {error}"));
            assert_eq!(header[0], 0x81, "after {number} messages");
            let mut length = [0; 2];
            let length = if header[1] < 126 {
                u64::from(header[1])
            } else {
                stream.read_exact(&mut length).unwrap();
                u64::from(u16::from_be_bytes(length))
            };
            std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).unwrap();
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = listeners.into_iter().map(|stream| scope.spawn(move || count_messages(stream))).collect();
        // Other rooms are served meanwhile. How fast depends on the machine, so `benches/attacks.py` measures it.
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            duo.chat();
        }
    });
}

/// The processor time of all threads of the server.
fn cpu_time(server: &Server) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let times = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(times.sum())
}

/// Each message has 99,000 values. The member may use 10 ms at once, and then a quarter of a core.
#[test]
fn member_that_used_up_its_processor_time_is_read_later_and_loses_nothing() {
    const MESSAGES: usize = 60;
    let server = Server::start_signaling(&["--hmac-secret", "s"]);
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let token = sign(&Secret::new("s"), &Claims::new("c", "radio", serde_json::Map::new(), now_ms, 600.0));
    let url = format!("ws://{}/radio?token={token}", server.address);
    let [mut sender, mut receiver] =
        [(), ()].map(|()| tungstenite::client(&url, raw(server.address)).expect("a connection").0);
    receiver.read().expect("the welcome message");
    let (began, used) = (Instant::now(), cpu_time(&server));
    let sending = thread::spawn(move || {
        for number in 0..MESSAGES {
            let message = format!("[{number}{}]", ",0".repeat(99_000));
            sender.send(tungstenite::Message::text(message)).unwrap();
        }
        sender
    });
    for number in 0..MESSAGES {
        // On a slow machine, the server also sends pings.
        let message = repeat_with(|| receiver.read().unwrap()).find(tungstenite::Message::is_text).unwrap();
        let message: serde_json::Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(message["content"][0], number);
    }
    let (elapsed, used) = (began.elapsed(), cpu_time(&server).saturating_sub(used));
    assert!(elapsed > 2 * used, "{used:?} of {elapsed:?}");
    let mut sender = sending.join().unwrap();
    sender.close(None).unwrap();
    sender.read().expect("the welcome message");
    let end = repeat_with(|| sender.read().unwrap()).find(tungstenite::Message::is_close);
    assert!(matches!(end, Some(tungstenite::Message::Close(None))));
}
