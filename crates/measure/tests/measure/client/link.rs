//! The client's end of an encrypted link, in virtual time: against golden bytes, and against an end that shares no code with it
//! (`link_client.rs`). `link_life.rs` connects it to the echo server.

use super::{follow, run_config};
use std::collections::HashSet;
use std::time::Duration;
use test_support::link_client::{self, AUDIO, CONTROL, KEEPALIVE, LATENCY_PING, LATENCY_PONG, LinkClient};
use test_support::link_vectors::{bytes, key, list, vectors};
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll};
use test_support::recording_sink::RecordingSink;

use jamjam_core::link::LinkKey;
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    ClientNode, LinkConfig, LinkFailure, LinkResults, LinkSigning, ProbeConfig, ProbeWorkload, Prober, RunResults,
    StreamKind,
};
use proptest::prelude::*;

/// The time-out of the links in these tests.
const TIMEOUT: u64 = 5_000 * MS;

pub(super) fn link_config(entropy: u8, signing: Option<LinkSigning>) -> LinkConfig {
    LinkConfig { entropy: [entropy; 32].into(), signing, timeout: Duration::from_nanos(TIMEOUT) }
}

/// A probe of ten AUDIO packets of two samples for two channels, one every 10 ms.
pub(super) fn client(config: LinkConfig) -> Prober {
    let (stream_kind, interval) = (StreamKind::Audio, Duration::from_millis(10));
    let probe_config = ProbeConfig { stream_kind, count: Some(10), interval, payload_len: 16 };
    let workload = ProbeWorkload::new(probe_config).with_link(true);
    ClientNode::new(run_config(StreamKind::Audio), workload, Box::new(())).with_link(Some(config))
}

fn golden_config() -> LinkConfig {
    let vectors = vectors();
    let golden = &vectors["key_exchange"];
    let own = LinkKey::from_seed(&key(&golden["app"], "link_private"));
    let signing = LinkSigning { own, server: key(&golden["server"], "link_public") };
    LinkConfig { entropy: key(&golden["app"], "ephemeral_private").into(), ..link_config(0, Some(signing)) }
}

fn finish(node: Prober) -> RunResults {
    node.into_results("", None, &mut ())
}

fn results(node: Prober) -> LinkResults {
    finish(node).link.expect("a link")
}

/// A server that has exchanged keys with the client.
fn exchange(node: &mut impl Node) -> LinkClient {
    let control = poll(node, 0).into_iter().find(|datagram| datagram[1] == CONTROL).expect("CONTROL");
    let mut server = LinkClient::unsigned();
    assert!(server.on_control(&control));
    deliver(node, 0, peer(), &server.control());
    server
}

/// Settles the link of a client with the returned server.
pub(super) fn settle(node: &mut impl Node) -> LinkClient {
    let mut server = exchange(node);
    deliver(node, 0, peer(), &server.seal(KEEPALIVE, 1, 0, b""));
    server
}

/// A client and the other end of its link.
fn settled() -> (Prober, LinkClient) {
    let mut node = client(link_config(3, None));
    let server = settle(&mut node);
    (node, server)
}

#[test]
fn golden_transcript_has_identical_control_and_settles() {
    let vectors = vectors();
    let golden = &vectors["key_exchange"];
    let mut node = client(golden_config());
    let sent = poll(&mut node, 0);
    assert_eq!(sent, [header(KEEPALIVE, 0, 0), bytes(&golden["app_signed"], "wire")]);
    for entry in list(golden, "transcript").iter().filter(|entry| entry["from"] == "server").take(2) {
        deliver(&mut node, 3 * MS, peer(), &bytes(entry, "wire"));
    }
    // The client answers the key with its own, and proves that it has the keys. This is the golden counter 0.
    let sent = poll(&mut node, 3 * MS);
    assert_eq!(sent[0], bytes(&golden["app_signed"], "wire"));
    assert_eq!((sent[1][1], &sent[1][10..20]), (KEEPALIVE, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..]));
    assert!(sent.iter().all(|datagram| datagram[1] != AUDIO));
    let is_proof =
        |what: &serde_json::Value| what.as_str().is_some_and(|what| what.starts_with("sealed keep-alive, counter 0"));
    let proof = list(golden, "transcript").iter().find(|entry| is_proof(&entry["what"]));
    deliver(&mut node, 7 * MS, peer(), &bytes(proof.expect("the proof"), "wire"));
    assert_eq!(poll(&mut node, 7 * MS)[0][1], AUDIO);
    let results = results(node);
    assert!(results.is_signed && results.is_encrypted && !results.is_plain);
    assert_eq!(results.setup_ns, Some(7 * MS));
}

