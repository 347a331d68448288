//! Tests `send` with malformed files. The program sends all complete samples of a damaged file. If the audio data ends early or in the
//! middle of a frame, the program prints a warning. A file without samples is rejected with one line before any packet is sent.

#![cfg(unix)]

use client::program::{ProgramOutput, run, run_args, run_with_input};
use client::server::Server;
use client::{at_once, fixture};
use test_support::client;

const SUPPORTED: &str = "supported: RIFF WAV with 8, 16, 24 or 32-bit integers or 32-bit floats. \
                         To convert the file: ffmpeg -i IN -c:a pcm_s16le OUT.wav";

#[test]
fn unplayable_wav_is_rejected_in_one_line_before_sending() {
    let unsupported =
        |found: &str| format!("cannot read FILE: the format is {found}, which is not supported; {SUPPORTED}");
    let cases = [
        ("empty-file", "cannot read FILE: the file is empty".to_owned()),
        ("empty-data", "nothing to send: FILE contains no audio".to_owned()),
        ("ima-adpcm", unsupported("IMA ADPCM (tag 0x0011), 4 bits, 1 channel, 22050 Hz")),
        (
            "extensible-unknown-subformat",
            unsupported(
                "unknown encoding (tag 0xfffe extensible, sub-format 00000092-0000-0010-8000-00aa00389b71), 16 bits, 2 \
                 channels, 48000 Hz",
            ),
        ),
        ("not-a-wav", format!("cannot read FILE: not a RIFF WAV file (found text); {SUPPORTED}")),
        ("header-cut-in-fmt", "cannot read FILE: the file ends inside its header".to_owned()),
        ("zero-channels", "cannot read FILE: the header is damaged: 0 channels; supported: 1 to 256".to_owned()),
        (
            "zero-rate",
            "cannot read FILE: the header is damaged: sample rate 0 Hz; supported: 1000 to 768000 Hz".to_owned(),
        ),
    ];
    let server = Server::correct();
    at_once(cases, |(name, expected)| {
        let file = format!("fixtures/audio/broken/{name}.wav");
        let output = run(&format!("send --wav {file} --resample native --to {}", server.to()));
        // A file with a valid header but without samples is described before it is rejected.
        let message = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(message, format!("jamjam-dev: {}", expected.replace("FILE", &file)));
        assert_eq!(output.stderr.lines().count(), if name == "empty-data" { 2 } else { 1 }, "{}", output.stderr);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{name}");

        let input = std::fs::read(fixture(&format!("broken/{name}.wav"))).unwrap();
        let output = run_with_input(["send", "--wav", "-", "--resample", "native", "--to", &server.to()], input);
        let message = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(message, format!("jamjam-dev: {}", expected.replace("FILE", "standard input")));
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{name}");
    });
    assert_eq!(server.received(), []);
}

/// The first samples of the sawtooth in these files. A period has 256 samples. Within a period, the sample value increases by 64 from
/// sample to sample (on a 16-bit scale).
fn saw_tooth(samples: i16) -> Vec<f32> {
    (0..samples).map(|n| f32::from((n % 256 - 128) * 64) / 32_768.0).collect()
}

