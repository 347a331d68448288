//! What members of rooms send to each other is judged on arrival: of sealed packets, headers and lengths.

use std::collections::BTreeSet;
use std::time::Duration;

use jamjam_core::direction::Direction;
use jamjam_core::impairment::splitmix64;
use jamjam_core::media_relay::MediaRoute;
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckedSource, RULES, Severity, SignalingCheck};
use jamjam_measure::verdict::Verdict;
use serde_json::json;

use super::wrong_client::{Client, Sent, client, clients};

/// The rules that sealed packets show, without a rate.
const VISIBLE: [&str; 19] = [
    "short",
    "version",
    "type",
    "reserved_flags",
    "first_sequence",
    "sequence_step",
    "sequence_repeated",
    "sequence_restart",
    "timestamp_step",
    "payload_length",
    "clock_drift",
    "pacing",
    "datagram_size",
    "key_exchange",
    "counter_repeated",
    "loss",
    "reordering",
    "duplicates",
    "jitter",
];

/// The rules that need a server which answers, or the source.
const ANSWERED: [&str; 9] = [
    "stun",
    "port_change",
    "not_opened",
    "sealed_without_keys",
    "plain_after_keys",
    "link_required",
    "audio_before_link",
    "limited",
    "rate_limited",
];

pub(super) fn route(to: &str) -> MediaRoute {
    MediaRoute { room: 1, from: "Aki#1".into(), to: to.into(), direction: Direction::Up }
}

/// A packet as it is sent: sealed packets are encrypted again.
pub(super) fn on_the_wire(bytes: &[u8], counter: Option<u64>) -> Vec<u8> {
    let Some(counter) = counter else { return bytes.to_vec() };
    let encrypted = (0..).zip(&bytes[12..]).map(|(at, byte)| byte ^ splitmix64(counter, at) as u8).collect::<Vec<_>>();
    [&bytes[..12], &counter.to_be_bytes(), &encrypted, &[7; 16]].concat()
}

fn report(sent: &[Sent]) -> CheckedSource {
    let mut check = SignalingCheck::default();
    for Sent { at, bytes, counter, .. } in sent {
        check.senders.on_datagram(*at, [0, 1], &route("Ben#1"), &on_the_wire(bytes, *counter));
    }
    check.report().sources.remove(0)
}

fn found(source: &CheckedSource) -> BTreeSet<&str> {
    source.findings.iter().map(|finding| finding.rule).collect()
}

fn not_judged(source: &CheckedSource) -> BTreeSet<&str> {
    source.not_judged.iter().flat_map(|part| part.rules).map(|rule| rule.rule().id).collect()
}

/// The client of the table, on an encrypted link.
fn sealed(mut client: Client) -> Client {
    client.row["link"] = json!("sealed");
    client
}

/// The clients of the table that agree no keys.
fn plain_clients() -> impl Iterator<Item = Client> {
    clients().into_iter().filter(|client| client.row["link"].as_str().is_none_or(|link| link == "plain"))
}

#[test]
fn plain_members_are_judged_except_for_what_needs_answers() {
    for client in plain_clients() {
        let source = report(&client.datagrams());
        let expected = client.expected();
        let expected: BTreeSet<&str> =
            expected.iter().map(|(rule, _)| &**rule).filter(|rule| !ANSWERED.contains(rule)).collect();
        assert_eq!(found(&source), expected, "{}: {:#?}", client.name(), source.findings);
        assert!(ANSWERED.iter().all(|rule| not_judged(&source).contains(rule)), "{:?}", source.not_judged);
        assert!(source.not_judged.iter().all(|part| part.reason != "sealed"), "{:?}", source.not_judged);
    }
}

#[test]
fn sealed_packets_are_judged_by_headers_and_lengths_alone() {
    let hidden = || RULES.iter().map(|rule| rule.id).filter(|rule| !VISIBLE.contains(rule) && *rule != "packet_rate");
    for client in plain_clients().map(sealed) {
        let source = report(&client.datagrams());
        let expected = client.expected();
        let mut expected: BTreeSet<&str> =
            expected.iter().map(|(rule, _)| &**rule).filter(|rule| VISIBLE.contains(rule)).collect();
        if client.name() == "samples-8-bit" {
            // As few bytes as samples are no 32-bit floats.
            expected.insert("timestamp_step");
        }
        assert_eq!(found(&source), expected, "{}: {:#?}", client.name(), source.findings);
        assert!(hidden().all(|rule| not_judged(&source).contains(rule)), "{}: {:#?}", client.name(), source.findings);
        assert!(source.facts.contains("encrypted link"), "{}", source.facts);
    }
}

