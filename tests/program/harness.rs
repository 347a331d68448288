//! The crate `jamjam-dev-harness` and `examples/harness.py` start the built program for somebody else's test, and leave nothing of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, thread};

use jamjam_dev_harness::EchoRoom;
use serde_json::{Value, json};
use test_support::built_program;
use test_support::client::{fixture, run, start};
use test_support::server::{Client, Member, TEST_TIMEOUT, audio, keepalive, poll_until, program, ready_address};

/// Says what the second process does.
const ROLE: &str = "HARNESS_TEST_ROLE";

/// A second process of this test program, which runs only the test `somebody_elses_test`, with this program as `jamjam-dev` and files in `folder`.
fn second_process(role: &str, jamjam_dev: &Path, folder: &Path) -> Command {
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut test = Command::new(env::current_exe().unwrap());
    test.args([&format!("{module}::somebody_elses_test"), "--exact", "--nocapture", "--test-threads=1"]);
    test.env(ROLE, role).env("JAMJAM_DEV", jamjam_dev).env("TMPDIR", folder).env("ECHO_DELAY_MS", "1h");
    test.stdout(Stdio::piped()).stderr(Stdio::piped());
    test
}

/// Only in a second process.
#[test]
fn somebody_elses_test() {
    match env::var(ROLE).as_deref() {
        Ok("judge") => judge(),
        Ok("sever") => sever(),
        Ok("wait") => {
            let room = EchoRoom::start_relayed(&[]).unwrap();
            println!("\nserver {} {}", room.echo(), room.server_url());
            loop {
                thread::park();
            }
        }
        Ok("fail") => println!("\nerror {}", EchoRoom::start().unwrap_err()),
        _ => {}
    }
}

/// A client plays in the room, and another one sends what no client may send.
fn judge() {
    let room = EchoRoom::start().unwrap();
    let codes = (room.room_code().len(), room.value("code_6").map(str::len), room.value("moqt"));
    assert_eq!(codes, (9, Some(6), None));
    let (url, code) = (room.server_url(), room.room_code());
    let sent = run(&format!("send --tone 440 --duration 200ms --no-echo --signaling-url {url} --room {code}"));
    assert_eq!(sent.code, 0, "{sent:?}");
    let report = room.report().unwrap();
    let json: Value = serde_json::from_str(&report.json).unwrap();
    assert!(report.passed && json["verdict"]["passed"] == true, "{json}");
    let packets = json["sources"].as_array().unwrap().iter().filter_map(|source| source["audio"].as_u64());
    assert_eq!(packets.sum::<u64>(), 75, "{json}");

    let room = EchoRoom::start_with(&["--delay", "0"]).unwrap();
    let client = Client::connect(room.echo().parse().unwrap());
    assert_eq!(client.exchange(&audio(1, 512)), audio(1, 512));
    let wrong_version = [&[2][..], &[0; 11]].concat();
    client.send(&wrong_version);
    // The answer follows what was received before.
    assert_eq!(client.exchange(&keepalive(1, b"")), keepalive(1, b""));
    let report = room.report().unwrap();
    assert!(!report.passed && report.json.contains("\"version\""), "{}", report.json);

    let error = EchoRoom::start_with(&["--address-file", "x"]).unwrap_err().to_string();
    assert!(error.contains("did not start") && error.contains("--ready-file"), "{error}");
}

