//! Helpers for the test programs: the program as a process, transcripts, and clients and servers with none of the program's code.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// A helper panics if the test cannot continue. Names say what most helpers do, so only the others are documented.
#![allow(missing_docs, clippy::missing_panics_doc, clippy::new_without_default)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub mod certificate;
pub mod client;
pub mod compare;
pub mod echo_link;
pub mod golden;
#[cfg(feature = "moqt")]
pub mod joined_peers;
pub mod link_client;
pub mod link_vectors;
pub mod logged;
#[cfg(feature = "moqt")]
pub mod manual_peer;
pub mod moqt_golden;
pub mod node_driver;
#[cfg(feature = "signaling")]
pub mod read_queue;
pub mod recording_sink;
pub mod repository_files;
pub mod rng;
pub mod server;
pub mod snapshot;
pub mod sockets;
pub mod stun;
pub mod transcript;
#[cfg(feature = "signaling")]
pub mod transcript_files;

/// The longest wait for an event, which is the only time that tests other than measurements depend on.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/support is in it")
}

/// The program that `PROGRAM` names, otherwise the one that was built together with the running test program. cargo 1.94 and later pass its
/// path in a variable. Otherwise, it is the program in the folder above the test program, which is another build if `scripts/check` built
/// the test program.
pub fn built_program() -> PathBuf {
    if let Some(program) = ["PROGRAM", "CARGO_BIN_EXE_jamjam-dev"].into_iter().find_map(std::env::var_os) {
        return program.into();
    }
    let test = std::env::current_exe().expect("the path of this test program");
    let program = test
        .ancestors()
        .nth(2)
        .expect("a target folder")
        .join("jamjam-dev")
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not built", program.display());
    program
}

/// Environment variables that a tested program inherits. All others are removed, because they could be settings of the program.
const INHERITED_VARIABLES: [&str; 8] =
    ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "SSL_CERT_DIR", "SSL_CERT_FILE", "SYSTEMROOT"];

/// A command that starts `program` without settings from the environment.
pub fn command_without_settings(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.envs(INHERITED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}
