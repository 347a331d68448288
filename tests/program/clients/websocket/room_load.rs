//! Load on the rooms of the program's own signaling server, in all four dialects.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::certificate::Authority;
use test_support::client::{closed_tcp_port, document, run, run_to_success, start_line, together};
use test_support::server::{Server, http, poll_until};

const SECRETS: [&str; 6] = ["--hmac-secret", "test-secret", "--docs-password", "sesame", "--webrtc-auth", "token"];

/// The login of the server.
const LOGIN: &str = "Authorization: Basic YWRtaW46c2VzYW1l";

/// How the line begins that counts the messages in broadcast rooms.
const RECEIVED: &str = "jamjam_signaling_messages_received_total{dialect=\"broadcast\"}";

/// The values of --dialect, with the options that each needs.
const DIALECTS: [&str; 4] =
    ["broadcast --hmac-secret test-secret", "webrtc --hmac-secret test-secret", "jamjam", "bbx"];

fn line(address: SocketAddr, dialect: &str, options: &str) -> String {
    format!("load-rooms ws://admin:sesame@{address} --timeout 20s --quiet --json --dialect {dialect} {options}")
}

fn rooms(report: &Value) -> &Value {
    &report["websocket"]["rooms"]
}

/// Clients of all dialects send `count` messages in each of their rooms, at the same time.
fn assert_all_arrive(clients: u64, room_count: u64, count: u64) {
    let codes: Vec<String> = (0..room_count).map(|room| (1_000 + room).to_string()).collect();
    let codes = codes.join(",");
    let server = Server::start_signaling(&[&SECRETS[..], &["--bbx-room", &codes]].concat());
    let address = server.address;
    let (size, larger) = (clients / room_count, clients % room_count);
    let deliveries = count * (larger * size + (room_count - larger) * (size - 1));
    together(DIALECTS, |dialect| {
        let of_rooms = if dialect == "bbx" { format!("--room {codes}") } else { format!("--room-count {room_count}") };
        let load = format!("--clients {clients} {of_rooms} --rate 50 --count {count}");
        let output = run_to_success(&line(address, dialect, &format!("{load} --max-loss 0% --max-p50 20s")));
        assert_eq!(output.stderr, "", "{dialect}");
        let report = document::report(&output);
        let names = ["sent", "returned", "lost", "duplicated", "reordered", "rtt_count"];
        assert_eq!(
            document::counts(&report, "ping", names),
            [deliveries, deliveries, 0, 0, 0, deliveries],
            "{dialect}"
        );
        let names = ["members", "joined", "refused", "disconnected", "messages_sent", "messages_not_sent"];
        let expected = [clients, clients, 0, 0, count * room_count, 0].map(Some);
        assert_eq!(names.map(|name| rooms(&report)[name].as_u64()), expected, "{dialect}");
        let names = ["late", "wrong_room", "wrong_sender"];
        assert_eq!(names.map(|name| rooms(&report)[name].as_u64()), [0, 0, 0].map(Some), "{dialect}");
        assert!(report["pacing"]["pacing_max_us"].is_f64() && rooms(&report)["join_max_us"].is_f64(), "{report:#}");
    });
}

#[test]
fn every_message_reaches_all_others_of_its_room_in_every_dialect() {
    // Rooms of 5, 4 and 4 members.
    assert_all_arrive(13, 3, 20);
}

#[test]
#[ignore = "has 800 clients: .ci/full"]
fn every_message_of_800_clients_reaches_all_others_of_its_room() {
    assert_all_arrive(200, 20, 1_000);
}

#[test]
fn members_join_over_tls() {
    let authority = Authority::new();
    let server = Server::start_signaling(&authority.certify().options());
    let target = format!("wss://localhost:{} --ca {}", server.address.port(), authority.own().display());
    let members = "--dialect jamjam --clients 4 --room-count 2 --rate 50 --count 10";
    let report = document::report(&run_to_success(&format!("load-rooms {target} --timeout 20s --json {members}")));
    assert_eq!(document::counts(&report, "ping", ["sent", "returned"]), [20, 20], "{report:#}");
}

#[test]
fn server_that_admits_nobody_ends_the_run_at_once() {
    let server = Server::start_signaling(&SECRETS);
    let output = run(&line(server.address, "broadcast --hmac-secret wrong", "--clients 1000"));
    assert_eq!(output.code, 3, "{output:?}");
    let report = document::report(&output);
    let counts = ["joined", "refused", "messages_sent"].map(|name| rooms(&report)[name].as_u64());
    assert_eq!(counts, [0, 1, 0].map(Some), "{report:#}");
    assert_eq!(report["websocket"]["connection_failure"]["close_code"], 4_002);

    let single = Server::start_signaling(&["--max-connections", "1"]);
    let output =
        run(&line(single.address, "jamjam", "--clients 2 --count 1").replacen("--timeout 20s", "--timeout 5s", 1));
    assert_eq!((output.code, &rooms(&document::report(&output))["joined"]), (1, &json!(1)), "{output:?}");

    let (_socket, closed) = closed_tcp_port();
    let output = run(&format!("load-rooms ws://{closed} --clients 4"));
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stdout.contains(&format!("cannot connect to {closed}")), "{output:?}");
}

#[test]
fn killed_server_and_signal_end_the_run_with_its_report() {
    for is_killed in [true, false] {
        let server = Server::start_signaling(&SECRETS);
        let options = "--clients 6 --room-count 2 --rate 100 --duration 60s";
        let running = start_line(&line(server.address, DIALECTS[0], options));
        poll_until("a message", || {
            let metrics = http::request(&server, "GET", "/metrics", &[LOGIN]).body;
            let received = metrics.lines().find(|line| line.starts_with(RECEIVED))?;
            (!received.ends_with(" 0")).then_some(())
        });
        if is_killed {
            server.signal("KILL");
        } else {
            running.signal("INT");
        }
        let output = running.end();
        let report = document::report(&output);
        let [joined, disconnected] = ["joined", "disconnected"].map(|name| rooms(&report)[name].as_u64().unwrap());
        if is_killed {
            assert_eq!((output.code, disconnected), (1, joined), "{report:#}");
            let [sent, returned, lost, in_flight] =
                document::counts(&report, "ping", ["sent", "returned", "lost", "in_flight"]);
            assert_eq!((in_flight, returned + lost), (0, sent), "{report:#}");
        } else {
            assert_eq!((output.code, &report["interrupted"]), (130, &json!("SIGINT")), "{report:#}");
        }
    }
}
