//! The echo node in virtual time against `fixtures/wire/answers.txt`.

use std::net::SocketAddr;
use std::time::Duration;

use super::golden::{folder, names, packet};
use jamjam_dev::echo::{EchoConfig, EchoServer};
use jamjam_dev::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_dev::time::Time;

const DELAY: Duration = Duration::from_millis(1_500);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// When the packets arrive.
const ARRIVAL: Time = Time::from_millis(10_000);
/// When they are read: a little after they arrived, as everywhere.
const READ: Time = Time::from_nanos(10_000_070_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    AtOnce,
    Delayed,
}

/// What arrives, and what comes back when: `None` is nothing.
struct Exchange {
    arrives: String,
    answer: Option<(When, String)>,
}

/// The lines of `answers.txt`.
fn exchanges() -> Vec<Exchange> {
    let text = std::fs::read_to_string(folder().join("answers.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (arrives, answer) = match words[..] {
                [arrives, "nothing"] => (arrives, None),
                [arrives, "at-once", answer] => (arrives, Some((When::AtOnce, answer.to_owned()))),
                [arrives, "delayed", answer] => (arrives, Some((When::Delayed, answer.to_owned()))),
                _ => panic!("answers.txt: `{line}`"),
            };
            Exchange { arrives: arrives.to_owned(), answer }
        })
        .collect()
}

/// Takes what leaves apart into single datagrams.
#[derive(Default)]
struct Wire {
    left: Vec<Vec<u8>>,
}

impl TransmitSink for Wire {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert_eq!(transmit.destination, client(), "an answer goes to whoever asked");
        assert_eq!(transmit.src_ip, Some([127, 0, 0, 2].into()), "and comes from the address that was asked");
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
fn answers_are_told_for_every_golden_packet() {
    let mut told: Vec<String> = exchanges().into_iter().map(|exchange| exchange.arrives).collect();
    told.sort();
    assert_eq!(told, names());
}

#[test]
fn the_echo_server_answers_each_golden_packet_with_golden_bytes_at_its_time() {
    for Exchange { arrives, answer } in exchanges() {
        let mut echo = server();
        assert_eq!(echo.next_deadline(), None);
        arrive(&mut echo, &packet(&arrives));
        let Some((when, answer)) = answer else {
            assert_eq!(echo.next_deadline(), None, "{arrives} is not answered");
            assert!(poll(&mut echo, READ + DELAY + DELAY).is_empty(), "{arrives} is not answered");
            continue;
        };
        // Due counts from the arrival, whenever it was read.
        let due = if when == When::Delayed { ARRIVAL + DELAY } else { ARRIVAL };
        assert_eq!(echo.next_deadline(), Some(due), "{arrives}");
        assert!(poll(&mut echo, due.saturating_sub(NANOSECOND)).is_empty(), "{arrives} is answered too early");
        assert_eq!(poll(&mut echo, due), [packet(&answer)], "{arrives}");
        assert_eq!(echo.next_deadline(), None, "{arrives} is answered once");
        assert!(poll(&mut echo, due + DELAY).is_empty(), "{arrives} is answered once");
    }
}

#[test]
fn a_keepalive_and_a_ping_are_answered_while_audio_waits() {
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