#[test]
fn unsigned_control_has_the_golden_bytes() {
    let vectors = vectors();
    let mut node = client(LinkConfig { signing: None, ..golden_config() });
    assert_eq!(poll(&mut node, 0)[1], bytes(&vectors["key_exchange"]["unsigned"], "wire_app"));
}

#[test]
fn only_golden_signatures_of_the_server_are_accepted() {
    let vectors = vectors();
    let mut accepted = 0;
    for entry in list(&vectors["key_exchange"], "app_that_knows_the_server_link_key") {
        let mut node = client(golden_config());
        poll(&mut node, 0);
        deliver(&mut node, MS, peer(), &[header(CONTROL, 0, 0), bytes(entry, "payload")].concat());
        let is_accepted = poll(&mut node, MS).iter().any(|datagram| datagram[1] == CONTROL);
        assert_eq!(is_accepted, entry["accept"].as_bool().expect("a boolean"), "{entry}");
        accepted += u64::from(is_accepted);
        assert_eq!(results(node).refused_keys, u64::from(!is_accepted), "{entry}");
    }
    assert_eq!(accepted, 2);
}

#[test]
fn useless_keys_and_other_headers_are_refused() {
    let vectors = vectors();
    let mut controls: Vec<Vec<u8>> = Vec::new();
    for entry in list(&vectors["key_exchange"], "low_order_ephemeral_keys_refused") {
        let low_order = serde_json::json!({ "key": entry });
        controls.push([&header(CONTROL, 0, 0)[..], &[1, 1], &key(&low_order, "key")].concat());
    }
    let valid = LinkClient::unsigned().control();
    controls.extend([4, 8, 11].map(|at| {
        let mut other = valid.clone();
        other[at] = 1;
        other
    }));
    controls.extend([valid[..valid.len() - 1].to_vec(), [&valid[..], &[0]].concat()]);
    let mut node = client(link_config(3, None));
    let own = poll(&mut node, 0).pop().expect("CONTROL");
    controls.push(own);
    let refused = controls.len() as u64;
    for control in controls {
        deliver(&mut node, MS, peer(), &control);
    }
    assert_eq!(poll(&mut node, MS), Vec::<Vec<u8>>::new());
    assert_eq!(results(node).refused_keys, refused);
}

#[test]
fn control_is_repeated_every_250_ms_and_keepalive_every_second() {
    let mut node = client(link_config(3, None));
    let sent = follow(&mut node, 0, 2_100 * MS);
    let times = |kind: u8| -> Vec<u64> {
        sent.iter().filter(|(_, datagram)| datagram[1] == kind).map(|(at, _)| at / MS).collect()
    };
    assert_eq!(times(CONTROL), [0, 250, 500, 750, 1_000, 1_250, 1_500, 1_750, 2_000]);
    assert_eq!(times(KEEPALIVE), [0, 1_000, 2_000]);
    let keepalives: Vec<_> =
        sent.iter().filter(|(_, datagram)| datagram[1] == KEEPALIVE).map(|(_, packet)| packet).collect();
    assert_eq!(keepalives, [&header(KEEPALIVE, 0, 0), &header(KEEPALIVE, 1, 0), &header(KEEPALIVE, 2, 0)]);
    // With keys, each CONTROL is followed by a sealed KEEPALIVE.
    let mut server = LinkClient::unsigned();
    assert!(server.on_control(&sent[1].1));
    deliver(&mut node, 2_100 * MS, peer(), &server.control());
    for (at, expected) in [(2_100, 1), (2_250, 1), (2_500, 1)] {
        let sent = poll(&mut node, at * MS);
        assert_eq!(sent.iter().map(|datagram| datagram[1]).collect::<Vec<_>>(), [CONTROL, KEEPALIVE], "{at}");
        let opened = sent.iter().filter(|datagram| server.open(datagram).is_some()).count();
        assert_eq!(opened, expected, "{at}");
    }
}

