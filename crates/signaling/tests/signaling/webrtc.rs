//! What the transcripts of `fixtures/signaling/webrtc` cannot express: relayed bytes, and required tokens.

use jamjam_signaling::SignalingLimits;
use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::token::{Audience, Claims, Secret, sign};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use test_support::logged::logged;

use crate::test_hub::{TestHub, ms, with_secret};

/// The members `ann` and `bob` of a room, on the connections 1 and 2. Their notifications about each other are removed.
fn duo() -> TestHub {
    let mut hub = TestHub::new(SignalingLimits::default());
    hub.connect_to(1, "/?roomId=r&userId=ann&userName=ann");
    hub.connect_to(2, "/?roomId=r&userId=bob&userName=bob");
    hub.sink.texts.clear();
    hub
}

/// All values are relayed byte for byte, including numbers that JSON parsers cannot represent exactly.
#[test]
fn relayed_values_keep_their_bytes() {
    for value in [
        "123456789012345678901234567890.000100",
        "1e400",
        "-0",
        r#"{ "b" : 1.0,"a":[ ] ,"b":2}"#,
        r#""\u0041\/\ud800""#,
        r#"{"__proto__":{"type":"x"}}"#,
        "\"\u{7f}\u{2028}\"",
    ] {
        let mut hub = duo();
        hub.text(1, 0, &format!(r#"{{"sdp":{value},"type":"offer","targetUserId":"bob"}}"#));
        hub.text(2, 0, &format!(r#"{{"targetUserId":"ann","candidate":{value},"type":"ice-candidate"}}"#));
        hub.text(2, 0, &format!(r#"{{"type":"participant-update","updates":{value}}}"#));
        let expected = [
            (2, format!(r#"{{"type":"offer","fromUserId":"ann","sdp":{value}}}"#)),
            (1, format!(r#"{{"type":"ice-candidate","fromUserId":"bob","candidate":{value}}}"#)),
            (1, format!(r#"{{"type":"participant-update","userId":"bob","updates":{value}}}"#)),
        ];
        assert_eq!(hub.sink.texts, expected);
    }
}

/// Only one rejection per second is logged, without the token.
#[test]
fn user_without_a_valid_token_is_counted_and_replaces_no_member() {
    let limits = SignalingLimits { webrtc_requires_token: true, ..with_secret(&BroadcastSettings::default()) };
    let mut hub = TestHub::new(limits);
    let token = |user: &str| {
        let claims = Claims::new(user, "r", Map::new(), ms(0).unix_ms(), 60.0).with_audience(Audience::WebRtc);
        sign(&Secret::new("s"), &claims)
    };
    let lines = logged(|| {
        for (conn, token) in (1..).zip([&*token("ann"), &token("bob"), "", "x.y", &token("ann")]) {
            hub.connect_to(conn, &format!("/?roomId=r&userId=ann&userName=ann&token={token}"));
        }
        hub.connect_to(6, "/rooms/jam?token=x");
    });
    assert_eq!(hub.closed(), [(2, 4002), (3, 4001), (4, 4002), (1, 1000), (6, 4002)]);
    assert_eq!(hub.received(1).len(), 1);
    let rejected: Vec<_> = lines.iter().filter(|line| line.contains("connection rejected")).collect();
    let reason = r#"reason="Invalid or expired token" detail="token for another client""#;
    assert_eq!(rejected, [&format!("WARN connection rejected conn=2 source=192.0.2.1 code=4002 {reason}")]);
    let of = |name: &str| {
        let mut dialects = hub.hub.counters_by_dialect().into_iter();
        let (_, counts) = dialects.find(|(dialect, _)| *dialect == name).expect("a dialect");
        (counts.closed_invalid_token, counts.requests_rejected, counts.connections_opened)
    };
    assert_eq!((of("webrtc"), of("broadcast")), ((3, 3, 5), (1, 1, 1)));
}

/// A concatenation of pieces of JSON, which is sometimes valid JSON.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = r#"{ } [ ] , : " \ \u d83d "sdp" "type" "offer" "fromUserId":"x" null true 1 - 0.5 e9 🎸"#;
    let piece = prop::sample::select(pieces.split(' ').chain([" ", "\n", "\u{7f}"]).collect::<Vec<_>>());
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// The sender can put any text in place of a value. The target user receives either a JSON object with exactly three keys, or no
    /// message.
    #[test]
    fn a_relayed_value_cannot_add_members_to_the_message(value in pieces()) {
        let mut hub = duo();
        hub.text(1, 0, &format!(r#"{{"type":"offer","targetUserId":"bob","sdp":{value}}}"#));
        prop_assert!(hub.sink.texts.len() <= 1 && hub.sink.closed.is_empty());
        if let Some((to, text)) = hub.sink.texts.first() {
            let received: Map<String, Value> = serde_json::from_str(text).expect("an object");
            prop_assert_eq!(received.keys().collect::<Vec<_>>(), ["type", "fromUserId", "sdp"]);
            prop_assert_eq!((*to, &received["fromUserId"]), (2, &"ann".into()));
        }
    }
}

/// A message may cross with the notification that its receiver has left.
#[test]
fn only_messages_to_who_has_just_left_are_no_fault() {
    let mut hub = TestHub::new(SignalingLimits { is_strict: true, ..SignalingLimits::default() });
    hub.connect_to(1, "/?roomId=r&userId=ann&userName=ann");
    hub.connect_to(2, "/?roomId=r&userId=bob&userName=bob");
    hub.disconnect(2);
    for (user, at_ms, faults) in [("bob", 9_999, 0), ("carol", 9_999, 1), ("bob", 10_000, 2)] {
        hub.send(1, at_ms, &json!({"type": "call-ended", "targetUserId": user}));
        assert_eq!(hub.sink.wrong.len(), faults, "{user} {at_ms}");
    }
}
