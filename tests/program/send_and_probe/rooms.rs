//! Tests `send` and `probe` with `--room`, and `--list-rooms`. The program, the signaling server and the echo server use real sockets.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use test_support::client;
use test_support::server;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::send_and_probe::websocket::scripted_server::{raw, upgrade_with};
use client::packet::{KEEPALIVE, PING};
use client::program::{ProgramOutput, command, run, run_args, start, start_line};
use client::server::{Server as Echo, closed_tcp_port, closed_udp_port};
use client::signaling_member::SignalingMember;
use client::{at_once, document};
use server::process::Server;

/// The timeout of each address.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(500);

fn probe(server: &Server, room: &str, more: &[&str]) -> ProgramOutput {
    let url = format!("ws://{}", server.address);
    let line = ["probe", "--count", "3", "--interval", "1ms", "--signaling-url", &url, "--room", room];
    run_args(line.iter().chain(more))
}

fn assert_passed(output: &ProgramOutput, target: &str) {
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let title = output.stdout.lines().next().unwrap();
    assert!(title.starts_with(&format!("probe of {target}, ")), "{title}");
}

/// Checks that there is an error and no report.
fn assert_error(output: &ProgramOutput, code: i32, error: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
    assert_eq!(output.stderr, format!("jamjam-dev: {error}\n"));
}

/// A socket that receives and never replies.
fn silent_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The number of KEEPALIVE packets received; fails if anything else arrived.
fn keepalives(silent_socket: &UdpSocket) -> usize {
    let mut bytes = [0; 2_048];
    std::iter::from_fn(|| silent_socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()))
        .inspect(|bytes| assert_eq!(client::packet::Packet::read(bytes).kind, KEEPALIVE))
        .count()
}

#[test]
fn registered_echo_server_is_found_by_part_of_its_room_name() {
    let signaling = Server::start_signaling(&[]);
    let url = format!("ws://{}", signaling.address);
    let mut echo = Server::start(&["--host", "127.0.0.1", "--delay", "20", "--signaling-url", &url]);
    echo.line_starting_with("registration: room created ");
    let target = format!("[BOT] Echo Server (20ms delay) ({})", echo.address);

    assert_passed(&probe(&signaling, "Echo Server", &[]), &target);
    let sent =
        run_args(["send", "--tone", "440", "--duration", "100ms", "--signaling-url", &url, "--room", "Echo", "--json"]);
    assert_eq!((sent.code, sent.stderr.as_str()), (0, ""), "{sent:?}");
    let report = document::report(&sent);
    assert_eq!(report["target"], target);
    assert_eq!(report["streams"]["audio"]["returned"], 38);

    for connection in ["probe", "send"] {
        echo.line_starting_with(&format!("registration: member joined user=\"jamjam-dev {connection}\""));
        echo.line_starting_with(&format!("registration: member left user=\"jamjam-dev {connection}\""));
    }
    let list = run_args(["probe", "--signaling-url", &url, "--list-rooms", "--json"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["rooms"][0]["members"], 1);
}

#[test]
fn room_is_joined_by_name_id_or_invite_code_and_left() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let mut room_member = SignalingMember::with_address(signaling.address, "jam", None, echo.address);
    let target = format!("jam ({})", echo.address);
    for word in ["jam", &room_member.room.clone(), &room_member.invite.clone()] {
        assert_passed(&probe(&signaling, word, &[]), &target);
        let connection = room_member.receive_type("PeerJoined")["peer"].clone();
        assert_eq!(connection["name"], "jamjam-dev probe");
        room_member.receive_type("PeerUpdated");
        assert_eq!(room_member.receive_type("PeerLeft")["peer_id"], connection["id"]);
        assert_eq!(room_member.members(), 1);
    }
}

