//! Runs the GitHub action (`action.yml`) like a runner. Bash executes each script in the environment that its `env` defines. The test
//! provides the same files that a runner provides. Also runs the workflows in `docs/ci.md`.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use roxmltree::Document;
use serde_json::Value;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn action() -> Value {
    yaml_serde::from_str(&fs::read_to_string(root().join("action.yml")).unwrap()).unwrap()
}

/// The workflows and jobs in `docs/ci.md`.
fn workflows() -> Vec<Value> {
    let page = fs::read_to_string(root().join("docs/ci.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| yaml_serde::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"))).collect()
}

/// Values by name.
type Values = BTreeMap<String, String>;

fn steps() -> Vec<Value> {
    action()["runs"]["steps"].as_array().unwrap().clone()
}

/// A job on a runner: a workspace, and the values that steps pass to each other.
struct Job {
    folder: TempDir,
    /// `inputs.NAME` and `steps.ID.outputs.NAME`.
    context: Values,
}

/// The result of the action's steps.
struct ProgramOutput {
    code: i32,
    log: String,
}

impl Job {
    /// A job that runs the action with these inputs and with the program under test.
    fn with(inputs: &[(&str, &str)]) -> Self {
        let mut context = Values::new();
        for (name, input) in action()["inputs"].as_object().unwrap() {
            context.insert(format!("inputs.{name}"), input["default"].as_str().expect("a default").to_owned());
        }
        for (name, value) in inputs.iter().chain(&[("program", env!("CARGO_BIN_EXE_jamjam-dev"))]) {
            assert!(context.insert(format!("inputs.{name}"), (*value).to_owned()).is_some(), "no input {name}");
        }
        let folder = TempDir::new().unwrap();
        for name in ["work", "temp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, context }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text with each `${{ NAME }}` replaced by its value.
    fn expanded(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${{") {
            let (name, behind) = behind.split_once("}}").unwrap();
            let value = self.context.get(name.trim()).unwrap_or_else(|| panic!("nothing sets {name}"));
            expanded += before;
            expanded += value;
            rest = behind;
        }
        expanded + rest
    }

    /// Runs the steps one after the other until one fails.
    fn run(&mut self) -> ProgramOutput {
        let mut log = String::new();
        for step in steps() {
            assert_eq!(step["shell"], "bash");
            let (script, output) = (self.path("script.sh"), self.path("output"));
            fs::write(&script, step["run"].as_str().unwrap()).unwrap();
            fs::write(&output, "").unwrap();
            // This is how a runner starts a step with `shell: bash`.
            let mut bash = Command::new("bash");
            bash.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&script);
            bash.current_dir(self.path("work")).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            bash.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", self.path("summary"));
            bash.env("RUNNER_TEMP", self.path("temp")).env("GITHUB_ACTION_PATH", root());
            for (name, value) in step["env"].as_object().unwrap() {
                bash.env(name, self.expanded(value.as_str().unwrap()));
            }
            let ended = bash.output().unwrap();
            log += &String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
            for line in fs::read_to_string(&output).unwrap().lines() {
                let (name, value) = line.split_once('=').unwrap();
                self.context.insert(format!("steps.{}.outputs.{name}", step["id"].as_str().unwrap()), value.to_owned());
            }
            if !ended.status.success() {
                return ProgramOutput { code: ended.status.code().unwrap(), log };
            }
        }
        ProgramOutput { code: 0, log }
    }

    /// Returns the text of the file whose path is the action's output `name`.
    fn output(&self, name: &str) -> String {
        let value = action()["outputs"][name]["value"].as_str().unwrap().to_owned();
        let file = self.path("work").join(self.expanded(&value));
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.output("report")).unwrap()
    }

    /// The job summary.
    fn summary(&self) -> String {
        fs::read_to_string(self.path("summary")).unwrap_or_default()
    }

    /// The log of the server that the action started. The server logs its counters once per minute and when it ends.
    fn server_log(&self) -> String {
        fs::read_to_string(self.path("work/jamjam-dev-report/server.log")).unwrap()
    }
}

#[test]
fn action_starts_a_server_probes_publishes_and_stops_it() {
    let mut job = Job::with(&[("count", "20"), ("interval", "1ms"), ("max-loss", "0%"), ("max-p99", "30s")]);
    let ended = job.run();
    assert_eq!(ended.code, 0, "{}", ended.log);
    let report = job.report();
    assert_eq!((&report["streams"]["ping"]["returned"], &report["limits"][1]["allowed"]), (&20.into(), &3e7.into()));
    assert!(Document::parse(&job.output("junit")).unwrap().descendants().any(|node| node.has_tag_name("testcase")));
    assert!(job.summary().starts_with("## PASSED: probe 127.0.0.1:"), "{}", job.summary());
    assert_eq!(job.summary(), job.output("summary"));
    assert!(job.server_log().contains("Stats: received="), "{}", job.server_log());
}

#[test]
fn exceeded_limit_fails_the_step_after_publishing_reports() {
    let mut job = Job::with(&[("count", "3"), ("interval", "1ms"), ("max-p99", "0"), ("max-jitter", "30s")]);
    let ended = job.run();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert_eq!(job.report()["verdict"]["passed"], false);
    assert!(job.output("junit").contains("<failure "));
    assert!(job.summary().starts_with("## FAILED: "), "{}", job.summary());
    assert!(ended.log.contains("## FAILED: "), "the log also contains the summary");
    assert!(job.server_log().contains("Stats: received="), "{}", job.server_log());
}

#[test]
fn given_server_is_probed_and_none_is_started() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap().to_string();
    let mut job = Job::with(&[("to", &to), ("wait-for", "0.2s"), ("args", " --packet keepalive\n --timeout  700ms")]);
    let ended = job.run();
    assert_eq!(ended.code, 1, "{}", ended.log);
    let report = job.report();
    assert_eq!(
        (&report["target"], &report["evaluated_stream"], &report["timeout_ms"]),
        (&to.into(), &"keepalive".into(), &700.0.into())
    );
    assert!(
        job.summary().starts_with("## FAILED: "),
        "the summary of a run without replies is published: {}",
        job.summary()
    );
    assert!(!job.path("work/jamjam-dev-report/server.log").exists());
}

