//! The life of an encrypted link, in virtual time. The client (`link_client.rs`) shares no code with the server.

use std::net::SocketAddr;
use test_support::echo_link::{
    SECOND, client_address, config, connect, dropped, exchange, impaired_server, link_config, prove, server,
    server_with, take_answer,
};
use test_support::link_client::{self, AUDIO, KEEPALIVE, LATENCY_PING, LinkClient};
use test_support::link_vectors::{bytes, key, list, vectors};
use test_support::logged::logged;
use test_support::node_driver::{MS, deliver, deliver_batch, poll};
use test_support::recording_sink::{RecordingSink, SentDatagram};

use jamjam_core::echo::DropReason::{KeyExchange, NoKeys, NotOpened, Payload, Plain, Replayed};
use jamjam_core::echo::{EchoConfig, EchoServer, LinkConfig, LinkPolicy};
use jamjam_core::impairment::Impairment;
use jamjam_core::link::LinkKey;
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::stats::Counter;
use jamjam_core::time::Time;
use serde_json::Value;

use super::loss_report::request_counts;

/// A server with this delay in milliseconds, and a client that has a confirmed link to it from the returned address.
fn connected(delay_ms: u64) -> (EchoServer, LinkClient, SocketAddr) {
    let (mut echo, from) = (server(delay_ms), client_address(1));
    let client = connect(&mut echo, 0, from);
    (echo, client, from)
}

#[test]
fn golden_transcript_has_identical_answers() {
    let vectors = vectors();
    let golden = &vectors["key_exchange"];
    let mut echo = EchoServer::new(config(3_000));
    let private = key(&golden["server"], "ephemeral_private");
    echo.enable_links(LinkConfig {
        policy: LinkPolicy::Auto,
        link_key: LinkKey::from_seed(&key(&golden["server"], "link_private")),
        entropy: Box::new(move || private.into()),
    });
    // A reply leaves from the address that was spoken to.
    let (mut sent, from) = (Vec::new(), Some([198, 51, 100, 8].into()));
    for (step, entry) in (0..).zip(list(golden, "transcript")) {
        let wire = bytes(entry, "wire");
        let mut sink = RecordingSink::new();
        if entry["from"] == "app" {
            assert_eq!(sent, [], "before {}", entry["what"]);
            deliver_batch(&mut echo, step * MS, (client_address(1), from), &wire, wire.len());
            echo.poll_transmit(Time::from_nanos(step * MS), &mut sink);
        } else {
            if sent.is_empty() {
                echo.poll_transmit(Time::from_millis(4_000), &mut sink);
            }
            sent.append(&mut sink.sent);
            let expected = SentDatagram { to: client_address(1), from, bytes: wire };
            assert_eq!(sent.remove(0), expected, "{}", entry["what"]);
        }
        sent.append(&mut sink.sent);
    }
    assert_eq!((sent.len(), dropped(&echo)), (0, 0));
}

/// A server whose key pair is `own` of a golden link, and that has exchanged keys with the other end.
fn golden_server(link: &Value, own: &str, peer: &str) -> EchoServer {
    let private = key(&link[own], "private");
    let mut echo = EchoServer::new(config(0));
    // Otherwise, sealed AUDIO is echoed until the client has used its keys.
    echo.enable_links(LinkConfig { entropy: Box::new(move || private.into()), ..link_config(LinkPolicy::Require) });
    let control = [&link_client::header(3, 0, 0, 0)[..], &[1, 1], &key(&link[peer], "public")].concat();
    assert_eq!(exchange(&mut echo, 0, client_address(1), &control).len(), 2);
    echo
}

