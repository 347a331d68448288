//! Checks the direction of losses in a client's report. The expected counts are computed from the logs of the client and of the server. The
//! computation follows `docs/measuring.md` and is independent of the client's code.

use std::collections::HashSet;
use std::net::SocketAddr;

use jamjam_measure::client::{LossReport, RunResults, StreamKind};

use super::differences::Differences;
use super::log::Event;
use super::participants;
use super::reference_counts::{self, Stream};
use super::stun;

/// Returns the index of the first event that is counted. Ignores all events before index `from`, including `--loss-direction` requests.
/// `began` is the time when counting began.
pub(crate) fn counts_from(log: &[Event], from: usize, peer: SocketAddr, began: i64) -> usize {
    let requested = transactions(&log[from..]);
    let is_answer = |event: &Event| match (event, requested.first()) {
        (Event::Received { at, from, bytes }, Some(id)) => {
            *at <= began && *from == peer && stun::is_response(bytes, id) && stun::read(bytes).is_some()
        }
        _ => false,
    };
    // A packet that was received exactly at `began` is not counted. A packet that was sent exactly at `began` is counted.
    let counts = |event: &Event| event.at() > began || event.at() == began && sent(event).is_some();
    match log[from..].iter().position(is_answer) {
        Some(answered) => from + answered + 1,
        None => log.iter().position(counts).unwrap_or(log.len()).max(from),
    }
}

/// The STUN transaction IDs of a client, in order.
pub(crate) fn transactions(log: &[Event]) -> Vec<[u8; 12]> {
    let mut found = Vec::new();
    for event in log {
        if let Event::Sent { bytes, .. } = event
            && stun::is_loss_report_request(bytes)
            && !found.contains(&stun::transaction(bytes))
        {
            found.push(stun::transaction(bytes));
        }
    }
    found
}

/// When the client received the server's first report, and the delay in it, in nanoseconds.
pub(crate) fn reported_delay(log: &[Event], peer: SocketAddr) -> Option<(i64, i64)> {
    let requested = transactions(log);
    log.iter().find_map(|event| match event {
        Event::Received { at, from, bytes }
            if *from == peer && requested.iter().any(|id| stun::is_response(bytes, id)) =>
        {
            stun::read(bytes)?.received_counts?;
            let report = bytes.windows(4).position(|window| window == b"jam2")?;
            let delay_us = u32::from_be_bytes(bytes[report + 20..report + 24].try_into().expect("4 bytes"));
            Some((*at, i64::from(delay_us) * 1_000))
        }
        _ => None,
    })
}

/// The transaction ID of the final request: the ID of the first request plus one. Greater IDs belong to the requests during the run.
pub(crate) fn final_transaction(log: &[Event]) -> Option<[u8; 12]> {
    let found = transactions(log);
    let [.., a, b, c, d] = found.first()?;
    let successor = u32::from_be_bytes([*a, *b, *c, *d]).wrapping_add(1).to_be_bytes();
    found.iter().copied().find(|id| id[8..] == successor)
}

/// The time when the final request was first sent, and the time of its response, if any.
pub(crate) fn final_request(log: &[Event], peer: SocketAddr) -> Option<(i64, Option<i64>)> {
    let id = final_transaction(log)?;
    let is_request = |event: &&Event| matches!(event, Event::Sent { bytes, .. } if stun::is_loss_report_request(bytes) && stun::transaction(bytes) == id);
    let requested = log.iter().find(is_request)?.at();
    Some((requested, answer(log, peer, id).map(|(at, _)| at)))
}

/// The first response with this transaction ID, and its time.
fn answer(log: &[Event], peer: SocketAddr, id: [u8; 12]) -> Option<(i64, stun::StunResponse)> {
    log.iter().find_map(|event| match event {
        Event::Received { at, from, bytes } if *from == peer && stun::is_response(bytes, &id) => {
            Some((*at, stun::read(bytes)?))
        }
        _ => None,
    })
}

/// Counts distinct packets of a stream. Repetitions within the newest 128 sequence numbers are not counted.
#[derive(Default)]
struct Distinct {
    newest: Option<u32>,
    recent: HashSet<u32>,
    count: u32,
}

