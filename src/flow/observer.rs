//! Facts as they happen, for whoever wants more than the statistics: a recording, a line a packet.

use crate::time::Time;

use super::run::StreamKind;

/// What became of one packet, or of one datagram that came for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its first whole copy came, in time.
    Returned,
    /// Its first whole copy came, later than `--late-after`.
    Late,
    /// Another datagram came after a whole copy.
    Duplicate,
    /// A datagram came whose bytes differ from what was sent.
    Damaged,
    /// Nothing came, and nothing is waited for any more.
    Lost,
}

/// One fact.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// Which stream.
    pub stream: StreamKind,
    /// The packet's place in its stream, from 0.
    pub index: u64,
    /// The sequence number it was sent with.
    pub sequence: u32,
    /// When it left.
    pub sent: Time,
    /// When the datagram came; `None` for [`Fate::Lost`].
    pub came: Option<Time>,
    /// Time between the two.
    pub fate: Fate,
    /// The datagram's payload; empty for [`Fate::Lost`].
    pub payload: &'a [u8],
}

/// Takes facts on the thread that runs the node: it must neither block nor allocate when warm.
pub trait Observer: Send {
    /// One more fact.
    fn on_fact(&mut self, fact: Fact<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn on_fact(&mut self, _: Fact<'_>) {}
}