#[test]
fn candidate_addresses_are_tried_in_order_until_one_replies() {
    at_once(0..4, |answering| {
        let signaling = Server::start_signaling(&[]);
        let mut room_member = SignalingMember::with_room(signaling.address, "jam", None);
        let echo = Echo::correct();
        let silent_sockets = [silent_socket(), silent_socket(), silent_socket(), silent_socket()];
        let at = |n: usize| if n == answering { echo.address } else { silent_sockets[n].1 };
        // The port is closed, which is detected immediately.
        let (_socket, closed) = closed_udp_port();
        let candidate = |address: SocketAddr, priority: u32| json!({"address": address, "candidate_type": "Host", "priority": priority});
        let candidates = json!([
            candidate(at(1), 1),
            candidate(closed, 2),
            candidate("0.0.0.0:5000".parse().unwrap(), 4),
            candidate(at(0), 3),
        ]);

        let url = format!("ws://{}", signaling.address);
        let program = start(&mut command([
            "probe",
            "--count",
            "3",
            "--interval",
            "1ms",
            "--signaling-url",
            &url,
            "--room",
            "jam",
        ]));
        // The run waits for addresses that are published late.
        room_member.receive_type("PeerJoined");
        let reported = Instant::now();
        let data = json!({"candidates": candidates, "public_addr": at(2), "local_addr": at(3)});
        room_member.send_text(&json!({"type": "UpdatePeerInfo", "data": data}));
        let output = program.end();

        assert_passed(&output, &format!("jam ({})", echo.address));
        for (n, (silent_socket, _)) in silent_sockets.iter().enumerate() {
            assert_eq!(keepalives(silent_socket), usize::from(n < answering), "{n}");
        }
        // The client tries each silent address for at least half a second. A slow machine may take longer.
        assert!(reported.elapsed() >= ADDRESS_TIMEOUT * answering as u32);
        assert_eq!(echo.received_of(KEEPALIVE).len(), 1);
        assert_eq!(echo.received_of(PING).len(), 3);
    });
}

#[test]
fn unresponsive_address_is_sent_one_keepalive_only() {
    let signaling = Server::start_signaling(&[]);
    let (silent, first) = silent_socket();
    let (_socket, closed) = closed_udp_port();
    let mut room_member = SignalingMember::with_room(signaling.address, "jam", None);
    room_member.publish_addresses(&json!([]), Some(first), Some(closed));
    let url = format!("ws://{}", signaling.address);
    for line in [&["probe", "--packet", "keepalive"][..], &["send", "--tone", "440", "--duration", "100ms"]] {
        let output = run_args(line.iter().chain(&["--signaling-url", &url, "--room", "jam"]));
        assert_error(
            &output,
            1,
            &format!(
                "no member of room `jam` replies to KEEPALIVE: {first} (no reply within 500 ms), {closed} (Connection refused (os \
                 error 111)). No other packets were sent. If you know a member's address, give --to instead of --room"
            ),
        );
        assert_eq!(keepalives(&silent), 1, "{line:?}");
    }
}

#[test]
fn other_members_receive_the_source_address_of_the_packets() {
    let signaling = Server::start_signaling(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut room_member = SignalingMember::with_address(signaling.address, "jam", None, socket.local_addr().unwrap());
    let url = format!("ws://{}", signaling.address);
    let program =
        start(&mut command(["probe", "--count", "1", "--timeout", "10ms", "--signaling-url", &url, "--room", "jam"]));
    let mut bytes = [0; 2_048];
    let (length, requester) = socket.recv_from(&mut bytes).unwrap();
    socket.send_to(&bytes[..length], requester).unwrap();
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(client::packet::Packet::read(&bytes[..length]).kind, PING);
    let peer = room_member.receive_next("PeerUpdated")["peer"].clone();
    program.end();
    let address = json!(from);
    assert_eq!((&peer["public_addr"], &peer["local_addr"]), (&address, &address));
    assert_eq!(peer["candidates"], json!([{"address": from, "candidate_type": "Host", "priority": 2_130_706_431_u32}]));
}

#[test]
fn password_is_read_from_a_file() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let _room_member = SignalingMember::with_address(signaling.address, "vault", Some("sesame"), echo.address);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let target = format!("vault ({})", echo.address);
    let right = [file("plain", "sesame"), file("unix", "sesame\n"), file("dos", "sesame\r\n")];
    for file in &right {
        assert_passed(&probe(&signaling, "vault", &["--password-file", file]), &target);
    }

    let cannot = format!("cannot join a room on ws://{}: ", signaling.address);
    let needed = format!("{cannot}room `vault` needs a password; give --password-file");
    assert_error(&probe(&signaling, "vault", &[]), 3, &needed);
    let wrong = format!("{cannot}wrong password for room `vault`");
    assert_error(&probe(&signaling, "vault", &["--password-file", &file("wrong", "sesame ")]), 3, &wrong);

    for (file, reason) in [
        (file("empty", "\n"), "the file is empty"),
        (file("long", &"x".repeat(4_097)), "the file is longer than 4096 bytes"),
        (folder.path().join("none").to_str().unwrap().to_owned(), "No such file or directory (os error 2)"),
    ] {
        let error = format!("cannot read a password from {file}: {reason}");
        assert_error(&probe(&signaling, "vault", &["--password-file", &file]), 3, &error);
    }
}

