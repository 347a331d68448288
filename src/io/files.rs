//! Reads small text files with a size limit, writes files atomically (a temporary file in the same folder is renamed), and determines whether
//! two paths name the same file.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, Read, Write};
use std::iter;
use std::path::{Path, PathBuf};

/// Maximum size of a file that is read as a whole: certificates, secrets and room files.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the text of a regular file of at most [`MAX_FILE_BYTES`], in any encoding except UTF-16. Skips a byte order mark and the last line
/// ends. Fails with [`io::ErrorKind::InvalidInput`] for devices and pipes, which may have no end, and with
/// [`io::ErrorKind::FileTooLarge`] for longer files.
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
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
pub(crate) fn read_text(file: &Path) -> io::Result<String> {
    decode_text(&read(file)?)
}

pub(crate) fn decode_text(contents: &[u8]) -> io::Result<String> {
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
pub(crate) fn skip_byte_order_mark(text: &mut impl BufRead) -> io::Result<()> {
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
pub(crate) fn private_options() -> fs::OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has modes"))]
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file that only its owner may read (Unix). Fails if it exists.
pub(crate) fn create_private(file: &Path) -> io::Result<File> {
    private_options().write(true).create_new(true).open(file)
}

/// Creates or empties a file that is written during the run. `options` say how it is opened. Fails with [`io::ErrorKind::ResourceBusy`] if
/// another run writes this regular file; until the returned file is closed, it is locked. Where the file system or the system has no locks,
/// it is not.
pub(crate) fn create_locked(file: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    target_of(file)?;
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

/// Replaces the contents of `file` with `text`. Other processes never read a partial file. The mode of an existing file stays. A file that
/// cannot be replaced is written in place: a pipe, an open file (`/dev/fd/3`), a mounted file, and a file in a read-only folder.
pub(crate) fn write(file: &Path, text: &str) -> io::Result<()> {
    let target = target_of(file)?;
    let previous = fs::metadata(&target).ok();
    let is_replaceable = !is_descriptor(file) && previous.as_ref().is_none_or(fs::Metadata::is_file);
    let temp = temp_path(&target);
    if is_replaceable && let Ok(mut open) = create_temp_file(&temp, previous) {
        let written = open.write_all(text.as_bytes());
        if written.is_ok() && fs::rename(&temp, &target).is_ok() {
            return Ok(());
        }
        // Reports the first error, even if the removal also fails.
        let _ = fs::remove_file(&temp);
        written?;
    }
    File::options().write(true).create(true).truncate(true).open(file)?.write_all(text.as_bytes())
}

/// Creates the temporary file, with the mode of the `previous` file. Replaces what an aborted process left behind, or a link of another user of
/// a shared folder.
fn create_temp_file(temp: &Path, previous: Option<fs::Metadata>) -> io::Result<File> {
    let _ = fs::remove_file(temp);
    let Some(previous) = previous else { return File::create_new(temp) };
    let open = create_private(temp)?;
    open.set_permissions(previous.permissions())?;
    Ok(open)
}

/// Checks that `file` can be written. Empties the file of an earlier run, which could be mistaken for a new file.
pub(crate) fn prepare(file: &Path) -> io::Result<()> {
    let target = target_of(file)?;
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
            let temp = temp_path(&target);
            create_temp_file(&temp, None)?;
            fs::remove_file(&temp)
        }
    }
}

/// Like [`prepare`], but removes the file of an earlier run if possible. A mounted file cannot be removed.
pub(crate) fn prepare_absent(file: &Path) -> io::Result<()> {
    let target = target_of(file)?;
    let is_removable = fs::metadata(file).is_ok_and(|metadata| metadata.is_file()) && !is_descriptor(file);
    if is_removable && fs::remove_file(target).is_ok() { Ok(()) } else { prepare(file) }
}

/// Why `file` cannot be an output file: it is one of the standard streams, whose data would be lost.
pub(crate) fn stream_conflict(file: &Path) -> Option<String> {
    let file = node(file).filter(|file| node(Path::new("/dev/null")).as_ref() != Some(file))?;
    let streams = [("input", "/dev/stdin"), ("output", "/dev/stdout"), ("error", "/dev/stderr")];
    let (stream, _) = streams.into_iter().find(|(_, stream)| node(Path::new(stream)).as_ref() == Some(&file))?;
    Some(format!("this file is standard {stream}; give another file"))
}

/// Identifies a regular file: all paths and hard links to a file have the same identity. A file that does not exist yet is identified by its
/// directory and its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    node: Node,
    new_name: Option<OsString>,
}

