//! `--loss-direction` on the command line: against the real echo server over a path that loses by a known direction, and against
//! servers that do not answer, or lie.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use test_support::client;
use test_support::stun;

use client::document;
use client::packet::Packet;
use client::program::{run, start_line};
use client::server::{Server, ServerAction};
use serde_json::{Value, json};

/// An `echo-server` process with its address.
fn echo_server(folder: &tempfile::TempDir, more: &str) -> (client::program::Program, SocketAddr) {
    let file = folder.path().join("address");
    let options = "echo-server --host 127.0.0.1 --port 0 --delay 20 --address-file";
    let program = start_line(&format!("{options} {} {more}", file.display()));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Some(address) = text.strip_suffix('\n')
        {
            return (program, address.parse().expect("an address"));
        }
        assert!(std::time::Instant::now() < deadline, "no address file");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A way to a server and back that drops the packets selected by `loses(upstream, packet)`, and nothing else.
struct Path {
    /// What the client sends to.
    address: SocketAddr,
    /// What the server sees.
    outside: SocketAddr,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Path {
    fn to(server: SocketAddr, loses: impl Fn(bool, &Packet) -> bool + Clone + Send + 'static) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (inner, outer) = (Arc::new(socket()), Arc::new(socket()));
        let (address, outside) = (inner.local_addr().unwrap(), outer.local_addr().unwrap());
        let ends = Arc::<AtomicBool>::default();
        let client = Arc::new(std::sync::Mutex::new(None));
        let thread = |upstream: bool| {
            let (from, to) = if upstream { (&inner, &outer) } else { (&outer, &inner) };
            let (from, to, ends, client) = (Arc::clone(from), Arc::clone(to), Arc::clone(&ends), Arc::clone(&client));
            let loses = loses.clone();
            from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !ends.load(Ordering::Relaxed) {
                    let Ok((len, peer)) = from.recv_from(&mut buffer) else { continue };
                    if upstream {
                        *client.lock().unwrap() = Some(peer);
                    }
                    let whither = if upstream { Some(server) } else { *client.lock().unwrap() };
                    let packet = Packet::read(&buffer[..len]);
                    let is_stun = packet.version == 0 || buffer[4..8] == [0x21, 0x12, 0xa4, 0x42];
                    if let Some(whither) = whither.filter(|_| is_stun || !loses(upstream, &packet)) {
                        // A client that is gone makes no difference.
                        let _ = to.send_to(&buffer[..len], whither);
                    }
                }
            })
        };
        let threads = vec![thread(true), thread(false)];
        Self { address, outside, ends, threads }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}

/// Lost, lost upstream, lost downstream.
fn losses(report: &Value, stream: &str) -> [Value; 3] {
    ["lost", "lost_upstream", "lost_downstream"].map(|name| report["streams"][stream][name].clone())
}

#[test]
fn loss_direction_matches_where_the_path_dropped_packets() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = echo_server(&folder, "");
    // Of 40 packets numbers 3, 13, 23 and 33 are lost upstream, 5 and 25 downstream.
    let loses = |upstream: bool, packet: &Packet| {
        let n = if matches!(packet.kind, 5 | 6) { packet.sequence } else { packet.index() };
        if upstream { n % 10 == 3 } else { n % 20 == 5 }
    };
    for (option, stream) in [("", "ping"), ("--keepalive", "keepalive"), ("--audio", "audio")] {
        let path = Path::to(address, loses);
        let line = "--count 40 --interval 2 --timeout 700ms --loss-direction --json";
        let ended = run(&format!("probe --to {} {option} {line}", path.address));
        let report = document::report(&ended);
        assert_eq!(losses(&report, stream), [json!(6), json!(4), json!(2)], "{report:#}");
        assert_eq!(
            report["loss_report"],
            json!({"response_received": true, "mapped_address": path.outside.to_string()})
        );
        assert_eq!((&report["stray"], ended.code), (&json!(0), 0));
    }
    // 0.2 s of AUDIO are 75 packets: 3, 13, … 73 upstream; 5, 25, 45, 65 downstream. The one ping and KEEPALIVE come back.
    let path = Path::to(address, loses);
    let line = "--tone 440 --duration 200ms --timeout 700ms --loss-direction";
    let ended = run(&format!("send --to {} {line} --json", path.address));
    let report = document::report(&ended);
    assert_eq!(losses(&report, "audio"), [json!(12), json!(8), json!(4)], "{report:#}");
    assert_eq!(losses(&report, "ping"), [json!(0), json!(0), json!(0)]);
    let text = run(&format!("send --to {} {line}", path.address)).stdout;
    assert!(text.contains("\nlost upstream                    8             0             0\n"), "{text}");
    assert!(text.contains(&format!("\nmapped address        {}\n", path.outside)), "{text}");
}

