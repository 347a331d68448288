//! `--generate`: the man page and the completions of shells, made from the options themselves.

use std::io;

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use super::output::print;
use super::{Cli, Failure};

/// What can be made from the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// The man page, jamjam-dev.1
    Man,
    /// Completions for bash
    CompleteBash,
    /// Completions for zsh
    CompleteZsh,
    /// Completions for fish
    CompleteFish,
}

impl Generate {
    /// Prints it.
    pub fn print(self) -> Result<u8, Failure> {
        let text = self.text().map_err(Failure::unusable)?;
        print(&mut io::stdout().lock(), text.trim_end()).map_err(Failure::unusable)?;
        Ok(0)
    }

    /// The whole text.
    pub fn text(self) -> anyhow::Result<String> {
        let mut cli = Cli::command();
        let shell = match self {
            Self::Man => return man(cli),
            Self::CompleteBash => Shell::Bash,
            Self::CompleteZsh => Shell::Zsh,
            Self::CompleteFish => Shell::Fish,
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli, "jamjam-dev", &mut text);
        let text = String::from_utf8(text)?;
        // clap_complete 4.6 spells the hyphen of a program's name in two ways in bash, and then finds no subcommand.
        Ok(text.replace("jamjam__subcmd__dev", "jamjam__dev"))
    }
}

/// What an exit code means. The pages of the subcommands say more.
const EXIT_CODES: [(&str, &str); 5] = [
    (
        "0",
        "All well: every limit was kept; without limits: something came back. A server: stopped by SIGINT or SIGTERM.",
    ),
    ("1", "A limit was broken, bytes came back damaged, or nothing was heard."),
    ("2", "Wrong usage."),
    ("3", "A file, name or socket cannot be used (also: a port in use)."),
    ("130, 143", "send or probe was interrupted by SIGINT or SIGTERM; the report so far is printed."),
];

/// Variables that no option names.
const VARIABLES: [(&str, &str); 2] = [
    ("NO_COLOR", "If set and not empty: no colours."),
    ("RUST_LOG", "Log level of the servers: trace, debug, info, warn, error or off. --verbose wins."),
];

const EXAMPLES: [(&str, &str); 4] = [
    ("Try it without any other machine:", "jamjam-dev send --tone 440 --duration 2s --embedded"),
    ("Return what a client sends, a second later:", "jamjam-dev echo-server --delay 1000"),
    (
        "Fail when a path loses anything or is slow:",
        "jamjam-dev probe --to echo.example.org --max-loss 0% --max-p99 5ms",
    ),
    (
        "Play a recording and keep what comes back:",
        "jamjam-dev send --wav take.wav --to echo.example.org --record returned.wav",
    ),
];

/// One page for all subcommands: what a person looks for with `man jamjam-dev`.
fn man(cli: Command) -> anyhow::Result<String> {
    let mut cli = cli.disable_help_subcommand(true);
    cli.build();
    let about = cli.get_about().map(ToString::to_string).unwrap_or_default();
    let version = format!("jamjam-dev {}", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    // No date: it would be that of the build. A blank keeps its place, which nothing at all would not.
    page.control("TH", ["jamjam-dev", "1", " ", &version, "User Commands"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("jamjam-dev - {}", about.trim_end_matches('.')))]);
    page.control("SH", ["SYNOPSIS"]);
    for subcommand in cli.get_subcommands() {
        page.text([bold(format!("jamjam-dev {}", subcommand.get_name())), roman(" [OPTION]...")]);
        page.control("br", []);
    }
    page.text([bold("jamjam-dev --generate"), roman(" WHAT")]);
    page.control("SH", ["DESCRIPTION"]);
    for subcommand in cli.get_subcommands() {
        let does = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        entry(&mut page, &format!("jamjam-dev {}", subcommand.get_name()), &format!("{does}."));
    }
    let mut text = page.render();
    text += &options(&cli, &[])?;
    for subcommand in cli.get_subcommands() {
        let title = format!("jamjam-dev {}", subcommand.get_name()).to_uppercase();
        text += &Roff::new().control("SH", [title.as_str()]).to_roff();
        text += &options(subcommand, &["help", "colour"])?;
    }
    text += &closing(&cli).to_roff();
    Ok(text)
}

/// The options of `command` but those that every subcommand has, a part of the page for each heading.
fn options(command: &Command, hidden: &[&str]) -> anyhow::Result<String> {
    let mut command = command.clone();
    for id in hidden {
        command = command.mut_arg(id, |arg| arg.hide(true));
    }
    let headings: Vec<String> =
        command.get_arguments().filter_map(|arg| arg.get_help_heading()).map(str::to_owned).collect();
    let subordinate = command.get_subcommands().next().is_none();
    let mut rendered = Vec::new();
    Man::new(command).render_options_section(&mut rendered)?;
    let mut text = String::new();
    // Each part would begin with the definitions that the page has at its top.
    let preamble = |line: &&str| line.starts_with(".ie ") || line.starts_with(".el ");
    for line in String::from_utf8(rendered)?.lines().skip_while(preamble) {
        if let Some(shouted) = line.strip_prefix(".SH ").filter(|_| subordinate) {
            // The page's own headings are those of the subcommands; these go one level down, as `--help` writes them.
            let shouted = shouted.trim_matches('"');
            let heading = headings.iter().find(|heading| heading.to_uppercase() == shouted);
            text += &Roff::new().control("SS", [heading.map_or("General", String::as_str)]).to_roff();
        } else {
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

fn closing(cli: &Command) -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        entry(&mut page, code, meaning);
    }
    page.control("SH", ["ENVIRONMENT"]);
    for subcommand in cli.get_subcommands() {
        for arg in subcommand.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if let (Some(variable), Some(option)) = (arg.get_env(), arg.get_long()) {
                let meaning = format!("As --{option} of {}.", subcommand.get_name());
                entry(&mut page, &variable.to_string_lossy(), &meaning);
            }
        }
    }
    for (variable, meaning) in VARIABLES {
        entry(&mut page, variable, meaning);
    }
    page.control("SH", ["EXAMPLES"]);
    for (purpose, line) in EXAMPLES {
        page.control("PP", []);
        page.text([roman(purpose)]);
        page.control("PP", []);
        page.control("RS", ["4"]);
        page.text([bold(line)]);
        page.control("RE", []);
    }
    page
}

/// A term and what it means.
fn entry(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term)]);
    page.text([roman(meaning)]);
}
