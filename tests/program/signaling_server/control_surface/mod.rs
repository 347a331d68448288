//! Control surfaces of a `signaling-server` process. The tests cover room options, a client that does not read, and guesses of room codes.

#![cfg(unix)]

use test_support::server;
mod admin;
mod admin_api;

mod example;
#[path = "../../../../examples/control_surface.rs"]
mod example_program;
mod program;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use server::process::{Server, program as command, run};
use server::{TEST_TIMEOUT, poll_until};
use socket2::{Domain, Socket, Type};
use tungstenite::{Message, WebSocket};

use super::assert_variables_are_rejected;

type Surface = WebSocket<TcpStream>;

/// A control surface that has joined a room. `receive_buffer` is the approximate size of its TCP receive buffer in bytes. `None` keeps the
/// default size of the operating system.
fn joined(address: SocketAddr, code: &str, receive_buffer: Option<usize>) -> Surface {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.connect(&address.into()).unwrap();
    let tcp: TcpStream = socket.into();
    tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let (mut surface, _) = tungstenite::client(format!("ws://{address}/"), tcp).unwrap();
    send(&mut surface, &json!({"type": "join", "room_code": code}));
    assert_eq!(receive(&mut surface)["type"], "welcome");
    surface
}

fn send(surface: &mut Surface, message: &Value) {
    surface.send(Message::text(message.to_string())).unwrap();
}

fn receive(surface: &mut Surface) -> Value {
    loop {
        match surface.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn slow_reader_loses_stale_values_only_and_delays_no_other_client() {
    let options = ["--bbx-room", "1234", "--rate-limit-messages", "off"];
    let server = Server::start_signaling(&options);
    let mut slow = joined(server.address, "1234", Some(4_096));
    let mut fast = joined(server.address, "1234", None);
    let mut sender = joined(server.address, "1234", None);
    // Long names fill the buffers between the two ends.
    let name = |number: usize| format!("{number}{}", "x".repeat(200));
    let mut newest = BTreeMap::new();
    let mut value = 0_u32;
    poll_until("values are dropped", || {
        for number in (0..20).cycle().take(2_000) {
            value += 1;
            newest.insert(name(number), value);
            send(&mut sender, &json!({"type": "param", "param": name(number), "value": value}));
            // The client `fast` reads its messages. It receives each value, even while messages are queued for the client `slow`, which
            // does not read.
            assert_eq!(receive(&mut fast)["value"].as_f64(), Some(f64::from(value)));
        }
        (server.metric("updates_coalesced_total") > 2_000).then_some(())
    });
    assert_eq!((server.metric("closed_slow_reader_total"), server.metric("members")), (0, 3));
    // The metric does not count bytes in the socket buffers of the operating system. The limit is the sum of three numbers of messages:
    // 64 that are being written, 256 in the queue, and one for each of the 20 parameters.
    assert!(server.metric("queued_bytes") < (64 + 256 + 20) * 300);
    send(&mut slow, &json!({"type": "ping", "client_time": 7}));
    let (mut received, mut count) = (BTreeMap::new(), 0);
    loop {
        let message = receive(&mut slow);
        if message["type"] == "pong" {
            break;
        }
        count += 1;
        let value = message["value"].as_f64().unwrap();
        let previous = received.insert(message["param"].as_str().unwrap().to_owned(), value);
        assert!(previous.is_none_or(|previous| previous < value), "values arrive in order");
    }
    assert!(count < value - 2_000, "{count} of {value}");
    let newest: BTreeMap<String, f64> = newest.into_iter().map(|(name, value)| (name, f64::from(value))).collect();
    assert_eq!(received, newest);
}

/// Starts a server, reads its first lines on standard output, and stops it.
fn printed(options: &[&str], lines: usize, prepare: impl FnOnce(&mut Command)) -> Vec<String> {
    let mut command = command(&[&["signaling-server", "--host", "127.0.0.1", "--port", "0"], options].concat());
    prepare(&mut command);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

#[test]
fn rooms_of_the_options_are_printed() {
    assert_eq!(printed(&["--bbx-room", "4711"], 1, |_| {}), ["bbx room: 4711"]);
    let two = ["--bbx-room", "4711", "--bbx-room", "123456"];
    assert_eq!(printed(&two, 2, |_| {}), ["bbx room: 4711", "bbx room: 123456"]);
    let by_variable = printed(&[], 2, |command| {
        command.env("BBX_ROOM", "4711,4712");
    });
    assert_eq!(by_variable, ["bbx room: 4711", "bbx room: 4712"]);
    let random: Vec<String> =
        (0..2).flat_map(|_| printed(&["--bbx-code-length", "6", "--bbx-room"], 1, |_| {})).collect();
    for line in &random {
        let code = line.strip_prefix("bbx room: ").unwrap();
        assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    }
    assert_ne!(random[0], random[1]);
}

#[test]
fn invalid_room_options_are_usage_errors() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["--bbx-room", "4711", "--bbx-room", "4711"],
            "--bbx-room (BBX_ROOM in the environment): 4711 is given twice",
        ),
        (&["--bbx-room", "4712,4711,any,4711"], "4711 is given twice"),
        (&["--dialect", "jamjam", "--bbx-room", "4711"], "add --dialect bbx"),
        (
            &["--bbx-max-rooms", "1", "--bbx-room", "4711", "--bbx-room", "4712"],
            "the maximum number of rooms (1) is open",
        ),
        (&["--bbx-room", "47x1"], "give a code of 4 to 6 digits, or `any`"),
    ];
    for (options, expected) in cases {
        let all = [&["signaling-server", "--host", "127.0.0.1", "--port", "0"], options].concat();
        let output = run(&all, |_| {});
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(expected), "{options:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{options:?}");
    }
}

