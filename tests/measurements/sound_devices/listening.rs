//! Capture: the program sends samples from a sound card to an echo server. The server returns the same samples.

use serde_json::{Value, json};
use test_support::client::{Server, Wav, document, run, together, wav};

use super::card::Alsa;
use super::{assert_same, report, sound};

/// Runs `send --mic` with an embedded echo server. Returns the recording and the report. Both channels of `--record-both` must be the mean
/// of the recorded channels.
fn recorded(alsa: &Alsa, options: &str) -> (Wav, Value) {
    let folder = tempfile::tempdir().unwrap();
    let [file, both] = ["returned.wav", "both.wav"].map(|name| folder.path().join(name));
    let files = format!("--record {} --record-both {}", file.display(), both.display());
    let report = alsa.report(0, &format!("--mic --embedded --delay 20 --max-loss 0% {options} {files}"));
    let wav = Wav::read(&file);
    let mean = |frame: &[f32]| (frame.iter().copied().map(f64::from).sum::<f64>() / frame.len() as f64) as f32;
    let each: Vec<f32> = wav.samples().chunks(wav.channels.into()).map(mean).flat_map(|sample| [sample; 2]).collect();
    assert_same(&Wav::read(&both).samples(), &each, "both sides");
    (wav, report)
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn card_samples_are_sent_and_returned_unchanged() {
    // Half a second in each format on one and on two channels. Some callback sizes are multiples of the packet length, and some are not.
    let cases = [
        ("S16_LE", 1, ""),
        ("S16_LE", 2, "--frame-size 2.5ms --device-buffer 480"),
        ("S24_LE", 2, "--device-buffer 100"),
        ("FLOAT_LE", 2, "--frame-size 96 --device-buffer 32"),
    ];
    together(cases, |(format, channels, options)| {
        let (bytes, samples) = sound(format, 24_000 * channels);
        let fields = format!("format {format} channels {channels} rate 48000");
        let alsa = Alsa::with_plug_in().with_card("default", &bytes, &fields);
        let what = format!("{fields} {options}");

        let server = Server::correct();
        let report = alsa.report(0, &format!("--mic --duration 500ms {options} --to {}", server.to()));
        let audio = &report["audio"];
        assert_eq!((&audio["channels"], &audio["underruns"]), (&json!(channels), &json!(0)), "{what}");
        assert_same(&server.samples(), &samples, &what);

        let (wav, _) = recorded(&alsa, &format!("--duration 500ms {options}"));
        assert_eq!((wav.tag, wav.channels, wav.rate, wav.bits), (3, channels as u16, 48_000, 32));
        assert_same(&wav.samples(), &samples, &what);
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn device_period_equals_the_packet_or_the_configured_frames() {
    let alsa = Alsa::with_plug_in().with_card("default", &[], "channels 1");
    together(
        [("", 128), ("--frame-size 2.5ms", 120), ("--device-buffer 480", 480), ("--device-buffer 1", 32)],
        |(options, frames)| {
            let output = alsa.run(&format!("send --mic --embedded --delay 0 --duration 100ms --json {options}"));
            let report = report(&output, 0);
            let capture = &report["capture"];
            for name in
                ["requested_buffer_frames", "reported_buffer_frames", "callback_min_frames", "callback_max_frames"]
            {
                assert_eq!(capture[name], frames, "{options}: {name}");
            }
            // Callbacks deliver whole blocks, and one more may occur while the run ends, so there may be more than the 4,800 sent frames.
            assert!(capture["captured_frames"].as_u64().unwrap() >= 4_800, "{capture}");
            let refused = output.stderr.contains("the device does not support a buffer of 1 frame");
            assert_eq!(refused, options == "--device-buffer 1", "{}", output.stderr);
        },
    );
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn other_device_rate_is_resampled_like_a_file() {
    let (bytes, _) = sound("S16_LE", 44_100);
    let alsa = Alsa::with_plug_in().with_card("default", &bytes, "channels 1 rate 44100");
    let (captured, report) = recorded(&alsa, "--duration 500ms");
    assert_eq!(
        (report["capture"]["device_rate_hz"].as_u64(), report["audio"]["sample_rate_hz"].as_u64()),
        (Some(44_100), Some(48_000))
    );
    // 128 samples at 48,000 Hz are 117.6 at 44,100.
    assert_eq!(report["capture"]["requested_buffer_frames"], 118);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("same.wav");
    let numbers: Vec<i16> = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    wav::write(&file, 44_100, 1, &numbers);
    let server = Server::correct();
    // The run may fail if this machine pauses, but it has sent everything.
    run(&format!("send --duration 500ms --to {} --wav {}", server.to(), file.display()));
    assert_same(&captured.samples(), &server.samples(), "from the card, and from a file");
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn disconnected_device_ends_the_run_with_a_report_and_exit_code_3() {
    let (bytes, samples) = sound("S16_LE", 12_900);
    // 100 packets of 128 samples, and a partial packet.
    together([(12_900, 101), (0, 0)], |(frames, packets)| {
        let alsa = Alsa::with_plug_in().with_card("default", &bytes, &format!("channels 1 gone_after {frames}"));
        let server = Server::correct();
        let output = alsa.run(&format!("send --mic --device-buffer 100 --json --to {}", server.to()));
        let report = report(&output, 3);
        assert_same(&server.samples(), &samples[..frames], "all that was delivered");
        assert_eq!(report["capture"]["device_lost"], "device disconnected");
        assert_eq!(report["capture"]["captured_frames"], frames);
        let warnings = report["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|warning| warning["code"] == "capture_device_lost"), "{warnings:#?}");
        assert_eq!(document::counts(&report, "audio", ["sent"]), [packets]);
        if frames == 0 {
            assert_eq!(report["verdict"]["reasons"][1], "nothing was sent");
        } else {
            assert_eq!(document::counts(&report, "audio", ["returned", "lost"]), [packets, 0]);
            let lost = "was lost: device disconnected; the report covers the audio up to then";
            let last = output.stderr.lines().last().unwrap();
            assert!(last.contains("default") && last.contains(lost), "{last}");
        }
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn samples_lost_by_the_device_are_counted_and_the_run_continues() {
    let (bytes, samples) = sound("S16_LE", 24_000);
    // After the xrun, the simulated card continues at the same position in its file, so the recording contains all samples.
    let alsa = Alsa::with_plug_in().with_card("default", &bytes, "channels 1 xrun_after 9600");
    let (wav, report) = recorded(&alsa, "--duration 500ms");
    assert_same(&wav.samples(), &samples, "before and after");
    assert_eq!((&report["capture"]["xruns"], &report["capture"]["overruns"]), (&json!(1), &json!(0)));
    let codes: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(codes.contains(&"capture_xruns"), "{codes:?}");
}

#[test]
#[ignore = "takes five seconds; .ci/full runs it"]
fn device_that_stops_delivering_is_given_up() {
    // The first card delivers nothing, and the second does not return from the read call.
    together(["stuck_after 1280", "hangs_after 1280"], |fields| {
        let alsa = Alsa::with_plug_in().with_card("default", &[], &format!("channels 1 {fields}"));
        let report = alsa.report(3, "--mic --embedded");
        assert_eq!(report["capture"]["device_lost"], "no audio from the device for 5s");
        assert_eq!(document::counts(&report, "audio", ["sent", "returned"]), [10, 10]);
    });
}

#[test]
#[ignore = "takes 16 s and needs a machine that never pauses for longer than the card's buffer (170 ms); .ci/full runs it"]
fn reported_card_drift_equals_the_simulated_drift() {
    together([-80, 0, 500], |ppm| {
        let alsa = Alsa::with_plug_in().with_card("default", &[], &format!("channels 1 ppm {ppm}"));
        let report = alsa.report(0, "--mic --device-buffer 4096 --duration 16s --embedded");
        let capture = &report["capture"];
        let number = |name: &str| capture[name].as_f64().unwrap_or_else(|| panic!("{name}: {capture}"));
        assert!((number("drift_ppm") - f64::from(ppm)).abs() < 10.0, "{ppm}: {capture}");
        assert!(number("drift_uncertainty_ppm") < 10.0, "{ppm}: {capture}");
    });
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn devices_are_listed_with_their_formats() {
    let alsa = Alsa::with_plug_in().with_card("odd", &[], "format S24_3LE");
    let alsa = alsa.with_card("line", &[], "format S32_LE channels 6 rate 96000");
    let text = alsa.run("devices").stdout;
    assert!(text.contains("  line: The card line\n      6 channels; 96000 Hz; I32\n"), "{text}");
    assert!(text.contains("  odd: The card odd\n      no supported sample format (packed 24-bit samples, "), "{text}");
    let output = alsa.run("devices --json");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    document::assert_valid(&list);
    let line = list["inputs"].as_array().unwrap().iter().find(|device| device["id"] == "line").unwrap();
    let expected = json!({
        "index": line["index"], "id": "line", "name": "The card line", "default": false,
        "formats": ["I32"], "channels": [6], "rates_hz": [{"from": 96_000, "to": 96_000}]
    });
    assert_eq!(*line, expected);
    assert_eq!((list["inputs"].as_array().unwrap().len(), list["outputs"].as_array().unwrap().len()), (2, 0));
    assert!(list["unavailable_reason"].is_string());
    let output = alsa.run("send --mic=odd --embedded");
    assert_eq!((output.code, output.stdout.as_str()), (3, ""));
    assert!(output.stderr.contains("cannot capture from odd (The card odd): no supported sample format"), "{output:?}");
}

#[test]
#[ignore = "needs a C compiler and ALSA's headers: .ci/full"]
fn device_is_selected_by_number_name_or_part_of_its_name() {
    let alsa = Alsa::with_plug_in()
        .with_card("default", &[], "format FLOAT_LE channels 2")
        .with_card("line_in", &[], "format S32_LE channels 1")
        .with_card("line_out_of_order", &[], "format S16_LE channels 1");
    let list: Value = serde_json::from_str(&alsa.run("devices --json").stdout).unwrap();
    let index = |id: &str| list["inputs"].as_array().unwrap().iter().position(|device| device["id"] == id).unwrap();
    let number = index("line_in").to_string();
    together([number.as_str(), "line_in", "The card line_in", "LINE_I"], |name| {
        let words = ["send", &format!("--mic={name}"), "--embedded", "--duration", "20ms", "--json"];
        let report = report(&alsa.start(words).end(), 0);
        assert_eq!(report["capture"]["device_format"], "I32", "{name}");
        assert_eq!(report["capture"]["device"], "line_in (The card line_in)");
    });

    for (name, expected) in [
        ("flute", "no input device matches flute; available: "),
        ("99", "no input device matches 99; available: "),
        ("line", "several input devices match line: "),
    ] {
        let output = alsa.run(&format!("send --mic={name} --embedded"));
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.lines().count()), (3, "", 1), "{output:?}");
        assert!(
            output.stderr.contains(expected) && output.stderr.contains("line_in (The card line_in)"),
            "{}",
            output.stderr
        );
    }
}
