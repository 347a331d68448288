//! The recording of `send --record-both`: sent audio on the left, returned audio on the right.

use std::path::Path;
use test_support::client;

use client::packet::{AUDIO, Packet};
use client::program::{self, ProgramOutput, run_args};
use client::server::{Server, ServerAction};
use client::wav::Wav;
use client::{at_once, document, fixture};

const SPEECH: &str = "fixtures/audio/speech-16bit-mono-48k.wav";

/// Runs `line`, split at spaces, with the file as the last argument.
fn record(line: &str, file: &Path) -> ProgramOutput {
    run_args(line.split_whitespace().map(AsRef::as_ref).chain([file.as_os_str()]))
}

/// The two channels of a stereo file.
fn sides(file: &Path) -> [Vec<f32>; 2] {
    let wav = Wav::read(file);
    assert_eq!(wav.channels, 2);
    [0, 1].map(|side| wav.samples().into_iter().skip(side).step_by(2).collect())
}

/// The samples that the server has received, in order.
fn sent_to(server: &Server) -> Vec<f32> {
    server.received_of(AUDIO).iter().flat_map(Packet::samples).collect()
}

#[test]
fn record_both_matches_the_audio_and_is_silent_for_lost_packets() {
    let folder = tempfile::tempdir().unwrap();
    let speech = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples();
    // Packets are lost, delayed, reordered and partly duplicated.
    let paths = ["--loss 5% --seed 7", "--loss 2%,40% --jitter 30ms --reorder 5% --duplicate 5% --seed 3"];
    at_once(paths.iter().enumerate(), |(number, path)| {
        let [file, outcomes] = ["wav", "csv"].map(|kind| folder.path().join(format!("{number}.{kind}")));
        let outcome_log = outcomes.display();
        let line = format!(
            "send --wav {SPEECH} --embedded --delay 300 {path} --outcome-log {outcome_log} --spin 0 --json --record-both"
        );
        let output = record(&line, &file);
        assert_eq!(output.code, 0, "{output:?}");
        let [left, right] = sides(&file);
        assert!(left == speech, "{path}");
        let mut expected = speech.clone();
        let mut lost = 0;
        for row in std::fs::read_to_string(&outcomes).unwrap().lines().skip(1) {
            let cells: Vec<&str> = row.split(',').collect();
            if cells[2] == "AUDIO" && ["lost", "burst"].contains(&cells[4]) {
                // The first packet has sequence number 1.
                let from = (cells[3].parse::<usize>().unwrap() - 1) * 128;
                expected[from..(from + 128).min(speech.len())].fill(0.0);
                lost += 1;
            }
        }
        assert!(lost > 5 && right == expected, "{path}: {lost} lost");
        let report = document::report(&output);
        assert_eq!(document::counts(&report, "audio", ["lost"]), [lost]);
        let audio = &report["audio"];
        assert_eq!((&audio["recorded_both_samples"], &audio["recording_both_dropped"]), (&72_000.into(), &0.into()));
        assert!(audio["recorded_samples"].is_null());
    });
}

#[test]
fn record_both_mixes_each_stereo_side_to_mono_with_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.wav");
    // The mean of two 16-bit samples is exact as a 32-bit float.
    let input: Vec<i16> = (0..2_000).flat_map(|n| [n * 16, -7_000 + n]).collect();
    client::wav::write(&folder.path().join("take.wav"), 44_100, 2, &input);
    let mean: Vec<f32> = input.chunks(2).map(|pair| (f32::from(pair[0]) + f32::from(pair[1])) / 65_536.0).collect();
    let take = folder.path().join("take.wav");
    let line = format!(
        "send --wav {} --resample native --frame-size 100 --embedded --delay 20 --spin 0 --record-both",
        take.display()
    );
    let output = record(&line, &file);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output.stderr.contains("jamjam-dev: --record-both: sent and returned audio are each mixed to mono\n"),
        "{output:?}"
    );
    let wav = Wav::read(&file);
    assert_eq!((wav.tag, wav.bits, wav.rate), (3, 32, 44_100));
    assert!(sides(&file) == [mean.clone(), mean]);
}

