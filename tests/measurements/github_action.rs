//! Runs the GitHub action (`action.yml`) and the workflows in `docs/ci.md` like a runner: bash executes each script with its `env`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use test_support::client::{measured, note_end, together};

use test_support::repository;
use test_support::repository_files::{assert_success, read, run_tool};

fn action() -> Value {
    yaml_serde::from_str(&read("action.yml")).unwrap()
}

fn steps() -> Vec<Value> {
    action()["runs"]["steps"].as_array().unwrap().clone()
}

/// Bash as a runner starts it for a step with `shell: bash`.
fn bash(script: &Path, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap().display();
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(script).current_dir(folder);
    bash.env_clear().env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap()));
    bash
}

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// A job on a runner: a workspace, and the values that steps pass to each other.
struct Job {
    folder: TempDir,
    /// `inputs.NAME` and `steps.ID.outputs.NAME`.
    context: BTreeMap<String, String>,
}

impl Job {
    /// A job with these inputs, and earlier `files` in the report folder.
    fn new(inputs: &[(&str, &str)], files: &[&str]) -> Self {
        let mut job = Self { folder: TempDir::new().unwrap(), context: BTreeMap::new() };
        for name in ["work", "temp"] {
            fs::create_dir(job.path(name)).unwrap();
        }
        for name in files {
            let file = job.path("work/jamjam-dev-report").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "of yesterday").unwrap();
        }
        for (name, input) in action()["inputs"].as_object().unwrap() {
            job.context.insert(format!("inputs.{name}"), input["default"].as_str().expect("a default").to_owned());
        }
        for (name, value) in inputs {
            assert!(job.context.insert(format!("inputs.{name}"), (*value).to_owned()).is_some(), "no input {name}");
        }
        for name in ["action_ref", "action_repository", "token"] {
            job.context.insert(format!("github.{name}"), String::new());
        }
        job
    }

    /// Runs the action with these inputs, the program under test, and earlier `files` in the report folder, until a step fails. Returns the
    /// exit code and the log.
    fn run(inputs: &[(&str, &str)], files: &[&str]) -> (Self, i32, String) {
        let program = [("program", env!("CARGO_BIN_EXE_jamjam-dev"))];
        let mut job = Self::new(&[&program, inputs].concat(), files);
        let mut log = String::new();
        for step in steps() {
            let (code, printed) = job.step(&step, |_| {});
            log += &printed;
            if code != 0 {
                return (job, code, log);
            }
        }
        (job, 0, log)
    }

    /// Runs one step. Returns its exit code and what it prints.
    fn step(&mut self, step: &Value, adjust: impl Fn(&mut Command)) -> (i32, String) {
        assert_eq!(step["shell"], "bash");
        let (script, output) = (self.path("script.sh"), self.path("output"));
        fs::write(&script, step["run"].as_str().unwrap()).unwrap();
        fs::write(&output, "").unwrap();
        let mut bash = bash(&script, &self.path("work"));
        bash.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", self.path("summary"));
        bash.env("RUNNER_TEMP", self.path("temp")).env("GITHUB_ACTION_PATH", repository());
        for (name, value) in step["env"].as_object().unwrap() {
            bash.env(name, self.expanded(value.as_str().unwrap()));
        }
        adjust(&mut bash);
        let ended = bash.output().unwrap();
        let log = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        note_end(ended.status.code().unwrap(), &log);
        for line in fs::read_to_string(&output).unwrap().lines() {
            let (name, value) = line.split_once('=').unwrap();
            self.context.insert(format!("steps.{}.outputs.{name}", step["id"].as_str().unwrap()), value.to_owned());
        }
        (ended.status.code().unwrap(), log)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text with each `${{ NAME }}` replaced by its value.
    fn expanded(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |expanded, part| {
            let (name, behind) = part.split_once("}}").unwrap();
            expanded + self.context.get(name.trim()).unwrap_or_else(|| panic!("nothing sets {name}")) + behind
        })
    }

    /// The text of the file whose path is the action's output `name`.
    fn output(&self, name: &str) -> String {
        let file = self.expanded(action()["outputs"][name]["value"].as_str().unwrap());
        fs::read_to_string(self.path("work").join(file)).unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.output("report")).unwrap()
    }

    /// The job summary.
    fn summary(&self) -> String {
        fs::read_to_string(self.path("summary")).unwrap_or_default()
    }
}

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn action_starts_a_server_probes_publishes_and_stops_it() {
    measured(|| {
        // The server returns AUDIO after the delay, which is part of the round trip if the probe does not know it.
        let cases = [("30s", 0, "PASSED", "<testcase "), ("40ms", 1, "FAILED", "<failure ")];
        together(cases, |(limit, code, verdict, junit)| {
            let probe = [("count", "20"), ("delay", "100ms"), ("args", "--packet audio --delay 0"), ("max-p99", limit)];
            let (job, ended, log) = Job::run(&[&probe[..], &[("interval", "1ms")]].concat(), &[]);
            assert_eq!(ended, code, "{log}");
            let report = job.report();
            assert_eq!(
                (&report["streams"]["audio"]["sent"], &report["verdict"]["passed"]),
                (&20.into(), &(code == 0).into())
            );
            assert!(job.output("junit").contains(junit));
            let heading = format!("## {verdict}: probe of 127.0.0.1:");
            assert!(job.summary().starts_with(&heading) && log.contains(&heading), "{log}");
            assert_eq!(job.summary(), job.output("summary"));
            // The server logs its counters when it ends.
            let server_log = fs::read_to_string(job.path("work/jamjam-dev-report/server.log")).unwrap();
            assert!(server_log.contains("Stats: received="), "{server_log}");
        });
    });
}

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn given_server_is_probed_and_none_is_started() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap().to_string();
    let args = " --packet keepalive\n --timeout  700ms";
    let (job, code, log) = Job::run(&[("to", &to), ("wait-for", "0.2s"), ("args", args)], &[]);
    assert_eq!(code, 1, "{log}");
    let report = job.report();
    let facts = (&report["target"], &report["evaluated_stream"], &report["timeout_ms"]);
    assert_eq!(facts, (&to.into(), &"keepalive".into(), &700.0.into()));
    assert!(job.summary().starts_with("## FAILED: "), "{}", job.summary());
    assert!(!job.path("work/jamjam-dev-report/server.log").exists());
}