#[test]
fn rejected_golden_datagrams_are_dropped_and_counted_once() {
    let vectors = vectors();
    let mut rejected = 0;
    for link in list(&vectors, "links") {
        for (direction, own, peer) in [("a->b", "b", "a"), ("b->a", "a", "b")] {
            for is_confirmed in [false, true] {
                let mut echo = golden_server(link, own, peer);
                let of_direction = |entry: &&Value| entry["direction"] == direction;
                let first = list(link, "packets").iter().find(of_direction).expect("a packet");
                if is_confirmed {
                    assert_eq!(exchange(&mut echo, MS, client_address(1), &bytes(first, "wire")).len(), 1, "{first}");
                }
                let mut drops = dropped(&echo);
                for entry in list(link, "rejected").iter().filter(of_direction) {
                    let is_plain = entry["why"].as_str().is_some_and(|why| why.contains("a plain packet"));
                    if is_plain && !is_confirmed {
                        continue;
                    }
                    let replies = exchange(&mut echo, 2 * MS, client_address(1), &bytes(entry, "wire"));
                    assert_eq!(replies, Vec::<Vec<u8>>::new(), "{entry}");
                    drops += 1;
                    assert_eq!(dropped(&echo), drops, "{entry}");
                    rejected += 1;
                }
                // None of them changed the session.
                let is_later = |entry: &&Value| entry["counter"].as_u64() > Some(1) && entry["type"] == "AUDIO";
                let later = list(link, "packets").iter().filter(of_direction).find(is_later).expect("AUDIO");
                assert_eq!(exchange(&mut echo, 3 * MS, client_address(1), &bytes(later, "wire")).len(), 1);
            }
        }
    }
    assert!(rejected > 200, "{rejected}");
}

#[test]
fn invalid_keys_get_no_answer_and_are_counted() {
    let mut echo = server(0);
    let vectors = vectors();
    let golden = &vectors["key_exchange"];
    let control = |payload: &[u8]| [&link_client::header(3, 0, 0, 0)[..], payload].concat();
    let invalid = list(golden, "app_that_knows_the_server_link_key").iter().map(|entry| bytes(entry, "payload"));
    let mut payloads: Vec<Vec<u8>> = invalid.filter(|payload| !has_valid_form(payload)).collect();
    for low_order in list(golden, "low_order_ephemeral_keys_refused") {
        payloads.push([&[1, 1][..], &bytes(&serde_json::json!({ "key": low_order }), "key")].concat());
    }
    let client = LinkClient::unsigned();
    let replies = exchange(&mut echo, 0, client_address(1), &client.control());
    // The server's own key, before the session ends.
    payloads.insert(0, replies[0][12..].to_vec());
    assert!(payloads.len() >= 10);
    for (at, payload) in (1..).zip(&payloads) {
        assert_eq!(exchange(&mut echo, at * 6 * SECOND, client_address(1), &control(payload)), Vec::<Vec<u8>>::new());
        assert_eq!(echo.counters().dropped(KeyExchange).get(), at, "{payload:02x?}");
    }
}

/// Whether a payload of CONTROL has one of the two valid forms. The server does not check the signature.
fn has_valid_form(payload: &[u8]) -> bool {
    matches!((payload.get(..2), payload.len()), (Some([1, 1]), 34) | (Some([1, 2]), 98))
}

#[test]
fn sealed_replies_leave_in_one_segmented_send() {
    let (mut echo, mut client, from) = connected(10);
    let audio: Vec<u8> = (0..5).flat_map(|sequence| client.seal(AUDIO, sequence, 0, &[1; 64])).collect();
    deliver_batch(&mut echo, MS, (from, None), &audio, 100);
    let mut sink = RecordingSink::new();
    echo.poll_transmit(Time::from_millis(11), &mut sink);
    assert_eq!(sink.segment_counts, [5]);
    let sequences: Vec<u32> = sink.take().iter().map(|reply| client.open(reply).expect("open").1).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
}

