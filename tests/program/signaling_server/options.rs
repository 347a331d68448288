//! The environment variables of `signaling-server`, and its log lines about them.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use test_support::server;

use jamjam_dev::signaling::Dialect;
use server::process::{Server, run};

use super::assert_variables_are_rejected;

fn set(variables: &'static [(&'static str, &'static str)]) -> impl FnOnce(&mut Command) {
    move |command| {
        command.envs(variables.iter().copied());
    }
}

/// Starts a server with these options and environment variables. Finds the log line with the server's listen address. Returns the text
/// after the address in this line.
fn start_line_suffix(options: &[&str], variables: &'static [(&'static str, &'static str)]) -> String {
    let mut server = Server::start_signaling_as(options, set(variables));
    let line = server.line_starting_with("signaling: server listening on ");
    let address = format!("signaling: server listening on ws://{}", server.address);
    line.message.strip_prefix(&address).expect("the address").to_owned()
}

#[test]
fn start_line_names_the_variables_of_the_listen_address() {
    let host_option = ["--host", "127.0.0.1"];
    assert_eq!(start_line_suffix(&host_option, &[("PORT", "0")]), " (PORT from the environment)");
    assert_eq!(start_line_suffix(&host_option, &[("PORT_ENV", "0")]), " (PORT_ENV from the environment)");
    assert_eq!(
        start_line_suffix(&[], &[("PORT", "0"), ("HOST", "127.0.0.1")]),
        " (HOST and PORT from the environment)"
    );
    assert_eq!(
        start_line_suffix(&["--port", "0"], &[("PORT", "1"), ("HOST", "127.0.0.1")]),
        " (HOST from the environment)"
    );
    // `PORT` takes precedence over `PORT_ENV` unless `PORT` is empty.
    assert_eq!(start_line_suffix(&host_option, &[("PORT", "0"), ("PORT_ENV", "x")]), " (PORT from the environment)");
    assert_eq!(start_line_suffix(&host_option, &[("PORT", ""), ("PORT_ENV", "0")]), " (PORT_ENV from the environment)");
}

#[test]
fn malformed_variable_is_named() {
    let wrong: [(&str, &str); 23] = [
        ("PORT", "abc"),
        ("PORT_ENV", "70000"),
        ("MAX_CONNECTIONS", "0"),
        ("RATE_LIMIT_MESSAGES", "1000"),
        ("DIALECTS", "jamjam,morse"),
        ("HEARTBEAT_INTERVAL", "often"),
        ("HEARTBEAT_INTERVAL_MS", "-1"),
        ("HEARTBEAT_INTERVAL", "1ms"),
        ("CLIENT_TIMEOUT", "0"),
        ("CLIENT_TIMEOUT_MS", "1 minute"),
        ("WEBRTC_MAX_MEMBERS", "0"),
        ("WEBRTC_MAX_MEMBERS", "off"),
        ("BROADCAST_ENVELOPE", "paper"),
        ("RADIO_POST_BROADCAST_DELAY_SECONDS", "soon"),
        ("RADIO_POST_BROADCAST_DELAY_SECONDS", "3600.5"),
        ("ORIGIN_ALLOWLIST", "https://a.example,b.example"),
        ("ORIGIN_ALLOWLIST", "https://a.example/page"),
        ("RATE_LIMIT_TOKEN", "10"),
        ("RATE_LIMIT_POST", "0/m"),
        ("MAX_PAYLOAD_BYTES", "0"),
        ("IDLE_TIMEOUT_MS", "long"),
        ("MAX_CONN_AGE_MS", "-1"),
        ("REQUIRE_DEVICE", "maybe"),
    ];
    assert_variables_are_rejected(&wrong);
    // If the option is given, the error message does not mention the environment variable.
    let output = run(&["signaling-server", "--port", "abc"], |command| {
        command.env("PORT", "0");
    });
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && !stderr.contains("environment"), "{stderr}");
}

#[test]
fn unusable_host_of_the_environment_is_named() {
    let error = |options: &[&str]| {
        let output = run(&[&["signaling-server", "--port", "0"], options].concat(), |command| {
            command.env("HOST", "x86_64.invalid");
        });
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, by_variable) = error(&[]);
    assert!(code == Some(3) && by_variable.starts_with("jamjam-dev: --host: cannot find an address"), "{by_variable}");
    assert!(by_variable.ends_with(" (HOST from the environment)\n"), "{by_variable}");
    let (code, by_option) = error(&["--host", "host.invalid"]);
    assert!(code == Some(3) && !by_option.contains("environment"), "{by_option}");
}

