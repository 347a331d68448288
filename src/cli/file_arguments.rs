//! Files on the command line. The type of an argument says whether the run reads or writes the file, so that no output is an input or another
//! output: the run would destroy one of them.

use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgMatches, Id};

use super::options::credentials::SecretArg;
use super::output::{Failure, ensure_usage};
use super::target::TargetArgument;
use crate::io::files::{self, FileIdentity};

/// A file or directory that is read, or written.
#[derive(Clone, Debug)]
pub(crate) struct FileArgument<const IS_WRITTEN: bool>(PathBuf);

/// A file that is read, a directory whose files are read, or `-` for standard input.
pub(crate) type InputFile = FileArgument<false>;

/// A file or directory that is written.
pub(crate) type OutputFile = FileArgument<true>;

impl<const IS_WRITTEN: bool> Deref for FileArgument<IS_WRITTEN> {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl From<OsString> for InputFile {
    fn from(file: OsString) -> Self {
        Self(file.into())
    }
}

/// Parser for the value of an option that names an output file. Rejects `-`, which usually means standard output and would become the name
/// of a file, and files that a standard stream uses.
pub(crate) fn output_file_parser() -> impl TypedValueParser<Value = OutputFile> {
    PathBufValueParser::new().try_map(|file| {
        if file.as_os_str() == "-" {
            return Err("standard output is not supported; for a file named `-`, give ./-".to_owned());
        }
        files::stream_conflict(&file).map_or(Ok(FileArgument(file)), Err)
    })
}

/// Checks, before a run, that no output of its subcommand is also an input or another output.
pub(crate) fn check(matches: &ArgMatches) -> Result<(), Failure> {
    let mut read: Vec<_> =
        matches.ids().flat_map(|id| inputs(matches, id)).filter_map(|file| FileIdentity::of(&file)).collect();
    for id in matches.ids() {
        for output in values::<OutputFile>(matches, id) {
            let Some(identity) = FileIdentity::of(output) else { continue };
            let (option, file) = (id.as_str().replace('_', "-"), output.display());
            let is_new = !read.contains(&identity);
            ensure_usage!(is_new, "--{option} {file}: another option has the same file; give different files");
            read.push(identity);
        }
    }
    Ok(())
}

/// The values of an argument, if they have this type.
fn values<'a, T: Clone + Send + Sync + 'static>(matches: &'a ArgMatches, id: &Id) -> impl Iterator<Item = &'a T> {
    matches.try_get_many(id.as_str()).ok().flatten().into_iter().flatten()
}

/// The files that the run reads for an argument.
fn inputs(matches: &ArgMatches, id: &Id) -> Vec<PathBuf> {
    let files = values::<InputFile>(matches, id).map(Deref::deref).filter(|file| file.as_os_str() != "-");
    let secrets = values::<SecretArg>(matches, id).filter_map(SecretArg::file);
    let targets = values::<TargetArgument>(matches, id).filter_map(TargetArgument::file);
    let files: Vec<_> = files.chain(secrets).chain(targets).map(Path::to_owned).collect();
    // Of a directory, the rooms are read. If it cannot be read, the error is reported then.
    let entries = files.iter().flat_map(|file| fs::read_dir(file).into_iter().flatten().flatten());
    let rooms = entries.map(|entry| entry.path()).filter(|file| file.extension().is_some_and(|it| it == "toml"));
    rooms.chain(files.iter().cloned()).collect()
}