#[test]
fn reply_that_would_block_is_offered_again_with_the_same_bytes() {
    let (mut echo, mut client, from) = connected(10);
    for sequence in 0..2 {
        deliver(&mut echo, MS, from, &client.seal(AUDIO, sequence, 0, &[1; 64]));
    }
    let mut sink = RecordingSink::new();
    sink.plan = [SendStatus::WouldBlock].into();
    echo.poll_transmit(Time::from_millis(11), &mut sink);
    // Meanwhile, a KEEPALIVE arrives, whose reply overtakes the blocked audio.
    deliver(&mut echo, 12 * MS, from, &client.seal(KEEPALIVE, 3, 0, b""));
    sink.plan = [SendStatus::Sent, SendStatus::GsoUnsupported].into();
    echo.poll_transmit(Time::from_millis(12), &mut sink);
    let offered = sink.offered;
    assert_eq!(offered.len(), 5);
    assert_eq!((&offered[0], offered[3..].concat()), (&offered[2], offered[0].clone()));
    let mut opened = [1, 3, 4].map(|index| client.open(&offered[index]).expect("open").1);
    opened.sort_unstable();
    assert_eq!(opened, [0, 1, 3]);
}

#[test]
fn lost_reply_uses_up_a_counter_and_a_duplicate_is_the_same_datagram() {
    let from = client_address(1);
    let dropped_sequences = "1".parse().expect("a sequence");
    let mut echo = impaired_server(10, Impairment { dropped_sequences, ..Impairment::default() });
    let mut client = connect(&mut echo, 0, from);
    for sequence in 0..3 {
        deliver(&mut echo, MS, from, &client.seal(AUDIO, sequence, 0, &[1; 64]));
    }
    let replies = poll(&mut echo, 20 * MS);
    let counters: Vec<u64> = replies.iter().map(|reply| client.counter_of(reply).expect("sealed")).collect();
    // Counters 0 and 1: the server's proof and the reply to the client's. The second of the next three belongs to the lost reply.
    assert_eq!(counters, [2, 4]);

    let mut echo = impaired_server(10, Impairment { duplicate: 1.0, ..Impairment::default() });
    let mut client = LinkClient::unsigned();
    let replies = exchange(&mut echo, 0, from, &client.control());
    assert_eq!((replies.len(), &replies[0], &replies[2]), (4, &replies[1], &replies[3]));
    assert!(client.on_control(&replies[0]));
    deliver(&mut echo, MS, from, &client.seal(AUDIO, 0, 0, &[1; 64]));
    let replies = poll(&mut echo, 20 * MS);
    assert_eq!((replies.len(), &replies[0]), (2, &replies[1]));
    assert!(client.open(&replies[0]).is_some());
}

#[test]
fn new_link_from_the_same_port_starts_cleanly_once_it_is_proven() {
    let (mut echo, from) = (server(1_000), client_address(1));
    let mut old = connect(&mut echo, 0, from);
    let send = |echo: &mut EchoServer, client: &mut LinkClient, at, sequence| {
        deliver(echo, at, from, &client.seal(AUDIO, sequence, 0, &[0; 64]));
    };
    (0..10).for_each(|n| send(&mut echo, &mut old, u64::from(n) * 10 * MS, n));
    let mut new = LinkClient::unsigned();
    let replies = take_answer(&mut echo, 200 * MS, from, &mut new);
    // The old link works until the new one is proven.
    assert!(new.open(&replies[0]).is_some());
    send(&mut echo, &mut old, 300 * MS, 10);
    let replies = poll(&mut echo, SECOND + 45 * MS);
    assert_eq!(replies.iter().filter_map(|reply| old.open(reply)).count(), 5);
    prove(&mut echo, SECOND + 46 * MS, from, &mut new);
    (0..10).for_each(|n| send(&mut echo, &mut new, SECOND + 50 * MS + u64::from(n) * 10 * MS, n));
    send(&mut echo, &mut old, SECOND + 200 * MS, 11);
    let replies = poll(&mut echo, 5 * SECOND);
    assert!(replies.iter().map(|reply| new.open(reply).expect("sealed with the new keys").1).eq(0..10));
    assert_eq!((echo.counters().dropped_old_link.get(), echo.counters().dropped(NotOpened).get()), (6, 1));
}

