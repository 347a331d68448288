//! The results of a run, computed from a client's events. Every expected number was calculated by hand.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::{Pause, Time};
use jamjam_measure::client::{
    FrameTracker, GroupCounts, MoqtConnectTimes, MoqtFailure, MoqtResults, PacketEvent as Line, PacketObserver,
    PacketOutcome, RunKind, RunResults, StopSignal, StreamKind,
};
use jamjam_moqt::client::{FramePayload, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_moqt::{MoqtVersion, Transport};

use test_support::joined_peers::{JoinedPeers, Plan};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// Passes events to a frame tracker for groups of `per_group` frames.
struct TrackerFixture {
    frames: FrameTracker,
}

impl TrackerFixture {
    fn new(per_group: u64) -> Self {
        let plan = RunResults::new(RunKind::Probe, "moqt://h:1/echo", StreamKind::Ping);
        let plan = RunResults { interval_ns: Some(10_000_000), ..plan };
        let connection = MoqtResults::new(Transport::Quic, "japan, kyoto, text", per_group);
        let mut frames = FrameTracker::new(plan, connection, Box::new(()));
        frames.on_event(&MoqtClientEvent::Established { at: at(10), version: MoqtVersion::Gomoqt202502 });
        frames.on_event(&MoqtClientEvent::Ready { at: at(13) });
        Self { frames }
    }

    fn sent(&mut self, group: u64, frame: usize, ms: u64) {
        self.frames.on_event(&MoqtClientEvent::FrameSent { group, frame, sent_at: at(ms), due: at(ms), bytes: 2 });
    }

    fn received(&mut self, group: u64, frame: usize, sent_at: Option<Time>, ms: u64, intact: bool) {
        let (at, payload) = (at(ms), "hi".into());
        self.frames.on_event(&MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact, payload });
    }

    fn returned(&mut self, group: u64, frame: usize, (sent, returned): (u64, u64)) {
        self.received(group, frame, Some(at(sent)), returned, true);
    }

    /// A frame for which the client did not wait.
    fn unmatched(&mut self, group: u64, frame: usize, ms: u64) {
        self.received(group, frame, None, ms, true);
    }

    fn end(self, ms: u64, ending: MoqtRunOutcome, interrupted: Option<StopSignal>) -> RunResults {
        self.closing(ms, ending, interrupted, &mut ())
    }

    fn closing(
        mut self,
        ms: u64,
        outcome: MoqtRunOutcome,
        interrupted: Option<StopSignal>,
        closing: &mut dyn PacketObserver,
    ) -> RunResults {
        self.frames.on_event(&MoqtClientEvent::Finished { at: at(ms), outcome });
        self.frames.into_results(interrupted, closing)
    }
}

fn counts(stream: &StreamStats) -> [u64; 9] {
    let StreamStats {
        sent, returned, lost, damaged, in_flight, duplicated, damaged_copies, reordered, unmatched, ..
    } = stream;
    [sent, returned, lost, damaged, in_flight, duplicated, damaged_copies, reordered, unmatched].map(|count| *count)
}

