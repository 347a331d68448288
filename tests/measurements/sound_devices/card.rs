//! A simulated sound card. Builds the plug-in from `sound_card.c`, and writes ALSA configurations that use it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use test_support::client::{Program, ProgramOutput, program};

use super::report;

/// Builds the plug-in in a folder that lives as long as the test program.
fn plug_in() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libsound_card.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/measurements/sound_devices/sound_card.c");
        let flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-DPIC", "-o"];
        let gcc = Command::new("gcc").args(flags).arg(&library).arg(source).arg("-lasound").output().unwrap();
        assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
        (folder, library)
    });
    library
}

/// The ALSA configuration that the program uses. The configuration contains none of this machine's cards.
pub struct Alsa {
    folder: tempfile::TempDir,
    text: String,
}

impl Alsa {
    /// A configuration without devices.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text: String::new() }.written()
    }

    /// A configuration with the plug-in but without cards.
    pub fn with_plug_in() -> Self {
        Self { text: format!("pcm_type.sound_card {{ lib \"{}\" }}\n", plug_in().display()), ..Self::empty() }
    }

    /// Adds a capture card called `name` that delivers `sound`. `fields` contains further ALSA settings of the card.
    pub fn with_card(self, name: &str, sound: &[u8], fields: &str) -> Self {
        let file = self.folder.path().join(format!("{name}.raw"));
        std::fs::write(&file, sound).unwrap();
        self.with_file(name, "file", &file, fields)
    }

    /// Adds a playback card called `name`. `fields` contains further ALSA settings of the card.
    pub fn with_playback_card(self, name: &str, fields: &str) -> Self {
        let file = self.folder.path().join(format!("{name}.played"));
        self.with_file(name, "played", &file, fields)
    }

    fn with_file(mut self, name: &str, kind: &str, file: &Path, fields: &str) -> Self {
        // Nothing is escaped: no name here contains a character that is special in ALSA.
        let hint = format!("hint {{ show on description \"The card {name}\" }}");
        let file = file.display();
        writeln!(self.text, "pcm.!{name} {{ type sound_card {kind} \"{file}\" {fields} {hint} }}").unwrap();
        self.written()
    }

    /// The bytes that this card has played.
    pub fn played(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(format!("{name}.played"))).unwrap()
    }

    fn written(self) -> Self {
        std::fs::write(self.folder.path().join("asound.conf"), &self.text).unwrap();
        self
    }

    /// Starts the program with these arguments and this configuration.
    pub fn start(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        program::start(program::command(args).env("ALSA_CONFIG_PATH", self.folder.path().join("asound.conf")))
    }

    /// Runs the program with the words of `line`.
    pub fn run(&self, line: &str) -> ProgramOutput {
        self.start(line.split_whitespace()).end()
    }

    /// Runs `send --json` with the words of `line`. Returns the report.
    pub fn report(&self, code: i32, line: &str) -> Value {
        report(&self.run(&format!("send --json {line}")), code)
    }
}
