//! By when a run has to be over: the sums by hand, and a client that keeps to them whenever its server vanishes.

use std::time::Duration;

use jamjam_dev::moqt::Flavour;
use jamjam_dev::moqt::client::{Bound, Config as Sending, Ending, Fact, Feed, Payload};
use jamjam_dev::time::Time;

use crate::world::{Plan, World};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn sent(frame: usize, ms: u64) -> Fact {
    Fact::Sent { group: 1, frame, at: at(ms), due: at(ms), bytes: 2 }
}

fn came(sent: u64, ms: u64, intact: bool) -> Fact {
    let (sent, at) = (at(sent), at(ms));
    Fact::Came { group: 1, frame: 0, sent, at, intact, first: true, payload: "hi".into() }
}

/// 5 s for the server's part, 50 ms to settle, a group every 250 ms, 2 s for what is late; and 2 s to close.
#[test]
fn each_fact_leaves_the_time_that_the_options_give_to_the_next() {
    let mut bound = Bound::new(Sending::default(), at(10_000));
    assert_eq!((bound.by(), bound.awaited()), (Some(at(10_000)), "a session"));
    let unmatched = Fact::Unmatched { group: 9, frame: 0, at: at(1_710), intact: true, payload: "ho".into() };
    for (fact, by, awaited) in [
        (Fact::Established { at: at(1_000), flavour: Flavour::Seed }, 8_000, "the subscriptions"),
        (Fact::Ready { at: at(1_200) }, 3_500, "the first frame to leave"),
        (sent(0, 1_300), 3_550, "the next frame to leave"),
        // Altered, it says nothing of how long a whole one takes; the first whole one does; no other, and nothing unasked.
        (came(1_300, 1_600, false), 3_550, "the next frame to leave"),
        (came(1_300, 1_700, true), 3_950, "the next frame to leave"),
        (came(1_300, 1_705, true), 3_950, "the next frame to leave"),
        (unmatched, 3_950, "the next frame to leave"),
        (sent(1, 1_800), 4_050, "the next frame to leave"),
        (Fact::AllSent { at: at(2_000) }, 6_400, "what was sent to come back"),
        (came(1_300, 2_300, true), 6_400, "what was sent to come back"),
        (Fact::Ended { at: at(3_000), ending: Ending::Done }, 5_000, "the connection to close"),
    ] {
        bound.on_fact(&fact);
        assert_eq!((bound.by(), bound.awaited()), (Some(at(by)), awaited), "{fact:?}");
    }
    // The other path: as in the beginning, and not longer. The first round trip is forgotten.
    bound.call();
    assert_eq!((bound.by(), bound.awaited()), (Some(at(10_000)), "a session"));
    bound.on_fact(&Fact::AllSent { at: at(4_000) });
    assert_eq!(bound.by(), Some(at(8_000)));
    bound.on_fact(&came(3_900, 4_500, true));
    assert_eq!(bound.by(), Some(at(8_600)), "the first whole one may come after all has left");
}

#[test]
fn a_group_that_takes_longer_than_the_interval_stretches_the_bound_and_what_is_typed_has_none() {
    let slow = Sending { frames_per_group: 3, frame_interval: 400 * MS, ..Sending::default() };
    let mut bound = Bound::new(slow, at(10_000));
    bound.on_fact(&sent(0, 1_000));
    assert_eq!(bound.by(), Some(at(3_800)), "two frame intervals between groups");
    let typed = Sending { payload: Payload::Fed(Feed::default()), count: None, ..Sending::default() };
    let mut bound = Bound::new(typed, at(10_000));
    for fact in [Fact::Ready { at: at(1_000) }, sent(0, 2_000)] {
        bound.on_fact(&fact);
        assert_eq!(bound.by(), None);
    }
    bound.on_fact(&Fact::AllSent { at: at(90_000) });
    assert_eq!(bound.by(), Some(at(94_000)), "no more is typed");
}

/// The server vanishes after any piece of the set-up or of a run of 400 ms, or holds its groups back from some moment on.
#[test]
fn a_client_whose_server_vanishes_ends_within_its_bound() {
    let mut endings = [0; 3];
    for seed in 0..300 {
        let (interval, timeout) = (20 * MS, 4_000 * MS);
        let sending = Sending { count: Some(20), interval, timeout, ..Sending::default() };
        let offers = vec![Flavour::ALL[seed as usize % 2]];
        let mut world = World::new(Plan { seed, offers, sending: sending.clone(), ..Plan::default() });
        let mut bound = Bound::new(sending, at(5_000));
        let holds = seed % 5 == 0;
        world.left = if holds { usize::MAX } else { seed as usize };
        let mut taken = 0;
        let ending = loop {
            assert!(Some(world.now) <= bound.by(), "seed {seed}: {:?}, {}", world.now, bound.awaited());
            world.client_is_slow = holds && world.now >= at(seed * 2);
            world.until(world.now + MS);
            world.facts[taken..].iter().for_each(|fact| bound.on_fact(fact));
            taken = world.facts.len();
            if let Some(ending) = world.client.application().ending() {
                break ending.clone();
            }
        };
        // 5 s of set-up, or for the subscriptions; or 50 ms, 19 intervals, 4 s; a whole run listens on for 100 ms. A step is 1 ms.
        let (which, by) = match ending {
            Ending::Closed { by_us: true, .. } => (0, 5_001),
            Ending::Unready("the server has not agreed to our subscription") if taken > 3 => (1, 4_431),
            Ending::Unready(_) => (1, 5_001),
            Ending::Done => (2, if world.came().len() == 20 { 531 } else { 4_431 }),
            other => panic!("seed {seed}: {other:?}"),
        };
        endings[which] += 1;
        assert!(world.now <= at(by), "seed {seed}: {ending:?} at {:?}", world.now);
    }
    assert!(endings.iter().all(|times| *times > 3), "{endings:?}");
}
