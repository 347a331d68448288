//! Broadcast rooms against the transcripts in `fixtures/rooms/broadcast`, which were written from the protocol: played to a hub in
//! memory.

#[path = "rooms/compare.rs"]
mod compare;
#[path = "rooms/hall.rs"]
mod hall;
#[path = "rooms/scripts.rs"]
mod scripts;
#[path = "rooms/transcript.rs"]
mod transcript;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use hall::Hall;
use jamjam_dev::rooms::broadcast::token::{Claims, Secret, sign};
use jamjam_dev::rooms::broadcast::{Form, Refusal, Settings};
use jamjam_dev::rooms::{Conn, Dialects, Hub, Limits, Outlet, Visitor, route};
use jamjam_dev::time::Time;
use scripts::scripts;
use serde_json::{Map, Value, json};
use transcript::{Played, play};

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let mut wrong = String::new();
    let scripts = scripts("broadcast");
    assert!(scripts.len() >= 23, "{} transcripts", scripts.len());
    for (name, script) in scripts {
        let played = play(&script, &mut Hall::new([1, 2, 3, 4]));
        if played != Ok(Played::Whole) {
            let _ = writeln!(wrong, "{name}: {played:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What each connection was told.
#[derive(Default)]
struct Told {
    messages: Vec<(Conn, Value)>,
}

impl Outlet for Told {
    fn send(&mut self, to: &[Conn], text: String) {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        self.messages.extend(to.iter().map(|conn| (*conn, message.clone())));
    }

    fn close(&mut self, _: Conn, _: u16, _: &str) {}

    fn ping(&mut self, _: Conn) {}

    fn cut(&mut self, _: Conn) {}
}

/// Somebody with a token for room `radio`, and what they are told.
fn in_radio(hub: &mut Hub, secret: &Secret, conn: Conn) -> Told {
    let token = sign(secret, &Claims::new("c", "radio", Map::new(), 1, 1e6));
    let route = route("/radio", &format!("token={token}"), Dialects::default()).unwrap();
    let visitor = Visitor { from: IpAddr::from([192, 0, 2, 1]), route };
    let mut told = Told::default();
    hub.connect(Time::ZERO, conn, visitor, &mut told);
    told
}

#[test]
fn ten_thousand_messages_wait_for_a_room_and_more_are_refused_until_their_time_has_come() {
    let secret = Secret::new("s");
    let broadcast = Settings { secret: Some(secret.clone()), ..Settings::default() };
    let mut hub = Hub::new(Limits { broadcast, rate: None, ..Limits::default() }, [1, 2, 3, 4]);
    let (ann, bob) = (Conn(1), Conn(2));
    in_radio(&mut hub, &secret, ann);
    in_radio(&mut hub, &secret, bob);
    let mut told = Told::default();
    for number in 0..10_000 {
        hub.on_text(Time::ZERO, ann, &format!(r#"{{"type":"post","content":{number},"delay":5}}"#), &mut told);
    }
    assert!(told.messages.is_empty());
    hub.on_text(Time::ZERO, ann, r#"{"type":"post","content":"more","delay":5}"#, &mut told);
    let refusal = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    assert_eq!(told.messages, [(ann, refusal)]);
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let posted = hub.post(Time::ZERO.into(), "radio", Form::Free, body, &mut told);
    assert_eq!(posted, Err(Refusal::TooManyWaiting));
    // Nobody has said any of it yet.
    let newcomer = in_radio(&mut hub, &secret, Conn(3));
    assert_eq!(newcomer.messages[0].1["recentContent"], json!([]));
    hub.on_gone(Time::ZERO, Conn(3), &mut told);
    // What does not wait is relayed.
    told.messages.clear();
    hub.on_text(Time::ZERO, ann, r#"{"content":"now"}"#, &mut told);
    assert_eq!(told.messages[0].1["content"], "now");
    told.messages.clear();
    hub.on_deadline(Time::ZERO + Duration::from_secs(5), &mut told);
    let heard: Vec<_> = told.messages.iter().map(|(conn, message)| (*conn, message["content"].as_u64())).collect();
    assert_eq!(heard, (0..10_000).map(|number| (bob, Some(number))).collect::<Vec<_>>());
    assert_eq!((hub.counts().waiting, hub.counts().refused), (0, 2));
    assert!(hub.post(Time::ZERO.into(), "radio", Form::Free, body, &mut told).is_ok());
}