#[test]
fn reordering_duplicates_and_damage_do_not_move_samples() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.wav");
    let server = Server::with_audio(|sequence| match sequence % 5 {
        0 => ServerAction::AfterNext,
        1 => ServerAction::Times(2),
        2 => ServerAction::DamageThenReply,
        3 if sequence == 33 => ServerAction::Damage,
        _ => ServerAction::Reply,
    });
    let line = format!(
        "send --tone 440 --duration 197ms --to {} --spin 0 --timeout 500ms --delay 0 --record-both",
        server.to()
    );
    // A run with damaged packets has exit code 1.
    assert_eq!(record(&line, &file).code, 1);
    let [left, right] = sides(&file);
    let mut expected = sent_to(&server);
    assert!(left == expected && left.len() == 9_456);
    expected[32 * 128..33 * 128].fill(0.0);
    assert!(right == expected);
}

#[test]
fn without_expected_echo_the_right_side_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.wav");
    let server = Server::silent();
    let line = format!("send --tone 440 --duration 21ms --no-echo --to {} --spin 0 --record-both", server.to());
    assert_eq!(record(&line, &file).code, 0);
    let [left, right] = sides(&file);
    // The last packet is short.
    assert!(left == sent_to(&server) && left.len() == 1_008);
    assert!(right == vec![0.0; 1_008]);
}

#[test]
fn interrupted_run_leaves_a_valid_recording() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.wav");
    let server = Server::correct();
    let line = format!("send --tone 440 --delay 0 --json --to {} --record-both", server.to());
    let program = program::start(program::command(line.split_whitespace()).arg(&file));
    server.wait_for(100);
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    let report = document::report(&output);
    let [sent, returned] = document::counts(&report, "audio", ["sent", "returned"]).map(|packets| packets as usize);
    let [left, right] = sides(&file);
    assert!(left == sent_to(&server)[..sent * 128]);
    assert!(right[..returned * 128] == left[..returned * 128]);
    assert_eq!(right[returned * 128..], vec![0.0; (sent - returned) * 128]);
}

/// A limit on the size of files simulates a full disk.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_keeps_the_written_samples_and_reports_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let speech = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples();
    // The file may have 100 blocks of 512 bytes, which include a header of 58 bytes. The other bytes can contain 12,785 samples of one
    // channel, or 99 whole packets. With two channels, the same bytes can contain 6,392 frames, or 49 whole packets.
    at_once([("--record", 1, 99), ("--record-both", 2, 49)], |(option, channels, packets)| {
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
        assert!(output.stderr.ends_with(&there), "{output:?}");
        // The run continued, as its report shows.
        assert!(output.stdout.contains("measured"), "{output:?}");
        let wav = Wav::read(&file);
        assert_eq!((wav.channels, wav.samples().len()), (channels, samples as usize * usize::from(channels)));
        assert!(wav.samples().into_iter().step_by(channels.into()).eq(speech[..samples as usize].iter().copied()));
    });
}

#[test]
fn two_options_cannot_write_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let take = folder.path().join("take.wav");
    std::fs::copy(fixture("24bit-mono-48k.wav"), &take).unwrap();
    let (wav, other) = (take.to_str().unwrap(), folder.path().join("./new.wav"));
    let other = other.to_str().unwrap();
    let new = folder.path().join("new.wav");
    let new = new.to_str().unwrap();
    for (one, first) in [(wav, format!("--wav {wav}")), (other, format!("--record {new}"))] {
        let output = run_args(["send", "--wav", wav, "--embedded", "--record", new, "--record-both", one]);
        let message = format!("jamjam-dev: {first} and --record-both {one} are the same file; give different files\n");
        assert_eq!((output.code, output.stderr.as_str()), (2, message.as_str()));
    }
    assert!(std::fs::read(&take).unwrap() == std::fs::read(fixture("24bit-mono-48k.wav")).unwrap());
    let text = run_args(["send", "--text", "x", "--to", "moqt://127.0.0.1:1/echo", "--record-both", new]);
    assert_eq!(text.code, 2, "{text:?}");
    assert!(!Path::new(new).exists());
}
