//! Reads small text files with a size limit, writes files atomically (a temporary file in the same folder is renamed), and determines whether
//! two paths name the same file.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, Read, Write};
use std::iter;
use std::path::{Path, PathBuf};

use same_file::Handle;

/// Maximum size of a file that is read as a whole: certificates, secrets and room files.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the text of a regular file of at most [`MAX_FILE_BYTES`], in any encoding except UTF-16. Skips a byte order mark and the last line
/// ends. Fails with [`io::ErrorKind::InvalidInput`] for devices and pipes, which may have no end, and with
/// [`io::ErrorKind::FileTooLarge`] for longer files.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let require_regular = |metadata: fs::Metadata| match metadata {
        metadata if metadata.is_file() => Ok(()),
        metadata if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    };
    // Opening a pipe without a writer would block.
    require_regular(fs::metadata(file)?)?;
    let open = File::open(file)?;
    // The name may refer to another file by now.
    require_regular(open.metadata()?)?;
    let mut contents = Vec::new();
    open.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        let message = format!("longer than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    text_of(&contents).map(<[u8]>::to_vec)
}

/// Like [`read`], for UTF-8 text.
pub fn read_text(file: &Path) -> io::Result<String> {
    decode_text(&read(file)?)
}

/// Decodes the contents of a text file.
pub fn decode_text(contents: &[u8]) -> io::Result<String> {
    let text = str::from_utf8(text_of(contents)?);
    text.map(str::to_owned).map_err(|_| invalid_text("not UTF-8 text"))
}

fn invalid_text(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The contents of a text file without the byte order mark and the last line ends, which editors add.
fn text_of(mut contents: &[u8]) -> io::Result<&[u8]> {
    skip_byte_order_mark(&mut contents)?;
    let end = contents.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    Ok(&contents[..end])
}

/// Skips the byte order mark of UTF-8 text. Fails with [`io::ErrorKind::InvalidData`] for UTF-16, which PowerShell writes.
pub fn skip_byte_order_mark(text: &mut impl BufRead) -> io::Result<()> {
    let start = text.fill_buf()?;
    // Without a byte order mark, one of the two bytes of an ASCII character is 0.
    if matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=0xff, ..] | [1..=0xff, 0, ..]) {
        return Err(invalid_text("UTF-16 text; save the file as UTF-8"));
    }
    if start.starts_with("\u{feff}".as_bytes()) {
        text.consume("\u{feff}".len());
    }
    Ok(())
}

/// Options that create files which only their owner may read (Unix).
pub fn private_options() -> fs::OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file that only its owner may read (Unix). Fails if it exists.
pub fn create_private(file: &Path) -> io::Result<File> {
    private_options().write(true).create_new(true).open(file)
}

/// Creates or empties a file that is written during the run. `options` say how it is opened. Fails with [`io::ErrorKind::ResourceBusy`] if
/// another run writes this regular file; until the returned file is closed, it is locked. Where the file system or the system has no locks,
/// it is not.
pub fn create_locked(file: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    let open = options.create(true).open(file)?;
    if open.metadata()?.is_file() {
        if let Err(TryLockError::WouldBlock) = open.try_lock() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another run is writing this file; give another one",
            ));
        }
        // Only now, because the other run would lose what it has written. Windows cannot empty a file through a handle in append mode.
        File::create(file)?;
    }
    Ok(open)
}

/// Replaces the contents of `file` with `text`. Other processes never read a partial file. After a power loss, the file has either its
/// previous contents or `text`. The mode of an existing file stays. Its owner stays unless this process may replace the file but not
/// write to it. A file that cannot be replaced is written in place: a pipe, an open file (`/dev/fd/3`), a mounted file, and a file in a
/// read-only folder.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    let target = resolve_links(file);
    let is_replaceable = !is_descriptor(file) && fs::metadata(file).map_or(true, |metadata| metadata.is_file());
    let temp = temp_path(&target);
    if is_replaceable && let Ok(mut open) = create_temp_file(&temp, fs::metadata(&target).ok()) {
        // Without `sync_all`, the new name could be stored before the contents. After a power loss, the file would then be empty.
        let written = open.write_all(text.as_bytes()).and_then(|()| open.sync_all());
        if written.is_ok() && copy_attributes(&target, &temp).and_then(|()| fs::rename(&temp, &target)).is_ok() {
            return sync_folder(&target);
        }
        // Reports the first error, even if the removal also fails.
        let _ = fs::remove_file(&temp);
        written?;
    }
    File::options().write(true).create(true).truncate(true).open(file)?.write_all(text.as_bytes())
}