#[test]
fn losses_order_and_copies_are_counted_separately() {
    let mut tracker = TrackerFixture::new(2);
    // Five groups are sent, the first at 100 ms, at intervals of 10 ms. The second frame of each group is sent 5 ms after the first.
    for group in 1..=5 {
        tracker.sent(group, 0, 90 + group * 10);
        tracker.sent(group, 1, 95 + group * 10);
    }
    // Both frames of group 1 return after 4 ms, those of group 3 late, after 30 and 31 ms, and before them only the second frame of group 4.
    tracker.returned(1, 0, (100, 104));
    tracker.returned(1, 1, (105, 109));
    tracker.returned(4, 1, (135, 145));
    tracker.returned(3, 0, (120, 150));
    tracker.returned(3, 1, (125, 156));
    // Group 5: a damaged and then an intact copy of the first frame return, and nothing of the second frame.
    tracker.received(5, 0, Some(at(140)), 157, false);
    tracker.unmatched(5, 0, 158);
    // Four unmatched frames: a second copy of a frame of group 1, a frame of an unsent group, an unknown frame number, a frame of the lost group.
    tracker.unmatched(1, 0, 160);
    tracker.unmatched(9, 0, 161);
    tracker.unmatched(1, 2, 162);
    tracker.unmatched(2, 0, 2_000);
    let run = tracker.end(2_149, MoqtRunOutcome::Completed, None);

    let stream = run.ping.as_ref().unwrap();
    // Returned (group/frame): 1/0, 1/1, 4/1, 3/0, 3/1, 5/0, of which 5/0 first damaged. Lost: 2/0, 2/1, 4/0, 5/1. Duplicated: 1/0.
    assert_eq!(counts(stream), [10, 6, 4, 0, 0, 1, 1, 2, 3]);
    assert_eq!((stream.rtt.min(), stream.rtt.max()), (Some(4_000_000), Some(31_000_000)));
    // The lost frames 0 and 1 of group 2 are one burst. Frame 0 of group 4 and frame 1 of group 5 are isolated losses.
    assert_eq!((stream.loss_bursts.lengths[..3].to_vec(), stream.loss_bursts.longest), (vec![2, 1, 0], 2));
    let moqt = run.moqt.unwrap();
    let groups = GroupCounts { sent: 5, returned: 4, lost: 1, frames_missing: 2, stopped: 0, dropped: 0 };
    assert_eq!((moqt.groups, moqt.groups.in_flight(), moqt.failure), (groups, 0, None));
    assert_eq!(moqt.connect_times, MoqtConnectTimes { subscribe_ns: Some(3_000_000), ..MoqtConnectTimes::default() });
    // The first frame is due at 100 ms, and the duration starts at this time.
    assert_eq!((run.duration_ns, run.timeout_ns), (2_049_000_000, 2_000_000_000));
    assert_eq!(run.pacing.unwrap().all.count(), 10);
}

#[test]
fn frames_under_way_at_an_interruption_are_in_flight() {
    let mut tracker = TrackerFixture::new(1);
    for (group, ms) in [(1, 100), (2, 1_000), (3, 2_900), (4, 3_000)] {
        tracker.sent(group, 0, ms);
    }
    tracker.returned(1, 0, (100, 150));
    tracker.returned(4, 0, (3_000, 3_050));
    let by_us = MoqtRunOutcome::Closed { code: 0, reason: "interrupted".to_owned(), closed_locally: true };
    // A frame without an echo is lost if it was sent the smallest round trip and the timeout, 2,050 ms, before, else in flight.
    let mut lines = Lines::default();
    let run = tracker.closing(3_051, by_us, Some(StopSignal::Interrupt), &mut lines);
    assert_eq!(lines.0, [(1, PacketOutcome::Lost), (2, PacketOutcome::InFlight)]);
    assert_eq!(counts(run.ping.as_ref().unwrap()), [4, 2, 1, 0, 1, 0, 0, 0, 0]);
    let moqt = run.moqt.unwrap();
    assert_eq!((moqt.groups.returned, moqt.groups.lost, moqt.groups.in_flight(), moqt.failure), (2, 1, 1, None));
    assert_eq!(run.interrupted, Some(StopSignal::Interrupt));
}

#[test]
fn groups_under_way_when_the_server_closed_are_lost() {
    for (returned, lost) in [(0, 1), (1, 0), (2, 0)] {
        let mut tracker = TrackerFixture::new(2);
        (0..2).for_each(|frame| tracker.sent(1, frame, 50));
        (0..returned).for_each(|frame| tracker.returned(1, frame, (50, 51)));
        let closed = MoqtRunOutcome::Closed { code: 7, reason: "whim".to_owned(), closed_locally: false };
        assert_eq!(tracker.end(55, closed, None).moqt.unwrap().groups.lost, lost, "{returned} of 2 frames");
    }
}

