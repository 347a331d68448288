//! Events of control surfaces, and a lock-free queue that carries them to a real-time thread.
//!
//! A [`ControlSurfaceEvent`] is `Copy`, with its strings in place, so that popping, copying or dropping it never allocates, frees, locks or
//! makes a system call.

use std::fmt;
use std::ops::{Deref, RangeInclusive};

use rtrb::{Consumer, Producer, RingBuffer};
use serde::{Serialize, Serializer};

/// Number of digits of a room code.
pub const ROOM_CODE_DIGITS: RangeInclusive<usize> = 4..=6;

/// Maximum length of a parameter or trigger name, in bytes.
pub(super) const MAX_PARAMETER_NAME_BYTES: usize = 256;

/// The kind of a [`ControlSurfaceEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlSurfaceEventKind {
    /// A parameter has a new value.
    Param,
    /// A momentary trigger, which is not stored.
    Trigger,
}

/// Length of a node ID, which is a UUID.
const NODE_ID_BYTES: usize = 36;

/// A string of at most `N` bytes, stored in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InlineStr<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> InlineStr<N> {
    /// Copies a string, if it has at most `N` bytes.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u16::try_from(text.len()).ok()?, bytes })
    }
}

impl<const N: usize> Deref for InlineStr<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // Always valid UTF-8, because it was copied from a string.
        self.bytes.get(..self.len.into()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for InlineStr<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize> Serialize for InlineStr<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// A client's action. The event is reported when the server receives the action, even if the action takes effect later.
///
/// An event takes at most 350 bytes. To compare or match a string field, dereference the field to `str`, for example `&*event.name`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlSurfaceEvent {
    /// The room code.
    pub room: InlineStr<{ *ROOM_CODE_DIGITS.end() }>,
    /// The client's node id, which its `welcome` message contained.
    pub node_id: InlineStr<NODE_ID_BYTES>,
    /// The kind of action.
    pub kind: ControlSurfaceEventKind,
    /// The name of the parameter or trigger.
    pub name: InlineStr<MAX_PARAMETER_NAME_BYTES>,
    /// The new value of the parameter, which is finite; `None` for a trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// When the client wants the action to take effect, in microseconds since the Unix epoch. May be any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// When the server received the action, in microseconds since the Unix epoch.
    #[serde(rename = "time")]
    pub received_at: u64,
}

const _: () = assert!(size_of::<ControlSurfaceEvent>() <= 350);

/// The producing end of an event queue.
pub type EventProducer = Producer<ControlSurfaceEvent>;

/// The consuming end of an event queue, for example on an audio thread. Popping never blocks, allocates or frees.
pub type EventConsumer = Consumer<ControlSurfaceEvent>;

/// A queue for up to `capacity` events. The server drops new events while it is full, and counts them.
pub fn event_queue(capacity: usize) -> (EventProducer, EventConsumer) {
    RingBuffer::new(capacity)
}
