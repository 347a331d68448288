//! Pieces of streams are truncated or changed, and streams arrive that the peer never opened.

use std::time::Duration;

use jamjam_moqt::client::{FramePayload, MoqtClientConfig, MoqtRunOutcome};
use jamjam_moqt::echo::MoqtEchoConfig;
use jamjam_moqt::{MoqtVersion, SessionLimits, StreamDir, StreamHandle};
use test_support::joined_peers::{JoinedPeers, Plan};
use test_support::rng::Rng;

/// A short run. Every third run has limits that it exceeds.
fn plan(seed: u64, rng: &mut Rng) -> Plan {
    let is_tight = seed.is_multiple_of(3);
    let tight_or = |tight: usize, wide: usize| if is_tight { tight } else { wide };
    Plan {
        seed,
        offers: vec![MoqtVersion::ALL[seed as usize % 4]],
        webtransport: rng.happens(0.5),
        echoing: MoqtEchoConfig {
            delay: Duration::from_millis(rng.below(256)),
            max_buffered_bytes: tight_or(3 << 10, 4 << 20),
        },
        sending: MoqtClientConfig {
            group_count: Some(rng.between(1, 4)),
            frames_per_group: rng.between(1, 4) as usize,
            group_interval: Duration::from_millis(20),
            payload: FramePayload::Random(rng.below(2_048) as usize),
            ..MoqtClientConfig::default()
        },
        limits: SessionLimits {
            max_bidi_streams: 4,
            max_incoming_groups: tight_or(2, 8),
            max_announcements: 2,
            max_subscriptions: 2,
            max_reassembly_bytes: tight_or(2 << 10, 16 << 10),
            max_outgoing_groups: tight_or(2, 8),
            max_unsent_group_bytes: tight_or(400, 1 << 20),
            ..SessionLimits::default()
        },
    }
}

#[test]
fn run_with_faults_ends_and_stays_within_its_limits() {
    let mut completed = 0;
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let plan = plan(seed, &mut rng);
        let max_buffered_bytes = plan.echoing.max_buffered_bytes;
        let mut peers = JoinedPeers::new(plan);
        (peers.has_faults, peers.max_buffered_bytes) = (true, max_buffered_bytes);
        for id in 1_000..1_000 + rng.below(4) {
            peers.until(peers.now + Duration::from_millis(rng.below(60)));
            if peers.server.session.is_closed() {
                break;
            }
            let dir = rng.pick(&[StreamDir::Bi, StreamDir::Uni]);
            let bytes: Vec<u8> = (0..rng.below(60)).map(|_| rng.below(8) as u8).collect();
            let (stream, is_finished, now) = (StreamHandle::Remote(id), rng.happens(0.5), peers.now);
            peers.server.update(now, |session| session.on_stream_opened(id, dir));
            peers.server.update(now, |session| session.on_stream_data(stream, &bytes));
            if is_finished {
                peers.server.update(now, |session| session.on_stream_finished(stream));
            }
            peers.client.update(now, |session| session.on_stream_opened(id, dir));
            peers.client.update(now, |session| session.on_stream_data(stream, &bytes));
            // Neither end has opened this stream.
            peers.server.update(now, |session| session.on_stop_sending(StreamHandle::Local(id), 1));
            peers.client.update(now, |session| session.on_bytes_written(StreamHandle::Local(id), 60));
        }
        completed += usize::from(peers.finish() == MoqtRunOutcome::Completed);
        peers.until(peers.now + Duration::from_secs(60));
        assert!(peers.client.session.is_closed() && peers.server.session.is_closed(), "seed {seed}");
        assert!(peers.client.next_deadline().or(peers.server.next_deadline()).is_none(), "seed {seed}");
    }
    assert!((50..550).contains(&completed), "{completed} of 600 runs complete");
}
