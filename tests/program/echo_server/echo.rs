//! The echo server's replies: unchanged, in order and never early. KEEPALIVEs and pings are answered immediately.

use std::time::{Duration, Instant};
use test_support::server;

use server::client::Client;
use server::packet::{audio, keepalive, packet};
use server::process::Server;

/// Both drivers must behave the same.
const DRIVERS: [&str; 2] = ["native", "portable"];

fn start(driver: &str, delay: &str) -> Server {
    Server::start(&["--host", "127.0.0.1", "-d", delay, "--driver", driver])
}

#[test]
fn audio_of_any_length_is_returned_whole() {
    for driver in DRIVERS {
        let server = start(driver, "0");
        let client = Client::connect(server.address);
        let lengths = [12, 13, 14, 76, 268, 524, 1_231, 1_232, 1_233, 1_472, 1_473, 2_047, 2_048, 2_049, 4_096, 7_692];
        for (sequence, len) in (0..).zip(lengths.into_iter().chain([9_000, 16_384, 32_768, 65_000, 65_506, 65_507])) {
            let datagram = audio(sequence, len - 12);
            assert_eq!(datagram.len(), len);
            assert!(client.exchange(&datagram) == datagram, "{len} bytes return changed ({driver})");
        }
    }
}

#[test]
fn every_flag_is_returned() {
    for driver in DRIVERS {
        let server = start(driver, "0");
        let client = Client::connect(server.address);
        for flags in (0..16).map(|bit| 1u16 << bit).chain([0xffff, 0x5555, 0xaaaa]) {
            let mut datagram = audio(3, 256);
            datagram[6..10].copy_from_slice(&[0xff, 0xee, 0xdd, 0xcc]);
            datagram[10..12].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(client.exchange(&datagram), datagram, "flags {flags:#06x} ({driver})");
        }
    }
}

#[test]
fn echoes_keep_their_order_and_are_never_early() {
    for driver in DRIVERS {
        for (delay, gap) in [(1, 1), (20, 1), (250, 10)] {
            let server = start(driver, &delay.to_string());
            let client = Client::connect(server.address);
            let delay = Duration::from_millis(delay);
            let mut sent = Vec::new();
            for sequence in 0..60 {
                sent.push(Instant::now());
                client.send(&audio(sequence, 64 + sequence as usize % 3));
                if sequence % gap == 0 {
                    std::thread::yield_now();
                }
            }
            for (sequence, sent) in (0..).zip(sent) {
                assert_eq!(client.recv(), audio(sequence, 64 + sequence as usize % 3), "{driver}");
                assert!(sent.elapsed() >= delay, "{:?} after it was sent, of {delay:?} ({driver})", sent.elapsed());
            }
        }
    }
}

#[test]
fn submillisecond_delay_is_not_shortened() {
    for driver in DRIVERS {
        let server = start(driver, "250us");
        let client = Client::connect(server.address);
        for sequence in 0..100 {
            let sent = Instant::now();
            assert_eq!(client.exchange(&audio(sequence, 64)), audio(sequence, 64));
            assert!(sent.elapsed() >= Duration::from_micros(250), "{:?} ({driver})", sent.elapsed());
        }
    }
}

#[test]
fn keepalive_and_ping_are_answered_while_audio_is_delayed() {
    for driver in DRIVERS {
        let server = start(driver, "1h");
        let client = Client::connect(server.address);
        client.send(&audio(1, 512));
        let payload = [0, 0, 0, 0, 0, 0x12, 0xd6, 0x87, 0, 0, 0, 7];
        let mut ping = packet(0x05, 77, &payload);
        // The timestamp and the flags of a pong are always 0. Bytes after the payload of a ping are not returned.
        ping[6..12].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        ping.extend([9; 20]);
        assert_eq!(client.exchange(&ping), packet(0x06, 77, &payload), "{driver}");
        let mut alive = keepalive(78, &[]);
        alive[6..12].copy_from_slice(&[1, 2, 3, 4, 0x80, 6]);
        assert_eq!(client.exchange(&alive), alive, "{driver}");
        assert_eq!(client.exchange(&keepalive(79, &[3; 5])), keepalive(79, &[3; 5]), "{driver}");
        // The route probe of newer clients: a request is answered, a reply is not.
        client.send(&keepalive(80, &[2, 0xa, 0xb, 0xc, 0xd]));
        let probe = keepalive(81, &[1, 0xa, 0xb, 0xc, 0xd]);
        assert_eq!(client.exchange(&probe), keepalive(81, &[2, 0xa, 0xb, 0xc, 0xd]), "{driver}");
        let stats = server.stop("TERM").stats();
        assert_eq!(stats.count("dropped_at_stop"), 1, "{stats}");
        assert_eq!(stats.count("immediate_replies"), 4, "{stats}");
        assert_eq!(stats.count("ignored"), 1, "{stats}");
    }
}

#[test]
fn ignored_packets_get_no_reply() {
    for driver in DRIVERS {
        let server = start(driver, "0");
        let client = Client::connect(server.address);
        for kind in [0x00, 0x02, 0x03, 0x06, 0x07, 0x08, 0xff] {
            client.send(&packet(kind, 1, &[0; 40]));
        }
        // The server sends replies in order. A reply to an earlier packet would arrive before the reply to the KEEPALIVE.
        assert_eq!(client.exchange(&keepalive(2, &[])), keepalive(2, &[]), "{driver}");
        assert_eq!(client.exchange(&audio(3, 64)), audio(3, 64), "{driver}");
    }
}

#[test]
fn clients_get_their_own_packets_only() {
    for driver in DRIVERS {
        let server = start(driver, "50");
        let clients: Vec<Client> = (0..20).map(|_| Client::connect(server.address)).collect();
        for round in 0..5 {
            for (number, client) in (0..).zip(&clients) {
                client.send(&audio(number * 100 + round, 300));
            }
        }
        for round in 0..5 {
            for (number, client) in (0..).zip(&clients) {
                assert_eq!(client.recv(), audio(number * 100 + round, 300), "{driver}");
            }
        }
    }
}

#[test]
fn closed_client_does_not_disturb_the_others() {
    for driver in DRIVERS {
        let server = start(driver, "50");
        let (closed, open) = (Client::connect(server.address), Client::connect(server.address));
        for sequence in 0..20 {
            closed.send(&audio(sequence, 64));
            open.send(&audio(sequence, 64));
        }
        // The echoes to this client arrive at a closed port. The operating system reports the closed port to the server.
        drop(closed);
        for sequence in 0..20 {
            assert_eq!(open.recv(), audio(sequence, 64), "{driver}");
        }
        assert_eq!(open.exchange(&keepalive(1, &[])), keepalive(1, &[]), "{driver}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn batch_is_returned_packet_by_packet_for_any_contents() {
    use server::batch::BatchClient;
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
