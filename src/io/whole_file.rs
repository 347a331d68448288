//! Files that others wait for: written whole or not at all. A new one is written beside its place and then moved there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `text` to `file`, in place of what is there. Whoever waits for the file never reads half of it.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    by(file, |unfinished| fs::write(unfinished, text))
}

/// The same for what nobody but its owner may read, where the system knows owners (mode 0600 from the first byte on).
pub fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    by(file, |unfinished| {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(unfinished)?.write_all(text.as_bytes())
    })
}

fn by(file: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let place = place(file);
    let unfinished = unfinished(&place);
    let written = write(&unfinished).and_then(|()| fs::rename(&unfinished, &place));
    if written.is_err() {
        // It is no use to anybody; where it cannot even be removed, the error that counts is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    written
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
    File::create(&unfinished)?;
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
