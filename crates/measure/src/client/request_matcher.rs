//! Writes the requests of each signaling dialect and matches the responses: those of jamjam and WebRTC by their order, control-surface pongs
//! by their timestamp, and broadcast messages by a marker in their content.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;

use serde::Deserialize;

use super::connection_results::ClockOffset;
use super::sent_packets::SENT_PACKETS_CAPACITY;
use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::{Dialect, ProbeMethod};

/// Writes the requests of one dialect and matches the responses.
#[derive(Debug)]
pub struct RequestMatcher {
    dialect: Dialect,
    /// Precedes the sequence number in the content of each broadcast message of this run. It contains no characters that JSON escapes, so it
    /// appears unchanged in every envelope.
    marker: String,
    wall_clock: WallClock,
    /// Last written timestamp. Timestamps increase strictly, so each identifies one request.
    last_timestamp_us: i64,
    /// Requests that a response can match, oldest first.
    pending: VecDeque<PendingRequest>,
    /// Offset of the server's clock, if the dialect reports the server's time.
    pub(super) best_offset: Option<ClockOffset>,
}

/// A sent request.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    client_time_us: i64,
    sequence: u32,
    sent_at: Time,
}

impl RequestMatcher {
    /// `nonce` distinguishes broadcast messages of this run from others in the room. `wall_clock` supplies the
    /// timestamps of control-surface pings.
    pub fn new(dialect: Dialect, nonce: u64, wall_clock: WallClock) -> Self {
        let (marker, pending) = (format!("jamjam-dev probe {nonce:016x} "), VecDeque::new());
        Self { dialect, marker, wall_clock, last_timestamp_us: i64::MIN, pending, best_offset: None }
    }

