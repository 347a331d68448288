//! Tests `--loss-direction` on the command line. The real echo server is behind a path that loses packets in a known direction. Some test
//! servers do not answer the request for packet counts. Other test servers send false packet counts.

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

/// A path to a server and back. The path drops only the packets that `loses(upstream, packet)` selects.
struct Path {
    /// The address to which the client sends.
    address: SocketAddr,
    /// The client's address from the server's point of view.
    outside: SocketAddr,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Path {
    fn to(server: SocketAddr, loses: impl Fn(bool, &Packet) -> bool + Clone + Send + 'static) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (inner, outer) = (Arc::new(socket()), Arc::new(socket()));
        let (address, outside) = (inner.local_addr().unwrap(), outer.local_addr().unwrap());
        let stopped = Arc::<AtomicBool>::default();
        let client = Arc::new(std::sync::Mutex::new(None));
        let thread = |upstream: bool| {
            let (from, to) = if upstream { (&inner, &outer) } else { (&outer, &inner) };
            let (from, to, stopped, client) =
                (Arc::clone(from), Arc::clone(to), Arc::clone(&stopped), Arc::clone(&client));
            let loses = loses.clone();
            from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !stopped.load(Ordering::Relaxed) {
                    let Ok((len, peer)) = from.recv_from(&mut buffer) else { continue };
                    if upstream {
                        *client.lock().unwrap() = Some(peer);
                    }
                    let destination = if upstream { Some(server) } else { *client.lock().unwrap() };
                    let packet = Packet::read(&buffer[..len]);
                    let is_stun = packet.version == 0 || buffer[4..8] == [0x21, 0x12, 0xa4, 0x42];
                    if let Some(destination) = destination.filter(|_| is_stun || !loses(upstream, &packet)) {
                        // The error from a client that has ended is ignored.
                        let _ = to.send_to(&buffer[..len], destination);
                    }
                }
            })
        };
        let threads = vec![thread(true), thread(false)];
        Self { address, outside, stopped, threads }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let output = thread.join();
            assert!(std::thread::panicking() || output.is_ok());
        }
    }
}

/// The numbers of packets that were lost, lost upstream and lost downstream.
fn losses(report: &Value, stream: &str) -> [Value; 3] {
    ["lost", "lost_upstream", "lost_downstream"].map(|name| report["streams"][stream][name].clone())
}

#[test]
fn loss_direction_matches_where_the_path_dropped_packets() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = echo_server(&folder, "");
    // Of 40 packets, numbers 3, 13, 23 and 33 are lost upstream, and 5 and 25 downstream.
    let loses = |upstream: bool, packet: &Packet| {
        let n = if matches!(packet.kind, 5 | 6) { packet.sequence } else { packet.index() };
        if upstream { n % 10 == 3 } else { n % 20 == 5 }
    };
    for (option, stream) in [("", "ping"), ("--packet keepalive", "keepalive"), ("--packet audio", "audio")] {
        let path = Path::to(address, loses);
        let line = "--count 40 --interval 2ms --timeout 700ms --loss-direction --json";
        let output = run(&format!("probe --to {} {option} {line}", path.address));
        let report = document::report(&output);
        assert_eq!(losses(&report, stream), [json!(6), json!(4), json!(2)], "{report:#}");
        assert_eq!(
            report["loss_report"],
            json!({"response_received": true, "mapped_address": path.outside.to_string()})
        );
        assert_eq!((&report["stray"], output.code), (&json!(0), 0));
    }
    // 0.2 s of AUDIO are 75 packets. Numbers 3, 13, … 73 are lost upstream, and 5, 25, 45 and 65 downstream. The ping and the KEEPALIVE
    // return.
    let path = Path::to(address, loses);
    let line = "--tone 440 --duration 200ms --timeout 700ms --loss-direction";
    let output = run(&format!("send --to {} {line} --json", path.address));
    let report = document::report(&output);
    assert_eq!(losses(&report, "audio"), [json!(12), json!(8), json!(4)], "{report:#}");
    assert_eq!(losses(&report, "ping"), [json!(0), json!(0), json!(0)]);
    let text = run(&format!("send --to {} {line} --verbose", path.address)).stdout;
    assert!(text.contains("\nlost upstream                    8             0             0\n"), "{text}");
    assert!(text.contains(&format!("\nmapped address        {}\n", path.outside)), "{text}");
}

#[test]
fn packets_rejected_by_the_server_count_as_received_upstream() {
    let folder = tempfile::tempdir().unwrap();
    // A packet of 524 bytes is charged 624 bytes. Therefore, two fifths of the buffer, 2,000 bytes, hold three packets at a time. Each packet stays in
    // the buffer for the delay of 20 ms.
    let (_server, address) = echo_server(&folder, "--max-buffer 5000");
    let output = run(&format!(
        "probe --to {address} --packet audio --count 40 --interval 1ms --timeout 700ms --loss-direction --json"
    ));
    let report = document::report(&output);
    let [lost, upstream, downstream] = losses(&report, "audio");
    assert!(lost.as_u64().unwrap() > 10 && lost == downstream && upstream == 0, "{report:#}");

    // The server also counts packets that it received and whose replies `--loss` drops. Loss report responses are never impaired.
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = echo_server(&folder, "--loss 30% --seed 3");
    let output =
        run(&format!("probe --to {address} --count 60 --interval 1ms --timeout 700ms --loss-direction --json"));
    let [lost, upstream, downstream] = losses(&document::report(&output), "ping");
    assert!(lost.as_u64().unwrap() > 5 && lost == downstream && upstream == 0, "{lost} {upstream} {downstream}");
}

