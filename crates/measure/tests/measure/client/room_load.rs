//! Load on rooms in virtual time, with servers that lose, repeat, reorder and misroute messages.

use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_measure::client::{RoomLoad, RoomLoadConfig, RoomResults, RunResults, WebSocketFailure};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_signaling::Dialect;
use proptest::collection::vec;
use proptest::prelude::*;

/// Three rooms with four members each, and a message every 30 ms in each room.
const CONFIG: RoomLoadConfig = RoomLoadConfig {
    dialect: Dialect::Broadcast,
    members: 12,
    rooms: 3,
    room: String::new(),
    interval: Duration::from_millis(30),
    count: 20,
    timeout: Duration::from_secs(1_000),
    nonce: 7,
    names_senders: true,
};

/// The load, all of whose members have joined.
fn started(config: RoomLoadConfig) -> RoomLoad {
    let mut load = RoomLoad::new(config);
    for member in 0..load.config.members {
        load.start(Time::ZERO);
        assert_eq!(load.next_due(), None);
        load.on_joined(member, Duration::from_millis(5));
    }
    load.start(Time::ZERO);
    load
}

/// What a broadcast server sends to the others.
fn relayed(load: &RoomLoad, sent: &str, sender: usize) -> String {
    let content = sent.split_once(r#""content":"#).expect("content").1.trim_end_matches('}');
    format!(r#"{{"type":"r-content","content":{content},"timestamp":1795701166,"from":"{}"}}"#, load.name(sender))
}

fn rooms(run: &RunResults) -> &RoomResults {
    run.websocket.as_ref().and_then(|websocket| websocket.rooms.as_ref()).expect("rooms")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lost,
    Repeated,
    /// By this number of milliseconds.
    Delayed(u64),
    OtherRoom,
    OtherSender,
    Returned,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Lost),
        1 => Just(Fault::Repeated),
        3 => (1..900_u64).prop_map(Fault::Delayed),
        1 => Just(Fault::OtherRoom),
        1 => Just(Fault::OtherSender),
        1 => Just(Fault::Returned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_fault_of_a_server_is_counted_once(faults in vec(fault(), 3 * 20 * 3)) {
        let (mut load, mut faults) = (started(CONFIG), faults.into_iter());
        // Receive time, receiver, sender, number and text of each message that arrives.
        let mut arrivals = Vec::new();
        let [mut sent, mut lost, mut other_room, mut other_sender] = [0; 4];
        while let Some(due) = load.next_due() {
            let (sender, number) = load.poll(due).expect("a message is due");
            prop_assert_eq!(sender, due.as_nanos() as usize / 10_000_000 % 12, "the members of each room send in turn");
            let text = load.message(sender, number, due).expect("in time");
            let text = relayed(&load, &text, sender);
            for receiver in (sender % 3..12).step_by(3).filter(|member| *member != sender) {
                let mut arrive = |after_ms, receiver, text: &String| {
                    arrivals.push((due + Duration::from_millis(after_ms), receiver, sender, number, text.clone()));
                };
                sent += 1;
                match faults.next().expect("a fault") {
                    Fault::None => arrive(1, receiver, &text),
                    Fault::Lost => lost += 1,
                    Fault::Repeated => (0..2).for_each(|_| arrive(1, receiver, &text)),
                    Fault::Delayed(by) => arrive(by, receiver, &text),
                    Fault::OtherRoom => {
                        (lost, other_room) = (lost + 1, other_room + 1);
                        arrive(1, (receiver + 1) % 12, &text);
                    }
                    Fault::OtherSender => {
                        (lost, other_sender) = (lost + 1, other_sender + 1);
                        arrive(1, receiver, &text.replace(load.name(sender), load.name(receiver)));
                    }
                    Fault::Returned => {
                        other_sender += 1;
                        arrive(1, receiver, &text);
                        arrive(1, sender, &text);
                    }
                }
            }
        }
        arrivals.sort_by_key(|(at, ..)| *at);
        let [mut repeated, mut reordered] = [0; 2];
        let mut accepted: Vec<(usize, usize, u32)> = Vec::new();
        for (at, receiver, sender, number, text) in &arrivals {
            let is_wrong = receiver == sender || receiver % 3 != sender % 3 || !text.contains(load.name(*sender));
            if accepted.contains(&(*receiver, *sender, *number)) {
                repeated += 1;
            } else if !is_wrong {
                reordered += u64::from(accepted.iter().any(|(by, of, later)| (by, of) == (receiver, sender) && later > number));
                accepted.push((*receiver, *sender, *number));
            }
            load.on_message(*receiver, text, *at);
        }
        prop_assert_eq!(load.is_settled(Time::from_millis(999_999)), lost == 0);
        prop_assert!(load.is_settled(Time::from_millis(2_000_000)));
        let run = load.into_results("x".to_owned());
        let stats = run.ping.as_ref().expect("deliveries");
        prop_assert_eq!([stats.sent, stats.returned, stats.lost], [sent, sent - lost, lost]);
        prop_assert_eq!([stats.duplicated, stats.reordered], [repeated, reordered]);
        prop_assert_eq!([rooms(&run).wrong_room, rooms(&run).wrong_sender], [other_room, other_sender]);
        prop_assert_eq!([rooms(&run).sent, rooms(&run).late], [60, 0]);
    }
}

#[test]
fn every_dialect_returns_room_sender_and_number() {
    for dialect in Dialect::ALL {
        let names_senders = dialect != Dialect::ControlSurface;
        let mut load = started(RoomLoadConfig { dialect, names_senders, ..CONFIG });
        let (sender, number) = load.poll(Time::ZERO).expect("a message is due");
        let sent = load.message(sender, number, Time::ZERO).expect("in time");
        let message: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
        let name = load.name(sender);
        let received = match dialect.name() {
            "broadcast" => relayed(&load, &sent, sender),
            "webrtc" => {
                format!(r#"{{"type":"participant-update","userId":"{name}","updates":{}}}"#, message["updates"])
            }
            "bbx" => {
                let value = message["value"].as_f64().expect("a value");
                format!(r#"{{"type":"update","param":{},"value":{value:?}}}"#, message["param"])
            }
            // The name of the sender, wherever it is.
            _ => sent.replacen('{', &format!(r#"{{"name":"{name}","#), 1),
        };
        for receiver in [3, 6, 9] {
            load.on_message(receiver, &received, Time::from_millis(2));
        }
        let run = load.into_results("x".to_owned());
        let stats = run.ping.expect("deliveries");
        assert_eq!((stats.returned, stats.rtt.max()), (3, Some(2_000_000)), "{received}");
    }
}

#[test]
fn message_that_is_never_sent_or_arrives_late_is_no_delivery() {
    let mut load =
        started(RoomLoadConfig { members: 6, rooms: 2, count: 2, timeout: Duration::from_secs(1), ..CONFIG });
    let polled: Vec<_> = (0..4).map(|_| load.poll(Time::from_millis(100)).expect("a message is due")).collect();
    assert_eq!(polled, [(0, 0), (1, 0), (2, 1), (3, 1)]);
    // Messages 0 are due at 0 and 15 ms. Only the first is sent, 40 ms late. It arrives at one member just in time, at the other too late.
    let sent = load.message(0, 0, Time::from_millis(40)).expect("in time");
    let text = relayed(&load, &sent, 0);
    assert!(!load.is_settled(Time::from_millis(1_039)));
    load.on_message(4, &text, Time::from_millis(1_039));
    load.on_ended(3, true, WebSocketFailure::Closed { code: None, reason: String::new() });
    assert!(load.is_settled(Time::from_millis(1_045)));
    load.on_message(2, &text, Time::from_millis(1_046));
    assert_eq!(load.message(1, 0, Time::from_millis(1_046)), None);
    let run = load.into_results("x".to_owned());
    let stats = run.ping.as_ref().expect("deliveries");
    assert_eq!([stats.sent, stats.lost, stats.returned], [2, 1, 1]);
    let RoomResults { sent, not_sent, late, disconnected, .. } = *rooms(&run);
    assert_eq!([sent, not_sent, late, disconnected], [1, 3, 1, 1]);
    assert_eq!(run.pacing.as_ref().expect("pacing").all.max(), Some(40_000_000));
}

#[test]
fn single_member_of_a_room_sends_nothing() {
    let mut load = RoomLoad::new(RoomLoadConfig { members: 4, rooms: 2, count: 1, ..CONFIG });
    for member in [0, 1, 3] {
        load.on_joined(member, Duration::ZERO);
    }
    load.on_ended(2, false, WebSocketFailure::Rejected("Room is full".to_owned()));
    load.start(Time::ZERO);
    assert_eq!((load.poll(Time::MAX), load.poll(Time::MAX)), (Some((1, 0)), None));
}

#[test]
fn report_names_the_limit_of_the_server_and_counts_each_reason() {
    let mut load = RoomLoad::new(RoomLoadConfig { dialect: Dialect::WebRtc, members: 5, ..CONFIG });
    load.on_joined(0, Duration::from_millis(5));
    let full = WebSocketFailure::Closed { code: Some(1_013), reason: "Room is full".to_owned() };
    (1..4).for_each(|member| load.on_ended(member, false, full.clone()));
    load.on_ended(4, false, WebSocketFailure::Broken("reset\u{1b}".to_owned()));
    let report = Report::new(&load.into_results("ws://h".to_owned()), &Limits::default());
    let details = report.document().text(true, false, None);
    let endings = report.websocket.expect("connections").rooms.expect("rooms").endings;
    let endings = endings.iter().map(|ending| (ending.count, &*ending.failure.message, ending.limit));
    let full = "the server closed the connection with code 1013 (Room is full)";
    let expected =
        [(3, full, Some("members of a room: WEBRTC_MAX_MEMBERS")), (1, "the connection broke: reset\u{fffd}", None)];
    assert!(endings.eq(expected) && details.contains(full), "{details}");
    assert!(
        report.head.verdict.reasons.contains(&"in rooms: 4 refused".to_owned()),
        "{:?}",
        report.head.verdict.reasons
    );
}
