//! `docs/options.md` lists the options of each command. The tables are generated from the options themselves:
//! `UPDATE_DOCS=1 cargo test --test repository option_tables` rewrites them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};
use jamjam_dev::cli::Cli;

use test_support::repository_files;

use crate::schema::{assert_page, with_tables};

/// Options of all commands.
const GENERAL: [&str; 2] = ["color", "help"];

/// The options of all commands in the order of `--help`, one section for each command.
fn tables(cli: &Command) -> String {
    let mut text = String::new();
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let (name, about) = (command.get_name(), command.get_about().unwrap());
        // Writing to a string cannot fail.
        _ = write!(text, "\n## {name}\n\n{about}.\n\n|option|meaning|default|environment|\n|---|---|---|---|\n");
        let arguments = command.get_arguments().filter(|arg| !GENERAL.contains(&arg.get_id().as_str()));
        // A hidden argument with a variable is a setting that only the environment has.
        arguments.filter(|arg| !arg.is_hide_set() || arg.get_env().is_some()).for_each(|arg| text += &row(arg));
    }
    text
}

fn row(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // If clap does not know an option's default, the option's help text ends with the default.
    let (meaning, reported) = match help.split_once(" [default") {
        Some((meaning, reported)) => {
            let reported = reported.trim_end_matches(']');
            let condition = reported.strip_prefix(" of ").map(|rest| format!("with {rest}"));
            (meaning.to_owned(), condition.or(Some(reported.trim_start_matches([':', ' ']).to_owned())))
        }
        None => (help, None),
    };
    let values = arg.get_possible_values();
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let choice = if takes_value && !values.is_empty() { format!(": {}", choices(&values)) } else { String::new() };
    let default = reported.or_else(|| {
        let default = arg.get_default_values().first().filter(|_| takes_value)?;
        Some(format!("`{}`", default.to_str()?))
    });
    let variable = arg.get_env().and_then(|name| name.to_str()).map(|name| format!("`{name}`"));
    let option = if arg.is_hide_set() { String::new() } else { format!("`{}`", option(arg)) };
    let cells = [option, meaning + &choice, default.unwrap_or_default(), variable.unwrap_or_default()];
    // A vertical bar would end the cell, even in code.
    format!("|{}|\n", cells.map(|cell| cell.replace('|', "\\|")).join("|"))
}

/// `-p, --port <PORT>`, or `<URL>` for a positional argument, in square brackets if it is optional.
fn option(arg: &Arg) -> String {
    let short = arg.get_short().filter(|_| arg.get_long().is_some()).map(|short| format!("-{short}, "));
    format!("{}{arg}", short.unwrap_or_default())
}

/// The values in the form "`auto` (on a terminal), `never`", without a description that equals its value. A description begins with a lower
/// case letter, unless its first word contains another capital letter, as in `JSON`.
fn choices(values: &[PossibleValue]) -> String {
    let one = |value: &PossibleValue| match value.get_help() {
        Some(help) if !help.to_string().eq_ignore_ascii_case(value.get_name()) => {
            let help = help.to_string();
            let (first, rest) = help.split_at(1);
            let is_name = rest.chars().take_while(|c| *c != ' ').any(char::is_uppercase);
            let first = if is_name { first.to_owned() } else { first.to_ascii_lowercase() };
            format!("`{}` ({first}{rest})", value.get_name())
        }
        _ => format!("`{}`", value.get_name()),
    };
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn cli() -> Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}

#[test]
fn option_tables_in_the_docs_match_clap() {
    assert_page("options.md", |page| with_tables(page, &tables(&cli())));
}

/// Options of cargo, Docker and a benchmark, and the beginnings of groups of names.
const OTHER_OPTIONS: [&str; 6] =
    ["no-default-features", "network", "no-healthcheck", "impaired", "max-", "rate-limit-"];

#[test]
fn options_named_in_texts_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cli = cli();
    let commands = || cli.get_subcommands().chain([&cli]);
    let known: BTreeSet<&str> = commands().flat_map(Command::get_arguments).filter_map(Arg::get_long).collect();
    let mut files = vec![root.join("README.md")];
    for extension in ["md", "rs", "html", "js", "json"] {
        for folder in ["docs", "src", "crates"] {
            repository_files::files(&root.join(folder), extension, &mut files);
        }
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for mention in text.split("`--").skip(1) {
            let name = mention.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
            let exists = known.contains(name) || OTHER_OPTIONS.contains(&name);
            assert!(exists || name.is_empty(), "{}: no option is called --{name}", file.display());
        }
    }
}

/// The words of a command line up to the end of the command, with values for variables.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('|' | '>' | '<' | '&' | ';' | ')' | '`' | '#' | '\n', None) => break,
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    let value = |word: String| match word {
        url if url.contains("URL") && !url.starts_with('-') => "ws://h".to_owned(),
        variable if variable.contains('$') => "1".to_owned(),
        word => word,
    };
    words.into_iter().map(value).collect()
}

#[test]
fn command_lines_in_texts_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cli = cli();
    let mut files = ["README.md", "README.ja.md", "compose.yaml"].map(|file| root.join(file)).to_vec();
    repository_files::files(&root.join("docs"), "md", &mut files);
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().replace("\\\n", " ");
        for line in text.split("jamjam-dev ").skip(1).map(words) {
            if line.first().is_some_and(|name| cli.find_subcommand(name).is_some()) {
                checked += 1;
                let line = std::iter::once("jamjam-dev".to_owned()).chain(line);
                if let Err(error) = cli.clone().try_get_matches_from(line.clone()) {
                    let line: Vec<_> = line.collect();
                    wrong.push(format!("{}: {}: {error}", file.display(), line.join(" ")));
                }
            }
        }
    }
    assert!(checked > 80 && wrong.is_empty(), "{checked}\n{}", wrong.join("\n"));
}
