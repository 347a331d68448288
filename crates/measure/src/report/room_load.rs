//! The report of a load on rooms: what was delivered, how long it took, and which limit of the server or of this program was reached.

use std::fmt::Write;

use serde::Serialize;

use super::diagnoses::{ClosePhase, diagnose_close};
use super::limits::{LimitResult, Limits, Measured, exceeded_limit};
use super::quantities::{self, RoundTrip, Unit, format_count, format_decimals, format_optional_time, millis, rounded_micros};
use super::text::{Style, limit};
use crate::client::{Ending, RoomLoad, RoomLoadCounts, StopSignal, WebSocketFailure};
use jamjam_core::sanitize::sanitize;
use jamjam_core::stats::Histogram;
use jamjam_core::time::saturating_nanos;
use jamjam_signaling::Dialect;

/// This program is at its limit if the 99th percentile of its lateness exceeds this time, in microseconds.
const MAX_LATENESS_US: f64 = 1e3;

/// The report of a load on rooms.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "room_load")]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field")]
pub struct RoomLoadReport {
    pub schema_version: u32,
    pub tool_version: &'static str,
    pub target: String,
    pub dialect: Dialect,
    pub interrupted: Option<StopSignal>,
    pub duration_ms: f64,
    pub members: u64,
    pub rooms: u64,
    #[serde(flatten)]
    pub counts: RoomLoadCounts,
    pub missing_ratio: Option<f64>,
    pub deliveries_per_s: Option<f64>,
    pub join_time: TimeFigures,
    pub delivery_time: TimeFigures,
    pub lateness: TimeFigures,
    pub endings: Vec<EndingFigures>,
    pub limits: Vec<LimitResult>,
    pub passed: bool,
    pub reasons: Vec<String>,
}

/// Percentiles and maximum of a time.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field")]
pub struct TimeFigures {
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub max_us: Option<f64>,
}

/// Why connections ended before the end of the run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field")]
pub struct EndingFigures {
    pub had_joined: bool,
    pub count: u64,
    pub kind: &'static str,
    pub close_code: Option<u16>,
    pub message: String,
    pub limit: Option<&'static str>,
    pub remedy: Option<&'static str>,
}

impl TimeFigures {
    fn new(times: &Histogram) -> Self {
        let us = |ns: Option<i64>| ns.map(|ns| rounded_micros(ns as f64));
        let [p50_us, p99_us] = [0.5, 0.99].map(|p| us(times.percentile_if_enough(p)));
        Self { p50_us, p99_us, max_us: us(times.max()) }
    }

    fn text(&self) -> String {
        let [p50, p99, max] = [self.p50_us, self.p99_us, self.max_us].map(format_optional_time);
        format!("p50 {p50}, p99 {p99}, max {max}")
    }
}

impl EndingFigures {
    fn new(dialect: Dialect, Ending { failure, had_joined, count }: &Ending) -> Self {
        let message = sanitize(&failure.to_string());
        let phase = if *had_joined { ClosePhase::AfterReplies } else { ClosePhase::BeforeRequests };
        let (close_code, remedy) = match failure {
            WebSocketFailure::Closed { code, reason } => (*code, Some(diagnose_close(dialect, *code, reason, phase))),
            _ => (None, None),
        };
        let limit = server_limit(dialect, &message);
        Self { had_joined: *had_joined, count: *count, kind: failure.kind(), close_code, limit, message, remedy }
    }
}

/// The limit of a signaling server of this program that ends a connection with this message, and how to lift it.
fn server_limit(dialect: Dialect, message: &str) -> Option<&'static str> {
    let full = match dialect {
        Dialect::Jamjam => "a room has at most 10 members; give a higher --room-count",
        Dialect::Broadcast => "max_clients of the room",
        Dialect::ControlSurface => "members of a room: BBX_MAX_CLIENTS",
        Dialect::WebRtc => "members of a room: WEBRTC_MAX_MEMBERS",
    };
    let message = message.to_lowercase();
    let limits = [
        ("room is full", full),
        ("room is at capacity", full),
        ("too many rooms", "1,000 rooms per address; give a lower --room-count, or use several hosts"),
        ("too many requests", "joins send at most 1 MiB/s per address; use several hosts, or smaller rooms"),
        ("selected a dialect", "1,024 connections without a dialect, 128 of them per address"),
        ("rate limit exceeded", "messages per connection: --rate-limit-messages (RATE_LIMIT_MESSAGES)"),
        ("connection age", "age of a connection: MAX_CONN_AGE_MS"),
        ("idle", "silence of a member: IDLE_TIMEOUT_MS"),
        ("without responding", "connections per address: --max-connections-per-address and RATE_LIMIT_CONNECTIONS"),
        ("http 429", "connections per address: --max-connections-per-address and RATE_LIMIT_CONNECTIONS"),
        ("did not answer the websocket upgrade", "connections in all: --max-connections, and open files (ulimit -n)"),
        ("too many open files", "open files of this host: ulimit -n"),
    ];
    limits.into_iter().find(|(part, _)| message.contains(part)).map(|(_, limit)| limit)
}

