//! The echo server on a path with an MTU of 1,500, and against invalid datagrams.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use test_support::server::{
    BatchClient, Client, Server, Since, SpoofedSocket, TEST_TIMEOUT, VethCable, add_address, at, audio,
    in_network_namespace, keepalive, packet,
};

#[test]
fn server_without_options_behaves_as_documented() {
    in_network_namespace(|| {
        let mut server = Server::start_as(&[], |_| {});
        let line = server.line_starting_with("Echo server");
        assert_eq!(line.level_and_message(), ("INFO", "Echo server listening on 0.0.0.0:5000"));
        let client = Client::connect("127.0.0.1:5000".parse().unwrap());
        let sent = Since::now();
        assert_eq!(client.exchange(&audio(1, 512)), audio(1, 512));
        sent.assert_at_least(Duration::from_secs(3));
    });
}

#[test]
fn large_audio_returns_over_a_small_mtu() {
    in_network_namespace(|| {
        for driver in ["native", "portable"] {
            for (host, addresses) in [
                ("0.0.0.0", &["127.0.0.1"][..]),
                ("127.0.0.1", &["127.0.0.1"]),
                ("::1", &["::1"]),
                ("::", &["127.0.0.1", "::1"]),
            ] {
                let server = Server::start(&["--host", host, "-d", "0", "--driver", driver]);
                for ip in addresses {
                    let client = Client::connect(at(ip, server.address));
                    for (sequence, payload) in (0..).zip([1_460, 1_461, 7_680, 65_495]) {
                        let datagram = audio(sequence, payload);
                        assert!(client.exchange(&datagram) == datagram, "{payload} bytes by {ip} to {host} ({driver})");
                    }
                }
            }
        }
    });
}

#[test]
fn ipv6_reply_is_sent_from_the_requested_address() {
    in_network_namespace(|| {
        for host in ["fd00::2", "fd00::3"] {
            add_address(host.parse().unwrap());
        }
        let server = Server::start(&["--host", "::", "-d", "0"]);
        for host in ["fd00::2", "fd00::3", "::1", "127.0.0.2"] {
            assert_eq!(Client::connect(at(host, server.address)).exchange(&audio(1, 64)), audio(1, 64), "{host}");
        }
    });
}

/// Checks that 60 packets of equal length return, most of them in one segmented send.
fn assert_batches_are_sent(server: &Server, when: &str) {
    let packets: Vec<Vec<u8>> = (0..60).map(|sequence| audio(sequence, 500)).collect();
    let client = BatchClient::connect(at("127.0.0.1", server.address));
    client.send(&packets.concat(), 512);
    let (returned, largest) = client.recv(60);
    assert!(returned == packets, "{when}: other packets returned");
    assert!(largest > 30, "{when}: segmented sends are not used: the largest batch has {largest} packets");
}

#[test]
fn datagram_from_port_0_is_dropped_without_affecting_clients() {
    in_network_namespace(|| {
        let server = Server::start(&["-d", "0"]);
        assert_batches_are_sent(&server, "before");
        let (to, port_zero) = (at("127.0.0.1", server.address), SpoofedSocket::new("127.0.0.1:0".parse().unwrap()));
        for bytes in [audio(1, 64), packet(0x04, 2, &[]), packet(0x05, 3, &[0; 12]), vec![], vec![0; 5]] {
            port_zero.send(to, &bytes);
        }
        assert_batches_are_sent(&server, "after");
        let stats = server.stop("TERM").stats();
        assert_eq!(stats.count("dropped_port_zero"), 5, "{stats}");
        assert_eq!(stats.count("sent"), 120, "{stats}");
        assert_eq!(stats.arrivals(), 125, "{stats}");
    });
}

#[test]
fn broadcast_is_answered_without_affecting_clients() {
    in_network_namespace(|| {
        for host in ["0.0.0.0", "::"] {
            let server = Server::start(&["--host", host, "-d", "0"]);
            assert_batches_are_sent(&server, "before");
            for broadcast_address in ["255.255.255.255", "127.255.255.255"] {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.set_broadcast(true).unwrap();
                client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                client.send_to(&audio(1, 64), at(broadcast_address, server.address)).unwrap();
                let mut answer = [0; 100];
                let (len, from) =
                    client.recv_from(&mut answer).unwrap_or_else(|error| panic!("{broadcast_address}: {error}"));
                assert_eq!((&answer[..len], from.port()), (&audio(1, 64)[..], server.address.port()));
                assert_batches_are_sent(&server, broadcast_address);
            }
            let stats = server.stop("TERM").stats();
            assert_eq!((stats.count("sent"), stats.count("send_failed")), (3 * 60 + 2, 0), "{stats}");
        }
    });
}

/// `OURS` are this machine's addresses on the virtual cable. `OTHERS` are addresses of other machines.
const OURS: [&str; 2] = ["10.9.8.1", "fd09::1"];
const OTHERS: [&str; 2] = ["10.9.8.77", "fd09::77"];

/// The addresses at which a server listens.
const HOSTS: [&str; 6] = ["0.0.0.0", "::", "10.9.8.1", "fd09::1", "127.0.0.1", "::1"];

