//! The documents of a check: the JSON against its schema, and the page.

use jamjam_core::time::Time;
use jamjam_measure::check::{ClientCheck, CommandResult, EndedBy, FirstPacket, Severity, SignalingCheck};
use jamjam_measure::document::Document;
use jamjam_signaling::{ConnId, NewConnection, Observer, Route};
use serde_json::Value;

use super::senders::route;
use super::wrong_client::{Sent, check, client};
use crate::schema::assert_schema;

fn result(name: &str, command: Option<CommandResult>) -> Document {
    let mut report = check(&client(name).datagrams());
    if let Some(finding) = report.sources[0].findings.first_mut() {
        finding.first = Some(FirstPacket { at_s: 1.5, packet: "AUDIO", sequence: 17 });
    }
    report.document(Severity::Error, 2, command)
}

fn ended(ended_by: EndedBy, exit_code: Option<i32>, signal: Option<&str>) -> CommandResult {
    let (command, signal) = ("./client <\"$SERVER\">".to_owned(), signal.map(str::to_owned));
    CommandResult { command, exit_code, signal, ended_by }
}

#[test]
fn schema_accepts_exactly_the_fields_of_every_check() {
    let mut rooms = SignalingCheck::default();
    let source = [127, 0, 0, 1].into();
    rooms.on_connect(ConnId(1), &NewConnection { source, local_ip: [127, 0, 0, 1].into(), route: Route::Undecided });
    rooms.on_wrong_message(ConnId(1), "refused", "no");
    for datagram in client("samples-silent").datagrams() {
        rooms.senders.on_datagram(datagram.at, [0, 1], &route("Ben#1"), &datagram.bytes);
    }
    let results = [
        ("wrong samples", result("samples-big-endian", None)),
        ("drift", result("clock-400-ppm-fast", None)),
        ("by itself", result("samples-silent", Some(ended(EndedBy::Itself, Some(0), None)))),
        ("killed", result("port-change", Some(ended(EndedBy::UntilIdle, None, Some("SIGKILL"))))),
        ("duration", result("port-change", Some(ended(EndedBy::Duration, Some(143), Some("SIGTERM"))))),
        ("interrupted", result("empty-audio", Some(ended(EndedBy::Interrupt, None, None)))),
        ("rooms", rooms.report().document(Severity::Note, 0, None)),
    ];
    let document = |(name, result): (&str, Document)| (name.to_owned(), Value::Object(result.to_json()));
    let documents = results.map(document);
    assert!(documents.iter().any(|(_, document)| document["sources"][0]["drift"] != Value::Null));
    let places = assert_schema(&documents);
    assert!(places > 20, "only {places} places tried");
}

#[test]
fn command_that_names_no_variable_is_suspected_if_nothing_arrived() {
    let text = |command: &str, arrived: &[Sent]| {
        let command = CommandResult { command: command.to_owned(), ..ended(EndedBy::Itself, Some(0), None) };
        check(arrived).document(Severity::Error, 1, Some(command)).text(false, false, None)
    };
    let silent = client("samples-silent").datagrams();
    for (command, arrived, is_suspected) in [
        ("./client --server ''", &[][..], true),
        ("./client --server $SERVER", &[], false),
        ("client --server %SERVER%", &[], false),
        ("./client", &silent, false),
    ] {
        let text = text(command, arrived);
        assert_eq!(text.contains("in double quotes, a shell replaces $SERVER"), is_suspected, "{text}");
    }
}

#[test]
fn page_has_the_course_of_each_client_and_escapes_the_command() {
    let page = result("samples-silent", Some(ended(EndedBy::Itself, Some(0), None))).html("", "");
    for (text, count) in [
        // Silence has no level.
        ("<svg ", 2),
        ("./client &lt;&quot;$SERVER&quot;&gt;", 1),
        ("; the first one is AUDIO 17 at 1.500 s", 1),
        ("<script", 0),
    ] {
        assert_eq!(page.matches(text).count(), count, "{text}: {page}");
    }
}

/// KEEPALIVEs of a source without AUDIO, such as a health check, neither begin nor extend the time.
#[test]
fn idle_time_counts_from_datagrams_of_sources_with_audio() {
    let mut check = ClientCheck::default();
    let datagrams = client("sequence-from-1000").datagrams();
    let is_audio = |bytes: &[u8]| bytes[1] == 1;
    let first = datagrams.iter().find(|datagram| is_audio(&datagram.bytes)).unwrap();
    let mut other = first.clone();
    (other.source, other.bytes) = ("192.0.2.9:9".parse().unwrap(), vec![1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    check.on_datagram(other.observed());
    assert_eq!(check.last_activity, None);
    check.on_datagram(first.observed());
    assert_eq!(check.last_activity, Some(first.at));
    let mut later = other.clone();
    later.at = Time::from_millis(3_600_000);
    check.on_datagram(later.observed());
    assert_eq!(check.last_activity, Some(first.at));
    later.source = first.source;
    check.on_datagram(later.observed());
    assert_eq!(check.last_activity, Some(later.at));
}
