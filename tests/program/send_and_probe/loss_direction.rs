//! `--loss-direction` on the command line. The real echo server is behind a path that loses packets in a known direction. Another server does
//! not answer the request for packet counts.

#![cfg(unix)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use test_support::client::packet::Packet;
use test_support::client::program::run;
use test_support::client::server::{Server, ServerAction};
use test_support::server::process::Server as EchoServer;

use crate::send_and_probe::report;

/// A path to a server and back, which drops the packets that `loses(upstream, packet)` selects, until the test program ends.
struct Path {
    /// The address to which the client sends.
    address: SocketAddr,
    /// The client's address from the server's point of view.
    outside: SocketAddr,
}

impl Path {
    fn to(server: SocketAddr, loses: impl Fn(bool, &Packet) -> bool + Clone + Send + 'static) -> Self {
        let [inner, outer] = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let (address, outside) = (inner.local_addr().unwrap(), outer.local_addr().unwrap());
        let client = Arc::new(Mutex::new(None));
        for upstream in [true, false] {
            let (from, to) = if upstream { (&inner, &outer) } else { (&outer, &inner) };
            let (from, to, client, loses) = (Arc::clone(from), Arc::clone(to), Arc::clone(&client), loses.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                loop {
                    // The error of a client that has ended is ignored.
                    let Ok((len, peer)) = from.recv_from(&mut buffer) else { continue };
                    if upstream {
                        *client.lock().unwrap() = Some(peer);
                    }
                    let destination = if upstream { Some(server) } else { *client.lock().unwrap() };
                    let packet = Packet::read(&buffer[..len]);
                    let is_stun = packet.version == 0 || buffer[4..8] == [0x21, 0x12, 0xa4, 0x42];
                    if let Some(destination) = destination.filter(|_| is_stun || !loses(upstream, &packet)) {
                        let _ = to.send_to(&buffer[..len], destination);
                    }
                }
            });
        }
        Self { address, outside }
    }
}

/// The numbers of packets that were lost, lost upstream and lost downstream.
fn losses(report: &Value, stream: &str) -> [Value; 3] {
    ["lost", "lost_upstream", "lost_downstream"].map(|name| report["streams"][stream][name].clone())
}

#[test]
fn loss_direction_matches_where_the_path_dropped_packets() {
    let server = EchoServer::start(&["--host", "127.0.0.1", "--delay", "20"]);
    // Of 40 packets, numbers 3, 13, 23 and 33 are lost upstream, and 5 and 25 downstream.
    let loses = |upstream: bool, packet: &Packet| {
        let n = if matches!(packet.kind, 5 | 6) { packet.sequence } else { packet.index() };
        if upstream { n % 10 == 3 } else { n % 20 == 5 }
    };
    for (option, stream) in [("", "ping"), ("--packet keepalive", "keepalive"), ("--packet audio", "audio")] {
        let path = Path::to(server.address, loses);
        let line = format!("probe --to {} {option} --count 40 --interval 2ms", path.address);
        let report = report(0, &format!("{line} --timeout 700ms --loss-direction"));
        assert_eq!(losses(&report, stream), [json!(6), json!(4), json!(2)], "{report:#}");
        let mapped = json!({"response_received": true, "mapped_address": path.outside.to_string()});
        assert_eq!((&report["loss_report"], &report["stray"]), (&mapped, &json!(0)));
    }
    // 0.2 s of AUDIO are 75 packets. Numbers 3, 13, … 73 are lost upstream, and 5, 25, 45 and 65 downstream. The ping and the KEEPALIVE
    // return.
    let path = Path::to(server.address, loses);
    let line = format!("send --to {} --tone 440 --duration 200ms --timeout 700ms --loss-direction", path.address);
    let report = report(0, &line);
    assert_eq!(losses(&report, "audio"), [json!(12), json!(8), json!(4)], "{report:#}");
    assert_eq!(losses(&report, "ping"), [json!(0), json!(0), json!(0)]);
}

#[test]
fn server_that_ignores_stun_leaves_the_direction_unknown() {
    let server = Server::with_actions(move |packet| match packet.sequence {
        3 | 4 => ServerAction::Silence,
        _ => ServerAction::Reply,
    });
    let line = format!("probe --to {} --packet keepalive --count 20 --interval 1ms --timeout 300ms", server.to());
    let unknown = report(0, &format!("{line} --loss-direction"));
    assert_eq!(losses(&unknown, "keepalive"), [json!(2), Value::Null, Value::Null]);
    assert_eq!(unknown["loss_report"], json!({"response_received": false, "mapped_address": null}));
    // The server receives three requests at the start, and no request at the end.
    assert_eq!((server.queries(), server.received().len()), (3, 20));
    // Without the option, a warning names it.
    let text = run(&line).stdout;
    assert_eq!(text.matches("--loss-direction").count(), 1, "{text}");
    assert!(!text.contains("lost upstream") && !text.contains("mapped address"), "{text}");
}
