//! `--check --run`: commands in real shells, their processes, the exit code and the reports.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::client::{self, Program, ProgramOutput, together};
use test_support::server::{poll_until, program};

/// Sends 75 packets of AUDIO as a correct client does. `$J` is the program.
const CLIENT: &str = "\"$J\" send --tone 440 --duration 200ms --no-echo --to \"$SERVER\"";

/// `echo-server --check --json --run COMMAND` with these options.
fn check(command: &str, options: &[&str]) -> Command {
    let mut check = program(&[&["echo-server", "--check", "--json", "--run", command], options].concat());
    let own = check.get_program().to_owned();
    check.env("J", own);
    check
}

/// A check that runs. Its output goes to files: a process that it leaves behind would keep a pipe open, and the test would wait for it.
struct Running(Program, [File; 2]);

fn start(check: &mut Command) -> Running {
    let files = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let [stdout, stderr] = files.each_ref().map(|file| file.try_clone().unwrap());
    Running(client::start(check.stdout(stdout).stderr(stderr)), files)
}

impl Running {
    fn end(mut self) -> ProgramOutput {
        let status = poll_until("the end of the check", || self.0.0.try_wait().unwrap());
        let [stdout, stderr] = self.1.map(|mut file| {
            let mut text = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut text)).unwrap();
            text
        });
        ProgramOutput { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

/// Standard output as one JSON document.
fn report(output: &ProgramOutput) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Waits until the process whose id is in the file has ended. A killed process takes its time.
fn wait_for_end(command: &str, file: &Path) {
    let id = fs::read_to_string(file).unwrap();
    poll_until(&format!("the end of `{command}`"), || {
        let status = fs::read_to_string(format!("/proc/{}/status", id.trim()));
        status.map_or(true, |status| status.contains("State:\tZ")).then_some(())
    });
}

#[test]
fn end_of_the_command_decides_and_nothing_of_it_is_left() {
    const FOREVER: &str = "while :; do sleep 600; done";
    const EXITS_WITH_3: &str = "sleep 600 & wait";
    const IN_A_SHELL: &str = "sh -c 'kill -SEGV $$' || exit $?";
    // Its process group is the one of the shell, not that of the server.
    const IN_BACKGROUND: &str = "cut -d ' ' -f 5 /proc/$$/stat >group; echo $$ >shell; sleep 600 & echo $! >pid";
    const IN_FOREGROUND: &str = "echo $$ >pid; exec sleep 600";
    let idle = &["--until-idle", "3s"][..];
    let segv = Some("SIGSEGV");
    let cases = [
        ("echo printed", &[][..], Some(0), None, "itself", None),
        ("exit 7", &[], Some(7), None, "itself", Some("the command ended with exit code 7")),
        // `sh -e`
        ("false; exit 0", &[], Some(1), None, "itself", Some("the command ended with exit code 1")),
        ("kill -SEGV $$", &[], None, segv, "itself", Some("the command was ended by SIGSEGV")),
        (IN_A_SHELL, &[], Some(139), segv, "itself", Some("the command ended with exit code 139 (SIGSEGV)")),
        (IN_BACKGROUND, &[], Some(0), None, "itself", None),
        (IN_FOREGROUND, &["--duration", "5s"], None, Some("SIGTERM"), "duration", None),
        (IN_FOREGROUND, idle, None, Some("SIGTERM"), "until_idle", None),
        (EXITS_WITH_3, idle, Some(3), None, "until_idle", None),
        (FOREVER, idle, None, Some("SIGKILL"), "until_idle", None),
    ];
    together(cases, |(command, options, exit_code, signal, ended_by, failure)| {
        let folder = TempDir::new().unwrap();
        // Set before the client ends: the server may be idle for long before that.
        let trap = match command {
            FOREVER => "trap '' TERM; echo $$ >pid; ",
            EXITS_WITH_3 => "trap 'exit 3' TERM; ",
            _ => "",
        };
        let command = format!("{trap}{CLIENT}; {command}");
        let junit = folder.path().join("junit.xml");
        let mut check = check(&command, options);
        let output = start(check.arg("--junit").arg(&junit).current_dir(&folder)).end();
        let read = |name| fs::read_to_string(folder.path().join(name)).ok();
        let pid = folder.path().join("pid");
        if pid.exists() {
            wait_for_end(&command, &pid);
        }
        assert_eq!(read("group"), read("shell"), "process group and process of the shell");
        let report = report(&output);
        assert_eq!(output.code, i32::from(failure.is_some()), "{command}: {report}");
        let expected = json!({"command": command, "exit_code": exit_code, "signal": signal, "ended_by": ended_by});
        assert_eq!(report["run"], expected);
        assert_eq!(report["verdict"]["reasons"], json!(failure.into_iter().collect::<Vec<_>>()), "{command}");
        assert_eq!(report["sources"][0]["audio"], 75, "{command}: {report}");
        let junit = fs::read_to_string(junit).unwrap();
        let case = junit.split("<testcase name=\"command\"").nth(1).unwrap().split("</testcase>").next().unwrap();
        assert_eq!(case.contains("<failure"), failure.is_some(), "{junit}");
        if command.ends_with("printed") {
            assert!(output.stderr.contains("printed\n"));
        }
    });
}

/// The inner server inherits the variables of the outer one, and runs at the same time.
#[test]
fn command_reaches_servers_on_free_ports_and_their_room() {
    let rooms = ["ROOM_ID", "ROOM_CODE", "ROOM_CODE_6"];
    let cases = rooms.into_iter().flat_map(|room| ["SIGNALING_URL", "SIGNALING_WS_URL"].map(|url| (room, url)));
    together(cases, |(room, url)| {
        let to_room = format!("--signaling-url \"${url}\" --room \"${room}\"");
        let client = format!("\"$J\" send --tone 440 --duration 200ms --no-echo {to_room}");
        let inner = format!("\"$J\" echo-server --check --with-signaling --run '{client}'");
        let mut check = check(&inner, &["--with-signaling", "--expect-sources", "0"]);
        let output = start(check.env("SIGNALING_URL", "ws://127.0.0.1:9")).end();
        // Nobody has sent anything to the outer server.
        assert_eq!((output.code, &report(&output)["sources"]), (4, &json!([])), "{client}: {output:?}");
        let log = output.stderr;
        assert!(log.contains(" AUDIO packets in ") && log.contains("\nPASSED\n"), "{log}");
    });
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
        let mut running = start(check(command, &[]).current_dir(&folder));
        poll_until("a command", || fs::read_to_string(&pid).ok()?.ends_with('\n').then_some(()));
        running.0.signal(signals[0]);
        if let [_, second] = signals {
            // Signals within 250 ms count as one.
            poll_until("the end", || {
                running.0.signal(second);
                (!running.0.is_running()).then_some(())
            });
        }
        let output = running.end();
        wait_for_end(command, &pid);
        assert_eq!(output.code, code, "{output:?}");
        if signals.len() == 1 {
            // The report does not wait for the end of the command.
            let report = report(&output);
            let ended = json!({"command": command, "exit_code": null, "signal": null, "ended_by": "interrupt"});
            assert_eq!(
                (&report["run"], &report["verdict"]["reasons"][0]),
                (&ended, &json!("the command was interrupted"))
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
        let output = start(&mut check).end();
        let report = report(&output);
        assert_eq!((output.code, folder.path().join("ran").exists()), (3, false), "{report}");
        assert!(report["verdict"]["reasons"][0].as_str().unwrap().starts_with(error), "{report}");
        let junit = fs::read_to_string(&junit).unwrap();
        assert!(junit.contains("<error ") && junit.contains(error), "{junit}");
    }
}

/// In a terminal and in the log of a CI job, both streams are one.
#[test]
fn verdict_is_the_last_line_after_the_log() {
    for server in ["echo-server", "signaling-server"] {
        let mut output = tempfile::tempfile().unwrap();
        let [stdout, stderr] = [(); 2].map(|()| output.try_clone().unwrap());
        let mut check = program(&[server, "--host", "127.0.0.1", "--port", "0", "--check", "--duration", "100ms"]);
        assert_eq!(check.stdout(stdout).stderr(stderr).status().unwrap().code(), Some(1));
        let mut text = String::new();
        output.rewind().and_then(|()| output.read_to_string(&mut text)).unwrap();
        assert!(text.contains(" INFO ") && text.lines().last().unwrap().starts_with("FAILED: "), "{text}");
    }
}
