//! The container image, the compose service, the systemd units, the dashboard and the alert rules match the program.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use test_support::certificate::{Authority, trusting};
use test_support::server;

use clap::{CommandFactory, Parser};
use jamjam_dev::cli::Cli;
use jamjam_dev::io::signaling::SHUTDOWN_TIMEOUT;
use jamjam_dev::memory_budget::DEFAULT_MEMORY_BUDGET;
use serde_json::Value;
use server::process::{self, Server};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The instructions in `Dockerfile.echo`, with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let lines: Vec<String> = read("Dockerfile.echo")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let cut = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).unwrap();
    joined.lines().map(cut).collect()
}

/// Returns the argument of the instruction `name` in `Dockerfile.echo`. This instruction must occur exactly once in the last build stage.
fn setting(name: &str) -> String {
    let all = instructions();
    let last_stage = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let matching: Vec<_> = all[last_stage..].iter().filter(|(word, _)| word == name).collect();
    assert_eq!(matching.len(), 1, "{name}");
    matching[0].1.clone()
}

/// The words of an instruction in exec form. This form is a JSON array of words, so no shell splits the text.
fn words(text: &str) -> Vec<String> {
    let start = text.find('[').unwrap_or_else(|| panic!("{text} needs a shell"));
    serde_json::from_str(&text[start..]).unwrap()
}

/// Whether a subcommand reads this environment variable, as an option or for the log.
fn is_known(variable: &str, subcommand: &str) -> bool {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand(subcommand).unwrap();
    variable == "RUST_LOG" || command.get_arguments().any(|arg| arg.get_env().is_some_and(|name| name == variable))
}

/// Parses sizes such as `1280m` and `1280M`.
fn mebibytes(text: &str) -> u64 {
    text.trim_end_matches(['m', 'M']).parse().unwrap()
}

#[test]
fn image_runs_an_unprivileged_echo_server_on_the_default_port() {
    let entrypoint = words(&setting("ENTRYPOINT"));
    assert_eq!(entrypoint, ["jamjam-dev"]);
    let command = [entrypoint, words(&setting("CMD"))].concat();
    assert_eq!(command, ["jamjam-dev", "echo-server"]);
    Cli::try_parse_from(&command).unwrap();
    assert_eq!(setting("EXPOSE"), "4443/udp 5000/udp 8080/tcp");
    assert_eq!(jamjam_dev::wire::DEFAULT_PORT, 5_000);
    assert_eq!(setting("STOPSIGNAL"), "SIGTERM");
    let user = setting("USER");
    let numbers: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && !numbers.contains(&0), "{user}");
    assert_eq!(setting("ENV"), "PATH=/usr/local/bin");
    assert!(read("Dockerfile.echo").contains(r#"cp "$program" /image/usr/local/bin/"#));
}

#[test]
fn health_check_matches_server_availability_and_is_logged_once() {
    let check = words(&setting("HEALTHCHECK"));
    Cli::try_parse_from(&check).unwrap();
    assert_eq!(check[..2], ["jamjam-dev", "probe"]);

    let server = Server::start(&["--host", "127.0.0.1"]);
    let address = server.address.to_string();
    let mut arguments: Vec<&str> = check[1..].iter().map(String::as_str).collect();
    arguments.extend(["--to", &address]);
    for _ in 0..3 {
        let healthy = process::run(&arguments, |_| {});
        assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
    }

    let ended = server.stop("TERM");
    assert_eq!(ended.stats().count("pings"), 9);
    // Two lines about the start, the source of the first health check, and the statistics. The source may also become inactive.
    let first_seen = ended.lines.iter().filter(|line| line.contains("source first seen")).count();
    assert!(first_seen == 1 && ended.lines.len() <= 5, "{:?}", ended.lines);
    assert_eq!(process::run(&arguments, |_| {}).status.code(), Some(1));
}

#[test]
fn image_build_contains_all_that_cargo_needs() {
    let sources: Vec<String> = instructions()
        .into_iter()
        .filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"))
        .flat_map(|(_, rest)| {
            let mut words: Vec<_> = rest.split(' ').map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect();
    assert_eq!(
        sources,
        [
            "Cargo.toml",
            "Cargo.lock",
            ".cargo",
            "tests/fuzz/Cargo.toml",
            "tests/fuzz/src",
            "tests/support",
            "build.rs",
            "src"
        ]
    );
    let ignored = read(".dockerignore");
    let let_in: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"));
    assert_eq!(let_in, sources);

    let folder = tempfile::tempdir().unwrap();
    for source in &sources {
        copy(&root().join(source), &folder.path().join(source));
    }
    assert_eq!(targets(folder.path()), targets(&root()));
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        let text = fs::read_to_string(from).unwrap();
        let includes_parent =
            ["include_str!(\"../", "include_bytes!(\"../"].iter().any(|include| text.contains(include));
        // The test helpers are not built in the image.
        let is_built = !from.starts_with(root().join("tests"));
        assert!(!(is_built && includes_parent), "{} may include files that are not in the image", from.display());
    }
}

/// The library, binary and build script that `cargo build` builds in `folder`, each as kind and name.
fn targets(folder: &Path) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == "jamjam-dev").unwrap();
    let targets = package["targets"].as_array().unwrap().iter();
    let built = targets.filter(|target| ["lib", "bin", "custom-build"].contains(&target["kind"][0].as_str().unwrap()));
    built.map(|target| format!("{} {}", target["kind"][0], target["name"])).collect()
}

