//! Mistakes on the command line: each has its exit code and a message with the remedy, before a packet leaves or a file changes.

use std::fs;
use std::path::Path;

use test_support::client::{Server, command, start, together};
use test_support::snapshot;

/// The table contains command lines, each with its exit code and message after an arrow. Add a line there, and `UPDATE_SNAPSHOTS=1` adds the
/// message. `TO` stands for a server that must receive nothing, `FILE` and `LINK` for two names of a file that must stay as it is, `FOLDER`
/// for its folder, `PORT` for the first four digits of free ports, `''` for an empty argument, and `_` for a space within an argument.
/// Variables precede the command.
#[test]
fn each_mistake_has_the_exit_code_and_message_of_the_table() {
    let (server, folder) = (Server::correct(), tempfile::tempdir().unwrap());
    let [file, link] = ["file.toml", "link"].map(|name| folder.path().join(name));
    fs::write(&file, "a secret").unwrap();
    fs::hard_link(&file, &link).unwrap();
    let at = folder.path().display().to_string();
    // No system assigns these ports by itself.
    let port = (2_800 + std::process::id() % 200).to_string();
    let [file_name, link_name] = ["file.toml", "link"].map(|name| format!("{at}/{name}"));
    let names = [("TO", server.to()), ("FILE", file_name), ("LINK", link_name), ("FOLDER", at), ("PORT", port)];
    let argument = |word: &str| match word {
        "''" => String::new(),
        _ => names.iter().fold(word.replace('_', " "), |word, (name, value)| word.replace(name, value)),
    };
    let table = snapshot::committed("mistakes");
    let lines = table.lines().map(|line| line.split(" → ").next().unwrap());
    let entries = together(lines, |line| {
        let is_variable = |word: &&str| word.contains('=') && word.starts_with(|first: char| first.is_uppercase());
        let variables = line.split(' ').take_while(is_variable);
        let arguments = line.split(' ').skip_while(is_variable).map(argument);
        let output = start(command(arguments).envs(variables.filter_map(|word| word.split_once('=')))).end();
        assert_eq!(output.stdout, "", "{line}");
        // Clap repeats the usage of the command after each message.
        let message = output.stderr.split("\n\nUsage: ").next().unwrap().split("\n\nFor more").next().unwrap();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = names.iter().fold(message, |message, (name, value)| message.replace(value, name));
        assert!(!message.contains("hunter2"), "{line}: the message contains a password");
        format!("{line} → {} {}\n", output.code, without_resolver_error(&message))
    });
    snapshot::assert_matches("mistakes", &entries.concat());
    assert_eq!(server.received(), []);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a secret");
    for file in ["-", "target/x", "target/none.wav"] {
        assert!(!Path::new(file).exists(), "{file}");
    }
}

/// The message without the reason for which a name has no address. It depends on the system.
fn without_resolver_error(message: &str) -> String {
    match message.split_once("cannot find an address for host `").and_then(|(_, rest)| rest.split_once("`: ")) {
        Some((_, reason)) => message.replace(reason.split(" (HOST from").next().unwrap(), "…"),
        None => message.to_owned(),
    }
}
