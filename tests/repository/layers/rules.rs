//! The rules for layers, for paths that only I/O modules may use, and for file names.

/// The top-level modules, the lowest layer first. A module uses only modules of lower layers, and no other module of its own layer. A new
/// module must be added here.
pub(crate) const LAYERS: &[&[&str]] = &[
    &["time"],
    &["node", "units", "address", "sanitize"],
    &["rate_limit", "log_throttle", "memory_budget"],
    &["wire", "stats"],
    &["audio", "impairment", "link", "moqt"],
    &["echo", "signaling"],
    &["client"],
    &["report"],
    &["io"],
    &["testing"],
    &["cli"],
    &["main"],
];

/// The modules that use clocks, files, sockets, threads, the environment and entropy. All other modules are pure.
const IO_MODULES: &[&str] = &["io", "testing", "cli", "main"];

/// Paths that a pure module may not use, with everything below them.
const IO_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::ToSocketAddrs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    // A source of entropy. The iteration order of a map with a `RandomState` differs from run to run.
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    // Crates that perform I/O. If only some functions of a crate perform I/O, only these functions are listed.
    "alsa",
    "cpal",
    "getrandom",
    "indicatif",
    "mio",
    "nix",
    "quinn",
    "quinn_udp",
    "rand",
    "rcgen",
    "rustix",
    "socket2",
    "tokio",
    "tracing_subscriber",
    "hound::WavReader::open",
    "hound::WavWriter::append",
    "hound::WavWriter::create",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "jiff::tz::TimeZone::system",
];

/// Macros that print. Code usually calls these macros without a path. Therefore, this list contains names instead of paths.
const PRINT_MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// Crates that only `cli` and `main` may use.
const CLI_CRATES: &[&str] = &["anyhow", "clap"];

/// Words that are too general for the name of a file.
const UNSPECIFIC: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Maximum number of lines in a file. Longer files need a reason in `docs/ARCHITECTURE.md`.
pub(crate) const MAX_LINES: usize = 700;

/// Why `module` may not use the absolute path `path` (`std::fs::File`, `crate::io::udp`), or `None` if it may.
/// `glob` is set if everything directly below the path was imported.
pub(crate) fn violation(module: &str, path: &[String], glob: bool) -> Option<String> {
    let performs_io = IO_MODULES.contains(&module);
    let reached = |what: &&&str| {
        let what: Vec<&str> = what.split("::").collect();
        let shared = what.len().min(path.len());
        // A glob import of the parent module (`use parent::*`) also imports the item. The path of such an import does not contain the
        // item's name.
        what[..shared] == path[..shared] && (path.len() >= what.len() || glob)
    };
    if !performs_io && let Some(what) = IO_PATHS.iter().find(reached) {
        return Some(format!("a pure module uses {what}"));
    }
    if !["cli", "main"].contains(&module)
        && let Some(what) = CLI_CRATES.iter().find(reached)
    {
        return Some(format!("only cli and main may use {what}"));
    }
    // In `main.rs`, `crate` does not refer to the library: the path of the library is `jamjam_dev`.
    if path[0] != "jamjam_dev" && (path[0] != "crate" || module == "main") {
        return None;
    }
    let Some(other) = path.get(1) else {
        return glob.then(|| "a glob of the crate hides which module is used".to_owned());
    };
    let (Some(from), Some(to)) = (layer(module), layer(other)) else {
        return Some(format!("{module} or {other} is unknown: add it to tests/repository/layers/rules.rs"));
    };
    (to >= from && other != module).then(|| format!("import of a higher or sibling layer: {module} uses {other}"))
}

/// Why `module` may not call the macro named `path`, or `None` if it may.
pub(crate) fn macro_violation(module: &str, path: &[String]) -> Option<String> {
    let name = match path {
        [name] => name,
        [first, name] if first == "std" => name,
        // Macros such as `std::env!` have the same name as an I/O module, but perform no I/O.
        [first, ..] if first == "std" => return None,
        _ => return violation(module, path, false),
    };
    let prints = PRINT_MACROS.contains(&name.as_str()) && !IO_MODULES.contains(&module);
    prints.then(|| format!("a pure module prints ({name}!)"))
}

/// Checks `stem`, the name of a file or folder under `src/` without its extension. Returns the reason why this name is not allowed, or
/// `None` if it is allowed.
pub(crate) fn name_violation(stem: &str) -> Option<String> {
    let unspecific = stem.split('_').find(|word| UNSPECIFIC.contains(word))?;
    Some(format!("\"{unspecific}\" is not a specific name"))
}

/// The index of the layer of `module`. `lib.rs` is the lowest: it declares modules and uses none.
fn layer(module: &str) -> Option<usize> {
    if module == "lib" {
        return Some(0);
    }
    LAYERS.iter().position(|layer| layer.contains(&module))
}
