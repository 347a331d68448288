//! Which sources are judged: places, addresses that are no clients, and ports that change. And the verdict.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_measure::check::{CheckReport, Finding, RULES, Severity};
use jamjam_measure::verdict::Verdict;

use super::wrong_client::{Sent, client};

/// A datagram at `ms`.
fn datagram(ms: u64, port: u16, bytes: &[u8]) -> Sent {
    let source = SocketAddr::from(([192, 0, 2, 7], port));
    Sent { at: Time::from_millis(ms), source, bytes: bytes.to_vec(), counter: None, drop_reason: None, mistake: None }
}

fn keepalive(ms: u64, port: u16) -> Sent {
    datagram(ms, port, &[1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn check(mut sent: Vec<Sent>) -> CheckReport {
    sent.sort_by_key(|datagram| datagram.at);
    super::wrong_client::check(&sent)
}

fn verdict(report: CheckReport, expected: usize) -> (Verdict, String) {
    let result = report.document(Severity::Error, expected, None);
    (result.head.verdict.result, result.text(false, false, None).lines().last().unwrap().to_owned())
}

/// Queries of DNS, STUN, SNMP, SIP, RTP, RTCP, and scans.
const FOREIGN: [&[u8]; 9] = [
    b"",
    b"\0",
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01",
    b"\0\x01\0\0\x21\x12\xa4\x42transaction!",
    b"0&\x02\x01\x01\x04\x06public",
    b"OPTIONS sip:nm SIP/2.0\r\n",
    b"\x80\x60\0\x01\0\0\0\xa0\0\0\0\x01data",
    b"\x80\xc8\0\x06\0\0\0\x01",
    b"GET / HTTP/1.0\r\n\r\n",
];

#[test]
fn foreign_datagrams_accuse_nobody_and_a_note_counts_their_addresses() {
    let mut sent = client("correct-2-channels-48000-plain").datagrams();
    sent.extend((0..9).map(|n| datagram(2_000, 50_000 + n, FOREIGN[usize::from(n)])));
    // More than there are places for.
    sent.extend((0..2_000).map(|n| datagram(2_100, 1 + n, FOREIGN[usize::from(n % 9)])));
    let report = check(sent);
    assert_eq!((report.sources.len(), report.strangers, report.untracked), (1, 2_009, 0));
    assert!(report.sources[0].findings.is_empty());
    assert_eq!(verdict(report, 1), (Verdict::Passed, "PASSED".to_owned()));
}

#[test]
fn twenty_datagrams_in_ten_seconds_are_a_client_with_a_wrong_header() {
    let wrong = |count: u64| check((0..count).map(|n| datagram(n * 500, 1, &[2; 524])).collect());
    assert_eq!((wrong(19).sources.len(), wrong(19).strangers), (0, 1));
    let report = wrong(20);
    assert_eq!((report.sources[0].findings[0].rule, report.strangers), ("version", 0));
    assert_eq!(verdict(report, 0).0, Verdict::Failed);
    assert_eq!(verdict(wrong(19), 1).1, "FAILED: 0 of 1 expected sources sent 30 AUDIO packets");
    let nothing = "NOT MEASURED: no client has done anything that could be judged";
    assert_eq!(verdict(wrong(19), 0), (Verdict::NotMeasured, nothing.to_owned()));
}

#[test]
fn handful_of_packets_is_not_judged() {
    for (packets, expected) in [(29, Verdict::NotMeasured), (30, Verdict::Passed)] {
        let sent = client("correct-2-channels-48000-plain").datagrams().into_iter();
        let report = check(sent.filter(|datagram| datagram.bytes[1] == 1).take(packets).collect());
        assert_eq!(verdict(report, 0).0, expected, "{packets}");
    }
}

#[test]
fn probes_over_hours_take_no_place_from_clients() {
    let mut sent = client("correct-2-channels-48000-plain").datagrams();
    sent.extend((0..5_000).map(|n| keepalive(60_000 + u64::from(n) * 30_000, 50_000 + n % 5_000)));
    let report = check(sent);
    let first = &report.sources[0];
    assert_eq!((&*first.name, first.took_part, report.untracked), ("source 1", true, 0));
    assert_eq!(verdict(report, 1).0, Verdict::Passed);
}

#[test]
fn invented_ports_displace_no_client_and_the_run_does_not_pass() {
    let wrong = client("samples-16-bit").datagrams();
    let audio = wrong.iter().find(|datagram| datagram.bytes[1] == 1).unwrap().bytes.clone();
    // 2,000 ports with one AUDIO packet before the client, and while it sends.
    let mut sent: Vec<Sent> = (0..2_000).map(|n| datagram(u64::from(n) / 4, 1 + n, &audio)).collect();
    sent.extend((0..2_000).map(|n| datagram(1_500 + u64::from(n), 10_000 + n, &audio)));
    sent.extend(wrong);
    let report = check(sent);
    let of_client = report.sources.iter().find(|source| source.facts.contains(":40000, ")).unwrap();
    assert_eq!(of_client.findings[0].rule, "sample_format");
    // 4,001 sources for 1,024 places.
    assert_eq!(report.untracked, 4_001 - 1_024);
    let text = verdict(report, 1).1;
    assert!(
        text.starts_with("FAILED: 2977 packets of further clients were not judged; source 1: error: samples"),
        "{text}"
    );
}

#[test]
fn client_whose_link_never_settles_is_reported() {
    let control = [&[1, 3][..], &[0; 10], &[1, 1], &[7; 32]].concat();
    let report = check((0..40).map(|n| datagram(n * 250, 1, &control)).collect());
    let result = report.document(Severity::Error, 0, None);
    let text = result.text(false, false, None);
    assert!(
        text.contains("no AUDIO: none was sent after the key exchange, nor any sealed packet that opens"),
        "{text}"
    );
    // All but the rules that judge any datagram.
    assert_eq!(result.junit().matches("<skipped message=\"AUDIO: none was sent after").count(), RULES.len() - 6);
}

/// Two processes that started at the same time send the same sequences and timestamps. The server starts later.
#[test]
fn another_process_takes_over_no_record_of_a_client() {
    let mut sent = client("correct-2-channels-48000-plain").datagrams();
    let start = Time::from_millis(2_000);
    let later = sent.iter().filter(|datagram| datagram.at > Time::from_millis(5_000)).cloned();
    let other: Vec<Sent> = later
        .map(|mut datagram| {
            datagram.source.set_port(50_000);
            // Two packets ahead.
            datagram.at = Time::from_nanos(datagram.at.as_nanos() - 6_000_000);
            datagram
        })
        .collect();
    sent.extend(other);
    sent.retain(|datagram| datagram.at >= start);
    let report = check(sent);
    let ports: Vec<_> = report.sources.iter().map(|source| source.details.as_ref().unwrap().source.port()).collect();
    assert_eq!(ports, [40_000, 50_000]);
    let is_right = |finding: &Finding| finding.severity == Severity::Note && finding.rule != "port_change";
    assert!(report.sources.iter().flat_map(|source| &source.findings).all(is_right), "{report:#?}");
}

#[test]
fn client_may_continue_from_another_port_for_30_s() {
    for (silence_s, sources) in [(20, 1), (31, 2)] {
        let mut sent = client("correct-2-channels-48000-plain").datagrams();
        for datagram in sent.iter_mut().filter(|datagram| datagram.at > Time::from_millis(5_000)) {
            datagram.source.set_port(50_000);
            datagram.at += Duration::from_secs(silence_s);
        }
        assert_eq!(check(sent).sources.len(), sources, "{silence_s} s");
    }
}

#[test]
fn reports_say_what_was_not_judged() {
    let result = check(client("clock-2000-ppm-slow").datagrams()).document(Severity::Error, 1, None);
    let json = result.to_json();
    assert_eq!(json["verdict"]["result"], "passed");
    assert_eq!(json["sources"][0]["not_judged"][0]["what"], "encrypted link");
    let text = result.text(false, false, None);
    assert!(text.contains("not judged: encrypted link (no key exchange)"), "{text}");
    assert!(text.ends_with("PASSED: 1 warning\n"), "{text}");
    // The seven rules about links.
    let skipped = "<skipped message=\"encrypted link: no key exchange\"";
    assert_eq!(result.junit().matches(skipped).count(), 7, "{text}");
}
