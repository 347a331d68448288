//! Groups of packets that arrive together.

use std::time::Duration;

use jamjam_core::time::{Time, saturating_nanos};

/// Length of the intervals that are judged.
const WINDOW: Duration = Duration::from_secs(5);

/// Maximum size of a group that is distinguished.
const MAX_GROUP: usize = 64;

/// Minimum size of a group.
const MIN_GROUP: usize = 3;

/// Finds groups of equal size at equal intervals.
#[derive(Clone, Debug)]
pub(super) struct GroupDetector {
    window_start: Option<Time>,
    packets: u64,
    last_arrival: Time,
    /// Start and size of the current group, and of the one before.
    group: (Time, usize),
    previous: (Time, usize),
    /// Packets in groups like the one before, by their size.
    regular: [u32; MAX_GROUP + 1],
}

impl Default for GroupDetector {
    fn default() -> Self {
        let none = (Time::ZERO, 0);
        Self {
            window_start: None,
            packets: 0,
            last_arrival: Time::ZERO,
            group: none,
            previous: none,
            regular: [0; MAX_GROUP + 1],
        }
    }
}

impl GroupDetector {
    /// Records a packet with `packet_ns` of audio. Returns the size of the groups in which at least half of the packets of 5 s arrived.
    pub(super) fn on_arrival(&mut self, at: Time, packet_ns: u64) -> Option<usize> {
        let start = *self.window_start.get_or_insert(at);
        // Packets belong together if a quarter of a packet or less is between them.
        let belongs = saturating_nanos(at.duration_since(self.last_arrival)) * 4 <= packet_ns;
        self.last_arrival = at;
        let mut found = None;
        if belongs {
            self.group.1 += 1;
        } else {
            let (began, size) = self.group;
            let due = packet_ns * size as u64;
            let interval = saturating_nanos(at.duration_since(began));
            if size == self.previous.1 && interval.abs_diff(due) * 10 <= due && size <= MAX_GROUP {
                self.regular[size] += size as u32;
            }
            (self.previous, self.group) = (self.group, (at, 1));
            if at.duration_since(start) >= WINDOW {
                let packets = self.packets;
                let is_half = |size: &usize| u64::from(self.regular[*size]) * 2 >= packets;
                found = (MIN_GROUP..=MAX_GROUP).find(is_half);
                (self.window_start, self.packets, self.regular) = (Some(at), 0, [0; MAX_GROUP + 1]);
            }
        }
        self.packets += 1;
        found
    }
}
