//! A client that has fallen far behind its schedule sends a part at a time: between the parts the socket is read and a
//! stop is seen.

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

fn terms(evaluated_stream: StreamKind) -> RunConfig {
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
    }
}

/// Mono packets of one sample, as many as it says.
struct Samples(usize);

impl PayloadSource for Samples {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        let Some(left) = self.0.checked_sub(1) else { return SourcePoll::End };
        self.0 = left;
        payload.extend([0; 4]);
        SourcePoll::Ready
    }
}

/// Polls `client` at 1 s and, for as long as it says that it is behind, again. How much each poll sent.
fn parts(client: &mut impl Node) -> Vec<(usize, usize)> {
    let now = Time::from_millis(1_000);
    client.poll_transmit(Time::ZERO, &mut Wire::default());
    let mut parts = Vec::new();
    while client.next_deadline().is_some_and(|deadline| deadline <= now) && parts.len() < 100 {
        let mut wire = Wire::default();
        client.poll_transmit(now, &mut wire);
        parts.push((wire.audio, wire.pings));
    }
    parts
}

#[test]
fn a_prober_that_is_behind_sends_a_part_at_a_time_and_all_of_it() {
    let questions = ProbeConfig {
        stream_kind: StreamKind::Ping,
        count: Some(1_001),
        interval: Duration::from_millis(1),
        payload_len: 0,
    };
    let parts = parts(&mut ClientNode::new(terms(StreamKind::Ping), ProbeWorkload::new(questions), Box::new(())));
    // The first of 1,001 left at 0 s; the last is due at 1 s.
    assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), 1_000);
    assert!(parts.iter().all(|part| part.1 <= 64), "{parts:?}");
}

#[test]
fn a_sender_that_is_behind_sends_a_part_at_a_time_and_its_pings_between() {
    let form = AudioStreamConfig { sample_rate: 1_000, channels: 1, frame_samples: 1, first_sequence: 1 };
    let parts =
        parts(&mut ClientNode::new(terms(StreamKind::Audio), AudioWorkload::new(form, Samples(1_001)), Box::new(())));
    assert_eq!(parts.iter().map(|part| part.0).sum::<usize>(), 1_000);
    assert!(parts.iter().all(|part| part.0 <= 64), "{parts:?}");
    assert_eq!(parts[0].1, 1, "the ping of second 1 is not held up by the backlog");
}
