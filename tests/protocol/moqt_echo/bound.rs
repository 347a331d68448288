//! By when a run has to be over: the sums by hand, and a client that keeps to them whenever its server vanishes.

use std::time::Duration;

use jamjam_dev::moqt::MoqtVersion;
use jamjam_dev::moqt::client::{
    FramePayload, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome, ProgressDeadline, TextQueue,
};
use jamjam_dev::time::Time;

use super::world::{Plan, World};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn sent(frame: usize, ms: u64) -> MoqtClientEvent {
    MoqtClientEvent::FrameSent { group: 1, frame, sent_at: at(ms), due: at(ms), bytes: 2 }
}

fn came(sent: u64, ms: u64, intact: bool) -> MoqtClientEvent {
    let (sent_at, at) = (at(sent), at(ms));
    MoqtClientEvent::FrameReturned {
        group: 1,
        frame: 0,
        sent_at,
        at,
        intact,
        first_of_group: true,
        payload: "hi".into(),
    }
}

/// 5 s for the server's part, 50 ms to settle, a group every 250 ms, 2 s for what is late; and 2 s to close.
#[test]
fn each_fact_leaves_the_time_that_the_options_give_to_the_next() {
    let mut bound = ProgressDeadline::new(Sending::default(), at(10_000));
    assert_eq!((bound.deadline(), bound.awaiting()), (Some(at(10_000)), "the session setup"));
    let unmatched =
        MoqtClientEvent::FrameUnmatched { group: 9, frame: 0, at: at(1_710), intact: true, payload: "ho".into() };
    for (fact, by, awaited) in [
        (
            MoqtClientEvent::Established { at: at(1_000), version: MoqtVersion::Gomoqt202502 },
            8_000,
            "the subscriptions",
        ),
        (MoqtClientEvent::Ready { at: at(1_200) }, 3_500, "the first frame to be sent"),
        (sent(0, 1_300), 3_550, "the next frame to be sent"),
        // Altered, it says nothing of how long a whole one takes; the first whole one does; no other, and nothing unasked.
        (came(1_300, 1_600, false), 3_550, "the next frame to be sent"),
        (came(1_300, 1_700, true), 3_950, "the next frame to be sent"),
        (came(1_300, 1_705, true), 3_950, "the next frame to be sent"),
        (unmatched, 3_950, "the next frame to be sent"),
        (sent(1, 1_800), 4_050, "the next frame to be sent"),
        (MoqtClientEvent::AllSent { at: at(2_000) }, 6_400, "the sent frames to return"),
        (came(1_300, 2_300, true), 6_400, "the sent frames to return"),
        (
            MoqtClientEvent::Finished { at: at(3_000), outcome: MoqtRunOutcome::Completed },
            5_000,
            "the connection to close",
        ),
    ] {
        bound.on_event(&fact);
        assert_eq!((bound.deadline(), bound.awaiting()), (Some(at(by)), awaited), "{fact:?}");
    }
    // The other path: as in the beginning, and not longer. The first round trip is forgotten.
    bound.restart();
    assert_eq!((bound.deadline(), bound.awaiting()), (Some(at(10_000)), "the session setup"));
    bound.on_event(&MoqtClientEvent::AllSent { at: at(4_000) });
    assert_eq!(bound.deadline(), Some(at(8_000)));
    bound.on_event(&came(3_900, 4_500, true));
    assert_eq!(bound.deadline(), Some(at(8_600)), "the first whole one may come after all has left");
}

#[test]
fn a_group_that_takes_longer_than_the_interval_stretches_the_bound_and_what_is_typed_has_none() {
    let slow = Sending { frames_per_group: 3, frame_interval: 400 * MS, ..Sending::default() };
    let mut bound = ProgressDeadline::new(slow, at(10_000));
    bound.on_event(&sent(0, 1_000));
    assert_eq!(bound.deadline(), Some(at(3_800)), "two frame intervals between groups");
    let typed = Sending { payload: FramePayload::Queue(TextQueue::default()), group_count: None, ..Sending::default() };
    let mut bound = ProgressDeadline::new(typed, at(10_000));
    for fact in [MoqtClientEvent::Ready { at: at(1_000) }, sent(0, 2_000)] {
        bound.on_event(&fact);
        assert_eq!(bound.deadline(), None);
    }
    bound.on_event(&MoqtClientEvent::AllSent { at: at(90_000) });
    assert_eq!(bound.deadline(), Some(at(94_000)), "no more is typed");
}

/// The server vanishes after any piece of the set-up or of a run of 400 ms, or holds its groups back from some moment on.
#[test]
fn a_client_whose_server_vanishes_ends_within_its_bound() {
    let mut endings = [0; 3];
    for seed in 0..300 {
        let (group_interval, reply_timeout) = (20 * MS, 4_000 * MS);
        let sending = Sending { group_count: Some(20), group_interval, reply_timeout, ..Sending::default() };
        let offers = vec![MoqtVersion::ALL[seed as usize % 2]];
        let mut world = World::new(Plan { seed, offers, sending: sending.clone(), ..Plan::default() });
        let mut bound = ProgressDeadline::new(sending, at(5_000));
        let holds = seed % 5 == 0;
        world.left = if holds { usize::MAX } else { seed as usize };
        let mut taken = 0;
        let ending = loop {
            assert!(Some(world.now) <= bound.deadline(), "seed {seed}: {:?}, {}", world.now, bound.awaiting());
            world.client_is_slow = holds && world.now >= at(seed * 2);
            world.until(world.now + MS);
            world.facts[taken..].iter().for_each(|fact| bound.on_event(fact));
            taken = world.facts.len();
            if let Some(ending) = world.client.handler().outcome() {
                break ending.clone();
            }
        };
        // 5 s of set-up, or for the subscriptions; or 50 ms, 19 intervals, 4 s; a whole run listens on for 100 ms. A step is 1 ms.
        let (which, by) = match ending {
            MoqtRunOutcome::Closed { closed_locally: true, .. } => (0, 5_001),
            MoqtRunOutcome::NotReady("the server did not accept our subscription") if taken > 3 => (1, 4_431),
            MoqtRunOutcome::NotReady(_) => (1, 5_001),
            MoqtRunOutcome::Completed => (2, if world.came().len() == 20 { 531 } else { 4_431 }),
            other => panic!("seed {seed}: {other:?}"),
        };
        endings[which] += 1;
        assert!(world.now <= at(by), "seed {seed}: {ending:?} at {:?}", world.now);
    }
    assert!(endings.iter().all(|times| *times > 3), "{endings:?}");
}