#[test]
fn failure_reason_follows_from_the_outcome() {
    let closed = |closed_locally| MoqtRunOutcome::Closed { code: 0x13, reason: "no".to_owned(), closed_locally };
    for (established, ending, lost) in [
        (true, MoqtRunOutcome::Completed, None),
        (true, MoqtRunOutcome::NotReady("not yet".into()), Some(("not_ready", "not yet"))),
        (true, closed(false), Some(("closed", "the server closed the connection with code 0x13 (no)"))),
        (false, closed(false), Some(("closed", "the server closed the connection with code 0x13 (no)"))),
        (true, closed(true), Some(("broken", "the connection broke: no"))),
        (false, closed(true), Some(("rejected", "no"))),
    ] {
        let found = MoqtFailure::from_outcome(&ending, established).map(|lost| (lost.kind(), lost.to_string()));
        assert_eq!(found, lost.map(|(kind, text)| (kind, text.to_owned())), "{ending:?}");
    }
}

/// Collects the sequence number and outcome of each frame.
#[derive(Default)]
struct Lines(Vec<(u32, PacketOutcome)>);

impl PacketObserver for Lines {
    fn on_packet(&mut self, line: Line<'_>) {
        self.0.push((line.packet.sequence, line.packet.outcome));
    }
}

#[test]
fn frames_are_numbered_across_the_whole_run() {
    let mut tracker = TrackerFixture::new(3);
    (0..3).for_each(|frame| tracker.sent(1, frame, 100));
    (0..3).for_each(|frame| tracker.sent(2, frame, 200));
    (0..3).for_each(|frame| tracker.returned(1, frame, (100, 101)));
    tracker.returned(2, 1, (200, 201));
    let mut lines = Lines::default();
    tracker.closing(5_000, MoqtRunOutcome::Completed, None, &mut lines);
    assert_eq!(lines.0, [(3, PacketOutcome::Lost), (5, PacketOutcome::Lost)]);
}

#[test]
fn every_sent_frame_has_one_outcome_at_an_interruption() {
    for (seed, slow) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let per_group = 1 + seed as usize % 3;
        let (group_count, group_interval) = (Some(100), 37 * MS);
        let sending = Sending { group_count, frames_per_group: per_group, group_interval, ..Sending::default() };
        let version = MoqtVersion::ALL[seed as usize % 4];
        let mut peers = JoinedPeers::new(Plan { seed, offers: vec![version], sending, ..Plan::default() });
        peers.until(at(100));
        peers.client_is_slow = slow;
        peers.until(at(2_330));
        let now = peers.now;
        peers.client.update(now, |session| session.close(0, "interrupted"));
        peers.finish();
        let mut frames = TrackerFixture::new(per_group as u64).frames;
        peers.events.iter().for_each(|event| frames.on_event(event));
        let run = frames.into_results(Some(StopSignal::Terminate), &mut ());

        let of = |what: fn(&MoqtClientEvent) -> bool| peers.events.iter().filter(|event| what(event)).count() as u64;
        let stream = run.ping.unwrap();
        let sent = of(|event| matches!(event, MoqtClientEvent::FrameSent { .. }));
        assert_eq!((stream.sent, stream.returned), (sent, peers.returned().len() as u64), "seed {seed}");
        assert_eq!(stream.sent, stream.returned + stream.lost + stream.in_flight, "seed {seed}");
        // Of a group, either all frames were sent in time before the interruption, or none.
        let moqt = run.moqt.unwrap();
        assert_eq!(stream.lost, moqt.groups.lost * per_group as u64 + moqt.groups.frames_missing, "seed {seed}");
        assert_eq!(moqt.groups.sent * per_group as u64, sent, "seed {seed}");
        let not_returned = peers.lost().len() as u64;
        assert_eq!(moqt.groups.lost + moqt.groups.in_flight(), not_returned, "seed {seed}");
        assert!(stream.sent > 50 && (!slow || stream.lost + stream.in_flight > 0), "seed {seed} checks nothing");
        let has_broadcast_path = moqt.track == "/client.echo, index";
        assert_eq!(has_broadcast_path, version != MoqtVersion::Gomoqt202502);
    }
}

