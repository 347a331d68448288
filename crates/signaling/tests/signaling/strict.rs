//! `--strict`: what clients of each dialect receive for wrong messages, URLs and tokens. Without it, they receive what they always did.

use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::message_docs::message_docs;
use jamjam_signaling::token::{Audience, Claims, Secret, sign};
use jamjam_signaling::{ConnId, Message, STRICT_RULES, SignalingLimits, UNDECIDED};
use serde_json::{Map, Value, json};
use test_support::logged::logged;
use test_support::snapshot;

use crate::test_hub::{TestHub, ms, token, with_code, with_secret};

/// Maximum length of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 512;

const NAME: &str = "signaling/strict";

const WEBRTC: &str = "/?roomId=r&userId=ann&userName=Ann";
const OTHER_WEBRTC: &str = "/?roomId=r&userId=bob&userName=Bob";
const JOIN: &str = r#"{"type":"join","room_code":"4711"}"#;
const CHAT: &str = "/chat?token={token}";

/// A hub with the control surface room `4711` and a client that has connected to `url` and sent `first`, unless it is empty.
fn connected(is_strict: bool, url: &str, first: &str) -> TestHub {
    let mut hub = TestHub::new(SignalingLimits { is_strict, ..with_secret(&BroadcastSettings::default()) });
    hub.hub.create_room(ms(0), with_code("4711")).expect("a room");
    hub.connect_to(1, &url.replace("{token}", &token("c", "chat")));
    if !first.is_empty() {
        hub.text(1, 0, first);
    }
    hub
}

/// The message that contains a sentence, in the form of the dialect.
fn form(url: &str, sentence: &str) -> Value {
    match url {
        "/" => json!({"type": "error", "code": "INVALID_MESSAGE", "message": sentence}),
        "/v1/signaling" => json!({"type": "Error", "data": {"message": sentence}}),
        CHAT => json!({"type": "error", "error": sentence}),
        _ => json!({"type": "error", "message": sentence}),
    }
}

/// What both kinds of server answer to a message, which a client sends that has connected to `url` and sent `first`.
fn answer(url: &str, first: &str, message: &str) -> String {
    let [(strict, lines), (lenient, _)] = [true, false].map(|is_strict| {
        let mut hub = connected(is_strict, url, first);
        hub.connect_to(2, OTHER_WEBRTC);
        hub.sink.texts.clear();
        let lines = logged(|| hub.text(1, 1, message));
        assert_eq!((hub.received(2), hub.closed()), (vec![], vec![]), "{message}");
        (hub, lines)
    });
    let ([(1, answer)], [(1, rule, sentence)]) = (&strict.sink.texts[..], &strict.sink.wrong[..]) else {
        panic!("{message}: {:?}, {:?}", strict.sink.texts, strict.sink.wrong)
    };
    assert!(STRICT_RULES.contains(&&**rule) && lenient.sink.wrong.is_empty(), "{message}: {rule}");
    let always = if lenient.sink.texts.is_empty() {
        assert_eq!(strict.last(1), form(url, sentence));
        assert_eq!(lines, [format!("WARN message ignored conn=1 source=192.0.2.1 reason={sentence}")], "{message}");
        assert_eq!([&strict, &lenient].map(|hub| hub.counts().messages_ignored), [1, 1], "{message}");
        ""
    } else {
        assert_eq!(lenient.sink.texts, strict.sink.texts, "{message}");
        "always, "
    };
    let dialect = strict.hub.membership(ConnId(1)).map_or(UNDECIDED, |(dialect, _)| dialect.name());
    format!("< {always}{rule}, {dialect}: {answer}\n")
}

/// The file lists URLs and messages. Add a message there, and `UPDATE_SNAPSHOTS=1` adds its answer.
#[test]
fn wrong_messages_of_every_dialect_are_answered_only_if_strict() {
    let (committed, mut text) = (snapshot::committed(NAME), String::new());
    let (mut url, mut first) = ("", "");
    for line in committed.lines().filter(|line| !line.starts_with("< ")) {
        text = text + line + "\n";
        match line.split_at_checked(2) {
            Some(("@ ", selected)) => (url, first) = selected.split_once(' ').unwrap_or((selected, "")),
            Some(("> ", message)) => text += &answer(url, first, message),
            _ => {}
        }
    }
    snapshot::assert_matches(NAME, &text);
}

