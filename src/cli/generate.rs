//! `jamjam-dev generate`: the man page and the shell completions, generated from the options.

use std::io::Write;

use clap::{Arg, Command, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use super::help::{EXAMPLES, EXIT_CODES};
use super::output::{Failure, print};

/// Print the man page or shell completions
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to print
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
            Generate::CompleteBash => completions(Shell::Bash, cli)?,
            Generate::CompleteZsh => completions(Shell::Zsh, cli)?,
            Generate::CompleteFish => completions(Shell::Fish, cli)?,
        };
        print(text.trim_end())?;
        Ok(0)
    }
}

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
    program.render_options_section(&mut page)?;
    for command in cli.get_subcommands() {
        writeln!(page, ".SH \"JAMJAM-DEV {}\"", command.get_name().to_uppercase())?;
        // Options of the whole program are listed once.
        let own = command.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        let (mut about, mut options) = (Vec::new(), Vec::new());
        Man::new(own.clone()).render_description_section(&mut about)?;
        Man::new(own).render_options_section(&mut options)?;
        let section = [about, options].concat();
        page.extend(String::from_utf8(section)?.replace(".SH DESCRIPTION\n", "").replace(".SH ", ".SS ").into_bytes());
    }
    let codes = EXIT_CODES.map(|(code, meaning)| format!(".TP\n.B {code}\n{meaning}\n"));
    let (codes, examples) = (codes.concat(), EXAMPLES.join("\n"));
    let end = format!(".SH \"EXIT STATUS\"\n{codes}.SH EXAMPLES\n.nf\n{examples}\n.fi");
    Ok(String::from_utf8(page)? + &end.replace('-', "\\-"))
}

/// Shell completions. `clap_complete` generates the scripts from the options; what each value is, is added, and the scripts are mended.
fn completions(shell: Shell, cli: Command) -> anyhow::Result<String> {
    let mut cli = with_value_hints(cli);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli, "jamjam-dev", &mut text);
    let text = String::from_utf8(text)?;
    Ok(match shell {
        Shell::Bash => bash(&text),
        Shell::Zsh => zsh(&text, &cli),
        _ => text,
    })
}

/// Adds to every option what its value is: a file, a directory, a host, or anything else. By default, shells offer
/// files for all of them.
fn with_value_hints(command: Command) -> Command {
    command.mut_args(with_value_hint).mut_subcommands(with_value_hints)
}

fn with_value_hint(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
        return arg;
    }
    let name = arg.get_value_names().unwrap_or_default().join(" ");
    let hint = match name.as_str() {
        "DIR" => ValueHint::DirPath,
        name if name.contains("FILE") || arg.get_value_hint() == ValueHint::AnyPath => ValueHint::FilePath,
        name if name.contains("HOST") => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    arg.value_hint(hint)
}

fn bash(script: &str) -> String {
    // In the bash script, clap_complete 4.6 replaces the hyphen of `jamjam-dev` with `__` or with `__subcmd__`. bash
    // completion recognizes the subcommands only if the script uses the same replacement everywhere.
    let text = script.replace("jamjam__subcmd__dev", "jamjam__dev");
    // The script has no action for host names: it offers files instead. If files are wanted, `IFS` is set between these two lines.
    let label = ")\n                    COMPREPLY=(";
    text.replace(
        &format!("{label}$(compgen -f \"${{cur}}\"))\n"),
        &format!("{label}$(compgen -A hostname -- \"${{cur}}\"))\n"),
    )
}

fn zsh(script: &str, cli: &Command) -> String {
    let mut text = script.to_owned();
    // An unescaped colon in the name of a value would end the name.
    for arg in cli.get_subcommands().flat_map(Command::get_arguments) {
        for name in arg.get_value_names().unwrap_or_default().iter().filter(|name| name.contains(':')) {
            text = text.replace(&format!(":{name}:"), &format!(":{}:", name.replace(':', "\\:")));
        }
    }
    text
}
