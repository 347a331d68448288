//! Runs every shell block of the README unchanged in its own network namespace, so that its ports are free. The shell finds this program on
//! its path. A comment above a block can change this: after `<!-- until ctrl-c -->`, the test ends the block with SIGINT; blocks after
//! `<!-- not run: REASON -->` are skipped, and so are those that `scripts/check` and `.ci/run` execute (`run:begin`, `test:begin`).

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The timeout of a block, long enough for a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

const PAGES: [&str; 2] = [include_str!("../../README.md"), include_str!("../../README.ja.md")];

/// All blocks of shell code in `page`, each with the line above it.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = page.split("\n```sh\n").collect();
    let blocks = parts.windows(2).map(|pair| {
        let (block, _) = pair[1].split_once("\n```\n").expect("the block ends");
        (pair[0].lines().last().unwrap_or_default(), block)
    });
    blocks.collect()
}

/// Runs `block` in `folder`, and kills processes that are still running when the shell has ended.
fn run(block: &str, until_interrupted: bool, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap().display();
    // The loopback interface of a new network namespace is disabled.
    let script = format!("ip link set lo up && set -e\n{block}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    command.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap())).current_dir(folder);
    command.env_remove("ECHO_DELAY_MS").env_remove("RUST_LOG").process_group(0);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unshare");
    let group = child.id();
    let (result_sender, result) = mpsc::channel();
    thread::spawn(move || result_sender.send(child.wait_with_output().unwrap()));
    if until_interrupted {
        signal(&serving_process(group), "INT");
    }
    let output = result.recv_timeout(TEST_TIMEOUT);
    signal(&format!("-{group}"), "KILL");
    output.unwrap_or_else(|_| panic!("this block does not end:\n{block}"))
}

/// Waits until the echo server in this process group serves, and returns its process id. Its thread `echo-server` or `moqt` starts after
/// the signal handlers are installed. It must be seen twice, because every new thread has the name of the main thread for a moment.
fn serving_process(group: u32) -> String {
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut was_serving = false;
    while Instant::now() < deadline {
        let named = Command::new("pgrep").args(["-g", &group.to_string(), "echo-server"]).output().unwrap();
        let server = String::from_utf8(named.stdout).unwrap().trim().to_owned();
        let threads = fs::read_dir(format!("/proc/{server}/task")).into_iter().flatten();
        let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        let is_serving = names.filter(|name| ["echo-server", "moqt"].contains(&name.trim())).count() > 1;
        if is_serving && was_serving {
            return server;
        }
        was_serving = is_serving;
        thread::park_timeout(Duration::from_millis(5));
    }
    panic!("nothing serves");
}

fn signal(pid: &str, name: &str) {
    let _ = Command::new("kill").args(["-s", name, "--", pid]).stderr(Stdio::null()).status();
}

#[test]
fn every_readme_command_has_its_documented_result() {
    let probe = Command::new("unshare").args(["--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    if !probe.is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no network namespace can be created here");
        eprintln!("SKIPPED: no network namespace can be created here");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in PAGES {
        let skips = ["<!-- not run: ", "<!-- run:begin -->", "<!-- test:begin -->"];
        let blocks = blocks(page).into_iter().filter(|(above, _)| !skips.iter().any(|skip| above.starts_with(skip)));
        let mut count = 0;
        for (above, block) in blocks {
            // The files that the README mentions.
            let folder = tempfile::tempdir().unwrap();
            fs::copy(root.join("fixtures/audio/speech-16bit-mono-48k.wav"), folder.path().join("take.wav")).unwrap();
            std::os::unix::fs::symlink(root.join("fixtures"), folder.path().join("fixtures")).unwrap();
            let output = run(block, above == "<!-- until ctrl-c -->", folder.path());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:\n{block}\n{stderr}", output.status);
            count += 1;
        }
        assert!(count >= 1, "nothing to run");
    }
}

#[test]
fn both_languages_have_the_same_commands() {
    let [english, japanese] = PAGES.map(|page| blocks(page).into_iter().map(|(_, block)| block).collect::<Vec<_>>());
    assert_eq!(english, japanese);
}
