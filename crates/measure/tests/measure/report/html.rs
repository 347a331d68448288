//! The audio in the HTML report of `send`: waveforms, gaps and players.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_core::audio::quality::{Analyzer, PacketFormat};
use jamjam_core::audio::waveform::{MAX_COLUMNS, Waveform, WaveformSide};
use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{AudioResults, RunResults};
use jamjam_measure::report::html::{MAX_AUDIO_BYTES, page};
use jamjam_measure::report::run_record::AudioPicture;

use super::runs::{MS, between, report, send, stream};

fn run(packets: i64) -> RunResults {
    let audio = stream(StreamStats::with_rtt_baseline(), (0..packets).map(|n| 50 * MS + n));
    let shape = AudioResults { sample_rate: 48_000, channels: 1, frame_samples: 128, ..AudioResults::default() };
    send(AudioResults { stats: audio, sent_samples: packets as u64 * 128, ..shape })
}

/// A run of `packets` packets without the packets in `missing`, and its waveform. The last packet has `last` samples.
pub(super) fn run_without(packets: u64, last: usize, missing: impl IntoIterator<Item = u64>) -> (RunResults, Waveform) {
    let mut waveform = waveform();
    let mut analyzer = Analyzer::new(PacketFormat { sample_rate: 48_000, channels: 1, frame_samples: 128 });
    for index in 0..packets {
        let samples = [0.5; 128];
        let samples = &samples[..if index + 1 == packets { last } else { 128 }];
        waveform.on_sent(index, samples);
        analyzer.on_sent(index, samples);
    }
    for index in missing {
        waveform.on_lost(index);
        analyzer.on_lost(index);
    }
    let mut run = run(packets.cast_signed());
    run.audio.as_mut().unwrap().quality = Some(analyzer.finish());
    (run, waveform)
}

pub(super) fn render(run: &RunResults, waveform: Waveform) -> String {
    let audio = AudioPicture { name: "x".to_owned(), waveform, missing_packets: 0 };
    page(&report(run), None, Some(&audio), "", "0")
}

fn waveform() -> Waveform {
    Waveform::new(48_000, 1, 128, MAX_AUDIO_BYTES)
}

/// The rows of the list of gaps.
fn rows(page: &str) -> Vec<&str> {
    between(between(page, "<table id=\"gaps\">", "</table>")[0], "<tr><td>", "</td></tr>")
}

#[test]
fn waveform_column_is_min_and_max_of_its_samples_in_any_order() {
    // 3,300 samples fill 825 columns of four samples: a waveform has at most 1,600 columns of a power of two of samples.
    let sample = |n: u64| ((n * 7_919 % 1_999) as f32 - 999.0) / 1_000.0;
    let packet = |index: u64| (index * 128..(index * 128 + 128).min(3_300)).map(sample).collect::<Vec<_>>();
    let mut orders: [Vec<u64>; 3] = [(0..26).collect(), (0..26).rev().collect(), (0..26).map(|n| n * 5 % 26).collect()];
    orders[2].sort_unstable_by_key(|index| index % 3);
    let [expected, others @ ..] = orders.map(|order| {
        let mut waveform = waveform();
        for index in order {
            waveform.on_returned(index, &packet(index));
            waveform.on_sent(index, &packet(index));
        }
        let wav = waveform.to_wav(WaveformSide::Returned).unwrap();
        (waveform.samples_per_column, waveform.sent_samples, waveform.columns.clone(), wav)
    });
    assert!(others.iter().all(|other| *other == expected));
    let (width, samples, columns, _) = expected;
    assert_eq!((width, samples, columns.len()), (4, 3_300, 825));
    for (column, n) in columns.iter().zip((0..3_300).step_by(4)) {
        let four: Vec<f32> = (n..n + 4).map(sample).collect();
        let edges = (four.iter().copied().fold(1.0, f32::min), four.iter().copied().fold(-1.0, f32::max));
        assert_eq!((column.sent, column.returned), (Some(edges), Some(edges)));
    }
}