#[test]
fn failed_first_attempt_leaves_no_trace() {
    let mut tracker = TrackerFixture::new(2);
    let closed = |code, reason: &str| MoqtRunOutcome::Closed { code, reason: reason.to_owned(), closed_locally: true };
    tracker.frames.on_event(&MoqtClientEvent::Finished { at: at(2_010), outcome: closed(0, "nothing") });
    tracker.frames.reset_connection();
    tracker.frames.results.retried_path = Some("echo".to_owned());
    assert_eq!(tracker.frames.established_at, None);
    let moqt = tracker.end(2_020, closed(1, "no"), None).moqt.unwrap();
    // The failure is that of the second connection, and nothing of the first one remains.
    assert_eq!(moqt.failure, Some(MoqtFailure::Rejected("no".to_owned())));
    assert_eq!((moqt.version, moqt.connect_times), (None, MoqtConnectTimes::default()));
    assert_eq!(moqt.retried_path.as_deref(), Some("echo"));
}

#[test]
fn pause_delays_the_rest_of_the_groups() {
    for payload in [FramePayload::Random(20), FramePayload::Texts(vec!["hi".into()])] {
        let sending = Sending { group_count: Some(400), group_interval: 10 * MS, payload, ..Sending::default() };
        let mut peers = JoinedPeers::new(Plan { sending, ..Plan::default() });
        // The client stops from 1 to 3 s, and has to send a group then.
        peers.until(at(1_000));
        peers.now = at(3_000);
        assert_eq!(peers.finish(), MoqtRunOutcome::Completed);
        let count = |wanted: fn(&MoqtClientEvent) -> bool| peers.events.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, MoqtClientEvent::ScheduleShifted(_))), 1);
        assert_eq!(count(|event| matches!(event, MoqtClientEvent::FrameSent { .. })), 400);
        assert_eq!((peers.returned().len(), peers.lost()), (400, vec![]));
        let times = peers.events.iter().filter_map(|event| match event {
            MoqtClientEvent::FrameSent { sent_at, due, .. } => Some((*sent_at, *due)),
            _ => None,
        });
        let times: Vec<_> = times.collect();
        assert!(
            times.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 10 * MS),
            "no two groups are due at once: {times:?}"
        );
        let pauses: Vec<_> = peers.events.iter().filter(|event| matches!(event, MoqtClientEvent::Paused(_))).collect();
        assert_eq!(pauses, [&MoqtClientEvent::Paused(Pause { start: at(1_000), end: at(3_000) })]);
    }
}

#[test]
fn frames_in_flight_during_a_pause_are_excluded_and_the_shift_is_reported() {
    let mut tracker = TrackerFixture::new(1);
    tracker.sent(1, 0, 100);
    tracker.sent(2, 0, 110);
    tracker.returned(1, 0, (100, 105));
    tracker.frames.on_event(&MoqtClientEvent::Paused(Pause { start: at(112), end: at(3_000) }));
    tracker.frames.on_event(&MoqtClientEvent::ScheduleShifted(2_880 * MS));
    tracker.sent(3, 0, 3_060);
    tracker.returned(3, 0, (3_060, 3_065));
    // The host reads the frame of the pause last.
    tracker.returned(2, 0, (110, 3_066));
    let run = tracker.end(3_200, MoqtRunOutcome::Completed, None);
    assert_eq!((run.pauses.count, run.pauses.total_ns), (1, 2_888_000_000));
    let frames = run.ping.expect("frames");
    assert_eq!((frames.sent, frames.returned, frames.excluded, frames.rtt.count()), (3, 2, 1, 2));
    assert_eq!((frames.rtt.max(), frames.reordered), (Some(5_000_000), 0));
    let schedule = run.schedule.expect("a schedule");
    assert_eq!((schedule.planned_ns, schedule.actual_ns, schedule.shifts), (30_000_000, 2_910_000_000, 1));
    assert_eq!(run.moqt.map(|moqt| (moqt.groups.sent, moqt.groups.in_flight())), Some((2, 0)));
}
