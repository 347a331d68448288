//! A file with a secret that only its owner can read, in a folder of its own. The file is removed when its value is dropped.
//!
//! The folder is `$XDG_RUNTIME_DIR` if only its owner can access it. Otherwise, a new folder in the temporary folder is used. The file and the
//! new folder must not exist before, so that another user of the temporary folder cannot prepare a link.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::io::os;

/// Number of attempts to create a new folder, whose name is random.
const FOLDER_ATTEMPTS: usize = 8;

/// A file that exists until this value is dropped.
#[derive(Debug)]
pub struct PrivateFile {
    path: PathBuf,
    /// The folder, if it was created for this file.
    folder: Option<PathBuf>,
}

impl PrivateFile {
    /// Creates the file with `text`. `name` begins the name of the file or of its folder. `runtime_folder` is the value of
    /// `XDG_RUNTIME_DIR`.
    pub fn create(name: &str, text: &str, runtime_folder: Option<&Path>) -> io::Result<Self> {
        let unique = format!("{name}-{}", random_suffix());
        if let Some(runtime) = runtime_folder.filter(|folder| is_private_folder(folder))
            && let Ok(file) = Self::create_at(runtime.join(unique), None, text)
            && has_same_owner(runtime, &file.path)
        {
            return Ok(file);
        }
        let folder = create_folder(&std::env::temp_dir(), name)?;
        Self::create_at(folder.join(name), Some(folder), text)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file at `path`. `folder` is the new folder that contains only this file, if there is one.
    fn create_at(path: PathBuf, folder: Option<PathBuf>, text: &str) -> io::Result<Self> {
        let mut open = match create_new_options().open(&path) {
            Ok(open) => open,
            Err(error) => {
                // A file at this path belongs to another program, so only the new folder is removed.
                if let Some(folder) = folder {
                    let _ = fs::remove_dir(folder);
                }
                return Err(error);
            }
        };
        // If writing fails, dropping this value removes the incomplete file.
        let file = Self { path, folder };
        open.write_all(text.as_bytes())?;
        Ok(file)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        // The user may have removed the file.
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

fn random_suffix() -> String {
    let [random] = os::random_u64s();
    format!("{random:016x}")
}

/// Options that create a new file of mode 0600. They fail if the path exists, even as a symbolic link.
fn create_new_options() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a new folder of mode 0700 below `parent`.
fn create_folder(parent: &Path, name: &str) -> io::Result<PathBuf> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the folder mode is set only on Unix"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let mut attempts = 0;
    loop {
        let folder = parent.join(format!("{name}-{}", random_suffix()));
        attempts += 1;
        match builder.create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < FOLDER_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether this is a folder, not a link to one, that only its owner can access.
#[cfg(unix)]
fn is_private_folder(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const OTHER_USERS: u32 = 0o077;
    let is_private = |metadata: fs::Metadata| metadata.is_dir() && metadata.permissions().mode() & OTHER_USERS == 0;
    folder.is_absolute() && fs::symlink_metadata(folder).is_ok_and(is_private)
}

#[cfg(not(unix))]
fn is_private_folder(_: &Path) -> bool {
    false
}

/// Whether the folder and the new file belong to the same user. With another user's environment, root could write to that user's folder.
#[cfg(unix)]
fn has_same_owner(folder: &Path, file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = |path| fs::symlink_metadata(path).ok().map(|metadata: fs::Metadata| metadata.uid());
    owner(folder).is_some_and(|uid| owner(file) == Some(uid))
}

#[cfg(not(unix))]
fn has_same_owner(_: &Path, _: &Path) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it exists").permissions().mode() & 0o7777
    }

    fn folder_with_mode(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("permissions");
        folder
    }

    #[test]
    fn private_runtime_folder_is_used_and_the_file_removed() {
        let runtime = folder_with_mode(0o700);
        let file = PrivateFile::create("link", "secret\n", Some(runtime.path())).expect("a file");
        assert_eq!(file.path().parent(), Some(runtime.path()));
        assert_eq!(fs::read_to_string(file.path()).expect("the text"), "secret\n");
        assert_eq!(mode(file.path()), 0o600);
        drop(file);
        assert_eq!(fs::read_dir(runtime.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn unusable_runtime_folder_is_replaced_by_a_new_folder() {
        let (open, private) = (folder_with_mode(0o755), folder_with_mode(0o700));
        let link = open.path().join("link");
        symlink(private.path(), &link).expect("a link");
        for runtime in [None, Some(open.path()), Some(link.as_path()), Some(Path::new("relative"))] {
            let file = PrivateFile::create("link", "secret\n", runtime).expect("a file");
            let folder = file.path().parent().expect("a folder").to_owned();
            assert_eq!(folder.parent(), Some(std::env::temp_dir().as_path()), "{runtime:?}");
            assert_eq!((mode(file.path()), mode(&folder)), (0o600, 0o700), "{runtime:?}");
            drop(file);
            assert!(!folder.exists(), "{runtime:?}");
        }
        assert_eq!(fs::read_dir(private.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn symbolic_link_at_the_path_is_not_followed() {
        let folder = folder_with_mode(0o700);
        let (victim, path) = (folder.path().join("victim"), folder.path().join("link"));
        for target_exists in [false, true] {
            if target_exists {
                fs::write(&victim, "mine").expect("a file");
            }
            symlink(&victim, &path).expect("a link");
            let error = PrivateFile::create_at(path.clone(), None, "secret").expect_err("it exists");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert!(path.is_symlink() && victim.exists() == target_exists);
            fs::remove_file(&path).expect("a link");
        }
        assert_eq!(fs::read_to_string(&victim).expect("a file"), "mine");
    }
}