/// `gh` of a runner: downloads from the folder `release` beside it, and finds an attestation if `ATTESTED` is set.
const GH: &str = r#"#!/bin/sh
case $1 in
release) shift 5; mkdir "$2" && cp "$(dirname "$0")/release/$4" "$(dirname "$0")/release/$6" "$2" ;;
attestation) [ -n "$ATTESTED" ] ;;
esac
"#;

/// `cargo` that builds a program.
const CARGO: &str = r#"#!/bin/sh
for last; do :; done
mkdir -p "$last/bin" && printf '#!/bin/sh\necho built\n' >"$last/bin/jamjam-dev" && chmod 755 "$last/bin/jamjam-dev"
"#;

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn release_is_verified_and_a_mismatch_is_never_replaced() {
    let tag = concat!("v", env!("CARGO_PKG_VERSION"));
    let cases = [
        // Ref, processor, whether there is a release, whether it was changed, whether it has an attestation; the program, or a failure.
        (tag, "X64", true, false, true, Some("released")),
        (tag, "X64", true, true, true, None),
        (tag, "X64", true, false, false, None),
        (tag, "X64", false, false, true, Some("built")),
        (tag, "X86", true, false, true, Some("built")),
        ("main", "X64", true, false, true, Some("built")),
    ];
    together(cases, |(action_ref, processor, exists, changed, attested, program)| {
        let mut job = Job::new(&[], &[]);
        job.context.insert("github.action_ref".to_owned(), action_ref.to_owned());
        for (name, script) in [("gh", GH), ("cargo", CARGO)] {
            write_program(&job.path(name), script);
        }
        if exists {
            let name = concat!("jamjam-dev-", env!("CARGO_PKG_VERSION"), "-x86_64-unknown-linux-musl");
            write_program(&job.path("release").join(name).join("jamjam-dev"), "#!/bin/sh\necho released\n");
            let pack = format!("tar -czf {name}.tar.gz {name} && sha256sum {name}.tar.gz >SHA256SUMS");
            // Another archive that is intact: only its sum differs.
            let change = format!("&& echo echo changed >>{name}/jamjam-dev && tar -czf {name}.tar.gz {name}");
            let change = if changed { change } else { String::new() };
            let shell = Command::new("sh").args(["-c", &(pack + &change)]).current_dir(job.path("release")).output();
            assert_success(&shell.unwrap());
        }
        let stubs = job.path("").display().to_string();
        let (code, log) = job.step(&steps()[0], |bash| {
            bash.env("PATH", format!("{stubs}:{}", std::env::var("PATH").unwrap())).env("RUNNER_OS", "Linux");
            bash.env("RUNNER_ARCH", processor).env("ATTESTED", if attested { "1" } else { "" });
        });
        assert_eq!(code == 0, program.is_some(), "{log}");
        assert!(program.is_none_or(|program| log.lines().any(|line| line == program)), "{log}");
        assert_eq!(log.contains("::notice::"), program == Some("built"), "{log}");
    });
}

