//! Every log statement names a component as its target, by which `RUST_LOG` selects it, instead of the path of a Rust module.

use std::path::Path;

use test_support::repository;
use test_support::repository_files::{files, read};

const MACROS: [&str; 7] = ["enabled!(", "trace!(", "debug!(", "info!(", "warn!(", "error!(", "event!("];

#[test]
fn every_log_statement_names_a_component() {
    let log = read("src/io/log.rs");
    let list = log.split_once("const AREAS: &str =").unwrap().1.split('"').nth(1).unwrap();
    let components: Vec<&str> = list.split(' ').collect();
    let mut sources = Vec::new();
    for folder in ["src", "crates"].map(|folder| repository().join(folder)).iter().filter(|folder| folder.exists()) {
        files(folder, "rs", &mut sources);
    }
    let mut count = 0;
    let is_test = |path: &Path| path.strip_prefix(repository()).unwrap().iter().any(|folder| folder == "tests");
    for path in sources.iter().filter(|path| !is_test(path)) {
        let source = std::fs::read_to_string(path).unwrap();
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code: Vec<&str> = code.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
        let code = code.join(" ");
        for (at, name) in MACROS.iter().flat_map(|name| code.match_indices(name)) {
            // The end of a longer name, such as `compile_error!(`.
            if code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                continue;
            }
            let arguments = code[at + name.len()..].trim_start();
            let arguments = arguments.strip_prefix("name: FIXED_LOG_LINE, ").unwrap_or(arguments);
            let target = arguments.strip_prefix("target: \"").and_then(|rest| rest.split('"').next());
            let statement = code[at..].chars().take(80).collect::<String>();
            assert!(target.is_some_and(|target| components.contains(&target)), "{}: {statement}", path.display());
            count += 1;
        }
    }
    assert!(count > 50 && components.len() > 10, "{count} statements, {components:?}");
}
