//! `--dscp` on the wire: a packet socket captures the packets of `probe`.

#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use test_support::client::program::run;
use test_support::server::namespace::in_network_namespace;

/// `ETH_P_ALL` of `linux/if_ether.h` in network byte order: packets of all protocols.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;

/// Length of an Ethernet header.
const ETHERNET_LEN: usize = 14;

/// The traffic classes (IPv6) or DS fields (IPv4) of the captured UDP packets to `port`. Loopback shows each packet twice.
fn fields_of_packets_to(port: u16, capture: &mut Socket) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut frame = [0; 2_000];
    loop {
        let len = match capture.read(&mut frame) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return fields,
            Err(error) => panic!("{error}"),
        };
        let packet = &frame[ETHERNET_LEN.min(len)..len];
        let (field, udp) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => (packet[1], &packet[20..]),
            Some(6) => (packet[0] << 4 | packet[1] >> 4, &packet[40..]),
            _ => continue,
        };
        if udp.get(2..4) == Some(&port.to_be_bytes()) {
            fields.push(field);
        }
    }
}

#[test]
fn dscp_class_is_in_every_packet_of_both_ip_versions_and_drivers() {
    in_network_namespace("dscp_class_is_in_every_packet_of_both_ip_versions_and_drivers", || {
        for (target, option, expected) in [
            ("127.0.0.1", "--dscp EF", 46 << 2),
            ("127.0.0.1", "--dscp 63 --driver portable", 63 << 2),
            ("127.0.0.1", "", 0),
            ("[::1]", "--dscp CS1", 8 << 2),
            ("[::1]", "--dscp AF41 --driver portable", 34 << 2),
        ] {
            let mut capture = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS))).unwrap();
            capture.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let server = UdpSocket::bind(format!("{target}:0")).unwrap();
            let port = server.local_addr().unwrap().port();
            let output = run(&format!("probe {target}:{port} -c 5 -i 1ms --timeout 10ms {option}"));
            let fields = fields_of_packets_to(port, &mut capture);
            assert!(fields.len() >= 5, "{target} {option}: {output:?}");
            assert!(fields.iter().all(|field| *field == expected), "{target} {option}: {fields:?}");
        }
    });
}
