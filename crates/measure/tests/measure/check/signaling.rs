//! The check of the connections of a signaling server. Tests of the program check it with all dialects.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use jamjam_core::memory_budget::MemoryBudget;
use jamjam_core::time::Time;
use jamjam_measure::check::{Severity, SignalingCheck};
use jamjam_measure::document;
use jamjam_signaling::{ConnId, Dialect, Hub, Message, NewConnection, Observer, Route, STRICT_RULES, SignalingLimits};
use roxmltree::Document;

const CLIENT: NewConnection =
    NewConnection { source: IpAddr::V4(Ipv4Addr::LOCALHOST), local_ip: Ipv4Addr::LOCALHOST, route: Route::Undecided };

fn result(check: &SignalingCheck) -> document::Document {
    check.report().document(Severity::Error, 0, None)
}

#[test]
fn memory_is_bounded_with_any_number_of_connections_and_sentences() {
    let mut check = SignalingCheck::default();
    for conn in (0..1_030).map(ConnId) {
        check.on_connect(conn, &CLIENT);
        for rule in ["unknown_type", "wrong_type"] {
            (0..100).for_each(|n| check.on_wrong_message(conn, rule, &format!("sentence {n}")));
        }
    }
    let report = check.report();
    assert_eq!((report.sources.len(), report.untracked), (1_024, 6));
    for source in report.sources {
        assert!(source.findings.len() <= 18, "{}", source.findings.len());
        assert_eq!(source.findings.iter().map(|finding| finding.count).sum::<u64>(), 200);
    }
}

#[test]
fn findings_differ_by_rule_and_sentence_and_the_worst_is_first() {
    let mut check = SignalingCheck::default();
    check.on_connect(ConnId(1), &CLIENT);
    for finding in ["refused a", "wrong_type b", "unknown_type b", "wrong_type c", "wrong_type b"] {
        let (rule, sentence) = finding.split_once(' ').unwrap();
        check.on_wrong_message(ConnId(1), rule, sentence);
    }
    // The connection is unknown.
    check.on_wrong_message(ConnId(2), "wrong_type", "b");
    let [source] = &check.report().sources[..] else { panic!() };
    let findings: Vec<_> = source
        .findings
        .iter()
        .map(|finding| (finding.severity, format!("{} {}", finding.rule, finding.message), finding.count))
        .collect();
    let expected = [
        (Severity::Error, "unknown_type b".to_owned(), 1),
        (Severity::Error, "wrong_type b".to_owned(), 2),
        (Severity::Error, "wrong_type c".to_owned(), 1),
        (Severity::Warning, "refused a".to_owned(), 1),
    ];
    assert_eq!(findings, expected);
    let reasons = result(&check).head.verdict.reasons;
    let expected = "connection 1 of 127.0.0.1: error: b [unknown_type, docs/signaling-server.md#check-of-a-client]";
    assert_eq!((reasons[0].as_str(), reasons.len()), (expected, 2));
}

#[test]
fn junit_has_a_case_per_rule_and_keeps_all_sentences_readable() {
    let mut check = SignalingCheck::default();
    check.on_connect(ConnId(1), &CLIENT);
    for (rule, name) in STRICT_RULES.iter().flat_map(|rule| ["\u{fffe}<", "\"&"].map(|name| (rule, name))) {
        check.on_wrong_message(ConnId(1), rule, &format!("type `{name}`"));
    }
    let text = result(&check).junit();
    let junit = Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let count = |name: &str| junit.descendants().filter(|node| node.has_tag_name(name)).count();
    // A refused request is a warning.
    assert_eq!((count("testcase"), count("failure")), (STRICT_RULES.len() + 3, STRICT_RULES.len() - 1));
    for failure in junit.descendants().filter(|node| node.has_tag_name("failure")) {
        let text = failure.text().unwrap();
        assert!(text.contains("type `<`") && text.contains("type `\"&`"), "{text}");
    }
}

#[test]
fn a_room_that_was_left_again_still_counts() {
    let mut check = SignalingCheck::default();
    check.on_connect(ConnId(1), &CLIENT);
    for membership in [None, Some((Dialect::Jamjam, true)), Some((Dialect::Jamjam, false)), None] {
        check.on_activity(Time::ZERO, ConnId(1), membership);
    }
    let [source] = &check.report().sources[..] else { panic!() };
    assert_eq!((source.facts.as_str(), source.took_part), ("jamjam, joined a room", true));
}

#[test]
fn lists_of_rooms_and_pings_alone_do_not_keep_a_check_from_being_idle() {
    let check = Arc::<Mutex<SignalingCheck>>::default();
    let limits = SignalingLimits { message_rate: Some(2), is_strict: true, ..SignalingLimits::default() };
    let (budget, observer) = (MemoryBudget::new(None), Arc::clone(&check) as _);
    let hub = Hub::new(limits, [0; 4]).connected(&budget, Box::new(|_| ()), Some(observer));
    let memory = budget.account(None);
    let (mut last, list) = (0, Message::Text(r#"{"type":"ListRooms"}"#));
    let connect = |conn| hub.on_connect(Time::ZERO.into(), ConnId(conn), CLIENT, &memory);
    let last_message = || check.lock().expect("no panic").last_message;
    // The last list exceeds the message rate, which closes the connection.
    let closed = connect(1);
    (0..5).for_each(|_| hub.on_message(Time::ZERO.into(), ConnId(1), list));
    hub.on_activity(Time::ZERO.into(), ConnId(1));
    assert_eq!((last_message(), closed.is_closing()), (None, true));
    connect(2);
    for message in [Message::Binary(1), Message::Text("{}"), list] {
        last += 1_000;
        hub.on_message(Time::from_millis(last).into(), ConnId(2), message);
        assert_eq!(last_message(), Some(Time::from_millis(last)), "{message:?}");
    }
}
