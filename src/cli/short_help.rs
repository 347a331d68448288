//! `-h`: the options that most users of a subcommand need, one line each. `--help` prints all options.

use clap::{Arg, Command};

use super::generate::with_examples;

/// The options of each subcommand that `-h` prints.
const SHOWN: [(&str, &str); 5] = [
    (
        "echo-server",
        "port host delay verbose record capture check duration until_idle run json html junit network loss jitter bandwidth signaling_url \
         with_signaling moqt",
    ),
    (
        "signaling-server",
        "port host dialect verbose cert key trust_proxy strict bbx_room print_token rooms check duration until_idle run json html junit \
         docs_password",
    ),
    (
        "send",
        "file to text embedded tone duration mic list_devices play record signaling_url room profile max_loss max_p99 verbose json html \
         junit quiet",
    ),
    (
        "probe",
        "target embedded this_machine count duration interval packet size signaling_url room profile max_loss max_p99 verbose json html \
         junit quiet",
    ),
    ("relay", "listen target network delay loss jitter bandwidth outage like up down json junit"),
];

/// The program with the help of `-h`.
pub(crate) fn of(program: Command) -> Command {
    program.mut_args(with_short_description).mut_arg("color", |color| color.hide(true)).mut_subcommands(shortened)
}

fn shortened(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let shown = SHOWN.iter().find(|(subcommand, _)| *subcommand == name).map_or("", |(_, shown)| *shown);
    let command = command.mut_args(|argument| {
        let is_shown = shown.split(' ').any(|id| argument.get_id() == id);
        with_short_description(argument).hide_short_help(!is_shown)
    });
    with_examples(command, false)
}

/// Hides environment variables, possible values, and optional parts of values.
fn with_short_description(argument: Arg) -> Arg {
    let argument = argument.hide_env(true);
    if !argument.get_action().takes_values() || argument.is_positional() {
        return argument;
    }
    let argument = argument.hide_possible_values(true);
    // `PERCENT[,DURATION]` becomes PERCENT.
    let name = argument.get_value_names().and_then(|names| names.first()?.split(['[', '|']).next().map(str::to_owned));
    name.filter(|name| !name.is_empty()).map_or(argument.clone(), |name| argument.value_name(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn short_help_has_45_lines_and_each_shown_option_one() {
        for width in [80, 100] {
            let mut program = of(Cli::command().term_width(width));
            program.build();
            for (name, shown) in SHOWN {
                let command = program.find_subcommand_mut(name).expect("a subcommand");
                let help = command.render_help().to_string();
                assert!(help.lines().count() <= 45, "{help}");
                // A continued description is indented further than any option.
                let is_continued = |line: &&str| line.starts_with(&" ".repeat(9)) && !line.contains("jamjam-dev ");
                assert_eq!(help.lines().find(is_continued).filter(|_| width == 100), None, "{help}");
                let is_option = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
                assert!(shown.split(' ').all(is_option), "{name}: {shown}");
            }
        }
    }
}
