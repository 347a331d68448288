//! `echo-server --record` in virtual time: which packets are in which file.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::echo::ObservedDatagram;
use jamjam_dev::io::source_recorder::SourceRecorder;
use jamjam_dev::time::Time;
use jamjam_dev::wire::LatencyInfo;
use tempfile::TempDir;
use test_support::client::wav::Wav;
use test_support::link_client::{AUDIO, header};

fn send(recorder: &mut SourceRecorder, ms: u64, source: &str, bytes: &[u8]) {
    let (at, source) = (Time::from_millis(ms), source.parse().unwrap());
    let (dst_ip, counter, drop_reason, mistake) = (None, None, None, None);
    recorder.on_datagram(ObservedDatagram { at, source, dst_ip, bytes, counter, drop_reason, mistake });
}

/// AUDIO whose samples are all 0.5.
fn audio(sequence: u32, timestamp: u32, samples: usize) -> Vec<u8> {
    [header(AUDIO, sequence, timestamp, 0), 0.5_f32.to_le_bytes().repeat(samples)].concat()
}

/// The recordings of a source in the order of their start: rate, channels, and number of samples with and without silence.
fn recordings(folder: &TempDir, source: &str) -> Vec<(u32, u16, usize, usize)> {
    let source: SocketAddr = source.parse().unwrap();
    let end = format!("_{}_{}.wav", source.ip(), source.port());
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(&end)).collect();
    paths.sort();
    let facts = |path| {
        let wav = Wav::read(path);
        let samples = wav.samples();
        (wav.rate, wav.channels, samples.len(), samples.iter().filter(|sample| **sample == 0.5).count())
    };
    paths.iter().map(|path| facts(path)).collect()
}

#[test]
fn each_start_of_a_client_has_one_recording_with_its_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = SourceRecorder::new(folder.path());
    let client = "192.0.2.1:1000";
    // The older client twice: mono, 32 to 128 samples, from sequence 1. After 499 packets, it is silent for a second.
    for start in [0, 20_000] {
        let mut timestamp = 0;
        for sequence in 1..=1_000 {
            let samples = 32 + sequence * 7 % 97;
            timestamp += if sequence == 500 { 48_000 } else { 0 };
            send(
                &mut recorder,
                start + u64::from(timestamp / 48),
                client,
                &audio(sequence, timestamp, samples as usize),
            );
            timestamp += samples;
        }
    }
    // Today's client with a mono microphone and the high-quality preset changes its sample rate.
    for (index, rate) in [(0, 48_000), (1, 44_100)] {
        send(&mut recorder, 40_000, client, &LatencyInfo::pcm_datagram(256, rate, 1));
        for sequence in index * 500..index * 500 + 500 {
            send(&mut recorder, 40_000 + u64::from(sequence), client, &audio(sequence, sequence * 128, 256));
        }
    }
    assert_eq!(recorder.finish(), Vec::<String>::new());
    let sent: usize = (1..=1_000).map(|sequence| 32 + sequence * 7 % 97).sum();
    let older = (48_000, 1, sent + 48_000, sent);
    assert_eq!(
        recordings(&folder, client),
        [older, older, (48_000, 2, 128_000, 128_000), (44_100, 2, 128_000, 128_000)]
    );
}

#[test]
fn file_ends_after_silence_and_the_next_audio_begins_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = SourceRecorder::new(folder.path());
    let client = "192.0.2.1:1000";
    send(&mut recorder, 0, client, &audio(0, 0, 64));
    recorder.finish_silent(Duration::from_secs(600));
    send(&mut recorder, 1, client, &audio(1, 64, 64));
    recorder.finish_silent(Duration::ZERO);
    // Complete while the server runs.
    assert_eq!(recordings(&folder, client), [(48_000, 1, 128, 128)]);
    send(&mut recorder, 2, client, &audio(2, 128, 64));
    recorder.finish();
    assert_eq!(recordings(&folder, client), [(48_000, 1, 128, 128), (48_000, 1, 64, 64)]);
}

#[test]
fn strangers_and_clients_that_always_start_again_leave_others_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = SourceRecorder::new(folder.path());
    // Each pair of packets begins far from the last one.
    let restless = "192.0.2.1:1000";
    for start in 0..100 {
        for sequence in 0..2 {
            let (sequence, timestamp) = (start * 10_000_000 + sequence, start * 10_000_000 + sequence * 64);
            send(&mut recorder, u64::from(start), restless, &audio(sequence, timestamp, 64));
        }
    }
    for stranger in 0..200 {
        send(&mut recorder, 200, &format!("198.51.100.7:{}", 1_000 + stranger), &audio(0, 0, 64));
        send(&mut recorder, 200, &format!("203.0.{}.{}:9", stranger / 256, stranger % 256), &audio(0, 0, 64));
    }
    let client = "192.0.2.2:1000";
    for sequence in 0..100 {
        send(&mut recorder, 300 + u64::from(sequence), client, &audio(sequence, sequence * 64, 64));
    }
    assert_eq!(recorder.finish(), Vec::<String>::new());
    assert_eq!(recordings(&folder, restless).len(), 16);
    assert_eq!(recordings(&folder, client), [(48_000, 1, 6_400, 6_400)]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 16 + 2 * 200 + 1);
}
