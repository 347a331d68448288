//! The echo node in virtual time against `fixtures/wire/echo-replies.txt`.

use std::net::SocketAddr;
use std::time::Duration;

use super::golden::{folder, names, packet};
use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::time::Time;

const DELAY: Duration = Duration::from_millis(1_500);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// The arrival time of the packets.
const ARRIVAL: Time = Time::from_millis(10_000);
/// The time at which the server reads the packets, 70 µs after their arrival.
const READ: Time = Time::from_nanos(10_000_070_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    AtOnce,
    Delayed,
}

/// A packet and its reply with the time of the reply; `None` if there is no reply.
struct Exchange {
    arrives: String,
    answer: Option<(When, String)>,
}

/// The lines of `echo-replies.txt`.
fn exchanges() -> Vec<Exchange> {
    let text = std::fs::read_to_string(folder().join("echo-replies.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (arrives, answer) = match words[..] {
                [arrives, "nothing"] => (arrives, None),
                [arrives, "at-once", answer] => (arrives, Some((When::AtOnce, answer.to_owned()))),
                [arrives, "delayed", answer] => (arrives, Some((When::Delayed, answer.to_owned()))),
                _ => panic!("echo-replies.txt: `{line}`"),
            };
            Exchange { arrives: arrives.to_owned(), answer }
        })
        .collect()
}

/// A sink that splits each transmit into single datagrams and stores them.
#[derive(Default)]
struct Wire {
    left: Vec<Vec<u8>>,
}

impl TransmitSink for Wire {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert_eq!(transmit.destination, client(), "the reply goes to the source");
        assert_eq!(
            transmit.src_ip,
            Some([127, 0, 0, 2].into()),
            "the reply comes from the address that received the request"
        );
        self.left.extend(transmit.contents.chunks(transmit.segment_size).map(<[u8]>::to_vec));
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        64
    }
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

fn server() -> EchoServer {
    EchoServer::new(EchoConfig { delay: DELAY, ..EchoConfig::default() })
}

fn arrive(echo: &mut EchoServer, contents: &[u8]) {
    let dst_ip = Some([127, 0, 0, 2].into());
    echo.on_datagram(
        READ,
        &[Receive { source: client(), dst_ip, received_at: ARRIVAL, contents, segment_size: contents.len() }],
    );
}

fn poll(echo: &mut EchoServer, now: Time) -> Vec<Vec<u8>> {
    let mut wire = Wire::default();
    echo.poll_transmit(now, &mut wire);
    wire.left
}

#[test]
fn answers_file_lists_every_golden_packet() {
    let mut listed: Vec<String> = exchanges().into_iter().map(|exchange| exchange.arrives).collect();
    listed.sort();
    assert_eq!(listed, names());
}

#[test]
fn golden_packets_are_answered_with_golden_bytes_at_their_time() {
    for Exchange { arrives, answer } in exchanges() {
        let mut echo = server();
        assert_eq!(echo.next_deadline(), None);
        arrive(&mut echo, &packet(&arrives));
        let Some((when, answer)) = answer else {
            assert_eq!(echo.next_deadline(), None, "{arrives} is not answered");
            assert!(poll(&mut echo, READ + DELAY + DELAY).is_empty(), "{arrives} is not answered");
            continue;
        };
        // The due time depends on when the packet arrives, not on when the server reads it.
        let due = if when == When::Delayed { ARRIVAL + DELAY } else { ARRIVAL };
        assert_eq!(echo.next_deadline(), Some(due), "{arrives}");
        if when == When::Delayed {
            assert!(poll(&mut echo, due.saturating_sub(NANOSECOND)).is_empty(), "{arrives} is answered too early");
        }
        assert_eq!(poll(&mut echo, due), [packet(&answer)], "{arrives}");
        assert_eq!(echo.next_deadline(), None, "{arrives} is answered once");
        assert!(poll(&mut echo, due + DELAY).is_empty(), "{arrives} is answered once");
    }
}

#[test]
fn keepalive_and_ping_are_answered_while_audio_is_delayed() {
    let mut echo = server();
    for exchange in exchanges() {
        arrive(&mut echo, &packet(&exchange.arrives));
    }
    let expected = |wanted: When| -> Vec<Vec<u8>> {
        let answers = exchanges().into_iter().filter_map(|exchange| exchange.answer);
        answers.filter(|(when, _)| *when == wanted).map(|(_, answer)| packet(&answer)).collect()
    };
    assert_eq!(poll(&mut echo, READ), expected(When::AtOnce));
    assert_eq!(echo.next_deadline(), Some(ARRIVAL + DELAY));
    assert!(poll(&mut echo, (ARRIVAL + DELAY).saturating_sub(NANOSECOND)).is_empty());
    assert_eq!(poll(&mut echo, ARRIVAL + DELAY), expected(When::Delayed));
    assert_eq!(echo.next_deadline(), None);
}
