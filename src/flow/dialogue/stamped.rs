//! The ping of control surfaces: the client's time goes out and comes back beside the server's, from which the offset of the two
//! clocks follows.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;

use serde::Deserialize;

use super::Heard;
use super::told::object;
use crate::flow::ledger::WINDOW;
use crate::time::Time;

/// What this machine takes the time of day to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// A moment on the run's clock.
    pub at: Time,
    /// The same moment in nanoseconds since 1970-01-01 UTC.
    pub unix_ns: i64,
}

impl WallClock {
    /// A time of the run's clock in nanoseconds since 1970.
    fn unix_ns(self, time: Time) -> i64 {
        self.unix_ns.saturating_add(time.signed_since(self.at))
    }
}

/// How far a server's clock is ahead of this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// `((t2 - t1) + (t3 - t4)) / 2` in nanoseconds, of the answer with the smallest round trip.
    pub offset_ns: i64,
    /// That round trip in nanoseconds: half of it is the most by which the offset can be wrong.
    pub round_trip_ns: i64,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
struct Out {
    client_us: i64,
    sequence: u32,
    left: Time,
}

/// A conversation in stamps.
#[derive(Debug)]
pub(super) struct Stamped {
    wall: WallClock,
    /// The stamp that was written last: every question has its own, and later ones have later ones.
    last_us: i64,
    /// The questions that can still be answered, oldest first.
    out: VecDeque<Out>,
    best: Option<ClockOffset>,
}

#[derive(Deserialize)]
struct Pong<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    /// Whole or not, as the server wrote it.
    client_time: Option<f64>,
    server_time: Option<f64>,
}

impl Stamped {
    pub(super) fn new(wall: WallClock) -> Self {
        Self { wall, last_us: i64::MIN, out: VecDeque::new(), best: None }
    }

