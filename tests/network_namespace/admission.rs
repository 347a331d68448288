//! Reflection attacks on the echo server: replies to spoofed sources, observed from outside the process.

#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_support::server;

use server::client::{Client, at};
use server::line::Stats;
use server::namespace::{add_address, in_network_namespace};
use server::packet::{audio, keepalive, packet};
use server::process::{self, Server};
use server::spoofing::SpoofedSocket;

/// A server at `host` whose limits also apply to loopback.
fn limited(host: &str, delay: &str) -> Server {
    Server::start(&["--host", host, "-d", delay, "--limit-loopback"])
}

/// Two servers and one spoofed datagram: runs until the first server stops replying. Returns the final statistics.
fn run_reply_loop(datagram: &[u8], mut first: Server, second: Server) -> (Stats, Stats) {
    let (here, there) = (first.address, second.address);
    let forged = Instant::now();
    SpoofedSocket::new(there).send(here, datagram);
    let line = first.line_starting_with(&format!(
        "echo: repeated packets dropped: possible echo loop last_source={there} newly_dropped="
    ));
    assert_eq!(line.level, "WARN");
    println!("silent {:?} after the forged datagram", forged.elapsed());
    // The reply loop has ended: no packet in flight causes another reply.
    (first.stop("TERM").stats(), second.stop("TERM").stats())
}

#[test]
fn reply_loop_between_two_servers_ends() {
    in_network_namespace("reply_loop_between_two_servers_ends", || {
        for delay in ["0", "100"] {
            let pair = || (limited("127.0.0.1", delay), limited("127.0.0.2", delay));
            let (first, second) = pair();
            let (first, second) = run_reply_loop(&audio(1, 512), first, second);
            assert_eq!((first.count("sent"), first.count("dropped_repeated")), (3, 1), "{delay}: {first}");
            assert_eq!((second.count("sent"), second.count("dropped_repeated")), (3, 0), "{delay}: {second}");

            let (first, second) = pair();
            let (first, second) = run_reply_loop(&keepalive(1, b"are you there?"), first, second);
            // The first server answers the third KEEPALIVE with a loop check. After the loop check has returned, the first server does not
            // answer the second server any more.
            assert_eq!((first.count("keepalives"), first.count("loop_checks")), (2, 1), "{delay}: {first}");
            assert!(first.count("dropped_repeated") >= 1, "{delay}: {first}");
            // The other server also answers the loop check.
            assert_eq!(second.count("keepalives"), 3, "{delay}: {second}");
        }
    });
}

#[test]
fn server_does_not_reply_to_its_own_address() {
    in_network_namespace("server_does_not_reply_to_its_own_address", || {
        for datagram in [audio(1, 512), keepalive(1, &[])] {
            let server = Server::start(&["--host", "127.0.0.1", "-d", "0"]);
            SpoofedSocket::new(server.address).send(server.address, &datagram);
            let synced = Client::connect(server.address).sync();
            let stats = server.stop("TERM").stats();
            assert_eq!((stats.count("sent"), stats.count("immediate_replies")), (0, synced), "{stats}");
            assert_eq!(stats.count("dropped_invalid_source"), 1, "{stats}");
        }
    });
}

#[test]
fn loopback_reply_loop_is_stopped_only_if_configured() {
    in_network_namespace("loopback_reply_loop_is_stopped_only_if_configured", || {
        let mut server = Server::start(&["--host", "127.0.0.1", "-d", "1", "--stats-interval", "20ms"]);
        let other = Server::start(&["--host", "127.0.0.2", "-d", "1"]);
        SpoofedSocket::new(other.address).send(server.address, &audio(1, 512));
        while Stats::parse(&server.line_starting_with("Stats: ")).count("sent") < 100 {}
        let stats = server.stop("TERM").stats();
        assert_eq!(stats.count("dropped_repeated"), 0, "{stats}");
    });
}

/// The kernel's drop counter of a socket.
fn drops_of(socket: &UdpSocket) -> u64 {
    let SocketAddr::V4(here) = socket.local_addr().unwrap() else { panic!("an IPv4 address") };
    let here = format!("{:08X}:{:04X}", u32::from_ne_bytes(here.ip().octets()), here.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&here)).expect("the socket");
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// The result of a flood.
struct Flood {
    stats: Stats,
    /// Number of datagrams sent with the victim's address, and number of replies that reached the victim.
    forged: u64,
    reached: u64,
    took: Duration,
    /// The exit code of the real client, and its report.
    client: (Option<i32>, serde_json::Value),
}

