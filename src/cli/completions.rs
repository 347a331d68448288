//! Shell completions. `clap_complete` generates the scripts from the options; this module adds what each value is, and mends the scripts.

use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

pub(crate) fn script(shell: Shell, cli: Command) -> anyhow::Result<String> {
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
