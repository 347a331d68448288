//! Files are complete after a power loss: the contents are stored before the new name. Shown by the system calls of the server.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::server::{Server, can_record_system_calls, poll_until, record_system_calls, run};

/// The recorded calls for files in `folder`, such as `rename a.part a`. The folder itself is `.`.
fn calls_in(folder: &Path, record: &str, server: u32) -> Vec<String> {
    let resolved = folder.canonicalize().unwrap();
    let name = |path: &str| {
        let inside = Path::new(path);
        let inside = inside.strip_prefix(folder).or_else(|_| inside.strip_prefix(&resolved)).ok()?;
        let name = inside.to_str().unwrap().replace(&format!(".{server}.part"), ".part");
        Some(if name.is_empty() { ".".to_owned() } else { name })
    };
    let calls = record.lines().filter_map(|line| {
        // `1234 fsync(5</folder/file>) = 0`. A line with `resumed` contains only the result of an earlier line.
        let (call, arguments) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let arguments = arguments.rsplit_once(" = ").map_or(arguments, |(arguments, _)| arguments);
        let names: Vec<String> = arguments.split(['"', '<', '>']).filter_map(name).collect();
        (!names.is_empty() && !line.contains(" resumed>")).then(|| format!("{call} {}", names.join(" ")))
    });
    calls.map(|call| call.replace("renameat2", "rename").replace("renameat", "rename")).collect()
}

/// The calls that replace `file`.
fn replacement_of(file: &str) -> [String; 6] {
    ["openat F.part", "write F.part", "fsync F.part", "rename F.part F", "openat .", "fsync ."]
        .map(|call| call.replace('F', file))
}

#[test]
fn contents_are_stored_before_the_new_name() {
    if !can_record_system_calls() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let mut address_file = PathBuf::new();
    let server = Server::start_with(&["--host", "127.0.0.1"], |command| {
        let arguments: Vec<_> = command.get_args().collect();
        address_file = arguments[1 + arguments.iter().position(|name| *name == "--address-file").unwrap()].into();
        record_system_calls(command, &record, &["-e", "trace=openat,write,fsync,/^rename"]);
    });
    let (id, address_folder) = (server.id(), address_file.parent().unwrap());
    poll_until("the whole record of the address file", || {
        let record = fs::read_to_string(&record).unwrap();
        calls_in(address_folder, &record, id).ends_with(&replacement_of("address")).then_some(())
    });
}

/// Starts a server whose `number`th `fsync` fails. The first is for the address file, the second for its folder.
fn fail_fsync(command: &mut std::process::Command, number: u8, error: &str) {
    let fault = format!("inject=fsync:error={error}:when={number}");
    record_system_calls(command, Path::new("/dev/null"), &["-e", "trace=fsync", "-e", &fault]);
}

#[test]
fn failed_fsync_of_a_file_or_its_folder_is_an_error() {
    if !can_record_system_calls() {
        return;
    }
    for number in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("address");
        let arguments = ["echo-server", "--host", "127.0.0.1", "--port", "0", "--address-file", file.to_str().unwrap()];
        let output = run(&arguments, |command| fail_fsync(command, number, "EIO"));
        assert_eq!(output.code, 3, "{number}: {output:?}");
        assert!(output.stderr.contains(&format!("cannot write the address to {}: ", file.display())), "{output:?}");
        // A file whose contents are not stored gets no new name.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(number == 2), "{number}");
    }
}

#[test]
fn file_system_without_fsync_of_folders_is_no_error() {
    if can_record_system_calls() {
        for error in ["EINVAL", "EOPNOTSUPP"] {
            let server = Server::start_with(&["--host", "127.0.0.1"], |command| fail_fsync(command, 2, error));
            assert_eq!(server.stop("TERM").code, Some(0), "{error}");
        }
    }
}