#[test]
fn plain_audio_in_the_delay_line_does_not_reach_an_encrypted_link() {
    let (mut echo, from) = (server(1_000), client_address(1));
    let plain = [&link_client::header(AUDIO, 7, 0, 0)[..], &[1; 64]].concat();
    deliver(&mut echo, 0, from, &plain);
    connect(&mut echo, 500 * MS, from);
    assert_eq!(poll(&mut echo, 2 * SECOND), Vec::<Vec<u8>>::new());
    assert_eq!(exchange(&mut echo, 2 * SECOND, from, &plain), Vec::<Vec<u8>>::new());
    assert_eq!((echo.counters().dropped_old_link.get(), echo.counters().dropped(Plain).get()), (1, 1));
}

#[test]
fn forged_control_does_not_cost_a_plain_client_a_packet() {
    let (mut echo, from) = (server(10), client_address(1));
    for number in 0..100 {
        deliver(&mut echo, number * 10 * MS, from, &LinkClient::unsigned().control());
        // Older clients may set any flag.
        let plain = [&link_client::header(AUDIO, number as u32, 0, number as u16 % 2)[..], &[1; 64]].concat();
        deliver(&mut echo, number * 10 * MS, from, &plain);
        let replies = poll(&mut echo, number * 10 * MS + 10 * MS);
        assert!(replies.contains(&plain), "packet {number}");
    }
}

#[test]
fn confirmed_keys_drop_older_pending_keys_and_keep_newer_ones() {
    let (mut echo, from) = (server(0), client_address(1));
    let mut clients = [0, 1, 2].map(|number| {
        let mut client = LinkClient::unsigned();
        take_answer(&mut echo, number * 100 * MS, from, &mut client);
        client
    });
    let [older, confirmed, newer] = &mut clients;
    prove(&mut echo, SECOND, from, confirmed);
    let replies = exchange(&mut echo, 2 * SECOND, from, &older.seal(KEEPALIVE, 1, 0, b""));
    assert_eq!((replies.len(), dropped(&echo)), (0, 1));
    prove(&mut echo, 3 * SECOND, from, confirmed);
    prove(&mut echo, 4 * SECOND, from, newer);
    let replies = exchange(&mut echo, 5 * SECOND, from, &confirmed.seal(KEEPALIVE, 2, 0, b""));
    assert_eq!((replies.len(), dropped(&echo)), (0, 2));
}

#[test]
fn unused_keys_expire_30_s_after_their_answer() {
    for (late, is_new_link) in [(29_999 * MS, true), (30 * SECOND, false)] {
        let (mut echo, from) = (server(0), client_address(1));
        let mut current = connect(&mut echo, 0, from);
        let mut pending = LinkClient::unsigned();
        take_answer(&mut echo, SECOND, from, &mut pending);
        prove(&mut echo, 20 * SECOND, from, &mut current);
        let replies = exchange(&mut echo, SECOND + late, from, &pending.seal(KEEPALIVE, 1, 0, b""));
        assert_eq!(replies.len() == 1, is_new_link);
        let replies = exchange(&mut echo, 32 * SECOND, from, &current.seal(KEEPALIVE, 2, 0, b""));
        assert_eq!(replies.len() == 1, !is_new_link);
    }
}

#[test]
fn only_audio_that_opens_counts_as_audio_of_the_client() {
    let (mut echo, mut client, from) = connected(0);
    let forged = |sequence, flags| [&link_client::header(AUDIO, sequence, 0, flags)[..], &[3; 64]].concat();
    for sequence in 0..3 {
        let audio = client.seal(AUDIO, sequence, 0, &[1; 64]);
        let of_stranger = [forged(100 + sequence, 1), forged(200 + sequence, 0), forged(1 << 20, 1)];
        for datagram in [audio.clone(), audio].iter().chain(&of_stranger) {
            deliver(&mut echo, SECOND, from, datagram);
        }
    }
    let counters = echo.counters();
    let drops = [counters.dropped(Replayed), counters.dropped(NotOpened), counters.dropped(Plain)];
    assert_eq!(drops.map(Counter::get), [3, 6, 3]);
    assert_eq!(request_counts(&mut echo, 2 * SECOND, from).map(|(_, [audio, ..])| audio), Some(3));

    let mut echo = server_with(LinkPolicy::Require, 0);
    deliver(&mut echo, 0, from, &link_client::header(KEEPALIVE, 0, 0, 0));
    (0..4).for_each(|flags| deliver(&mut echo, 0, from, &forged(9, flags)));
    assert_eq!(request_counts(&mut echo, SECOND, from), Some((0, [0, 0, 1])));
}