#[test]
fn switch_in_a_variable_may_be_on_or_off_in_any_common_word() {
    for word in ["1", "yes", "true", "on", "0", "no", "false", "off"] {
        let variables = Box::leak(Box::new([("REQUIRE_DEVICE", word)]));
        assert_eq!(start_line_suffix(&["--host", "127.0.0.1", "--port", "0"], variables), "");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn limits_of_threads_and_open_files_are_named() {
    let unprivileged = ["--reuid=61234", "--clear-groups", "prlimit"];
    for threads in 2..8 {
        let output = Command::new("setpriv")
            .args(unprivileged)
            .args([&format!("--nproc={threads}"), env!("CARGO_BIN_EXE_jamjam-dev"), "signaling-server", "--port", "x"])
            .output();
        // Only root can become a user without other processes.
        if !output.is_ok_and(|output| output.status.code() == Some(2)) {
            eprintln!("skipped: not root");
            break;
        }
        let mut command = Command::new("timeout");
        command.args(["--preserve-status", "1", "setpriv"]).args(unprivileged).arg(format!("--nproc={threads}"));
        let output =
            command.args([env!("CARGO_BIN_EXE_jamjam-dev"), "signaling-server", "--port", "0"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(3), "{threads}: {stderr}");
            assert!(
                stderr.contains(
                    "Raise the limit on threads: TasksMax= of the unit, pids_limit of the container, or ulimit -u\n"
                ),
                "{stderr}"
            );
            assert!(
                stderr.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" WARN ")).count() <= 2,
                "{stderr}"
            );
        }
    }
    let mut server = Server::start_signaling(&[]);
    // The first response shows that the start is complete.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    assert!(stream.read_to_string(&mut String::new()).is_ok_and(|len| len > 0));
    let limited = Command::new("prlimit").args(["--nofile=16:16", "--pid", &server.id().to_string()]).status().unwrap();
    assert!(limited.success());
    let _connections: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let line = server.line_starting_with("http: cannot accept a connection");
    assert!(line.level == "WARN" && line.message.ends_with(" open_files_limit=16"), "{line:?}");
}

#[test]
fn lists_in_variables_may_contain_spaces() {
    let variables =
        [("DIALECTS", "jamjam, bbx"), ("BBX_ROOM", "4711, 4712"), ("ORIGIN_ALLOWLIST", "https://a.example, ")];
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.envs(variables);
    });
    server.line_starting_with("signaling: server listening on ");
}

#[test]
fn unknown_dialect_error_lists_the_known_ones() {
    let output = run(&["signaling-server", "--dialect", "morse"], |_| {});
    let stderr = String::from_utf8(output.stderr).unwrap();
    let known = format!("[possible values: {}]", Dialect::ALL.map(Dialect::name).join(", "));
    assert!(output.status.code() == Some(2) && stderr.contains(&known), "{stderr}");
}

#[test]
fn verbose_log_contains_room_changes_and_rejections() {
    let mut server = Server::start_signaling(&["--verbose"]);
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(server::TEST_TIMEOUT)).unwrap();
    let (mut socket, _) = tungstenite::client("ws://localhost/", stream).unwrap();
    for text in [
        r#"{"type":"CreateRoom","data":{"room_name":"jam","password":"hunter2","peer_name":"Ann"}}"#,
        r#"{"type":"JoinRoom","data":{"room_id":"nowhere","peer_name":"Ann"}}"#,
        r#"{"type":"LeaveRoom"}"#,
    ] {
        socket.send(tungstenite::Message::text(text)).unwrap();
    }
    let created: serde_json::Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    let id = created["data"]["room_id"].as_str().unwrap();
    let mut messages = Vec::new();
    while messages.len() < 5 {
        let message = server.line().message;
        assert!(!message.contains("hunter2"), "{message}");
        if message.contains(" conn=0") && !message.contains(" source=") {
            messages.push(message);
        }
    }
    let expected = [
        "member joined dialect=jamjam conn=0 room=ID user=Ann members=1",
        "message handled dialect=jamjam type=CreateRoom conn=0 room=ID user=Ann receivers=0 bytes=87",
        "request rejected dialect=jamjam conn=0 reason=\"Room not found\"",
        "message handled dialect=jamjam type=LeaveRoom conn=0 room=ID user=Ann receivers=0 bytes=20",
        "member left dialect=jamjam conn=0 room=ID user=Ann reason=\"left the room\" members=0",
    ];
    assert_eq!(messages, expected.map(|line| format!("signaling: {line}").replace("ID", id)));
}

#[test]
fn control_characters_in_file_names_are_replaced_in_errors() {
    let output = run(&["signaling-server", "--docs-password", "@no\u{1b}[2J\u{202e}file"], |_| {});
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr:?}");
    assert!(stderr.contains("no\u{fffd}[2J\u{fffd}file") && !stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn devices_pipes_and_long_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    std::fs::write(path("long"), "a".repeat((1 << 20) + 1)).unwrap();
    std::fs::write(path("longest"), "a".repeat(1 << 20)).unwrap();
    std::fs::create_dir(path("rooms")).unwrap();
    let output =
        run(&["signaling-server", "--print-token", "a:b", "--hmac-secret", &format!("@{}", path("longest"))], |_| {});
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (file, reason) in [
        ("/dev/zero", "not a regular file"),
        (&path("pipe"), "not a regular file"),
        (&path("rooms"), "is a directory"),
        (&path("long"), "longer than 1 MiB"),
    ] {
        let room = path("rooms/stage.toml");
        std::os::unix::fs::symlink(file, &room).unwrap();
        let (rooms, server) = (path("rooms"), ["signaling-server", "--host", "127.0.0.1", "--port", "0"]);
        let secret = &*format!("@{file}");
        for (arguments, named) in [
            ([&server[..], &["--hmac-secret", secret]].concat(), file),
            ([&server[..], &["--token-issuer-key", secret]].concat(), file),
            ([&server[..], &["--token-issuer-key-file", file]].concat(), file),
            ([&server[..], &["--docs-password", secret]].concat(), file),
            ([&server[..], &["--cert", file, "--key", file]].concat(), file),
            ([&server[..], &["--rooms", &rooms]].concat(), &room),
            (vec!["probe", "--to", "wss://127.0.0.1:1", "--ca", file], file),
        ] {
            let output = run(&arguments, |_| {});
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
            assert!(stderr.contains(reason) && stderr.contains(named), "{arguments:?}: {stderr}");
        }
        std::fs::remove_file(&room).unwrap();
    }
}
