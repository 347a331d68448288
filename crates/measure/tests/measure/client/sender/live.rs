//! When a node sends live audio.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_measure::client::{AudioSender, PayloadSource, SourcePoll};

use test_support::node_driver::{MS, deadline, poll};

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

fn sender() -> (AudioSender<Device>, Deliveries) {
    let deliveries = Deliveries::default();
    let device = Device { deliveries: deliveries.clone(), now: 0, last: 0 };
    (crate::client::sender(1, 96, device), deliveries)
}

fn audio(left: &[Vec<u8>]) -> usize {
    left.iter().filter(|bytes| bytes[1] == 1).count()
}

#[test]
fn live_audio_leaves_on_delivery_and_missing_audio_is_not_awaited() {
    let (mut node, deliveries) = sender();
    let start = 5 * MS;
    // The first ping, KEEPALIVE and LATENCY_INFO are sent. There is no audio yet.
    let left = poll(&mut node, start);
    assert_eq!((left.len(), audio(&left), deliveries.2.get()), (3, 0, 1));
    // The next poll is due at the next KEEPALIVE, or when the waker wakes the loop, and not after a fixed interval.
    assert_eq!(deadline(&node), Some(start + 1_000 * MS));

    // The device delivers a packet at 70 ms, long after it would have been due in a file, and three packets at once at 80 ms.
    deliveries.0.borrow_mut().push_back(start + 70 * MS);
    assert_eq!(audio(&poll(&mut node, start + 70 * MS + US)), 1);
    deliveries.0.borrow_mut().extend([start + 80 * MS; 3]);
    assert_eq!(audio(&poll(&mut node, start + 80 * MS + 40 * US)), 3);
    assert_eq!(audio(&poll(&mut node, start + 90 * MS)), 0);
    assert_eq!(deadline(&node), Some(start + 1_000 * MS));

    deliveries.1.set(true);
    poll(&mut node, start + 100 * MS);
    let run = node.into_results("", Some(Time::from_nanos(start + 200 * MS)), &mut ());
    let audio = run.audio.expect("a sender has audio");
    assert_eq!((audio.stats.sent, audio.sent_samples, audio.underruns), (4, 4 * 96, 0));
}

#[test]
fn live_packet_is_due_at_its_delivery_and_due_times_increase() {
    let (mut node, deliveries) = sender();
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