#[test]
fn control_with_another_header_is_dropped() {
    let mut echo = server(0);
    let control = LinkClient::unsigned().control();
    for (index, drops) in (2..12).zip(1..) {
        let mut changed = control.clone();
        changed[index] = 1;
        assert_eq!(exchange(&mut echo, 0, client_address(1), &changed), Vec::<Vec<u8>>::new());
        assert_eq!(echo.counters().dropped(KeyExchange).get(), drops);
    }
    let answers = [1, 2].map(|number| exchange(&mut echo, 0, client_address(number), &control));
    assert_eq!(answers.each_ref().map(Vec::len), [2, 2]);
    assert_ne!(answers[0][0], answers[1][0], "two addresses get two keys");
}

#[test]
fn repeated_control_gets_the_same_answer_until_the_link_is_confirmed() {
    let (mut echo, from) = (server(0), client_address(1));
    let mut client = LinkClient::unsigned();
    let control = client.control();
    let first = exchange(&mut echo, 0, from, &control);
    assert_eq!(exchange(&mut echo, 99 * MS, from, &control), Vec::<Vec<u8>>::new());
    let again = exchange(&mut echo, 100 * MS, from, &control);
    assert_eq!((&first[0], first.len()), (&again[0], again.len()));
    // A signature makes no other key.
    let signed = [&control[..12], &[1, 2], &control[14..], &[9; 64]].concat();
    assert_eq!(exchange(&mut echo, 150 * MS, from, &signed), Vec::<Vec<u8>>::new());
    assert!(client.on_control(&first[0]));
    assert_eq!([&first[1], &again[1]].map(|proof| client.counter_of(proof)), [Some(0), Some(1)]);
    prove(&mut echo, 200 * MS, from, &mut client);
    assert_eq!(exchange(&mut echo, 900 * MS, from, &control), Vec::<Vec<u8>>::new());
}

#[test]
fn session_ends_after_30_s_and_the_same_key_then_gets_another_answer() {
    let (mut echo, from) = (server(0), client_address(1));
    let mut client = LinkClient::unsigned();
    let control = client.control();
    let first = exchange(&mut echo, 0, from, &control);
    assert!(client.on_control(&first[0]));
    prove(&mut echo, 0, from, &mut client);
    prove(&mut echo, 29_999 * MS, from, &mut client);
    assert_eq!(echo.counters().links.get(), 1);
    poll(&mut echo, 61 * SECOND);
    assert_eq!((echo.counters().links.get(), echo.next_deadline()), (0, None));
    assert_eq!(exchange(&mut echo, 61 * SECOND, from, &client.seal(KEEPALIVE, 0, 0, b"")), Vec::<Vec<u8>>::new());
    assert_eq!(echo.counters().dropped(NoKeys).get(), 1);
    assert_ne!(exchange(&mut echo, 61 * SECOND, from, &control)[0], first[0]);
}

#[test]
fn plain_client_next_to_a_sealed_one_gets_its_bytes_back() {
    let mut echo = server(10);
    connect(&mut echo, 0, client_address(1));
    for (kind, flags) in [(AUDIO, 0), (AUDIO, 3), (AUDIO, 0xffff), (KEEPALIVE, 0)] {
        let datagram = [&link_client::header(kind, 5, flags.into(), flags)[..], &[4; 64]].concat();
        deliver(&mut echo, MS, client_address(2), &datagram);
        assert_eq!(poll(&mut echo, 11 * MS), [datagram]);
    }
    assert_eq!((dropped(&echo), echo.counters().audio_without_keys.get()), (0, 2));
}

