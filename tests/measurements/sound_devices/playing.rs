//! Playback: a card plays the returned audio.

use serde_json::{Value, json};
use test_support::client::{Server, ServerAction, document, measured, together, wav};

use super::card::Alsa;
use super::{noise, report};

/// These buffers are sufficient if the machine stalls for less than half a second. A run with the limit that stalls for longer has measured
/// nothing.
const LARGE_BUFFERS: &str = "--jitter-buffer 1s --device-buffer 4096 --max-loss 1%";

/// Noise as 16-bit numbers, none of them zero.
fn numbers(count: usize) -> Vec<i16> {
    noise(count).into_iter().map(|n| ((n >> 16) as u16).cast_signed() | 1).collect()
}

/// The samples that a 16-bit card has played.
fn played(alsa: &Alsa, card: &str) -> Vec<i16> {
    alsa.played(card).as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()
}

/// The played samples without leading and trailing zeros.
fn without_silence(played: &[i16]) -> &[i16] {
    let first = played.iter().position(|n| *n != 0).expect("something is played");
    let last = played.iter().rposition(|n| *n != 0).unwrap();
    &played[first..=last]
}

/// Length in frames of the fade-out after the end of the sound: 5 ms at 48 kHz.
const FADE_FRAMES: usize = 240;

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn card_plays_the_sent_samples_unchanged() {
    measured(|| {
        let folder = tempfile::tempdir().unwrap();
        // A stereo card plays mono on both channels.
        together([(1, 1), (2, 2), (1, 2)], |(channels, card_channels)| {
            let sent = numbers(48_000 * usize::from(channels));
            let file = folder.path().join(format!("{channels}-{card_channels}.wav"));
            wav::write(&file, 48_000, channels, &sent);
            let line = format!("--play=loud --embedded --delay 50 {LARGE_BUFFERS} --wav {}", file.display());
            let fields = format!("format S16_LE channels {card_channels}");
            let alsa = Alsa::with_plug_in().with_playback_card("loud", &fields);
            let report = alsa.report(0, &line);
            let playback = &report["playback"];
            let copies = usize::from(card_channels / channels);
            let expected: Vec<i16> = sent.iter().flat_map(|n| vec![*n; copies]).collect();
            let played = played(&alsa, "loud");
            let found = without_silence(&played);
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let fade = FADE_FRAMES * usize::from(card_channels);
            assert_eq!(
                (differs, found.len()),
                (None, expected.len() + fade),
                "{channels} {card_channels}: {playback:#}"
            );
            assert_eq!(playback["played"], json!(375));
            for nothing in ["concealed", "late", "early", "queue_full", "resyncs"] {
                assert_eq!(playback[nothing], json!(0), "{nothing}");
            }
            assert_eq!(playback["rate_correction_ppm"], json!(0.0));
            let buffers = ["jitter_buffer_ms", "jitter_allowance_ms"].map(|name| &playback[name]);
            assert_eq!(buffers, [&json!(1000.0), &json!(1000.0)]);
            let device = ["device_format", "device_rate_hz"].map(|name| &playback[name]);
            assert_eq!(device, [&json!("I16"), &json!(48_000)]);
        });
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn lost_packet_is_concealed_and_a_second_copy_is_not_late() {
    measured(|| {
        // Three packets in a row are lost, and each other packet returns twice.
        let server = Server::with_audio(|sequence| match sequence {
            101..104 => ServerAction::Silence,
            _ => ServerAction::Times(2),
        });
        let alsa = Alsa::with_plug_in().with_playback_card("loud", "channels 1");
        let options = format!("--delay 0 --timeout 500ms --play=loud {LARGE_BUFFERS}");
        let report = alsa.report(0, &format!("--tone 440 --duration 1s --to {} {options}", server.to()));
        assert_accounted(&report);
        let counts = ["played", "concealed", "late"].map(|name| &report["playback"][name]);
        assert_eq!(counts, [&json!(372), &json!(3), &json!(0)], "{:#}", report["playback"]);
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn card_with_another_rate_plays_the_same_frequency() {
    measured(|| {
        let line = format!("--tone 1000 --duration 2s --embedded --delay 50 --play=loud {LARGE_BUFFERS}");
        let alsa = Alsa::with_plug_in().with_playback_card("loud", "format S16_LE channels 1 rate 44100");
        let report = alsa.report(0, &line);
        assert_eq!(report["playback"]["device_rate_hz"], json!(44_100));
        let played = played(&alsa, "loud");
        let found = without_silence(&played);
        // The played sound consists of the two seconds, the fade-out, and the ringing of the filter.
        assert!(found.len().abs_diff(88_200 + FADE_FRAMES * 441 / 480) < 200, "{}", found.len());
        // The tone has 1,000 periods per second. From 0.5 s to 1.5 s, each period has one rising zero crossing.
        let ups = found[22_050..66_150].windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!((999..=1_001).contains(&ups), "{ups}");
    });
}

/// Checks that each packet that arrived was played or is counted under another outcome.
fn assert_accounted(report: &Value) {
    let playback = &report["playback"];
    let outcomes = ["played", "late", "early", "skipped", "queue_full", "unplayed"]
        .map(|outcome| playback[outcome].as_u64().unwrap());
    let [returned, excluded] = ["returned", "excluded"].map(|name| report["streams"]["audio"][name].as_u64().unwrap());
    // Packets that returned after a pause of this machine are played, but excluded from the statistics.
    assert!((returned..=returned + excluded).contains(&outcomes.iter().sum()), "{report:#}");
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn failed_or_stalled_card_ends_the_run_with_a_report_and_exit_code_3() {
    let late = "playback not finished 3.0 s after the last packet";
    let cases = [
        ("gone_after 24000", "2s", "device disconnected"),
        ("fails_after 24000", "2s", "I/O error"),
        // The card gets stuck at the beginning and in the middle.
        ("stuck_after 0", "1s", late),
        ("stuck_after 24000", "3s", late),
        ("hangs_after 24000", "1s", late),
    ];
    together(cases, |(fields, duration, expected)| {
        let alsa = Alsa::with_plug_in().with_playback_card("loud", &format!("channels 1 {fields}"));
        let line = format!("send --tone 440 --duration {duration} --embedded --delay 20 --play=loud --json");
        let output = alsa.run(&line);
        let report = report(&output, 3);
        let playback = &report["playback"];
        let why = playback["device_lost"].as_str().unwrap_or_default();
        assert!(why.contains(expected), "{fields}: {playback:#}");
        assert!(
            output.stderr.contains(&format!("loud (The card loud) was lost: {why}; the returned audio was not played")),
            "{output:?}"
        );
        assert_accounted(&report);
        // Callbacks that follow each other without a pause do not define a device clock. Therefore, no drift is reported.
        let depth = playback["depth_max_ms"].as_f64().unwrap_or(0.0);
        assert!((0.0..1_000.0).contains(&depth), "{fields}: {playback:#}");
        assert_eq!(playback["drift_ppm"], Value::Null, "{fields}: {playback:#}");
        // Playback does not affect the echo measurement.
        let [sent, returned, excluded] = document::counts(&report, "audio", ["sent", "returned", "excluded"]);
        assert!(sent >= 375 && sent == returned + excluded, "{fields}: {sent} {returned} {excluded}");
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn playback_continues_after_an_underrun_and_with_another_period_size() {
    measured(|| {
        let cases = [
            ("takes 441", "--frame-size 512 --device-buffer 512", "reported_buffer_frames", 441),
            ("xrun_after 24000", "", "xruns", 1),
        ];
        together(cases, |(fields, options, figure, expected)| {
            let alsa = Alsa::with_plug_in().with_playback_card("loud", &format!("channels 1 {fields}"));
            let line = format!("--tone 440 --duration 1s --embedded --delay 20 --play=loud {options}");
            let report = alsa.report(0, &line);
            let playback = &report["playback"];
            let figures = [figure, "device_lost", "unplayed"].map(|name| &playback[name]);
            assert_eq!(figures, [&json!(expected), &Value::Null, &json!(0)], "{playback:#}");
            assert_accounted(&report);
            let [returned] = document::counts(&report, "audio", ["returned"]);
            assert!(playback["played"].as_u64() > Some(returned / 2), "{playback:#}");
        });
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn microphone_audio_is_played_until_interrupted() {
    let sound: Vec<u8> = numbers(48_000).iter().flat_map(|n| n.to_le_bytes()).collect();
    let alsa = Alsa::with_plug_in().with_card("ears", &sound, "channels 1").with_playback_card("loud", "channels 1");
    let server = Server::correct();
    let program = alsa.start(["send", "--mic=ears", "--play=loud", "--json", "--to", &server.to()]);
    server.wait_for(200);
    program.signal("INT");
    let report = report(&program.end(), 130);
    assert!(report["playback"]["played"].as_u64().unwrap() > 0, "{:#}", report["playback"]);
    assert_eq!(report["interrupted"], "SIGINT");
    assert!(document::counts(&report, "audio", ["sent"])[0] >= 190, "{report:#}");
    let device = ["device", "device_lost"].map(|name| &report["capture"][name]);
    assert_eq!(device, [&json!("ears (The card ears)"), &Value::Null]);
    let output = alsa.run("send --tone 440 --embedded --play=ears");
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("no output device matches ears; available: 0 loud (The card loud)"), "{output:?}");
}

#[test]
#[ignore = "takes 25 s and needs a machine that never pauses for longer than the card's buffer (170 ms); .ci/full runs it"]
fn card_drift_is_reported_and_compensated() {
    together([800.0, -800.0], |ppm: f64| {
        let alsa = Alsa::with_plug_in().with_playback_card("loud", &format!("channels 1 ppm {ppm}"));
        let line = "--tone 440 --duration 25s --embedded --delay 20 --play=loud --device-buffer 4096 \
                    --jitter-buffer 10ms";
        let report = alsa.report(0, line);
        let playback = &report["playback"];
        let number = |name: &str| playback[name].as_f64().unwrap();
        assert!((number("drift_ppm") - ppm).abs() < 40.0, "{playback:#}");
        assert!((number("rate_correction_ppm") + ppm).abs() < 100.0, "{playback:#}");
        // At 800 ppm, the clocks differ by 20 ms after 25 s. This difference exceeds the tolerance.
        let nothing = ["concealed", "late", "resyncs"].map(|name| playback[name].as_u64().unwrap());
        assert_eq!(nothing, [0; 3], "{playback:#}");
        assert!(number("depth_max_ms") - number("depth_min_ms") < 8.0, "{playback:#}");
    });
}
