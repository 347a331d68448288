//! Tests `send` and `probe` with `--room`, and `rooms`. The program, the signaling server and the echo server use real sockets.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::client::{
    KEEPALIVE, PING, Packet, Program, ProgramOutput, Server as Echo, closed_tcp_port, closed_udp_port, command,
    document, free_port, run, start, start_line, together,
};
use test_support::server::{Member, Server, Since};
use test_support::snapshot;
use tungstenite::Message;

use crate::clients::websocket::scripted_server::raw;

/// The line of a short probe of a member of this room.
fn line(server: &Server, room: &str) -> String {
    format!("probe --count 3 --interval 1ms --signaling-url ws://{} --room {room}", server.address)
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

/// Creates a room. Returns its creator and the response.
fn room(server: &Server, name: &str, password: Option<&str>) -> (Member, Value) {
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": name, "password": password, "peer_name": "Echo Bot"}));
    let created = member.receive_type("RoomCreated");
    (member, created)
}

/// Creates a room whose creator publishes this address.
fn room_at(server: &Server, name: &str, password: Option<&str>, public: SocketAddr) -> Member {
    let (mut member, _) = room(server, name, password);
    publish(&mut member, Some(public), None);
    member
}

fn publish(member: &mut Member, public: Option<SocketAddr>, local: Option<SocketAddr>) {
    member.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": public, "local_addr": local}));
    // The server responds to this request after it has processed the update.
    member.rooms();
}

/// A socket that receives and never replies.
fn silent_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Whether KEEPALIVE packets were received, one per 100 ms of a second, and nothing else.
fn has_keepalives(silent_socket: &UdpSocket) -> bool {
    let mut bytes = [0; 2_048];
    let received = std::iter::from_fn(|| silent_socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()));
    let count = received.inspect(|bytes| assert_eq!(Packet::read(bytes).kind, KEEPALIVE)).count();
    assert!([0, 10].contains(&count), "{count}");
    count > 0
}

#[test]
fn candidate_addresses_are_tried_in_order_until_one_replies() {
    together(0..4, |answering| {
        let signaling = Server::start_signaling(&[]);
        let (mut room_member, _) = room(&signaling, "jam", None);
        let echo = Echo::correct();
        let silent_sockets = [(); 4].map(|()| silent_socket());
        let at = |n: usize| if n == answering { echo.address } else { silent_sockets[n].1 };
        // The port is closed, which is detected immediately.
        let (_socket, closed) = closed_udp_port();
        let candidate = |address: SocketAddr, priority: u32| json!({"address": address, "candidate_type": "Host", "priority": priority});
        let unspecified = "0.0.0.0:5000".parse().unwrap();
        let candidates = [candidate(at(1), 1), candidate(closed, 2), candidate(unspecified, 4), candidate(at(0), 3)];

        let program = start_line(&line(&signaling, "jam"));
        // The run waits for addresses that are published late.
        assert_eq!(room_member.receive_type("PeerJoined")["peer"]["name"], "jamjam-dev probe");
        let reported = Since::now();
        let data = json!({"candidates": candidates, "public_addr": at(2), "local_addr": at(3)});
        room_member.send("UpdatePeerInfo", &data);
        let output = program.end();

        assert_passed(&output, &format!("jam ({})", echo.address));
        for (n, (silent_socket, _)) in silent_sockets.iter().enumerate() {
            assert_eq!(has_keepalives(silent_socket), n < answering, "{n}");
        }
        // The client tries each silent address for at least a second. A slow machine may take longer.
        reported.assert_at_least(Duration::from_secs(answering as u64));
        assert!(!echo.received_of(KEEPALIVE).is_empty());
        assert_eq!(echo.received_of(PING).len(), 3);
    });
}

#[test]
fn unresponsive_address_is_sent_keepalives_only() {
    let signaling = Server::start_signaling(&[]);
    let (silent, first) = silent_socket();
    let (_socket, closed) = closed_udp_port();
    let (mut room_member, _) = room(&signaling, "jam", None);
    publish(&mut room_member, Some(first), Some(closed));
    let error = format!(
        "no member of room `jam` replies to KEEPALIVE: {first} (no reply within 1 s), {closed} (Connection refused (os error \
         111)). No other packets were sent. If you know a member's address, give --to instead of --room"
    );
    for command in ["probe --packet keepalive", "send --tone 440 --duration 100ms"] {
        let output = run(&format!("{command} --signaling-url ws://{} --room jam", signaling.address));
        assert_error(&output, 3, &error);
        assert!(has_keepalives(&silent), "{command}");
    }
}

