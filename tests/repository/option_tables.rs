//! `docs/options.md` lists each option of the five subcommands once. The tables are generated from the options themselves:
//! `UPDATE_DOCS=1 cargo test --test repository option_tables` rewrites them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory};
use jamjam_dev::cli::Cli;

use test_support::repository_files;

const SUBCOMMANDS: [&str; 5] = ["echo-server", "signaling-server", "send", "probe", "relay"];

/// An option, as each subcommand that has the option states it.
struct Documented<'a> {
    name: String,
    heading: &'a str,
    statements: Vec<(&'a str, Statement)>,
}

/// What one subcommand states about an option.
struct Statement {
    option: String,
    meaning: String,
    default: String,
    environment: String,
}

/// Heading of the settings that are no options.
const VARIABLES: &str = "Environment variables that are no options";

/// Whether an argument is an option, or a setting that only the environment has.
fn is_documented(arg: &Arg) -> bool {
    !arg.is_hide_set() || arg.get_env().is_some()
}

/// The options of all subcommands in the order of `--help`. An option's heading is that of the first subcommand that has the option.
fn documented(cli: &Command) -> Vec<Documented<'_>> {
    let mut options: Vec<Documented> = Vec::new();
    for subcommand in SUBCOMMANDS {
        let command = cli.find_subcommand(subcommand).unwrap();
        let is_shown = |arg: &&Arg| is_documented(arg) && !matches!(arg.get_id().as_str(), "help" | "version");
        for arg in command.get_arguments().filter(is_shown) {
            let name = arg.get_long().map_or_else(|| value_name(arg).to_owned(), |long| format!("--{long}"));
            let mut statement = (subcommand, statement(arg));
            if let Some(option) = options.iter_mut().find(|option| option.name == name) {
                option.statements.push(statement);
                continue;
            }
            let mut heading = arg.get_help_heading().unwrap_or("General");
            if arg.is_hide_set() {
                heading = VARIABLES;
                statement.1.option = std::mem::take(&mut statement.1.environment);
            }
            options.push(Documented { name, heading, statements: vec![statement] });
        }
    }
    options
}

/// The tables of all options, one for each heading.
fn tables(cli: &Command) -> String {
    let options = documented(cli);
    let mut headings: Vec<&str> = Vec::new();
    for option in &options {
        if !headings.contains(&option.heading) {
            headings.push(option.heading);
        }
    }
    let mut text = String::new();
    headings.sort_by_key(|heading| *heading == VARIABLES);
    for heading in headings {
        // Writing to a string cannot fail.
        _ = write!(text, "\n## {heading}\n\n|option|subcommands|meaning|default|environment|\n|---|---|---|---|---|\n");
        options.iter().filter(|option| option.heading == heading).for_each(|option| text += &row(option));
    }
    text
}

fn row(option: &Documented) -> String {
    let subcommands: Vec<&str> = option.statements.iter().map(|(subcommand, _)| *subcommand).collect();
    let subcommands = if subcommands == SUBCOMMANDS { "all".to_owned() } else { subcommands.join(", ") };
    let cells = [
        merged(option, |statement| &statement.option),
        subcommands,
        merged(option, |statement| &statement.meaning),
        merged(option, |statement| &statement.default),
        merged(option, |statement| &statement.environment),
    ];
    // A vertical bar would end the cell, even in code.
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("|{}|\n", cells.join("|"))
}

/// A part of the statements. If subcommands differ, each variant is on its own line, after the subcommands that state it.
fn merged(option: &Documented, part: fn(&Statement) -> &String) -> String {
    let mut variants: Vec<(&String, Vec<&str>)> = Vec::new();
    for (subcommand, statement) in &option.statements {
        let text = part(statement);
        match variants.iter_mut().find(|(stated, _)| *stated == text) {
            Some((_, subcommands)) => subcommands.push(subcommand),
            None => variants.push((text, vec![subcommand])),
        }
    }
    if let [(text, _)] = &variants[..] {
        return (*text).clone();
    }
    let stated = variants.iter().filter(|(text, _)| !text.is_empty());
    stated.map(|(text, having)| format!("{}: {text}", having.join(", "))).collect::<Vec<_>>().join("<br>")
}

fn statement(arg: &Arg) -> Statement {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // If clap does not know an option's default, the option's help text ends with the default.
    let (meaning, reported) = match help.split_once(" [default") {
        Some((meaning, reported)) => {
            let reported = reported.trim_end_matches(']');
            (meaning.to_owned(), Some(reported.replacen(" of ", "with ", 1).trim_start_matches(": ").to_owned()))
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
    let environment = arg.get_env().and_then(|name| name.to_str()).map(|name| format!("`{name}`"));
    Statement {
        option: format!("`{}`", option(arg, takes_value)),
        meaning: meaning + &choice,
        default: default.unwrap_or_default(),
        environment: environment.unwrap_or_default(),
    }
}

fn value_name(arg: &Arg) -> &str {
    arg.get_value_names().map_or("", |names| names[0].as_str())
}

/// `-p, --port <PORT>`, or `[FILE]` for a positional argument.
fn option(arg: &Arg, takes_value: bool) -> String {
    let Some(long) = arg.get_long() else { return format!("[{}]", value_name(arg)) };
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = arg.get_value_names().filter(|_| takes_value).map(|names| format!(" <{}>", names[0]));
    format!("{short}--{long}{}", value.unwrap_or_default())
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

const MARKERS: [&str; 2] = ["<!-- options:begin -->\n", "<!-- options:end -->\n"];

/// The page with the text between its markers replaced.
fn with_tables(page: &str, tables: &str) -> String {
    let [begin, end] = MARKERS;
    let (before, rest) = page.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}{tables}\n{end}{after}")
}

#[test]
fn option_tables_in_the_docs_match_clap() {
    let mut cli = Cli::command();
    cli.build();
    let names: BTreeSet<_> = cli.get_subcommands().map(Command::get_name).filter(|name| *name != "help").collect();
    assert_eq!(names, BTreeSet::from(SUBCOMMANDS), "the page lists the options of each subcommand");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let fresh = with_tables(&page, &tables(&cli));
    if page != fresh && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, fresh).unwrap();
        return;
    }
    assert!(page == fresh, "docs/options.md is stale: UPDATE_DOCS=1 cargo test --test repository option_tables");
}

/// Options of cargo, Docker and a benchmark, and the beginnings of groups of names.
const OTHER_OPTIONS: [&str; 6] =
    ["no-default-features", "network", "no-healthcheck", "impaired", "max-", "rate-limit-"];

#[test]
fn options_named_in_texts_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cli = Cli::command();
    cli.build();
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