/// Gives `temp` the owner and the mode of `target`, if it exists.
fn copy_attributes(target: &Path, temp: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::metadata(target) else { return Ok(()) };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, chown};
        let (owner, group) = (metadata.uid(), metadata.gid());
        let new = fs::metadata(temp)?;
        if (new.uid(), new.gid()) != (owner, group)
            && let Err(error) = chown(temp, Some(owner), Some(group))
            // Without `chown`, the file keeps its owner only if it is written in place.
            && File::options().write(true).open(target).is_ok()
        {
            return Err(error);
        }
    }
    fs::set_permissions(temp, metadata.permissions())
}

/// Stores the new name of a file permanently.
#[cfg(unix)]
fn sync_folder(file: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(folder_of(file)).and_then(|folder| folder.sync_all()) {
        // A folder may be writable but not readable, and some file systems do not support this call. The file itself is complete.
        Err(error) if matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Other systems have no such call.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates the temporary file. Only users who may read the `previous` file may read it. Removes an existing file at this path, such as one
/// that an aborted process left behind.
fn create_temp_file(temp: &Path, previous: Option<fs::Metadata>) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Some(previous) = previous {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(previous.permissions().mode());
    }
    // Another user of a shared folder may have placed a link at the temporary path. `create_new` does not follow it.
    match options.open(temp) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(temp)?;
            options.open(temp)
        }
        opened => opened,
    }
}

/// Checks that `file` can be written. Empties the file of an earlier run, which could be mistaken for a new file.
pub fn prepare(file: &Path) -> io::Result<()> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Opening a pipe without a reader would block.
        Ok(metadata) if !metadata.is_file() => Ok(()),
        Ok(_) => match File::options().write(true).open(file) {
            // The folder may permit to replace the file.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => write(file, ""),
            opened => opened?.set_len(0),
        },
        Err(_) => {
            let temp = temp_path(&resolve_links(file));
            create_temp_file(&temp, None)?;
            fs::remove_file(&temp)
        }
    }
}

/// Like [`prepare`], but removes the file of an earlier run if possible. A mounted file cannot be removed.
pub fn prepare_absent(file: &Path) -> io::Result<()> {
    let is_file = !is_descriptor(file) && fs::metadata(file).is_ok_and(|metadata| metadata.is_file());
    if is_file && fs::remove_file(resolve_links(file)).is_ok() { Ok(()) } else { prepare(file) }
}

/// Why `file` cannot be an output file: it is one of the standard streams, whose data would be lost.
pub fn stream_conflict(file: &Path) -> Option<String> {
    if is_standard_stream(file) {
        return Some("this path stands for a standard stream; give the name of a file".to_owned());
    }
    let FileIdentity { handle: file, new_name: None } = FileIdentity::of(file)? else { return None };
    let streams = [("input", Handle::stdin()), ("output", Handle::stdout()), ("error", Handle::stderr())];
    let (stream, _) = streams.into_iter().find(|(_, stream)| stream.as_ref().is_ok_and(|stream| *stream == file))?;
    Some(format!("standard {stream} is redirected to this file; give another file"))
}

/// Identifies a regular file by its device and inode (Windows: volume and file index). All paths and hard links to a file have the same
/// identity. A file that does not exist yet is identified by its directory and its name.
#[derive(Debug, PartialEq, Eq)]
pub struct FileIdentity {
    handle: Handle,
    new_name: Option<OsString>,
}