impl Distinct {
    fn on(&mut self, sequence: u32) {
        let ahead = self.newest.map(|newest| i64::from(sequence.wrapping_sub(newest) as i32));
        match ahead {
            Some(ahead) if ahead.abs() <= 65_536 => {
                if ahead > 0 {
                    self.newest = Some(sequence);
                }
                let newest = self.newest.unwrap_or(sequence);
                if newest.wrapping_sub(sequence) < 128 && !self.recent.insert(sequence) {
                    return;
                }
                self.recent.retain(|recent| newest.wrapping_sub(*recent) < 128);
            }
            _ => {
                self.newest = Some(sequence);
                self.recent = HashSet::from([sequence]);
            }
        }
        self.count += 1;
    }
}

/// The packets that the server received from a client.
struct Server {
    /// Loss-report requests that arrived undamaged: their transaction IDs, and the packet counts when each request arrived.
    reported_counts: Vec<([u8; 12], [u32; 3])>,
    /// Like `reported_counts`, but including packets that were received after the request in the same buffer (GRO).
    with_next: Vec<([u8; 12], [u32; 3])>,
    /// Each packet that arrived, with the number of loss-report requests that arrived before this packet.
    arrived: Vec<(usize, Stream, u32)>,
    /// Whether the server may have removed the source, as it does after 10 s without a packet.
    paused: bool,
}

fn server_arrivals(server: &[Event], client: SocketAddr) -> Server {
    let mut arrivals =
        Server { reported_counts: Vec::new(), with_next: Vec::new(), arrived: Vec::new(), paused: false };
    let mut streams: [Distinct; 3] = Default::default();
    let (mut last, mut last_request, mut window) = (None, None::<([u8; 12], i64)>, None::<(i64, u32)>);
    for event in server {
        let Event::Received { at, from, bytes } = event else { continue };
        if *from != client {
            continue;
        }
        arrivals.paused |= last.is_some_and(|last| at - last > 9_000_000_000);
        last = Some(*at);
        if stun::is_loss_report_request(bytes) {
            arrivals.reported_counts.push((stun::transaction(bytes), [0, 1, 2].map(|i: usize| streams[i].count)));
            last_request = Some((stun::transaction(bytes), *at));
            // The server sends at most ten loss reports per second. After a report before or after a run, the server
            // forgets which sequence numbers it has received.
            if window.is_none_or(|(begin, _)| at - begin >= 1_000_000_000) {
                window = Some((*at, 0));
            }
            if let Some((_, times @ 0..10)) = &mut window {
                *times += 1;
                if !stun::is_request_during_run(bytes) {
                    for stream in &mut streams {
                        stream.newest = None;
                    }
                }
            }
        } else if let Some((stream, sequence)) = reference_counts::header(bytes) {
            streams[stream as usize].on(sequence);
            arrivals.arrived.push((arrivals.reported_counts.len(), stream, sequence));
            // The receive buffer of the request may contain further datagrams of the same length (GRO). One shorter datagram may follow at
            // the end of the buffer. The counts in the response then include these datagrams.
            let counts = [0, 1, 2].map(|i: usize| streams[i].count);
            arrivals.with_next.extend(last_request.map(|(id, _)| (id, counts)));
            last_request = last_request.filter(|(_, requested)| requested == at);
        }
    }
    arrivals
}

/// The stream and number of a packet that was sent.
fn sent(event: &Event) -> Option<(Stream, u32)> {
    match event {
        Event::Sent { bytes, .. } => reference_counts::sent_packet(bytes),
        Event::Received { .. } => None,
    }
}

/// The facts about one client that the checks need.
pub(crate) struct ClientView<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) log: &'a [Event],
    pub(crate) server: &'a [Event],
    /// True if the upstream link never damages or truncates packets.
    pub(crate) clean: bool,
    /// The index in the log at which counting started.
    pub(crate) counted: usize,
    pub(crate) interrupted: bool,
}