#[test]
fn audio_starts_at_sequence_0_in_stereo_after_the_first_opened_packet() {
    let (mut node, mut server) = settled();
    let sent = follow(&mut node, 0, 95 * MS);
    let opened: Vec<_> = sent.iter().filter_map(|(_, datagram)| server.open(datagram)).collect();
    let audio: Vec<_> = opened.iter().filter(|(kind, ..)| *kind == AUDIO).collect();
    let numbers: Vec<(u32, u32)> = audio.iter().map(|(_, sequence, timestamp, _)| (*sequence, *timestamp)).collect();
    // 16 bytes are two samples for each of two channels.
    assert_eq!(numbers, (0..10).map(|n| (n, 2 * n)).collect::<Vec<_>>());
    assert!(sent.iter().all(|(_, datagram)| datagram[1] != CONTROL || datagram.len() == 46));
    for (_, sequence, timestamp, payload) in audio {
        deliver(&mut node, 95 * MS, peer(), &server.seal(AUDIO, *sequence, *timestamp, payload));
    }
    // The link settles with LATENCY_INFO (type 7: five delays, frame size, sample rate, codec, channels) and LATENCY_PING, as for a jamjam client.
    let of = |wanted: u8| opened.iter().filter(move |(kind, ..)| *kind == wanted).map(|(.., payload)| payload.clone());
    let info = [&[0; 20][..], &2_u32.to_be_bytes(), &48_000_u32.to_be_bytes(), b"\x03pcm\x02"].concat();
    assert_eq!(of(7).collect::<Vec<_>>(), [info]);
    let pings: Vec<Vec<u8>> = of(LATENCY_PING).collect();
    assert_eq!(pings.len(), 1);
    deliver(&mut node, 95 * MS, peer(), &server.seal(LATENCY_PONG, 0, 0, &pings[0]));
    let run = finish(node);
    assert!(run.ping.is_none());
    let audio = run.audio.expect("AUDIO");
    assert_eq!((audio.stats.returned, audio.stats.damaged, audio.channels, audio.frame_samples), (10, 0, 2, 2));
    // IPv4 and UDP headers, packet header, counter, payload and tag.
    assert_eq!((audio.ip_bytes, run.stray), (28 + 12 + 8 + 16 + 16, 0));
}

/// Delivers a datagram once with each of its bits flipped.
fn deliver_flipped(node: &mut Prober, at: u64, datagram: &[u8]) {
    for bit in 0..datagram.len() * 8 {
        let mut flipped = datagram.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        deliver(node, at, peer(), &flipped);
    }
}

#[test]
fn packet_with_any_flipped_bit_neither_settles_the_link_nor_counts() {
    let mut node = client(link_config(3, None));
    let mut server = exchange(&mut node);
    poll(&mut node, 0);
    for kind in [KEEPALIVE, AUDIO] {
        deliver_flipped(&mut node, MS, &server.seal(kind, 1, 0, &[9; 16]));
    }
    assert!(poll(&mut node, MS).iter().all(|datagram| datagram[1] == CONTROL || datagram[1] == KEEPALIVE));
    deliver(&mut node, 2 * MS, peer(), &server.seal(KEEPALIVE, 1, 0, b""));
    assert_eq!(poll(&mut node, 2 * MS)[0][1], AUDIO);
    // Also on the settled link: AUDIO 0 with one flipped bit is not a damaged reply.
    deliver_flipped(&mut node, 3 * MS, &server.seal(AUDIO, 0, 0, &[9; 16]));
    let run = finish(node);
    let (audio, link) = (run.audio.expect("AUDIO").stats, run.link.expect("a link"));
    assert_eq!((audio.returned, audio.damaged, audio.unmatched), (0, 0, 0));
    assert_eq!(link.setup_ns, Some(2 * MS));
    assert!(link.not_opened > 500 && link.plain >= 2, "{link:?}");
}

#[test]
fn sealed_packet_with_a_flag_that_clients_do_not_know_does_not_open() {
    let (mut node, mut server) = settled();
    assert_eq!(poll(&mut node, 0)[2][1], AUDIO);
    for flags in [0x0003, 0x0005, 0x8001] {
        let sealed = server.seal_with_flags(AUDIO, 0, 0, flags, &[0; 16]);
        deliver(&mut node, MS, peer(), &sealed);
    }
    // Only has_fec is known. The payload is not the one that was sent.
    let run = finish(node);
    assert_eq!(run.audio.expect("AUDIO").stats.damaged, 1);
    assert_eq!(run.link.expect("a link").not_opened, 2);
}

