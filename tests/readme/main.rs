//! Every shell block of the README is run as it stands, by a shell that finds this program on its path, on a network of
//! its own. Two remarks in the text above a block change that: `<!-- until ctrl-c -->` (it ends by SIGINT alone), and
//! `<!-- not run: REASON -->`.

#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a block may take, on a machine that is busy with other things.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be done with a block.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Run,
    UntilInterrupted,
    NotRun,
}

/// The shell blocks of `page`, each with the remark above it.
fn blocks(page: &str) -> Vec<(Way, String)> {
    let mut found = Vec::new();
    let mut parts = page.split("\n```sh\n");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let (block, after) = part.split_once("\n```\n").expect("a block ends");
        let remark = before.lines().last().unwrap_or_default();
        let way = match remark {
            "<!-- until ctrl-c -->" => Way::UntilInterrupted,
            _ if remark.starts_with("<!-- not run: ") => Way::NotRun,
            // What tests what: the README's own two commands run this test, and the check runs them.
            "<!-- run:begin -->" | "<!-- test:begin -->" => Way::NotRun,
            _ => Way::Run,
        };
        found.push((way, block.to_owned()));
        before = after;
    }
    found
}

/// Runs `block` in `folder`; what still runs when the shell has ended is killed.
fn run(block: &str, way: &Way, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap().to_str().unwrap();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    // A network of its own, so that the ports in the text are free; its loopback has to be switched on.
    let inside = format!("ip link set lo up && set -e\n{block}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &inside]);
    command.env("PATH", path).env_remove("ECHO_DELAY_MS").env_remove("RUST_LOG").current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().expect("unshare");
    let group = child.id();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    if *way == Way::UntilInterrupted {
        signal(&the_server_of(group), "INT");
    }
    let output = ended.recv_timeout(TEST_TIMEOUT);
    signal(&format!("-{group}"), "KILL");
    output.unwrap_or_else(|_| panic!("this goes on:\n{block}"))
}

/// The echo server of this group, once it serves.
fn the_server_of(group: u32) -> String {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let named = Command::new("pgrep").args(["-g", &group.to_string(), "echo-server"]).output().unwrap();
        let server = String::from_utf8(named.stdout).unwrap().trim().to_owned();
        // It has its socket before it takes signals, and the thread that serves after that.
        if !server.is_empty() && threads_that_serve(&server) > 1 {
            return server;
        }
        assert!(Instant::now() < deadline, "nothing serves");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The main thread of the server, and those that echo.
fn threads_that_serve(server: &str) -> usize {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{server}/task")) else { return 0 };
    let name =
        |thread: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok();
    threads.filter_map(name).filter(|name| ["echo-server", "moqt"].contains(&name.trim())).count()
}

fn signal(whom: &str, name: &str) {
    let _ = Command::new("kill").args(["-s", name, "--", whom]).stderr(Stdio::null()).status();
}

/// A folder with what the text speaks of: a recording called `take.wav`, and the fixtures.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(here.join("fixtures/audio/speech-16bit-mono-48k.wav"), folder.path().join("take.wav")).unwrap();
    std::os::unix::fs::symlink(here.join("fixtures"), folder.path().join("fixtures")).unwrap();
    folder
}

fn can_have_a_network_of_its_own() -> bool {
    let tried = Command::new("unshare").args(["--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn every_readme_command_has_its_documented_result() {
    if !can_have_a_network_of_its_own() {
        assert!(std::env::var_os("CI").is_none(), "no network namespace can be had here");
        eprintln!("SKIPPED: no network namespace can be had here");
        return;
    }
    for page in [include_str!("../../README.md"), include_str!("../../README.ja.md")] {
        let blocks = blocks(page);
        assert!(blocks.iter().filter(|(way, _)| *way == Way::Run).count() >= 1, "nothing to run");
        for (way, block) in blocks.into_iter().filter(|(way, _)| *way != Way::NotRun) {
            let folder = folder();
            let output = run(&block, &way, folder.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:\n{block}\n{said}", output.status);
        }
    }
}

#[test]
fn both_languages_have_the_same_commands() {
    let commands = |page| blocks(page).into_iter().map(|(_, block)| block).collect::<Vec<_>>();
    assert_eq!(commands(include_str!("../../README.md")), commands(include_str!("../../README.ja.md")));
}

#[test]
fn failing_readme_block_is_detected() {
    if can_have_a_network_of_its_own() {
        let folder = folder();
        let refused = "jamjam-dev probe --count 3 --timeout 100ms --json > probe.json";
        assert_eq!(run(refused, &Way::Run, folder.path()).status.code(), Some(1));
        assert!(folder.path().join("probe.json").exists());
    }
}
