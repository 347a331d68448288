//! The recording of `send --record`.

use std::path::Path;
use test_support::client;

use client::packet::AUDIO;
use client::program::{ProgramOutput, run, run_args};
use client::server::{Server, ServerAction};
use client::wav::Wav;
use client::{at_once, document, fixture};

const SPEECH: &str = "fixtures/audio/speech-16bit-mono-48k.wav";

/// Sends the speech to `server` and records what returns.
fn record(server: &Server, file: &Path, more: &str) -> ProgramOutput {
    let line =
        format!("send --wav {SPEECH} --to {} --spin 0 --timeout 500ms --delay 0 --json {more} --record", server.to());
    run_args(line.split_whitespace().map(AsRef::as_ref).chain([file.as_os_str()]))
}

#[test]
fn recording_of_a_16_bit_file_contains_its_exact_samples() {
    let folder = tempfile::tempdir().unwrap();
    let input = Wav::read(&fixture("speech-16bit-mono-48k.wav"));
    let ways = ["--embedded --delay 10", "--embedded --delay 10 --driver portable"];
    at_once(ways.iter().enumerate(), |(number, way)| {
        let file = folder.path().join(format!("{number}.wav"));
        let line = format!("send --wav {SPEECH} {way} --spin 0 --json --record");
        let output = run_args(line.split_whitespace().map(AsRef::as_ref).chain([file.as_os_str()]));
        assert_eq!(output.code, 0, "{output:?}");
        let recorded = Wav::read(&file);
        assert_eq!((recorded.tag, recorded.channels, recorded.rate, recorded.bits), (3, 1, 48_000, 32));
        assert_eq!(recorded.samples(), input.samples());
        assert_eq!(document::report(&output)["audio"]["recorded_samples"], 72_000);
    });
}

#[test]
fn missing_packets_are_recorded_as_silence_in_place() {
    let folder = tempfile::tempdir().unwrap();
    // 200 ms are 9,600 samples in 75 packets. The first, some in the middle and the last two never return.
    let lost = [1, 10, 11, 40, 74, 75];
    let server = Server::with_audio(
        move |sequence| if lost.contains(&sequence) { ServerAction::Silence } else { ServerAction::Reply },
    );
    let file = folder.path().join("gaps.wav");
    let output = record(&server, &file, "--duration 200ms");
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(document::counts(&document::report(&output), "audio", ["sent", "returned", "lost"]), [75, 69, 6]);

    let mut expected = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples()[..9_600].to_vec();
    for sequence in lost {
        let from = (sequence as usize - 1) * 128;
        expected[from..from + 128].fill(0.0);
    }
    assert!(Wav::read(&file).samples() == expected);
}

#[test]
fn recording_does_not_depend_on_arrival_order_or_duplicates() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with_audio(|sequence| match sequence % 4 {
        0 => ServerAction::AfterNext,
        1 => ServerAction::Times(2),
        2 => ServerAction::DamageThenReply,
        _ => ServerAction::Reply,
    });
    let file = folder.path().join("order.wav");
    let output = record(&server, &file, "--duration 200ms");
    // Damaged copies fail the run, although each packet also returned intact.
    assert_eq!(output.code, 1, "{output:?}");
    assert!(Wav::read(&file).samples() == Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples()[..9_600]);
}

#[test]
fn damaged_packets_are_omitted_from_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with_audio(|sequence| if sequence == 3 { ServerAction::Damage } else { ServerAction::Reply });
    let file = folder.path().join("damaged.wav");
    assert_eq!(record(&server, &file, "--duration 20ms").code, 1);
    let mut expected = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples()[..960].to_vec();
    expected[256..384].fill(0.0);
    assert!(Wav::read(&file).samples() == expected);
}

#[test]
fn recording_without_replies_is_silence_of_full_length() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::silent();
    let file = folder.path().join("silence.wav");
    let output = record(&server, &file, "--duration 100ms");
    assert_eq!(output.code, 1, "{output:?}");
    assert_eq!(server.received_of(AUDIO).len(), 38);
    assert!(Wav::read(&file).data == vec![0; 4_800 * 4]);
}

#[test]
fn stereo_and_odd_payload_lengths_are_recorded_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.wav");
    let server = Server::correct();
    let output = record(&server, &file, "--frame-size 1 --duration 21us");
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(Wav::read(&file).data.len(), 4);

    let server = Server::correct();
    let stereo = "fixtures/audio/music-16bit-stereo-44k1.wav";
    let output = run(&format!(
        "send {stereo} --resample native --duration 30ms --to {} --spin 0 --timeout 500ms --delay 0 --record {}",
        server.to(),
        file.display()
    ));
    assert_eq!(output.code, 0, "{output:?}");
    let recorded = Wav::read(&file);
    // 30 ms at 44.1 kHz.
    let expected = &Wav::read(&fixture("music-16bit-stereo-44k1.wav")).samples()[..2 * 1_323];
    assert_eq!(recorded.channels, 2);
    assert!(recorded.samples() == expected);
}
