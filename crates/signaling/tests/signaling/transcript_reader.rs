//! Tests the transcript reader with wrong transcripts: each must fail with an error that names the position. The server in these tests
//! relays each client's messages unchanged to all other clients.

use std::collections::{BTreeMap, VecDeque};
use test_support::compare;
use test_support::transcript;

use transcript::{Progress, TranscriptServer, run_transcript};

/// Relays every text to the other clients. If a client sends a binary message, the other clients receive `"binary"`. If a client closes or
/// loses its connection, the other clients receive `"closed"` or `"cut"`.
#[derive(Default)]
struct RelayServer {
    waiting: BTreeMap<String, VecDeque<String>>,
}

impl TranscriptServer for RelayServer {
    fn connect(&mut self, name: &str, _: &str) -> Result<(), String> {
        self.waiting.insert(name.to_owned(), VecDeque::new());
        Ok(())
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        for (_, waiting) in self.waiting.iter_mut().filter(|(other, _)| *other != name) {
            waiting.push_back(text.to_owned());
        }
        Ok(())
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        self.send_text(name, "\"binary\"")
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        self.waiting.remove(name);
        self.send_text(name, "\"closed\"")
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        self.waiting.remove(name);
        self.send_text(name, "\"cut\"")
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        self.waiting.get_mut(name).and_then(VecDeque::pop_front).ok_or_else(|| format!("{name} receives nothing"))
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        self.waiting[name].front().map_or(Ok(()), |text| Err(format!("{name} receives {text}")))
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        Err(format!("the relay server does not close {name}"))
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        Err(format!("the relay server does not ping {name}"))
    }

    fn advance(&mut self, _: u64) -> bool {
        false
    }

    fn no_messages(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.waiting.keys().cloned().collect();
        names.iter().try_for_each(|name| self.no_message(name))
    }
}

const ROOM: &str = r#"{"id":"1a2b3c4d"}"#;

/// Runs these lines after ann and bob have connected (lines 1 and 2).
fn run_lines(lines: &[&str]) -> Result<Progress, String> {
    let transcript = format!("ann connects\nbob connects\n{}\n", lines.join("\n"));
    run_transcript(&transcript, &mut RelayServer::default())
}

/// Checks that these lines fail with a message that contains every text in `expected`.
#[track_caller]
fn fails(lines: &[&str], expected: &[&str]) {
    let error = run_lines(lines).expect_err("a wrong transcript passed");
    for text in expected {
        assert!(error.contains(text), "{text:?} is not in:\n{error}");
    }
}

#[track_caller]
fn passes(lines: &[&str]) {
    assert_eq!(run_lines(lines), Ok(Progress::Complete));
}

#[test]
fn correct_transcript_passes() {
    passes(&[
        "# a comment",
        "",
        r#"ann> {"type":"A","data":{"n":1,"list":[null,true,"x"]}}"#,
        r#"bob< {"data":{"list":[null,true,"x"],"n":1},"type":"A"}"#,
        "ann receives nothing",
        "bob receives nothing",
        "ann sends binary",
        r#"bob< "binary""#,
        "ann closes",
        r#"bob< "closed""#,
        "ann connects",
        "bob is cut",
        r#"ann< "cut""#,
    ]);
}

