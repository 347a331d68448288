//! The container image, the compose service and the systemd unit match the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::server;

use clap::{CommandFactory, Parser};
use jamjam_dev::cli::Cli;
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
    // The listening line, the source of the first health check, and the statistics. The source may also become inactive.
    let first_seen = ended.lines.iter().filter(|line| line.contains("source first seen")).count();
    assert!(first_seen == 1 && ended.lines.len() <= 4, "{:?}", ended.lines);
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

#[test]
fn systemd_unit_uses_existing_commands_and_variables() {
    let unit = read("packaging/jamjam-echo.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let mut words: Vec<&str> = value("ExecStart").split(' ').collect();
    assert_eq!(words.pop(), Some("$JAMJAM_ECHO_OPTIONS"));
    assert_eq!(words[..2], ["/usr/local/bin/jamjam-dev", "echo-server"]);
    Cli::try_parse_from(&words).unwrap();
    let file = value("EnvironmentFile").trim_start_matches('-');
    let reported = unit.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(file)).unwrap();
    let variables: Vec<&str> = reported.split([' ', ',']).filter(|word| word.contains('_')).collect();
    assert_eq!(variables, ["ECHO_DELAY_MS", "RUST_LOG", "JAMJAM_ECHO_OPTIONS"]);
    for variable in &variables[..2] {
        assert!(is_known(variable, "echo-server"), "{variable}");
    }
}

#[test]
fn memory_limits_exceed_the_memory_budget_by_192_mib() {
    let limits = |file: &str, key: &str| -> Vec<u64> {
        read(file).lines().filter_map(|line| line.trim().strip_prefix(key)).map(mebibytes).collect()
    };
    let limit = DEFAULT_MEMORY_BUDGET / (1 << 20) + 192;
    assert_eq!(limits("compose.yaml", "mem_limit: "), [limit, limit]);
    assert_eq!(limits("packaging/jamjam-echo.service", "MemoryMax="), [limit]);
}
