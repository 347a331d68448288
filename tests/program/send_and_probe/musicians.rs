//! `send --room --clients`: several members of a room, over real sockets.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::certificate::Authority;
use test_support::client::{ProgramOutput, at_once, document, run, start_line};
use test_support::server::{Member, Server};
use tungstenite::Message;

use crate::send_and_probe::websocket::scripted_server::raw;

/// The document that `--json` prints.
fn musicians(output: &ProgramOutput) -> Value {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    document::assert_valid(&report);
    assert_eq!(report["type"], "musicians");
    report
}

fn directions(report: &Value) -> impl Iterator<Item = (&str, &Value)> {
    report["directions"].as_array().unwrap().iter().map(|one| (one["from"].as_str().unwrap(), one))
}

/// The line of a run with this number of musicians in `room`.
fn line(server: &Server, room: &str, clients: usize) -> String {
    format!("send --tone 220 --clients {clients} --signaling-url ws://{}{room}", server.address)
}

#[test]
fn members_of_two_programs_and_an_echo_bot_hear_each_other() {
    let cases = [("", "plain", ""), ("/v1/signaling", "signed", ""), ("/v1/signaling", "unsigned", " --link unsigned")];
    at_once(cases, |(path, link, option)| {
        let signaling = Server::start_signaling(&[]);
        let url = format!("ws://{}{path}", signaling.address);
        let options = ["--host", "127.0.0.1", "--delay", "50", "--room-name", "jam", "--signaling-url", &url];
        let mut echo = Server::start(&options);
        echo.line_starting_with("registration: room created ");
        let line = format!("send --tone 220 --duration 5s --clients 2 --signaling-url {url} --room jam --json{option}");
        let others = start_line(&line);
        let outputs = [run(&line), others.end()];
        for output in outputs {
            assert_eq!((output.code, &*output.stderr), (0, ""), "{output:?}");
            let report = musicians(&output);
            // Each musician: one of its own program, two of the other one, and the Echo Bot.
            let heard: Vec<_> = directions(&report).filter(|(_, one)| one["packets"].as_u64() > Some(0)).collect();
            assert_eq!(heard.len(), 8, "{report:#}");
            for (from, one) in heard {
                assert_eq!(one["link"], link, "{one}");
                assert_eq!(one["rtt_p50_us"].is_number(), from == "Echo Bot", "{one}");
            }
        }
    });
}

#[test]
fn room_without_enough_places_is_not_joined() {
    let signaling = Server::start_signaling(&[]);
    let mut member = Member::connect(signaling.address);
    member.create_room("jam");
    let output = run(&line(&signaling, " --room jam --duration 1s", 10));
    let error = "jamjam-dev: room `jam` has 9 of 10 places free, too few for 10\n";
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (2, "", error));
    // Nobody has joined: this is the next message.
    member.rooms();
}

#[test]
fn room_that_fills_up_after_the_list_is_left_by_all() {
    let room = json!({"id": "0000000a", "name": "jam", "peer_count": 1, "max_peers": 10, "has_password": false, "invite_code": "AAAAAA"});
    let listed = json!({"type": "RoomList", "data": {"rooms": [room]}});
    let (closed, first_left) = std::sync::mpsc::channel();
    let server = raw(move |number, stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let joined = json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "x", "peers": []}});
        let full = json!({"type": "Error", "data": {"message": "Room is full"}});
        for reply in [&listed, if number == 0 { &joined } else { &full }] {
            socket.read().unwrap();
            socket.send(Message::text(reply.to_string())).unwrap();
        }
        while socket.read().is_ok() {}
        closed.send(number).unwrap();
    });
    let output = run(&format!("send --tone 220 --clients 2 --signaling-url ws://{server} --room jam"));
    let error = format!(
        "jamjam-dev: cannot join a room on ws://{server}: the server rejected the request for room `jam`: Room is full\n"
    );
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (3, "", &*error));
    let mut left = [(); 2].map(|()| first_left.recv_timeout(Duration::from_secs(60)).unwrap());
    left.sort_unstable();
    assert_eq!(left, [0, 1]);
}

