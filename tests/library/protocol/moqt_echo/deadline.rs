//! The deadline of a run. Some tests check the computed deadlines. Another test checks that a client ends within the deadline, no matter
//! when its server vanishes.

use std::time::Duration;

use jamjam_dev::moqt::MoqtVersion;
use jamjam_dev::moqt::client::{
    FramePayload, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome, ProgressDeadline,
};
use jamjam_dev::time::Time;

use super::joined_peers::{JoinedPeers, Plan};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn sent(frame: usize, ms: u64) -> MoqtClientEvent {
    MoqtClientEvent::FrameSent { group: 1, frame, sent_at: at(ms), due: at(ms), bytes: 2 }
}

fn returned(sent: u64, ms: u64, intact: bool) -> MoqtClientEvent {
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

/// Uses the defaults. The client has 5 s to subscribe and 2 s to close. The first group is due after 50 ms, and a group follows every
/// 250 ms. The reply timeout is 2 s.
#[test]
fn each_event_gives_the_configured_time_for_the_next_one() {
    let mut progress = ProgressDeadline::new(Sending::default(), at(10_000));
    assert_eq!((progress.deadline(), progress.awaiting()), (Some(at(10_000)), "the session setup"));
    let unmatched =
        MoqtClientEvent::FrameUnmatched { group: 9, frame: 0, at: at(1_710), intact: true, payload: "ho".into() };
    for (event, deadline_ms, awaited) in [
        (
            MoqtClientEvent::Established { at: at(1_000), version: MoqtVersion::Gomoqt202502 },
            8_000,
            "the subscriptions",
        ),
        (MoqtClientEvent::Ready { at: at(1_200) }, 3_500, "the first frame to be sent"),
        (sent(0, 1_300), 3_550, "the next frame to be sent"),
        // Only the first intact frame sets the round-trip time. Damaged frames, unknown frames and further intact frames do not
        // change the round-trip time.
        (returned(1_300, 1_600, false), 3_550, "the next frame to be sent"),
        (returned(1_300, 1_700, true), 3_950, "the next frame to be sent"),
        (returned(1_300, 1_705, true), 3_950, "the next frame to be sent"),
        (unmatched, 3_950, "the next frame to be sent"),
        (sent(1, 1_800), 4_050, "the next frame to be sent"),
        (MoqtClientEvent::AllSent { at: at(2_000) }, 6_400, "the echoes of the sent frames"),
        (returned(1_300, 2_300, true), 6_400, "the echoes of the sent frames"),
        (
            MoqtClientEvent::Finished { at: at(3_000), outcome: MoqtRunOutcome::Completed },
            5_000,
            "the end of the connection",
        ),
    ] {
        progress.on_event(&event);
        assert_eq!((progress.deadline(), progress.awaiting()), (Some(at(deadline_ms)), awaited), "{event:?}");
    }
    // After a restart with the other path, the initial deadline of 10,000 ms applies again. The time of the restart does not matter. The
    // restart also discards the measured round-trip time.
    progress.restart();
    assert_eq!((progress.deadline(), progress.awaiting()), (Some(at(10_000)), "the session setup"));
    progress.on_event(&MoqtClientEvent::AllSent { at: at(4_000) });
    assert_eq!(progress.deadline(), Some(at(8_000)));
    progress.on_event(&returned(3_900, 4_500, true));
    assert_eq!(progress.deadline(), Some(at(8_600)), "the first intact frame may return after everything was sent");
}

#[test]
fn long_groups_extend_the_deadline_and_typed_texts_have_none() {
    let slow = Sending { frames_per_group: 3, frame_interval: 400 * MS, ..Sending::default() };
    let mut progress = ProgressDeadline::new(slow, at(10_000));
    progress.on_event(&sent(0, 1_000));
    assert_eq!(progress.deadline(), Some(at(3_800)), "two frame intervals between groups");
    let typed = Sending { payload: FramePayload::queue().1, group_count: None, ..Sending::default() };
    let mut progress = ProgressDeadline::new(typed, at(10_000));
    for event in [MoqtClientEvent::Ready { at: at(1_000) }, sent(0, 2_000)] {
        progress.on_event(&event);
        assert_eq!(progress.deadline(), None);
    }
    progress.on_event(&MoqtClientEvent::AllSent { at: at(90_000) });
    assert_eq!(progress.deadline(), Some(at(94_000)), "the input has ended");
}

/// If the seed is not a multiple of five, the server stops responding. Each seed selects a different moment, during the setup or during a
/// run of 400 ms. If the seed is a multiple of five, the server still responds, but the client reads no more groups.
#[test]
fn client_whose_server_vanishes_ends_within_its_deadline() {
    let mut endings = [0; 3];
    for seed in 0..600 {
        let (group_interval, reply_timeout) = (20 * MS, 4_000 * MS);
        let sending = Sending { group_count: Some(20), group_interval, reply_timeout, ..Sending::default() };
        let offers = vec![MoqtVersion::ALL[seed as usize % 4]];
        let mut peers = JoinedPeers::new(Plan { seed, offers, sending: sending.clone(), ..Plan::default() });
        let mut progress = ProgressDeadline::new(sending, at(5_000));
        let holds_groups = seed % 5 == 0;
        peers.left = if holds_groups { usize::MAX } else { seed as usize / 2 };
        let mut taken = 0;
        let ending = loop {
            assert!(Some(peers.now) <= progress.deadline(), "seed {seed}: {:?}, {}", peers.now, progress.awaiting());
            peers.client_is_slow = holds_groups && peers.now >= at(seed);
            peers.until(peers.now + MS);
            peers.events[taken..].iter().for_each(|event| progress.on_event(event));
            taken = peers.events.len();
            if let Some(ending) = peers.client.handler().outcome() {
                break ending.clone();
            }
        };
        // The setup and the subscriptions take at most 5 s. A run without a reply ends after 50 ms + 19 × 20 ms + 4 s. If all groups
        // return, the run ends 100 ms after the last group returned. One simulation step of 1 ms is added to each of these times.
        let (which, max_ms) = match &ending {
            MoqtRunOutcome::Closed { closed_locally: true, .. } => (0, 5_001),
            MoqtRunOutcome::NotReady(why) if why == "the server did not accept our subscription" && taken > 3 => {
                (1, 4_431)
            }
            MoqtRunOutcome::NotReady(_) => (1, 5_001),
            MoqtRunOutcome::Completed => (2, if peers.returned().len() == 20 { 531 } else { 4_431 }),
            other => panic!("seed {seed}: {other:?}"),
        };
        endings[which] += 1;
        assert!(peers.now <= at(max_ms), "seed {seed}: {ending:?} at {:?}", peers.now);
    }
    assert!(endings.iter().all(|times| *times > 3), "{endings:?}");
}
