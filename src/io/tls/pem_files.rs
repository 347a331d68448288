//! The files of a certificate and its key. Their state shows whether they were replaced or written since they were read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The paths of a certificate file and of its key file.
#[derive(Clone, Debug)]
pub(super) struct PemFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// The state of the files before they were first read.
    pub(super) first_state: FilesState,
}

/// The state of both files; `None` for a file that does not exist.
pub(super) type FilesState = [Option<FileState>; 2];

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    modified: Option<SystemTime>,
    bytes: u64,
    /// Inode number and time of the last status change, which includes changes of the owner and the permissions. Zero on systems other than
    /// Unix.
    identity: (u64, i64, i64),
}

impl PemFiles {
    /// The files at these paths, in their current state.
    pub(super) fn new(certificate: &Path, key: &Path) -> Self {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let first_state = [file_state(&certificate), file_state(&key)];
        Self { certificate, key, first_state }
    }

    /// The current state of both files.
    pub(super) fn state(&self) -> FilesState {
        [file_state(&self.certificate), file_state(&self.key)]
    }
}

fn file_state(file: &Path) -> Option<FileState> {
    let metadata = fs::metadata(file).ok()?;
    #[cfg(unix)]
    let identity = {
        use std::os::unix::fs::MetadataExt;
        (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    };
    #[cfg(not(unix))]
    let identity = (0, 0, 0);
    Some(FileState { modified: metadata.modified().ok(), bytes: metadata.len(), identity })
}
