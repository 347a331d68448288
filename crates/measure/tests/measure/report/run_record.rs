//! Run records: reading is total, and a record contains all results.

use std::time::Duration;

use proptest::prelude::*;

use jamjam_core::time::Time;
use jamjam_measure::client::{PacketOutcome, RecordedPacket, RunKind, RunResults, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::run_record;

use super::json::runs;

/// The first lines and the last line of a record. A record without packets belongs to a run without packets.
fn first_and_last_lines(run: &RunResults) -> (String, String) {
    let end = run_record::end_line(run, 0, Some("a full disk".to_owned()));
    (run_record::first_line(Limits::default(), run), end)
}

#[test]
fn everything_except_the_packets_is_recorded() {
    for (name, run) in runs() {
        let mut run = run;
        // The record contains no packets, so that the statistics of the packets are not compared.
        (run.ping, run.keepalive, run.pacing, run.clients) = (None, None, None, None);
        let has_audio = run.audio.is_some();
        if let Some(audio) = &mut run.audio {
            audio.stats = jamjam_core::stats::StreamStats::with_rtt_baseline();
            run.pacing = Some(jamjam_core::stats::PacingStats::default());
        }
        let (first, end) = first_and_last_lines(&run);
        let recorded = run_record::read((first + &end).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let document = |run: &RunResults| {
            serde_json::to_string(&Report::new(run, &Limits::default()).document().to_json()).expect("a line")
        };
        assert_eq!(document(&recorded.run), document(&run), "{name}");
        assert_eq!((recorded.run.audio.is_some(), recorded.error.as_deref()), (has_audio, Some("a full disk")));
    }
}

/// An outage from 2 s until the end of the record at 5 s. One packet is due each 10 ms, and replies are awaited for 300 ms.
#[test]
fn packets_after_the_last_reply_are_lost_or_in_flight() {
    let plan = RunResults { timeout_ns: 300_000_000, ..RunResults::new(RunKind::Probe, "a server", StreamKind::Ping) };
    // Round trip, packets in total, lost, in flight. A reply is awaited for the smallest round trip and the time-out.
    let cases = [(1_000_000, 500, 270, 30), (1_001_000_000, 500, 170, 130), (1_000_000, 300, 100, 0)];
    for (rtt_ns, packets, lost, in_flight) in cases {
        let mut record = run_record::first_line(Limits::default(), &plan);
        for sequence in 0..200 {
            let sent_at = Time::from_millis(u64::from(sequence) * 10);
            let received_at = Some(sent_at + Duration::from_nanos(rtt_ns));
            let (stream, outcome) = (StreamKind::Ping, PacketOutcome::Returned);
            let packet = RecordedPacket { stream, sequence, due: sent_at, sent_at, received_at, outcome };
            record += &run_record::packet_line((packet, Time::ZERO).into());
        }
        for second in 1..=5 {
            let sent = [0, packets.min(second * 100), 0];
            record += &run_record::progress_line(Duration::from_secs(second), sent, 0);
        }
        let run = run_record::read(record.as_bytes()).unwrap_or_else(|error| panic!("{error}")).run;
        let ping = run.ping.as_ref().expect("the stream");
        assert_eq!((run.duration_ns, ping.sent, ping.returned), (5_000_000_000, packets, 200), "{rtt_ns}");
        assert_eq!((ping.lost, ping.in_flight), (lost, in_flight), "{rtt_ns} {packets}");
    }
}

#[test]
fn record_that_is_cut_off_anywhere_near_its_end_is_read() {
    let plan = RunResults { timeout_ns: 300_000_000, ..RunResults::new(RunKind::Probe, "a server", StreamKind::Ping) };
    let mut packets = run_record::first_line(Limits::default(), &plan);
    for sequence in 0..200 {
        let sent_at = Time::from_millis(u64::from(sequence) * 10);
        let (stream, outcome, received_at) = (StreamKind::Ping, PacketOutcome::Returned, Some(sent_at));
        let packet = RecordedPacket { stream, sequence, due: sent_at, sent_at, received_at, outcome };
        packets += &run_record::packet_line((packet, Time::ZERO).into());
    }
    let run = run_record::read(packets.as_bytes()).unwrap_or_else(|error| panic!("{error}")).run;
    let run = RunResults { interrupted: None, ..run };
    let report = serde_json::to_string(&Report::new(&run, &Limits::default()).document().to_json()).expect("a line");
    let whole = packets + &run_record::end_line(&run, 0, None);
    for (record, report) in [(whole.clone() + &report, report.len()), (whole, 0)] {
        for cut in 0..2_000 {
            let read = run_record::read(&record.as_bytes()[..record.len() - cut]);
            let read = read.map(|recorded| (recorded.run.interrupted.is_some(), recorded.packets.len() > 180));
            // Without its line feed, the line before the report is still complete.
            assert_eq!(read, Ok((cut > report + 1, true)), "without the last {cut} bytes");
        }
    }
}

proptest! {
    #[test]
    fn damaged_record_is_an_error_or_a_run(
        positions in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (first, end) = first_and_last_lines(&runs()[1].1);
        let packet = "{\"type\":\"packet\",\"stream\":\"ping\",\"sequence\":0,\"due_us\":0.0,\"sent_us\":1.0,\"returned_us\":2.5,\
                      \"echo_time_us\":1.5,\"outcome\":\"returned\"}\n";
        let mut bytes = format!("{first}{packet}{end}").into_bytes();
        for (position, byte) in positions {
            // Only the beginning of the last line, which is long.
            let at = position.index(bytes.len().min(6_000));
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(50));
        if let Ok(run) = run_record::read(&*bytes) {
            let _ = Report::new(&run.run, &Limits::default()).document().text(true, false, None);
        }
    }
}
