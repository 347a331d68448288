//! Every log statement names a component of the log as its target. Without a target, a log line would contain the path of a Rust module.

use std::fs;
use std::path::{Path, PathBuf};

const MACROS: [&str; 7] = ["enabled!(", "trace!(", "debug!(", "info!(", "warn!(", "error!(", "event!("];

/// The components in `src/io/log.rs`.
fn components() -> Vec<String> {
    let source = read(Path::new("src/io/log.rs"));
    let list = source.split_once("const AREAS: ").expect("the list").1;
    let list = list.split_once("= [").expect("its begin").1.split_once("];").expect("its end").0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{error}: {}", path.display()))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = folder.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The arguments of each log statement of a file without its tests, with normalized spaces.
fn log_statements(source: &str) -> Vec<String> {
    let code: Vec<&str> = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join(" ");
    let mut statements = Vec::new();
    for name in MACROS {
        for (index, _) in code.match_indices(name) {
            // `compile_error!(` is no log statement.
            if !code[..index].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                let arguments: String = code[index + name.len()..].chars().take(200).collect();
                statements.push(arguments.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    statements
}

/// The target of a statement, if it names one as a literal.
fn target(arguments: &str) -> Option<&str> {
    let arguments = arguments.strip_prefix("name: FIXED_LOG_LINE, ").unwrap_or(arguments);
    arguments.strip_prefix("target: \"")?.split_once('"').map(|(target, _)| target)
}

#[test]
fn every_log_statement_names_a_component() {
    let components = components();
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    let mut count = 0;
    for file in files {
        for statement in log_statements(&read(&file)) {
            count += 1;
            let target = target(&statement);
            assert!(
                target.is_some_and(|target| components.iter().any(|known| known == target)),
                "{}: name a component of src/io/log.rs as the target of `{statement}`",
                file.display()
            );
        }
    }
    assert!(count > 50 && components.len() > 10, "{count} statements, {components:?}");
}

#[test]
fn log_statement_without_a_target_is_found() {
    let source = "fn f() {\n    info!(\"text\");\n    warn!(\n        target: \"echo\",\n        \"x\"\n    );\n    // info!(\"no\")\n}\n";
    let statements = log_statements(source);
    assert_eq!(statements.iter().map(|statement| target(statement)).collect::<Vec<_>>(), [None, Some("echo")]);
    assert_eq!(target("name: FIXED_LOG_LINE, target: \"echo\", \"x\""), Some("echo"));
    assert_eq!(log_statements("compile_error!(\"x\");"), [""; 0]);
}
