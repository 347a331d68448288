//! The layer rules: which module may use which, which paths only I/O modules may use, how files are named.

/// The rooms, the lowest floor first: a room uses rooms of lower floors only, and never a neighbour on its own.
/// A room is the first name below `src/`; a new one is given its floor here.
pub(crate) const FLOORS: &[&[&str]] = &[
    &["time"],
    &["node", "units", "address", "sanitize"],
    &["rate_limit", "log_throttle"],
    &["wire", "audio", "stats"],
    &["impairment", "moqt"],
    &["echo", "signaling"],
    &["client"],
    &["report"],
    &["io"],
    &["cli"],
    &["main"],
];

/// The rooms that touch clocks, files, sockets, threads, the environment and entropy. All others are pure.
const ACTING: &[&str] = &["io", "cli", "main"];

/// What a pure room may not reach, with all that lies below it.
const ACTS: &[&str] = &[
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
    // Entropy by another name: a map's order would differ from run to run.
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    // Crates that act, and the acting corners of those that mostly do not.
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

/// Macros that print. They are named bare, so they are a list of their own.
const PRINTS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// What stops at the door: only `cli` and `main` see it.
const DOOR: &[&str] = &["anyhow", "clap"];

/// Words that name no idea.
const NAMELESS: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// The longest file without a reason in `docs/ARCHITECTURE.md`.
pub(crate) const MAX_LINES: usize = 700;

/// Why `room` may not reach the absolute path `path` (`std::fs::File`, `crate::io::udp`), if it may not.
/// `glob` is set if everything directly below the path was imported.
pub(crate) fn objection(room: &str, path: &[String], glob: bool) -> Option<String> {
    let acting = ACTING.contains(&room);
    let reached = |what: &&&str| {
        let what: Vec<&str> = what.split("::").collect();
        let shared = what.len().min(path.len());
        // A glob just above a thing brings it in unnamed.
        what[..shared] == path[..shared] && (path.len() >= what.len() || glob)
    };
    if !acting && let Some(what) = ACTS.iter().find(reached) {
        return Some(format!("a pure room reaches {what}"));
    }
    if !["cli", "main"].contains(&room)
        && let Some(what) = DOOR.iter().find(reached)
    {
        return Some(format!("{what} stops at the door: only cli and main see it"));
    }
    // In the program `crate` is its one file; the library is `jamjam_dev`.
    if path[0] != "jamjam_dev" && (path[0] != "crate" || room == "main") {
        return None;
    }
    let Some(other) = path.get(1) else {
        return glob.then(|| "a glob of the whole crate hides which room is used".to_owned());
    };
    let (Some(from), Some(to)) = (floor(room), floor(other)) else {
        return Some(format!("{room} or {other} is no room: give it a floor in tests/repository/layers/rules.rs"));
    };
    (to >= from && other != room).then(|| format!("an arrow goes up or across: {room} uses {other}"))
}

/// Why `room` may not call the macro named `path`, if it may not.
pub(crate) fn macro_objection(room: &str, path: &[String]) -> Option<String> {
    let name = match path {
        [name] => name,
        [first, name] if first == "std" => name,
        // `std::env!` and the like share a name with a module that acts, and do not act.
        [first, ..] if first == "std" => return None,
        _ => return objection(room, path, false),
    };
    let prints = PRINTS.contains(&name.as_str()) && !ACTING.contains(&room);
    prints.then(|| format!("a pure room prints ({name}!)"))
}

/// Why a file or folder under `src/` may not be called `stem`, if it may not.
pub(crate) fn name_objection(stem: &str) -> Option<String> {
    let nameless = stem.split('_').find(|word| NAMELESS.contains(word))?;
    Some(format!("\"{nameless}\" names no idea"))
}

/// How high `room` lies. The map itself (`lib.rs`) is the ground: it declares rooms and uses none.
fn floor(room: &str) -> Option<usize> {
    if room == "lib" {
        return Some(0);
    }
    FLOORS.iter().position(|floor| floor.contains(&room))
}