#[test]
fn malformed_variable_is_named() {
    let wrong = [
        ("BBX_CODE_LENGTH", "3"),
        ("BBX_CODE_LENGTH", "7"),
        ("BBX_ROOM_EXPIRATION", "0"),
        ("BBX_MAX_CLIENTS", "0"),
        ("BBX_MAX_ROOMS", "many"),
        ("BBX_PING_INTERVAL", "often"),
        ("BBX_CONNECTION_TIMEOUT", "0"),
        ("BBX_ROOM", "12"),
    ];
    assert_variables_are_rejected(&wrong);
}

#[test]
fn options_take_effect_on_rooms() {
    let server = Server::start_signaling(&[
        "--dialect",
        "bbx",
        "--bbx-room",
        "1234",
        "--bbx-max-clients",
        "1",
        "--bbx-room-expiration",
        "3s",
        "--bbx-ping-interval",
        "10ms",
    ]);
    // A server with a single dialect accepts every URL path, and ignores messages of other dialects.
    let tcp = TcpStream::connect(server.address).unwrap();
    tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let (mut surface, _) = tungstenite::client(format!("ws://{}/any/where?roomId=r", server.address), tcp).unwrap();
    send(&mut surface, &json!({"type": "ListRooms"}));
    send(&mut surface, &json!({"type": "join", "room_code": "1234"}));
    assert_eq!(receive(&mut surface)["type"], "welcome");
    // The interval is 10 ms.
    assert!(matches!(surface.read(), Ok(Message::Ping(_))));
    let (mut other, _) = tungstenite::connect(format!("ws://{}/", server.address)).unwrap();
    other.send(Message::text(r#"{"type":"join","room_code":"1234"}"#)).unwrap();
    let answer = loop {
        match other.read().unwrap() {
            Message::Text(text) => break text,
            Message::Ping(_) => {}
            unexpected => panic!("{unexpected:?}"),
        }
    };
    assert!(answer.contains("ROOM_FULL"), "{answer}");
    // When the room expires, the server closes the room and the connections of its members.
    assert_eq!(receive(&mut surface)["type"], "closed");
    assert_eq!(server.metric("rooms"), 0);
}

#[test]
fn code_guessing_fails_and_blocks_new_connections_only() {
    let server = Server::start_signaling(&["--bbx-room", "1234"]);
    let mut member = joined(server.address, "1234", None);
    let connect = || tungstenite::client("ws://x/", TcpStream::connect(server.address).unwrap()).unwrap().0;
    // In a room code, digits of other writing systems are invalid. The server does not remove spaces or other characters from the code.
    let spelled = ["１２３４", "١٢٣٤", "1234\u{0}", " 1234", "+1234", "1234.0", "0x4d2", "𝟏𝟐𝟑𝟒"];
    let spelled = spelled.iter().cycle().map(ToString::to_string).take(20);
    let guesses: Vec<String> = spelled.chain((9_000..9_100).map(|code: u32| code.to_string())).collect();
    for codes in guesses.chunks(20) {
        let mut guesser = connect();
        for code in codes {
            send(&mut guesser, &json!({"type": "join", "room_code": code}));
            assert_eq!(receive(&mut guesser)["code"], "INVALID_ROOM", "{code}");
        }
        let Ok(Message::Close(Some(frame))) = guesser.read() else { panic!("no close frame") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1_008, "Too many wrong codes"));
    }
    let mut late = connect();
    send(&mut late, &json!({"type": "join", "room_code": "1234"}));
    assert_eq!(receive(&mut late)["code"], "INVALID_ROOM");
    assert_eq!(server.metric("requests_rejected_total"), 121);
    send(&mut member, &json!({"type": "ping", "client_time": 1}));
    assert_eq!(receive(&mut member)["type"], "pong");
}