/// Sends datagrams from another machine to a server at `host`, with loopback, IPv4-mapped, unspecified and the server's own addresses as
/// source, and the port of the server or of a service that listens on all addresses.
///
/// Returns the number of packets that the server sent, how many it may send without a reply to a spoofed source, and the number of
/// datagrams that reached the service.
fn spoof_from_the_wire(cable: &VethCable, host: &str, driver: &str) -> (u64, RangeInclusive<u64>, u64) {
    let server = Server::start(&["--host", host, "-d", "0", "--driver", driver]);
    let service = UdpSocket::bind("[::]:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let ports = [server.address.port(), service.local_addr().unwrap().port()];
    let forged = "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1 ::ffff:127.9.9.9 ::ffff:10.9.8.1 ::ffff:10.9.8.77 0.0.0.0 :: ::ffff:0.0.0.0";
    let to = ["10.9.8.1", "fd09::1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:10.9.8.1"];
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let forge = |from: &str, port, to: &str, bytes: &[u8]| {
        if ip(from).is_ipv4() == ip(to).is_ipv4() {
            cable.send(SocketAddr::new(ip(from), port), at(to, server.address), bytes);
        }
    };
    let mut sequence = 0;
    for (from, to, port) in forged.split(' ').flat_map(|from| to.map(|to| ports.map(|port| (from, to, port)))).flatten()
    {
        sequence += 1;
        forge(from, port, to, &keepalive(sequence, &[]));
        forge(from, port, to, &audio(sequence, 64));
        forge(from, port, to, &packet(0x05, sequence, &[0; 12]));
    }
    for own in OURS {
        forge(own, ports[0], own, &keepalive(1_000, &[]));
        forge(own, ports[0], own, &audio(1_000, 64));
    }
    // Datagrams from addresses of other machines are answered if the server listens on their destination. So datagrams arrive.
    for (other, own) in OTHERS.into_iter().zip(OURS) {
        forge(other, 4_000, own, &keepalive(2_000, &[]));
        forge(other, 4_000, own, &audio(2_000, 64));
    }
    let reached = match host {
        "0.0.0.0" => at("127.0.0.1", server.address),
        "::" => at("::1", server.address),
        _ => server.address,
    };
    let synced = Client::connect(reached).sync();
    let true_source_replies = 2 * match host {
        "::" => 2,
        "0.0.0.0" | "10.9.8.1" | "fd09::1" => 1,
        _ => 0,
    };
    let mut reached_service = 0;
    while service.recv(&mut [0; 100]).is_ok() {
        reached_service += 1;
    }
    let stats = server.stop("TERM").stats();
    let sent = stats.count("sent") + stats.count("immediate_replies");
    // At least one of the KEEPALIVEs of `Client::sync` was answered.
    (sent, true_source_replies + 1..=true_source_replies + synced, reached_service)
}

fn assert_no_forged_source_gets_a_reply(cable: &VethCable) {
    for host in HOSTS {
        // Linux delivers some spoofed datagrams. Other kernels may deliver none.
        let (sent, expected, served) = spoof_from_the_wire(cable, host, "native");
        assert!(expected.contains(&sent), "{host}: {sent} packets were sent, expected {expected:?}");
        assert_eq!(served, 0, "{host}");
    }
}

#[test]
fn spoofed_source_gets_no_reply_even_if_the_system_routes_it() {
    in_network_namespace(|| {
        let cable = VethCable::new(&OURS.map(|address| address.parse().unwrap()));
        assert_no_forged_source_gets_a_reply(&cable);
        // Without the destination address, the portable driver cannot detect all spoofed sources. Its replies to them soon stop.
        for host in HOSTS {
            let (sent, ..) = spoof_from_the_wire(&cable, host, "portable");
            assert!(sent < 100, "{host}: {sent} packets");
        }
        // kube-proxy and Docker enable `route_localnet`. With the other two, the system accepts more spoofed sources.
        for (setting, value) in [("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")] {
            for interface in ["all", "near"] {
                let path = format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
                if let Err(error) = std::fs::write(&path, value) {
                    let _ = writeln!(std::io::stderr(), "SKIPPED: {path}: {error}");
                    return;
                }
            }
        }
        assert_no_forged_source_gets_a_reply(&cable);
    });
}

#[test]
fn moqt_sends_nothing_to_ipv4_sources_received_over_ipv6() {
    in_network_namespace(|| {
        let cable = VethCable::new(&OURS.map(|address| address.parse().unwrap()));
        let server = Server::start_as(&["--moqt-only", "--moqt", "[::]:0"], |_| {});
        let service = UdpSocket::bind("127.0.0.1:0").unwrap();
        service.set_nonblocking(true).unwrap();
        // A long header with an unknown version is answered with the list of supported versions (RFC 9000, section 6).
        let mut unknown_version =
            vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1];
        unknown_version.resize(1_200, 0);
        for _ in 0..10 {
            let forged = format!("[::ffff:127.0.0.1]:{}", service.local_addr().unwrap().port());
            cable.send(forged.parse().unwrap(), at("fd09::1", server.address), &unknown_version);
        }
        // A real client gets an answer over IPv4 and IPv6.
        for host in ["fd09::1", "10.9.8.1", "::1", "127.0.0.1"] {
            let answer = Client::connect(at(host, server.address)).exchange(&unknown_version);
            assert_eq!(answer[1..5], [0; 4], "{host}: version negotiation");
        }
        assert!(service.recv(&mut [0; 2_000]).is_err(), "a datagram was sent to a service on 127.0.0.1");
    });
}