impl FileIdentity {
    /// Follows symbolic links, even to a missing file. Returns `None` for devices and pipes, which several options may use, and for paths
    /// that cannot be used: their error is reported when the file is opened.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        if let Ok(metadata) = fs::metadata(file) {
            return metadata.is_file().then(|| node(file))?.map(|node| Self { node, new_name: None });
        }
        let target = resolve_links(file);
        if target.is_symlink() {
            return None;
        }
        Some(Self { node: node(folder_of(&target))?, new_name: Some(comparable_name(&target)?) })
    }
}

/// Device and inode.
#[cfg(unix)]
type Node = (u64, u64);

#[cfg(unix)]
fn node(path: &Path) -> Option<Node> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The standard library of other systems does not identify files, except by their path.
#[cfg(not(unix))]
type Node = PathBuf;

#[cfg(not(unix))]
fn node(path: &Path) -> Option<Node> {
    path.canonicalize().ok()
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

/// Like [`resolve_links`]. Fails if another user has put one of the links into a folder such as /tmp, and thus chosen the target.
fn target_of(file: &Path) -> io::Result<PathBuf> {
    #[cfg(unix)]
    if let Some(path) = link_chain(file).find(|path| path.ancestors().any(is_planted_link)) {
        let error = format!("{} contains a symbolic link of another user; give another file", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    Ok(resolve_links(file))
}

/// Whether `path` is a symbolic link that Linux refuses to follow if `protected_symlinks` is set: it belongs neither to this user nor to the
/// owner of its folder, which is sticky and writable for all.
#[cfg(unix)]
fn is_planted_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(link), Ok(folder)) = (fs::symlink_metadata(path), fs::metadata(folder_of(path))) else { return false };
    let is_shared = folder.mode() & 0o1002 == 0o1002;
    link.is_symlink() && is_shared && ![folder.uid(), nix::unistd::geteuid().as_raw()].contains(&link.uid())
}

/// Whether `file` stands for an open file: one of /dev/std*, /dev/fd/* and /proc/*/fd/*, or a link to one of these.
fn is_descriptor(file: &Path) -> bool {
    link_chain(file).any(|path| path.starts_with("/dev/fd") || path.starts_with("/proc"))
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

    /// The system reports `ETXTBSY`.
    #[cfg(target_os = "linux")]
    #[test]
    fn program_that_runs_is_not_replaced_by_an_output() {
        use std::process::Command;
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("sleep");
        // A process of its own writes the copy: a child of another test could hold a file open that this process writes.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().expect("a copy").success());
        let mut running = Command::new(&program).arg("600").spawn().expect("a program");
        let prepared = prepare(&program).map_err(|error| error.kind());
        running.kill().expect("a running program");
        running.wait().expect("an ended program");
        let is_kept = fs::metadata(&program).is_ok_and(|metadata| metadata.len() > 0);
        assert_eq!((prepared, is_kept), (Err(io::ErrorKind::ExecutableFileBusy), true));
    }

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
        for (file, is_open) in [
            ("/dev/stdin".into(), true),
            ("/dev/fd/1".into(), true),
            (format!("/proc/{}/task/{}/fd/0", std::process::id(), std::process::id()).into(), true),
            (format!("/dev/fd/{number}").into(), true),
            (format!("/dev/fd/{pipe}").into(), true),
            (at("direct"), true),
            (at("chain"), true),
            (at("loop"), false),
            (at("void"), false),
            (at("plain"), false),
            (at("missing"), false),
            (at("missing/file"), false),
            ("/".into(), false),
        ] {
            let file: PathBuf = file;
            assert_eq!(is_descriptor(&file), is_open, "{}", file.display());
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
    fn link_that_another_user_has_put_into_a_shared_folder_is_refused() {
        use std::os::unix::fs::{PermissionsExt, lchown, symlink};

        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).expect("a folder");
        for (link, target) in [("own", "goal"), ("planted", "goal"), ("chain", "planted"), ("planted_folder", "below")]
        {
            symlink(target, at(link)).expect("a link");
        }
        let planted = ["planted", "planted_folder"].map(|name| lchown(at(name), Some(61_234), None));
        if planted.iter().any(Result::is_err) {
            eprintln!("skipped: not root");
            return;
        }
        let write_all = |name: &str| {
            let locked = create_locked(&at(name), File::options().append(true)).map(drop);
            [write(&at(name), ""), prepare(&at(name)), locked, prepare_absent(&at(name))].map(|written| written.is_ok())
        };
        // Each folder with the links that may be followed there.
        for (mode, followed) in [(0o1777, [true, false, false, false]), (0o755, [true; 4])] {
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).expect("a mode");
            for (name, is_followed) in ["own", "planted", "chain", "planted_folder/new"].into_iter().zip(followed) {
                assert_eq!(write_all(name), [is_followed; 4], "{name} {mode:o}");
            }
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
