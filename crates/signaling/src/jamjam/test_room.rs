//! Test rooms: the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes.
//!
//! Names that begin with the prefix of test rooms are not protected: whoever creates a room of a name first has it, because a server without
//! accounts knows nothing else of an echo server. What is protected is a room that has an [`Owner`].

use super::owner::Owner;
use super::room::{JamjamRoom, ROOM_NAMES};
use crate::id_generator::IdGenerator;
use crate::limits::SignalingLimits;
use crate::room::RoomKey;
use crate::rooms::Rooms;

/// Number of rooms of the same name that have ids and codes which depend only on the name. Further ones have random ones.
const MAX_NAMESAKES: u64 = 16;

/// Whether a new room is a test room. Newer clients join test rooms without a password.
pub(super) fn is_test_room(limits: &SignalingLimits, name: &str, password: Option<&str>) -> bool {
    password.is_none() && limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
}

impl JamjamRoom {
    /// Whether `other` is the owner of the room and has a place there.
    pub(super) fn is_owner_returning(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.is_returning(other) && (owner.is_living() || !self.is_full())
    }

    fn is_free_for(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.may_be_replaced(other) && (owner.is_living() || !self.is_full())
    }

    /// Whether `other` can be the owner: the room is new, or it returns, or another owner may be replaced.
    pub(super) fn has_place_for(&self, other: &Owner) -> bool {
        self.owner.is_none() || self.is_owner_returning(other) || self.is_free_for(other)
    }
}

/// Finds where the creator of the test room `name` belongs: in its own room if it returns, otherwise in the first of the rooms of this
/// name that has no living owner, or in a new one with these names. Neither if there are too many rooms of this name.
pub(super) fn find_place(
    rooms: &Rooms<JamjamRoom>,
    name: &str,
    creator: &Owner,
) -> (Option<RoomKey>, Option<[String; 3]>) {
    let mut first = (None, None);
    for number in 0..MAX_NAMESAKES {
        let mut ids = IdGenerator::of_name(name, number);
        let names = ROOM_NAMES.map(|generate| generate(&mut ids));
        let read = |room: &JamjamRoom| (room.roster.key, room.is_owner_returning(creator), room.is_free_for(creator));
        let room = rooms.read(|directory| directory.find(&names[0]), read);
        if let Some((key, true, _)) = room {
            return (Some(key), None);
        }
        if first != (None, None) {
            continue;
        }
        if let Some((key, _, is_free)) = room {
            first.0 = is_free.then_some(key);
        } else if names.iter().all(|name| rooms.directory().find(name).is_none()) {
            first.1 = Some(names);
        }
    }
    first
}
