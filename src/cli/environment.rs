//! Options from the environment. Some variables have an alias, an empty variable counts as not set, and errors name the variable that contains
//! an invalid value.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::{BoolishValueParser, Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches};
use tracing::warn;

use super::Cli;
use super::distinct_files;
use super::generate::with_examples;
use super::output::{Failure, write_usage_error};
use super::short_help;
use super::usage_error::{with_other_words, with_similar_options, without_secrets};

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
    let mut command = map_arguments(Cli::command(), with_effective_variable);
    command = if arguments.iter().any(|argument| argument == "-h") {
        short_help::of(command)
    } else {
        // `--help` shows one paragraph for each option. The complete descriptions are in the man page and in `docs/`.
        command.mut_subcommands(|command| with_examples(command, true))
    };
    let parsed = parse_with(&command, &arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (options, matches) = parsed.unwrap_or_else(|error| {
        // If the command line alone is valid, an environment variable caused the error.
        let without_env = map_arguments(Cli::command(), |argument| argument.env(Resettable::Reset));
        let is_from_env = parse_with(&without_env, &arguments).is_ok();
        let error = with_other_words(with_similar_options(without_secrets(error), &command, &arguments), &arguments);
        report_usage_error(command.clone(), &arguments, &error);
        if is_from_env { name_variable_in_error(error, command.clone()).exit() } else { error.exit() }
    });
    distinct_files::check(&command, &matches)?;
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

/// Writes the report files of a command line that cannot be parsed, unless one of them is also another file of the command line.
fn report_usage_error(command: Command, arguments: &[OsString], error: &Error) {
    // Unknown options and surplus words become positional arguments, which may name input files.
    let surplus = (0..arguments.len()).map(|index| Arg::new(index.to_string()).value_name("FILE"));
    let command = command.mut_subcommands(|command| command.args(surplus.clone()));
    let lenient = map_arguments(command.clone(), without_checks).ignore_errors(true);
    if error.use_stderr()
        && let Ok(matches) = lenient.try_get_matches_from(arguments)
        && distinct_files::check(&command, &matches).is_ok()
        && let Some((name, given)) = matches.subcommand()
    {
        write_usage_error(name, given, error);
    }
}

/// Accepts any value, no value, and repetitions.
fn without_checks(argument: Arg) -> Arg {
    let argument = argument.value_parser(ValueParser::os_string());
    if argument.is_positional() {
        return argument.action(ArgAction::Set).num_args(1).allow_hyphen_values(true);
    }
    let needs_equals = !argument.get_action().takes_values() || argument.is_require_equals_set();
    argument.action(ArgAction::Append).num_args(0..=1).require_equals(needs_equals)
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
/// is removed from `argument`, so that clap treats it as not set.
fn with_effective_variable(argument: Arg) -> Arg {
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

/// Adds the name of the environment variable to the option name in an error message.
fn name_variable_in_error(mut error: Error, mut command: Command) -> Error {
    // Arguments can be displayed only after `Command::build`.
    command.build();
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let variable = arguments.find_map(|argument| {
        let name = argument.get_env()?.to_str()?;
        (argument.to_string() == *option && is_set(name)).then_some(name)
    });
    if let Some(variable) = variable {
        let named = format!("{option} ({variable} in the environment)");
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// Adds to an error that names options the environment variables that supplied their values.
pub fn name_variables(failure: Failure, matches: &ArgMatches) -> Failure {
    let Failure { code, error } = failure;
    let text = format!("{error:#}");
    let names_option = |long: &str| {
        let mut words = text.split(|letter: char| letter != '-' && !letter.is_ascii_alphanumeric());
        words.any(|word| word.strip_prefix("--") == Some(long))
    };
    let command = Cli::command();
    let used = matches.subcommand().and_then(|(name, matches)| Some((command.find_subcommand(name)?, matches)));
    let Some((command, matches)) = used else { return Failure { code, error } };
    let named = command.get_arguments().filter(|argument| argument.get_long().is_some_and(names_option));
    let variables = named.filter_map(|argument| Some((argument.get_id().as_str(), argument.get_env()?.to_str()?)));
    let source = source(matches, variables.filter(|(_, name)| !text.contains(name)));
    if source.is_empty() { Failure { code, error } } else { Failure { code, error: anyhow::anyhow!("{text}{source}") } }
}

/// The environment variables that supplied the host and the port: ` (PORT from the environment)`. Empty if there are none.
pub(crate) fn address_source(matches: &ArgMatches) -> String {
    source(matches, [("host", "HOST"), ("port", "PORT")])
}

/// Which of the options, given with their variables, have their value from the environment, as [`address_source`] describes.
fn source<'a>(matches: &ArgMatches, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let is_from_environment = |option: &str| matches.value_source(option) == Some(ValueSource::EnvVariable);
    let names: Vec<&str> = options
        .into_iter()
        .filter(|(option, _)| is_from_environment(option))
        .map(|(_, name)| alias_in_effect(name).unwrap_or(name))
        .collect();
    if names.is_empty() { String::new() } else { format!(" ({} from the environment)", names.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every other one needs a value, or is documented to have none.
    #[test]
    fn only_the_text_of_send_may_be_empty() {
        let mut program = Cli::command();
        program.build();
        let arguments =
            program.get_subcommands().flat_map(|command| command.get_arguments().map(move |one| (command, one)));
        let options = arguments.filter(|(_, argument)| argument.get_action().takes_values());
        let mut accepted = Vec::new();
        for (command, long) in options.filter_map(|(command, argument)| Some((command, argument.get_long()?))) {
            let line = ["jamjam-dev", command.get_name(), &format!("--{long}=")].map(OsString::from);
            accepted.extend(parse_with(&Cli::command(), &line).map(|_| format!("{} --{long}", command.get_name())));
        }
        assert_eq!(accepted, ["send --text"]);
    }
}
