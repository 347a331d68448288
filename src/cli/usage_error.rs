//! Advice in usage errors: the option that matches an option of a comparable tool, the spelling of an optional value, and the place of a
//! target. Also removes tokens and passwords in URLs from errors.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// Options of ping, irtt, iperf3, sockperf and similar tools, the subcommands to which the advice applies, and the advice.
const WELL_KNOWN_OPTIONS: &[(&[&str], Scope, &str)] = &[
    (
        &[
            "--host",
            "--target",
            "--server",
            "--client",
            "--address",
            "--addr",
            "--url",
            "--dest",
            "--destination",
            "--remote",
            "--ip",
        ],
        Scope::Clients,
        "give the target as --to HOST[:PORT]",
    ),
    (&["-p", "--port"], Scope::Clients, "give the port with the target: --to HOST:PORT"),
    (
        &["-t", "-w", "-d", "--time", "--deadline", "--runtime", "--seconds"],
        Scope::Clients,
        "to limit the time, give --duration 10s",
    ),
    (
        &["-n", "--packets", "--num", "--number", "--pings", "--requests"],
        Scope::Clients,
        "to limit the number of packets, give --count N",
    ),
    (&["-W", "--wait", "--wait-time"], Scope::Clients, "for the maximum wait for missing replies, give --timeout 2s"),
    (
        &["-s", "-l", "--length", "--len", "--packet-size", "--packetsize", "--payload", "--bytes", "--msg-size"],
        Scope::Probe,
        "for the payload size, give --audio --size BYTES",
    ),
    (
        &[
            "-s",
            "-l",
            "--size",
            "--length",
            "--len",
            "--packet-size",
            "--packetsize",
            "--payload",
            "--bytes",
            "--msg-size",
        ],
        Scope::Send,
        "the packet length follows from --frame-size SAMPLES",
    ),
    (&["--rate", "--pps", "--mps", "--frequency"], Scope::Probe, "for the packet rate, give --interval 10ms"),
    (&["--rate", "--pps", "--mps", "--frequency"], Scope::Send, "the packet rate follows from --frame-size SAMPLES"),
    (
        &["-Q", "-S", "--tos", "--qos", "--diffserv", "--traffic-class"],
        Scope::Clients,
        "for the DSCP class, give --dscp CLASS",
    ),
    (
        &["-I", "-B", "--source", "--local", "--local-address", "--interface", "--bind-address", "--cport"],
        Scope::Clients,
        "for the local address, give --bind ADDRESS",
    ),
    (&["--v4", "--inet", "--inet4", "--version4"], Scope::Clients, "for IPv4 only, give -4"),
    (&["--v6", "--inet6", "--version6"], Scope::Clients, "for IPv6 only, give -6"),
    (
        &["-o", "--output", "--logfile", "--file-output"],
        Scope::Clients,
        "for report files, give --junit FILE or --markdown FILE, or redirect --json",
    ),
    (
        &["-J", "--json-stream", "--format"],
        Scope::Clients,
        "for a machine-readable report, give --json or --json-lines",
    ),
    (&["--silent", "--no-progress"], Scope::Clients, "to print only the report, give --quiet"),
    (&["-v", "--verbose"], Scope::Clients, "to print a line for each packet, give --json-lines"),
    (
        &["-f", "-F", "--file", "--input", "--input-file"],
        Scope::Send,
        "give the WAV file as the argument: send FILE --to HOST",
    ),
    (&["--loop"], Scope::Send, "to send the file more than once, give --repeat N or --repeat forever"),
    (&["--sine", "--freq"], Scope::Send, "for a sine tone, give --tone HZ"),
    (
        &["-b", "--bind", "--listen", "--address", "--addr", "--interface"],
        Scope::Servers,
        "for the listen address, give --host ADDRESS",
    ),
    (&["--latency"], Scope::Echo, "for the delay of the echo, give --delay MS"),
    (&["--packet-loss", "--drop"], Scope::Echo, "to drop replies at random, give --loss PERCENT"),
    (&["--prometheus", "--metrics-port"], Scope::Echo, "for Prometheus metrics, give --metrics [ADDR:]PORT"),
];

/// The subcommands to which advice applies.
#[derive(Clone, Copy)]
enum Scope {
    Clients,
    Probe,
    Send,
    Echo,
    Servers,
}

impl Scope {
    fn contains(self, subcommand: &str) -> bool {
        let names: &[&str] = match self {
            Self::Clients => &["probe", "send"],
            Self::Probe => &["probe"],
            Self::Send => &["send"],
            Self::Echo => &["echo-server"],
            Self::Servers => &["echo-server", "signaling-server"],
        };
        names.contains(&subcommand)
    }
}

