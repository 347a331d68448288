//! `--ready-file` of both servers: what it names works, and it is absent until all of it exists.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use test_support::client::{Program, free_port, start};
use test_support::server::{Client, Member, Server, audio, poll_until, program, send_to};

/// The contents of the file of this server, once it exists.
fn contents(server: &Server) -> Value {
    let text = poll_until("a ready file", || fs::read_to_string(&server.ready_file).ok());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Host and port of a URL.
fn address(url: &Value) -> SocketAddr {
    url.as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap()
}

/// The page at a URL.
fn page(url: &Value) -> String {
    let path = url.as_str().unwrap().splitn(4, '/').nth(3).unwrap();
    let response = send_to(address(url), "GET", &format!("/{path}"), &[], "");
    assert_eq!(response.status, 200, "{url}");
    response.body
}

#[test]
fn file_of_an_echo_server_names_all_that_it_serves() {
    let options = ["--host=127.0.0.1", "--delay=0", "--metrics=0", "--moqt=127.0.0.1:0", "--with-signaling=0"];
    let server = Server::start(&[&options[..], &["--room-name=\"code\": \"x\""]].concat());
    let ready = contents(&server);
    let client = Client::connect(ready["udp"].as_str().unwrap().parse().unwrap());
    assert_eq!(client.exchange(&audio(1, 512)), audio(1, 512));
    assert!(page(&ready["metrics"]).contains("jamjam_echo_"));
    let moqt = address(&ready["moqt"]);
    assert_eq!(ready["moqt"], format!("https://127.0.0.1:{}/echo", moqt.port()));
    let signaling = address(&ready["signaling_url"]);
    let urls = ["signaling_url", "ws_url"].map(|name| ready[name].clone());
    assert_eq!(urls, [format!("http://{signaling}"), format!("ws://{signaling}")]);
    for (path, code) in [("/v1/signaling", "code"), ("/", "code_6")] {
        let listed = Member::connect_to(signaling, path).rooms().remove(0);
        let expected = ["id", "name", "invite_code"].map(|name| &listed[name]);
        assert_eq!(["id", "name", code].map(|name| &ready["room"][name]), expected);
    }
    assert_eq!(ready["room"]["name"], "[BOT] \"code\": \"x\" (0ms delay)");
}

#[test]
fn what_does_not_exist_is_null() {
    let udp = Server::start(&["--host", "0.0.0.0"]);
    let moqt = Server::start_as(&["--moqt-only", "--moqt", "0.0.0.0:0", "--metrics", "0"], |_| {});
    let signaling = Server::start_signaling(&[]);
    for (server, names) in
        [(udp, &["udp"][..]), (moqt, &["moqt", "metrics"]), (signaling, &["signaling_url", "ws_url", "metrics"])]
    {
        let ready = contents(&server);
        let all = ["udp", "signaling_url", "ws_url", "metrics", "moqt", "room", "relay_ports"];
        let expected =
            all.map(|name| (name.to_owned(), if names.contains(&name) { &ready[name] } else { &Value::Null }));
        assert_eq!(ready, json!(std::collections::BTreeMap::from(expected)));
        // A client on this machine cannot connect to an unspecified address everywhere.
        let host = ready[names[0]].as_str().unwrap().trim_start_matches("http://").trim_start_matches("https://");
        assert!(host.starts_with("127.0.0.1:") || host.starts_with("localhost:"), "{ready}");
        if names.contains(&"metrics") {
            assert!(page(&ready["metrics"]).contains("# HELP jamjam_"));
        }
    }
}

/// A server that writes this file, with this port.
fn started(subcommand: &str, port: &str, file: &Path) -> Program {
    let mut server = program(&[subcommand, "--host", "127.0.0.1", "--port", port]);
    start(server.arg("--ready-file").arg(file).stdout(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn failed_start_leaves_the_file_and_the_end_removes_only_its_own() {
    for subcommand in ["echo-server", "signaling-server"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        let contents = || fs::read_to_string(&file).ok();
        let first = started(subcommand, "0", &file);
        let of_first = poll_until("a ready file", contents);
        let ready: Value = serde_json::from_str(&of_first).unwrap();
        let url = if subcommand == "echo-server" { &ready["udp"] } else { &ready["ws_url"] };
        let (_, port) = url.as_str().unwrap().rsplit_once(':').unwrap();
        assert_eq!(started(subcommand, port, &file).end().code, 3);
        assert_eq!(contents().as_ref(), Some(&of_first));
        let second = started(subcommand, "0", &file);
        let of_second = poll_until("another ready file", || contents().filter(|text| *text != of_first));
        for (server, left) in [(first, Some(of_second)), (second, None)] {
            server.signal("TERM");
            assert_eq!((server.end().code, contents()), (0, left), "{subcommand}");
        }
    }
}

/// An echo server that starts before its signaling server. Returns both, after `prepare` was called while there was no room.
fn started_before_its_room(prepare: impl FnOnce(&Server)) -> (Server, Server) {
    let port = free_port().to_string();
    let mut echo = Server::start(&["--host", "127.0.0.1", "--signaling-url", &format!("ws://127.0.0.1:{port}")]);
    echo.line_starting_with("registration: failed, retrying ");
    assert!(!echo.ready_file.exists());
    prepare(&echo);
    (echo, Server::start_signaling(&["--port", &port]))
}

#[test]
fn file_waits_for_the_room() {
    let (echo, signaling) = started_before_its_room(|_| {});
    let ready = contents(&echo);
    let listed = Member::connect(signaling.address).rooms().remove(0);
    assert_eq!(ready["room"]["id"], listed["id"]);
    assert_eq!(ready["ws_url"], format!("ws://{}", signaling.address));
}

#[test]
fn server_ends_if_its_file_can_no_longer_be_written() {
    let (echo, _signaling) = started_before_its_room(|echo| {
        fs::remove_dir_all(echo.ready_file.parent().unwrap()).unwrap();
    });
    let error = format!("jamjam-dev: cannot write the ready file {}: ", echo.ready_file.display());
    let ended = echo.end();
    assert_eq!(ended.code, Some(3));
    assert!(ended.lines.last().unwrap().starts_with(&error), "{:?}", ended.lines);
}
