//! Reflection attacks on the echo server: replies to spoofed sources, observed from outside the process.

use std::net::UdpSocket;

use test_support::server::{Client, Server, SpoofedSocket, TEST_TIMEOUT, at, audio, in_network_namespace, keepalive};

#[test]
fn reply_loop_between_two_servers_ends() {
    in_network_namespace(|| {
        for datagram in [audio(1, 512), keepalive(1, b"are you there?")] {
            // The limits also apply to loopback.
            let start = |host| Server::start(&["--host", host, "-d", "0", "--limit-loopback"]);
            let (mut first, second) = (start("127.0.0.1"), start("127.0.0.2"));
            SpoofedSocket::new(second.address).send(first.address, &datagram);
            let warning = "echo: repeated packets dropped: possible echo loop";
            let line = first.line_starting_with(&format!("{warning} last_source={} newly_dropped=", second.address));
            assert_eq!(line.level, "WARN");
            // The reply loop has ended: no packet in flight causes another reply.
            let (first, second) = (first.stop("TERM").stats(), second.stop("TERM").stats());
            if datagram == audio(1, 512) {
                assert_eq!((first.count("sent"), first.count("dropped_repeated")), (3, 1), "{first}");
                assert_eq!((second.count("sent"), second.count("dropped_repeated")), (3, 0), "{second}");
            } else {
                // The first server answers the third KEEPALIVE with a loop check. When it returns, the first answers no more.
                assert_eq!((first.count("keepalives"), first.count("loop_checks")), (2, 1), "{first}");
                assert!(first.count("dropped_repeated") >= 1, "{first}");
                assert_eq!(second.count("keepalives"), 3, "{second}");
            }
        }
    });
}

#[test]
fn flood_is_limited_and_logged_seldom_unless_limits_are_off() {
    in_network_namespace(|| {
        for rate in ["64kbit", "off"] {
            let options = ["-d", "0", "--limit-loopback", "--max-bitrate-per-source", rate];
            let server = Server::start(&[&["--host", "127.0.0.1"], &options[..]].concat());
            let mut client = Client::connect(server.address);
            let mut syncs = 0;
            for sequence in 0..400 {
                client.send(&audio(sequence, 64));
                if sequence % 32 == 31 && rate == "off" {
                    syncs += client.sync();
                }
            }
            syncs += client.sync();
            let ended = server.stop("TERM");
            let is_warning = |line: &&String| line.contains(" WARN echo: rate limit exceeded ");
            let warnings: Vec<_> = ended.lines.iter().filter(is_warning).collect();
            let stats = ended.stats();
            let received = stats.count("received");
            assert_eq!(stats.arrivals(), 400 + syncs, "{stats}");
            if rate == "off" {
                assert_eq!((received, warnings.len()), (400, 0), "{stats}");
                continue;
            }
            // At 64 kbit/s, eight packets per second are accepted.
            assert!((1..100).contains(&received) && (1..20).contains(&warnings.len()), "{stats} {warnings:#?}");
            let source = format!(" last_source={} dropped_packet_rate_total=", client.address());
            assert!(warnings[0].contains(&source), "{warnings:#?}");
        }
    });
}

#[test]
fn source_outside_allow_gets_no_reply_and_is_counted() {
    let options = ["--host", "0.0.0.0", "-d", "0", "--allow", "127.0.0.2,127.0.0.8/29", "--allow", "::1"];
    let server = Server::start(&options);
    for (host, is_allowed) in [("127.0.0.1", false), ("127.0.0.16", false), ("127.0.0.2", true), ("127.0.0.15", true)] {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.connect(at("127.0.0.1", server.address)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.send(&keepalive(1, &[])).unwrap();
        if is_allowed {
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 12, "{host}");
        }
    }
    let stats = server.stop("TERM").stats();
    let counts = (stats.count("dropped_not_allowed"), stats.count("immediate_replies"), stats.arrivals());
    assert_eq!(counts, (2, 2, 4), "{stats}");
}