#[test]
fn compose_services_use_existing_commands_and_options() {
    let file = read("compose.yaml");
    let (compose, signaling) = file.split_once("\n  signaling-server:\n").unwrap();
    // `value` returns VALUE of a line `KEY: VALUE`. `list` returns the items of the list below a line `KEY:`.
    let value = |key: &str| {
        let line = compose.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{key}")).to_owned()
    };
    let list = |key: &str| -> Vec<String> {
        let below = compose.lines().skip_while(|line| line.trim() != format!("{key}:")).skip(1);
        below.map_while(|line| line.trim().strip_prefix("- ").map(|item| item.trim_matches('"').to_owned())).collect()
    };
    assert!(compose.contains("\n  echo-server:\n"));
    // The other service uses the same image with the arguments of the signaling server.
    for same in [
        "    image: jamjam-echo\n",
        "      dockerfile: Dockerfile.echo\n",
        "    read_only: true\n",
        "      - \"8080:8080\"\n",
    ] {
        assert!(signaling.contains(same), "{same}");
    }
    let array = |key: &str| words(signaling.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap());
    assert_eq!(array("command: "), ["signaling-server"]);
    let health_command = array("test: ");
    assert_eq!(health_command[0], "CMD");
    Cli::try_parse_from(&health_command[1..]).unwrap();
    assert_eq!((value("image"), value("dockerfile")), ("jamjam-echo".into(), "Dockerfile.echo".into()));
    assert_eq!(list("ports"), ["5000:5000/udp"]);

    let environment: Vec<(String, String)> = list("environment")
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            // `${NAME:-VALUE}` is VALUE if NAME is not set.
            let unset = value.strip_prefix(&format!("${{{name}:-")).and_then(|rest| rest.strip_suffix('}'));
            (name.to_owned(), unset.unwrap_or(value).to_owned())
        })
        .collect();
    assert_eq!(environment.len(), 3);
    for (name, _) in &environment {
        assert!(is_known(name, "echo-server"), "{name}");
    }
    let server = Server::start_with(&["--host", "127.0.0.1"], |command| {
        command.envs(environment);
    });
    assert_eq!(server.stop("TERM").code, Some(0));
}