#[test]
fn other_members_receive_the_source_address_of_the_packets() {
    let signaling = Server::start_signaling(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut room_member = room_at(&signaling, "jam", None, socket.local_addr().unwrap());
    let program = start_line(&format!("{} --timeout 10ms", line(&signaling, "jam")));
    let mut bytes = [0; 2_048];
    let (length, requester) = socket.recv_from(&mut bytes).unwrap();
    socket.send_to(&bytes[..length], requester).unwrap();
    let mut from = requester;
    while from == requester {
        from = socket.recv_from(&mut bytes).unwrap().1;
    }
    assert_eq!(bytes[1], PING);
    let peer = room_member.skip_to("PeerUpdated")["data"]["peer"].take();
    program.end();
    let address = json!(from);
    assert_eq!((&peer["public_addr"], &peer["local_addr"]), (&address, &address));
    assert_eq!(peer["candidates"], json!([{"address": from, "candidate_type": "Host", "priority": 2_130_706_431_u32}]));
}

#[test]
fn password_is_read_from_a_file() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let _room_member = room_at(&signaling, "vault", Some("sesame"), echo.address);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let probe = |password: &str| {
        std::fs::write(&file, password).unwrap();
        run(&format!("{} --password-file {}", line(&signaling, "vault"), file.display()))
    };
    assert_passed(&probe("sesame\r\n"), &format!("vault ({})", echo.address));

    let cannot = format!("cannot join a room on ws://{}: ", signaling.address);
    let needed = format!("{cannot}room `vault` needs a password; give --password-file");
    assert_error(&run(&line(&signaling, "vault")), 3, &needed);
    assert_error(&probe("sesame "), 3, &format!("{cannot}wrong password for room `vault`"));
    let cannot = format!("cannot read a password from {}: ", file.display());
    assert_error(&probe("\n"), 3, &format!("{cannot}the file is empty"));
    assert_error(&probe(&"x".repeat((1 << 20) + 1)), 3, &format!("{cannot}longer than 1 MiB"));
}

#[test]
fn room_without_published_addresses_is_reported_after_a_timeout() {
    let signaling = Server::start_signaling(&[]);
    let (mut room_member, _) = room(&signaling, "jam", None);
    publish(&mut room_member, Some("0.0.0.0:5000".parse().unwrap()), None);
    let error = "no member of room `jam` has published an address (members: Echo Bot)";
    let error = format!("cannot join a room on ws://{}: {error}", signaling.address);
    assert_error(&run(&line(&signaling, "jam")), 3, &error);
    room_member.receive_type("PeerJoined");
    room_member.receive_type("PeerLeft");
}

#[test]
fn stop_request_ends_joining_at_once_with_a_message() {
    let room = json!({"id": "0000000a", "name": "jam", "peer_count": 1, "max_peers": 10, "has_password": false, "invite_code": "AAAAAA"});
    let listed = json!({"type": "RoomList", "data": {"rooms": [room]}});
    let joined_empty = json!({"type": "RoomJoined", "data": {"room_id": "0000000a", "peer_id": "x", "peers": []}});
    // The server goes silent before or after the upgrade response, after the room list, or after joining a room without other members.
    let cases = [None, Some(vec![]), Some(vec![listed.clone()]), Some(vec![listed, joined_empty])];
    // A probe of the signaling server itself joins too.
    let probes = [false, true].map(|is_flooded| (Some(vec![]), false, is_flooded));
    together(cases.map(|case| (case, true, false)).into_iter().chain(probes), |(replies, is_room, is_flooded)| {
        let (reached, waiting) = mpsc::channel();
        let server = raw(move |_, mut stream| {
            if let Some(replies) = &replies {
                let mut socket = tungstenite::accept(stream.try_clone().unwrap()).unwrap();
                for reply in replies {
                    socket.read().unwrap();
                    socket.send(Message::text(reply.to_string())).unwrap();
                }
            }
            reached.send(()).unwrap();
            while is_flooded && stream.write_all(&[0x89, 0].repeat(1_000)).is_ok() {}
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
        });
        let url = format!("ws://{server}");
        let (target, activity) = if is_room {
            (format!("--room jam --signaling-url {url}"), "joining a room on")
        } else {
            (format!("{url}/?roomId=r"), "connecting to")
        };
        let program = start_line(&format!("probe {target}"));
        waiting.recv_timeout(Duration::from_secs(30)).unwrap();
        program.signal("TERM");
        let error = format!("interrupted while {activity} {url}; nothing was sent");
        assert_error(&program.end(), 143, &error);
    });
}