#[test]
fn replayed_and_plain_packets_are_dropped_on_a_settled_link() {
    let (mut node, mut server) = settled();
    let sent = poll(&mut node, 0);
    let (_, sequence, timestamp, payload) =
        server.open(sent.iter().find(|packet| packet[1] == AUDIO).expect("AUDIO")).expect("opened");
    let reply = server.seal(AUDIO, sequence, timestamp, &payload);
    let plain = [header(AUDIO, 0, 0), payload].concat();
    for datagram in [&reply, &reply, &plain, &header(KEEPALIVE, 0, 0), &LinkClient::unsigned().control()] {
        deliver(&mut node, MS, peer(), datagram);
    }
    // The key that the link has is no new key.
    deliver(&mut node, MS, peer(), &server.control());
    let run = finish(node);
    let (audio, link) = (run.audio.expect("AUDIO").stats, run.link.expect("a link"));
    assert_eq!((audio.returned, audio.duplicated, audio.damaged, run.stray), (1, 0, 0, 0));
    // A plain KEEPALIVE may be a late answer to one of the set-up.
    assert_eq!((link.replayed, link.plain, link.refused_keys, link.not_opened), (1, 1, 1, 0));
}

#[test]
fn own_packets_of_the_server_are_answered_or_ignored_and_never_count() {
    let (mut node, mut server) = settled();
    poll(&mut node, 0);
    // Any KEEPALIVE that the client has not sent, and LATENCY_INFO.
    for sequence in [0, 1, 2, 1 << 29] {
        deliver(&mut node, MS, peer(), &server.seal(KEEPALIVE, sequence, 0, b""));
    }
    deliver(&mut node, MS, peer(), &server.seal(7, 0, 0, &[0; 33]));
    deliver(&mut node, MS, peer(), &server.seal(LATENCY_PING, 5, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]));
    let sent = poll(&mut node, MS);
    assert_eq!(sent.len(), 1);
    let (kind, _, _, payload) = server.open(&sent[0]).expect("opened");
    assert_eq!((kind, payload), (LATENCY_PONG, vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]));
    assert_eq!(finish(node).stray, 0);
}

#[test]
fn flood_of_pings_while_the_socket_is_full_is_bounded() {
    let (mut node, mut server) = settled();
    poll(&mut node, 0);
    for sequence in 0..1_000 {
        deliver(&mut node, MS, peer(), &server.seal(LATENCY_PING, sequence, 0, &[0; 12]));
    }
    let pongs = poll(&mut node, MS).iter().filter(|datagram| datagram[1] == LATENCY_PONG).count();
    assert_eq!(pongs, 64);
}

#[test]
fn packet_that_the_socket_refuses_is_offered_again_with_the_same_bytes() {
    let (mut node, mut server) = settled();
    let mut socket = RecordingSink::new();
    socket.plan = [SendStatus::WouldBlock].into();
    // CONTROL and the sealed KEEPALIVE of the link precede AUDIO. LATENCY_INFO and LATENCY_PING follow.
    node.poll_transmit(Time::from_nanos(0), &mut socket);
    assert_eq!(socket.sent, []);
    node.poll_transmit(Time::from_nanos(0), &mut socket);
    socket.plan = [SendStatus::WouldBlock; 3].into();
    for now in [10, 11, 12, 13] {
        node.poll_transmit(Time::from_nanos(now * MS), &mut socket);
    }
    let offered: HashSet<Vec<u8>> = socket.offered.iter().cloned().collect();
    let accepted = socket.take();
    assert_eq!((offered.len(), accepted.len()), (6, 6));
    let counters: Vec<Option<u64>> =
        accepted.iter().filter(|datagram| datagram[1] != CONTROL).map(|datagram| server.counter_of(datagram)).collect();
    assert_eq!(counters, [0, 1, 2, 3, 4].map(Some));
    assert!(server.open(&accepted[3]).is_some());
}

#[test]
fn unsigned_link_becomes_plain_by_the_first_plain_packet_besides_keepalive() {
    let mut node = client(link_config(3, None));
    poll(&mut node, 0);
    deliver(&mut node, MS, peer(), &header(KEEPALIVE, 0, 0));
    assert_eq!(poll(&mut node, MS), Vec::<Vec<u8>>::new());
    deliver(&mut node, 2 * MS, peer(), &[header(LATENCY_PING, 0, 0), vec![0; 12]].concat());
    let sent = follow(&mut node, 2 * MS, 1_500 * MS);
    assert_eq!((sent[0].1[1], sent[1].1[1]), (LATENCY_PONG, AUDIO));
    assert!(sent.iter().all(|(_, datagram)| datagram[1] != CONTROL && datagram[11] == 0));
    // A late key and sealed packets do not change a plain link.
    let mut other = LinkClient::unsigned();
    other.on_control(&link_client::LinkClient::unsigned().control());
    deliver(&mut node, 1_500 * MS, peer(), &LinkClient::unsigned().control());
    deliver(&mut node, 1_500 * MS, peer(), &other.seal(AUDIO, 1, 0, b""));
    deliver(&mut node, 1_500 * MS, peer(), &sent[1].1);
    let run = finish(node);
    let link = run.link.expect("a link");
    assert!(link.is_plain && !link.is_encrypted && link.failure.is_none());
    assert_eq!((link.setup_ns, link.refused_keys, link.without_keys), (None, 1, 1));
    assert_eq!(run.audio.expect("AUDIO").stats.returned, 1);
}