/// Each systemd unit with its subcommand, the variable with options, and the variables that its comment lists.
const UNITS: [(&str, &str, &str, &[&str]); 2] = [
    ("jamjam-echo", "echo-server", "JAMJAM_ECHO_OPTIONS", &["ECHO_DELAY_MS", "RUST_LOG"]),
    (
        "jamjam-signaling",
        "signaling-server",
        "JAMJAM_SIGNALING_OPTIONS",
        &["PORT", "HMAC_SECRET", "TOKEN_ISSUER_KEY", "DOCS_PASSWORD", "TLS_CERT", "TLS_KEY", "RUST_LOG"],
    ),
];

fn unit(name: &str) -> String {
    read(&format!("packaging/{name}.service"))
}

/// The value of a setting of a unit, which must occur once.
fn unit_setting(unit: &str, key: &str) -> String {
    let values: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}");
    values[0].to_owned()
}

#[test]
fn systemd_units_use_existing_commands_and_variables() {
    for (name, subcommand, options, variables) in UNITS {
        let unit = unit(name);
        let command = unit_setting(&unit, "ExecStart");
        let mut words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words.pop(), Some(&*format!("${options}")));
        assert_eq!(words, ["/usr/local/bin/jamjam-dev", subcommand]);
        Cli::try_parse_from(&words).unwrap();
        let file = unit_setting(&unit, "EnvironmentFile");
        let comment = unit.split_once("\n\n").unwrap().0.replace("\n# ", " ");
        let reported = comment.split_once(file.trim_start_matches('-')).unwrap().1;
        let is_variable =
            |word: &&str| word.len() > 2 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
        let listed: Vec<&str> = reported.split([' ', ',']).filter(is_variable).collect();
        assert_eq!(listed, [variables, &[options]].concat());
        for variable in variables {
            assert!(is_known(variable, subcommand), "{variable}");
        }
    }
}

#[test]
fn signaling_unit_reloads_by_signal_and_stops_after_the_shutdown_timeout() {
    let unit = unit("jamjam-signaling");
    assert_eq!(unit_setting(&unit, "ExecReload"), "/bin/kill -HUP $MAINPID");
    let limit: u64 = unit_setting(&unit, "TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    // The process ends itself one second after the shutdown time-out.
    assert!(Duration::from_secs(limit) > SHUTDOWN_TIMEOUT + Duration::from_secs(1) && limit <= 30, "{limit}");
    let files: usize = unit_setting(&unit, "LimitNOFILE").parse().unwrap();
    assert!(files > 10_000, "--max-connections needs more files than {files}");
}

#[test]
fn signaling_unit_is_as_hardened_as_the_echo_unit() {
    let hardening = |name: &str| -> BTreeSet<String> {
        let unit = unit(name);
        let settings = unit.split_once("\nDynamicUser=").unwrap().1.to_owned();
        let is_own = |line: &&str| !line.starts_with("StateDirectory");
        settings.lines().filter(|line| !line.starts_with('#')).filter(is_own).map(str::to_owned).collect()
    };
    assert_eq!(hardening("jamjam-signaling"), hardening("jamjam-echo"));
}

/// Runs an external tool in `folder`. `None` if it is not installed; in CI, the test then fails.
fn tool(name: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    match Command::new(name).args(arguments).current_dir(folder).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let missing = format!("{name} is not installed; sh scripts/setup --tests installs it on Debian");
            assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
            // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn assert_success(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// A system without systemd has no such tool, so the test is also skipped in CI.
#[test]
fn systemd_accepts_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for (name, ..) in UNITS {
        let file = format!("{name}.service");
        // The tool checks that the program exists.
        let program = process::program(&[]).get_program().to_str().unwrap().to_owned();
        fs::write(folder.path().join(&file), unit(name).replace("/usr/local/bin/jamjam-dev", &program)).unwrap();
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: systemd-analyze is not installed");
            return;
        }
        let Some(output) = tool("systemd-analyze", &["verify", &format!("./{file}")], folder.path()) else { return };
        let text = assert_success(&output);
        assert!(!text.contains(name), "{text}");
    }
}