#[test]
fn packets_rejected_by_the_server_count_as_received_upstream() {
    let folder = tempfile::tempdir().unwrap();
    // A packet of 524 bytes counts 624: there is room for three at a time, each for 20 ms.
    let (_server, address) = echo_server(&folder, "--max-buffer-per-client 2000");
    let ended =
        run(&format!("probe --to {address} --audio --count 40 --interval 1 --timeout 700ms --loss-direction --json"));
    let report = document::report(&ended);
    let [lost, upstream, downstream] = losses(&report, "audio");
    assert!(lost.as_u64().unwrap() > 10 && lost == downstream && upstream == 0, "{report:#}");

    // What it loses on purpose too; the answers to the questions are spared.
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = echo_server(&folder, "--loss 30% --seed 3");
    let ended = run(&format!("probe --to {address} --count 60 --interval 1 --timeout 700ms --loss-direction --json"));
    let [lost, upstream, downstream] = losses(&document::report(&ended), "ping");
    assert!(lost.as_u64().unwrap() > 5 && lost == downstream && upstream == 0, "{lost} {upstream} {downstream}");
}

#[test]
fn server_that_ignores_stun_leaves_the_direction_unknown() {
    // One is silent, one returns the request, as an echo that ignores the version would.
    for action in [ServerAction::Silence, ServerAction::Answer] {
        let server = Server::that(move |packet| match (packet.version, packet.sequence) {
            (0, _) => action,
            (_, 3 | 4) => ServerAction::Silence,
            _ => ServerAction::Answer,
        });
        let line =
            format!("probe --to {} --keepalive --count 20 --interval 1 --timeout 300ms --loss-direction", server.to());
        let ended = run(&format!("{line} --json"));
        let report = document::report(&ended);
        assert_eq!(losses(&report, "keepalive"), [json!(2), Value::Null, Value::Null]);
        assert_eq!(report["loss_report"], json!({"response_received": false, "mapped_address": null}));
        assert_eq!(report["stray"], 0, "what comes before counting begins counts nowhere");
        // Three questions, then the packets, and no question at the end.
        let versions: Vec<u8> = server.received().iter().map(|packet| packet.version).collect();
        assert_eq!(versions, [vec![0; 3], vec![1; 20]].concat());
        let text = run(&line).stdout;
        let why =
            "warning: the direction of 2 lost KEEPALIVE packets is unknown: the server did not answer the request\n";
        assert!(text.contains("\nlost upstream              unknown\n") && text.contains(why), "{text}");
    }
}

#[test]
fn without_the_option_nothing_is_requested_and_a_warning_names_it() {
    let server = Server::that(|packet| if packet.sequence == 3 { ServerAction::Silence } else { ServerAction::Answer });
    let text = run(&format!("probe --to {} --keepalive --count 20 --interval 1 --timeout 300ms", server.to())).stdout;
    assert_eq!(text.matches("--loss-direction").count(), 1, "{text}");
    assert!(!text.contains("lost upstream") && !text.contains("mapped address"), "{text}");
    assert!(server.received().iter().all(|packet| packet.version == 1));
    assert_eq!(run("send --tone 440 --duration 10ms --embedded --no-echo --loss-direction").code, 2);
}