/// A client that sends one AUDIO packet, and a packet with version 2.
const WRONG_CLIENT: &str = r#"
python3 - "$SERVER" <<'END'
import socket, sys
host, port = sys.argv[1].split(":")
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(bytes([1, 1]) + bytes(10 + 512), (host, int(port)))
client.sendto(bytes([2]) + bytes(11), (host, int(port)))
END
"#;

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn verdict_on_the_given_client_is_the_result_of_the_step() {
    measured(|| {
        let correct = "jamjam-dev send --tone 440 --duration 1s --no-echo --to \"$SERVER\"";
        let in_room = &correct.replace("--to \"$SERVER\"", "--signaling-url \"$SIGNALING_URL\" --room \"$ROOM_CODE\"");
        let cases = [
            (correct, "", 0, "PASSED", 0),
            (in_room, "", 0, "PASSED", 0),
            (WRONG_CLIENT, "", 1, "[version, docs/protocol.md", 2),
            (correct, "--expect-sources 2", 1, "FAILED: 1 of 2 expected sources sent 30 AUDIO packets", 1),
            // The client fails, although it has sent nothing wrong.
            (&format!("{correct}; exit 7"), "", 1, "FAILED: the command ended with exit code 7", 1),
            (&format!("{correct}; false | true; true"), "", 1, "FAILED: the command ended with exit code 1", 1),
        ];
        together(cases, |(client, args, code, verdict, failures)| {
            let (job, ended, log) = Job::run(&[("client", client), ("args", args)], &["junit.xml"]);
            assert_eq!(ended, code, "{log}");
            let (report, junit, summary) = (job.report(), job.output("junit"), job.summary());
            assert_eq!(report["verdict"]["reasons"].as_array().unwrap().len(), failures, "{report}");
            // In a room, `send` looks for the address that answers from another port first.
            let clients = report["sources"].as_array().unwrap().iter().filter(|source| source["audio"] != 0);
            assert_eq!(clients.count(), 1, "{report}");
            assert!(junit.contains(&format!("failures=\"{failures}\"")), "{junit}");
            assert!(summary.replace('\\', "").contains(verdict) && log.contains(&summary), "{summary}");
            assert!(log.contains("source first seen"), "{log}");
        });
        // A server that cannot start publishes its error, and the client does not run.
        let (job, ended, log) = Job::run(&[("client", "touch ran"), ("args", "--fail-on fatal")], &["junit.xml"]);
        assert_eq!((ended, job.path("work/ran").exists()), (2, false), "{log}");
        assert!(job.summary().contains("invalid value 'fatal'"), "{log}");
    });
}

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn input_text_is_never_executed() {
    for step in steps() {
        assert!(!step["run"].as_str().unwrap().contains("${{"), "{step:#}");
    }
    let used = serde_json::to_string(&steps()).unwrap();
    for (name, input) in action()["inputs"].as_object().unwrap() {
        assert!(used.contains(&format!("${{{{ inputs.{name} }}}}")), "{name}");
        assert!(input["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
    }
    // The first value injects a command if a script inserts the input without quotes, the second one between quotes.
    let hostile = ["$(touch owned)", "'; touch owned; \"`touch owned` * ${IFS}"];
    let inputs = action()["inputs"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    // These are commands.
    let inputs = inputs.into_iter().filter(|name| name != "program" && name != "client");
    together(inputs.flat_map(|name| hostile.map(|value| (name.clone(), value))), |(name, value)| {
        let (job, code, log) =
            Job::run(&[("wait-for", "1s"), ("count", "1"), ("interval", "1ms"), (&name, value)], &[]);
        assert!(!job.path("work/owned").exists(), "{name}: {log}");
        // Only the input `directory` accepts the value, because it is a valid folder name.
        assert_eq!(code == 0, name == "directory", "{name}: {log}");
    });
}

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn error_of_a_program_is_published_instead_of_earlier_results() {
    for (inputs, code, error) in [
        ([("count", "many"), ("delay", "1")], 2, "invalid value 'many'"),
        ([("count", "1"), ("delay", "late")], 3, "invalid value 'late'"),
        ([("count", "1"), ("args", "--markdown summary.md")], 2, "cannot be used multiple times"),
        ([("client", "true"), ("max-loss", "1%")], 2, "are for a probe"),
    ] {
        let (job, ended, log) = Job::run(&inputs, &["report.json", "junit.xml", "summary.md"]);
        assert_eq!(ended, code, "{log}");
        let summary = job.summary();
        assert!(
            summary.contains(error) && log.contains(error) && !summary.contains("of yesterday"),
            "{summary}\n{log}"
        );
    }
}

#[test]
#[ignore = "needs shellcheck: .ci/full"]
fn shellcheck_reports_no_warnings() {
    for step in steps() {
        let mut shellcheck = Command::new("shellcheck");
        let found = run_tool(shellcheck.args(["--shell", "bash", "-"]), step["run"].as_str().unwrap());
        assert_success(&found.expect("shellcheck"));
    }
}

#[test]
#[ignore = "runs seconds of shell scripts: .ci/full"]
fn documented_workflows_publish_their_files() {
    let page = read("docs/ci.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let workflows: Vec<Value> = blocks.map(|block| yaml_serde::from_str(block).unwrap()).collect();
    let [client, gitlab_client, with_action] = &workflows[..] else { panic!("{} workflows", workflows.len()) };
    let text = |value: &Value| value.as_str().map(str::to_owned);

    let steps = with_action["jobs"]["probe"]["steps"].as_array().unwrap();
    for step in [&steps[0], &client[0]] {
        assert!(step["uses"].as_str().unwrap().contains("jamjam-dev@"));
        for name in step["with"].as_object().unwrap().keys() {
            assert!(action()["inputs"].get(name).is_some(), "no input {name}");
        }
    }
    assert_eq!(steps[1]["with"]["path"], action()["inputs"]["directory"]["default"]);

    let script = |job: &Value| job["script"].as_array().unwrap().iter().filter_map(text).collect::<Vec<String>>();
    let [install, check] = &script(&gitlab_client["my-client"])[..] else { panic!("{gitlab_client}") };
    assert!(install.starts_with("cargo install --locked --git "), "{install}");
    for (last, code) in [("true", 0), ("exit 7", 1)] {
        let folder = TempDir::new().unwrap();
        let [file, client] = ["lines.sh", "my-client"].map(|name| folder.path().join(name));
        let stand_in = "jamjam-dev send --tone 440 --duration 1s --no-echo --to \"$2\"";
        write_program(&client, &format!("#!/bin/sh\n{stand_in}; {last}\n"));
        fs::write(&file, check).unwrap();
        let output = bash(&file, folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let junit = gitlab_client["my-client"]["artifacts"]["reports"]["junit"].as_str().unwrap();
        let junit = fs::read_to_string(folder.path().join(junit)).unwrap();
        assert!(junit.contains(&format!("failures=\"{code}\"")), "{junit}");
    }
}