#[test]
fn plain_policy_answers_control_with_a_ping_and_seals_nothing() {
    let (mut echo, from) = (server_with(LinkPolicy::Plain, 10), client_address(1));
    let keepalive = link_client::header(KEEPALIVE, 0, 0, 0);
    let kinds = |replies: &[Vec<u8>]| replies.iter().map(|reply| reply[1]).collect::<Vec<u8>>();
    assert_eq!(kinds(&exchange(&mut echo, 0, from, &keepalive)), [LATENCY_PING, KEEPALIVE]);
    assert_eq!(exchange(&mut echo, SECOND, from, &keepalive), [keepalive]);
    for at in 1..4 {
        // Each time with another key: a second link from the same port is served too.
        let replies = exchange(&mut echo, at * SECOND, from, &LinkClient::unsigned().control());
        assert_eq!((kinds(&replies), replies[0].len(), replies[0][10..12] == [0, 0]), (vec![LATENCY_PING], 24, true));
        let audio = [&link_client::header(AUDIO, at as u32, 0, 0)[..], &[1; 64]].concat();
        deliver(&mut echo, at * SECOND, from, &audio);
        assert_eq!(poll(&mut echo, at * SECOND + 10 * MS), [audio]);
    }
    assert_eq!((echo.counters().key_exchanges.get(), dropped(&echo)), (3, 0));
}

#[test]
fn plain_policy_answers_control_of_one_client_every_100_ms() {
    let (mut echo, from) = (server_with(LinkPolicy::Plain, 0), client_address(1));
    let mut answered = |at: u64| exchange(&mut echo, at * MS, from, &LinkClient::unsigned().control()).len();
    assert_eq!([0, 1, 99, 100, 150, 199, 200].map(&mut answered), [1, 0, 0, 1, 0, 0, 1]);
    assert_eq!((echo.counters().key_exchanges.get(), echo.counters().ignored.get()), (3, 4));
}

#[test]
fn second_plain_link_from_the_same_port_is_logged_and_counted_anew() {
    let lines = logged(|| {
        let (mut echo, from) = (EchoServer::new(EchoConfig { log_sources: true, ..config(0) }), client_address(1));
        echo.enable_links(link_config(LinkPolicy::Plain));
        let controls = [(); 2].map(|()| LinkClient::unsigned().control());
        for (at, control) in [(0, &controls[0]), (1, &controls[0]), (2, &controls[1])] {
            deliver(&mut echo, at * SECOND, from, control);
            for sequence in 0..3 {
                let audio = [&link_client::header(AUDIO, sequence, at as u32, 0)[..], &[1; 64]].concat();
                deliver(&mut echo, at * SECOND, from, &audio);
            }
        }
        assert_eq!(request_counts(&mut echo, 3 * SECOND, from), Some((0, [6, 0, 0])));
    });
    assert_eq!(lines.iter().filter(|line| line.contains("link agreed")).count(), 2, "{lines:?}");
}

#[test]
fn require_policy_echoes_only_audio_that_opens() {
    let (mut echo, from) = (server_with(LinkPolicy::Require, 10), client_address(1));
    for flags in [0, 1] {
        deliver(&mut echo, 0, from, &[&link_client::header(AUDIO, 1, 0, flags)[..], &[1; 64]].concat());
    }
    assert_eq!(poll(&mut echo, SECOND), Vec::<Vec<u8>>::new());
    assert_eq!((echo.counters().dropped(Plain).get(), echo.counters().dropped(NoKeys).get()), (1, 1));
    let mut client = connect(&mut echo, SECOND, from);
    deliver(&mut echo, SECOND, from, &client.seal(AUDIO, 0, 0, &[1; 64]));
    assert_eq!(poll(&mut echo, 2 * SECOND).len(), 1);
}

