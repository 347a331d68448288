//! Options from the environment. Some variables have an alias, an empty variable counts as not set, and errors name the variable that contains
//! an invalid value.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::{BoolishValueParser, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches};
use tracing::warn;

use super::output::Failure;
use super::usage_error::{with_other_words, without_secrets};
use super::{Cli, file_arguments, help};

/// Environment variables with an alias. The alias is used if the variable is not set.
const VARIABLE_ALIASES: &[(&str, &str)] = &[
    ("PORT", "PORT_ENV"),
    ("HEARTBEAT_INTERVAL", "HEARTBEAT_INTERVAL_MS"),
    ("CLIENT_TIMEOUT", "CLIENT_TIMEOUT_MS"),
    ("HMAC_SECRET", "AUTH_SECRET"),
];

/// Parses the command line and the environment. If the command line or a variable is invalid, prints the error message and exits. Rejects
/// output files that another option reads or writes.
pub fn parse() -> Result<(Cli, ArgMatches), Failure> {
    let arguments: Vec<OsString> = env::args_os().collect();
    let command = map_arguments(Cli::command(), with_effective_variable);
    let command = help::of_program(command, !arguments.iter().any(|argument| argument == "-h"));
    let parsed = parse_with(&command, &arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (options, matches) = parsed.unwrap_or_else(|error| {
        // If the command line alone is valid, an environment variable caused the error.
        let without_env = map_arguments(command.clone(), |argument| argument.env(Resettable::Reset));
        let is_from_env = parse_with(&without_env, &arguments).is_ok();
        let error = with_other_words(without_secrets(error), &arguments);
        if is_from_env { name_variable_in_error(error, &command).exit() } else { error.exit() }
    });
    matches.subcommand().map_or(Ok(()), |(_, given)| file_arguments::check(given))?;
    Ok((options, matches))
}

/// The only option whose value may be empty.
const MAY_BE_EMPTY: &str = "text";

/// Parses `arguments`. Rejects empty values and lists without entries, such as `--cert ""` and `--origin ","`: a script whose variable is not
/// set would otherwise start a server without the protection that it asks for.
fn parse_with(command: &Command, arguments: &[OsString]) -> Result<ArgMatches, Error> {
    let matches = command.clone().try_get_matches_from(arguments)?;
    let Some((name, given)) = matches.subcommand() else { return Ok(matches) };
    let is_blank = |value: &OsStr| value.to_string_lossy().trim().is_empty();
    let is_empty = |argument: &&Arg| {
        let id = argument.get_id().as_str();
        let mut occurrences = given.get_raw_occurrences(id).into_iter().flatten();
        // An option without its optional value has no values.
        id != MAY_BE_EMPTY && occurrences.any(|mut values| values.len() > 0 && values.all(is_blank))
    };
    let mut command = command.clone();
    command.build();
    let subcommand = command.find_subcommand(name).expect("the subcommand that was parsed");
    let Some(argument) = subcommand.get_arguments().find(is_empty) else { return Ok(matches) };
    let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(subcommand);
    error.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_string()));
    error.insert(ContextKind::InvalidValue, ContextValue::String(String::new()));
    Err(error)
}

/// Logs which variables would protect a server if they were not empty.
pub(crate) fn log_empty_protections(matches: &ArgMatches) {
    let protections = [("cert", "TLS_CERT"), ("key", "TLS_KEY"), ("origin", "ORIGIN_ALLOWLIST")];
    let names = protections.into_iter().filter(|(option, _)| !matches.contains_id(option)).map(|(_, name)| name);
    let empty: Vec<_> = names.filter(|name| env::var_os(name).is_some_and(|value| value.is_empty())).collect();
    if !empty.is_empty() {
        warn!(target: "signaling", variables = empty.join(" "), "these variables are empty, which counts as not set: they protect nothing");
    }
}

/// Whether a variable is set and not empty. Docker Compose substitutes an empty string for unset variables.
fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The alias of the environment variable `name`, if the alias is set and the variable is not.
fn alias_in_effect(name: &str) -> Option<&'static str> {
    let (_, second) = VARIABLE_ALIASES.iter().find(|(first, _)| *first == name)?;
    (!is_set(name) && is_set(second)).then_some(*second)
}

