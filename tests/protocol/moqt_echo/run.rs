//! From a client's facts to a run: every number by hand.

use std::time::Duration;

use jamjam_dev::client::{
    FrameTracker, GroupCounts, MoqtConnectTimes, MoqtFailure, MoqtResults, MoqtRunConfig, PacketEvent as Line,
    PacketObserver, PacketOutcome, RunKind, RunResults, StopSignal,
};
use jamjam_dev::moqt::client::{MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::{MoqtVersion, Transport};
use jamjam_dev::stats::StreamStats;
use jamjam_dev::time::Time;

use super::world::{Plan, World};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// Facts of groups of `per_group` frames, written down.
struct Told {
    frames: FrameTracker,
}

impl Told {
    fn new(per_group: u64) -> Self {
        let terms = MoqtRunConfig {
            run_kind: RunKind::Probe,
            target: "moqt://h:1/echo".to_owned(),
            broadcast_track: "/client.echo, index".to_owned(),
            timeout: 2_000 * MS,
            late_after: Some(20 * MS),
        };
        let connection = MoqtResults::new(Transport::Quic, "japan, kyoto, text", per_group);
        let mut told = Self { frames: FrameTracker::new(terms, connection, Box::new(())) };
        told.tell(&MoqtClientEvent::Established { at: at(10), version: MoqtVersion::Gomoqt202502 });
        told.tell(&MoqtClientEvent::Ready { at: at(13) });
        told
    }

    fn tell(&mut self, fact: &MoqtClientEvent) {
        self.frames.on_event(fact);
    }

    fn sent(&mut self, group: u64, frame: usize, ms: u64) {
        self.tell(&MoqtClientEvent::FrameSent { group, frame, sent_at: at(ms), due: at(ms), bytes: 2 });
    }

    fn came(&mut self, group: u64, frame: usize, (sent, came): (u64, u64), first_of_group: bool) {
        let (sent_at, at, payload) = (at(sent), at(came), "hi".into());
        self.tell(&MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact: true, first_of_group, payload });
    }

    fn unmatched(&mut self, group: u64, frame: usize, ms: u64) {
        self.tell(&MoqtClientEvent::FrameUnmatched { group, frame, at: at(ms), intact: true, payload: "hi".into() });
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
        self.tell(&MoqtClientEvent::Finished { at: at(ms), outcome });
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
fn lost_groups_missing_frames_order_and_copies_are_told_apart() {
    let mut told = Told::new(2);
    // Five groups, 10 ms apart from 100 ms on, their second frames 5 ms after the first.
    for group in 1..=5 {
        told.sent(group, 0, 90 + group * 10);
        told.sent(group, 1, 95 + group * 10);
    }
    // 1: both, after 4 ms. 2: nothing. 3 overtakes it, after 30 ms and 31 ms, which is late. 4: the second frame alone, before 3.
    told.came(1, 0, (100, 104), true);
    told.came(1, 1, (105, 109), false);
    told.came(4, 1, (135, 145), true);
    told.came(3, 0, (120, 150), true);
    told.came(3, 1, (125, 156), false);
    // 5: damaged and nothing else, then whole after all; its second frame stays away.
    let came = |group, frame, sent, came, intact| MoqtClientEvent::FrameReturned {
        group,
        frame,
        sent_at: at(sent),
        at: at(came),
        intact,
        first_of_group: true,
        payload: "ho".into(),
    };
    told.tell(&came(5, 0, 140, 157, false));
    told.unmatched(5, 0, 158);
    // A second copy of group 1, a group and a place that never were, and a frame of the group that was given up.
    told.unmatched(1, 0, 160);
    told.unmatched(9, 0, 161);
    told.unmatched(1, 2, 162);
    told.tell(&MoqtClientEvent::GroupLost { group: 2, sent_at: at(110) });
    told.tell(&MoqtClientEvent::FrameMissing { group: 4, frame: 0, sent_at: at(130) });
    told.unmatched(2, 0, 2_000);
    told.tell(&MoqtClientEvent::FrameMissing { group: 5, frame: 1, sent_at: at(145) });
    let run = told.end(2_149, MoqtRunOutcome::Completed, None);

    let stream = run.ping.as_ref().unwrap();
    // Sent 10. Back: 1/0, 1/1, 4/1, 3/0, 3/1, 5/0. Lost: 2/0, 2/1, 4/0, 5/1. Twice: 1/0. One damaged copy before 5/0 was whole.
    assert_eq!(counts(stream), [10, 6, 4, 0, 0, 1, 1, 2, 3]);
    assert_eq!(stream.late, 2, "30 and 31 ms of 20");
    assert_eq!((stream.rtt.min(), stream.rtt.max()), (Some(4_000_000), Some(31_000_000)));
    // 2/0 and 2/1 one after the other, 4/0 and 5/1 alone.
    assert_eq!((stream.loss_bursts.lengths()[..3].to_vec(), stream.loss_bursts.longest()), (vec![2, 1, 0], 2));
    let moqt = run.moqt.unwrap();
    let groups = GroupCounts { sent: 5, returned: 4, lost: 1, frames_missing: 2, stopped: 0, dropped: 0 };
    assert_eq!((moqt.groups, moqt.groups.in_flight(), moqt.failure), (groups, 0, None));
    assert_eq!(moqt.connect_times, MoqtConnectTimes { subscribe_ns: Some(3_000_000), ..MoqtConnectTimes::default() });
    // From the first frame's due time, 100 ms.
    assert_eq!((run.duration_ns, run.timeout_ns), (2_049_000_000, 2_000_000_000));
    assert_eq!(run.pacing.unwrap().all().count(), 10);
}

#[test]
fn what_was_on_its_way_when_the_run_was_interrupted_is_in_flight() {
    let mut told = Told::new(1);
    for (group, ms) in [(1, 100), (2, 1_000), (3, 2_900), (4, 3_000)] {
        told.sent(group, 0, ms);
    }
    told.came(1, 0, (100, 150), true);
    told.came(4, 0, (3_000, 3_050), true);
    told.tell(&MoqtClientEvent::GroupLost { group: 2, sent_at: at(1_000) });
    told.tell(&MoqtClientEvent::FrameInFlight { group: 3, frame: 0, sent_at: at(2_900) });
    let by_us = MoqtRunOutcome::Closed { code: 0, reason: "interrupted".to_owned(), closed_locally: true };
    // Of what left 2,050 ms before or earlier nothing can come: the smallest round trip, and the time-out.
    let run = told.end(3_051, by_us, Some(StopSignal::Interrupt));
    assert_eq!(counts(run.ping.as_ref().unwrap()), [4, 2, 1, 0, 1, 0, 0, 0, 0]);
    let moqt = run.moqt.unwrap();
    assert_eq!((moqt.groups.returned, moqt.groups.lost, moqt.groups.in_flight(), moqt.failure), (2, 1, 1, None));
    assert_eq!(run.interrupted, Some(StopSignal::Interrupt));
}

#[test]
fn how_it_ended_is_why_it_was_lost() {
    let closed = |closed_locally| MoqtRunOutcome::Closed { code: 0x13, reason: "no".to_owned(), closed_locally };
    for (established, ending, lost) in [
        (true, MoqtRunOutcome::Completed, None),
        (true, MoqtRunOutcome::NotReady("not yet"), Some(("not_ready", "not yet"))),
        (true, closed(false), Some(("closed", "the server closed the connection with code 0x13 (no)"))),
        (false, closed(false), Some(("closed", "the server closed the connection with code 0x13 (no)"))),
        (true, closed(true), Some(("broken", "the connection broke: no"))),
        (false, closed(true), Some(("rejected", "no"))),
    ] {
        let found = MoqtFailure::from_outcome(&ending, established).map(|lost| (lost.kind(), lost.to_string()));
        assert_eq!(found, lost.map(|(kind, text)| (kind, text.to_owned())), "{ending:?}");
    }
}

/// What is printed of each frame.
#[derive(Default)]
struct Lines(Vec<(u32, PacketOutcome)>);

impl PacketObserver for Lines {
    fn on_packet(&mut self, fact: Line<'_>) {
        self.0.push((fact.sequence, fact.outcome));
    }
}

#[test]
fn a_frame_has_a_number_among_all_of_the_run() {
    let mut told = Told::new(3);
    (0..3).for_each(|frame| told.sent(1, frame, 100));
    (0..3).for_each(|frame| told.sent(2, frame, 200));
    (0..3).for_each(|frame| told.came(1, frame, (100, 101), frame == 0));
    told.came(2, 1, (200, 201), true);
    let mut lines = Lines::default();
    told.closing(5_000, MoqtRunOutcome::Completed, None, &mut lines);
    assert_eq!(lines.0, [(3, PacketOutcome::Lost), (5, PacketOutcome::Lost)]);
}

#[test]
fn the_client_and_the_ledger_come_to_the_same() {
    for (seed, slow) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let per_group = 1 + seed as usize % 3;
        let sending = Sending {
            group_count: Some(100),
            frames_per_group: per_group,
            group_interval: 37 * MS,
            frame_interval: 5 * MS,
            ..Sending::default()
        };
        let flavours = vec![MoqtVersion::ALL[seed as usize % 2]];
        let mut world = World::new(Plan { seed, offers: flavours, sending, ..Plan::default() });
        world.until(at(100));
        world.client_is_slow = slow;
        world.until(at(2_330));
        let now = world.now;
        world.client.close(now, 0, "interrupted");
        world.finish();
        let mut told = Told::new(per_group as u64);
        world.facts.iter().for_each(|fact| told.tell(fact));
        let run = told.frames.into_results(Some(StopSignal::Terminate), &mut ());

        let of = |what: fn(&MoqtClientEvent) -> bool| world.facts.iter().filter(|fact| what(fact)).count() as u64;
        let in_flight = of(|fact| matches!(fact, MoqtClientEvent::FrameInFlight { .. }));
        let missing = of(|fact| matches!(fact, MoqtClientEvent::FrameMissing { .. }));
        let came = of(|fact| matches!(fact, MoqtClientEvent::FrameReturned { .. }));
        let stream = run.ping.unwrap();
        let lost_groups = world.lost().len() as u64;
        assert_eq!((stream.returned, stream.in_flight), (came, in_flight), "seed {seed}");
        assert_eq!(stream.lost, lost_groups * per_group as u64 + missing, "seed {seed}");
        assert_eq!(stream.sent, stream.returned + stream.lost + stream.in_flight, "seed {seed}");
        assert!(stream.sent > 50 && (!slow || stream.lost + stream.in_flight > 0), "seed {seed}: it tests nothing");
        let head = run.moqt.unwrap().track == "/client.echo, index";
        assert_eq!(head, seed % 2 == 1);
    }
}

#[test]
fn of_a_first_try_that_was_met_with_silence_nothing_stays() {
    let mut told = Told::new(2);
    told.tell(&MoqtClientEvent::Finished {
        at: at(2_010),
        outcome: MoqtRunOutcome::Closed { code: 0, reason: "nothing".to_owned(), closed_locally: true },
    });
    told.frames.reset_connection();
    told.frames.on_path_retried("echo".to_owned());
    assert_eq!(told.frames.established_at(), None);
    let moqt = told
        .end(2_020, MoqtRunOutcome::Closed { code: 1, reason: "no".to_owned(), closed_locally: true }, None)
        .moqt
        .unwrap();
    // Else it would be a connection that broke, of the seed's flavour, with a time for its subscriptions.
    assert_eq!(moqt.failure, Some(MoqtFailure::Rejected("no".to_owned())));
    assert_eq!(
        (moqt.version, moqt.connect_times, moqt.retried_path),
        (None, MoqtConnectTimes::default(), Some("echo".to_owned()))
    );
}