#[test]
fn rate_and_drift_of_sealed_audio_are_judged_if_a_standard_rate_fits() {
    for (rate, fits) in [(44_100, true), (48_000, true), (96_000, true), (32_000, false), (88_200, false)] {
        let mut client = sealed(client("correct-2-channels-48000-plain"));
        (client.row["sample_rate"], client.row["seconds"]) = (json!(rate), json!(30));
        let source = report(&client.datagrams());
        assert!(source.findings.is_empty(), "{source:#?}");
        assert_eq!(source.facts.contains(&format!("128 samples at {rate} Hz, 2 channels")), fits, "{}", source.facts);
        let not_judged = not_judged(&source);
        assert_eq!([not_judged.contains("packet_rate"), source.facts.contains("sample clock")], [!fits, fits]);
        // Below 500 ppm, drift needs a minute.
        assert!(not_judged.contains("clock_drift"), "{source:#?}");
    }
}

#[test]
fn counters_may_start_again_with_each_key_exchange_and_only_then() {
    let link = sealed(client("correct-2-channels-48000-plain")).datagrams();
    // With an early exchange, the last packets of the link before follow it, which is why the restart of the sequence is noted.
    for (is_exchanged, early, rules) in
        [(true, 0, &[][..]), (true, 1, &["sequence_restart"]), (false, 0, &["counter_repeated"])]
    {
        let mut all = Vec::new();
        for n in 0..3 {
            let sent = link.iter().filter(|sent| n == 0 || is_exchanged || sent.bytes[1] != 3);
            let early = |sent: &Sent| if n > 0 && sent.bytes[1] == 3 { early } else { 0 };
            let moved = |sent: &Sent| sent.at + Duration::from_secs(20 * n - early(sent));
            all.extend(sent.map(|sent| Sent { at: moved(sent), ..sent.clone() }));
        }
        all.sort_by_key(|sent| sent.at);
        assert_eq!(Vec::from_iter(found(&report(&all))), rules);
    }
}

#[test]
fn repeated_counters_are_found_whatever_the_keys_are() {
    for counter in [|_| 0, |n: u64| n % 100, |n: u64| n.swap_bytes()] {
        let mut sent = sealed(client("correct-2-channels-48000-plain")).datagrams();
        for datagram in &mut sent {
            datagram.counter = datagram.counter.map(counter);
        }
        let source = report(&sent);
        assert_eq!(found(&source), ["counter_repeated"].into(), "{:#?}", source.findings);
    }
}

