//! Handwritten run results.

use jamjam_core::stats::{ClockReading, HostTiming, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, ClockOffset, Ending, GroupCounts, LinkFailure, LinkResults, MoqtConnectTimes, MoqtFailure,
    MoqtResults, RoomResults, RunKind, RunResults, StreamKind, WebSocketConnectTimes, WebSocketFailure,
    WebSocketResults,
};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_moqt::{MoqtVersion, Transport};
use jamjam_signaling::Dialect;
use serde_json::Value;

pub(crate) const MS: i64 = 1_000_000;

/// A stream whose packets all returned, with these round-trip times in nanoseconds.
pub(crate) fn stream(mut stream: StreamStats, round_trips: impl IntoIterator<Item = i64>) -> StreamStats {
    for ns in round_trips {
        stream.on_return(Time::ZERO, ns);
    }
    stream.sent = stream.returned;
    stream
}

pub(crate) fn probe(ping: StreamStats) -> RunResults {
    RunResults { ping: Some(ping), ..RunResults::new(RunKind::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

pub(crate) fn send(audio: AudioResults) -> RunResults {
    RunResults { audio: Some(audio), ..RunResults::new(RunKind::Send, "127.0.0.1:5000", StreamKind::Audio) }
}

/// A stream of 100 packets without a reply.
pub(crate) fn all_lost() -> StreamStats {
    StreamStats { sent: 100, lost: 100, ..StreamStats::new() }
}

/// The report of a run without limits.
pub(crate) fn report(run: &RunResults) -> Report {
    Report::new(run, &Limits::default())
}

pub(crate) fn document(run: &RunResults) -> Value {
    serde_json::to_value(report(run)).expect("numbers and texts")
}

/// Records 1,000 send calls and 1,000 timer errors. Send call n takes n ns, and timer error n is 2n ns. The clock is set forward by 3 s and
/// back by 4 s. The machine is suspended for 2 s, and the receive buffer overflows 12 times.
pub(crate) fn machine() -> HostTiming {
    let mut machine = HostTiming { kernel_dropped: Some(12), ..HostTiming::default() };
    for ns in 1..=1_000 {
        machine.send_call.record(ns);
        machine.timer_error.record(2 * ns);
    }
    for (mono, wall, boot) in [(0, 0, 0), (50, 3_050, 50), (100, -900, 100), (150, 1_150, 2_150)] {
        let at = Time::from_millis(mono);
        let (wall_ns, boot_ns) = (wall * MS, Some(boot * MS));
        machine.clock_jumps.on_reading(ClockReading { before: at, wall_ns, boot_ns, after: at });
    }
    machine
}

/// The link settled after 2.5 ms, and each count is different.
pub(crate) fn link_with_all_counts() -> RunResults {
    let link = LinkResults {
        is_signed: true,
        is_encrypted: true,
        setup_ns: Some(2_500_000),
        not_opened: 1,
        replayed: 2,
        without_keys: 3,
        plain: 4,
        refused_keys: 5,
        ..LinkResults::default()
    };
    RunResults { link: Some(link), ..probe(stream(StreamStats::new(), [1_000_000; 100])) }
}

/// A plain link, and a run for each [`LinkFailure`].
pub(crate) fn link_runs() -> Vec<(&'static str, RunResults)> {
    use LinkFailure::{KeyRefused, NoKeyExchange, NoReply, NotOpened, PlainRefused, PortUnreachable, SignatureRefused};
    let plain = LinkResults { is_plain: true, ..LinkResults::default() };
    let plain = RunResults { link: Some(plain), ..link_with_all_counts() };
    let failed = |failure: LinkFailure| {
        let link = LinkResults { failure: Some((failure, 5_000_000_000)), ..LinkResults::default() };
        (failure.kind(), RunResults { link: Some(link), ..probe(StreamStats::new()) })
    };
    let failures = [NoReply, PortUnreachable, NoKeyExchange, KeyRefused, SignatureRefused, PlainRefused, NotOpened];
    // An array of runs would not fit on the stack of a test.
    let mut runs = vec![("encrypted link", link_with_all_counts())];
    runs.push(("plain link", plain));
    runs.extend(failures.into_iter().map(failed));
    runs
}

fn moqt_run(moqt: MoqtResults, ping: Option<StreamStats>) -> RunResults {
    let run = RunResults::new(RunKind::Probe, "moqt://echo.example:4443/echo", StreamKind::Ping);
    RunResults { moqt: Some(moqt), ping, ..run }
}

/// A run of 10 groups of two frames in which every group event occurred. The setup steps take 3 to 7 ms.
pub(crate) fn moqt_with_all_kinds() -> RunResults {
    let [dns_ns, quic_ns, webtransport_ns, session_ns, subscribe_ns] = [3, 4, 5, 6, 7].map(|ms| Some(ms * 1_000_000));
    let connect_times = MoqtConnectTimes { dns_ns, quic_ns, webtransport_ns, session_ns, subscribe_ns };
    let groups = GroupCounts { sent: 10, returned: 7, lost: 2, frames_missing: 3, stopped: 4, dropped: 1 };
    let mut ping = StreamStats::new();
    (0..11).for_each(|n| ping.on_return(Time::ZERO, 1_000_000 + n));
    (ping.sent, ping.lost, ping.in_flight) = (20, 7, 2);
    let version = Some(MoqtVersion::Gomoqt202502);
    let known = MoqtResults { version, connect_times, groups, ..moqt_without_results(Transport::WebTransport) };
    moqt_run(known, Some(ping))
}

fn moqt_without_results(transport: Transport) -> MoqtResults {
    MoqtResults::new(transport, "japan, kyoto, text", 2)
}

/// A complete run, a run for each [`MoqtFailure`], a run with a retried path, and a run without replies.
pub(crate) fn moqt_runs() -> Vec<(&'static str, RunResults)> {
    let lost = |lost| MoqtResults { failure: Some(lost), ..moqt_without_results(Transport::Quic) };
    let closed = |code: u32| MoqtFailure::Closed { code, reason: "so".to_owned() };
    let silent = StreamStats { sent: 5, lost: 5, ..StreamStats::new() };
    let groups = GroupCounts { sent: 5, lost: 5, ..GroupCounts::default() };
    let unanswered = MoqtResults { groups, ..moqt_without_results(Transport::Quic) };
    let retried_path = Some("echo".to_owned());
    let mut runs = vec![
        ("moqt", moqt_with_all_kinds()),
        ("moqt unreachable", moqt_run(lost(MoqtFailure::Unreachable("no".to_owned())), None)),
        ("moqt refused", moqt_run(lost(MoqtFailure::Rejected("no".to_owned())), None)),
        ("moqt unready", moqt_run(lost(MoqtFailure::NotReady("the server has not".into())), None)),
        ("moqt broken", moqt_run(lost(MoqtFailure::Broken("gone".to_owned())), Some(silent.clone()))),
        ("moqt with a retried path", moqt_run(MoqtResults { retried_path, ..unanswered.clone() }, None)),
        ("moqt silent", moqt_run(unanswered, Some(silent.clone()))),
    ];
    for code in [0, 1, 3, 0x12, 0x13, u32::MAX] {
        runs.push(("moqt closed", moqt_run(lost(closed(code)), Some(silent.clone()))));
    }
    runs
}

pub(super) fn websocket_run(websocket: WebSocketResults, ping: Option<StreamStats>) -> RunResults {
    let run = RunResults::new(RunKind::Probe, "wss://rooms.example", StreamKind::Ping);
    RunResults { websocket: Some(websocket), ping, ..run }
}

/// A complete run, a run whose connection was closed, and a run that never connected.
pub(crate) fn websocket_runs() -> Vec<(&'static str, RunResults)> {
    let (tls_ns, join_ns) = (Some(3_000_000), Some(5_000_000));
    let set_up = WebSocketConnectTimes { dns_ns: 1_000, tcp_ns: 2_000_000, tls_ns, upgrade_ns: 4_000_000, join_ns };
    let mut ping = StreamStats::new();
    (0..20).for_each(|n| ping.on_return(Time::ZERO, 1_000_000 + n));
    ping.sent = 20;
    let known = WebSocketResults {
        connect_times: vec![set_up],
        clock_offset: Some(ClockOffset { offset_ns: -1_500_500, rtt_ns: 999 }),
        server_error: Some("no".to_owned()),
        ..WebSocketResults::new(Dialect::ControlSurface)
    };
    let closed = WebSocketResults {
        connect_times: vec![set_up, WebSocketConnectTimes::default()],
        failure: Some(WebSocketFailure::Closed { code: Some(4_002), reason: "Server shutting down".to_owned() }),
        ..WebSocketResults::new(Dialect::Broadcast)
    };
    let failure = Some(WebSocketFailure::Unreachable("cannot".to_owned()));
    let never = WebSocketResults { failure, ..WebSocketResults::new(Dialect::Jamjam) };
    let lost = StreamStats { sent: 20, lost: 5, ..ping.clone() };
    let full = WebSocketFailure::Closed { code: Some(1_013), reason: "Room is full".to_owned() };
    let broken = WebSocketFailure::Broken("reset".to_owned());
    let endings = vec![Ending { failure: full.clone(), count: 2 }, Ending { failure: broken, count: 1 }];
    let rooms = RoomResults {
        rooms: 2,
        members: 8,
        joined: 6,
        refused: 2,
        disconnected: 1,
        sent: 10,
        not_sent: 1,
        late: 3,
        wrong_room: 4,
        wrong_sender: 5,
        join_ns: [Some(1_500_000), None, Some(2_500_000)],
        endings,
    };
    let rooms = WebSocketResults { failure: Some(full), rooms: Some(rooms), ..WebSocketResults::new(Dialect::WebRtc) };
    let silent = StreamStats { sent: 5, lost: 5, ..StreamStats::new() };
    vec![
        ("websocket", websocket_run(known, Some(ping))),
        ("websocket closed", websocket_run(closed, Some(lost.clone()))),
        ("websocket never", websocket_run(never, None)),
        ("websocket silent", websocket_run(WebSocketResults::new(Dialect::WebRtc), Some(silent))),
        ("websocket unnumbered", websocket_run(WebSocketResults::new(Dialect::Jamjam), Some(lost.clone()))),
        ("websocket rooms", RunResults { duration_ns: 4_000_000_000, ..websocket_run(rooms, Some(lost)) }),
    ]
}
