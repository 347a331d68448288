//! Checks the layers of the crate. Only `io`, `cli` and the program perform I/O. The other modules are pure. No import goes to a higher
//! layer. Files do not import each other in a cycle. No file name below `src/` contains a general word such as `util` or `common`. If a
//! file below `src/` has more than `MAX_LINES` lines, `docs/ARCHITECTURE.md` states the reason.
//!
//! The test finds every Rust path, such as `std::fs::read`, in every source file (`layers/paths.rs`). The test then applies the rules
//! (`layers/rules.rs`) and searches for cycles (`layers/cycles.rs`). The test cannot detect methods, or names that a macro from another
//! crate generates.

mod cycles;
mod paths;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use paths::What;
use rules::MAX_LINES;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src/`, as paths from the root.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The names of the folders and the file below `src/`: `["wire", "header"]`.
fn stems(file: &Path) -> Vec<String> {
    let below = file.strip_prefix("src").unwrap().with_extension("");
    below.iter().map(|name| name.to_str().unwrap().to_owned()).collect()
}

/// The path of the module that `file` contains: `["wire"]` for `src/wire/mod.rs`.
fn module(file: &Path) -> Vec<String> {
    let mut module = stems(file);
    if matches!(module[module.len() - 1].as_str(), "mod" | "lib" | "main") {
        module.pop();
    }
    module
}

/// All violations that `file` would have if it contained `source`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let top_module = stems(Path::new(file))[0].clone();
    let module = module(Path::new(file));
    let mut violations = Vec::new();
    for named in paths::named(source, &module).unwrap_or_else(|error| panic!("{file}: {error}")) {
        let violation = match named.what {
            What::Macro => rules::macro_violation(&top_module, &named.path),
            what => rules::violation(&top_module, &named.path, what == What::Glob),
        };
        violations.extend(violation.map(|why| format!("{file}:{}: {why}", named.line)));
    }
    violations.dedup();
    violations
}

#[test]
fn pure_modules_perform_no_io_and_import_only_lower_layers() {
    let files = sources();
    for expected in ["src/lib.rs", "src/main.rs", "src/time.rs", "src/wire/header.rs"] {
        assert!(files.iter().any(|file| file == Path::new(expected)), "the search missed {expected}");
    }
    let violations: Vec<String> = files
        .iter()
        .flat_map(|file| violations(file.to_str().unwrap(), &fs::read_to_string(root().join(file)).unwrap()))
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    // `main.rs` is another crate.
    let files = sources().into_iter().filter(|file| file != Path::new("src/main.rs"));
    let sources: Vec<(Vec<String>, String)> =
        files.map(|file| (module(&file), fs::read_to_string(root().join(file)).unwrap())).collect();
    let cycles = cycles::cycles(&sources).unwrap();
    assert!(cycles.is_empty(), "\n{}", cycles.join("\n\n"));
}

fn cycles_of(sources: &[(&str, &str)]) -> Vec<String> {
    let names = |module: &str| module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let sources: Vec<_> = sources.iter().map(|(module, source)| (names(module), (*source).to_owned())).collect();
    cycles::cycles(&sources).unwrap()
}

#[test]
fn import_cycle_is_found() {
    for sources in [
        // Siblings use each other: `x` through an import, `y` through a qualified path.
        [("", ""), ("x", "use crate::y::B;"), ("y", "fn f() { crate::x::g(); }")],
        // The crate root uses a path that starts with the name of its child module.
        [("", "mod x; fn f() { x::g(); }"), ("x", "use super::f;"), ("y", "")],
        // Parent and child.
        [("x", "pub mod y; use y::B; struct A;"), ("x::y", "use super::A; struct B;"), ("z", "")],
        // The first cycle passes through a third file. The second cycle passes through a re-export.
        [("x", "use crate::y::B;"), ("y", "use crate::z::C;"), ("z", "use crate::x::A;")],
        [("x", "mod y; mod z; pub use z::C;"), ("x::y", "use super::C;"), ("x::z", "use super::y::B;")],
    ] {
        assert_eq!(cycles_of(&sources).len(), 1, "{sources:?}");
    }
}

#[test]
fn imports_without_a_cycle_are_permitted() {
    for sources in [
        // The re-exports in `x` do not count as imports. The import of `super::B` counts as an import from `x::y`, which defines `B`.
        [
            ("x", "mod y; mod z; pub use y::B; pub use z::C;"),
            ("x::y", "struct B;"),
            ("x::z", "use super::B; struct C;"),
        ],
        // A child uses its parent, and another module uses the child.
        [("x", "mod y; struct A;"), ("x::y", "use super::A;"), ("z", "use crate::x::y::B;")],
        // The check ignores imports in test modules, paths in `pub(in …)` and links in comments.
        [("x", "use crate::y::B;"), ("y", "mod tests { use crate::x::A; }"), ("z", "")],
        [("x", "mod y; use y::B;"), ("x::y", "pub(in crate::x) struct B;"), ("z", "//! [`crate::x`]")],
    ] {
        assert_eq!(cycles_of(&sources), Vec::<String>::new(), "{sources:?}");
    }
}

#[test]
fn file_names_are_specific() {
    let unspecific: Vec<String> = sources()
        .iter()
        .flat_map(|file| stems(file).into_iter().map(|stem| (file.clone(), stem)).collect::<Vec<_>>())
        .filter_map(|(file, stem)| Some(format!("{}: {}", file.display(), rules::name_violation(&stem)?)))
        .collect();
    assert!(unspecific.is_empty(), "\n{}", unspecific.join("\n"));
    assert!(rules::name_violation("session_manager").is_some());
    assert!(rules::name_violation("delay_line").is_none());
}

/// The files with a documented reason for their length: lines "- `src/x.rs`: the reason" in `docs/ARCHITECTURE.md`.
fn documented(architecture: &str) -> Vec<&str> {
    architecture
        .lines()
        .filter_map(|line| line.strip_prefix("- `src/")?.split_once("`: "))
        .filter(|(_, reason)| !reason.trim().is_empty())
        .map(|(file, _)| file)
        .collect()
}

#[test]
fn long_file_states_its_reason() {
    let architecture = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap_or_default();
    let documented = documented(&architecture);
    let mut lengths = Vec::new();
    let mut wrong = Vec::new();
    for file in sources() {
        let length = fs::read_to_string(root().join(&file)).unwrap().lines().count();
        lengths.push(length);
        let name = file.strip_prefix("src").unwrap().to_str().unwrap();
        match (length > MAX_LINES, documented.contains(&name)) {
            (true, false) => wrong.push(format!("src/{name}: {length} lines, and no reason in docs/ARCHITECTURE.md")),
            (false, true) => {
                wrong.push(format!("src/{name} is short again: remove its reason from docs/ARCHITECTURE.md"));
            }
            _ => {}
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    println!("{} files, median {median} lines", lengths.len());
    assert!(wrong.is_empty(), "median {median} lines\n{}", wrong.join("\n"));
}

/// Checks that `file` with the content `source` would violate the layer rules for the reason `why`.
fn assert_violation(file: &str, source: &str, why: &str) {
    let violations = violations(file, source);
    assert!(
        violations.iter().any(|violation| violation.contains(why)),
        "{file}: {source}\nno violation: {why}\n{violations:?}"
    );
}

fn assert_permitted(file: &str, source: &str) {
    assert_eq!(violations(file, source), Vec::<String>::new(), "{source}");
}

#[test]
fn io_in_a_pure_module_is_found() {
    for (source, why) in [
        ("fn f() { std::time::Instant::now(); }", "std::time::Instant"),
        ("use std::time::Instant;", "std::time::Instant"),
        ("use core::time::{Duration, Instant};", "std::time::Instant"),
        ("fn f() { println!(\"x\"); }", "println!"),
        ("fn f() { std::eprintln!(\"x\"); }", "eprintln!"),
        ("fn f() { dbg!(1); }", "dbg!"),
        ("use std::fs;", "std::fs"),
        ("use std::{io, fs::File};", "std::fs"),
        ("fn f(x: &std::fs::File) {}", "std::fs"),
        ("fn f() { rand::rng(); }", "rand"),
        ("fn f() { ::rand::rng(); }", "rand"),
        ("extern crate rand;", "rand"),
        ("use tokio;", "tokio"),
        ("#[tokio::main] async fn f() {}", "tokio"),
        ("fn f() { tokio::select! {} }", "tokio"),
        ("#[derive(clap::Parser)] struct S;", "clap"),
        ("use anyhow::Result;", "anyhow"),
        ("use std::io; fn f() { io::stdin(); }", "std::io::stdin"),
        ("use std::net::{IpAddr, UdpSocket};", "std::net::UdpSocket"),
        ("fn f<T: std::net::ToSocketAddrs>() {}", "std::net::ToSocketAddrs"),
        ("fn f() { <std::time::SystemTime>::now(); }", "std::time::SystemTime"),
        ("mod tests { fn f() { std::thread::spawn(|| ()); } }", "std::thread"),
        ("#[cfg(test)] mod tests { use std::env; }", "std::env"),
        ("fn f() { std::process::exit(1) }", "std::process"),
        ("fn f() { hound::WavReader::open(\"a.wav\"); }", "hound::WavReader::open"),
        ("fn f() { jiff::Timestamp::now(); }", "jiff::Timestamp::now"),
    ] {
        assert_violation("src/stats/loss.rs", source, why);
    }
}

#[test]
fn renamed_import_is_found() {
    for (source, why) in [
        ("use std::time as t; fn f() { t::Instant::now(); }", "std::time::Instant"),
        ("use std::time::{self as t}; fn f() { t::Instant::now(); }", "std::time::Instant"),
        ("use std as s; fn f() { s::fs::read(\"x\"); }", "std::fs"),
        ("use std as s; use s::time as t; fn f() { t::Instant::now(); }", "std::time::Instant"),
        ("extern crate rand as dice; fn f() { dice::rng(); }", "rand"),
        ("fn f() { use std::time as t; t::Instant::now(); }", "std::time::Instant"),
        ("use std::println as say; fn f() { say!(); }", "println!"),
        ("use std::time::*;", "std::time::Instant"),
        ("use std::*;", "std::env"),
        ("use std::net::*;", "std::net"),
        ("use super::super::*;", "a glob of the crate"),
        ("use crate::{io as i}; fn f() { i::udp::run(); }", "stats uses io"),
    ] {
        assert_violation("src/stats/loss.rs", source, why);
    }
}

#[test]
fn macro_bodies_are_checked() {
    for (source, why) in [
        ("fn f() { assert!(std::time::Instant::now() > x); }", "std::time::Instant"),
        ("use std::time as t; fn f() { assert!(t::Instant::now() > x); }", "std::time::Instant"),
        ("fn f() { format!(\"{}\", std::fs::read(\"x\").len()); }", "std::fs"),
        ("fn f() { vec![vec![::std::env::var(\"X\")]]; }", "std::env"),
        ("fn f() { assert!({ println!(\"x\"); true }); }", "println!"),
        ("macro_rules! m { () => { use std::{io, fs}; }; }", "std::fs"),
        ("macro_rules! m { () => { use std::{time as t}; t::Instant::now() }; }", "std::time::Instant"),
        ("macro_rules! m { () => { use std::time; time::Instant::now() }; }", "std::time::Instant"),
        ("macro_rules! m { () => { use std::time::*; }; }", "std::time::Instant"),
        ("macro_rules! m { () => { $crate::io::udp::run() }; }", "stats uses io"),
        ("fn f() { matches!(x, Some(1..std::process::ID)); }", "std::process"),
        ("#[cfg_attr(test, derive(clap::Parser))] struct S;", "clap"),
    ] {
        assert_violation("src/stats/loss.rs", source, why);
    }
}

#[test]
fn import_of_a_higher_or_sibling_layer_is_found() {
    for (file, source, why) in [
        ("src/time.rs", "use crate::node::Node;", "time uses node"),
        ("src/wire/header.rs", "use crate::stats;", "wire uses stats"),
        ("src/wire/header.rs", "fn f() { crate::echo::run(); }", "wire uses echo"),
        ("src/wire/header.rs", "use super::super::report::Report;", "wire uses report"),
        ("src/wire/mod.rs", "use super::report::Report;", "wire uses report"),
        ("src/impairment.rs", "use super::io;", "impairment uses io"),
        ("src/impairment.rs", "mod tests { use super::super::io; }", "impairment uses io"),
        ("src/stats/loss.rs", "use crate::{echo::Echo, time::Time};", "stats uses echo"),
        ("src/io/udp.rs", "use crate::cli::send::Options;", "io uses cli"),
        ("src/io/udp.rs", "use jamjam_dev::cli;", "io uses cli"),
        ("src/io/udp.rs", "use clap::Parser;", "only cli and main may use clap"),
        ("src/io/udp.rs", "use anyhow::Context;", "only cli and main may use anyhow"),
        ("src/lib.rs", "pub use crate::time::Time;", "lib uses time"),
        ("src/attic.rs", "use crate::time::Time;", "attic or time is unknown"),
        ("src/wire/mod.rs", "use crate::attic;", "wire or attic is unknown"),
    ] {
        assert_violation(file, source, why);
    }
}

#[test]
fn permitted_code_is_not_reported() {
    for (file, source) in [
        ("src/time.rs", "use std::time::Duration; use std::ops::{Add, Sub}; fn f(d: std::time::Duration) {}"),
        ("src/node.rs", "use std::net::{IpAddr, SocketAddr}; use crate::time::Time;"),
        ("src/audio/wav.rs", "use std::io::{self, Read, Seek}; fn f(r: impl Read) -> io::Result<()> {}"),
        ("src/audio/wav.rs", "use std::io::prelude::*; fn f() { hound::WavReader::new(x); }"),
        ("src/wire/mod.rs", "mod header; pub use header::Header; use self::latency::Ping;"),
        ("src/wire/header.rs", "use super::latency::Ping; mod tests { use super::*; use crate::time::Time; }"),
        ("src/wire/header.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\"); pub(crate) fn f() {}"),
        ("src/echo.rs", "use crate::{impairment::Line, wire, stats::*}; fn f() { tracing::info!(\"{}\", wire::LEN); }"),
        ("src/stats/loss.rs", "fn f(rand: u8, env: u8) { assert!(rand as u64 == s.nix, \"{}\", env as u64); }"),
        (
            "src/stats/loss.rs",
            "/// Like `std::fs`, and println!(\"x\").\nfn f() { let s = \"std::fs\"; } // rand::rng()",
        ),
        ("src/io/udp.rs", "use std::{fs, thread}; use crate::{node::Node, report::Report}; fn f() { println!(); }"),
        ("src/cli/send.rs", "use clap::Parser; use crate::io::udp; use super::exit; fn f() { anyhow::bail!(\"x\") }"),
        ("src/main.rs", "use jamjam_dev::cli; fn main() { std::process::exit(1) } mod tests { use super::*; }"),
        ("src/lib.rs", "//! The map.\npub mod time; pub mod wire;"),
    ] {
        assert_permitted(file, source);
    }
}
