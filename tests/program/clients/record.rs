//! The recordings of `send`: `--record` is the returned audio, `--record-both` sent audio on the left and returned on the right.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use test_support::client::{Server, ServerAction, Wav, document, fixture, program, run_to_success, together, wav};

use crate::clients::report;

const SPEECH: &str = "fixtures/audio/speech-16bit-mono-48k.wav";

/// A folder for the two recordings of a run.
struct Recordings(TempDir);

impl Recordings {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The options for both recordings.
    fn options(&self) -> String {
        format!("--record {} --record-both {}", self.path("back.wav").display(), self.path("both.wav").display())
    }

    /// The samples of `--record`, and the left and the right side of `--record-both`.
    fn samples(&self) -> [Vec<f32>; 3] {
        let [left, right] = sides(&self.path("both.wav"));
        [Wav::read(&self.path("back.wav")).samples(), left, right]
    }
}

/// The two channels of a stereo file.
fn sides(file: &Path) -> [Vec<f32>; 2] {
    let wav = Wav::read(file);
    assert_eq!(wav.channels, 2);
    [0, 1].map(|side| wav.samples().into_iter().skip(side).step_by(2).collect())
}

#[test]
fn reordering_duplicates_and_damage_do_not_move_samples() {
    let folder = Recordings::new();
    // 197 ms are 9,456 samples in 74 packets. The first, some in the middle and the last never return.
    let server = Server::with_audio(|sequence| match sequence {
        1 | 10 | 11 | 74 => ServerAction::Silence,
        33 => ServerAction::Damage,
        _ if sequence % 4 == 0 => ServerAction::AfterNext,
        _ if sequence % 4 == 1 => ServerAction::Times(2),
        _ if sequence % 4 == 2 => ServerAction::DamageThenReply,
        _ => ServerAction::Reply,
    });
    let line = format!("send --wav {SPEECH} --duration 197ms --timeout 500ms --delay 0 --to {}", server.to());
    // A run with damaged packets has exit code 1.
    let report = report(1, &format!("{line} --spin 0 {}", folder.options()));
    let [sent, damaged, excluded] = document::counts(&report, "audio", ["sent", "damaged", "excluded"]);
    let (audio, quality) = (&report["audio"], &report["audio_quality"]);
    assert_eq!((sent, damaged), (74, 1));
    assert_eq!((&audio["recorded_samples"], &audio["recorded_both_samples"]), (&json!(9_456), &json!(9_456)));
    let gaps = quality["gap_list"].as_array().unwrap().iter();
    let gaps: Vec<_> = gaps.map(|gap| ["first_packet", "packets"].map(|name| gap[name].as_u64())).collect();
    // A packet that was in flight during a pause of this host is excluded, and its loss is no gap.
    let expected = [[0, 1], [9, 2], [73, 1]].map(|gap| gap.map(Some));
    assert!(excluded > 0 || gaps == expected, "{quality:#}");
    let sent = server.samples();
    assert!(sent == Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples()[..9_456]);
    let mut expected = sent.clone();
    for sequence in [1, 10, 11, 33, 74] {
        expected[(sequence - 1) * 128..].iter_mut().take(128).for_each(|sample| *sample = 0.0);
    }
    assert!(folder.samples() == [expected.clone(), sent, expected]);
}

#[test]
fn recordings_without_replies_are_silent_and_have_the_full_length() {
    let (folder, server) = (Recordings::new(), Server::silent());
    let line = format!("send --tone 440 --duration 21ms --timeout 100ms --to {} --spin 0 --delay 0", server.to());
    report(1, &format!("{line} {}", folder.options()));
    assert!(folder.samples() == [vec![0.0; 1_008], server.samples(), vec![0.0; 1_008]]);

    let (server, file) = (Server::silent(), folder.path("right.wav"));
    report(
        0,
        &format!(
            "send --tone 440 --duration 21ms --no-echo --to {} --spin 0 --record-both {}",
            server.to(),
            file.display()
        ),
    );
    assert!(sides(&file) == [server.samples(), vec![0.0; 1_008]]);
}

#[test]
fn stereo_is_recorded_unchanged_and_mixed_to_mono_for_both_sides() {
    let folder = Recordings::new();
    // The mean of two 16-bit samples is exact as a 32-bit float.
    let input: Vec<i16> = (0..2_000).flat_map(|n| [n * 16, -7_000 + n]).collect();
    let take = folder.path("take.wav");
    wav::write(&take, 44_100, 2, &input);
    let line = format!("send {} --resample native --frame-size 100 --embedded --delay 20 --spin 0", take.display());
    let output = run_to_success(&format!("{line} {}", folder.options()));
    let notice = "jamjam-dev: --record-both: sent and returned audio are each mixed to mono\n";
    assert!(output.stderr.contains(notice), "{output:?}");
    let [back, both] = ["back.wav", "both.wav"].map(|name| Wav::read(&folder.path(name)));
    assert_eq!((back.channels, back.rate, both.rate, both.bits), (2, 44_100, 44_100, 32));
    let mean: Vec<f32> = input.chunks(2).map(|pair| (f32::from(pair[0]) + f32::from(pair[1])) / 65_536.0).collect();
    let unchanged: Vec<f32> = input.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    assert!(folder.samples() == [unchanged, mean.clone(), mean]);
}

#[test]
fn interrupted_run_leaves_valid_recordings() {
    let (folder, server) = (Recordings::new(), Server::correct());
    let line = format!("send --tone 440 --delay 0 --json --to {} {}", server.to(), folder.options());
    let program = program::start_line(&line);
    server.wait_for(100);
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    let report = document::report(&output);
    // Packets in flight are no gaps.
    assert_eq!(report["audio_quality"]["gap_packets"], report["streams"]["audio"]["lost"]);
    let [sent, in_flight] = document::counts(&report, "audio", ["sent", "in_flight"]).map(|packets| packets as usize);
    let first_in_flight = (sent - in_flight) * 128;
    let sent = server.samples()[..sent * 128].to_vec();
    let mut expected = sent.clone();
    expected[first_in_flight..].fill(0.0);
    assert_eq!(report["audio"]["recorded_samples"], sent.len());
    assert!(folder.samples() == [expected.clone(), sent, expected]);
}

/// A limit on the size of files simulates a full disk.
#[test]
fn full_disk_keeps_the_written_samples_and_reports_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let speech = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples();
    // 100 blocks of 512 bytes hold the header of 58 bytes and 12,785 samples, or 99 whole packets; of two channels, 49 packets.
    together([("--record", 1, 99), ("--record-both", 2, 49)], |(option, channels, packets)| {
        let file = folder.path().join(format!("{channels}.wav"));
        let line = format!(
            "ulimit -f 100; exec {} send --wav {SPEECH} --embedded --delay 20 --spin 0 {option} {}",
            env!("CARGO_BIN_EXE_jamjam-dev"),
            file.display()
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line]).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = program::start(&mut command).end();
        assert_eq!(output.code, 3, "{output:?}");
        let samples = packets * 128;
        let there =
            format!("; the file contains the first {:.3} s, {samples} samples\n", f64::from(samples) / 48_000.0);
        assert!(output.stderr.contains("cannot write the recording: File too large"), "{output:?}");
        // The run continued, as its report shows.
        assert!(output.stderr.ends_with(&there) && output.stdout.contains("ABORTED: 563 sent"), "{output:?}");
        let wav = Wav::read(&file);
        assert_eq!((wav.channels, wav.samples().len()), (channels, samples as usize * usize::from(channels)));
        assert!(wav.samples().into_iter().step_by(channels.into()).eq(speech[..samples as usize].iter().copied()));
    });
}
