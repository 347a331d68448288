//! The audio in the HTML report of `send`: waveforms, gaps and players.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_core::audio::quality::{Analyzer, PacketFormat};
use jamjam_core::audio::waveform::{Waveform, WaveformSide};
use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{AudioPicture, AudioResults, RunResults};
use jamjam_measure::report::html::{MAX_AUDIO_BYTES, page};

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
    between(between(page, "<table id=\"gaps\">", "</table>")[0], "<tr><th scope=\"row\">", "</td></tr>")
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
        let preview = waveform.preview(WaveformSide::Returned, 30).unwrap();
        (waveform.samples_per_column, waveform.sent_samples, waveform.columns.clone(), preview)
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
    assert_eq!((rows.len(), rows[99]), (100, "0.5280 s</th><td>0.5307 s</td><td>1"));
}

/// A run of `seconds` of tone and its waveform. Every fifth packet is lost if `is_lossy`.
fn tone(rate: u32, channels: u16, seconds: u64, is_lossy: bool) -> (RunResults, Waveform) {
    let mut waveform = Waveform::new(rate, channels, 128, MAX_AUDIO_BYTES);
    let mut analyzer = Analyzer::new(PacketFormat { sample_rate: rate, channels, frame_samples: 128 });
    let packets = seconds * u64::from(rate) / 128;
    let samples: Vec<f32> = (0..128 * channels).map(|n| (f32::from(n) * 0.05).sin()).collect();
    for index in 0..packets {
        waveform.on_sent(index, &samples);
        analyzer.on_sent(index, &samples);
        if is_lossy && index % 5 == 0 {
            waveform.on_lost(index);
            analyzer.on_lost(index);
        } else {
            waveform.on_returned(index, &samples);
        }
    }
    let mut run = run(packets.cast_signed());
    run.audio.as_mut().unwrap().quality = Some(analyzer.finish());
    (run, waveform)
}

#[test]
fn page_with_audio_has_previews_and_at_most_2_megabytes() {
    for (rate, channels, seconds, is_lossy, players) in [
        (48_000, 1, 20, false, 1),
        (48_000, 2, 22, true, 2),
        (44_100, 2, 23, true, 2),
        (10_000, 1, 3_600, false, 1),
        (10_000, 1, 3_600, true, 2),
    ] {
        let (run, waveform) = tone(rate, channels, seconds, is_lossy);
        let replayed: Waveform = serde_json::from_str(&serde_json::to_string(&waveform).unwrap()).unwrap();
        let page = render(&run, waveform);
        let heard = seconds.min(22);
        let sounds = between(&page, "src=\"data:audio/wav;base64,", "\"");
        for sound in &sounds {
            let wav = STANDARD.decode(sound).unwrap();
            let wav = hound::WavReader::new(&*wav).unwrap();
            let spec = wav.spec();
            assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 12_000, 16));
            assert_eq!(u64::from(wav.duration()), heard * 12_000);
        }
        assert_eq!((sounds.len(), page.matches("<p class=\"preview\">preview").count()), (players, players));
        assert_eq!(page.contains("preview of both, which are equal"), !is_lossy);
        assert_eq!(page.contains(&format!("(first {heard} s, ")), heard < seconds);
        assert!(page.len() < 2_000_000, "{seconds} s: {} bytes", page.len());
        // A replay has no audio. Its page differs only in the players.
        let mut without_players = page.clone();
        for player in between(&page, "<p class=\"preview\">", "</p>\n") {
            without_players = without_players.replace(&format!("<p class=\"preview\">{player}</p>\n"), "");
        }
        assert_eq!(render(&run, replayed), without_players, "{seconds} s");
        assert!(without_players.len() < 500_000, "{seconds} s: {} bytes", without_players.len());
    }
}
