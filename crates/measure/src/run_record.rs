//! A recorded run: what `--json-lines` prints and `--record-run` writes, from which `replay` computes the report again.
//!
//! The first line has the version of the format, the limits, and what was known before the first packet. After it come packets, once a second
//! the progress, facts that packets do not show, such as the duration of send calls, and the report. A record that was cut off is that of an
//! interrupted run. `docs/measuring.md` describes the format.

use std::io::{BufRead, Read};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::client::{
    PacketOutcome, RecordedPacket, RunResults, SENT_PACKETS_CAPACITY, StopSignal, StreamCounts, StreamKind, WaitResult,
    replay,
};
use crate::report::limits::Limits;
use crate::report::packet_line::PacketLine;
use jamjam_core::echo::DEFAULT_DELAY;
use jamjam_core::time::{Time, saturating_nanos};

/// Version of the format.
const RECORD_VERSION: u32 = 3;

/// Maximum number of packet lines that are read.
const MAX_RECORDED_PACKETS: usize = 20_000_000;

/// Maximum length of a line in bytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Maximum time since the start of counting, in nanoseconds: 52 days. Up to this time, an `f64` in microseconds represents each nanosecond.
const MAX_TIME_NS: u64 = 1 << 52;

/// Maximum start time: the year 9999, in milliseconds since 1970-01-01 UTC.
const MAX_UNIX_MS: u64 = 253_402_300_799_999;

/// The start of counting in the time of a replay. The distance to both ends of the time scale is 73 years or more.
const REPLAY_ORIGIN: Time = Time::from_nanos(1 << 61);

/// The error for another file, which is often a report.
const NO_RECORD: &str = "this is no recorded run of send or probe; give what --record-run or --json-lines has written";

/// A line of a record.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Run(Run<&'a RunResults>),
    /// A packet or a copy of a packet.
    Packet(PacketLine),
    Progress(Progress),
    End(End<&'a RunResults>),
}

/// The fields that determine how a line is read.
#[derive(Deserialize)]
struct LineType {
    #[serde(rename = "type")]
    line_type: String,
    /// A field of the first line.
    record_version: Option<u32>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Run<R> {
    /// `RECORD_VERSION`.
    record_version: u32,
    /// Version of the program that recorded the run.
    tool_version: String,
    limits: Limits,
    /// The results before the first packet. They replace the last line if that is missing.
    plan: R,
}

/// What the packet lines do not show during a run: time passes, and packets without a reply are sent.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// Time since the start of counting. All replies that arrived until then have a line above.
    elapsed_ns: u64,
    /// Packets so far, including those that were not sent. The array index is a [`StreamKind`].
    packets: [u64; 3],
    /// Packet lines that are missing above because the disk was too slow.
    packets_dropped: u64,
}

/// The line before the report: observations that the packets do not contain.
#[derive(Serialize, Deserialize)]
struct End<R> {
    /// Packet lines that are missing because the disk was too slow.
    packets_dropped: u64,
    streams: Vec<StreamCounts>,
    /// Everything except the statistics that the packets show.
    results: R,
    /// The error that ended the run.
    error: Option<String>,
}

/// One line, ending with a line feed.
fn to_line(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("numbers and texts") + "\n"
}

/// The first line, ending with a line feed. `plan` are the results of the run before its first packet.
pub fn first_line(limits: Limits, plan: &RunResults) -> String {
    let tool_version = env!("CARGO_PKG_VERSION").to_owned();
    to_line(&Line::Run(Run { record_version: RECORD_VERSION, tool_version, limits, plan }))
}

/// The line of a packet, ending with a line feed.
pub fn packet_line(packet: PacketLine) -> String {
    to_line(&Line::Packet(packet))
}

/// A progress line, ending with a line feed: `elapsed` since the start of counting, each stream has this number of `packets`.
pub fn progress_line(elapsed: Duration, packets: [u64; 3], packets_dropped: u64) -> String {
    to_line(&Line::Progress(Progress { elapsed_ns: saturating_nanos(elapsed), packets, packets_dropped }))
}

/// The line before the report, ending with a line feed. `packets_dropped` packet lines are missing. `error` ended the run.
pub fn end_line(run: &RunResults, packets_dropped: u64, error: Option<String>) -> String {
    let counts = |stream| Some(StreamCounts { stream, unmatched: run.stream(stream)?.unmatched });
    let streams = StreamKind::ALL.into_iter().filter_map(counts).collect();
    to_line(&Line::End(End { packets_dropped, streams, results: run, error }))
}

/// A record that was read completely.
pub struct RecordedRun {
    /// The limits of the recorded run.
    pub limits: Limits,
    /// The results with all statistics.
    pub run: RunResults,
    /// The error that ended the recorded run.
    pub error: Option<String>,
    /// The events of all packets, in the order of the record.
    pub packets: Vec<RecordedPacket>,
}