    pub(super) fn write(&mut self, now: Time, text: &mut String) {
        let after_the_last = self.out.back().map_or(i64::MIN, |last| last.client_us + 1);
        self.last_us = (self.wall.unix_ns(now) / 1_000).max(after_the_last);
        // Writing to a string cannot fail.
        _ = write!(text, r#"{{"type":"ping","client_time":{}}}"#, self.last_us);
    }

    pub(super) fn left(&mut self, sequence: u32, at: Time) {
        if self.out.len() == WINDOW {
            self.out.pop_front();
        }
        self.out.push_back(Out { client_us: self.last_us, sequence, left: at });
    }

    pub(super) fn hear(&mut self, text: &str, at: Time) -> Heard {
        let Some(Pong { kind, client_time, server_time }) = object(text) else { return Heard::Other };
        if kind != "pong" {
            return Heard::Other;
        }
        // Microseconds since 1970 are whole in a double for 280 years.
        let stamp = client_time.filter(|time| time.fract() == 0.0).map(|time| time as i64);
        let found = stamp.and_then(|stamp| self.out.binary_search_by_key(&stamp, |out| out.client_us).ok());
        let Some(Out { left, sequence, .. }) = found.map(|place| self.out[place]) else { return Heard::Unasked };
        if let Some(server_us) = server_time {
            self.compare(left, at, server_us);
        }
        Heard::Answer(sequence)
    }

    /// The best answer is the quickest: what is unknown, how the round trip divides, is least of it.
    fn compare(&mut self, left: Time, came: Time, server_us: f64) {
        let round_trip_ns = came.signed_since(left);
        if self.best.is_some_and(|best| best.round_trip_ns <= round_trip_ns) {
            return;
        }
        let (t1, t4) = (self.wall.unix_ns(left), self.wall.unix_ns(came));
        // In a double nanoseconds since 1970 are not whole any more.
        let there = (server_us.trunc() as i64).saturating_mul(1_000).saturating_add((server_us.fract() * 1e3) as i64);
        // The sum of two times of day does not fit.
        let twice = i128::from(there) - i128::from(t1) + (i128::from(there) - i128::from(t4));
        let offset_ns = i64::try_from(twice / 2).unwrap_or(i64::MAX);
        self.best = Some(ClockOffset { offset_ns, round_trip_ns });
    }

    pub(super) fn offset(&self) -> Option<ClockOffset> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// 2023-11-14 22:13:20 UTC is 1,700,000,000 s after 1970; the run's clock shows 5 ms then.
    fn talk() -> Stamped {
        Stamped::new(WallClock { at: Time::from_nanos(5 * MS), unix_ns: 1_700_000_000_000_000_000 })
    }

    fn ask(talk: &mut Stamped, sequence: u32, at_ns: u64) -> String {
        let mut text = String::new();
        talk.write(Time::from_nanos(at_ns), &mut text);
        talk.left(sequence, Time::from_nanos(at_ns));
        text
    }

    #[test]
    fn a_question_carries_the_time_of_day_in_microseconds_and_no_two_the_same() {
        let mut talk = talk();
        assert_eq!(ask(&mut talk, 0, 5 * MS), r#"{"type":"ping","client_time":1700000000000000}"#);
        assert_eq!(ask(&mut talk, 1, 5 * MS), r#"{"type":"ping","client_time":1700000000000001}"#);
        assert_eq!(ask(&mut talk, 2, 7 * MS), r#"{"type":"ping","client_time":1700000000002000}"#);
    }

    #[test]
    fn an_answer_is_known_by_the_stamp_it_brings_back_however_it_is_written() {
        let mut talk = talk();
        ask(&mut talk, 7, 5 * MS);
        ask(&mut talk, 8, 6 * MS);
        let mut hear = |text: &str| talk.hear(text, Time::from_nanos(9 * MS));
        assert_eq!(hear(r#"{"type":"pong","client_time":1700000000001000,"server_time":1}"#), Heard::Answer(8));
        assert_eq!(hear(r#"{"type":"pong","client_time":1.7e15}"#), Heard::Answer(7));
        assert_eq!(hear(r#"{"type":"pong","client_time":1700000000000000}"#), Heard::Answer(7), "twice");
        for unasked in ["1700000000000001", "1700000000000000.5", "-1", "null", "1e300"] {
            assert_eq!(hear(&format!(r#"{{"type":"pong","client_time":{unasked}}}"#)), Heard::Unasked, "{unasked}");
        }
        assert_eq!(hear(r#"{"type":"pong"}"#), Heard::Unasked);
        for other in [r#"{"type":"update","param":"x","value":1}"#, "", "pong", r#"{"type":"pong","client_time":"1"}"#]
        {
            assert_eq!(hear(other), Heard::Other, "{other}");
        }
    }

    #[test]
    fn the_offset_is_that_of_the_quickest_answer_as_ntp_computes_it() {
        let mut talk = talk();
        assert_eq!(talk.offset(), None);
        ask(&mut talk, 0, 5 * MS);
        ask(&mut talk, 1, 15 * MS);
        ask(&mut talk, 2, 25 * MS);
        let mut hear = |stamp: u64, server: u64, at_ms: u64| {
            let text = format!(r#"{{"type":"pong","client_time":{stamp},"server_time":{server}}}"#);
            talk.hear(&text, Time::from_nanos(at_ms * MS));
            talk.offset().map(|best| (best.offset_ns, best.round_trip_ns))
        };
        // t1 = 0, t4 = 8 ms after the second; the server says 3.004 s: (3004 + 2996) / 2 = 3000 ms ahead.
        assert_eq!(hear(1_700_000_000_000_000, 1_700_000_003_004_000, 13), Some((3_000_000_000, 8_000_000)));
        // t1 = 10 ms, t4 = 12 ms: (t2 - t1) = 3.0015 s - 10 ms = 2991.5, (t3 - t4) = 2989.5; half the sum 2990.5 ms.
        assert_eq!(hear(1_700_000_000_010_000, 1_700_000_003_001_500, 17), Some((2_990_500_000, 2_000_000)));
        // Slower: it changes nothing.
        assert_eq!(hear(1_700_000_000_020_000, 1_700_000_000_000_000, 28), Some((2_990_500_000, 2_000_000)));
    }

    #[test]
    fn a_server_behind_and_one_that_talks_nonsense_are_both_computed() {
        let mut talk = talk();
        ask(&mut talk, 0, 5 * MS);
        let text = r#"{"type":"pong","client_time":1700000000000000,"server_time":1699999999000000}"#;
        talk.hear(text, Time::from_nanos(7 * MS));
        // (-1000 ms + -1002 ms) / 2.
        assert_eq!(talk.offset(), Some(ClockOffset { offset_ns: -1_001_000_000, round_trip_ns: 2_000_000 }));
        ask(&mut talk, 1, 8 * MS);
        let text = r#"{"type":"pong","client_time":1700000000003000,"server_time":1e300}"#;
        assert_eq!(talk.hear(text, Time::from_nanos(9 * MS)), Heard::Answer(1));
    }
}