impl RoomLoadReport {
    /// The report of a run against `target`.
    pub fn new(load: &RoomLoad, target: String, limits: &Limits, interrupted: Option<StopSignal>) -> Self {
        let (counts, config) = (load.counts, load.config);
        let settled = counts.received + counts.missing;
        let missing_ratio = (settled > 0).then(|| counts.missing as f64 / settled as f64);
        let no_data = || "nothing was delivered".to_owned();
        let times = RoundTrip { histogram: &load.delivery_time, offset: 0 };
        let percentile = |p, name, figure| {
            Measured::percentile(&times, p, name, [figure, "delivery_max_us"])
                .unwrap_or_else(|| Measured::new(figure, Err(no_data())))
        };
        let missing = Measured::new("missing_ratio", missing_ratio.ok_or_else(no_data));
        let percentiles = [percentile(0.5, "p50", "delivery_p50_us"), percentile(0.99, "p99", "delivery_p99_us")];
        let limits = limits.compare(missing, percentiles, None);
        let wrong = [
            (counts.refused, "member", "could not join"),
            (counts.disconnected, "member", "lost the connection"),
            (counts.not_sent, "message", "could not be sent"),
            (counts.duplicate, "message", "arrived more than once"),
            (counts.out_of_order, "message", "arrived out of order"),
            (counts.wrong_room, "message", "of another room arrived"),
            (counts.wrong_sender, "message", "with a wrong sender or number arrived"),
            (counts.errors, "error", "arrived"),
        ];
        let wrong = wrong.into_iter().filter(|(count, ..)| *count > 0);
        let mut reasons: Vec<String> = wrong.map(|(n, one, what)| format!("{} {what}", format_count(n, one))).collect();
        reasons.extend((counts.received == 0 && interrupted.is_none()).then(no_data));
        reasons.extend(limits.iter().filter(|limit| !limit.passed).map(exceeded_limit));
        let seconds = load.duration().as_secs_f64();
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            target,
            dialect: config.dialect,
            interrupted,
            duration_ms: millis(saturating_nanos(load.duration()).cast_signed()),
            members: config.members as u64,
            rooms: config.rooms as u64,
            counts,
            missing_ratio,
            deliveries_per_s: (seconds > 0.0).then(|| quantities::thousandths(counts.received as f64 / seconds)),
            join_time: TimeFigures::new(&load.join_time),
            delivery_time: TimeFigures::new(&load.delivery_time),
            lateness: TimeFigures::new(&load.lateness),
            endings: load.endings.iter().map(|ending| EndingFigures::new(config.dialect, ending)).collect(),
            limits,
            passed: reasons.is_empty(),
            reasons,
        }
    }

    /// The report as text. `color` adds ANSI codes.
    pub fn text(&self, color: bool) -> String {
        let (style, counts) = (Style(color), &self.counts);
        let rooms = format!("{} in {}", format_count(self.members, "member"), format_count(self.rooms, "room"));
        let heading = format!("load on {}, {}: {rooms}", self.target, self.dialect.name());
        let RoomLoadCounts { joined, refused, disconnected, sent, not_sent, received, expected, missing, .. } = counts;
        let rate = self.deliveries_per_s.map_or_else(String::new, |rate| format!(", {} per second", format_decimals(rate, 0)));
        let wrong = [
            (counts.late, "late"),
            (counts.duplicate, "repeated"),
            (counts.out_of_order, "out of order"),
            (counts.wrong_room, "of another room"),
            (counts.wrong_sender, "of a wrong sender"),
        ];
        let rows = [
            ("members", format!("{joined} joined, {refused} could not join, {disconnected} disconnected")),
            ("join time", self.join_time.text()),
            ("messages", format!("{sent} sent, {not_sent} not sent")),
            ("deliveries", format!("{received} of {expected}, {missing} missing{rate}")),
            ("wrong deliveries", wrong.map(|(count, what)| format!("{count} {what}")).join(", ")),
            ("delivery time", self.delivery_time.text()),
            ("own lateness", self.lateness.text()),
        ];
        let mut text = style.strong(&heading) + "\n";
        for (label, row) in rows {
            _ = writeln!(text, "{label:20}{row}");
        }
        for ending in &self.endings {
            let (word, end) = match (ending.limit, ending.remedy) {
                (Some(limit), _) => ("limit reached:", format!(" (limit: {limit})")),
                (None, Some(remedy)) => ("failed:", format!(" ({remedy})")),
                (None, None) => ("failed:", String::new()),
            };
            let member = format_count(ending.count, if ending.had_joined { "member" } else { "join" });
            _ = writeln!(text, "{} {member}: {}{end}", style.bad(word), ending.message);
        }
        if let Some(late) = self.lateness.p99_us.filter(|late| *late > MAX_LATENESS_US) {
            let late = Unit::Us.format(late);
            let finding = "this program is at its limit, and its own delay is part of the delivery times";
            _ = writeln!(text, "{} p99 of the own lateness is {late}: {finding}", style.strong("finding:"));
        }
        text.extend(self.limits.iter().map(|result| limit(result, style)));
        text.extend(self.reasons.iter().map(|reason| format!("{} {reason}\n", style.bad("failed:"))));
        let word = match (self.interrupted, self.passed, self.limits.is_empty()) {
            (Some(signal), ..) => style.warn(&format!("INTERRUPTED by {}", quantities::signal(signal))),
            (None, false, _) => style.bad("FAILED"),
            (None, true, false) => style.good("PASSED"),
            (None, true, true) => style.strong("measured"),
        };
        text + &format!("{word}: {}\n", self.key_figures())
    }

    /// The most important figures in a line.
    pub(super) fn key_figures(&self) -> String {
        let missing = self.missing_ratio.map_or_else(|| "-".to_owned(), quantities::format_share);
        format!("missing {missing}, delivery {}", self.delivery_time.text())
    }
}