/// A client sends 2 s of audio. Meanwhile, an attacker sends 40,000 datagrams per second with the source address of a victim.
fn flood() -> Flood {
    let options = ["--host", "10.9.0.1", "-d", "100", "--socket-buffer", "8MiB", "--stats-interval", "off"];
    let server = Server::start(&options);
    let victim = UdpSocket::bind("10.9.0.2:4000").unwrap();
    victim.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let raw = SpoofedSocket::new(victim.local_addr().unwrap());
    let (ended, over, read) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let address = server.address;
    let began = Instant::now();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut buffer = [0; 2_000];
            // Reads until the server has ended and no packet is left.
            while victim.recv(&mut buffer).is_ok() || !over.load(Ordering::Acquire) {
                read.fetch_add(1, Ordering::Relaxed);
            }
        });
        let spoofing = scope.spawn(|| {
            let mut number = 0;
            while !ended.load(Ordering::Acquire) {
                for _ in 0..40 {
                    number += 1;
                    let bytes = match number % 4 {
                        0 => keepalive(number, &[]),
                        1 => packet(0x05, number, &[7; 12]),
                        _ => audio(number, 64),
                    };
                    raw.send(address, &bytes);
                }
                thread::park_timeout(Duration::from_millis(1));
            }
            u64::from(number)
        });
        let to = address.to_string();
        let client = process::run(
            &[
                "send",
                "--tone",
                "440",
                "--duration",
                "2s",
                "--to",
                &to,
                "--delay",
                "100ms",
                "--max-loss",
                "0%",
                "--json",
            ],
            |_| {},
        );
        ended.store(true, Ordering::Release);
        let forged = spoofing.join().unwrap();
        let stats = server.stop("TERM").stats();
        over.store(true, Ordering::Release);
        receiving.join().unwrap();
        let reached = read.load(Ordering::Relaxed) + drops_of(&victim);
        let report = serde_json::from_slice(&client.stdout).expect("a report");
        Flood { stats, forged, reached, took: began.elapsed(), client: (client.status.code(), report) }
    })
}

#[test]
fn spoofed_flood_is_answered_up_to_the_limit_without_harming_clients() {
    in_network_namespace("spoofed_flood_is_answered_up_to_the_limit_without_harming_clients", || {
        for host in ["10.9.0.1", "10.9.0.2"] {
            add_address(host.parse().unwrap());
        }
        for _ in 0..5 {
            let Flood { stats, forged, reached, took, client: (code, report) } = flood();
            let returned = report["streams"]["audio"]["returned"].as_u64().unwrap();
            println!("{forged} forged in {took:?}, {reached} reached the victim, {returned} the client: {stats}");
            // The limit is 8,000 packets per second. The maximum burst is a quarter of a second, or 2,000 packets.
            assert!(reached as f64 <= 8_000.0 * took.as_secs_f64() + 2_000.0, "{reached} in {took:?}");
            assert!(reached > 2_000 && stats.count("dropped_packet_rate") > 0, "{stats}");
            if stats.count("kernel_dropped") == 0 {
                // All other packets belong to the client: AUDIO, one KEEPALIVE per second, and the responses to its queries.
                let own =
                    stats.count("sent") + stats.count("immediate_replies") - reached - stats.count("stun_requests");
                assert!((754..=756).contains(&own), "{own}: {stats}");
                assert_eq!((returned, code), (750, Some(0)), "{report:#}");
                return;
            }
            // The machine was so busy that the kernel dropped packets, which may have belonged to the client.
        }
        panic!("this machine is too busy for a flood");
    });
}

#[test]
fn address_on_the_network_may_hold_half_of_the_buffer() {
    in_network_namespace("address_on_the_network_may_hold_half_of_the_buffer", || {
        add_address("10.9.0.1".parse().unwrap());
        let options =
            ["--host", "10.9.0.1", "-d", "1h", "--max-bitrate-per-source", "400mbit", "--max-buffer", "240MiB"];
        let server = Server::start(&options);
        let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.address)).collect();
        // 100 clients send 50 packets per second each, of 7,680 bytes, for 3 s. On a busy machine, they wait for the server.
        let (mut due, mut syncs) = (Instant::now(), 0);
        for datagram in (0..150).map(|sequence| audio(sequence, 7_668)) {
            for few in clients.chunks_mut(10) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due = Instant::now() + Duration::from_millis(2);
                for client in &*few {
                    client.send(&datagram);
                }
                syncs += few[0].sync();
            }
        }
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.count("dropped_at_stop")), (15_000, 15_000), "{stats}");
        assert_eq!(stats.arrivals(), 15_000 + syncs, "{stats}");
    });
}