/// A server that answers pings from the second half of ten on, and each question by `lie`, which may use another socket.
fn liar(
    mut lie: impl FnMut(&[u8], &UdpSocket, SocketAddr) + Send + 'static,
) -> (SocketAddr, JoinHandle<()>, UdpSocket) {
    let (socket, stopper) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (address, stopped_by) = (socket.local_addr().unwrap(), stopper.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let datagram = &buffer[..len];
            if from == stopped_by {
                return;
            }
            if stun::is_question(datagram) {
                lie(datagram, &socket, from);
            } else if let Some(answer) = Packet::read(datagram).answer().filter(|answer| answer.sequence >= 5) {
                socket.send_to(&answer.bytes(), from).unwrap();
            }
        }
    });
    (address, thread, stopper)
}

#[test]
fn implausible_counters_are_ignored_or_clamped() {
    type Lie = fn(&[u8], &UdpSocket, SocketAddr, u32);
    let right = |question: &[u8], count: u32| {
        stun::response(&stun::transaction(question), &stun::received_counts(7, [count, count, count]))
    };
    let elsewhere: Lie = |question, _, to, _| {
        let answer = stun::response(&stun::transaction(question), &stun::received_counts(7, [0; 3]));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&answer, to).unwrap();
    };
    let transaction: Lie = |_, socket, to, _| {
        socket.send_to(&stun::response(&[9; 12], &stun::received_counts(7, [0; 3])), to).unwrap();
    };
    let cookie: Lie = |question, socket, to, _| {
        let mut answer = stun::response(&stun::transaction(question), &stun::received_counts(7, [0; 3]));
        answer[4] ^= 1;
        socket.send_to(&answer, to).unwrap();
    };
    for (name, lie) in [("elsewhere", elsewhere), ("transaction", transaction), ("cookie", cookie)] {
        let (address, thread, stopper) = liar(move |question, socket, to| lie(question, socket, to, 0));
        let ended =
            run(&format!("probe --to {address} --count 10 --interval 1 --timeout 300ms --loss-direction --json"));
        let report = document::report(&ended);
        assert_eq!(losses(&report, "ping"), [json!(5), Value::Null, Value::Null], "{name}");
        assert_eq!(report["loss_report"]["response_received"], false, "{name}");
        stopper.send_to(&[], address).unwrap();
        thread.join().unwrap();
    }
    for (first, then, expected) in [(0, 4_000_000_000, [5, 5, 0]), (4_000_000_000, 0, [5, 0, 5]), (7, 16, [5, 1, 4])] {
        let mut requested = BTreeMap::new();
        let (address, thread, stopper) = liar(move |question, socket, to| {
            let place = requested.len();
            let place = *requested.entry(stun::transaction(question)).or_insert(place);
            socket.send_to(&right(question, [first, then][place]), to).unwrap();
        });
        let ended =
            run(&format!("probe --to {address} --count 10 --interval 1 --timeout 300ms --loss-direction --json"));
        assert_eq!(losses(&document::report(&ended), "ping"), expected.map(Value::from), "{first} {then}");
        stopper.send_to(&[], address).unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn embedded_server_reports_its_counters() {
    let ended = run("send --tone 440 --duration 100ms --embedded --delay 5 --loss-direction --json");
    let report = document::report(&ended);
    assert_eq!((&report["loss_report"]["response_received"], ended.code), (&json!(true), 0));
    let seen_as: SocketAddr = report["loss_report"]["mapped_address"].as_str().unwrap().parse().unwrap();
    assert!(seen_as.ip().is_loopback());
    for stream in ["audio", "ping", "keepalive"] {
        assert_eq!(losses(&report, stream), [json!(0), json!(0), json!(0)]);
    }
}
