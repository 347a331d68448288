//! Encrypted links over real sockets.

use std::thread;
use std::time::{Duration, Instant};

use test_support::link_client::{AUDIO, KEEPALIVE, LinkClient, header};
use test_support::server::{Client, Server, audio};

/// Exchanges keys over the socket.
fn connect(client: &Client) -> LinkClient {
    let mut link = LinkClient::unsigned();
    assert_eq!(client.exchange(&header(KEEPALIVE, 0, 0, 0)), header(KEEPALIVE, 0, 0, 0));
    assert!(link.on_control(&client.exchange(&link.control())));
    assert!(link.open(&client.recv()).is_some());
    let reply = client.exchange(&link.seal(KEEPALIVE, 1, 0, b""));
    assert_eq!(link.open(&reply), Some((KEEPALIVE, 1, 0, Vec::new())));
    link
}

#[test]
fn sealed_and_plain_clients_get_their_audio_from_one_port() {
    for driver in ["native", "portable"] {
        let mut server = Server::start(&["--host", "127.0.0.1", "--delay", "300", "--driver", driver]);
        let (sealed, plain) = (Client::connect(server.address), Client::connect(server.address));
        let started = Instant::now();
        let mut link = connect(&sealed);
        println!("link settled after {:?}", started.elapsed());
        let line = server.line_starting_with("echo: link agreed ").message;
        assert!(line.contains(&sealed.address().to_string()) && line.ends_with("link=encrypted"), "{line}");
        for sequence in 0..100 {
            sealed.send(&link.seal(AUDIO, sequence, 128 * sequence, &[sequence as u8; 1_024]));
            plain.send(&audio(sequence, 512));
            thread::park_timeout(Duration::from_micros(2_667));
        }
        for sequence in 0..100 {
            let opened = link.open(&sealed.recv());
            assert_eq!(opened, Some((AUDIO, sequence, 128 * sequence, vec![sequence as u8; 1_024])), "{driver}");
            assert_eq!(plain.recv(), audio(sequence, 512), "{driver}");
        }
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.count("sent"), stats.count("links")), (200, 200, 1), "{stats}");
    }
}

/// One thread sends for all clients, since a thread per client would leave the server too little time on two cores.
#[test]
#[ignore = "a measurement, needs two idle cores and --release"]
fn hundred_sealed_clients_at_375_packets_per_second_lose_nothing() {
    const CLIENTS: usize = 100;
    /// 10 s of packets with 128 samples for two channels.
    const PACKETS: usize = 3_750;
    // The default of the program, which other tests do not use.
    let buffer = ["--socket-buffer", "8MiB"];
    let options = ["--host", "127.0.0.1", "--delay", "500", "--link", "require"];
    let server = Server::start(&[&options[..], &buffer].concat());
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            // The server limits new keys per second.
            thread::park_timeout(Duration::from_millis(20));
            let client = Client::connect(server.address);
            let link = connect(&client);
            client.socket.set_nonblocking(true).unwrap();
            (client, link, 0..PACKETS as u32)
        })
        .collect();
    let interval = Duration::from_secs(1) / 375 / CLIENTS as u32;
    let (start, mut most_behind) = (Instant::now(), Duration::ZERO);
    let (mut returned, mut buffer) = (0, [0; 2_048]);
    // The last turns, 1 s at the same rate, only receive.
    for turn in 0..CLIENTS * (PACKETS + 375) {
        let (client, link, expected) = &mut clients[turn % CLIENTS];
        while start.elapsed() < interval * turn as u32 {
            std::hint::spin_loop();
        }
        if turn < CLIENTS * PACKETS {
            most_behind = most_behind.max(start.elapsed().saturating_sub(interval * turn as u32));
            let sequence = (turn / CLIENTS) as u32;
            client.send(&link.seal(AUDIO, sequence, 128 * sequence, &[sequence as u8; 1_024]));
        }
        while let Ok(len) = client.socket.recv(&mut buffer) {
            let (kind, sequence, timestamp, payload) = link.open(&buffer[..len]).expect("a sealed packet");
            assert!((kind, timestamp) == (AUDIO, 128 * sequence) && payload == [sequence as u8; 1_024]);
            // The delay keeps the order.
            assert!(expected.any(|next| next == sequence), "a second echo of {sequence}, or one out of order");
            returned += 1;
        }
    }
    let stats = server.stop("TERM").stats();
    println!("{returned} of {} returned; a packet left at most {most_behind:?} late; {stats}", CLIENTS * PACKETS);
    assert_eq!(returned, CLIENTS * PACKETS);
}
