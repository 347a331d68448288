//! At its start, a server executes its program again, once, with settings for the allocator of glibc.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use test_support::server;

use server::process::Server;
use server::wrapper::{can_record_system_calls, record_system_calls, replace_program};

/// The variables that the server sets. `GLIBC_TUNABLES` is split at its colons.
const SET_BY_SERVER: [&str; 3] =
    ["GLIBC_TUNABLES=glibc.malloc.mmap_threshold=8192", "glibc.malloc.arena_max=4", "JAMJAM_ALLOCATOR_SET=1"];

/// The strings in `/proc/PID/cmdline` or `/proc/PID/environ`, which change when the process executes a program.
fn strings(server: &Server, file: &str) -> Vec<OsString> {
    let bytes = fs::read(format!("/proc/{}/{file}", server.id())).unwrap();
    let bytes = bytes.strip_suffix(&[0]).expect("a zero byte at the end");
    bytes.split(|byte| *byte == 0).map(|string| OsString::from_vec(string.to_vec())).collect()
}

/// The environment of the process, sorted. Some versions of glibc replace the colons of `GLIBC_TUNABLES` with zero bytes.
fn environment(server: &Server) -> Vec<OsString> {
    let split = |variable: OsString| match variable.to_str() {
        Some(text) if text.starts_with("GLIBC_TUNABLES=") => text.split(':').map(OsString::from).collect(),
        _ => vec![variable],
    };
    let mut variables: Vec<OsString> = strings(server, "environ").into_iter().flat_map(split).collect();
    variables.sort();
    variables
}

/// The variables of `command` and `more`, sorted.
fn environment_of(command: &Command, more: &[&str]) -> Vec<OsString> {
    let own = command.get_envs().map(|(name, value)| [name, value.expect("a value")].join("=".as_ref()));
    let mut variables: Vec<OsString> = own.chain(more.iter().map(OsString::from)).collect();
    variables.sort();
    variables
}

#[test]
fn process_id_arguments_and_environment_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let cert_dir = folder.path().join(OsStr::from_bytes(b"two words, \xc3\xbc, \xe9\x9f\xb3, \"'$*\\, no UTF-8: \xff"));
    let (mut arguments, mut variables) = (Vec::new(), Vec::new());
    let server = Server::start_with(&["--host", "127.0.0.1", "--moqt", "127.0.0.1:0", "--cert-dir"], |command| {
        command.arg0("the server's ü").arg(&cert_dir);
        arguments = [OsStr::new("the server's ü")].into_iter().chain(command.get_args()).map(OsString::from).collect();
        command.env("EMPTY", "").env("WORDS", "two words\nand a line=\"1\"").env("名前", "ü");
        command.env(OsStr::from_bytes(b"NO\xffUTF8"), OsStr::from_bytes(b"\xff\xfe"));
        variables = environment_of(command, &SET_BY_SERVER);
    });
    // The address file exists, so the program is already executed again. `id` is the process that the test started.
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", server.id())).unwrap(), "echo-server\n");
    assert_eq!(strings(&server, "cmdline"), arguments);
    assert_eq!(environment(&server), variables);
    assert!(cert_dir.join("moqt-key.pem").exists());
}

/// glibc removes `GLIBC_TUNABLES` from the environment of some programs. Then the other variable alone prevents an endless loop.
#[test]
fn existing_setting_stays_unchanged() {
    for [name, value] in [
        ["GLIBC_TUNABLES", "glibc.malloc.arena_max=2"],
        ["GLIBC_TUNABLES", ""],
        ["JAMJAM_ALLOCATOR_SET", "1"],
        ["JAMJAM_ALLOCATOR_SET", ""],
    ] {
        let mut variables = Vec::new();
        let server = Server::start_with(&["--host", "127.0.0.1"], |command| {
            command.env(name, value);
            variables = environment_of(command, &[]);
        });
        assert_eq!(environment(&server), variables, "{name}={value}");
    }
}

/// How many programs the process executes.
fn executions(start: impl FnOnce(&dyn Fn(&mut Command)) -> Server) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let server = start(&|command| record_system_calls(command, &record, &["-e", "trace=execve"]));
    let own = format!("{} ", server.id());
    server.stop("TERM");
    fs::read_to_string(record)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with(&own) && line.contains(" execve("))
        .count()
}

#[test]
fn program_is_executed_again_exactly_once() {
    if !can_record_system_calls() {
        return;
    }
    let signaling = ["--host", "127.0.0.1", "--port", "0"];
    assert_eq!(executions(|record| Server::start_with(&["--host", "127.0.0.1"], record)), 2);
    assert_eq!(executions(|record| Server::start_signaling_as(&signaling, record)), 2);
    for variable in ["GLIBC_TUNABLES", "JAMJAM_ALLOCATOR_SET"] {
        let with_variable = |record: &dyn Fn(&mut Command)| {
            Server::start_signaling_as(&signaling, |command| {
                command.env(variable, "");
                record(command);
            })
        };
        assert_eq!(executions(with_variable), 1, "{variable}");
    }
}

#[test]
fn program_started_by_the_dynamic_loader_starts() {
    // The loader of this test program is also the loader of the tested program.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..])));
    let is_loader = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld"));
    let loader = paths.into_iter().find(is_loader).expect("a loader");
    let mut variables = Vec::new();
    let server = Server::start_with(&["--host", "127.0.0.1"], |command| {
        variables = environment_of(command, &[]);
        let program = command.get_program().to_owned();
        replace_program(command, loader.as_os_str(), &[&program]);
    });
    assert_eq!(environment(&server), variables);
}