#[test]
fn missing_or_ambiguous_room_is_reported_with_a_list() {
    let signaling = Server::start_signaling(&[]);
    let cannot = format!("cannot join a room on ws://{}: ", signaling.address);
    assert_error(&probe(&signaling, "duo", &[]), 3, &format!("{cannot}no room matches `duo`; the server has no rooms"));

    let players = [1, 2].map(|_| SignalingMember::with_room(signaling.address, "duo", None));
    let header = "id        invite code  members  password  name";
    let rows = players
        .iter()
        .map(|room_member| format!("\n{}  {}          1/10  no        duo", room_member.room, room_member.invite));
    let table = header.to_owned() + &rows.collect::<String>();
    let several =
        format!("{cannot}several rooms match `duo`; give the id or invite code of one of these rooms:\n{table}");
    assert_error(&probe(&signaling, "duo", &[]), 3, &several);
    let unknown = format!("{cannot}no room matches `trio`; the server's rooms are:\n{table}");
    assert_error(&probe(&signaling, "trio", &[]), 3, &unknown);
}

#[test]
fn room_without_published_addresses_is_reported_after_a_timeout() {
    let signaling = Server::start_signaling(&[]);
    let mut room_member = SignalingMember::with_room(signaling.address, "jam", None);
    room_member.publish_addresses(&json!([]), Some("0.0.0.0:5000".parse().unwrap()), None);
    let error = "no member of room `jam` has published an address (members: Echo Bot)";
    let error = format!("cannot join a room on ws://{}: {error}", signaling.address);
    assert_error(&probe(&signaling, "jam", &[]), 3, &error);
    room_member.receive_type("PeerJoined");
    room_member.receive_type("PeerLeft");
}

/// A server that accepts one connection and handles it with a function of the test.
fn server_that(does: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || does(listener.accept().unwrap().0));
    address
}

#[test]
fn stop_request_ends_joining_at_once_with_a_message() {
    let listed = json!({"type": "RoomList", "data": {"rooms": [
        {"id": "0000000a", "name": "jam", "peer_count": 1, "max_peers": 10, "has_password": false, "invite_code": "AAAAAA"},
    ]}});
    let joined_empty = json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "x", "peers": []}});
    // The server goes silent before or after the upgrade response, after the room list, or after RoomJoined. The joined room has no other
    // members.
    for replies in [None, Some(vec![]), Some(vec![listed.clone()]), Some(vec![listed, joined_empty])] {
        for (signal, code) in [("INT", 130), ("TERM", 143)] {
            let replies = replies.clone();
            let (reached, waiting) = mpsc::channel();
            let server = server_that(move |mut stream| {
                if let Some(replies) = replies {
                    let mut socket = tungstenite::accept(stream.try_clone().unwrap()).unwrap();
                    for reply in replies {
                        socket.read().unwrap();
                        socket.send(Message::text(reply.to_string())).unwrap();
                    }
                }
                reached.send(()).unwrap();
                std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
            });
            let program = start_line(&format!("probe --signaling-url ws://{server} --room jam"));
            waiting.recv_timeout(Duration::from_secs(30)).unwrap();
            program.signal(signal);
            let error = format!("interrupted while joining a room on ws://{server}; nothing was sent");
            assert_error(&program.end(), code, &error);
        }
    }
}

