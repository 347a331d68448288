//! WebRTC signaling against the transcripts in `fixtures/rooms/webrtc`, which were written from its protocol: played to a hub in
//! memory. What a transcript cannot say is told here.

use std::fmt::Write as _;
use test_support::hall;
use test_support::scripts;
use test_support::transcript;

use hall::Hall;
use proptest::prelude::*;
use scripts::scripts;
use serde_json::Value;
use transcript::{Played, Stage, Step, play, step};

const KEY: [u64; 4] = [1, 2, 3, 4];

/// Connects, and hears the welcome.
fn join(hall: &mut Hall, name: &str, room: &str) {
    hall.connect(name, &format!("/?roomId={room}&userId={name}&userName={name}")).unwrap();
    assert!(hall.hear(name).unwrap().starts_with(r#"{"type":"welcome""#));
}

/// Two in a room who have heard of each other.
fn duo() -> Hall {
    let mut hall = Hall::new(KEY);
    join(&mut hall, "ann", "r");
    join(&mut hall, "bob", "r");
    hall.hear("ann").unwrap();
    hall.hear("bob").unwrap();
    hall
}

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let (mut wrong, mut many) = (String::new(), 0);
    for (name, script) in scripts("webrtc") {
        many += 1;
        match play(&script, &mut Hall::new(KEY)) {
            Ok(Played::Whole) => {}
            other => _ = writeln!(wrong, "{name}: {}", other.map_or_else(|what| what, |played| format!("{played:?}"))),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(many >= 36, "{many} transcripts");
}

#[test]
fn every_message_type_is_in_a_transcript() {
    let scripts = scripts("webrtc");
    let lines = || scripts.iter().flat_map(|(_, script)| script.lines()).filter_map(|line| step(line).unwrap());
    let kind = |text: &str| serde_json::from_str::<Value>(text).ok()?["type"].as_str().map(str::to_owned);
    let said: Vec<String> =
        lines().filter_map(|(_, step)| if let Step::Says(text) = step { kind(text) } else { None }).collect();
    let heard: Vec<String> =
        lines().filter_map(|(_, step)| if let Step::Hears(text) = step { kind(text) } else { None }).collect();
    let relayed = ["offer", "answer", "ice-candidate", "call-ended", "participant-update"];
    let servers =
        ["welcome", "existing-participants", "participant-joined", "participant-left", "participants-list", "pong"];
    for kind in relayed.into_iter().chain(["request-participants", "ping"]) {
        assert!(said.iter().any(|other| other == kind), "nobody says {kind}");
    }
    for kind in relayed.into_iter().chain(servers) {
        assert!(heard.iter().any(|other| other == kind), "nobody hears {kind}");
    }
    for kind in servers {
        assert!(said.iter().any(|other| other == kind), "no client tries to say {kind}");
    }
}

/// Numbers that no reader of JSON keeps are not read: the bytes are.
#[test]
fn what_is_relayed_is_written_as_it_was() {
    for value in [
        "123456789012345678901234567890.000100",
        "1e400",
        "-0",
        r#"{ "b" : 1.0,"a":[ ] ,"b":2}"#,
        r#""\u0041\/\ud800""#,
        r#"{"__proto__":{"type":"x"}}"#,
        "\"\u{7f}\u{2028}\"",
    ] {
        let mut hall = duo();
        hall.say("ann", &format!(r#"{{"sdp":{value},"type":"offer","targetUserId":"bob"}}"#)).unwrap();
        assert_eq!(hall.hear("bob"), Ok(format!(r#"{{"type":"offer","fromUserId":"ann","sdp":{value}}}"#)));
        hall.say("bob", &format!(r#"{{"targetUserId":"ann","candidate":{value},"type":"ice-candidate"}}"#)).unwrap();
        let heard = format!(r#"{{"type":"ice-candidate","fromUserId":"bob","candidate":{value}}}"#);
        assert_eq!(hall.hear("ann"), Ok(heard));
        hall.say("bob", &format!(r#"{{"type":"participant-update","updates":{value}}}"#)).unwrap();
        let heard = format!(r#"{{"type":"participant-update","userId":"bob","updates":{value}}}"#);
        assert_eq!(hall.hear("ann"), Ok(heard));
    }
}

#[test]
fn a_message_is_128_deep_at_most_itself_included() {
    let mut hall = duo();
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let offer = |levels| format!(r#"{{"type":"offer","targetUserId":"bob","sdp":{}}}"#, deep(levels));
    hall.say("ann", &offer(128)).unwrap();
    assert_eq!(hall.settled(), Ok(()), "129");
    hall.say("ann", &offer(127)).unwrap();
    assert_eq!(hall.hear("bob"), Ok(format!(r#"{{"type":"offer","fromUserId":"ann","sdp":{}}}"#, deep(127))));
}

/// The order of the members is free; but a person who compares with the program before this one finds the same.
#[test]
fn the_members_of_every_message_are_in_the_order_of_its_description() {
    let mut hall = Hall::new(KEY);
    hall.connect("ann", "/?roomId=r&userId=a&userName=Ann").unwrap();
    let ann = r#"{"id":"a","name":"Ann","joinedAt":2}"#;
    assert_eq!(
        hall.hear("ann"),
        Ok(format!(r#"{{"type":"welcome","roomId":"r","userId":"a","participants":[{ann}]}}"#))
    );
    hall.connect("bob", "/?roomId=r&userId=b&userName=Bob").unwrap();
    let bob = r#"{"id":"b","name":"Bob","joinedAt":3}"#;
    let heard =
        format!(r#"{{"type":"participant-joined","userId":"b","userName":"Bob","participants":[{ann},{bob}]}}"#);
    assert_eq!(hall.hear("ann"), Ok(heard));
}

#[test]
fn the_hundred_and_first_member_is_closed_and_a_duplicate_is_not_one() {
    let mut hall = Hall::new(KEY);
    for number in 1..=100 {
        let name = format!("c{number}");
        join(&mut hall, &name, "r");
        (number > 1).then(|| hall.hear(&name).unwrap());
        (1..number).for_each(|other| _ = hall.hear(&format!("c{other}")).unwrap());
    }
    hall.connect("late", "/?roomId=r&userId=late&userName=Late").unwrap();
    assert_eq!(hall.closed("late"), Ok(Some((1013, "Room is full".to_owned()))));
    assert_eq!(hall.settled(), Ok(()), "nobody was told");
    hall.connect("again", "/?roomId=r&userId=c1&userName=c1").unwrap();
    assert_eq!(hall.closed("c1"), Ok(Some((1000, "Duplicate connection".to_owned()))));
    assert!(hall.hear("again").unwrap().starts_with(r#"{"type":"welcome""#));
    // Another room has places.
    join(&mut hall, "late", "q");
    // So has this one when somebody has left.
    hall.close("c2").unwrap();
    hall.connect("next", "/?roomId=r&userId=next&userName=Next").unwrap();
    assert!(hall.hear("next").unwrap().starts_with(r#"{"type":"welcome""#));
}

/// A first ping comes when the interval has passed and no sooner, and nobody is dropped who was not asked.
#[test]
fn pings_come_when_the_interval_has_passed() {
    let mut hall = Hall::new(KEY);
    join(&mut hall, "ann", "r");
    hall.connect("jim", "/").unwrap();
    hall.pass(29);
    assert!(hall.pinged("ann").is_err());
    hall.pass(1);
    assert_eq!(hall.pinged("ann"), Ok(()));
    assert!(hall.pinged("ann").is_err(), "once");
    hall.pass(29);
    assert!(hall.pinged("ann").is_err());
    assert!(hall.settled().is_ok(), "and nobody is dropped before the time");
    hall.pass(1);
    assert_eq!(hall.closed("ann"), Ok(None));
    assert!(hall.pinged("jim").is_err());
}

/// Pieces of JSON, so that their sum is JSON now and then.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "d83d",
        "\"sdp\"",
        "\"type\"",
        "\"offer\"",
        "\"fromUserId\":\"x\"",
        "null",
        "true",
        "1",
        "-",
        "0.5",
        "e9",
        " ",
        "\n",
        "\u{7f}",
        "🎸",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever stands where a value should be, the target hears an object of the three members that there are, or nothing.
    #[test]
    fn no_value_breaks_out_of_its_place(value in pieces()) {
        let mut hall = duo();
        hall.say("ann", &format!(r#"{{"type":"offer","targetUserId":"bob","sdp":{value}}}"#)).unwrap();
        if let Ok(heard) = hall.hear("bob") {
            let heard: serde_json::Map<String, Value> = serde_json::from_str(&heard).expect("an object");
            prop_assert_eq!(heard.keys().collect::<Vec<_>>(), ["type", "fromUserId", "sdp"]);
            prop_assert_eq!(&heard["fromUserId"], "ann");
        }
        prop_assert_eq!(hall.settled(), Ok(()));
    }
}
