//! Files that others wait for: written whole or not at all. A new one is written beside its place and then moved there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `text` to `file`, in place of what is there. Whoever waits for the file never reads half of it.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    put(file, text, &create_new())
}

/// The same for what nobody but its owner may read, where the system knows owners (mode 0600 from the first byte on).
pub fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    let mut options = create_new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    put(file, text, &options)
}

fn put(file: &Path, text: &str, options: &OpenOptions) -> io::Result<()> {
    let place = place(file);
    let unfinished = unfinished(&place);
    let mut open = begin(&unfinished, options)?;
    let written = open.write_all(text.as_bytes()).and_then(|()| fs::rename(&unfinished, &place));
    if written.is_err() {
        // It is no use to anybody; where it cannot even be removed, the error that counts is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Never what is there already: in a folder of several people somebody may have put a link there, guessing the name.
fn create_new() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true);
    options
}

/// Opens the unfinished file. One of this name is what a process that ended early has left, and goes.
fn begin(unfinished: &Path, options: &OpenOptions) -> io::Result<File> {
    match options.open(unfinished) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(unfinished)?;
            options.open(unfinished)
        }
        opened => opened,
    }
}

/// Makes sure that [`write()`] will find its way, and removes what an earlier run left at `file`, so that nobody takes
/// it for a later one's. Leaves nothing behind.
pub fn clear(file: &Path) -> io::Result<()> {
    let place = place(file);
    let there = match fs::metadata(&place) {
        Ok(there) if there.is_file() => true,
        // Moving a file to the place of a device or a pipe would replace it.
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there and is no regular file")),
        Err(_) => false,
    };
    let unfinished = unfinished(&place);
    begin(&unfinished, &create_new())?;
    fs::remove_file(&unfinished)?;
    if there { fs::remove_file(&place) } else { Ok(()) }
}

/// Where the file is once links are followed, also where a link leads to what is not there: a link stays one.
fn place(file: &Path) -> PathBuf {
    let led_to = |target| file.parent().unwrap_or(Path::new("")).join(target);
    file.canonicalize().or_else(|_| fs::read_link(file).map(led_to)).unwrap_or_else(|_| file.to_owned())
}

/// Where it is written: beside its place, since a file moves at once only within one file system. Two processes do not meet.
fn unfinished(place: &Path) -> PathBuf {
    let mut name = OsString::from(place);
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_somebody_has_put_at_the_unfinished_files_name_is_replaced_and_a_link_there_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, victim) = (folder.path().join("report.json"), folder.path().join("diary"));
        fs::write(&victim, "mine").expect("a file");
        let own: [fn(&Path) -> io::Result<()>; 3] = [|file| write(file, "{}"), |file| write_secret(file, "{}"), clear];
        for act in own {
            std::os::unix::fs::symlink(&victim, unfinished(&place(&file))).expect("a link");
            act(&file).expect("written");
            assert_eq!(fs::read_to_string(&victim).expect("a file"), "mine");
            assert!(!unfinished(&place(&file)).exists());
            assert!(!file.is_symlink());
        }
    }
}
