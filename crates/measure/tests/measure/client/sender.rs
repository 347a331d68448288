//! The sender as a node, in virtual time: packets, send times, and results of the run, also with live audio.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use test_support::node_driver::{MS, deadline, header, poll};

use jamjam_core::time::Time;
use jamjam_measure::client::{AudioSender, PayloadSource, SourcePoll};

use super::{Source, follow};

/// A mono sender at 48 kHz with one packet of 96 samples every 2 ms. The packets have the listed lengths, and each is filled with its number,
/// from 0.
fn sender(first_sequence: u32, packets: Vec<usize>) -> AudioSender<impl PayloadSource> {
    let mut packets = packets.into_iter().enumerate();
    let source = Source(move |payload: &mut Vec<u8>| {
        let Some((number, len)) = packets.next() else { return SourcePoll::End };
        payload.resize(payload.len() + len, number as u8);
        SourcePoll::Ready
    });
    super::sender(first_sequence, 96, source)
}

fn of_kind(left: &[(u64, Vec<u8>)], kind: u8) -> Vec<(u64, Vec<u8>)> {
    left.iter().filter(|(_, bytes)| bytes[1] == kind).cloned().collect()
}

fn times(left: &[(u64, Vec<u8>)]) -> Vec<u64> {
    left.iter().map(|(at, _)| *at).collect()
}

#[test]
fn keepalive_and_ping_leave_every_second_and_latency_info_once() {
    let mut node = sender(1, vec![384; 1_251]);
    let start = 7 * MS;
    let left = follow(&mut node, start, start + 2_500 * MS);
    for kind in [4, 5] {
        assert_eq!(times(&of_kind(&left, kind)), [start, start + 1_000 * MS, start + 2_000 * MS], "type {kind}");
    }
    let info = of_kind(&left, 7);
    assert_eq!(times(&info), [start]);
    // Five delays of 0.0, the frame size of 96 samples, the sample rate of 48,000 Hz, the codec, and one channel.
    let payload = [&[0; 20][..], &[0, 0, 0, 96], &[0, 0, 0xBB, 0x80], &[3], b"pcm", &[1]].concat();
    assert_eq!(info[0].1, [header(7, 0, 0), payload].concat());
}

#[test]
fn each_type_has_its_own_sequence_and_timestamps_count_samples() {
    // The first 500 packets of 96 samples have a total duration of 1 s. One more packet has only 7 samples.
    let mut node = sender(0xFFFF_FFFE, [vec![384; 500], vec![28]].concat());
    let left = follow(&mut node, 3 * MS, 1_100 * MS);
    let bytes = |kind| of_kind(&left, kind).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let (audio, pings, keepalives) = (bytes(1), bytes(5), bytes(4));
    assert_eq!(audio.len(), 501);
    assert_eq!(audio[0], [header(1, 0xFFFF_FFFE, 0), vec![0; 384]].concat());
    assert_eq!(audio[1], [header(1, 0xFFFF_FFFF, 96), vec![1; 384]].concat());
    assert_eq!(audio[2], [header(1, 0, 192), vec![2; 384]].concat());
    assert_eq!(audio[500], [header(1, 498, 48_000), vec![244; 28]].concat());
    // sent_time_us: 3,000 and 1,003,000.
    assert_eq!(pings[0], [header(5, 0, 0), vec![0, 0, 0, 0, 0, 0, 0x0B, 0xB8, 0, 0, 0, 0]].concat());
    assert_eq!(pings[1], [header(5, 1, 0), vec![0, 0, 0, 0, 0, 0x0F, 0x4D, 0xF8, 0, 0, 0, 1]].concat());
    assert_eq!(keepalives, [header(4, 0, 0), header(4, 1, 0)]);

    let run = node.into_results("", Some(Time::from_millis(1_100)), &mut ());
    let audio = run.audio.expect("a sender has audio");
    assert_eq!((audio.sent_samples, audio.payload_bytes, audio.stats.sent), (48_007, 384, 501));
}

#[test]
fn late_end_of_the_source_is_no_underrun() {
    let mut polls = [SourcePoll::Ready].into_iter().chain([SourcePoll::Pending; 4]);
    let source = Source(move |payload: &mut Vec<u8>| {
        let poll = polls.next().unwrap_or(SourcePoll::End);
        payload.extend(vec![0; if poll == SourcePoll::Ready { 384 } else { 0 }]);
        poll
    });
    let mut node = super::sender(0, 96, source);
    assert_eq!(of_kind(&follow(&mut node, 0, 20 * MS), 1).len(), 1);
    let audio = node.into_results("", Some(Time::from_millis(20)), &mut ()).audio.expect("a sender has audio");
    assert_eq!((audio.stats.sent, audio.underruns), (1, 0));
}

