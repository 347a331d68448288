//! Runs every shell block of the README unchanged in its own network namespace. The shell finds this program on its path. A comment above a
//! block can change how the test handles the block. If the comment is `<!-- until ctrl-c -->`, the test ends the block with SIGINT. If the
//! comment begins with `<!-- not run:`, the test skips the block.

#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The timeout of a block, long enough for a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How the test handles a shell block.
#[derive(Debug, PartialEq, Eq)]
enum Handling {
    Run,
    UntilInterrupted,
    NotRun,
}

/// Returns all blocks of shell code in `page`. The comment above a block determines its [`Handling`].
fn blocks(page: &str) -> Vec<(Handling, String)> {
    let mut found = Vec::new();
    let mut parts = page.split("\n```sh\n");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let (block, after) = part.split_once("\n```\n").expect("the block ends");
        let remark = before.lines().last().unwrap_or_default();
        let handling = match remark {
            "<!-- until ctrl-c -->" => Handling::UntilInterrupted,
            _ if remark.starts_with("<!-- not run: ") => Handling::NotRun,
            // This test runs neither of these two blocks. `scripts/check` runs the block after `run:begin`. `.ci/run` runs the block after
            // `test:begin`. That block contains the command that starts all tests, including this test.
            "<!-- run:begin -->" | "<!-- test:begin -->" => Handling::NotRun,
            _ => Handling::Run,
        };
        found.push((handling, block.to_owned()));
        before = after;
    }
    found
}

/// Runs `block` in `folder`, and kills processes that are still running when the shell has ended.
fn run(block: &str, handling: &Handling, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap().to_str().unwrap();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    // The shell code runs in its own network namespace. Therefore, the ports in this code are free. The loopback interface must be enabled
    // in that namespace.
    let in_network_namespace = format!("ip link set lo up && set -e\n{block}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &in_network_namespace]);
    command.env("PATH", path).env_remove("ECHO_DELAY_MS").env_remove("RUST_LOG").current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().expect("unshare");
    let group = child.id();
    let (result_sender, result) = mpsc::channel();
    thread::spawn(move || result_sender.send(child.wait_with_output().unwrap()));
    if *handling == Handling::UntilInterrupted {
        signal(&server_pid(group), "INT");
    }
    let output = result.recv_timeout(TEST_TIMEOUT);
    signal(&format!("-{group}"), "KILL");
    output.unwrap_or_else(|_| panic!("this block does not end:\n{block}"))
}

/// Waits until the echo server in this process group serves, and returns its process id.
fn server_pid(group: u32) -> String {
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut was_serving = false;
    loop {
        let named = Command::new("pgrep").args(["-g", &group.to_string(), "echo-server"]).output().unwrap();
        let server = String::from_utf8(named.stdout).unwrap().trim().to_owned();
        // The socket is open before the signal handlers are installed. The serving thread starts after that.
        // Every new thread has the name of the main thread for a moment, so one observation is not enough.
        let is_serving = !server.is_empty() && serving_threads(&server) > 1;
        if is_serving && was_serving {
            return server;
        }
        was_serving = is_serving;
        assert!(Instant::now() < deadline, "nothing serves");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The number of threads of the process `server` that are named `echo-server` or `moqt`. The main thread and the UDP driver are named
/// `echo-server`.
fn serving_threads(server: &str) -> usize {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{server}/task")) else { return 0 };
    let name =
        |thread: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok();
    threads.filter_map(name).filter(|name| ["echo-server", "moqt"].contains(&name.trim())).count()
}

fn signal(pid: &str, name: &str) {
    let _ = Command::new("kill").args(["-s", name, "--", pid]).stderr(Stdio::null()).status();
}

/// A folder with the files that the README mentions: a recording called `take.wav`, and the fixtures.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(here.join("fixtures/audio/speech-16bit-mono-48k.wav"), folder.path().join("take.wav")).unwrap();
    std::os::unix::fs::symlink(here.join("fixtures"), folder.path().join("fixtures")).unwrap();
    folder
}

fn can_create_network_namespace() -> bool {
    let tried = Command::new("unshare").args(["--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn every_readme_command_has_its_documented_result() {
    if !can_create_network_namespace() {
        assert!(std::env::var_os("CI").is_none(), "no network namespace can be created here");
        eprintln!("SKIPPED: no network namespace can be created here");
        return;
    }
    for page in [include_str!("../../README.md"), include_str!("../../README.ja.md")] {
        let blocks = blocks(page);
        assert!(blocks.iter().filter(|(handling, _)| *handling == Handling::Run).count() >= 1, "nothing to run");
        for (handling, block) in blocks.into_iter().filter(|(handling, _)| *handling != Handling::NotRun) {
            let folder = folder();
            let output = run(&block, &handling, folder.path());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:\n{block}\n{stderr}", output.status);
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
    if can_create_network_namespace() {
        let folder = folder();
        let refused = "jamjam-dev probe --count 3 --timeout 100ms --json > probe.json";
        assert_eq!(run(refused, &Handling::Run, folder.path()).status.code(), Some(1));
        assert!(folder.path().join("probe.json").exists());
    }
}