/// The names of the metrics in a `PromQL` expression.
fn metric_names(expression: &str) -> BTreeSet<String> {
    const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
    // Removes strings, label matchers, ranges, and the label lists of aggregations.
    let mut rest = String::new();
    let mut closing = None;
    for letter in expression.chars() {
        match (closing, letter) {
            (Some(end), letter) if letter == end => closing = None,
            (Some(_), _) => {}
            (None, '"') => closing = Some('"'),
            (None, '{') => closing = Some('}'),
            (None, '[') => closing = Some(']'),
            (None, '(') => {
                let is_label_list = LABEL_LISTS
                    .iter()
                    .any(|word| rest.trim_end().strip_suffix(word).is_some_and(|before| before.ends_with([' ', ')'])));
                rest.push('(');
                if is_label_list {
                    rest.push(')');
                    closing = Some(')');
                }
            }
            (None, letter) => rest.push(letter),
        }
    }
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    // An aggregation is followed by its arguments or its labels.
    let is_function = |after: &str| ["(", "by ", "without "].iter().any(|next| after.starts_with(next));
    let mut names = BTreeSet::new();
    let mut start = 0;
    while let Some(begin) = rest[start..].find(is_part).map(|found| start + found) {
        let end = rest[begin..].find(|letter| !is_part(letter)).map_or(rest.len(), |found| begin + found);
        let (word, is_called) = (&rest[begin..end], is_function(rest[end..].trim_start()));
        let is_keyword = LABEL_LISTS.contains(&word) || OPERATORS.contains(&word);
        if !is_called && !is_keyword && !word.starts_with(|letter: char| letter.is_ascii_digit()) {
            names.insert(word.to_owned());
        }
        start = end;
    }
    names
}

#[test]
fn metric_names_of_an_expression_are_found() {
    let names = |expression: &str| metric_names(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(names("sum by (le, job) (rate(a_total{x=\"y{z\"}[5m])) > 0.5e3"), ["a_total"]);
    assert_eq!(names("a / on (x) group_left(y) (b > 0) unless up{job=~\"a|b\"} == 1"), ["a", "b", "up"]);
    assert_eq!(names("time() - a offset 5m"), ["a"]);
}

/// Every value of the member `key` in a JSON document.
fn members<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members_of) => {
            found.extend(members_of.get(key).and_then(Value::as_str));
            members_of.values().for_each(|member| members(member, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, key, found)),
        _ => {}
    }
}

