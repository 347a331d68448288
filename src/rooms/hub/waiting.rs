//! How much waits for its time, by room.

use std::collections::HashMap;

/// How many messages wait for each room, and their bytes together.
#[derive(Default)]
pub(in crate::rooms) struct Waiting {
    rooms: HashMap<String, usize>,
    bytes: usize,
}

impl Waiting {
    /// One more of so many bytes for `room`, unless too many wait for it already, or too many bytes for all.
    pub(in crate::rooms) fn admit(&mut self, room: &str, bytes: usize, most: usize, most_bytes: usize) -> bool {
        if self.rooms.get(room).is_some_and(|waiting| *waiting >= most) || self.bytes + bytes > most_bytes {
            return false;
        }
        *self.rooms.entry(room.to_owned()).or_default() += 1;
        self.bytes += bytes;
        true
    }

    /// One that was admitted waits no more.
    pub(in crate::rooms) fn release(&mut self, room: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(waiting) = self.rooms.get_mut(room) {
            *waiting -= 1;
            if *waiting == 0 {
                self.rooms.remove(room);
            }
        }
    }

    /// Messages that wait now.
    pub(in crate::rooms) fn len(&self) -> usize {
        self.rooms.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_its_share_all_have_theirs_and_nothing_is_left_behind() {
        let mut waiting = Waiting::default();
        let mut admit = |room, bytes| waiting.admit(room, bytes, 2, 100);
        assert_eq!(
            [admit("a", 10), admit("a", 10), admit("a", 10), admit("b", 80), admit("c", 1)],
            [true, true, false, true, false]
        );
        waiting.release("a", 10);
        assert!(waiting.admit("a", 10, 2, 100) && waiting.len() == 3);
        for (room, bytes) in [("a", 10), ("a", 10), ("b", 80)] {
            waiting.release(room, bytes);
        }
        assert!(waiting.rooms.is_empty() && waiting.bytes == 0);
    }
}
