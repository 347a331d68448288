//! Runs over MOQT, for the tests of reports.

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{
    GroupCounts, MoqtConnectTimes, MoqtFailure, MoqtResults, RunKind, RunResults, StreamKind,
};
use jamjam_moqt::{MoqtVersion, Transport};

fn run(moqt: MoqtResults, ping: Option<StreamStats>) -> RunResults {
    let run = RunResults::new(RunKind::Probe, "moqt://echo.example:4443/echo", StreamKind::Ping);
    RunResults { moqt: Some(moqt), ping, ..run }
}

/// A run of 10 groups of two frames in which every group event occurred. The setup steps take 3 to 7 ms.
pub(crate) fn all_kinds() -> RunResults {
    let ms = |n: u64| Some(n * 1_000_000);
    let connect_times = MoqtConnectTimes {
        dns_ns: ms(3),
        quic_ns: ms(4),
        webtransport_ns: ms(5),
        session_ns: ms(6),
        subscribe_ns: ms(7),
    };
    let groups = GroupCounts { sent: 10, returned: 7, lost: 2, frames_missing: 3, stopped: 4, dropped: 1 };
    let mut ping = StreamStats::new();
    (0..11).for_each(|n| ping.on_return(Time::ZERO, 1_000_000 + n));
    (ping.sent, ping.lost, ping.in_flight) = (20, 7, 2);
    let known = MoqtResults {
        version: Some(MoqtVersion::Gomoqt202502),
        connect_times,
        groups,
        ..empty(Transport::WebTransport)
    };
    run(known, Some(ping))
}

fn empty(transport: Transport) -> MoqtResults {
    MoqtResults::new(transport, "japan, kyoto, text", 2)
}

/// Returns several named runs, with at least one run for each [`MoqtFailure`]. There is also a complete run, a run with a retried path, and
/// a run without replies.
pub(crate) fn moqt_runs() -> Vec<(&'static str, RunResults)> {
    let lost = |lost| MoqtResults { failure: Some(lost), ..empty(Transport::Quic) };
    let closed = |code: u32| MoqtFailure::Closed { code, reason: "so".to_owned() };
    let silent = StreamStats { sent: 5, lost: 5, ..StreamStats::new() };
    let groups = GroupCounts { sent: 5, lost: 5, ..GroupCounts::default() };
    let mut runs = vec![
        ("moqt", all_kinds()),
        ("moqt unreachable", run(lost(MoqtFailure::Unreachable("no".to_owned())), None)),
        ("moqt refused", run(lost(MoqtFailure::Rejected("no".to_owned())), None)),
        ("moqt unready", run(lost(MoqtFailure::NotReady("the server has not".into())), None)),
        ("moqt overdue", run(lost(MoqtFailure::TimedOut("the session setup".into())), None)),
        ("moqt broken", run(lost(MoqtFailure::Broken("gone".to_owned())), Some(silent.clone()))),
        (
            "moqt with a retried path",
            run(MoqtResults { retried_path: Some("echo".to_owned()), groups, ..empty(Transport::Quic) }, None),
        ),
        ("moqt silent", run(MoqtResults { groups, ..empty(Transport::Quic) }, Some(silent.clone()))),
    ];
    let codes = [0, 1, 3, 0x12, 0x13, u32::MAX];
    for code in codes {
        runs.push(("moqt closed", run(lost(closed(code)), Some(silent.clone()))));
    }
    runs
}