/// A member is severed from the echo server, restored and renumbered.
fn sever() {
    const NAME: &str = "Aki \"\\\"";
    let room = EchoRoom::start_relayed(&["--seed", "7"]).unwrap();
    let mut member = Member::connect(room.server_url().strip_prefix("http://").unwrap().parse().unwrap());
    let joined = json!({"room_id": room.value("code_6"), "password": null, "peer_name": NAME});
    member.send("JoinRoom", &joined);
    let mut peer = member.skip_to("RoomJoined")["data"]["peers"][0].take();
    // The Echo Bot may publish its address later.
    while peer["public_addr"].is_null() {
        peer = member.skip_to("PeerUpdated")["data"]["peer"].take();
    }
    let echo: SocketAddr = peer["public_addr"].as_str().unwrap().parse().unwrap();
    assert!(peer["name"] == "Echo Bot" && echo.to_string() != room.echo(), "{peer}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let own = socket.local_addr().unwrap();
    member.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": own, "local_addr": null}));
    let exchange = |datagram: &[u8]| {
        let mut buffer = [0; 1_000];
        socket.send_to(datagram, echo).unwrap();
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    };
    assert_eq!(exchange(&audio(1, 512)), (audio(1, 512), echo));
    room.sever("Echo Bot", NAME).unwrap();
    socket.send_to(&audio(2, 512), echo).unwrap();
    // STUN passes. Its answer shows that what was sent before has arrived.
    assert_eq!(exchange(&[&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()).0[..2], [1, 1]);
    room.restore("*", NAME).unwrap();
    assert_eq!(exchange(&audio(3, 512)), (audio(3, 512), echo));
    room.renumber(NAME).unwrap();
    assert_eq!(exchange(&audio(4, 512)), (audio(4, 512), echo));
    let error = room.change_links(r#"{"from":"Aki","loss":"x"}"#).unwrap_err().to_string();
    assert!(error.starts_with(r#"cannot change links with {"from":"Aki","loss":"x"}: HTTP/1.1 422 "#), "{error}");
    let report = room.report().unwrap();
    // Before and after the new number.
    let json: Value = serde_json::from_str(&report.json).unwrap();
    assert_eq!(json["sources"].as_array().map(Vec::len), Some(2), "{json:#}");
    let relay: Value = serde_json::from_str(&report.relay.unwrap()).unwrap();
    let flows = relay["media"]["flows"].as_array().unwrap();
    assert!(flows.iter().any(|flow| flow["outcomes"]["lost"] == 1), "{relay:#}");
    let error = EchoRoom::start().unwrap().sever("Aki", "*").unwrap_err().to_string();
    assert!(
        error.starts_with("cannot change links with {\"from\":\"Aki\",") && error.contains("start_relayed"),
        "{error}"
    );
}

#[test]
fn harness_judges_and_severs_clients_and_removes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["judge", "sever"] {
        let output = second_process(role, &built_program(), folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let output = second_process("fail", Path::new("/nowhere/jamjam-dev"), folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = text.lines().find_map(|line| line.strip_prefix("error ")).expect(&text);
    assert!(error.starts_with("cannot start `/nowhere/jamjam-dev`: "), "{error}");
    assert!(error.ends_with("install jamjam-dev, or set JAMJAM_DEV to its path"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn server_ends_with_the_killed_test_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut test = start(&mut second_process("wait", &built_program(), folder.path()));
    let mut lines = BufReader::new(test.0.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("server ").map(str::to_owned)).unwrap();
    let (echo, signaling) = line.split_once(" http://").unwrap();
    assert!(UdpSocket::bind(echo).is_err() && TcpStream::connect(signaling).is_ok());
    test.0.kill().unwrap();
    test.0.wait().unwrap();
    poll_until("a free port", || UdpSocket::bind(echo).ok());
    poll_until("a closed port", || TcpStream::connect(signaling).err());
}

#[test]
fn only_servers_end_with_standard_input() {
    for subcommand in ["echo-server", "signaling-server"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        let mut server = program(&[subcommand, "--host", "127.0.0.1", "--port", "0"]);
        server.arg("--ready-file").arg(&file).env("JAMJAM_END_WITH_STDIN", "1").stdin(Stdio::piped());
        let mut server = start(server.stdout(Stdio::piped()).stderr(Stdio::piped()));
        poll_until("a ready file", || ready_address(&file));
        assert!(server.is_running());
        drop(server.0.stdin.take());
        assert_eq!(server.end().code, 0, "{subcommand}");
    }
    // The audio of this client is its standard input.
    let mut send = test_support::client::command(["send", "--embedded", "--delay", "0", "--wav", "-"]);
    let wav = File::open(fixture("speech-16bit-mono-48k.wav")).unwrap();
    let sent = start(send.env("JAMJAM_END_WITH_STDIN", "1").stdin(wav)).end();
    assert!(sent.code == 0 && sent.stdout.contains("563"), "{sent:?}");
}

#[test]
fn example_in_python_severs_a_client_and_prints_the_verdicts() {
    let mut python = Command::new("python3");
    python.arg(test_support::repository().join("examples/harness.py")).env("JAMJAM_DEV", built_program());
    let output = python.output().expect("python3");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("passed\npassed\n"), "{output:?}");
}
