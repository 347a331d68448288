//! Streams of events over real sockets: who listens, who does not keep up, and how they end.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::over_http::{chunk, head, plain, serve, until};
use crate::io::http::Bounds;
use crate::rooms::SurfaceLimits;

/// The data of all events in these chunks.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).expect("JSON")).collect()
}

#[test]
fn a_listener_hears_what_members_do_and_nothing_of_before() {
    let served = plain();
    let code = served.room("{}");
    let mut phone = served.phone(&code);
    phone.say(&json!({"type": "trigger", "name": "before"}));
    phone.say(&json!({"type": "ping", "client_time": 1}));
    phone.hear();
    let mut listener = served.listen();
    phone.say(&json!({"type": "param", "param": "freq\n\n", "value": 0.7, "at": 5.9}));
    let text = chunk(&mut listener);
    assert!(text.starts_with("data: {") && text.ends_with("}\n\n") && text.lines().count() == 2, "{text}");
    let event = &events(&text)[0];
    let node_id = event["nodeId"].as_str().expect("an id");
    let time = event["time"].as_u64().expect("a time");
    assert!(node_id.len() == 36 && time > 1_700_000_000_000_000, "{event}");
    let expected = format!(
        r#"{{"room":"{code}","nodeId":"{node_id}","kind":"param","name":"freq\n\n","value":0.7,"at":5,"time":{time}}}"#
    );
    assert_eq!(text, format!("data: {expected}\n\n"));
    phone.say(&json!({"type": "trigger", "name": "note_on"}));
    let text = chunk(&mut listener);
    let event = &events(&text)[0];
    assert_eq!((&event["kind"], event.get("value"), event.get("at")), (&json!("trigger"), None, None));
}

#[test]
fn more_than_sixteen_are_refused_until_one_leaves_and_head_is_no_listener() {
    let served = plain();
    let mut listeners: Vec<_> = (0..16).map(|_| served.listen()).collect();
    let (status, refused) = served.ask("GET", "/admin/bbx/events", "");
    assert!(status == 503 && refused["error"].as_str().is_some_and(|error| error.starts_with("16 listen already")));
    assert_eq!(served.tally(), (16, 0, 1));
    listeners.pop();
    until("a place", || served.tally().0 == 15);
    let mut answer = served.request("HEAD", "/admin/bbx/events", "");
    let (status, headers) = head(&mut answer);
    assert!(status == 200 && headers.contains("content-type: text/event-stream"), "{headers}");
    assert_eq!(answer.read_to_end(&mut Vec::new()).expect("an end"), 0);
    until("its place again", || served.tally().0 == 15);
    drop(served.listen());
}

#[test]
fn in_a_storm_who_does_not_read_is_told_how_much_was_lost_and_nobody_waits() {
    let served = plain();
    let code = served.room("{}");
    let mut slow = served.listen();
    let mut phone = served.phone(&code);
    // Six letters of JSON for each letter: what systems hold between the two ends is soon full.
    let trigger = json!({"type": "trigger", "name": "\u{1}".repeat(256)});
    let mut said = 0_u64;
    until("a loss", || {
        (0..1_000).for_each(|_| phone.say(&trigger));
        said += 1_000;
        phone.say(&json!({"type": "ping", "client_time": said}));
        assert_eq!(phone.hear()["client_time"], said, "the phone is answered, whoever does not read");
        served.tally().1 > 5_000
    });
    let (mut heard, mut lost) = (0, 0);
    while heard + lost < said {
        for event in events(&chunk(&mut slow)) {
            match event["lost"].as_u64() {
                Some(many) => lost += many,
                None => heard += 1,
            }
        }
    }
    assert_eq!((heard + lost, lost), (said, served.tally().1));
}

#[test]
fn a_stream_outlasts_other_answers_as_long_as_it_is_read_and_not_longer() {
    let (patience, lifetime) = (Duration::from_millis(400), Duration::from_millis(300));
    let served = serve(Bounds { patience, lifetime, ..Bounds::default() }, SurfaceLimits::default());
    let mut read = served.listen();
    let began = Instant::now();
    while began.elapsed() < 5 * lifetime {
        assert_eq!(chunk(&mut read), ": quiet\n\n");
    }
    drop(read);
    until("the end of who has left", || served.tally().0 == 0);
    let code = served.room("{}");
    let _unread = served.listen();
    let mut phone = served.phone(&code);
    let trigger = json!({"type": "trigger", "name": "\u{1}".repeat(256)});
    until("the end of who does not read", || {
        (0..1_000).for_each(|_| phone.say(&trigger));
        served.tally().0 == 0
    });
}

#[test]
fn at_the_stop_a_stream_ends_well_and_holds_nobody_up() {
    let served = plain();
    let code = served.room("{}");
    let (mut one, mut other) = (served.listen(), served.listen());
    let mut phone = served.phone(&code);
    phone.say(&json!({"type": "trigger", "name": "last"}));
    phone.say(&json!({"type": "leave"}));
    while phone.0.read().is_ok() {}
    assert_eq!(events(&chunk(&mut one))[0]["name"], "last");
    assert!(served.ends_in_time());
    assert_eq!(events(&chunk(&mut other))[0]["name"], "last");
    for stream in [&mut one, &mut other] {
        assert_eq!(chunk(stream), "");
        assert_eq!(stream.read_to_end(&mut Vec::new()).expect("an end"), 0);
    }
}
