//! The container image, the compose services, the load balancers, the systemd units, the dashboard and the alert rules match the program.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use jamjam_dev::cli::Cli;
use jamjam_dev::io::signaling::SHUTDOWN_TIMEOUT;
use jamjam_dev::memory_budget::DEFAULT_MEMORY_BUDGET;
use serde_json::Value;
use test_support::certificate::{Authority, trusting};
use test_support::server::{Server, http, process};

use test_support::repository;
use test_support::repository_files::{assert_success, cargo_metadata, files, read, run_tool};

fn yaml(name: &str) -> Value {
    yaml_serde::from_str(&read(name)).unwrap()
}

/// The strings of a JSON array.
fn strings(array: &Value) -> Vec<String> {
    array.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The instructions in a Dockerfile, with continued lines joined.
fn instructions(file: &str) -> Vec<(String, String)> {
    let file = read(file).replace("\\\n", " ");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(word, rest)| (word.into(), rest.trim().into())).collect()
}

/// The argument of the instruction `name`, which occurs once in the last build stage.
fn setting(name: &str) -> String {
    let all = instructions("Dockerfile.echo");
    let last_stage = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let matching: Vec<_> = all[last_stage..].iter().filter(|(word, _)| word == name).collect();
    assert_eq!(matching.len(), 1, "{name}");
    matching[0].1.clone()
}

/// Checks that a subcommand reads each environment variable, as an option or for the log.
fn assert_reads(subcommand: &str, variables: &[&str]) {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand(subcommand).unwrap();
    let mut known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).collect();
    known.push("RUST_LOG");
    assert!(!variables.is_empty() && variables.iter().all(|name| known.contains(name)), "{variables:?} {known:?}");
}

#[test]
fn both_images_run_an_unprivileged_echo_server_on_the_default_port() {
    let expected = [
        ("USER", "65532:65532"),
        ("EXPOSE", "4443/udp 5000/udp 8080/tcp"),
        ("STOPSIGNAL", "SIGTERM"),
        ("ENTRYPOINT", r#"["jamjam-dev"]"#),
        ("CMD", r#"["echo-server"]"#),
    ];
    assert_eq!(expected.map(|(name, _)| setting(name)), expected.map(|(_, value)| value));
    assert_eq!(jamjam_dev::wire::DEFAULT_PORT, 5_000);
    let settings = |file| -> Vec<(String, String)> {
        let kept = ["ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
        instructions(file).into_iter().filter(|(word, _)| kept.contains(&word.as_str())).collect()
    };
    assert_eq!(settings("Dockerfile.release"), settings("Dockerfile.echo"));
}

#[test]
fn health_check_matches_server_availability_and_is_logged_once() {
    let check = setting("HEALTHCHECK");
    // In exec form, a JSON array, no shell splits the text.
    let check = strings(&serde_json::from_str(check.split_once(" CMD ").unwrap().1).unwrap());
    assert_eq!(check[0], "jamjam-dev");
    let server = Server::start(&["--host", "127.0.0.1"]);
    let address = server.address.to_string();
    let arguments: Vec<&str> = check[1..].iter().map(String::as_str).chain(["--to", &address]).collect();
    // A pause of this machine fails a check: Docker repeats it.
    let checks = (1..=10).filter(|_| process::run(&arguments, |_| {}).code == 0).take(3).count();
    assert_eq!(checks, 3);
    let ended = server.stop("TERM");
    assert!(ended.stats().count("pings").is_multiple_of(3) && ended.stats().count("pings") >= 9, "{:?}", ended.lines);
    let first_seen = ended.lines.iter().filter(|line| line.contains("source first seen")).count();
    // Two lines about the start, the source, the statistics. The source may also become inactive.
    assert!(first_seen == 1 && ended.lines.len() <= 5, "{:?}", ended.lines);
    assert_ne!(process::run(&arguments, |_| {}).code, 0);
}

#[test]
fn image_build_contains_all_that_cargo_needs() {
    let copied = instructions("Dockerfile.echo")
        .into_iter()
        .filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"));
    let copied: Vec<Vec<String>> = copied.map(|(_, rest)| rest.split(' ').map(str::to_owned).collect()).collect();
    let sources: Vec<&str> = copied.iter().flat_map(|words| &words[..words.len() - 1]).map(String::as_str).collect();
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "*"));
    assert_eq!(ignored.lines().filter_map(|line| line.strip_prefix('!')).collect::<Vec<_>>(), sources);
    let folder = tempfile::tempdir().unwrap();
    let mut copy = Command::new("cp");
    copy.args(["-r", "--parents"]).args(&sources).arg(folder.path()).current_dir(repository());
    assert_success(&copy.output().unwrap());
    assert_eq!(build_targets(folder.path()), build_targets(repository()));
    let mut sources = Vec::new();
    files(folder.path(), "rs", &mut sources);
    for source in sources.iter().filter(|path| !path.iter().any(|folder| folder == "tests")) {
        let text = fs::read_to_string(source).unwrap();
        let includes_parent = ["include_str!(\"../", "include_bytes!(\"../"].iter().any(|start| text.contains(start));
        assert!(!includes_parent, "{} may include files that are not in the image", source.display());
    }
}

/// The libraries, programs and build scripts of the workspace in `folder`.
fn build_targets(folder: &Path) -> BTreeSet<String> {
    let metadata = cargo_metadata(folder, &["--no-deps", "--offline"]);
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let built = targets.filter(|target| ["lib", "bin", "custom-build"].contains(&target["kind"][0].as_str().unwrap()));
    built.map(|target| format!("{} {}", target["kind"][0], target["name"])).collect()
}

/// Name and value of a variable in `compose.yaml`. `NAME=${NAME:-VALUE}` is VALUE if NAME is not set.
fn variable(pair: &str) -> (&str, &str) {
    let (name, value) = pair.split_once('=').unwrap();
    (name, value.split_once(":-").map_or(value, |(_, unset)| unset.trim_end_matches('}')))
}

#[test]
fn compose_services_use_existing_commands_and_options() {
    let services = &yaml("compose.yaml")["services"];
    let (echo, signaling) = (&services["echo-server"], &services["signaling-server"]);
    assert_eq!(strings(&signaling["command"]), ["signaling-server"]);
    let check = strings(&signaling["healthcheck"]["test"]);
    assert_eq!(check[0], "CMD");
    Cli::try_parse_from(&check[1..]).unwrap();
    for (service, subcommand) in [(echo, "echo-server"), (signaling, "signaling-server")] {
        let environment = strings(&service["environment"]);
        let environment: Vec<_> = environment.iter().map(|pair| variable(pair)).collect();
        assert_reads(subcommand, &environment.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        if subcommand == "echo-server" {
            let server = Server::start_with(&["--host", "127.0.0.1"], |command| _ = command.envs(environment));
            assert_eq!(server.stop("TERM").code, Some(0));
        }
    }
}

/// The part of `text` between the first occurrence of `start` and the next of `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("both").0
}

#[test]
fn balancers_reserve_the_names_that_no_room_can_have() {
    let router = read("crates/signaling/src/route.rs");
    let names = between(&router, "RESERVED_SEGMENTS: &str = \"", "\";\n");
    let mut reserved: BTreeSet<&str> = names.split_whitespace().filter(|word| *word != "\\").collect();
    // The path of the files of the pages.
    assert!(reserved.insert("static"));
    let haproxy = read("packaging/haproxy.cfg");
    let names = haproxy.lines().filter_map(|line| line.trim().strip_prefix("acl no_room var(txn.room) -m str "));
    assert_eq!(names.flat_map(str::split_whitespace).collect::<BTreeSet<_>>(), reserved);
    let nginx = read("packaging/nginx.conf");
    let names = between(&nginx, "\"\" /;", "}").split(';').filter_map(|entry| entry.trim().strip_suffix(" /"));
    assert_eq!(names.collect::<BTreeSet<_>>(), reserved);
}

/// The value of a setting of a systemd unit, which must occur once.
fn unit_setting(unit: &str, key: &str) -> String {
    let values: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}");
    values[0].to_owned()
}

