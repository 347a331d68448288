//! A client that is far behind its schedule sends its backlog in batches. Between batches, the client's driver reads the socket and checks
//! for a stop signal.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, PayloadSource, ProbeConfig, ProbeWorkload, RunConfig, SourcePoll,
    StreamKind,
};
use jamjam_dev::node::{Node, SendStatus, Transmit, TransmitSink};
use jamjam_dev::time::Time;

/// Counts AUDIO and LATENCY_PING.
#[derive(Default)]
struct Wire {
    audio: usize,
    pings: usize,
}

impl TransmitSink for Wire {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        match transmit.contents[1] {
            1 => self.audio += 1,
            5 => self.pings += 1,
            _ => {}
        }
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        1
    }
}

fn run_config(evaluated_stream: StreamKind) -> RunConfig {
    RunConfig {
        peer: SocketAddr::from(([192, 0, 2, 1], 5_000)),
        evaluated_stream,
        server_delay: None,
        first_echo_timeout: Duration::ZERO,
        timeout: Duration::from_secs(2),
        late_after: None,
        replies_expected: true,
        wait_for: None,
        loss_report_nonce: None,
        loss_direction: false,
    }
}

/// The given number of mono packets of one sample.
struct Samples(usize);

impl PayloadSource for Samples {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        let Some(left) = self.0.checked_sub(1) else { return SourcePoll::End };
        self.0 = left;
        payload.extend([0; 4]);
        SourcePoll::Ready
    }
}

/// Polls `client` repeatedly while the test's clock stays at 1 s. Stops when the client has no deadline at or before 1 s. Returns how many
/// AUDIO packets and pings each poll sent.
fn batches(client: &mut impl Node) -> Vec<(usize, usize)> {
    let now = Time::from_millis(1_000);
    client.poll_transmit(Time::ZERO, &mut Wire::default());
    let mut batches = Vec::new();
    while client.next_deadline().is_some_and(|deadline| deadline <= now) && batches.len() < 100 {
        let mut wire = Wire::default();
        client.poll_transmit(now, &mut wire);
        batches.push((wire.audio, wire.pings));
    }
    batches
}

#[test]
fn prober_that_is_behind_sends_its_whole_backlog_in_batches() {
    let probe_config = ProbeConfig {
        stream_kind: StreamKind::Ping,
        count: Some(1_001),
        interval: Duration::from_millis(1),
        payload_len: 0,
    };
    let batches =
        batches(&mut ClientNode::new(run_config(StreamKind::Ping), ProbeWorkload::new(probe_config), Box::new(())));
    // The first of the 1,001 packets was sent at 0 s. The last packet is due at 1 s.
    assert_eq!(batches.iter().map(|batch| batch.1).sum::<usize>(), 1_000);
    assert!(batches.iter().all(|batch| batch.1 <= 64), "{batches:?}");
}

#[test]
fn sender_that_is_behind_sends_its_backlog_and_pings_in_batches() {
    let audio_config = AudioStreamConfig { sample_rate: 1_000, channels: 1, frame_samples: 1, first_sequence: 1 };
    let batches = batches(&mut ClientNode::new(
        run_config(StreamKind::Audio),
        AudioWorkload::new(audio_config, Samples(1_001)),
        Box::new(()),
    ));
    assert_eq!(batches.iter().map(|batch| batch.0).sum::<usize>(), 1_000);
    assert!(batches.iter().all(|batch| batch.0 <= 64), "{batches:?}");
    assert_eq!(batches[0].1, 1, "the ping of second 1 is not held up by the backlog");
}