#[test]
fn route_probe_is_answered_plain_or_sealed_as_it_came() {
    let (mut echo, from) = (server(0), client_address(1));
    let plain = |kind| [&link_client::header(KEEPALIVE, 5, 0, 0)[..], &[kind, 1, 2, 3, 4]].concat();
    for is_connected in [false, true] {
        assert_eq!(exchange(&mut echo, 0, from, &plain(1)), [plain(2)]);
        assert_eq!(exchange(&mut echo, 0, from, &plain(2)), Vec::<Vec<u8>>::new());
        if !is_connected {
            connect(&mut echo, 0, from);
        }
    }
    let from = client_address(2);
    let mut client = connect(&mut echo, 0, from);
    let replies = exchange(&mut echo, 0, from, &client.seal(KEEPALIVE, 5, 0, &[1, 1, 2, 3, 4]));
    assert_eq!(client.open(&replies[0]), Some((KEEPALIVE, 5, 0, vec![2, 1, 2, 3, 4])));
    assert_eq!(exchange(&mut echo, 0, from, &client.seal(KEEPALIVE, 5, 0, &[2, 1, 2, 3, 4])), Vec::<Vec<u8>>::new());
}

#[test]
fn other_sealed_packets_are_opened_and_counted() {
    let (mut echo, mut client, from) = connected(0);
    let info = [&[0; 20][..], &128_u32.to_be_bytes(), &48_000_u32.to_be_bytes(), b"\x03pcm\x02"].concat();
    for (kind, payload) in [(2, &[1; 40][..]), (6, &[1; 12]), (7, &info), (7, &[1]), (LATENCY_PING, &[1])] {
        assert_eq!(exchange(&mut echo, 0, from, &client.seal(kind, 0, 0, payload)), Vec::<Vec<u8>>::new());
    }
    let counters = echo.counters();
    assert_eq!((counters.ignored.get(), counters.latency_infos.get(), counters.dropped(Payload).get()), (2, 1, 2));
    let keepalive = link_client::header(KEEPALIVE, 0, 0, 0);
    assert_eq!(exchange(&mut echo, 0, from, &keepalive), Vec::<Vec<u8>>::new());
    assert_eq!(counters.dropped(Plain).get(), 1);
}

#[test]
fn log_names_the_link_and_why_a_source_sends_no_audio() {
    let lines = logged(|| {
        let mut echo = EchoServer::new(EchoConfig { log_sources: true, ..config(0) });
        echo.enable_links(link_config(LinkPolicy::Auto));
        let mut connected = connect(&mut echo, 0, client_address(1));
        let silent = LinkClient::unsigned();
        for quarter in 0..48 {
            deliver(&mut echo, quarter * 250 * MS, client_address(2), &silent.control());
            let plain = [&link_client::header(AUDIO, quarter as u32, 0, 0)[..], &[1; 64]].concat();
            deliver(&mut echo, quarter * 250 * MS, client_address(3), &LinkClient::unsigned().control());
            deliver(&mut echo, quarter * 250 * MS, client_address(3), &plain);
            // The client of an encrypted link sends no AUDIO, but forged AUDIO arrives.
            let forged = [&link_client::header(AUDIO, quarter as u32, 0, 1)[..], &[1; 64]].concat();
            deliver(&mut echo, quarter * 250 * MS, client_address(1), &forged);
            let keepalive = connected.seal(KEEPALIVE, quarter as u32, 0, b"");
            deliver(&mut echo, quarter * 250 * MS, client_address(1), &keepalive);
            poll(&mut echo, quarter * 250 * MS);
        }
    });
    for (event, expected) in [
        ("link agreed", [("192.0.2.1:51000", "encrypted"), ("192.0.2.3:51000", "plain")]),
        ("no audio", [("192.0.2.1:51000", "link is encrypted"), ("192.0.2.2:51000", "with the exchanged keys")]),
    ] {
        let found: Vec<&String> = lines.iter().filter(|line| line.contains(event)).collect();
        let has = |(source, text): (&str, &str)| found.iter().any(|line| line.contains(source) && line.contains(text));
        assert!(found.len() == 2 && expected.into_iter().all(has), "{found:?}");
    }
}
