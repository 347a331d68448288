//! Errors of both servers before they listen: options, variables and files that cannot be used.

use test_support::client::at_once;
use test_support::server::run;
use test_support::snapshot;

const NAME: &str = "servers/usage_errors";

/// A command line of the file, such as `$ PORT=abc signaling-server`, with the exit code and the error of the program.
fn executed(command: &str) -> String {
    let is_variable = |word: &&str| word.split_once('=').is_some_and(|(name, _)| name.to_uppercase() == name);
    let (variables, arguments): (Vec<&str>, Vec<&str>) =
        command.split(' ').partition(|word| is_variable(word) && !word.starts_with('-'));
    let output = run(&arguments, |command| {
        command.current_dir(test_support::repository()).env("COLUMNS", "200");
        command.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
    });
    assert!(output.stdout.is_empty(), "{command}: {output:?}");
    let error = output.stderr.replace("\n\nFor more information, try '--help'.\n", "\n");
    format!("$ {command}\nexit {}\n{error}\n", output.code)
}

/// The file lists the commands. Add a command there, and `UPDATE_SNAPSHOTS=1` adds its error.
#[test]
fn wrong_options_and_variables_are_rejected_with_their_reason() {
    let file = snapshot::committed(NAME);
    let commands: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 100, "{}", commands.len());
    let parts = commands.chunks(16).flat_map(|some| at_once(some, |command| executed(command)));
    snapshot::assert_matches(NAME, &parts.collect::<String>());
}
