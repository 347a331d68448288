//! Encrypted links over real sockets, and the announcement of the link key.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_dev::client::{self, ClientNode, ProbeConfig, ProbeWorkload, RunConfig, StreamKind};
use jamjam_dev::io::local_socket::LocalSocketOptions;
use jamjam_dev::io::os;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::{self, Backend, DriverOptions, IdlePolicy};
use test_support::link_client::{AUDIO, KEEPALIVE, LATENCY_PING, LinkClient, header};
use test_support::node_driver::run_config;
use test_support::server::client::Client;
use test_support::server::member::Member;
use test_support::server::packet::audio;
use test_support::server::process::Server;

/// Exchanges keys over the socket.
fn connect(client: &Client, mut link: LinkClient) -> LinkClient {
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
        let mut link = connect(&sealed, LinkClient::unsigned());
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

#[test]
fn plain_server_makes_a_newer_client_send_plain_audio() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--delay", "0", "--link", "plain"]);
    server.line_starting_with("echo: audio is not encrypted");
    let client = Client::connect(server.address);
    assert_eq!(client.exchange(&LinkClient::unsigned().control())[1], LATENCY_PING);
    assert_eq!(client.exchange(&audio(1, 256)), audio(1, 256));
    assert!(server.line_starting_with("echo: link agreed ").message.ends_with("link=plain"));
}

#[test]
fn room_announces_the_key_that_signs_the_answers() {
    for (option, is_announced) in [(&[][..], true), (&["--no-link-key"], false), (&["--link", "plain"], false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let fixed = ["--host", "127.0.0.1", "--signaling-url", &url];
        let server = Server::start(&[&fixed[..], option].concat());
        let mut member = Member::accept(listener.accept().unwrap().0);
        let request = member.receive_type("CreateRoom");
        assert_eq!(request.get("link_key").is_some(), is_announced, "{request}");
        if let Some(link_key) = request["link_key"].as_str() {
            let link_key = STANDARD.decode(link_key).unwrap();
            assert_eq!(link_key.len(), 32);
            connect(&Client::connect(server.address), LinkClient::signed(&link_key));
        }
    }
}

#[test]
#[ignore = "a measurement, needs two idle cores and --release"]
fn hundred_sealed_clients_at_375_packets_per_second_lose_nothing() {
    let server = Server::start(&["--host", "127.0.0.1", "--delay", "500", "--link", "require"]);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let run_config = RunConfig { peer: server.address, ..run_config(StreamKind::Audio) };
            let interval = Duration::from_nanos(2_666_667);
            // 10 s of packets with 128 samples for two channels.
            let config =
                ProbeConfig { stream_kind: StreamKind::Audio, count: Some(3_750), interval, payload_len: 1_024 };
            let link =
                client::LinkConfig { entropy: os::random_secret(), signing: None, timeout: Duration::from_secs(5) };
            let workload = ProbeWorkload::new(config).with_link(true);
            let node = ClientNode::new(run_config, workload, Box::new(())).with_link(Some(link));
            let socket = udp::connect(server.address, 1 << 20, &LocalSocketOptions::default()).unwrap().socket;
            let options = DriverOptions {
                idle: IdlePolicy::Finish,
                spin_percent: 0,
                backend: Backend::Native,
                follow_address: false,
            };
            thread::park_timeout(Duration::from_millis(20));
            udp::spawn_node("client", socket, node, StopToken::default(), options).unwrap()
        })
        .collect();
    let mut returned = 0;
    for client in clients {
        let run = client.join().0.into_results("", None, &mut ());
        let link = run.link.expect("a link");
        assert_eq!((link.not_opened, link.replayed, link.is_encrypted), (0, 0, true), "{link:?}");
        returned += run.audio.expect("AUDIO").stats.returned;
    }
    let stats = server.stop("TERM").stats();
    println!("{returned} of 375000 returned; {stats}");
    assert_eq!(returned, 375_000);
}
