//! What the transcripts of `fixtures/signaling/webrtc` cannot express: relayed bytes.

use proptest::prelude::*;
use serde_json::Value;
use test_support::in_memory_hub::InMemoryHub;
use test_support::transcript::TranscriptServer as _;

const KEY: [u64; 4] = [1, 2, 3, 4];

/// Connects and receives the welcome.
fn join(hub: &mut InMemoryHub, name: &str, room: &str) {
    hub.connect(name, &format!("/?roomId={room}&userId={name}&userName={name}")).unwrap();
    assert!(hub.receive(name).unwrap().starts_with(r#"{"type":"welcome""#));
}

/// Two members of a room. Each has received the notification about the other member.
fn duo() -> InMemoryHub {
    let mut hub = InMemoryHub::new(KEY);
    join(&mut hub, "ann", "r");
    join(&mut hub, "bob", "r");
    hub.receive("ann").unwrap();
    hub.receive("bob").unwrap();
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
        hub.send_text("ann", &format!(r#"{{"sdp":{value},"type":"offer","targetUserId":"bob"}}"#)).unwrap();
        assert_eq!(hub.receive("bob"), Ok(format!(r#"{{"type":"offer","fromUserId":"ann","sdp":{value}}}"#)));
        hub.send_text("bob", &format!(r#"{{"targetUserId":"ann","candidate":{value},"type":"ice-candidate"}}"#))
            .unwrap();
        let received = format!(r#"{{"type":"ice-candidate","fromUserId":"bob","candidate":{value}}}"#);
        assert_eq!(hub.receive("ann"), Ok(received));
        hub.send_text("bob", &format!(r#"{{"type":"participant-update","updates":{value}}}"#)).unwrap();
        let received = format!(r#"{{"type":"participant-update","userId":"bob","updates":{value}}}"#);
        assert_eq!(hub.receive("ann"), Ok(received));
    }
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
        hub.send_text("ann", &format!(r#"{{"type":"offer","targetUserId":"bob","sdp":{value}}}"#)).unwrap();
        if let Ok(received) = hub.receive("bob") {
            let received: serde_json::Map<String, Value> = serde_json::from_str(&received).expect("an object");
            prop_assert_eq!(received.keys().collect::<Vec<_>>(), ["type", "fromUserId", "sdp"]);
            prop_assert_eq!(&received["fromUserId"], "ann");
        }
        prop_assert_eq!(hub.no_messages(), Ok(()));
    }
}