    /// Replaces `text` with the next request. The request contains `sequence` if the dialect has a field for it.
    pub fn write_request(&mut self, sequence: u32, now: Time, text: &mut String) {
        text.clear();
        // Writing to a string cannot fail.
        _ = match self.dialect.facts().probe_method {
            ProbeMethod::Order => write!(text, r#"{{"type":"{}"}}"#, self.dialect.facts().probe_types[0]),
            ProbeMethod::Timestamp => {
                let min_us = self.pending.back().map_or(i64::MIN, |last| last.client_time_us + 1);
                self.last_timestamp_us = (self.wall_clock.unix_ns_at(now) / 1_000).max(min_us);
                write!(text, r#"{{"type":"ping","client_time":{}}}"#, self.last_timestamp_us)
            }
            ProbeMethod::Relay => write!(text, r#"{{"type":"probe","content":"{}{sequence}"}}"#, self.marker),
        };
    }

    /// Records that the last written request was sent with this sequence number.
    pub fn on_sent(&mut self, sequence: u32, sent_at: Time) {
        match self.dialect.facts().probe_method {
            ProbeMethod::Relay => return,
            ProbeMethod::Timestamp if self.pending.len() == SENT_PACKETS_CAPACITY => {
                self.pending.pop_front();
            }
            ProbeMethod::Timestamp | ProbeMethod::Order => {}
        }
        self.pending.push_back(PendingRequest { client_time_us: self.last_timestamp_us, sequence, sent_at });
    }

    /// Whether `text`, received at `at`, is a response to a request.
    pub fn is_response(&mut self, text: &str, at: Time) -> bool {
        matches!(self.on_message(text, at), MatchResult::Response(_))
    }

    pub(super) fn on_message(&mut self, text: &str, at: Time) -> MatchResult {
        match self.dialect.facts().probe_method {
            ProbeMethod::Order => self.on_response(text),
            ProbeMethod::Timestamp => self.on_pong(text, at),
            ProbeMethod::Relay => self.on_broadcast(text),
        }
    }

    /// Matches the n-th response to the n-th request, because TCP preserves their order. A response that the server skips or repeats shifts all
    /// later matches, which cannot be detected.
    fn on_response(&mut self, text: &str) -> MatchResult {
        let message = parse_object::<MessageType<'_>>(text);
        if message.is_none_or(|message| message.message_type != self.dialect.facts().probe_types[1]) {
            return MatchResult::Other;
        }
        self.pending.pop_front().map_or(MatchResult::Unmatched, |request| MatchResult::Response(request.sequence))
    }

    /// Matches a control-surface pong by the timestamp that it returns.
    fn on_pong(&mut self, text: &str, at: Time) -> MatchResult {
        let pong = parse_object(text).filter(|pong: &Pong<'_>| pong.message_type == "pong");
        let Some(Pong { client_time, server_time, .. }) = pong else { return MatchResult::Other };
        // Until the year 2255, an f64 can represent the microseconds since 1970 without rounding.
        let timestamp_us = client_time.filter(|time| time.fract() == 0.0).map(|time| time as i64);
        let find = |us| self.pending.binary_search_by_key(&us, |request| request.client_time_us).ok();
        let Some(position) = timestamp_us.and_then(find) else { return MatchResult::Unmatched };
        let PendingRequest { sent_at, sequence, .. } = self.pending[position];
        if let Some(server_us) = server_time {
            self.update_offset(sent_at, at, server_us);
        }
        MatchResult::Response(sequence)
    }

    /// Keeps the offset of the response with the minimum RTT. On an asymmetric path, the error of an offset is at most half of the RTT.
    fn update_offset(&mut self, sent_at: Time, received_at: Time, server_us: f64) {
        let rtt_ns = received_at.signed_nanos_since(sent_at);
        if rtt_ns < 0 || self.best_offset.is_some_and(|best| best.rtt_ns <= rtt_ns) {
            return;
        }
        let (t1, t4) = (self.wall_clock.unix_ns_at(sent_at), self.wall_clock.unix_ns_at(received_at));
        // Convert the integer part separately: an f64 cannot represent nanoseconds since 1970 exactly.
        let t2 = (server_us.trunc() as i64).saturating_mul(1_000).saturating_add((server_us.fract() * 1e3) as i64);
        let t3 = t2; // A pong contains one server time.
        // The sum can exceed an i64.
        let doubled = i128::from(t2) - i128::from(t1) + (i128::from(t3) - i128::from(t4));
        let offset_ns = i64::try_from(doubled / 2).unwrap_or(i64::MAX);
        self.best_offset = Some(ClockOffset { offset_ns, rtt_ns });
    }

    /// Searches the whole text, because each room handler has its own envelope.
    fn on_broadcast(&self, text: &str) -> MatchResult {
        let Some((_, rest)) = text.split_once(self.marker.as_str()) else { return MatchResult::Other };
        let digits = rest.split_once('"').map_or("", |(digits, _)| digits);
        match digits.parse() {
            // Rust's `parse` also accepts "+1" and "01", which jamjam-dev never writes.
            Ok(sequence) if u32::to_string(&sequence) == digits => MatchResult::Response(sequence),
            _ => MatchResult::Unmatched,
        }
    }
}

/// Classification of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchResult {
    /// The response to the request with this sequence number.
    Response(u32),
    /// A response that matches no request.
    Unmatched,
    /// Not a response.
    Other,
}

/// The field `type` of a JSON message. All other fields are ignored.
#[derive(Deserialize)]
struct MessageType<'a> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Pong<'a> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'a, str>,
    /// Parsed as a float, because a server may return the number in another notation.
    client_time: Option<f64>,
    server_time: Option<f64>,
}

/// Parses a JSON object. Rejects an array, which serde would accept for a struct.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if text.trim_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(dialect: Dialect, nonce: u64) -> RequestMatcher {
        RequestMatcher::new(dialect, nonce, WallClock::default())
    }

