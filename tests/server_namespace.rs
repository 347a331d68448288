//! The echo server on a path with an MTU of 1,500, and against datagrams that nobody should send.

#![cfg(target_os = "linux")]

mod server;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use server::client::{Client, at};
use server::forged::Forger;
use server::namespace::{add_address, inside};
use server::packet::{audio, packet};
use server::process::Server;
use server::train::TrainClient;

#[test]
fn without_options_it_is_the_server_that_the_documentation_promises() {
    inside("without_options_it_is_the_server_that_the_documentation_promises", || {
        let mut server = Server::start_as(&[], |_| {});
        let line = server.line_that_begins("Echo server");
        assert_eq!(line.said(), ("INFO", "Echo server listening on 0.0.0.0:5000"));
        let client = Client::of("127.0.0.1:5000".parse().unwrap());
        let sent = Instant::now();
        assert_eq!(client.ask(&audio(1, 512)), audio(1, 512));
        let took = sent.elapsed();
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(6), "{took:?}");
    });
}

#[test]
fn large_audio_comes_back_over_a_small_mtu() {
    inside("large_audio_comes_back_over_a_small_mtu", || {
        for driver in ["native", "portable"] {
            for (host, asked) in [
                ("0.0.0.0", &["127.0.0.1"][..]),
                ("127.0.0.1", &["127.0.0.1"]),
                ("::1", &["::1"]),
                ("::", &["127.0.0.1", "::1"]),
            ] {
                let server = Server::start(&["--host", host, "-d", "0", "--driver", driver]);
                for ip in asked {
                    let client = Client::of(at(ip, server.address));
                    for (sequence, payload) in (0..).zip([1_460, 1_461, 7_680, 65_495]) {
                        let datagram = audio(sequence, payload);
                        assert!(client.ask(&datagram) == datagram, "{payload} bytes by {ip} to {host} ({driver})");
                    }
                }
            }
        }
    });
}

#[test]
fn an_ipv6_answer_comes_from_the_address_that_was_asked() {
    inside("an_ipv6_answer_comes_from_the_address_that_was_asked", || {
        for host in ["fd00::2", "fd00::3"] {
            add_address(host.parse().unwrap());
        }
        let server = Server::start(&["--host", "::", "-d", "0"]);
        for host in ["fd00::2", "fd00::3", "::1", "127.0.0.2"] {
            assert_eq!(Client::of(at(host, server.address)).ask(&audio(1, 64)), audio(1, 64), "{host}");
        }
    });
}

/// Whether 60 equal packets come back, most of them in one segmented send.
fn assert_trains_leave(server: &Server, when: &str) {
    let packets: Vec<Vec<u8>> = (0..60).map(|sequence| audio(sequence, 500)).collect();
    let client = TrainClient::of(at("127.0.0.1", server.address));
    client.send(&packets.concat(), 512);
    let (came, largest) = client.recv(60);
    assert!(came == packets, "{when}: other packets came");
    assert!(largest > 30, "{when}: segmented sends are off, the largest train has {largest} packets");
}

#[test]
fn a_datagram_from_port_0_is_dropped_and_harms_nobody() {
    inside("a_datagram_from_port_0_is_dropped_and_harms_nobody", || {
        let server = Server::start(&["-d", "0"]);
        assert_trains_leave(&server, "before");
        let (to, nobody) = (at("127.0.0.1", server.address), Forger::of("127.0.0.1:0".parse().unwrap()));
        for bytes in [audio(1, 64), packet(0x04, 2, &[]), packet(0x05, 3, &[0; 12]), vec![], vec![0; 5]] {
            nobody.send(to, &bytes);
        }
        assert_trains_leave(&server, "after");
        let stats = server.stop("TERM").stats();
        assert_eq!(stats.count("dropped_port_zero"), 5, "{stats}");
        assert_eq!(stats.count("sent"), 120, "{stats}");
        assert_eq!(stats.arrivals(), 125, "{stats}");
    });
}

#[test]
fn a_broadcast_is_answered_and_harms_nobody() {
    inside("a_broadcast_is_answered_and_harms_nobody", || {
        for host in ["0.0.0.0", "::"] {
            let server = Server::start(&["--host", host, "-d", "0"]);
            assert_trains_leave(&server, "before");
            for everybody in ["255.255.255.255", "127.255.255.255"] {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.set_broadcast(true).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                client.send_to(&audio(1, 64), at(everybody, server.address)).unwrap();
                let mut answer = [0; 100];
                let (len, from) = client.recv_from(&mut answer).unwrap_or_else(|error| panic!("{everybody}: {error}"));
                assert_eq!((&answer[..len], from.port()), (&audio(1, 64)[..], server.address.port()));
                assert_trains_leave(&server, everybody);
            }
            let stats = server.stop("TERM").stats();
            assert_eq!((stats.count("sent"), stats.count("send_failed")), (3 * 60 + 2, 0), "{stats}");
        }
    });
}
