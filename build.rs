//! Determines what `jamjam-dev --version` shows: the commit, its date, the target and the features. Links the settings of the allocator.
//!
//! Packagers can set `BUILD_COMMIT` and `SOURCE_DATE_EPOCH`. Otherwise, the values come from git if this folder is the root of a repository.
//! Without git, both are "unknown". The output contains no paths and does not depend on the time of the build.

use std::env;
use std::path::Path;
use std::process::Command;

const SECONDS_PER_DAY: i64 = 86_400;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["BUILD_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let is_repository = Path::new(".git").exists();
    if is_repository {
        // A commit changes the log of HEAD, a checkout of a commit changes HEAD.
        for file in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
                println!("cargo:rerun-if-changed={path}");
            }
        }
    }
    let from_git = |arguments: &[&str]| is_repository.then(|| git(arguments)).flatten();
    let commit = variable("BUILD_COMMIT").or_else(|| from_git(&["rev-parse", "HEAD"]));
    let epoch = variable("SOURCE_DATE_EPOCH").or_else(|| from_git(&["show", "-s", "--format=%ct", "HEAD"]));
    let date = epoch.and_then(|seconds| seconds.parse().ok()).map(utc_date);
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_ascii_lowercase().replace('_', "-")))
        .filter(|feature| feature != "default")
        .collect();
    features.sort();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };

    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.map_or("unknown".to_owned(), |commit| short(&commit)));
    println!("cargo:rustc-env=BUILD_DATE={}", date.unwrap_or("unknown".to_owned()));
    println!("cargo:rustc-env=BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=BUILD_FEATURES={features}");

    let target = |variable| env::var(variable).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        let settings = "src/jemalloc_settings.c";
        println!("cargo:rerun-if-changed={settings}");
        for object in cc::Build::new().file(settings).compile_intermediates() {
            println!("cargo:rustc-link-arg-bins={}", object.display());
        }
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The first line that git prints, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// The first 12 characters of a commit, without line breaks, which would end the instruction to cargo.
fn short(commit: &str) -> String {
    commit.chars().filter(char::is_ascii_graphic).take(12).collect()
}

/// The UTC date of a time in seconds since 1970, such as 2026-11-24.
fn utc_date(seconds: i64) -> String {
    // Days since 0000-03-01 in cycles of 400 years. A year that starts in March ends with the leap day.
    let days = seconds.div_euclid(SECONDS_PER_DAY) + 719_468;
    let (cycle, day_of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
