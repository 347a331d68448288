//! `--check`: clients on real sockets, the exit code and the reports. `fixtures/check/check_clients.py` sends all wrong clients.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use test_support::server::{Client, run_during};

/// Sends mono AUDIO, 128 samples at 48 kHz, with one LATENCY_INFO, and waits until the server has read it. Built from the specification of
/// the wire. What depends on the times of the packets is tested in `crates/measure/tests/measure/check`.
fn play(to: SocketAddr, is_big_endian: bool) {
    let mut client = Client::connect(to);
    let info = [&[0; 20][..], &128_u32.to_be_bytes(), &48_000_u32.to_be_bytes(), b"\x03pcm\x01"].concat();
    client.send(&[&[1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &info].concat());
    for sequence in 0..100_u32 {
        let header = [&[1, 1][..], &sequence.to_be_bytes(), &(sequence * 128).to_be_bytes(), &[0, 0]].concat();
        let samples = (0..128).flat_map(|index| {
            let sample = ((sequence * 128 + index) as f32 * 0.0576).sin() * 0.5;
            if is_big_endian { sample.to_be_bytes() } else { sample.to_le_bytes() }
        });
        client.send(&header.into_iter().chain(samples).collect::<Vec<_>>());
    }
    client.sync();
}

/// Runs the server while `clients` play, and stops it unless it ends by itself. Returns the exit code and standard output.
fn check(options: &[&str], clients: &[bool]) -> (i32, String) {
    let arguments = [&["echo-server", "--host", "127.0.0.1", "--port", "0", "--check"], options].concat();
    let output = run_during(&arguments, |address, running| {
        for is_big_endian in clients {
            play(address, *is_big_endian);
        }
        if !options.contains(&"--duration") {
            running.signal("INT");
        }
    });
    (output.code, output.stdout)
}

#[test]
fn random_seed_of_the_impairment_is_in_the_report() {
    let seed = |options: &[&str]| -> Option<u64> {
        let (_, json) = check(&[&["--json"], options].concat(), &[]);
        serde_json::from_str::<Value>(&json).unwrap()["seed"].as_u64()
    };
    assert_eq!(seed(&[]), None);
    let random = seed(&["--loss", "1%"]).unwrap();
    let (_, text) = check(&["--loss", "1%", "--seed", &random.to_string()], &[]);
    assert!(text.contains(&format!("\n--seed {random} repeats the impairment\n")), "{text}");
    let options = ["--host", "127.0.0.1", "--port", "0", "--relay-media", "--loss", "1%", "--seed", "7"];
    let output = run_during(&[&["signaling-server"], &options[..]].concat(), |_, running| running.signal("INT"));
    assert!(output.stdout.contains("\n--seed 7 repeats the impairment\n"), "{output:?}");
}

#[test]
fn wrong_client_fails_the_check_and_a_correct_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let [html, junit, markdown] =
        ["r.html", "r.xml", "r.md"].map(|name| folder.path().join(name).display().to_string());
    let files = ["--html", &html, "--junit", &junit, "--markdown", &markdown];
    let (code, text) = check(&files, &[false, true]);
    assert_eq!(code, 1, "{text}");
    assert_eq!(text.matches("100 AUDIO packets").count(), 2, "{text}");
    let sentence = "source 2: error: samples of AUDIO have the wrong byte order: ";
    assert!(text.contains(&format!("\nfinding: {sentence}")), "{text}");
    assert!(text.lines().last().unwrap().starts_with(&format!("FAILED: {sentence}")), "{text}");
    let junit = fs::read_to_string(junit).unwrap();
    assert!(junit.contains("failures=\"1\"") && junit.contains("classname=\"source 2\""), "{junit}");
    assert!(junit.contains("<skipped message=\"clock drift: needs 12 s"), "{junit}");
    for file in [html, markdown] {
        assert!(fs::read_to_string(file).unwrap().contains("wrong byte order"));
    }
}

#[test]
fn check_passes_with_the_expected_number_of_correct_clients_only() {
    let (code, text) = check(&["--json"], &[false]);
    let report: Value = serde_json::from_str(&text).unwrap();
    let audio = report["sources"][0]["audio"].as_u64();
    assert_eq!((code, &report["verdict"]["passed"], audio), (0, &Value::Bool(true), Some(100)));
    let (code, text) = check(&["--expect-sources", "2"], &[false]);
    assert_eq!(code, 1);
    assert!(text.ends_with("FAILED: 1 of 2 expected sources sent 30 AUDIO packets\n"), "{text}");
    let none = "FAILED: 0 of 1 expected sources sent 30 AUDIO packets, and nothing arrived at all\n";
    let (code, text) = check(&["--duration", "1ms"], &[]);
    assert!(code == 1 && text.ends_with(none), "{text}");
    let nobody = "NOT MEASURED: no client has done anything that could be judged\n";
    let (code, text) = check(&["--duration", "1ms", "--expect-sources", "0"], &[]);
    assert!(code == 4 && text.ends_with(nobody), "{text}");
}
