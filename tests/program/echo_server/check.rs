//! `--check`: clients on real sockets, the exit code and the reports. `fixtures/check/check_clients.py` sends all wrong clients.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::server::{poll_until, program, ready_address};

/// Sends a second of mono AUDIO in real time, 128 samples at 48 kHz, with one LATENCY_INFO. Built from the specification of the wire.
fn play(to: SocketAddr, is_big_endian: bool) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    let info = [&[0; 20][..], &128_u32.to_be_bytes(), &48_000_u32.to_be_bytes(), b"\x03pcm\x01"].concat();
    socket.send(&[&[1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &info].concat()).unwrap();
    let started = Instant::now();
    for sequence in 0..375_u32 {
        let header = [&[1, 1][..], &sequence.to_be_bytes(), &(sequence * 128).to_be_bytes(), &[0, 0]].concat();
        let samples = (0..128).flat_map(|index| {
            let sample = ((sequence * 128 + index) as f32 * 0.0576).sin() * 0.5;
            if is_big_endian { sample.to_be_bytes() } else { sample.to_le_bytes() }
        });
        socket.send(&header.into_iter().chain(samples).collect::<Vec<_>>()).unwrap();
        thread::sleep(
            (started + Duration::from_nanos(2_666_667) * (sequence + 1)).saturating_duration_since(Instant::now()),
        );
    }
}

/// Runs the server while `clients` play. Returns the exit code and standard output.
fn check(options: &[&str], clients: &[bool]) -> (Option<i32>, String) {
    check_clients(options, |to| {
        thread::scope(|scope| {
            for is_big_endian in clients {
                scope.spawn(|| play(to, *is_big_endian));
            }
        });
    })
}

fn check_clients(options: &[&str], play: impl FnOnce(SocketAddr)) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready.json");
    let fixed = ["echo-server", "--host", "127.0.0.1", "--port", "0", "--check", "--until-idle", "2s"];
    let mut program = program(&[&fixed, options].concat());
    program.arg("--ready-file").arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let running = program.spawn().unwrap();
    let address = poll_until("a ready file", || ready_address(&file));
    play(address);
    let output = running.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn wrong_client_fails_the_check_and_a_correct_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let [html, junit, markdown] =
        ["r.html", "r.xml", "r.md"].map(|name| folder.path().join(name).display().to_string());
    let files = ["--html", &html, "--junit", &junit, "--markdown", &markdown];
    let (code, text) = check(&files, &[false, true]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("375 AUDIO packets").count(), 2, "{text}");
    assert_eq!(text.matches("error: samples of AUDIO have the wrong byte order").count(), 1, "{text}");
    assert!(!text.contains("warning:") && text.contains("FAILED: 127.0.0.1:"), "{text}");
    assert!(text.contains("[sample_byte_order, docs/protocol.md#types]"), "{text}");
    let junit = fs::read_to_string(junit).unwrap();
    // 43 rules for each of two sources, and the number of sources.
    assert!(junit.contains("tests=\"87\"") && junit.contains("failures=\"1\""), "{junit}");
    assert!(junit.contains("<skipped message=\"clock drift: needs 12 s"), "{junit}");
    for file in [html, markdown] {
        assert!(fs::read_to_string(file).unwrap().contains("wrong byte order"));
    }
}

#[test]
fn check_passes_with_the_expected_number_of_correct_clients_only() {
    let (code, text) = check(&["--json"], &[false]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &report["failures"], report["sources"][0]["audio"].as_u64()),
        (Some(0), &Value::Array(vec![]), Some(375))
    );
    let (code, text) = check(&["--expect-sources", "2"], &[false]);
    assert_eq!(code, Some(1));
    assert!(text.ends_with("FAILED: 1 of 2 expected sources sent 30 AUDIO packets\n"), "{text}");
    let (code, text) = check(&["--duration", "300ms"], &[]);
    assert_eq!(
        (code, text),
        (Some(1), "NOT JUDGED: 0 of 1 expected sources sent 30 AUDIO packets, and nothing arrived at all\n".to_owned())
    );
    let (code, text) = check(&["--duration", "300ms", "--expect-sources", "0"], &[]);
    assert_eq!((code, text), (Some(0), "NOT JUDGED\n".to_owned()));
    for wrong in [&["--junit", "x.xml"][..], &["--duration", "1s"], &["--check", "--fail-on", "fatal"]] {
        let output = program(&["echo-server"]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// The network is not the client: 12 s contain the windows of all rules, such as 10 s for the clock.
#[test]
fn correct_client_on_every_network_breaks_no_rule() {
    let networks = ["lan", "dsl", "wifi", "wifi-bad", "lte", "5g", "satellite"];
    let options = ["--fail-on", "warning", "--expect-sources", "7", "--json"];
    let (code, text) = check_clients(&options, |to| {
        let to = to.to_string();
        let fixed = ["send", "--tone", "440", "--duration", "12s", "--no-echo", "--to", &to, "--network"];
        let clients = networks.map(|network| {
            let mut client = program(&[&fixed[..], &[network]].concat());
            client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        for mut client in clients {
            client.wait().unwrap();
        }
    });
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0), "{}", report["failures"]);
    let count = |name: &str| {
        let sources = report["sources"].as_array().unwrap().iter();
        sources.map(|source| source[name].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (audio, lost) = (count("audio"), count("lost"));
    // 12 s are 4,500 packets. A busy machine loses some even on the local network.
    assert!(audio.iter().zip(&lost).all(|(audio, lost)| audio + lost > 4_400), "{audio:?} {lost:?}");
    assert!(lost.iter().any(|lost| *lost > 10), "{lost:?}");
}
