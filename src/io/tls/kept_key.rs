//! The key of the certificates that a server makes itself, kept in a folder. It is believed only where nobody else could have put
//! it, or read it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use thiserror::Error;

use crate::io::whole_file;

/// More than any key takes.
const LONGEST: u64 = 1 << 16;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum CannotMake {
    /// A file or the folder cannot be used.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The key in the folder is none of ours.
    #[error("{} holds no ECDSA P-256 key as this server makes them: remove the file, and a new one is made", .0.display())]
    Key(PathBuf),
    /// Others can use the key.
    #[error(
        "others than its owner can use the key {} (its mode is {mode:03o}): remove it, and a new one is made, or, if nobody has read it, \
         `chmod 600 {}`", .file.display(), .file.display()
    )]
    Open {
        /// The key's file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else has put it there.
    #[error("the key {} belongs to another user: remove it, and a new one is made, or give it to the user of this server with `chown`", .0.display())]
    Strange(PathBuf),
    /// The library cannot make a certificate.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The library cannot use what was made.
    #[error("cannot use the certificate that was made: {0}")]
    Use(#[from] rustls::Error),
}

/// Makes the folder, and those that it is in, if they are not there: for their owner alone, where the system knows owners.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The key in `file`, made if it is not there. Nobody but its owner can read it.
pub(super) fn read_or_make(file: &Path) -> Result<KeyPair, CannotMake> {
    let cannot = |what| move |error| CannotMake::File { what, path: file.to_owned(), error };
    let strange = || CannotMake::Key(file.to_owned());
    let open = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            whole_file::write_secret(file, &key.serialize_pem()).map_err(cannot("write"))?;
            return Ok(key);
        }
        opened => opened.map_err(cannot("read"))?,
    };
    // What is open is judged, and not what has the name by then.
    let about = open.metadata().map_err(cannot("read"))?;
    refuse_others(file, &about)?;
    let mut text = String::new();
    match open.take(LONGEST).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(strange()),
        Err(error) => Err(cannot("read")(error)),
        Ok(_) => KeyPair::from_pem_and_sign_algo(&text, &PKCS_ECDSA_P256_SHA256).map_err(|_| strange()),
    }
}

#[cfg(unix)]
fn refuse_others(file: &Path, about: &fs::Metadata) -> Result<(), CannotMake> {
    use std::os::unix::fs::MetadataExt;

    #[cfg(target_os = "linux")]
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(CannotMake::Strange(file.to_owned()));
    }
    let (mode, others) = (about.mode() & 0o777, 0o077);
    if mode & others == 0 { Ok(()) } else { Err(CannotMake::Open { file: file.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_others(_: &Path, _: &fs::Metadata) -> Result<(), CannotMake> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_others_can_read_or_have_put_there_is_not_used() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("new/certificates");
        make_folder(&folder).expect("a folder");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&place.path().join("new"))), (0o700, 0o700));
        let file = folder.join("key.pem");
        let first = read_or_make(&file).expect("a key").serialize_pem();
        for (mode, is_open) in [(0o640, true), (0o604, true), (0o620, true), (0o400, false), (0o600, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).expect("ours");
            let read = read_or_make(&file).map(|key| key.serialize_pem());
            match read {
                Err(error @ CannotMake::Open { .. }) if is_open => {
                    let told = error.to_string();
                    assert!(told.contains(&format!("mode is {mode:03o}")) && told.contains("chmod 600"), "{told}");
                }
                read => assert!(!is_open && read.expect("a key") == first, "{mode:o}"),
            }
        }
        // Only root can give a file away.
        if std::os::unix::fs::chown(&file, Some(65_532), None).is_ok() {
            let told = read_or_make(&file).expect_err("another's key").to_string();
            assert!(told.contains("belongs to another user") && told.contains("chown"), "{told}");
        }
    }
}