#[test]
fn reports_name_each_flow_and_count_those_without_a_place() {
    let mut check = SignalingCheck::default();
    let (right, wrong) = (client("correct-2-channels-48000-plain"), client("timestamp-counts-packets"));
    for (number, name, client) in [(1, "Ben#1", sealed(right)), (2, "Eva#1", sealed(wrong))] {
        for Sent { at, bytes, counter, .. } in &client.datagrams() {
            check.senders.on_datagram(*at, [0, number], &route(name), &on_the_wire(bytes, *counter));
        }
    }
    let audio = [&[1, 1][..], &[0; 522]].concat();
    let result = check.report().document(Severity::Error, 0, None);
    let reasons = &result.head.verdict.reasons;
    assert!(reasons.len() == 1 && reasons[0].starts_with("room 1, Aki#1 to Eva#1: error: timestamp"), "{reasons:?}");
    let (text, junit) = (result.text(false, false, None), result.junit());
    assert!(text.contains("STUN, port changes and seals (forwarded, not answered), links and limits"), "{text}");
    assert!(text.contains("7500 AUDIO packets in 20.0 s, encrypted link"), "{text}");
    for (case, count) in [
        (r#"classname="room 1, Aki#1 to Ben#1""#, RULES.len()),
        (r#"classname="room 1, Aki#1 to Eva#1""#, RULES.len()),
        ("<skipped message=\"samples, LATENCY_INFO and KEEPALIVE interval: sealed\"", 2 * 13),
        ("<failure ", 1),
    ] {
        assert_eq!(junit.matches(case).count(), count, "{case}: {junit}");
    }
    for number in 3..1_030 {
        (0..2).for_each(|_| check.senders.on_datagram(Time::ZERO, [0, number], &route("many"), &audio));
    }
    let report = check.report();
    assert_eq!((report.sources.len(), report.untracked), (1_024, 10));
    let reasons = report.document(Severity::Error, 0, None).head.verdict.reasons;
    assert!(reasons[0].ends_with("10 further connections or datagrams of members were not judged"), "{reasons:?}");
}

#[test]
fn flow_without_audio_or_without_packets_is_not_judged_by_it() {
    let mut check = SignalingCheck::default();
    let keepalive = [1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    (0..20).for_each(|s| check.senders.on_datagram(Time::from_millis(s * 1_000), [0, 1], &route("Ben#1"), &keepalive));
    let report = check.report();
    let [source] = &report.sources[..] else { panic!("{report:#?}") };
    assert_eq!((&*source.facts, source.findings.len()), ("no AUDIO: none was sent", 0));
    assert!(not_judged(source).is_superset(&["pacing", "stun", "timestamp_step"].into()));
    let nobody = SignalingCheck::default().report().document(Severity::Error, 0, None);
    assert_eq!(nobody.head.verdict.result, Verdict::NotMeasured);
}

/// The findings about all flows of a room, whose members send at these times, in milliseconds, to these others.
fn found_in_room(sent: impl Iterator<Item = (u64, [u64; 2], Vec<u8>)>) -> Vec<(String, &'static str)> {
    let (mut check, mut all) = (SignalingCheck::default(), sent.collect::<Vec<_>>());
    all.sort_by_key(|(ms, ..)| *ms);
    for (ms, [from, to], bytes) in all {
        let route =
            MediaRoute { room: 1, from: from.to_string().into(), to: to.to_string().into(), direction: Direction::Up };
        check.senders.on_datagram(Time::from_millis(ms), [from, to], &route, &bytes);
    }
    let of_flow = |source: &CheckedSource| {
        source.findings.iter().map(|found| (source.name.clone(), found.rule)).collect::<Vec<_>>()
    };
    check.report().sources.iter().flat_map(of_flow).collect()
}

fn packet(kind: u8, number: u32, len: usize) -> Vec<u8> {
    [&[1, kind][..], &number.to_be_bytes(), &(number * 128).to_be_bytes(), &[0; 2], &vec![7; len]].concat()
}

#[test]
fn flow_that_begins_while_its_sender_plays_has_no_unusual_sequence() {
    let audio = |n: u64, to| (n * 8 / 3, [0, to], packet(1, n as u32, 1_024));
    let late = |from: u64| (from..4_000).map(move |n| audio(n, 2));
    let found = |from| found_in_room((1_000..4_000).map(|n| audio(n, 1)).chain(late(from)));
    assert_eq!(found(2_000), [("room 1, 0 to 1".to_owned(), "first_sequence")]);
}

#[test]
fn keepalive_that_answers_that_of_the_other_member_has_no_interval() {
    let audio = |from: u64| (0..12_000_u32).map(move |n| (u64::from(n) * 8 / 3, [from, 1 - from], packet(1, n, 1_024)));
    let keepalives = |from: u64, interval: usize, answers: bool| {
        let own = (0..30_000)
            .step_by(interval)
            .map(move |ms| (ms, [from, 1 - from], packet(4, ms as u32 / interval as u32, 0)));
        let answered = own.clone().filter(move |_| answers);
        own.chain(answered.map(|(ms, [from, to], bytes)| (ms + 20, [to, from], bytes)))
    };
    let found = |own: [usize; 2], answers| {
        let mut found = found_in_room(
            audio(0).chain(audio(1)).chain(keepalives(0, own[0], answers)).chain(keepalives(1, own[1], answers)),
        );
        found.retain(|(_, code)| *code == "keepalive_interval");
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(found([600, 600], true), [""; 0]);
    assert_eq!(found([600, 600], false), [""; 0]);
    // The second member sends too often, and the first one answers.
    assert_eq!(found([1_000, 300], true), ["room 1, 1 to 0"]);
    assert_eq!(found([1_000, 3_000], false), ["room 1, 1 to 0"]);
}
