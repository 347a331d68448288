//! A client ends in time, no matter when its server vanishes.

use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_moqt::MoqtVersion;
use jamjam_moqt::client::{MoqtClientConfig as Sending, MoqtRunOutcome};

use test_support::joined_peers::{JoinedPeers, Plan};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
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
        let mut peers = JoinedPeers::new(Plan { seed, offers, sending, ..Plan::default() });
        let holds_groups = seed % 5 == 0;
        peers.left = if holds_groups { usize::MAX } else { seed as usize / 2 };
        let ending = loop {
            peers.client_is_slow = holds_groups && peers.now >= at(seed);
            peers.until(peers.now + MS);
            if let Some(ending) = peers.client.handler.outcome() {
                break ending.clone();
            }
        };
        let taken = peers.events.len();
        // The setup and the subscriptions take at most 5 s. A run without a reply ends after 50 ms + 19 × 20 ms + 4 s. If all groups
        // return, the run ends 100 ms after the last group returned. One simulation step of 1 ms is added to each of these times.
        let (which, max_ms) = match &ending {
            MoqtRunOutcome::Closed { closed_locally: true, .. } => (0, 5_001),
            MoqtRunOutcome::NotReady(why) if why == "the server did not accept our subscription" && taken > 3 => {
                (1, 4_431)
            }
            MoqtRunOutcome::NotReady(_) => (1, 5_001),
            MoqtRunOutcome::Completed => (2, if peers.returned().len() == 20 { 531 } else { 4_431 }),
            MoqtRunOutcome::Closed { .. } => panic!("seed {seed}: {ending:?}"),
        };
        endings[which] += 1;
        assert!(peers.now <= at(max_ms), "seed {seed}: {ending:?} at {:?}", peers.now);
    }
    assert!(endings.iter().all(|times| *times > 3), "{endings:?}");
}