#[test]
fn damaged_wav_is_played_to_its_last_whole_sample_with_a_warning() {
    let cut = |bytes| format!("incomplete frame at the end ({bytes} bytes) dropped");
    let early =
        |claimed, found| format!("data ends early: the header states {claimed} frames, but the file contains {found}");
    let cases = [
        ("truncated", 1_000, format!("{}; {}", early("2000", 1_000), cut("1 of 2"))),
        ("truncated-24bit", 700, format!("{}; {}", early("1000", 700), cut("2 of 3"))),
        ("data-length-too-big", 1_000, early("2013265920", 1_000)),
        ("data-length-odd", 1_000, cut("1 of 2")),
        ("data-length-0", 1_000, String::new()),
        ("data-length-ffffffff", 1_000, String::new()),
        ("riff-size-wrong", 1_000, String::new()),
        ("chunks-in-odd-order", 1_000, String::new()),
    ];
    at_once(cases, |(name, samples, warning)| {
        let file = format!("fixtures/audio/broken/{name}.wav");
        let server = Server::correct();
        let output = run(&format!("send --wav {file} --resample native --to {} --spin 0", server.to()));
        assert_eq!(output.code, 0, "{name}: {output:?}");
        assert_eq!(server.samples(), saw_tooth(samples), "{name}");
        let found = if name == "truncated-24bit" { "24" } else { "16" };
        assert_eq!(output.stderr, format!("jamjam-dev: {file}: {found}-bit integer, 1 channel, 8000 Hz\n"), "{name}");
        let expected: &[String] = if warning.is_empty() { &[] } else { &[format!("{name}.wav: {warning}")] };
        let warnings = |output: &ProgramOutput| -> Vec<String> {
            let lines = output.stdout.lines().filter_map(|line| line.strip_prefix("warning: "));
            lines.filter(|line| line.starts_with(name)).map(str::to_owned).collect()
        };
        assert_eq!(warnings(&output), expected, "{name}");

        // With `--repeat 2`, the sound is sent twice, but a warning is printed only once, also with `--quiet`.
        let server = Server::correct();
        let output =
            run(&format!("send --wav {file} --resample native --repeat 2 --quiet --to {} --spin 0", server.to()));
        assert_eq!(server.samples(), saw_tooth(samples).repeat(2), "{name}");
        assert_eq!((warnings(&output), output.stderr.as_str()), (expected.to_vec(), ""), "{name}");
    });
}

#[test]
fn unreadable_file_is_reported_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.wav");
    let forbidden = folder.path().join("forbidden.wav");
    std::fs::copy(fixture("24bit-mono-48k.wav"), &forbidden).unwrap();
    let mut cases = vec![
        (missing, "cannot open FILE: No such file or directory"),
        (folder.path().to_owned(), "cannot read FILE: Is a directory"),
        (folder.path().join("x".repeat(300)), "cannot open FILE: File name too long"),
    ];
    if forbid(&forbidden) {
        cases.push((forbidden, "cannot open FILE: Permission denied"));
    }
    let server = Server::correct();
    at_once(cases, |(path, expected)| {
        let to = server.to();
        let output = run_args(["send", "--wav", path.to_str().unwrap(), "--to", &to]);
        let expected = format!("jamjam-dev: {} (os error ", expected.replace("FILE", path.to_str().unwrap()));
        assert!(output.stderr.starts_with(&expected) && output.stderr.lines().count() == 1, "{}", output.stderr);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""));
    });
    assert_eq!(server.received(), []);
}

/// Removes the read permission. Returns false if this user can still read the file, as root can.
fn forbid(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::File::open(path).is_err()
}

#[test]
fn recording_never_overwrites_the_file_being_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("take.wav");
    std::fs::copy(fixture("24bit-mono-48k.wav"), &file).unwrap();
    let link = folder.path().join("link.wav");
    let hard_link = folder.path().join("hard link.wav");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::hard_link(&file, &hard_link).unwrap();
    for record in [&file, &link, &hard_link, &folder.path().join(".").join("take.wav")] {
        let [wav, record] = [&file, record].map(|path| path.to_str().unwrap());
        let output = run_args(["send", "--wav", wav, "--embedded", "--record", record]);
        assert_eq!(output.code, 2, "{output:?}");
        let message =
            format!("jamjam-dev: --wav {wav} and --record {record} are the same file; give different files\n");
        assert_eq!(output.stderr, message);
    }
    assert!(std::fs::read(&file).unwrap() == std::fs::read(fixture("24bit-mono-48k.wav")).unwrap());
}

#[test]
fn unwritable_recording_fails_before_sending() {
    let server = Server::correct();
    let to = server.to();
    let output = run_args(["send", "--tone", "440", "--record", "/no/such/folder/take.wav", "--to", &to]);
    assert_eq!((output.code, output.stdout.as_str()), (3, ""));
    assert!(
        output.stderr.starts_with("jamjam-dev: cannot write the recording to /no/such/folder/take.wav: "),
        "{output:?}"
    );
    assert_eq!(server.received(), []);
    // If the WAV file contains no samples, no empty recording is left behind.
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("take.wav");
    let empty = "fixtures/audio/broken/empty-data.wav";
    assert_eq!(run_args(["send", "--wav", empty, "--to", &to, "--record", record.to_str().unwrap()]).code, 3);
    assert!(!record.exists());
}