fn alert_rules() -> Vec<Value> {
    let file: Value = yaml_serde::from_str(&read("packaging/prometheus-alerts.yml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The names of all samples on a metrics page.
fn sample_names(page: &str) -> impl Iterator<Item = String> {
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
}

fn get_metrics(mut stream: impl Read + Write) -> String {
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, page) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    page.to_owned()
}

/// The metrics of both servers, with MOQT and TLS.
fn exported_metrics() -> BTreeSet<String> {
    let mut echo = Server::start(&["--host", "127.0.0.1", "--moqt", "127.0.0.1:0", "--metrics", "0"]);
    let line = echo.line_starting_with("metrics: listening url=http://").message;
    let address = line.split_once("http://").unwrap().1.trim_end_matches("/metrics").to_owned();
    let page = get_metrics(TcpStream::connect(address).unwrap());
    let authority = Authority::new();
    let signaling = Server::start_signaling(&authority.certify().options());
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let client = rustls::ClientConnection::new(trusting(&authority.own()), name).unwrap();
    let tls = rustls::StreamOwned::new(client, TcpStream::connect(signaling.address).unwrap());
    sample_names(&page).chain(sample_names(&get_metrics(tls))).collect()
}

#[test]
fn dashboard_and_alerts_use_only_metrics_that_the_servers_export() {
    let mut exported = exported_metrics();
    // Prometheus itself records this metric for each target.
    exported.insert("up".to_owned());
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana-dashboard.json")).unwrap();
    let (mut expressions, mut queries) = (Vec::new(), Vec::new());
    members(&dashboard["panels"], "expr", &mut expressions);
    members(&dashboard["templating"], "query", &mut queries);
    // `label_values(METRIC, LABEL)` is a function of Grafana.
    let queried = queries.iter().filter_map(|query| query.strip_prefix("label_values(")?.split(',').next());
    let of_dashboard: BTreeSet<String> = expressions.into_iter().chain(queried).flat_map(metric_names).collect();
    let rules = alert_rules();
    let of_alerts: BTreeSet<String> =
        rules.iter().flat_map(|rule| metric_names(rule["expr"].as_str().unwrap())).collect();
    assert!(of_dashboard.len() > 30 && of_alerts.len() > 10, "{of_dashboard:?} {of_alerts:?}");
    for (file, names) in [("grafana-dashboard.json", of_dashboard), ("prometheus-alerts.yml", of_alerts)] {
        for server in ["jamjam_signaling_", "jamjam_echo_", "jamjam_memory_"] {
            assert!(names.iter().any(|name| name.starts_with(server)), "{file} has nothing about {server}");
        }
        let unknown: Vec<&String> = names.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} uses metrics that no server exports: {unknown:?}");
    }
}

#[test]
fn dashboard_panels_are_complete_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut cells = BTreeSet::new();
    for panel in panels {
        let position = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (title, is_row) = (panel["title"].as_str().unwrap(), panel["type"] == "row");
        assert!(is_row || !panel["description"].as_str().unwrap().is_empty(), "{title}");
        assert!(is_row || !panel["targets"].as_array().unwrap().is_empty(), "{title}");
        assert!(position("x") + position("w") <= 24, "{title}");
        for x in position("x")..position("x") + position("w") {
            for y in position("y")..position("y") + position("h") {
                assert!(cells.insert((x, y)), "{title} overlaps another panel");
            }
        }
    }
}

#[test]
fn alerts_have_a_severity_a_summary_and_a_remedy() {
    for rule in alert_rules() {
        let alert = rule["alert"].as_str().unwrap();
        assert!(alert.starts_with("Jamjam"), "{alert}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{alert}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 20), "{alert}");
        }
    }
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests_pass() {
    let folder = root().join("packaging");
    let Some(checked) = tool("promtool", &["check", "rules", "prometheus-alerts.yml"], &folder) else { return };
    let rules = alert_rules();
    assert!(assert_success(&checked).contains(&format!("SUCCESS: {} rules found", rules.len())));
    let tested = tool("promtool", &["test", "rules", "prometheus-alerts.test.yml"], &folder).unwrap();
    assert!(assert_success(&tested).contains("SUCCESS"));
    // Each tested alert must exist: promtool accepts a test that expects no alert of an unknown name.
    let tests: Value = yaml_serde::from_str(&read("packaging/prometheus-alerts.test.yml")).unwrap();
    let mut tested = Vec::new();
    members(&tests, "alertname", &mut tested);
    let tested: BTreeSet<&str> = tested.into_iter().collect();
    let known: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert!(tested.len() >= 5 && tested.is_subset(&known), "{tested:?}");
}

#[test]
fn memory_limits_exceed_the_memory_budget_by_192_mib() {
    let limits = |file: &str, key: &str| -> Vec<u64> {
        read(file).lines().filter_map(|line| line.trim().strip_prefix(key)).map(mebibytes).collect()
    };
    let limit = DEFAULT_MEMORY_BUDGET / (1 << 20) + 192;
    assert_eq!(limits("compose.yaml", "mem_limit: "), [limit, limit]);
    for (name, ..) in UNITS {
        assert_eq!(limits(&format!("packaging/{name}.service"), "MemoryMax="), [limit]);
    }
}