/// Selects the environment variable that clap reads for `argument`: the variable itself, or its alias if only that is set. An empty variable
/// is removed from `argument`, so that clap treats it as not set. Options accept negative numbers, so that the error names the option;
/// positional arguments do not, so that -4 is an unknown option.
fn with_effective_variable(argument: Arg) -> Arg {
    let takes_value = argument.get_action().takes_values() && !argument.is_positional();
    let argument = if takes_value { argument.allow_negative_numbers(true) } else { argument };
    let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
    // A variable cannot be empty to mean yes, so it accepts 1/0, yes/no, true/false and on/off.
    let argument = if is_switch { argument.value_parser(BoolishValueParser::new()) } else { argument };
    let Some(name) = argument.get_env().and_then(|name| name.to_str()) else { return argument };
    match alias_in_effect(name) {
        Some(second) => argument.env(second),
        None if env::var_os(name).is_some() && !is_set(name) => argument.env(Resettable::Reset),
        None => argument,
    }
}

fn map_arguments(command: Command, change: impl Fn(Arg) -> Arg + Copy) -> Command {
    command.mut_args(change).mut_subcommands(|command| command.mut_args(change))
}

/// Adds to the option that an error names the environment variable that supplied its value.
fn name_variable_in_error(mut error: Error, program: &Command) -> Error {
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) {
        let is_used = |argument: &Arg| argument.get_env().is_some_and(|name| env::var_os(name).is_some());
        let sources = program.get_subcommands().map(|command| source(command, option, is_used));
        let named = format!("{option}{}", sources.max().unwrap_or_default());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// Adds to an error that names options the environment variables that supplied their values.
pub fn name_variables(failure: Failure, matches: &ArgMatches) -> Failure {
    let Failure { code, error } = failure;
    let text = format!("{error:#}");
    let source = matches.subcommand().map(|(name, given)| source_of_options(name, given, &text));
    Failure { code, error: anyhow::anyhow!("{text}{}", source.unwrap_or_default()) }
}

/// The environment variables that supplied the values of the options of `command` that `text` names: ` (PORT from the environment)`. Empty if
/// there are none.
pub(crate) fn source_of_options(command: &str, given: &ArgMatches, text: &str) -> String {
    let is_new = |name: &OsStr| !text.contains(&*name.to_string_lossy());
    let is_used = |argument: &Arg| {
        argument.get_env().is_some_and(is_new)
            && given.value_source(argument.get_id().as_str()) == Some(ValueSource::EnvVariable)
    };
    let program = map_arguments(Cli::command(), with_effective_variable);
    program.find_subcommand(command).map_or_else(String::new, |command| source(command, text, is_used))
}

/// The variables of the options of `command` that `text` names, if they are used.
fn source(command: &Command, text: &str, is_used: impl Fn(&Arg) -> bool) -> String {
    let is_named = |argument: &Arg| {
        let mut words = text.split(|letter: char| letter != '-' && !letter.is_ascii_alphanumeric());
        words.any(|word| word.strip_prefix("--").is_some_and(|long| argument.get_long() == Some(long)))
    };
    let used = command.get_arguments().filter(|argument| is_named(argument) && is_used(argument));
    let names: Vec<_> = used.filter_map(|argument| argument.get_env()?.to_str()).collect();
    if names.is_empty() { String::new() } else { format!(" ({} from the environment)", names.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments that commands require.
    const REQUIRED: [(&str, &str); 10] = [
        ("relay", "1 h:1"),
        ("send", "--tone 440"),
        ("compare", "h"),
        ("load-echo", "--clients 2"),
        ("load-rooms", "ws://h --clients 2"),
        ("musicians", "--room r --clients 1 --tone 440"),
        ("publish", "--embedded --text x"),
        ("replay", "f"),
        ("token", "a:b"),
        ("generate", "man"),
    ];

    /// Every other one needs a value, or is documented to have none.
    #[test]
    fn only_a_published_text_may_be_empty() {
        let mut program = Cli::command();
        program.build();
        let arguments =
            program.get_subcommands().flat_map(|command| command.get_arguments().map(move |one| (command, one)));
        let options = arguments.filter(|(_, argument)| argument.get_action().takes_values());
        let mut accepted = Vec::new();
        for (command, long) in options.filter_map(|(command, argument)| Some((command, argument.get_long()?))) {
            let name = command.get_name();
            let required = REQUIRED.iter().find(|(command, _)| *command == name).map_or("", |(_, required)| *required);
            let line = format!("jamjam-dev {name} {required} --{long}=");
            let line: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            accepted.extend(parse_with(&Cli::command(), &line).map(|_| format!("{name} --{long}")));
        }
        assert_eq!(accepted, ["publish --text"]);
    }

    #[test]
    fn definitions_of_all_commands_are_consistent() {
        Cli::command().debug_assert();
    }
}