#[test]
fn input_text_is_never_executed() {
    let names =
        ["to", "delay", "count", "interval", "wait-for", "max-loss", "max-p99", "max-jitter", "args", "directory"];
    // The first value injects a command if a script inserts the input without quotes. The second value injects a command if a script
    // inserts the input between quotes.
    let hostile = ["$(touch owned)", "'; touch owned; \"`touch owned` * ${IFS}"];
    for (name, hostile) in names.iter().flat_map(|name| hostile.map(|hostile| (*name, hostile))) {
        let mut job = Job::with(&[("count", "1"), ("interval", "1ms"), (name, hostile)]);
        let ended = job.run();
        assert!(!job.path("work/owned").exists(), "{name}: {}", ended.log);
        // Only the input `directory` accepts the value, because it is a valid folder name.
        assert_eq!(ended.code == 0, name == "directory", "{name}: {}", ended.log);
    }
}

#[test]
fn results_of_an_earlier_run_are_not_published_again() {
    let mut job = Job::with(&[("count", "many")]);
    let folder = job.path("work/jamjam-dev-report");
    fs::create_dir(&folder).unwrap();
    for name in ["report.json", "junit.xml", "summary.md"] {
        fs::write(folder.join(name), "of yesterday").unwrap();
    }
    let ended = job.run();
    assert_eq!(ended.code, 2, "{}", ended.log);
    // The summary and the JUnit file contain the error.
    assert!(job.summary().starts_with("## ABORTED: probe ") && job.summary().contains("'many'"), "{}", job.summary());
    assert!(job.output("junit").contains("<error message=\"invalid value &apos;many&apos;"));
    assert_eq!(job.output("report"), "");
}

#[test]
fn error_of_a_program_without_a_report_is_published() {
    for (delay, args, code, error) in
        [("late", "", 3, "invalid value 'late'"), ("1", "--markdown summary.md", 2, "cannot be used multiple times")]
    {
        let mut job = Job::with(&[("delay", delay), ("args", args)]);
        let ended = job.run();
        assert_eq!(ended.code, code, "{}", ended.log);
        let summary = job.summary();
        assert!(summary.contains(error) && ended.log.contains(error), "{summary}");
    }
}

