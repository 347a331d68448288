//! `--junit` and `--markdown`: the files that a run writes.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use roxmltree::Document;
use tempfile::TempDir;
use test_support::client::{ProgramOutput, Server, closed_tcp_port, document, program, run, run_to_success, together};
use test_support::server::poll_until;

/// Runs the program with the words of `line`. It writes `junit.xml` and `summary.md` to `folder`.
fn with_files(line: &str, folder: &Path) -> ProgramOutput {
    program::start(&mut command(line, folder)).end()
}

fn command(line: &str, folder: &Path) -> std::process::Command {
    let mut command = program::command(line.split_whitespace());
    command.arg("--junit").arg(folder.join("junit.xml")).arg("--markdown").arg(folder.join("summary.md"));
    command
}

/// The sorted names of the files in `folder`.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The cases in `junit.xml` that did not pass, as name and element (`failure`, `error` or `skipped`), and the first line of `summary.md`.
fn reported(folder: &Path) -> (Vec<(String, String)>, String) {
    assert_eq!(names(folder), ["junit.xml", "summary.md"], "no other files are left");
    let text = fs::read_to_string(folder.join("junit.xml")).unwrap();
    let junit = Document::parse(&text).unwrap();
    let cases = junit.descendants().filter(|node| node.has_tag_name("testcase"));
    let bad = cases.filter_map(|case| {
        let kind = case.children().find(|node| ["failure", "error", "skipped"].contains(&node.tag_name().name()))?;
        Some((case.attribute("name").unwrap().to_owned(), kind.tag_name().name().to_owned()))
    });
    let summary = fs::read_to_string(folder.join("summary.md")).unwrap();
    (bad.collect(), summary.lines().next().unwrap().to_owned())
}

fn pair(name: &str, kind: &str) -> (String, String) {
    (name.to_owned(), kind.to_owned())
}

#[test]
fn junit_and_markdown_files_are_written_with_every_output_format() {
    together(["", "--json", "--json-lines"], |form| {
        let (server, folder) = (Server::correct(), TempDir::with_prefix("größe mit Leerzeichen ").unwrap());
        let output = with_files(&format!("probe --count 3 --interval 1ms --to {} {form}", server.to()), folder.path());
        assert_eq!(output.code, 0, "{output:?}");
        match form {
            "--json" => assert_eq!(document::report(&output)["streams"]["ping"]["sent"], 3),
            "--json-lines" => assert_eq!(document::lines(&output).0.len(), 3),
            _ => assert!(output.stdout.contains("\nmeasured: 3 sent"), "{output:?}"),
        }
        assert_eq!(reported(folder.path()), (vec![], format!("## measured: probe of {}", server.to())));
    });
}

/// Runs a shell script, in which PROGRAM stands for this program.
fn run_shell(script: &str, folder: &Path) -> std::process::Output {
    let script = script.replace("PROGRAM", env!("CARGO_BIN_EXE_jamjam-dev"));
    std::process::Command::new("bash").args(["-c", &script]).current_dir(folder).output().unwrap()
}

/// A run with a report.
const REPORT: &str = "PROGRAM probe --embedded --count 3 --interval 1ms --quiet --junit";

#[test]
fn files_that_cannot_be_replaced_are_written_in_place() {
    // The script writes a report to `file`. A mount needs a namespace, which not every machine permits.
    for script in [
        "PROGRAM /dev/fd/3 3>file",
        "PROGRAM >(cat >file); code=$?; sleep 0.5; exit $code",
        "mkfifo pipe && (cat pipe >file & PROGRAM pipe && wait)",
        "touch file; ln -s file link; PROGRAM link; code=$?; test -L link && exit $code",
        "ln -s /dev/null link; PROGRAM link; test -c /dev/null && echo '<?xml</testsuites>' >file",
        "touch file; unshare --mount true 2>/dev/null || { echo '<?xml</testsuites>' >file; exit; }
         touch mounted; unshare --mount bash -c 'mount --bind file mounted && PROGRAM mounted'",
    ] {
        let folder = TempDir::new().unwrap();
        let output = run_shell(&script.replace("PROGRAM", REPORT), folder.path());
        assert_ne!(output.status.code(), Some(3), "{script}: {output:?}");
        let text = fs::read_to_string(folder.path().join("file")).unwrap();
        assert!(text.starts_with("<?xml") && text.trim_end().ends_with("</testsuites>"), "{script}: {text}");
    }
}

