//! The option tables in `docs/` are generated from the options themselves. `UPDATE_DOCS=1 cargo test --test repository option_tables`
//! rewrites the tables.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};
use jamjam_dev::cli::Cli;

use crate::repository_files;

const SUBCOMMANDS: [&str; 4] = ["echo-server", "send", "probe", "signaling-server"];

/// The tables of one subcommand, one for each heading in the order of `--help`.
fn tables(command: &Command) -> String {
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in &shown {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    let mut text = String::new();
    for heading in headings {
        let arguments = shown.iter().filter(|arg| arg.get_help_heading() == heading);
        // Writing to a string cannot fail.
        _ = write!(text, "\n### {}\n\n| option | meaning | default | environment |\n", heading.unwrap_or("General"));
        text += "| --- | --- | --- | --- |\n";
        arguments.for_each(|arg| text += &row(arg));
    }
    text
}

fn row(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // If clap does not know an option's default, the option's help text contains the default.
    let (meaning, reported) = match help.split_once(" [default: ") {
        Some((meaning, reported)) => (meaning.to_owned(), reported.strip_suffix(']').map(str::to_owned)),
        None => (help, None),
    };
    let values = arg.get_possible_values();
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let choice = if takes_value && !values.is_empty() { format!(": {}", choices(&values)) } else { String::new() };
    let default = reported.or_else(|| {
        let default = arg.get_default_values().first().filter(|_| takes_value)?;
        Some(format!("`{}`", default.to_str()?))
    });
    let environment = arg.get_env().and_then(|name| name.to_str()).map(|name| format!("`{name}`"));
    let cells = [
        format!("`{}`", option(arg, takes_value)),
        meaning + &choice,
        default.unwrap_or_default(),
        environment.unwrap_or_default(),
    ];
    // A vertical bar would end the cell, even in code.
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

/// `-p, --port <PORT>`, or `[FILE]` for a positional argument.
fn option(arg: &Arg, takes_value: bool) -> String {
    let value_name = || arg.get_value_names().map_or("", |names| names[0].as_str());
    let Some(long) = arg.get_long() else { return format!("[{}]", value_name()) };
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = arg.get_value_names().filter(|_| takes_value).map(|names| format!(" <{}>", names[0]));
    format!("{short}--{long}{}", value.unwrap_or_default())
}

/// The values in the form "`auto` (on a terminal), `never`". If the description of a value equals the value, the description is omitted.
/// The first letter of a description becomes lower case. If the first word contains another capital letter, as in `JSON`, the word stays
/// unchanged.
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

fn markers(subcommand: &str) -> [String; 2] {
    ["begin", "end"].map(|edge| format!("<!-- options:{subcommand}:{edge} -->\n"))
}

/// The page with the text between its markers replaced.
fn with_tables(page: &str, subcommand: &str, tables: &str) -> String {
    let [begin, end] = markers(subcommand);
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}{tables}\n{end}{after}")
}

#[test]
fn option_tables_in_the_docs_match_clap() {
    let mut cli = Cli::command();
    cli.build();
    let names: Vec<_> = cli.get_subcommands().map(Command::get_name).filter(|name| *name != "help").collect();
    assert_eq!(names, SUBCOMMANDS, "each subcommand has a page");
    let mut stale = Vec::new();
    for subcommand in SUBCOMMANDS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{subcommand}.md"));
        let page = std::fs::read_to_string(&file).unwrap();
        let fresh = with_tables(&page, subcommand, &tables(cli.find_subcommand(subcommand).unwrap()));
        if page == fresh {
            continue;
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, fresh).unwrap();
        } else {
            stale.push(subcommand);
        }
    }
    assert!(
        stale.is_empty(),
        "stale pages: {stale:?}; rewrite them with UPDATE_DOCS=1 cargo test --test repository option_tables"
    );
}

/// Options of cargo, Docker and a benchmark, and the beginning of a group of names.
const OTHER_OPTIONS: [&str; 5] = ["no-default-features", "network", "no-healthcheck", "impaired", "max-"];

#[test]
fn options_named_in_texts_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cli = Cli::command();
    cli.build();
    let commands = || cli.get_subcommands().chain([&cli]);
    let known: BTreeSet<&str> = commands().flat_map(Command::get_arguments).filter_map(Arg::get_long).collect();
    let mut files = vec![root.join("README.md")];
    for extension in ["md", "rs", "html", "js"] {
        repository_files::files(&root.join("docs"), extension, &mut files);
        repository_files::files(&root.join("src"), extension, &mut files);
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
