//! The network is not the client: a correct client has neither errors nor warnings on a bad path.

use std::time::Duration;

use jamjam_core::echo::DropReason;
use jamjam_core::impairment::splitmix64;
use jamjam_core::time::Time;
use jamjam_measure::check::{Finding, Severity};

use super::wrong_client::{Sent, client};
use super::wrong_clients::findings;

/// A path, with probabilities in per mille.
#[derive(Clone, Copy, Debug)]
struct Path {
    delay_ms: u64,
    jitter_ms: u64,
    loss: u64,
    reordered: u64,
    duplicated: u64,
    /// Whether packets wait for delayed ones, as on Wi-Fi.
    is_ordered: bool,
}

const PATHS: [(&str, Path); 6] = [
    ("lan", Path { delay_ms: 0, jitter_ms: 0, loss: 0, reordered: 0, duplicated: 0, is_ordered: true }),
    ("fiber", Path { delay_ms: 5, jitter_ms: 2, loss: 1, reordered: 1, duplicated: 1, is_ordered: true }),
    ("wifi", Path { delay_ms: 10, jitter_ms: 30, loss: 10, reordered: 0, duplicated: 0, is_ordered: true }),
    ("mobile", Path { delay_ms: 60, jitter_ms: 50, loss: 20, reordered: 20, duplicated: 5, is_ordered: false }),
    ("satellite", Path { delay_ms: 300, jitter_ms: 40, loss: 50, reordered: 10, duplicated: 10, is_ordered: false }),
    ("worst", Path { delay_ms: 100, jitter_ms: 80, loss: 50, reordered: 50, duplicated: 50, is_ordered: false }),
];

fn through(path: Path, sent: &[Sent], seed: u64) -> Vec<Sent> {
    let random = |n: usize, purpose: u64, max: u64| splitmix64(seed * 10 + purpose, n as u64) % max.max(1);
    let mut arrived = Vec::new();
    let mut last = Time::ZERO;
    for (n, datagram) in sent.iter().enumerate() {
        if random(n, 0, 1_000) < path.loss {
            continue;
        }
        let late = if random(n, 1, 1_000) < path.reordered { Duration::from_millis(10) } else { Duration::ZERO };
        let jitter = Duration::from_micros(random(n, 2, path.jitter_ms * 1_000));
        let mut at = datagram.at + Duration::from_millis(path.delay_ms) + jitter + late;
        if path.is_ordered {
            at = at.max(last);
            last = at;
        }
        let copies = if random(n, 3, 1_000) < path.duplicated { 2 } else { 1 };
        for copy in 0..copies {
            // Only one copy of a sealed packet opens.
            let (mut datagram, at) = (datagram.clone(), at + Duration::from_micros(200 * copy));
            if copy > 0 && datagram.counter.is_some() {
                datagram.counter = None;
                datagram.drop_reason = Some(DropReason::Replayed);
            }
            arrived.push(Sent { at, ..datagram });
        }
    }
    arrived.sort_by_key(|datagram| datagram.at);
    arrived
}

#[test]
fn correct_client_on_a_bad_path_has_only_notes() {
    let names = ["correct-1-channels-48000-plain", "correct-2-channels-44100-sealed", "correct-january-client-64"];
    for name in names {
        let sent = client(name).datagrams();
        for (path_name, path) in PATHS {
            for seed in 1..=4 {
                let found = findings(&through(path, &sent, seed));
                let is_note = found.iter().all(|finding| finding.severity == Severity::Note);
                assert!(is_note, "{name} on {path_name}, seed {seed}: {found:#?}");
            }
        }
    }
}

#[test]
fn loss_reordering_duplicates_and_jitter_are_notes() {
    let sent = client("correct-2-channels-48000-plain").datagrams();
    let found = findings(&through(PATHS[5].1, &sent, 1));
    for rule in ["loss", "reordering", "duplicates", "jitter"] {
        assert!(found.iter().any(|finding| finding.code == rule), "{rule}: {found:#?}");
    }
    assert!(findings(&through(PATHS[0].1, &sent, 1)).is_empty());
}