#[test]
fn wrong_value_is_reported_with_its_path() {
    let sent = r#"ann> {"type":"A","data":{"n":1,"list":[null,true,"x"]}}"#;
    for (wrong, path) in [
        (r#"{"type":"B","data":{"n":1,"list":[null,true,"x"]}}"#, r#"message.type is "A", expected "B""#),
        (r#"{"type":"A","data":{"n":2,"list":[null,true,"x"]}}"#, "message.data.n is 1, expected 2"),
        (r#"{"type":"A","data":{"n":1.0,"list":[null,true,"x"]}}"#, "message.data.n is 1, expected 1.0"),
        (r#"{"type":"A","data":{"n":"1","list":[null,true,"x"]}}"#, "message.data.n is 1, expected \"1\""),
        (r#"{"type":"A","data":{"n":1,"list":[null,false,"x"]}}"#, "message.data.list[1] is true, expected false"),
        (r#"{"type":"A","data":{"n":1,"list":[null,"x",true]}}"#, "message.data.list[1] is true, expected \"x\""),
        (r#"{"type":"A","data":{"n":1,"list":[null,true]}}"#, "message.data.list has 3 elements, expected 2"),
        (r#"{"type":"A","data":{"n":1,"list":[null,true,"x",1]}}"#, "message.data.list has 3 elements, expected 4"),
        (r#"{"type":"A","data":{"n":1,"list":[null,true,"x"],"o":null}}"#, "message.data.o is missing, expected null"),
        (r#"{"type":"A","data":{"list":[null,true,"x"]}}"#, "message.data.n is unexpected: 1"),
        (r#"{"type":"A","data":null}"#, "message.data is "),
    ] {
        fails(&[sent, &format!("bob< {wrong}")], &["line 4", path]);
    }
}

#[test]
fn every_difference_of_a_message_is_reported() {
    fails(
        &[r#"ann> {"a":1,"b":2}"#, r#"bob< {"a":3,"c":2}"#],
        &["message.a is 1", "message.b is unex", "message.c is mi"],
    );
}

#[test]
fn missing_message_is_reported() {
    fails(&["ann> 1", "bob< 1", "bob< 1"], &["line 5", "bob receives nothing"]);
    fails(&["bob< 1"], &["line 3", "bob receives nothing"]);
}

#[test]
fn extra_message_is_reported() {
    fails(&["ann> 1"], &["at the end", "bob receives 1"]);
    fails(&["ann> 1", "bob receives nothing"], &["line 4", "bob receives 1"]);
    fails(&["ann> 1", "ann> 2", "bob< 1", "bob< 2"], &["line 4", "before this line: bob receives 1"]);
    fails(&["ann> 1", "bob closes", r#"ann< "closed""#], &["line 4", "bob receives 1"]);
    fails(&["ann> 1", "bob is cut", r#"ann< "cut""#], &["line 4", "bob receives 1"]);
    fails(&["ann> 1", "cat connects", "bob< 1"], &["line 4", "bob receives 1"]);
    fails(&["ann> 1", "bob sends binary"], &["line 4", "bob receives 1"]);
}

#[test]
fn messages_in_another_order_are_reported() {
    fails(&["cat connects", "ann> 1", "bob< 1", "cat> 2", "cat< 1"], &["line 6", "cat receives 1"]);
}

#[test]
fn placeholder_binds_at_first_use_and_is_substituted_later() {
    let again = r#"ann> {"id":"$room","text":"in $room, not ${room}0, for $5"}"#;
    let received = r#"bob< {"id":"1a2b3c4d","text":"in $room, not 1a2b3c4d0, for $5"}"#;
    passes(&[&format!("ann> {ROOM}"), r#"bob< {"id":"$room"}"#, again, received]);
    passes(&[r#"ann> {"url":"ws://host/1a2b3c4d/x"}"#, r#"bob< {"url":"ws://host/$room/x"}"#]);
}

#[test]
fn mismatching_placeholder_is_reported() {
    let bound = [&format!("ann> {ROOM}"), r#"bob< {"id":"$room"}"#];
    fails(
        &[bound[0], bound[1], r#"ann> {"id":"1a2b3c4e"}"#, bound[1]],
        &["line 6", "1a2b3c4e", "expected \"1a2b3c4d\""],
    );
    fails(&[r#"ann> ["1a2b3c4d","1a2b3c4e"]"#, r#"bob< ["$room","$room"]"#], &["message[1]"]);
    fails(&[bound[0], bound[1], r#"ann> {"id":"x1a2b3c4d"}"#, r#"bob< {"id":"y$room"}"#], &["expected \"y1a2b3c4d\""]);
    fails(&[r#"ann> {"id":"x1a2b3c4d"}"#, r#"bob< {"id":"y$room"}"#], &["expected \"y$room\""]);
}

#[test]
fn unbound_placeholder_cannot_be_sent() {
    fails(&[r#"ann> {"id":"$room"}"#, r#"bob< {"id":"$room"}"#], &["line 3", "$room has no value yet"]);
    fails(&[r#"ann> "ab""#, r#"bob< "$one$two""#], &["two unknown names"]);
    fails(&[r#"ann> """#, r#"bob< "$some""#], &["expected \"$some\""]);
    fails(&["ann> 5", r#"bob< "$some""#], &["message is 5"]);
}

#[test]
fn two_placeholders_must_have_two_values() {
    let sent = r#"ann> ["1a2b3c4d","1a2b3c4d"]"#;
    fails(&[sent, r#"bob< ["$room_a","$room_b"]"#], &["$room_b is the same as $room_a"]);
    passes(&[sent, r#"bob< ["$room_a1","$room_a2"]"#]);
}

#[test]
fn placeholder_value_has_the_form_of_its_name() {
    for (value, name) in [
        ("1A2B3C4D", "room"),
        ("1a2b3c4", "room"),
        ("1a2b3c4g", "room_b"),
        ("ABC23", "invite"),
        ("abc234", "invite"),
        ("ABC10O", "invite_b"),
        ("ABCIL2", "invite"),
        ("ann", "peer_ann"),
        ("6f1c2a34-5b6d-1e7f-8a9b-0c1d2e3f4a5b", "peer_ann"),
        ("6f1c2a34-5b6d-4e7f-ca9b-0c1d2e3f4a5b", "peer_ann"),
        ("6F1C2A34-5b6d-4e7f-8a9b-0c1d2e3f4a5b", "peer_ann"),
        ("6f1c2a345b6d4e7f8a9b0c1d2e3f4a5b", "peer_ann"),
    ] {
        fails(&[&format!("ann> \"{value}\""), &format!("bob< \"${name}\"")], &[&format!("${name} is not a")]);
    }
    let right = r#"["1a2b3c4d","ABC234","6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b","anything"]"#;
    passes(&[&format!("ann> {right}"), r#"bob< ["$room","$invite","$peer_ann","$other"]"#]);
}

#[test]
fn time_placeholder_is_an_integer_and_binds() {
    for (expected, got, matches) in [
        (r#"{"at":"$ms1"}"#, r#"{"at":1700000000000}"#, true),
        (r#"{"at":"$ms1","too":"$ms1"}"#, r#"{"at":5,"too":5}"#, true),
        (r#"{"at":"$ms1","too":"$ms2"}"#, r#"{"at":5,"too":5}"#, true),
        (r#"{"at":"$ms1","too":"$ms1"}"#, r#"{"at":5,"too":6}"#, false),
        (r#"{"at":"$ms1"}"#, r#"{"at":"5"}"#, false),
        (r#"{"at":"$ms1"}"#, r#"{"at":5.5}"#, false),
        (r#"{"at":"$ms1"}"#, r#"{"at":null}"#, false),
        (r#"{"at":"$name"}"#, r#"{"at":5}"#, false),
    ] {
        assert_eq!(compare::Bindings::default().compare(expected, got).is_ok(), matches, "{expected} {got}");
    }
}

#[test]
fn placeholder_case_can_be_changed_where_it_has_letters() {
    passes(&[&format!("ann> {ROOM}"), r#"bob< {"id":"$room"}"#, r#"ann> "${room:upper}""#, r#"bob< "1A2B3C4D""#]);
    let lines = [r#"ann> "12345678""#, r#"bob< "$room""#, r#"ann> "${room:upper}""#, "nonsense"];
    assert_eq!(run_lines(&lines), Ok(Progress::UntilLine(5)));
}

#[test]
fn invalid_transcript_line_is_reported() {
    for line in ["ann", "ann sends hello", "connects", "> 1", "ann >1", "ann  connects", "ann receives", " # comment"] {
        fails(&[line], &["line 3", "invalid transcript line"]);
    }
    for line in ["ann connects", "cat> 1", "cat< 1", "cat receives nothing", "cat closes"] {
        fails(&[line], &["line 3", "connected already, or not yet"]);
    }
    fails(&["ann> 1", "bob< {"], &["line 4", "the transcript is not JSON"]);
    fails(&["ann> {", "bob< 1"], &["line 4", "received invalid JSON"]);
}
