//! Files that a command reads and writes: no two of them may be the same one, or one would destroy the other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Failure;

/// Refuses a file that is named by two of these options, however it is spelled. `-` and the like are no files.
pub fn refuse_one_file_twice<'a>(files: impl IntoIterator<Item = (&'static str, &'a Path)>) -> Result<(), Failure> {
    let mut known: Vec<(&str, Identity)> = Vec::new();
    for (option, file) in files {
        let Some(identity) = identity(file) else { continue };
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == identity) {
            let file = file.display();
            return Err(Failure::usage(format!(
                "{other} and {option}: both name {file}, and one would destroy the other"
            )));
        }
        known.push((option, identity));
    }
    Ok(())
}

/// Where a file is once links are followed: its folder, and its name there, also if it is still to be made.
type Identity = (PathBuf, Option<OsString>);

fn identity(file: &Path) -> Option<Identity> {
    if let Ok(real) = file.canonicalize() {
        // A device such as /dev/null takes everything.
        return real.is_file().then(|| split(&real));
    }
    // Whatever is wrong with the folder is told by whoever writes there.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let led_to = std::fs::read_link(file).map(|target| folder.join(target));
    match led_to {
        Ok(target) if target != file => identity(&target),
        _ => Some((folder.canonicalize().ok()?, file.file_name().map(OsString::from))),
    }
}

fn split(real: &Path) -> Identity {
    (real.parent().unwrap_or(real).to_owned(), real.file_name().map(OsString::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(files: &[(&'static str, PathBuf)]) -> bool {
        refuse_one_file_twice(files.iter().map(|(option, file)| (*option, file.as_path()))).is_err()
    }

    #[test]
    fn one_file_under_two_spellings_is_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("there"), "").expect("a file");
        std::fs::create_dir(at("below")).expect("a folder");
        for (one, other, same) in [
            ("there", "there", true),
            ("there", "below/../there", true),
            ("new", "./new", true),
            ("new", "below/../new", true),
            ("new", "newer", false),
            ("new", "below/new", false),
            ("there", "new", false),
        ] {
            assert_eq!(refused(&[("--a", at(one)), ("--b", at(other))]), same, "{one} {other}");
        }
        // A folder that is not there is another's matter.
        assert!(!refused(&[("--a", at("nowhere/x")), ("--b", at("nowhere/x"))]));
        assert!(!refused(&[("--a", "/dev/null".into()), ("--b", "/dev/null".into())]));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_what_it_leads_to_also_where_nothing_is_yet() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("goal", at("link")).expect("a link");
        std::os::unix::fs::symlink("link", at("linked")).expect("a link");
        assert!(refused(&[("--a", at("linked")), ("--b", at("goal"))]));
        std::fs::write(at("goal"), "").expect("a file");
        assert!(refused(&[("--a", at("linked")), ("--b", at("goal"))]));
        // A link to itself leads nowhere, and ends here.
        std::os::unix::fs::symlink(at("loop"), at("loop")).expect("a link");
        assert!(refused(&[("--a", at("loop")), ("--b", at("loop"))]));
    }
}
