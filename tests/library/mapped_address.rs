//! An echo server asks another echo server for its mapped address over real sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use jamjam_dev::client::StopSignal;
use jamjam_dev::echo::{EchoConfig, EchoServer, StunConfig};
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::{self, Backend, DriverOptions, IdlePolicy};

/// Makes the echo server send requests to `server`. Returns the echo server, and a channel with the addresses that its observer receives.
fn with_stun_server(mut echo: EchoServer, server: SocketAddr) -> (EchoServer, Receiver<SocketAddr>) {
    let (sender, reported) = mpsc::channel();
    let observer = move |address| sender.send(address).expect("the receiver exists");
    echo.monitor_mapped_address(
        StunConfig { server: Box::new(move || Some(server)), hash_key: [1, 2, 3, 4] },
        Box::new(observer),
    );
    (echo, reported)
}

#[test]
fn another_echo_server_works_as_a_stun_server_on_real_sockets() {
    let listen =
        |host: &str| udp::bind(SocketAddr::new(host.parse().expect("an address"), 0), 1 << 16).expect("a socket");
    for backend in [Backend::Native, Backend::Portable] {
        let options = DriverOptions { idle: IdlePolicy::Wait, spin_percent: 0, backend, follow_address: false };
        let (other, stop) = (listen("127.0.0.1"), StopToken::default());
        let server =
            udp::spawn_node("server", other.socket, EchoServer::new(EchoConfig::default()), stop.clone(), options)
                .expect("a thread");
        let mapped = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1]), other.address.port());
        for (host, server_address) in [("127.0.0.1", other.address), ("0.0.0.0", other.address), ("::", mapped)] {
            let own = listen(host);
            let (echo, reported) = with_stun_server(EchoServer::new(EchoConfig::default()), server_address);
            let counters = echo.counters();
            let stop = StopToken::default();
            let client = udp::spawn_node("client", own.socket, echo, stop.clone(), options).expect("a thread");
            let mapped_address = reported.recv_timeout(Duration::from_secs(20)).expect("an answer");
            assert_eq!(mapped_address, SocketAddr::from(([127, 0, 0, 1], own.address.port())), "{host} {backend:?}");
            stop.request(StopSignal::Terminate);
            drop(client.join());
            assert_eq!((counters.received.get(), counters.mapped_address_timeouts.get()), (0, 0), "{host} {backend:?}");
        }
        stop.request(StopSignal::Terminate);
        drop(server.join());
    }
}
