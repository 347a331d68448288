//! What the options take from the environment: variables with two spellings, empty variables, and which variable a wrong value
//! came from.

use std::env;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, Error, FromArgMatches};

use super::Cli;

/// Variables that have a second spelling, which counts where the first is not set.
const SECOND_SPELLINGS: &[(&str, &str)] = &[
    ("PORT", "PORT_ENV"),
    ("HEARTBEAT_INTERVAL", "HEARTBEAT_INTERVAL_MS"),
    ("CLIENT_TIMEOUT", "CLIENT_TIMEOUT_MS"),
    ("HMAC_SECRET", "AUTH_SECRET"),
];

/// Reads the command line and the environment, or ends the process with what is wrong with them.
pub fn parse() -> Cli {
    let arguments: Vec<OsString> = env::args_os().collect();
    let command = each_argument(Cli::command(), in_force);
    let parsed = command.clone().try_get_matches_from(&arguments);
    parsed.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| {
        // Where the same command line is well without the environment, a variable is to blame.
        let alone = each_argument(Cli::command(), |argument| argument.env(Resettable::Reset));
        let blame = alone.try_get_matches_from(&arguments).is_ok();
        if blame { with_variable(error, command).exit() } else { error.exit() }
    })
}

/// Whether a variable says anything. An empty one, as a compose file makes of a variable that it does not know, does not.
fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The second spelling of a variable, if it is the one that counts.
fn second(name: &str) -> Option<&'static str> {
    let (_, second) = SECOND_SPELLINGS.iter().find(|(first, _)| *first == name)?;
    (!is_set(name) && is_set(second)).then_some(*second)
}

/// The argument with the variable that it is to be read from.
fn in_force(argument: Arg) -> Arg {
    let Some(name) = argument.get_env().and_then(|name| name.to_str()) else { return argument };
    match second(name) {
        Some(second) => argument.env(second),
        None if env::var_os(name).is_some() && !is_set(name) => argument.env(Resettable::Reset),
        None => argument,
    }
}

fn each_argument(command: Command, change: impl Fn(Arg) -> Arg + Copy) -> Command {
    command.mut_args(change).mut_subcommands(|command| command.mut_args(change))
}

/// The error with the variable's name beside the option's.
fn with_variable(mut error: Error, mut command: Command) -> Error {
    // Only then do arguments know how they are written.
    command.build();
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let variable = arguments.find_map(|argument| {
        let name = argument.get_env()?.to_str()?;
        (argument.to_string() == *option && is_set(name)).then_some(name)
    });
    if let Some(variable) = variable {
        let told = format!("{option} ({variable} in the environment)");
        error.insert(ContextKind::InvalidArg, ContextValue::String(told));
    }
    error
}

/// Where host and port come from, for those who are surprised by it.
#[derive(Clone, Debug, Default)]
pub struct Origin(Vec<&'static str>);

impl Origin {
    /// ` (PORT from the environment)`, or nothing where the command line or the defaults have decided.
    pub fn bracket(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!(" ({} from the environment)", self.0.join(" and ")) }
    }
}

impl FromArgMatches for Origin {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let decided = [("host", "HOST"), ("port", "PORT")]
            .into_iter()
            .filter(|(option, _)| matches.value_source(option) == Some(ValueSource::EnvVariable));
        Ok(Self(decided.map(|(_, name)| second(name).unwrap_or(name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// It is no option: it looks at the others.
impl clap::Args for Origin {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
