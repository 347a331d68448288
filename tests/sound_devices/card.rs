//! A sound card that is a file: the plug-in of `sound_card.c`, built here, and configurations of ALSA that know it.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use test_support::client::program::{self, Program, ProgramOutput};

const HEADER: &str = "/usr/include/alsa/pcm_external.h";

/// The plug-in; the folder that it is in goes with the test program. If it cannot be built, the test prints a line and is skipped,
/// but in CI it must be.
pub fn plug_in() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let has_gcc = Command::new("gcc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !has_gcc || !Path::new(HEADER).exists() {
            let missing = format!("no gcc, or no {HEADER}; sh scripts/setup --tests installs them on Debian");
            assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
            // Past the test runner's capture, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libsound_card.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sound_devices/sound_card.c");
        let flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-DPIC", "-o"];
        let gcc = Command::new("gcc").args(flags).arg(&library).arg(source).arg("-lasound").output().unwrap();
        assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
        Some((folder, library))
    });
    built.as_ref().map(|(_, library)| library.as_path())
}

/// A configuration of ALSA, the only one that a program sees. No card of this machine is in it.
pub struct Alsa {
    folder: tempfile::TempDir,
    text: String,
}

impl Alsa {
    /// Without any device.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text: String::new() }.written()
    }

    /// With the plug-in, and nothing that is made of it yet.
    pub fn with(plug_in: &Path) -> Self {
        Self { text: format!("pcm_type.sound_card {{ lib \"{}\" }}\n", plug_in.display()), ..Self::empty() }
    }

    /// And a card called `name` that delivers `sound`, with these fields.
    pub fn and(mut self, name: &str, sound: &[u8], fields: &str) -> Self {
        let file = self.folder.path().join(format!("{name}.raw"));
        std::fs::write(&file, sound).unwrap();
        // Written by hand, and read at once: no name here has a letter that ALSA would understand.
        writeln!(
            self.text,
            "pcm.!{name} {{ type sound_card file \"{}\" {fields} hint {{ show on description \"The card {name}\" }} }}",
            file.display()
        )
        .unwrap();
        self.written()
    }

    /// And a card called `name`, with these fields, that plays.
    pub fn and_speaker(mut self, name: &str, fields: &str) -> Self {
        let file = self.folder.path().join(format!("{name}.played"));
        writeln!(
            self.text,
            "pcm.!{name} {{ type sound_card played \"{}\" {fields} hint {{ show on description \"The card {name}\" }} }}",
            file.display()
        )
        .unwrap();
        self.written()
    }

    /// What that card has played.
    pub fn played(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(format!("{name}.played"))).unwrap()
    }

    /// And whatever these words of ALSA's make.
    pub fn and_words(mut self, words: &str) -> Self {
        self.text += words;
        self.text.push('\n');
        self.written()
    }

    fn written(self) -> Self {
        std::fs::write(self.folder.path().join("asound.conf"), &self.text).unwrap();
        self
    }

    /// The program with these arguments, which sees this and no other sound.
    pub fn start(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        program::start(program::command(args).env("ALSA_CONFIG_PATH", self.folder.path().join("asound.conf")))
    }

    /// Runs `send` with the words of `line`, and these arguments after them.
    pub fn send(&self, line: &str, more: &[&OsStr]) -> ProgramOutput {
        let words = line.split_whitespace().map(OsStr::new);
        self.start([OsStr::new("send")].into_iter().chain(words).chain(more.iter().copied())).end()
    }
}
