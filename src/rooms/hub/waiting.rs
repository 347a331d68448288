//! How much waits for its time, by room.

use std::collections::HashMap;

/// How much of all bytes one room may have: a quarter.
const SHARE: usize = 4;

/// How many messages wait for each room, and their bytes.
#[derive(Default)]
pub(in crate::rooms) struct Waiting {
    rooms: HashMap<String, Queue>,
    bytes: usize,
}

/// What waits for one room.
#[derive(Default)]
struct Queue {
    messages: usize,
    bytes: usize,
}

impl Waiting {
    /// One more of so many bytes for `room`, unless too many wait for it already, or too many bytes for it or for all.
    pub(in crate::rooms) fn admit(&mut self, room: &str, bytes: usize, most: usize, most_bytes: usize) -> bool {
        let (messages, own) = self.rooms.get(room).map_or((0, 0), |queue| (queue.messages, queue.bytes));
        if messages >= most || own + bytes > most_bytes / SHARE || self.bytes + bytes > most_bytes {
            return false;
        }
        let queue = self.rooms.entry(room.to_owned()).or_default();
        queue.messages += 1;
        queue.bytes += bytes;
        self.bytes += bytes;
        true
    }

    /// One that was admitted waits no more.
    pub(in crate::rooms) fn release(&mut self, room: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(queue) = self.rooms.get_mut(room) {
            queue.messages -= 1;
            queue.bytes = queue.bytes.saturating_sub(bytes);
            if queue.messages == 0 {
                self.rooms.remove(room);
            }
        }
    }

    /// Messages that wait now.
    pub(in crate::rooms) fn len(&self) -> usize {
        self.rooms.values().map(|queue| queue.messages).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_its_share_all_have_theirs_and_nothing_is_left_behind() {
        let mut waiting = Waiting::default();
        // Two messages a room, 25 bytes of 100.
        let mut admit = |room, bytes| waiting.admit(room, bytes, 2, 100);
        assert_eq!([admit("a", 10), admit("a", 10), admit("a", 1)], [true, true, false]);
        assert_eq!([admit("b", 26), admit("b", 20), admit("b", 6), admit("b", 5)], [false, true, false, true]);
        assert_eq!([admit("c", 25), admit("d", 25), admit("e", 6), admit("e", 5)], [true, true, false, true]);
        waiting.release("a", 10);
        assert!(waiting.admit("a", 10, 2, 100) && waiting.len() == 7);
        for (room, bytes) in [("a", 10), ("a", 10), ("b", 20), ("b", 5), ("c", 25), ("d", 25), ("e", 5)] {
            waiting.release(room, bytes);
        }
        assert!(waiting.rooms.is_empty() && waiting.bytes == 0);
    }
}