#[test]
fn stop_request_ends_the_address_search() {
    let signaling = Server::start_signaling(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut room_member = SignalingMember::with_address(signaling.address, "jam", None, socket.local_addr().unwrap());
    let url = format!("ws://{}", signaling.address);
    let program = start_line(&format!("probe --signaling-url {url} --room jam"));
    socket.recv(&mut [0; 64]).unwrap();
    program.signal("INT");
    let output = program.end();
    // The program waits up to 500 ms for a reply to its KEEPALIVE. The signal arrives during this time. Therefore, the program prints this
    // error instead of a result.
    let error =
        "interrupted while waiting for a reply from a member of the room `jam`; only KEEPALIVE packets were sent";
    assert_error(&output, 130, error);
    room_member.receive_next("PeerLeft");
}

#[test]
fn server_that_is_not_a_signaling_server_is_reported() {
    let (_socket, closed) = closed_tcp_port();
    let closed_advice = "No program listens on this TCP port, or a firewall rejects it. Check the host and port, and that the server is \
                         running";
    let closing = server_that(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.read().unwrap();
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
    for (server, reason) in [
        (closed, format!("cannot connect to {closed}: Connection refused (os error 111). {closed_advice}")),
        (
            closing,
            "the server closed the connection without a close code: the server or a proxy dropped the connection without an answer. Check \
             the path of the URL, --dialect and the server's log"
                .to_owned(),
        ),
    ] {
        let output = run(&format!("probe --signaling-url ws://{server} --room jam"));
        assert_error(&output, 3, &format!("cannot join a room on ws://{server}: {reason}"));
    }
    let output = run(&format!("send --signaling-url ws://{closed} --list-rooms"));
    let reason = format!("cannot connect to {closed}: Connection refused (os error 111). {closed_advice}");
    assert_error(&output, 3, &format!("cannot list the rooms of ws://{closed}: {reason}"));
}

#[test]
fn lost_signaling_connection_does_not_stop_packets() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let room_member = SignalingMember::with_address(signaling.address, "jam", None, echo.address);
    let url = format!("ws://{}", signaling.address);
    let program = start(&mut command([
        "probe",
        "--count",
        "300",
        "--interval",
        "5ms",
        "--signaling-url",
        &url,
        "--room",
        "jam",
        "--json",
    ]));
    echo.wait_for(10);
    drop((room_member, signaling));
    let output = program.end();
    assert_eq!(output.code, 0, "{output:?}");
    let report = document::report(&output);
    assert_eq!(
        (&report["streams"]["ping"]["sent"], &report["streams"]["ping"]["returned"]),
        (&json!(300), &json!(300))
    );
    let note = "jamjam-dev: the connection to the signaling server was lost; the run continued without it: ";
    assert!(output.stderr.starts_with(note) && output.stderr.lines().count() == 1, "{}", output.stderr);
}

#[test]
fn wait_for_waits_for_the_signaling_server_and_the_room() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port().to_string();
    drop(reserved);
    let url = format!("ws://127.0.0.1:{port}");
    let options = ["--count", "3", "--wait-for", "60s", "--timeout", "10s", "--json"];
    let program = start(command(["probe", "--signaling-url", &url, "--room", "Echo Server"]).args(options));
    let _echo = Server::start(&["--host", "127.0.0.1", "--with-signaling", &port]);
    let output = program.end();
    let wait = &document::report(&output)["readiness_wait"];
    assert_eq!(wait["reply_received"], true, "{output:?}");
}

#[test]
fn wait_for_does_not_repeat_what_stays_wrong() {
    at_once(["302 Found", "401 Unauthorized", "404 Not Found"], |status| {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let server = raw(move |_, mut stream| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 2_048]);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        });
        for target in [
            format!("ws://{server}"),
            format!("--room jam --signaling-url ws://{server}"),
            format!("--room jam --signaling-url http://{server}"),
        ] {
            let output = run(&format!("probe {target} --wait-for 5s"));
            let all = format!("{}{}", output.stdout, output.stderr);
            assert!(output.code != 0 && all.contains(&format!("HTTP {status}")), "{target}: {output:?}");
            assert_eq!(connections.swap(0, Ordering::Relaxed), 1, "{target}: {output:?}");
        }
    });
}

#[test]
fn wait_for_prints_notices_once() {
    let (_socket, closed) = closed_tcp_port();
    let began = Instant::now();
    let output = run(&format!("probe --signaling-url ws://me:secret@{closed} --room jam --wait-for 1200ms"));
    assert!(began.elapsed() >= Duration::from_millis(500), "several attempts");
    assert_eq!(output.stderr.matches("is sent without TLS").count(), 1, "{output:?}");
}

#[test]
fn interrupted_run_leaves_the_room_and_reports() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let mut room_member = SignalingMember::with_address(signaling.address, "jam", None, echo.address);
    let url = format!("ws://{}", signaling.address);
    let program = start(&mut command(["probe", "--count", "0", "--signaling-url", &url, "--room", "jam"]));
    echo.wait_for(10);
    program.signal("INT");
    let output = program.end();
    assert_eq!((output.code, output.stderr.as_str()), (130, ""), "{output:?}");
    assert!(output.stdout.starts_with("probe of jam ("), "{}", output.stdout);
    room_member.receive_next("PeerLeft");
    assert_eq!(room_member.members(), 1);
}