/// The lines that were read so far.
#[derive(Default)]
struct RecordReader {
    lines: usize,
    /// The limits and the plan.
    run: Option<(Limits, RunResults)>,
    packets: Vec<RecordedPacket>,
    /// Line number of each packet.
    packet_lines: Vec<u32>,
    progress: Vec<Progress>,
    end: Option<End<RunResults>>,
    has_report: bool,
}

/// Reads a record. The error names the line that is wrong.
pub fn read(mut input: impl BufRead) -> Result<RecordedRun, String> {
    let mut reader = RecordReader::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
        if limited.map_err(|error| error.to_string())? == 0 {
            return reader.finish();
        }
        reader.lines += 1;
        match reader.read_line(&line) {
            // The process was killed while it wrote this line.
            Err(_) if reader.run.is_some() && is_cut_off(&line) => return reader.finish(),
            result => result.map_err(|reason| format!("line {}: {reason}", reader.lines))?,
        }
    }
}

impl RecordReader {
    fn read_line(&mut self, line: &[u8]) -> Result<(), String> {
        if line.len() > MAX_LINE_BYTES {
            return Err(format!("longer than {} MiB", MAX_LINE_BYTES >> 20));
        }
        let first = parse::<LineType>(line);
        let LineType { line_type, record_version } =
            if self.run.is_some() { first? } else { first.map_err(|_| NO_RECORD)? };
        match (&*line_type, record_version) {
            // Other versions have other fields.
            ("run", Some(version)) if version != RECORD_VERSION => {
                return Err(format!("unsupported record_version {version}; this program reads {RECORD_VERSION}"));
            }
            ("run", _) if self.run.is_some() => return Err("another run begins here; give a file with one".to_owned()),
            ("run", Some(_)) => {
                let Run { limits, plan, .. } = parse(line)?;
                self.run = Some((limits, plan));
            }
            _ if self.run.is_none() => return Err(NO_RECORD.to_owned()),
            ("report", _) if !self.has_report => self.has_report = true,
            _ if self.end.is_some() || self.has_report => {
                return Err("nothing may follow the end of the run".to_owned());
            }
            ("packet", _) => {
                if self.packets.len() == MAX_RECORDED_PACKETS {
                    return Err(format!("the record has more than {MAX_RECORDED_PACKETS} packet lines"));
                }
                self.packets.push(recorded_packet(&parse(line)?)?);
                self.packet_lines.push(self.lines as u32);
            }
            ("progress", _) => {
                let progress: Progress = parse(line)?;
                check_packets_dropped(progress.packets_dropped)?;
                if progress.elapsed_ns > MAX_TIME_NS {
                    return Err("`elapsed_ns` is out of range".to_owned());
                }
                self.progress.push(progress);
            }
            ("end", _) => {
                let end: End<RunResults> = parse(line)?;
                check_packets_dropped(end.packets_dropped)?;
                let has_audio = end.streams.iter().any(|counts| counts.stream == StreamKind::Audio);
                if has_audio != end.results.audio.is_some() {
                    return Err("`streams` and `results` do not agree about AUDIO".to_owned());
                }
                if end.results.duration_ns > MAX_TIME_NS || end.results.started_unix_ms > MAX_UNIX_MS {
                    return Err("`duration_ns` or `started_unix_ms` is out of range".to_owned());
                }
                self.end = Some(end);
            }
            (other, _) => return Err(format!("unexpected line type {other:?}")),
        }
        Ok(())
    }

    /// Computes the results of the recorded run.
    fn finish(self) -> Result<RecordedRun, String> {
        let (limits, plan) = self.run.ok_or("the file is empty")?;
        let Some(End { streams, results, error, .. }) = self.end else {
            let (run, packets) = interrupted_run(plan, self.packets, &self.progress)?;
            return Ok(RecordedRun { limits, run, error: None, packets });
        };
        let run = replay(results, REPLAY_ORIGIN, &streams, &self.packets).map_err(|error| match error {
            (Some(event), reason) => format!("line {}: {reason}", self.packet_lines[event]),
            (None, reason) => reason,
        })?;
        Ok(RecordedRun { limits, run, error, packets: self.packets })
    }
}

/// Whether the end of a line is missing.
fn is_cut_off(line: &[u8]) -> bool {
    !line.ends_with(b"\n") && serde_json::from_slice::<IgnoredAny>(line).is_err()
}

/// A record without all packets cannot be replayed.
fn check_packets_dropped(count: u64) -> Result<(), String> {
    if count == 0 { Ok(()) } else { Err(format!("the record lacks {count} packets, because the disk was too slow")) }
}

