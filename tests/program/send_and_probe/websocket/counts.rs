//! Figures of runs against servers that delay, drop, repeat and reorder messages. Expected values were computed by hand.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::send_and_probe::websocket::scripted_server::{ServerConnection, serve};
use crate::send_and_probe::websocket::{codes, probe, report};
use test_support::client::document;
use test_support::client::program::run_args;

const BBX: [&str; 2] = ["--dialect", "bbx"];

fn unix_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A bbx server. `times` contains pairs `(index, count)`. The server sends `count` replies to ping number `index`, counted from 0. If
/// `times` does not contain the number of a ping, the server sends one reply to this ping.
fn server_with_replies(times: &'static [(usize, usize)]) -> std::net::SocketAddr {
    serve(move |_, mut connection| {
        for index in 0.. {
            let Some(ping) = connection.receive() else { return };
            let times = times.iter().find(|(at, _)| *at == index).map_or(1, |(_, times)| *times);
            (0..times).for_each(|_| connection.pong(&ping, 1));
        }
    })
}

#[test]
fn dropped_and_duplicated_replies_are_counted_by_number() {
    let server = server_with_replies(&[(3, 0), (7, 0), (8, 0), (9, 0), (5, 2), (12, 3)]);
    let options = [&BBX[..], &["--count", "20", "--interval", "2ms", "--timeout", "300ms"]].concat();
    let report = report(0, server, &options);
    let stream = &report["streams"]["ping"];
    for (name, number) in
        [("sent", 20), ("returned", 16), ("lost", 4), ("duplicated", 3), ("unmatched", 0), ("reordered", 0)]
    {
        assert_eq!(stream[name], number, "{name}");
    }
    assert_eq!(stream["loss_ratio"], json!(0.2));
    // There is one isolated loss and one burst of three.
    assert_eq!(stream["burst_lengths"], json!([1, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((&report["evaluated_stream"], &report["streams"]["audio"]), (&json!("ping"), &Value::Null));
    assert!(codes(&report).contains(&"replies_missing"), "{report:#}");
}

#[test]
fn replay_reproduces_the_report_of_a_recorded_run() {
    let server = server_with_replies(&[(3, 0), (5, 2)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.jsonl").display().to_string();
    let line = ["--count", "20", "--interval", "2ms", "--timeout", "300ms", "--json", "--record-run", &file];
    let recorded = probe(server, &[&BBX[..], &line].concat());
    let replayed = run_args(["probe", "--replay", &file, "--json"]);
    assert_eq!((replayed.code, replayed.stdout), (recorded.code, recorded.stdout), "{}", replayed.stderr);
}

#[test]
fn every_message_has_a_line_with_its_outcome_and_limits_apply() {
    let server = server_with_replies(&[(1, 0), (2, 2)]);
    let options =
        [&BBX[..], &["--count", "4", "--interval", "5ms", "--timeout", "200ms", "--json-lines", "--max-loss", "20%"]];
    let output = probe(server, &options.concat());
    assert_eq!((output.code, output.stderr.as_str()), (1, ""), "{output:?}");
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(document::assert_valid);
    let mut outcomes: Vec<(u64, &str)> = lines[..lines.len() - 1]
        .iter()
        .map(|line| (line["sequence"].as_u64().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(0, "returned"), (1, "lost"), (2, "duplicate"), (2, "returned"), (3, "returned")]);
    let report = lines.last().unwrap();
    assert_eq!(report["verdict"]["reasons"], json!(["--max-loss 20 % exceeded: 25 %"]));
}

#[test]
fn round_trip_equals_the_reply_delay_within_a_margin() {
    let (delay_sender, delays) = channel();
    let delay_sender = Mutex::new(delay_sender);
    let server = serve(move |_, mut connection| {
        let delay_sender: Sender<Duration> = delay_sender.lock().unwrap().clone();
        for index in 0_u64.. {
            let Some(ping) = connection.receive() else { return };
            let received_at = Instant::now();
            thread::sleep(Duration::from_millis(1 + index % 4 * 10));
            delay_sender.send(received_at.elapsed()).unwrap();
            connection.pong(&ping, 1);
        }
    });
    // The interval exceeds the delay, so that no ping waits for the previous ping.
    let options = [&BBX[..], &["--count", "12", "--interval", "60ms", "--json-lines"]].concat();
    let output = probe(server, &options);
    assert_eq!(output.code, 0, "{output:?}");
    let lines = output.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let trips: Vec<f64> = lines.filter_map(|line| line["echo_time_us"].as_f64()).collect();
    // The server has sent the delay of a ping before its reply. A wait for more delays would not end if the probe skipped a ping.
    let delays: Vec<f64> = delays.try_iter().map(|hold| hold.as_secs_f64() * 1e6).collect();
    assert_eq!((trips.len(), delays.len()), (12, 12));
    let beyond: Vec<f64> = trips.iter().zip(&delays).map(|(trip, hold)| trip - hold).collect();
    assert!(beyond.iter().all(|beyond| *beyond >= 0.0), "{beyond:?}");
    // At least one round trip exceeds its 31 ms delay by less than 25 ms. With a wrong unit or a doubled delay, every excess would be
    // larger.
    assert!(beyond.iter().skip(3).step_by(4).any(|beyond| *beyond < 25_000.0), "{beyond:?}");
}

#[test]
fn clock_offset_is_reported_within_its_error() {
    for (ahead_us, words) in
        [(3_600_000_000_i64, " ahead of this host, "), (-2_500_000, " behind this host, "), (0, " this host, ")]
    {
        let server = serve(move |_, mut connection| {
            while let Some(ping) = connection.receive() {
                // The client reads its clock for the ping and for the pong. The server reads its own clock between these two readings.
                let now = unix_us();
                connection.pong(&ping, now + ahead_us);
            }
        });
        let options = [&BBX[..], &["--count", "20", "--interval", "2ms"]].concat();
        let report = report(0, server, &options);
        let websocket = &report["websocket"];
        let (offset, error) =
            (websocket["clock_offset_us"].as_f64().unwrap(), websocket["clock_offset_error_us"].as_f64().unwrap());
        let min_rtt = report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap();
        assert!((error - min_rtt / 2.0).abs() < 0.001, "{error} {min_rtt}");
        // The server truncates to microseconds. Half a millisecond is allowed because the clock may be adjusted during the run.
        let wrong = (offset - ahead_us as f64).abs();
        assert!(wrong <= error + 1.0 + 500.0, "{wrong} {websocket}");
        let text = probe(server, &options).stdout;
        let row = text.lines().find(|line| line.starts_with("clock offset")).unwrap();
        assert!(row.contains(words) && row.contains(" ± "), "{row}");
    }
}

#[test]
fn time_of_day_is_sent_in_microseconds() {
    let (sender, pings) = channel();
    let sender = Mutex::new(sender);
    let server = serve(move |_, mut connection| {
        let sender: Sender<Value> = sender.lock().unwrap().clone();
        while let Some(ping) = connection.receive() {
            sender.send(ping.clone()).unwrap();
            connection.pong(&ping, 1);
        }
    });
    let before = unix_us();
    report(0, server, &[&BBX[..], &["--count", "3", "--interval", "1ms"]].concat());
    let after = unix_us();
    let pings: Vec<i64> = pings.iter().take(3).map(|ping| ping["client_time"].as_i64().unwrap()).collect();
    assert!(before - 1_000 <= pings[0] && pings[0] < pings[1] && pings[1] < pings[2] && pings[2] <= after + 1_000);
}

/// A server with a broadcast room of two members. Calls the closure `does` with three arguments. The first argument is a channel that
/// receives the messages of the first member. The second argument is the first member's connection. The third argument is the second
/// member's connection.
fn room(
    does: impl Fn(Receiver<Value>, ServerConnection, ServerConnection) + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let first = Mutex::new(None::<ServerConnection>);
    serve(move |_, mut connection| {
        connection.send_text(r#"{"type":"welcome","room":"r"}"#);
        let before = first.lock().unwrap().take();
        let Some(first_member) = before else {
            *first.lock().unwrap() = Some(connection);
            return;
        };
        let (sender, messages) = channel();
        let stream = first_member.socket.get_ref().try_clone().unwrap();
        let reading = tungstenite::WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
        thread::spawn(move || {
            let mut reading = ServerConnection { socket: reading, requested: String::new() };
            while let Some(text) = reading.receive() {
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        does(messages, first_member, connection);
    })
}

fn relayed(message: &Value) -> String {
    json!({"type": "r-content", "content": message["content"], "timestamp": 1, "from": "c"}).to_string()
}

#[test]
fn reordered_duplicated_and_lost_relayed_messages_are_counted() {
    let server = room(|sender, mut first_member, mut second_member| {
        let mut late = None;
        for (index, message) in sender.iter().enumerate() {
            let text = relayed(&message);
            // Some servers also send a message back to its sender. Such a copy does not count as a delivery to another member.
            first_member.send_text(text.clone());
            match index {
                2 => {}
                4 => late = Some(text),
                5 => {
                    second_member.send_text(text);
                    second_member.send_text(late.take().unwrap());
                }
                6 => {
                    second_member.send_text(text.clone());
                    second_member.send_text(text);
                }
                7 => {
                    second_member.send_text(json!({"type": "r-content", "content": "somebody else"}).to_string());
                    second_member.send_text(text);
                }
                _ => second_member.send_text(text),
            }
        }
    });
    let report = report(0, format!("{server}/r"), &["--count", "10", "--interval", "2ms", "--timeout", "2s"]);
    let stream = &report["streams"]["ping"];
    for (name, number) in [("sent", 10), ("returned", 9), ("lost", 1), ("duplicated", 1), ("reordered", 1)] {
        assert_eq!(stream[name], number, "{name}: {report:#}");
    }
    assert_eq!((&stream["reorder_extent_max"], &report["stray"]), (&json!(1), &json!(1)));
    assert_eq!(report["websocket"]["connections"].as_array().unwrap().len(), 2);
}

#[test]
fn replies_without_a_number_match_in_order_with_a_warning() {
    let server = serve(|_, mut connection| {
        for index in 0.. {
            let Some(requested) = connection.receive() else { return };
            assert_eq!(requested, json!({"type": "ListRooms"}));
            let times = if index == 7 { 2 } else { 1 };
            (0..times).for_each(|_| connection.send_text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
        }
    });
    let more = report(0, server, &["--count", "8", "--interval", "2ms"]);
    let stream = &more["streams"]["ping"];
    assert_eq!((&stream["returned"], &stream["unmatched"], &stream["duplicated"]), (&json!(8), &json!(1), &json!(0)));
    assert!(codes(&more).contains(&"replies_missing") && codes(&more).contains(&"unmatched"), "{more:#}");

    // One reply is missing. Each later reply is therefore matched to the previous request. The last request counts as lost.
    let server = serve(|_, mut connection| {
        connection.send_text(r#"{"type":"welcome","participants":[]}"#);
        for index in 0.. {
            if connection.receive().is_none() {
                return;
            }
            if index != 2 {
                connection.send_text(r#"{"type":"pong"}"#);
            }
        }
    });
    let options = ["--dialect", "webrtc", "--count", "6", "--interval", "20ms", "--timeout", "300ms", "--json-lines"];
    let output = probe(server, &options);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost: Vec<&Value> =
        lines.iter().filter(|line| line["outcome"] == "lost").map(|line| &line["sequence"]).collect();
    assert_eq!(lost, [5]);
    // The program matches the third request with the reply to the fourth request. Therefore, this reply arrives after the fourth request
    // was sent.
    let [third, fourth] = [2, 3].map(|index| lines.iter().find(|line| line["sequence"] == index).unwrap());
    assert!(third["returned_us"].as_f64().unwrap() > fourth["sent_us"].as_f64().unwrap(), "{third} {fourth}");
}

#[test]
fn wait_for_sends_one_uncounted_request() {
    let (sender, requests) = channel();
    let sender = Mutex::new(sender);
    let server = serve(move |_, mut connection| {
        let sender: Sender<()> = sender.lock().unwrap().clone();
        while let Some(ping) = connection.receive() {
            sender.send(()).unwrap();
            connection.pong(&ping, 1);
        }
    });
    let report = report(0, server, &[&BBX[..], &["--count", "5", "--interval", "2ms", "--wait-for", "20s"]].concat());
    assert_eq!(
        (&report["readiness_wait"]["reply_received"], &report["streams"]["ping"]["sent"]),
        (&json!(true), &json!(5))
    );
    assert_eq!(requests.try_iter().count(), 6);
}

#[test]
fn each_dialect_sends_the_requests_of_its_own_clients() {
    for (path, options, expected) in [
        ("/ws", &[][..], "/ws"),
        ("", &BBX, "/"),
        ("", &["--dialect", "webrtc", "--room", "a&b"], "/?roomId=a%26b&userId=probe-*&userName=jamjam-dev+probe"),
        ("/?userId=u&userName=n", &["--room", "r"], "/?userId=u&userName=n&roomId=r"),
        ("/radio?token=t", &[], "/radio?token=t"),
        ("", &["--dialect", "broadcast", "--room", "a b"], "/rooms/a%20b"),
        ("", &["--dialect", "broadcast"], "/rooms/probe-*"),
    ] {
        let (sender, requested) = channel();
        let sender = Mutex::new(sender);
        let server = serve(move |_, connection| {
            sender.lock().unwrap().send(connection.requested.clone()).unwrap();
            connection.close(1000, "");
        });
        let output = probe(format!("{server}{path}"), options);
        assert_eq!(output.code, 1, "{output:?}");
        let requested = requested.recv().unwrap();
        let (begins, ends) = expected.split_once('*').unwrap_or((expected, ""));
        let middle = requested.strip_prefix(begins).and_then(|requested| requested.strip_suffix(ends));
        let digits = if expected.contains('*') { 8 } else { 0 };
        assert!(middle.is_some_and(|middle| middle.len() == digits), "{requested} for {expected}");
    }
}
