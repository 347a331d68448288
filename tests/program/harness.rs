//! The crate `jamjam-dev-harness` and `examples/harness.py` start the built program for somebody else's test, and leave nothing of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, thread};

use jamjam_dev_harness::EchoRoom;
use serde_json::Value;
use test_support::built_program;
use test_support::client::{at_once, fixture, run_to_success, start};
use test_support::server::{Client, audio, keepalive, poll_until, program, ready_address};

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
        Ok("wait") => {
            let room = EchoRoom::start().unwrap();
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
    at_once([()], |()| {
        let room = EchoRoom::start().unwrap();
        let codes = (room.room_code().len(), room.value("code_6").map(str::len), room.value("moqt"));
        assert_eq!(codes, (9, Some(6), None));
        let (url, code) = (room.server_url(), room.room_code());
        run_to_success(&format!("send --tone 440 --duration 1s --no-echo --signaling-url {url} --room {code}"));
        let report = room.report().unwrap();
        let json: Value = serde_json::from_str(&report.json).unwrap();
        assert!(report.passed && json["failures"].as_array().is_some_and(Vec::is_empty), "{json}");
        let audio = json["sources"].as_array().unwrap().iter().filter_map(|source| source["audio"].as_u64());
        assert_eq!(audio.sum::<u64>(), 375, "{json}");
    });

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

#[test]
fn harness_judges_clients_and_removes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let output = second_process("judge", &built_program(), folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
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
    assert!(TcpStream::connect(signaling).is_err());
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
fn example_in_python_echoes_a_packet_and_prints_the_verdict() {
    let mut python = Command::new("python3");
    python.arg(test_support::repository().join("examples/harness.py")).env("JAMJAM_DEV", built_program());
    let output = python.output().expect("python3");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("join "), "{output:?}");
    assert!(text.ends_with("['0 of 1 expected sources sent 30 AUDIO packets']\n"), "{text}");
}
