//! The sender and the prober in virtual time.

mod dead_port;
mod link;
mod link_life;
mod live_figures;
mod loss_report;
mod moqt;
mod musicians;
mod pauses;
mod prober;
mod room_load;
mod sender;

use std::time::Duration;

use jamjam_core::node::Node;
use jamjam_measure::client::{
    AudioSender, AudioStreamConfig, AudioWorkload, ClientNode, PayloadSource, ProbeConfig, ProbeWorkload, Prober,
    RunConfig, SourcePoll, StreamKind,
};
use test_support::node_driver::{MS, deadline, deliver, peer, poll};

/// A run configuration with a timeout of two seconds.
fn run_config(evaluated_stream: StreamKind) -> RunConfig {
    let first_echo_timeout = Duration::from_secs(3);
    RunConfig { first_echo_timeout, ..RunConfig::new(peer(), evaluated_stream, Duration::from_secs(2)) }
}

/// An audio source whose payloads a closure appends.
struct Source<F>(F);

impl<F: FnMut(&mut Vec<u8>) -> SourcePoll> PayloadSource for Source<F> {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        (self.0)(payload)
    }
}

/// A prober that sends `count` packets with 64 bytes of payload, one every `interval`.
fn prober(config: RunConfig, count: Option<u64>, interval: Duration) -> Prober {
    let probe_config = ProbeConfig { stream_kind: config.evaluated_stream, count, interval, payload_len: 64 };
    ClientNode::new(config, ProbeWorkload::new(probe_config), Box::new(()))
}

/// A mono sender at 48 kHz.
fn sender<S: PayloadSource>(first_sequence: u32, frame_samples: u32, source: S) -> AudioSender<S> {
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples, first_sequence };
    ClientNode::new(run_config(StreamKind::Audio), AudioWorkload::new(form, Box::new(source)), Box::new(()))
}

/// The interval of most tests.
const INTERVAL: Duration = Duration::from_millis(10);

/// Polls at every deadline from `from` to `to`. Returns the sent packets with their times.
fn follow(node: &mut impl Node, from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    follow_answered(node, from, to + 1, |_| None)
}

/// Polls at every deadline from `from` up to, but not at, `to`. After each packet, passes the reply of `answer` to the node 1 ms later.
fn follow_answered(
    node: &mut impl Node,
    from: u64,
    to: u64,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Vec<(u64, Vec<u8>)> {
    let (mut left, mut now): (Vec<(u64, Vec<u8>)>, u64) = (Vec::new(), from);
    while now < to {
        let sent = poll(node, now);
        let replies: Vec<Vec<u8>> = sent.iter().filter_map(|bytes| answer(bytes)).collect();
        left.extend(sent.into_iter().map(|bytes| (now, bytes)));
        for reply in &replies {
            deliver(node, now + MS, peer(), reply);
        }
        if !replies.is_empty() {
            left.extend(poll(node, now + MS).into_iter().map(|bytes| (now + MS, bytes)));
        }
        let Some(next) = deadline(node) else { break };
        now = next.max(now);
    }
    left
}
