//! The echo node in virtual time against `fixtures/wire/echo-replies.txt`.

use std::net::SocketAddr;
use std::time::Duration;

use super::golden::{folder, names, packet};
use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::node::{Node, Receive};
use jamjam_core::time::Time;
use test_support::recording_sink::RecordingSink;

const DELAY: Duration = Duration::from_millis(1_500);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// The arrival time of the packets.
const ARRIVAL: Time = Time::from_millis(10_000);
/// The time at which the server reads the packets, 70 µs after their arrival.
const READ: Time = Time::from_nanos(10_000_070_000);

/// The lines of `echo-replies.txt`: the name of a packet, and of its reply, if there is one, with whether the reply is delayed.
fn exchanges() -> Vec<(String, Option<(bool, String)>)> {
    let text = std::fs::read_to_string(folder().join("echo-replies.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let exchange = |line: &str| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [arrives, "nothing"] => (arrives.to_owned(), None),
        [arrives, "at-once", answer] => (arrives.to_owned(), Some((false, answer.to_owned()))),
        [arrives, "delayed", answer] => (arrives.to_owned(), Some((true, answer.to_owned()))),
        _ => panic!("echo-replies.txt: `{line}`"),
    };
    lines.map(exchange).collect()
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

fn server() -> EchoServer {
    EchoServer::new(EchoConfig { delay: DELAY, ..EchoConfig::default() })
}

fn arrive(echo: &mut EchoServer, contents: &[u8]) {
    let (dst_ip, segment_size) = (Some([127, 0, 0, 2].into()), contents.len());
    let received = Receive { socket: 0, source: client(), dst_ip, received_at: ARRIVAL, contents, segment_size };
    echo.on_datagram(READ, &[received]);
}

fn poll(echo: &mut EchoServer, now: Time) -> Vec<Vec<u8>> {
    let mut sink = RecordingSink::new();
    echo.poll_transmit(now, &mut sink);
    // A reply goes to the source, from the address that received the request.
    let from = Some([127, 0, 0, 2].into());
    assert!(sink.sent.iter().all(|reply| (reply.to, reply.from) == (client(), from)));
    sink.take()
}

#[test]
fn golden_packets_are_answered_with_golden_bytes_at_their_time() {
    let mut listed: Vec<String> = exchanges().into_iter().map(|(arrives, _)| arrives).collect();
    listed.sort();
    assert_eq!(listed, names(), "every golden packet is listed");
    for (arrives, answer) in exchanges() {
        let mut echo = server();
        assert_eq!(echo.next_deadline(), None);
        arrive(&mut echo, &packet(&arrives));
        let Some((is_delayed, answer)) = answer else {
            assert_eq!(echo.next_deadline(), None, "{arrives} is not answered");
            assert!(poll(&mut echo, READ + DELAY + DELAY).is_empty(), "{arrives} is not answered");
            continue;
        };
        // The due time depends on when the packet arrives, not on when the server reads it.
        let due = if is_delayed { ARRIVAL + DELAY } else { ARRIVAL };
        assert_eq!(echo.next_deadline(), Some(due), "{arrives}");
        if is_delayed {
            assert!(poll(&mut echo, due.saturating_sub(NANOSECOND)).is_empty(), "{arrives} is answered too early");
        }
        assert_eq!(poll(&mut echo, due), [packet(&answer)], "{arrives}");
        assert_eq!(echo.next_deadline(), None, "{arrives} is answered once");
        assert!(poll(&mut echo, due + DELAY).is_empty(), "{arrives} is answered once");
    }
}
