//! The listen address of the echo server and the source address of its replies.

use std::net::UdpSocket;

use test_support::server::{Client, Server, at, audio, keepalive};

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

#[test]
fn host_is_accepted_in_any_notation() {
    let mut notations = vec![("127.0.0.1", "127.0.0.1"), ("[127.0.0.1]", "127.0.0.1")];
    if has_ipv6() {
        notations.extend([("::1", "::1"), ("[::1]", "::1"), ("0:0:0:0:0:0:0:1", "::1")]);
    }
    for (host, ip) in notations {
        let mut server = Server::start(&["--host", host, "-d", "0"]);
        assert_eq!(server.address.ip().to_string(), ip, "{host}");
        assert_eq!(server.line().message, format!("Echo server listening on {}", server.address));
        assert_eq!(Client::connect(server.address).exchange(&audio(1, 64)), audio(1, 64));
    }
    assert!(Server::start(&["--host", "localhost"]).address.ip().is_loopback());
}

#[test]
fn dual_stack_server_answers_both_families_and_logs_plain_ipv4() {
    if !has_ipv6() {
        return;
    }
    for driver in ["native", "portable"] {
        let mut server = Server::start(&["--host", "::", "-d", "0", "-v", "--driver", driver]);
        let port = server.address.port();
        assert_eq!(server.line().message, format!("Echo server listening on [::]:{port}"));
        let serving = server.line().message;
        assert!(serving.contains(&format!("127.0.0.1:{port}")) && !serving.contains("[::]"), "{serving}");
        for host in ["127.0.0.1", "::1"] {
            let client = Client::connect(at(host, server.address));
            assert_eq!(client.exchange(&audio(5, 64)), audio(5, 64));
            // Even on an IPv6 socket, an IPv4 client is logged as 127.0.0.1:40000, and an IPv6 client as [::1]:40000.
            let client_address = client.address();
            assert_eq!(server.line().message, format!("echo: source first seen source={client_address} type=AUDIO"));
            assert_eq!(server.line().message, format!("Received audio packet seq=5 from {client_address}"));
            assert_eq!(server.line().message, format!("Echoed packet seq=5 to {client_address}"));
        }
    }
}

#[test]
fn reply_comes_from_the_address_that_received_the_request() {
    let hosts: &[&str] = if has_ipv6() { &["0.0.0.0", "::"] } else { &["0.0.0.0"] };
    for host in hosts {
        let server = Server::start(&["--host", host, "-d", "20"]);
        // The sockets are connected, so they would not receive a reply from another address.
        let clients = ["127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|host| Client::connect(at(host, server.address)));
        for (sequence, client) in (0..).zip(&clients) {
            client.send(&audio(sequence, 64));
        }
        for (sequence, client) in (0..).zip(&clients) {
            assert_eq!(client.recv(), audio(sequence, 64));
            assert_eq!(client.exchange(&keepalive(9, &[])), keepalive(9, &[]));
        }
    }
}
