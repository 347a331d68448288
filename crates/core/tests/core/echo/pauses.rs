//! After a time in which the echo server did not run, the server reports the pause and sends what is late. The tests run in virtual time.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::{AdmissionConfig, EchoConfig, EchoServer};
use jamjam_core::impairment::Impairment;
use jamjam_core::node::{Node, Receive, SendStatus};
use jamjam_core::time::Time;
use jamjam_core::wire::stun::{CountsRequestTime, ReportedPause, ResponseAttributes, ServerReport, counts_request};

use super::{client, impaired, packet, server};

/// At `now`, the driver passes a datagram that arrived at `received_at`. All times are in milliseconds.
fn receive(echo: &mut EchoServer, now: u64, received_at: u64, source: SocketAddr, contents: &[u8]) {
    let received_at = Time::from_millis(received_at);
    let receive = Receive { socket: 0, source, dst_ip: None, received_at, contents, segment_size: contents.len() };
    echo.on_datagram(Time::from_millis(now), &[receive]);
}

fn poll(echo: &mut EchoServer, now: u64) -> Vec<Vec<u8>> {
    let mut sink = RecordingSink::new();
    echo.poll_transmit(Time::from_millis(now), &mut sink);
    sink.take()
}

/// A server with this delay that sends at most this many packets per second to an address.
fn limited(delay_ms: u64, rate: u64) -> EchoConfig {
    let admission = AdmissionConfig { max_packet_rate: Some(rate), ..AdmissionConfig::default() };
    EchoConfig { delay: Duration::from_millis(delay_ms), admission, ..EchoConfig::default() }
}

fn audio(sequence: u32) -> Vec<u8> {
    packet(1, sequence, &[0; 20])
}

/// The report that a client requests at `now`, which also polls the server.
fn report(echo: &mut EchoServer, now: u64) -> ServerReport {
    report_to(client(9), echo, now)
}

fn report_to(client: SocketAddr, echo: &mut EchoServer, now: u64) -> ServerReport {
    receive(echo, now, now, client, &counts_request([9; 12], CountsRequestTime::DuringRun));
    let replies = poll(echo, now);
    replies.iter().find_map(|reply| ResponseAttributes::parse(reply)?.server).expect("a report")
}

/// Number and total of the pauses, in milliseconds.
fn pauses(echo: &mut EchoServer, now: u64) -> (u32, u128) {
    let report = report(echo, now);
    (report.pauses, report.paused.as_millis())
}

#[test]
fn call_long_after_its_deadline_is_a_pause() {
    let mut echo = server(100);
    for (sent, polled, expected) in [(1_000, 1_150, (0, 0)), (2_000, 2_151, (1, 51)), (3_000, 8_100, (2, 5_051))] {
        receive(&mut echo, sent, sent, client(1), &audio(sent as u32));
        poll(&mut echo, sent);
        assert_eq!(poll(&mut echo, polled).len(), 1);
        assert_eq!(pauses(&mut echo, polled), expected, "{polled}");
    }
    assert_eq!((echo.counters().pauses.get(), echo.counters().paused_ms.get()), (2, 5_051));
}

#[test]
fn first_call_overload_and_full_send_buffer_are_no_pauses() {
    let mut echo = server(100);
    // The datagram arrived before the server was started.
    receive(&mut echo, 10_000, 1_000, client(1), &audio(1));
    // The server runs, but datagrams wait long in a full receive buffer.
    for now in (10_010..11_000).step_by(10) {
        receive(&mut echo, now, now - 2_000, client(1), &audio(now as u32));
        poll(&mut echo, now);
    }
    // The socket accepts no datagrams for a second.
    let mut sink = RecordingSink::new();
    sink.plan.push_back(SendStatus::WouldBlock);
    receive(&mut echo, 11_000, 10_900, client(1), &audio(2));
    echo.poll_transmit(Time::from_millis(11_000), &mut sink);
    assert_eq!((sink.plan.len(), pauses(&mut echo, 12_000)), (0, (0, 0)));
}

#[test]
fn report_contains_the_delay_and_the_last_eight_pauses() {
    let mut echo = server(250);
    for pause in 1..=9 {
        let start = pause * 1_000;
        receive(&mut echo, start, start, client(1), &audio(pause as u32));
        poll(&mut echo, start);
        poll(&mut echo, start + 250 + 50 + pause);
    }
    echo.report_socket_drops(Box::new(|| Some(17)));
    let report = report(&mut echo, 10_000);
    assert_eq!((report.delay, report.pauses, report.dropped), (Duration::from_millis(250), 9, 17));
    assert_eq!(report.paused.as_millis(), u128::from((51..=59).sum::<u64>()));
    let expected = [9, 8, 7, 6, 5, 4, 3, 2].map(|pause| ReportedPause {
        ended_ago: Duration::from_millis(10_000 - pause * 1_000 - 300 - pause),
        length: Duration::from_millis(50 + pause),
    });
    assert_eq!(report.recent, expected);
}

#[test]
fn jitter_is_not_part_of_the_reported_delay() {
    let jitter = Impairment { jitter: Duration::from_millis(20), ..Impairment::default() };
    let config = EchoConfig { delay: Duration::from_millis(250), ..EchoConfig::default() };
    let mut echo = impaired(config, jitter);
    assert_eq!(report(&mut echo, 1_000).delay, Duration::from_millis(250));
}