#[test]
fn musicians_join_a_room_over_tls() {
    let authority = Authority::new();
    let signaling = Server::start_signaling(&authority.certify().options());
    let (port, ca) = (signaling.address.port().to_string(), authority.own());
    let (url, ca) = (format!("wss://localhost:{port}"), ca.to_str().unwrap());
    let options = ["--host", "127.0.0.1", "--room-name", "jam", "--signaling-url", &url, "--ca", ca];
    let mut echo = Server::start(&options);
    echo.line_starting_with("registration: room created ");
    let line = format!("send --tone 220 --duration 3s --clients 2 --json --signaling-url {url} --ca {ca} --room jam");
    at_once([()], |()| {
        let report = musicians(&run(&line));
        // The Echo Bot returns nothing before the end of its delay.
        let heard = directions(&report).filter(|(from, one)| *from != "Echo Bot" && one["packets"].as_u64() > Some(0));
        assert_eq!(heard.count(), 2, "{report:#}");
    });
}

#[test]
fn musician_without_others_fails_and_limits_judge_what_is_heard() {
    at_once(
        [(1, "", 1), (2, "", 0), (2, " --max-loss 100% --max-jitter 10s", 0), (2, " --max-jitter 1us", 1)],
        |case| {
            let (clients, limits, code) = case;
            let signaling = Server::start_signaling(&[]);
            let mut member = Member::connect(signaling.address);
            member.create_room("jam");
            let output = run(&line(&signaling, &format!(" --room jam --duration 3s --json{limits}"), clients));
            assert_eq!(output.code, code, "{case:?} {output:?}");
            let report = musicians(&output);
            // The member that has no address is named.
            assert_eq!(directions(&report).filter(|(_, one)| one["packets"] == 0).count(), clients, "{report:#}");
            let reason = report["verdict"]["reasons"][0].as_str().unwrap_or_default();
            match (clients, code) {
                (1, _) => assert_eq!(reason, "no member heard anybody"),
                (_, 1) => assert!(reason.starts_with("Musician 1 from Musician 2: --max-jitter 1.0 µs"), "{reason}"),
                _ => assert_eq!(reason, ""),
            }
        },
    );
}

#[test]
fn signal_ends_with_the_report_and_all_members_leave() {
    let signaling = Server::start_signaling(&[]);
    let mut member = Member::connect(signaling.address);
    member.create_room("jam");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = socket.local_addr().unwrap();
    member.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": address, "local_addr": null}));
    let program = start_line(&line(&signaling, " --room jam --json", 3));
    let names: Vec<Value> = (0..3).map(|_| member.skip_to("PeerJoined")["data"]["peer"]["name"].clone()).collect();
    assert_eq!(names, ["Musician 1", "Musician 2", "Musician 3"]);
    socket.recv(&mut [0; 2_048]).unwrap();
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    assert_eq!(musicians(&output)["interrupted"], "SIGINT");
    (0..3).for_each(|_| drop(member.skip_to("PeerLeft")));
}

#[test]
fn options_of_one_client_are_usage_errors() {
    let (signaling, folder) = (Server::start_signaling(&[]), tempfile::tempdir().unwrap());
    for option in [
        "--record x.wav",
        "--record-run x.run",
        "--json-lines",
        "--no-echo",
        "--delay 1",
        "--ramp",
        "--wait-for 1",
        "--verbose",
        "--html x.html",
        "--markdown x.md",
        "--junit x.xml",
        "--loss-direction",
        "--device-key x",
    ] {
        // Reports are also written after usage errors.
        let given = option.replace("x.", &format!("{}/x.", folder.path().display()));
        let output = run(&line(&signaling, &format!(" --room jam {given}"), 1));
        let name = option.split(' ').next().unwrap();
        let error = format!("jamjam-dev: {name} cannot be used with --room and --clients\n");
        assert_eq!((output.code, &*output.stderr), (2, &*error), "{option}");
    }
    for (option, error) in [
        ("--bind 127.0.0.1:6000", "a local port cannot be used"),
        ("--wav -", "standard input can be read only once"),
        ("--tone 23000", "exceeds half of the sample rate"),
    ] {
        let url = format!("--signaling-url ws://{} --room jam --clients 2", signaling.address);
        let tone = if option.contains("--bind") { "--tone 440" } else { "" };
        let output = run(&format!("send {tone} {option} {url}"));
        assert!(output.code == 2 && output.stderr.contains(error), "{option}: {output:?}");
    }
}
