//! Many clients on one driver, over real sockets.

use std::net::{SocketAddr, UdpSocket};

use jamjam_dev::echo::EchoConfig;
use jamjam_dev::io::local_socket::LocalSocketOptions;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::{self, Backend, DEFAULT_RECEIVE_BUFFER, DriverOptions, IdlePolicy};
use jamjam_dev::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_dev::node_group::NodeGroup;
use jamjam_dev::testing::EchoServer;
use jamjam_dev::time::Time;
use jamjam_dev::wire::{Header, PacketType};
use test_support::TEST_TIMEOUT;

/// The packets of all clients fit the smallest receive buffer, so that none is dropped while a thread does not run.
const CLIENTS: u32 = 50;
const PACKETS_PER_CLIENT: u32 = 4;

/// Sends AUDIO packets with these sequence numbers at once, and finishes when as many datagrams have arrived.
struct Client {
    server: SocketAddr,
    unsent: Vec<u32>,
    received: Vec<Vec<u8>>,
    gives_up_at: Option<Time>,
}

impl Node for Client {
    fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
        self.received.extend(batch.iter().flat_map(Receive::segments).map(<[u8]>::to_vec));
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let gives_up_at = *self.gives_up_at.get_or_insert(now + TEST_TIMEOUT);
        while let Some(sequence) = self.unsent.last() {
            match sink.send(Transmit::datagram(self.server, &packet(*sequence))) {
                SendStatus::Sent => _ = self.unsent.pop(),
                SendStatus::WouldBlock => return,
                status => panic!("{status:?}"),
            }
        }
        if now >= gives_up_at {
            self.received.push(b"gave up".to_vec());
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let is_complete = self.received.len() >= PACKETS_PER_CLIENT as usize;
        self.gives_up_at.or(Some(Time::ZERO)).filter(|_| !is_complete)
    }
}

fn packet(sequence: u32) -> [u8; 12] {
    Header::new(PacketType::Audio, sequence, 0).to_bytes()
}

#[test]
fn one_driver_serves_fifty_sockets() {
    let sequences = |client| (0..PACKETS_PER_CLIENT).map(move |packet| client * 1_000 + packet);
    for backend in [Backend::Native, Backend::Portable] {
        let server = EchoServer::start(EchoConfig::default()).unwrap();
        let connect =
            |_| udp::connect(server.addr(), DEFAULT_RECEIVE_BUFFER, &LocalSocketOptions::default()).unwrap().socket;
        let sockets: Vec<UdpSocket> = (0..CLIENTS).map(connect).collect();
        let client = |number| {
            let unsent = sequences(number).rev().collect();
            Client { server: server.addr(), unsent, received: Vec::new(), gives_up_at: None }
        };
        let group = NodeGroup::new((0..CLIENTS).map(client).collect(), ());
        let options = DriverOptions { idle: IdlePolicy::Finish, spin_percent: 0, backend, follow_address: true };
        let running = udp::spawn_node("clients", sockets, group, StopToken::default(), options).unwrap();
        let (group, stats) = running.join();
        stats.result.unwrap();
        for (number, mut client) in (0..).zip(group.into_nodes().0) {
            client.received.sort();
            let expected: Vec<_> = sequences(number).map(|sequence| packet(sequence).to_vec()).collect();
            assert_eq!(client.received, expected, "client {number}, {backend:?}");
        }
        assert_eq!(stats.kernel_dropped.len(), CLIENTS as usize);
        assert_eq!(server.counters().received.get(), u64::from(CLIENTS * PACKETS_PER_CLIENT));
    }
}