/// Checks the loss report of a client. Returns whether the reported upstream losses were compared with the packets that arrived at the
/// server.
pub(crate) fn check(view: &ClientView<'_>, run: &RunResults, differences: &mut Differences) -> bool {
    let Some(requested) = &run.loss_report else { return false };
    // The first request, the final request, and the requests during the run.
    let mut ids = transactions(view.log);
    let last = final_transaction(view.log);
    if let Some(position) = ids.iter().position(|id| Some(*id) == last) {
        ids[1..=position].rotate_right(1);
    }
    // If counting has already begun, the client discards the response to its first loss-report request.
    let used = |id: &[u8; 12]| {
        let (at, answer) = answer(view.log, view.peer, *id)?;
        let in_time = *id != ids[0] || view.log.get(view.counted).is_none_or(|first| at <= first.at());
        in_time.then_some(answer)
    };
    let answers: Vec<Option<stun::StunResponse>> = ids.iter().map(used).collect();
    let reported_counts = |i: usize| answers.get(i).copied().flatten().and_then(|answer| answer.received_counts);
    let server = server_arrivals(view.server, view.client);
    for (i, id) in ids.iter().enumerate() {
        if let Some((_, counts)) = reported_counts(i).filter(|_| !server.paused) {
            let right = server
                .reported_counts
                .iter()
                .chain(&server.with_next)
                .any(|reported_counts| *reported_counts == (*id, counts));
            differences.same(&format!("response {i} reported {counts:?}, as the server's log has it"), true, right);
        }
    }
    let pair = reported_counts(0)
        .zip(last.and_then(|_| reported_counts(1)))
        .filter(|((before, _), (after, _))| before == after && !view.interrupted);
    let received_counts = pair.map(|((_, before), (_, after))| [0, 1, 2].map(|i: usize| after[i] - before[i]));
    differences.same("received", received_counts, requested.received);
    if answers.iter().flatten().any(|answer| answer.has_fingerprint) {
        differences.same("mapped address", Some(view.client), requested.mapped_address);
    }
    differences.same("answered", answers.iter().any(Option::is_some), requested.response_received);

    for kind in StreamKind::ALL {
        let (stream, Some(reported)) = (participants::stream(kind), run.stream(kind)) else { continue };
        let upstream = match (reported.lost, received_counts) {
            (0, _) => Some(0),
            (lost, Some(received_counts)) => {
                Some(reported.sent.saturating_sub(received_counts[stream as usize].into()).min(lost))
            }
            // The requests during the run have their own test (nodes/client_loss_report.rs).
            (_, None) if !requested.samples.is_empty() => run.lost_upstream(kind),
            (_, None) => None,
        };
        differences.same(&format!("{stream:?} lost upstream"), upstream, run.lost_upstream(kind));
    }
    received_counts.is_some() && compare_with_arrivals(view, &server, &ids, run, requested, differences)
}

/// If the arrivals are unambiguous, the reported losses must equal the numbers of missing packets.
fn compare_with_arrivals(
    view: &ClientView<'_>,
    server: &Server,
    ids: &[[u8; 12]],
    run: &RunResults,
    requested: &LossReport,
    differences: &mut Differences,
) -> bool {
    let firsts = |id: &[u8; 12]| server.reported_counts.iter().position(|(reported_counts, _)| reported_counts == id);
    let (Some(_), Some(end)) = (firsts(&ids[0]), ids.get(1).and_then(firsts)) else { return false };
    // The server's counts are unambiguous under two conditions. Condition 1: all packets of the run arrived between the first and the
    // second request. Condition 2: no keepalive of `--wait-for` arrived after the first request. These keepalives are sent before the first
    // request, but the network may delay them.
    let between = |index: &usize| (1..=end).contains(index);
    let sent: HashSet<(Stream, u32)> = view.log[view.counted..].iter().filter_map(sent).collect();
    let counted: Vec<_> =
        server.arrived.iter().filter(|(_, stream, number)| sent.contains(&(*stream, *number))).collect();
    let late = counted.iter().any(|(index, ..)| !between(index));
    let keepalives =
        server.arrived.iter().any(|(index, stream, number)| *index > 0 && !sent.contains(&(*stream, *number)));
    if !view.clean || late || keepalives {
        return false;
    }
    let mut compared = false;
    for kind in StreamKind::ALL {
        let (stream, Some(reported)) = (participants::stream(kind), run.stream(kind)) else { continue };
        let there: HashSet<u32> =
            counted.iter().filter(|(_, of, _)| *of == stream).map(|(_, _, number)| *number).collect();
        let copies_hide =
            requested.received.is_some_and(|received_counts| received_counts[stream as usize] as usize != there.len());
        if copies_hide || reported.lost == 0 {
            continue;
        }
        let is_refused = |packet: &(Stream, u32)| {
            view.log.iter().any(|event| {
                matches!(event, Event::Sent { refused: true, .. }) && self::sent(event).as_ref() == Some(packet)
            })
        };
        let missing =
            sent.iter().filter(|packet| packet.0 == stream && !there.contains(&packet.1) && !is_refused(packet));
        let missing = missing.count() as u64;
        // A bit flip on the downstream link can turn a reply into another packet's reply. The other packet may never have arrived at the
        // server. Then that packet does not count as lost.
        let missing = missing.min(reported.lost);
        differences.same(&format!("{stream:?} that never arrived"), Some(missing), run.lost_upstream(kind));
        compared = true;
    }
    compared
}
