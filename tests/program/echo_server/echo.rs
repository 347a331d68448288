//! The echo server's replies on real sockets: unchanged, in order and never early.

use std::time::Duration;

use test_support::server::{Client, Server, Since, audio, keepalive, packet};

/// Both drivers must behave the same.
const DRIVERS: [&str; 2] = ["native", "portable"];

fn start(driver: &str, delay: &str) -> Server {
    Server::start(&["--host", "127.0.0.1", "-d", delay, "--driver", driver])
}

#[test]
fn audio_of_any_length_and_with_any_flags_is_returned_whole() {
    for driver in DRIVERS {
        let server = start(driver, "0");
        let client = Client::connect(server.address);
        let lengths = [12, 13, 14, 76, 268, 524, 1_231, 1_232, 1_233, 1_472, 1_473, 2_047, 2_048, 2_049, 4_096, 7_692];
        for (sequence, len) in (0..).zip(lengths.into_iter().chain([9_000, 16_384, 32_768, 65_000, 65_506, 65_507])) {
            let mut datagram = audio(sequence, len - 12);
            datagram[10..12].copy_from_slice(&(1_u16 << (sequence % 16)).to_be_bytes());
            assert_eq!(datagram.len(), len);
            assert!(client.exchange(&datagram) == datagram, "{len} bytes return changed ({driver})");
        }
    }
}

/// Each client gets its own packets only, although another one has closed its port.
#[test]
fn echoes_of_many_clients_keep_their_order_and_are_never_early() {
    for driver in DRIVERS {
        for micros in [250, 20_000, 250_000] {
            let server = start(driver, &format!("{micros}us"));
            let clients: Vec<Client> = (0..20).map(|_| Client::connect(server.address)).collect();
            // The operating system reports to the server that the echoes arrive at a closed port.
            let closed = Client::connect(server.address);
            (0..20).for_each(|sequence| closed.send(&audio(sequence, 64)));
            drop(closed);
            let payload = |round: u32| 64 + round as usize % 3;
            let mut sent = Vec::new();
            for round in 0..10 {
                for (number, client) in (0..).zip(&clients) {
                    sent.push(Since::now());
                    client.send(&audio(number * 100 + round, payload(round)));
                }
            }
            let mut sent = sent.into_iter();
            for round in 0..10 {
                for (number, client) in (0..).zip(&clients) {
                    assert_eq!(client.recv(), audio(number * 100 + round, payload(round)), "{driver}");
                    sent.next().unwrap().assert_at_least(Duration::from_micros(micros));
                }
            }
        }
    }
}

#[test]
fn batch_is_returned_packet_by_packet_for_any_contents() {
    use test_support::server::batch::BatchClient;
    for driver in DRIVERS {
        let server = start(driver, "0");
        // Four packets of equal length (AUDIO, KEEPALIVE, AUDIO, an unknown type) and a shorter AUDIO packet.
        let packets = [audio(1, 100), keepalive(2, &[7; 100]), audio(3, 100), packet(0x2a, 4, &[0; 100]), audio(5, 8)];
        let client = BatchClient::connect(server.address);
        client.send(&packets.concat(), 112);
        let (mut received, _) = client.recv(4);
        // The KEEPALIVE reply may overtake AUDIO echoes. AUDIO echoes enter the delay line even if the delay is 0.
        received.sort_by_key(|packet| packet[5]);
        assert_eq!(received, [&packets[0], &packets[1], &packets[2], &packets[4]].map(Vec::clone), "{driver}");
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.count("sent"), stats.count("dropped_type")), (3, 3, 1), "{stats}");
    }
}