#[test]
fn first_100_gaps_are_listed_and_all_are_counted() {
    let (run, waveform) = run_without(10_000, 128, (0..5_000).rev().map(|n| 2 * n));
    let page = render(&run, waveform);
    assert!(page.contains("; 5000 gaps, 13.333 s in total, 50 %") && page.contains("The first 100 gaps"));
    let rows = rows(&page);
    // The hundredth gap is packet 198, which begins at 198 × 128 / 48,000 s.
    assert_eq!((rows.len(), rows[99]), (100, "0.5280 s</td><td>0.5307 s</td><td>1"));
}

#[test]
fn embedded_wav_data_matches_the_sent_and_returned_audio() {
    for channels in [1_u16, 2] {
        let mut waveform = Waveform::new(44_100, channels, 100, MAX_AUDIO_BYTES);
        let sample = |n: usize| (n * 37 % 60_000) as i16;
        let packet = |index: usize, length: usize| {
            let from = index * 100 * usize::from(channels);
            (from..from + length * usize::from(channels)).map(|n| f32::from(sample(n)) / 32_768.0).collect::<Vec<_>>()
        };
        for index in 0..11 {
            let samples = packet(index, if index == 10 { 7 } else { 100 });
            waveform.on_sent(index as u64, &samples);
            // One packet is missing, and the last ones are in flight.
            if ![4, 9, 10].contains(&index) {
                waveform.on_returned(index as u64, &samples);
            }
        }
        let page = render(&run(11), waveform);
        let sounds = between(&page, "src=\"data:audio/wav;base64,", "\"").into_iter().map(|sound| {
            let mut wav =
                hound::WavReader::new(&*Box::leak(STANDARD.decode(sound).unwrap().into_boxed_slice())).unwrap();
            let spec = wav.spec();
            assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (channels, 44_100, 16));
            wav.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>()
        });
        let all = 1_007 * usize::from(channels);
        let sent: Vec<i16> = (0..all).map(sample).collect();
        let mut returned = sent.clone();
        returned[400 * usize::from(channels)..500 * usize::from(channels)].fill(0);
        returned[900 * usize::from(channels)..].fill(0);
        assert!(sounds.eq([sent, returned]));
    }
}

#[test]
fn audio_of_up_to_30_seconds_has_players_and_longer_audio_has_advice() {
    for (rate, channels, seconds, fits) in
        [(48_000, 1, 30_u64, true), (48_000, 2, 30, true), (48_000, 2, 31, false), (10_000, 1, 3_600, false)]
    {
        let packets = seconds * u64::from(rate) / 128;
        let mut waveform = Waveform::new(rate, channels, 128, MAX_AUDIO_BYTES);
        let samples: Vec<f32> = (0..128 * channels).map(|n| (f32::from(n) * 0.05).sin()).collect();
        for index in 0..packets {
            waveform.on_sent(index, &samples);
            if index % 5 == 0 {
                waveform.on_lost(index);
            } else {
                waveform.on_returned(index, &samples);
            }
        }
        let columns = waveform.columns.len();
        assert!(columns <= MAX_COLUMNS);
        let replayed: Waveform = serde_json::from_str(&serde_json::to_string(&waveform).unwrap()).unwrap();
        let page = render(&run(10), waveform);
        assert_eq!(page.matches("<audio ").count(), if fits { 2 } else { 0 }, "{seconds} s");
        let advice = "A page plays at most 30 s of audio. For longer audio, <code>--record FILE.wav</code>";
        assert_eq!(page.contains(advice), !fits);
        // A replay has no audio. Its page differs only in the players.
        let mut without_players = page.clone();
        for player in between(&page, "<audio ", "</audio>\n") {
            without_players = without_players.replace(&format!("<audio {player}</audio>\n"), "");
        }
        assert_eq!(render(&run(10), replayed), without_players, "{seconds} s");
        assert!(without_players.len() < 300_000, "{seconds} s: {} bytes", without_players.len());
        // 36,000,000 samples (3,600 s) need 1,099 columns of 2^15 samples, which last 3,601 s. Each column lacks a fifth of its samples, so all
        // columns have the same gap class and form one band.
        if seconds == 3_600 {
            assert!(page.contains("<span>1:00:01</span></div>"), "the axis has hours");
            assert_eq!(columns, 1_099);
            let figure = between(&page, "<figure class=\"returned\">", "</figure>")[0];
            assert_eq!(figure.matches("<rect ").count(), 1);
            assert!(figure.contains(&format!(" width=\"{columns}\"")), "{figure}");
        }
    }
}
