//! Malicious clients of a `signaling-server` process: its memory is bounded, other clients are not affected, and each kind of abuse is
//! counted. `CHURN=100000 cargo test --test program signaling_abuse` opens and closes ten times as many connections as the default.

mod hostile;

use std::io::{BufRead, BufReader, Read, Write};
use std::iter::repeat_with;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use test_support::server::{Member, Server, frame, frame_with_length, get, poll_until, tcp};

use crate::signaling_server::{SECRET, token};
use hostile::{Duo, MAX_MESSAGE_LEN, UPGRADE, close_code, upgraded};

/// Each message is counted, and other clients still chat. All invalid frames are tested in `src/io/websocket/checked_stream.rs`.
#[test]
fn invalid_message_closes_its_own_connection_with_its_code() {
    let oversized = [
        frame(0x81, &vec![b' '; MAX_MESSAGE_LEN + 1]),
        // Only the header.
        frame_with_length(0x82, i64::MAX as u64, b""),
    ];
    // No mask, and a close code that may not be sent.
    let violations = [vec![0x81, 0x02, b'h', b'i'], frame(0x88, &1006_u16.to_be_bytes())];
    let invalid_utf8 = [[frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0x28])].concat(), frame(0x88, &[0x03, 0xe8, 0xff])];
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    for (code, count, messages) in [
        (1009, "closed_message_too_big_total", &oversized[..]),
        (1002, "closed_protocol_error_total", &violations),
        (1007, "closed_invalid_utf8_total", &invalid_utf8),
    ] {
        for (number, message) in (1..).zip(messages) {
            let mut stream = upgraded(server.address);
            stream.write_all(message).unwrap();
            let shown = &message[..message.len().min(16)];
            assert_eq!((close_code(stream), server.metric(count)), (Some(code), number), "{shown:02x?}");
            duo.chat();
        }
    }
    // A message of exactly the maximum length is only ignored, because spaces are not JSON.
    duo.0.send_text(&" ".repeat(MAX_MESSAGE_LEN));
    duo.chat();
    poll_until("all but two are gone", || (server.metric("connections") == 2).then_some(()));
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
    duo.chat();
}

#[test]
fn slow_handshake_is_closed_at_the_timeout_and_counted() {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    let (mut slow, mut silent) = (tcp(server.address), tcp(server.address));
    let sent = UPGRADE.bytes().take_while(|byte| {
        // The request would take longer than the time-out of 10 s.
        thread::park_timeout(Duration::from_millis(100));
        slow.write_all(&[*byte]).is_ok()
    });
    assert!(sent.count() < UPGRADE.len(), "the complete request was accepted");
    let mut nothing = Vec::new();
    assert!(silent.read_to_end(&mut nothing).is_ok() && !nothing.starts_with(b"HTTP/1.1 101"));
    poll_until("both are counted", || (server.metric("handshake_timeouts_total") == 2).then_some(()));
    duo.chat();
}

/// Opens connections, sends an incomplete request on each, prints their number, and waits to be killed.
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
    let (mut duo, before) = (Duo::new(&server), server.resident_kib());
    let port = server.address.port().to_string();
    let mut python = Command::new("python3");
    let child = python.args(["-c", HALF_OPEN, &port, &MANY.to_string()]).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("python3");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let made: usize = line.trim().parse().unwrap();
    if made < MANY {
        eprintln!("NOTE: this machine gives one process {made} connections only, not {MANY}");
    }
    assert!(made >= 500, "{made} connections are too few for this test");
    duo.chat();
    Duo::new(&server).chat();
    let grown = server.resident_kib().saturating_sub(before) * 1_024 / made as u64;
    child.kill().unwrap();
    child.wait().unwrap();
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
                        // A quarter sends a close frame. The others leave after nothing, an incomplete frame, or the creation of a room.
                        let create = br#"{"type":"CreateRoom","data":{"room_name":"r","peer_name":"p"}}"#;
                        let bytes = match (number + part) % 4 {
                            0 => frame(0x88, b""),
                            1 => Vec::new(),
                            2 => frame_with_length(0x81, 100, b"half"),
                            _ => frame(0x81, create),
                        };
                        drop(stream.write_all(&bytes));
                    }
                });
            }
        });
        let names = ["connections", "rooms", "members", "queued_bytes"];
        poll_until("no connection is left", || names.iter().all(|name| server.metric(name) == 0).then_some(()));
        server.resident_kib()
    };
    let early = round(churn / 5);
    let late = round(churn - churn / 5);
    assert!(late < early + 4_096, "{early} KiB, then {late} KiB");
    Duo::new(&server).chat();
}

/// Eight members delay 9,000 messages until one moment. The server has one worker thread, and sends 360,000 messages to 40 members.
#[test]
fn burst_of_delayed_messages_closes_no_client_that_reads() {
    const MESSAGES: usize = 9_000;
    let options = ["--trust-proxy", "--rate-limit-messages", "off"];
    let server = Server::start_signaling_with(&[&SECRET[..], &options].concat(), |command| {
        command.env("TOKIO_WORKER_THREADS", "1");
    });
    let path = format!("/radio?token={}", token("c", "radio"));
    let member = |address: usize| {
        let mut member =
            Member::try_connect(server.address, &path, &[("X-Forwarded-For", &format!("192.0.2.{address}"))]).unwrap();
        assert_eq!(member.receive()["type"], "welcome");
        member
    };
    let listeners: Vec<Member> = (0..40).map(|number| member(100 + number)).collect();
    let mut duo = Duo::new(&server);
    let receive_all = |mut listener: Member| {
        for number in 0..MESSAGES {
            let message = listener.0.read().unwrap_or_else(|error| panic!("after {number} messages: {error}"));
            assert!(message.is_text(), "after {number} messages: {message:?}");
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> =
            listeners.into_iter().map(|listener| scope.spawn(move || receive_all(listener))).collect();
        // Usually late enough that all messages are accepted before they are due.
        let due = SystemTime::now() + Duration::from_secs(12);
        for number in 0..8 {
            let mut sender = member(number);
            for _ in 0..MESSAGES / 8 {
                let delay = due.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64();
                sender.send_text(&format!(r#"{{"type":"post","content":"{:060}","delay":{delay}}}"#, 0));
            }
            // The messages are relayed even though their sender has left.
            sender.0.close(None).unwrap();
            while sender.0.read().is_ok() {}
        }
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
    const MESSAGES: usize = 20;
    let server = Server::start_signaling(&SECRET);
    let path = format!("/radio?token={}", token("c", "radio"));
    let [mut sender, mut receiver] = [(); 2].map(|()| Member::connect_to(server.address, &path));
    assert_eq!(receiver.receive()["type"], "welcome");
    let uptime = || Duration::from_secs_f64(get(&server, "/health").json()["uptime"].as_f64().unwrap());
    let (began, used) = (uptime(), cpu_time(&server));
    let sending = thread::spawn(move || {
        for number in 0..MESSAGES {
            let message = format!("[{number}{}]", ",0".repeat(99_000));
            sender.send_text(&message);
        }
        sender
    });
    for number in 0..MESSAGES {
        assert_eq!(receiver.receive()["content"][0], number);
    }
    let (elapsed, used) = (uptime().saturating_sub(began), cpu_time(&server).saturating_sub(used));
    assert!(elapsed > 2 * used, "{used:?} of {elapsed:?}");
    let mut sender = sending.join().unwrap();
    sender.0.close(None).unwrap();
    let end = repeat_with(|| sender.0.read().unwrap()).find(tungstenite::Message::is_close);
    assert!(matches!(end, Some(tungstenite::Message::Close(None))));
}
