//! Groups of packets that arrive together.

use std::time::Duration;

use jamjam_core::time::{Time, saturating_nanos};

/// Length of the intervals that are judged.
const WINDOW: Duration = Duration::from_secs(5);

/// The beginning of an interval is judged if the evidence is clear.
pub(super) const MIN_WINDOW: Duration = Duration::from_secs(2);

/// Minimum size of a group.
const MIN_GROUP: u32 = 3;

/// A group of packets: when it began, its size, and the time to the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    began: Time,
    size: u32,
    interval: Duration,
}

/// Finds groups of nearly equal size at equal intervals.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupDetector {
    window_start: Option<Time>,
    /// Packets since then, those in groups like the one before, and the last of these groups.
    packets: u64,
    regular: u64,
    regular_group: Group,
    last_arrival: Time,
    group: Group,
    previous: Group,
    /// All packets in groups.
    pub(super) grouped: u64,
    /// Size and interval of the first groups found.
    pub(super) found: Option<(u32, Duration)>,
}

impl GroupDetector {
    /// Records a packet with `packet_ns` of audio.
    pub(super) fn on_arrival(&mut self, at: Time, packet_ns: u64) {
        let start = *self.window_start.get_or_insert(at);
        // Packets belong together if a quarter of a packet or less is between them.
        let belongs = saturating_nanos(at.duration_since(self.last_arrival)) * 4 <= packet_ns;
        self.last_arrival = at;
        if !belongs {
            let group = Group { interval: at.duration_since(self.group.began), ..self.group };
            let previous = std::mem::replace(&mut self.previous, group);
            self.group = Group { began: at, ..Group::default() };
            if group.size >= MIN_GROUP {
                self.grouped += u64::from(group.size);
            }
            // A timer of 20 ms sends 7 or 8 packets of 2.67 ms.
            if group.size.min(previous.size) >= MIN_GROUP
                && group.size.abs_diff(previous.size) <= 1
                && group.interval.abs_diff(previous.interval) * 10 <= group.interval
            {
                (self.regular, self.regular_group) = (self.regular + u64::from(group.size), group);
            }
            let passed = at.duration_since(start);
            let (is_complete, is_clear) = (passed >= WINDOW, self.regular * 4 >= self.packets * 3);
            if is_complete && self.regular * 2 >= self.packets || passed >= MIN_WINDOW && is_clear {
                self.found.get_or_insert((self.regular_group.size, self.regular_group.interval));
            }
            if is_complete {
                (self.window_start, self.packets, self.regular) = (Some(at), 0, 0);
            }
        }
        self.group.size = self.group.size.saturating_add(1);
        self.packets += 1;
    }
}
