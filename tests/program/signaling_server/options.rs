//! The environment variables of `signaling-server`, and its log lines about them.

use std::net::TcpStream;
use std::process::Command;

use test_support::server::{Server, get, run};

#[test]
fn start_line_names_the_variables_of_the_listen_address() {
    // `PORT` takes precedence over `PORT_ENV` unless `PORT` is empty.
    for (options, variables, suffix) in [
        (&["--host", "127.0.0.1"][..], [("PORT", "0"), ("PORT_ENV", "x")], " (PORT from the environment)"),
        (&["--host", "127.0.0.1"], [("PORT", ""), ("PORT_ENV", "0")], " (PORT_ENV from the environment)"),
        (&[], [("PORT", "0"), ("HOST", "127.0.0.1")], " (PORT and HOST from the environment)"),
        (&["--port", "0"], [("PORT", "1"), ("HOST", "127.0.0.1")], " (HOST from the environment)"),
        (&["--port", "0", "--host", "127.0.0.1"], [("PORT", "1"), ("HOST", "x.invalid")], ""),
    ] {
        let mut server = Server::start_command("signaling-server", options, |command| _ = command.envs(variables));
        let line = server.line_starting_with("signaling: server listening on ").message;
        assert_eq!(line, format!("signaling: server listening on ws://{}{suffix}", server.address));
    }
}

#[test]
fn limits_of_threads_and_open_files_are_named() {
    let unprivileged = ["--reuid=61234", "--clear-groups", "prlimit"];
    let executable = env!("CARGO_BIN_EXE_jamjam-dev");
    for threads in 2..8 {
        let limit = format!("--nproc={threads}");
        let start = |port: &str| {
            let mut command = Command::new("timeout");
            command.args(["--preserve-status", "1", "setpriv"]).args(unprivileged);
            command.args([&limit, executable, "signaling-server", "--port", port]).output().unwrap()
        };
        // Only root can become a user without other processes.
        if start("x").status.code() != Some(2) {
            eprintln!("skipped: not root");
            break;
        }
        let output = start("0");
        let stderr = String::from_utf8(output.stderr).unwrap();
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(3), "{threads}: {stderr}");
            assert!(stderr.contains("Raise the limit on threads: TasksMax= of the unit"), "{stderr}");
        }
    }
    let mut server = Server::start_signaling(&[]);
    // The first response shows that the start is complete.
    get(&server, "/healthz");
    let limited = Command::new("prlimit").args(["--nofile=16:16", "--pid", &server.id().to_string()]).status().unwrap();
    assert!(limited.success());
    let _connections: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let line = server.line_starting_with("http: cannot accept a connection");
    assert!(line.level == "WARN" && line.message.ends_with(" open_files_limit=16"), "{line:?}");
}

#[test]
fn lists_in_variables_may_contain_spaces_and_switches_are_common_words() {
    for word in ["1", "yes", "on", "0", "no", "false", "off"] {
        let variables = [
            ("DIALECTS", "jamjam, bbx"),
            ("BBX_ROOM", "4711, 4712"),
            ("ORIGIN_ALLOWLIST", "https://a.example, "),
            ("REQUIRE_DEVICE", word),
        ];
        let server = Server::start_signaling_with(&[], |command| _ = command.envs(variables));
        assert_eq!(server.metric("rooms{dialect=\"bbx\"}"), 2);
    }
}

#[test]
fn empty_variables_that_would_protect_are_named_in_one_line() {
    let variables = ["TLS_CERT", "TLS_KEY", "ORIGIN_ALLOWLIST", "DOCS_USERNAME"].map(|name| (name, ""));
    let options = ["--origin", "https://a.example"];
    let mut server = Server::start_signaling_with(&options, |command| _ = command.envs(variables));
    let line = server.line_starting_with("signaling: these variables are empty");
    assert!(line.level == "WARN" && line.message.ends_with(" variables=\"TLS_CERT TLS_KEY\""), "{line:?}");
}

#[test]
fn long_files_and_pipes_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let token = |file: &str| run(&["token", "a:b", "--hmac-secret", &format!("@{}", path(file))], |_| {});
    std::fs::write(path("longest"), "a".repeat(1 << 20)).unwrap();
    assert_eq!(token("longest").code, 0);
    std::fs::write(path("long"), "a".repeat((1 << 20) + 1)).unwrap();
    let long = token("long");
    assert!(long.code == 3 && long.stderr.contains("longer than 1 MiB"), "{long:?}");
    assert!(Command::new("mkfifo").arg(path("stage.toml")).status().unwrap().success());
    let pipe = run(&["signaling-server", "--port", "0", "--rooms", &path("")], |_| {});
    assert!(
        pipe.code == 3 && pipe.stderr.contains("stage.toml") && pipe.stderr.contains("not a regular file"),
        "{pipe:?}"
    );
}