#[test]
fn wrong_client_is_still_found_on_a_bad_path() {
    for (name, rule) in [
        ("timestamp-constant", "timestamp_step"),
        ("samples-16-bit", "sample_format"),
        ("timer-of-3-ms", "packet_rate"),
        ("plain-after-keys", "plain_after_keys"),
        ("audio-before-link", "audio_before_link"),
    ] {
        let found = findings(&through(PATHS[2].1, &client(name).datagrams(), 3));
        let severe: Vec<_> = found.iter().filter(|finding| finding.severity > Severity::Note).collect();
        assert!(matches!(&severe[..], [only] if only.code == rule), "{name}: {found:#?}");
    }
}

/// The datagram `ms` after the first one of the client.
fn at(ms: u64, mut datagram: Sent) -> Sent {
    datagram.at = Time::from_millis(1_000 + ms);
    datagram
}

#[test]
fn late_packets_of_the_previous_link_are_excepted() {
    let mut sent = client("correct-2-channels-48000-sealed").datagrams();
    let find =
        |packet_type: u8| sent.iter().find(|datagram| datagram.bytes[1] == packet_type).expect("a packet").clone();
    let (control, keepalive) = (find(3), find(4));
    for ms in 0..3 {
        let late = Sent { counter: None, drop_reason: Some(DropReason::NotOpened), ..keepalive.clone() };
        let plain = Sent { drop_reason: Some(DropReason::Plain), ..late.clone() };
        sent.extend([at(10_100 + ms, late), at(10_100 + ms, plain)]);
    }
    let late = sent.split_off(sent.len() - 6);
    let with = |more: &[Sent]| {
        let mut all = [&sent[..], &late, more].concat();
        all.sort_by_key(|datagram| datagram.at);
        findings(&all)
    };
    assert!(with(&[at(10_000, control), at(10_001, keepalive)]).is_empty());
    let rules: Vec<&str> = with(&[]).iter().map(|finding| finding.code).collect();
    assert_eq!(rules, ["not_opened", "plain_after_keys"]);
}

#[test]
fn format_may_change_before_its_latency_info_arrives() {
    // After 10 s, packets have 64 samples instead of 128. The client states it after `stated_after_s`.
    let changed = |stated_after_s: u64| {
        let mut sent = client("correct-1-channels-48000-plain").datagrams();
        sent.retain(|datagram| datagram.at < Time::from_millis(11_000));
        let mut smaller = client("correct-january-client-64").datagrams();
        let info = smaller.iter().position(|datagram| datagram.bytes[1] == 7).expect("LATENCY_INFO");
        let info = smaller.remove(info);
        smaller.push(at(stated_after_s * 1_000, info));
        for datagram in &mut smaller {
            datagram.at += Duration::from_secs(10);
        }
        sent.extend(smaller);
        sent.sort_by_key(|datagram| datagram.at);
        findings(&sent)
    };
    for stated_after_s in [6, 25] {
        let found = changed(stated_after_s);
        let is_right = |finding: &Finding| finding.severity == Severity::Note && finding.code != "frame_size";
        assert!(found.iter().all(is_right), "{found:#?}");
    }
}

#[test]
fn port_change_on_a_link_is_no_fault_of_the_client() {
    let mut sent = client("correct-2-channels-48000-sealed").datagrams();
    for datagram in sent.iter_mut().filter(|datagram| datagram.at > Time::from_millis(10_000)) {
        let is_audio = datagram.bytes[1] == 1;
        datagram.source.set_port(40_001);
        (datagram.counter, datagram.drop_reason) = (None, (!is_audio).then_some(DropReason::NoKeys));
    }
    let rules: Vec<&str> = findings(&sent).iter().map(|finding| finding.code).collect();
    assert_eq!(rules, ["port_change"]);
}