/// The bound is on the bytes of the JSON, where a control character has six.
#[test]
fn names_of_parameters_above_256_bytes_are_named() {
    for (param, is_accepted) in [("x".repeat(256), true), ("x".repeat(257), false), ("\u{1}".repeat(43), false)] {
        let mut hub = connected(true, "/", JOIN);
        hub.sink.texts.clear();
        hub.send(1, 0, &json!({"type": "param", "param": param, "value": 1}));
        let answer = form("/", "member `param`: expected a string of at most 256 bytes, got another string");
        assert_eq!(hub.received(1), if is_accepted { vec![] } else { vec![answer] });
    }
}

#[test]
fn binary_message_before_a_dialect_is_selected_is_answered_like_a_text() {
    let mut hub = connected(true, "/", "");
    hub.at(0, |hub, now| hub.on_message(now, ConnId(1), Message::Binary(0)));
    assert_eq!(hub.last(1), form("/", "binary message"));
    assert_eq!(hub.sink.wrong[0].1, "invalid_message");
}

#[test]
fn rejected_urls_and_tokens_are_closed_with_the_exact_reason_only_if_strict() {
    let lobby = |token: &str| format!("/lobby?token={token}");
    let signed = |key: &str, claims: &Claims| lobby(&sign(&Secret::new(key), claims));
    let claims = |room: &str| Claims::new("ann", room, Map::new(), ms(0).unix_ms(), 60.0);
    let expiring = |at: u64| signed("s", &Claims { expires_at: Some(at.into()), ..claims("lobby") });
    let endless = Claims { expires_at: None, ..claims("r").with_audience(Audience::WebRtc) };
    let (invalid, missing) = ((4002, "Invalid or expired token"), (1008, "Missing required parameters"));
    let (unnamed, unauthenticated) = ((4005, "Room name required"), (4001, "Authentication required"));
    let (long, too_long) = ("x".repeat(257), (1008, "Parameter too long"));
    let no_room = "Room name required: neither the path nor the parameter room has a name of 1 to 128 bytes";
    let no_token = "Authentication required: the parameter token is missing";
    let in_seconds = "expired token: expiresAt is in seconds; milliseconds are expected";
    for (url, (code, plain), exact) in [
        ("/?userId=u&userName=U".to_owned(), missing, "Missing required parameter roomId"),
        ("/?roomId=r&userID=u&userName=U".to_owned(), missing, "Missing required parameter userId"),
        ("/?roomId=r&userId=u&userName=".to_owned(), missing, "Missing required parameter userName"),
        (format!("/?roomId={long}&userId=u&userName=U"), too_long, "Parameter roomId too long"),
        (format!("/?roomId=r&userId=u&userName={long}"), too_long, "Parameter userName too long"),
        ("/rooms/%00".to_owned(), unnamed, no_room),
        ("/lobby".to_owned(), unauthenticated, no_token),
        (WEBRTC.to_owned(), unauthenticated, no_token),
        (lobby("x"), invalid, "malformed token"),
        (signed("other", &claims("lobby")), invalid, "invalid token signature"),
        (expiring(ms(0).unix_ms()), invalid, "expired token"),
        (expiring(1_795_003_600), invalid, in_seconds),
        // The bound between both units.
        (expiring(100_000_000_000), invalid, "expired token"),
        (expiring(99_999_999_999), invalid, in_seconds),
        (format!("{WEBRTC}&token={}", sign(&Secret::new("s"), &endless)), invalid, "token without expiresAt"),
    ] {
        for is_strict in [true, false] {
            let limits = with_secret(&BroadcastSettings::default());
            let limits = SignalingLimits { is_strict, webrtc_requires_token: true, ..limits };
            let mut hub = TestHub::new(limits);
            hub.connect_to(1, &url);
            let reason = if is_strict { exact } else { plain };
            assert_eq!(hub.sink.closed, [(1, code, reason.to_owned())], "{url}");
            assert!(reason.len() <= 123, "{reason}");
            let reports = hub.sink.wrong.iter().map(|(_, rule, text)| (rule.as_str(), text.as_str()));
            let expected = is_strict.then_some(("rejected_connection", exact));
            assert_eq!(reports.collect::<Vec<_>>(), Vec::from_iter(expected), "{url}");
        }
    }
}

