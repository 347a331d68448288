//! What the echo server tells about each source: in the log, to readers in other threads, and to an observer.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use test_support::echo_link::{SECOND, connect, server as link_server};
use test_support::link_client::{AUDIO, KEEPALIVE, LATENCY_PING, LinkClient, header};
use test_support::logged::logged;
use test_support::node_driver::{MS, deadline, deliver, deliver_batch, poll};

use jamjam_core::echo::{
    AdmissionConfig, BufferLimits, DropReason, EchoConfig, EchoServer, ExternalCounts, ObservedDatagram,
    register_metrics,
};
use jamjam_core::link::SealMistake;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::{client, packet};

/// A server that logs sources and sends at most 8 Mbit/s to each.
fn server(delay: Duration) -> EchoServer {
    let admission = AdmissionConfig { max_bit_rate: Some(8_000_000), ..AdmissionConfig::default() };
    EchoServer::new(EchoConfig { delay, log_sources: true, admission, ..EchoConfig::default() })
}

/// Polls at each deadline until there is none.
fn run_until_idle(echo: &mut EchoServer) {
    while let Some(at) = deadline(echo) {
        poll(echo, at);
    }
}

/// 200 AUDIO packets at 0 s. The burst of 1,000,000 bits has room for 125 IP packets of 1,000 bytes. At 2 s, the packets 200 and 202 are
/// missing, 201 arrives late and twice, a KEEPALIVE and a LATENCY_PING arrive, and two datagrams that are malformed.
fn run_client(echo: &mut EchoServer) {
    let audio = |sequence| packet(1, sequence, &[0; 960]);
    let batch: Vec<u8> = (0..200).flat_map(audio).collect();
    deliver_batch(echo, 0, (client(1), None), &batch, 972);
    poll(echo, 0);
    let others = [packet(4, 1, &[]), packet(5, 1, &[0; 12]), packet(5, 2, &[0; 11]), vec![1, 1]];
    for datagram in [203, 201, 201].map(audio).into_iter().chain(others) {
        deliver(echo, 2 * SECOND, client(1), &datagram);
    }
    poll(echo, 2_500 * MS);
}

#[test]
fn counts_of_a_source_tell_what_was_echoed_and_why_the_rest_was_dropped() {
    let mut echo = server(Duration::ZERO);
    let sources = echo.share_sources();
    run_client(&mut echo);
    let expected = json!([{
        "source": "192.0.2.1:5000", "first_seen_ago_s": 2.5, "last_seen_ago_s": 0.5, "packets": 206,
        "audio": 203, "echoed": 128, "audio_per_s": 101.0, "audio_gaps": 2, "audio_duplicates": 1, "audio_reordered": 1,
        "keepalives": 1, "pings": 2, "dropped": {"bit_rate": 75, "payload": 1, "short": 1},
    }]);
    assert_eq!(sources.to_json(), expected);
    run_until_idle(&mut echo);
    assert_eq!(sources.to_json(), json!([]));
}