#[test]
fn rooms_are_listed_as_a_table_and_as_json() {
    let signaling = Server::start_signaling(&[]);
    let list = |command: &str| run(&format!("{command} --signaling-url ws://{} --list-rooms", signaling.address));
    for command in ["send", "probe"] {
        let output = list(command);
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "no rooms\n", ""));
    }
    let vault = SignalingMember::with_room(signaling.address, "a\u{1b}[31m vault", Some("sesame"));
    let jam = SignalingMember::with_room(signaling.address, "jam", None);
    let table = format!(
        "id        invite code  members  password  name\n\
         {}  {}          1/10  yes       a\u{fffd}[31m vault\n\
         {}  {}          1/10  no        jam\n",
        vault.room, vault.invite, jam.room, jam.invite
    );
    assert_eq!(list("send").stdout, table);

    let output = list("probe --json");
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    let line = list("probe --json-lines").stdout;
    assert_eq!((line.lines().count(), serde_json::from_str::<Value>(&line).unwrap()), (1, document.clone()));
    document::assert_valid_rooms(&document);
    let room = |room_member: &SignalingMember, name: &str, has_password: bool| json!({"id": room_member.room, "invite_code": room_member.invite, "name": name, "members": 1, "max_members": 10, "has_password": has_password});
    assert_eq!(
        document,
        json!({
            "type": "rooms", "schema_version": 1, "tool_version": env!("CARGO_PKG_VERSION"),
            "rooms": [room(&vault, "a\u{1b}[31m vault", true), room(&jam, "jam", false)],
        })
    );
}

#[test]
fn message_right_after_the_upgrade_response_is_received() {
    let server = server_that(|stream| {
        let mut socket = upgrade_with(stream, r#"{"type":"RoomList","data":{"rooms":[]}}"#);
        while socket.read().is_ok() {}
    });
    let output = run(&format!("send --signaling-url ws://{server} --list-rooms"));
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn signaling_url_variable_alone_changes_nothing() {
    let echo = Echo::correct();
    for url in ["ws://127.0.0.1:9", "", "nonsense"] {
        for target in ["--embedded", &format!("--to {}", echo.address)] {
            let line = format!("probe --count 1 {target}");
            let output = start(command(line.split_whitespace()).env("SIGNALING_URL", url)).end();
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{url} {line}");
        }
    }
    // The environment variable is used if an option needs the signaling server, such as `--list-rooms`.
    let signaling = Server::start_signaling(&[]);
    let url = format!("ws://{}", signaling.address);
    let output = start(command(["send", "--list-rooms"]).env("SIGNALING_URL", &url)).end();
    assert_eq!((output.code, output.stdout.as_str()), (0, "no rooms\n"));
}

#[test]
fn conflicting_room_options_are_rejected_before_connecting() {
    let needed = "needs a signaling server; add --signaling-url URL or set SIGNALING_URL";
    for (options, error) in [
        ("--room jam", format!("--room {needed}")),
        ("--list-rooms", format!("--list-rooms {needed}")),
        (
            "--room jam --signaling-url ftp://me:secret@x",
            "--signaling-url (or SIGNALING_URL): the scheme is missing or unknown; write ws://HOST:PORT, or wss:// for TLS".to_owned(),
        ),
        (
            "--room jam --signaling-url ws://me:sec/ret@x",
            "--signaling-url (or SIGNALING_URL): invalid URL; expected ws://HOST:PORT, with IPv6 addresses in brackets".to_owned(),
        ),
    ] {
        assert_error(&run(&format!("probe {options}")), 2, &error);
    }
    let output = start(command(["probe", "--room", "jam"]).env("SIGNALING_URL", "")).end();
    assert_error(&output, 2, &format!("--room {needed}"));

    // Usage errors that clap detects also exit with code 2.
    for options in [
        "--room jam --to 127.0.0.1",
        "--room jam --embedded",
        "--list-rooms --room jam",
        "--list-rooms --to 127.0.0.1",
        "--password-file x",
        "--room=",
    ] {
        for command in ["send", "probe"] {
            let output = run(&format!("{command} --signaling-url ws://127.0.0.1:9 {options}"));
            assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{options}: {output:?}");
        }
    }
}
