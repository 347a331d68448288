//! Runs every shell block of the README unchanged in its own network namespace, so that its ports are free. The shell finds this program on
//! its path. A comment above a block can change this: after `<!-- until ctrl-c -->`, the test ends the block with SIGINT; blocks after
//! `<!-- not run: REASON -->` are skipped, and so are those that `scripts/check` and `.ci/run` execute (`run:begin`, `test:begin`).

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use test_support::TEST_TIMEOUT;

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

/// Runs `block` in `folder`, and returns its status and standard error. With the shell, all processes of its namespace end.
fn run(block: &str, until_interrupted: bool, folder: &Path) -> (ExitStatus, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap().display();
    // The loopback interface of a new network namespace is disabled.
    let script = format!("ip link set lo up && set -e\n{block}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    command.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap())).current_dir(folder);
    command.env_remove("ECHO_DELAY_MS").env_remove("RUST_LOG").process_group(0);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("unshare");
    let group = child.id().to_string();
    let (line_sender, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| line_sender.send(line)));
    let (mut text, mut is_awaited) = (String::new(), until_interrupted);
    let end = loop {
        match lines.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => {
                // From this line on, the server ends by itself after a signal.
                if is_awaited && line.contains("listening") {
                    let server = Command::new("pgrep").args(["-g", &group, "echo-server"]).output().unwrap();
                    signal(str::from_utf8(&server.stdout).unwrap().trim(), "INT");
                    is_awaited = false;
                }
                text += &(line + "\n");
            }
            Err(end) => break end,
        }
    };
    signal(&format!("-{group}"), "KILL");
    assert_eq!(end, RecvTimeoutError::Disconnected, "this block does not end:\n{block}\n{text}");
    (child.wait().unwrap(), text)
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
            let (status, stderr) = run(block, above == "<!-- until ctrl-c -->", folder.path());
            // On a busy host, nothing may be measured.
            assert!(status.success() || status.code() == Some(4), "{status}:\n{block}\n{stderr}");
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