impl FileIdentity {
    /// Follows symbolic links, even to a missing file. Returns `None` for devices and pipes, which several options may use, and for paths
    /// that cannot be opened: their error is reported when the file is used.
    pub fn of(file: &Path) -> Option<Self> {
        if let Ok(metadata) = fs::metadata(file) {
            // A file may be writable but not readable.
            let open =
                || Handle::from_path(file).or_else(|_| Handle::from_file(File::options().write(true).open(file)?));
            return metadata.is_file().then(open)?.ok().map(|handle| Self { handle, new_name: None });
        }
        let target = resolve_links(file);
        if target.is_symlink() {
            return None;
        }
        Some(Self { handle: Handle::from_path(folder_of(&target)).ok()?, new_name: Some(comparable_name(&target)?) })
    }
}

/// The name of a file. Windows and macOS ignore the case of names.
fn comparable_name(path: &Path) -> Option<OsString> {
    let name = path.file_name()?;
    Some(if cfg!(any(windows, target_os = "macos")) { name.to_ascii_lowercase() } else { name.to_owned() })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Maximum number of symbolic links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// The path, the target of the symbolic link at this path, the target of that target, and so on.
fn link_chain(file: &Path) -> impl Iterator<Item = PathBuf> {
    let target = |path: &PathBuf| Some(folder_of(path).join(fs::read_link(path).ok()?));
    iter::successors(Some(file.to_owned()), target).take(1 + MAX_LINKS)
}

/// Follows symbolic links, even to a missing file. A rename then replaces the target instead of the link.
fn resolve_links(file: &Path) -> PathBuf {
    link_chain(file).last().unwrap_or_default()
}

/// The name of the open file that `file` stands for: one of /dev/std*, /dev/fd/* and /proc/*/fd/*, or a link to one of these. The links are
/// followed one at a time, because the last target of /dev/stdout is the redirected file.
fn descriptor_name(file: &Path) -> Option<String> {
    link_chain(file).find_map(|path| {
        let (name, folder) = (path.file_name()?.to_str()?, folder_of(&path).canonicalize().ok()?);
        let is_stream = folder == Path::new("/dev") && ["stdin", "stdout", "stderr"].contains(&name);
        let is_number = folder == Path::new("/dev/fd") || folder.starts_with("/proc") && folder.ends_with("fd");
        (is_stream || is_number).then(|| name.to_owned())
    })
}

fn is_descriptor(file: &Path) -> bool {
    descriptor_name(file).is_some()
}

fn is_standard_stream(file: &Path) -> bool {
    descriptor_name(file).is_some_and(|name| ["stdin", "stdout", "stderr", "0", "1", "2"].contains(&&*name))
}

/// The temporary path contains the process id and is in the same folder. A rename is atomic only within a file system.
fn temp_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_mark_and_last_line_ends_are_skipped_and_utf_16_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("text");
        for (contents, expected) in [
            (&b"\xef\xbb\xbfkey\r\n"[..], Ok("key")),
            (b"key\n\r\n\n", Ok("key")),
            (b" key \n", Ok(" key ")),
            (b"\xef\xbb\xbf", Ok("")),
            (b"\n", Ok("")),
            (b"", Ok("")),
            ("a\u{feff}b".as_bytes(), Ok("a\u{feff}b")),
            (b"\xff\xfek\0e\0", Err("UTF-16 text; save the file as UTF-8")),
            (b"\xfe\xff\0k\0e", Err("UTF-16 text; save the file as UTF-8")),
            (b"k\0e\0y\0", Err("UTF-16 text; save the file as UTF-8")),
            (b"\0k\0e", Err("UTF-16 text; save the file as UTF-8")),
            (b"k\xff", Err("not UTF-8 text")),
        ] {
            fs::write(&file, contents).expect("a file");
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read_text(&file).map_err(|error| error.to_string()), expected);
            assert_eq!(decode_text(contents).map_err(|error| error.to_string()), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_of_open_files_are_found_behind_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (link, target) in [("direct", "/dev/stdout"), ("chain", "direct"), ("loop", "loop"), ("void", "/dev/null")]
        {
            std::os::unix::fs::symlink(target, at(link)).expect("a link");
        }
        fs::write(at("plain"), "").expect("a file");
        let open = File::open(at("plain")).expect("a file");
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        let (reader, _writer) = io::pipe().expect("a pipe");
        let pipe = std::os::fd::AsRawFd::as_raw_fd(&reader);
        for (file, is_open, is_stream) in [
            ("/dev/stdin".into(), true, true),
            ("/dev/stderr".into(), true, true),
            ("/dev/fd/1".into(), true, true),
            ("/dev/../proc/self/fd/2".into(), true, true),
            (format!("/proc/{}/task/{}/fd/0", std::process::id(), std::process::id()).into(), true, true),
            (format!("/dev/fd/{number}").into(), true, false),
            (format!("/dev/fd/{pipe}").into(), true, false),
            (at("direct"), true, true),
            (at("chain"), true, true),
            (at("loop"), false, false),
            (at("void"), false, false),
            (at("plain"), false, false),
            (at("missing"), false, false),
            (at("missing/file"), false, false),
            ("/".into(), false, false),
        ] {
            let file: PathBuf = file;
            assert_eq!((is_descriptor(&file), is_standard_stream(&file)), (is_open, is_stream), "{}", file.display());
        }
    }

    fn is_same(one: &Path, other: &Path) -> bool {
        FileIdentity::of(one).is_some_and(|identity| FileIdentity::of(other) == Some(identity))
    }

    #[test]
    fn all_spellings_and_hard_links_of_a_file_are_the_same_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("there"), "").expect("a file");
        fs::write(at("copy"), "").expect("a file");
        fs::hard_link(at("there"), at("hard")).expect("a link");
        fs::create_dir(at("below")).expect("a folder");
        for (one, other, same) in [
            ("there", "there", true),
            ("there", "below/../there", true),
            ("there", "hard", true),
            ("there", "copy", false),
            ("new", "./new", true),
            ("new", "below/../new", true),
            ("new", "newer", false),
            ("new", "below/new", false),
            ("there", "new", false),
            ("nowhere/x", "nowhere/x", false),
            ("below", "below", false),
        ] {
            assert_eq!(is_same(&at(one), &at(other)), same, "{one} {other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_link_is_its_target_even_before_that_exists() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (link, target) in [("link", "goal"), ("linked", "link"), ("loop", "pool"), ("pool", "loop")] {
            std::os::unix::fs::symlink(target, at(link)).expect("a link");
        }
        assert!(is_same(&at("linked"), &at("goal")));
        fs::write(at("goal"), "").expect("a file");
        assert!(is_same(&at("linked"), &at("goal")));
        assert!(!is_same(&at("loop"), &at("loop")) && !is_same("/dev/null".as_ref(), "/dev/null".as_ref()));
    }

    #[cfg(unix)]
    #[test]
    fn temporary_file_of_a_private_file_is_private_from_the_start() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let private = create_private(&folder.path().join("report")).expect("a file").metadata().expect("its mode");
        let temp = create_temp_file(&folder.path().join("temp"), Some(private)).expect("a file");
        assert_eq!(temp.metadata().expect("its mode").permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn link_at_the_temp_path_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, victim) = (folder.path().join("report.json"), folder.path().join("notes"));
        fs::write(&victim, "mine").expect("a file");
        let own: [fn(&Path) -> io::Result<()>; 2] = [|file| write(file, "{}"), prepare];
        for act in own {
            // Only a file that does not exist yet needs a temporary file to check the folder.
            _ = fs::remove_file(&file);
            std::os::unix::fs::symlink(&victim, temp_path(&resolve_links(&file))).expect("a link");
            act(&file).expect("written");
            assert_eq!(fs::read_to_string(&victim).expect("a file"), "mine");
            assert!(!temp_path(&resolve_links(&file)).exists());
            assert!(!file.is_symlink());
        }
    }
}
