//! `--generate`: the man page and the shell completions, generated from the options.

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use super::completions;
use super::output::{Failure, print};

/// Documents generated from the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generate {
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
    /// Prints the document for the options of `cli`.
    pub(crate) fn print(self, cli: Command) -> Result<u8, Failure> {
        let text = match self {
            Self::Man => man(cli)?,
            Self::CompleteBash => completions::script(Shell::Bash, cli)?,
            Self::CompleteZsh => completions::script(Shell::Zsh, cli)?,
            Self::CompleteFish => completions::script(Shell::Fish, cli)?,
        };
        print(text.trim_end())?;
        Ok(0)
    }
}

/// Exit codes and their meaning, for the man page.
const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "send, probe: all limits were met or, without limits, replies were received. Servers: stopped by a signal."),
    ("1", "A limit was exceeded, a check failed, a packet came back damaged, or packets were sent and none returned."),
    ("2", "Usage error."),
    (
        "3",
        "A file, device, host name or socket cannot be used, or no packet could be sent because the connection failed.",
    ),
    ("4", "Not measured: a limit could not be judged, this host was too busy, or no client of --check did anything."),
    (
        "129, 130, 143",
        "Interrupted by SIGHUP, SIGINT or SIGTERM. send and probe print the report so far if they have started to send. Servers end with \
         these codes only during startup or at a second signal.",
    ),
];

/// Environment variables that do not correspond to an option.
const VARIABLES: [(&str, &str); 2] = [
    ("NO_COLOR", "Disables colors if set and not empty."),
    (
        "RUST_LOG",
        "Log levels of the servers: trace, debug, info, warn, error or off. TARGET=LEVEL pairs are also valid, such as \
         warn,echo=debug. --verbose overrides this variable.",
    ),
];

const EXAMPLES: [(&str, &str); 9] = [
    ("Return the audio of a client after one second:", "jamjam-dev echo-server --delay 1000"),
    ("Imitate a bad network:", "jamjam-dev echo-server --loss 1% --jitter 5"),
    ("Try it on one machine:", "jamjam-dev send --tone 440 --duration 2 --embedded"),
    (
        "Send a recording and record the returned audio:",
        "jamjam-dev send take.wav --to echo.example.org --record returned.wav",
    ),
    ("Check this machine without a network:", "jamjam-dev probe --embedded"),
    ("Fail if a path drops packets or is slow:", "jamjam-dev probe echo.example.org --max-loss 0 --max-p99 5"),
    ("Let clients on this machine meet:", "jamjam-dev signaling-server --host 127.0.0.1"),
    ("Serve wss:// and https://:", "jamjam-dev signaling-server --cert chain.pem --key key.pem"),
    ("Put a bad network between two programs:", "jamjam-dev relay 4000 192.0.2.7:5000 --network wifi-bad"),
];

/// Adds the examples of a subcommand to its help, after the exit codes if the help `is_complete`.
pub(crate) fn with_examples(command: Command, is_complete: bool) -> Command {
    let start = format!("jamjam-dev {} ", command.get_name());
    let lines = EXAMPLES.iter().map(|(_, line)| *line).filter(|line| line.starts_with(&start));
    let examples = format!("Examples: {}", lines.collect::<Vec<_>>().join("\n          "));
    if !is_complete {
        return command.after_help(format!("{examples}\nAll options: {start}--help"));
    }
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code}: {meaning}\n")).concat();
    command.after_help(format!("Exit codes:\n{codes}\n{examples}"))
}

/// One man page for all subcommands.
fn man(cli: Command) -> anyhow::Result<String> {
    let mut cli = cli.disable_help_subcommand(true);
    cli.build();
    let about = cli.get_about().map(ToString::to_string).unwrap_or_default();
    let version = format!("jamjam-dev {}", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    // The third argument of `TH` is the date of the man page. The date argument is a space, because a date would make builds
    // irreproducible. Without the space, the next argument would be used as the date.
    page.control("TH", ["jamjam-dev", "1", " ", &version, "User Commands"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("jamjam-dev - {}", about.trim_end_matches('.')))]);
    page.control("SH", ["SYNOPSIS"]);
    for subcommand in cli.get_subcommands() {
        page.text([bold(format!("jamjam-dev {}", subcommand.get_name())), roman(" [OPTION]...")]);
        page.control("br", []);
    }
    page.text([bold("jamjam-dev --generate"), roman(" KIND")]);
    page.control("SH", ["DESCRIPTION"]);
    for subcommand in cli.get_subcommands() {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        tagged_paragraph(&mut page, &format!("jamjam-dev {}", subcommand.get_name()), &format!("{about}."));
    }
    let mut text = page.render();
    text += &options(&cli, &[])?;
    for subcommand in cli.get_subcommands() {
        let title = format!("jamjam-dev {}", subcommand.get_name()).to_uppercase();
        text += &Roff::new().control("SH", [title.as_str()]).to_roff();
        text += &options(subcommand, &["help", "color"])?;
    }
    text += &final_sections(&cli).to_roff();
    Ok(text)
}

/// The options of `command` except `hidden`, with one subsection per help heading.
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
    // Skip the macro definitions at the start of each rendered part. The top of the page already contains these definitions.
    let preamble = |line: &&str| line.starts_with(".ie ") || line.starts_with(".el ");
    for line in String::from_utf8(rendered)?.lines().skip_while(preamble) {
        if let Some(upper) = line.strip_prefix(".SH ").filter(|_| subordinate) {
            // Help headings become subsections, spelled as in `--help`.
            let upper = upper.trim_matches('"');
            let heading = headings.iter().find(|heading| heading.to_uppercase() == upper);
            text += &Roff::new().control("SS", [heading.map_or("General", String::as_str)]).to_roff();
        } else {
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

fn final_sections(cli: &Command) -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        tagged_paragraph(&mut page, code, meaning);
    }
    page.control("SH", ["ENVIRONMENT"]);
    for subcommand in cli.get_subcommands() {
        for arg in subcommand.get_arguments() {
            if let (Some(variable), Some(option)) = (arg.get_env(), arg.get_long()) {
                let name = subcommand.get_name();
                let meaning = match arg.get_help().filter(|_| arg.is_hide_set()) {
                    Some(help) => format!("{help} ({name})."),
                    None => format!("Sets --{option} of {name}."),
                };
                tagged_paragraph(&mut page, &variable.to_string_lossy(), &meaning);
            }
        }
    }
    for (variable, meaning) in VARIABLES {
        tagged_paragraph(&mut page, variable, meaning);
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

/// A tagged paragraph: a term and its definition.
fn tagged_paragraph(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term)]);
    page.text([roman(meaning)]);
}
