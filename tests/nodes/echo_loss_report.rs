//! What the echo server tells a client that asks what was heard from it, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::stun;
use test_support::tape;

use jamjam_dev::echo::{BufferLimits, EchoConfig, EchoServer};
use jamjam_dev::node::{Node, Receive};
use jamjam_dev::time::Time;

use tape::Tape;

const MS: u64 = 1_000_000;

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn hear(echo: &mut EchoServer, at: u64, source: SocketAddr, contents: &[u8]) {
    let received_at = Time::from_nanos(at);
    echo.on_datagram(
        received_at,
        &[Receive { source, dst_ip: None, received_at, contents, segment_size: contents.len() }],
    );
}

fn packet(kind: u8, sequence: u32) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &[0; 6 + 12]].concat()
}

/// The golden question, asked at `at`, and what is told.
fn ask(echo: &mut EchoServer, at: u64, from: SocketAddr) -> Option<(u32, [u32; 3])> {
    let mut question = vec![0, 1, 0, 56, 0x21, 0x12, 0xa4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xc0, 0xec, 0, 44];
    question.extend([0; 44]);
    stun::seal(&mut question);
    assert!(stun::is_question(&question));
    hear(echo, at, from, &question);
    let mut tape = Tape::new();
    // One poll sends 64 answers at most, and there may be more than a thousand.
    for _ in 0..20 {
        echo.poll_transmit(Time::from_nanos(at), &mut tape);
    }
    let answers: Vec<Vec<u8>> = tape.take().into_iter().filter(|left| stun::is_response(left, &[9; 12])).collect();
    assert_eq!(answers.len(), 1, "one answer");
    assert!(answers[0].len() <= question.len());
    stun::read(&answers[0]).expect("a response").heard
}

#[test]
fn distinct_packets_are_told_by_type_and_every_client_is_told_its_own() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for sequence in [1, 2, 2, 5, 4] {
        hear(&mut echo, 3_000, client(1), &packet(1, sequence));
    }
    for (kind, sequence) in [(4, 0), (5, 0), (5, 1), (5, 1), (2, 7), (3, 7), (6, 7)] {
        hear(&mut echo, 5_000, client(1), &packet(kind, sequence));
    }
    hear(&mut echo, 7_000, client(2), &packet(4, 0));
    assert_eq!(ask(&mut echo, 9_000, client(1)), Some((3, [4, 2, 1])));
    assert_eq!(ask(&mut echo, 9_000, client(2)), Some((7, [0, 0, 1])));
    assert_eq!(ask(&mut echo, 9_000, client(3)), Some((9, [0, 0, 0])), "it has never been heard before");
    // The next run from the same port has the same numbers, and is no copy of the first.
    hear(&mut echo, 10_000, client(1), &packet(1, 1));
    hear(&mut echo, 10_000, client(1), &packet(1, 1));
    assert_eq!(ask(&mut echo, 11_000, client(1)), Some((3, [5, 2, 1])));
}

#[test]
fn what_is_refused_was_heard() {
    let buffer_limits = BufferLimits { total: Some(150), per_client: None };
    let mut echo = EchoServer::new(EchoConfig { buffer_limits, ..EchoConfig::default() });
    for sequence in 0..10 {
        hear(&mut echo, 0, client(1), &packet(1, sequence));
    }
    assert_eq!(echo.counters().dropped_buffer_full.get(), 9);
    assert_eq!(ask(&mut echo, 1, client(1)), Some((0, [10, 0, 0])));
}

#[test]
fn a_client_is_told_ten_times_in_a_second_and_then_its_address_only() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for time in 0..10 {
        assert!(ask(&mut echo, time * MS, client(1)).is_some(), "{time}");
    }
    assert_eq!(ask(&mut echo, 10 * MS, client(1)), None);
    assert!(ask(&mut echo, 10 * MS, client(2)).is_some(), "another client");
    assert_eq!(ask(&mut echo, 999 * MS, client(1)), None);
    assert!(ask(&mut echo, 1_000 * MS, client(1)).is_some());
}

#[test]
fn beyond_1024_clients_nobody_is_told_until_others_have_fallen_silent() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for port in 1..=1_024 {
        hear(&mut echo, 0, client(port), &packet(4, 0));
    }
    assert_eq!(ask(&mut echo, MS, client(5_000)), None);
    assert_eq!(echo.counters().untracked.get(), 1);
    assert_eq!(ask(&mut echo, 2 * MS, client(7)), Some((0, [0, 0, 1])));
    // Nobody follows the log, so nobody wakes the server to look; the next datagram does.
    assert_eq!(echo.next_deadline(), None);
    hear(&mut echo, 11_000 * MS, client(5_000), &packet(4, 0));
    echo.poll_transmit(Time::from_millis(11_000), &mut Tape::new());
    assert!(ask(&mut echo, 11_001 * MS, client(5_000)).is_some());
    // Whoever was forgotten is told so by another beginning.
    hear(&mut echo, 11_002 * MS, client(7), &packet(4, 0));
    assert_eq!(ask(&mut echo, 11_003 * MS, client(7)), Some((11_002_000, [0, 0, 1])));
}

#[test]
fn a_question_has_to_leave_room_for_what_is_told() {
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::ZERO, ..EchoConfig::default() });
    let mut short = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xc0, 0xec, 0, 0];
    stun::seal(&mut short);
    hear(&mut echo, 0, client(1), &short);
    let mut tape = Tape::new();
    echo.poll_transmit(Time::ZERO, &mut tape);
    let answer = tape.take().remove(0);
    assert_eq!((short.len(), answer.len()), (32, 40));
    assert_eq!(stun::read(&answer).expect("a response").heard, None);
}