#[test]
fn inputs_reach_scripts_only_as_variables_and_each_is_used() {
    let steps = steps();
    for step in &steps {
        assert!(!step["run"].as_str().unwrap().contains("${{"), "{step:#}");
    }
    let used = serde_json::to_string(&steps).unwrap();
    for (name, input) in action()["inputs"].as_object().unwrap() {
        assert!(used.contains(&format!("${{{{ inputs.{name} }}}}")), "{name}");
        assert!(input["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
    }
}

#[test]
fn shellcheck_reports_no_warnings() {
    for step in steps() {
        let script = TempDir::new().unwrap().keep().join("step.bash");
        fs::write(&script, step["run"].as_str().unwrap()).unwrap();
        let found = Command::new("shellcheck").args(["--shell", "bash"]).arg(&script).output();
        fs::remove_dir_all(script.parent().unwrap()).unwrap();
        match found {
            Ok(found) => assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout)),
            Err(error) => eprintln!("shellcheck is not on this machine: {error}"),
        }
    }
}

#[test]
fn action_workflow_uses_valid_inputs_and_output_paths() {
    let workflow = &workflows()[0];
    let steps = workflow["jobs"]["probe"]["steps"].as_array().unwrap();
    assert!(steps[0]["uses"].as_str().unwrap().starts_with("OWNER/jamjam-dev@"));
    let action = action();
    for name in steps[0]["with"].as_object().unwrap().keys() {
        assert!(action["inputs"].get(name).is_some(), "no input {name}");
    }
    assert_eq!(steps[1]["with"]["path"], action["inputs"]["directory"]["default"]);
}

/// A port that is currently free.
fn free_port() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Runs lines of a workflow. A free port replaces port 5000, and `jamjam-dev` is the program under test. Returns the output.
fn run_lines(lines: &str) -> (i32, TempDir, String) {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let lines = lines.replace("--port 5000", &format!("--port {port}"));
    let lines = lines.replace("jamjam-dev probe", &format!("jamjam-dev probe --to 127.0.0.1:{port}"));
    // A busy machine may exceed the documented limit.
    assert!(lines.contains("--max-p99 50ms"), "{lines}");
    fs::write(folder.path().join("lines.sh"), lines.replace("--max-p99 50ms", "--max-p99 30s")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_jamjam-dev")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(program.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "lines.sh"])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", path.unwrap())
        .env("GITHUB_STEP_SUMMARY", folder.path().join("job-summary"))
        .env("GITHUB_ENV", folder.path().join("job-env"))
        .output()
        .unwrap();
    let log = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), folder, log)
}

#[test]
fn workflow_without_the_action_works_as_described() {
    let workflow = &workflows()[1];
    let steps = workflow["jobs"]["probe"]["steps"].as_array().unwrap();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(scripts[0].starts_with("cargo install --locked --git "));
    // A runner sets the environment of later steps from this file.
    let lines = scripts[1..].join("\n. \"$GITHUB_ENV\"\n") + "\nwait \"$SERVER\"\n";
    let (code, folder, log) = run_lines(&lines);
    assert_eq!(code, 0, "{log}");
    let summary = fs::read_to_string(folder.path().join("job-summary")).unwrap();
    assert!(summary.starts_with("## PASSED: "), "{summary}");
    let artifacts = steps.last().unwrap()["with"]["path"].as_str().unwrap();
    assert_eq!(artifacts.lines().collect::<Vec<_>>(), ["junit.xml", "summary.md", "server.log"]);
    assert!(artifacts.lines().all(|file| folder.path().join(file).exists()));
}

#[test]
fn gitlab_job_creates_the_artifacts_it_names() {
    let job = &workflows()[2]["probe"];
    let script: Vec<&str> = job["script"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(script[0].starts_with("cargo install --locked --git "));
    // In CI, the server ends when the container of the job ends. Here, `kill` and `wait` stop the server.
    let (code, folder, log) = run_lines(&(script[1..].join("\n") + "\nkill %1\nwait %1\n"));
    assert_eq!(code, 0, "{log}");
    let junit = job["artifacts"]["reports"]["junit"].as_str().unwrap();
    assert!(fs::read_to_string(folder.path().join(junit)).unwrap().contains("<testcase "));
    let paths = job["artifacts"]["paths"].as_array().unwrap();
    assert!(paths.iter().all(|path| folder.path().join(path.as_str().unwrap()).exists()));
}
