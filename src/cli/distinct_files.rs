//! Checks before a run that no output file is also an input file or another output file. Otherwise, the run would destroy one of them.

use std::any::TypeId;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};

use super::output::Failure;
use super::values::OutputFile;
use crate::io::files::FileIdentity;

/// A file of the command line or the environment.
struct GivenFile {
    option: String,
    path: PathBuf,
    identity: FileIdentity,
    is_output: bool,
}

/// Checks each pair of files among all arguments of the subcommand. Several options may read the same file.
pub(crate) fn check(command: &Command, matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let arguments = command.find_subcommand(name).into_iter().flat_map(Command::get_arguments);
    let mut seen: Vec<GivenFile> = Vec::new();
    for file in arguments.flat_map(|argument| given_files(argument, matches)) {
        let conflict = |other: &&GivenFile| other.identity == file.identity && (other.is_output || file.is_output);
        if let Some(other) = seen.iter().find(conflict) {
            return Err(Failure::usage(format!(
                "{} {} and {} {} are the same file; give different files",
                other.option,
                other.path.display(),
                file.option,
                file.path.display()
            )));
        }
        seen.push(file);
    }
    Ok(())
}

/// The files that the value of an argument names.
fn given_files(argument: &Arg, matches: &ArgMatches) -> Vec<GivenFile> {
    let value_name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    // The value of an option for a secret is a file after `@`.
    let is_secret = value_name.ends_with("|@FILE");
    if !is_secret && !["FILE", "DIR"].contains(&value_name) {
        return Vec::new();
    }
    let id = argument.get_id().as_str();
    let is_output = argument.get_value_parser().type_id() == TypeId::of::<OutputFile>();
    let option = argument.get_long().map_or_else(|| value_name.to_owned(), |long| format!("--{long}"));
    let values = matches.get_raw(id).into_iter().flatten().filter_map(|value| match value.to_str() {
        Some(text) if is_secret => text.strip_prefix('@').map(Path::new),
        _ => Some(Path::new(value)),
    });
    let values = values.filter(|path| path.as_os_str() != "-");
    let paths = values.flat_map(|path| match id {
        "rooms" => files_in(path),
        _ => vec![path.to_owned()],
    });
    let files = paths.filter_map(|path| {
        let identity = FileIdentity::of(&path)?;
        Some(GivenFile { option: option.clone(), path, identity, is_output })
    });
    files.collect()
}

/// The files of a directory of rooms. If the directory cannot be read, the error is reported when the rooms are read.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}