/// As root, the script runs as another user, because root may write any file.
#[test]
fn read_only_report_in_a_writable_folder_is_replaced() {
    for owner in ["0", "65534"] {
        let folder = TempDir::new().unwrap();
        let script = "set -- PROGRAM; cp $1 program; shift; touch file; chmod 444 file; chmod 777 .
             test $(id -u) != 0 || { chown OWNER file; as='setpriv --reuid 65534 --regid 65534 --clear-groups'; }
             $as ./program $@ file";
        let script = script.replace("PROGRAM", REPORT).replace("OWNER", owner);
        assert_ne!(run_shell(&script, folder.path()).status.code(), Some(3));
        assert!(fs::read_to_string(folder.path().join("file")).unwrap().ends_with("</testsuites>\n"));
        assert_eq!(names(folder.path()), ["file", "program"]);
    }
}

#[test]
fn report_keeps_the_mode_of_an_earlier_file() {
    together([0o600, 0o664], |mode| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("junit.xml");
        fs::write(&file, "of yesterday").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(with_files("probe --embedded --count 1", folder.path()).code, 0);
        assert!(fs::read_to_string(&file).unwrap().starts_with("<?xml"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
    });
}

#[test]
fn file_of_a_standard_stream_is_rejected_and_kept() {
    for (line, stream, redirection) in [
        ("probe --embedded --count 1 --json --html", "output", "1>>same"),
        ("probe --embedded --count 1 --junit", "error", "2>>same"),
        ("probe --embedded --count 1 --record-run", "error", "2>>same"),
        ("send --wav - --embedded --record", "input", "<same"),
    ] {
        let folder = TempDir::new().unwrap();
        let [same, other] = ["same", "other"].map(|name| folder.path().join(name));
        fs::write(&same, "earlier lines\n").unwrap();
        fs::hard_link(&same, &other).unwrap();
        let output = run_shell(&format!("PROGRAM {line} other {redirection}"), folder.path());
        let kept = fs::read_to_string(&same).unwrap();
        let text = format!("{kept}{}", String::from_utf8_lossy(&output.stderr));
        let message = format!("this file is standard {stream}; give another file");
        assert!(output.status.code() == Some(2) && text.contains(&message), "{line}: {text}");
        assert!(kept.starts_with("earlier lines\n"), "{line}: {kept}");
        assert_eq!(names(folder.path()), ["other", "same"]);
    }
    // Several outputs may use the same device.
    let mut command = program::command("send --tone 440 --duration 10ms --embedded --outcome-log /dev/null".split(' '));
    let code = command.stdout(std::process::Stdio::null()).status().unwrap().code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

#[test]
fn failure_before_the_first_packet_replaces_the_reports_of_an_earlier_run() {
    let cases = [
        ("probe host.invalid", 3, "probe of host.invalid:5000", "`host.invalid`"),
        ("probe --bind 192.0.2.1", 3, "probe of 127.0.0.1:5000", "--bind 192.0.2.1"),
        ("probe moqt://host.invalid/echo", 3, "probe of moqt://host.invalid:4443/echo", "`host.invalid`"),
        ("probe ws://host.invalid/rooms/r?token=hunter2", 3, "probe of ws://host.invalid/rooms/r", "`host.invalid`"),
        ("send missing.wav", 3, "send to 127.0.0.1:5000", "cannot open missing.wav"),
        ("send missing.wav --embedded", 3, "send to embedded echo server", "cannot open missing.wav"),
        ("send missing.wav --room 4711 --signaling-url ws://127.0.0.1:9", 3, "send to ***", "cannot open missing.wav"),
        ("replay /nowhere/missing.run", 3, "replay of missing.run", "cannot read the run from /nowhere/missing.run"),
    ];
    together(cases, |(line, code, target, reason)| {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("junit.xml"), "of yesterday").unwrap();
        let output = with_files(line, folder.path());
        assert_eq!(output.code, code, "{output:?}");
        let (bad, heading) = reported(folder.path());
        assert_eq!(bad[0], pair("run completed", "error"));
        let heading = heading.replace('\\', "").replace("&amp;", "&");
        assert_eq!(heading, format!("## ABORTED: {target}"), "{line}");
        let text = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
        let junit = Document::parse(&text).unwrap();
        let error = junit.descendants().find(|node| node.has_tag_name("error")).unwrap();
        assert!(error.attribute("message").unwrap().contains(reason), "{line}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("possible causes"), "{text}");
        if reason == "`host.invalid`" {
            let reasons = document::report(&run(&format!("{line} --json")))["verdict"]["reasons"].to_string();
            assert!(reasons.contains(reason) && !reasons.contains("hunter2"), "{reasons}");
        }
    });
}

#[test]
fn signal_during_the_connection_setup_is_reported() {
    // A server that never answers a request.
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let [silent, silent_udp] = [tcp.local_addr(), udp.local_addr()].map(Result::unwrap);
    let (_socket, closed) = closed_tcp_port();
    let targets = [
        "host.invalid --wait-for 60s".to_owned(),
        "ws://host.invalid --wait-for 60s".to_owned(),
        "moqt://host.invalid --wait-for 60s".to_owned(),
        format!("--room jam --signaling-url ws://{closed} --wait-for 60s"),
        format!("--room jam --signaling-url ws://{silent}"),
        format!("ws://{silent}"),
        format!("moqt://{silent_udp}/echo"),
    ];
    let hangup = (!jamjam_dev::io::os::is_hangup_ignored()).then_some(("HUP", 129));
    let signals: Vec<_> = [("INT", 130), ("TERM", 143)].into_iter().chain(hangup).collect();
    together(targets.iter().flat_map(|target| signals.iter().map(move |signal| (target, *signal))), |case| {
        let (target, (signal, code)) = case;
        let folder = TempDir::new().unwrap();
        let junit = folder.path().join("junit.xml");
        fs::write(&junit, "of yesterday").unwrap();
        let program = program::start(&mut command(&format!("probe {target} --json"), folder.path()));
        poll_until("the check of the file", || fs::read(&junit).unwrap().is_empty().then_some(()));
        program.signal(signal);
        let output = program.end();
        assert_eq!(output.code, code, "{target}: {output:?}");
        assert_eq!(document::report(&output)["interrupted"], format!("SIG{signal}"), "{target}");
        let (bad, heading) = reported(folder.path());
        assert!(bad[0] == pair("run completed", "error") && heading.starts_with("## ABORTED: "), "{bad:?} {heading}");
        assert!(fs::read_to_string(&junit).unwrap().contains("message=\"interrupted while "), "{target}: {output:?}");
        assert!(output.stderr.starts_with("jamjam-dev: interrupted while "), "{output:?}");
    });
}

#[test]
fn file_that_another_run_writes_is_named_and_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    let with_all = |line: &str, options: &[&'static str]| {
        let files = options.iter().map(|option| (*option, folder.path().join(&option[2..])));
        let words: Vec<String> = files.clone().map(|(option, file)| format!(" {option} {}", file.display())).collect();
        (files.collect::<Vec<_>>(), program::start_line(&format!("{line}{}", words.concat())))
    };
    let (send, serve) = ("send --tone 440 --duration 1h --embedded", "echo-server --host 127.0.0.1 --port 0");
    let (mut files, sender) = with_all(send, &["--record", "--record-both", "--record-run"]);
    let (server_files, server) = with_all(serve, &["--outcome-log", "--capture"]);
    files.extend(server_files);
    for (option, file) in files {
        poll_until("the start of the file", || fs::read(&file).is_ok_and(|bytes| !bytes.is_empty()).then_some(()));
        let line = if ["--outcome-log", "--capture"].contains(&option) { serve } else { send };
        let output = run(&format!("{line} {option} {}", file.display()));
        assert_eq!(output.code, 3, "{option}: {output:?}");
        let cause = format!("{}: another run is writing this file; give another one\n", file.display());
        assert!(output.stderr.ends_with(&cause), "{}", output.stderr);
        assert!(!fs::read(&file).unwrap().is_empty());
    }
    for (program, code) in [(sender, 130), (server, 0)] {
        program.signal("INT");
        assert_eq!(program.end().code, code);
    }
    // The files are free again.
    let line = format!("probe --embedded --count 1 --record-run {}", folder.path().join("record-run").display());
    run_to_success(&line);
}

#[test]
fn report_file_that_fails_at_the_end_is_still_printed() {
    let (server, folder) = (Server::correct(), TempDir::new().unwrap());
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let program = program::start(&mut command(&format!("probe --count 0 --interval 1ms --to {}", server.to()), &inner));
    // The folder is checked before the first packet.
    server.wait_for(5);
    fs::remove_dir(&inner).unwrap();
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stdout.contains("\nINTERRUPTED: "), "{output:?}");
    assert!(output.stderr.contains("--junit: cannot write"), "{output:?}");
}