#[test]
fn flood_is_logged_once_per_second() {
    in_network_namespace("flood_is_logged_once_per_second", || {
        let server = Server::start(&[
            "--host",
            "127.0.0.1",
            "-d",
            "0",
            "--limit-loopback",
            "--max-bitrate-per-source",
            "64kbit",
        ]);
        let mut client = Client::connect(server.address);
        let began = Instant::now();
        for sequence in 0..200 {
            client.send(&audio(sequence, 64));
        }
        let syncs = client.sync();
        let took = began.elapsed();
        let ended = server.stop("TERM");
        let lines: Vec<_> =
            ended.lines.iter().filter(|line| line.contains(" WARN echo: rate limit exceeded ")).collect();
        assert!(!lines.is_empty() && lines.len() as u64 <= took.as_secs() + 1, "{took:?}: {lines:#?}");
        assert!(
            lines[0].contains(&format!(" last_source={} dropped_packet_rate_total=", client.address())),
            "{lines:#?}"
        );
        let stats = ended.stats();
        assert_eq!(stats.arrivals(), 200 + syncs, "{stats}");
        assert!(
            stats.count("received") >= 1 && stats.count("received") as f64 <= 1.0 + 8.0 * took.as_secs_f64(),
            "{stats}"
        );
    });
}

#[test]
fn source_outside_allow_gets_no_reply_and_is_counted() {
    let options = ["--host", "0.0.0.0", "-d", "0", "--allow", "127.0.0.2,127.0.0.8/29", "--allow", "::1"];
    let server = Server::start(&options);
    let from = |host: &str| {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.connect(at("127.0.0.1", server.address)).unwrap();
        socket
    };
    for host in ["127.0.0.1", "127.0.0.3", "127.0.0.16"] {
        from(host).send(&keepalive(1, &[])).unwrap();
    }
    for host in ["127.0.0.2", "127.0.0.8", "127.0.0.15"] {
        let socket = from(host);
        socket.set_read_timeout(Some(server::TEST_TIMEOUT)).unwrap();
        socket.send(&keepalive(2, &[])).unwrap();
        let mut answer = [0; 100];
        assert_eq!(socket.recv(&mut answer).unwrap(), 12, "{host}");
    }
    let stats = server.stop("TERM").stats();
    assert_eq!(
        (stats.count("dropped_not_allowed"), stats.count("immediate_replies"), stats.arrivals()),
        (3, 3, 6),
        "{stats}"
    );
}

#[test]
fn invalid_limits_are_usage_errors() {
    for (options, message) in [
        (["--allow", "192.0.2.7/24"], "use 192.0.2.0/24 for the network or 192.0.2.7 for the single address"),
        (["--allow", "10.0.0.0/33"], "`10.0.0.0/33`: the prefix length must be a number of bits, at most 32"),
        (["--allow", "studio.example.org"], "`studio.example.org` is not a network; expected 192.0.2.0/24"),
        (["--allow", "10.0.0.0/8,,::1"], "`` is not a network"),
        (["--max-bitrate-per-source", "0"], "--max-bitrate-per-source 0 would drop every packet; give a rate, or off"),
        (["--max-bitrate-per-source", "8MB"], "unknown unit `MB`; expected bit, kbit, mbit or gbit"),
    ] {
        let output = process::run(&[&["echo-server", "--port", "0"], &options[..]].concat(), |_| {});
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {stderr}");
        assert!(stderr.contains(message), "{options:?}: {stderr}");
    }
}

#[test]
fn limits_can_be_disabled() {
    in_network_namespace("limits_can_be_disabled", || {
        let off = ["--max-bitrate-per-source", "off"];
        let server = Server::start(&[&["--host", "127.0.0.1", "-d", "0", "--limit-loopback"], &off[..]].concat());
        let mut client = Client::connect(server.address);
        let mut syncs = 0;
        for sequence in 0..20_000 {
            client.send(&audio(sequence, 16));
            if sequence % 32 == 31 {
                syncs += client.sync();
            }
        }
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.arrivals()), (20_000, 20_000 + syncs), "{stats}");
    });
}