#[test]
fn log_names_the_first_malformed_datagram_and_what_is_not_zero_at_the_end() {
    let lines = logged(|| {
        let mut echo = server(Duration::ZERO);
        run_client(&mut echo);
        deliver(&mut echo, 2_500 * MS, client(1), &[1, 1, 0]);
        run_until_idle(&mut echo);
    });
    let dropped: Vec<_> = lines.iter().filter(|line| line.contains("datagram dropped")).collect();
    let short = r#"reason="short" detail=2 bytes, shorter than the 12-byte header first_bytes="01 01""#;
    assert!(dropped.len() == 2 && dropped[1].contains(short), "{lines:#?}");
    let first_bytes = r#"first_bytes="01 05 00 00 00 02 00 00 00 00 00 00 00 00 00 00""#;
    assert!(dropped[0].contains(r#"len=23 reason="payload""#) && dropped[0].contains(first_bytes), "{lines:#?}");
    let inactive = "source inactive source=192.0.2.1:5000 active_s=2.5 packets=206 audio=203 echoed=128 audio_gaps=2 \
                    audio_duplicates=1 audio_reordered=1 keepalives=1 pings=2 audio_per_s=101.0 malformed=3 \
                    malformed_short=2 malformed_payload=1 dropped_bit_rate=75";
    assert!(lines.last().is_some_and(|line| line.ends_with(inactive)), "{lines:#?}");
}

#[test]
fn source_stays_active_until_its_echo_has_left() {
    let lines = logged(|| {
        let mut echo = server(Duration::from_secs(20));
        deliver(&mut echo, 0, client(1), &packet(1, 1, &[]));
        run_until_idle(&mut echo);
    });
    assert!(lines.last().is_some_and(|line| line.ends_with("active_s=0.0 packets=1 audio=1 echoed=1")), "{lines:#?}");
}

#[test]
fn metrics_contain_the_32_sources_with_the_most_packets() {
    let mut echo = server(Duration::ZERO);
    let mut registry = Registry::default();
    register_metrics(echo.counters(), Some(echo.share_sources()), ExternalCounts::default, &mut registry);
    for number in 1..=40 {
        (0..number).for_each(|sequence| deliver(&mut echo, 0, client(number), &packet(1, sequence.into(), &[])));
    }
    poll(&mut echo, 0);
    poll(&mut echo, SECOND);
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    for name in ["audio", "echoed", "dropped"] {
        let samples: Vec<&str> = text.lines().filter(|line| line.contains(&format!("source_{name}_total{{"))).collect();
        assert_eq!(samples.len(), 32, "{samples:#?}");
        let count = if name == "dropped" { 0 } else { 40 };
        assert_eq!(samples[0], format!("jamjam_echo_source_{name}_total{{source=\"192.0.2.40:5000\"}} {count}"));
        assert!(samples[31].contains("192.0.2.9:5000"), "{samples:#?}");
    }
}

/// With the counter of an opened packet.
type Observed = (SocketAddr, Vec<u8>, Option<u64>, Option<DropReason>);

fn observe(echo: &mut EchoServer) -> Receiver<Observed> {
    let (sender, observed) = mpsc::channel();
    echo.observe(move |ObservedDatagram { source, bytes, counter, drop_reason, .. }| {
        sender.send((source, bytes.to_vec(), counter, drop_reason)).expect("a receiver");
    });
    observed
}

#[test]
fn observer_receives_each_datagram_once_in_order_with_its_drop_reason() {
    let allowed_networks = vec!["192.0.2.0/31".parse().expect("a network")];
    let admission = AdmissionConfig { max_packet_rate: Some(25), allowed_networks, ..AdmissionConfig::default() };
    let buffer_limits = BufferLimits { total: None, per_client: Some(2 * 120) };
    let mut echo = EchoServer::new(EchoConfig { admission, buffer_limits, ..EchoConfig::default() });
    let observed = observe(&mut echo);
    // The rate limit admits three packets, of which the buffer has room for two.
    let batch: Vec<Vec<u8>> = (0..4).map(|sequence| packet(1, sequence, &[0; 8])).collect();
    deliver_batch(&mut echo, 0, (client(1), None), &[&batch.concat()[..], &[9; 20], &[7]].concat(), 20);
    deliver(&mut echo, 0, client(9), &packet(1, 1, &[]));
    let dropped = [DropReason::ClientBufferFull, DropReason::PacketRate, DropReason::Version, DropReason::Short];
    let reasons = [None; 2].into_iter().chain(dropped.map(Some));
    let datagrams = batch.into_iter().chain([vec![9; 20], vec![7]]);
    let expected: Vec<Observed> =
        datagrams.zip(reasons).map(|(bytes, reason)| (client(1), bytes, None, reason)).collect();
    assert_eq!(observed.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn observer_receives_the_opened_bytes_of_sealed_packets() {
    let mut echo = link_server(1_000);
    let mut sealer = connect(&mut echo, 0, client(1));
    let observed = observe(&mut echo);
    let [audio, keepalive] = [AUDIO, KEEPALIVE].map(|kind| sealer.seal(kind, 7, 9, b"payload"));
    let mut forged = sealer.seal(AUDIO, 8, 9, b"payload");
    *forged.last_mut().expect("a tag") ^= 1;
    for datagram in [&audio, &keepalive, &forged, &audio, &packet(1, 9, &[])] {
        deliver(&mut echo, 0, client(1), datagram);
    }
    // `connect` seals the first packet. The header keeps the flag of a sealed packet.
    let opened = |kind| [&[1, kind, 0, 0, 0, 7, 0, 0, 0, 9, 0, 1][..], b"payload"].concat();
    let expected = [
        (opened(AUDIO), Some(1), None),
        (opened(KEEPALIVE), Some(2), None),
        (forged, None, Some(DropReason::NotOpened)),
        (audio, None, Some(DropReason::Replayed)),
        (packet(1, 9, &[]), None, Some(DropReason::Plain)),
    ];
    let expected = expected.map(|(bytes, counter, reason)| (client(1), bytes, counter, reason));
    assert_eq!(observed.try_iter().collect::<Vec<_>>(), expected);
}

/// The mistakes that the observer receives of a datagram that a client sends `times` times.
fn mistakes(times: usize, datagram: impl FnOnce(&LinkClient) -> Vec<u8>) -> Vec<Option<SealMistake>> {
    let (mut echo, (found, mistakes)) = (link_server(1_000), mpsc::channel());
    let datagram = datagram(&connect(&mut echo, 0, client(1)));
    echo.observe(move |datagram| {
        assert_eq!((datagram.counter, datagram.drop_reason), (None, Some(DropReason::NotOpened)));
        found.send(datagram.mistake).expect("a receiver");
    });
    (0..times).for_each(|_| deliver(&mut echo, 0, client(1), &datagram));
    mistakes.try_iter().collect()
}

#[test]
fn observer_receives_the_likely_mistake_of_a_packet_that_does_not_open() {
    // The payload is too short for the type, which does not hide the mistake.
    let (sealed, plain) = (header(LATENCY_PING, 1, 0, 1), header(LATENCY_PING, 1, 0, 0));
    let (big, little) = (9_u64.to_be_bytes(), 9_u64.to_le_bytes());
    let nonce = |counter_at: usize, counter: [u8; 8]| {
        let mut nonce = [0; 12];
        nonce[counter_at..counter_at + 8].copy_from_slice(&counter);
        nonce
    };
    let cases = [
        (Some(SealMistake::Direction), true, nonce(4, big), &sealed[..]),
        (Some(SealMistake::Nonce), false, nonce(4, little), &sealed),
        (Some(SealMistake::Nonce), false, nonce(0, big), &sealed),
        (Some(SealMistake::Nonce), false, nonce(0, little), &sealed),
        (Some(SealMistake::Header), false, nonce(4, big), &[]),
        (Some(SealMistake::Flag), false, nonce(4, big), &plain),
        // Two at once.
        (None, true, nonce(4, big), &plain),
    ];
    for (expected, is_reversed, nonce, aad) in cases {
        let datagram = |client: &LinkClient| {
            let (payload, tag) = client.seal_wrongly(is_reversed, nonce, aad, b"payload");
            [&sealed[..], &big, &payload, &tag].concat()
        };
        assert_eq!(mistakes(1, datagram), [expected], "{is_reversed} {nonce:?} {aad:?}");
    }
    let tag_first = |client: &LinkClient| {
        let (payload, tag) = client.seal_wrongly(false, nonce(4, big), &sealed, b"payload");
        [&sealed[..], &big, &tag, &payload].concat()
    };
    // Four datagrams of a link are examined.
    let expected = [Some(SealMistake::TagFirst); 4].into_iter().chain([None]).collect::<Vec<_>>();
    assert_eq!(mistakes(5, tag_first), expected);
    // Without a tag, and with 12 bytes of it.
    for tag_len in [0, 12] {
        let short = |_: &LinkClient| [&header(KEEPALIVE, 1, 0, 1)[..], &big, &vec![7; tag_len]].concat();
        assert_eq!(mistakes(1, short), [Some(SealMistake::Short)]);
    }
}