const US: u64 = 1_000;

/// The packets that a device has delivered, each as the time of its last sample in nanoseconds.
#[derive(Clone, Default)]
struct Deliveries(Rc<RefCell<VecDeque<u64>>>, Rc<Cell<bool>>, Rc<Cell<u32>>);

/// A device that reports the age of each packet. The n-th packet of a delivery has an age of n µs.
struct Device {
    deliveries: Deliveries,
    now: u64,
    last: u64,
}

impl PayloadSource for Device {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        match self.deliveries.0.borrow_mut().pop_front() {
            Some(at) => {
                self.last = at;
                self.now = self.now.max(at) + US;
                payload.extend([7; 384]);
                SourcePoll::Ready
            }
            None if self.deliveries.1.get() => SourcePoll::End,
            None => SourcePoll::Pending,
        }
    }

    fn start(&mut self) {
        self.deliveries.2.set(self.deliveries.2.get() + 1);
    }

    fn capture_age(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.now - self.last))
    }
}

fn live_sender() -> (AudioSender<Device>, Deliveries) {
    let deliveries = Deliveries::default();
    let device = Device { deliveries: deliveries.clone(), now: 0, last: 0 };
    (super::sender(1, 96, device), deliveries)
}

fn audio_count(left: &[Vec<u8>]) -> usize {
    left.iter().filter(|bytes| bytes[1] == 1).count()
}

#[test]
fn live_audio_leaves_on_delivery_and_missing_audio_is_not_awaited() {
    let (mut node, deliveries) = live_sender();
    let start = 5 * MS;
    // The first ping, KEEPALIVE and LATENCY_INFO are sent. There is no audio yet.
    let left = poll(&mut node, start);
    assert_eq!((left.len(), audio_count(&left), deliveries.2.get()), (3, 0, 1));
    // The next poll is due at the next KEEPALIVE, or when the waker wakes the loop, and not after a fixed interval.
    assert_eq!(deadline(&node), Some(start + 1_000 * MS));

    // The device delivers a packet at 70 ms, long after it would have been due in a file, and three packets at once at 80 ms.
    deliveries.0.borrow_mut().push_back(start + 70 * MS);
    assert_eq!(audio_count(&poll(&mut node, start + 70 * MS + US)), 1);
    deliveries.0.borrow_mut().extend([start + 80 * MS; 3]);
    assert_eq!(audio_count(&poll(&mut node, start + 80 * MS + 40 * US)), 3);
    assert_eq!(audio_count(&poll(&mut node, start + 90 * MS)), 0);
    assert_eq!(deadline(&node), Some(start + 1_000 * MS));

    deliveries.1.set(true);
    poll(&mut node, start + 100 * MS);
    let run = node.into_results("", Some(Time::from_nanos(start + 200 * MS)), &mut ());
    let audio = run.audio.expect("a sender has audio");
    assert_eq!((audio.stats.sent, audio.sent_samples, audio.underruns), (4, 4 * 96, 0));
}

#[test]
fn live_packet_is_due_at_its_delivery_and_due_times_increase() {
    let (mut node, deliveries) = live_sender();
    poll(&mut node, 0);
    // The device reports ages of 1, 2 and 3 µs. With these ages, the packets would be due 1, 2 and 3 µs before the poll.
    deliveries.0.borrow_mut().extend([9 * MS; 3]);
    poll(&mut node, 9 * MS + 50 * US);
    // The node is polled 20 µs after these samples were delivered, but the device reports an age of 1 µs.
    deliveries.0.borrow_mut().push_back(30 * MS);
    poll(&mut node, 30 * MS + 20 * US);
    let pacing = node.into_results("", Some(Time::from_millis(40)), &mut ()).pacing.expect("packets were sent");
    // A packet is due at the time of the poll minus its age, but never before the previous packet. The first three packets are therefore all due
    // 1 µs before their poll, like the last packet.
    let all = &pacing.all;
    assert_eq!((all.count(), all.min(), all.max()), (4, Some(1_000), Some(1_000)));
}