#[test]
fn systemd_units_use_existing_commands_and_variables() {
    let mut hardening = Vec::new();
    for (name, subcommand, options) in [
        ("jamjam-echo", "echo-server", "JAMJAM_ECHO_OPTIONS"),
        ("jamjam-signaling", "signaling-server", "JAMJAM_SIGNALING_OPTIONS"),
    ] {
        let file = format!("{name}.service");
        let unit = read(&format!("packaging/{file}"));
        assert_eq!(unit_setting(&unit, "ExecStart"), format!("/usr/local/bin/jamjam-dev {subcommand} ${options}"));
        // The comment lists the variables of the environment file.
        let environment_file = unit_setting(&unit, "EnvironmentFile");
        let comment = unit.split_once("\n\n").unwrap().0.replace("\n# ", " ");
        let listed = comment.split_once(&format!("{} may set ", environment_file.trim_start_matches('-'))).unwrap().1;
        let (variables, rest) = listed.split_once(" and ").unwrap();
        assert!(rest.starts_with(options), "{rest}");
        assert_reads(subcommand, &variables.trim_end_matches(',').split(", ").collect::<Vec<_>>());
        let settings = unit.split_once("\nDynamicUser=").unwrap().1.to_owned();
        let settings = settings.lines().filter(|line| !line.starts_with('#') && !line.starts_with("StateDirectory"));
        hardening.push(settings.map(str::to_owned).collect::<BTreeSet<String>>());

        // The tool checks that the program exists. A system without systemd has no such tool, even in CI.
        if Command::new("systemd-analyze").arg("--version").output().is_ok() {
            let folder = tempfile::tempdir().unwrap();
            let program = process::program(&[]).get_program().to_str().unwrap().to_owned();
            fs::write(folder.path().join(&file), unit.replace("/usr/local/bin/jamjam-dev", &program)).unwrap();
            let mut analyze = Command::new("systemd-analyze");
            let output = analyze.args(["verify", &format!("./{file}")]).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains(name), "{output:?}");
        }
    }
    assert_eq!(hardening[0], hardening[1], "both units are hardened equally");
}