#[test]
fn stop_request_ends_the_address_search() {
    let signaling = Server::start_signaling(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut room_member = room_at(&signaling, "jam", None, socket.local_addr().unwrap());
    let program = start_line(&line(&signaling, "jam"));
    // The program waits up to 1 s for a reply to its KEEPALIVEs. The signal arrives during this time.
    socket.recv(&mut [0; 64]).unwrap();
    program.signal("INT");
    assert_error(&program.end(), 130, "interrupted while waiting for a reply from a member");
    room_member.skip_to("PeerLeft");
}

#[test]
fn interrupted_run_reports_before_it_leaves_the_room() {
    for command_line in ["probe --count 0", "load-echo --tone 440 --clients 2"] {
        let (signaling, echo, folder) = (Server::start_signaling(&[]), Echo::correct(), tempfile::tempdir().unwrap());
        let mut room_member = room_at(&signaling, "jam", None, echo.address);
        let line = format!("{command_line} --json --room jam --signaling-url ws://{}", signaling.address);
        let stdout = folder.path().join("stdout");
        let program = start(command(line.split(' ')).stdout(File::create(&stdout).unwrap()));
        echo.wait_for(10);
        program.signal("INT");
        room_member.skip_to("PeerLeft");
        let report: Value = serde_json::from_slice(&fs::read(&stdout).unwrap()).unwrap();
        assert_eq!((&report["interrupted"], program.end().code), (&json!("SIGINT"), 130), "{command_line}");
    }
}

#[test]
fn lost_signaling_connection_does_not_stop_packets() {
    let signaling = Server::start_signaling(&[]);
    let echo = Echo::correct();
    let room_member = room_at(&signaling, "jam", None, echo.address);
    let url = format!("ws://{}", signaling.address);
    let program = start_line(&format!("probe --count 300 --interval 5ms --signaling-url {url} --room jam --json"));
    echo.wait_for(10);
    drop((room_member, signaling));
    let output = program.end();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(document::counts(&document::report(&output), "ping", ["sent", "lost"]), [300, 0]);
    let note = "jamjam-dev: the connection to the signaling server was lost; the run continued without it: ";
    assert!(output.stderr.starts_with(note) && output.stderr.lines().count() == 1, "{}", output.stderr);
}

#[test]
fn wait_for_waits_for_the_signaling_server_and_the_room() {
    let port = free_port().to_string();
    let line = format!(
        "probe --signaling-url ws://127.0.0.1:{port} --room Echo --count 3 --wait-for 60s --timeout 10s --json"
    );
    let program = start_line(&line);
    let _echo = Server::start(&["--host", "127.0.0.1", "--with-signaling", &port]);
    assert_eq!(document::report(&program.end())["readiness_wait"]["reply_received"], true);
}

#[test]
fn wait_for_does_not_repeat_what_stays_wrong() {
    together(["302 Found", "401 Unauthorized", "404 Not Found"], |status| {
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
    let began = Since::now();
    let output = run(&format!("probe --signaling-url ws://me:secret@{closed} --room jam --wait-for 1200ms"));
    // Several attempts.
    began.assert_at_least(Duration::from_millis(500));
    assert_eq!(output.stderr.matches("is sent without TLS").count(), 1, "{output:?}");
}

#[test]
fn rooms_are_listed_as_a_table_and_as_json() {
    let signaling = Server::start_signaling(&[]);
    let list = |options: &str| run(&format!("rooms ws://{} {options}", signaling.address));
    let output = list("");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "no rooms\n", ""));
    let (_ann, vault) = room(&signaling, "a\u{1b}[31m vault", Some("sesame"));
    let (_bob, jam) = room(&signaling, "jam", None);
    let json = list("--json").stdout;
    document::valid(&json);
    let names = [(&vault, ["VAULT ID", "VAULT1"]), (&jam, ["JAM   ID", "JAM111"])].into_iter();
    let text = names.fold(list("").stdout + &json, |text, (created, [id, invite])| {
        let [room_id, code] = ["room_id", "invite_code"].map(|name| created[name].as_str().unwrap());
        text.replace(room_id, id).replace(code, invite)
    });
    snapshot::assert_matches("clients/rooms", &text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

/// clap counts a value from a variable as given.
#[test]
fn variables_of_other_commands_conflict_with_no_option() {
    let variables =
        [("SIGNALING_URL", "ws://127.0.0.1:9"), ("HMAC_SECRET", "s"), ("WEBRTC_AUTH", "off"), ("PORT", "1")];
    let lines = [
        "send --tone 440 --duration 10ms --embedded",
        "probe --embedded --count 1",
        "probe --embedded --moqt --count 1",
        "compare 127.0.0.1:1 --count 1 --timeout 10ms",
        "load-echo --embedded --clients 2 --count 1",
        "load-rooms ws://127.0.0.1:9 --clients 2",
        "musicians --tone 440 --duration 10ms --clients 1 --room jam",
        "publish --embedded --text x",
        "replay /dev/null",
        "rooms",
        "devices",
        "token ann:jam",
        "generate man",
        "echo-server --host 127.0.0.1 --port 0 --with-signaling 0 --room-name x --check --duration 10ms",
        "signaling-server --host 127.0.0.1 --port 0 --check --duration 10ms",
    ];
    together(lines, |line| {
        let output = start(command(line.split(' ')).envs(variables)).end();
        assert_ne!(output.code, 2, "{line}: {output:?}");
    });
}

#[test]
fn signaling_url_variable_is_used_only_if_an_option_needs_it() {
    let with_variable =
        |line: &str, url: &str| -> Program { start(command(line.split_whitespace()).env("SIGNALING_URL", url)) };
    together(["ws://127.0.0.1:9", "", "nonsense"], |url| {
        let output = with_variable("probe --count 1 --embedded", url).end();
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{url}");
    });
    let signaling = Server::start_signaling(&[]);
    let output = with_variable("rooms", &format!("ws://{}", signaling.address)).end();
    assert_eq!((output.code, output.stdout.as_str()), (0, "no rooms\n"));
}
