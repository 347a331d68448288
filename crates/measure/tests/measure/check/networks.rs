//! The network is not the client: a correct client has neither errors nor warnings on a bad path.

use std::collections::HashSet;
use std::time::Duration;

use jamjam_core::echo::DropReason;
use jamjam_core::time::Time;
use jamjam_measure::check::{Finding, Severity};

use super::simulated_client::{PATHS, Path, Random};
use super::wrong_client::{Sent, client};
use super::wrong_clients::findings;

fn path(name: &str) -> Path {
    *PATHS.iter().find(|path| path.name == name).expect("a path")
}

/// What arrives of the datagrams on this path.
fn through(path: Path, sent: &[Sent]) -> Vec<Sent> {
    let lengths = sent.iter().map(|datagram| {
        let sequence = datagram.bytes[2..6].first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        (datagram.at.as_nanos() as f64 / 1e9, datagram.bytes.len(), sequence.filter(|_| datagram.bytes[1] == 1))
    });
    let mut arrived = path.pass(lengths, &mut Random::new(3));
    arrived.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut received = HashSet::new();
    let arrive = |(at_s, index): (f64, usize)| {
        let mut datagram = Sent { at: Time::from_nanos((at_s * 1e9) as u64), ..sent[index].clone() };
        // Only one copy of a sealed packet opens.
        if !received.insert(index) && datagram.counter.take().is_some() {
            datagram.drop_reason = Some(DropReason::Replayed);
        }
        datagram
    };
    arrived.into_iter().map(arrive).collect()
}

#[test]
fn loss_reordering_duplicates_and_jitter_are_notes() {
    let sent = client("correct-2-channels-48000-plain").datagrams();
    let mut worst = path("unordered");
    worst.jitter = 100.0;
    let found = findings(&through(worst, &sent));
    assert!(found.iter().all(|finding| finding.severity == Severity::Note), "{found:#?}");
    for rule in ["loss", "reordering", "duplicates", "jitter"] {
        assert!(found.iter().any(|finding| finding.rule == rule), "{rule}: {found:#?}");
    }
    assert!(findings(&through(path("perfect"), &sent)).is_empty());
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
        let found = findings(&through(path("wifi-bad"), &client(name).datagrams()));
        let severe: Vec<_> = found.iter().filter(|finding| finding.severity > Severity::Note).collect();
        assert!(matches!(&severe[..], [only] if only.rule == rule), "{name}: {found:#?}");
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
    let rules: Vec<&str> = with(&[]).iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["not_opened", "plain_after_keys"]);
}

#[test]
fn first_packet_of_a_finding_is_none_that_was_excused() {
    let mut sent = client("correct-2-channels-48000-sealed").datagrams();
    let find = |kind: u8| sent.iter().find(|datagram| datagram.bytes[1] == kind).expect("a packet").clone();
    let plain = |ms, kind| at(ms, Sent { counter: None, drop_reason: Some(DropReason::Plain), ..find(kind) });
    // A new link begins with a plain KEEPALIVE.
    let renewal = [plain(5_000, 4), at(5_001, find(3)), at(5_002, find(4))];
    let wrong = [10_000, 10_001, 10_002].map(|ms| plain(ms, 1));
    sent.extend(renewal.into_iter().chain(wrong));
    sent.sort_by_key(|datagram| datagram.at);
    let [found] = &findings(&sent)[..] else { panic!() };
    assert!(found.message.ends_with("received plain AUDIO") && found.count == 3, "{found:#?}");
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
        let is_right = |finding: &Finding| finding.severity == Severity::Note && finding.rule != "frame_size";
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
    let rules: Vec<&str> = findings(&sent).iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["port_change"]);
}

#[test]
fn sound_that_fades_out_in_tiny_numbers_is_little_endian() {
    for (case, sample) in [
        ("stuck, a value per channel", &(|at: u32| 60 + 2 * (at % 2)) as &dyn Fn(u32) -> u32),
        ("stuck, with either sign", &|at| 0x3c | (at % 3 / 2) << 31),
        ("stuck, larger", &|at| 0x133b + 0x100 * (at % 2)),
        ("fading", &|at| (0x3f_u32.saturating_sub(at / 5_000)) | (at % 2) << 31),
    ] {
        let (mut sent, mut at) = (client("correct-2-channels-48000-plain").datagrams(), 0);
        for datagram in sent.iter_mut().filter(|sent| sent.bytes[1] == 1 && sent.at > Time::from_millis(10_000)) {
            for word in datagram.bytes[12..].as_chunks_mut::<4>().0 {
                *word = sample(at).to_le_bytes();
                at += 1;
            }
        }
        assert_eq!(findings(&sent), [], "{case}");
    }
}