    #[test]
    fn responses_match_requests_in_order_and_an_extra_one_is_unmatched() {
        let mut text = String::new();
        matcher(Dialect::Jamjam, 0).write_request(0, Time::ZERO, &mut text);
        assert_eq!(text, r#"{"type":"ListRooms"}"#);
        let mut matcher = matcher(Dialect::Jamjam, 0);
        (0..2).for_each(|sequence| matcher.on_sent(sequence, Time::ZERO));
        let list = r#"{"type":"RoomList","data":{"rooms":[]}}"#;
        let results: Vec<MatchResult> = (0..3).map(|_| matcher.on_message(list, Time::ZERO)).collect();
        assert_eq!(results, [MatchResult::Response(0), MatchResult::Response(1), MatchResult::Unmatched]);
        // Request 2 was skipped.
        matcher.on_sent(3, Time::ZERO);
        assert_eq!(matcher.on_message(list, Time::ZERO), MatchResult::Response(3));
    }

    #[test]
    fn other_messages_are_not_responses() {
        let mut text = String::new();
        matcher(Dialect::WebRtc, 0).write_request(0, Time::ZERO, &mut text);
        assert_eq!(text, r#"{"type":"ping"}"#);
        let mut matcher = matcher(Dialect::WebRtc, 0);
        matcher.on_sent(0, Time::ZERO);
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "pong",
            "null",
            "[]",
            r#"["pong"]"#,
            r#"{"type":["pong"]}"#,
            r#"{"type":"Pong"}"#,
            r#"{"type":"participant-joined","userId":"u"}"#,
            r#"{"type":"pong""#,
            &deep,
        ] {
            assert_eq!(matcher.on_message(text, Time::ZERO), MatchResult::Other, "{}", &text[..text.len().min(40)]);
        }
        assert_eq!(matcher.on_message(r#"{"a":1,"type":"p\u006fng"}"#, Time::ZERO), MatchResult::Response(0));
    }

    const MS: u64 = 1_000_000;

    /// At 2023-11-14 22:13:20 UTC (1,700,000,000 s after 1970), the monotonic clock is at 5 ms.
    fn timestamp_matcher() -> RequestMatcher {
        let wall_clock = WallClock { monotonic: Time::from_nanos(5 * MS), unix_ns: 1_700_000_000_000_000_000 };
        RequestMatcher::new(Dialect::ControlSurface, 0, wall_clock)
    }

    fn send_request(matcher: &mut RequestMatcher, sequence: u32, at_ns: u64) -> String {
        let mut text = String::new();
        matcher.write_request(sequence, Time::from_nanos(at_ns), &mut text);
        matcher.on_sent(sequence, Time::from_nanos(at_ns));
        text
    }

    #[test]
    fn request_carries_a_unique_wall_clock_time_in_microseconds() {
        let mut matcher = timestamp_matcher();
        assert_eq!(send_request(&mut matcher, 0, 5 * MS), r#"{"type":"ping","client_time":1700000000000000}"#);
        assert_eq!(send_request(&mut matcher, 1, 5 * MS), r#"{"type":"ping","client_time":1700000000000001}"#);
        assert_eq!(send_request(&mut matcher, 2, 7 * MS), r#"{"type":"ping","client_time":1700000000002000}"#);
    }

    #[test]
    fn response_matches_by_timestamp_in_any_number_format() {
        let mut matcher = timestamp_matcher();
        send_request(&mut matcher, 7, 5 * MS);
        send_request(&mut matcher, 8, 6 * MS);
        let mut on_message = |text: &str| matcher.on_message(text, Time::from_nanos(9 * MS));
        assert_eq!(
            on_message(r#"{"type":"pong","client_time":1700000000001000,"server_time":1}"#),
            MatchResult::Response(8)
        );
        assert_eq!(on_message(r#"{"type":"pong","client_time":1.7e15}"#), MatchResult::Response(7));
        assert_eq!(on_message(r#"{"type":"pong","client_time":1700000000000000}"#), MatchResult::Response(7), "twice");
        for timestamp in ["1700000000000001", "1700000000000000.5", "-1", "null", "1e300"] {
            assert_eq!(
                on_message(&format!(r#"{{"type":"pong","client_time":{timestamp}}}"#)),
                MatchResult::Unmatched,
                "{timestamp}"
            );
        }
        assert_eq!(on_message(r#"{"type":"pong"}"#), MatchResult::Unmatched);
        for other in [r#"{"type":"update","param":"x","value":1}"#, "", "pong", r#"{"type":"pong","client_time":"1"}"#]
        {
            assert_eq!(on_message(other), MatchResult::Other, "{other}");
        }
    }

    #[test]
    fn clock_offset_is_the_ntp_offset_of_the_response_with_minimum_rtt() {
        let mut matcher = timestamp_matcher();
        send_request(&mut matcher, 0, 5 * MS);
        send_request(&mut matcher, 1, 15 * MS);
        send_request(&mut matcher, 2, 25 * MS);
        let mut on_message = |timestamp: u64, server: u64, at_ms: u64| {
            let text = format!(r#"{{"type":"pong","client_time":{timestamp},"server_time":{server}}}"#);
            matcher.on_message(&text, Time::from_nanos(at_ms * MS));
            matcher.best_offset.map(|best| (best.offset_ns, best.rtt_ns))
        };
        // A response that arrived before the request was sent.
        assert_eq!(on_message(1_700_000_000_000_000, 1_700_000_003_004_000, 4), None);
        // t1 = 0, t4 = 8 ms, t2 = t3 = 3.004 s. The server's clock is (3004 + 2996) / 2 = 3000 ms ahead.
        assert_eq!(on_message(1_700_000_000_000_000, 1_700_000_003_004_000, 13), Some((3_000_000_000, 8_000_000)));
        // t1 = 10 ms, t4 = 12 ms, t2 = t3 = 3.0015 s: (2991.5 + 2989.5) / 2 = 2990.5 ms ahead.
        assert_eq!(on_message(1_700_000_000_010_000, 1_700_000_003_001_500, 17), Some((2_990_500_000, 2_000_000)));
        // A response with a higher RTT does not change the result.
        assert_eq!(on_message(1_700_000_000_020_000, 1_700_000_000_000_000, 28), Some((2_990_500_000, 2_000_000)));
        // A slow clock: (-1000 ms + -1002 ms) / 2.
        let mut matcher = timestamp_matcher();
        send_request(&mut matcher, 0, 5 * MS);
        let text = r#"{"type":"pong","client_time":1700000000000000,"server_time":1699999999000000}"#;
        matcher.on_message(text, Time::from_nanos(7 * MS));
        assert_eq!(matcher.best_offset, Some(ClockOffset { offset_ns: -1_001_000_000, rtt_ns: 2_000_000 }));
        // An absurd one, in the fastest response.
        send_request(&mut matcher, 1, 8 * MS);
        let text = r#"{"type":"pong","client_time":1700000000003000,"server_time":1e300}"#;
        assert_eq!(matcher.on_message(text, Time::from_nanos(9 * MS)), MatchResult::Response(1));
    }

    #[test]
    fn marker_is_found_in_any_envelope() {
        let mut matcher = matcher(Dialect::Broadcast, 0xfeed);
        let mut text = String::new();
        matcher.write_request(17, Time::ZERO, &mut text);
        assert_eq!(text, r#"{"type":"probe","content":"jamjam-dev probe 000000000000feed 17"}"#);
        for message in [
            r#"{"type":"r-content","content":"jamjam-dev probe 000000000000feed 17","timestamp":1,"from":"c"}"#,
            r#"{"type":"broadcast","from":"c","receivedAt":1,"data":{"content":"jamjam-dev probe 000000000000feed 17","x":1}}"#,
        ] {
            assert_eq!(matcher.on_message(message, Time::ZERO), MatchResult::Response(17));
        }
    }

    #[test]
    fn foreign_message_is_other_and_damaged_marker_is_unmatched() {
        let mut matcher = matcher(Dialect::Broadcast, 1);
        for other in ["", "x", r#"{"type":"welcome"}"#, "jamjam-dev probe 0000000000000002 3\""] {
            assert_eq!(matcher.on_message(other, Time::ZERO), MatchResult::Other, "{other}");
        }
        for number in ["", "\"", "3", "+3\"", "03\"", "-1\"", "3 \"", "4294967296\"", "x\""] {
            let text = format!("jamjam-dev probe 0000000000000001 {number}");
            assert_eq!(matcher.on_message(&text, Time::ZERO), MatchResult::Unmatched, "{number}");
        }
    }
}
