//! Options from the environment. Some variables have an alias, an empty variable counts as not set, and errors name the variable that contains
//! an invalid value.

use std::env;
use std::ffi::OsString;

use clap::builder::{BoolishValueParser, Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches};

use super::Cli;
use super::distinct_files;
use super::generate::with_examples;
use super::output::{Failure, write_usage_error};
use super::short_help;
use super::usage_error::{with_other_command, with_similar_options, without_secrets};

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
    let parsed = command.clone().try_get_matches_from(&arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (options, matches) = parsed.unwrap_or_else(|error| {
        // If the command line alone is valid, an environment variable caused the error.
        let without_env = map_arguments(Cli::command(), |argument| argument.env(Resettable::Reset));
        let is_from_env = without_env.try_get_matches_from(&arguments).is_ok();
        let error = with_other_command(with_similar_options(without_secrets(error), &command, &arguments));
        report_usage_error(command.clone(), &arguments, &error);
        if is_from_env { name_variable_in_error(error, command.clone()).exit() } else { error.exit() }
    });
    distinct_files::check(&command, &matches)?;
    Ok((options, matches))
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