#[test]
fn server_that_ignores_stun_leaves_the_direction_unknown() {
    // One server never answers the loss report request. The other server returns the request unchanged, like an echo server that does not
    // check the version.
    for action in [ServerAction::Silence, ServerAction::Reply] {
        let server = Server::with_actions(move |packet| match (packet.version, packet.sequence) {
            (0, _) => action,
            (_, 3 | 4) => ServerAction::Silence,
            _ => ServerAction::Reply,
        });
        let line = format!(
            "probe --to {} --packet keepalive --count 20 --interval 1ms --timeout 300ms --loss-direction",
            server.to()
        );
        let output = run(&format!("{line} --json"));
        let report = document::report(&output);
        assert_eq!(losses(&report, "keepalive"), [json!(2), Value::Null, Value::Null]);
        assert_eq!(report["loss_report"], json!({"response_received": false, "mapped_address": null}));
        assert_eq!(report["stray"], 0, "packets before the start of counting are not counted");
        // The server receives three requests at the start, and no request at the end.
        assert_eq!((server.queries(), server.received().len()), (3, 20));
        let text = run(&line).stdout;
        let why = "warning: the direction of 2 lost KEEPALIVE packets is unknown: the server did not answer the requests for its \
                   packet counts\n";
        assert!(text.contains("\nlost upstream              unknown\n") && text.contains(why), "{text}");
    }
}

#[test]
fn without_the_option_no_direction_is_reported_and_a_warning_names_it() {
    let server =
        Server::with_actions(|packet| if packet.sequence == 3 { ServerAction::Silence } else { ServerAction::Reply });
    let text =
        run(&format!("probe --to {} --packet keepalive --count 20 --interval 1ms --timeout 300ms", server.to())).stdout;
    assert_eq!(text.matches("--loss-direction").count(), 1, "{text}");
    assert!(!text.contains("lost upstream") && !text.contains("mapped address"), "{text}");
    assert_eq!(run("send --tone 440 --duration 10ms --embedded --no-echo --loss-direction").code, 2);
}

/// A server that answers all pings except those with sequence numbers 0 to 4. For each STUN request, the server calls `respond`, which may
/// send the response from another socket.
fn false_report_server(
    mut respond: impl FnMut(&[u8], &UdpSocket, SocketAddr) + Send + 'static,
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
            if stun::is_loss_report_request(datagram) {
                respond(datagram, &socket, from);
            } else if let Some(reply) = Packet::read(datagram).reply().filter(|reply| reply.sequence >= 5) {
                socket.send_to(&reply.bytes(), from).unwrap();
            }
        }
    });
    (address, thread, stopper)
}

#[test]
fn implausible_counters_are_ignored_or_clamped() {
    type Respond = fn(&[u8], &UdpSocket, SocketAddr, u32);
    let right = |request: &[u8], count: u32| {
        stun::response(&stun::transaction(request), &stun::received_counts(7, [count, count, count]))
    };
    let elsewhere: Respond = |request, _, to, _| {
        let reply = stun::response(&stun::transaction(request), &stun::received_counts(7, [0; 3]));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&reply, to).unwrap();
    };
    let transaction: Respond = |_, socket, to, _| {
        socket.send_to(&stun::response(&[9; 12], &stun::received_counts(7, [0; 3])), to).unwrap();
    };
    let cookie: Respond = |request, socket, to, _| {
        let mut reply = stun::response(&stun::transaction(request), &stun::received_counts(7, [0; 3]));
        reply[4] ^= 1;
        socket.send_to(&reply, to).unwrap();
    };
    for (name, respond) in [("elsewhere", elsewhere), ("transaction", transaction), ("cookie", cookie)] {
        let (address, thread, stopper) =
            false_report_server(move |request, socket, to| respond(request, socket, to, 0));
        let output =
            run(&format!("probe --to {address} --count 10 --interval 1ms --timeout 300ms --loss-direction --json"));
        let report = document::report(&output);
        assert_eq!(losses(&report, "ping"), [json!(5), Value::Null, Value::Null], "{name}");
        assert_eq!(report["loss_report"]["response_received"], false, "{name}");
        stopper.send_to(&[], address).unwrap();
        thread.join().unwrap();
    }
    for (first, then, expected) in [(0, 4_000_000_000, [5, 5, 0]), (4_000_000_000, 0, [5, 0, 5]), (7, 16, [5, 1, 4])] {
        let mut requested = BTreeMap::new();
        let (address, thread, stopper) = false_report_server(move |request, socket, to| {
            let index = requested.len();
            let index = *requested.entry(stun::transaction(request)).or_insert(index);
            socket.send_to(&right(request, [first, then][index]), to).unwrap();
        });
        let output =
            run(&format!("probe --to {address} --count 10 --interval 1ms --timeout 300ms --loss-direction --json"));
        assert_eq!(losses(&document::report(&output), "ping"), expected.map(Value::from), "{first} {then}");
        stopper.send_to(&[], address).unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn embedded_server_reports_its_counters() {
    let output = run("send --tone 440 --duration 100ms --embedded --delay 5 --loss-direction --json");
    let report = document::report(&output);
    assert_eq!((&report["loss_report"]["response_received"], output.code), (&json!(true), 0));
    let seen_as: SocketAddr = report["loss_report"]["mapped_address"].as_str().unwrap().parse().unwrap();
    assert!(seen_as.ip().is_loopback());
    for stream in ["audio", "ping", "keepalive"] {
        assert_eq!(losses(&report, stream), [json!(0), json!(0), json!(0)]);
    }
}