#[test]
fn memory_limits_exceed_the_memory_budget_and_units_the_shutdown_timeout() {
    let limit = DEFAULT_MEMORY_BUDGET / (1 << 20) + 192;
    for service in yaml("compose.yaml")["services"].as_object().unwrap().values() {
        assert_eq!(service["mem_limit"], format!("{limit}m"));
    }
    for name in ["jamjam-echo", "jamjam-signaling"] {
        let unit = read(&format!("packaging/{name}.service"));
        assert_eq!(unit_setting(&unit, "MemoryMax"), format!("{limit}M"));
        // The server waits so long for its clients, and then a second for its log.
        let limit: u64 = unit_setting(&unit, "TimeoutStopSec").trim_end_matches('s').parse().unwrap();
        assert!(Duration::from_secs(limit) > SHUTDOWN_TIMEOUT + Duration::from_secs(1) && limit <= 30, "{limit}");
    }
    // --max-connections, and other files.
    let unit = read("packaging/jamjam-signaling.service");
    assert!(unit_setting(&unit, "LimitNOFILE").parse::<usize>().unwrap() > 10_000);
}

/// Every string member `key` in a JSON document.
fn members<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str));
            object.values().for_each(|member| members(member, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, key, found)),
        _ => {}
    }
}

fn alert_rules() -> Vec<Value> {
    let file = yaml("packaging/prometheus-alerts.yml");
    file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The names of the metrics of both servers, with MOQT and TLS.
fn exported_metrics() -> BTreeSet<String> {
    let mut echo = Server::start(&["--host", "127.0.0.1", "--moqt", "127.0.0.1:0", "--metrics", "0"]);
    let line = echo.line_starting_with("metrics: listening url=http://").message;
    let address = line.split_once("http://").unwrap().1.trim_end_matches("/metrics").parse().unwrap();
    let page = http::send_to(address, "GET", "/metrics", &[], "").body;
    let authority = Authority::new();
    let signaling = Server::start_signaling(&authority.certify().options());
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let client = rustls::ClientConnection::new(trusting(&authority.own()), name).unwrap();
    let tls = rustls::StreamOwned::new(client, TcpStream::connect(signaling.address).unwrap());
    let pages = page + &http::exchange(tls, "GET", "/metrics", &[], "").body;
    // The docs leave the definition of each metric to its help text.
    for metric in pages.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(pages.contains(&format!("# HELP {metric} ")), "{metric} has no help text");
    }
    let samples = pages.lines().filter(|line| line.starts_with("jamjam_"));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[test]
fn dashboard_and_alerts_use_only_metrics_that_the_servers_export() {
    let exported = exported_metrics();
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana-dashboard.json")).unwrap();
    let rules = Value::Array(alert_rules());
    for (file, document, least) in [("grafana-dashboard.json", &dashboard, 30), ("prometheus-alerts.yml", &rules, 10)] {
        let mut expressions = Vec::new();
        members(document, "expr", &mut expressions);
        members(&document["templating"], "query", &mut expressions);
        let mut used = BTreeSet::new();
        for expression in expressions {
            let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let mut metrics = words.filter(|word| word.starts_with("jamjam_")).map(str::to_owned).peekable();
            // Prometheus itself records `up` for each target.
            let is_known = metrics.peek().is_some() || expression.starts_with("up{") || expression == "prometheus";
            assert!(is_known, "{file}: no metric of the servers in {expression}");
            used.extend(metrics);
        }
        let unknown: Vec<&String> = used.difference(&exported).collect();
        assert!(used.len() > least && unknown.is_empty(), "{file} uses metrics that no server exports: {unknown:?}");
        for server in ["jamjam_signaling_", "jamjam_echo_", "jamjam_memory_"] {
            assert!(used.iter().any(|name| name.starts_with(server)), "{file} has nothing about {server}");
        }
    }
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests_pass() {
    let rules = alert_rules();
    for rule in &rules {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&severity), "{rule}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 20), "{rule}");
        }
    }
    // Each tested alert must exist: promtool accepts a test that expects no alert of an unknown name.
    let (tests, mut tested) = (yaml("packaging/prometheus-alerts.test.yml"), Vec::new());
    members(&tests, "alertname", &mut tested);
    let is_known = |name: &&str| rules.iter().any(|rule| rule["alert"] == *name);
    assert!(tested.len() >= 5 && tested.iter().all(is_known), "{tested:?}");
    for (action, file) in [("check", "prometheus-alerts.yml"), ("test", "prometheus-alerts.test.yml")] {
        let mut promtool = Command::new("promtool");
        promtool.args([action, "rules", file]).current_dir(repository().join("packaging"));
        let Some(output) = run_tool(&mut promtool, "") else { return };
        assert!(assert_success(&output).contains("SUCCESS"), "{output:?}");
    }
}
