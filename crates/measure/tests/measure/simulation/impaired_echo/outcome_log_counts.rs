//! The rows of an outcome log, and the expected counts that follow from these rows. `docs/measuring.md` defines the columns.

use std::net::SocketAddr;

use super::reference_counts::{Line, Outcome, STREAMS, Stream};
use super::scenario::Wire;

/// A row. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) client: SocketAddr,
    pub(crate) stream: Stream,
    pub(crate) sequence: u32,
    pub(crate) packet_outcome: String,
    pub(crate) reordered: bool,
    pub(crate) delay: Option<i64>,
    pub(crate) copies: u8,
}

/// The counts of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamCounts {
    pub(crate) sent: u64,
    pub(crate) returned: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

/// The packets that a client must report.
pub(crate) struct Recount {
    pub(crate) lines: Vec<Line>,
    /// In the order of [`STREAMS`].
    pub(crate) counts: [StreamCounts; 3],
}

/// Parses microseconds with three decimals into nanoseconds.
fn nanos(text: &str) -> i64 {
    let (whole, decimals) = text.split_once('.').expect("a point");
    assert_eq!(decimals.len(), 3, "{text}");
    whole.parse::<i64>().expect("a number") * 1_000 + decimals.parse::<i64>().expect("a number")
}

/// Parses the file.
pub(crate) fn read(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_us,client,type,sequence,outcome,reordered,delay_us,copies"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let [time, client, kind, sequence, packet_outcome, reordered, delay, copies] = cells[..] else {
            panic!("{line}")
        };
        let row = Row {
            time: nanos(time),
            client: client.parse().expect("an address"),
            stream: match kind {
                "AUDIO" => Stream::Audio,
                "LATENCY_PING" => Stream::Ping,
                "KEEPALIVE" => Stream::Keepalive,
                other => panic!("{other}"),
            },
            sequence: sequence.parse().expect("a number"),
            packet_outcome: packet_outcome.to_owned(),
            reordered: match reordered {
                "0" => false,
                "1" => true,
                other => panic!("{other}"),
            },
            delay: (!delay.is_empty()).then(|| nanos(delay)),
            copies: copies.parse().expect("a number"),
        };
        assert_eq!(
            (row.packet_outcome == "sent", row.packet_outcome == "sent"),
            (row.copies > 0, row.delay.is_some()),
            "{line}"
        );
        row
    };
    lines.map(row).collect()
}

/// Computes the expected counts of the client at the other end of `wire`. Only this client's rows are counted. Each row is a packet that
/// the client sent.
pub(crate) fn count(rows: &[Row], wire: &Wire) -> Recount {
    let own: Vec<&Row> = rows.iter().filter(|row| row.client == wire.client).collect();
    let mut recount = Recount { lines: Vec::new(), counts: [StreamCounts::default(); 3] };
    for stream in STREAMS {
        let counts = &mut recount.counts[stream as usize];
        let echo_delay = if stream == Stream::Audio { wire.echo_delay } else { 0 };
        let mut sent: Vec<(usize, &Row)> =
            own.iter().copied().enumerate().filter(|(_, row)| row.stream == stream).collect();
        // Rows are in the order in which outcomes were determined. The upstream link loses no packets and preserves their order. Therefore,
        // the rows are sorted by arrival time at the server to get the order of sending.
        sent.sort_by_key(|(_, row)| row.time);
        counts.sent = sent.len() as u64;
        let mut arrivals: Vec<(i64, usize, usize)> = Vec::new();
        for (index, (row_position, row)) in sent.iter().enumerate() {
            let left = row.time - wire.way;
            let mut line = |received_at: Option<i64>, packet_outcome: Outcome| {
                recount.lines.push(Line { stream, sequence: row.sequence, sent: left, received_at, packet_outcome });
            };
            let Some(delay) = row.delay else {
                counts.lost += 1;
                line(None, Outcome::Lost);
                continue;
            };
            let received_at = row.time + echo_delay + delay + wire.way;
            counts.returned += 1;
            line(Some(received_at), Outcome::Returned);
            for copy in 1..i64::from(row.copies) {
                counts.duplicated += 1;
                line(Some(received_at + copy * wire.takes(stream)), Outcome::Duplicate);
            }
            arrivals.push((received_at, *row_position, index));
        }
        // If the server sends several replies in the same nanosecond, their rows determine the order of sending.
        arrivals.sort_unstable();
        let passed = |index: usize| arrivals[..index].iter().any(|(.., before)| *before > arrivals[index].2);
        counts.reordered = (0..arrivals.len()).filter(|index| passed(*index)).count() as u64;
    }
    recount
}

/// Computes those server counters that require only the rows of the outcome log.
pub(crate) fn counters(rows: &[Row]) -> Vec<(&'static str, u64)> {
    let count = |counts: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| counts(row)).count() as u64;
    let packet_outcome = |packet_outcome: &str| count(&|row| row.packet_outcome == packet_outcome);
    let copies = |audio: bool| {
        let rows = rows.iter().filter(|row| (row.stream == Stream::Audio) == audio);
        rows.map(|row| u64::from(row.copies)).sum()
    };
    vec![
        ("sent", copies(true)),
        ("immediate_replies", copies(false)),
        ("received", count(&|row| row.stream == Stream::Audio && row.packet_outcome != "buffer_full")),
        ("pings", count(&|row| row.stream == Stream::Ping && row.packet_outcome != "buffer_full")),
        ("keepalives", count(&|row| row.stream == Stream::Keepalive && row.packet_outcome != "buffer_full")),
        ("impaired_lost", packet_outcome("lost")),
        ("impaired_burst", packet_outcome("burst")),
        ("impaired_listed", packet_outcome("listed")),
        ("impaired_queue", packet_outcome("queue")),
        ("impaired_reordered", count(&|row| row.reordered)),
        ("dropped_at_stop", packet_outcome("stopped")),
    ]
}
