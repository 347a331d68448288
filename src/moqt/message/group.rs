//! What a group's stream begins with, after its type. Frames follow: a length and as many bytes each, until the stream ends.

use super::super::fields::{Fields, Malformed};
use super::super::varint;
use super::{Body, Flavour};

/// Whose group this is, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The subscriber's number of its subscription.
    pub subscription: u64,
    /// Which group of the track.
    pub sequence: u64,
}

impl Body for Group {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        varint::write(self.subscription, to);
        varint::write(self.sequence, to);
    }

    fn take(_: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { subscription: fields.number("a subscription")?, sequence: fields.number("a sequence")? })
    }
}