/// Adds advice to a usage error, and removes tokens and passwords in URLs. `arguments` is the command line.
pub fn with_advice(mut error: Error, cli: &Command, arguments: &[OsString]) -> Error {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let subcommand = words.iter().find_map(|word| cli.find_subcommand(word));
    if let Some(advice) = subcommand.and_then(|subcommand| advice(&error, subcommand, &words)) {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(advice)]));
    }
    let mut is_target = false;
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = if is_target { target_without_secrets(text) } else { without_secrets(text) };
            // The value of an option with this value name is a target.
            is_target = text.contains("HOST");
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

fn advice(error: &Error, subcommand: &Command, words: &[&str]) -> Option<String> {
    if let Some(advice) = subcommand.get_arguments().find_map(|arg| misplaced_value_advice(arg, words)) {
        return Some(advice);
    }
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    let name = subcommand.get_name();
    if !word.starts_with('-') {
        let has_target = words.iter().any(|word| *word == "--to" || word.starts_with("--to="));
        return (name == "send" && !has_target).then(|| format!("give the target as --to {}", without_secrets(word)));
    }
    let found =
        WELL_KNOWN_OPTIONS.iter().find(|(options, scope, _)| scope.contains(name) && options.contains(&&**word));
    found.map(|(.., advice)| (*advice).to_owned())
}

/// If the value of an option needs an equals sign but follows as a separate word, returns the right spelling.
fn misplaced_value_advice(arg: &Arg, words: &[&str]) -> Option<String> {
    let option = arg.get_long().filter(|_| arg.is_require_equals_set()).map(|long| format!("--{long}"))?;
    let value = words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1])?;
    let is_value = arg.get_possible_values().iter().any(|possible| possible.matches(value, false));
    is_value.then(|| format!("write the value after an equals sign: {option}={value}"))
}

/// A URL without user name, password and query, which may contain secrets.
pub(super) fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.split_once('?').map_or(text.to_owned(), |(start, _)| format!("{start}?..."));
    };
    let (address, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if query.contains('@') {
        // The question mark may be part of a password.
        return format!("{scheme}://...");
    }
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    let ellipsis = if query.is_empty() { "" } else { "?..." };
    format!("{scheme}://{address}{ellipsis}")
}

/// Like [`without_secrets`], for a target that may have no scheme. Words that are no targets, such as file names, may contain `@` and `#`.
fn target_without_secrets(text: &str) -> String {
    if text.contains("://") {
        return without_secrets(text);
    }
    without_secrets(&format!("udp://{text}")).split_off("udp://".len())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn secrets_are_removed_from_urls() {
        for (text, shown) in [
            ("ws://h/rooms/r?token=secret", "ws://h/rooms/r?..."),
            ("wss://h?token=secret", "wss://h?..."),
            ("wss://me:secret@h:8443/x#secret", "wss://h:8443/x?..."),
            ("wss://me:sec/ret@h/x", "wss://h/x"),
            ("wss://me:sec?ret@h/x", "wss://..."),
            ("moqt://h/echo", "moqt://h/echo"),
            ("host?token=secret", "host?..."),
            ("host:1", "host:1"),
        ] {
            assert_eq!(without_secrets(text), shown);
            assert_eq!(target_without_secrets(text), shown);
        }
        for (text, shown) in [("me:secret@h:1", "h:1"), ("h#secret", "h?..."), ("me:sec?ret@h", "...")] {
            assert_eq!(target_without_secrets(text), shown);
        }
    }

    #[test]
    fn advice_names_only_existing_options_of_the_subcommand() {
        let mut cli = Cli::command();
        cli.build();
        for (options, scope, advice) in WELL_KNOWN_OPTIONS {
            for subcommand in cli.get_subcommands().filter(|subcommand| scope.contains(subcommand.get_name())) {
                let known = |word: &str| {
                    subcommand.get_arguments().any(|arg| {
                        arg.get_long().is_some_and(|long| word == format!("--{long}"))
                            || arg.get_short().is_some_and(|short| word == format!("-{short}"))
                    })
                };
                let name = subcommand.get_name();
                for option in *options {
                    assert!(!known(option), "{name} {option} exists");
                }
                for word in advice.split([' ', ',', ':']).filter(|word| word.starts_with('-')) {
                    assert!(known(word), "{name} has no {word}: {advice}");
                }
            }
        }
    }
}
