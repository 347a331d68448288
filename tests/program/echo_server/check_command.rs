//! `--check --run`: commands in real shells, their processes, the exit code and the reports.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::server::{poll_until, program};

/// Sends a second of AUDIO as a correct client does. `$J` is the program.
const CLIENT: &str = "\"$J\" send --tone 440 --duration 1s --no-echo --to \"$SERVER\"";

/// `echo-server --check --json --run COMMAND` with these options.
fn check(command: &str, options: &[&str]) -> Command {
    let mut check = program(&[&["echo-server", "--check", "--json", "--run", command], options].concat());
    let own = check.get_program().to_owned();
    check.env("J", own).stdout(Stdio::piped()).stderr(Stdio::piped());
    check
}

/// The exit code, and standard output as one JSON document.
fn report(output: &Output) -> (Option<i32>, Value) {
    let log = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}")))
}

/// Whether the process whose id is in the file still runs.
fn runs(file: &Path) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", fs::read_to_string(file).unwrap().trim()));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

struct Case {
    /// Follows the client.
    command: &'static str,
    options: &'static [&'static str],
    code: i32,
    result: (Option<i32>, Option<&'static str>, &'static str),
    failure: Option<&'static str>,
}

#[test]
fn end_of_the_command_decides_and_nothing_of_it_is_left() {
    const FOREVER: &str = "while :; do sleep 600; done";
    let case = |command, options, code, result, failure| Case { command, options, code, result, failure };
    let cases = [
        case("echo printed", &[], 0, (Some(0), None, "itself"), None),
        case("exit 7", &[], 1, (Some(7), None, "itself"), Some("the command ended with exit code 7")),
        // `sh -e`
        case("false; exit 0", &[], 1, (Some(1), None, "itself"), Some("the command ended with exit code 1")),
        case("kill -SEGV $$", &[], 1, (None, Some("SIGSEGV"), "itself"), Some("the command was ended by SIGSEGV")),
        case(
            "sh -c 'kill -SEGV $$' || exit $?",
            &[],
            1,
            (Some(139), Some("SIGSEGV"), "itself"),
            Some("the command ended with exit code 139 (SIGSEGV)"),
        ),
        // Left in the background.
        case("sleep 600 & echo $! >pid", &[], 0, (Some(0), None, "itself"), None),
        case("echo $$ >pid; exec sleep 600", &["--duration", "2s"], 0, (None, Some("SIGTERM"), "duration"), None),
        case("echo $$ >pid; exec sleep 600", &["--until-idle", "1s"], 0, (None, Some("SIGTERM"), "until_idle"), None),
        case("trap 'exit 3' TERM; sleep 600 & wait", &["--until-idle", "1s"], 0, (Some(3), None, "until_idle"), None),
        case(FOREVER, &["--until-idle", "1s"], 0, (None, Some("SIGKILL"), "until_idle"), None),
    ];
    std::thread::scope(|scope| {
        for Case { command, options, code, result, failure } in cases {
            scope.spawn(move || {
                let folder = TempDir::new().unwrap();
                let trap = if command == FOREVER { "trap '' TERM; echo $$ >pid; " } else { "" };
                let command = format!("{trap}{CLIENT}; {command}");
                let junit = folder.path().join("junit.xml");
                let mut check = check(&command, options);
                let output = check.arg("--junit").arg(&junit).current_dir(&folder).output().unwrap();
                let (exit_code, report) = report(&output);
                assert_eq!(exit_code, Some(code), "{command}: {report}");
                let (exit_code, signal, ended_by) = result;
                let expected =
                    json!({"command": command, "exit_code": exit_code, "signal": signal, "ended_by": ended_by});
                assert_eq!(report["command"], expected);
                assert_eq!(report["failures"], json!(failure.into_iter().collect::<Vec<_>>()), "{command}");
                // Silence of a busy machine may also end the command.
                let least = if ended_by == "until_idle" { 30 } else { 375 };
                assert!(
                    (least..=375).contains(&report["sources"][0]["audio"].as_u64().unwrap()),
                    "{command}: {report}"
                );
                let junit = fs::read_to_string(junit).unwrap();
                let case =
                    junit.split("<testcase name=\"command\"").nth(1).unwrap().split("</testcase>").next().unwrap();
                assert_eq!(case.contains("<failure"), failure.is_some(), "{junit}");
                let pid = folder.path().join("pid");
                assert!(!pid.exists() || !runs(&pid), "{command}");
                if command.ends_with("printed") {
                    assert!(String::from_utf8_lossy(&output.stderr).contains("printed\n"));
                }
            });
        }
    });
}