#[test]
fn link_that_is_not_settled_fails_at_its_time_out_with_the_cause() {
    let signed = || {
        let signing = LinkSigning { own: LinkKey::from_seed(&[8; 32]), server: LinkKey::from_seed(&[5; 32]).public() };
        link_config(3, Some(signing))
    };
    let unsigned = || link_config(3, None);
    let keepalive = header(KEEPALIVE, 0, 0);
    let ping = [header(LATENCY_PING, 0, 0), vec![0; 12]].concat();
    let key = LinkClient::unsigned().control();
    let signed_key = LinkClient::signed(&[5; 32]).control();
    for (config, received, expected) in [
        (unsigned(), None, LinkFailure::NoReply),
        (signed(), None, LinkFailure::NoReply),
        (unsigned(), Some(&keepalive), LinkFailure::NoKeyExchange),
        (signed(), Some(&keepalive), LinkFailure::NoKeyExchange),
        (unsigned(), Some(&key), LinkFailure::NotOpened),
        (unsigned(), Some(&signed_key), LinkFailure::KeyRefused),
        (signed(), Some(&key), LinkFailure::SignatureRefused),
        (signed(), Some(&signed_key), LinkFailure::SignatureRefused),
        (signed(), Some(&ping), LinkFailure::PlainRefused),
    ] {
        let mut node = client(config);
        poll(&mut node, 0);
        if let Some(received) = received {
            deliver(&mut node, MS, peer(), received);
        }
        let sent = follow(&mut node, MS, 2 * TIMEOUT);
        assert_eq!(sent.last().map(|(at, _)| *at), Some(TIMEOUT - 250 * MS), "{expected:?}");
        assert!(sent.iter().all(|(_, datagram)| [CONTROL, KEEPALIVE].contains(&datagram[1])), "{expected:?}");
        assert_eq!(deadline(&node), None, "{expected:?}");
        assert_eq!(results(node).failure, Some((expected, TIMEOUT)));
    }
    let mut node = client(unsigned());
    poll(&mut node, 0);
    node.on_port_unreachable(Time::from_nanos(MS), 0);
    follow(&mut node, MS, 2 * TIMEOUT);
    assert_eq!(results(node).failure, Some((LinkFailure::PortUnreachable, TIMEOUT)));
}

#[test]
fn packets_from_another_address_are_stray_and_never_settle_the_link() {
    let mut node = client(link_config(3, None));
    let control = poll(&mut node, 0).pop().expect("CONTROL");
    let mut server = LinkClient::unsigned();
    server.on_control(&control);
    let other = "192.0.2.9:5000".parse().expect("an address");
    deliver(&mut node, MS, other, &server.control());
    deliver(&mut node, MS, other, &server.seal(KEEPALIVE, 1, 0, b""));
    assert_eq!(poll(&mut node, MS), Vec::<Vec<u8>>::new());
    let run = finish(node);
    assert_eq!((run.link.expect("a link").refused_keys, run.audio.expect("AUDIO").stats.sent), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A server that restarts, or a forger, sends several keys in any order. KEEPALIVE packets are sealed under each of them.
    #[test]
    fn no_counter_is_used_twice_under_a_key(keys in prop::collection::vec(0_usize..4, 1..40)) {
        let mut node = client(link_config(3, None));
        let control = poll(&mut node, 0).pop().expect("CONTROL");
        let mut servers: Vec<LinkClient> = (0..4).map(|_| LinkClient::unsigned()).collect();
        let mut seen: Vec<HashSet<u64>> = vec![HashSet::new(); 4];
        for server in &mut servers {
            prop_assert!(server.on_control(&control));
        }
        for (step, index) in (1..).zip(keys) {
            let now = step * 90 * MS;
            deliver(&mut node, now, peer(), &servers[index].control());
            for datagram in poll(&mut node, now).iter().filter(|datagram| datagram[11] == 1) {
                let opened: Vec<(usize, u64)> = (0..4).filter_map(|of| Some((of, servers[of].counter_of(datagram)?))).collect();
                prop_assert_eq!(opened.len(), 1);
                prop_assert_eq!(opened[0].0, index);
                prop_assert!(seen[index].insert(opened[0].1), "counter {} again", opened[0].1);
            }
        }
    }
}