/// The results and the packets of a run whose record ends early. A packet without a reply usually has no line before the end. Such packets are added at times
/// between the packets and progress lines around them.
fn interrupted_run(
    plan: RunResults,
    packets: Vec<RecordedPacket>,
    progress: &[Progress],
) -> Result<(RunResults, Vec<RecordedPacket>), String> {
    let at = |progress: &Progress| REPLAY_ORIGIN + Duration::from_nanos(progress.elapsed_ns);
    let last_events = packets.iter().map(|packet| packet.received_at.unwrap_or(packet.sent_at));
    let ended_at = last_events.chain(progress.iter().map(at)).max().unwrap_or(REPLAY_ORIGIN);
    let mut streams = Vec::new();
    let mut all = packets;
    for stream in StreamKind::ALL {
        let audio = plan.audio.as_ref().filter(|_| stream == StreamKind::Audio);
        let first_sequence = audio.map_or(0, |audio| audio.first_sequence);
        let recorded = || all.iter().filter(|packet| packet.stream == stream);
        // As in a run, the wait for a reply begins when the reply is expected.
        let round_trips = recorded().filter(|packet| packet.outcome == PacketOutcome::Returned);
        let min_rtt = round_trips.filter_map(|packet| Some(packet.received_at?.duration_since(packet.sent_at))).min();
        let delay = audio.map(|audio| audio.configured_server_delay_ns.map_or(DEFAULT_DELAY, Duration::from_nanos));
        let timeout = Duration::from_nanos(plan.timeout_ns) + min_rtt.or(delay).unwrap_or_default();
        // What is known: the index and the send time of a packet, or the number of packets at a time.
        let sent = |packet: &RecordedPacket| (packet.sequence.wrapping_sub(first_sequence).into(), packet.sent_at, 1);
        let counted = |progress: &Progress| (progress.packets[stream as usize], at(progress), 0);
        let mut known: Vec<(u64, Time, u64)> = recorded().map(sent).chain(progress.iter().map(counted)).collect();
        known.sort_unstable();
        let count = known.last().map_or(0, |(index, _, packets)| index + packets);
        if count > 0 || stream == plan.evaluated_stream {
            streams.push(StreamCounts { stream, unmatched: 0 });
        }
        let mut before = (0, REPLAY_ORIGIN);
        let mut next = 0;
        for (index, time, packets) in known {
            let (from, sent_from) = before;
            // Each older packet without a reply has a line.
            if next < index.min(count.saturating_sub(SENT_PACKETS_CAPACITY as u64)) {
                let sequence = first_sequence.wrapping_add(next as u32);
                return Err(format!("{} packet {sequence} is missing", stream.name()));
            }
            let gap = time.duration_since(sent_from) / (index - from).max(1) as u32;
            for missing in next..index {
                let sent_at = sent_from + gap * (missing - from) as u32;
                let is_lost = plan.replies_expected && ended_at.duration_since(sent_at) >= timeout;
                let outcome = if is_lost { PacketOutcome::Lost } else { PacketOutcome::InFlight };
                let sequence = first_sequence.wrapping_add(missing as u32);
                all.push(RecordedPacket { stream, sequence, due: sent_at, sent_at, received_at: None, outcome });
            }
            (before, next) = ((index, time), next.max(index + packets));
        }
    }
    let duration_ns = saturating_nanos(ended_at.duration_since(REPLAY_ORIGIN));
    let waited = |wait| WaitResult { reply_received: !all.is_empty(), ..wait };
    let readiness_wait = plan.readiness_wait.map(waited);
    let run = RunResults { duration_ns, readiness_wait, interrupted: Some(StopSignal::Unknown), ..plan };
    let run = replay(run, REPLAY_ORIGIN, &streams, &all).map_err(|(_, reason)| reason)?;
    Ok((run, all))
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| match error.classify() {
        Category::Eof => "the line is incomplete".to_owned(),
        _ => error.to_string(),
    })
}

/// Converts a packet line to nanoseconds.
fn recorded_packet(line: &PacketLine) -> Result<RecordedPacket, String> {
    let PacketLine { stream, sequence, due_us, sent_us, returned_us, echo_time_us, outcome } = *line;
    let ns = |us: f64| {
        let ns = (us * 1e3).round();
        if ns.abs() <= MAX_TIME_NS as f64 { Ok(ns as i64) } else { Err("a time is out of range".to_owned()) }
    };
    let time = |us| Ok::<_, String>(Time::from_nanos(REPLAY_ORIGIN.as_nanos().saturating_add_signed(ns(us)?)));
    if sent_us.is_none() != (outcome == PacketOutcome::NotSent) {
        return Err("the outcome and sent_us contradict each other".to_owned());
    }
    let sent_us = sent_us.unwrap_or(due_us);
    let echo_time_ns = |returned: f64| Ok::<_, String>(ns(returned)? - ns(sent_us)?);
    if returned_us.map(echo_time_ns).transpose()? != echo_time_us.map(ns).transpose()? {
        return Err("echo_time_us is not returned_us - sent_us".to_owned());
    }
    let (due, sent_at, received_at) = (time(due_us)?, time(sent_us)?, returned_us.map(time).transpose()?);
    Ok(RecordedPacket { stream, sequence, due, sent_at, received_at, outcome })
}