/// The inner server inherits the variables of the outer one, and runs at the same time.
#[test]
fn command_reaches_servers_on_free_ports_and_their_room() {
    std::thread::scope(|scope| {
        for room in ["ROOM_ID", "ROOM_CODE", "ROOM_CODE_6"] {
            for url in ["SIGNALING_URL", "SIGNALING_WS_URL"] {
                scope.spawn(move || {
                    let to_room = format!("--signaling-url \"${url}\" --room \"${room}\"");
                    let client = format!("\"$J\" send --tone 440 --duration 1s --no-echo {to_room}");
                    let inner = format!("\"$J\" echo-server --check --with-signaling --run '{client}'");
                    let mut check = check(&inner, &["--with-signaling", "--expect-sources", "0"]);
                    let output = check.env("SIGNALING_URL", "ws://127.0.0.1:9").output().unwrap();
                    let (code, report) = report(&output);
                    let log = String::from_utf8_lossy(&output.stderr);
                    assert_eq!((code, &report["sources"]), (Some(0), &json!([])), "{client}: {report} {log}");
                    assert!(log.contains(" AUDIO packets in ") && log.contains("\nPASSED\n"), "{log}");
                });
            }
        }
    });
    // The option names another server than the one in this process.
    let both = ["--with-signaling", "--signaling-url", "ws://127.0.0.1:9"];
    assert_eq!(check("true", &both).output().unwrap().status.code(), Some(2));
}

#[test]
fn interrupted_check_reports_and_ends_its_command() {
    for (signals, command, code) in [
        (&["INT"][..], "echo $$ >pid; exec sleep 600", 130),
        (&["TERM"], "echo $$ >pid; exec sleep 600", 143),
        // The second signal ends both at once, without a report.
        (&["TERM", "TERM"], "trap '' TERM; echo $$ >pid; sleep 600; sleep 600", 143),
    ] {
        let folder = TempDir::new().unwrap();
        let pid = folder.path().join("pid");
        let running = check(command, &[]).current_dir(&folder).spawn().unwrap();
        poll_until("a command", || fs::read_to_string(&pid).ok()?.ends_with('\n').then_some(()));
        for (index, signal) in signals.iter().enumerate() {
            // Two signals within 250 ms count as one.
            std::thread::sleep(std::time::Duration::from_millis(400 * index as u64));
            let id = running.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        }
        let output = running.wait_with_output().unwrap();
        assert!(!runs(&pid));
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        if signals.len() == 1 {
            let (_, report) = report(&output);
            assert_eq!(
                (&report["command"]["ended_by"], &report["failures"][0]),
                (&json!("interrupt"), &json!("the command was interrupted"))
            );
        }
    }
}

#[test]
fn command_that_cannot_start_is_an_error_in_every_report() {
    let folder = TempDir::new().unwrap();
    let junit = folder.path().join("junit.xml");
    let no_room = ["--signaling-url", "ws://127.0.0.1:9", "--duration", "300ms"];
    for (options, path, error) in [
        (&no_room[..], None, "cannot start the command of --run: the room does not exist"),
        (&[], Some("/nowhere"), "cannot start the command of --run"),
    ] {
        let mut check = check("touch ran", options);
        check.arg("--junit").arg(&junit).current_dir(&folder);
        if let Some(path) = path {
            check.env("PATH", path);
        }
        let (code, report) = report(&check.output().unwrap());
        assert_eq!((code, folder.path().join("ran").exists()), (Some(3), false), "{report}");
        assert!(report["failures"][0].as_str().unwrap().starts_with(error), "{report}");
        let junit = fs::read_to_string(&junit).unwrap();
        assert!(junit.contains("<error ") && junit.contains(error), "{junit}");
    }
    for (options, error) in [(&["--run", "true"][..], "--check"), (&["--check", "--run", ""], "--run")] {
        let output = program(&["echo-server"]).args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(error));
    }
}