#[test]
fn quoted_names_are_cut_to_64_bytes_and_sanitized() {
    let long = "\u{1b}[31m".to_owned() + &"x".repeat(100_000);
    let cut = "\u{fffd}[31m".to_owned() + &"x".repeat(59) + "\u{2026}";
    let to = format!("to{long}");
    let mut hub = connected(true, WEBRTC, "");
    hub.sink.texts.clear();
    hub.send(1, 0, &json!({"type": long}));
    hub.send(1, 0, &json!({"type": "offer", "targetUserId\u{202e}\"hunter2": "hunter3"}));
    hub.send(1, 0, &json!({"type": "offer", (to): "hunter3"}));
    hub.send(1, 0, &json!({"type": "\"".repeat(64)}));
    // The longest answer: each control character becomes three bytes.
    hub.send(1, 0, &json!({"type": "\u{1}".repeat(100)}));
    let texts: Vec<Value> = hub.received(1).into_iter().map(|answer| answer["message"].clone()).collect();
    let unknown = |name: &str| format!("member `type`: unknown type `{name}`; the nearest type is `");
    assert!(texts[0].as_str().unwrap().starts_with(&unknown(&cut)), "{texts:?}");
    assert_eq!(texts[1], "member `targetUserId` is missing; `targetUserId\u{fffd}\"hunter2` is unknown");
    assert!(texts[2].as_str().unwrap().len() < 160, "{texts:?}");
    assert!(texts[3].as_str().unwrap().starts_with(&unknown(&"\"".repeat(64))), "{texts:?}");
    assert!(hub.sink.texts.iter().all(|(_, text)| text.len() <= MAX_ANSWER_BYTES && !text.contains("hunter3")));
}

#[test]
fn errors_of_webrtc_are_documented_only_if_strict() {
    for is_strict in [true, false] {
        let docs = message_docs(&SignalingLimits { is_strict, ..SignalingLimits::default() });
        let webrtc = docs.channels.iter().find(|channel| channel.id == "webrtc").unwrap();
        assert_eq!(webrtc.server_messages.iter().any(|message| message.name == "error"), is_strict);
    }
}

#[test]
fn message_to_a_participant_who_has_just_left_is_no_fault() {
    for (seconds, is_wrong) in [(0, false), (9, false), (10, true)] {
        let mut hub = connected(true, WEBRTC, "");
        hub.connect_to(2, OTHER_WEBRTC);
        hub.disconnect(2);
        hub.send(1, 1_000 * seconds, &json!({"type": "ice-candidate", "targetUserId": "bob", "candidate": {}}));
        assert_eq!(hub.sink.wrong.len(), usize::from(is_wrong), "{seconds}");
    }
}

#[test]
fn description_without_sdp_is_relayed_and_reported() {
    for (kind, sdp, missing) in [("offer", None, 1), ("answer", None, 1), ("offer", Some("v=0"), 0)] {
        let mut hub = connected(true, WEBRTC, "");
        hub.connect_to(2, OTHER_WEBRTC);
        let mut message = json!({"type": kind, "targetUserId": "bob"});
        if let Some(sdp) = sdp {
            message["sdp"] = json!(sdp);
        }
        hub.send(1, 0, &message);
        assert_eq!((hub.last(2)["type"].as_str(), hub.last(2)["fromUserId"].as_str()), (Some(kind), Some("ann")));
        let expected = vec![(1, "missing_member".to_owned(), "member `sdp` is missing".to_owned()); missing];
        assert_eq!(hub.sink.wrong, expected);
    }
}