#[test]
fn datagrams_that_wait_during_a_pause_are_not_dropped() {
    // The address sends 100 packets per second, and the limit is 110. The server does not run for 5 s.
    let mut echo = EchoServer::new(limited(1_000, 110));
    poll(&mut echo, 1_000);
    let waiting = (0..250).flat_map(|number| [audio(number), packet(5, number, &[0; 12])].map(|bytes| (number, bytes)));
    let waiting: Vec<(u64, Vec<u8>)> = waiting.map(|(number, bytes)| (1_000 + u64::from(number) * 20, bytes)).collect();
    // The driver sends what is due between its reads.
    for few in waiting.chunks(4) {
        for (received_at, bytes) in few {
            receive(&mut echo, 6_000, *received_at, client(1), bytes);
        }
        poll(&mut echo, 6_000);
    }
    while let Some(due) = echo.next_deadline() {
        poll(&mut echo, due.as_nanos().div_ceil(1_000_000));
    }
    let counters = echo.counters();
    assert_eq!((counters.immediate_replies.get(), counters.sent.get()), (250, 250));
}

#[test]
fn larger_burst_after_a_pause_ends_after_ten_times_the_pause() {
    // 100 packets per second. The maximum burst is an eighth of a second, and the pause lasts one second.
    let mut echo = EchoServer::new(limited(3_000, 100));
    let ping = packet(5, 0, &[0; 12]);
    poll(&mut echo, 1_000);
    // The server does not run from 2 s to 3 s.
    receive(&mut echo, 3_000, 2_000, client(9), &ping);
    poll(&mut echo, 3_000);
    let counters = echo.counters();
    let mut answered = |now, host| {
        let before = counters.pings.get();
        (0..200).for_each(|_| receive(&mut echo, now, now, client(host), &ping));
        counters.pings.get() - before
    };
    assert_eq!([answered(12_990, 1), answered(13_000, 2)], [112, 12]);
}

#[test]
fn late_packets_above_the_limit_of_their_address_wait() {
    for is_impaired in [false, true] {
        // 100 packets per second. The maximum burst is a quarter of a second.
        let config = limited(3_000, 100);
        let mut echo = if is_impaired { impaired(config, Impairment::default()) } else { EchoServer::new(config) };
        let sent: Vec<Vec<u8>> = (0..300).map(audio).collect();
        for (sequence, bytes) in (0..).zip(&sent) {
            receive(&mut echo, sequence * 10, sequence * 10, client(1), bytes);
            if sequence % 30 == 29 {
                receive(&mut echo, sequence * 10, sequence * 10, client(2), bytes);
            }
        }
        // The server did not run for 5 s. Then, the driver polls it at each deadline.
        let (mut now, mut sink, mut left) = (Time::from_millis(8_000), RecordingSink::new(), Vec::new());
        while echo.next_deadline().is_some() {
            echo.poll_transmit(now, &mut sink);
            left.extend(sink.sent.drain(..).map(|datagram| (now, datagram.to, datagram.bytes)));
            now = now.max(echo.next_deadline().unwrap_or(now));
        }
        let of = |address| left.iter().filter(move |(_, to, _)| *to == address);
        assert!(of(client(1)).map(|(_, _, bytes)| bytes).eq(&sent), "each packet is sent once, in order");
        let times: Vec<u64> = of(client(1)).map(|(at, _, _)| at.as_nanos() / 1_000_000).collect();
        for (first, start) in times.iter().enumerate() {
            for (last, end) in times.iter().enumerate().skip(first) {
                assert!((last - first + 1) as u64 * 10 <= end - start + 250 + 1, "{first} to {last}: {start} to {end}");
            }
        }
        // 25 packets leave at once, and 275 packets take 2.75 s.
        assert!(times[299] <= 10_760, "{}", times[299]);
        // Another address does not wait for them.
        assert_eq!(of(client(2)).map(|(at, ..)| *at).collect::<Vec<_>>(), [Time::from_millis(8_000); 10]);
        assert_eq!((echo.counters().sent.get(), echo.counters().buffered_bytes.get()), (310, 0));
    }
}

#[test]
fn reported_pause_lasts_while_echoes_of_the_client_still_wait() {
    let mut echo = EchoServer::new(limited(3_000, 100));
    for sequence in 0..300 {
        receive(&mut echo, sequence * 10, sequence * 10, client(1), &audio(sequence as u32));
    }
    // The server did not run from 3 to 8 s. The last of the late echoes leaves at about 10.75 s.
    let mut newest = |now, client| {
        while let Some(due) = echo.next_deadline().filter(|due| *due < Time::from_millis(now)) {
            echo.poll_transmit(due.max(Time::from_millis(8_000)), &mut RecordingSink::new());
        }
        let report = report_to(client, &mut echo, now);
        let [ended_ago, length] = [report.recent[0].ended_ago, report.recent[0].length].map(|time| time.as_millis());
        (ended_ago, length, report.pauses, report.paused.as_millis())
    };
    assert_eq!(newest(8_000, client(9)), (0, 5_000, 1, 5_000));
    for now in (8_100..12_000).step_by(100) {
        let (ended_ago, length, ..) = newest(now, client(1));
        assert_eq!(u64::try_from(ended_ago + length), Ok(now - 3_000), "{now}");
        assert!(now > 10_700 || ended_ago == 0, "{now}: {ended_ago}");
        assert_eq!(newest(now, client(9)), (u128::from(now - 8_000), 5_000, 1, 5_000));
    }
    let (ended_ago, _, pauses, paused) = newest(12_000, client(1));
    assert!((1_240..=1_300).contains(&ended_ago) && (pauses, paused) == (1, 5_000), "{ended_ago}");
}
