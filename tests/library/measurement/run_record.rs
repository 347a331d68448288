//! Run records: reading is total, and a record contains all results.

use proptest::prelude::*;

use jamjam_dev::audio::waveform::Waveform;
use jamjam_dev::client::RunResults;
use jamjam_dev::report::limits::Limits;
use jamjam_dev::report::run_record::{AudioPicture, RecordedOptions};
use jamjam_dev::report::{Report, json, run_record};

use super::json::runs;

/// The first and the last line of a record. A record without packets belongs to a run without packets.
fn first_and_last_line(run: &RunResults) -> (String, String) {
    let waveform = Waveform::new(48_000, 1, 128, 0);
    let audio = AudioPicture { name: "a tone".to_owned(), waveform, missing_packets: 1 };
    let end = run_record::end_line(run, 0, Some("a full disk".to_owned()), Some(&audio));
    let options = json::line(&RecordedOptions::new(Limits::default(), run.clone().into())).expect("numbers and texts");
    (options, end.expect("numbers and texts"))
}

#[test]
fn everything_except_the_packets_is_recorded() {
    for (name, run) in runs() {
        let mut run = run;
        // The record contains no packets, so that the statistics of the packets are not compared.
        (run.ping, run.keepalive, run.pacing) = (None, None, None);
        let has_audio = run.audio.is_some();
        if let Some(audio) = &mut run.audio {
            audio.stats = jamjam_dev::stats::StreamStats::with_rtt_baseline();
            run.pacing = Some(jamjam_dev::stats::PacingStats::default());
        }
        let (options, end) = first_and_last_line(&run);
        let recorded = run_record::read((options + &end).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let document = |run: &RunResults| json::document(&Report::new(run, &Limits::default())).expect("a document");
        assert_eq!(document(&recorded.run), document(&run), "{name}");
        assert_eq!((recorded.run.audio.is_some(), recorded.error.as_deref()), (has_audio, Some("a full disk")));
        assert_eq!(recorded.audio.map(|audio| (audio.name, audio.missing_packets)), Some(("a tone".to_owned(), 1)));
    }
}

proptest! {
    #[test]
    fn damaged_record_is_an_error_or_a_run(
        positions in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (options, end) = first_and_last_line(&runs()[1].1);
        let packet = "{\"type\":\"packet\",\"stream\":\"ping\",\"sequence\":0,\"due_us\":0.0,\"sent_us\":1.0,\"returned_us\":2.5,\
                      \"echo_time_us\":1.5,\"outcome\":\"returned\"}\n";
        let mut bytes = format!("{options}{packet}{end}").into_bytes();
        for (position, byte) in positions {
            // Only the beginning of the last line, which is long.
            let at = position.index(bytes.len().min(3_000));
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(50));
        if let Ok(run) = run_record::read(&*bytes) {
            let _ = json::document(&Report::new(&run.run, &Limits::default()));
        }
    }
}
