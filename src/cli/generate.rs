//! `jamjam-dev generate`: the man page and the shell completions, generated from the options.

use clap::{Arg, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::completions;
use super::help::{EXAMPLES, EXIT_CODES};
use super::output::{Failure, print};

/// Print the man page or shell completions
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum, value_name = "KIND")]
    kind: Generate,
}

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

impl Args {
    /// Prints the document for the options of `cli`.
    pub(crate) fn run(&self, cli: Command) -> Result<u8, Failure> {
        let text = match self.kind {
            Generate::Man => man(cli)?,
            Generate::CompleteBash => completions::script(Shell::Bash, cli)?,
            Generate::CompleteZsh => completions::script(Shell::Zsh, cli)?,
            Generate::CompleteFish => completions::script(Shell::Fish, cli)?,
        };
        print(text.trim_end())?;
        Ok(0)
    }
}

/// Environment variables that do not correspond to an option.
const VARIABLES: [(&str, &str); 2] = [
    ("NO_COLOR", "Disables colors if set and not empty."),
    (
        "RUST_LOG",
        "Log levels of the servers: trace, debug, info, warn, error or off. TARGET=LEVEL pairs are also valid, such as \
         warn,echo=debug. --verbose overrides this variable.",
    ),
];

/// One man page for all subcommands.
fn man(cli: Command) -> anyhow::Result<String> {
    let mut cli = cli.disable_help_subcommand(true);
    cli.build();
    let mut page = Vec::new();
    // A date would make builds irreproducible. Without the space, the next argument would be used as the date.
    let program = Man::new(cli.clone()).date(" ").manual("User Commands");
    program.render_title(&mut page)?;
    program.render_name_section(&mut page)?;
    program.render_synopsis_section(&mut page)?;
    let mut description = Roff::new();
    description.control("SH", ["DESCRIPTION"]);
    for command in cli.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        tagged_paragraph(&mut description, &format!("jamjam-dev {}", command.get_name()), &format!("{about}."));
    }
    description.to_writer(&mut page)?;
    program.render_options_section(&mut page)?;
    let mut text = String::from_utf8(page)?;
    for command in cli.get_subcommands() {
        text += &options(command)?;
    }
    Ok(text + &final_sections(&cli).to_roff())
}

/// The section of `command`: its options, with one subsection per help heading, spelled as in `--help`.
fn options(command: &Command) -> anyhow::Result<String> {
    let mut rendered = Vec::new();
    let listed = command.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    Man::new(listed).render_options_section(&mut rendered)?;
    let mut text = String::from_utf8(rendered)?.replace(".SH OPTIONS\n", ".SS General\n");
    for heading in command.get_arguments().filter_map(Arg::get_help_heading) {
        text = text.replace(&format!(".SH \"{}\"", heading.to_uppercase()), &format!(".SS \"{heading}\""));
        text = text.replace(&format!(".SH {}\n", heading.to_uppercase()), &format!(".SS {heading}\n"));
    }
    let title = format!("JAMJAM-DEV {}", command.get_name().to_uppercase());
    Ok(Roff::new().control("SH", [title.as_str()]).to_roff() + &text)
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
    for line in EXAMPLES {
        page.control("PP", []);
        page.text([bold(line)]);
    }
    page
}

/// A tagged paragraph: a term and its definition.
fn tagged_paragraph(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term)]);
    page.text([roman(meaning)]);
}
