//! What publishes a release: `scripts/release`, the license texts of packages, and each step of the workflows.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use test_support::repository;
use test_support::repository_files::{assert_success, read, run_tool};

const TARGETS: [&str; 5] = [
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "x86_64-pc-windows-gnu",
    "aarch64-apple-darwin",
    "x86_64-unknown-linux-gnu",
];

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_crate_in_a_package_has_a_license_text() {
    for target in TARGETS {
        let mut script = Command::new("python3");
        script.args(["scripts/third-party", "--check", target]).current_dir(repository()).env("CARGO", env!("CARGO"));
        let Some(output) = run_tool(&mut script, "") else { return };
        assert_success(&output);
    }
}

#[test]
fn release_needs_one_version_in_tag_changelog_and_all_packages() {
    let folder = TempDir::new().unwrap();
    let packages = folder.path().join("target/packages");
    fs::create_dir_all(&packages).unwrap();
    fs::create_dir(folder.path().join("scripts")).unwrap();
    for name in ["Cargo.toml", "scripts/package.py", "scripts/release"] {
        let version = |version| format!("\nversion = \"{version}\"");
        let text = read(name).replace(&version(env!("CARGO_PKG_VERSION")), &version("7.1.0-rc.2"));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let section =
        "# Changelog\n\n## [Unreleased]\n\n## [7.1.0-rc.2] - 2027-01-02\n\n- New.\n\n## [7.0.0] - 2027-01-01\n";
    let release = |changelog: &str, arguments: &[&str]| {
        fs::write(folder.path().join("CHANGELOG.md"), changelog).unwrap();
        let mut script = Command::new("python3");
        script.arg("scripts/release").args(arguments).current_dir(folder.path()).output().unwrap()
    };
    assert_success(&release(section, &["v7.1.0-rc.2"]));
    for (changelog, tag) in [(section, "v7.1.0"), (section, "7.1.0-rc.2"), ("## [Unreleased]\n", "v7.1.0-rc.2")] {
        assert_eq!(release(changelog, &[tag]).status.code(), Some(1), "{tag}");
    }

    let mut names = vec!["jamjam-dev-7.1.0-rc.2.tgz".to_owned(), "jamjam-dev_7.1.0-rc.2-1_amd64.deb".to_owned()];
    names.extend(TARGETS.map(|target| format!("jamjam-dev-7.1.0-rc.2-{target}.cdx.json")));
    for (target, archive, system, tag) in [
        ("x86_64-unknown-linux-musl", "tar.gz", "linux-x64", "manylinux_2_17_x86_64.musllinux_1_1_x86_64"),
        ("aarch64-unknown-linux-musl", "tar.gz", "linux-arm64", "manylinux_2_17_aarch64.musllinux_1_1_aarch64"),
        ("x86_64-pc-windows-gnu", "zip", "win32-x64", "win_amd64"),
        ("aarch64-apple-darwin", "tar.gz", "darwin-arm64", "macosx_11_0_arm64"),
    ] {
        names.push(format!("jamjam-dev-7.1.0-rc.2-{target}.{archive}"));
        names.push(format!("jamjam-dev-{system}-7.1.0-rc.2.tgz"));
        names.push(format!("jamjam_dev-7.1.0rc2-py3-none-{tag}.whl"));
    }
    for name in &names {
        fs::write(packages.join(name), name).unwrap();
    }
    let arguments = ["v7.1.0-rc.2", "--packages"];
    assert_success(&release(section, &arguments));
    assert_eq!(fs::read_to_string(folder.path().join("target/changes.md")).unwrap(), "- New.\n");
    let check = Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&packages).output().unwrap();
    assert_eq!(assert_success(&check).lines().count(), names.len());
    fs::rename(packages.join(&names[3]), packages.join("jamjam-dev-7.0.0.tgz")).unwrap();
    assert_eq!(release(section, &arguments).status.code(), Some(1));
}

/// The commands that a step runs end with code 0, except a program with another version.
const PROGRAM: &str = "#!/bin/sh\necho \"jamjam-dev 7.1.0 (0123456789ab $SEEN)\"\n";

#[test]
fn every_step_of_the_workflows_runs() {
    let mut steps = 0;
    for name in ["release", "ci"] {
        let workflow: Value = yaml_serde::from_str(&read(&format!(".github/workflows/{name}.yml"))).unwrap();
        for job in workflow["jobs"].as_object().unwrap().values() {
            for step in job["steps"].as_array().unwrap() {
                let Some(script) = step["run"].as_str() else {
                    // A tag could later name another commit.
                    let (_, commit) = step["uses"].as_str().unwrap().split_once('@').unwrap();
                    assert!(commit.len() == 40 && commit.bytes().all(|digit| digit.is_ascii_hexdigit()), "{step}");
                    continue;
                };
                let environment = [&workflow["env"], &job["env"]].map(Value::as_object).into_iter().flatten().flatten();
                let run = |seen| run_step(script, environment.clone(), seen);
                assert_eq!(run("x86_64-any"), Some(0), "{script}");
                assert!(!script.contains("--version") || run("aarch64-any") == Some(1), "{script}");
                steps += 1;
            }
        }
    }
    assert!(steps > 15, "{steps}");
}

/// Runs the script of a step with stand-ins for all that it starts, of which the program says that it is for the target `seen`.
fn run_step<'a>(script: &str, environment: impl Iterator<Item = (&'a String, &'a Value)>, seen: &str) -> Option<i32> {
    let folder = TempDir::new().unwrap();
    // Reads what is piped to it, because the step fails with SIGPIPE otherwise.
    let stub = "#!/bin/sh\nif [ -p /dev/stdin ]; then cat >/dev/null; fi\n";
    let stubs = "bin/apt-get bin/docker bin/gh bin/git bin/npm bin/npx bin/pip bin/rustup scripts/packages scripts/release .ci/run";
    let installed =
        "wheel/bin/jamjam-dev node_modules/.bin/jamjam-dev target/packages/image/amd64/usr/local/bin/jamjam-dev";
    let packages = "jamjam-dev-7.1.0.tgz jamjam-dev-linux-x64-7.1.0.tgz a.whl target/packages/jamjam-dev-7.1.0.tgz";
    for (names, text) in [(stubs, stub), (installed, PROGRAM), (packages, "")] {
        names.split(' ').for_each(|name| write_program(&folder.path().join(name), text));
    }
    let file = folder.path().join("script.sh");
    fs::write(&file, script).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-e", "-u", "-o", "pipefail"]).arg(&file).current_dir(folder.path());
    bash.env_clear().env("PATH", format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap()));
    bash.envs([("SEEN", seen), ("GITHUB_REPOSITORY", "Owner/jamjam-dev"), ("GITHUB_ACTOR", "owner")]);
    bash.stdin(Stdio::null());
    for (name, value) in environment {
        let value = match name.as_str() {
            "TAG" => "v7.1.0",
            "BUILD_COMMIT" => "0123456789abcdef",
            "TARGET" => "x86_64-any",
            "SYSTEM" => "linux-x64",
            _ => value.as_str().unwrap(),
        };
        bash.env(name, value);
    }
    bash.output().unwrap().status.code()
}
