//! Records each simulated run as a run record and replays it. The replay must result in the same report.

use jamjam_core::time::Time;
use jamjam_measure::client::RunResults;
use jamjam_measure::report::json::{self, JsonLine};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::run_record::{self, RecordedOptions};
use jamjam_measure::report::{Report, text};

use super::differences::Differences;
use super::scenario::ClientFacts;

/// Compares the report of `run` with the report of its replay. `started` is the start of counting.
pub(crate) fn check(run: &RunResults, facts: &ClientFacts, started: Time, differences: &mut Differences) {
    let packets = facts.recorder.1.lock().expect("no thread panics with the lock");
    let options = RecordedOptions::new(Limits::default());
    let mut record = json::line(&options).expect("numbers and texts");
    for packet in packets.iter() {
        record += &json::line(&JsonLine::Packet((*packet, started).into())).expect("numbers and texts");
    }
    record += &run_record::end_line(run, 0, None, None).expect("numbers and texts");

    let replayed = run_record::read(record.as_bytes()).unwrap_or_else(|error| panic!("{error}")).run;
    let [expected, actual] = [run, &replayed].map(|run| {
        let report = Report::new(run, &Limits::default());
        json::document(&report).expect("numbers and texts") + &text::details(&report, false)
    });
    for (expected, actual) in expected.lines().zip(actual.lines()).filter(|(expected, actual)| expected != actual) {
        differences.0.push(format!("the replay reports `{}` instead of `{}`", actual.trim(), expected.trim()));
    }
    if expected.lines().count() != actual.lines().count() {
        differences.0.push("the report of the replay has another number of lines".to_owned());
    }
}
